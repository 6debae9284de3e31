"""Arming asks what the doctor asks: red findings refuse, each can be waived by name, and never unseen."""

from __future__ import annotations

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")
from rclpy.node import Node  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy  # noqa: E402
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
            arming.heard(ROBOT.state[0], Arrival(100.0 + number / hears, HOME))
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


@pytest.mark.parametrize("rate_hz", [30.0, 50.0, 200.0, 1000.0])
def test_stamps_that_cannot_be_right_refuse(rate_hz: float, ros_context) -> None:
    node = Node("controller", context=ros_context)
    times = np.arange(0.0, 4.0, 1.0 / rate_hz)

    def problems(ages: np.ndarray, waive: str = "", position: np.ndarray = HOME) -> list[str]:
        arming = Arming(node, ROBOT, [], waive)
        for at, age in zip(times, ages):
            arming.heard(ROBOT.state[0], Arrival(at, position, round((1e9 + at) * 1e9), age))
        return arming.problems(HOME)

    right = 0.01 + 0.005 * np.random.default_rng(0).random(len(times))
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
    some = np.where(np.arange(len(HOME)) < 3, HOME, np.nan)
    assert problems(back, position=some) == [], "two drivers with joints of their own stamp apart"
    node.destroy_node()


def test_joint_states_that_leap_to_and_fro_refuse(ros_context) -> None:
    """Two publishers that say the same, or joints of their own, are no harm; nor is any motion."""
    node = Node("controller", context=ros_context)

    def problems(places: list[np.ndarray], waive: str = "", rate_hz: float = 100.0) -> list[str]:
        arming = Arming(node, ROBOT, [], waive)
        for number, place in enumerate(places):
            arming.heard(ROBOT.state[0], Arrival(number / rate_hz, place))
        return arming.problems(HOME)

    other = HOME + np.array([0.0, 0.4, 0.0, 0.0, 0.0, 0.0])
    (text,) = problems([HOME, other] * 20)
    assert "shoulder leap" in text and "waive:=leaps" in text and ROBOT.state[0].topic in text
    assert problems([HOME, other] * 20, "leaps") == []
    assert problems([HOME, HOME] * 20) == problems([HOME, other] * 20, rate_hz=9.0) == []
    some = np.where(np.arange(len(HOME)) < 3, HOME, np.nan), np.where(np.arange(len(HOME)) < 3, np.nan, HOME)
    assert problems([*some] * 20) == []
    swing = [HOME + 0.3 * np.sin(2 * np.pi * 1.5 * number / 100.0) for number in range(60)]
    assert problems(swing) == []
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
