"""Pictures of a dataset: what the joints did, how old the streams were, what the cameras saw.

Colours are Okabe and Ito's, which the colour-blind tell apart. Nothing here needs a display.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from pi0_ros.datasets.folder import DatasetFolder, Entry
from pi0_ros.datasets.language import IDLE, PERSISTENT, Label, labels_of
from pi0_ros.datasets.layout import ACTION, STATE
from pi0_ros.datasets.pictures import contact_sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image

BLUE, ORANGE, GREEN, VERMILION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#999999"
SHEET_FRAMES, SHEET_COLUMNS = 12, 6
LEAST_FRACTION = 0.2  # of a joint's range in all episodes is always shown, so that one that hardly moves looks so
ON_TIME = ("data", "axes fraction")  # a place in seconds and in shares of the axes' height
SMALL: dict[str, Any] = {"fontsize": "x-small", "color": GREEN, "clip_on": True}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure that draws without a display; sizes in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure, dpi: int = 100) -> bytes:
    """The figure as a PNG file."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def traces(folder: DatasetFolder, entry: Entry) -> Figure:
    """State and action of one episode over time, an axis for each dimension; idle frames are shaded, labels marked."""
    rows = folder.rows(entry)
    series: dict[str, tuple[np.ndarray, list[str], list[str]]] = {
        key: (folder.columns[key][rows].reshape(entry.length, -1), folder.names(key), folder.units(key))
        for key in (STATE, ACTION)
        if key in folder.columns
    }
    names = list(dict.fromkeys(name for _, found, _ in series.values() for name in found))
    columns = 1 if len(names) <= 3 else 2 if len(names) <= 16 else 3
    lines = -(-len(names) // columns)
    figure = new_figure(11, 1.5 * lines + 1.1)
    grid = figure.subplots(lines, columns, sharex=True, squeeze=False)
    seconds = np.arange(entry.length) / folder.fps
    shaded, labels = _idle(folder, entry), _labels(folder, entry)
    for place, axes in enumerate(grid.T.reshape(-1)):
        if place >= len(names):
            axes.set_axis_off()
            continue
        unit, spread = "", 0.0
        for key, colour, width in ((ACTION, ORANGE, 2.2), (STATE, BLUE, 1.2)):
            values, known, units = series.get(key, (None, [], []))
            if values is not None and names[place] in known:
                dim = known.index(names[place])
                axes.plot(
                    seconds, values[:, dim], color=colour, linewidth=width, label=key.removeprefix("observation.")
                )
                unit = units[dim] or unit
                spread = max(spread, float(np.ptp(folder.columns[key][:, dim])))
        for start, stop in shaded:
            axes.axvspan(start / folder.fps, stop / folder.fps, color=GREY, alpha=0.15, linewidth=0)
        for at, text in labels:
            axes.axvline(at, color=GREEN, linewidth=1, linestyle=":")
            if place == 0:
                axes.annotate(text, (at, 0), (2, 3), xycoords=ON_TIME, textcoords="offset points", **SMALL)
        axes.set_title(names[place] + (f" ({unit})" if unit else ""), fontsize="small", loc="left", pad=3)
        _at_least(axes, LEAST_FRACTION * spread)
        axes.grid(alpha=0.3)
        axes.margins(x=0.01)
        axes.tick_params(labelsize="small")
    for axes in grid[-1] if lines * columns == len(names) else [column[_last(column)] for column in grid.T]:
        axes.set_xlabel("time (s)", fontsize="small")
        axes.tick_params(labelbottom=True)
    figure.suptitle(f"episode {entry.index}: {' / '.join(entry.tasks)}", fontsize="medium")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=2, fontsize="small")
    return figure


def _at_least(axes: Axes, height: float) -> None:
    """Widen the vertical axis to `height` where it shows less."""
    low, high = axes.get_ylim()
    if high - low < height:
        axes.set_ylim((low + high - height) / 2, (low + high + height) / 2)


def _last(column: Any) -> int:
    """The lowest axes of a column that are drawn."""
    return max(place for place, axes in enumerate(column) if axes.axison)


