"""`pi0 demo` as its user runs it: real processes, the shipped checkpoint, the table at the end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from policy_fixtures import free_port

from pi0_ros.cli.demo import CHECKPOINT, NICENESS, prefer

pytest.importorskip("rclpy")

from pi0_ros.bags.conventions import IN_CHARGE_TOPIC
from pi0_ros.bags.reader import Bag
from pi0_ros.conversion.convert import convert
from pi0_ros.conversion.options import Options
from pi0_ros.nodes.stage import Episode, summary
from pi0_ros.robot import load_robot


def demo(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pi0_ros.cli.main", "demo", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=400)


@pytest.mark.dds
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["local", "zmq"])
def test_the_shipped_policy_is_run_and_scored(ros_domain: int, backend: str) -> None:
    port = str(free_port())
    options = ["--episodes", "1", "--headless", "--require", "0", "--limit", "15"]
    done = demo(*options, "--backend", backend, "--port", port)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "seed 0" in done.stdout
    table = dict(line.split("  ", 1) for line in done.stdout.splitlines() if "  " in line and line[0].isalpha())
    latency = table["chunk latency p50 / p99"].split()[0]
    assert float(latency) > 0
    assert int(table["clamps"]) >= 0


@pytest.mark.dds
@pytest.mark.slow
def test_an_emergency_stop_waits_for_the_reset(ros_domain: int, tmp_path: Path) -> None:
    """Somebody who watches presses it: the demo goes on behind their reset."""
    pytest.importorskip("viser")
    pi0 = [sys.executable, "-m", "pi0_ros.cli.main"]
    options = ["--episodes", "2", "--require", "0", "--limit", "3", "--log-dir", str(tmp_path / "logs")]
    said: list[str] = []

    def asked(command: str) -> int:
        return subprocess.run([*pi0, command], capture_output=True, timeout=60).returncode

    with subprocess.Popen([*pi0, "demo", *options], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            said.append(line)
            if line.startswith("browser view"):
                assert asked("estop") == 0
            elif line.startswith("emergency stop"):
                assert asked("reset") == 0
    assert running.returncode == 0, said
    assert [line for line in said if line.startswith("emergency stop")] and sum("seed" in line for line in said) == 2


@pytest.mark.dds
@pytest.mark.slow
def test_a_scripted_person_takes_over_and_is_recorded(ros_domain: int, tmp_path: Path) -> None:
    """A seed at which the policy drives too shortly to be done."""
    out = tmp_path / "bags"
    words = ["--corrections", "1", "--out", str(out), "--seed", "150002", "--headless", "--require", "0"]
    done = demo(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 corrections in" in done.stdout and "episode_000000" in done.stdout
    with Bag(out / "episode_000000") as bag:
        said = [bag.decode(IN_CHARGE_TOPIC, data).data for _, _, data in bag.raw({IN_CHARGE_TOPIC})]
    assert "person" in said[said.index("policy") :]
    (report,) = convert([out], tmp_path / "data", load_robot("demo_arm"), Options(corrections=True), dry_run=True).bags
    assert report.episodes or report.status == "skipped", report  # skipped: the demonstrator failed


def test_what_cannot_be_played_is_refused_at_once() -> None:
    done = demo("--corrections", "3")
    assert done.returncode == 2 and "give both or neither" in done.stderr
    done = demo("--prompt", "fold the towel")
    assert done.returncode == 2 and "name exactly one of the cubes" in done.stderr
    done = demo("--added-latency", "0.3")
    assert done.returncode == 2 and "add --backend zmq" in done.stderr
    done = demo("--checkpoint", "/nowhere")
    assert done.returncode == 2 and "make train-demo" in done.stderr


def test_the_shipped_checkpoint_is_small_and_names_its_training() -> None:
    from pi0_ros.checkpoints.checkpoint import load_checkpoint

    assert sum(path.stat().st_size for path in CHECKPOINT.rglob("*") if path.is_file()) < 20e6
    checkpoint = load_checkpoint(CHECKPOINT)
    assert checkpoint.spec.robot.name == "demo_arm"
    assert checkpoint.training["finished"] and checkpoint.training["episodes"] >= 100


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="no autogroups here")
def test_processes_go_first_together_with_their_sessions() -> None:
    """Where niceness counts within a session only, that of the session counts; one shared with others stays."""
    own, shared = (subprocess.Popen(["sleep", "60"], start_new_session=alone) for alone in (True, False))
    try:
        before = Path(f"/proc/{shared.pid}/autogroup").read_text()
        problem = prefer({"policy": own.pid, "sim": shared.pid})
        if not problem:  # root
            assert os.getpriority(os.PRIO_PROCESS, own.pid) == os.getpriority(os.PRIO_PROCESS, shared.pid) == NICENESS
            assert Path(f"/proc/{own.pid}/autogroup").read_text().split()[-1] == str(NICENESS)
        else:
            assert "the policy and the sim" in problem
        assert Path(f"/proc/{shared.pid}/autogroup").read_text() == before
    finally:
        own.kill(), shared.kill()
        own.wait(), shared.wait()


def test_the_table_counts() -> None:
    played = [
        Episode(0, "red", True, "red", 5.0),
        Episode(1, "blue", False, "green", 20.0),
        Episode(2, "green", False, "", 20.0),
    ]
    policy, controller = {"latency_p50_ms": "74.8555"}, {"clamps": "2", "tick_p50_ms": "0.1", "tick_p99_ms": "0.501187"}
    table = summary(played, policy, controller)
    assert "  75 / - ms" in table and "  0.10 / 0.50 ms" in table
    assert "1 of 3 (33 %)" in table and "5.0 s" in table
    assert "lifted green" in played[1].line() and "none lifted" in played[2].line()
