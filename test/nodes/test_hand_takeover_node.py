"""A person leads a hand by poses over real DDS, and hands back; a watcher judges every message."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hand import FRAME, STAMPED, hand_text

rclpy = pytest.importorskip("rclpy")
from conftest import Processes, wait_until  # noqa: E402
from geometry_msgs.msg import PoseStamped  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from spinning import spinning  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from test_hand_node import RATE, HandArm, judge, numbers  # noqa: E402

from pi0_ros.nodes import messages  # noqa: E402
from pi0_ros.robot import Robot, load_robot, rotations  # noqa: E402

pytestmark = pytest.mark.dds
JOINTS = "sensor_msgs/msg/JointState"
THERE = 0.02  # m and rad


class LedHand(HandArm):
    """A hand with a person beside it, who wants it at `wanted` while they lead."""

    def __init__(self, context: rclpy.Context, robot: Robot) -> None:
        super().__init__(context, robot)
        self.leads, self.in_charge = False, ""
        self.wanted = (np.array([0.3, -0.2, 0.1]), rotations.exp(np.array([0.5, -0.4, 1.0])))
        self._hand = self.create_publisher(PoseStamped, "/person/hand", 10)
        self._grip_wanted = self.create_publisher(JointState, "/person/gripper", 10)
        self.create_subscription(String, "pi0/in_charge", self._charged, messages.LATCHED)
        self.create_timer(0.04, self._lead)

    def _charged(self, message: String) -> None:
        self.in_charge = message.data

    def _lead(self) -> None:
        if not self.leads:
            return
        message = PoseStamped()
        message.header.stamp, message.header.frame_id = messages.seconds_to_stamp(time.time()), FRAME
        point, turn = message.pose.position, message.pose.orientation
        point.x, point.y, point.z = self.wanted[0].tolist()
        turn.x, turn.y, turn.z, turn.w = self.wanted[1].tolist()
        self._hand.publish(message)
        self._grip_wanted.publish(JointState(name=["gripper"], position=[0.2]))

    def is_there(self) -> bool:
        place, turn = numbers(self.heard[-1])
        off = np.linalg.norm(rotations.between(turn, self.wanted[1]))
        return bool(np.linalg.norm(place - self.wanted[0]) < THERE and off < THERE)


def test_a_person_leads_a_hand_by_poses_and_hands_back(
    ros_context: rclpy.Context, processes: Processes, tmp_path: Path
) -> None:
    file = tmp_path / "hand.yaml"
    topics = [
        {"topic": "/person/hand", "type": STAMPED},
        {"topic": "/person/gripper", "type": JOINTS, "joints": ["gripper"]},
    ]
    takeover = {"topics": topics, "begins": "commands", "timeout_s": 1.0}
    file.write_text(hand_text(rate=RATE, age_s=5.0, takeover=takeover))
    robot = load_robot(file)
    hand = LedHand(ros_context, robot)
    with spinning(ros_context, hand):
        processes.node("controller_node", robot=str(file), rearm_after_s=20.0, tracking_s=0.0)
        hand.chunks_go = True
        wait_until(hand.arm, 90.0, lambda: f"{hand.answer}; {processes.tail('controller_node')}")
        wait_until(lambda: hand.in_charge == "policy", 60.0, lambda: hand.state)
        hand.leads = True
        wait_until(lambda: hand.in_charge == "person", 60.0, lambda: hand.state)
        wait_until(hand.is_there, 90.0, lambda: f"{numbers(hand.heard[-1])}; {hand.state}")
        hand.leads = False
        wait_until(lambda: hand.in_charge == "policy", 60.0, lambda: hand.state)
        wait_until(lambda: not hand.is_there(), 60.0, lambda: hand.state)
        heard, record = list(hand.heard), list(hand.record)
    told = {messages.stamp_to_ns(message.header.stamp) for message in record}
    heard = [message for message in heard if messages.stamp_to_ns(message.header.stamp) in told]
    judged, worst = judge(robot, heard, sorted(told))
    assert judged > 60 and (worst <= 1 + 1e-6).all(), worst
    assert worst[0] > 0.05 and worst[2] > 0.05, "it did move and turn"
