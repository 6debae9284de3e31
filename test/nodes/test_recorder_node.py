"""The recorder over real DDS: every message, unchanged, in bags that rosbags reads."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

rclpy = pytest.importorskip("rclpy")
from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.qos import QoSProfile, ReliabilityPolicy  # noqa: E402
from rclpy.serialization import deserialize_message, serialize_message  # noqa: E402
from rosbags.highlevel import AnyReader  # noqa: E402
from sensor_msgs.msg import Image, JointState  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint  # noqa: E402

from pi0_ros.nodes.episode_recovery import recover  # noqa: E402
from pi0_ros.nodes.episode_writer import EpisodeWriter  # noqa: E402
from pi0_ros.nodes.recorder import PROMPT_TOPIC, Recorder, RecorderError, next_index  # noqa: E402

BASE, WRIST, STATE, COMMAND = "/arm/base/image", "/arm/wrist/image", "/arm/joint_states", "/arm/command"
LIMIT_S = 30.0


@dataclass(frozen=True)
class Stream:
    topic: str
    type: str


@dataclass(frozen=True)
class ArmTopics:
    """The part of a robot file that the recorder's core reads."""

    name: str = "arm"
    prompt: str = "put the red cube in the tray"
    cameras: tuple[Stream, ...] = (Stream(BASE, "sensor_msgs/msg/Image"), Stream(WRIST, "sensor_msgs/msg/Image"))
    state: tuple[Stream, ...] = (Stream(STATE, "sensor_msgs/msg/JointState"),)
    commands: tuple[Stream, ...] = (Stream(COMMAND, "trajectory_msgs/msg/JointTrajectory"),)

    @property
    def topics(self) -> dict[str, str]:
        return {stream.topic: stream.type for stream in (*self.cameras, *self.state, *self.commands)}


class Driver:
    """Publishes the arm's topics and remembers what it sent."""

    def __init__(self, node: Node, reliability: ReliabilityPolicy = ReliabilityPolicy.RELIABLE) -> None:
        qos = QoSProfile(depth=1000, reliability=reliability)
        kinds = {BASE: Image, WRIST: Image, STATE: JointState, COMMAND: JointTrajectory}
        self.node = node
        self.publishers = {topic: node.create_publisher(kind, topic, qos) for topic, kind in kinds.items()}
        self.sent: dict[str, list[Any]] = {topic: [] for topic in kinds}
        self.generator = np.random.default_rng(0)

    def _publish(self, topic: str, message: Any) -> None:
        if hasattr(message, "header"):
            message.header.stamp = self.node.get_clock().now().to_msg()
        self.sent[topic].append(message)
        self.publishers[topic].publish(message)

    def image(self, topic: str) -> None:
        message = Image(height=96, width=96, encoding="rgb8", step=288)
        message.data.frombytes(self.generator.integers(0, 255, 96 * 96 * 3, np.uint8))
        self._publish(topic, message)

    def joints(self) -> None:
        self._publish(STATE, JointState(name=["a", "b"], position=self.generator.random(2).tolist()))

    def command(self) -> None:
        points = [JointTrajectoryPoint(positions=self.generator.random(2).tolist())]
        self._publish(COMMAND, JointTrajectory(joint_names=["a", "b"], points=points))

    def all(self) -> None:
        self.image(BASE), self.image(WRIST), self.joints(), self.command()


@pytest.fixture
def ros(ros_domain: int) -> Iterator[Any]:
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=ros_domain)
    yield context
    rclpy.try_shutdown(context=context)


@pytest.fixture
def executor(ros: Any) -> Iterator[SingleThreadedExecutor]:
    executor = SingleThreadedExecutor(context=ros)
    yield executor
    for node in executor.get_nodes():
        node.destroy_node()
    executor.shutdown()


def add_node(executor: SingleThreadedExecutor, name: str) -> Node:
    node = Node(name, context=executor.context)
    executor.add_node(node)
    return node


def spin_until(executor: SingleThreadedExecutor, done: Callable[[], Any], what: str, limit_s: float = LIMIT_S) -> Any:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if result := done():
            return result
        executor.spin_once(timeout_sec=0.05)
    raise AssertionError(f"not within {limit_s} s: {what}")


def heard(recorder: Recorder, driver: Driver) -> bool:
    """Everything is subscribed to, as both sides see it."""
    matched = all(publisher.get_subscription_count() == 1 for publisher in driver.publishers.values())
    return matched and not recorder.missing()


