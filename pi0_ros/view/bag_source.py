"""Recordings: what joints did and were told, by the time at which the recorder received it, and pictures on demand.

A recording is read through once when its page is opened; what is kept is numbers and times. A picture is looked up in
the file when it is asked for. Without a robot file joints are called what the messages call them, and nothing is
known of limits.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ros.bags.conventions import (
    IN_CHARGE_TOPIC,
    IN_CHARGE_TYPE,
    PERSON,
    PROMPT_TOPIC,
    PROMPT_TYPE,
    SUBTASK_TOPIC,
    is_discarded,
    kept_because,
    recorded_prompt,
    success_of,
)
from pi0_ros.bags.reader import Bag, BagError, BagInfo, bags_at
from pi0_ros.base.errors import InputError
from pi0_ros.conversion.robots import noted_robot, recorded_robot
from pi0_ros.datasets.pictures import jpeg_file
from pi0_ros.observation.camera_picture import decoder_of
from pi0_ros.observation.images import ImageError, decode_image, stream_of
from pi0_ros.observation.joint_messages import MessageError, decode_command, decode_positions
from pi0_ros.observation.video_stream import VideoStream
from pi0_ros.robot import Robot
from pi0_ros.robot.message_types import CAMERA_TYPES, TRAJECTORY
from pi0_ros.view.incidents import Reports, told_by, topics_of
from pi0_ros.view.kinds import MOST_SAID
from pi0_ros.view.source import (
    LONGEST_SIDE,
    Band,
    Curve,
    Episode,
    Listed,
    Mark,
    NoFiles,
    NoPictureYetError,
    Shown,
    Trace,
    said,
)

SECOND = 1_000_000_000
JOINTS = "sensor_msgs/msg/JointState"
FPS = 20.0  # of the frames of a recording without robot file
PAUSE = 3.0  # of the usual interval: a longer one is a gap, unless the robot file allows older samples
BACK_S = 3.0  # before a picture of a video stream, to find the picture that it builds on
MOST_JOINTS = 64  # that are drawn of a recording without robot file


@dataclass(frozen=True)
class _Camera:
    name: str
    topic: str
    decode: Any = decode_image  # message -> uint8 [H, W, 3]


@dataclass
class _Line:
    """A curve while it grows."""

    allowed_s: float = 0.0  # a value counts so long, though no message comes
    times: array[float] = field(default_factory=lambda: array("d"))
    values: array[float] = field(default_factory=lambda: array("d"))

    def add(self, at_s: float, value: float) -> None:
        self.times.append(at_s)
        self.values.append(value)


class BagSource(NoFiles):
    """The pages of one recording, or of all in a folder: each is an episode."""

    def __init__(self, path: Path, robot: Robot | None = None) -> None:
        """`robot` in the place of the recorded one. Raises `BagError` without any recording."""
        self._path, self._given = path, robot
        self._bags, self._left_out = bags_at(path)
        if not self._bags:
            raise BagError(f"{path}: no recording here")
        self._worker = ThreadPoolExecutor(1, "bag")  # sqlite3 files belong to the thread that opened them
        self._open: tuple[int, Bag] | None = None
        self._arrivals: dict[int, dict[str, np.ndarray]] = {}

    def about(self) -> dict[str, Any]:
        """How many recordings there are, and of which robot."""
        facts = [("recordings", str(len(self._bags)))]
        facts += [("robot file", f"{self._given.name} (--robot)")] if self._given else []
        facts += [("not searched", text) for text in self._left_out[:MOST_SAID]]
        if (more := len(self._left_out) - MOST_SAID) > 0:
            facts += [("not searched", f"and {more} more")]
        return {"kind": "bag", "title": self._path.resolve().name, "facts": said(facts)}

    def listed(self) -> Sequence[Listed]:
        """The recordings by name."""
        names = [str(bag.relative_to(self._path)) if bag != self._path else bag.resolve().name for bag in self._bags]
        return [Listed(number, name) for number, name in enumerate(names)]

    def episode(self, number: int) -> dict[str, Any]:
        """One recording. Raises `InputError` where it can't be read."""
        return self._worker.submit(self._episode, number).result()

    def picture(self, number: int, camera: int, frame: int) -> Shown:
        """What a camera had last sent at a frame. Raises `InputError`."""
        return self._worker.submit(self._picture, number, camera, frame).result()

    def _bag(self, number: int) -> Bag:
        if not 0 <= number < len(self._bags):
            raise InputError(f"{self._path}: no recording {number}; there are {len(self._bags)}")
        if self._open is None or self._open[0] != number:
            if self._open is not None:
                self._open[1].__exit__()
                self._open = None
                self._arrivals.clear()
            self._open = number, Bag(self._bags[number]).__enter__()
        return self._open[1]

    def _robot(self, info: BagInfo) -> tuple[Robot | None, str]:
        """The robot, and where it comes from."""
        if self._given is not None:
            return self._given.recorded, f"{self._given.name} (--robot)"
        try:
            if (robot := recorded_robot(info.custom_data, info.path)) is not None:
                return robot.recorded, f"{robot.name}, in the recording"
        except BagError as error:
            return None, f"can't be read: {error}"
        if (robot := noted_robot(info.custom_data)) is not None:
            return robot.recorded, f"{robot.name}, which the recording notes"
        return None, "none: --robot would say joints and limits"

    def _cameras(self, info: BagInfo, robot: Robot | None) -> list[_Camera]:
        if robot is not None:
            return [_Camera(camera.name, camera.topic, decoder_of(camera)) for camera in robot.cameras]
        found = [name for name, topic in info.topics.items() if topic.type in CAMERA_TYPES and topic.count]
        return [_Camera(name, name) for name in found]

    def _episode(self, number: int) -> dict[str, Any]:
        bag = self._bag(number)
        info = bag.info
        robot, told = self._robot(info)
        cameras = self._cameras(info, robot)
        heard = _listen(bag, robot, {camera.topic for camera in cameras})
        self._arrivals[number] = heard.arrivals
        fps = float(robot.dataset_fps) if robot is not None else FPS
        notes = [*info.damage, *info.notes, *heard.notes]
        absent = [camera.name for camera in cameras if not len(heard.arrivals.get(camera.topic, ()))]
        notes += [f"camera {name}: no picture in the recording" for name in absent]
        outcome = {True: "success", False: "failure", None: "nobody said"}[success_of(info.custom_data)]
        prompt = recorded_prompt(info.custom_data) or next((m.text for m in heard.marks if m.kind == "prompt"), "")
        why = kept_because(info.custom_data)
        incidents = told_by(heard.reports.marks, why)
        outcome = "discarded" if is_discarded(info.custom_data) else "an incident" if why else outcome
        facts = [
            ("prompt", prompt or "none"),
            ("outcome", outcome),
            ("length", f"{info.duration_s:.2f} s"),
            ("robot file", told),
            ("files", ", ".join(file.name for file in info.files)),
            *[(topic, _stream(heard.arrivals[topic])) for topic in sorted(heard.arrivals)],
        ]
        return Episode(
            number,
            self.listed()[number].text,
            max(1, round(info.duration_s * fps)),
            fps,
            [camera.name for camera in cameras],
            list(heard.traces(robot)),
            [
                *heard.bands(info.duration_s),
                *heard.reports.bands(info.duration_s),
                *_gaps(heard.arrivals, info, robot),
            ],
            sorted([*heard.marks, *incidents], key=lambda mark: mark.at_s),
            facts,
            notes,
            [f"kept by the flight recorder: {reason}{_when(reason, incidents)}" for reason in why],
        ).to_dict()

    def _picture(self, number: int, camera: int, frame: int) -> Shown:
        bag = self._bag(number)
        robot, _ = self._robot(bag.info)
        cameras = self._cameras(bag.info, robot)
        if not 0 <= camera < len(cameras) or frame < 0:
            raise InputError(f"recording {number} has {len(cameras)} cameras")
        chosen = cameras[camera]
        if number not in self._arrivals:
            self._arrivals[number] = _listen(bag, robot, {each.topic for each in cameras}).arrivals
        arrivals = self._arrivals[number].get(chosen.topic, np.zeros(0, np.int64))
        fps = float(robot.dataset_fps) if robot is not None else FPS
        asked_ns = bag.info.start_ns + round(frame * SECOND / fps)
        place = int(np.searchsorted(arrivals, asked_ns, side="right")) - 1
        if place < 0:
            raise NoPictureYetError("no picture yet")
        taken_ns = int(arrivals[place])
        return Shown(jpeg_file(_decoded(bag, chosen, taken_ns), LONGEST_SIDE), age_s=(asked_ns - taken_ns) / SECOND)


