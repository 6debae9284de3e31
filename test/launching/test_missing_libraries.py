"""What a node or launch lacks, or is told wrongly, is one line that names it and its cure; never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy")
pytestmark = pytest.mark.dds

BLOCKER = """
import os, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == os.environ["PI0_ABSENT"]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""
NODE = [sys.executable, "-m", "pi0_ros.nodes.start"]
PI0 = [sys.executable, "-m", "pi0_ros.cli"]


def run(argv: list[str], tmp_path: Path, absent: str = "") -> subprocess.CompletedProcess[str]:
    (tmp_path / "sitecustomize.py").write_text(BLOCKER)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "PI0_ABSENT": absent}
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=180, cwd=tmp_path)


def assert_one_line(done: subprocess.CompletedProcess[str], *words: str) -> None:
    printed = done.stdout + done.stderr
    assert done.returncode == 2, printed
    assert "Traceback" not in printed and "a bug of pi0_ros" not in printed, printed
    lines = [line for line in printed.splitlines() if all(word in line for word in words)]
    assert len(lines) == 1, printed


CHECKPOINT = str(Path(__file__).parents[2] / "pi0_ros" / "sim" / "checkpoint")


@pytest.mark.parametrize(
    ("library", "argv", "cure"),
    [
        ("rosbags", [*NODE, "recorder"], "pip install"),
        ("lz4", [*NODE, "recorder"], "pip install"),
        ("viser", [*NODE, "viewer"], "pip install 'pi0_ros[view]'"),
        ("yourdfpy", [*NODE, "viewer"], "pip install 'pi0_ros[view]'"),
        ("mujoco", [*NODE, "sim"], "pip install 'pi0_ros[sim]'"),
        ("torch", [*NODE, "policy", "--ros-args", "-p", f"checkpoint:={CHECKPOINT}"], "pip install 'pi0_ros[policy]'"),
        ("sentencepiece", [*NODE, "policy", "--ros-args", "-p", f"checkpoint:={CHECKPOINT}"], "pi0_ros[policy]"),
        ("zmq", [*NODE, "policy", "--ros-args", "-p", "backend:=zmq", "-p", "server:=tcp://127.0.0.1:9"], "install"),
        ("rosbags", [*PI0, "up", "record", "robot:=demo_arm"], "pip install"),
        ("viser", [*PI0, "up", "monitor", "robot:=demo_arm"], "pip install 'pi0_ros[view]'"),
        ("mujoco", [*PI0, "up", "demo", "view:=false"], "pip install 'pi0_ros[sim]'"),
        ("torch", [*PI0, "up", "demo", "view:=false"], "pip install 'pi0_ros[policy]'"),
        ("rosbags", [*PI0, "bag", "check", "somewhere"], "pip install"),
        ("torch", [*PI0, "serve", "--checkpoint", CHECKPOINT], "pip install 'pi0_ros[policy]'"),
        ("mujoco", [*PI0, "demo"], "pip install 'pi0_ros[sim]'"),
        ("torch", [*PI0, "demo", "--headless"], "pip install 'pi0_ros[policy]'"),
        ("rclpy", [*PI0, "state"], "source ROS 2"),
        ("rclpy", [*NODE, "controller"], "source ROS 2"),
        ("rclpy", [*PI0, "up", "monitor", "robot:=demo_arm", "view:=false"], "source ROS 2"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(Path(word).name for word in value[1:5]),
)
def test_a_missing_library_is_one_line_with_its_cure(
    library: str, argv: list[str], cure: str, ros_domain: int, tmp_path: Path
) -> None:
    assert_one_line(run(argv, tmp_path, library), library, cure)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--ros-args", "--params-file", "broken.yaml"], "broken.yaml"),
        (["--ros-args", "--params-file", "nowhere.yaml"], "nowhere.yaml"),
        (["--ros-args", "--params-file", "empty.yaml"], "empty.yaml"),
        (["--ros-args", "--log-level", "loud"], "loud"),
        (["--ros-args", "-p", "seed:=-1"], "seed"),
        (["--ros-args", "-p", "seed:=many"], "seed"),
        (["--ros-args", "-p", "speed"], "speed"),
        (["--ros-args", "-p", "speedy:=2.0"], "speedy"),
        (["--ros-args", "-r", "__node:=a b"], "a b"),
        (["--ros-args", "-r", "__ns:=a b"], "__ns:=a b"),
        (["seed:=3"], "seed:=3"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_words_are_one_line(words: list[str], told: str, ros_domain: int, tmp_path: Path) -> None:
    pytest.importorskip("mujoco")
    (tmp_path / "broken.yaml").write_text("sim: [")
    (tmp_path / "empty.yaml").write_text("")
    assert_one_line(run([*NODE, "sim", *words], tmp_path), told)
