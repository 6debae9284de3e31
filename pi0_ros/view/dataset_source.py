"""A LeRobot dataset of any author, an episode at a time: only its rows are read, and a picture when it is looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pi0_ros.base.errors import InputError
from pi0_ros.base.printing import duration
from pi0_ros.datasets.folder import COUNTING, NUMBERS, DatasetFolder, Entry, numeric
from pi0_ros.datasets.language import PERSISTENT, TAKEOVER, labels_of
from pi0_ros.datasets.layout import ACTION, IMAGE_PREFIX, STATE, DatasetError
from pi0_ros.datasets.pictures import jpeg_file
from pi0_ros.robot import Robot
from pi0_ros.view.source import (
    LONGEST_SIDE,
    Band,
    Curve,
    Episode,
    Listed,
    Mark,
    NoFiles,
    Shown,
    Trace,
    said,
    stretches,
)

WIDEST = 64  # dimensions of a column that is drawn beside state and action
PAUSE = 1.5  # frames from one time stamp to the next are a gap


class DatasetSource(NoFiles):
    """The pages of one dataset."""

    def __init__(self, path: Path, robot: Robot | None = None) -> None:
        """`robot` says limits and units where the dataset holds no robot file. Raises `DatasetError`."""
        self._folder = DatasetFolder(path)
        self._robot = robot or self._folder.robot
        self._entries = {entry.index: entry for entry in self._folder.entries}
        if not self._entries:
            raise DatasetError(f"{path}: holds no episode")

    def about(self) -> dict[str, Any]:
        """Facts from the metadata alone."""
        folder, lengths = self._folder, [entry.length for entry in self._entries.values()]
        frames = sum(lengths)
        facts = [
            ("robot", str(folder.info.get("robot_type") or "not said")),
            ("limits from", f"the robot file {self._robot.name}" if self._robot else "nobody: give --robot"),
            ("episodes", f"{len(lengths)}, {frames} frames at {folder.fps:g} fps, {duration(frames / folder.fps)}"),
            ("cameras", ", ".join(key.removeprefix(IMAGE_PREFIX) for key in folder.camera_keys) or "none"),
            ("format", f"LeRobotDataset {folder.version}"),
        ]
        return {"kind": "dataset", "title": folder.path.resolve().name, "facts": said(facts)}

    def listed(self) -> Sequence[Listed]:
        """The episodes and their tasks."""
        fps = self._folder.fps
        return [Listed(n, " / ".join(entry.tasks), entry.length / fps) for n, entry in self._entries.items()]

    def episode(self, number: int) -> dict[str, Any]:
        """Traces, labels, takeovers, gaps and where it comes from. Raises `DatasetError`."""
        entry, folder = self._entry(number), self._folder
        columns = self._columns(entry)
        length = len(next(iter(columns.values()), ()))
        if length != entry.length:
            raise DatasetError(f"{entry.data}: {length} rows of episode {number}, meta/ says {entry.length}")
        bands = [band for key, values in columns.items() if _is_mark(values) for band in self._marked(key, values)]
        known = self._from_recording(number)
        led = columns.get(TAKEOVER)
        facts = [
            ("prompt", " / ".join(entry.tasks) or "none"),
            ("frames", f"{entry.length}, {entry.length / folder.fps:.2f} s"),
            *([("takeovers", _author(led))] if led is not None else []),
            *(known[0] if known else []),
        ]
        return Episode(
            number,
            f"episode {number}",
            entry.length,
            folder.fps,
            [key.removeprefix(IMAGE_PREFIX) for key in folder.camera_keys],
            list(self._traces(columns)),
            [*bands, *self._pauses(columns), *(known[1] if known else [])],
            self._labels(entry),
            facts,
        ).to_dict()

    def picture(self, number: int, camera: int, frame: int) -> Shown:
        """A frame of a camera. Raises `InputError` or `OSError` where it can't be read."""
        entry, keys = self._entry(number), self._folder.camera_keys
        if not 0 <= camera < len(keys) or not 0 <= frame < entry.length:
            raise InputError(f"episode {number} has {len(keys)} cameras and {entry.length} frames")
        return Shown(jpeg_file(self._folder.frames(entry, keys[camera], [frame])[0], LONGEST_SIDE))

    def _entry(self, number: int) -> Entry:
        if number not in self._entries:
            raise DatasetError(f"{self._folder.path}: no episode {number}; there are {len(self._entries)}")
        return self._entries[number]

    def _columns(self, entry: Entry) -> dict[str, np.ndarray]:
        """The episode's numeric columns, [T] or [T, D]."""
        folder = self._folder
        wanted = [
            key
            for key, feature in folder.features.items()
            if feature["dtype"] in NUMBERS and (key not in COUNTING or key == "timestamp")
        ]
        try:
            table = folder.episode_table(entry, wanted)
        except (OSError, pa.ArrowException) as error:
            raise DatasetError(f"{entry.data}: can't be read: {error}") from error
        return {key: numeric(table.column(key), f"{entry.data}: {key}") for key in table.column_names}

    def _traces(self, columns: Mapping[str, np.ndarray]) -> Iterator[Trace]:
        """A trace for each name of state and action, then the other columns."""
        folder, limits = self._folder, {joint.name: joint for joint in self._robot.joints} if self._robot else {}
        curves: dict[str, list[Curve]] = {}
        units: dict[str, str] = {}
        for key, what in ((STATE, "state"), (ACTION, "action")):
            if key in columns:
                values = columns[key].reshape(len(columns[key]), -1).astype(np.float64)
                for dim, (name, unit) in enumerate(zip(folder.names(key), folder.units(key), strict=True)):
                    curves.setdefault(name, []).append(Curve(what, None, values[:, dim]))
                    units[name] = unit or units.get(name, "")
        for name, found in curves.items():
            joint = limits.get(name)
            ends = (joint.lower, joint.upper) if joint else (None, None)
            yield Trace(name, units[name] or (joint.unit if joint else ""), found, *ends)
        for key, values in columns.items():
            wide = values.reshape(len(values), -1).astype(np.float64)
            if key in (STATE, ACTION, "timestamp") or _is_mark(values) or wide.shape[1] > WIDEST:
                continue
            for dim, name in enumerate(folder.names(key)):
                yield Trace(key if wide.shape[1] == 1 else f"{key} {name}", "", [Curve("value", None, wide[:, dim])])

    def _marked(self, key: str, values: np.ndarray) -> list[Band]:
        texts = {"idle": "idle frames", TAKEOVER: "a person led"}
        return stretches(values, self._folder.fps, key, texts.get(key, key))

    def _pauses(self, columns: Mapping[str, np.ndarray]) -> list[Band]:
        """Gaps that the time stamps show."""
        fps = self._folder.fps
        stamps = columns.get("timestamp", np.zeros(0)).reshape(-1).astype(np.float64)
        steps = np.diff(stamps)
        return [
            Band("gap", place / fps, (place + 1) / fps, f"{steps[place]:.3f} s from this frame to the next")
            for place in np.flatnonzero(steps > PAUSE / fps).tolist()
        ]

    def _labels(self, entry: Entry) -> list[Mark]:
        if PERSISTENT not in self._folder.features:
            return []
        table = self._folder.episode_table(entry, [PERSISTENT])
        return [Mark("label", at, text) for at, text in labels_of(table.column(PERSISTENT)[0].as_py())]

    @cached_property
    def _recorded(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """The recording, and its report, of every episode; empty where the report is not of these episodes."""
        bags = [bag for bag in self._folder.conversion.get("bags", ()) if bag.get("status") == "converted"]
        found = [(bag, episode) for bag in bags for episode in bag.get("episodes", ())]
        lengths = [entry.length for entry in self._entries.values()]
        return found if [episode.get("frames") for _, episode in found] == lengths else []

    def _from_recording(self, number: int) -> tuple[list[tuple[str, str]], list[Band]] | None:
        """What the conversion report says of an episode: facts, and gaps of the recording near it."""
        if not self._recorded:
            return None
        bag, episode = self._recorded[list(self._entries).index(number)]
        outcome = {True: "success", False: "failure", None: "nobody said"}[episode.get("success")]
        facts = [("recording", Path(str(bag.get("bag"))).name), ("outcome", outcome)]
        facts += [("prompt from", str(episode["told_by"]))] if episode.get("told_by") else []
        bands = []
        since_s = (episode.get("start_ns", 0) - bag.get("first_tick_ns", 0)) * 1e-9
        seconds = episode["frames"] / self._folder.fps
        for key, kind in (("gaps", "gap"), ("left_out", "left out")):
            for gap in bag.get(key, ()):
                at, length = gap["at_s"] - since_s, gap["length_s"]
                text = f"{length:.2f} s: {gap['why']}"
                if -length < at < seconds:
                    bands.append(Band(kind, max(at, 0.0), at + length, text))
                else:
                    place = f"{at - seconds:.2f} s after its end" if at >= 0 else f"{-at:.2f} s before its beginning"
                    facts.append((f"{kind} in the recording", f"{place}, {text}"))
        return facts, bands


def _is_mark(values: np.ndarray) -> bool:
    return values.dtype == bool and values.size == len(values)


def _author(led: np.ndarray) -> str:
    """Demonstrations have no takeover either, so what is not led by a person here need not be the policy's."""
    share = float(led.mean()) if len(led) else 0.0
    return f"a person led in {share:.0%} of the frames" if share else "no takeover"
