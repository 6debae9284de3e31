"""A short form of the fault suite (`make faults`): each kind of fault once, over real processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

SUITE = Path(__file__).parent / "suite.py"
ROWS = "stopped for 0.3,+1 rad at once,wild within,by the topic,robot blocked"

pytestmark = [pytest.mark.dds, pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="stops processes")]


@pytest.mark.parametrize(
    ("rate", "points", "transition"), [(50, "one", "blend"), (50, "one", "rtc"), (20, "trajectory", "ensemble")]
)
def test_no_fault_sends_a_command_beyond_the_limits(ros_domain, rate, points, transition):
    command = [sys.executable, str(SUITE), "--times", "1", "--rows", ROWS, "--rate", str(rate), "--points", points]
    done = subprocess.run([*command, "--transition", transition], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 injections, 0 not as promised" in done.stdout
