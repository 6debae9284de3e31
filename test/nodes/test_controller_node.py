"""The controller process over real DDS, with a chunk source in a third process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

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
from rosgraph_msgs.msg import Clock  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from spinning import spinning  # noqa: E402
from std_msgs.msg import Bool, Float64MultiArray, String  # noqa: E402
from std_srvs.srv import SetBool, Trigger  # noqa: E402
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint  # noqa: E402

from pi0_ros.control.pacing import steady_seconds  # noqa: E402
from pi0_ros.launching.launches import ros_arguments  # noqa: E402
from pi0_ros.nodes import messages  # noqa: E402
from pi0_ros.nodes.controller_node import limits_of  # noqa: E402
from pi0_ros.robot import load_robot  # noqa: E402

pytestmark = pytest.mark.dds
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


def test_it_follows_chunks_and_stops_on_demand(arm, start, processes, robot_file, wait_until):
    pid = start()
    assert "torch" not in Path(f"/proc/{pid}/maps").read_text(), "the controller process must not load torch"
    start_chunks(processes, arm)
    time.sleep(1.0)
    assert not arm.sent and not arm.yaw, "nothing is commanded before arming"
    wait_until(lambda: arm.arm().success, 60.0, lambda: arm.status.message)
    swung = lambda: len(arm.sent) > 150 and np.ptp(arm.positions()[:, 0]) > 0.3  # noqa: E731
    wait_until(lambda: arm.state == "RUNNING" and swung(), 60.0, lambda: arm.status.message)
    np.testing.assert_allclose(arm.positions()[0], HOME, atol=0.02)
    values = arm.values()
    assert int(values["chunks"]) > 3 and values["refused"] == "0"
    assert {"clamps", "stale_events", "tick_p50_ms", "tick_p99_ms", "late_ticks", "reason"} <= values.keys()
    sent = {messages.stamp_to_ns(m.header.stamp): m.points[0] for m in list(arm.sent)}
    yaw = list(arm.yaw)[10:60]
    hand = [message for message in list(arm.hand) if messages.stamp_to_ns(message.header.stamp) in sent]
    assert len(yaw) == 50 and len(hand) > 50 and len(arm.elbow) > 50
    motion = {(point.positions[0], point.velocities[0]) for point in sent.values()}
    for message in yaw:
        assert list(message.joint_names) == ["yaw"] and messages.stamp_to_ns(message.header.stamp) == 0
        assert (message.points[0].positions[0], message.points[0].velocities[0]) in motion
    for message in hand:
        assert list(message.name) == ["finger"]
        assert message.position[0] == sent[messages.stamp_to_ns(message.header.stamp)].positions[2]
    assert {message.data[0] for message in list(arm.elbow)[20:40]} <= {point.positions[1] for point in sent.values()}

    assert arm.trigger("estop").success
    wait_until(lambda: arm.state == "STOPPED", 60.0, lambda: arm.status.message)
    assert arm.status.level == DiagnosticStatus.ERROR and "emergency stop" in arm.status.message
    wait_until(lambda: not np.any(arm.sent[-1].points[0].velocities), 60.0, "rest")
    time.sleep(1.0)  # what is under way arrives
    stopped = len(arm.sent)
    assert not np.any(arm.sent[-1].points[0].velocities)
    refused = arm.arm()
    assert not refused.success and "~/reset" in refused.message
    assert arm.trigger("reset").success and not arm.trigger("reset").success
    assert len(arm.sent) == stopped, "stopped and reset: silence"
    wait_until(lambda: arm.arm().success, 60.0)
    wait_until(lambda: arm.state == "RUNNING", 60.0)
    assert_within_limits(arm, robot_file)


def test_a_group_that_takes_plans_gets_each_one_whole(arm, start, robot_file, wait_until):
    document = yaml.safe_load(robot_file.read_text())
    document["commands"][0]["points"] = "trajectory"
    robot_file.write_text(yaml.safe_dump(document))
    start(armed=True)
    wait_until(lambda: arm.state == "IDLE" and len(arm.sent) > 30, 60.0, lambda: arm.status.message)
    sent = [0.0]

    def goes_along_a_plan() -> bool:
        if time.monotonic() - sent[-1] > 3.0:  # again, where a busy machine broke it off
            sent.append(time.monotonic())
            arm.send(time.time(), np.array([0.9, 0.0, 0.0]))
        return any(len(plan.points) > 20 for plan in arm.yaw)

    wait_until(goes_along_a_plan, 60.0, lambda: arm.status.message)
    rests = lambda: not np.any(arm.sent[-1].points[0].velocities)  # noqa: E731
    wait_until(lambda: arm.state == "HOLDING" and rests(), 60.0, lambda: arm.status.message)
    assert len(arm.yaw) < len(arm.sent) / 8, "a few plans, not one per tick"
    robot = load_robot(str(robot_file))
    for plan in arm.yaw:
        assert messages.stamp_to_ns(plan.header.stamp) == 0 and list(plan.joint_names) == ["yaw"]
        times = np.array([messages.stamp_to_ns(point.time_from_start) for point in plan.points]) * 1e-9
        path = np.array([point.positions[0] for point in plan.points])
        assert (np.diff(times) > 0).all() and times[0] > 0 and plan.points[-1].velocities[0] == 0.0
        assert (np.abs(np.diff(path)) <= robot.velocity[0] * np.diff(times) * (1 + 1e-6)).all()
    assert arm.yaw[-1].points[-1].positions[0] == pytest.approx(arm.positions()[-1, 0], abs=1e-6)

    def moving() -> bool:
        arm.send(time.time(), np.array([-0.9, 0.0, 0.0]))  # again and again: a controller that stood still forgets it
        time.sleep(0.1)
        return arm.sent[-1].points[0].velocities[0] < -0.5

    wait_until(moving, 60.0, lambda: arm.status.message)
    count = len(arm.yaw)
    assert arm.trigger("estop").success
    wait_until(lambda: len(arm.yaw) > count and rests(), 60.0)
    stop = arm.yaw[-1].points
    assert stop[-1].velocities[0] == 0.0 and stop[-1].positions[0] == pytest.approx(arm.positions()[-1, 0], abs=1e-6)


def test_a_joint_that_turns_without_end_goes_the_short_way(arm, start, robot_file, wait_until):
    """Its driver counts from -pi to pi, the chunk as well: from 2.0 to -1.7 it is 2.6 forward, across pi."""
    document = yaml.safe_load(robot_file.read_text())
    document["joints"][0] |= {"kind": "continuous", "limits": {"velocity": VELOCITY, "acceleration": 8.0}}
    robot_file.write_text(yaml.safe_dump(document))
    arm.told = lambda name, position: (position + np.pi) % (2 * np.pi) - np.pi if name == "yaw" else position
    start(armed=True, tracking_s=1.0)
    wait_until(lambda: arm.state == "IDLE" and len(arm.sent) > 30, 20.0, lambda: arm.status.message)

    def go(goal: float, reached: float) -> None:
        def there() -> bool:
            arm.send(time.time(), np.array([goal, 0.0, 0.0]))
            time.sleep(0.2)
            return abs(arm.sent[-1].points[0].positions[0] - reached) < 0.01

        wait_until(there, 40.0, lambda: f"{arm.status.message}, at {arm.sent[-1].points[0].positions}")

    go(2.0, 2.0)
    go(-1.7, 2 * np.pi - 1.7)
    assert arm.state == "RUNNING", arm.status.message
    path, told = arm.positions()[:, 0], np.array([message.points[0].positions[0] for message in list(arm.yaw)])
    assert np.abs(np.diff(path)).max() < 2 * VELOCITY * PERIOD and path.min() > 0.0
    assert told[-1] == pytest.approx(-1.7, abs=0.05) and np.abs(told).max() < np.pi + 1.0, "in the driver's count"
    assert_within_limits(arm, robot_file)


def test_a_killed_policy_ends_in_a_hold_and_needs_arming(arm, start, processes, robot_file, wait_until):
    start(auto_arm=True, rearm_after_s=2.0)
    start_chunks(processes, arm)
    moving = lambda: arm.sent and abs(arm.sent[-1].points[0].velocities[0]) > 0.4  # noqa: E731
    wait_until(moving, 60.0, lambda: arm.status.message)
    processes.signal("chunk_source", signal.SIGKILL)
    # A busy machine may let the controller stand still first: what holds now is said then, too.
    holds = lambda: arm.says("HOLDING", "no newer chunk") and arm.status.level == DiagnosticStatus.WARN  # noqa: E731
    wait_until(holds, 60.0, lambda: arm.status.message)
    wait_until(lambda: arm.says("DISARMED", "no newer chunk", "call ~/arm"), 60.0, lambda: arm.status.message)
    positions = arm.positions()
    np.testing.assert_array_equal(positions[-20:], np.tile(positions[-1], (20, 1)))
    assert not np.any(arm.sent[-1].points[0].velocities)
    assert_within_limits(arm, robot_file)
    held = len(arm.sent)
    start_chunks(processes, arm)
    time.sleep(2.0)
    assert arm.state == "DISARMED" and len(arm.sent) == held, "a policy that comes back waits for ~/arm"
    wait_until(lambda: arm.arm().success, 60.0, lambda: arm.status.message)
    wait_until(lambda: arm.state == "RUNNING" and moving(), 60.0, lambda: arm.status.message)
    assert_within_limits(arm, robot_file)


def test_bad_chunks_are_refused_with_their_reason_and_nothing_moves(arm, start, robot_file, wait_until):
    start(armed=True)
    wait_until(lambda: arm.state == "IDLE", 60.0, lambda: arm.status.message)
    goal = np.array([1.0, 0.5, 1.0])
    short = messages.chunk_to_message(chunk_of(1.0, 0.05, np.zeros((24, 2)), NAMES[:2])).points
    nan = messages.chunk_to_message(chunk_of(1.0, 0.05, np.zeros((24, 3)), NAMES)).points
    nan[5].positions = [0.0, float("nan"), 0.0]
    for why, stamp, changes in (
        ("NaN or infinity for elbow", 0.0, {"points": nan}),
        ("unknown joints: knee", 0.0, {"joint_names": ["yaw", "knee", "gripper"]}),
        ("expected 3", 0.0, {"points": short}),
        ("in the future", 30.0, {}),
        ("already over", -30.0, {}),
    ):
        arm.send(time.time() + stamp, goal, **changes)
        wait_until(lambda why=why: why in arm.status.message, 60.0, lambda: arm.status.message)
        assert arm.status.level == DiagnosticStatus.WARN
    arm.send(time.time(), np.array([90.0, 0.0, 0.0]))
    wait_until(lambda: "wrong unit" in arm.status.message, 60.0, lambda: arm.status.message)
    assert arm.state == "IDLE" and arm.values()["chunks"] == "0"
    positions = arm.positions()
    np.testing.assert_array_equal(positions, np.tile(positions[0], (len(positions), 1)))


def test_joint_states_that_are_missing_or_stale(arm, start, processes, robot_file, wait_until):
    arm.state_names = ["elbow"]
    processes.node("controller_node", robot=str(robot_file), tracking_s=0.0)
    lacks = "/arm/joint_states: no message has joint 'yaw'; they have elbow"
    wait_until(lambda: lacks in arm.status.message, 60.0, lambda: arm.status.message)
    answer = arm.arm()
    assert not answer.success and lacks in answer.message and "no joint state for yaw" in answer.message
    arm.state_names = ["elbow", "yaw"]
    start_chunks(processes, arm)
    wait_until(lambda: arm.arm().success, 60.0, lambda: arm.status.message)
    wait_until(lambda: arm.state == "RUNNING", 60.0, lambda: arm.status.message)
    arm.speaks = False
    wait_until(lambda: arm.says("joint state of", "limit 2.00 s"), 60.0, lambda: arm.status.message)
    wait_until(lambda: arm.state == "DISARMED", 60.0, lambda: arm.status.message)
    answer = arm.arm()
    assert not answer.success and "joint state of" in answer.message
    assert_within_limits(arm, robot_file)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_last_command_of_a_stopped_process_is_a_hold(arm, start, processes, robot_file, wait_until, number):
    start(auto_arm=True)
    start_chunks(processes, arm)
    moving = lambda: arm.sent and abs(arm.sent[-1].points[0].velocities[0]) > 0.4  # noqa: E731
    wait_until(moving, 60.0, lambda: arm.status.message)
    processes.signal("controller_node", number)
    wait_until(lambda: not processes.is_running("controller_node"), 60.0, "the controller's end")
    assert processes.returncode("controller_node") == 0, processes.tail("controller_node")
    wait_until(lambda: not np.any(arm.sent[-1].points[0].velocities), 60.0, "rest")
    time.sleep(0.5)  # the other topics
    last = arm.sent[-1].points[0]
    assert not np.any(last.velocities)
    assert arm.yaw[-1].points[0].positions[0] == last.positions[0] and arm.elbow[-1].data[0] == last.positions[1]
    assert_within_limits(arm, robot_file)


def test_simulated_time(arm, processes, robot_file, wait_until):
    clock = arm.create_publisher(Clock, "/clock", 10)
    arm.stamp = 100.0
    processes.node("controller_node", robot=str(robot_file), use_sim_time=True)
    paused = threading.Event()
    stop = threading.Event()

    def run_clock() -> None:
        while not stop.is_set():
            if not paused.is_set():
                arm.stamp += 0.01
            clock.publish(Clock(clock=messages.seconds_to_stamp(arm.stamp)))
            time.sleep(0.02)  # half speed

    runner = threading.Thread(target=run_clock)
    runner.start()
    try:
        wait_until(lambda: arm.arm().success, 60.0, lambda: arm.status.message)
        stamps = lambda: np.array([messages.stamp_to_seconds(m.header.stamp) for m in list(arm.sent)])  # noqa: E731
        wait_until(lambda: len(arm.sent) > 100, 60.0, lambda: arm.status.message)
        assert stamps().min() >= 100.0 and stamps().max() < 200.0
        assert np.median(np.diff(stamps())) == pytest.approx(PERIOD, abs=1e-6)
        arm.send(arm.stamp, np.array([0.5, 0.2, 1.0]))
        wait_until(lambda: arm.state == "RUNNING", 60.0, lambda: arm.status.message)
        paused.set()
        time.sleep(0.5)
        count = len(arm.sent)
        time.sleep(1.0)
        assert len(arm.sent) <= count + 1, "no ticks while time stands still"
        paused.clear()
        wait_until(lambda: arm.state == "HOLDING", 60.0, lambda: arm.status.message)
        assert_within_limits(arm, robot_file)
    finally:
        stop.set()
        runner.join()


def moving(arm: Arm) -> bool:
    return bool(arm.sent) and abs(arm.sent[-1].points[0].velocities[0]) > 0.4


def test_another_publisher_of_a_command_topic_is_yielded_to(arm, start, processes, robot_file, wait_until):
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


def test_a_second_controller_of_the_same_name_lets_neither_arm(arm, start, processes, robot_file, wait_until):
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


def test_armed_by_itself_it_waits_for_a_chunk_that_can_be_followed(arm, start, robot_file, wait_until):
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


def test_armed_by_itself_it_does_not_wait_for_ever(arm, processes, robot_file, wait_until):
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


def test_the_latched_stop_reaches_every_controller_also_later_ones(arm, start, processes, robot_file, wait_until):
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


def test_a_plain_publisher_stops_it_too(arm, start, wait_until):
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
def test_no_message_silences_the_emergency_stop(arm, start, processes, robot_file, wait_until, what):
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


BROKEN_TICKS = """
import rclpy
from pi0_ros.control.states import State
from pi0_ros.nodes.controller_node import ControllerNode

