"""The simulated arm's readings as ROS messages: one code for the live simulator and for recordings made in process."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
from sensor_msgs.msg import CameraInfo, Image, JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from pi0_ros.bags.mcap_writer import TYPESTORE
from pi0_ros.nodes.messages import ns_to_stamp
from pi0_ros.sim.world import JOINTS


def image_message(pixels: np.ndarray, frame: str, stamp_ns: int) -> Image:
    """A picture uint8 RGB [H, W, 3] in the coordinate frame `frame`."""
    message = Image(height=pixels.shape[0], width=pixels.shape[1], encoding="rgb8", step=pixels.strides[0])
    message.header.stamp = ns_to_stamp(stamp_ns)
    message.header.frame_id = frame
    message.data.frombytes(pixels.reshape(-1))
    return message


def camera_info(focal: float, side: int) -> CameraInfo:
    """Of a pinhole camera without distortion, its square picture `side` pixels wide, looking along its middle."""
    middle = (side - 1) / 2  # pixel 0 is at 0
    matrix = [focal, 0.0, middle, 0.0, focal, middle, 0.0, 0.0, 1.0]
    info = CameraInfo(height=side, width=side, distortion_model="plumb_bob", d=[0.0] * 5, k=matrix)
    info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    info.p = [*matrix[:3], 0.0, *matrix[3:6], 0.0, *matrix[6:], 0.0]
    return info


def joint_message(positions: np.ndarray, velocities: np.ndarray, stamp_ns: int) -> JointState:
    """Measured positions and velocities, [6] each."""
    message = JointState(name=list(JOINTS))
    message.header.stamp = ns_to_stamp(stamp_ns)
    message.position = positions.tolist()
    message.velocity = velocities.tolist()
    return message


def command_message(command: np.ndarray, stamp_ns: int) -> JointTrajectory:
    """A command [6] that answers the joint state of `stamp_ns`."""
    points = [JointTrajectoryPoint(positions=command.tolist())]
    message = JointTrajectory(joint_names=list(JOINTS), points=points)
    message.header.stamp = ns_to_stamp(stamp_ns)
    return message


def to_cdr(message: Any, kind: str) -> bytes:
    """The bytes that DDS would deliver; rclpy's own serialisation leaves a few unwritten ones at the end."""
    return bytes(TYPESTORE.serialize_cdr(_plain(message), kind))


def _plain(value: Any) -> Any:
    """A message of rclpy as one of the bag reader's."""
    if hasattr(value, "get_fields_and_field_types"):
        kind = f"{type(value).__module__.split('.')[0]}/msg/{type(value).__name__}"
        fields = value.get_fields_and_field_types()
        return TYPESTORE.types[kind](**{name: _plain(getattr(value, name)) for name in fields})
    if isinstance(value, array):
        return np.asarray(value)
    return [_plain(item) for item in value] if isinstance(value, list) else value
