"""Pictures of a recording's time: when each stream's messages came, and how far its stamps are from the arrivals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pi0_ros.datasets.plots import BLUE, GREEN, GREY, ORANGE, VERMILION, new_figure, png

MARK = "#9A6700"  # ORANGE, dark enough for a text


@dataclass(frozen=True)
class Span:
    """A stretch of a recording, in seconds after its begin, with what there is to say of it."""

    start_s: float
    stop_s: float
    text: str


@dataclass(frozen=True)
class TimelineView:
    """What is drawn. `streams`: topic -> times of its messages in s after the begin, rising; `delays`: topic ->
    (times, arrival minus stamp in s)."""

    length_s: float
    streams: Mapping[str, np.ndarray]
    delays: Mapping[str, tuple[np.ndarray, np.ndarray]]
    episodes: Sequence[Span]
    missing: Sequence[Span]  # gaps, and what is left out
    marks: Sequence[tuple[float, str]] = field(default_factory=tuple)


def draw_streams(view: TimelineView) -> bytes:
    """A line for each stream, a stroke for each message; green: episodes, red: what is not in the dataset. A PNG."""
    rows = list(view.streams.items())
    figure = new_figure(11, 0.42 * (len(rows) + 1) + 1.0)
    axes = figure.subplots()
    for place, (_, times) in enumerate(reversed(rows)):
        axes.vlines(times, place - 0.36, place + 0.36, color=BLUE, linewidth=0.5, alpha=0.7)
    for spans, colour in ((view.episodes, GREEN), (view.missing, VERMILION)):
        for span in spans:
            axes.axvspan(span.start_s, max(span.stop_s, span.start_s + 0.002 * view.length_s), color=colour, alpha=0.18)
    for at, text in view.marks:
        axes.axvline(at, color=ORANGE, linewidth=1.2)
        axes.annotate(text, (at, len(rows) - 0.15), fontsize="x-small", color=MARK, rotation=20, annotation_clip=False)
    axes.set_yticks(range(len(rows)), [topic for topic, _ in reversed(rows)], fontsize="small")
    axes.set_xlim(0, max(view.length_s, 1e-3))
    axes.set_ylim(-0.6, len(rows) - 0.2)
    axes.set_xlabel("time (s)", fontsize="small")
    return png(figure)


def draw_delays(view: TimelineView) -> bytes:
    """How long after its stamp each message arrived, a stream each. A PNG."""
    rows = list(view.delays.items())
    figure = new_figure(11, 1.1 * max(1, len(rows)) + 0.5)
    grid = figure.subplots(max(1, len(rows)), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (topic, (times, delay)) in zip(grid, rows):
        axes.plot(times, delay * 1e3, ".", color=BLUE, markersize=2)
        axes.axhline(0, color=GREY, linewidth=0.6)
        axes.margins(y=0.15)
        axes.set_title(topic, fontsize="small", loc="left", pad=2)
        axes.set_ylabel("ms", fontsize="small")
        axes.tick_params(labelsize="small")
    grid[-1].set_xlabel("time (s)", fontsize="small")
    return png(figure)
