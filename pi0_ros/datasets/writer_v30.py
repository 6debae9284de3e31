"""Writing a LeRobotDataset v3.0: finished episodes are joined into a new dataset or added to an old one.

Layout: `meta/{info.json, stats.json, tasks.parquet, episodes/}`, `data/` (one row group per episode), `videos/<key>/`
(many episodes per mp4, found by time stamps that are exact frame counts / fps), and of our own `meta/pi0_robot.yaml`,
`meta/pi0_conversion.json` and `meta/pi0_image_levels.json`. Written without lerobot and torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pi0_ros.base.memory import give_back
from pi0_ros.datasets.append import Base, link
from pi0_ros.datasets.feature_stats import to_json
from pi0_ros.datasets.features import (
    common_schema,
    common_shapes,
    features,
    image_levels,
    numbers,
    row_bytes,
    tabulate,
    total_stats,
)
from pi0_ros.datasets.layout import (
    CODEBASE_VERSION,
    CONVERSION_PATH,
    DATA_PATH,
    EPISODES_PATH,
    LEVELS_PATH,
    ROBOT_PATH,
    VIDEO_PATH,
    DatasetError,
    image_key,
    write_json,
)
from pi0_ros.datasets.staged_episode import StagedEpisode
from pi0_ros.datasets.video import Codec, frame_sizes, join_videos
from pi0_ros.robot import Robot, robot_to_yaml

CHUNK_FILES = 1000  # files per chunk folder
DATA_MB = 100  # a data file is closed before it grows beyond this
VIDEO_MB = 200  # the same for videos


def write_dataset(
    out: Path,
    staged: Sequence[StagedEpisode],
    robot: Robot,
    fps: int,
    codec: Codec,
    conversion: Mapping[str, Any],
    base: Path | None = None,
) -> None:
    """Join `staged`, in their order, into a dataset in the new folder `out`. The staged episodes stay as they are.

    With `base`, the episodes of that dataset come first, as if all had been joined at once; its files stay as they are
    too, those that don't change are linked. `conversion` becomes `meta/pi0_conversion.json`. Raises `DatasetError` when
    image sizes or columns differ or a video's frame count is not the row count.
    """
    if not staged:
        raise DatasetError(f"{out}: no episode to write")
    shapes = common_shapes(staged)
    old = Base.load(base) if base is not None else None
    schema = common_schema([*([old.extra_columns()] if old else ()), *(one.extra() for one in staged)])
    wanted = features(robot, shapes, fps, codec, schema)
    if old:
        old.check_settings(robot, fps, codec)
        old.check_features(wanted)
    (out / "meta").mkdir(parents=True)
    tasks = list(dict.fromkeys([*(old.tasks if old else ()), *(one.prompt for one in staged)]))
    first, start = (len(old.episodes), old.frames) if old else (0, 0)
    tables, rows = [], []
    for number, (one, (table, stats)) in enumerate(
        zip(staged, tabulate(staged, schema, fps, tasks, first, start), strict=True), start=first
    ):
        tables.append(table)
        rows.append(_episode_row(number, start, one, stats))
        start += one.length
    places = [_write_data(out, tables, old), *(_write_videos(out, staged, camera, fps, old) for camera in shapes)]
    for row, *found in zip(rows, *places, strict=True):
        for place in found:
            row.update(place)
    episodes = out / EPISODES_PATH.format(chunk_index=0, file_index=0)
    episodes.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist([*(old.episodes if old else ()), *rows]), episodes)
    write_tasks(out, tasks)
    _write_stats(out, tables, staged, start, old)
    write_info(out, robot.name, fps, (first + len(staged), start, len(tasks)), wanted)
    write_json(out / CONVERSION_PATH, conversion)
    (out / ROBOT_PATH).write_text(robot_to_yaml(robot))


def write_tasks(out: Path, tasks: Sequence[str]) -> None:
    """`meta/tasks.parquet`. lerobot takes a task from the index of a pandas frame, so pandas has to write it."""
    frame = pd.DataFrame({"task_index": np.arange(len(tasks))}, index=pd.Index(tasks, name="task"))
    frame.to_parquet(out / "meta/tasks.parquet")


def write_info(
    out: Path, robot: str | None, fps: int, totals: tuple[int, int, int], features: Mapping[str, Mapping[str, Any]]
) -> None:
    """`meta/info.json`; `totals` are episodes, frames, tasks."""
    info = {
        "codebase_version": CODEBASE_VERSION,
        "robot_type": robot,
        **dict(zip(("total_episodes", "total_frames", "total_tasks"), totals, strict=True)),
        "chunks_size": CHUNK_FILES,
        "data_files_size_in_mb": DATA_MB,
        "video_files_size_in_mb": VIDEO_MB,
        "fps": fps,
        "splits": {"train": f"0:{totals[0]}"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH if any(feature["dtype"] == "video" for feature in features.values()) else None,
        "features": features,
    }
    write_json(out / "meta/info.json", info)


def _episode_row(
    number: int, start: int, one: StagedEpisode, stats: Mapping[str, Mapping[str, np.ndarray]]
) -> dict[str, Any]:
    """An episode's row of `meta/episodes`, but for the places of its data and videos."""
    row: dict[str, Any] = {"episode_index": number, "tasks": [one.prompt], "length": one.length}
    row |= {"dataset_from_index": start, "dataset_to_index": start + one.length}
    row |= {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
    for feature, statistics in to_json(stats).items():
        row |= {f"stats/{feature}/{name}": values for name, values in statistics.items()}
    return row


def _write_stats(
    out: Path, tables: Sequence[pa.Table], staged: Sequence[StagedEpisode], frames: int, old: Base | None
) -> None:
    """`meta/stats.json`, exact over all episodes, and the image levels from which those of images come."""
    columns = [*(map(numbers, old.tables()) if old else ()), *map(numbers, tables)]
    levels = image_levels(staged)
    if old:
        levels = {camera: old.levels[camera] + counts for camera, counts in levels.items()}
    write_json(out / "meta/stats.json", to_json(total_stats(columns, levels, frames)))
    write_json(out / LEVELS_PATH, {camera: counts.tolist() for camera, counts in levels.items()}, indent=None)


def file_place(prefix: str, file: int) -> dict[str, int]:
    """Columns of `meta/episodes` that name file number `file` counted over all chunks."""
    return {f"{prefix}/chunk_index": file // CHUNK_FILES, f"{prefix}/file_index": file % CHUNK_FILES}


def file_path(out: Path, template: str, file: int, **names: str) -> Path:
    """Path of file number `file` counted over all chunks; its folder is made."""
    path = out / template.format(chunk_index=file // CHUNK_FILES, file_index=file % CHUNK_FILES, **names)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _write_data(out: Path, tables: Sequence[pa.Table], old: Base | None) -> list[dict[str, Any]]:
    """Write `data/`, one row group per episode; return each new episode's place."""
    width, schema = row_bytes(tables[0].schema), tables[0].schema
    full = old.data_files if old else []
    growing = pq.ParquetFile(full[-1]) if full else None
    used = growing.metadata.num_rows * width if growing else None
    places: list[dict[str, Any]] = []
    for file, group in _fill([len(table) * width for table in tables], DATA_MB, len(full), used):
        with pq.ParquetWriter(file_path(out, DATA_PATH, file), schema) as writer:
            if growing and file < len(full):
                for old_group in range(growing.num_row_groups):
                    writer.write_table(growing.read_row_group(old_group).cast(schema))
            for number in group:
                writer.write_table(tables[number], row_group_size=len(tables[number]))
                places.append(file_place("data", file))
    _link_rest(full, out, DATA_PATH)
    give_back()  # long episodes are compressed as a whole; videos come next
    return places


def _write_videos(
    out: Path, staged: Sequence[StagedEpisode], camera: str, fps: int, old: Base | None
) -> list[dict[str, Any]]:
    """Write `videos/` of one camera; return each new episode's file and time span in it."""
    key = image_key(camera)
    prefix = f"videos/{key}"
    full = old.videos(camera) if old else []
    used = sum(frame_sizes(full[-1])) if full else None
    videos = [one.video(camera) for one in staged]
    places: list[dict[str, Any]] = []
    for file, group in _fill([sum(frame_sizes(video)) for video in videos], VIDEO_MB, len(full), used):
        growing = full[file:]
        path = file_path(out, VIDEO_PATH, file, video_key=key)
        counts = join_videos([*growing, *(videos[number] for number in group)], path, fps)
        first = sum(counts[: len(growing)])
        for number, count in zip(group, counts[len(growing) :], strict=True):
            if count != staged[number].length:
                raise DatasetError(f"{videos[number]}: {count} frames for {staged[number].length} rows")
            span = {f"{prefix}/from_timestamp": first / fps, f"{prefix}/to_timestamp": (first + count) / fps}
            places.append({**file_place(prefix, file), **span})
            first += count
    _link_rest(full, out, VIDEO_PATH, video_key=key)
    return places


def _fill(sizes: Sequence[int], limit_mb: float, files: int, used: int | None) -> Iterator[tuple[int, list[int]]]:
    """Which file gets which of `sizes` (bytes): (file number, indices), in order.

    A file stays below `limit_mb` unless one size alone is larger. There are `files` files already, with `used` bytes in
    the last one.
    """
    file = files - 1
    group: list[int] = []
    for index, size in enumerate(sizes):
        if used is None or used + size > limit_mb * 2**20:
            if group:
                yield file, group
            file, group, used = file + 1, [], 0
        group.append(index)
        used += size
    yield file, group


def _link_rest(files: Sequence[Path], out: Path, template: str, **names: str) -> None:
    """Take over those of the old dataset's `files` that did not grow."""
    for number, file in enumerate(files):
        if not (path := file_path(out, template, number, **names)).exists():
            link(file, path)
