"""The policy node over real DDS: topics in, chunks out; refusals, recoveries and its lifecycle."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import policy_fixtures
import pytest
from conftest import wait_until
from policy_fixtures import SECOND, tiny_checkpoint, tiny_robot

rclpy = pytest.importorskip("rclpy")
from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from lifecycle_msgs.srv import ChangeState, GetState  # noqa: E402
from rcl_interfaces.srv import GetParameters, ListParameters, SetParameters  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.lifecycle import TransitionCallbackReturn  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter, parameter_value_to_python  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from sensor_msgs.msg import Image, JointState  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from trajectory_msgs.msg import JointTrajectory  # noqa: E402

from pi0_ros.launching.launches import ros_arguments  # noqa: E402
from pi0_ros.launching.parameter import Changes  # noqa: E402
from pi0_ros.launching.parameters import table  # noqa: E402
from pi0_ros.nodes.messages import LATCHED, LATEST, diagnostic_values, ns_to_stamp, stamp_to_ns, stamp_to_seconds  # noqa: E402
from pi0_ros.nodes.policy_node import PolicyNode  # noqa: E402
from pi0_ros.observation.streams import Observation, ObservationBuffer  # noqa: E402
from pi0_ros.policy.policy import Policy  # noqa: E402
from pi0_ros.robot import robot_to_yaml  # noqa: E402
from pi0_ros.robot.types import NOBODY  # noqa: E402

pytestmark = pytest.mark.dds
ROBOT = tiny_robot()
BASE, WRIST = (camera.topic for camera in ROBOT.cameras)
STATE = ROBOT.state[0].topic
LIMIT_S = 120.0  # starting a process with torch takes its time on a busy machine
QUIET_S = 1.0  # long enough for ten chunks


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture
def robot_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny_arm.yaml"
    path.write_text(robot_to_yaml(ROBOT))
    return path


class Rig:
    """The robot's side: cameras and joint states at 20 Hz, and ears for chunks and diagnostics."""

    def __init__(self, context: Any) -> None:
        self.node = Node("rig", context=context)
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)
        self.silent: set[str] = set()
        self.encoding = "rgb8"
        self.joints = list(reversed(ROBOT.joint_names))  # found by name, whatever their order
        self.sent: list[tuple[str, Any]] = []
        self.chunks: list[JointTrajectory] = []
        self.status: dict[str, str] = {}
        self.random = np.random.default_rng(0)
        self.now_ns = 0  # simulated time, if not 0
        self.clock = self.node.create_publisher(Clock, "/clock", 10)
        reliable = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
        self.cameras = {topic: self.node.create_publisher(Image, topic, reliable) for topic in (BASE, WRIST)}
        self.states = self.node.create_publisher(JointState, STATE, 10)
        self.node.create_subscription(JointTrajectory, "pi0/chunk", self.chunks.append, LATEST)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self.diagnosed, 10)
        self.node.create_timer(0.05, self.publish)

    def diagnosed(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == "pi0_ros: policy":
                self.status = {**diagnostic_values(status), "message": status.message, "level": status.level.hex()}

    def publish(self) -> None:
        stamp = self.node.get_clock().now().to_msg()
        if self.now_ns:
            self.now_ns += SECOND // 20
            stamp = ns_to_stamp(self.now_ns)
            self.clock.publish(Clock(clock=stamp))
        for topic, publisher in self.cameras.items():
            if topic not in self.silent:
                image = Image(height=32, width=40, step=120, encoding=self.encoding)
                image.header.stamp = stamp
                image.data.frombytes(self.random.integers(0, 256, 32 * 120, np.uint8))
                self.sent.append((topic, image))
                publisher.publish(image)
        if STATE not in self.silent:
            positions = self.random.normal(size=len(self.joints)) * 0.1
            state = JointState(name=self.joints, position=positions.tolist())
            state.header.stamp = stamp
            self.sent.append((STATE, state))
            self.states.publish(state)

    def until(self, condition: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
        end = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < end, f"not within {limit_s:g} s: {what}; last status {self.status}"
            self.executor.spin_once(timeout_sec=0.05)

    def spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.05)

    def wait_for_chunks(self, count: int = 2) -> None:
        self.chunks.clear()
        self.until(lambda: len(self.chunks) >= count, "chunks")

    def wait_for_refusal(self, state: str, *words: str) -> None:
        """The reason stands in /diagnostics, and nothing is published."""
        self.until(
            lambda: self.status.get("state") == state and all(word in self.status["message"] for word in words),
            f"state {state} with {words}",
        )
        self.chunks.clear()
        self.spin(QUIET_S)
        assert self.chunks == []
        assert self.status["reason"] == self.status["message"]

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()


@pytest.fixture
def rig(ros_context: Any) -> Iterator[Rig]:
    one = Rig(ros_context)
    yield one
    one.close()


@pytest.fixture
def make_node(ros_context: Any, rig: Rig, robot_file: Path, folder: Path) -> Iterator[Callable[..., PolicyNode]]:
    """A policy node in this process, spun by the rig's executor."""
    nodes: list[PolicyNode] = []

    def make(**parameters: Any) -> PolicyNode:
        given = {"robot": str(robot_file), "checkpoint": str(folder), "device": "cpu", **parameters}
        overrides = [Parameter(name, value=value) for name, value in given.items()]
        nodes.append(PolicyNode(context=ros_context, parameter_overrides=overrides))
        rig.executor.add_node(nodes[-1])
        return nodes[-1]

    yield make
    for node in nodes:
        rig.executor.remove_node(node)
        node.destroy_node()


# --- the job ----------------------------------------------------------------------------------------------------------


def test_process_publishes_chunks_and_stops_cleanly(rig: Rig, processes: Any, robot_file: Path, folder: Path) -> None:
    processes.node("policy_node", robot=robot_file, checkpoint=folder, device="cpu")
    rig.wait_for_chunks()
    chunk = rig.chunks[-1]
    assert tuple(chunk.joint_names) == ROBOT.joint_names
    assert len(chunk.points) == 5
    assert [point.time_from_start.nanosec for point in chunk.points] == [
        0,
        50_000_000,
        100_000_000,
        150_000_000,
        200_000_000,
    ]
    age = rig.node.get_clock().now().nanoseconds * 1e-9 - (chunk.header.stamp.sec + chunk.header.stamp.nanosec * 1e-9)
    assert 0 < age < LIMIT_S
    rig.until(lambda: int(rig.status.get("chunks", 0)) > 0, "diagnostics")
    assert (rig.status["state"], rig.status["level"], rig.status["checkpoint"]) == ("running", "00", "tiny")
    assert float(rig.status["latency_p50_ms"]) > 0
    processes.signal("policy_node", signal.SIGINT)
    rig.until(lambda: not processes.is_running("policy_node"), "the end of the process")
    assert processes.returncode("policy_node") == 0


@pytest.mark.parametrize("delay_s", [0.2, 1.0, 2.0, 4.0])
def test_signals_end_a_policy_that_loads_without_a_traceback(
    processes: Any, robot_file: Path, folder: Path, delay_s: float
) -> None:
    """Wherever it is: importing, reading, warming up; the second and third come while it ends."""
    given = ros_arguments({"robot": str(robot_file), "checkpoint": str(folder), "device": "cpu"})
    processes.start("policy", [sys.executable, "-m", "pi0_ros.nodes.start", "policy", *given])
    time.sleep(delay_s)
    for _ in range(3):
        processes.signal("policy", signal.SIGINT)
        time.sleep(0.1)
    wait_until(lambda: not processes.is_running("policy"), 30.0, lambda: processes.tail("policy"))
    assert processes.returncode("policy") in (0, -signal.SIGINT), processes.tail("policy")
    assert "Traceback" not in processes.output("policy")


def test_inputs_of_the_policy_are_topics_of_the_robot_file_the_prompt_and_what_was_sent(
    rig: Rig, processes: Any, robot_file: Path, folder: Path
) -> None:
    """What the process hears and asks, as the ROS graph sees it: no ground truth, no service of anyone."""
    processes.node("policy_node", robot=robot_file, checkpoint=folder, device="cpu")
    rig.wait_for_chunks()

    def subscribed() -> set[str]:
        return {name for name, _ in rig.node.get_subscriber_names_and_types_by_node("policy", "/")}

    wanted = {BASE, WRIST, STATE, "/policy/prompt", "/pi0/command", "/pi0/plan", "/pi0/state"}
    rig.until(lambda: wanted <= subscribed(), "the whole graph")
    assert subscribed() - {"/parameter_events", "/clock"} == wanted
    assert rig.node.get_client_names_and_types_by_node("policy", "/") == []
    published = {name for name, _ in rig.node.get_publisher_names_and_types_by_node("policy", "/")}
    ros = {"/rosout", "/parameter_events", "/policy/transition_event"}
    assert published - ros == {"/pi0/chunk", "/pi0/latency", "/pi0/subtask", "/diagnostics"}


def test_the_policy_process_knows_no_simulator_and_no_demonstrator() -> None:
    """Nothing that could stand in for the policy is even imported."""
    code = (
        "import sys, pi0_ros.nodes.policy_node, pi0_ros.policy.policy; "
        "print([name for name in sys.modules if name.startswith(('pi0_ros.sim', 'pi0_ros.training', 'mujoco')) "
        "or name in ('pi0_ros.nodes.sim_node', 'pi0_ros.nodes.demonstrator_node')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_model_sees_what_was_published_and_nothing_else(
    rig: Rig, make_node: Callable[..., PolicyNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every observation that reached the backend can be rebuilt from the published messages alone."""
    seen: list[Observation] = []

    infer = Policy.infer

    def spy(self: Policy, observation: Observation, prefix: Any = None) -> Any:
        if observation.stamp_ns:  # not the warming up
            seen.append(observation)
        return infer(self, observation, prefix)

    monkeypatch.setattr(Policy, "infer", spy)
    make_node().autostart()
    rig.until(lambda: len(seen) >= 3, "observations")
    sent = {(topic, stamp_to_ns(message.header.stamp)): message for topic, message in rig.sent}
    for one in seen[:3]:
        assert set(one.ages_s) == {BASE, WRIST, STATE}
        rebuilt = ObservationBuffer(ROBOT)
        for topic, age in one.ages_s.items():
            rebuilt.push_message(topic, sent[topic, one.stamp_ns - round(age * 1e9)], 0)
        again = rebuilt.observe(one.stamp_ns, ROBOT.prompt)
        assert (one.prompt, one.ages_s) == (again.prompt, again.ages_s)
        np.testing.assert_array_equal(one.state, again.state)
        assert one.images.keys() == again.images.keys()
        for name in one.images:
            np.testing.assert_array_equal(one.images[name], again.images[name])


def test_prompts_latched_and_plain(rig: Rig, make_node: Callable[..., PolicyNode]) -> None:
    latched = rig.node.create_publisher(String, "/policy/prompt", LATCHED)
    latched.publish(String(data="said before the policy came"))
    node = make_node()
    node.autostart()
    rig.until(lambda: rig.status.get("prompt") == "said before the policy came", "the latched prompt")
    assert node.get_parameter("prompt").value == "said before the policy came"
    plain = rig.node.create_publisher(
        String, "/policy/prompt", QoSProfile(depth=1, durability=DurabilityPolicy.VOLATILE)
    )
    rig.until(lambda: plain.get_subscription_count() > 0, "a listener")
    plain.publish(String(data="said later"))
    rig.until(lambda: rig.status.get("prompt") == "said later", "the plain prompt")
    assert node.get_parameter("prompt").value == "said later", "one home"
    plain.publish(String(data=""))
    rig.wait_for_refusal("prompt", "no prompt", "~/prompt")


def test_subscriptions_take_the_reliability_that_is_offered(rig: Rig, make_node: Callable[..., PolicyNode]) -> None:
    rig.node.destroy_publisher(rig.cameras.pop(WRIST))
    rig.cameras[WRIST] = rig.node.create_publisher(
        Image, WRIST, QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    )
    make_node().autostart()

    def reliability(topic: str) -> set[str]:
        found = rig.node.get_subscriptions_info_by_topic(topic)
        return {info.qos_profile.reliability.name for info in found if info.node_name == "policy"}

    rig.until(lambda: reliability(BASE) == {"RELIABLE"}, "a reliable subscription")
    assert reliability(WRIST) == {"BEST_EFFORT"}
    rig.wait_for_chunks()


def test_simulated_time(rig: Rig, make_node: Callable[..., PolicyNode]) -> None:
    """Stamps, ages and rate follow /clock; as long as there is none, the node says that it waits for it."""
    make_node(use_sim_time=True).autostart()
    rig.wait_for_refusal("starting", "/clock")
    rig.now_ns = 1000 * SECOND
    rig.wait_for_chunks()
    stamps = [stamp_to_ns(chunk.header.stamp) for chunk in rig.chunks]
    assert stamps == sorted(stamps) and 1000 * SECOND < stamps[0] <= rig.now_ns


def test_chunks_follow_the_subtask(
    rig: Rig, make_node: Callable[..., PolicyNode], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The model names its next subtask; a late listener hears it, and the chunks are inferred with it as prompt."""
    told: list[str] = []
    infer = Policy.infer

    def spy(self: Policy, seen: Observation, *more: Any) -> Any:
        told.append(seen.prompt)
        return infer(self, seen, *more)

    monkeypatch.setattr(Policy, "infer", spy)
    make_node(
        checkpoint=str(tiny_checkpoint(tmp_path / "pi05", seed=1, kind="pi05")), **{"subtask.rate_hz": 5.0}
    ).autostart()
    rig.until(lambda: any(prompt not in ("", ROBOT.prompt) for prompt in told), "a chunk with a subtask")
    heard: list[String] = []
    rig.node.create_subscription(String, "pi0/subtask", heard.append, LATCHED)
    rig.until(lambda: heard and heard[-1].data in told, "the subtask")
    assert rig.status["prompt"] == ROBOT.prompt
    rig.wait_for_chunks()


# --- nothing moves, and why -------------------------------------------------------------------------------------------


def test_stale_camera(rig: Rig, make_node: Callable[..., PolicyNode]) -> None:
    make_node().autostart()
    rig.wait_for_chunks()
    rig.silent = {WRIST}
    rig.wait_for_refusal("stale", WRIST, "s old, limit 2.00 s")
    assert rig.status["level"] == "02"
    stale = int(rig.status["stale_events"])
    rig.silent = set()
    rig.wait_for_chunks()
    assert stale >= 1


def test_wrong_encoding(rig: Rig, make_node: Callable[..., PolicyNode]) -> None:
    rig.encoding = "nonsense8"
    make_node().autostart()
    rig.wait_for_refusal("unreadable", "nonsense8", BASE)
    rig.encoding = "rgb8"
    rig.wait_for_chunks()


def test_missing_joint(rig: Rig, make_node: Callable[..., PolicyNode]) -> None:
    rig.joints = list(ROBOT.joint_names[:-1])
    make_node().autostart()
    rig.wait_for_refusal("stale", repr(ROBOT.joint_names[-1]), STATE)


def test_another_robots_checkpoint_ends_the_process(processes: Any, robot_file: Path, tmp_path: Path) -> None:
    robot = replace(ROBOT, joints=(replace(ROBOT.joints[0], name="waist"), *ROBOT.joints[1:]))
    state = tuple(replace(item, joints=robot.joint_names) for item in robot.state)
    groups = tuple(replace(group, joints=robot.joint_names) for group in robot.commands)
    other = tiny_checkpoint(tmp_path / "other", replace(robot, state=state, commands=groups, takeover=NOBODY))
    processes.node("policy_node", robot=robot_file, checkpoint=other, device="cpu")
    output = processes.wait_for_output("policy_node", "disagree", LIMIT_S)
    assert "'waist'" in output and "Use the checkpoint's robot file" in output


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"checkpoint": "/no/such/folder"}, "there is no such checkpoint"),
        ({"checkpoint": ""}, "needs a checkpoint folder"),
        ({"robot": "no_such_robot"}, "no robot is called 'no_such_robot'"),
        ({"subtask.rate_hz": 1.0}, "only pi05 writes subtasks"),
        ({"backend": "zmq", "server": "gpu-box"}, "expected something like tcp://"),
        ({"backend": "openpi", "server": "gpu-box"}, "needs an address such as ws://"),
        ({"backend": "openpi", "server": "ws://gpu:1", "rtc.mode": "exact"}, "cannot continue a chunk: use auto"),
        ({"device": "tpu"}, "tpu"),
    ],
)
def test_configuring_is_refused_with_the_reason(
    parameters: dict[str, Any], words: str, rig: Rig, make_node: Callable[..., PolicyNode]
) -> None:
    node = make_node(**parameters)
    assert not node.autostart()
    assert words in node.refusal
    rig.until(lambda: words in rig.status.get("reason", ""), "diagnostics")
    assert (rig.status["state"], rig.status["level"]) == ("refused", "02")


