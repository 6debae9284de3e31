"""Joining LeRobot datasets into a new one: of any author, v2.x among them; the result is v3.0.

Video files are taken over as they are, so nothing is decoded or encoded and the frames stay bit by bit the same; rows
are written anew with their new numbers. Statistics are computed over all rows, those of pictures from the counts of
their grey levels: a dataset without them has its videos decoded once.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pi0_ros.datasets.append import link
from pi0_ros.datasets.checks import check_written
from pi0_ros.datasets.feature_stats import describe, describe_histogram, image_histogram, to_json
from pi0_ros.datasets.features import row_bytes
from pi0_ros.datasets.folder import COUNTING, NUMBERS, DatasetFolder, Entry, numeric, picture_statistics
from pi0_ros.datasets.language import TAKEOVER
from pi0_ros.datasets.layout import (
    CONVERSION_PATH,
    DATA_PATH,
    EPISODES_PATH,
    IMAGE_PREFIX,
    LEVELS_PATH,
    ROBOT_PATH,
    VIDEO_PATH,
    DatasetError,
    write_json,
)
from pi0_ros.datasets.writer_v30 import DATA_MB, file_path, file_place, write_info, write_tasks
from pi0_ros.robot import robot_to_yaml

SUBTASKS = "meta/subtasks.parquet"


def merge(
    out: Path, sources: Sequence[Path], step: Callable[[str, int], None] = lambda text, frames: None
) -> DatasetFolder:
    """Write the episodes of all `sources`, in their order, into the new dataset `out` and return it.

    `step` is called with what was done, and for how many frames. Raises `DatasetError` where `out` exists or the
    sources do not fit together; then nothing is left at `out`.
    """
    if out.exists():
        raise DatasetError(f"{out} exists: choose another folder or remove it")
    places = [path.resolve() for path in sources]
    if twice := next((path for path, place in zip(sources, places) if places.count(place) > 1), None):
        raise DatasetError(f"{twice} is given twice, and each of its episodes would be there twice: give it once")
    folders = [DatasetFolder(path) for path in sources]
    _complete(folders)
    for folder in folders[1:]:
        _fits(folders[0], folder)
    _depth(folders[0])
    staging = out.with_name(out.name + ".merging")  # .partial may hold a conversion's finished bags
    shutil.rmtree(staging, ignore_errors=True)
    (staging / "meta").mkdir(parents=True)
    try:
        _write(staging, folders, step)
        wrong = [finding.what for finding in check_written(DatasetFolder(staging)) if finding.severity == "error"]
        if wrong:
            raise DatasetError(f"{out}: what was written is not whole: {'; '.join(wrong[:3])}; nothing is kept")
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    staging.rename(out)
    return DatasetFolder(out)


def _complete(folders: Sequence[DatasetFolder]) -> None:
    """Where one of them says which frames a person led in takeovers, the others have none."""
    if said := next((folder.features[TAKEOVER] for folder in folders if TAKEOVER in folder.features), None):
        for folder in folders:
            folder.features.setdefault(TAKEOVER, said)


def _fits(first: DatasetFolder, other: DatasetFolder) -> None:
    """Raises `DatasetError` with the first thing that differs between two datasets."""
    where = f"{other.path} does not fit {first.path}"
    for name in ("fps", "robot_type"):
        ours, theirs = first.info.get(name), other.info.get(name)
        if ours != theirs:
            raise DatasetError(f"{where}: {name} is {theirs}, not {ours}")
    for key in {**first.features, **other.features}:
        if key not in first.features or key not in other.features:
            lacking = other if key in first.features else first
            raise DatasetError(f"{where}: the feature {key} is missing in {lacking.path}")
        for name in ("dtype", "shape", "names"):
            ours, theirs = first.features[key].get(name), other.features[key].get(name)
            if ours != theirs and key not in COUNTING:
                raise DatasetError(f"{where}: {name} of {key} is {theirs}, not {ours}")
        ours, theirs = (_codec(folder.features[key]) for folder in (first, other))
        if ours and theirs and ours != theirs:
            raise DatasetError(f"{where}: {key} is coded in {theirs}, not {ours}; convert one of them again")
    if first.robot and other.robot and first.robot != other.robot:
        ours, theirs = dataclasses.asdict(first.robot), dataclasses.asdict(other.robot)
        different = ", ".join(name for name in ours if ours[name] != theirs[name])
        raise DatasetError(f"{where}: they were made with different robot files ({different})")
    subtasks = [folder.path / SUBTASKS for folder in (first, other)]
    if "subtask_index" in first.features and len({path.read_bytes() for path in subtasks if path.is_file()}) > 1:
        raise DatasetError(f"{where}: {SUBTASKS} differs, so subtask_index means other things")


def _codec(feature: Mapping[str, Any]) -> str | None:
    about = {**feature.get("info", {}), **feature.get("video_info", {})}
    return about.get("video.codec")


def _depth(folder: DatasetFolder) -> None:
    for key in folder.video_keys:
        if folder.is_depth(key):
            raise DatasetError(
                f"{folder.path}: {key} is depth, whose statistics can't be merged: leave the feature out"
            )


def _write(out: Path, folders: Sequence[DatasetFolder], step: Callable[[str, int], None]) -> None:
    first = folders[0]
    order = [key for key, feature in first.features.items() if feature["dtype"] != "video"]
    tasks = list(dict.fromkeys(task for folder in folders for task in folder.tasks))
    rows: list[dict[str, Any]] = []
    values: dict[str, list[np.ndarray]] = {}
    writer = _DataWriter(out)
    for folder in folders:
        videos = _take_videos(out, folder, {key: _files_there(out, key) for key in folder.video_keys})
        pictures = picture_statistics(folder)
        for entry, said in zip(folder.entries, pictures, strict=True):
            table = _rows(folder, entry, len(rows), writer.rows, tasks).select(order)
            stats: dict[str, Any] = {}
            for key, column in _numbers(folder, table).items():
                values.setdefault(key, []).append(column)
                stats |= {f"stats/{key}/{name}": v for name, v in to_json({key: describe(column)})[key].items()}
            place: dict[str, float] = {
                "dataset_from_index": writer.rows,
                "dataset_to_index": writer.rows + entry.length,
            }
            place |= writer.write(table)
            for key, span in entry.videos.items():
                place |= file_place(f"videos/{key}", videos[span.path])
                stop = span.stop_s if span.stop_s is not None else entry.length / folder.fps
                place |= {f"videos/{key}/from_timestamp": span.start_s, f"videos/{key}/to_timestamp": stop}
            row = {"episode_index": len(rows), "tasks": list(entry.tasks), "length": entry.length}
            rows.append({**row, **place, **file_place("meta/episodes", 0), **stats, **said})
            step(folder.path.name, entry.length)
    writer.close()
    episodes = out / EPISODES_PATH.format(chunk_index=0, file_index=0)
    episodes.parent.mkdir(parents=True)
    common = set(rows[0]).intersection(*rows)  # statistics that only some of the sources have are left out
    pq.write_table(
        pa.Table.from_pylist([{key: row[key] for key in rows[0] if key in common} for row in rows]), episodes
    )
    write_tasks(out, tasks)
    total = {key: describe(np.concatenate(columns)) for key, columns in values.items()}
    levels = {key: np.sum([_levels(folder, key, step) for folder in folders], axis=0) for key in first.camera_keys}
    total |= {key: describe_histogram(counts, writer.rows) for key, counts in levels.items()}
    write_json(out / "meta/stats.json", to_json(total))
    if all(key.startswith(IMAGE_PREFIX) for key in levels):
        named = {key.removeprefix(IMAGE_PREFIX): counts.tolist() for key, counts in levels.items()}
        write_json(out / LEVELS_PATH, named, indent=None)
    totals = len(rows), writer.rows, len(tasks)
    write_info(out, first.info.get("robot_type"), int(first.fps), totals, _features(first))
    if reports := _reports(folders):
        write_json(out / CONVERSION_PATH, reports)
    if robot := next((folder.robot for folder in folders if folder.robot), None):
        (out / ROBOT_PATH).write_text(robot_to_yaml(robot))
    if (first.path / SUBTASKS).is_file():
        shutil.copyfile(first.path / SUBTASKS, out / SUBTASKS)


def _features(first: DatasetFolder) -> dict[str, dict[str, Any]]:
    features = {key: dict(feature) for key, feature in first.features.items()}
    for feature in features.values():
        if "video_info" in feature:  # the name in the first v2.x
            feature["info"] = feature.pop("video_info")
        feature.pop("fps", None)  # lerobot's own up-conversion adds it to columns; v3.0 says it once
    return features


def _reports(folders: Sequence[DatasetFolder]) -> dict[str, Any]:
    """The conversion reports one after the other, and which dataset gave which bags; empty where there is none."""
    if not any(folder.conversion for folder in folders):
        return {}
    bags: list[Any] = []
    merged = []
    for folder in folders:
        found = folder.conversion.get("bags", [])
        about = {"dataset": folder.path.resolve().name, "episodes": len(folder.entries), "bags": len(found)}
        merged.append({**about, "options": folder.conversion.get("options")})
        bags += found
    head = next(folder.conversion for folder in folders if folder.conversion)
    return {**head, "bags": bags, "merged": merged}


class _DataWriter:
    """Writes `data/`: one row group for each episode, files below their size limit."""

    def __init__(self, out: Path) -> None:
        self.rows = 0
        self._out, self._file, self._bytes = out, -1, 0
        self._writer: pq.ParquetWriter | None = None

    def write(self, table: pa.Table) -> dict[str, int]:
        """Append an episode and return its place."""
        count = len(table) * row_bytes(table.schema) if not _nested(table) else table.nbytes
        if self._writer is None or self._bytes + count > DATA_MB * 2**20:
            self.close()
            self._file, self._bytes = self._file + 1, 0
            self._writer = pq.ParquetWriter(file_path(self._out, DATA_PATH, self._file), table.schema)
        self._writer.write_table(table, row_group_size=len(table))
        self._bytes += count
        self.rows += len(table)
        return file_place("data", self._file)

    def close(self) -> None:
        """Finish the last file."""
        if self._writer is not None:
            self._writer.close()


def _nested(table: pa.Table) -> bool:
    return any(pa.types.is_struct(field.type) for field in table.schema)


def _rows(folder: DatasetFolder, entry: Entry, number: int, start: int, tasks: Sequence[str]) -> pa.Table:
    """An episode's rows with their new counters, the columns in the order and types of `features`."""
    stored = folder.episode_table(entry)
    if len(stored) != entry.length:
        raise DatasetError(f"{entry.data}: {len(stored)} rows of episode {entry.index}, its length is {entry.length}")
    frame_index = np.arange(entry.length, dtype=np.int64)
    place = {task: i for i, task in enumerate(tasks)}
    old_tasks = numeric(stored.column("task_index"), f"{entry.data}: task_index").reshape(-1)
    anew = {
        "frame_index": frame_index,
        "timestamp": (frame_index / folder.fps).astype(np.float32),
        "episode_index": np.full(entry.length, number, np.int64),
        "index": start + frame_index,
        "task_index": np.array([place[folder.tasks[i]] for i in old_tasks], np.int64),
    }
    columns: dict[str, pa.Array] = {}
    for key, feature in folder.features.items():
        if feature["dtype"] == "video":
            continue
        if key in anew:
            columns[key] = pa.array(anew[key])
        elif key == TAKEOVER and key not in stored.column_names:
            columns[key] = pa.array(np.zeros(entry.length, bool))
        elif feature["dtype"] in NUMBERS:
            columns[key] = _typed(numeric(stored.column(key), f"{entry.data}: {key}"), feature["dtype"])
        else:
            columns[key] = stored.column(key)
    return pa.table(columns)


