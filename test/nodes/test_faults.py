"""What dies, freezes, lies or comes late around a running robot ends in a smooth hold with its reason, and recovers.

One stage for all tests: policy and controller are processes, this process is the robot (cameras, joints that go where
they are sent) and stands between the two, so that chunks can be made late. docs/safety.md lists what is tested here.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Processes, own_domain, wait_until
from following import Follower
from judge import judge
from policy_fixtures import tiny_checkpoint, tiny_robot

rclpy = pytest.importorskip("rclpy")
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from sensor_msgs.msg import Image, JointState  # noqa: E402
from std_srvs.srv import SetBool, Trigger  # noqa: E402
from trajectory_msgs.msg import JointTrajectory  # noqa: E402

from pi0_ros.base.middleware import without_shared_memory  # noqa: E402
from pi0_ros.launching.launches import ros_arguments  # noqa: E402
from pi0_ros.launching.processes import ros_environment  # noqa: E402
from pi0_ros.nodes.messages import LATEST, diagnostic_values, seconds_to_stamp, stamp_to_seconds  # noqa: E402
from pi0_ros.robot import robot_to_yaml  # noqa: E402

pytestmark = [pytest.mark.dds, pytest.mark.skipif(sys.platform != "linux", reason="stops processes by signals")]
AGE_S, FROZEN_S = 1.0, 0.8
BARE = tiny_robot()
ROBOT = replace(
    BARE,
    # An untrained policy would sometimes send the gripper so far beyond 0 .. 1 that its chunk is refused.
    joints=tuple(replace(j, lower=-4.0, upper=4.0) if j.kind == "gripper" else j for j in BARE.joints),
    cameras=tuple(replace(camera, max_age_s=AGE_S, frozen_s=FROZEN_S) for camera in BARE.cameras),
    state=tuple(replace(item, max_age_s=AGE_S) for item in BARE.state),
)
CAMERA, STATE = ROBOT.cameras[0], ROBOT.state[0].topic
PERIOD = 1.0 / ROBOT.control_rate_hz
HORIZON = 30  # actions at 20 Hz


class Body(Node):
    """The robot: sends pictures and joint states, goes where `pi0/command` says, hands chunks on, hears diagnostics."""

    def __init__(self, context: rclpy.Context) -> None:
        super().__init__("body", context=context)
        self.mend()
        self.commands: list[JointTrajectory] = []
        self.statuses: dict[str, DiagnosticStatus] = {}
        self._joints = Follower(ROBOT.joint_names, (ROBOT.lower + ROBOT.upper) / 2, ROBOT.velocity)
        self._random = np.random.default_rng(0)
        self._picture = b""
        self._waiting: list[JointState] = []
        self._cameras = {camera.topic: self.create_publisher(Image, camera.topic, 1) for camera in ROBOT.cameras}
        self._states = self.create_publisher(JointState, STATE, 10)
        self._chunks = self.create_publisher(JointTrajectory, "pi0/chunk", LATEST)
        self._late: list[tuple[float, JointTrajectory]] = []
        self.create_subscription(JointTrajectory, "chunk_of_the_policy", self._on_chunk, 10)
        self.create_subscription(JointTrajectory, "pi0/command", self._on_command, 200)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 20)
        self.asked = {name: self.create_client(Trigger, f"/controller/{name}") for name in ("estop", "reset")}
        self.asked["arm"] = self.create_client(SetBool, "/controller/arm")
        self.create_timer(0.05, self._look)
        self.create_timer(PERIOD, self._feel)

    def mend(self) -> None:
        """All faults of the robot's side are over."""
        self.silent: set[str] = set()
        self.frozen = False
        self.names = list(ROBOT.joint_names)
        self.swapped = False  # every second joint state overtakes the one before it
        self.late_s = 0.0  # of every chunk

    def state(self, name: str = "controller") -> str:
        return self.values(name).get("state", "")

    def values(self, name: str) -> dict[str, str]:
        return diagnostic_values(self.statuses[name]) if name in self.statuses else {}

    def text(self) -> str:
        """What policy and controller say."""
        return "; ".join(f"{name}: {status.message}" for name, status in self.statuses.items())

    def call(self, name: str) -> Trigger.Response:
        client = self.asked[name]
        assert client.wait_for_service(timeout_sec=20.0)
        answer = client.call_async(SetBool.Request(data=True) if name == "arm" else Trigger.Request())
        wait_until(answer.done, 20.0, f"an answer of {name}")
        return answer.result()

    def moves(self) -> bool:
        """Whether the newest commands went anywhere."""
        return len(self.commands) > 20 and any(np.any(m.points[0].velocities) for m in self.commands[-5:])

    def rests(self) -> bool:
        """Whether commands go on and stand still."""
        newest = [message.points[0] for message in self.commands[-10:]]
        still = all(not np.any(point.velocities) and point.positions == newest[0].positions for point in newest)
        return self._age(self.commands[-1]) < 1.0 and still

    def _age(self, message: JointTrajectory) -> float:
        return time.time() - stamp_to_seconds(message.header.stamp)

    def _look(self) -> None:
        if not self.frozen or not self._picture:
            self._picture = self._random.integers(0, 256, 24 * 72, np.uint8).tobytes()
        for topic, publisher in self._cameras.items():
            if topic not in self.silent:
                image = Image(height=24, width=24, step=72, encoding="rgb8")
                image.header.stamp = seconds_to_stamp(time.time())
                image.data.frombytes(self._picture)
                publisher.publish(image)

    def _feel(self) -> None:
        now = time.monotonic()
        for due, chunk in [item for item in self._late if item[0] <= now]:
            self._late.remove((due, chunk))
            self._chunks.publish(chunk)
        position = self._joints.move()
        if STATE in self.silent:
            return
        state = JointState(name=self.names, position=[position[name] for name in self.names])
        state.header.stamp = seconds_to_stamp(time.time())
        self._waiting.append(state)
        if len(self._waiting) > self.swapped:
            for message in reversed(self._waiting):
                self._states.publish(message)
            self._waiting.clear()

    def _on_chunk(self, chunk: JointTrajectory) -> None:
        self._late.append((time.monotonic() + self.late_s, chunk))

    def _on_command(self, message: JointTrajectory) -> None:
        self.commands.append(message)
        self._joints.send(message.joint_names, message.points[0].positions)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.statuses[status.name.removeprefix("pi0_ros: ")] = status


