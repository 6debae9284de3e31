"""A person corrects a hand that a policy leads, by poses and by twists, over real DDS: recorded, converted, trained on.

Policy, controller and recorder are processes of their own. Every frame's author is judged by when the person spoke, and
every action by what the robot heard.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import Processes, wait_until
from hand import FRAME, STAMPED, hand_text
from servoed_arm import SERVOED

rclpy = pytest.importorskip("rclpy")
from geometry_msgs.msg import PoseStamped, TwistStamped  # noqa: E402
from handovers import Moment  # noqa: E402
from rclpy.node import Node  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from spinning import spinning  # noqa: E402
from std_msgs.msg import Float64MultiArray, String  # noqa: E402
from std_srvs.srv import SetBool, Trigger  # noqa: E402
from test_any_robot import CONFIG, checkpoint_of, dimensions, pi0  # noqa: E402
from test_hand_node import HandArm  # noqa: E402
from test_servoed_hand import Arm  # noqa: E402

from pi0_ros.conversion.convert import convert  # noqa: E402
from pi0_ros.conversion.options import Options  # noqa: E402
from pi0_ros.datasets.dataset import Dataset  # noqa: E402
from pi0_ros.nodes import messages  # noqa: E402
from pi0_ros.observation.joint_messages import pose_numbers  # noqa: E402
from pi0_ros.robot import Robot, robot_from_yaml, rotations  # noqa: E402

pytestmark = [pytest.mark.dds, pytest.mark.slow]
TWIST, ARRAY, JOINTS = "geometry_msgs/msg/TwistStamped", "std_msgs/msg/Float64MultiArray", "sensor_msgs/msg/JointState"
PARTS = [f"{part}.{axis}" for part in ("linear", "angular") for axis in "xyz"]
SPEEDS = ["vx", "vy", "vz", "wx", "wy", "wz"]
TIMEOUT_S, UNSURE_S, BREAK_S = 0.6, 0.2, 1.0
TAKEOVERS = 2


def posed() -> str:
    """A hand that is commanded by poses; a person's first one takes over."""
    topics = [
        {"topic": "/person/hand", "type": STAMPED},
        {"topic": "/person/gripper", "type": JOINTS, "joints": ["gripper"]},
    ]
    takeover = {"topics": topics, "begins": "commands", "timeout_s": TIMEOUT_S}
    return hand_text(rate=20.0, age_s=5.0, takeover=takeover, cameras=[])


def twisted() -> str:
    """A hand that is told twists; a person leads while their switch is on."""
    topics = [
        {"topic": "/person/hand", "type": TWIST, "frame": FRAME, "joints": SPEEDS, "names": PARTS},
        {"topic": "/person/gripper", "type": ARRAY, "joints": ["grip"]},
    ]
    takeover = {"topics": topics, "begins": "switch", "timeout_s": TIMEOUT_S}
    return yaml.safe_dump({**yaml.safe_load(SERVOED), "takeover": takeover}, sort_keys=False)


def numbers_of(robot: Robot, message: Any) -> np.ndarray:
    """What a message tells the robot, as its vectors have it."""
    if isinstance(message, PoseStamped):
        point, turn = message.pose.position, message.pose.orientation
        place = np.array([point.x, point.y, point.z])
        return np.asarray(pose_numbers(robot.poses[0], place, np.array([turn.x, turn.y, turn.z, turn.w])))
    if isinstance(message, TwistStamped):
        return np.array([getattr(getattr(message.twist, p.split(".")[0]), p[-1]) for p in PARTS])
    return np.array(message.data if isinstance(message, Float64MultiArray) else message.position)


