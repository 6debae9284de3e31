"""How a run is going: a progress bar, log lines, a CSV that survives a resume, and the training curve as a picture."""

from __future__ import annotations

import csv
import resource
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from pi0_ros.training.progress_file import FIRST, LAST, read_progress
from pi0_ros.training.state import Position
from pi0_ros.training.trackers import open_trackers

BAR: tuple[str, ...] = ("loss", "lr", "grad_norm")


class Progress:
    """Collects the numbers of each step and reports their means; steps count through all stages."""

    def __init__(
        self,
        folder: Path,
        steps: Sequence[int],
        position: Position,
        auxiliary: Sequence[str],
        track: tuple[str, ...] = (),
        config: Mapping[str, Any] | None = None,
    ) -> None:
        """`steps` of every stage, `position` where the run stands: later rows of a CSV belong to a killed run.

        `auxiliary` are the names of the losses beside the flow's; `track` names who else hears of all this, `config` is
        the recipe that these show.
        """
        self.csv, self.png = folder / "progress.csv", folder / "curve.png"
        self.columns = (*FIRST, *auxiliary, *LAST, *(f"val_{name}" for name in auxiliary))
        self.ends = [sum(steps[: i + 1]) for i in range(len(steps))]
        self.steps = steps
        done = self._step(position)
        rows = [row for row in read_progress(self.csv) if row["step"] <= done] if done else []
        whole = self.csv.with_suffix(".csv.partial")  # a kill in the middle leaves the old one
        with whole.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        whole.replace(self.csv)
        self.trackers = open_trackers(track, folder, config or {}, done)
        terminal = sys.stderr.isatty()
        self.bar = tqdm(
            total=self.ends[-1], initial=done, unit="step", dynamic_ncols=True, mininterval=0.5 if terminal else 60.0
        )
        self._start(position)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.close()
        plot_progress(self.csv, self.png, self.ends[:-1])
        for tracker in self.trackers:
            tracker.close()

    def _step(self, position: Position) -> int:
        """Steps of all stages until `position`."""
        return self.ends[position.stage] - self.steps[position.stage] + position.step

    def _start(self, position: Position) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count, self._frames, self._began, self._position = 0, 0, position.seconds, position

    def count(self, numbers: Mapping[str, Tensor], frames: int, position: Position) -> None:
        """Take in the numbers of one step, which ended at `position`."""
        for name, value in numbers.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._count, self._frames, self._position = self._count + 1, self._frames + frames, position
        self.bar.update()

    def report(self, stage: str, more: Mapping[str, float]) -> None:
        """Write the means since the last report, and `more`, as a CSV row and a log line."""
        position = self._position
        means = {name: float(value) / self._count for name, value in self._sums.items()}
        speed = self._frames / max(position.seconds - self._began, 1e-9)
        step = self._step(position)
        row: dict[str, Any] = {
            "stage": stage,
            "step": step,
            "seconds": position.seconds,
            "frames_per_s": speed,
            **means,
            **more,
        }
        with self.csv.open("a", newline="") as file:
            csv.DictWriter(file, self.columns).writerow({name: _short(value) for name, value in row.items()})
        for tracker in self.trackers:
            tracker.log(step, {name: float(value) for name, value in row.items() if name not in ("stage", "step")})
        shown = ("grad_norm", "loss", "param_norm")
        numbers: dict[str, float] = {name: row[name] for name in shown if name in row}
        numbers |= {name: value for name, value in row.items() if name.startswith("val_")}
        known: dict[str, str] = {name: f"{row[name]:.3g}" for name in BAR if name in row}
        known |= {"frames/s": f"{speed:.0f}", "GB": f"{memory_used() / 1e9:.1f}"}
        self.bar.set_postfix(known, refresh=False)
        self.say(f"Step {step}: {', '.join(f'{name}={value:.4g}' for name, value in numbers.items())}")
        if any(name.startswith("val_") for name in row):
            plot_progress(self.csv, self.png, self.ends[:-1])
        self._start(position)

    def picture(self, name: str, pixels: np.ndarray) -> None:
        """A picture, uint8 [H,W,3], for those who show pictures."""
        for tracker in self.trackers:
            tracker.picture(self._step(self._position), name, pixels)

    def say(self, text: str) -> None:
        """A line above the bar."""
        self.bar.write(text, file=sys.stderr)


class Silent:
    """What the other processes of a run have in place of a `Progress`."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def count(self, numbers: Mapping[str, Tensor], frames: int, position: Position) -> None:
        """Nothing: the first process counts."""

    def report(self, stage: str, more: Mapping[str, float]) -> None:
        """Nothing: the first process reports."""

    def picture(self, name: str, pixels: np.ndarray) -> None:
        """Nothing: the first process shows pictures."""

    def say(self, text: str) -> None:
        """Nothing: the first process speaks."""


def memory_used() -> float:
    """Bytes: the most that torch held on the GPU, or without one what this process holds at most."""
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated())
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _short(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def plot_progress(path: Path, png: Path, boundaries: Sequence[int]) -> None:
    """Draw all losses of a progress CSV over the step, logarithmic, with a line where a stage ends."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = read_progress(path)
    if not rows:
        return
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    measures = [name for name in rows[0] if name not in (*FIRST[:6], *LAST[:2])]
    for name in measures:
        points = [(row["step"], row[name]) for row in rows if row.get(name)]
        if points:
            style = (
                {"linewidth": 0.8, "alpha": 0.6} if not name.startswith("val_") else {"marker": "o", "markersize": 3}
            )
            label = f"{name.removeprefix('val_')}, held out" if name.startswith("val_") else name
            axes.plot(*zip(*points, strict=True), label=f"{label}: {points[-1][1]:.3g}", **style)
    for boundary in boundaries:
        axes.axvline(boundary, color="grey", linewidth=0.8, linestyle=":")
    axes.set(yscale="log", xlabel=f"step ({rows[-1]['seconds'] / 60:.0f} minutes)", title="training")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(png, dpi=110)
