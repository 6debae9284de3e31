"""What an episode must cover: the span that was recorded, by every stream. What is missing at an end is a gap too.

A camera that dies in mid-recording leaves a demonstration without its end, and a policy would learn the stump as a
success. So the span is that of the marks, or of the longest stream, and not what all streams have in common.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pi0_ros.conversion.align import Scan, needed_topics
from pi0_ros.conversion.episodes import Segment
from pi0_ros.observation.stream_buffer import SECOND
from pi0_ros.robot import Robot

PARTIAL_S = 1.0  # less may be missing at an end: topics are found one after the other when a recorder starts


@dataclass(frozen=True)
class End:
    """A stretch at an episode's begin or end that a stream misses; ns."""

    start_ns: int
    length_ns: int
    why: str


def covered(found: Scan, segment: Segment) -> tuple[int, int]:
    """First and last time (ns) of what the operator recorded of the segment."""
    first, last = found.span
    return max(first, segment.start_ns), min(last, segment.end_ns)


def uncovered(found: Scan, robot: Robot, segment: Segment) -> Iterator[End]:
    """Where streams miss the begin or the end of the segment for longer than their maximum age."""
    if not all(len(stamps) for topic, stamps in found.by_topic.items() if topic not in robot.speed_topics):
        return
    start, end = covered(found, segment)
    late: dict[str, int] = {}
    early: dict[str, int] = {}
    for topic in needed_topics(robot):
        if topic in robot.may_be_silent:
            continue
        age_s, stamps = robot.max_ages_s[topic], found.by_topic[topic]
        limit = round((robot.action_max_age_s if np.isinf(age_s) else age_s) * SECOND)
        last = int(stamps[-1]) + found.lasting.get(topic, 0)
        if int(stamps[0]) - start > limit:
            late[topic] = int(stamps[0])
        if end - last > limit and not np.isinf(age_s):
            early[topic] = last
    if late:
        topic = max(late, key=lambda name: late[name])
        length = min(late[topic], end) - start
        yield End(start, length, f"{_named(late)} begins only {length / SECOND:.2f} s after the recording")
    if early:
        topic = min(early, key=lambda name: early[name])
        last = max(early[topic], start)
        yield End(last, end - last, f"{_named(early)} ends {(end - last) / SECOND:.2f} s before the recording")


def _named(topics: dict[str, int]) -> str:
    return ", ".join(topics)