class Stage:
    """The running processes and what tests do with them."""

    def __init__(self, body: Body, processes: Processes, robot_file: Path, checkpoint: Path) -> None:
        self.body, self.processes = body, processes
        self._files = robot_file, checkpoint

    def start_policy(self) -> None:
        robot_file, checkpoint = self._files
        parameters = {"robot": str(robot_file), "checkpoint": str(checkpoint), "torch_threads": 1, "device": "cpu"}
        remaps = {"pi0/chunk": "chunk_of_the_policy"}
        command = [sys.executable, "-m", "pi0_ros.nodes.policy_node", *ros_arguments(parameters, remaps=remaps)]
        # Tests suspend it: with shared memory it might hear nothing any more when it goes on.
        environment = ros_environment()
        self.processes.start("policy_node", command, env=environment | without_shared_memory(environment))

    def runs(self) -> None:
        """Wait until the robot follows chunks."""
        running = lambda: self.body.state() == "RUNNING" and self.body.moves()  # noqa: E731
        wait_until(running, 90.0, lambda: f"running: {self.body.text()}\n{self.processes.tail('policy_node')}")

    def holds(self, *words: str) -> None:
        """Wait until it holds at rest and /diagnostics say why."""
        told = lambda: self.body.state() == "HOLDING" and all(word in self.body.text() for word in words)  # noqa: E731
        wait_until(lambda: told() and self.body.rests(), 30.0, lambda: f"a hold with {words}: {self.body.text()}")
        assert self.body.statuses["controller"].level == DiagnosticStatus.WARN

    def was_smooth(self) -> None:
        """Whatever happened: no command was beyond the limits, and none was a jump."""
        sent = list(self.body.commands)
        stamps = np.array([stamp_to_seconds(message.header.stamp) for message in sent])
        verdict = judge(ROBOT, stamps, np.array([message.points[0].positions for message in sent]))
        assert verdict.messages > 50 and not verdict.breaches, verdict


@pytest.fixture(scope="module")
def running_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("faults")
    robot_file = folder / "robot.yaml"
    robot_file.write_text(robot_to_yaml(ROBOT))
    with pytest.MonkeyPatch.context() as monkeypatch:
        domains = own_domain(folder, monkeypatch)
        context = rclpy.Context()
        rclpy.init(context=context, domain_id=next(domains))
        body, executor = Body(context), SingleThreadedExecutor(context=context)
        executor.add_node(body)
        spinner = threading.Thread(target=executor.spin, daemon=True)
        spinner.start()
        with Processes(log_dir=folder / "processes") as processes:
            stage = Stage(body, processes, robot_file, tiny_checkpoint(folder / "tiny", ROBOT, horizon=HORIZON))
            stage.start_policy()
            processes.node("controller_node", robot=str(robot_file), auto_arm=True, rearm_after_s=600.0)
            yield stage
            for name in processes.names():
                print(f"--- {name} ---\n{processes.tail(name, 30)}")
        executor.shutdown()
        spinner.join(10.0)
        body.destroy_node()
        rclpy.try_shutdown(context=context)
        next(domains, None)


