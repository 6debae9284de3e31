"""What an episode's frames are about, beyond the task, as columns of the dataset: labels, idleness, takeovers.

A label ("grasp the towel") holds from a second of the episode until the next one. LeRobot 0.6 and later keeps them in
the column `language_persistent`: every frame carries the whole list of its episode's labels, style "subtask"
(lerobot `datasets/language.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

PERSISTENT = "language_persistent"
IDLE = "idle"
TAKEOVER = "takeover"
SUBTASK = "subtask"
Label = tuple[float, str]  # (seconds after the episode's first frame, text)

ROW = pa.struct(
    [
        pa.field("role", pa.string(), nullable=False),
        pa.field("content", pa.string()),
        pa.field("style", pa.string()),
        pa.field("timestamp", pa.float32(), nullable=False),
        pa.field("camera", pa.string()),
        pa.field("tool_calls", pa.list_(pa.string())),
    ]
)


def episode_columns(idle: np.ndarray, labels: Sequence[Label], takeover: np.ndarray | None = None) -> pa.Table:
    """Columns of an episode whose frames `idle` bool [T] marks; without labels there is no language column.

    `takeover`, bool [T]: where a person led instead of the policy (None: no such column).
    LeRobot before 0.6 does not know that column, so it is left out where nobody needs it.
    """
    columns = {IDLE: pa.array(idle)}
    if takeover is not None:
        columns[TAKEOVER] = pa.array(takeover)
    if labels:
        rows = [
            {"role": "assistant", "content": text, "style": SUBTASK, "timestamp": at, "camera": None}
            for at, text in labels
        ]
        columns[PERSISTENT] = pa.array([rows] * len(idle), pa.list_(ROW))
    return pa.table(columns)


def labels_of(rows: Sequence[Mapping[str, Any]] | None) -> tuple[Label, ...]:
    """The subtasks in one frame's `language_persistent`, in the order of time."""
    found = [row for row in rows or () if row["style"] == SUBTASK and row["content"]]
    return tuple(sorted((float(row["timestamp"]), str(row["content"])) for row in found))


def label_index(labels: Sequence[Label], length: int, fps: float) -> np.ndarray:
    """Which of `labels` holds at each of `length` frames, int64 [length]; -1 before the first."""
    starts = np.array([at for at, _ in labels], np.float64)
    times = (np.arange(length) + 0.5) / fps  # labels begin on frames: half a frame later no rounding matters
    return np.searchsorted(starts, times, side="right").astype(np.int64) - 1
