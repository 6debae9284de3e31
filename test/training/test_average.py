"""tools/average.py: the mean of two checkpoints' weights."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from pi0_ros.checkpoints.checkpoint import load_checkpoint

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "pi0_ros" / "sim" / "checkpoint"


def average(*folders: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "average.py"), *map(str, folders)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_the_mean_lies_between_and_loads(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED, other := tmp_path / "other")
    weights = load_file(SHIPPED / "model.safetensors")
    save_file({name: value + 1.0 for name, value in weights.items()}, other / "model.safetensors")
    done = average(SHIPPED, other, tmp_path / "mean")
    assert done.returncode == 0, done.stderr
    for name, value in load_file(tmp_path / "mean" / "model.safetensors").items():
        np.testing.assert_allclose(value, weights[name] + 0.5, atol=1e-5)
    assert load_checkpoint(tmp_path / "mean").spec.robot.name == "demo_arm"


def test_weights_of_other_statistics_are_not_averaged(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED, other := tmp_path / "other")
    stats = other / "norm_stats.json"
    stats.write_text(stats.read_text().replace("0", "1", 1))
    done = average(SHIPPED, other, tmp_path / "mean")
    assert done.returncode == 2 and str(stats) in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "mean").exists()


def test_weights_of_other_shapes_and_a_folder_that_exists_are_refused(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED, other := tmp_path / "other")
    weights = load_file(SHIPPED / "model.safetensors")
    name = min(weights, key=lambda name: weights[name].size)
    save_file(weights | {name: np.zeros(1, np.float32)}, other / "model.safetensors")
    done = average(SHIPPED, other, tmp_path / "mean")
    assert done.returncode == 2 and name in done.stderr and not (tmp_path / "mean").exists()
    done = average(SHIPPED, SHIPPED, other)
    assert done.returncode == 2 and f"{other} exists" in done.stderr
