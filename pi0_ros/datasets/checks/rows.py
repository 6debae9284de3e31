"""Checks of files and rows: all there, and rows, episodes, tasks and time stamps agree with the metadata."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pi0_ros.base.findings import Finding, error, note, warning
from pi0_ros.base.printing import numbers
from pi0_ros.datasets.folder import NUMBERS, DatasetFolder
from pi0_ros.datasets.layout import ACTION, STATE

TOLERANCE_S = 1e-4  # LeRobot refuses frames that are further from their row's time stamp
SHORT_S = 1.0
AGAIN = "convert again with `pi0 convert`, or re-export with the tool that wrote it"


def check_files(folder: DatasetFolder) -> Iterator[Finding]:
    """Compare the files that the metadata names with those on disk."""
    entries = folder.entries
    if not entries:
        yield error("files", "the dataset has no episode", AGAIN)
    wanted = {entry.data for entry in entries} | {span.path for entry in entries for span in entry.videos.values()}
    for path in sorted(wanted):
        if not path.is_file():
            yield error(
                "files", f"{path.relative_to(folder.path)} is missing", "copy the dataset again, with all files"
            )
    stray = set(folder.data_files) - wanted | set((folder.path / "videos").rglob("*.mp4")) - wanted
    for path in sorted(stray):
        yield warning("files", f"{path.relative_to(folder.path)} belongs to no episode", "remove it")
    if not folder.is_v3:
        yield note(
            "format",
            f"{folder.version}: LeRobot 0.4 and later read v3.0 only; `pi0 train` reads both",
            f"`pi0 dataset merge OUT {folder.path}` writes v3.0, with the same videos",
        )
    if STATE not in folder.features or ACTION not in folder.features:
        missing = [key for key in (STATE, ACTION) if key not in folder.features]
        yield error("features", f"no {' and no '.join(missing)}", "pi0 needs both; rename the features")
    if not folder.camera_keys:
        what, todo = "no camera: no feature is a video or an image", "pi0 needs pictures"
        meant = folder.robot is not None and not folder.robot.cameras
        yield note("features", f"{what}, as its robot file says") if meant else error("features", what, todo)
    for key, feature in folder.features.items():
        if "/" in key:
            yield error("features", f"the name {key!r} holds a '/', which LeRobot refuses", "rename it")
        said = feature.get("names")
        if key in (STATE, ACTION) and isinstance(said, list) and said and isinstance(said[0], list):
            yield warning(
                "features",
                f"the names of {key} are nested: LeRobot takes the whole list for one joint, and its relative actions "
                "leave the wrong one absolute",
                "write a flat list into meta/info.json",
            )


def check_rows(folder: DatasetFolder) -> Iterator[Finding]:
    """Compare the rows with the episodes, counters, tasks and time stamps."""
    columns, entries = folder.columns, folder.entries
    rows = len(next(iter(columns.values()), ()))
    yield from _totals(folder, rows)
    yield from _shapes(folder)
    if [entry.index for entry in entries] != list(range(len(entries))):
        where = next(i for i, entry in enumerate(entries) if entry.index != i)
        yield error(
            "episodes",
            f"row {where} of the episode list is episode {entries[where].index}: rows are found by their place, so "
            "every later one shows another episode's video",
            AGAIN,
        )
    starts = np.cumsum([0, *(entry.length for entry in entries)])
    if [entry.start for entry in entries] != starts[:-1].tolist() or starts[-1] != rows:
        yield error("episodes", f"the episodes' spans do not cover the {rows} rows one after the other", AGAIN)
        return
    expected = {
        "index": np.arange(rows),
        "episode_index": np.repeat([entry.index for entry in entries], np.diff(starts)),
        "frame_index": np.arange(rows) - np.repeat(starts[:-1], np.diff(starts)),
    }
    for key, wanted in expected.items():
        found = columns.get(key)
        if found is None:
            yield error("counters", f"the column {key} is missing", AGAIN)
        elif not np.array_equal(found.reshape(-1), wanted):
            first = int(np.flatnonzero(found.reshape(-1) != wanted)[0])
            message = f"{key} is {found.reshape(-1)[first]} in row {first}, expected {wanted[first]}"
            yield error("counters", message, AGAIN)
    yield from _timestamps(folder, expected["frame_index"])
    yield from _tasks(folder)
    yield from _lengths(folder)


def _totals(folder: DatasetFolder, rows: int) -> Iterator[Finding]:
    found = {"total_frames": rows, "total_episodes": len(folder.entries), "total_tasks": len(folder.tasks)}
    for key, count in found.items():
        said = folder.info.get(key, count)
        if said != count:
            yield error(
                "totals", f"meta/info.json says {key} {said}, there are {count}", "copy it again, or mend the file"
            )
    if folder.fps <= 0 or folder.fps != int(folder.fps):
        yield error("totals", f"fps is {folder.fps:g}; LeRobot needs a whole number", AGAIN)


def _shapes(folder: DatasetFolder) -> Iterator[Finding]:
    for key, feature in folder.features.items():
        if feature["dtype"] not in NUMBERS:
            continue
        values = folder.columns.get(key)
        if values is None:
            yield error("columns", f"{key} is in meta/info.json but not in every data file", AGAIN)
            continue
        width = int(np.prod(feature["shape"]))
        if values.size != width * len(values):
            yield error(
                "columns", f"{key} has {values.size // len(values)} numbers, meta/info.json says {width}", AGAIN
            )
        if values.dtype == np.float64:
            yield warning("columns", f"{key} is float64, which LeRobot does not load", "cast it to float32")
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            bad = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))
            named = numbers(sorted({_episode_of(folder, int(row)) for row in bad}))
            yield error(
                "columns", f"{key} holds NaN or infinity in {len(bad)} rows of episodes {named}", "leave them out"
            )
    if folder.is_v3:
        for file in folder.data_files:
            groups = pq.read_metadata(file)
            lengths = {groups.row_group(i).num_rows for i in range(groups.num_row_groups)}
            if groups.num_row_groups != sum(entry.data == file for entry in folder.entries):
                name = file.relative_to(folder.path)
                text = f"{name}: {groups.num_row_groups} row groups of {min(lengths)} to {max(lengths)} rows"
                yield note("columns", f"{text}, LeRobot 0.6 and later write one for each episode")


def _episode_of(folder: DatasetFolder, row: int) -> int:
    return next((entry.index for entry in folder.entries if entry.start <= row < entry.start + entry.length), -1)


def _timestamps(folder: DatasetFolder, frame_index: np.ndarray) -> Iterator[Finding]:
    found = folder.columns.get("timestamp")
    if found is None:
        yield error("timestamps", "the column timestamp is missing", AGAIN)
        return
    wrong = np.abs(found.reshape(-1) - frame_index / folder.fps)
    # LeRobot compares with the float32 that is stored, whose own step grows with the time
    bad = wrong > TOLERANCE_S + np.spacing(found.reshape(-1))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        yield error(
            "timestamps",
            f"{int(bad.sum())} rows are off their place by up to {wrong.max() * 1e3:.2f} ms, first in episode "
            f"{_episode_of(folder, row)}: timestamp must be frame_index / {folder.fps:g}",
            "the recording ran at another rate than it says: convert again at its true rate",
        )


def _tasks(folder: DatasetFolder) -> Iterator[Finding]:
    tasks, found = folder.tasks, folder.columns.get("task_index")
    if found is None or not tasks:
        yield error("tasks", "no task_index or no tasks", "pi0 needs an instruction for every episode")
        return
    used = np.unique(found)
    if used.min() < 0 or used.max() >= len(tasks):
        yield error("tasks", f"task_index reaches {used.max()}, there are {len(tasks)} tasks", AGAIN)
        return
    for index, task in enumerate(tasks):
        if not task.strip() and index in used:
            yield error("tasks", f"task {index} is empty", "convert again with --task, or write it into the recording")
        if index not in used:
            yield note("tasks", f"no row uses task {index} {task!r}")
    folded: dict[str, list[str]] = {}
    for task in tasks:
        folded.setdefault(" ".join(task.lower().strip(" .").split()), []).append(task)
    for alike in folded.values():
        if len(alike) > 1:
            named = " and ".join(map(repr, alike))
            yield warning("tasks", f"{named} differ in case, blanks or a full stop only", "give them one wording")


def _lengths(folder: DatasetFolder) -> Iterator[Finding]:
    short = [entry.index for entry in folder.entries if entry.length < SHORT_S * folder.fps]
    if short:
        yield warning(
            "episodes",
            f"shorter than {SHORT_S:g} s: {numbers(short)}",
            "most of an action chunk repeats their last row",
        )


def video_files(folder: DatasetFolder, key: str) -> dict[Path, list[Any]]:
    """The episodes in each mp4 of a camera, in the order of their place in it."""
    found: dict[Path, list[Any]] = {}
    for entry in folder.entries:
        found.setdefault(entry.videos[key].path, []).append(entry)
    return {path: sorted(entries, key=lambda entry: entry.videos[key].start_s) for path, entries in found.items()}
