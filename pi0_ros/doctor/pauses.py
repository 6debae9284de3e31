"""Pauses of streams: one topic's own, or one moment in which everything paused, which has one cause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pi0_ros.base.findings import Finding, note, warning
from pi0_ros.doctor.heard import Heard, Session

PERIODS = 3.0  # a pause is longer than so many of a stream's usual periods
SHARE = 0.4  # of a pause, for which others must pause to share it
SHORT = 1.5  # times its limit: so long may one pause be that is worth a word, no warning
RARE_S = 10.0  # one of them in this time


@dataclass(frozen=True)
class Pause:
    """The longest time without a message of one topic; s, on its clock of arrivals."""

    topic: str
    began_s: float
    ended_s: float
    length_s: float  # of it, in which a message could have been heard
    slight: bool = False  # short and rare: every machine has one now and then


def silences(session: Session, heard: Heard) -> np.ndarray:
    """The times between arrivals, less those in which nobody listened; s, float64 [N - 1]."""
    arrivals = np.array(heard.arrivals)
    begins, ends = arrivals[:-1], arrivals[1:]
    found: np.ndarray = ends - begins
    for began, ended in session.deaf:
        found = found - np.clip(np.minimum(ends, ended) - np.maximum(begins, began), 0.0, None)
    return found


def pauses_beyond(session: Session, limits: dict[str, float]) -> list[Pause]:
    """The longest pause of each topic that has one beyond its limit (s)."""
    found = []
    for heard in session.topics.values():
        if heard.command or len(heard.arrivals) < 2:
            continue
        limit, periods = limits[heard.topic], silences(session, heard)
        longest = int(np.argmax(periods))
        if periods[longest] > limit:
            rare = int((periods > limit).sum()) <= max(1.0, float(periods.sum()) / RARE_S)
            length = float(periods[longest])
            began, ended = heard.arrivals[longest : longest + 2]
            found.append(Pause(heard.topic, began, ended, length, slight=rare and length <= SHORT * limit))
    return found


def own_pause(heard: Heard, pause: Pause, limit_s: float) -> Finding:
    """A pause of one topic alone."""
    what = f"{heard.topic}: a pause of {pause.length_s:.2f} s (max_age_s {limit_s:g} s) at {heard.rate_hz:.1f} Hz"
    todo = "messages get lost: cable, USB bandwidth, Wi-Fi, or a busy machine"
    return note("rate", what) if pause.slight else warning("rate", what, todo)


def shared(session: Session, pauses: Sequence[Pause]) -> list[Pause]:
    """Those in which all that the robot says paused, cameras and joints alike."""
    streams = [heard for heard in session.topics.values() if not heard.command and len(heard.arrivals) > 2]
    if len(streams) < 2:
        return []
    return [pause for pause in pauses if all(_pauses(session, heard, pause) for heard in streams)]


def shared_pause(session: Session, pauses: Sequence[Pause]) -> Finding:
    """One cause, one line, of pauses that all topics share."""
    longest = max(pauses, key=lambda pause: pause.length_s)
    count = sum(not heard.command for heard in session.topics.values())
    many = "at one moment" if len(pauses) == 1 else f"at one moment or more, {len(pauses)} of them beyond max_age_s"
    what = f"all {count} topics paused {many}: {longest.topic} for {longest.length_s:.2f} s"
    where = "this machine" if session.live else "the machine that recorded"
    todo = f"{where}, or the network before it, was too busy: end what else runs there, then look or record again"
    return note("machine", what) if all(pause.slight for pause in pauses) else warning("machine", what, todo)


def deafness(session: Session, limits: dict[str, float]) -> list[Finding]:
    """A note where this process itself got no time for so long that a topic may have paused unheard."""
    longest = max((ended - began for began, ended in session.deaf), default=0.0)
    if longest <= min((limits[heard.topic] for heard in session.topics.values() if not heard.command), default=0.0):
        return []
    what = f"the doctor itself got no time for {longest:.2f} s: whether a topic paused meanwhile was not judged"
    return [note("machine", what)]


def _pauses(session: Session, heard: Heard, pause: Pause) -> bool:
    """Whether this topic, too, was silent for unusually long during the pause."""
    arrivals = np.array(heard.arrivals)
    periods = silences(session, heard)
    meets = (arrivals[1:] > pause.began_s) & (arrivals[:-1] < pause.ended_s)
    longest = float(periods[meets].max()) if meets.any() else 0.0
    return longest >= max(PERIODS * float(np.median(periods)), SHARE * pause.length_s)
