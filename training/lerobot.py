"""LeRobotDataset v3.0 on disk: joining finished episodes into a dataset, and reading it; without lerobot and torch.

Layout: `meta/{info.json, stats.json, tasks.parquet, episodes/}`, `data/` (one row group per episode), `videos/<key>/`
(many episodes per mp4, found by time stamps that are exact frame counts / fps), and of our own `meta/pi0_robot.yaml`
and `meta/pi0_conversion.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pi0_ros.robot import Robot, robot_from_yaml, robot_to_yaml
from pi0_ros.training.feature_stats import describe, describe_histogram, to_json
from pi0_ros.training.parts import Part
from pi0_ros.training.video import Codec, join_videos, pixel_format, read_frames

CODEBASE_VERSION = "v3.0"
CHUNK_FILES = 1000  # files per chunk folder
DATA_MB = 100  # a data file is closed before it grows beyond this
VIDEO_MB = 200  # the same for videos
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
ROBOT_PATH = "meta/pi0_robot.yaml"
CONVERSION_PATH = "meta/pi0_conversion.json"
STATE, ACTION = "observation.state", "action"
COUNTERS = ("frame_index", "episode_index", "index", "task_index")


class DatasetError(ValueError):
    """A dataset that can't be written or read; the message names the file."""


def image_key(camera: str) -> str:
    """Feature name of a camera's frames."""
    return f"observation.images.{camera}"


def write_dataset(
    out: Path, parts: Sequence[Part], robot: Robot, fps: int, codec: Codec, conversion: Mapping[str, Any]
) -> None:
    """Join `parts`, in their order, into a dataset in the new folder `out`. The parts stay as they are.

    `conversion` becomes `meta/pi0_conversion.json`. Raises `DatasetError` when the parts' image sizes differ or a
    video's frame count is not the row count.
    """
    if not parts:
        raise DatasetError(f"{out}: no episode to write")
    shapes = parts[0].shapes
    for part in parts:
        if part.shapes != shapes:
            raise DatasetError(f"{part.folder}: image sizes {part.shapes} differ from the first episode's {shapes}")
    (out / "meta").mkdir(parents=True)
    tasks = list(dict.fromkeys(part.prompt for part in parts))
    columns: list[dict[str, np.ndarray]] = []
    rows: list[dict[str, Any]] = []
    histograms = {camera: np.zeros((3, 256), np.int64) for camera in shapes}
    start = 0
    for number, part in enumerate(parts):
        arrays = part.arrays()
        columns.append(_columns(arrays, number, start, tasks.index(part.prompt), fps))
        stats = {name: describe(values) for name, values in columns[-1].items()}
        for camera in shapes:
            histograms[camera] += arrays[f"histogram.{camera}"]
            stats[image_key(camera)] = describe_histogram(arrays[f"histogram.{camera}"], part.length)
        rows.append(_episode_row(number, start, part, stats))
        start += part.length
    places = [_write_data(out, columns), *(_write_videos(out, parts, camera, fps) for camera in shapes)]
    for row, *found in zip(rows, *places, strict=True):
        for place in found:
            row.update(place)
    episodes = out / EPISODES_PATH.format(chunk_index=0, file_index=0)
    episodes.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), episodes)
    # lerobot takes a task from the index of a pandas frame, so pandas has to write it
    frame = pd.DataFrame({"task_index": np.arange(len(tasks))}, index=pd.Index(tasks, name="task"))
    frame.to_parquet(out / "meta/tasks.parquet")
    total = {name: describe(np.concatenate([values[name] for values in columns])) for name in columns[0]}
    total |= {image_key(camera): describe_histogram(histogram, start) for camera, histogram in histograms.items()}
    _write_json(out / "meta/stats.json", to_json(total))
    _write_json(out / "meta/info.json", _info(robot, shapes, fps, codec, (len(parts), start, len(tasks))))
    _write_json(out / CONVERSION_PATH, conversion)
    (out / ROBOT_PATH).write_text(robot_to_yaml(robot))


def _columns(arrays: Mapping[str, np.ndarray], number: int, start: int, task: int, fps: int) -> dict[str, np.ndarray]:
    """The data columns of one episode: feature -> array with one row per frame."""
    length = len(arrays["state"])
    frame_index = np.arange(length, dtype=np.int64)
    return {
        STATE: arrays["state"],
        ACTION: arrays["action"],
        "timestamp": (frame_index / fps).astype(np.float32),
        "frame_index": frame_index,
        "episode_index": np.full(length, number, np.int64),
        "index": start + frame_index,
        "task_index": np.full(length, task, np.int64),
    }


