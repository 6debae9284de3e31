"""Command messages of every type, refilled in place, in the units of their topic."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy")
from builtin_interfaces.msg import Duration, Time
from conftest import wait_until
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.serialization import deserialize_message, serialize_message

from pi0_ros.control.states import Command
from pi0_ros.nodes.command_output import CommandMessage, CommandOutput
from pi0_ros.nodes.messages import message_class
from pi0_ros.observation.joint_messages import decode_command
from pi0_ros.robot import CommandGroup, load_robot
from pi0_ros.robot.message_types import COMMAND_TYPES, POSE_TYPES
from pi0_ros.robot.types import Pose

STAMP = Time(sec=5, nanosec=7)
HAND = {"names": ("arm", "finger"), "scale": (1.0, -0.08), "offset": (0.0, 0.08)}  # 0 .. 1 is sent as 0.08 m .. 0 m


def group(kind: str, **more: tuple) -> CommandGroup:
    return CommandGroup("arm", "/arm", kind, ("a", "grip"), **more)


@pytest.mark.parametrize("kind", COMMAND_TYPES)
def test_commands_of_every_type_are_refilled_and_read_back(kind):
    parts = {"names": ("linear.x", "angular.z")} if COMMAND_TYPES[kind].parts else {}
    for item in (group(kind, **parts), group(kind, **(HAND | parts))):
        message = CommandMessage(item, 0.02)
        for position in ([0.1, 0.25], [-0.3, 1.0]):
            filled = message.fill(np.array(position), np.array([1.0, 2.0]), STAMP)
            received = deserialize_message(serialize_message(filled), message_class(kind))
            np.testing.assert_allclose(decode_command(item, received), position, atol=1e-15)


def test_a_trajectory_is_one_point_with_velocities_to_be_reached_after_a_period_from_now():
    item = group("trajectory_msgs/msg/JointTrajectory", **HAND)
    message = CommandMessage(item, 0.02).fill(np.array([0.1, 0.25]), np.array([1.0, 2.0]), STAMP)
    (point,) = message.points
    assert message.header.stamp == Time(), "zero: begin now"
    assert list(message.joint_names) == ["arm", "finger"]
    assert list(point.positions) == pytest.approx([0.1, 0.06]) and list(point.velocities) == pytest.approx([1.0, -0.16])
    assert point.time_from_start == Duration(nanosec=20_000_000)


def test_a_joint_state_is_stamped_and_an_array_holds_positions():
    position, velocity = np.array([0.1, 0.25]), np.array([1.0, 2.0])
    state = CommandMessage(group("sensor_msgs/msg/JointState", **HAND), 0.02).fill(position, velocity, STAMP)
    assert state.header.stamp == STAMP and list(state.name) == ["arm", "finger"]
    assert list(state.velocity) == pytest.approx([1.0, -0.16])
    array = CommandMessage(group("std_msgs/msg/Float64MultiArray", **HAND), 0.02).fill(position, velocity, STAMP)
    assert list(array.data) == pytest.approx([0.1, 0.06])


@pytest.mark.parametrize("kind", POSE_TYPES)
def test_a_pose_is_refilled_in_its_frame_and_read_back(kind):
    pose = Pose("hand", "base_link", "axis_angle")
    item = CommandGroup("hand", "/hand", kind, pose.entries, pose=pose)
    message, before = CommandMessage(item, 0.02), None
    for angle in np.linspace(2.5, 4.0, 12):  # beyond a half turn
        filled = message.fill(np.array([0.1, 0.2, 0.3, 0.0, angle, 0.0]), np.zeros(6), STAMP)
        received = deserialize_message(serialize_message(filled), message_class(kind))
        turn = getattr(received, "pose", received).orientation
        now = np.array([turn.x, turn.y, turn.z, turn.w])
        np.testing.assert_allclose(decode_command(item, received)[:3], [0.1, 0.2, 0.3], atol=1e-15)
        np.testing.assert_allclose(np.abs(now), np.abs([0.0, np.sin(angle / 2), 0.0, np.cos(angle / 2)]), atol=1e-12)
        assert before is None or now @ before > 0.99, "q and -q do not change places"
        before = now
    if kind == POSE_TYPES[0]:
        assert received.header.frame_id == "base_link" and received.header.stamp == STAMP


def test_what_a_twist_has_no_joint_of_is_zero_and_a_stamped_one_is_stamped():
    item = group("geometry_msgs/msg/TwistStamped", names=("linear.y", "angular.z"), scale=(-1.0, 2.0), speeds=True)
    message = CommandMessage(item, 0.02).fill(np.array([0.1, 0.25]), np.array([1.0, 2.0]), STAMP)
    assert message.header.stamp == STAMP
    linear, angular = message.twist.linear, message.twist.angular
    assert [linear.x, linear.y, linear.z, angular.x, angular.y, angular.z] == [0.0, -0.1, 0.0, 0.0, 0.0, 0.5]


@pytest.mark.dds
def test_what_brakes_a_base_alone_goes_to_the_base_alone(ros_context):
    robot = load_robot("mobile_bimanual")
    node, heard = Node("output", context=ros_context), []
    output = CommandOutput(node, robot)
    for group in robot.commands:
        node.create_subscription(
            message_class(group.type), group.topic, lambda message, name=group.name: heard.append(name), 10
        )
    zeros = np.zeros(len(robot.joints))
    brake = Command(zeros, zeros, zeros, alone=robot.speed_mask)
    assert not output.publish(brake, 1.0, lambda: False)[-2:].any()
    executor = SingleThreadedExecutor(context=ros_context)
    executor.add_node(node)

    def is_heard() -> bool:
        assert output.publish(brake, 1.0).all()
        executor.spin_once(timeout_sec=0.05)
        return len(heard) > 3

    wait_until(is_heard, 30.0, "a command")
    assert set(heard) == {"base"}
    executor.shutdown()
    node.destroy_node()


def test_an_unknown_command_type():
    with pytest.raises(ValueError, match="expected one of"):
        CommandMessage(group("std_msgs/msg/String"), 0.02)


@pytest.mark.dds
def test_groups_that_would_be_too_late_are_not_sent_and_said_to_be_so(ros_context):
    robot = load_robot("aloha")
    assert len(robot.commands) > 1
    node = Node("output", context=ros_context)
    output, asked = CommandOutput(node, robot), []
    zeros = np.zeros(len(robot.joints))

    def in_time_once() -> bool:
        asked.append(True)
        return len(asked) == 1

    sent = output.publish(Command(zeros, zeros, zeros), 1.0, in_time_once)
    assert sorted(np.flatnonzero(sent)) == sorted(robot.indices(robot.commands[0].joints))
    assert not output.publish(Command(zeros, zeros, zeros), 1.0, lambda: False).any()
    assert output.publish(Command(zeros, zeros, zeros), 1.0).all()
    node.destroy_node()
