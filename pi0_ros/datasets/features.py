"""The features of a dataset: what `meta/info.json` says of them, and an episode's rows as an Arrow table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pi0_ros.datasets.feature_stats import describe, describe_histogram
from pi0_ros.datasets.layout import ACTION, COUNTERS, STATE, DatasetError, image_key, matrix
from pi0_ros.datasets.staged_episode import StagedEpisode
from pi0_ros.datasets.video import Codec, pixel_format
from pi0_ros.robot import Robot

Shapes = Mapping[str, tuple[int, int, int]]  # camera -> (H, W, 3)


def common_shapes(staged: Sequence[StagedEpisode]) -> Shapes:
    """The image sizes of all `staged`. Raises `DatasetError` where they differ."""
    for one in staged:
        if one.shapes != staged[0].shapes:
            raise DatasetError(
                f"{one.folder}: image sizes {one.shapes} differ from the first episode's {staged[0].shapes}"
            )
    return staged[0].shapes


def features(robot: Robot, shapes: Shapes, fps: int, codec: Codec, extra: pa.Schema) -> dict[str, Any]:
    """The `features` of `meta/info.json`; `extra` are the columns besides state, action and counters."""
    found: dict[str, Any] = {
        key: {"dtype": "float32", "shape": [len(names)], "names": list(names)}
        for key, names in ((STATE, robot.state_names), (ACTION, robot.action_names))
    }
    found |= {image_key(camera): _video_feature(shape, fps, codec) for camera, shape in shapes.items()}
    found |= {field.name: _column_feature(field.type) for field in extra}
    found["timestamp"] = {"dtype": "float32", "shape": [1], "names": None}
    found |= {name: {"dtype": "int64", "shape": [1], "names": None} for name in COUNTERS}
    return found


def _video_feature(shape: tuple[int, int, int], fps: int, codec: Codec) -> dict[str, Any]:
    return {
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


def _column_feature(kind: pa.DataType) -> dict[str, Any]:
    size = 1
    if pa.types.is_fixed_size_list(kind):
        kind, size = kind.value_type, kind.list_size
    if pa.types.is_list(kind):  # of rows {role, content, style, ...}, as lerobot 0.6 and later keeps them
        return {"dtype": "language", "shape": [1], "names": None}
    names = {pa.bool_(): "bool", pa.string(): "string", pa.float32(): "float32", pa.int64(): "int64"}
    if kind not in names:
        raise DatasetError(f"a column of {kind}; LeRobot knows {', '.join(names.values())} and lists of language rows")
    return {"dtype": names[kind], "shape": [size], "names": None}


def common_schema(tables: Sequence[pa.Table | None]) -> pa.Schema:
    """All columns of the episodes' extra `tables`.

    Raises `DatasetError` where one lacks a column that can't be empty, or where types differ.
    """
    fields: dict[str, pa.Field] = {}
    for table in tables:
        for field in table.schema if table is not None else ():
            if fields.setdefault(field.name, field).type != field.type:
                raise DatasetError(f"column {field.name!r} is {fields[field.name].type} and {field.type}")
    for name, field in fields.items():
        missing = any(table is None or name not in table.column_names for table in tables)
        if missing and not pa.types.is_list(field.type):
            raise DatasetError(f"some episodes have a column {name!r}, others do not")
    return pa.schema(list(fields.values()))


def tabulate(
    staged: Sequence[StagedEpisode], schema: pa.Schema, fps: int, tasks: Sequence[str], episode: int = 0, start: int = 0
) -> Iterator[tuple[pa.Table, dict[str, dict[str, np.ndarray]]]]:
    """Each episode's rows and the statistics of its features; the first is number `episode`, its first row `start`.

    `schema` are the extra columns; lists that an episode lacks are empty.
    """
    for number, one in enumerate(staged, start=episode):
        arrays, extra = one.arrays(), one.extra()
        frame_index = np.arange(one.length, dtype=np.int64)
        columns: dict[str, pa.Array] = {STATE: _vectors(arrays["state"]), ACTION: _vectors(arrays["action"])}
        for field in schema:
            found = extra is not None and field.name in extra.column_names
            columns[field.name] = (
                extra.column(field.name) if extra is not None and found else pa.array([[]] * one.length, field.type)
            )
        columns["timestamp"] = pa.array((frame_index / fps).astype(np.float32))
        task = tasks.index(one.prompt)
        counters = (frame_index, np.full(one.length, number), start + frame_index, np.full(one.length, task))
        columns |= {name: pa.array(values.astype(np.int64)) for name, values in zip(COUNTERS, counters, strict=True)}
        table = pa.table(columns)
        stats = {name: describe(values) for name, values in numbers(table).items()}
        for camera in one.shapes:
            stats[image_key(camera)] = describe_histogram(arrays[f"histogram.{camera}"], one.length)
        yield table, stats
        start += one.length


def total_stats(
    columns: Sequence[Mapping[str, np.ndarray]], levels: Mapping[str, np.ndarray], frames: int
) -> dict[str, dict[str, np.ndarray]]:
    """Exact statistics over all `columns`, one mapping for each episode or file, and over all image `levels`."""
    total = {name: describe(np.concatenate([values[name] for values in columns])) for name in columns[0]}
    return total | {image_key(camera): describe_histogram(counts, frames) for camera, counts in levels.items()}


def image_levels(staged: Sequence[StagedEpisode]) -> dict[str, np.ndarray]:
    """How often each level occurs in each channel of each camera's pictures: camera -> int64 [3, 256]."""
    levels = {camera: np.zeros((3, 256), np.int64) for camera in staged[0].shapes}
    for one in staged:
        arrays = one.arrays()
        levels = {camera: counts + arrays[f"histogram.{camera}"] for camera, counts in levels.items()}
    return levels


def _vectors(values: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def numbers(table: pa.Table) -> dict[str, np.ndarray]:
    """The columns that have statistics: [N] or [N, D], bools as float32; texts and language rows are left out."""
    found: dict[str, np.ndarray] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = column.type
        if pa.types.is_fixed_size_list(kind):
            found[name] = matrix(column)
        elif pa.types.is_boolean(kind):
            found[name] = column.to_numpy().astype(np.float32)
        elif not (pa.types.is_list(kind) or pa.types.is_string(kind)):
            found[name] = column.to_numpy()
    return found


def row_bytes(schema: pa.Schema) -> int:
    """Bytes of a row but for texts and language rows: what decides when a data file is full."""
    widths = (
        (field.type.list_size * field.type.value_type.bit_width)
        if pa.types.is_fixed_size_list(field.type)
        else 0
        if pa.types.is_list(field.type) or pa.types.is_string(field.type)
        else field.type.bit_width
        for field in schema
    )
    return (sum(widths) + 7) // 8
