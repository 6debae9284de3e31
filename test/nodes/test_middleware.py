"""The controller talks through sockets, so that a suspended process cannot block its ticks; others share memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Processes, wait_until

from pi0_ros.base.middleware import without_shared_memory
from pi0_ros.launching.processes import ros_environment

pytest.importorskip("rclpy")

pytestmark = [pytest.mark.dds, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]


def _shares_memory(pid: int) -> bool:
    return "/dev/shm/fast" in Path(f"/proc/{pid}/maps").read_text()


def test_only_the_controller_does_without_shared_memory(processes: Processes) -> None:
    recorder = processes.node("recorder_node", robot="demo_arm")
    controller = processes.node("controller_node", robot="demo_arm")
    processes.wait_for_output("controller_node", "[controller]")
    wait_until(lambda: _shares_memory(recorder), 60.0, lambda: processes.tail("recorder_node"))
    assert not _shares_memory(controller)


MANY = """
import sys, time, rclpy
from rclpy.node import Node
nodes = []
for i in range(7):
    context = rclpy.Context()
    rclpy.init(context=context)
    nodes.append(Node(f"n{i}", context=context))
end, seen = time.monotonic() + 60.0, []
while time.monotonic() < end and (not seen or min(seen) < len(nodes)):
    time.sleep(0.1)
    seen = [len(set(node.get_node_names())) for node in nodes]
sys.exit(f"of {len(nodes)} each sees {seen}" if min(seen) < len(nodes) else 0)
"""


def test_more_than_four_that_talk_through_sockets_find_each_other(ros_domain: int) -> None:
    """Else two controllers among them would command one robot and never know."""
    environment = ros_environment(localhost=True)
    environment |= without_shared_memory(environment)
    done = subprocess.run([sys.executable, "-c", MANY], env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
