"""A hand driven by poses over real DDS: chunks in, PoseStamped out, and a watcher that judges every message."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hand import COMMAND, FRAME, STATE, hand_text, path, vectors

rclpy = pytest.importorskip("rclpy")
from conftest import wait_until  # noqa: E402
from geometry_msgs.msg import PoseStamped  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.qos import QoSProfile  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from spinning import spinning  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from std_srvs.srv import SetBool  # noqa: E402
from trajectory_msgs.msg import JointTrajectory  # noqa: E402

from pi0_ros.control.chunk import ActionChunk  # noqa: E402
from pi0_ros.control.limits import limits_of  # noqa: E402
from pi0_ros.nodes import messages  # noqa: E402
from pi0_ros.robot import Robot, load_robot, rotations  # noqa: E402

pytestmark = pytest.mark.dds
RATE = 20.0  # a busy machine keeps it
STALL = 3.5  # periods without a command: the hand may have come to rest


class HandArm(Node):
    """The robot's side: a hand that is where it was told to be, a policy that leads it along `path`, and the ears."""

    def __init__(self, context: rclpy.Context, robot: Robot) -> None:
        super().__init__("hand", context=context)
        self.robot, self.state, self.frame = robot, "", FRAME
        self.place, self.turn = (values[0] for values in path(0, np.zeros(1)))
        self.finger, self.chunks_go, self.began = 0.5, False, time.time()
        self.heard: list[PoseStamped] = []
        self.record: list[JointTrajectory] = []
        self._pose = self.create_publisher(PoseStamped, STATE, 10)
        self._fingers = self.create_publisher(JointState, "/gripper/state", 10)
        self._chunks = self.create_publisher(JointTrajectory, "pi0/chunk", messages.LATEST)
        self.create_subscription(PoseStamped, COMMAND, self._told, 500)
        self.create_subscription(JointState, "/gripper/command", self._grip, 50)
        self.create_subscription(JointTrajectory, "pi0/command", self.record.append, QoSProfile(depth=500))
        self.create_subscription(String, "pi0/state", self._says, messages.LATCHED)
        self._arm = self.create_client(SetBool, "/controller/arm")
        self.create_timer(0.03, self._speak)
        self.create_timer(0.25, self._predict)
        self.answer = ""

    def arm(self) -> bool:
        call = self._arm.call_async(SetBool.Request(data=True))
        end = time.monotonic() + 20.0
        while not call.done() and time.monotonic() < end:
            time.sleep(0.02)
        self.answer = call.result().message if call.done() else "no answer"
        return bool(call.done() and call.result().success)

    def _told(self, message: PoseStamped) -> None:
        self.heard.append(message)
        self.place, self.turn = numbers(message)

    def _grip(self, message: JointState) -> None:
        self.finger = float(message.position[0])

    def _says(self, message: String) -> None:
        self.state = message.data

    def _speak(self) -> None:
        stamp = messages.seconds_to_stamp(time.time())
        message = PoseStamped()
        message.header.stamp, message.header.frame_id = stamp, self.frame
        point, turn = message.pose.position, message.pose.orientation
        point.x, point.y, point.z = self.place.tolist()
        turn.x, turn.y, turn.z, turn.w = (-self.turn).tolist()  # the other sign: one rotation
        fingers = JointState(name=["gripper"], position=[self.finger])
        fingers.header.stamp = stamp
        self._pose.publish(message)
        self._fingers.publish(fingers)

    def _predict(self) -> None:
        if self.chunks_go:
            now = time.time()
            times = now - self.began + 0.05 * np.arange(40)
            actions = vectors(self.robot, *path(0, times), 0.5)
            chunk = ActionChunk(round(now * 1e9), 50_000_000, actions, self.robot.joint_names)
            self._chunks.publish(messages.chunk_to_message(chunk))


def numbers(message: PoseStamped) -> tuple[np.ndarray, np.ndarray]:
    point, turn = message.pose.position, message.pose.orientation
    return np.array([point.x, point.y, point.z]), np.array([turn.x, turn.y, turn.z, turn.w])