def _episode_row(number: int, start: int, part: Part, stats: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Any]:
    """An episode's row of `meta/episodes`, but for the places of its data and videos."""
    row: dict[str, Any] = {"episode_index": number, "tasks": [part.prompt], "length": part.length}
    row |= {"dataset_from_index": start, "dataset_to_index": start + part.length}
    row |= {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
    for feature, statistics in to_json(stats).items():
        row |= {f"stats/{feature}/{name}": values for name, values in statistics.items()}
    return row


def _place(prefix: str, file: int) -> dict[str, int]:
    return {f"{prefix}/chunk_index": file // CHUNK_FILES, f"{prefix}/file_index": file % CHUNK_FILES}


def _write_data(out: Path, episodes: Sequence[Mapping[str, np.ndarray]]) -> list[dict[str, Any]]:
    """Write `data/`, one row group per episode; return each episode's place."""
    places: list[dict[str, Any]] = []
    for file, numbers in enumerate(_filled([sum(c.nbytes for c in columns.values()) for columns in episodes], DATA_MB)):
        place = _place("data", file)
        path = out / DATA_PATH.format(chunk_index=place["data/chunk_index"], file_index=place["data/file_index"])
        path.parent.mkdir(parents=True, exist_ok=True)
        tables = [_table(episodes[number]) for number in numbers]
        with pq.ParquetWriter(path, tables[0].schema) as writer:
            for table in tables:
                writer.write_table(table, row_group_size=len(table))
                places.append(place)
    return places


def _table(columns: Mapping[str, np.ndarray]) -> pa.Table:
    def column(values: np.ndarray) -> pa.Array:
        flat = pa.array(values.reshape(-1))
        return flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])

    return pa.table({name: column(values) for name, values in columns.items()})