# --- a server ---------------------------------------------------------------------------------------------------------


def test_server_dies_and_comes_back(rig: Rig, make_node: Callable[..., PolicyNode], tmp_path: Path) -> None:
    """The server is a process of its own; the node starts before it and outlives it."""
    address = f"ipc://{tmp_path}/policy.sock"
    command = [sys.executable, policy_fixtures.__file__, address]
    make_node(backend="zmq", server=address, checkpoint="").autostart()
    rig.wait_for_refusal("backend", "not reachable", "pi0 serve")
    for _ in range(2):
        with subprocess.Popen(command) as server:
            try:
                rig.wait_for_chunks()
                rig.until(lambda: rig.status.get("checkpoint") == "held", "the server's metadata")
            finally:
                server.kill()
        rig.wait_for_refusal("backend", address)
    assert int(rig.status["backend_errors"]) > 0


def test_an_openpi_server_drives_the_robot(rig: Rig, make_node: Callable[..., PolicyNode]) -> None:
    pytest.importorskip("websockets", minversion="13")
    from pi0_ros.inference.openpi_server import OpenpiServer

    server = OpenpiServer(policy_fixtures.HeldPolicy(), "127.0.0.1", 0)
    server.start()
    try:
        make_node(backend="openpi", server=server.address, checkpoint="").autostart()
        rig.wait_for_chunks()
        assert rig.status["rtc_mode"] == "off"  # an openpi server cannot continue a chunk
    finally:
        server.close()
    rig.wait_for_refusal("backend", "does an openpi server run there")


