"""What the HTML page of a dataset says: facts, findings, values, streams, recordings, and every drawn episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ros.base.printing import numbers
from pi0_ros.datasets.checks import check_dataset
from pi0_ros.datasets.facts import SPREAD, facts, summarize
from pi0_ros.datasets.folder import DatasetFolder, Entry
from pi0_ros.datasets.html_report import Cell, Link, Marked, Part, Picture, Table, write_page

STREAM_FIELDS = (
    *("messages", "rate_hz", "jitter_s", "age_p50_s", "age_p95_s", "age_max_s"),
    *("drops", "repeats", "skips", "stamp_fallbacks"),
)
STREAM_HEAD = (
    *("topic", "messages", "Hz", "jitter ms", "age p50 ms", "p95 ms", "max ms", "limit ms"),
    *("lost", "repeats", "skips", "without stamp"),
)


def write_dataset_page(
    path: Path,
    folder: DatasetFolder,
    drawn: Sequence[int],
    values: Sequence[Picture],
    streams: Sequence[Picture],
    episodes: Sequence[Part],
) -> None:
    """Write the page: `values` and `streams` are its pictures of the whole, `episodes` the parts of those `drawn`."""
    summary = summarize(folder)
    about = Table(("", ""), [*facts(summary)])
    tasks = Table(("task", "episodes"), [(f'"{task}"', count) for task, count in summary["tasks"].items()])
    parts = [Part("What is in it", [about, tasks]), _findings(folder.path), _values(summary, values)]
    if streams:
        parts.append(Part("Streams", [_stream_table(folder), *_lags(folder.conversion["bags"]), *streams]))
    if folder.conversion.get("bags"):
        parts.append(_recordings(folder.conversion["bags"]))
    write_page(path, f"Dataset {folder.path.resolve().name}", [*parts, _episode_list(folder, drawn), *episodes])


def episode_part(folder: DatasetFolder, entry: Entry, pictures: Sequence[Picture]) -> Part:
    """The part of the page about one episode."""
    length = f"{entry.length} frames, {entry.length / folder.fps:.1f} s. Grey: idle frames; green: labels."
    return Part(f"Episode {entry.index}: {' / '.join(entry.tasks)}", [length, *pictures], f"episode-{entry.index}")


def _findings(path: Path) -> Part:
    found = check_dataset(path)
    rows = [(Marked(f.severity), f.check, f.what, f.todo) for f in found if f.severity != "note"]
    notes = [(Marked(f.severity), f.check, f.what, f.todo) for f in found if f.severity == "note"]
    said = "" if rows else "Nothing that would bite a trainer."
    table = Table(("", "about", "what", "what to do"), [*rows, *notes])
    return Part("What `pi0 dataset check` says", [*([said] if said else []), table])


def _values(summary: Mapping[str, Any], pictures: Sequence[Picture]) -> Part:
    tables = [
        Table(
            (key, "unit", *SPREAD),
            [
                (name, unit, *(f"{ranges[column][dim]:.4g}" for column in SPREAD))
                for dim, (name, unit) in enumerate(zip(ranges["names"], ranges["units"], strict=True))
            ],
        )
        for key, ranges in summary["ranges"].items()
    ]
    return Part("Values", [item for pair in zip(tables, pictures, strict=True) for item in pair])


def _stream_table(folder: DatasetFolder) -> Table:
    """A row for each topic over all recordings: usual values are medians, `max` and `p95` the worst."""
    limits, bags = folder.robot.max_ages_s if folder.robot else {}, folder.conversion["bags"]
    streams = [stream for bag in bags for stream in bag.get("streams", ())]
    frames = sum(episode["frames"] for bag in bags for episode in bag.get("episodes", ()))
    rows: list[list[Cell]] = []
    for topic in dict.fromkeys(stream["topic"] for stream in streams):
        found = {name: np.array([s.get(name, 0) for s in streams if s["topic"] == topic]) for name in STREAM_FIELDS}
        messages = int(found["messages"].sum())
        times = {
            "jitter": np.median(found["jitter_s"]),
            "p50": np.median(found["age_p50_s"]),
            "p95": found["age_p95_s"].max(),
            "max": found["age_max_s"].max(),
        }
        rows.append(
            [
                topic,
                messages,
                f"{np.median(found['rate_hz']):.1f}",
                *(f"{value * 1e3:.1f}" for value in times.values()),
                f"{limits[topic] * 1e3:g}" if np.isfinite(limits.get(topic, np.inf)) else "",
                int(found["drops"].sum()),
                f"{found['repeats'].sum() / max(1, frames):.1%}",
                f"{found['skips'].sum() / max(1, messages):.1%}",
                int(found["stamp_fallbacks"].sum()),
            ]
        )
    return Table(STREAM_HEAD, rows)


def _lags(bags: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each camera whose lag behind the joints some recordings tell."""
    told: dict[str, list[float]] = {}
    for lag in (lag for bag in bags for lag in bag.get("lags", ()) if lag["lag_s"] is not None):
        told.setdefault(lag["camera"], []).append(lag["lag_s"])
    return [
        f"Camera {camera} shows motions {np.median(lags) * 1e3:.0f} ms after the joints report them (median of "
        f"{len(lags)} recordings)."
        for camera, lags in told.items()
    ]


def _recordings(bags: Sequence[Mapping[str, Any]]) -> Part:
    rows: list[list[Cell]] = []
    for bag in bags:
        gaps = bag.get("gaps", ())
        why = [bag["reason"]] if bag.get("reason") else []
        why += bag.get("notes", ())
        why += [f"gap of {gap['length_s']:.2f} s at {gap['at_s']:.2f} s: {gap['why']}" for gap in gaps]
        lengths = [episode["frames"] for episode in bag.get("episodes", ())]
        name = Path(bag["bag"]).name
        rows.append([name, Marked(bag["status"]), f"{bag['duration_s']:.1f}", numbers(lengths), "; ".join(why)])
    rows.sort(key=lambda row: row[1] == Marked("converted"))  # what was left out stands first
    return Part("Recordings", [Table(("recording", "became", "seconds", "frames of its episodes", "why"), rows)])


def _episode_list(folder: DatasetFolder, drawn: Sequence[int]) -> Part:
    rows: list[list[Cell]] = []
    for entry in folder.entries:
        name: Cell = Link(str(entry.index), f"episode-{entry.index}") if entry.index in drawn else str(entry.index)
        rows.append([name, entry.length, f"{entry.length / folder.fps:.1f}", " / ".join(entry.tasks)])
    said = f"{len(drawn)} of {len(rows)} are drawn below." if len(drawn) < len(rows) else "All are drawn below."
    return Part("Episodes", [said, Table(("episode", "frames", "seconds", "task"), rows)])
