"""Where a LeRobotDataset v3.0 of ours keeps what, and reading it; without lerobot and torch.

`lerobot_v30` writes it: `meta/{info.json, stats.json, tasks.parquet, episodes/}`, `data/` (one row group per episode),
`videos/<key>/` (many episodes per mp4, found by time stamps that are exact frame counts / fps), and of our own
`meta/pi0_*`: the robot file, the conversion report and the image levels from which image statistics come.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pi0_ros.datasets.language import IDLE, PERSISTENT, Label, labels_of
from pi0_ros.datasets.video import read_frames
from pi0_ros.robot import robot_from_yaml

CODEBASE_VERSION = "v3.0"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
ROBOT_PATH = "meta/pi0_robot.yaml"
CONVERSION_PATH = "meta/pi0_conversion.json"
LEVELS_PATH = "meta/pi0_image_levels.json"  # camera -> counts [3, 256] of the levels of each channel
STATE, ACTION = "observation.state", "action"
# of a recording in the conversion report; skipped: its own flags say so, rejected: it can't be used
STATUSES = ("converted", "skipped", "rejected")
COUNTERS = ("frame_index", "episode_index", "index", "task_index")


class DatasetError(ValueError):
    """A dataset that can't be written or read; the message names the file."""


def image_key(camera: str) -> str:
    """Feature name of a camera's frames."""
    return f"observation.images.{camera}"


def write_json(path: Path, content: Any, indent: int | None = 2) -> None:
    """Write `content` as UTF-8 text."""
    path.write_text(json.dumps(content, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")


@dataclass(frozen=True, eq=False)
class Episode:
    """One episode of a dataset: T frames at the dataset's fps, in the robot's units and joint order."""

    index: int
    prompt: str
    state: np.ndarray  # float32 [T, J]
    action: np.ndarray  # float32 [T, J], absolute
    fps: int
    videos: dict[str, tuple[Path, int]]  # camera -> (mp4, the episode's first frame in it)
    idle: np.ndarray  # bool [T]: where no training sample should start
    labels: tuple[Label, ...] = ()  # (second, text), each until the next one

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
        extra = [name for name in (IDLE, PERSISTENT) if name in self.info["features"]]
        table = pa.concat_tables([pq.read_table(file, columns=[STATE, ACTION, "task_index", *extra]) for file in files])
        state, action = (matrix(table.column(name)) for name in (STATE, ACTION))
        tasks = pd.read_parquet(self.path / "meta/tasks.parquet").index
        task_index = table.column("task_index").to_numpy()
        idle = table.column(IDLE).to_numpy() if IDLE in extra else np.zeros(len(state), bool)
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
            labels = labels_of(table.column(PERSISTENT)[start].as_py()) if PERSISTENT in extra else ()
            numbers = (state[start:end], action[start:end], self.fps)
            episodes.append(Episode(row["episode_index"], prompt, *numbers, videos, idle[start:end], labels))
        return episodes

    def _video(self, row: Mapping[str, Any], key: str) -> tuple[Path, int]:
        numbers = {name: row[f"videos/{key}/{name}"] for name in ("chunk_index", "file_index")}
        path = self.path / self.info["video_path"].format(video_key=key, **numbers)
        return path, round(row[f"videos/{key}/from_timestamp"] * self.fps)


def matrix(column: pa.ChunkedArray) -> np.ndarray:
    """A column of equally long lists as an array [N, D]."""
    values = column.combine_chunks()
    return np.array(values.flatten()).reshape(len(column), -1)
