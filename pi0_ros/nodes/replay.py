"""A recording played through the deployed nodes: policy and controller as processes of their own, over DDS, on the
recording's clock.

What the robot said is published again, bytes as they were recorded, when it was received then; `/clock` is the time of
the recording. What people commanded is not played: the controller is the only commander. The robot of a recording does
not follow the controller, so tracking errors are not watched.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rosgraph_msgs.msg import Clock
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from pi0_ros.bags.conventions import PROMPT_TOPIC, recorded_prompt
from pi0_ros.bags.reader import Bag, BagError
from pi0_ros.base.errors import Pi0Error
from pi0_ros.control.chunk import ChunkError
from pi0_ros.launching.launches import ros_arguments
from pi0_ros.launching.processes import ProcessGroup, interrupted_by_signals
from pi0_ros.monitor.replay import Played, Truth
from pi0_ros.nodes.messages import (
    LATCHED,
    LATEST,
    STATUS,
    chunk_from_message,
    diagnostic_values,
    message_class,
    ns_to_stamp,
    sent_from_message,
    stamp_to_ns,
)
from pi0_ros.nodes.ros import start_ros
from pi0_ros.observation.streams import ObservationBuffer, StaleError
from pi0_ros.robot import Camera, Robot, StateTopic, robot_to_yaml

SECOND = 1_000_000_000
BEFORE_S = 6.0  # the robot stands as at the recording's beginning, so that the controller arms
LOAD_S = 240.0  # until both nodes are ready
STEP_S = 0.02  # the recording's clock never goes on by more at once: a busy machine slows it down
AGAIN_S = 0.05  # between two messages of a standing robot
PATIENT = {
    "auto_arm": True,
    "auto_arm_timeout_s": 0.0,
    "rearm_after_s": 86400.0,
    "idle_timeout_s": 0.0,
    "tracking_s": 0.0,
}


def play(
    path: Path,
    robot: Robot,
    policy: Mapping[str, object],
    environment: Mapping[str, str],
    log_dir: Path | None = None,
    rate: float = 1.0,
    before_s: float = BEFORE_S,
) -> Played:
    """Play the recording at `path` through new nodes; `policy` are the policy node's parameters.

    Raises `BagError` for a recording that cannot be played, `Pi0Error` where a node ends or does not begin to work.
    """
    robot = untracked(robot.recorded)
    with tempfile.TemporaryDirectory(prefix="pi0_replay_") as folder, Bag(path) as bag:
        check_topics(bag, robot)
        file = Path(folder) / "robot.yaml"
        file.write_text(robot_to_yaml(robot))
        common = {"robot": str(file), "use_sim_time": True}
        prompts = prompts_of(bag)
        first = prompts[0][1] if prompts else robot.prompt
        with interrupted_by_signals(), ProcessGroup(log_dir) as group:
            for name, parameters in (("policy", {**policy, "prompt": first}), ("controller", PATIENT)):
                argv = [
                    sys.executable,
                    "-m",
                    "pi0_ros.nodes.start",
                    name,
                    *ros_arguments({**common, **parameters}, name),
                ]
                group.start(name, argv, env=dict(environment))
            return _play(bag, robot, prompts, group, rate, before_s)


def untracked(robot: Robot) -> Robot:
    """The robot without limits on how far it may be from its command: a recorded one does not follow."""
    return replace(robot, joints=tuple(replace(joint, tracking=None) for joint in robot.joints))


def observed(robot: Robot) -> list[Camera | StateTopic]:
    """What the policy needs."""
    return [*robot.cameras, *robot.state]


def check_topics(bag: Bag, robot: Robot) -> None:
    """Raise `BagError` unless the recording holds what the policy needs."""
    for item in observed(robot):
        info = bag.info.topics.get(item.topic)
        if info is None or not info.count:
            raise BagError(
                f"{bag.path}: no message on {item.topic}: give --robot with the topics as they were recorded"
            )
        if info.type != item.type:
            raise BagError(f"{bag.path}: {item.topic} holds {info.type}, the robot file says {item.type}")


def prompts_of(bag: Bag) -> list[tuple[int, str]]:
    """(receive time in ns, text) of the instructions in a recording."""
    said = []
    if PROMPT_TOPIC in bag.info.topics:
        said = [(ns, str(bag.decode(PROMPT_TOPIC, data).data)) for _, ns, data in bag.raw({PROMPT_TOPIC})]
    text = recorded_prompt(bag.info.custom_data)
    return said or ([(bag.info.start_ns, text)] if text else [])


def _play(
    bag: Bag, robot: Robot, prompts: Sequence[tuple[int, str]], group: ProcessGroup, rate: float, before_s: float
) -> Played:
    context = rclpy.Context()
    start_ros(context=context)
    executor = SingleThreadedExecutor(context=context)
    node = Node("replay", context=context, use_global_arguments=False)
    executor.add_node(node)
    try:
        player = _Player(node, executor, robot, group, rate)
        player.wait_until_ready()
        topics = {item.topic for item in observed(robot)}
        player.stand(dict(_first(bag, topics)), bag.info.start_ns, before_s)
        player.run(bag.raw(topics), prompts[1:])
        return player.played
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown(context=context)


def _first(bag: Bag, topics: set[str]) -> Iterator[tuple[str, bytes]]:
    """The first message of each topic."""
    seen: set[str] = set()
    for topic, _, data in bag.raw(topics):
        if topic not in seen:
            seen.add(topic)
            yield topic, data
        if seen == topics:
            return


class _Player:
    """Publishes and listens, in one thread."""

    def __init__(
        self, node: Node, executor: SingleThreadedExecutor, robot: Robot, group: ProcessGroup, rate: float
    ) -> None:
        self.played = Played(len(robot.action_joints))
        self._node, self._executor, self._robot, self._group, self._rate = node, executor, robot, group, rate
        self._now_ns = self._taken = 0
        self._clock = node.create_publisher(Clock, "/clock", QoSProfile(depth=10))
        self._prompt = node.create_publisher(String, "policy/prompt", LATCHED)
        self._publishers: dict[str, Any] = {}
        for item in robot.cameras:
            self._publishers[item.topic] = node.create_publisher(
                message_class(item.type), item.topic, QoSProfile(depth=2)
            )
        for topic, (state, *_) in robot.state_topics.items():  # which may have several entries
            self._publishers[topic] = node.create_publisher(message_class(state.type), topic, QoSProfile(depth=20))
        many = QoSProfile(depth=500, reliability=ReliabilityPolicy.RELIABLE)
        node.create_subscription(JointTrajectory, "pi0/chunk", self._on_chunk, LATEST)
        node.create_subscription(JointTrajectory, "pi0/command", self._on_command, many)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, many)
        node.create_subscription(DiagnosticArray, "pi0/latency", self._on_latency, many)

    def wait_until_ready(self) -> None:
        """Both nodes speak and hear; the policy has its model."""
        end = time.monotonic() + LOAD_S

        def ready() -> bool:
            heard = all(publisher.get_subscription_count() > 0 for publisher in self._publishers.values())
            loaded = self.played.policy.get("state", "") not in ("", "loading", "unconfigured", "inactive")
            return heard and loaded and bool(self.played.controller)

        while not ready():
            self._look(0.05)
            for ended in self._group.poll():
                raise Pi0Error(str(ended), details=self._group.tail(ended.name))
            if time.monotonic() > end:
                raise Pi0Error(f"not ready within {LOAD_S:g} s", details=self._words())

    def stand(self, first: Mapping[str, bytes], begin_ns: int, before_s: float) -> None:
        """The robot stands as in its first messages for the last seconds before the beginning: the controller arms."""
        kinds = self._robot.topics
        messages = {topic: deserialize_message(data, message_class(kinds[topic])) for topic, data in first.items()}
        self._now_ns, due_ns, last = begin_ns - round(before_s * SECOND), 0, time.monotonic()
        while self._now_ns < begin_ns:
            if self._now_ns >= due_ns:
                due_ns = self._now_ns + round(AGAIN_S * SECOND)
                for topic, message in messages.items():
                    if hasattr(message, "header"):
                        message.header.stamp = ns_to_stamp(self._now_ns)
                    self._publishers[topic].publish(message)
            last = self._advance(last, begin_ns)
        state = self.played.controller
        if state.get("state") != "RUNNING":
            raise Pi0Error(
                f"within {before_s:g} s before the beginning (--before) the controller followed no chunk: it is "
                f"{state.get('state')}, {state.get('reason')}; policy {self.played.policy.get('state')}: "
                f"{self.played.policy.get('reason') or 'no complaint'}",
                details=self._words(),
            )
        self.played.at_begin, self.played.begin_ns = dict(state), begin_ns

    def run(self, messages: Iterator[tuple[str, int, bytes]], prompts: Sequence[tuple[int, str]]) -> None:
        """Publish each message when it was received, and the instructions that were given later."""
        waiting, last = list(prompts), time.monotonic()
        for topic, received_ns, data in messages:
            while self._now_ns < received_ns:
                last = self._advance(last, received_ns)
            while waiting and waiting[0][0] <= self._now_ns:
                self._prompt.publish(String(data=waiting.pop(0)[1]))
            self._publishers[topic].publish(bytes(data))
        self.played.end_ns = self._now_ns
        end = time.monotonic() + 0.3  # what is under way arrives
        while time.monotonic() < end:
            self._look(0.05)

    def _advance(self, last: float, until_ns: int) -> float:
        """Let time pass, to `until_ns` at most; the steady time up to which it did."""
        now = time.monotonic()
        self._now_ns += round(min((now - last) * self._rate, STEP_S) * SECOND)
        self._now_ns = min(self._now_ns, until_ns)
        self._clock.publish(Clock(clock=ns_to_stamp(self._now_ns)))
        self._look(0.001)
        for ended in self._group.poll():
            raise Pi0Error(str(ended), details=self._group.tail(ended.name))
        return now

    def _look(self, wait_s: float) -> None:
        """Take what has come."""
        self._executor.spin_once(timeout_sec=wait_s)
        for _ in range(20):
            before = self._taken
            self._executor.spin_once(timeout_sec=0.0)
            if self._taken == before:
                break

    def _words(self) -> str:
        return "\n".join(f"--- {name}\n{self._group.tail(name)}" for name in self._group.names())

    def _on_chunk(self, message: JointTrajectory) -> None:
        self._taken += 1
        try:
            self.played.chunks.append(chunk_from_message(message, self._robot.action_names))
        except ChunkError as error:
            raise Pi0Error(f"the policy's chunk cannot be read: {error}") from error

    def _on_command(self, message: JointTrajectory) -> None:
        self._taken += 1
        self.played.command_ns.append(stamp_to_ns(message.header.stamp))
        self.played.commands.append(sent_from_message(message, self._robot.action_names))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self._taken += 1
        for status in message.status:
            values = diagnostic_values(status)
            if status.name == f"{STATUS}policy":
                self.played.policy = values
            elif status.name == f"{STATUS}controller":
                self.played.controller = values
                said = values.get("state", ""), values.get("reason", "")
                if not self.played.states or self.played.states[-1][1:] != said:
                    self.played.states.append((self._now_ns, *said))

    def _on_latency(self, message: DiagnosticArray) -> None:
        self._taken += 1
        self.played.traces.take([message])


def truth_of(path: Path, robot: Robot) -> Truth:
    """What the operator commanded in a recording, at the rate of its datasets. Raises `BagError`."""
    robot = robot.recorded
    buffer = ObservationBuffer(robot, keep=None)
    needed = {item.topic for item in robot.state} | {group.topic for group in robot.commands}
    with Bag(path) as bag:
        check_topics(bag, robot)
        for topic, received_ns, data in bag.raw(needed):
            buffer.push_message(topic, bag.decode(topic, data), received_ns)
        times = np.arange(bag.info.start_ns, bag.info.end_ns, round(SECOND / robot.dataset_fps), dtype=np.int64)
    actions = np.full((len(times), len(robot.action_joints)), np.nan)
    for row, time_ns in enumerate(times.tolist()):
        with suppress(StaleError):
            actions[row] = buffer.action_at(time_ns)
    if np.isnan(actions).all():
        topics = ", ".join(group.topic for group in robot.commands)
        raise BagError(f"{path}: nothing was commanded on {topics}, so there is nothing to compare with")
    actions[:, robot.velocity_mask] = np.nan  # speeds are told there, places here
    return Truth(times, actions)
