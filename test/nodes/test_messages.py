"""Messages to numpy and back."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy")
from builtin_interfaces.msg import Duration, Time
from chunks import chunk_of
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from pi0_ros.control.chunk import ChunkError
from pi0_ros.nodes import messages

NAMES = ("yaw", "elbow", "gripper")
CHUNK = chunk_of(1.7e9 + 0.25, 0.05, np.random.default_rng(0).standard_normal((24, 3)), NAMES)


def test_a_chunk_survives_the_wire():
    wire = serialize_message(messages.chunk_to_message(CHUNK))
    chunk = messages.chunk_from_message(deserialize_message(wire, JointTrajectory), NAMES)
    np.testing.assert_array_equal(chunk.actions, CHUNK.actions)
    assert (chunk.stamp_ns, chunk.dt_ns) == (CHUNK.stamp_ns, CHUNK.dt_ns)
    assert chunk.names == NAMES


def test_joints_are_found_by_name():
    order = ("gripper", "yaw", "elbow")
    chunk = messages.chunk_from_message(messages.chunk_to_message(CHUNK), order)
    np.testing.assert_array_equal(chunk.actions, CHUNK.actions[:, [2, 0, 1]])


def spoil(**changes: object) -> JointTrajectory:
    message = messages.chunk_to_message(CHUNK)
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def test_chunks_that_are_refused_say_why():
    short = JointTrajectoryPoint(positions=[0.0, 0.0], time_from_start=Duration(nanosec=50_000_000))
    good = messages.chunk_to_message(CHUNK).points
    nan = JointTrajectoryPoint(positions=[0.0, float("nan"), 0.0], time_from_start=Duration(nanosec=50_000_000))
    for message, why in (
        (spoil(joint_names=["yaw", "knee", "gripper"]), "unknown joints: knee; missing joints: elbow"),
        (spoil(joint_names=["yaw", "elbow"]), "missing joints: gripper"),
        (spoil(joint_names=["yaw", "elbow", "gripper", "yaw"]), "repeated joints: yaw"),
        (spoil(points=[good[0], short]), r"\[2, 3\] positions, expected 3"),
        (spoil(points=good[:1]), "needs at least 2"),
        (spoil(points=[good[0], nan]), "NaN or infinity for elbow"),
        (spoil(points=[good[0], good[0]]), "time_from_start"),
        (spoil(points=[good[0], good[1], good[3]]), "time_from_start"),
        (spoil(points=good[1:]), "time_from_start"),
    ):
        with pytest.raises(ChunkError, match=why):
            messages.chunk_from_message(message, NAMES)


def test_a_zero_stamp_means_the_receive_time():
    message = messages.chunk_to_message(CHUNK)
    message.header.stamp = Time()
    assert messages.chunk_from_message(message, NAMES, receive_ns=12).stamp_ns == 12
    with pytest.raises(ChunkError, match=r"header\.stamp is zero"):
        messages.chunk_from_message(message, NAMES)


def test_stamps():
    stamp = Time(sec=1_700_000_000, nanosec=123_456_789)
    assert messages.stamp_to_ns(stamp) == 1_700_000_000_123_456_789
    assert messages.ns_to_stamp(1_700_000_000_123_456_789) == stamp
    assert (
        abs(
            messages.stamp_to_ns(messages.seconds_to_stamp(messages.stamp_to_seconds(stamp)))
            - 1_700_000_000_123_456_789
        )
        < 500
    )
    assert messages.seconds_to_duration(1.999999999).sec == 1


def test_types_by_name():
    assert messages.message_class("sensor_msgs/msg/JointState") is JointState
    for kind in ("no_such_msgs/msg/Thing", "sensor_msgs/msg/Thing"):
        with pytest.raises(ValueError, match=f"{kind} is not installed"):
            messages.message_class(kind)


def test_diagnostics():
    values = {"state": "RUNNING", "chunks": 3, "tick_p50_ms": 0.01234567}
    status = messages.diagnostic_status("controller", DiagnosticStatus.OK, "fine", values, "demo_arm")
    array = messages.diagnostic_array(Time(sec=1), [status])
    assert array.status[0].name == "pi0_ros: controller"
    assert messages.diagnostic_values(status) == {"state": "RUNNING", "chunks": "3", "tick_p50_ms": "0.0123457"}
