"""The message types that a robot file may name, and where the joints' numbers are in each: one table for all.

Nodes subscribe by these types, and robot file, live buffer and converter read by them. Messages are read by their
attributes alone, so DDS messages and messages from bags are read alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from pi0_ros.base.errors import InputError

Found = tuple["Sequence[str] | None", "Sequence[float]"]  # joint names (None: in the robot file's order), a value each


@dataclass(frozen=True)
class JointMessages:
    """How one message type says something of joints."""

    read: Callable[[Any, str], Found]  # message, one of `fields`
    fields: tuple[str, ...] = ("position",)  # the usual first: controller and monitor go by position, or by speeds
    named: bool = True  # its messages hold the joints' names
    parts: tuple[str, ...] = ()  # what its messages have for names where these are always the same
    speeds: bool = False  # it says speeds, and nothing else


def _joint_state(msg: Any, field: str) -> Found:
    return msg.name, getattr(msg, field)


def _trajectory(msg: Any, field: str) -> Found:
    if not msg.points:
        raise InputError("the trajectory has no point")
    return msg.joint_names, msg.points[0].positions


def _array(msg: Any, field: str) -> Found:
    return None, msg.data


def _number(msg: Any, field: str) -> Found:
    return None, [msg.data]


def _controller_state(msg: Any, field: str) -> Found:
    measured = msg.feedback if hasattr(msg, "feedback") else msg.actual  # Humble's name
    return msg.joint_names, {"position": measured.positions, "velocity": measured.velocities}[field]


def _twist(msg: Any, field: str) -> Found:
    return TWIST_PARTS, [msg.linear.x, msg.linear.y, msg.linear.z, msg.angular.x, msg.angular.y, msg.angular.z]


def _stamped_twist(msg: Any, field: str) -> Found:
    return _twist(msg.twist, field)


def _odometry(msg: Any, field: str) -> Found:
    return _twist(msg.twist.twist, field)


TWIST_PARTS = ("linear.x", "linear.y", "linear.z", "angular.x", "angular.y", "angular.z")
TWIST, TWIST_STAMPED = "geometry_msgs/msg/Twist", "geometry_msgs/msg/TwistStamped"
POSE_ARRAY, TF, ODOMETRY = "geometry_msgs/msg/PoseArray", "tf2_msgs/msg/TFMessage", "nav_msgs/msg/Odometry"
CAMERA_TYPES = (
    "sensor_msgs/msg/Image",
    "sensor_msgs/msg/CompressedImage",  # a picture, or one of an H.264 or H.265 stream
    "ffmpeg_image_transport_msgs/msg/FFMPEGPacket",
    "foxglove_msgs/msg/CompressedVideo",
)
STATE_TYPES = {
    "sensor_msgs/msg/JointState": JointMessages(_joint_state, ("position", "velocity", "effort")),
    "std_msgs/msg/Float64MultiArray": JointMessages(_array, named=False),
    "std_msgs/msg/Float32MultiArray": JointMessages(_array, named=False),
    "std_msgs/msg/Float64": JointMessages(_number, named=False),
    "std_msgs/msg/Float32": JointMessages(_number, named=False),
    "control_msgs/msg/JointTrajectoryControllerState": JointMessages(_controller_state, ("position", "velocity")),
    ODOMETRY: JointMessages(_odometry, ("velocity",), parts=TWIST_PARTS, speeds=True),  # and a pose: `poses.py`
    TWIST: JointMessages(_twist, ("velocity",), parts=TWIST_PARTS, speeds=True),
    TWIST_STAMPED: JointMessages(_stamped_twist, ("velocity",), parts=TWIST_PARTS, speeds=True),
}
TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"  # the one that can hold a whole plan
COMMAND_TYPES = {
    TRAJECTORY: JointMessages(_trajectory),  # its first point
    "std_msgs/msg/Float64MultiArray": JointMessages(_array, named=False),
    "sensor_msgs/msg/JointState": JointMessages(_joint_state),
    TWIST: JointMessages(_twist, ("velocity",), parts=TWIST_PARTS, speeds=True),
    TWIST_STAMPED: JointMessages(_stamped_twist, ("velocity",), parts=TWIST_PARTS, speeds=True),
}
POSE_TYPES = ("geometry_msgs/msg/PoseStamped", "geometry_msgs/msg/Pose")  # of state and command; the first has a frame
SEVERAL_POSES = {POSE_ARRAY: "index", TF: "child"}  # of state; the key that says which of a message's poses is meant
POSE_STATE_TYPES = (  # covariances are passed over
    *POSE_TYPES,
    "geometry_msgs/msg/PoseWithCovarianceStamped",
    "geometry_msgs/msg/PoseWithCovariance",
)


# ---- any other type, by the path of a field

TYPE_PATTERN = re.compile(r"[A-Za-z]\w*/msg/[A-Za-z]\w*")
_STEP = r"[A-Za-z_]\w*(?:\[(?:\d+|\d*:\d*)\])?"
PATH_PATTERN = re.compile(rf"{_STEP}(?:\.{_STEP})*")


def is_state_field(kind: str, field: str) -> bool:
    """Whether the table says what `field` of a type is; else it is a path such as `fingers[0:6].angle`."""
    return kind in STATE_TYPES and field in STATE_TYPES[kind].fields


def values_along(msg: Any, path: str) -> list[float]:
    """The numbers at `path` in a message: of arrays all, or what [i] or [i:j] takes. `InputError` where it leads
    nowhere."""
    found = [msg]
    for name, one, part in _steps(path):
        found = [_field(item, name, path) for item in found]
        if one is not None:
            found = [_entry(item, one, name, path) for item in found]
        elif part is not None:
            found = [entry for item in found for entry in _entries(item, name, path)[part]]
        else:
            found = [entry for item in found for entry in (item if _is_array(item) else [item])]
    try:
        return [float(value) for value in found]
    except (TypeError, ValueError):
        raise InputError(f"{path} holds no numbers: name the field of {type(found[0]).__name__} to take") from None


@cache
def _steps(path: str) -> tuple[tuple[str, int | None, slice | None], ...]:
    """(field, index or None, slice or None) for each step of a path."""
    steps = []
    for step in path.split("."):
        name, _, inside = step.rstrip("]").partition("[")
        ends = [int(end) if end else None for end in inside.split(":")] if inside else []
        steps.append((name, ends[0] if len(ends) == 1 else None, slice(*ends) if len(ends) == 2 else None))
    return tuple(steps)


def _is_array(value: Any) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, str)


def _field(msg: Any, name: str, path: str) -> Any:
    try:
        return getattr(msg, name)
    except AttributeError:
        pass
    slots = [slot.lstrip("_") for slot in getattr(msg, "__slots__", ())]  # of ROS's classes
    known = [slot for slot in slots if slot != "check_fields"] or [key for key in vars(msg) if key[:1] != "_"]
    raise InputError(f"{path} leads nowhere: {type(msg).__name__} has no field {name!r}; it has {', '.join(known)}")


def _entries(value: Any, name: str, path: str) -> Any:
    if not _is_array(value):
        raise InputError(f"{path} leads nowhere: {name} is no array, so it has no [ ]")
    return value


def _entry(value: Any, index: int, name: str, path: str) -> Any:
    entries = _entries(value, name, path)
    if index >= len(entries):
        raise InputError(f"{path} leads nowhere: {name} has {len(entries)} entries in this message")
    return entries[index]
