"""A short form of the fault suite (`make faults`), over real processes; and that it sees a fault of the controller."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

SUITE = Path(__file__).parent / "suite.py"
pytestmark = [pytest.mark.dds, pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="stops processes")]


def suite(log: Path, rows: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SUITE), "--times", "1", "--rows", rows, "--log", str(log), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize(
    ("rows", "count", "words"),
    [
        ("stopped for 0.3,+1 rad,chunk: wild,by the topic", 4, ("--stages", "bare", "--transitions", "rtc")),
        (
            "policy killed,-1e6",
            2,
            ("--stages", "bare", "--rates", "20", "--points", "trajectory", "--transitions", "ensemble"),
        ),
        ("camera silent,answers: NaN", 2, ("--stages", "chain", "--transitions", "rtc")),
        ("first of two servers", 2, ("--stages", "pair")),
        ("policy killed,chunk: 5 m,odometry silent", 3, ("--stages", "mobile")),
    ],
)
def test_no_fault_sends_a_command_beyond_the_limits(ros_domain, tmp_path, rows, count, words):
    done = suite(tmp_path / "log", rows, *words)
    if done.returncode:  # once more: a busy machine can put a process aside in the midst of sending a command
        print(done.stdout)
        done = suite(tmp_path / "again", rows, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{count} injections, 0 not as promised" in done.stdout


def test_a_controller_that_keeps_its_velocity_over_a_stall_is_seen(ros_domain, tmp_path):
    done = suite(tmp_path / "log", "stopped for 0.3", "--stages", "bare", "--plant", "kept velocity")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "acceleration (times its limit)" in done.stdout
