"""`pi0 replay` over real processes: a recording in, what policy and controller did out, twice and side by side."""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bagmaker import START_NS, Recipe, make_bag, state_at

pytest.importorskip("rclpy")
pytest.importorskip("torch")
import rclpy
from policy_fixtures import tiny_checkpoint, tiny_robot
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from trajectory_msgs.msg import JointTrajectory

from pi0_ros.bags.reader import Bag
from pi0_ros.cli.main import main
from pi0_ros.inference.options import PolicyOptions
from pi0_ros.launching.launches import ros_arguments
from pi0_ros.launching.processes import ProcessGroup, ros_environment
from pi0_ros.monitor.replay import SECOND, Played
from pi0_ros.nodes.messages import message_class, ns_to_stamp
from pi0_ros.nodes.replay import PATIENT, _first, _Player, observed, play, prompts_of, truth_of, untracked
from pi0_ros.nodes.ros import start_ros
from pi0_ros.observation.streams import ObservationBuffer, StaleError
from pi0_ros.policy.policy import load_policy
from pi0_ros.robot import Robot, robot_to_yaml

pytestmark = pytest.mark.dds


AGREES, WINDOW_S = 1e-6, 0.15


def assert_of_the_recording(bag: Path, robot: Robot, checkpoint: Path, played: Played) -> None:
    """Chunks that came over DDS are what the policy makes here of the recording at the chunk's stamp.

    What had arrived by then is known to within a few messages; one of these moments it must have been. A busy machine
    loses messages, so not all need agree; what an other policy or prompt would make agrees never.
    """
    policy = load_policy(PolicyOptions(checkpoint=str(checkpoint), device="cpu"))
    chunks = [c for c in played.chunks if played.begin_ns + 0.1 * SECOND < c.stamp_ns < played.end_ns]
    assert chunks
    apart: list[str] = []
    with Bag(bag) as recording:
        messages = [(t, ns, recording.decode(t, data)) for t, ns, data in recording.raw({*robot.topics})]
        ((_, prompt),) = prompts_of(recording)
    for chunk in chunks:
        buffer, nearest = ObservationBuffer(robot, keep=None), np.inf
        for topic, received_ns, message in messages:
            buffer.push_message(topic, message, received_ns)
            if abs(received_ns - chunk.stamp_ns) < WINDOW_S * SECOND and nearest > AGREES:
                with suppress(StaleError):
                    again = policy.infer(buffer.observe(chunk.stamp_ns, prompt))
                    nearest = min(nearest, float(np.abs(again.actions - chunk.actions).max()))
        if nearest > AGREES:
            apart.append(f"chunk at {(chunk.stamp_ns - played.begin_ns) / SECOND:.3f} s: {nearest:.2g}")
    assert len(apart) <= len(chunks) / 2, apart


