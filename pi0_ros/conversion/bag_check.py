"""Is a recording usable? Its streams, stamps, clocks, pictures, joints and prompt, judged without writing anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ros.bags.reader import Bag, BagError, DamagedError
from pi0_ros.base.findings import SEVERITIES, Finding, error, note, warning
from pi0_ros.conversion.align import action_lead_ns, needed_topics, observed_topics
from pi0_ros.conversion.bag_content import check_cameras, check_joints
from pi0_ros.conversion.bag_streams import IMAGE_TYPES, JOINT_TYPES, Recorded, Stream, read_streams
from pi0_ros.conversion.episodes import flaw
from pi0_ros.observation.streams import tick_grid
from pi0_ros.robot import Robot, RobotFileError, load_robot

KEPT = {"image": 8, "joints": 600}  # messages that are decoded
USUAL_GAP_S = 0.5  # longer is a gap, where no robot file says what is
LOST_FRACTION = 0.02
SLOW = 0.9  # of the rate that is needed
CLOCKS_S, CLOCKS_WRONG_S = 0.25, 1.0  # between the delays of two streams: odd, and surely different clocks
JUMP_S = 0.5
MIN_LENGTH_S = 1.0


@dataclass(frozen=True)
class BagCheck:
    """What was found in one recording; `pieces` are the rows of each episode that it would give."""

    path: Path
    robot: str | None
    duration_s: float
    findings: tuple[Finding, ...]
    streams: tuple[Stream, ...] = ()
    pieces: tuple[int, ...] = ()
    fps: float = 0.0

    @property
    def verdict(self) -> str:
        """usable | usable with warnings | unusable | readable (without a robot file nobody can tell)."""
        worst = {finding.severity for finding in self.findings}
        if "error" in worst:
            return "unusable"
        if self.robot is None:
            return "readable"
        return "usable with warnings" if "warning" in worst else "usable"

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        streams = [
            {
                "topic": s.topic,
                "type": s.type,
                "messages": len(s.stamps),
                "rate_hz": round(s.rate_hz, 3),
                "missing": s.missing,
            }
            for s in self.streams
        ]
        found = [finding.to_dict() for finding in self.findings]
        about = {"bag": str(self.path), "robot": self.robot, "verdict": self.verdict, "duration_s": self.duration_s}
        return {**about, "rows": sum(self.pieces), "episodes": list(self.pieces), "findings": found, "streams": streams}


def check_bag(path: Path, robot: Robot | None = None) -> BagCheck:
    """Look at the recording at `path`; `robot` None: the one that its recorder noted, if that is known here."""
    try:
        try:
            return _open(path, robot, salvage=False)
        except DamagedError:  # shows only while messages are read
            return _open(path, robot, salvage=True)
    except BagError as problem:
        return BagCheck(path, robot.name if robot else None, 0.0, (error("reading", str(problem)),))


def _open(path: Path, robot: Robot | None, salvage: bool) -> BagCheck:
    with Bag(path, salvage) as bag:
        robot = robot or _noted_robot(bag.info.custom_data.get("robot", ""))
        return _check(bag, robot.recorded if robot else None)


def _noted_robot(name: str) -> Robot | None:
    try:
        return load_robot(name) if name else None
    except (RobotFileError, OSError):
        return None


def _check(bag: Bag, robot: Robot | None) -> BagCheck:
    recorded = {topic: info.type for topic, info in bag.info.topics.items() if info.count}
    findings: list[Finding] = []
    if robot is None:
        topics = {topic: kind for topic, kind in recorded.items() if kind in (*IMAGE_TYPES, *JOINT_TYPES)}
        if not topics:
            findings.append(
                error("topics", f"no picture and no joint state; recorded are {', '.join(recorded) or 'none'}")
            )
        findings.append(note("robot", "no robot file: rates, limits and rows are unknown", "give --robot NAME"))
    else:
        findings += _topics(needed_topics(robot), recorded)
        topics = {topic: kind for topic, kind in needed_topics(robot).items() if recorded.get(topic) == kind}
    keep = {topic: KEPT["image" if kind in IMAGE_TYPES else "joints"] for topic, kind in topics.items()}
    found = read_streams(bag, topics, keep)
    findings += _reading(bag, found)
    for stream in found.streams.values():
        if len(stream.stamps):
            findings += _stamps(stream)
            findings += _rate(stream, robot)
    findings += _clocks(list(found.streams.values()))
    findings += _prompt(bag, found, robot)
    complete = robot is not None and len(found.streams) == len(needed_topics(robot))
    pieces = _pieces(found, robot) if complete and robot is not None else ()
    if robot is not None:
        if complete and not pieces:
            findings.append(
                error("rows", f"no {MIN_LENGTH_S:g} s in which all streams are fresh", "see the gaps and clocks")
            )
        findings += check_cameras(bag, found, robot)
        findings += check_joints(bag, found, robot)
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    duration = round(bag.info.duration_s, 3)
    fps = robot.dataset_fps if robot else 0.0
    name = robot.name if robot else None
    return BagCheck(bag.path, name, duration, tuple(findings), tuple(found.streams.values()), pieces, fps)


def _topics(needed: dict[str, str], recorded: dict[str, str]) -> Iterator[Finding]:
    for topic, kind in needed.items():
        if topic not in recorded:
            yield error(
                "topics", f"no message on {topic}", "is the node running, and is the topic in the recorder's list?"
            )
        elif recorded[topic] != kind:
            yield error("topics", f"{topic} holds {recorded[topic]}, the robot file says {kind}", "mend the robot file")


def _reading(bag: Bag, found: Recorded) -> Iterator[Finding]:
    if why := flaw(bag.path, bag.info.custom_data, include_failed=False):
        yield note("outcome", f"{why}: `pi0 convert` skips it")
    for damage in bag.info.damage:
        yield warning("reading", damage, "what is left is judged here; record it again if you can")
    for text in bag.info.notes:
        yield note("reading", text)
    for topic, stream in found.streams.items():
        lost = bag.info.topics[topic].advertised - len(stream.stamps)
        if lost > 0 and not bag.info.damage:
            yield error("reading", f"{topic}: {lost} of {lost + len(stream.stamps)} recorded messages can't be read")


def _stamps(stream: Stream) -> Iterator[Finding]:
    count = len(stream.stamps)
    if stream.zero_stamps:
        yield warning(
            "stamps",
            f"{stream.topic}: {stream.zero_stamps} of {count} stamps are zero, the time of arrival is taken",
            "let the driver stamp its messages",
        )
    if count < 2 or not stream.has_header:
        return
    steps, arrivals = np.diff(stream.stamps) * 1e-9, np.diff(stream.received) * 1e-9
    jumps = np.abs(steps - arrivals) > JUMP_S
    if jumps.any():
        worst = steps[np.abs(steps - arrivals).argmax()]
        yield warning(
            "stamps",
            f"{stream.topic}: the stamps jump {int(jumps.sum())} times, by up to {worst:+.2f} s between two arrivals",
            "a clock was set during the recording (NTP?), or the driver stamps late",
        )
    late = int((steps <= 0).sum())
    if late > 0.01 * count:
        yield warning(
            "stamps", f"{stream.topic}: {late} of {count} stamps are not newer than the one before", "two publishers?"
        )


def _rate(stream: Stream, robot: Robot | None) -> Iterator[Finding]:
    count, lost = len(stream.stamps), stream.missing
    limit, needed = USUAL_GAP_S, 0.0
    regular = True
    if robot is not None:
        limit, needed = robot.max_ages_s[stream.topic], robot.dataset_fps
        regular = stream.topic in observed_topics(robot)  # commands may come when something changes
    gaps = stream.gaps(limit)
    if gaps:
        at, length = max(gaps, key=lambda gap: gap[1])
        more = f" and {len(gaps) - 1} more" if len(gaps) > 1 else ""
        yield warning(
            "gaps",
            f"{stream.topic}: a gap of {length:.2f} s at {at:.1f} s{more} (limit {limit:g} s)",
            "each gap splits the episode; cable, USB bandwidth or disk?",
        )
    if regular and lost > LOST_FRACTION * (count + lost):
        fraction = lost / (count + lost)
        yield warning(
            "rate",
            f"{stream.topic}: {lost} messages lost between others ({fraction:.0%})",
            "too much for USB, CPU or disk?",
        )
    if stream.rate_hz < SLOW * needed:
        yield warning(
            "rate",
            f"{stream.topic}: {stream.rate_hz:.1f} Hz for a dataset of {needed:g} fps, so samples repeat",
            "raise the driver's rate or lower dataset_fps",
        )


def _clocks(streams: Sequence[Stream]) -> Iterator[Finding]:
    """The delays from stamp to arrival must be alike: what differs is the clocks."""
    delays = {stream.topic: stream.delay_s for stream in streams if len(stream.stamps) and stream.has_header}
    if len(delays) < 2:
        return
    middle = float(np.median(list(delays.values())))
    for topic, delay in delays.items():
        apart = delay - middle
        text = f"{topic}: stamped {abs(apart):.2f} s {'before' if apart > 0 else 'after'} the other streams"
        if abs(apart) > CLOCKS_WRONG_S:
            yield error(
                "clocks", f"{text}: its clock is another one", "same use_sim_time everywhere? set the clocks (chrony)"
            )
        elif abs(apart) > CLOCKS_S:
            yield warning("clocks", text, "a slow driver, or a clock that is off")
    if abs(middle) > CLOCKS_WRONG_S and abs(middle) < 1e8:  # beyond: simulated time, which all of them share
        yield warning(
            "clocks", f"all stamps are {middle:+.2f} s off the recorder's clock", "harmless if they share one clock"
        )


def _prompt(bag: Bag, found: Recorded, robot: Robot | None) -> Iterator[Finding]:
    said = [text for _, text in found.prompts if text.strip()] or [bag.info.custom_data.get("prompt", "").strip()]
    if said[0]:
        yield note("prompt", " / ".join(dict.fromkeys(said)))
    elif robot is not None and robot.prompt:
        yield warning("prompt", f"none recorded, so the robot file's: {robot.prompt!r}", "or give `pi0 convert --task`")
    else:
        yield warning("prompt", "none recorded", "give `pi0 convert --task`")


def _pieces(found: Recorded, robot: Robot) -> tuple[int, ...]:
    """Rows of every stretch in which all streams are fresh at each tick: what `pi0 convert` gets of good messages."""
    ordered = {topic: stream.ordered for topic, stream in found.streams.items()}
    if not all(map(len, ordered.values())):
        return ()
    lead, observed = action_lead_ns(robot), observed_topics(robot)
    start = max(int(stamps[0]) for stamps in ordered.values())
    end = min(int(ordered[topic][-1]) for topic in observed) - lead
    ticks = tick_grid(start, end, robot.dataset_fps, [ordered[camera.topic] for camera in robot.cameras])
    fresh = np.ones(len(ticks), bool)
    for topic, stamps in ordered.items():
        for ahead in {0, lead if topic in {item.topic for item in robot.state} else 0}:
            used = np.searchsorted(stamps, ticks + ahead, side="right") - 1
            age = ticks + ahead - stamps[np.maximum(used, 0)]
            fresh &= (used >= 0) & (age <= robot.max_ages_s[topic] * 1e9)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], fresh, [False]]).astype(int)))
    lengths = np.diff(edges.reshape(-1, 2), axis=1).reshape(-1)
    return tuple(lengths[lengths >= MIN_LENGTH_S * robot.dataset_fps].tolist())
