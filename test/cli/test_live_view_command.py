"""`pi0 view --robot`: the live view by the command that the docs name."""

from __future__ import annotations

import sys
from typing import Any
from urllib.request import urlopen

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("viser")


def test_it_serves_the_robot_that_runs(processes: Any) -> None:
    command = [sys.executable, "-m", "pi0_ros.cli", "view", "--robot", "demo_arm", "--port", "18390"]
    processes.start("view", command)
    printed = processes.wait_for_output("view", "browser view: http://")
    address = printed.partition("browser view: ")[2].split()[0]
    assert 'id="pi0-stop"' in urlopen(address).read().decode()
