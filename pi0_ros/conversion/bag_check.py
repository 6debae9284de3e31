"""Checks of a recording: its streams, stamps, clocks, pictures, joints and prompt, without writing anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ros.bags.conventions import recorded_prompt
from pi0_ros.bags.reader import Bag, BagError, DamagedError
from pi0_ros.base.findings import SEVERITIES, Finding, error, note, remedy, warning
from pi0_ros.conversion.align import needed_topics, observed_topics
from pi0_ros.conversion.bag_content import check_cameras, check_joints, kept_counts
from pi0_ros.conversion.bag_streams import Recorded, Stream, read_streams
from pi0_ros.conversion.cut import convert_bag
from pi0_ros.conversion.options import DEFAULTS, Options
from pi0_ros.conversion.report import BagReport
from pi0_ros.conversion.robots import noted_robot, recorded_robot
from pi0_ros.conversion.timing import hertz
from pi0_ros.robot import Robot
from pi0_ros.robot.message_types import CAMERA_TYPES, STATE_TYPES

USUAL_GAP_S = 0.5  # longer is a gap, where no robot file says what is
LOST_FRACTION = 0.02
SLOW = 0.9  # of the rate that is needed


@dataclass(frozen=True)
class BagCheck:
    """What was found in one recording; `episode_rows` are the rows of each episode that it would give."""

    path: Path
    robot: str | None
    duration_s: float
    findings: tuple[Finding, ...]
    streams: tuple[Stream, ...] = ()
    episode_rows: tuple[int, ...] = ()
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
        return {
            **about,
            "rows": sum(self.episode_rows),
            "episodes": list(self.episode_rows),
            "findings": found,
            "streams": streams,
        }


def check_bag(path: Path, robot: Robot | None = None, options: Options = DEFAULTS) -> BagCheck:
    """Look at the recording at `path`, and convert it without writing: the verdict is the converter's.

    `robot` None: the robot file in the recording, else the shipped one of the name that the recorder noted.
    """
    try:
        try:
            return _open(path, robot, options, salvage=False)
        except DamagedError:  # shows only while messages are read
            return _open(path, robot, options, salvage=True)
    except BagError as problem:
        return BagCheck(path, robot.name if robot else None, 0.0, (error("reading", str(problem)),))


def _open(path: Path, robot: Robot | None, options: Options, salvage: bool) -> BagCheck:
    with Bag(path, salvage) as bag:
        data, findings = bag.info.custom_data, []
        if robot is None and (robot := recorded_robot(data, path)) is None and (robot := noted_robot(data)) is not None:
            what = f"the recording holds no robot file: judged by the one that is shipped for the name {robot.name!r}"
            findings.append(warning("robot", what, "give --robot where yours differs"))
        robot = robot.recorded if robot else None
        report = convert_bag(path, None, robot, options) if robot else None
        return _check(bag, robot, report, findings)


def _check(bag: Bag, robot: Robot | None, report: BagReport | None, findings: list[Finding]) -> BagCheck:
    quiet = robot.speed_topics if robot is not None else ()
    recorded = {topic: info.type for topic, info in bag.info.topics.items() if info.count or topic in quiet}
    if robot is None:
        topics = {topic: kind for topic, kind in recorded.items() if kind in (*CAMERA_TYPES, *STATE_TYPES)}
        if not topics:
            findings.append(
                error("topics", f"no picture and no joint state; recorded are {', '.join(recorded) or 'none'}")
            )
        what = "no robot file, neither in the recording nor given: clocks, limits and rows are not judged"
        findings.append(warning("robot", what, "give --robot NAME"))
    else:
        findings += _topics(needed_topics(robot), recorded)
        topics = {topic: kind for topic, kind in needed_topics(robot).items() if recorded.get(topic) == kind}
    found = read_streams(bag, topics, kept_counts(topics))
    findings += _reading(bag, found)
    for stream in found.streams.values():
        if len(stream.stamps):
            findings += _stamps(stream)
            findings += _rate(stream, robot)
    findings += _prompt(bag, found, robot)
    episode_rows: tuple[int, ...] = ()
    if robot is not None and report is not None:
        findings += check_cameras(bag, found, robot)
        findings += check_joints(bag, found, robot)
        findings += _converted(bag, report, findings)
        episode_rows = tuple(episode.frames for episode in report.episodes)
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    duration = round(bag.info.duration_s, 3)
    fps = robot.dataset_fps if robot else 0.0
    name = robot.name if robot else None
    return BagCheck(bag.path, name, duration, tuple(findings), tuple(found.streams.values()), episode_rows, fps)


def _converted(bag: Bag, report: BagReport, known: Sequence[Finding]) -> Iterator[Finding]:
    """What the converter says, as far as nothing above did."""
    errors = any(finding.severity == "error" for finding in known)
    spoken = {finding.what.split(":")[0] for finding in known if finding.check == "gaps"}
    if report.status == "rejected" and not errors:
        what, _, todo = report.reason.removeprefix(f"{bag.path}: ").partition(": convert with ")
        yield error("rows", what, f"convert with {todo}" if todo else "")
    if report.status == "skipped":
        yield note("outcome", f"{report.reason}: `pi0 convert` skips it")
    for note_ in report.notes:
        if note_ not in (*bag.info.damage, *bag.info.notes) and not any(note_.startswith(it.what) for it in known):
            yield warning("recording", note_)
    for gap in report.left_out:
        if report.status == "converted":
            yield warning("rows", f"{gap.length_s:.2f} s from {gap.at_s:.2f} s on are left out: {gap.why}")
    for gap in report.gaps:
        stands_above = " old, limit " in gap.why and gap.why.split(":")[0] in spoken
        if not stands_above:
            yield warning("gaps", f"{gap.length_s:.2f} s without rows from {gap.at_s:.2f} s on: {gap.why}")


def _topics(needed: dict[str, str], recorded: dict[str, str]) -> Iterator[Finding]:
    for topic, kind in needed.items():
        if topic not in recorded:
            now = "give --robot FILE with the topic as it was recorded, or without it"
            later = "is the node running, and is the topic in the recorder's list?"
            yield error("topics", f"no message on {topic}", remedy(now, later))
        elif recorded[topic] != kind:
            yield error("topics", f"{topic} holds {recorded[topic]}, the robot file says {kind}", "mend the robot file")


def _reading(bag: Bag, found: Recorded) -> Iterator[Finding]:
    for damage in bag.info.damage:
        yield warning("reading", damage, "what is left of it is used")
    for text in bag.info.notes:
        yield note("reading", text)
    for topic, stream in found.streams.items():
        lost = bag.info.topics[topic].advertised - len(stream.stamps)
        if lost > 0 and not bag.info.damage:
            yield warning("reading", f"{topic}: {lost} of {lost + len(stream.stamps)} recorded messages can't be read")


def _stamps(stream: Stream) -> Iterator[Finding]:
    count = len(stream.stamps)
    if stream.zero_stamps:
        yield warning(
            "stamps",
            f"{stream.topic}: {stream.zero_stamps} of {count} stamps are zero, the time of arrival is taken",
            remedy("nothing to do", "let the driver stamp its messages"),
        )
    if count < 2 or not stream.has_header:
        return
    steps = np.diff(stream.stamps)
    late = int((steps <= 0).sum())
    if late > 0.01 * count:
        yield warning(
            "stamps",
            f"{stream.topic}: {late} of {count} stamps are not newer than the one before",
            remedy("rows take them in the order of their stamps", "two publishers?"),
        )


def _rate(stream: Stream, robot: Robot | None) -> Iterator[Finding]:
    count, lost = len(stream.stamps), stream.missing
    limit, needed = USUAL_GAP_S, 0.0
    regular = True
    if robot is not None:
        limit, needed = robot.max_ages_s[stream.topic], robot.dataset_fps
        regular = stream.topic in observed_topics(robot)  # commands may come when something changes
    gaps = stream.gaps(limit) if regular else []  # of commands the converter knows, see `_converted`
    if gaps:
        at, length = max(gaps, key=lambda gap: gap[1])
        more = f" and {len(gaps) - 1} more" if len(gaps) > 1 else ""
        yield warning(
            "gaps",
            f"{stream.topic}: a gap of {length:.2f} s at {at:.1f} s{more} (limit {limit:g} s)",
            remedy("each gap splits the episode", "cable, USB bandwidth or disk?"),
        )
    if regular and lost > LOST_FRACTION * (count + lost):
        fraction = lost / (count + lost)
        yield warning(
            "rate",
            f"{stream.topic}: {lost} messages lost between others ({fraction:.0%})",
            remedy("rows repeat the sample before", "too much for USB, CPU or disk?"),
        )
    if regular and stream.rate_hz < SLOW * needed:
        fps = max(1, int(stream.rate_hz))
        yield warning(
            "rate",
            f"{stream.topic}: {hertz(stream.rate_hz)} for a dataset of {needed:g} fps, so samples repeat",
            remedy(f"convert with --fps {fps}", "raise the driver's rate"),
        )


def _prompt(bag: Bag, found: Recorded, robot: Robot | None) -> Iterator[Finding]:
    said = [text for _, text in found.prompts if text.strip()] or [recorded_prompt(bag.info.custom_data).strip()]
    if said[0]:
        yield note("prompt", " / ".join(dict.fromkeys(said)))
    elif robot is not None and robot.prompt:
        yield warning("prompt", f"none recorded, so the robot file's: {robot.prompt!r}", "or give `pi0 convert --task`")
    else:
        yield warning("prompt", "none recorded", "give `pi0 convert --task`")
