"""Commands that start nodes, ended in their first seconds: one word, no traceback, and nothing lives on."""

from __future__ import annotations

import ast
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import wait_until
from launched import alive, children

import pi0_ros
from pi0_ros.launching.processes import Interrupted, interrupted_by_signals

SOURCE = Path(pi0_ros.__file__).parent
OWN_HANDLERS = {"cli/up.py"}  # remembers signals, and looks for them between its turns


def found(kind: type[ast.AST], name: str) -> Iterator[tuple[str, str]]:
    """(file, source) of every such piece of the package in which `name` is called."""
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, kind) and (text := ast.unparse(node)).split("\n")[0].find(f"{name}(") >= 0:
                yield path.relative_to(SOURCE).as_posix(), text.split("\n")[0]


def test_rclpy_is_started_in_one_place_without_its_signal_handlers() -> None:
    """With them a signal ends every wait in ExternalShutdownException, which looks like a bug."""
    ((file, text),) = found(ast.Call, "rclpy.init")
    assert file == "nodes/ros.py" and "SignalHandlerOptions.NO" in text


def test_whoever_starts_processes_stops_them_when_a_signal_comes() -> None:
    held = dict(found(ast.With, "ProcessGroup"))
    assert {file for file, _ in found(ast.Call, "ProcessGroup")} == set(held) and len(held) >= 4
    for file in held.keys() - OWN_HANDLERS:
        assert held[file].startswith("with interrupted_by_signals(), "), f"{file}: {held[file]}"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_unwinds_what_was_begun_and_a_second_does_not_disturb_that(number: signal.Signals) -> None:
    before, done = signal.getsignal(number), []
    with pytest.raises(Interrupted) as caught, interrupted_by_signals():
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(signal.SIGTERM)  # an impatient person
            done.append("stopped in order")
    assert caught.value.number == number and done
    assert signal.getsignal(number) == before


@pytest.mark.dds
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_ended_while_it_starts_says_one_word(ros_domain: int, tmp_path: Path, number: int) -> None:
    command = [sys.executable, "-m", "pi0_ros.cli.main", "demo", "--headless", "--log-dir", str(tmp_path / "logs")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_until((tmp_path / "logs" / "sim.log").exists, 60.0, "the first process")
    time.sleep(random.uniform(0.0, 8.0))
    nodes = children(process.pid)
    process.send_signal(number)
    said, _ = process.communicate(timeout=60.0)
    assert process.returncode == 128 + number, said
    assert said.splitlines()[-1] == "interrupted" and "Traceback" not in said and "Error" not in said, said
    assert nodes and not any(map(alive, nodes))