def judge(robot: Robot, heard: list[PoseStamped], sent_ns: list[int]) -> tuple[int, np.ndarray]:
    """(pairs of neighbours judged, the worst of speed, acceleration, turn, its change) as fractions of the limits.

    A hand goes one period's way per command. `sent_ns`: the stamps of all commands, of those that were not heard, too:
    they are periods that passed unseen. Behind a stall the hand may begin from rest.
    """
    limits, period = limits_of(robot), 1.0 / RATE
    places, turns = (np.array(values) for values in zip(*map(numbers, heard)))
    assert (np.abs(np.linalg.norm(turns, axis=1) - 1) < 1e-9).all()
    assert (np.sum(turns[1:] * turns[:-1], axis=1) > 0).all(), "q and -q do not change places"
    number = {stamp: n for n, stamp in enumerate(sent_ns)}
    index = [number[messages.stamp_to_ns(message.header.stamp)] for message in heard]
    stalled = np.diff(sent_ns) * 1e-9 > STALL * period
    worst, judged = np.zeros(4), 0
    for part, (ways, at) in enumerate(
        ((np.diff(places, axis=0), 0), (rotations.between(turns[:-1], turns[1:]), 3)),
    ):
        before = np.zeros(3)
        for way, first, last in zip(ways, index, index[1:]):
            speed = way / ((last - first) * period)
            worst[2 * part] = max(worst[2 * part], np.linalg.norm(speed) / limits.velocity[at])
            starts = [before, np.zeros(3)] if stalled[first:last].any() else [before]
            change = min(float(np.linalg.norm(speed - start)) for start in starts) / period
            worst[2 * part + 1] = max(worst[2 * part + 1], change / (last - first) / limits.acceleration[at])
            before, judged = speed, judged + 1
    return judged, worst


def test_a_policy_leads_a_hand_within_its_limits(ros_context, processes, tmp_path: Path) -> None:
    file = tmp_path / "hand.yaml"
    file.write_text(hand_text(rate=RATE, age_s=5.0))
    robot = load_robot(file)
    hand = HandArm(ros_context, robot)
    with spinning(ros_context, hand):
        hand.frame = "world"
        processes.node("controller_node", robot=str(file), rearm_after_s=20.0, tracking_s=0.0)
        hand.chunks_go = True
        refused = lambda: not hand.arm() and "the pose comes in the frame 'world'" in hand.answer  # noqa: E731
        wait_until(refused, 90.0, lambda: f"{hand.answer}; {processes.tail('controller_node')}")
        assert not hand.heard
        hand.frame = FRAME
        wait_until(hand.arm, 60.0, lambda: hand.answer)
        wait_until(lambda: len(hand.heard) > 6 * RATE, 120.0, lambda: f"{len(hand.heard)} poses; {hand.state}")
        there = path(0, np.array([time.time() - hand.began]))
        hand.chunks_go = False
        wait_until(lambda: hand.state == "HOLDING", 60.0, lambda: hand.state)
        wait_until(lambda: np.array_equal(*(numbers(m)[0] for m in hand.heard[-2:])), 60.0, "it comes to rest")
        heard, record = list(hand.heard), list(hand.record)
    told = {messages.stamp_to_ns(m.header.stamp): m.points[0].positions for m in record}
    heard = [message for message in heard if messages.stamp_to_ns(message.header.stamp) in told]
    judged, worst = judge(robot, heard, sorted(told))
    assert judged > 200 and (worst <= 1 + 1e-6).all(), worst
    assert worst[0] > 0.05 and worst[2] > 0.05, "it did move and turn"
    assert {message.header.frame_id for message in heard} == {FRAME}
    assert (
        np.linalg.norm(numbers(heard[-1])[0] - there[0][0]) < 2.0 and len({numbers(m)[0].tobytes() for m in heard}) > 50
    )
    for message in heard:  # pi0/command says the same, as the vectors hold it
        entries = told[messages.stamp_to_ns(message.header.stamp)]
        place, turn = numbers(message)
        expected = vectors(robot, place[None], turn[None], entries[-1])[0]
        np.testing.assert_allclose(np.array(entries), expected, atol=1e-9)
