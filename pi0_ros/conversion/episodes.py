"""Which stretches of a recording are episodes, what they are called, and which must not be learned from.

Annotations come before marks; without both, the whole recording is one episode. Gaps and changes of the prompt cut
further (`cut.py`). A prompt is taken from the first of these that has one: the command line, the annotation, the mark
that started the episode, the prompt topic, the recording's `custom_data`, the robot file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pi0_ros.bags.conventions import (
    IN_CHARGE_TOPIC,
    IN_CHARGE_TYPE,
    PROMPT_TOPIC,
    PROMPT_TYPE,
    SUBTASK_TOPIC,
    is_discarded,
    recorded_prompt,
    success_of,
)
from pi0_ros.bags.reader import Bag, BagError
from pi0_ros.conversion.align import Scan
from pi0_ros.conversion.annotations import Annotation
from pi0_ros.conversion.marks import DISCARD, START, STOP, Mark, read_marks, recorded_topic, takes
from pi0_ros.conversion.options import Options
from pi0_ros.datasets.language import Label
from pi0_ros.observation.stream_buffer import SECOND
from pi0_ros.robot import Robot

FOREVER = 2**63 - 1


@dataclass(frozen=True)
class Segment:
    """A stretch of a recording from `start_ns` to before `end_ns`."""

    start_ns: int
    end_ns: int
    prompt: str = ""  # empty: what was said in the recording
    success: bool | None = None  # None: nobody said
    left_out: str = ""  # why it must not be learned from; empty: it is an episode
    labels: tuple[
        tuple[int, str], ...
    ] = ()  # (ns from which on it holds, text), in the order of time; empty text: none


@dataclass(frozen=True)
class Asked:
    """The topics beside the robot's that say something about episodes, as recorded; `prompt` may be empty."""

    prompt: str
    listened: tuple[str, ...]
    notes: tuple[str, ...] = ()
    in_charge: str = ""  # who moved the robot; empty unless corrections are asked for


def asked_topics(bag: Bag, options: Options) -> Asked:
    """What of the topics that `options` name was recorded.

    Raises `BagError` where one that was asked for is absent or of another type: its messages were to say what the
    episodes are, and nothing else may take their place in silence.
    """
    notes = []
    found = {}
    for what, name, usual in (
        ("--prompt-topic", options.prompt_topic, PROMPT_TOPIC),
        ("--subtask-topic", options.subtask_topic, SUBTASK_TOPIC),
    ):
        topic = found[what] = recorded_topic(bag, name)
        kind = bag.info.topics[topic].type if topic else ""
        if kind == PROMPT_TYPE or not name or (name == usual and not topic):
            continue
        texts = [other for other, info in bag.info.topics.items() if info.type == PROMPT_TYPE] or ["none"]
        is_so = f"of type {kind}" if topic else "not recorded"
        said = f"{what} {name} is {is_so}; topics with texts are {', '.join(texts)}"
        if name != usual:
            raise BagError(said)
        notes.append(said)
        found[what] = ""
    marks = []
    for what, name in (
        ("start", options.start_topic),
        ("stop", options.stop_topic),
        ("discard", options.discard_topic),
    ):
        topic = recorded_topic(bag, name)
        if topic:
            marks.append(topic)
        elif name:
            said = f"--{what}-topic {name} is not recorded; recorded are {', '.join(bag.info.topics)}"
            if what == "start":
                raise BagError(said)
            notes.append(said)
    in_charge = _in_charge_topic(bag) if options.corrections else ""
    more = [topic for topic in (found["--subtask-topic"], in_charge) if topic]
    return Asked(found["--prompt-topic"], tuple(dict.fromkeys([*more, *marks])), tuple(notes), in_charge)


def _in_charge_topic(bag: Bag) -> str:
    """The topic that says who moved the robot, which may stand in a namespace where others recorded it."""
    kinds = {topic: info.type for topic, info in bag.info.topics.items()}
    found = [topic for topic, kind in kinds.items() if f"/{topic}".endswith(IN_CHARGE_TOPIC) and kind == IN_CHARGE_TYPE]
    if len(found) > 1:
        raise BagError(f"--corrections: several topics say who was in charge: {', '.join(found)}")
    if not found:
        raise BagError(f"--corrections: nothing in it says who was in charge: {IN_CHARGE_TOPIC} is not recorded")
    return found[0]


def prompt_of(
    options: Options, segment: Segment, found: Scan, tick: int, data: dict[str, str], robot: Robot
) -> tuple[str, str]:
    """The prompt at `tick` (ns) in `segment` and where it comes from; empty where nobody said one."""
    spoken, stored = found.prompt_at(tick) or "", recorded_prompt(data).strip()
    said = (
        (options.task or "", "--task"),
        (segment.prompt, "annotation or start mark"),
        (spoken, options.prompt_topic),
        (stored, "custom_data"),
        (robot.prompt.strip(), "robot file"),
    )
    return next(((text, by) for text, by in said if text), ("", ""))


