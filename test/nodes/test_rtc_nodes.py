"""Real-time chunking over DDS: policy and controller as processes, and a robot that goes where it is told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from policy_fixtures import TOKENIZER, tiny_config, tiny_robot

rclpy = pytest.importorskip("rclpy")
from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.qos import QoSProfile  # noqa: E402
from sensor_msgs.msg import Image, JointState  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from std_srvs.srv import SetBool  # noqa: E402
from trajectory_msgs.msg import JointTrajectory  # noqa: E402

from pi0_ros.checkpoints.norm_stats import NormStats, Stats  # noqa: E402
from pi0_ros.control.chunk import ActionChunk  # noqa: E402
from pi0_ros.control.plan import Plan, position_along  # noqa: E402
from pi0_ros.control.sent import SentLog  # noqa: E402
from pi0_ros.nodes.messages import (  # noqa: E402
    LATCHED,
    LATEST,
    chunk_from_message,
    diagnostic_values,
    plan_from_message,
    sent_from_message,
    stamp_to_seconds,
)
from pi0_ros.robot import robot_to_yaml  # noqa: E402

pytestmark = pytest.mark.dds
ROBOT = replace(tiny_robot(), policy_rate_hz=4.0)
ARM = ~ROBOT.gripper_mask
HORIZON, WANTED = 20, 12
SPREAD = 0.004  # rad, of the untrained network's actions about the state: slow enough for the arm
LIMIT_S = 180.0


def calm_checkpoint(folder: Path) -> Path:
    """Random weights, small motions, and the claim that it was trained to continue prefixes."""
    import torch

    from pi0_ros.checkpoints.checkpoint import save_checkpoint
    from pi0_ros.checkpoints.settings import PolicySettings
    from pi0_ros.model.pi0 import Pi0

    torch.manual_seed(0)
    config, zeros = tiny_config(HORIZON), np.zeros(len(ROBOT.joints))
    state = Stats(zeros, zeros + 0.3, zeros - 1, zeros + 1)
    actions = Stats(zeros, zeros + SPREAD, zeros - SPREAD, zeros + SPREAD)
    settings = PolicySettings("mean_std", "mean_std", fps=20.0, num_steps=4, rtc_trained_max_delay=HORIZON - 2)
    return save_checkpoint(folder, Pi0(config), config, settings, ROBOT, NormStats(state, actions), TOKENIZER)


class Arm:
    """Cameras and joints of a robot that is where the last command sent it; remembers chunks and commands."""

    def __init__(self, context: Any) -> None:
        self.node = Node("arm", context=context)
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)
        self.position = np.full(len(ROBOT.joints), 0.4)
        self.sent = SentLog(len(ROBOT.joints))
        self.sent_at: list[float] = []
        self.chunks: list[tuple[ActionChunk, float]] = []  # with the time of arrival
        self.plans: list[tuple[int, Plan | None]] = []  # with the time at which each begins, ns
        self.controller_states: list[str] = []
        self.status: dict[str, str] = {}
        self.images = {c.topic: self.node.create_publisher(Image, c.topic, LATEST) for c in ROBOT.cameras}
        self.states = self.node.create_publisher(JointState, ROBOT.state[0].topic, 10)
        self.node.create_subscription(JointTrajectory, "pi0/command", self.commanded, QoSProfile(depth=50))
        self.node.create_subscription(JointTrajectory, "pi0/chunk", self.heard, LATEST)
        self.node.create_subscription(JointTrajectory, "pi0/plan", self.planned, QoSProfile(depth=50))
        self.node.create_subscription(
            String, "pi0/state", lambda message: self.controller_states.append(message.data), LATCHED
        )
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self.diagnosed, 10)
        self.node.create_timer(0.05, self.publish)

    def now(self) -> float:
        return float(self.node.get_clock().now().nanoseconds * 1e-9)

    def commanded(self, message: JointTrajectory) -> None:
        self.position = sent_from_message(message, ROBOT.action_names)
        self.sent_at.append(stamp_to_seconds(message.header.stamp))
        self.sent.push(self.sent_at[-1], self.position)

    def planned(self, message: JointTrajectory) -> None:
        self.plans.append(plan_from_message(message, ROBOT.action_names))

    def heard(self, message: JointTrajectory) -> None:
        self.chunks.append((chunk_from_message(message, ROBOT.action_names), self.now()))

    def diagnosed(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == "pi0_ros: policy":
                self.status = diagnostic_values(status)

    def publish(self) -> None:
        stamp = self.node.get_clock().now().to_msg()
        for publisher in self.images.values():
            image = Image(height=32, width=40, step=120, encoding="rgb8")
            image.header.stamp = stamp
            image.data.frombytes(np.random.default_rng().integers(0, 256, 32 * 120, np.uint8))
            publisher.publish(image)
        state = JointState(name=list(ROBOT.joint_names), position=self.position.tolist())
        state.header.stamp = stamp
        self.states.publish(state)

    def until(self, condition: Any, what: str) -> None:
        end = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < end, f"not within {LIMIT_S:g} s: {what}; last status {self.status}"
            self.executor.spin_once(timeout_sec=0.05)


def plans_and_commands(arm: Arm) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """What the controller said it would send, up to its next word, and what it then sent: [n, J] each.

    Only where every tick came in time: a busy machine makes the controller skip some, which no plan foresees.
    """
    period, ticks = 1.0 / ROBOT.control_rate_hz, np.array(arm.sent_at)
    for (begins_ns, plan), (until_ns, _) in zip(arm.plans, arm.plans[1:]):
        times = ticks[(ticks >= begins_ns * 1e-9 - period / 2) & (ticks < until_ns * 1e-9 - period / 2)]
        if plan is not None and len(times) > 4 and np.diff(times).max() < 1.2 * period:
            there = position_along(plan, np.maximum(times - begins_ns * 1e-9, 0.0), ROBOT.gripper_mask)
            yield there, arm.sent.at(times)


@pytest.fixture
def arm(ros_context: Any) -> Any:
    one = Arm(ros_context)
    yield one
    one.executor.shutdown()
    one.node.destroy_node()


def test_chunks_begin_with_what_was_sent(arm: Arm, processes: Any, tmp_path: Path) -> None:
    """What was executed while the model thought stands at the beginning of its chunk; the rest is new."""
    robot_file = tmp_path / "arm.yaml"
    robot_file.write_text(robot_to_yaml(ROBOT))
    checkpoint = calm_checkpoint(tmp_path / "calm")
    processes.node("controller_node", robot=robot_file, transition="rtc", tracking_s=0.0)
    processes.node("policy_node", robot=robot_file, checkpoint=checkpoint, device="cpu", torch_threads=1)
    arm.until(lambda: arm.chunks, "the first chunk")
    assert float(arm.status.get("rtc_known", 0)) == 0  # nobody is armed: nothing to continue
    client = arm.node.create_client(SetBool, "/controller/arm")
    answer = client.call_async(SetBool.Request(data=True))
    arm.until(answer.done, "an answer to ~/arm")
    assert answer.result().success, answer.result().message

    start = len(arm.chunks) + 3  # some chunks to find into it
    arm.until(lambda: len(arm.chunks) >= start + WANTED, "chunks")
    same, free = [], []
    for (before, _), (chunk, arrival) in zip(arm.chunks[start - 1 :], arm.chunks[start:]):
        executed = int(np.ceil((arrival - chunk.stamp) / chunk.dt))
        if not 0 < executed < HORIZON - 4:
            continue  # a machine too busy to execute anything of it
        sent = arm.sent.at(chunk.times[:executed])
        same.append(np.abs(chunk.actions[:executed] - sent)[:, ARM].max())
        plan = np.stack([np.interp(chunk.times, before.times, joint) for joint in before.actions.T], axis=1)
        behind = chunk.times <= before.end
        behind[: executed + 2] = False
        if behind.any():
            free.append(np.abs(chunk.actions - plan)[behind][:, ARM].max())
    assert len(same) >= WANTED // 2 and free
    assert np.median(same) < 0.25 * np.median(free), (same, free)
    apart = lambda: [np.abs(there - sent)[:, ARM].max() for there, sent in plans_and_commands(arm)]  # noqa: E731
    arm.until(lambda: len(apart()) >= WANTED // 2, "plans of which no tick was missed")
    assert np.median(apart()) < 1e-4, apart()  # a plan that comes late is no longer what is sent
    assert arm.controller_states[-1] == "RUNNING" and arm.status["rtc_problem"] == ""
    arm.until(lambda: float(arm.status.get("rtc_executed", 0)) > 0, "the report")
    assert arm.status["rtc_mode"] == "auto"
    assert float(arm.status["rtc_difference"]) < 1e-5  # trained prefixes come out as they went in
