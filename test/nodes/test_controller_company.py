"""The controller process beside others: publishers, controllers, policies, whoever calls for a stop; over real DDS."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")
from chunks import chunk_of  # noqa: E402
from controlled_arm import NAMES, arm, assert_within_limits, moving, robot_file, start, start_chunks  # noqa: E402, F401
from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
from std_msgs.msg import Bool, Float64MultiArray  # noqa: E402
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint  # noqa: E402

from pi0_ros.launching.launches import ros_arguments  # noqa: E402
from pi0_ros.nodes import messages  # noqa: E402

pytestmark = pytest.mark.dds


def test_another_publisher_of_a_command_topic_is_yielded_to(arm, start, processes, robot_file, wait_until):  # noqa: F811
    start()
    start_chunks(processes, arm)
    rival = arm.create_publisher(JointTrajectory, "/arm/yaw", 1)
    refused = lambda: "/arm/yaw has another publisher (/arm)" in arm.arm().message  # noqa: E731
    wait_until(refused, 60.0, lambda: arm.status.message)
    assert not arm.sent
    arm.destroy_publisher(rival)
    wait_until(lambda: arm.arm().success, 60.0, lambda: arm.status.message)
    wait_until(lambda: arm.state == "RUNNING" and moving(arm), 60.0, lambda: arm.status.message)
    rival = arm.create_publisher(Float64MultiArray, "/arm/elbow", 1)
    wait_until(lambda: arm.state == "DISARMED", 60.0, lambda: arm.status.message)
    assert arm.status.level == DiagnosticStatus.ERROR and "/arm/elbow has another publisher" in arm.status.message
    wait_until(lambda: not np.any(arm.sent[-1].points[0].velocities), 60.0, "rest")
    assert_within_limits(arm, robot_file)
    assert arm.trigger("reset").success, "which acknowledges the fault"
    wait_until(lambda: arm.status.level != DiagnosticStatus.ERROR, 60.0, lambda: arm.status.message)


def test_a_second_controller_of_the_same_name_lets_neither_arm(arm, start, processes, robot_file, wait_until):  # noqa: F811
    start()
    start_chunks(processes, arm)
    wait_until(lambda: arm.arm().success, 60.0, lambda: arm.status.message)
    wait_until(lambda: arm.state == "RUNNING", 60.0, lambda: arm.status.message)
    arguments = ros_arguments({"robot": str(robot_file), "tracking_s": 0.0})
    processes.start("second", [sys.executable, "-m", "pi0_ros.nodes.controller_node", *arguments])
    yielded = lambda: "DISARMED: /arm" in (out := processes.output("controller_node")) or "another node" in out  # noqa: E731
    wait_until(yielded, 60.0, "a hold")
    refused = lambda: "another node /controller" in arm.arm().message  # noqa: E731
    wait_until(refused, 60.0, "a reason")
    silent = lambda: time.time() - messages.stamp_to_seconds(arm.sent[-1].header.stamp) > 2.0  # noqa: E731
    wait_until(silent, 60.0, "silence of both")
    assert_within_limits(arm, robot_file)


def test_armed_by_itself_it_waits_for_a_chunk_that_can_be_followed(arm, start, robot_file, wait_until):  # noqa: F811
    start(auto_arm=True)
    waits = lambda: arm.says("DISARMED", "auto_arm waits for: a chunk of the policy")  # noqa: E731
    wait_until(waits, 60.0, lambda: arm.status.message)
    arm.send(time.time() - 60.0, np.zeros(3))
    arm.send(time.time(), np.zeros(3), joint_names=["yaw", "knee", "gripper"])
    wait_until(lambda: arm.says("last chunk trouble", "knee"), 60.0, lambda: arm.status.message)
    assert arm.state == "DISARMED" and not arm.sent, "what cannot be followed arms nothing"

    def followed() -> bool:
        arm.send(time.time(), np.array([0.3, 0.0, 0.0]))
        return arm.state == "RUNNING"

    wait_until(followed, 60.0, lambda: arm.status.message)
    assert arm.values()["auto_arm"] == "off"
    assert arm.arm(False).success
    wait_until(lambda: arm.state == "DISARMED", 60.0, lambda: arm.status.message)
    arm.send(time.time(), np.zeros(3))
    time.sleep(0.5)
    assert arm.state == "DISARMED", "once"
    assert_within_limits(arm, robot_file)


def test_armed_by_itself_it_does_not_wait_for_ever(arm, processes, robot_file, wait_until):  # noqa: F811
    """Whoever starts a policy an hour later does not expect the robot to move."""
    given = {"auto_arm": True, "auto_arm_timeout_s": 1.0, "tracking_s": 0.0}
    processes.node("controller_node", robot=str(robot_file), **given)
    gave_up = lambda: arm.says("DISARMED", "auto_arm gave up after 1 s", "call ~/arm")  # noqa: E731
    wait_until(gave_up, 60.0, lambda: arm.status.message)
    assert arm.status.level == DiagnosticStatus.WARN
    for _ in range(5):
        arm.send(time.time(), np.array([0.3, 0.0, 0.0]))
        time.sleep(0.1)
    assert gave_up() and not arm.sent
    wait_until(lambda: arm.arm().success, 60.0, lambda: arm.status.message)
    wait_until(lambda: arm.state == "IDLE" and "auto_arm" not in arm.status.message, 60.0, lambda: arm.status.message)


def test_the_latched_stop_reaches_every_controller_also_later_ones(arm, start, processes, robot_file, wait_until):  # noqa: F811
    start(auto_arm=True)
    start_chunks(processes, arm)
    wait_until(lambda: arm.state == "RUNNING" and moving(arm), 60.0, lambda: arm.status.message)
    button = arm.create_publisher(Bool, "pi0/estop", messages.LATCHED)
    button.publish(Bool(data=True))
    wait_until(lambda: arm.state == "STOPPED", 60.0, lambda: arm.status.message)
    assert "emergency stop by /pi0/estop" in arm.status.message
    answer = arm.trigger("reset")
    assert not answer.success and "/pi0/estop still says stop" in answer.message
    assert not arm.arm().success
    assert_within_limits(arm, robot_file)
    processes.stop("controller_node")
    arm.status = DiagnosticStatus()
    start()
    wait_until(lambda: arm.state == "STOPPED", 60.0, lambda: arm.status.message)
    button.publish(Bool(data=False))
    wait_until(lambda: arm.trigger("reset").success, 60.0, lambda: arm.status.message)
    heard: list[bool] = []
    arm.create_subscription(Bool, "pi0/estop", lambda message: heard.append(message.data), messages.LATCHED)
    wait_until(lambda: heard, 60.0, "the button's last word, which must not come after the service's")
    assert arm.trigger("estop").success
    wait_until(lambda: heard[-1], 60.0, "the service says so on the topic, to the others")
    assert arm.trigger("reset").success
    wait_until(lambda: not heard[-1], 60.0, "and takes it back")
    wait_until(lambda: arm.arm().success, 60.0, lambda: arm.status.message)


def test_a_plain_publisher_stops_it_too(arm, start, wait_until):  # noqa: F811
    """As `ros2 topic pub --once pi0/estop` is one, and most buttons."""
    start()
    wait_until(lambda: arm.count_subscribers("pi0/estop") > 1, 60.0, "both ears")
    plain = arm.create_publisher(Bool, "pi0/estop", 1)
    wait_until(lambda: plain.get_subscription_count() > 0, 60.0, "a listener")
    plain.publish(Bool(data=True))
    wait_until(lambda: arm.state == "STOPPED", 60.0, lambda: arm.status.message)
    assert not arm.trigger("reset").success
    plain.publish(Bool(data=False))
    wait_until(lambda: arm.trigger("reset").success, 60.0, lambda: arm.status.message)
    for _ in range(2):  # the service's own echo is no press of somebody else
        assert arm.trigger("estop").success
        wait_until(lambda: arm.state == "STOPPED", 60.0, lambda: arm.status.message)
        time.sleep(0.3)
        assert arm.trigger("reset").success
    plain.publish(Bool(data=True))
    wait_until(lambda: arm.state == "STOPPED", 60.0, lambda: arm.status.message)


@pytest.mark.parametrize("what", ["names", "points"])
def test_no_message_silences_the_emergency_stop(arm, start, processes, robot_file, wait_until, what):  # noqa: F811
    start(armed=True, chunk_timeout_s=600.0)
    wait_until(lambda: arm.state == "IDLE", 60.0, lambda: arm.status.message)
    far = messages.chunk_to_message(chunk_of(time.time(), 0.2, np.tile([0.9, 0.0, 0.0], (900, 1)), NAMES))
    arm.chunks.publish(far)
    wait_until(lambda: arm.state == "RUNNING", 60.0, lambda: arm.status.message)
    huge = JointTrajectory(joint_names=list(NAMES))
    huge.header.stamp = messages.seconds_to_stamp(time.time())
    if what == "names":
        huge.joint_names = [f"joint_{i}" for i in range(30_000)]
    else:
        huge.points = [JointTrajectoryPoint()] * 1_000_000
    arm.chunks.publish(huge)
    began = time.monotonic()
    assert arm.trigger("estop").success
    assert time.monotonic() - began < 10.0  # it was twenty, on a machine that had nothing else to do
    wait_until(lambda: arm.state == "STOPPED", 60.0, lambda: arm.status.message)
    most = "at most 256 are read" if what == "names" else "bytes, at most"
    wait_until(lambda: most in processes.output("controller_node"), 60.0, lambda: arm.status.message)
    assert_within_limits(arm, robot_file)
