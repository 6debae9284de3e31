"""A worker that dies is replaced, one that never worked is not, and one that shall end ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pi0_ros.launching import supervisor

WORKER = """
import os, signal, sys, time
from pathlib import Path
from pi0_ros.launching.supervisor import at_work, is_worker
assert is_worker()
record = Path(sys.argv[1])
lives = [*record.read_text().split(), "x"] if record.exists() else ["x"]
record.write_text(" ".join(lives))
acts = sys.argv[2].split(",")
act = acts[min(len(lives), len(acts)) - 1]
if act != "early":
    at_work()
if act == "wait":
    time.sleep(600)
if act in ("abort", "early"):
    os.kill(os.getpid(), signal.SIGABRT)
sys.exit(int(act))
"""


def run(folder: Path, acts: str) -> tuple[int, int, list[str]]:
    """(exit status, lives, what was said) of a worker that acts so in its lives."""
    said: list[str] = []
    record = folder / "lives"
    status = supervisor.supervise([sys.executable, "-c", WORKER, str(record), acts], said.append, first_s=0.01)
    return status, len(record.read_text().split()), said


@pytest.mark.parametrize(
    ("acts", "status", "lives"),
    [
        ("0", 0, 1),
        ("2,0", 0, 2),  # it was at work: whatever it is, it is tried again
        ("abort,abort,70,0", 0, 4),
        ("early", 128 + signal.SIGABRT, 1),
        ("abort,early,0", 0, 3),
    ],
)
def test_lives(tmp_path: Path, acts: str, status: int, lives: int) -> None:
    found = run(tmp_path, acts)
    assert found[:2] == (status, lives) and len(found[2]) == lives - 1


def test_each_death_is_said_and_the_wait_grows(tmp_path: Path) -> None:
    said = run(tmp_path, "abort,1,abort,0")[2]
    assert ["SIGABRT" in said[0], "status 1" in said[1], "SIGABRT" in said[2]] == [True] * 3
    assert [line.rpartition(" in ")[2] for line in said] == ["0.01 s", "0.02 s", "0.04 s"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_both(tmp_path: Path, number: signal.Signals) -> None:
    code = (
        "import sys; from pi0_ros.launching.supervisor import supervise; "
        "sys.exit(supervise([sys.executable, '-c', *sys.argv[1:]], print))"
    )
    with subprocess.Popen([sys.executable, "-c", code, WORKER, str(tmp_path / "lives"), "wait"]) as process:
        end = time.monotonic() + 60.0
        while not (tmp_path / "lives").exists() and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(60.0) == 128 + signal.SIGTERM  # this worker has no handler
    assert (tmp_path / "lives").read_text() == "x"


def test_handlers_are_put_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    run(tmp_path, "0")
    assert signal.getsignal(signal.SIGTERM) is before
    assert not supervisor.is_worker() and supervisor.VARIABLE not in os.environ