def _typed(values: np.ndarray, dtype: str) -> pa.Array:
    """Numbers [N] or [N, D] as an Arrow array; D = 1 becomes plain numbers, as LeRobot has it."""
    flat = pa.array(values.reshape(-1).astype(dtype))
    width = values.size // max(1, len(values))
    return flat if width == 1 else pa.FixedSizeListArray.from_arrays(flat, width)


def _numbers(folder: DatasetFolder, table: pa.Table) -> dict[str, np.ndarray]:
    found = {}
    for key in table.column_names:
        if folder.features[key]["dtype"] in NUMBERS:
            values = numeric(table.column(key), key)
            found[key] = values.astype(np.float32) if values.dtype == bool else values
    return found


def _take_videos(out: Path, folder: DatasetFolder, there: dict[str, int]) -> dict[Path, int]:
    """Put the folder's video files into `out` behind the `there` files of each camera; old path -> new number."""
    found: dict[Path, int] = {}
    for entry in folder.entries:
        for key, span in entry.videos.items():
            if span.path not in found:
                found[span.path] = there[key]
                link(span.path, file_path(out, VIDEO_PATH, there[key], video_key=key))
                there[key] += 1
    return found


def _files_there(out: Path, key: str) -> int:
    return len(list((out / "videos" / key).glob("chunk-*/file-*.mp4")))


def _levels(folder: DatasetFolder, key: str, step: Callable[[str, int], None]) -> np.ndarray:
    """How often each grey level occurs in a camera's pictures, int64 [3, 256]: as stored, else counted now."""
    path, camera = folder.path / LEVELS_PATH, key.removeprefix(IMAGE_PREFIX)
    if path.is_file() and camera in (stored := json.loads(path.read_text())):
        return np.array(stored[camera], np.int64)
    counts = np.zeros((3, 256), np.int64)
    for picture in _pictures(folder, key):
        counts += image_histogram(picture)
        step(f"levels of {camera}", 0)
    return counts


def _pictures(folder: DatasetFolder, key: str) -> Iterator[np.ndarray]:
    if key in folder.image_keys:
        for entry in folder.entries:
            yield from folder.frames(entry, key, range(entry.length))
        return
    for path in dict.fromkeys(entry.videos[key].path for entry in folder.entries):
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24")