def _decoded(bag: Bag, camera: _Camera, taken_ns: int) -> np.ndarray:
    """The picture that was received at `taken_ns`, uint8 [H, W, 3]. Raises `InputError`."""
    last: Any = None
    for _, _, data in bag.raw({camera.topic}, taken_ns, taken_ns + 1):
        last = bag.decode(camera.topic, data)
    if last is None:
        raise BagError(f"{bag.path}: no message of {camera.topic} where one was read before")
    if not stream_of(last):
        return np.asarray(camera.decode(last))
    stream, picture = VideoStream(), None
    for _, received_ns, data in bag.raw({camera.topic}, taken_ns - round(BACK_S * SECOND), taken_ns + 1):
        picture = stream.take(bag.decode(camera.topic, data), received_ns)
    if picture is None:
        raise ImageError(f"camera {camera.name}: {stream.problem}")
    return picture


@dataclass
class _Heard:
    """What one pass over a recording kept; times in s from its beginning."""

    arrivals: dict[str, np.ndarray] = field(default_factory=dict)  # topic -> receive times in ns, int64, rising
    lines: dict[str, dict[str, _Line]] = field(default_factory=dict)  # joint -> state | action -> curve
    marks: list[Mark] = field(default_factory=list)
    led: list[tuple[float, str]] = field(default_factory=list)  # since when who was in charge
    reports: Reports = field(default_factory=Reports)  # of the controller
    notes: list[str] = field(default_factory=list)

    def traces(self, robot: Robot | None) -> Iterator[Trace]:
        joints = {joint.name: joint for joint in robot.joints} if robot is not None else {}
        for name, lines in self.lines.items():
            joint = joints.get(name)
            curves = [Curve(what, *_broken(line)) for what, line in lines.items()]
            ends = (joint.lower, joint.upper) if joint else (None, None)
            yield Trace(name, joint.unit if joint else "", curves, *ends)

    def bands(self, seconds: float) -> list[Band]:
        """The takeovers."""
        changes = [*self.led, (seconds, "")]
        return [
            Band("takeover", at, changes[place + 1][0], "a person led")
            for place, (at, who) in enumerate(self.led)
            if who == PERSON
        ]