def read(path: Path) -> dict[str, list[tuple[int, bytes]]]:
    """Topic -> (receive time, serialized message) of a bag."""
    with AnyReader([path]) as reader:
        messages: dict[str, list[tuple[int, bytes]]] = {connection.topic: [] for connection in reader.connections}
        for connection, stamp_ns, data in reader.messages():
            messages[connection.topic].append((stamp_ns, bytes(data)))
    return messages


def custom_data(path: Path) -> dict[str, str]:
    metadata = yaml.safe_load((path / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert metadata["relative_file_paths"] == [f"{path.name.removesuffix('.partial')}.mcap"]
    return dict(metadata["custom_data"])


@pytest.mark.parametrize("reliability", [ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT])
def test_an_episode_holds_every_message_unchanged(
    executor: SingleThreadedExecutor, tmp_path: Path, reliability: ReliabilityPolicy
) -> None:
    driver = Driver(add_node(executor, "driver"), reliability)
    recorder = Recorder(add_node(executor, "recorder"), ArmTopics(), tmp_path)  # type: ignore[arg-type]
    spin_until(executor, partial(heard, recorder, driver), "subscriptions")
    before_ns = recorder.node.get_clock().now().nanoseconds
    recorder.start("put the blue cube in the tray", {"seed": "7"})
    for _ in range(20):
        driver.all()
        executor.spin_once(timeout_sec=0.0)
    spin_until(executor, lambda: sum(recorder.counts.values()) == 81, f"all messages, has {recorder.counts}")
    recording = recorder.stop("success")
    messages = read(recording.path)
    assert recording.path == tmp_path / "episode_000000"
    assert recording.counts == {PROMPT_TOPIC: 1, BASE: 20, WRIST: 20, STATE: 20, COMMAND: 20}
    for topic, sent in driver.sent.items():
        # Decoded, because the padding of CDR is whatever lay in memory.
        assert [deserialize_message(data, type(sent[0])) for _, data in messages[topic]] == sent
    stamps = [stamp for stream in messages.values() for stamp, _ in stream]
    assert before_ns <= min(stamps) <= max(stamps) <= recorder.node.get_clock().now().nanoseconds
    assert messages[PROMPT_TOPIC][0][0] == min(stamps)
    assert messages[PROMPT_TOPIC][0][1] == serialize_message(String(data="put the blue cube in the tray"))
    expected = {"prompt": "put the blue cube in the tray", "robot": "arm", "outcome": "success"}
    expected |= {"seed": "7", "lost": "{}"}
    assert custom_data(recording.path) == expected


def test_two_cameras_several_times_faster_than_real_time_lose_nothing(
    executor: SingleThreadedExecutor, tmp_path: Path
) -> None:
    """400 images, 1000 states and commands: ten seconds of the demo arm in one burst of a few seconds."""
    driver = Driver(add_node(executor, "driver"))
    recorder = Recorder(add_node(executor, "recorder"), ArmTopics(), tmp_path)  # type: ignore[arg-type]
    spin_until(executor, partial(heard, recorder, driver), "subscriptions")
    recorder.start()
    for tick in range(500):
        driver.joints(), driver.command()
        if tick % 5 in (0, 2):
            driver.image(BASE), driver.image(WRIST)
        for _ in range(4):
            executor.spin_once(timeout_sec=0.0)
    spin_until(executor, lambda: sum(recorder.counts.values()) == 1401, "all messages")
    recording = recorder.stop()
    assert recorder.pending == 0
    assert set(recording.lost.values()) == {0}
    assert {topic: len(stream) for topic, stream in read(recording.path).items()} == recording.counts


def test_what_the_recorder_could_not_take_is_counted(executor: SingleThreadedExecutor, tmp_path: Path) -> None:
    driver = Driver(add_node(executor, "driver"))
    recorder = Recorder(add_node(executor, "recorder"), ArmTopics(), tmp_path)  # type: ignore[arg-type]
    spin_until(executor, partial(heard, recorder, driver), "subscriptions")
    recorder.start()
    driver.all()
    spin_until(executor, lambda: sum(recorder.counts.values()) == 5, "the first of each")
    for _ in range(200):  # nobody listens meanwhile, and fewer images than these can wait
        driver.image(BASE)
    driver.image(WRIST)
    spin_until(executor, lambda: recorder.counts[WRIST] == 2, "the second of the wrist")
    for _ in range(300):
        executor.spin_once(timeout_sec=0.0)
    recording = recorder.stop()
    assert recording.counts[BASE] < 201
    assert recording.lost == {PROMPT_TOPIC: 0, BASE: 201 - recording.counts[BASE], WRIST: 0, STATE: 0, COMMAND: 0}
    assert f"{BASE}: {recording.counts[BASE]}, {recording.lost[BASE]} lost" in recording.summary().splitlines()
    assert custom_data(recording.path)["lost"] == json.dumps({BASE: recording.lost[BASE]})


def test_losses_of_two_publishers_on_one_topic_are_not_known(executor: SingleThreadedExecutor, tmp_path: Path) -> None:
    drivers = [Driver(add_node(executor, name)) for name in ("driver", "other_driver")]
    recorder = Recorder(add_node(executor, "recorder"), ArmTopics(), tmp_path)  # type: ignore[arg-type]
    for driver in drivers:
        spin_until(executor, partial(heard, recorder, driver), "subscriptions")
    recorder.start()
    for _ in range(5):
        for driver in drivers:
            driver.joints()
    spin_until(executor, lambda: recorder.counts[STATE] == 10, "all messages")
    recording = recorder.stop()
    assert recording.lost[STATE] is None and recording.lost[BASE] == 0
    assert f"{STATE}: 10, losses not known" in recording.summary().splitlines()


def test_discard_removes_and_numbers_go_on(executor: SingleThreadedExecutor, tmp_path: Path) -> None:
    (tmp_path / "episode_000004").mkdir()
    (tmp_path / "episode_000011.partial").mkdir()
    (tmp_path / "notes").mkdir()
    assert next_index(tmp_path) == 12
    driver = Driver(add_node(executor, "driver"))
    recorder = Recorder(add_node(executor, "recorder"), ArmTopics(), tmp_path)  # type: ignore[arg-type]
    spin_until(executor, partial(heard, recorder, driver), "subscriptions")
    assert recorder.start() == tmp_path / "episode_000012"
    assert (tmp_path / "episode_000012.partial").is_dir() and not (tmp_path / "episode_000012").exists()
    recorder.discard()
    assert next_index(tmp_path) == 12
    recorder.start()
    assert recorder.stop().path == tmp_path / "episode_000012"
    recorder.start()
    assert recorder.close() == tmp_path / "episode_000013.partial"
    assert custom_data(tmp_path / "episode_000013.partial")["outcome"] == "interrupted"


def test_refusals_say_what_to_do(executor: SingleThreadedExecutor, tmp_path: Path) -> None:
    recorder = Recorder(add_node(executor, "recorder"), ArmTopics(), tmp_path)  # type: ignore[arg-type]
    with pytest.raises(RecorderError, match=f"nothing publishes {BASE}, {WRIST}, {STATE}: start the robot's drivers"):
        recorder.start()
    with pytest.raises(RecorderError, match="call start first"):
        recorder.stop()
    driver = Driver(add_node(executor, "driver"))
    spin_until(executor, partial(heard, recorder, driver), "subscriptions")
    recorder.start()
    with pytest.raises(RecorderError, match="already recording episode_000000"):
        recorder.start()
    recorder.discard()
    unnamed = Recorder(recorder.node, ArmTopics(prompt=""), tmp_path)  # type: ignore[arg-type]
    with pytest.raises(RecorderError, match="no prompt"):
        unnamed.start(" ")


ROBOT_FILE = f"""
name: arm
description: two joints and two cameras
control_rate_hz: 50
policy_rate_hz: 2.5
dataset_fps: 20
prompt: put the red cube in the tray
joints:
  - {{name: a, unit: rad, kind: revolute, action: relative,
      limits: {{position: [-1.0, 1.0], velocity: 1.0, acceleration: 5.0}}}}
  - {{name: b, unit: rad, kind: revolute, action: relative,
      limits: {{position: [-1.0, 1.0], velocity: 1.0, acceleration: 5.0}}}}
cameras:
  - {{name: base, topic: {BASE}, type: sensor_msgs/msg/Image, slot: base_0_rgb, max_age_s: 0.25}}
  - {{name: wrist, topic: {WRIST}, type: sensor_msgs/msg/Image, slot: left_wrist_0_rgb, max_age_s: 0.25}}
state:
  - {{topic: {STATE}, type: sensor_msgs/msg/JointState, max_age_s: 0.15}}
commands:
  - {{name: arm, topic: {COMMAND}, type: trajectory_msgs/msg/JointTrajectory}}
action: {{source: command, max_age_s: 0.5}}
"""


@pytest.fixture
def process(tmp_path: Path, ros_domain: int) -> Iterator[subprocess.Popen[bytes]]:
    """`recorder_node` as a user starts it."""
    robot = tmp_path / "arm.yaml"
    robot.write_text(ROBOT_FILE)
    arguments = ["--ros-args", "-p", f"robot:={robot}", "-p", f"out_dir:={tmp_path / 'bags'}"]
    environment = {**os.environ, "ROS_DOMAIN_ID": str(ros_domain), "ROS_LOG_DIR": str(tmp_path / "log")}
    command = [sys.executable, "-m", "pi0_ros.nodes.recorder_node", *arguments]
    process = subprocess.Popen(command, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def call(executor: SingleThreadedExecutor, node: Node, service: str) -> Trigger.Response:
    client = node.create_client(Trigger, f"/recorder/{service}")
    spin_until(executor, client.service_is_ready, service)
    future = client.call_async(Trigger.Request())
    spin_until(executor, future.done, service)
    return future.result()


def test_the_node_records_by_service_and_survives_kill_9(
    executor: SingleThreadedExecutor, process: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    node = add_node(executor, "driver")
    driver = Driver(node)
    prompt = node.create_publisher(String, "/recorder/prompt", 1)
    outcome = node.create_publisher(String, "/recorder/outcome", 1)
    state: dict[str, str] = {}

    def remember(array: DiagnosticArray) -> None:
        for status in array.status:
            if status.name == "pi0_ros: recorder":
                state.update({"message": status.message} | {pair.key: pair.value for pair in status.values})

    node.create_subscription(DiagnosticArray, "/diagnostics", remember, 10)
    everyone = (prompt, outcome, *driver.publishers.values())
    spin_until(executor, lambda: all(publisher.get_subscription_count() for publisher in everyone), "recorder")
    prompt.publish(String(data="put the green cube in the tray"))
    spin_until(executor, lambda: state.get("prompt", "").startswith("put the green"), "prompt in diagnostics")
    assert not call(executor, node, "stop").success
    started = call(executor, node, "start")
    assert started.success and started.message == str(tmp_path / "bags/episode_000000")
    for _ in range(10):
        driver.all()
    spin_until(executor, lambda: state.get(f"messages {COMMAND}") == "10", "count in diagnostics")
    assert state["state"] == "recording"
    outcome.publish(String(data="success"))
    spin_until(executor, lambda: state.get("outcome") == "success", "outcome in diagnostics")
    stopped = call(executor, node, "stop")
    assert stopped.success and f"{BASE}: 10" in stopped.message.splitlines()
    path = Path(stopped.message.splitlines()[0])
    assert custom_data(path)["outcome"] == "success"
    assert custom_data(path)["prompt"] == "put the green cube in the tray"

    assert call(executor, node, "start").message.endswith("episode_000001")
    for _ in range(60):  # 3.3 MB: more than one MCAP chunk reaches the disk
        driver.all()
    spin_until(executor, lambda: state.get(f"messages {BASE}") == "60" and state["queue"] == "0", "second episode")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(read(path)[BASE]) == 10
    left = tmp_path / "bags/episode_000001.partial"
    assert left.is_dir() and not (tmp_path / "bags/episode_000001").exists()
    assert next_index(tmp_path / "bags") == 2
    salvaged = read(recover(left))
    assert len(salvaged[PROMPT_TOPIC]) == 1
    assert 35 <= len(salvaged[BASE]) <= 60 and 35 <= len(salvaged[STATE]) <= 60
    image = deserialize_message(salvaged[BASE][-1][1], Image)
    assert image == driver.sent[BASE][10 + len(salvaged[BASE]) - 1]


def test_nothing_to_recover_is_said(tmp_path: Path) -> None:
    (tmp_path / "episode_000000.partial").mkdir()
    with pytest.raises(ValueError, match=r"episode_000000\.partial: holds no MCAP file"):
        recover(tmp_path / "episode_000000.partial")
    EpisodeWriter(tmp_path / "episode_000001", {STATE: "sensor_msgs/msg/JointState"})
    with pytest.raises(ValueError, match="not one whole message"):
        recover(tmp_path / "episode_000001.partial")


def test_sigterm_in_the_middle_of_an_episode_keeps_it_as_partial(
    executor: SingleThreadedExecutor, process: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    node = add_node(executor, "driver")
    driver = Driver(node)
    matched = driver.publishers.values()
    spin_until(executor, lambda: all(publisher.get_subscription_count() for publisher in matched), "recorder")
    assert call(executor, node, "start").success
    process.terminate()
    assert process.wait(LIMIT_S) == 0
    assert custom_data(tmp_path / "bags/episode_000000.partial")["outcome"] == "interrupted"
