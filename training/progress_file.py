"""The file that a run writes its numbers to, `progress.csv`: read without torch."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

FIRST = ("stage", "step", "seconds", "frames_per_s", "lr", "loss", "flow")
LAST = ("grad_norm", "param_norm", "val_flow")


def read_progress(path: Path) -> list[dict[str, Any]]:
    """Rows of a progress CSV; `stage` stays text, empty cells are None, the rest are numbers. No file: no rows.

    A last line without an end, which a killed or still writing run left, is no row.
    """
    if not path.is_file():
        return []
    text = path.read_bytes().decode("utf-8")
    rows: list[dict[str, Any]] = []
    for row in csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline="")):
        numbers = {key: float(value) if value else None for key, value in row.items() if key != "stage"}
        rows.append({"stage": row["stage"], **numbers})
    return rows
