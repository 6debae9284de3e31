"""Robot files with speeds: what they say, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from pi0_ros.control.limits import limits_of
from pi0_ros.robot import RobotFileError, load_robot, robot_from_yaml, robot_to_yaml

BASE = """
name: cart
control_rate_hz: 50
policy_rate_hz: 2
dataset_fps: 20
joints:
  - {name: mast, unit: m, kind: prismatic, limits: {position: [0, 1], velocity: 0.1, acceleration: 1}, action: relative}
  - {name: forward, unit: m/s, kind: speed, limits: {velocity: [-0.2, 0.5], acceleration: 0.4}, action: absolute}
  - {name: turn, unit: rad/s, kind: speed, limits: {velocity: 1.0, acceleration: 2.0, jerk: 9.0}, action: absolute}
cameras: [{name: front, topic: /image, type: sensor_msgs/msg/Image, slot: base_0_rgb, max_age_s: 0.2}]
state:
  - {topic: /mast, type: std_msgs/msg/Float64, max_age_s: 0.2, joints: [mast]}
  - {topic: /odom, type: nav_msgs/msg/Odometry, max_age_s: 0.2, joints: [forward, turn], names: [linear.x, angular.z]}
commands:
  - {name: mast, topic: /mast/command, type: std_msgs/msg/Float64MultiArray, joints: [mast]}
  - {name: base, topic: /cmd_vel, type: geometry_msgs/msg/Twist, joints: [forward, turn], names: [linear.x, angular.z]}
action: {source: command, max_age_s: 0.3}
"""
STATE_NAMES = "max_age_s: 0.2, joints: [forward, turn], names: [linear.x, angular.z]}"
COMMAND_NAMES = "Twist, joints: [forward, turn], names: [linear.x, angular.z]}"


def test_a_speed_is_limited_in_velocity_acceleration_and_jerk() -> None:
    robot = robot_from_yaml(BASE, "cart.yaml")
    assert robot.speed_mask.tolist() == [False, True, True] and not robot.relative_mask[1:].any()
    np.testing.assert_array_equal(robot.lower, [0.0, -0.2, -1.0])
    np.testing.assert_array_equal(robot.upper, [1.0, 0.5, 1.0])
    np.testing.assert_array_equal(robot.velocity, [0.1, 0.4, 2.0])  # of speeds: how fast they change
    np.testing.assert_allclose(robot.acceleration, [1.0, 4.0, 9.0])  # and this; without jerk whole in 0.1 s
    assert [item.speeds for item in robot.state] == [item.speeds for item in robot.commands] == [False, True]
    assert robot.speed_topics == {"/cmd_vel"} and robot.state[1].is_position and robot.state[1].field == "velocity"
    assert limits_of(robot).speed.tolist() == [False, True, True]
    assert robot_from_yaml(robot_to_yaml(robot), "again") == robot


def test_the_mobile_robot_has_arms_a_lift_and_a_base() -> None:
    robot = load_robot("mobile_bimanual")
    kinds = [joint.kind for joint in robot.joints]
    assert [kinds.count(kind) for kind in ("revolute", "gripper", "prismatic", "speed")] == [12, 2, 1, 2]
    assert len(robot.cameras) == 3 and robot.speed_topics == {"/base_controller/cmd_vel"}


WRONG = {
    "relative": (
        "jerk: 9.0}, action: absolute",
        "jerk: 9.0}, action: relative",
        "joints[2].action: a speed is a velocity already, and relative to no place: write absolute",
    ),
    "unit of a place": (
        "unit: m/s",
        "unit: m",
        "joints[1].unit: a speed joint is not measured in m: write m/s",
    ),
    "position limits": (
        "limits: {velocity: 1.0,",
        "limits: {position: [0, 1], velocity: 1.0,",
        "joints[2].limits.position: unknown key",
    ),
    "no zero": (
        "[-0.2, 0.5]",
        "[0.1, 0.5]",
        "joints[1].limits.velocity: [0.1, 0.5] has no 0 in it: it could not stand still",
    ),
    "a twist for places": (
        "type: std_msgs/msg/Float64MultiArray, joints: [mast]",
        "type: geometry_msgs/msg/Twist, joints: [mast]",
        "commands[0].type: a geometry_msgs/msg/Twist says speeds, and mast is a place: write the kind speed",
    ),
    "positions for speeds": (
        COMMAND_NAMES,
        COMMAND_NAMES.replace(", names: [linear.x, angular.z]", ""),
        "commands[1].names: a geometry_msgs/msg/Twist has no 'forward': write for each of forward, turn one of linear",
    ),
    "a part that is none": (
        STATE_NAMES,
        STATE_NAMES.replace("linear.x", "linear.w"),
        "state[1].names[0]: a nav_msgs/msg/Odometry has no 'linear.w': write for each of forward, turn one of linear.x",
    ),
    "a trajectory of speeds": (
        "geometry_msgs/msg/Twist",
        "trajectory_msgs/msg/JointTrajectory",
        "commands[1].type: a trajectory_msgs/msg/JointTrajectory says places, and forward is a speed: write geometry",
    ),
    "the position of wheels": (
        "type: nav_msgs/msg/Odometry",
        "type: sensor_msgs/msg/JointState",
        "state[1].field: forward is a speed, not a position: write velocity",
    ),
    "one entry for both": (
        "joints: [forward, turn], names: [linear.x, angular.z]}\naction",
        "joints: [forward, turn, mast], names: [linear.x, angular.z, linear.y]}\naction",
        "commands[1].joints: forward is a speed, mast is none: write an entry for each kind, with its `joints`",
    ),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=list(WRONG))
def test_what_a_speed_cannot_be_is_refused(wrong: tuple[str, str, str]) -> None:
    before, after, sentence = wrong
    assert BASE.count(before) == 1
    with pytest.raises(RobotFileError) as caught:
        robot_from_yaml(BASE.replace(before, after), "cart.yaml")
    assert any(sentence in line for line in (str(caught.value), *caught.value.details.splitlines()))
    assert str(caught.value).startswith("cart.yaml:")
