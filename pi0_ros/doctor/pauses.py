"""Pauses of streams: one topic's own, or one moment in which everything paused, which has one cause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pi0_ros.base.findings import Finding, warning
from pi0_ros.doctor.heard import Heard, Session

PERIODS = 3.0  # a pause is longer than so many of a stream's usual periods
SHARE = 0.4  # of a pause, for which others must pause to share it


@dataclass(frozen=True)
class Pause:
    """The longest time without a message of one topic; s, on its clock of arrivals."""

    topic: str
    began_s: float
    ended_s: float

    @property
    def length_s(self) -> float:
        return self.ended_s - self.began_s


def pauses_beyond(session: Session, limits: dict[str, float]) -> list[Pause]:
    """The longest pause of each topic that has one beyond its limit (s)."""
    found = []
    for heard in session.topics.values():
        if heard.command or len(heard.arrivals) < 2:
            continue
        longest = int(np.argmax(np.diff(heard.arrivals)))
        pause = Pause(heard.topic, heard.arrivals[longest], heard.arrivals[longest + 1])
        if pause.length_s > limits[heard.topic]:
            found.append(pause)
    return found


def shared(session: Session, pauses: Sequence[Pause]) -> list[Pause]:
    """Those in which all that the robot says paused, cameras and joints alike."""
    streams = [heard for heard in session.topics.values() if not heard.command and len(heard.arrivals) > 2]
    if len(streams) < 2:
        return []
    return [pause for pause in pauses if all(_pauses(heard, pause) for heard in streams)]


def shared_pause(session: Session, pauses: Sequence[Pause]) -> Finding:
    """One cause, one line, of pauses that all topics share."""
    longest = max(pauses, key=lambda pause: pause.length_s)
    count = sum(not heard.command for heard in session.topics.values())
    many = "at one moment" if len(pauses) == 1 else f"at one moment or more, {len(pauses)} of them beyond max_age_s"
    what = f"all {count} topics paused {many}: {longest.topic} for {longest.length_s:.2f} s"
    where = "this machine" if session.live else "the machine that recorded"
    todo = f"{where}, or the network before it, was too busy: end what else runs there, then look or record again"
    return warning("machine", what, todo)


def _pauses(heard: Heard, pause: Pause) -> bool:
    """Whether this topic, too, was silent for unusually long during the pause."""
    arrivals = np.array(heard.arrivals)
    periods = np.diff(arrivals)
    meets = (arrivals[1:] > pause.began_s) & (arrivals[:-1] < pause.ended_s)
    longest = float(periods[meets].max()) if meets.any() else 0.0
    return longest >= max(PERIODS * float(np.median(periods)), SHARE * pause.length_s)
