"""What a robot's topics said for a while, alike from living topics and from a recording: the ground of all checks."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pi0_ros.observation.camera_picture import decoder_of
from pi0_ros.observation.images import ImageError, PartError
from pi0_ros.observation.joint_messages import JointsHeard, MessageError, decode_command, leading_header
from pi0_ros.observation.picture_quality import blocks, contrast, is_black, sharpness
from pi0_ros.observation.stream_buffer import SECOND
from pi0_ros.observation.streams import FROZEN_BYTES
from pi0_ros.robot import Camera, CommandGroup, Robot, StateTopic
from pi0_ros.robot.space import space_of

PICTURE_S = 0.25  # a picture is looked at as often as this
MOST_PICTURES = 60
THUMB = 24  # blocks along a picture's shorter side, for comparing pictures
TEXTS = 3  # different complaints about a topic's messages that are kept


@dataclass(frozen=True)
class Endpoint:
    """A publisher or subscriber as the ROS graph shows it."""

    node: str  # with its namespace
    type: str
    reliability: str = "reliable"  # reliable | best_effort
    durability: str = "volatile"  # volatile | transient_local
    deadline_s: float = math.inf


@dataclass(frozen=True)
class Look:
    """One picture, measured: nothing of its size is kept."""

    t_s: float
    mean: float  # grey level of 255
    contrast: float
    sharpness: float
    black: bool
    bright: float  # 95 % of its blocks are darker than this grey level
    thumb: np.ndarray  # float32 [about 24, W, 3], block means
    size: tuple[int, ...] = ()  # height, width, px


@dataclass
class Heard:
    """What was heard on one topic of the robot file. Times in s."""

    item: Camera | StateTopic | CommandGroup
    publishers: list[Endpoint] = field(default_factory=list)
    subscribers: list[Endpoint] = field(default_factory=list)
    settings: dict[str, dict[str, object]] = field(default_factory=dict)  # subscriber -> its parameters
    servers: dict[str, str] = field(default_factory=dict)  # nodes that serve the command's action, and its type there
    arrivals: list[float] = field(default_factory=list)  # on a steady clock
    ages: list[float] = field(default_factory=list)  # clock at arrival minus stamp, of stamped messages
    received: list[float] = field(default_factory=list)  # of `ages`: that clock at arrival
    unstamped: int = 0
    times: list[float] = field(default_factory=list)  # of `values`: stamps, or arrivals where those count
    values: list[np.ndarray] = field(default_factory=list)  # joints' values in the robot file's units, [k] each
    unreadable: int = 0
    complaints: list[str] = field(default_factory=list)  # why messages could not be read, a few
    looks: list[Look] = field(default_factory=list)
    same: tuple[float, float] = (0.0, 0.0)  # the longest stretch with one and the same picture: since when, until when

    @property
    def topic(self) -> str:
        return self.item.topic

    @property
    def command(self) -> bool:
        """Whether the robot listens to it: we publish it."""
        return isinstance(self.item, CommandGroup)

    @property
    def camera(self) -> bool:
        return isinstance(self.item, Camera)

    @property
    def types(self) -> tuple[str, ...]:
        """The types offered on the network under this name: of the end that is not ours."""
        return tuple(sorted({end.type for end in (self.subscribers if self.command else self.publishers)}))

    @property
    def rate_hz(self) -> float:
        """Mean rate of arrival; 0 where there are not two messages."""
        span = self.arrivals[-1] - self.arrivals[0] if len(self.arrivals) > 1 else 0.0
        return (len(self.arrivals) - 1) / span if span > 0 else 0.0

    @property
    def same_s(self) -> float:
        """How long it was one and the same picture, at most."""
        return self.same[1] - self.same[0]

    @property
    def age_s(self) -> float:
        """Median age at arrival; NaN where no message has a stamp that counts."""
        return float(np.median(self.ages)) if self.ages else math.nan


@dataclass
class Session:
    """All topics of a robot, listened to for a while."""

    robot: Robot
    live: bool = True  # False: a recording, which has no graph and no present
    topics: dict[str, Heard] = field(default_factory=dict)
    other_nodes: tuple[str, ...] = ()  # of the domain; live only
    there: dict[str, str] = field(default_factory=dict)  # all topics of the domain or the recording, and their types
    domain: str = "0"
    latency_p99_s: float = math.nan  # of the policy that runs, where one does
    deaf: list[tuple[float, float]] = field(default_factory=list)  # when nobody listened, on the steady clock
    waited_share: float = 0.0  # of the time of listening in which something waited for a core of this machine
    problems: list[str] = field(default_factory=list)  # why no observation could be made at the end

    def __post_init__(self) -> None:
        robot = self.robot
        items: list[Camera | StateTopic | CommandGroup] = [*robot.cameras, *robot.state, *robot.commands]
        for item in items:
            self.topics.setdefault(item.topic, Heard(item))  # a state topic may have several entries
        self._latencies_ns = robot.latencies_ns
        self._began_ns = 0
        self._read: dict[str, Callable[[Any], np.ndarray]] = {}
        for heard in self.topics.values():
            self._read[heard.topic] = _reader(robot, heard.item)
        self._pictures: dict[str, tuple[int, float]] = {}  # camera topic -> mark of its picture, time since which

    def take(self, topic: str, message: Any, received_ns: int, arrival_s: float | None = None) -> None:
        """Take a message; `received_ns` on the clock that stamps are compared with, `arrival_s` on a steady one."""
        heard = self.topics[topic]
        arrival = received_ns / SECOND if arrival_s is None else arrival_s
        heard.arrivals.append(arrival)
        self._began_ns = self._began_ns or received_ns
        header = None if heard.item.stamp == "arrival" else leading_header(message)
        stamp_ns = 0 if header is None else header.stamp.sec * SECOND + header.stamp.nanosec
        delay_ns = self._latencies_ns.get(topic, 0)
        if stamp_ns:
            heard.ages.append((received_ns - stamp_ns) / SECOND)
            heard.received.append((received_ns - self._began_ns) / SECOND)
        else:
            heard.unstamped += header is not None
        t_s = ((stamp_ns or received_ns) - delay_ns) / SECOND
        try:
            self._look(heard, message, t_s) if heard.camera else self._joints(heard, message, t_s)
        except PartError:  # of a video stream, whose key pictures are looked at
            return
        except (ImageError, MessageError, AttributeError, TypeError) as problem:
            heard.unreadable += 1
            if len(heard.complaints) < TEXTS and str(problem) not in heard.complaints:
                heard.complaints.append(str(problem))

    def never(self, topic: str) -> str:
        """A sentence about the joints of a state topic that no message has spoken of; empty where there are none."""
        reader = self._read[topic]
        return reader.never() if isinstance(reader, JointsHeard) and self.topics[topic].values else ""

    def of(self, kind: type) -> list[Heard]:
        """The topics of one kind: Camera, StateTopic or CommandGroup."""
        return [heard for heard in self.topics.values() if isinstance(heard.item, kind)]

    def joints(self, kind: type) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Joint -> (times [N], positions [N]) that states or commands told, for those that were heard; continuous
        joints without jumps."""
        found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for heard in self.of(kind):
            if not heard.values:
                continue
            items = self.robot.state_topics[heard.topic] if isinstance(heard.item, StateTopic) else (heard.item,)
            names = [(name, item) for item in items if not isinstance(item, Camera) for name in item.joints]
            times, values = np.array(heard.times), np.array(heard.values)
            order = np.argsort(times, kind="stable")
            space = space_of([self.robot.joints[self.robot.joint_names.index(name)] for name, _ in names])
            values[order] = space.unwrapped(values[order])
            for place, (name, item) in enumerate(names):
                told = order[np.isfinite(values[order, place])]  # messages may speak of some joints each
                if len(told) and (not isinstance(item, StateTopic) or item.is_position):
                    found[name] = times[told], values[told, place]
        return found

    def _joints(self, heard: Heard, message: Any, t_s: float) -> None:
        heard.values.append(self._read[heard.topic](message))
        heard.times.append(t_s)

    def _look(self, heard: Heard, message: Any, t_s: float) -> None:
        data = np.frombuffer(message.data, np.uint8)
        mark = zlib.crc32(data[:: len(data) // FROZEN_BYTES | 1].tobytes())
        before, since = self._pictures.get(heard.topic, (-1, t_s))
        if mark != before or t_s < since:
            self._pictures[heard.topic], since = (mark, t_s), t_s
        if t_s - since > heard.same_s:
            heard.same = since, t_s
        last = heard.looks[-1].t_s if heard.looks else -math.inf
        if 0 <= t_s - last < PICTURE_S or len(heard.looks) >= MOST_PICTURES:
            return
        heard.looks.append(look_at(self._read[heard.topic](message), t_s))


def look_at(picture: np.ndarray, t_s: float) -> Look:
    """Measure a picture, uint8 [H, W, 3]."""
    thumb = blocks(picture, max(1, min(picture.shape[:2]) // THUMB)).astype(np.float32)
    return Look(
        t_s,
        float(picture.mean()),
        contrast(picture),
        sharpness(picture),
        is_black(picture),
        float(np.quantile(thumb.mean(axis=2), 0.95)),
        thumb,
        picture.shape[:2],
    )


def _reader(robot: Robot, item: Camera | StateTopic | CommandGroup) -> Callable[[Any], np.ndarray]:
    if isinstance(item, Camera):
        return decoder_of(item)
    if isinstance(item, StateTopic):
        return JointsHeard(robot.state_topics[item.topic])
    return lambda message: decode_command(item, message)
