"""Messages are measured before they are read, and no bytes at all are trusted."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rclpy")
from builtin_interfaces.msg import Time
from chunks import chunk_of
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import serialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from pi0_ros.control.chunk import ChunkError
from pi0_ros.nodes.messages import chunk_from_message, chunk_to_message
from pi0_ros.nodes.received import read_chunk, read_state, state_stamp_ns, trajectory_counts
from pi0_ros.observation.joint_messages import MessageError
from pi0_ros.robot import StateTopic

STATE = StateTopic("/arm/joint_states", "sensor_msgs/msg/JointState", ("a",), 0.1)


@settings(max_examples=60)
@given(
    st.text(max_size=9).filter(lambda text: "\0" not in text),
    st.lists(st.text(max_size=7).filter(lambda text: "\0" not in text), max_size=20),
    st.integers(0, 50),
)
def test_counts_are_what_the_message_holds(frame, names, points):
    message = JointTrajectory(joint_names=names, points=[JointTrajectoryPoint(positions=[1.0])] * points)
    message.header.frame_id = frame
    assert trajectory_counts(serialize_message(message)) == (len(names), points)


def test_a_chunk_comes_through():
    chunk = chunk_of(7.0, 0.05, np.random.default_rng(0).uniform(-1, 1, (24, 3)), ("a", "bc", "d"))
    read = chunk_from_message(read_chunk(serialize_message(chunk_to_message(chunk))), chunk.names)
    np.testing.assert_array_equal(read.actions, chunk.actions)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (JointTrajectory(joint_names=["j"] * 30_000), "30000 joint names, at most 256"),
        (JointTrajectory(joint_names=["j"], points=[JointTrajectoryPoint()] * 100_000), "100000 points, at most 1000"),
        (JointTrajectory(points=[JointTrajectoryPoint(positions=[0.0] * 600_000)]), "at most 4194304 are read"),
    ],
)
def test_what_is_too_large_is_refused_at_once(message, said):
    data = serialize_message(message)
    began = time.thread_time()
    with pytest.raises(ChunkError, match=said):
        read_chunk(data)
    assert time.thread_time() - began < 0.01  # of its own, whatever else the machine does


@settings(max_examples=300)
@given(st.binary(max_size=300), st.integers(0, 200))
def test_bytes_that_are_no_message_are_an_error_and_nothing_else(data, cut):
    whole = serialize_message(chunk_to_message(chunk_of(7.0, 0.05, np.zeros((3, 2)), ("a", "b"))))
    for made in (b"\0\1\0\0" + data, whole[:cut], whole[:cut] + data):
        with contextlib.suppress(ChunkError):
            chunk_from_message(read_chunk(made), ("a", "b"), 1.0)
        with contextlib.suppress(MessageError):
            read_state(made, STATE)


def test_a_joint_state_that_is_too_large_names_its_topic():
    with pytest.raises(MessageError, match="/arm/joint_states: a message has .* bytes, at most 65536"):
        read_state(serialize_message(JointState(name=["j"] * 20_000)), STATE)


def test_a_state_is_as_old_as_the_robot_file_has_it():
    message = JointState()
    message.header.stamp = Time(sec=3, nanosec=5)
    assert state_stamp_ns(STATE, message, 7) == 3_000_000_005
    assert state_stamp_ns(replace(STATE, stamp="arrival"), message, 7) == 7, "when it arrives"
    assert state_stamp_ns(STATE, Float64MultiArray(), 7) == 7, "it does not say"
    late = replace(STATE, latency_s=0.5)
    assert state_stamp_ns(late, message, 7) == 2_500_000_005
    assert state_stamp_ns(late, Float64MultiArray(), 2_000_000_000) == 1_500_000_000
