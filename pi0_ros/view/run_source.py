"""A training run, which may still go on: its curves, what its first batch looked like, and its checkpoints."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ros.base.errors import InputError
from pi0_ros.base.printing import duration, size
from pi0_ros.training.progress_file import read_progress
from pi0_ros.view.kinds import PROGRESS
from pi0_ros.view.source import MOST_POINTS, NoEpisodes, Shown, extremes, numbers, picture_file, said

SHEET = "first_batch.png"
LAST = {"loss": "loss", "val_flow": "flow, held out"}  # of the last report; what the page calls them
AXIS = ("stage", "step", "seconds")  # columns that are no curve
WEIGHTS = "model.safetensors"
RECENT = 20  # reports that say how often one comes
SILENT, SILENT_S = 5.0, 60.0  # times the usual, and at least seconds, without a report


class RunSource(NoEpisodes):
    """The page of one run."""

    def __init__(self, path: Path) -> None:
        """Raises `InputError` where progress.csv can't be read."""
        self._path = path
        self._rows()

    def about(self) -> dict[str, Any]:
        """Everything: it is read anew each time, for a run that goes on."""
        rows, path = self._rows(), self._path
        steps, finished = _plan(path)
        checkpoints = [
            (path.joinpath(*parts).relative_to(path).as_posix(), path.joinpath(*parts, WEIGHTS))
            for parts in (("checkpoint",), *(("checkpoints", step) for step in self._kept()))
        ]
        facts = [("reports", str(len(rows)))]
        if rows:
            last = rows[-1]
            facts = [
                ("steps", f"{last['step']:.0f}" + (f" of {steps}" if steps else "")),
                ("time", duration(last["seconds"] or 0.0)),
                *([("speed", f"{last['frames_per_s']:.0f} frames/s")] if last.get("frames_per_s") else []),
                *[(f"last {label}", f"{last[key]:.3g}") for key, label in LAST.items() if last.get(key) is not None],
                *facts,
            ]
        facts += [(name, size(file.stat().st_size)) for name, file in checkpoints if file.is_file()]
        return {
            "kind": "run",
            "title": path.resolve().name,
            "state": _state(rows, finished, time.time() - (path / PROGRESS).stat().st_mtime),
            "alerts": _alerts(rows),
            "facts": said(facts),
            "curves": _curves(rows),
            "stages": _stages(rows),
            "files": [[SHEET, "the first batch, as the model saw it"]] if (path / SHEET).is_file() else [],
        }

    def file(self, name: str) -> Shown:
        """The sheet of the first batch. Raises `InputError` for any other."""
        if name != SHEET:
            raise InputError("there is no such picture here")
        return picture_file(self._path, name)

    def _rows(self) -> list[dict[str, Any]]:
        path = self._path / PROGRESS
        try:
            rows = read_progress(path)
            if any(None in row or row["step"] is None for row in rows):
                raise ValueError("a line has no step, or more values than the head names")
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: not what `pi0 train` writes: {error!r}") from error
        return rows

    def _kept(self) -> list[str]:
        folder = self._path / "checkpoints"
        found = [entry.name for entry in folder.iterdir() if entry.name.isdecimal()] if folder.is_dir() else []
        return sorted(found, key=int)


def _plan(path: Path) -> tuple[int, bool]:
    """How many steps it shall make (0: its checkpoint does not say), and whether it has finished."""
    try:
        training = json.loads((path / "checkpoint" / "config.json").read_text())["training"]
        return sum(int(stage["steps"]) for stage in training["recipe"]["stages"]), training.get("finished") is True
    except (OSError, ValueError, KeyError, TypeError):
        return 0, False


def _state(rows: list[dict[str, Any]], finished: bool, age_s: float) -> str:
    """Whether it goes on, as a sentence; `age_s`: since its last report."""
    if finished:
        return "finished"
    if not rows:
        return f"begun {duration(age_s)} ago, no report yet"
    taken = np.diff([row["seconds"] or 0.0 for row in rows[-RECENT:]])
    usual = float(np.median(taken)) if len(taken) else 0.0
    if age_s > max(SILENT_S, SILENT * usual):
        return f"no report for {duration(age_s)}, one came every {usual:.0f} s: stopped or killed?"
    return f"goes on, last report {age_s:.0f} s ago"


def _alerts(rows: list[dict[str, Any]]) -> list[str]:
    """What is wrong with its numbers."""
    for row in rows:
        if row.get("loss") is not None and not np.isfinite(row["loss"]):
            what = (
                f"the loss is {row['loss']:g} since step {row['step']:.0f}: what it learns from there is lost; lower "
                "the learning rate, or look for values in the data that are no numbers (`pi0 dataset check`)"
            )
            return [what]
    return []


def _curves(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A curve for each column that has a number: name, steps, values."""
    found = []
    for name in [name for name in (rows[0] if rows else ()) if name not in AXIS]:
        values = np.array([np.nan if row.get(name) is None else row[name] for row in rows], float)
        there = np.flatnonzero(np.isfinite(values))
        if len(there):
            steps = np.array([row["step"] for row in rows], float)[there]
            values = values[there]
            if len(values) > MOST_POINTS:
                kept = extremes(values, MOST_POINTS)
                steps, values = steps[kept], values[kept]
            found.append({"name": name, "t": numbers(steps), "v": numbers(values)})
    return found


def _stages(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Where each stage begins, by the step before its first report."""
    stages: list[dict[str, Any]] = []
    for before, row in zip([None, *rows], rows):
        if before is None or before["stage"] != row["stage"]:
            stages.append({"name": str(row["stage"]), "at": 0.0 if before is None else before["step"]})
    return stages