rclpy.init()
node = ControllerNode()
node.ticker.stop()
node.controller.sent[:] = node.robot.lower
node.controller.state = State.RUNNING

def broken(now, steady):
    raise ZeroDivisionError("broken tick")

sent = []
node.controller.tick = broken
node.output.publish = lambda command, now, in_time: sent.append(command)
node.close()
assert len(sent) == 1 and not sent[0].velocity.any() and (sent[0].position == node.robot.lower).all(), sent
"""


def test_the_hold_leaves_even_when_ticking_itself_is_broken(ros_domain):
    environment = os.environ | {"ROS_DOMAIN_ID": str(ros_domain)}
    command = [sys.executable, "-c", BROKEN_TICKS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "broken tick" in done.stderr + done.stdout


@pytest.mark.parametrize("parameter", ["robot:=no_such_robot", "auto_arm:=perhaps", "blend_s:=-1.0"])
def test_wrong_parameters_end_the_process_in_one_line(parameter, ros_domain):
    command = [sys.executable, "-m", "pi0_ros.nodes.controller_node", "--ros-args", "-p", parameter]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env=dict(os.environ))
    assert ended.returncode == 2 and "Traceback" not in ended.stderr
    assert parameter.partition(":")[0] in ended.stderr or "no_such_robot" in ended.stderr


def test_a_robot_that_is_not_for_the_controller_is_refused_in_one_sentence():
    with pytest.raises(ValueError, match="'libero' is not for the controller.*: gripper is not"):
        limits_of(load_robot("libero"))


def test_the_controller_imports_no_torch():
    code = "import sys, pi0_ros.nodes.controller_node; sys.exit(int('torch' in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_a_shadow_commands_nothing_and_says_how_far_it_is_from_the_operator(
    arm,
    start,
    processes,
    wait_until,
) -> None:
    wanted: list[JointTrajectory] = []
    errors: list[JointState] = []
    states: list[String] = []
    arm.create_subscription(JointTrajectory, "pi0/shadow_command", wanted.append, 200)
    arm.create_subscription(JointState, "pi0/shadow_error", errors.append, 200)
    arm.create_subscription(String, "pi0/state", states.append, messages.LATCHED)
    start(shadow=True)
    start_chunks(processes, arm)
    wait_until(lambda: arm.state == "SHADOW RUNNING" and len(wanted) > 50, 60.0, lambda: arm.status.message)
    topics = ("/arm/yaw", "/arm/elbow", "/hand/command", "pi0/command")
    assert [arm.count_publishers(topic) for topic in topics] == [0, 0, 0, 0]
    assert not arm.sent and not arm.yaw and not arm.elbow and not arm.hand
    assert arm.status.message.startswith("SHADOW, nothing is commanded") and states[-1].data == "SHADOW RUNNING"
    assert "no command has arrived" in arm.values()["shadow_operator"] and not errors

    kinds = {"yaw": JointTrajectory, "elbow": Float64MultiArray, "hand": JointState}
    operator = {name: arm.create_publisher(kind, topic, 10) for (name, kind), topic in zip(kinds.items(), topics)}
    goal = np.array([0.7, -0.2, 1.0])

    def command() -> bool:
        """The operator speaks to all three groups, each in its own type."""
        stamp = messages.seconds_to_stamp(time.time())
        operator["yaw"].publish(
            JointTrajectory(joint_names=["yaw"], points=[JointTrajectoryPoint(positions=[goal[0]])])
        )
        operator["elbow"].publish(Float64MultiArray(data=[goal[1]]))
        hand = JointState(name=["finger"], position=[goal[2]])
        hand.header.stamp = stamp
        operator["hand"].publish(hand)
        return len(errors) > 20

    wait_until(command, 40.0, lambda: str(arm.values()))
    assert list(errors[-1].name) == ["yaw", "elbow", "gripper"]
    sent = {messages.stamp_to_ns(message.header.stamp): message.points[0].positions for message in list(wanted)}
    compared = [e for e in list(errors) if messages.stamp_to_ns(e.header.stamp) in sent]
    assert len(compared) > 10
    for error in compared:
        np.testing.assert_allclose(
            error.position, np.array(sent[messages.stamp_to_ns(error.header.stamp)]) - goal, atol=1e-9
        )
    assert not arm.sent, "still nothing on pi0/command"


@pytest.mark.parametrize(("due", "is_at"), [(99.98, 99.98), (99.0, 100.0)])
def test_a_tick_that_was_suspended_since_it_was_due_is_of_the_present(due: float, is_at: float) -> None:
    """Else joint states from the beginning of the pause would count as newer than the pause."""
    from pi0_ros.nodes.controller_node import ControllerNode

    node = SimpleNamespace(now=lambda: 100.0, controller=SimpleNamespace(stalls=SimpleNamespace(limit_s=0.09)))
    now, steady = ControllerNode._instant(node, due)
    assert now == is_at and steady == pytest.approx(steady_seconds(), abs=60.0)


def test_a_command_that_a_suspension_kept_back_is_withdrawn_at_the_present() -> None:
    """Joint states from the pause would count as newer than it, if it were withdrawn at the tick's time."""
    from pi0_ros.nodes.controller_node import ControllerNode

    clock, withdrawn = SimpleNamespace(now=100.0), []
    controller = SimpleNamespace(
        counts=SimpleNamespace(chunks=0),
        in_charge="policy",
        tick=lambda now, steady: SimpleNamespace(alone=None),
        withdraw=lambda now, steady, joints: withdrawn.append(now),
    )

    def publish(command, now: float, in_time) -> np.ndarray:
        clock.now += 0.3  # the process stands still right before its command would leave
        return np.zeros(3, bool)

    node = SimpleNamespace(
        controller=controller,
        output=SimpleNamespace(publish=publish, say_in_charge=lambda who: None),
        planner=SimpleNamespace(ticked=lambda command, now: None),
        now=lambda: clock.now,
        **dict.fromkeys(("shadow", "_deadman", "_in_time")),
    )
    node._lock, node._instant = threading.Lock(), lambda due: (due, 50.0)
    assert ControllerNode._tick(node, 100.0)
    assert withdrawn == [100.3]
