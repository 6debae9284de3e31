"""What `ros2 run` runs begins as the launchers do: a missing library is one line, where no variable of ROS is set."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import setuptools

ROOT = Path(__file__).parents[2]
RUN = """
import sys

class NoRos:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "rclpy":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoRos())
from MODULE import FUNCTION
sys.exit(FUNCTION())
"""


def bare_environment() -> dict[str, str]:
    """Without what a ROS user may have set, and with this copy of the package."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ROS_", "FAST", "RMW_", "OMP_"))}
    return {**kept, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


def assert_one_line(argv: list[str], tmp_path: Path, words: str) -> None:
    done = subprocess.run(argv, env=bare_environment(), cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stdout + done.stderr
    assert words in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


def test_every_console_script_of_a_node_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    told: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", lambda **given: told.update(given))
    runpy.run_path("setup.py")
    scripts = told["entry_points"]["console_scripts"]
    nodes = [script.replace(" ", "").partition("=") for script in scripts if "_node" in script.partition("=")[0]]
    assert nodes
    for _, _, target in nodes:
        module, _, function = target.partition(":")
        code = RUN.replace("MODULE", module).replace("FUNCTION", function)
        assert_one_line([sys.executable, "-c", code], tmp_path, "source ROS 2")


@pytest.mark.parametrize("given", [[], ["nobody"], ["--help"]])
def test_an_unknown_node_is_answered_with_those_there_are(given: list[str], tmp_path: Path) -> None:
    assert_one_line([sys.executable, "-m", "pi0_ros.nodes.start", *given], tmp_path, "there are policy, controller")


def test_help_of_a_node_names_its_parameters(tmp_path: Path) -> None:
    pytest.importorskip("rclpy")
    assert_one_line([sys.executable, "-m", "pi0_ros.nodes.start", "sim", "--help"], tmp_path, "of seed, speed, clock")
