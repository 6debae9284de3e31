"""From recordings to a small policy, by the commands that people type."""

from __future__ import annotations

from pathlib import Path

from pi0_ros.cli.main import main

CONFIG = """
model: demo
threads: 1
held_out: 0
validate_every: 2
model_overrides:
  action_dim: {action_dim}
  vlm: {{width: 32, depth: 2, mlp_dim: 64, num_heads: 2, num_kv_heads: 1, head_dim: 16}}
  expert: {{width: 32, depth: 2, mlp_dim: 64, num_heads: 2, num_kv_heads: 1, head_dim: 16}}
  vision: {{width: 32, depth: 1, mlp_dim: 64, num_heads: 2, patch_size: 24, image_size: 96}}
stages:
  - {{name: flow, steps: 2, batch: 4, draws: 2, lr: 2.0e-3, warmup: 1, ema: 0.5}}
"""


def first_policy(folder: Path, robot: str, action_dim: int) -> tuple[Path, Path, Path]:
    """The robot file (text `robot`), and the dataset and the checkpoint made of the recordings in `folder`/bags."""
    file, config = folder / "robot.yaml", folder / "train.yaml"
    file.write_text(robot)
    config.write_text(CONFIG.format(action_dim=action_dim))
    dataset, run = folder / "dataset", folder / "run"
    command("convert", folder / "bags", dataset, "--robot", file)
    command("stats", dataset)
    command("train", dataset, "--config", config, "--out", run)
    return file, dataset, run / "checkpoint"


def command(*words: object) -> None:
    """Run `pi0` with these words; what it says of an error is in the output that pytest shows."""
    assert main([str(word) for word in words]) == 0, words