def _listen(bag: Bag, robot: Robot | None, cameras: set[str]) -> _Heard:
    """Read the recording once."""
    info, heard = bag.info, _Heard()
    said_on = {
        topic: kind
        for topic, kind in ((PROMPT_TOPIC, "prompt"), (SUBTASK_TOPIC, "label"), (IN_CHARGE_TOPIC, "led"))
        if topic in info.topics and info.topics[topic].type in (PROMPT_TYPE, IN_CHARGE_TYPE)
    }
    readers, reports = _readers(info, robot), topics_of(bag)
    ages = robot.max_ages_s if robot is not None else {}
    times = {topic: array("q") for topic in (cameras | set(readers)) & set(info.topics)}
    wrong: dict[str, str] = {}
    try:
        for topic, received_ns, data in bag.raw({*times, *said_on, *reports}):
            at_s = (received_ns - info.start_ns) / SECOND
            if topic in times:
                times[topic].append(received_ns)
            if topic in cameras:
                continue
            try:
                message = bag.decode(topic, data)
                if topic in said_on:
                    _heed(heard, said_on[topic], at_s, str(message.data).strip())
                if topic in reports:
                    heard.reports.take(reports[topic], message, at_s)
                for what, name, value in readers[topic](message) if topic in readers else ():
                    lines = heard.lines.setdefault(name, {})
                    lines.setdefault(what, _Line(ages.get(topic, 0.0))).add(at_s, value)
            except (BagError, MessageError) as error:
                wrong.setdefault(topic, str(error))
    except BagError as error:  # damaged: what came before is good
        heard.notes.append(str(error))
    heard.arrivals = {topic: np.sort(np.frombuffer(ns, np.int64)) for topic, ns in times.items() if len(ns)}
    heard.notes += [f"not drawn: {error}" for error in wrong.values()]
    if robot is not None:
        order = {name: place for place, name in enumerate(robot.joint_names)}
        heard.lines = dict(sorted(heard.lines.items(), key=lambda item: order.get(item[0], len(order))))
    elif len(heard.lines) > MOST_JOINTS:
        heard.notes.append(f"{len(heard.lines)} joints: the first {MOST_JOINTS} are drawn")
        heard.lines = dict(list(heard.lines.items())[:MOST_JOINTS])
    return heard


