"""What adding episodes to a dataset needs to know of it: its files, and whether the new episodes fit."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pi0_ros.datasets.dataset import Dataset
from pi0_ros.datasets.layout import (
    ACTION,
    CONVERSION_PATH,
    COUNTERS,
    LEVELS_PATH,
    STATE,
    DatasetError,
    image_key,
)
from pi0_ros.datasets.video import Codec
from pi0_ros.robot import Robot


@dataclass(frozen=True)
class Base:
    """A dataset v3.0 of ours that is to grow."""

    dataset: Dataset
    tasks: list[str]
    episodes: list[dict[str, Any]]  # rows of `meta/episodes` with the statistics
    levels: dict[str, np.ndarray]  # camera -> int64 [3, 256]
    data_files: list[Path]

    @staticmethod
    def load(path: Path) -> Base:
        """Read its metadata. Raises `DatasetError` where it can't grow."""
        dataset = Dataset(path)
        levels = path / LEVELS_PATH
        if not levels.is_file():
            raise DatasetError(f"{levels}: missing, so image statistics can't be continued; convert all bags anew")
        counts = {camera: np.array(rows, np.int64) for camera, rows in json.loads(levels.read_text()).items()}
        tasks = pd.read_parquet(path / "meta/tasks.parquet").index.tolist()
        episodes = [
            row for file in _files(path / "meta/episodes", "parquet") for row in pq.read_table(file).to_pylist()
        ]
        return Base(dataset, tasks, episodes, counts, _files(path / "data", "parquet"))

    @property
    def frames(self) -> int:
        """Number of rows."""
        return len(self.dataset)

    def tables(self) -> list[pa.Table]:
        """All rows, file by file."""
        return [pq.read_table(file) for file in self.data_files]

    def extra_columns(self) -> pa.Table:
        """An empty table of the columns besides state, action and counters."""
        standard = {STATE, ACTION, "timestamp", *COUNTERS}
        schema = pq.read_schema(self.data_files[0])
        return pa.schema([field for field in schema if field.name not in standard]).empty_table()

    def videos(self, camera: str) -> list[Path]:
        """The mp4 files of `camera`, in order."""
        return _files(self.dataset.path / "videos" / image_key(camera), "mp4")

    def check_settings(self, robot: Robot, fps: int, codec: Codec) -> None:
        """Raises `DatasetError` where episodes of `robot` at `fps` in `codec` can't be added."""
        path, has = self.dataset.path, self.dataset.fps
        if has != fps:
            raise DatasetError(f"{path} has {has} fps, the new episodes {fps}: give --fps {has}")
        ours, theirs = dataclasses.asdict(robot), dataclasses.asdict(self.dataset.robot)
        if different := [name for name in ours if ours[name] != theirs[name]]:
            raise DatasetError(
                f"{path} was made with another robot file, which differs in: {', '.join(different)}; "
                f"append with --robot {path}/meta/pi0_robot.yaml, or convert into another folder"
            )
        codecs = {feature.get("info", {}).get("video.codec") for feature in self.dataset.info["features"].values()}
        if other := codecs - {None, codec.name}:
            was = other.pop()
            raise DatasetError(f"{path}: its videos are {was}, the new ones {codec.name}: give --codec {was}")

    def check_features(self, features: Mapping[str, Any]) -> None:
        """Raises `DatasetError` where the new episodes' `features` are not this dataset's."""
        old = self.dataset.info["features"]
        for name in {**old, **features}:
            was, will = old.get(name, "absent"), features.get(name, "absent")
            if was != will:
                raise DatasetError(
                    f"{self.dataset.path}: feature {name!r} is {was} in the dataset, {will} in the new episodes"
                )


def converted_before(dataset: Path) -> set[str]:
    """Identities of the bags whose episodes are in `dataset`. Raises `DatasetError` where its report is missing."""
    return {bag.get("identity") for bag in _report(dataset)["bags"] if bag["status"] == "converted"}


def joined_report(dataset: Path, conversion: Mapping[str, Any]) -> dict[str, Any]:
    """The report of `dataset` with that of the conversion that is appended to it."""
    old = _report(dataset)
    run = {"options": conversion["options"], "first_bag": len(old["bags"])}
    return {**old, "bags": [*old["bags"], *conversion["bags"]], "appended": [*old.get("appended", ()), run]}


def _report(dataset: Path) -> dict[str, Any]:
    path = dataset / CONVERSION_PATH
    if not path.is_file():
        raise DatasetError(f"{path}: missing; only a dataset made by `pi0 convert` can be appended to")
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def link(source: Path, target: Path) -> None:
    """Put the file `source` at `target` too: as a second name where the file system knows that, else as a copy.

    Of a symbolic link, as in the Hugging Face cache, the file that it leads to. Raises `DatasetError` without one.
    """
    whole = source.resolve()
    if not whole.is_file():
        raise DatasetError(f"{source}: missing" + (f": it leads to {whole}" if source.is_symlink() else ""))
    try:
        os.link(whole, target)
    except OSError:
        shutil.copyfile(whole, target)


def _files(folder: Path, ending: str) -> list[Path]:
    return sorted(folder.glob(f"chunk-*/file-*.{ending}"))
