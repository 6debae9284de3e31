"""The moments of an evaluation where the policy was worst, with what it saw, kept beside its table of errors.

`moments.json` holds the error of every chunk, and of the worst ones what was predicted and recorded; their pictures lie
in `moments/`. Errors are fractions of the joints' ranges, so that joints can be compared. Read by `pi0 view`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ros.datasets.pictures import jpeg_file
from pi0_ros.robot import Robot
from pi0_ros.training.evaluation import Predictions
from pi0_ros.training.loader import TrainingData

FILE, FOLDER = "moments.json", "moments"
MOST = 12


def chunk_errors(predictions: Predictions, robot: Robot) -> np.ndarray:
    """Mean |predicted - recorded| of each joint in each chunk as a fraction of its range, float64 [n, A]."""
    spans = np.array([joint.span for joint in robot.action_joints])
    return np.asarray(np.abs(predictions.predicted - predictions.recorded).mean(axis=1) / spans)


def worst(errors: np.ndarray, episodes: np.ndarray, rows: np.ndarray, horizon: int, most: int = MOST) -> list[int]:
    """Which of the chunks with `errors` [n] to look at: the worst first, and none within `horizon` rows of another."""
    found: list[int] = []
    for place in np.argsort(-errors, kind="stable").tolist():
        if all(episodes[place] != episodes[k] or abs(int(rows[place]) - int(rows[k])) >= horizon for k in found):
            found.append(place)
        if len(found) == most:
            break
    return found


def write_moments(out: Path, predictions: Predictions, data: TrainingData, robot: Robot) -> Path:
    """Write `moments.json` and the pictures into `out`, in the place of those of an earlier evaluation."""
    by_joint = chunk_errors(predictions, robot)
    rows, horizon = predictions.rows, predictions.predicted.shape[1]
    episodes = data.episode[rows]
    starts = np.array([data.spans[episode][0] for episode in episodes.tolist()])
    content: dict[str, Any] = {
        "format": 1,
        "fps": data.fps,
        "joints": [
            {"name": joint.name, "unit": joint.unit, "lower": _plain(joint.lower), "upper": _plain(joint.upper)}
            for joint in robot.action_joints
        ],
        "episodes": [{"number": episode, "prompt": data.prompts[episode]} for episode in np.unique(episodes).tolist()],
        "chunks": [
            {"episode": int(episode), "frame": int(row - start), "error": _plain(error)}
            for episode, row, start, error in zip(episodes, rows, starts, by_joint.mean(axis=1), strict=True)
        ],
    }
    shutil.rmtree(out / FOLDER, ignore_errors=True)
    (out / FOLDER).mkdir(parents=True)
    content["worst"] = [
        {
            "episode": int(episodes[k]),
            "frame": int(rows[k] - starts[k]),
            "error": _plain(by_joint[k].mean()),
            "by_joint": _lists(by_joint[k]),
            "predicted": _lists(predictions.predicted[k]),
            "recorded": _lists(predictions.recorded[k]),
            "held": _lists(predictions.held[k]),
            "pictures": _pictures(out, f"{place:02d}", data.frames, int(rows[k])),
        }
        for place, k in enumerate(worst(by_joint.mean(axis=1), episodes, rows, horizon))
    ]
    (out / FILE).write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
    return out / FILE


def _pictures(out: Path, name: str, frames: Mapping[str, np.ndarray], row: int) -> dict[str, str]:
    """Write what the cameras saw at `row`; camera -> file below `out`."""
    found = {}
    for number, (camera, pictures) in enumerate(frames.items()):
        found[camera] = f"{FOLDER}/{name}_{number}.jpg"
        (out / found[camera]).write_bytes(jpeg_file(np.asarray(pictures[row])))
    return found


def _lists(values: np.ndarray) -> Any:
    return [_lists(value) for value in values] if values.ndim else _plain(float(values))


def _plain(value: float) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) else None
