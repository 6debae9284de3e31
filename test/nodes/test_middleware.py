"""The controller talks through sockets, so that a suspended process cannot block its ticks; others share memory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conftest import Processes, wait_until

pytest.importorskip("rclpy")

pytestmark = [pytest.mark.dds, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]


def _shares_memory(pid: int) -> bool:
    return "/dev/shm/fastrtps" in Path(f"/proc/{pid}/maps").read_text()


def test_only_the_controller_does_without_shared_memory(processes: Processes) -> None:
    recorder = processes.node("recorder_node", robot="demo_arm")
    controller = processes.node("controller_node", robot="demo_arm")
    processes.wait_for_output("controller_node", "[controller]")
    wait_until(lambda: _shares_memory(recorder), 60.0, lambda: processes.tail("recorder_node"))
    assert not _shares_memory(controller)
