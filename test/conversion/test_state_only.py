"""A robot without a camera (`cameras: []`): from recordings to a policy that sees the state and the prompt alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bagmaker import Recipe, make_bag

from pi0_ros.cli.main import main
from pi0_ros.robot import load_robot, robot_to_yaml

pytest.importorskip("torch")

CONFIG = """
model: demo
threads: 1
held_out: 0.5
validate_every: 2
model_overrides:
  vlm: {width: 32, depth: 2, mlp_dim: 64, num_heads: 2, num_kv_heads: 1, head_dim: 16}
  expert: {width: 32, depth: 2, mlp_dim: 64, num_heads: 2, num_kv_heads: 1, head_dim: 16}
  vision: {width: 32, depth: 1, mlp_dim: 64, num_heads: 2, patch_size: 24, image_size: 96}
stages:
  - {name: flow, steps: 2, batch: 4, draws: 2, lr: 2.0e-3, warmup: 1, ema: 0.5}
"""


def test_from_recordings_to_a_policy(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    from pi0_ros.inference.options import PolicyOptions
    from pi0_ros.observation.streams import Observation
    from pi0_ros.policy.backends import make_backend

    robot = replace(load_robot("demo_arm"), cameras=())
    file, config = tmp_path / "arm.yaml", tmp_path / "train.yaml"
    file.write_text(robot_to_yaml(robot))
    config.write_text(CONFIG)
    for number in range(2):
        make_bag(tmp_path / "bags" / f"episode_{number:06d}", robot, Recipe(seconds=2.0))
    dataset, run = tmp_path / "dataset", tmp_path / "run"
    for words in (
        ("convert", tmp_path / "bags", dataset, "--robot", file),
        ("dataset", "check", dataset),
        ("stats", dataset),
        ("train", dataset, "--config", config, "--out", run),
        ("doctor", "--robot", file, "--checkpoint", run / "checkpoint"),
    ):
        assert main([str(word) for word in words]) == 0, capsys.readouterr().out
    assert "no camera" in capsys.readouterr().out
    assert main(["convert", str(tmp_path / "bags"), str(tmp_path / "x"), "--robot", str(file), "--fps", "auto"]) == 2
    assert "no camera, from which the frame rate could be taken: give --fps" in capsys.readouterr().err
    backend = make_backend(PolicyOptions(checkpoint=str(run / "checkpoint"), torch_threads=1), robot=robot)
    state = np.full(len(robot.joints), 0.3)
    chunks = [backend.infer(Observation(0, {}, state + shift, "go", {})) for shift in (0.0, 0.2)]
    backend.close()
    assert np.isfinite(chunks[0].actions).all() and not np.allclose(chunks[0].actions, chunks[1].actions)
