"""What is in a dataset, as JSON values and as lines: from metadata and numbers, without decoding a video."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ros.base.printing import duration, size
from pi0_ros.datasets.folder import COUNTING, DatasetFolder
from pi0_ros.datasets.layout import ACTION, STATE, STATUSES

SPREAD = ("min", "q01", "q99", "max", "mean", "std")


def summarize(folder: DatasetFolder) -> dict[str, Any]:
    """All facts as JSON values. Raises `DatasetError` where files are missing."""
    entries, columns = folder.entries, folder.columns
    lengths = [entry.length for entry in entries]
    prompts = Counter(task for entry in entries for task in entry.tasks)
    frames = sum(lengths)
    return {
        "path": str(folder.path),
        "version": folder.version,
        "robot": folder.info.get("robot_type"),
        "robot_file": folder.robot.name if folder.robot else None,
        "fps": folder.fps,
        "episodes": len(entries),
        "frames": frames,
        "hours": round(frames / folder.fps / 3600, 4),
        "episode_seconds": [round(f / folder.fps, 2) for f in (min(lengths), float(np.median(lengths)), max(lengths))],
        "tasks": {task: prompts.get(task, 0) for task in folder.tasks},
        "features": {
            key: {name: f.get(name) for name in ("dtype", "shape", "names")} for key, f in folder.features.items()
        },
        "cameras": {key: _camera(folder, key) for key in folder.camera_keys},
        "bytes": {name: _bytes(folder.path / name) for name in ("data", "videos", "images", "meta", "cache")},
        "ranges": {
            key: {"names": folder.names(key), "units": folder.units(key), **_spread(columns[key])}
            for key in (STATE, ACTION)
            if key in columns
        },
        "marks": {
            key: round(float(values.mean()), 4)
            for key, values in columns.items()
            if values.dtype == bool and values.size == len(values)
        },
        "language": [key for key in folder.features if key not in COUNTING and _is_language(folder, key)],
        "conversion": _conversion(folder),
    }


def _is_language(folder: DatasetFolder, key: str) -> bool:
    return folder.features[key]["dtype"] in ("language", "string") or "subtask" in key


def _camera(folder: DatasetFolder, key: str) -> dict[str, Any]:
    feature = folder.features[key]
    about = {**feature.get("info", {}), **feature.get("video_info", {})}
    codec = about.get("video.codec", "image files" if feature["dtype"] == "image" else "?")
    return {"shape": feature["shape"], "codec": codec, "pixels": about.get("video.pix_fmt"), "stored": feature["dtype"]}


def _bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else 0


def _spread(values: np.ndarray) -> dict[str, list[float]]:
    wide = values.reshape(len(values), -1).astype(np.float64)
    low, high = np.quantile(wide, [0.01, 0.99], axis=0)
    found = (wide.min(axis=0), low, high, wide.max(axis=0), wide.mean(axis=0), wide.std(axis=0))
    return {name: np.round(row, 6).tolist() for name, row in zip(SPREAD, found, strict=True)}


def _conversion(folder: DatasetFolder) -> dict[str, Any] | None:
    if not folder.conversion:
        return None
    bags = folder.conversion.get("bags", [])
    return {
        "bags": {status: sum(bag["status"] == status for bag in bags) for status in STATUSES},
        "reasons": dict(Counter(bag["reason"] for bag in bags if bag["reason"]).most_common()),
        "gaps": sum(len(bag.get("gaps", ())) for bag in bags),
    }


def facts(summary: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What there is to say in a line each: label, text."""
    shortest, median, longest = summary["episode_seconds"]
    own = f", robot file {summary['robot_file']} inside" if summary["robot_file"] else ", no robot file inside"
    yield "robot", f"{summary['robot'] or 'not said'}{own}"
    counts = f"{summary['episodes']} episodes, {summary['frames']} frames at {summary['fps']:g} fps"
    each = f"an episode lasts {median:.1f} s ({shortest:.1f} to {longest:.1f})"
    yield "content", f"{counts}, {duration(summary['frames'] / summary['fps'])}; {each}"
    shapes = (
        f"{key} {feature['dtype']} {'x'.join(map(str, feature['shape']))}"
        for key, feature in summary["features"].items()
        if key not in summary["cameras"] and key not in COUNTING
    )
    yield "columns", ", ".join(shapes)
    for label, (key, camera) in zip(("cameras", *[""] * len(summary["cameras"])), summary["cameras"].items()):
        pixels = f" {camera['pixels']}" if camera["pixels"] else ""
        yield label, f"{key} {'x'.join(map(str, camera['shape']))}, {camera['codec']}{pixels}"
    sizes = {name: count for name, count in summary["bytes"].items() if count}
    yield "on disk", ", ".join(f"{name} {size(count)}" for name, count in sizes.items())
    if summary["language"]:
        yield "language", ", ".join(summary["language"])
    if summary["marks"]:
        yield (
            "marked",
            ", ".join(f"{key} in {fraction:.1%} of the frames" for key, fraction in summary["marks"].items()),
        )
    if report := summary["conversion"]:
        counts = ", ".join(f"{count} {status}" for status, count in report["bags"].items())
        yield "made from", f"{sum(report['bags'].values())} bags: {counts}; {report['gaps']} gaps"
        for reason, count in report["reasons"].items():
            yield "", f"{count} x {reason}"
    else:
        yield "made from", "no conversion report inside: not made by `pi0 convert`"