def _broken(line: _Line) -> tuple[np.ndarray, np.ndarray]:
    """Times and values, with a NaN where the next one was due and did not come: no line is drawn over a gap."""
    times, values = np.array(line.times), np.array(line.values)
    steps = np.diff(times)
    usual = float(np.median(steps)) if len(steps) else 0.0
    gaps = np.flatnonzero(steps > max(PAUSE * usual, line.allowed_s)) if usual > 0 else np.zeros(0, int)
    return np.insert(times, gaps + 1, times[gaps] + usual), np.insert(values, gaps + 1, np.nan)


def _heed(heard: _Heard, kind: str, at_s: float, text: str) -> None:
    """Take in what was said, once however often it was repeated."""
    if kind == "led":
        if not heard.led or heard.led[-1][1] != text:
            heard.led.append((at_s, text))
    elif text != next((mark.text for mark in reversed(heard.marks) if mark.kind == kind), None):
        heard.marks.append(Mark(kind, at_s, text))


Read = Mapping[str, Any]  # topic -> a function from a message to (state | action, joint, value)


def _readers(info: BagInfo, robot: Robot | None) -> Read:
    """How the messages of each topic that tells of joints are read."""
    found: dict[str, Any] = {}
    if robot is None:
        for topic, about in info.topics.items():
            if about.type == JOINTS:
                found[topic] = lambda m: (("state", n, float(v)) for n, v in zip(m.name, m.position))
            elif about.type == TRAJECTORY:
                found[topic] = lambda m: (
                    ("action", n, float(v)) for p in m.points[:1] for n, v in zip(m.joint_names, p.positions)
                )
        return found
    for topic, items in robot.state_topics.items():
        if info.topics.get(topic) and info.topics[topic].type == items[0].type:
            found[topic] = lambda m, items=items: (
                ("state", name, float(value))
                for item in items
                for name, value in zip(item.joints, decode_positions(item, m), strict=True)
                if np.isfinite(value)
            )
    for group in robot.commands:
        if info.topics.get(group.topic) and info.topics[group.topic].type == group.type:
            found[group.topic] = lambda m, group=group: (
                ("action", name, float(value))
                for name, value in zip(group.joints, decode_command(group, m), strict=True)
            )
    return found


def _when(reason: str, incidents: Sequence[Mark]) -> str:
    return next((f" (at {mark.at_s:.2f} s)" for mark in incidents if mark.text == reason), "")


def _stream(arrivals: np.ndarray) -> str:
    """How many messages, how often."""
    steps = np.diff(arrivals)
    rate = f" at {SECOND / np.median(steps):.1f} Hz" if len(steps) and np.median(steps) > 0 else ""
    return f"{len(arrivals)} messages{rate}"


def _gaps(arrivals: Mapping[str, np.ndarray], info: BagInfo, robot: Robot | None) -> list[Band]:
    """Where a camera or the state was silent for longer than usual, or than the robot file allows."""
    bands = []
    ages = robot.max_ages_s if robot is not None else {}
    commands = {group.topic for group in robot.commands} if robot is not None else set()
    for topic, received in arrivals.items():
        if topic in commands or (robot is None and info.topics[topic].type == TRAJECTORY):
            continue  # commands may pause
        ends = np.concatenate([[info.start_ns], received, [info.end_ns]])
        steps = np.diff(ends) / SECOND
        usual = float(np.median(np.diff(received))) / SECOND if len(received) > 1 else np.inf
        limit = max(PAUSE * usual, ages.get(topic, 0.0))
        for place in np.flatnonzero(steps > limit).tolist():
            start = (int(ends[place]) - info.start_ns) / SECOND
            text = f"{topic}: nothing for {steps[place]:.2f} s"
            bands.append(Band("gap", start, start + float(steps[place]), text))
    return bands
