"""Checkpoints of a run: kept ones, signals, a full disk, what killed writers leave, folders that are not empty."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_loop import STAGES, recipe, run_training

from pi0_ros.checkpoints.checkpoint import load_checkpoint
from pi0_ros.training import loop, saving
from pi0_ros.training.progress_file import read_progress
from pi0_ros.training.recipe import RecipeError
from pi0_ros.training.saving import TrainingStoppedError, open_output

STAGE = {"name": "one", "steps": 12, "batch": 4, "lr": 1e-3, "warmup": 2}


def same_weights(one: Path, other: Path) -> bool:
    found, wanted = (load_file(folder / "model.safetensors") for folder in (one, other))
    return found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_checkpoints_are_kept_by_number_and_period(tmp_path: Path) -> None:
    run_training(tmp_path, recipe([STAGE], save_every=2, keep_last=2, keep_period=6))
    assert sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir()) == [6, 10, 12]
    kept = tmp_path / "checkpoints" / "6"
    assert load_checkpoint(kept).training["step"] == 6 and not (kept / "train_state").exists()
    assert same_weights(tmp_path / "checkpoints" / "12", tmp_path / "checkpoint")
    again = run_training(tmp_path / "plain", recipe([STAGE], save_every=2, save_async=False))
    assert same_weights(again, tmp_path / "checkpoint") and not (tmp_path / "plain" / "checkpoints").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_and_ends_and_the_run_goes_on_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    wanted = recipe([STAGE], save_every=100)
    whole = run_training(tmp_path / "whole", wanted)
    plain = loop.train_step

    def interrupted(run: Any, stage: Any, step: int, *rest: Any) -> Any:
        if step == 4:
            os.kill(os.getpid(), number)
        return plain(run, stage, step, *rest)

    with monkeypatch.context() as patch, pytest.raises(TrainingStoppedError, match="saved after step 5") as stopped:
        patch.setattr(loop, "train_step", interrupted)
        run_training(tmp_path / "stopped", wanted)
    assert stopped.value.signal == number
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert same_weights(whole, run_training(tmp_path / "stopped", wanted, resume=True))


def test_a_full_disk_is_a_warning_and_the_previous_checkpoint_stays_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = run_training(tmp_path / "whole", recipe([STAGE], save_every=3))
    plain: Callable[..., None] = saving.write_finished
    steps: list[int] = []

    def full(*args: Any) -> None:
        plain(*args)
        steps.append(len(steps))
        if len(steps) in (2, 3):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(saving, "write_finished", full)
    out = tmp_path / "full"
    assert same_weights(whole, run_training(out, recipe([STAGE], save_every=3)))
    assert capsys.readouterr().err.count("the previous one is whole, training goes on") == 2
    assert not list(out.glob(".checkpoint*"))
    steps.clear()
    steps.append(0)
    with pytest.raises(OSError, match="No space"):  # the last save is not a warning
        run_training(tmp_path / "again", recipe([{**STAGE, "steps": 1}], save_async=False))


def test_killed_writers_leave_nothing_for_ever(tmp_path: Path) -> None:
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    (tmp_path / f".checkpoint.partial-{int(gone.stdout)}").mkdir()
    (tmp_path / f".checkpoint.partial-{os.getpid()}").mkdir()
    (tmp_path / ".checkpoint.previous").mkdir()  # killed between two renames
    assert open_output(tmp_path, resume=True, overwrite=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".checkpoint.partial-{os.getpid()}", "checkpoint"]


def test_a_folder_that_is_not_empty_is_neither_overwritten_nor_resumed_in_silence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    (tmp_path / "progress.csv").write_text("")
    with pytest.raises(RecipeError, match=r"not empty \(progress.csv, thesis.txt\): go on with --resume"):
        open_output(tmp_path, resume=False, overwrite=False)
    with pytest.raises(RecipeError, match="exclude each other"):
        open_output(tmp_path, resume=True, overwrite=True)
    assert not open_output(tmp_path, resume=True, overwrite=False)
    assert "no checkpoint yet, training begins at step 0" in capsys.readouterr().err
    assert not open_output(tmp_path, resume=False, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_torn_last_line_of_the_progress_is_no_row(tmp_path: Path) -> None:
    path = tmp_path / "progress.csv"
    whole = b"stage,step,loss\r\none,2,0.5\r\none,4,\r\n"
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        rows = read_progress(path)
        assert (
            rows
            == [{"stage": "one", "step": 2.0, "loss": 0.5}, {"stage": "one", "step": 4.0, "loss": None}][: len(rows)]
        )
        assert len(rows) == max(0, whole[:cut].count(b"\n") - 1)


@pytest.mark.slow
def test_killed_at_random_moments_the_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole = run_training(tmp_path / "whole", recipe(save_every=2))
    code = (
        "import sys; from pathlib import Path; import test_loop as t; "
        "t.run_training(Path(sys.argv[1]), t.recipe(save_every=2), resume=True)"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    out, random = tmp_path / "killed", __import__("random").Random(0)
    kills = 0
    while kills < 20:
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(out)], env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.DEVNULL
        )
        seen = len(read_progress(out / "progress.csv"))
        deadline = time.monotonic() + 120
        while process.poll() is None and len(read_progress(out / "progress.csv")) <= seen:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(random.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        config = out / "checkpoint" / "config.json"
        if config.is_file() and json.loads(config.read_text())["training"]["finished"]:
            break
    assert kills > 3
    assert same_weights(whole, run_training(out, recipe(save_every=2), resume=True))


def test_stages_are_saved_too(tmp_path: Path) -> None:
    run_training(tmp_path, recipe(STAGES, save_every=100, keep_last=9))
    assert sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir()) == [8, 20]
