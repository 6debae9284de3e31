"""`pi0 bench-sim` as a process against the stand-in of LIBERO: killed, resumed, refused, and what it leaves."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from libero_standin import Expert, install
from policy_fixtures import TOKENIZER, serving, tiny_config, tiny_stats

from pi0_ros.cli.main import main
from pi0_ros.datasets.video import read_frames
from pi0_ros.robot import Robot, load_robot

COMMAND = [sys.executable, "-m", "pi0_ros.cli", "bench-sim"]


def libero_checkpoint(folder: Path, seed: int = 0, robot: Robot | None = None) -> Path:
    """A tiny policy of LIBERO's robot with random weights."""
    import torch

    from pi0_ros.checkpoints.checkpoint import save_checkpoint
    from pi0_ros.checkpoints.settings import PolicySettings
    from pi0_ros.model.pi0 import Pi0

    torch.manual_seed(seed)
    config = tiny_config(horizon=10)
    stats = replace(tiny_stats(8), actions=tiny_stats(7).actions)
    settings = PolicySettings("mean_std", "mean_std", fps=10.0, num_steps=2)
    return save_checkpoint(folder, Pi0(config), config, settings, robot or load_robot("libero"), stats, TOKENIZER)


@pytest.fixture
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which `libero` is the stand-in, here and for processes."""
    install(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def trials(folder: Path) -> list[dict]:
    path = folder / "trials.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def without_seconds(lines: list[dict]) -> list[dict]:
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


@pytest.mark.slow
def test_killed_and_interrupted_it_goes_on(standin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    libero_checkpoint(standin / "mine")
    words = [*COMMAND, "mine", "--suite", "libero_spatial", "--tasks", "0", "4", "--trials", "3", "--videos", "1"]
    whole = subprocess.run([*words, "--out", "whole"], capture_output=True, text=True, timeout=300)
    assert whole.returncode == 0, whole.stderr
    monkeypatch.setenv("STANDIN_STEP_S", "0.003")  # long enough to be killed within
    for number, ending in enumerate((signal.SIGKILL, signal.SIGINT)):
        process = subprocess.Popen(
            [*words, "--out", "broken"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 120
        while len(trials(standin / "broken")) < 1 + number and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(ending)
        out, err = process.communicate(timeout=60)
        done = len(trials(standin / "broken"))
        assert 1 + number <= done < 6, (out, err)
    assert process.returncode == 130
    assert f"interrupted: {done} of 6 trials are done; the same command goes on" in out
    assert f"0 of {done}" in out  # the table of what is done
    assert not json.loads((standin / "broken" / "results.json").read_text())["complete"]
    monkeypatch.delenv("STANDIN_STEP_S")
    rest = subprocess.run([*words, "--out", "broken"], capture_output=True, text=True, timeout=300)
    assert rest.returncode == 0, rest.stderr
    assert without_seconds(trials(standin / "broken")) == without_seconds(trials(standin / "whole"))
    assert rest.stdout.splitlines()[-12:-1] == whole.stdout.splitlines()[-12:-1]  # but for where it was written
    result = json.loads((standin / "broken" / "results.json").read_text())
    assert result["complete"] and result["all"]["trials"] == 6
    films = sorted(path.name for path in (standin / "broken" / "failures").glob("*_trial_*.mp4"))
    assert films == ["libero_spatial_task_00_trial_0000.mp4", "libero_spatial_task_04_trial_0000.mp4"]
    assert read_frames(standin / "broken" / "failures" / films[0], 219, 1, 20).shape == (1, 256, 512, 3)


def test_an_expert_behind_a_server_wins(standin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same door to a remote policy; the folder is that of this policy."""
    with serving(Expert()) as server:
        words = ["bench-sim", "--backend", "zmq", "--server", server.address, "--suite", "libero_goal"]
        assert main([*words, "--trials", "2", "--tasks", "0", "1"]) == 0
        out = capsys.readouterr().out
        assert "4 of 4" in out and "51.0 .. 100.0 %" in out
        assert "openpi's pi05_libero (98 %) lies within" in out and "Only 2 of 10 tasks" in out
        assert main([*words, "--trials", "3", "--tasks", "0"]) == 0  # one more
        assert "5 of 5" in capsys.readouterr().out
        assert main([*words, "--replan", "4"]) == 2
        assert "replan is 4 now and was 5" in capsys.readouterr().err
    assert main([*words, "--trials", "4", "--timeout-s", "0.2"]) == 2  # the server is gone
    assert len(trials(standin / "bench_sim")) == 5