# --- lifecycle and parameters -----------------------------------------------------------------------------------------


def test_lifecycle(rig: Rig, make_node: Callable[..., PolicyNode]) -> None:
    node = make_node(autostart=False)
    assert node.autostart()
    rig.until(lambda: rig.status.get("state") == "unconfigured", "diagnostics")
    change = rig.node.create_client(ChangeState, "/policy/change_state")

    def transition(label: str) -> None:
        request = ChangeState.Request()
        request.transition.label = label
        rig.until(change.service_is_ready, "the lifecycle service")
        future = change.call_async(request)
        rig.until(future.done, label)
        assert future.result().success, label

    transition("configure")
    rig.until(lambda: rig.status.get("state") == "inactive", "inactive")
    transition("activate")
    rig.wait_for_chunks()
    transition("deactivate")
    rig.until(lambda: rig.status.get("state") == "inactive", "inactive again")
    rig.chunks.clear()
    rig.spin(QUIET_S)
    assert rig.chunks == []
    transition("activate")
    rig.wait_for_chunks()
    transition("deactivate")
    transition("cleanup")
    rig.until(lambda: rig.status.get("state") == "unconfigured", "unconfigured")
    transition("configure")
    transition("activate")
    rig.wait_for_chunks()


def test_parameters_are_described_and_change_when_they_may(rig: Rig, make_node: Callable[..., PolicyNode]) -> None:
    node = make_node(autostart=False)
    for parameter in table("policy").values():
        descriptor = node.describe_parameter(parameter.name)
        assert len(descriptor.description) > 10
        assert descriptor.read_only == (parameter.changes is Changes.AT_START)
        ranges = [*descriptor.floating_point_range, *descriptor.integer_range]
        assert len(ranges) == (parameter.range is not None)
        result = node.set_parameters([Parameter(parameter.name, value=node.get_parameter(parameter.name).value)])[0]
        assert result.successful == (parameter.changes is not Changes.AT_START), parameter.name
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    refused = node.set_parameters([Parameter("checkpoint", value="/elsewhere")])[0]
    assert not refused.successful
    assert "ros2 lifecycle set /policy" in refused.reason and "cleanup" in refused.reason
    assert node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
    assert node.set_parameters([Parameter("checkpoint", value="/elsewhere")])[0].successful
    wrong = node.set_parameters([Parameter("rtc.mode", value="magic")])[0]
    assert not wrong.successful and "it takes one of auto, off" in wrong.reason


