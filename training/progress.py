"""How a run is going: a progress bar, a CSV that survives a resume, and the training curve as a picture."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

LOSSES = ("loss", "flow", "grounding", "grad_norm", "val_flow", "val_grounding")
COLUMNS = ("stage", "step", "seconds", "frames_per_s", "lr", *LOSSES)
HELP = {
    "flow": "flow matching loss",
    "grounding": "grounding loss",
    "val_flow": "flow matching loss, held out",
    "val_grounding": "grasp error, held out (1 = guessing)",
}


class Progress:
    """Writes one CSV row per report and redraws the curve; steps count through all stages."""

    def __init__(self, folder: Path, total: int, done: int, boundaries: list[int]) -> None:
        """`done` steps of `total` are behind us: later rows of a CSV belong to a killed run and are dropped."""
        self.csv, self.png = folder / "progress.csv", folder / "curve.png"
        self.boundaries = boundaries
        rows = [row for row in read_progress(self.csv) if row["step"] <= done] if done else []
        with self.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        terminal = sys.stderr.isatty()
        self.bar = tqdm(
            total=total, initial=done, unit="step", dynamic_ncols=True, mininterval=0.5 if terminal else 60.0
        )

    def report(self, row: dict[str, Any]) -> None:
        """Append a row; numbers are rounded to six digits."""
        rounded = {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()}
        with self.csv.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS).writerow(rounded)
        shown = [f"{key} {row[key]:.3g}" for key in ("flow", "grounding", "lr") if key in row]
        self.bar.set_postfix_str(", ".join([*shown, f"{row['frames_per_s']:.0f} frames/s"]), refresh=False)

    def say(self, text: str) -> None:
        """A line above the bar."""
        self.bar.write(text, file=sys.stderr)
        plot_progress(self.csv, self.png, self.boundaries)

    def close(self) -> None:
        self.bar.close()
        plot_progress(self.csv, self.png, self.boundaries)


def read_progress(path: Path) -> list[dict[str, Any]]:
    """Rows of a progress CSV; `stage` stays text, empty cells are None, the rest are numbers. No file: no rows."""
    if not path.is_file():
        return []
    rows: list[dict[str, Any]] = []
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            numbers = {key: float(value) if value else None for key, value in row.items() if key != "stage"}
            rows.append({"stage": row["stage"], **numbers})
    return rows


def plot_progress(path: Path, png: Path, boundaries: list[int]) -> None:
    """Draw all losses of a progress CSV over the step, logarithmic, with a line where a stage ends."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = read_progress(path)
    if not rows:
        return
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for key, label in HELP.items():
        points = [(row["step"], row[key]) for row in rows if row.get(key)]
        if points:
            style = {"linewidth": 0.8, "alpha": 0.6} if not key.startswith("val_") else {"marker": "o", "markersize": 3}
            axes.plot(*zip(*points, strict=True), label=f"{label}: {points[-1][1]:.3g}", **style)
    for boundary in boundaries:
        axes.axvline(boundary, color="grey", linewidth=0.8, linestyle=":")
    axes.set(yscale="log", xlabel=f"step ({rows[-1]['seconds'] / 60:.0f} minutes)", title="training")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(png, dpi=110)
