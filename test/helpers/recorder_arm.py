"""An arm with two cameras for the recorder's tests: its robot file, a driver that publishes, and readers of bags."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from pi0_ros.robot import Robot, load_robot

BASE, WRIST, STATE, COMMAND = "/arm/base/image", "/arm/wrist/image", "/arm/joint_states", "/arm/command"
LIMIT_S = 30.0


def arm_robot() -> Robot:
    """The demo arm on this file's topics."""
    demo = load_robot("demo_arm")
    cameras = tuple(replace(camera, topic=topic) for camera, topic in zip(demo.cameras, (BASE, WRIST), strict=True))
    state, commands = replace(demo.state[0], topic=STATE), replace(demo.commands[0], topic=COMMAND)
    return replace(demo, name="arm", cameras=cameras, state=(state,), commands=(commands,))


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