def test_prompt_is_a_parameter_that_may_change(rig: Rig, make_node: Callable[..., PolicyNode]) -> None:
    node = make_node(prompt="first")
    node.autostart()
    rig.until(lambda: rig.status.get("prompt") == "first", "the first prompt")
    assert node.set_parameters([Parameter("prompt", value="second")])[0].successful
    rig.until(lambda: rig.status.get("prompt") == "second", "the second prompt")
    assert not node.set_parameters([Parameter("robot", value="aloha")])[0].successful


def test_chunks_are_executed_as_fast_as_told(rig: Rig, make_node: Callable[..., PolicyNode]) -> None:
    node = make_node(execution_speed=0.5)
    node.autostart()

    def step_is(dt: float) -> bool:
        return bool(rig.chunks) and stamp_to_seconds(rig.chunks[-1].points[1].time_from_start) == pytest.approx(dt)

    rig.until(lambda: step_is(2.0 / ROBOT.dataset_fps), "chunks at half speed")
    assert node.set_parameters([Parameter("execution_speed", value=1.0)])[0].successful
    rig.until(lambda: step_is(1.0 / ROBOT.dataset_fps), "chunks at the speed of the data")
    rig.until(lambda: float(rig.status["execution_speed"]) == 1.0, "the speed in /diagnostics")
    for wrong in (3.0, 0, "fast", True, float("nan"), [1.0]):
        refused = node.set_parameters([Parameter("execution_speed", value=wrong)])[0]
        assert not refused.successful, wrong
    assert node.get_parameter("execution_speed").value == 1.0


