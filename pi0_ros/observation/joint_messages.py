"""Messages about joints: states and commands, in the robot file's units. One decoder for live topics and bags.

A state message may speak of some joints of its entry only, or of foreign ones alone: several publishers share a topic,
each with its own joints. What it does not speak of is NaN here; who asks decides by age.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pi0_ros.base.errors import InputError
from pi0_ros.observation.trajectories import Trajectory, seconds_of
from pi0_ros.robot import CommandGroup, StateTopic
from pi0_ros.robot.message_types import (
    COMMAND_TYPES,
    STATE_TYPES,
    TF,
    TRAJECTORY,
    JointMessages,
    is_state_field,
    values_along,
)
from pi0_ros.robot.rotations import WRITINGS
from pi0_ros.robot.types import Pose

UNIT_WITHIN = 0.01  # of a quaternion's length: drivers round, and an unset one is 0
KEPT_NAMES = 64  # names of joints that messages have, for people who look for theirs
_HEADED: dict[type, bool] = {}  # message classes that begin with a header
Decoded = np.ndarray | Trajectory


class MessageError(InputError):
    """A joint message that cannot be used; the message names topic and joint."""


class JointsHeard:
    """Reads the state messages of one topic, and remembers what they call their joints.

    Called with a message it gives the positions (or what `field` says) of the joints of all `items`, one entry's after
    the other: float64 [J], NaN where the message does not speak of a joint.
    """

    def __init__(self, items: Sequence[StateTopic], positions: bool = False) -> None:
        self.joints = tuple(joint for item in items for joint in item.joints)
        self._items = tuple(items)
        self._decode = decode_positions if positions else decode_state
        self._called = tuple(name for item in items for name in item.message_names)
        self._names: dict[str, None] = {}  # in messages that lack a joint
        self.ever = np.zeros(len(self.joints), bool)  # [J] joints that a message has spoken of

    def __call__(self, msg: Any) -> np.ndarray:
        values = np.concatenate([self._decode(item, msg) for item in self._items])
        heard = np.isfinite(values)
        if not heard.all():
            self.ever |= heard
            for name in _names_in(msg)[:KEPT_NAMES]:
                if len(self._names) < KEPT_NAMES:
                    self._names.setdefault(str(name))
        else:
            self.ever[:] = True
        return values

    def never(self) -> str:
        """A sentence about the joints that no message has spoken of; empty where there are none."""
        absent = [name for name, ever in zip(self._called, self.ever) if not ever]
        if not absent:
            return ""
        topic, listed = self._items[0].topic, ", ".join(map(repr, absent))
        unheard = [item for item in self._items if item.child and item.joints[0] in absent]
        if unheard:
            ways = ", ".join(f"{item.pose.frame if item.pose else ''} -> {item.child}" for item in unheard)
            there = ", ".join(self._names) or "none"
            return f"{topic}: no message has the transform {ways}; they have {there}: correct `child` in the robot file"
        if all(name in self._names for name in absent):
            return (
                f"{topic}: the messages name joint {listed} but have no {self._items[0].field} of it: is another topic "
                "or `field` meant?"
            )
        return (
            f"{topic}: no message has joint {listed}; they have {', '.join(self._names) or 'no names'}: correct the "
            "names in the robot file or in the publisher, or write names_from: order"
        )


def _names_in(msg: Any) -> list[str]:
    """What a message calls that of which it speaks."""
    if transforms := getattr(msg, "transforms", None):
        return [f"{one.header.frame_id} -> {one.child_frame_id}" for one in transforms]
    return list(getattr(msg, "name", getattr(msg, "joint_names", ())))


def decode_state(item: StateTopic, msg: Any) -> np.ndarray:
    """The values of `item.joints` in a message of `item.type`, float64 [len(joints)]; NaN where it does not speak of a
    joint. Raises `MessageError`.

    Positions and velocities are in the robot file's units, efforts in the message's.
    """
    values = _state_values(item, msg, item.field)
    if item.is_position:
        return from_message_units(item, values)
    return values / item.scale if item.scale and item.field == "velocity" else values


def decode_positions(item: StateTopic, msg: Any) -> np.ndarray:
    """Where `item.joints` are, float64 [len(joints)], whatever `field` is the policy's state; NaN where the message
    does not speak of a joint. Raises `MessageError`."""
    return from_message_units(item, _state_values(item, msg, item.field if item.is_position else "position"))


def decode_command(group: CommandGroup, msg: Any) -> np.ndarray:
    """The commanded positions of `group.joints`, float64 [len(joints)]. Raises `MessageError`."""
    return from_message_units(group, _joint_values(group, COMMAND_TYPES, msg, "position"))


def decode_trajectory(group: CommandGroup, msg: Any) -> Decoded:
    """What a command message says: positions, or the plan of a trajectory of several points. Raises `MessageError`."""
    if group.type != TRAJECTORY or len(msg.points) < 2:
        return decode_command(group, msg)
    names, wanted = msg.joint_names, group.message_names
    times = np.array([seconds_of(point.time_from_start) for point in msg.points], np.float64)
    if not (np.diff(times) > 0).all():
        raise MessageError(
            f"{group.topic}: the times of the trajectory's points do not rise: they need time_from_start"
        )
    points = [_by_name(group.topic, wanted, names, point.positions, "position") for point in msg.points]
    moving = all(len(point.velocities) == len(names) for point in msg.points)
    speeds = [_by_name(group.topic, wanted, names, point.velocities, "velocity") for point in msg.points if moving]
    velocities = np.array(speeds) / (group.scale or 1.0) if moving else None
    return Trajectory(times, from_message_units(group, np.array(points)), velocities)


def to_message_units(item: StateTopic | CommandGroup, positions: np.ndarray) -> np.ndarray:
    """Positions of `item.joints` [..., len(joints)] in the robot file's units as the topic's messages measure them."""
    return positions * (item.scale or 1.0) + (item.offset or 0.0)


def from_message_units(item: StateTopic | CommandGroup, positions: np.ndarray) -> np.ndarray:
    """The inverse of `to_message_units`."""
    return (positions - (item.offset or 0.0)) / (item.scale or 1.0)


def leading_header(msg: Any) -> Any:
    """The message's header where it begins with one, which holds its time, as in bags; else None."""
    kind = type(msg)
    if kind not in _HEADED:
        fields = getattr(kind, "get_fields_and_field_types", None)  # of ROS's classes
        _HEADED[kind] = fields is None or next(iter(fields()), "") == "header"
    return getattr(msg, "header", None) if _HEADED[kind] else None


