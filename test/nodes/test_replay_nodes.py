"""`pi0 replay` over real processes: a recording in, what policy and controller did out, twice and side by side."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bagmaker import START_NS, Recipe, make_bag, state_at

pytest.importorskip("rclpy")
pytest.importorskip("torch")
from policy_fixtures import tiny_checkpoint, tiny_robot

from pi0_ros.bags.reader import Bag
from pi0_ros.cli.main import main
from pi0_ros.inference.options import PolicyOptions
from pi0_ros.monitor.replay import SECOND, Played
from pi0_ros.nodes.replay import play, prompts_of, truth_of, untracked
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