class Person(Node):
    """Arms, records, leads while `leads`, and hears what the robot hears."""

    def __init__(self, context: rclpy.Context, robot: Robot) -> None:
        super().__init__("person", context=context)
        self.robot, self.leads, self.in_charge = robot, False, ""
        self.breaks: list[float] = []  # s: the lead was interrupted, by a stall of a busy machine
        self.moments: list[Moment] = []
        self.heard: list[tuple[float, np.ndarray]] = []  # what the hand was told: stamp in s, numbers
        self.grips: list[float] = []
        self._first_said = 0.0
        for group in robot.commands:
            hand = group.pose is not None or group.speeds
            told = partial(self._on_command, hand)
            self.create_subscription(messages.message_class(group.type), group.topic, told, 500)
        self._says = [
            self.create_publisher(messages.message_class(group.type), group.topic, 10)
            for group in robot.takeover.topics
        ]
        self.create_subscription(String, "pi0/in_charge", self._charged, messages.LATCHED)
        self.create_timer(0.04, self._lead)

    def wanted(self) -> tuple[np.ndarray, np.ndarray]:
        """A place and a quaternion, or how fast along and about; and not still."""
        swing = np.sin(2.0 * time.time())
        if self.robot.poses:
            place = np.array([0.3, -0.2, 0.1]) + 0.05 * swing
            return place, rotations.exp(np.array([0.5, -0.4 + 0.1 * swing, 0.8]))
        return np.array([0.1, 0.05 * swing, 0.0]), np.array([0.0, 0.3, 0.2 * swing])

    def ask(self, name: str, on: bool | None = None) -> str:
        """ "" where it was done, else why not."""
        kind, request = (Trigger, Trigger.Request()) if on is None else (SetBool, SetBool.Request(data=on))
        client = self.create_client(kind, name)
        assert client.wait_for_service(timeout_sec=60.0), name
        answer = client.call_async(request)
        wait_until(answer.done, 60.0, name)
        self.destroy_client(client)
        return "" if answer.result().success else str(answer.result().message)

    def lead(self, seconds: float, says: Callable[[], str]) -> None:
        """Take over for so long, and hand back."""
        switched = self.robot.takeover.begins == "switch"
        began = time.time()
        self.leads = True
        if switched:
            wait_until(lambda: not self.ask("controller/takeover", True), 30.0, says)
        wait_until(lambda: self.in_charge == "person", 60.0, says)
        on = began, time.time()
        time.sleep(seconds)
        ends = time.time()
        if switched:
            assert not self.ask("controller/takeover", False)
        self.leads = False
        wait_until(lambda: self.in_charge != "person", 60.0, says)
        self.moments.append(Moment(on, (ends, time.time())))
        wait_until(lambda: self.in_charge == "policy", 60.0, says)

    def _charged(self, message: String) -> None:
        if self.leads and self.in_charge == "person" != message.data:
            self.breaks.append(time.time())
        self.in_charge = message.data

    def _lead(self) -> None:
        if not self.leads:
            return
        first, second = self.wanted()
        fingers = 0.5 + 0.3 * float(np.sin(2.0 * time.time()))  # a gripper follows when the person has moved theirs
        if self.robot.poses:
            hand, grip = PoseStamped(), JointState(name=["gripper"], position=[fingers])
            for part, values in ((hand.pose.position, first), (hand.pose.orientation, second)):
                for name, value in zip("xyzw", values.tolist()):
                    setattr(part, name, value)
        else:
            hand, grip = TwistStamped(), Float64MultiArray(data=[fingers])
            for part, values in ((hand.twist.linear, first), (hand.twist.angular, second)):
                for name, value in zip("xyz", values.tolist()):
                    setattr(part, name, value)
        hand.header.stamp, hand.header.frame_id = messages.seconds_to_stamp(time.time()), FRAME
        for publisher, message in zip(self._says, (hand, grip), strict=True):
            publisher.publish(message)

    def _on_command(self, hand: bool, message: Any) -> None:
        numbers = numbers_of(self.robot, message)
        if hand:
            self.heard.append((messages.stamp_to_seconds(message.header.stamp), numbers))
        else:
            self.grips.append(float(numbers[0]))