def test_errors_of_the_simulator_are_told(
    standin: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STANDIN_FAULT", "0:1:12")
    with serving(Expert()) as server:
        words = ["bench-sim", "--backend", "zmq", "--server", server.address, "--suite", "libero_goal", "--tasks", "0"]
        assert main([*words, "--trials", "3"]) == 1
        out = capsys.readouterr().out
        assert "1 of 3 trials ended by an error and count as failures (--retry-errors" in out
        assert "The first: libero_goal task 0 trial 1: RuntimeError: Nan, Inf or huge value" in out
        monkeypatch.delenv("STANDIN_FAULT")
        assert main([*words, "--trials", "3", "--retry-errors"]) == 0
        assert "3 of 3" in capsys.readouterr().out


def test_another_checkpoint_is_refused_before_its_weights_are_read(
    standin: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    libero_checkpoint(standin / "first")
    libero_checkpoint(standin / "second", seed=1)
    words = ["--suite", "libero_spatial", "--tasks", "0", "--trials", "1"]
    assert main(["bench-sim", "first", *words]) == 0
    (standin / "first").rename(standin / "moved")
    assert main(["bench-sim", "moved", *words]) == 0  # the same, elsewhere
    capsys.readouterr()
    monkeypatch.setattr("pi0_ros.cli.bench_sim.make_backend", lambda *_, **__: pytest.fail("weights were read"))
    assert main(["bench-sim", "second", *words]) == 2
    assert "must not be mixed" in capsys.readouterr().err


def test_a_dry_run_needs_no_simulator_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    libero_checkpoint(tmp_path / "mine")
    assert main(["bench-sim", "mine", "--dry-run", "--suite", "libero_10", "--tasks", "2", "2", "5"]) == 0
    out = capsys.readouterr().out
    assert "libero_10      2     100   100            520" in out
    assert "At most about 1 h 01 min (guessed at 50 ms a step and 100 ms a chunk)" in out
    assert "LIBERO is not installed: `pip install hf-libero`" in out
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_without_libero_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    libero_checkpoint(tmp_path / "mine")
    assert main(["bench-sim", "mine"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "the Python package 'libero' is not installed: `pip install hf-libero`" in line
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "backend 'local' needs a checkpoint"),
        (["mine", "--server", "tcp://gpu:5555"], "--server tcp://gpu:5555: is for --backend zmq or openpi"),
        (["mine", "--timeout-s", "3"], "--timeout-s 3.0: is for --backend zmq or openpi"),
        (["mine", "--backend", "zmq"], "checkpoint mine: is for --backend local"),
        (["--backend", "zmq", "--num-steps", "3"], "--num-steps 3: is for --backend local"),
        (["mine", "--trials", "51"], "--trials 51: a task of LIBERO has 50 initial states"),
        (["mine", "--tasks", "10"], "--tasks 10: there is no such task; libero_spatial has 10"),
        (["mine", "--replan", "11"], "--replan 11: the policy predicts only 10 actions at once"),
    ],
)
def test_what_cannot_be_is_refused(
    standin: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    libero_checkpoint(standin / "mine")
    assert main(["bench-sim", *words]) == 2
    assert says in capsys.readouterr().err
    assert not (standin / "bench_sim").exists()
