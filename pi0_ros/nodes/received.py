"""Messages from anybody, measured before they are read: a hostile or broken one must not keep a tick waiting.

Reading a message makes Python objects of all it holds, and nothing else runs meanwhile. So what may be large is
subscribed to as bytes (`raw=True`), and only what is small enough becomes a message.
"""

from __future__ import annotations

import struct
from typing import Any

from rclpy.serialization import deserialize_message
from trajectory_msgs.msg import JointTrajectory

from pi0_ros.base.foreign import MAX_CHUNK_BYTES, MAX_JOINTS, MAX_POINTS, MAX_STATE_BYTES
from pi0_ros.control.chunk import ChunkError
from pi0_ros.nodes.messages import message_class, stamp_to_ns
from pi0_ros.observation.joint_messages import MessageError, leading_header
from pi0_ros.robot import StateTopic

HEADER = 4  # bytes before the data: how it is encoded


def read_chunk(data: bytes) -> JointTrajectory:
    """The JointTrajectory in serialised `data`; `ChunkError` for one that is too large or cannot be read."""
    if len(data) > MAX_CHUNK_BYTES:
        raise ChunkError(f"the message has {len(data)} bytes, at most {MAX_CHUNK_BYTES} are read")
    try:
        joints, points = trajectory_counts(data)
    except struct.error:
        raise ChunkError("the message ends before its points begin") from None
    for count, what, most in ((joints, "joint names", MAX_JOINTS), (points, "points", MAX_POINTS)):
        if count > most:
            raise ChunkError(f"the message has {count} {what}, at most {most} are read")
    return _message(data, JointTrajectory, ChunkError)


def read_state(data: bytes, item: StateTopic) -> Any:
    """The message in serialised `data` of a state topic; `MessageError` for one too large or that cannot be read."""
    if len(data) > MAX_STATE_BYTES:
        raise MessageError(f"{item.topic}: a message has {len(data)} bytes, at most {MAX_STATE_BYTES} are read")
    return _message(data, message_class(item.type), MessageError)


def state_stamp_ns(item: StateTopic, message: Any, received_ns: int) -> int:
    """When the state in `message` was measured, ns: less by its delay than its stamp, or than its arrival where it has
    none or the robot file says that this counts."""
    return (own_stamp_ns(item, message) or received_ns) - round(item.latency_s * 1e9)


def own_stamp_ns(item: StateTopic, message: Any) -> int:
    """The stamp that `message` bears, ns; 0 where it has none or the robot file says that its arrival counts."""
    header = None if item.stamp == "arrival" else leading_header(message)
    return 0 if header is None else stamp_to_ns(header.stamp)


def trajectory_counts(data: bytes) -> tuple[int, int]:
    """(joint names, points) that a serialised JointTrajectory says it holds (OMG CDR); at most one name too many is
    looked at. struct.error where it ends too early."""
    order = "<" if data[1:2] and data[1] & 1 else ">"
    at = HEADER + 8  # behind header.stamp

    def number(at: int) -> tuple[int, int]:
        """A count at or soon behind `at`, and where what is counted begins."""
        at += -(at - HEADER) % 4
        return int(struct.unpack_from(f"{order}I", data, at)[0]), at + 4

    length, at = number(at)  # of header.frame_id
    names, at = number(at + length)
    if names > MAX_JOINTS:
        return names, 0
    for _ in range(names):
        length, at = number(at)
        at += length
    return names, number(at)[0]


def _message(data: bytes, kind: Any, error: type[ValueError]) -> Any:
    try:
        return deserialize_message(data, kind)
    except Exception as problem:  # whatever the middleware raises for bytes that are no message
        raise error(f"the message cannot be read: {problem}") from None