def test_a_recording_is_played_through_the_nodes(ros_domain, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.delenv("ROS_DOMAIN_ID")  # as most users start it: in a domain of its own
    robot = tiny_robot()
    robot = replace(robot, joints=tuple(replace(joint, lower=-2.0, upper=2.0) for joint in robot.joints))
    bag = make_bag(tmp_path / "bag", robot, Recipe(seconds=1.0, custom_data={"robot_file": robot_to_yaml(robot)}))
    one, other = (
        tiny_checkpoint(tmp_path / name, robot, seed, horizon=20) for seed, name in enumerate(("one", "other"))
    )
    kept: list[Played] = []
    monkeypatch.setattr("pi0_ros.nodes.replay.play", lambda *args: kept.append(play(*args)) or kept[-1])
    page, logs = tmp_path / "replay.html", tmp_path / "logs"
    argv = ["replay", str(bag), "--checkpoint", str(one), "--checkpoint", str(other), "--before", "6", "--json"]
    status = main([*argv, "--html", str(page), "--log-dir", str(logs), "--max-error", "1", "--max-holds", "100"])
    said = capsys.readouterr()
    assert said.out, said.err
    report = json.loads(said.out)
    first, second = report["replays"]
    assert status == 0, report["exceeded"]
    assert (first["name"], second["name"]) == ("one", "other")
    assert first["chunks"] > 0 and second["chunks"] > 0 and first["seconds"] == pytest.approx(1.0, abs=0.1)
    assert 0 < first["error"] < 1 and first["error"] != second["error"], "random weights, each their own"
    assert len(first["joints"]) == 6 and "base64" in page.read_text()
    for checkpoint, played in zip((one, other), kept, strict=True):
        assert_of_the_recording(bag, robot, checkpoint, played)
    assert {path.name for path in (logs / "one").iterdir()} == {"policy.log", "controller.log"}


def test_the_truth_is_what_was_commanded(tmp_path) -> None:
    robot = tiny_robot()
    truth = truth_of(make_bag(tmp_path / "bag", robot, Recipe(seconds=2.0)), robot)
    known = np.isfinite(truth.actions).all(axis=1)
    seconds = (truth.times_ns - START_NS) * 1e-9
    expected = np.stack([state_at(t + 0.1, 6) for t in seconds])
    assert known.sum() > 30
    assert np.abs(truth.actions - expected)[known].max() < 0.02, "as-of: at most one command old"


def test_what_cannot_be_played_is_one_line(tmp_path, capsys) -> None:
    robot = tiny_robot()
    commands = {group.topic for group in robot.commands}
    bag = make_bag(tmp_path / "bag", robot, Recipe(seconds=1.0, keep=lambda topic, t: topic not in commands))
    assert main(["replay", str(bag), "--robot", "demo_arm", "--checkpoint", str(tmp_path)]) == 2
    assert "nothing was commanded on /demo_arm/command" in capsys.readouterr().err
    assert main(["replay", str(bag), "--robot", "demo_arm", "--checkpoint", str(tmp_path / "no")]) == 2
    assert "no such checkpoint" in capsys.readouterr().err


def test_a_recorded_robot_is_not_watched_for_following() -> None:
    robot = tiny_robot()
    near = replace(robot, joints=tuple(replace(joint, tracking=0.1) for joint in robot.joints))
    assert np.isinf(untracked(near).tracking).all()


STEP_NS = 100_000_000  # the policy's period
AFTER_NS = 10_000_000  # messages come 4 ms after their stamps, multiples of 10 ms: never around a step
SETTLE_S = 0.25


class Stepping(_Player):
    """Plays a recording in steps: at each all messages up to it are published before the clock goes on, and the clock
    waits there until the policy has answered. So a chunk depends on its stamp alone, however busy the machine is."""

    def __init__(self, node, executor, robot: Robot, group: ProcessGroup, shadow: bool) -> None:
        super().__init__(node, executor, robot, group, rate=1.0)
        self.shadow, self.wanted = shadow, []
        for operator in robot.commands if shadow else ():
            kind = message_class(operator.type)
            self._publishers[operator.topic] = node.create_publisher(kind, operator.topic, 20)
        many = QoSProfile(depth=500)
        node.create_subscription(JointTrajectory, "pi0/shadow_command", self.wanted.append, many)

    def _on_diagnostics(self, message) -> None:
        before = self.played.controller
        super()._on_diagnostics(message)
        if self.played.controller is not before:  # it was the controller's
            state = self.played.controller["state"]
            assert state.startswith("SHADOW ") == self.shadow
            self.played.controller = {**self.played.controller, "state": state.removeprefix("SHADOW ")}

    def run(self, messages, prompts=()) -> None:
        waiting = list(messages)
        for now_ns in range(self.played.begin_ns + AFTER_NS, waiting[-1][1], STEP_NS):
            while waiting and waiting[0][1] <= now_ns:
                topic, _, data = waiting.pop(0)
                self._publishers[topic].publish(bytes(data))
            self._settle()
            self._now_ns, end = now_ns, time.monotonic() + 10.0
            while not any(chunk.stamp_ns == now_ns for chunk in self.played.chunks) and time.monotonic() < end:
                self._clock.publish(Clock(clock=ns_to_stamp(now_ns)))
                self._look(0.02)
        self.played.end_ns = self._now_ns
        self._settle()

    def _settle(self) -> None:
        end = time.monotonic() + SETTLE_S
        while time.monotonic() < end:
            self._look(0.01)


def stepped(bag: Path, robot: Robot, checkpoint: Path, shadow: bool, logs: Path) -> Stepping:
    """A run of policy and controller on the recording's clock; as a shadow beside the operator who was recorded."""
    robot_file = logs.with_suffix(".yaml")
    robot_file.write_text(robot_to_yaml(untracked(robot)))
    common = {"robot": str(robot_file), "use_sim_time": True}
    parameters = {
        "policy": {"checkpoint": str(checkpoint), "device": "cpu", "rtc.mode": "off", "prompt": robot.prompt},
        "controller": {"shadow": True} if shadow else PATIENT,
    }
    context = rclpy.Context()
    start_ros(context=context)
    executor = SingleThreadedExecutor(context=context)
    node = Node("stepping", context=context, use_global_arguments=False)
    executor.add_node(node)
    try:
        with ProcessGroup(logs) as group, Bag(bag) as recording:
            for name, own in parameters.items():
                argv = [sys.executable, "-m", "pi0_ros.nodes.start", name, *ros_arguments({**common, **own}, name)]
                group.start(name, argv, env=ros_environment(localhost=True))
            player = Stepping(node, executor, robot, group, shadow)
            player.wait_until_ready()
            topics = {item.topic for item in observed(robot)}
            player.stand(dict(_first(recording, topics)), recording.info.start_ns, 6.0)
            player.run(recording.raw(topics | ({group.topic for group in robot.commands} if shadow else set())))
            return player
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown(context=context)


def test_a_shadow_agrees_with_the_live_run_chunk_by_chunk(ros_domain, tmp_path) -> None:
    """The same recording, once with the robot in the policy's hands and once in the operator's."""
    robot = tiny_robot()
    robot = replace(robot, joints=tuple(replace(joint, lower=-2.0, upper=2.0) for joint in robot.joints))
    bag = make_bag(tmp_path / "bag", robot, Recipe(seconds=1.2, prompts=((0.0, robot.prompt),)))
    checkpoint = tiny_checkpoint(tmp_path / "one", robot, 0, horizon=20)
    live, shadow = (stepped(bag, robot, checkpoint, which, tmp_path / str(which)) for which in (False, True))
    runs = [
        {c.stamp_ns: c.actions for c in run.played.chunks if (c.stamp_ns - START_NS) % STEP_NS == AFTER_NS}
        for run in (live, shadow)
    ]
    both = sorted(runs[0].keys() & runs[1].keys())
    assert len(both) >= 6, (len(runs[0]), len(runs[1]))
    apart = [float(np.abs(runs[0][stamp] - runs[1][stamp]).max()) for stamp in both]
    lost = sum(each > AGREES for each in apart)  # a picture that a busy machine lost
    assert lost <= len(both) // 5, apart
    moved = [float(np.abs(runs[0][a] - runs[0][b]).max()) for a, b in zip(both, both[1:])]
    assert max(moved) > 100 * AGREES, "or the chunks would say nothing"
    assert live.played.commands and not live.wanted, "the live run commands"
    assert shadow.wanted and not shadow.played.commands, "a shadow says what it would command, and commands nothing"