@pytest.fixture
def stage(running_stage: Stage) -> Iterator[Stage]:
    """The stage, following chunks before the fault and, once it is mended, again."""
    running_stage.runs()
    yield running_stage
    running_stage.body.mend()
    running_stage.runs()
    running_stage.was_smooth()


def test_a_stopped_policy_and_an_emergency_stop_meanwhile(stage):
    stage.processes.signal("policy_node", signal.SIGSTOP)
    try:
        assert stage.body.moves() and stage.body.call("estop").success
        answered = time.time()
        wait_until(lambda: stage.body.state() == "STOPPED", 10.0, stage.body.text)
        after = [m.points[0] for m in stage.body.commands if stamp_to_seconds(m.header.stamp) > answered + PERIOD]
        speeds = np.abs([point.velocities for point in after])
        assert (np.diff(speeds, axis=0) <= 1e-9).all(), "from the next tick on every joint slows down"
        wait_until(lambda: not np.any(stage.body.commands[-1].points[0].velocities), 5.0, "rest")
        assert stage.body.call("reset").success
        wait_until(lambda: stage.body.call("arm").success, 10.0, stage.body.text)
        wait_until(lambda: stage.body.state() == "IDLE", 10.0, stage.body.text)
    finally:
        stage.processes.signal("policy_node", signal.SIGCONT)
    stage.runs()
    stage.processes.signal("policy_node", signal.SIGSTOP)
    try:
        stage.holds("no newer chunk")
    finally:
        stage.processes.signal("policy_node", signal.SIGCONT)


def test_a_camera_that_falls_silent(stage):
    stage.body.silent.add(CAMERA.topic)
    stage.holds("no newer chunk", f"{CAMERA.topic}: newest image is")
    assert stage.body.state("policy") == "stale"


def test_a_camera_that_freezes(stage):
    stage.body.frozen = True
    stage.holds("no newer chunk", f"camera '{CAMERA.name}' has sent one and the same picture for")
    assert stage.body.state("policy") == "frozen"


def test_joint_states_in_another_order_change_nothing(stage):
    def undisturbed() -> bool:
        """Whether a second and a half passes without a stale state, which a busy machine may have now and then."""
        before, count = int(stage.body.values("controller")["stale_events"]), len(stage.body.commands)
        wait_until(lambda: len(stage.body.commands) > count + 75, 20.0, stage.body.text)
        return int(stage.body.values("controller")["stale_events"]) == before and stage.body.moves()

    stage.body.names.reverse()
    assert any(undisturbed() for _ in range(4))
    stage.body.swapped = True
    assert any(undisturbed() for _ in range(4))


def test_a_joint_that_is_missing(stage):
    stage.body.names.remove("elbow")
    stage.holds("joint state of", f"{STATE}: joint 'elbow' has not come")
    assert stage.body.state("policy") == "stale"


def test_joint_states_that_stop(stage):
    stage.body.silent.add(STATE)
    stage.holds("joint state of", "limit 1.00 s", f"{STATE}: newest state is")


def test_late_chunks_are_followed_where_they_still_are_and_dropped_where_they_are_over(stage):
    stage.body.late_s = 0.4
    joined = lambda: float(stage.body.values("controller").get("joined_at_step") or 0.0) >= 8.0  # noqa: E731
    wait_until(joined, 20.0, stage.body.text)
    stage.runs()
    stage.body.late_s = 3.0
    stage.holds("no newer chunk", "dropped a chunk that was already over (observation 3.")


def test_the_way_of_chunks_is_traced(stage):
    command = [sys.executable, "-m", "pi0_ros.cli", "latency", "--seconds", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    stages = {words[0]: float(words[1]) for line in done.stdout.splitlines()[3:12] if (words := line.split())}
    assert stages["infer"] > 0 and stages["total"] > stages["infer"] and stages["link"] == 0.0


def test_a_killed_policy(stage):
    stage.processes.signal("policy_node", signal.SIGKILL)
    stage.holds("no newer chunk")
    stage.start_policy()
