"""What was seen of a robot that nobody has described yet: the joints of its URDF, and its topics, living or recorded.

Facts alone, without a judgement: `proposal.py` makes a robot file of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from pi0_ros.base.errors import InputError
from pi0_ros.robot.message_types import (
    CAMERA_TYPES,
    COMMAND_TYPES,
    POSE_STATE_TYPES,
    SEVERAL_POSES,
    STATE_TYPES,
    TF,
    TRAJECTORY,
)

JOINT_STATE, JOY = "sensor_msgs/msg/JointState", "sensor_msgs/msg/Joy"
NAMED_STATES = tuple(kind for kind, what in STATE_TYPES.items() if what.named and not what.speeds)
JOINT_COMMANDS = tuple(kind for kind, what in COMMAND_TYPES.items() if not what.speeds)
SPEEDS = tuple(kind for kind, what in (STATE_TYPES | COMMAND_TYPES).items() if what.speeds)
OF_JOINTS = (*NAMED_STATES, *(kind for kind in JOINT_COMMANDS if kind not in NAMED_STATES))
LOOKED_AT = (*CAMERA_TYPES, *OF_JOINTS, *SPEEDS, *POSE_STATE_TYPES, *SEVERAL_POSES, JOY)
ACTION = "/action/"  # in the type of what is an action server and no topic; alone where its type is not known
STEP_S = 0.04  # between the samples of a track: differences of neighbours are motion, not noise
MOST_SAMPLES = 5000
MOST_POSES = 16  # of one array: more are a cloud of particles, not hands
MOST_FRAMES = 500
SAMPLED_BYTES = 4096  # of a picture, to tell whether it changes


@dataclass(frozen=True)
class JointFacts:
    """What a URDF says of a joint that moves by itself; rad or m."""

    name: str
    kind: str = ""  # revolute | continuous | prismatic; empty: there is no URDF
    lower: float = -math.inf  # -inf and inf where it says none
    upper: float = math.inf
    velocity: float = math.nan  # rad/s or m/s; NaN where it says none

    @property
    def reach(self) -> float:
        """The largest position by its limits; infinite where it has none."""
        return max(abs(self.lower), abs(self.upper))


@dataclass
class Track:
    """One number over time, as the messages count it."""

    low: float = math.inf
    high: float = -math.inf
    times_s: list[float] = field(default_factory=list)  # at least STEP_S apart
    values: list[float] = field(default_factory=list)

    def take(self, t_s: float, value: float) -> None:
        """Take a value that is finite."""
        self.low, self.high = min(self.low, value), max(self.high, value)
        if (not self.times_s or t_s >= self.times_s[-1] + STEP_S) and len(self.times_s) < MOST_SAMPLES:
            self.times_s.append(t_s)
            self.values.append(value)

    @property
    def most(self) -> float:
        """The largest magnitude."""
        return max(abs(self.low), abs(self.high))

    @property
    def speed(self) -> float:
        """The largest change per second, of which a hundredth is larger still; 0 where it did not move."""
        steps = [abs(b - a) / (t - s) for (s, a), (t, b) in pairwise(zip(self.times_s, self.values)) if t - s < 1.0]
        return float(np.quantile(steps, 0.99)) if steps else 0.0

    def at(self, times_s: np.ndarray) -> np.ndarray:
        """Values at other times, between the samples straight, float64 like `times_s`."""
        return np.interp(times_s, self.times_s, self.values)


@dataclass(eq=False)
class TopicFacts:
    """What was seen of one topic."""

    topic: str
    type: str
    count: int = 0  # messages
    first_s: float = math.nan
    last_s: float = math.nan
    listeners: tuple[str, ...] = ()  # nodes, of a living topic
    joints_told: tuple[str, ...] = ()  # by the parameters of the controller that listens
    ends_moving: bool | None = None  # whether that controller takes a point with a velocity; None: not known
    encoding: str = ""  # of raw pictures; of compressed ones their format
    size: tuple[int, int] = (0, 0)  # of raw pictures: width, height
    repeats: int = 0  # pictures that were the same as the one before
    least_changed: float = 1.0  # of the bytes of a raw picture, from one to the next
    stops_s: float = math.nan  # speeds: whoever listens stops so long after a command. inf: never; NaN: nobody said
    points: int = 0  # of a trajectory, at most
    numbers: int = 0  # in the last message; of a joystick its axes
    frame: str = ""  # that its messages name
    tracks: dict[str, Track] = field(default_factory=dict)  # joint, or number ("0", "1", ...) -> its positions
    child: str = ""  # of a part: the frame whose transform it is
    index: int | None = None  # of a part: which pose of the array it is
    parts: dict[str, TopicFacts] = field(default_factory=dict)  # each pose of messages that hold several, by itself
    unreadable: str = ""  # what was wrong with a message
    _picture: np.ndarray | None = None

    @property
    def rate_hz(self) -> float:
        """Messages per second; 0 where it is not known."""
        span = self.last_s - self.first_s
        return (self.count - 1) / span if self.count > 1 and span > 0 else 0.0

    @property
    def named(self) -> bool:
        """Whether its messages name their joints."""
        kind = STATE_TYPES.get(self.type) or COMMAND_TYPES.get(self.type)
        return kind is not None and kind.named

    def arrived(self, t_s: float) -> None:
        """Count a message."""
        self.count += 1
        self.first_s = t_s if self.count == 1 else self.first_s
        self.last_s = t_s

    def take(self, message: object, t_s: float) -> None:
        """Count a message that arrived at `t_s` and look into it."""
        self.arrived(t_s)
        if self.type in CAMERA_TYPES:
            self.encoding = str(getattr(message, "encoding", "") or getattr(message, "format", ""))
            self.size = int(getattr(message, "width", 0)), int(getattr(message, "height", 0))
            self._look_at(np.frombuffer(getattr(message, "data", b""), np.uint8))
            return
        self.frame = str(getattr(getattr(message, "header", None), "frame_id", ""))
        if self.type == JOY:
            self.numbers = len(getattr(message, "axes", ()))
            return
        if self.type in POSE_STATE_TYPES:
            pose: Any = getattr(message, "pose", message)
            place = getattr(pose, "pose", pose).position  # with a covariance beside it
            self._take({"x": place.x, "y": place.y, "z": place.z}, t_s)
            return
        if self.type in SEVERAL_POSES:
            self._take_poses(message, t_s)
            return
        if self.type in SPEEDS:
            names, values = (STATE_TYPES.get(self.type) or COMMAND_TYPES[self.type]).read(message, "velocity")
            self._take(dict(zip(names or (), values)), t_s)
            return
        try:
            names, values = (STATE_TYPES.get(self.type) or COMMAND_TYPES[self.type]).read(message, "position")
        except InputError as error:
            self.unreadable = str(error)
            return
        if self.type == TRAJECTORY:
            self.points = max(self.points, len(getattr(message, "points", ())))
        self.numbers = len(values)
        named = [str(n) for n in range(len(values))] if names is None else map(str, names)
        self._take(dict(zip(named, values)), t_s)

    def _take_poses(self, message: Any, t_s: float) -> None:
        told: list[tuple[str, str, Any, int | None]]  # name, frame, place, index
        if self.type == TF:
            told = [
                (one.child_frame_id.lstrip("/"), one.header.frame_id, one.transform.translation, None)
                for one in message.transforms
            ]
        else:
            told = [(str(n), self.frame, pose.position, n) for n, pose in enumerate(message.poses[:MOST_POSES])]
        for name, frame, place, index in told:
            if not name or (name not in self.parts and len(self.parts) >= MOST_FRAMES):
                continue
            child = name if index is None else ""
            part = self.parts.setdefault(name, TopicFacts(self.topic, self.type, child=child, index=index))
            part.arrived(t_s)
            part.frame = str(frame)
            part._take({"x": place.x, "y": place.y, "z": place.z}, t_s)

    def _take(self, values: Mapping[str, float], t_s: float) -> None:
        for name, value in values.items():
            if math.isfinite(value):
                self.tracks.setdefault(name, Track()).take(t_s, float(value))

    def _look_at(self, data: np.ndarray) -> None:
        """Compare a picture with the one before: a sensor's noise makes each differ, and nearly everywhere."""
        picture = data[:: len(data) // SAMPLED_BYTES | 1].copy()
        before, self._picture = self._picture, picture
        if before is None or before.shape != picture.shape:
            return
        self.repeats += bool((picture == before).all())
        if self.type == CAMERA_TYPES[0]:
            self.least_changed = min(self.least_changed, float((picture != before).mean()))
