"""The picture of bench/motion.py: one transition up close, transitions and mid-chunk over the latency, and success."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from motion_figures import Trace, difference

COLOURS = {"replace": "#c0392b", "blend": "#1f6fb2", "ensemble": "#8a6bbf", "rtc": "#1f9e72"}
GOAL = 1.2
CLOSE_UP_MS = 200
AROUND_S = (-0.15, 0.45)
JOINT = 1


def plot(rows: list[Any], path: Path) -> None:
    """Draw the rows (`Row` of bench/motion.py) to `path`."""
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10})
    figure, axes = plt.subplots(2, 2, figsize=(11, 7.2), constrained_layout=True)
    recorded = [row for row in rows if row.part == "recorded"]
    demo = [row for row in rows if row.part == "demo"]
    close_up([row for row in recorded if row.latency_ms == CLOSE_UP_MS], axes[0])
    over_latency(axes[1, 0], recorded, lambda row: row.figures.ratio())
    axes[1, 0].axhspan(0, GOAL, color="#2ecc71", alpha=0.10, lw=0)
    axes[1, 0].text(
        0.5, GOAL + 0.06, f"goal: {GOAL} at most", color="#1e8449", transform=axes[1, 0].get_yaxis_transform()
    )
    axes[1, 0].set(title="Transitions against mid-chunk: acceleration, p99", ylabel="ratio", ylim=(0, None))
    if demo:
        over_latency(axes[1, 1], demo, lambda row: 100.0 * row.won / row.played)
        axes[1, 1].set(
            title=f"Demo arm, its policy: cubes in the tray, {demo[0].played} scenes each", ylabel="%", ylim=(0, 104)
        )
    else:
        over_latency(axes[1, 1], recorded, lambda row: row.figures.p99("jerk", "transition"))
        axes[1, 1].set(title="Jerk at transitions, p99", ylabel="rad/s³", yscale="log")
    figure.legend(
        [Line2D([], [], color=colour, lw=2.5) for colour in COLOURS.values()],
        list(COLOURS),
        loc="outside upper center",
        ncols=len(COLOURS),
        frameon=False,
        fontsize=10,
    )
    figure.savefig(path, dpi=130)


def over_latency(axis: Axes, rows: list[Any], value: Callable[[Any], float]) -> None:
    """One line per strategy; random latency apart at the right."""
    labels = list(dict.fromkeys(row.latency for row in rows))
    for shift, (transition, colour) in enumerate(COLOURS.items()):
        own = {row.latency: value(row) for row in rows if row.transition == transition}
        places = [labels.index(label) + 0.04 * (shift - 1.5) for label in own]
        fixed = sum(label != "random" for label in own)
        values = list(own.values())
        axis.plot(places[:fixed], values[:fixed], "o-", color=colour, lw=2, ms=5)
        axis.plot(places[fixed:], values[fixed:], "D", color=colour, ms=6)
    axis.set_xticks(range(len(labels)), labels)
    axis.set_xlabel("inference latency, ms")
    axis.grid(axis="y", alpha=0.25)


def close_up(rows: list[Any], axes: np.ndarray) -> None:
    """Position and acceleration of one joint around the roughest transition of `replace`."""
    by_transition = {row.transition: row.traces[0] for row in rows}
    rough = by_transition.get("replace") or next(iter(by_transition.values()))
    middle = roughest(rough)
    for transition, trace in by_transition.items():
        times = np.array(trace.times) - middle
        shown = (times > AROUND_S[0]) & (times < AROUND_S[1])
        x = np.array(trace.positions)[:, [JOINT]]
        for axis, values in zip(axes, (x, difference(x, trace.period)[0]), strict=True):
            order = 3 if transition in ("blend", "rtc") else 2
            axis.plot(1e3 * times[shown], values[shown, 0], color=COLOURS[transition], lw=1.8, zorder=order)
    tick = int(np.argmin(np.abs(np.array(rough.times) - middle)))
    for chunk, style, name in ((rough.chunks[tick - 1], "--", "old chunk"), (rough.chunks[tick], ":", "new chunk")):
        times = chunk.times - middle
        shown = (times > AROUND_S[0]) & (times < AROUND_S[1])
        axes[0].plot(1e3 * times[shown], chunk.actions[shown, JOINT], style, color="0.45", lw=1.2, zorder=1, label=name)
    axes[0].legend(loc="lower right", frameon=False, fontsize=8)
    for axis in axes:
        axis.axvline(0, color="0.7", lw=1)
        axis.set_xlabel("ms after the new chunk is taken up")
        axis.grid(alpha=0.2)
    axes[0].set(title=f"One joint at one transition, {CLOSE_UP_MS} ms of latency: what is sent", ylabel="rad")
    axes[1].set(title="the same: acceleration", ylabel="rad/s²")


def roughest(trace: Trace) -> float:
    """When the joint of the close-up has its largest disagreement between two chunks, s."""
    worst, when = 0.0, trace.times[0]
    for k in range(300, len(trace.times) - 60):
        old, new = trace.chunks[k - 1], trace.chunks[k]
        if old is None or new is None or old is new:
            continue
        now = trace.times[k]
        there = [float(np.interp(now, chunk.times, chunk.actions[:, JOINT])) for chunk in (old, new)]
        if worst < abs(there[1] - there[0]) < 0.08:
            worst, when = abs(there[1] - there[0]), now
    return when