def _idle(folder: DatasetFolder, entry: Entry) -> list[tuple[int, int]]:
    """Stretches of the episode that the column `idle` marks: (first frame, the one after the last)."""
    if IDLE not in folder.columns:
        return []
    idle = np.concatenate([[False], folder.columns[IDLE][folder.rows(entry)], [False]])
    edges = np.flatnonzero(np.diff(idle.astype(int)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def _labels(folder: DatasetFolder, entry: Entry) -> tuple[Label, ...]:
    """The episode's labels: (seconds, text)."""
    if PERSISTENT not in folder.features:
        return ()
    return labels_of(folder.episode_table(entry, [PERSISTENT]).column(PERSISTENT)[0].as_py())


def stream_ages(conversion: Mapping[str, Any], limits: Mapping[str, float]) -> Figure | None:
    """How old each stream's samples were when they were used, bag by bag: half, 95 % and all are younger.

    `conversion` is the conversion report, `limits` topic -> greatest allowed age in s. None without any stream.
    """
    bags = [bag for bag in conversion.get("bags", []) if bag.get("streams")]
    topics = list(dict.fromkeys(stream["topic"] for bag in bags for stream in bag["streams"]))
    if not topics:
        return None
    figure = new_figure(11, 1.7 * len(topics) + 0.9)
    grid = figure.subplots(len(topics), 1, sharex=True, squeeze=False)[:, 0]
    for axes, topic in zip(grid, topics, strict=True):
        found = [(n, s) for n, bag in enumerate(bags) for s in bag["streams"] if s["topic"] == topic]
        bag_numbers = [n for n, _ in found]
        p50, p95, worst = (
            np.array([s.get(name, np.nan) for _, s in found], float) * 1e3
            for name in ("age_p50_s", "age_p95_s", "age_max_s")
        )
        series = (worst, VERMILION, 7, "max"), (p95, ORANGE, 5, "95 %"), (p50, BLUE, 3, "median")
        for values, colour, width, label in series:  # the larger below: equal ones stay visible
            axes.plot(bag_numbers, values, "o", color=colour, markersize=width, markeredgewidth=0, label=label)
        title = topic
        if np.isfinite(limits.get(topic, np.inf)):  # commands may hold until the next
            limit = limits[topic] * 1e3
            title += f"   (limit {limit:g} ms)"
            if worst.max() > 0.4 * limit:
                axes.axhline(limit, color=VERMILION, linewidth=1, linestyle="--")
        axes.set_title(title, fontsize="small", loc="left", pad=3)
        axes.set_ylabel("age (ms)", fontsize="small")
        axes.set_ylim(0, 1.15 * max(axes.get_ylim()[1], 1.0))
        axes.margins(x=0.01)
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize="small")
    grid[-1].set_xlim(-0.5 - len(bags) / 100, len(bags) - 0.5 + len(bags) / 100)
    grid[-1].xaxis.get_major_locator().set_params(integer=True)
    grid[-1].set_xlabel("recording, in the order of the conversion, counted from 0", fontsize="small")
    figure.suptitle("age of the streams at their use", fontsize="medium")
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper right", ncols=3, fontsize="small")
    return figure


def value_ranges(folder: DatasetFolder, key: str) -> Figure:
    """How the values of each dimension spread over all rows: a histogram for each, q01 to q99 marked."""
    values, names, units = folder.columns[key], folder.names(key), folder.units(key)
    values = values.reshape(len(values), -1).astype(np.float64)
    columns = min(6, len(names))
    lines = -(-len(names) // columns)
    figure = new_figure(11, 1.5 * lines + 0.7)
    grid = figure.subplots(lines, columns, squeeze=False)
    for dim, axes in enumerate(grid.reshape(-1)):
        if dim >= len(names):
            axes.set_axis_off()
            continue
        finite = values[np.isfinite(values[:, dim]), dim]
        axes.hist(finite, bins=60, color=BLUE if key == STATE else ORANGE)
        for quantile in np.quantile(finite, [0.01, 0.99]):
            axes.axvline(quantile, color=VERMILION, linewidth=1, linestyle="--")
        axes.set_title(names[dim] + (f" ({units[dim]})" if units[dim] else ""), fontsize="small", loc="left", pad=3)
        axes.set_yticks([])
        axes.tick_params(labelsize="x-small")
    figure.suptitle(f"values of {key} over all rows; dashed: 1 % and 99 %", fontsize="medium")
    return figure


def episode_sheet(folder: DatasetFolder, entry: Entry, key: str) -> Image:
    """The contact sheet of one camera: frames evenly spread over the episode, each with its time."""
    picked: Sequence[int] = np.unique(np.linspace(0, entry.length - 1, SHEET_FRAMES).round().astype(int)).tolist()
    labels = [f"{number / folder.fps:.1f} s" for number in picked]
    return contact_sheet(folder.frames(entry, key, picked), labels, SHEET_COLUMNS)
