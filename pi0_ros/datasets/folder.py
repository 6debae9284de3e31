"""The files of a LeRobot dataset, of whoever wrote it: v3.0 and v2.x, read as they lie there.

It believes as little as it can: what the metadata says and what the files hold can be compared. `dataset.Dataset` sees
it through a robot file, for training.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pi0_ros.datasets.layout import ACTION, CONVERSION_PATH, COUNTERS, ROBOT_PATH, STATE, DatasetError
from pi0_ros.datasets.video import read_frames
from pi0_ros.robot import Robot, robot_from_yaml

READABLE = ("v3.0", "v2.1", "v2.0")
COUNTING = (*COUNTERS, "timestamp")  # columns that carry nothing of the robot
NUMBERS = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")


@dataclass(frozen=True)
class VideoSpan:
    """Where an episode's frames of one camera are: an mp4 and seconds in it."""

    path: Path
    start_s: float
    stop_s: float | None  # None: to the end (v2.x has a file for each episode)


@dataclass(frozen=True)
class Entry:
    """One episode as the metadata describes it; `start` is its first row in the whole dataset."""

    index: int
    length: int
    start: int
    tasks: tuple[str, ...]
    data: Path
    videos: Mapping[str, VideoSpan]


class DatasetFolder:
    """A LeRobot dataset of any author.

    `info` is `meta/info.json`; `features` its features; `video_keys` and `image_keys` are the cameras whose frames are
    in videos and in the data files.
    """

    def __init__(self, path: Path | str) -> None:
        """Read `meta/info.json`. Raises `DatasetError` where there is none or its version is not known."""
        self.path = Path(path)
        info = self.path / "meta/info.json"
        if not info.is_file():
            raise DatasetError(f"{self.path}: no meta/info.json, so no LeRobot dataset; make one with `pi0 convert`")
        self.info: dict[str, Any] = read_json(info)
        self.version = str(self.info.get("codebase_version"))
        if self.version not in READABLE:
            raise DatasetError(f"{info}: codebase_version {self.version}; these are known: {', '.join(READABLE)}")
        missing = {"fps", "features", "total_episodes", "total_frames", "data_path"} - self.info.keys()
        if missing:
            raise DatasetError(f"{info}: the keys {', '.join(sorted(missing))} are missing")
        self.features: dict[str, dict[str, Any]] = self.info["features"]
        if bad := [key for key, feature in self.features.items() if not {"dtype", "shape"} <= feature.keys()]:
            raise DatasetError(f"{info}: feature {bad[0]} has no dtype or no shape")
        self.video_keys = tuple(key for key, feature in self.features.items() if feature["dtype"] == "video")
        self.image_keys = tuple(key for key, feature in self.features.items() if feature["dtype"] == "image")
        self.fps = float(self.info["fps"])

    @property
    def is_v3(self) -> bool:
        """Whether many episodes share a file."""
        return self.version == "v3.0"

    @property
    def camera_keys(self) -> tuple[str, ...]:
        """Features that are pictures."""
        return self.video_keys + self.image_keys

    @cached_property
    def robot(self) -> Robot | None:
        """The robot file inside; None where the dataset is not ours."""
        path = self.path / ROBOT_PATH
        return robot_from_yaml(path.read_text(), str(path)) if path.is_file() else None

    @cached_property
    def conversion(self) -> dict[str, Any]:
        """The conversion report inside; empty where the dataset is not ours."""
        path = self.path / CONVERSION_PATH
        return read_json(path) if path.is_file() else {}

    @cached_property
    def stats(self) -> dict[str, dict[str, Any]]:
        """`meta/stats.json`: feature -> statistic -> nested lists; empty where there is none."""
        path = self.path / "meta/stats.json"
        return read_json(path) if path.is_file() else {}

    @cached_property
    def tasks(self) -> list[str]:
        """All instructions; the place of each is its `task_index`. Raises `DatasetError` without them."""
        if not self.is_v3:
            return [str(row["task"]) for row in self.lines("meta/tasks.jsonl")]
        path = self.path / "meta/tasks.parquet"
        if not path.is_file():
            raise DatasetError(f"{path}: missing")
        return [str(task) for task in pd.read_parquet(path).index]

    @cached_property
    def episode_rows(self) -> list[dict[str, Any]]:
        """The rows of `meta/episodes` without statistics, in the files' order. Raises `DatasetError` without them."""
        if not self.is_v3:
            return self.lines("meta/episodes.jsonl")
        rows: list[dict[str, Any]] = []
        for file in _files(self.path / "meta/episodes"):
            rows += pq.read_table(file, columns=_names(file, statistics=False)).to_pylist()
        return rows

    @cached_property
    def entries(self) -> list[Entry]:
        """All episodes. Raises `DatasetError` where their metadata is missing."""
        if self.is_v3:
            return [self._entry(row) for row in self.episode_rows]
        found, start = [], 0
        for row in self.episode_rows:
            number = row["episode_index"]
            place = {"episode_chunk": number // int(self.info.get("chunks_size", 1000)), "episode_index": number}
            videos = {
                key: VideoSpan(self.path / self.info["video_path"].format(video_key=key, **place), 0.0, None)
                for key in self.video_keys
            }
            data = self.path / self.info["data_path"].format(**place)
            found.append(Entry(number, row["length"], start, tuple(row["tasks"]), data, videos))
            start += row["length"]
        return found

    def _entry(self, row: Mapping[str, Any]) -> Entry:
        videos = {}
        for key in self.video_keys:
            place = {name: row[f"videos/{key}/{name}"] for name in ("chunk_index", "file_index")}
            path = self.path / self.info["video_path"].format(video_key=key, **place)
            span = row[f"videos/{key}/from_timestamp"], row[f"videos/{key}/to_timestamp"]
            videos[key] = VideoSpan(path, *span)
        place = {name: row[f"data/{name}"] for name in ("chunk_index", "file_index")}
        data = self.path / self.info["data_path"].format(**place)
        return Entry(row["episode_index"], row["length"], row["dataset_from_index"], tuple(row["tasks"]), data, videos)

    @cached_property
    def data_files(self) -> list[Path]:
        """The data files that are there, in order."""
        return _files(self.path / "data")

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """All numeric columns that every file has, over all rows: [N] or [N, D].

        Raises `DatasetError` where a file can't be read or its rows differ in length.
        """
        wanted = [key for key, feature in self.features.items() if feature["dtype"] in NUMBERS]
        parts: dict[str, list[np.ndarray]] = {key: [] for key in wanted}
        for file in self.data_files:
            try:
                table = pq.read_table(file, columns=[key for key in wanted if key in _names(file)])
            except (OSError, pa.ArrowException) as error:
                raise DatasetError(f"{file}: can't be read: {error}") from error
            for key in table.column_names:
                parts[key].append(numeric(table.column(key), f"{file}: {key}"))
        whole = {key: arrays for key, arrays in parts.items() if arrays and len(arrays) == len(self.data_files)}
        return {key: np.concatenate(arrays) for key, arrays in whole.items()}

    def episode_table(self, entry: Entry, columns: list[str] | None = None) -> pa.Table:
        """An episode's rows as they are stored; all columns, or these. Raises `DatasetError` where there are none."""
        if columns is not None:
            return pq.read_table(entry.data, columns=columns, filters=[("episode_index", "=", entry.index)])
        table = _last_read(entry.data, entry.data.stat().st_mtime_ns)  # the next episode is in the same file
        rows = np.flatnonzero(table.column("episode_index").to_numpy() == entry.index)
        if not len(rows):
            raise DatasetError(f"{entry.data}: no row of episode {entry.index}")
        return table.slice(rows[0], len(rows))

    def rows(self, entry: Entry) -> slice:
        """The rows of an episode within `columns`."""
        return slice(entry.start, entry.start + entry.length)

    def names(self, key: str) -> list[str]:
        """What the dimensions of a vector feature are called; numbers where nobody says it."""
        width = int(np.prod(self.features[key]["shape"]))
        said = self.features[key].get("names")
        if isinstance(said, dict):  # {"motors": [...]} of older datasets
            said = next(iter(said.values()), None)
        if isinstance(said, list) and len(said) == 1 and isinstance(said[0], list):
            said = said[0]
        return [str(name) for name in said] if said and len(said) == width else [str(i) for i in range(width)]

    def units(self, key: str) -> list[str]:
        """The unit of each dimension of the state or action; empty texts where no robot file says it."""
        joints = {STATE: self.robot.state_joints, ACTION: self.robot.action_joints} if self.robot else {}
        found = [joint.unit for joint in joints.get(key, ())]
        return found if len(found) == len(self.names(key)) else [""] * len(self.names(key))

    def is_depth(self, key: str) -> bool:
        """Whether a camera's pictures are distances."""
        about = self.features[key].get("info") or {}
        return bool(about.get("is_depth_map") or about.get("video.is_depth_map"))

    def frames(self, entry: Entry, key: str, numbers: Sequence[int]) -> list[np.ndarray]:
        """The pictures `numbers` (counted in the episode) of a camera, each uint8 [H, W, 3] RGB.

        Raises `VideoError` or `OSError` where they can't be read.
        """
        if key in self.image_keys:
            table = self.episode_table(entry, [key, "frame_index"])
            by_number = dict(zip(table.column("frame_index").to_pylist(), table.column(key)))
            return [self._picture(by_number[number].as_py()) for number in numbers]
        span = entry.videos[key]
        first, fps = round(span.start_s * self.fps), int(self.fps)
        return [read_frames(span.path, first + number, 1, fps)[0] for number in numbers]

    def frame_range(self, entry: Entry, key: str, start: int, stop: int) -> np.ndarray:
        """The pictures `start` to `stop` (counted in the episode) of a camera, uint8 [stop - start, H, W, 3] RGB."""
        if key in self.image_keys:
            return np.stack(self.frames(entry, key, range(start, stop)))
        span = entry.videos[key]
        return read_frames(span.path, round(span.start_s * self.fps) + start, stop - start, int(self.fps))

    def _picture(self, content: Mapping[str, Any]) -> np.ndarray:
        source = BytesIO(content["bytes"]) if content["bytes"] else self.path / content["path"]
        with Image.open(source) as image:
            return np.asarray(image.convert("RGB"))

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The rows of a file with one JSON object in each line. Raises `DatasetError` where it is missing."""
        path = self.path / name
        if not path.is_file():
            raise DatasetError(f"{path}: missing")
        return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def read_json(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file. Raises `DatasetError` where there is none."""
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise DatasetError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: holds a {type(content).__name__}, expected a mapping")
    return content


def picture_statistics(folder: DatasetFolder) -> list[dict[str, Any]]:
    """What each episode's metadata says of its pictures: rows of `stats/<camera>/<statistic>` -> nested lists."""
    if folder.is_v3:
        rows: list[dict[str, Any]] = []
        for file in _files(folder.path / "meta/episodes"):
            wanted = [
                name for name in _names(file) if name.startswith(tuple(f"stats/{k}/" for k in folder.camera_keys))
            ]
            table = pq.read_table(file, columns=wanted)
            rows += table.to_pylist() if wanted else [{} for _ in range(pq.read_metadata(file).num_rows)]
        return rows
    if not (folder.path / "meta/episodes_stats.jsonl").is_file():
        return [{} for _ in folder.entries]
    return [
        {
            f"stats/{key}/{name}": values
            for key, stats in row["stats"].items()
            if key in folder.camera_keys
            for name, values in stats.items()
        }
        for row in folder.lines("meta/episodes_stats.jsonl")
    ]


@lru_cache(maxsize=1)
def _last_read(file: Path, changed_ns: int) -> pa.Table:
    return pq.read_table(file)


def _files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("chunk-*/*.parquet"))
    if not files:
        raise DatasetError(f"{folder}: no parquet file inside")
    return files


def _names(file: Path, statistics: bool = True) -> list[str]:
    try:
        names = pq.read_schema(file).names
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{file}: can't be read: {error}") from error
    return [name for name in names if statistics or not name.startswith("stats/")]


def numeric(column: pa.ChunkedArray, where: str) -> np.ndarray:
    """A numeric column as [N], or [N, D] where its cells are lists. Raises `DatasetError` for ragged lists."""
    array = column.combine_chunks()
    if not (pa.types.is_list(array.type) or pa.types.is_fixed_size_list(array.type)):
        return np.asarray(array.to_numpy(zero_copy_only=False))
    values = array.flatten()
    if pa.types.is_nested(values.type):
        return np.array(array.to_pylist()).reshape(len(array), -1)
    if len(array) and len(values) % len(array):
        raise DatasetError(f"{where} has rows of different lengths")
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(len(array), -1)
