"""Where a LeRobotDataset keeps what, and what is ours in it: `meta/pi0_*`, beside the files of LeRobot's format.

v3.0: `meta/{info.json, stats.json, tasks.parquet, episodes/}`, `data/` (one row group per episode), `videos/<key>/`
(many episodes per mp4, found by time stamps that are exact frame counts / fps). Ours: the robot file, the conversion
report and the image levels from which image statistics come.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pi0_ros.base.errors import InputError

CODEBASE_VERSION = "v3.0"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
ROBOT_PATH = "meta/pi0_robot.yaml"
CONVERSION_PATH = "meta/pi0_conversion.json"
LEVELS_PATH = "meta/pi0_image_levels.json"  # camera -> counts [3, 256] of the levels of each channel
IMAGE_PREFIX = "observation.images."  # of a camera's column
STATE, ACTION = "observation.state", "action"
# of a recording in the conversion report; skipped: its own flags say so, rejected: it can't be used
STATUSES = ("converted", "skipped", "rejected")
COUNTERS = ("frame_index", "episode_index", "index", "task_index")


class DatasetError(InputError):
    """A dataset that can't be written or read; the message names the file."""


def image_key(camera: str) -> str:
    """Feature name of a camera's frames."""
    return IMAGE_PREFIX + camera


def write_json(path: Path, content: Any, indent: int | None = 2) -> None:
    """Write `content` as UTF-8 text."""
    path.write_text(json.dumps(content, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")


def matrix(column: pa.ChunkedArray) -> np.ndarray:
    """A column of equally long lists as an array [N, D]."""
    values = column.combine_chunks()
    return np.array(values.flatten()).reshape(len(column), -1)
