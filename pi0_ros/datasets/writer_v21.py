"""Writing a LeRobotDataset v2.1, which openpi's pinned LeRobot reads: a data file and a video for each episode."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pi0_ros.datasets.append import link
from pi0_ros.datasets.feature_stats import to_json
from pi0_ros.datasets.features import (
    common_schema,
    common_shapes,
    features,
    image_levels,
    numbers,
    tabulate,
    total_stats,
)
from pi0_ros.datasets.layout import CONVERSION_PATH, ROBOT_PATH, DatasetError, image_key, write_json
from pi0_ros.datasets.staged_episode import StagedEpisode
from pi0_ros.datasets.video import Codec, frame_sizes
from pi0_ros.robot import Robot, robot_to_yaml

CHUNK_EPISODES = 1000  # episodes per chunk folder
DATA_PATH = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
VIDEO_PATH = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
STATISTICS = ("min", "max", "mean", "std", "count")  # v2.1 knows no quantiles


def write_dataset_v21(
    out: Path, staged: Sequence[StagedEpisode], robot: Robot, fps: int, codec: Codec, conversion: Mapping[str, Any]
) -> None:
    """Put `staged`, in their order, into a dataset in the new folder `out`. The staged episodes stay as they are.

    Language columns are left out: no reader of v2.1 knows them. Raises `DatasetError` when image sizes or columns
    differ or a video's frame count is not the row count.
    """
    if not staged:
        raise DatasetError(f"{out}: no episode to write")
    shapes = common_shapes(staged)
    schema = common_schema([one.extra() for one in staged])
    found = features(robot, shapes, fps, codec, schema)
    language = [name for name, feature in found.items() if feature["dtype"] == "language"]
    found = {name: feature for name, feature in found.items() if name not in language}
    (out / "meta").mkdir(parents=True)
    tasks = list(dict.fromkeys(one.prompt for one in staged))
    episodes, statistics, columns = [], [], []
    for number, (one, (table, stats)) in enumerate(zip(staged, tabulate(staged, schema, fps, tasks), strict=True)):
        columns.append(numbers(table))
        pq.write_table(table.drop_columns(language), _path(out, DATA_PATH, number))
        for camera in shapes:
            frames = len(frame_sizes(one.video(camera)))
            if frames != one.length:
                raise DatasetError(f"{one.video(camera)}: {frames} frames for {one.length} rows")
            link(one.video(camera), _path(out, VIDEO_PATH, number, video_key=image_key(camera)))
        episodes.append({"episode_index": number, "tasks": [one.prompt], "length": one.length})
        known = {name: {key: values[key] for key in STATISTICS} for name, values in stats.items()}
        statistics.append({"episode_index": number, "stats": to_json(known)})
    info: dict[str, Any] = {
        "codebase_version": "v2.1",
        "robot_type": robot.name,
        "total_episodes": len(staged),
        "total_frames": sum(one.length for one in staged),
        "total_tasks": len(tasks),
        "total_videos": len(staged) * len(shapes),
        "total_chunks": -(-len(staged) // CHUNK_EPISODES),
        "chunks_size": CHUNK_EPISODES,
        "fps": fps,
        "splits": {"train": f"0:{len(staged)}"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH if shapes else None,
        "features": found,
    }
    write_json(out / "meta/info.json", info)
    _write_lines(out / "meta/tasks.jsonl", ({"task_index": i, "task": task} for i, task in enumerate(tasks)))
    _write_lines(out / "meta/episodes.jsonl", episodes)
    _write_lines(out / "meta/episodes_stats.jsonl", statistics)
    # no reader of v2.1 needs it, but it is exact, which merged statistics of episodes are not
    write_json(out / "meta/stats.json", to_json(total_stats(columns, image_levels(staged), info["total_frames"])))
    write_json(out / CONVERSION_PATH, conversion)
    (out / ROBOT_PATH).write_text(robot_to_yaml(robot))


def _path(out: Path, template: str, episode: int, **names: str) -> Path:
    path = out / template.format(episode_chunk=episode // CHUNK_EPISODES, episode_index=episode, **names)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
