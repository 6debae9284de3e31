"""Arming asks what the doctor asks: red findings refuse, each can be waived by name, and never unseen."""

from __future__ import annotations

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")
from rclpy.node import Node  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from trajectory_msgs.msg import JointTrajectory  # noqa: E402

from pi0_ros.base.errors import InputError  # noqa: E402
from pi0_ros.control.limits import limits_of  # noqa: E402
from pi0_ros.launching.parameters import table  # noqa: E402
from pi0_ros.nodes.arming import CHECKS, Arming, Arrival  # noqa: E402
from pi0_ros.robot import load_robot  # noqa: E402

pytestmark = pytest.mark.dds
ROBOT = load_robot("demo_arm")
HOME = np.array([0.1, 0.2, 1.0, 0.5, 0.0, 0.0])
DEGREES = np.array([5.0, 12.0, 57.0, 30.0, 0.0, 0.0])


def test_red_findings_refuse_and_are_waived_by_name(ros_context, wait_until) -> None:
    node, driver = (Node(name, context=ros_context) for name in ("controller", "driver"))
    topic = ROBOT.commands[0].topic
    node.create_publisher(JointTrajectory, topic, 1)
    asks = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)

    def problems(position: np.ndarray, waive: str = "", hears: float = 50.0) -> list[str]:
        arming = Arming(node, ROBOT, [topic], waive)
        for number in range(20):  # as if it had come at this rate
            arming.heard(ROBOT.state[0], Arrival(100.0 + number / hears))
        return arming.problems(position)

    assert problems(HOME) == []
    (text,) = problems(DEGREES)
    assert "degrees" in text and "scale: 57.29578" in text and "waive:=units" in text
    assert problems(DEGREES, "units") == []
    (text,) = problems(HOME, hears=4.0)
    assert "4.0 Hz" in text and "waive:=rate" in text
    assert problems(HOME, "rate qos", hears=4.0) == []
    driver.create_subscription(JointTrajectory, topic, lambda message: None, asks)
    wait_until(lambda: problems(HOME), 30.0, "the listener is found")
    (text,) = problems(HOME)
    assert "/driver hears no command" in text and "TRANSIENT_LOCAL" in text and "waive:=qos" in text
    assert problems(HOME, "qos") == []
    for each in (node, driver):
        each.destroy_node()


def test_stamps_that_cannot_be_right_refuse(ros_context) -> None:
    node = Node("controller", context=ros_context)
    times = np.arange(100) / 50.0

    def problems(ages: np.ndarray, waive: str = "") -> list[str]:
        arming = Arming(node, ROBOT, [], waive)
        for at, age in zip(times, ages):
            arming.heard(ROBOT.state[0], Arrival(at, round((1e9 + at) * 1e9), age))
        return arming.problems(HOME)

    right = 0.01 + 0.005 * np.random.default_rng(0).random(100)
    assert problems(right) == problems(0.0 * right) == problems(0.12 + right) == []
    back = np.where(times % 0.5 < 0.1, right + 0.4, right)
    for ages, said in (
        (right - 3.0, "2.99 s in the future"),
        (times + 0.01, "stand still"),
        (right + 0.3 * times, "fall behind by 0.30 s each second"),
        (back, "leap back"),
    ):
        (text,) = problems(ages)
        assert said in text and ROBOT.state[0].topic in text and "waive:=clock" in text
        assert problems(ages, "clock") == []
    node.destroy_node()


def test_a_second_publisher_of_whole_joint_states_refuses(ros_context, wait_until) -> None:
    """Two drivers with joints of their own on one topic are as they should be."""
    topic = ROBOT.state[0].topic
    nodes = [Node(name, context=ros_context) for name in ("controller", "driver", "copy")]

    def problems(whole: bool, waive: str = "") -> list[str]:
        arming = Arming(nodes[0], ROBOT, [], waive)
        for number in range(20):
            arming.heard(ROBOT.state[0], Arrival(number / 50.0, whole=whole))
        return arming.problems(HOME)

    nodes[1].create_publisher(JointState, topic, 1)
    wait_until(lambda: nodes[0].count_publishers(topic) == 1, 30.0, "the driver is found")
    assert problems(whole=True) == []
    nodes[2].create_publisher(JointState, topic, 1)
    wait_until(lambda: nodes[0].count_publishers(topic) == 2, 30.0, "its copy is found")
    (text,) = problems(whole=True)
    assert "/copy, /driver" in text and "waive:=publishers" in text
    assert problems(whole=False) == problems(whole=True, waive="publishers") == []
    for node in nodes:
        node.destroy_node()


def test_limits_are_waived_for_finding_joints_only() -> None:
    limits = limits_of(ROBOT)
    waived = Arming(None, ROBOT, [], "limits").limits(limits)  # type: ignore[arg-type]
    assert np.isinf(waived.outside).all() and (waived.upper == limits.upper).all()
    assert (Arming(None, ROBOT, [], "").limits(limits).outside == limits.outside).all()  # type: ignore[arg-type]


def test_an_unknown_name_is_refused_and_all_are_in_the_parameter() -> None:
    with pytest.raises(InputError, match="no check nonsense; there are limits, units"):
        Arming(None, ROBOT, [], "limits nonsense")  # type: ignore[arg-type]
    assert all(name in table("controller")["waive"].text for name in CHECKS)