def flaw(path: Path, data: dict[str, str], include_failed: bool) -> str:
    """What in a recording's name or custom data says that it must not be learned from; empty when nothing does.

    A discarded recording is left out even with `include_failed`.
    """
    if is_discarded(data):
        return "it was discarded"
    if include_failed:
        return ""
    if path.name.endswith(".partial"):
        return "the recorder did not finish it"
    if success_of(data) is False:
        said = (key for key in ("outcome", "success") if success_of({key: data.get(key, "")}) is False)
        return " and ".join(f"{key} is {data[key]!r}" for key in said)
    return ""


def segments(bag: Bag, found: Scan, options: Options) -> list[Segment]:
    """All stretches of a recording that somebody marked, in the order of time; the whole of it where nobody did."""
    rows = [row for row in options.annotations if row.is_of(bag.path)]
    labels = _annotated_labels(bag, found, rows) or _spoken_labels(bag, found, options.subtask_topic)
    episodes = [row for row in rows if not row.subtask]
    if episodes:
        cut = _annotated(bag, found, episodes)
    elif any((options.start_topic, options.stop_topic, options.discard_topic)):
        cut = _marked(bag, found, options)
    else:
        cut = [Segment(0, FOREVER, success=success_of(bag.info.custom_data))]
    return [
        Segment(s.start_ns, s.end_ns, s.prompt, s.success, _unless_wanted(s, options), _within(labels, s)) for s in cut
    ]


def _unless_wanted(segment: Segment, options: Options) -> str:
    if segment.left_out or segment.success is not False or options.include_failed:
        return segment.left_out
    return "it failed"


def _annotated(bag: Bag, found: Scan, rows: Sequence[Annotation]) -> list[Segment]:
    cut = []
    for row in sorted(rows, key=lambda row: row.start_s or 0.0):
        start, end = _ns(bag, found, row.start_s, 0), _ns(bag, found, row.end_s, FOREVER)
        cut.append(Segment(start, end, row.prompt, row.success, "it is annotated as discarded" if row.discard else ""))
    return cut


def _marked(bag: Bag, found: Scan, options: Options) -> list[Segment]:
    marks: list[Mark] = []
    named = {START: options.start_topic, STOP: options.stop_topic, DISCARD: options.discard_topic}
    read: set[str] = set()
    for kind, name in named.items():
        topic = recorded_topic(bag, name)
        if topic and topic not in read:  # one topic may be named twice: its messages tell start from stop
            read.add(topic)
            marks += read_marks(bag, kind, topic, found.events.get(topic, ()))
    stops = bool(options.stop_topic) or any(mark.kind == STOP for mark in marks)
    cut = []
    for take in takes(marks):
        unfinished = stops and take.end_ns is None and not options.include_failed
        flawed = "it was discarded" if take.discarded else "it was never stopped" if unfinished else ""
        end = FOREVER if take.end_ns is None else take.end_ns
        cut.append(Segment(take.start_ns, end, take.prompt, take.success, flawed))
    return cut


def _ns(bag: Bag, found: Scan, seconds: float | None, otherwise: int) -> int:
    return otherwise if seconds is None else found.clock.at(bag.info.start_ns + round(seconds * SECOND))


def _annotated_labels(bag: Bag, scanned: Scan, rows: Sequence[Annotation]) -> list[tuple[int, str]]:
    """(ns, text) of annotated labels; an empty text where one ends before the next begins."""
    spans = sorted(
        (_ns(bag, scanned, row.start_s, 0), _ns(bag, scanned, row.end_s, FOREVER), row.subtask)
        for row in rows
        if row.subtask
    )
    found: list[tuple[int, str]] = []
    for number, (start, end, text) in enumerate(spans):
        found.append((start, text))
        following = spans[number + 1][0] if number + 1 < len(spans) else FOREVER
        if end < following:
            found.append((end, ""))
    return found


def _spoken_labels(bag: Bag, found: Scan, name: str) -> list[tuple[int, str]]:
    topic = recorded_topic(bag, name)
    if not topic or bag.info.topics[topic].type != PROMPT_TYPE:
        return []
    return [(stamp, bag.decode(topic, data).data.strip()) for stamp, data in found.events.get(topic, ())]


def _within(labels: Sequence[tuple[int, str]], segment: Segment) -> tuple[tuple[int, str], ...]:
    """Those that hold somewhere in the segment."""
    before = [label for label in labels if label[0] <= segment.start_ns]
    return (*before[-1:], *(label for label in labels if segment.start_ns < label[0] < segment.end_ns))


def labels_on(ticks: np.ndarray, fps: float, labels: Sequence[tuple[int, str]], task: str) -> list[Label]:
    """`labels` (ns, text) on the frames at `ticks` (ns), in seconds after the first; each begins on a frame.

    Where one ends without a next one, the task holds again. Empty when no label holds anywhere.
    """
    held: dict[int, str] = {}  # frame -> text; of two that begin on one frame the later
    for at, text in labels:
        held[int(np.searchsorted(ticks, at))] = text
    found: list[Label] = []
    for frame, text in sorted(held.items()):
        if frame < len(ticks) and (text or found) and (not found or (text or task) != found[-1][1]):
            found.append((frame / fps, text or task))
    return found
