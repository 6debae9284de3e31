"""Who may lead, as `pi0 robot new` proposes it: a comment that is right when its `# ` is taken away."""

from __future__ import annotations

import re

import numpy as np
import pytest

from pi0_ros.control.joystick import read_sticks
from pi0_ros.robot import Robot, robot_from_yaml
from pi0_ros.robot.evidence import JOY, JointFacts, TopicFacts, Track
from pi0_ros.robot.proposal import Wishes, propose

STAMPED, STATES = "geometry_msgs/msg/PoseStamped", "sensor_msgs/msg/JointState"
TWIST, TWIST_STAMPED = "geometry_msgs/msg/Twist", "geometry_msgs/msg/TwistStamped"
TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"
ARM = [JointFacts(name, "revolute", -1.0, 1.0) for name in ("a", "b")]
GRIPPER = [JointFacts("gripper", "prismatic", 0.0, 0.08)]


def heard(topic: str, kind: str, values: dict[str, float] | None = None, **more: object) -> TopicFacts:
    """A topic on which something moved about these values."""
    facts = TopicFacts(topic, kind, count=50, first_s=0.0, last_s=1.0, **more)  # type: ignore[arg-type]
    for name, value in (values or {}).items():
        track = facts.tracks[name] = Track()
        for t in np.arange(0.0, 1.0, 0.05):
            track.take(float(t), value + 0.2 * float(np.sin(3.0 * t)))
    return facts


def joints_heard(topic: str, *names: str) -> TopicFacts:
    return heard(topic, STATES, dict.fromkeys(names, 0.0), numbers=len(names))


def listened(topic: str, kind: str, **more: object) -> TopicFacts:
    return TopicFacts(topic, kind, listeners=("/controller",), **more)  # type: ignore[arg-type]


def uncommented(text: str) -> str:
    """The file with what is proposed about a takeover in force: `# ` is taken from every line."""
    head, begin, proposed = text.partition("# takeover:")
    return f"{head}takeover:" + "\n".join(line.removeprefix("# ") for line in proposed.split("\n")) if begin else text


def proposed(joints: list[JointFacts], *topics: TopicFacts) -> tuple[Robot, str]:
    """The robot whose people may lead, and the file's text."""
    text = propose(joints, topics, Wishes(name="any")).text
    assert robot_from_yaml(text, "proposed").takeover.topics == (), "nothing is in force"
    return robot_from_yaml(uncommented(text), "uncommented"), text


POSED = (
    listened("/target_pose", STAMPED),
    heard("/tcp_pose", STAMPED, {"x": 0.4, "y": 0.0, "z": 0.3}, frame="base"),
    joints_heard("/joint_states", "gripper"),
    listened("/gripper/commands", STATES),
)
SERVOED = (
    heard("/servo_node/delta_twist_cmds", TWIST_STAMPED, {"linear.x": 0.0, "angular.z": 0.0}, frame="base"),
    joints_heard("/joint_states", "a", "b"),
)
JOINTED = (joints_heard("/joint_states", "a", "b"), listened("/arm/joint_trajectory", TRAJECTORY))
DRIVEN = (
    *JOINTED,
    listened("/cmd_vel", TWIST),
    heard("/odom", "nav_msgs/msg/Odometry", {"linear.x": 0.1, "angular.z": 0.1}),
)
ROBOTS = {
    "joints": (ARM, JOINTED),
    "poses": (GRIPPER, POSED),
    "twists": (ARM, SERVOED),
    "a base beside joints": (ARM, DRIVEN),
}
PEOPLE = {
    "a leader arm": joints_heard("/leader/joint_states", "a", "b", "gripper"),
    "a leader's gripper": joints_heard("/leader/gripper", "gripper"),
    "a teleoperation's poses": heard("/teleop/pose", STAMPED, {"x": 0.4, "y": 0.0, "z": 0.3}, frame="base"),
    "poses in another frame": heard("/vr/right", STAMPED, {"x": 0.4, "y": 0.0, "z": 0.3}, frame="world"),
    "a SpaceMouse": heard("/spacenav/twist", TWIST, {"linear.x": 0.3, "angular.z": 0.1}),
    "a SpaceMouse with a frame": heard("/spacenav/twist", TWIST_STAMPED, {"linear.x": 0.3}, frame="base"),
    "a teleoperated base": heard("/teleop/cmd_vel", TWIST, {"linear.x": 0.3, "angular.z": 0.1}),
    "a gamepad": heard("/joy", JOY, numbers=6),
    "a SpaceMouse's joystick": heard("/spacenav/joy", JOY, numbers=6),
}