def _write_videos(out: Path, parts: Sequence[Part], camera: str, fps: int) -> list[dict[str, Any]]:
    """Write `videos/` of one camera; return each episode's file and time span in it."""
    prefix = f"videos/{image_key(camera)}"
    places: list[dict[str, Any]] = []
    for file, numbers in enumerate(_filled([part.video(camera).stat().st_size for part in parts], VIDEO_MB)):
        place = _place(prefix, file)
        path = out / VIDEO_PATH.format(
            video_key=image_key(camera),
            chunk_index=place[f"{prefix}/chunk_index"],
            file_index=place[f"{prefix}/file_index"],
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        counts = join_videos([parts[number].video(camera) for number in numbers], path, fps)
        first = 0
        for number, count in zip(numbers, counts, strict=True):
            if count != parts[number].length:
                raise DatasetError(f"{parts[number].video(camera)}: {count} frames for {parts[number].length} rows")
            span = {f"{prefix}/from_timestamp": first / fps, f"{prefix}/to_timestamp": (first + count) / fps}
            places.append({**place, **span})
            first += count
    return places


def _filled(sizes: Sequence[int], limit_mb: int) -> list[list[int]]:
    """Indices of `sizes` (bytes) in order, in groups that stay below `limit_mb` unless a single one is larger."""
    groups: list[list[int]] = []
    used = 0
    for index, size in enumerate(sizes):
        if not groups or used + size > limit_mb * 2**20:
            groups.append([])
            used = 0
        groups[-1].append(index)
        used += size
    return groups


def _info(
    robot: Robot, shapes: Mapping[str, tuple[int, int, int]], fps: int, codec: Codec, totals: tuple[int, int, int]
) -> dict[str, Any]:
    """`meta/info.json`; `totals` are episodes, frames, tasks."""
    features: dict[str, Any] = {
        key: {"dtype": "float32", "shape": [len(names)], "names": list(names)}
        for key, names in ((STATE, robot.state_names), (ACTION, robot.action_names))
    }
    for camera, shape in shapes.items():
        features[image_key(camera)] = {
            "dtype": "video",
            "shape": list(shape),
            "names": ["height", "width", "channels"],
            "info": {
                "video.height": shape[0],
                "video.width": shape[1],
                "video.channels": shape[2],
                "video.codec": codec.name,
                "video.pix_fmt": pixel_format(shape[0], shape[1]),
                "video.fps": fps,
                "video.is_depth_map": False,  # lerobot 0.4 and 0.5
                "is_depth_map": False,  # lerobot 0.6 and later
                "has_audio": False,
                **{f"video.{name}": int(codec.options[name]) for name in ("g", "crf") if name in codec.options},
                "video.preset": codec.options.get("preset"),
            },
        }
    features["timestamp"] = {"dtype": "float32", "shape": [1], "names": None}
    features |= {name: {"dtype": "int64", "shape": [1], "names": None} for name in COUNTERS}
    return {
        "codebase_version": CODEBASE_VERSION,
        "robot_type": robot.name,
        "total_episodes": totals[0],
        "total_frames": totals[1],
        "total_tasks": totals[2],
        "chunks_size": CHUNK_FILES,
        "data_files_size_in_mb": DATA_MB,
        "video_files_size_in_mb": VIDEO_MB,
        "fps": fps,
        "splits": {"train": f"0:{totals[0]}"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH if shapes else None,
        "features": features,
    }


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


@dataclass(frozen=True, eq=False)
class Episode:
    """One episode of a dataset: T frames at the dataset's fps, in the robot's units and joint order."""

    index: int
    prompt: str
    state: np.ndarray  # float32 [T, J]
    action: np.ndarray  # float32 [T, J], absolute
    fps: int
    videos: dict[str, tuple[Path, int]]  # camera -> (mp4, the episode's first frame in it)

    @property
    def length(self) -> int:
        """Number of frames T."""
        return len(self.state)

    def frames(self, camera: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Frames `start` to `stop` (default: all) of `camera`, a name in the robot file: uint8 [T, H, W, 3] RGB."""
        if camera not in self.videos:
            raise DatasetError(f"no camera {camera!r} in this dataset; there are {sorted(self.videos)}")
        path, first = self.videos[camera]
        stop = self.length if stop is None else min(stop, self.length)
        return read_frames(path, first + start, stop - start, self.fps)


class Dataset:
    """A LeRobotDataset v3.0 made by `pi0 convert`: `.fps`, `.robot`, `.cameras` and `.episodes`."""

    def __init__(self, path: Path | str) -> None:
        """Read the metadata at `path`. Raises `DatasetError` when that is no dataset of ours."""
        self.path = Path(path)
        info = self.path / "meta/info.json"
        robot = self.path / ROBOT_PATH
        if not info.is_file():
            raise DatasetError(f"{self.path}: no meta/info.json, so no LeRobot dataset; make one with `pi0 convert`")
        self.info: dict[str, Any] = json.loads(info.read_text())
        if self.info["codebase_version"] != CODEBASE_VERSION:
            raise DatasetError(
                f"{info}: codebase_version {self.info['codebase_version']}; this reader knows {CODEBASE_VERSION}"
            )
        if not robot.is_file():
            raise DatasetError(f"{robot}: missing; the dataset was not made by `pi0 convert`")
        self.robot = robot_from_yaml(robot.read_text(), str(robot))
        self.fps = int(self.info["fps"])
        self.cameras = tuple(
            camera.name for camera in self.robot.cameras if image_key(camera.name) in self.info["features"]
        )

    def __len__(self) -> int:
        return int(self.info["total_frames"])

    @cached_property
    def episodes(self) -> list[Episode]:
        """All episodes, with states and actions in memory and frames on disk."""
        files = sorted((self.path / "data").glob("chunk-*/file-*.parquet"))
        table = pa.concat_tables([pq.read_table(file, columns=[STATE, ACTION, "task_index"]) for file in files])
        state, action = (_matrix(table.column(name)) for name in (STATE, ACTION))
        tasks = pd.read_parquet(self.path / "meta/tasks.parquet").index
        task_index = table.column("task_index").to_numpy()
        if len(state) != len(self):
            raise DatasetError(f"{self.path}: {len(state)} rows, meta/info.json says {len(self)}")
        rows: list[dict[str, Any]] = []
        for file in sorted((self.path / "meta/episodes").glob("chunk-*/file-*.parquet")):
            names = [name for name in pq.read_schema(file).names if not name.startswith("stats/")]
            rows += pq.read_table(file, columns=names).to_pylist()
        episodes = []
        for row in rows:
            start, end = row["dataset_from_index"], row["dataset_to_index"]
            videos = {camera: self._video(row, image_key(camera)) for camera in self.cameras}
            prompt = str(tasks[task_index[start]])
            episodes.append(
                Episode(row["episode_index"], prompt, state[start:end], action[start:end], self.fps, videos)
            )
        return episodes

    def _video(self, row: Mapping[str, Any], key: str) -> tuple[Path, int]:
        numbers = {name: row[f"videos/{key}/{name}"] for name in ("chunk_index", "file_index")}
        path = self.path / self.info["video_path"].format(video_key=key, **numbers)
        return path, round(row[f"videos/{key}/from_timestamp"] * self.fps)


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    """A column of equally long lists as an array [N, D]."""
    values = column.combine_chunks()
    return np.array(values.flatten()).reshape(len(column), -1)
