"""Checks of the statistics: they are there, and are those of the data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pi0_ros.base.findings import Finding, error, note, warning
from pi0_ros.datasets.feature_stats import QUANTILES, describe, describe_histogram, image_histogram
from pi0_ros.datasets.folder import COUNTING, DatasetFolder, Entry
from pi0_ros.datasets.layout import ACTION, STATE

CLOSE = 1e-3  # of a dimension's range
OFF_QUANTILE = 0.05  # of a dimension's range: beyond it, a quantile is no quantile of these data
OFF_PICTURE = 0.1  # of the grey range: pictures are only sampled
REPAIR = "`pi0 dataset merge OUT {path}` writes exact ones; `pi0 stats` and `pi0 train` use their own"
FRAMES = 6  # pictures for each episode


def check_statistics(folder: DatasetFolder, entries: Sequence[Entry]) -> Iterator[Finding]:
    """Compare `meta/stats.json` with all rows, and with some pictures of `entries`."""
    repair = REPAIR.format(path=folder.path)
    if not folder.stats:
        if folder.version == "v2.1":
            return  # has them for each episode only
        yield error("statistics", "meta/stats.json is missing: LeRobot can't normalise", repair)
        return
    for key, values in folder.columns.items():
        if key in COUNTING:
            continue
        stats = folder.stats.get(key)
        if stats is None:
            if key in (STATE, ACTION):
                yield error("statistics", f"meta/stats.json lacks {key}", repair)
            continue
        yield from _compare(key, stats, values, folder.names(key), repair)
    for key in folder.camera_keys:
        if key not in folder.stats:
            yield warning("statistics", f"meta/stats.json lacks {key}", repair)
        else:
            yield from _compare_pictures(folder, key, entries, repair)


def _compare(key: str, stats: dict[str, Any], values: np.ndarray, names: list[str], repair: str) -> Iterator[Finding]:
    exact = describe(values.astype(np.float64))
    span = np.maximum(np.ptp(values.reshape(len(values), -1).astype(np.float64), axis=0), 1e-9)
    count = int(np.ravel(stats.get("count", [len(values)]))[0])
    if count != len(values):
        yield error("statistics", f"{key}: made from {count} rows, there are {len(values)}", repair)
    for name in ("min", "max", "mean", "std"):
        if name not in stats:
            yield error("statistics", f"{key}: no {name}", repair)
            continue
        off = np.abs(np.ravel(stats[name]) - exact[name]) / span
        if not (off <= CLOSE).all():
            dim = int(np.nanargmax(off))
            said, true = np.ravel(stats[name])[dim], exact[name][dim]
            yield error("statistics", f"{key}: {name} of {names[dim]} is {said:.4g}, of these rows {true:.4g}", repair)
    missing = [name for name in ("q01", "q99") if name not in stats]
    if missing:
        yield warning(
            "statistics", f"{key}: no {' and no '.join(missing)}, which pi0.5 normalises by in LeRobot", repair
        )
    wrong = [
        (float((np.abs(np.ravel(stats[name]) - exact[name]) / span).max()), name) for name in QUANTILES if name in stats
    ]
    if wrong and max(wrong)[0] > OFF_QUANTILE:
        fraction, name = max(wrong)
        low, high = np.ravel(stats.get("q01", exact["min"])), np.ravel(stats.get("q99", exact["max"]))
        rows = values.reshape(len(values), -1)
        outside = float(((rows < low) | (rows > high)).any(axis=1).mean())
        yield warning(
            "statistics",
            f"{key}: the quantiles are no quantiles of all rows ({name} off by {fraction:.0%} of the range): "
            f"{outside:.0%} of the rows lie outside q01 to q99 in some dimension. LeRobot merges those of episodes",
            repair,
        )


def _compare_pictures(folder: DatasetFolder, key: str, entries: Sequence[Entry], repair: str) -> Iterator[Finding]:
    histogram = np.zeros((3, 256), np.int64)
    for entry in entries:
        picked = np.unique(np.linspace(0, entry.length - 1, FRAMES).round().astype(int)).tolist()
        try:
            for picture in folder.frames(entry, key, picked):
                histogram += image_histogram(picture)
        except (ValueError, OSError, KeyError):
            continue  # the pictures' own check says so
    if not histogram.sum():
        return
    sampled, stats = describe_histogram(histogram, 1), folder.stats[key]
    if np.shape(stats.get("mean", [])) != (3, 1, 1):
        yield error(
            "statistics", f"{key}: mean has the shape {np.shape(stats.get('mean', []))}, expected (3, 1, 1)", repair
        )
        return
    off = max(np.abs(np.array(stats[name]) - sampled[name]).max() for name in ("mean", "std"))
    if off > OFF_PICTURE:
        yield warning("statistics", f"{key}: mean or deviation is {off:.2f} of the grey range off the pictures", repair)
    else:
        yield note("statistics", f"{key}: agree with {len(entries)} episodes' pictures")
