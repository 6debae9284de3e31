"""What is written beside progress.csv: TensorBoard's files, also over a resume, and the sheet of the first batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from several_processes import main
from synthetic import TINY
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pi0_ros.training.progress_file import read_progress
from pi0_ros.training.recipe import RecipeError
from pi0_ros.training.trackers import check_trackers
from pi0_ros.training.world import ALONE

STAGES = [{"name": "one", "steps": 8, "batch": 8, "lr": 1e-3, "ema": 0.0}]
RECIPE = {"threads": 1, "model_overrides": TINY, "log_every": 1, "save_every": 2, "held_out": 0.0, "stages": STAGES}


def test_tensorboard_and_sheet_over_a_resume(tmp_path: Path) -> None:
    out = tmp_path / "run"
    main([{"recipe": RECIPE, "out": str(out), "stop_after": 5}, {"recipe": RECIPE, "out": str(out)}], ALONE)
    events = EventAccumulator(str(out / "tensorboard"), {"scalars": 0, "images": 0}).Reload()
    rows = read_progress(out / "progress.csv")
    for name in ("loss", "lr", "grad_norm", "frames_per_s"):
        seen = {event.step: event.value for event in events.Scalars(name)}
        assert seen == pytest.approx({row["step"]: row[name] for row in rows}, rel=1e-4), name
    assert [event.step for event in events.Images("first_batch")] == [0]
    sheet = np.asarray(Image.open(out / "first_batch.png").convert("RGB"))
    assert min(sheet.shape[:2]) > 500
    assert all((np.abs(sheet.astype(int) - colour).max(-1) < 12).any() for colour in ((220, 40, 40), (40, 60, 220)))


def test_a_tracker_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match="pip install wandb"):
        check_trackers(("wandb",))
    check_trackers(("tensorboard",))
    assert "pip install tensorboard" in capsys.readouterr().err
