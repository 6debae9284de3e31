"""The message types that a robot file may name, and where the joints' numbers are in each: one table for all.

Nodes subscribe by these types, and robot file, live buffer and converter read by them. Messages are read by their
attributes alone, so DDS messages and messages from bags are read alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pi0_ros.base.errors import InputError

Found = tuple["Sequence[str] | None", "Sequence[float]"]  # joint names (None: in the robot file's order), a value each


@dataclass(frozen=True)
class JointMessages:
    """How one message type says something of joints."""

    read: Callable[[Any, str], Found]  # message, one of `fields`
    fields: tuple[str, ...] = ("position",)  # position is among them: controller and monitor go by it


def _joint_state(msg: Any, field: str) -> Found:
    return msg.name, getattr(msg, field)


def _trajectory(msg: Any, field: str) -> Found:
    if not msg.points:
        raise InputError("the trajectory has no point")
    return msg.joint_names, msg.points[0].positions


def _array(msg: Any, field: str) -> Found:
    return None, msg.data


CAMERA_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
STATE_TYPES = {"sensor_msgs/msg/JointState": JointMessages(_joint_state, ("position", "velocity", "effort"))}
TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"  # the one that can hold a whole plan
COMMAND_TYPES = {
    TRAJECTORY: JointMessages(_trajectory),  # its first point
    "std_msgs/msg/Float64MultiArray": JointMessages(_array),
    "sensor_msgs/msg/JointState": JointMessages(_joint_state),
}
