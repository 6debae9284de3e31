"""A hand that is commanded by twists (MoveIt Servo): what its robot file says, and what is refused."""

from __future__ import annotations

import re

import numpy as np
import pytest
from servoed_arm import SERVOED

from pi0_ros.base.errors import InputError
from pi0_ros.control.limits import joint_limits, limits_of
from pi0_ros.robot import RobotFileError, robot_from_yaml, robot_to_yaml
from pi0_ros.robot.words import explain


def test_its_speeds_are_moved_and_its_arm_is_seen() -> None:
    robot = robot_from_yaml(SERVOED, "servoed.yaml")
    assert robot_from_yaml(robot_to_yaml(robot), "again") == robot
    assert robot.moved.joint_names == robot.action_names == ("vx", "vy", "vz", "wx", "wy", "wz", "grip")
    assert robot.seen.joint_names == ("elbow", "wrist") and robot.commands[0].frame == "base_link"
    limits = limits_of(robot)
    assert limits.names == robot.action_names and limits.measured.tolist() == [False] * 6 + [True]
    assert joint_limits(robot.seen).names == ("elbow", "wrist")
    np.testing.assert_array_equal(robot.ages_of(("elbow", "grip", "vx")), [2.0, 2.0, np.inf])
    assert "in the frame base_link" in re.sub(r"\s+", " ", "\n".join(explain(robot)))


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("", "for 0.3 s, then it stands still; behind a pause of the controller of more than 0.2 s it begins at zero"),
        ("max_age_s: 0.1,", "for 0.1 s, then it stands still; behind a pause of the controller of more than 0.1 s"),
        ("hold: true,", "until the next; behind any pause of the controller it is braked from the last"),
    ],
)
def test_what_becomes_of_it_behind_a_pause_is_said(key: str, said: str) -> None:
    robot = robot_from_yaml(SERVOED.replace("{name: hand,", f"{{name: hand, {key}"), "servoed.yaml")
    text = re.sub(r"\s+", " ", "\n".join(explain(robot)))
    assert said in text and text.count("behind") == 1, "of the gripper nothing of the kind is said"


WRONG = {
    "no frame": (
        ", frame: base_link",
        "",
        "commands[0].frame: missing: linear.z is a hand's velocity: write the frame in which it is told",
    ),
    "no header": (
        "geometry_msgs/msg/TwistStamped",
        "geometry_msgs/msg/Twist",
        "commands[0].frame: a geometry_msgs/msg/Twist is read without a frame: remove it, or write the type geometry",
    ),
    "a slash": ("frame: base_link", "frame: /base_link", "commands[0].frame: frames have no slash in front since ROS"),
    "a frame of numbers": (
        "joints: [grip]}",
        "joints: [grip], frame: base_link}",
        "commands[1].frame: a std_msgs/msg/Float64MultiArray is read without a frame: remove it",
    ),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=list(WRONG))
def test_what_a_twist_cannot_be_is_refused(wrong: tuple[str, str, str]) -> None:
    before, after, sentence = wrong
    assert SERVOED.count(before) == 1
    with pytest.raises(RobotFileError) as caught:
        robot_from_yaml(SERVOED.replace(before, after), "servoed.yaml")
    found = [line for line in (str(caught.value), *caught.value.details.splitlines()) if sentence in line]
    assert found and re.match(r"servoed\.yaml:\d+: ", found[0].strip())


def test_a_place_that_is_moved_and_never_seen_is_not_for_the_controller() -> None:
    blind = SERVOED.replace(
        "kind: gripper, limits: {position: [0, 1], velocity: 5, acceleration: 50}",
        "kind: gripper, role: action, limits: {position: [0, 1], velocity: 5, acceleration: 50}",
    ).replace("joints: [elbow, wrist, grip]", "joints: [elbow, wrist]")
    with pytest.raises(InputError, match="grip is not in state and action both"):
        limits_of(robot_from_yaml(blind, "blind.yaml"))
