"""An arm in three command groups for tests of the controller process, and what starts it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import wait_until as _wait_until
from following import Follower
from judge import judge

rclpy = pytest.importorskip("rclpy")
from chunks import chunk_of  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # noqa: E402
from rclpy.node import Node  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from spinning import spinning  # noqa: E402
from std_msgs.msg import Float64MultiArray  # noqa: E402
from std_srvs.srv import SetBool, Trigger  # noqa: E402
from trajectory_msgs.msg import JointTrajectory  # noqa: E402

from pi0_ros.nodes import messages  # noqa: E402
from pi0_ros.robot import load_robot  # noqa: E402

PERIOD = 0.02
VELOCITY = 2.0  # of every joint, units per s
HOME = np.array([0.2, -0.1, 0.0])
NAMES = ("yaw", "elbow", "gripper")
SOURCE = Path(__file__).parents[1] / "helpers" / "chunk_source.py"


@pytest.fixture
def robot_file(tmp_path: Path) -> Path:
    """An arm in three command groups of three message types and two state topics, one with other joint names."""

    def joint(name: str, lower: float, upper: float, kind: str = "revolute", unit: str = "rad") -> dict:
        limits = {"position": [lower, upper], "velocity": VELOCITY, "acceleration": 8.0}
        return {"name": name, "unit": unit, "kind": kind, "limits": limits, "action": "absolute"}

    camera = {
        "name": "base",
        "topic": "/arm/image",
        "type": "sensor_msgs/msg/Image",
        "slot": "base_0_rgb",
        "max_age_s": 1.0,
    }
    document = {
        "name": "arm",
        "control_rate_hz": 50,
        "policy_rate_hz": 5,
        "dataset_fps": 20,
        "joints": [joint("yaw", -2, 2), joint("elbow", -1, 1), joint("gripper", 0, 1, "gripper", "normalized")],
        "cameras": [camera],
        "state": [
            {
                "topic": "/arm/joint_states",
                "type": "sensor_msgs/msg/JointState",
                "joints": ["yaw", "elbow"],
                "max_age_s": 2.0,
            },
            {
                "topic": "/hand/joint_states",
                "type": "sensor_msgs/msg/JointState",
                "joints": ["gripper"],
                "names": ["finger"],
                "max_age_s": 2.0,
            },
        ],
        "commands": [
            {"name": "yaw", "topic": "/arm/yaw", "type": "trajectory_msgs/msg/JointTrajectory", "joints": ["yaw"]},
            {"name": "elbow", "topic": "/arm/elbow", "type": "std_msgs/msg/Float64MultiArray", "joints": ["elbow"]},
            {
                "name": "hand",
                "topic": "/hand/command",
                "type": "sensor_msgs/msg/JointState",
                "joints": ["gripper"],
                "names": ["finger"],
            },
        ],
        "action": {"source": "command", "max_age_s": 0.25},
    }
    path = tmp_path / "arm.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


class Arm(Node):
    """The robot's side of the topics, and ears for everything that the controller says."""

    def __init__(self, context: rclpy.Context) -> None:
        super().__init__("arm", context=context)
        self._joints = Follower(NAMES, HOME, VELOCITY)
        self.state_names = ["elbow", "yaw"]  # not the robot file's order
        self.speaks = True
        self.told = lambda name, position: position  # how the driver counts
        self.stamp: float | None = None  # s; None: the system's time
        self.sent: list[JointTrajectory] = []
        self.yaw: list[JointTrajectory] = []
        self.elbow: list[Float64MultiArray] = []
        self.hand: list[JointState] = []
        self.status = DiagnosticStatus()
        self._arm_state = self.create_publisher(JointState, "/arm/joint_states", 10)
        self._hand_state = self.create_publisher(JointState, "/hand/joint_states", 10)
        self.chunks = self.create_publisher(JointTrajectory, "pi0/chunk", messages.LATEST)
        self.create_subscription(JointTrajectory, "pi0/command", self._on_command, 200)
        self.create_subscription(JointTrajectory, "/arm/yaw", self.yaw.append, 200)
        self.create_subscription(Float64MultiArray, "/arm/elbow", self.elbow.append, 200)
        self.create_subscription(JointState, "/hand/command", self.hand.append, 200)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._arm_service = self.create_client(SetBool, "/controller/arm")
        self._triggers = {name: self.create_client(Trigger, f"/controller/{name}") for name in ("estop", "reset")}
        self.create_timer(PERIOD, self._speak)

    @property
    def state(self) -> str:
        return self.values().get("state", "")

    def says(self, *words: str) -> bool:
        """Whether its newest status holds all of these."""
        text = self.status.message
        return all(word in text for word in words)

    def values(self) -> dict[str, str]:
        return messages.diagnostic_values(self.status)

    def positions(self) -> np.ndarray:
        """Everything in `pi0/command`, [n, 3]."""
        return np.array([message.points[0].positions for message in list(self.sent)]).reshape(-1, 3)

    def arm(self, yes: bool = True) -> SetBool.Response:
        return self._call(self._arm_service, SetBool.Request(data=yes))

    def trigger(self, name: str) -> Trigger.Response:
        return self._call(self._triggers[name], Trigger.Request())

    def send(self, stamp: float, goal: np.ndarray, **changes: object) -> None:
        """Publish a chunk that stands at `goal`, its message changed by `changes`."""
        message = messages.chunk_to_message(chunk_of(stamp, 0.05, np.tile(goal, (24, 1)), NAMES))
        for name, value in changes.items():
            setattr(message, name, value)
        self.chunks.publish(message)

    def _call(self, client, request):
        assert client.wait_for_service(timeout_sec=20.0), f"no service {client.srv_name}"
        answer = client.call_async(request)
        end = time.monotonic() + 20.0
        while not answer.done() and time.monotonic() < end:
            time.sleep(0.01)
        assert answer.done(), f"no answer from {client.srv_name}"
        return answer.result()

    def _speak(self) -> None:
        positions = self._joints.move()
        if not self.speaks:
            return
        arm = JointState(
            name=self.state_names, position=[self.told(name, positions[name]) for name in self.state_names]
        )
        hand = JointState(name=["finger"], position=[positions["gripper"]])
        for message, publisher in ((arm, self._arm_state), (hand, self._hand_state)):
            message.header.stamp = messages.seconds_to_stamp(time.time() if self.stamp is None else self.stamp)
            publisher.publish(message)

    def _on_command(self, message: JointTrajectory) -> None:
        self.sent.append(message)
        self._joints.send(NAMES, message.points[0].positions)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == "pi0_ros: controller":
                self.status = status


