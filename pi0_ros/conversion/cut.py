"""One recording into episodes: where they begin and end, what they are called, and what became of the recording."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pi0_ros.bags.conventions import recorded_prompt
from pi0_ros.bags.reader import Bag, BagError, DamagedError
from pi0_ros.conversion.align import Row, Scan, check_topics, rows, scan, ticks_of
from pi0_ros.conversion.episodes import FOREVER, Segment, flaw, labels_on, listened, segments
from pi0_ros.conversion.idle import idle_frames
from pi0_ros.conversion.lag import LagMeter
from pi0_ros.conversion.options import Options
from pi0_ros.conversion.report import BagReport, EpisodeReport, Gap, stream_report
from pi0_ros.datasets.language import episode_columns
from pi0_ros.datasets.staged_episode import PartWriter
from pi0_ros.datasets.video import CODECS
from pi0_ros.robot import Robot


def staged_name(number: int) -> str:
    """Folder of the `number`th episode of a bag."""
    return f"episode-{number:03d}"


def convert_bag(path: Path, folder: Path | None, robot: Robot, options: Options, line: int | None = None) -> BagReport:
    """Convert one bag at the robot file's `dataset_fps`.

    Its parts go to `folder`/episode-000 and so on (None: nothing is written). Its progress is shown on that `line` of
    the terminal (None: not at all).
    """
    try:
        try:
            return _convert(path, False, folder, robot, options, line)
        except DamagedError:  # nothing was written yet: damage shows in the first pass
            return _convert(path, True, folder, robot, options, line)
    except BagError as error:
        _clear(folder)
        return BagReport(str(path), "rejected", str(error))


def _convert(
    path: Path, salvage: bool, folder: Path | None, robot: Robot, options: Options, line: int | None
) -> BagReport:
    with Bag(path, salvage) as bag:
        duration = round(bag.info.duration_s, 3)
        if why := flaw(path, bag.info.custom_data, options.include_failed):
            return BagReport(str(path), "skipped", why, duration)
        if bag.info.damage and options.damaged == "reject":
            raise BagError(f"{path}: {'; '.join(bag.info.damage)}")
        try:
            return _cut(bag, folder, robot, options, line)
        except DamagedError:
            raise
        except BagError as error:
            _clear(folder)
            notes = (*bag.info.damage, *bag.info.notes)
            return BagReport(str(path), "rejected", str(error), duration, notes=notes)


def _clear(folder: Path | None) -> None:
    """Remove the episodes that a recording gave before it was rejected."""
    for part in folder.glob("episode-*") if folder is not None else ():
        shutil.rmtree(part)


def _cut(bag: Bag, folder: Path | None, robot: Robot, options: Options, line: int | None) -> BagReport:
    """Cut an open bag into its episodes, and these at gaps and changes of the prompt."""
    check_topics(bag, robot)
    found = scan(bag, robot, options.prompt_topic, listened(bag, options))
    marked = segments(bag, found, options)
    wanted = [segment for segment in marked if not segment.left_out]
    grids = [ticks_of(found, robot, segment.start_ns, segment.end_ns) for segment in wanted]
    ticks = np.concatenate([np.zeros(0, np.int64), *grids])
    first_tick = int(ticks[0]) if len(ticks) else bag.info.start_ns
    left_out = tuple(_left_out(bag, found, segment, first_tick) for segment in marked if segment.left_out)
    head = BagReport(
        str(bag.path), "skipped", "", round(bag.info.duration_s, 3), notes=(*bag.info.damage, *bag.info.notes)
    )
    head = replace(head, left_out=left_out)
    if not wanted:
        return replace(
            head, reason="; ".join(dict.fromkeys(gap.why for gap in left_out)) or "no episode is marked in it"
        )
    default = recorded_prompt(bag.info.custom_data).strip() or robot.prompt.strip()
    places = np.repeat(np.arange(len(wanted)), [len(grid) for grid in grids])
    place_of = dict(zip(ticks.tolist(), places.tolist(), strict=True))
    cutter = _Cutter(folder, robot, options)

    def prompt_at(tick: int) -> str:
        return options.task or wanted[place_of[tick]].prompt or found.prompt_at(tick) or default

    try:
        made = rows(bag, robot, found, ticks, prompt_at)
        show = {"desc": bag.path.name, "unit": "row", "position": line, "leave": False}
        for row in tqdm(made, total=len(ticks), disable=True if line is None else None, **show):
            cutter.add(row, wanted[place_of[row.stamp_ns]])
        cutter.end_episode()
    except BaseException:
        cutter.discard()
        raise
    gaps = tuple(cutter.gaps(first_tick))
    if gaps and options.gaps == "reject":
        raise BagError(f"gap of {gaps[0].length_s:.2f} s at {gaps[0].at_s:.2f} s: {gaps[0].why}")
    if not cutter.episodes:
        worst = max(gaps, key=lambda gap: gap.length_s).why if gaps else "the streams do not overlap for long enough"
        raise BagError(f"no piece lasts {options.min_length_s:g} s: {worst}")
    streams = (
        stream_report(topic, stamps, found.fallbacks[topic], bag.info.topics[topic].advertised, cutter.runs)
        for topic, stamps in found.by_topic.items()
    )
    return replace(
        head,
        status="converted",
        episodes=tuple(cutter.episodes),
        streams=tuple(streams),
        gaps=gaps,
        lags=cutter.lags.reports(),
    )


def _left_out(bag: Bag, found: Scan, segment: Segment, first_tick: int) -> Gap:
    """A marked stretch that does not become an episode."""
    end = found.clock.at(bag.info.end_ns) if segment.end_ns == FOREVER else segment.end_ns
    start = max(segment.start_ns, found.clock.at(bag.info.start_ns))
    return Gap(round((start - first_tick) * 1e-9, 3), round(max(0, end - start) * 1e-9, 3), segment.left_out)


class _Cutter:
    """Collects rows into episodes: a row without data, of another segment or prompt ends the present one."""

    def __init__(self, folder: Path | None, robot: Robot, options: Options) -> None:
        self.episodes: list[EpisodeReport] = []
        self.runs: list[np.ndarray] = []  # ticks (ns) of each episode
        self.lags = LagMeter(robot)
        self._folder, self._robot, self._options = folder, robot, options
        self._fps = int(robot.dataset_fps)
        self._writer: PartWriter | None = None
        self._ticks: list[int] = []
        self._actions: list[np.ndarray] = []
        self._prompt = ""
        self._segment = Segment(0, 0)
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._gaps: list[tuple[int, int, str]] = []  # first tick, ticks, why

    def add(self, row: Row, segment: Segment) -> None:
        """Take the next tick's row, which lies in `segment`."""
        if row.observation is None or row.action is None:
            self.end_episode()
            self._note_gap(row.stamp_ns, 1, row.problem)
            return
        if not row.observation.prompt:
            raise BagError("it has no prompt: none was recorded, and the robot file has none; give --task")
        if self._ticks and (row.observation.prompt != self._prompt or segment is not self._segment):
            self.end_episode()
        shapes = {camera: image.shape for camera, image in row.observation.images.items()}
        if shapes != (self._shapes or shapes):
            raise BagError(f"image sizes change from {self._shapes} to {shapes}")
        self._shapes, self._prompt, self._segment = shapes, row.observation.prompt, segment
        if self._folder is not None:
            if self._writer is None:
                codec = CODECS[self._options.codec]
                self._writer = PartWriter(self._folder / staged_name(len(self.episodes)), self._fps, codec)
            self._writer.add(row.observation.state, row.action, row.observation.images)
        self.lags.add(row.observation)
        self._ticks.append(row.stamp_ns)
        self._actions.append(row.action)

    def end_episode(self) -> None:
        """Finish the present episode, if there is one; a piece that is too short counts as a gap."""
        if not self._ticks:
            return
        self.lags.gap()
        if len(self._ticks) < self._options.min_length_s * self._fps:
            self.discard()
            self._note_gap(self._ticks[0], len(self._ticks), "the piece between two cuts is too short")
        else:
            ticks = np.array(self._ticks, np.int64)
            idle = idle_frames(np.array(self._actions), self._robot, self._fps)
            labels = labels_on(ticks, self._fps, self._segment.labels, self._prompt)
            if self._writer is not None:
                self._writer.close(self._prompt, episode_columns(idle, labels))
            report = EpisodeReport(
                len(ticks), self._ticks[0], self._prompt, self._segment.success, int(idle.sum()), len(labels)
            )
            self.episodes.append(report)
            self.runs.append(ticks)
        self._writer, self._ticks, self._actions = None, [], []

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
