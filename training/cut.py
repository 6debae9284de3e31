"""One recording into episodes: where they begin and end, what they are called, and what became of the recording."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pi0_ros.robot import Robot
from pi0_ros.training.align import Row, check_topics, rows, scan, ticks_of
from pi0_ros.training.bags import Bag, BagError
from pi0_ros.training.parts import PartWriter
from pi0_ros.training.report import BagReport, EpisodeReport, Gap, stream_report
from pi0_ros.training.video import CODECS

FAILED_OUTCOMES = ("failure", "failed", "fail")


@dataclass(frozen=True)
class Options:
    """How to convert."""

    task: str | None = None  # prompt of all episodes, overruling what was recorded
    codec: str = "h264"  # a key of CODECS
    gaps: str = "split"  # split | reject
    min_length_s: float = 1.0  # shorter pieces are not worth an episode
    include_failed: bool = False


DEFAULTS = Options()


def part_name(number: int) -> str:
    """Folder of the `number`th episode of a bag."""
    return f"episode-{number:03d}"


def convert_bag(path: Path, folder: Path | None, robot: Robot, options: Options) -> BagReport:
    """Convert one bag at the robot file's `dataset_fps`.

    Its parts go to `folder`/episode-000 and so on (None: nothing is written).
    """
    try:
        with Bag(path) as bag:
            flaw = "" if options.include_failed else _failed(path, bag.info.custom_data)
            if flaw:
                return BagReport(str(path), "skipped", flaw, round(bag.info.duration_s, 3))
            return _cut(bag, folder, robot, options)
    except BagError as error:
        if folder is not None:
            for part in folder.glob("episode-*"):
                shutil.rmtree(part)
        return BagReport(str(path), "rejected", str(error))


def _failed(path: Path, data: dict[str, str]) -> str:
    """What in a bag's name or custom data says that it is not to be learned from; empty when nothing does."""
    if path.name.endswith(".partial"):
        return "the recorder did not finish it"
    if data.get("outcome", "").lower() in FAILED_OUTCOMES:
        return f"outcome is {data['outcome']!r}"
    if data.get("success", "").lower() in ("false", "0", "no"):
        return f"success is {data['success']!r}"
    if data.get("discarded", "").lower() in ("true", "1", "yes") or data.get("outcome", "").lower() == "discarded":
        return "it was discarded"
    return ""


def _cut(bag: Bag, folder: Path | None, robot: Robot, options: Options) -> BagReport:
    """Cut an open bag into episodes at gaps and changes of the prompt."""
    check_topics(bag, robot)
    found = scan(bag, robot)
    ticks = ticks_of(found, robot)
    fps = int(robot.dataset_fps)
    cutter = _Cutter(folder, fps, options)
    default = bag.info.custom_data.get("prompt") or robot.prompt
    try:
        for row in rows(bag, robot, found, ticks, options.task, default):
            cutter.add(row)
        cutter.end_episode()
    except BaseException:
        cutter.discard()
        raise
    gaps = tuple(cutter.gaps(int(ticks[0]) if len(ticks) else 0))
    if gaps and options.gaps == "reject":
        raise BagError(f"gap of {gaps[0].length_s:.2f} s at {gaps[0].at_s:.2f} s: {gaps[0].why}")
    if not cutter.episodes:
        worst = max(gaps, key=lambda gap: gap.length_s).why if gaps else "the streams do not overlap for long enough"
        raise BagError(f"no piece lasts {options.min_length_s:g} s: {worst}")
    streams = (
        stream_report(topic, stamps, found.fallbacks[topic], cutter.runs) for topic, stamps in found.by_topic.items()
    )
    duration = round(bag.info.duration_s, 3)
    return BagReport(str(bag.path), "converted", "", duration, tuple(cutter.episodes), tuple(streams), gaps)


class _Cutter:
    """Collects rows into episodes: a row without data or with another prompt ends the present one."""

    def __init__(self, folder: Path | None, fps: int, options: Options) -> None:
        self.episodes: list[EpisodeReport] = []
        self.runs: list[np.ndarray] = []  # ticks (ns) of each episode
        self._folder, self._fps, self._options = folder, fps, options
        self._writer: PartWriter | None = None
        self._ticks: list[int] = []
        self._prompt = ""
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._gaps: list[tuple[int, int, str]] = []  # first tick, ticks, why

    def add(self, row: Row) -> None:
        """Take the next tick's row."""
        if row.observation is None or row.action is None:
            self.end_episode()
            self._note_gap(row.stamp_ns, 1, row.problem)
            return
        if self._ticks and row.observation.prompt != self._prompt:
            self.end_episode()
        shapes = {camera: image.shape for camera, image in row.observation.images.items()}
        if shapes != (self._shapes or shapes):
            raise BagError(f"image sizes change from {self._shapes} to {shapes}")
        self._shapes, self._prompt = shapes, row.observation.prompt
        if self._folder is not None:
            if self._writer is None:
                codec = CODECS[self._options.codec]
                self._writer = PartWriter(self._folder / part_name(len(self.episodes)), self._fps, codec)
            self._writer.add(row.observation.state, row.action, row.observation.images)
        self._ticks.append(row.stamp_ns)

    def end_episode(self) -> None:
        """Finish the present episode, if there is one; a piece that is too short counts as a gap."""
        if not self._ticks:
            return
        if len(self._ticks) < self._options.min_length_s * self._fps:
            self.discard()
            self._note_gap(self._ticks[0], len(self._ticks), "the piece between two cuts is too short")
        else:
            if self._writer is not None:
                self._writer.close(self._prompt)
            self.episodes.append(EpisodeReport(len(self._ticks), self._ticks[0], self._prompt))
            self.runs.append(np.array(self._ticks, np.int64))
        self._writer, self._ticks = None, []

    def discard(self) -> None:
        """Drop what was written of the present episode."""
        if self._writer is not None:
            self._writer.discard()
            self._writer = None

    def gaps(self, first_tick: int) -> Iterator[Gap]:
        """All stretches without rows, in seconds after `first_tick`."""
        for at, ticks, why in self._gaps:
            yield Gap(round((at - first_tick) * 1e-9, 3), round(ticks / self._fps, 3), why)

    def _note_gap(self, tick: int, ticks: int, why: str) -> None:
        if self._gaps:
            at, count, first_why = self._gaps[-1]
            if tick - at <= (count + 0.5) * 1e9 / self._fps:  # goes on where the last one ended: keep its reason
                self._gaps[-1] = (at, count + ticks, first_why)
                return
        self._gaps.append((tick, ticks, why))