def test_late_chunks_are_executed_slower_and_it_is_said(
    rig: Rig, make_node: Callable[..., PolicyNode], folder: Path, tmp_path: Path
) -> None:
    """By itself, later than the policy was trained for; not where a number was asked for."""
    trained = tmp_path / "trained"
    shutil.copytree(folder, trained)
    config = json.loads((trained / "config.json").read_text())
    config["policy"]["rtc_trained_max_delay"] = 2
    (trained / "config.json").write_text(json.dumps(config))
    node = make_node(checkpoint=str(trained))
    node.autostart()
    backend = node._backend
    assert backend is not None
    infer = backend.infer

    def late(*args: Any) -> Any:
        time.sleep(0.12)  # 2.4 actions
        return infer(*args)

    backend.infer = late  # type: ignore[method-assign]
    rig.until(lambda: "slowed to" in rig.status.get("message", ""), "a slower speed, with its reason")
    assert float(rig.status["execution_speed"]) < 0.6 and rig.status["level"] == "01"
    assert (rig.status["state"], rig.status["reason"]) == ("running", "")
    assert node.set_parameters([Parameter("execution_speed", value=1.0)])[0].successful
    rig.until(lambda: rig.status["message"] == "running", "what was asked for")
    assert float(rig.status["execution_speed"]) == 1.0 and rig.status["execution_slowed"] == ""
    assert node.set_parameters([Parameter("execution_speed", value="auto")])[0].successful
    rig.until(lambda: float(rig.status["execution_speed"]) < 0.6, "a slower speed again")