@pytest.mark.parametrize("person", PEOPLE.values(), ids=list(PEOPLE))
@pytest.mark.parametrize(("joints", "robot_topics"), ROBOTS.values(), ids=list(ROBOTS))
def test_whoever_is_heard_beside_whatever_robot_the_comment_is_right_when_it_is_taken_away(
    joints: list[JointFacts], robot_topics: tuple[TopicFacts, ...], person: TopicFacts
) -> None:
    alone = robot_from_yaml(propose(joints, robot_topics, Wishes(name="any")).text, "alone")
    robot, text = proposed(joints, *robot_topics, person)
    for key in ("joint_names", "commands", "state"):
        assert getattr(robot, key) == getattr(alone, key), "a person's topic is none of the robot's"
    if "takeover:" in text:
        assert {joint for item in robot.takeover.topics for joint in item.joints} == set(robot.action_names)
    if person.type == JOY:
        assert all(item.topic.startswith("/person/") for item in robot.takeover.topics)
        axes = re.search(r'-p axes:="(.+)" -p', text)
        assert axes is not None and len(read_sticks(axes[1], "", robot.moved)) > 0
        assert ("-r joy:=/spacenav/joy" in text) == (person.topic != "/joy")


def test_nobody_heard_nothing_proposed() -> None:
    for joints, topics in ROBOTS.values():
        assert "takeover" not in propose(joints, topics, Wishes(name="any")).text


def test_each_part_of_a_robot_gets_the_person_who_speaks_of_it() -> None:
    robot, text = proposed(GRIPPER, *POSED, *(PEOPLE[key] for key in ("poses in another frame", "a leader's gripper")))
    assert {item.topic for item in robot.takeover.topics} == {"/vr/right", "/leader/gripper"}
    assert "/vr/right  # in world, to be said in base: another frame is refused" in text
    robot, text = proposed(
        GRIPPER, *POSED, *(PEOPLE[key] for key in ("poses in another frame", "a teleoperation's poses"))
    )
    assert [item.topic for item in robot.takeover.topics] == ["/to_be_found/person/joints", "/teleop/pose"]
    assert "/to_be_found/person/joints  # nobody was heard who says it" in text
    robot, text = proposed(GRIPPER, *POSED, PEOPLE["a leader's gripper"], PEOPLE["a gamepad"])
    assert {item.topic for item in robot.takeover.topics} == {"/person/hand", "/person/joints"}, "it speaks on all"
    _, text = proposed(GRIPPER, *POSED, PEOPLE["a SpaceMouse"])
    assert "/spacenav/twist says how fast, but hand is led by poses" in text
    robot, text = proposed(ARM, *SERVOED, PEOPLE["a SpaceMouse"], PEOPLE["a gamepad"])
    (item,) = robot.takeover.topics
    assert (item.topic, item.names) == ("/spacenav/twist", ("linear.x", "angular.z")) and item.speeds
    robot, text = proposed(ARM, *DRIVEN, PEOPLE["a leader arm"], PEOPLE["a teleoperated base"])
    assert [item.topic for item in robot.takeover.topics] == ["/leader/joint_states", "/teleop/cmd_vel"]
    assert "to_be_found" not in text


def test_two_leader_arms_lead_their_own_arms_each() -> None:
    both = [JointFacts(f"{side}_{n}", "revolute", -1.0, 1.0) for side in ("left", "right") for n in range(2)]
    names = {side: [fact.name for fact in both if fact.name.startswith(side)] for side in ("left", "right")}
    topics = [joints_heard("/joint_states", *names["left"], *names["right"])]
    topics += [listened(f"/{side}/joint_trajectory", TRAJECTORY, joints_told=tuple(names[side])) for side in names]
    topics += [joints_heard(f"/{side}_leader/joint_states", *names[side]) for side in names]
    robot, _ = proposed(both, *topics)
    assert [(item.topic, list(item.joints)) for item in robot.takeover.topics] == [
        (f"/{side}_leader/joint_states", names[side]) for side in names
    ]