@pytest.fixture
def arm(ros_context: rclpy.Context) -> Iterator[Arm]:
    node = Arm(ros_context)
    with spinning(ros_context, node):
        yield node


@pytest.fixture
def start(processes, robot_file: Path, arm: Arm, wait_until: Callable) -> Callable[..., int]:
    """Starts the controller and waits until it hears the arm, or until it is armed."""

    def start(armed: bool = False, **parameters: object) -> int:
        pid = processes.node(
            "controller_node", **{"robot": str(robot_file), "rearm_after_s": 10.0, "tracking_s": 0.0, **parameters}
        )
        heard = lambda: arm.state and "no joint state" not in arm.status.message  # noqa: E731
        wait_until(heard, 60.0, lambda: f"controller ready: {processes.tail('controller_node')}")
        if armed:
            wait_until(lambda: arm.arm().success, 60.0, lambda: arm.status.message)
        return pid

    return start


def start_chunks(processes, arm: Arm) -> None:
    before = int(arm.values()["policies"])
    processes.start("chunk_source", [sys.executable, str(SOURCE), ",".join(NAMES), "0.6"])
    _wait_until(lambda: int(arm.values()["policies"]) > before, 40.0, "a source of chunks")


def assert_within_limits(arm: Arm, robot_file: Path) -> None:
    sent = list(arm.sent)
    stamps = np.array([messages.stamp_to_seconds(message.header.stamp) for message in sent])
    verdict = judge(load_robot(str(robot_file)), stamps, np.array([m.points[0].positions for m in sent]))
    assert verdict.messages > 0 and not verdict.breaches, verdict


def moving(arm: Arm) -> bool:
    return bool(arm.sent) and abs(arm.sent[-1].points[0].velocities[0]) > 0.4