def test_values_out_of_range_are_refused(ros_context: Any) -> None:
    with pytest.raises(rclpy.exceptions.InvalidParameterValueException):
        PolicyNode(context=ros_context, parameter_overrides=[Parameter("timeout_s", value=-1.0)])


def test_activation_needs_configuration(make_node: Callable[..., PolicyNode]) -> None:
    node = make_node(autostart=False)
    try:
        result = node.trigger_activate()
    except Exception as error:  # up to Jazzy
        assert "Transition is not registered" in str(error)
    else:
        assert result == TransitionCallbackReturn.ERROR


# --- as other processes see it ----------------------------------------------------------------------------------------


class Remote:
    """What `ros2 param` and `ros2 lifecycle` do, by their services, through the rig's node."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self._clients: dict[str, Any] = {}

    def call(self, kind: Any, name: str, request: Any) -> Any:
        client = self._clients.setdefault(name, self.rig.node.create_client(kind, f"/policy/{name}"))
        self.rig.until(client.service_is_ready, f"the service {name}")
        future = client.call_async(request)
        self.rig.until(future.done, f"the answer of {name}")
        return future.result()

    def change(self, label: str = "", number: int = 0) -> bool:
        request = ChangeState.Request()
        request.transition.label, request.transition.id = label, number
        return bool(self.call(ChangeState, "change_state", request).success)

    def state(self) -> str:
        return str(self.call(GetState, "get_state", GetState.Request()).current_state.label)

    def get(self, *names: str) -> list[Any]:
        values = self.call(GetParameters, "get_parameters", GetParameters.Request(names=names)).values
        return [parameter_value_to_python(value) for value in values]

    def dump(self) -> dict[str, Any]:
        names = self.call(ListParameters, "list_parameters", ListParameters.Request()).result.names
        return dict(zip(names, self.get(*names)))

    def set(self, **values: Any) -> list[str]:
        """Why each was refused; "" where it was not."""
        parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        results = self.call(SetParameters, "set_parameters", SetParameters.Request(parameters=parameters)).results
        return [result.reason if not result.successful else "" for result in results]


def test_another_checkpoint_without_a_restart_and_a_shutdown_that_ends_the_process(
    rig: Rig, processes: Any, robot_file: Path, folder: Path, tmp_path: Path
) -> None:
    other = tiny_checkpoint(tmp_path / "other", seed=3)
    processes.node("policy_node", robot=robot_file, checkpoint=folder, device="cpu")
    rig.wait_for_chunks()
    remote = Remote(rig)
    [reason] = remote.set(checkpoint=str(other))
    steps = re.findall(r"ros2 lifecycle set /policy (\w+)", reason)
    assert steps == ["deactivate", "cleanup"] and "`configure` and `activate`" in reason
    for step in steps:
        assert remote.change(step), step
    assert remote.state() == "unconfigured"
    assert remote.set(checkpoint=str(other)) == [""]
    assert remote.change("configure")
    assert "cleanup" in remote.set(device="auto")[0] and "deactivate" not in remote.set(device="auto")[0]
    assert remote.change("activate")
    rig.wait_for_chunks()
    rig.until(lambda: rig.status.get("checkpoint") == "other", "the other checkpoint")

    assert not remote.change("configure") and not remote.change(number=1), "refused, and the node lives on"
    assert "there are deactivate" in processes.wait_for_output("policy_node", "refused while active", 20.0)
    rig.wait_for_chunks()
    assert remote.change("deactivate") and remote.change("cleanup")
    assert remote.set(checkpoint="/nowhere") == [""]
    assert not remote.change("configure")
    rig.until(lambda: "there is no such checkpoint" in rig.status.get("reason", ""), "the refusal")
    assert remote.set(checkpoint=str(folder)) == [""]
    assert remote.change("configure") and remote.change("activate")
    rig.wait_for_chunks()
    assert remote.change("shutdown")
    rig.until(lambda: not processes.is_running("policy_node"), "the end of the process")
    assert processes.returncode("policy_node") == 0, processes.tail("policy_node")


def test_the_parameter_prompt_is_what_is_in_force(rig: Rig, processes: Any, robot_file: Path, folder: Path) -> None:
    processes.node("policy_node", robot=robot_file, checkpoint=folder, device="cpu")
    rig.wait_for_chunks()
    remote = Remote(rig)
    assert remote.get("prompt") == [ROBOT.prompt]
    plain = rig.node.create_publisher(String, "/policy/prompt", 1)
    latched = rig.node.create_publisher(String, "/policy/prompt", LATCHED)
    rig.until(lambda: plain.get_subscription_count() and latched.get_subscription_count(), "a listener")
    for text, publisher in (("by a plain one", plain), ("by a latched one", latched)):
        publisher.publish(String(data=text))
        rig.until(lambda text=text: rig.status.get("prompt") == text, text)
        assert remote.get("prompt") == [text]
    dumped = remote.dump()
    assert dumped["prompt"] == "by a latched one"
    assert remote.set(prompt="by the parameter") == [""]
    rig.until(lambda: rig.status.get("prompt") == "by the parameter", "the parameter's")
    plain.publish(String(data="x" * 5000))
    rig.spin(QUIET_S)
    assert "at most 4096" in remote.set(prompt="x" * 5000)[0] and remote.get("prompt") == ["by the parameter"]
    changeable = {name: value for name, value in dumped.items() if name in table("policy")}
    loaded = {n: v for n, v in changeable.items() if table("policy")[n].changes is Changes.ALWAYS}
    assert remote.set(**loaded) == [""] * len(loaded)
    rig.until(lambda: rig.status.get("prompt") == "by a latched one", "what was loaded")
    assert remote.change("deactivate") and remote.change("cleanup") and remote.set(prompt="") == [""]
    assert remote.change("configure") and remote.get("prompt") == [ROBOT.prompt]
    assert remote.change("cleanup") and remote.get("prompt") == [""], "another robot may be configured next"
    said = processes.output("policy_node")
    assert "incompatible QoS" not in said and "5000 characters" in said, said