@pytest.mark.parametrize("text", [posed(), twisted()], ids=["poses", "twists"])
def test_what_a_person_shows_a_hand_is_recorded_converted_and_learnt(
    text: str, ros_context: rclpy.Context, processes: Processes, tmp_path: Path
) -> None:
    file, bags = tmp_path / "robot.yaml", tmp_path / "bags"
    file.write_text(text)
    robot = robot_from_yaml(text, "robot.yaml")
    person = Person(ros_context, robot)
    body = HandArm(ros_context, robot) if robot.poses else Arm(ros_context)
    says = lambda: f"{person.in_charge} " + "\n".join(f"{n}: {processes.tail(n)}" for n in processes.names())  # noqa: E731
    checkpoint = checkpoint_of(tmp_path / "checkpoint", robot)
    with spinning(ros_context, body), spinning(ros_context, person):
        processes.node("controller_node", robot=str(file), rearm_after_s=600.0, chunk_timeout_s=600.0, tracking_s=0.0)
        processes.node("policy_node", robot=str(file), checkpoint=str(checkpoint), torch_threads=1)
        processes.node("recorder_node", robot=str(file), out_dir=str(bags))
        wait_until(lambda: not person.ask("controller/arm", True), 120.0, says)
        wait_until(lambda: person.in_charge == "policy", 120.0, says)
        assert not person.ask("recorder/start")
        for _ in range(TAKEOVERS):
            time.sleep(1.0)
            person.lead(4.0, says)
        time.sleep(0.5)
        assert not person.ask("recorder/success")
    for name in ("policy_node", "controller_node", "recorder_node"):
        processes.stop(name)

    report = convert([bags], tmp_path / "judged", robot, Options(corrections=True, before_s=0.5, min_length_s=0.3))
    cut = [episode for bag in report.bags for episode in bag.episodes]
    assert len(cut) >= TAKEOVERS, report
    hand = len(robot.action_names) - 1  # its numbers; the gripper comes last
    stamps, told = (np.array(values) for values in zip(*person.heard))
    authors, grips = {"person": 0, "policy": 0}, []
    for episode, data in zip(cut, Dataset(tmp_path / "judged").episodes, strict=True):
        times = episode.start_ns * 1e-9 + np.arange(len(data.action)) / data.fps
        assert data.takeover is not None
        for t, led, action in zip(times.tolist(), data.takeover.tolist(), data.action):
            newest = told[np.searchsorted(stamps, t + 1e-6, side="right") - 1]
            np.testing.assert_allclose(action[:hand], newest, atol=1e-5)
            surely = any(m.on[1] + UNSURE_S < t < m.off[0] for m in person.moments)
            never = not any(m.on[0] < t < m.off[1] + UNSURE_S for m in person.moments)
            if (surely or never) and not any(abs(t - at) < BREAK_S for at in person.breaks):
                assert led == surely, f"{t}: {person.moments}"
                authors["person" if led else "policy"] += 1
            if surely:
                grips.append(float(action[hand]))
    assert authors["person"] > 60 and authors["policy"] >= 8, authors
    assert np.isin(np.round(grips, 4), np.round(person.grips, 4)).all()
    assert np.ptp(grips) > 0.4 and np.min(grips) > 0.19 and np.max(grips) < 0.81, "the person's gripper"
    first = person.moments[0]
    aim = np.array([0.3, -0.2, 0.1]) if robot.poses else np.array([0.1, 0.0, 0.0])
    off = np.linalg.norm(told[:, :3] - aim, axis=1)
    before, after = (off[np.searchsorted(stamps, at) - 1] for at in (first.on[0], first.off[0]))
    assert after < max(0.5 * before, 0.1), f"they were followed to where they lead: {before} m off, then {after}"

    config, dataset = tmp_path / "train.yaml", tmp_path / "dataset"
    settings = CONFIG.format(dims=dimensions(robot), cameras=["base_0_rgb"])
    config.write_text(settings.replace("ema: 0.5", "ema: 0.5, takeover_weight: 3"))
    pi0(
        ("convert", bags, dataset, "--robot", file, "--corrections", "--before", "0.5"),
        ("stats", dataset),
        ("train", dataset, "--config", config, "--out", tmp_path / "run"),
    )
    assert (tmp_path / "run" / "checkpoint" / "model.safetensors").is_file()