def pose_numbers(pose: Pose, place: np.ndarray, quaternion: np.ndarray) -> np.ndarray:
    """The entries of a pose at `place` (x, y, z in m) turned by a unit `quaternion` (x, y, z, w)."""
    return np.concatenate([place, WRITINGS[pose.rotation].encode(quaternion)])


def pose_parts(pose: Pose, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of `pose_numbers`: place [..., 3] and unit quaternion [..., 4]."""
    return numbers[..., :3], WRITINGS[pose.rotation].decode(numbers[..., 3:])


def _pose_values(item: StateTopic | CommandGroup, pose: Pose, msg: Any) -> np.ndarray:
    """The entries of the pose in a message, in the file's frame."""
    try:
        if (found := _told_pose(item, pose, msg)) is None:
            return np.full(len(item.joints), np.nan)
        header, point, turn = found
        numbers = np.array([point.x, point.y, point.z, turn.x, turn.y, turn.z, turn.w], np.float64)
        frame = None if header is None else str(header.frame_id)
    except AttributeError as error:
        raise MessageError(f"{item.topic}: the message is no {item.type} ({error}): correct the robot file") from error
    if frame is not None:
        _in_frame(item.topic, "pose", frame, pose.frame, pose.name)
    _finite(item.topic, ("x", "y", "z", "qx", "qy", "qz", "qw"), numbers)
    length = float(np.linalg.norm(numbers[3:]))
    if abs(length - 1.0) > UNIT_WITHIN:
        raise MessageError(
            f"{item.topic}: the orientation is no rotation: its quaternion has length {length:.3g}, not 1"
        )
    return pose_numbers(pose, numbers[:3], numbers[3:] / length)


def _told_pose(item: StateTopic | CommandGroup, pose: Pose, msg: Any) -> tuple[Any, Any, Any] | None:
    """Header (None: without one), place and quaternion of the pose in a message; None where it is about others."""
    header = getattr(msg, "header", None)
    if item.type == TF:
        child = item.child if isinstance(item, StateTopic) else ""
        told = [one for one in msg.transforms if one.child_frame_id.lstrip("/") == child]
        if told and (parent := str(told[-1].header.frame_id).lstrip("/")) != pose.frame:
            raise MessageError(
                f"{item.topic}: the transform to {child} is told in {parent!r}, the robot file says {pose.frame!r}, "
                f"and only one direct transform is read: correct `frame` of {pose.name}, or let a node of yours look "
                "it up (docs/new_robot.md)"
            )
        return (None, told[-1].transform.translation, told[-1].transform.rotation) if told else None
    said = getattr(msg, "pose", msg)
    if isinstance(item, StateTopic) and item.index is not None:
        if item.index >= len(msg.poses):
            raise MessageError(
                f"{item.topic}: the message has {len(msg.poses)} poses, the robot file reads number {item.index} "
                f"(counted from 0): correct `index` of {pose.name}"
            )
        said = msg.poses[item.index]
    said = getattr(said, "pose", said)  # with a covariance beside it
    return header, said.position, said.orientation


def _state_values(item: StateTopic, msg: Any, field: str) -> np.ndarray:
    """The message's values of `item.joints`, float64 [len(joints)]; NaN where it does not speak of a joint."""
    if item.pose is not None:
        return _pose_values(item, item.pose, msg)
    if not is_state_field(item.type, field):
        try:
            values: Sequence[float] = values_along(msg, field)
        except InputError as error:
            raise MessageError(f"{item.topic}: {error}; correct `field` in the robot file") from None
        return _in_order(item, values)
    names, values = _read(item, STATE_TYPES, msg, field)
    if item.frame:
        _in_frame(item.topic, "twist", str(msg.header.frame_id), item.frame, "this entry")
    if names is not None and len(values) == 0:  # a publisher of efforts alone leaves positions empty
        return np.full(len(item.joints), np.nan)
    if names is None or item.names_from == "order":
        return _in_order(item, values)
    if len(names) == 0:
        raise MessageError(
            f"{item.topic}: the message has {len(values)} values without joint names: write names_from: order where "
            "they come in the order of the entry's `joints`"
        )
    where = {name: i for i, name in enumerate(names)}
    spoken = [i for i, name in enumerate(item.message_names) if name in where]
    found = np.full(len(item.joints), np.nan)
    if spoken:
        wanted = [item.message_names[i] for i in spoken]
        found[spoken] = _by_name(item.topic, wanted, names, values, field)
    return found


def _joint_values(item: CommandGroup, types: Mapping[str, JointMessages], msg: Any, field: str) -> np.ndarray:
    """The message's values of `item.joints`, found by name or, where it has none, by place: float64 [len(joints)]."""
    if item.pose is not None:
        return _pose_values(item, item.pose, msg)
    names, values = _read(item, types, msg, field)
    if item.frame:
        _in_frame(item.topic, "twist", str(msg.header.frame_id), item.frame, item.name)
    return _in_order(item, values) if names is None else _by_name(item.topic, item.message_names, names, values, field)


def _in_frame(topic: str, what: str, said: str, frame: str, name: str) -> None:
    """Wrong where a message is not told in the `frame` that the robot file says of `name`."""
    if said.lstrip("/") != frame:
        said_in = f"in the frame {said!r}" if said else "without a frame (header.frame_id is empty)"
        raise MessageError(
            f"{topic}: the {what} comes {said_in}, the robot file says {frame!r}: correct `frame` of {name}, or let "
            f"its sender say it in {frame}"
        )


def _read(
    item: StateTopic | CommandGroup, types: Mapping[str, JointMessages], msg: Any, field: str
) -> tuple[Sequence[str] | None, Sequence[float]]:
    topic = item.topic
    if item.type not in types:
        raise MessageError(f"{topic}: messages of type {item.type} cannot be read here; known are {', '.join(types)}")
    try:
        return types[item.type].read(msg, field)
    except (AttributeError, TypeError) as error:
        raise MessageError(f"{topic}: the message is no {item.type} ({error}): correct the robot file") from error
    except InputError as error:
        raise MessageError(f"{topic}: {error}") from error


def _in_order(item: StateTopic | CommandGroup, values: Sequence[float]) -> np.ndarray:
    if len(values) != len(item.joints):
        expected = f"the robot file has {len(item.joints)} joints of it ({', '.join(item.joints)})"
        raise MessageError(f"{item.topic}: the message has {len(values)} values, {expected}")
    return _finite(item.topic, item.joints, np.array(values, np.float64))


def _by_name(
    topic: str, wanted: Sequence[str], names: Sequence[str], values: Sequence[float], field: str
) -> np.ndarray:
    if len(values) != len(names):
        raise MessageError(f"{topic}: the message has {len(names)} joint names and {len(values)} {field} values")
    where = {name: i for i, name in enumerate(names)}
    missing = [name for name in wanted if name not in where]
    if missing:
        raise MessageError(
            f"{topic}: joint {', '.join(map(repr, missing))} is missing; the message has {', '.join(names) or 'none'}: "
            "correct the names in the robot file or in the publisher"
        )
    return _finite(topic, wanted, np.array([values[where[name]] for name in wanted], np.float64))


def _finite(topic: str, names: Sequence[str], values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        bad = [f"{name!r} is {value}" for name, value in zip(names, values) if not np.isfinite(value)]
        raise MessageError(f"{topic}: joint {', '.join(bad)}")
    return values
