"""One recording into episodes: where they begin and end, what they are called, and what became of the recording."""

from __future__ import annotations

import shutil
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pi0_ros.bags.conventions import unknown_outcome
from pi0_ros.bags.reader import Bag, BagError, DamagedError
from pi0_ros.base.memory import give_back
from pi0_ros.conversion.align import Row, Scan, check_topics, grey_cameras, needed_topics, rows, scan, ticks_of
from pi0_ros.conversion.bag_content import look
from pi0_ros.conversion.ends import PARTIAL_S, covered, uncovered
from pi0_ros.conversion.episodes import FOREVER, Segment, asked_topics, flaw, labels_on, prompt_of, segments
from pi0_ros.conversion.idle import idle_frames
from pi0_ros.conversion.lag import LagMeter
from pi0_ros.conversion.options import Options
from pi0_ros.conversion.report import BagReport, EpisodeReport, Gap, stream_report
from pi0_ros.conversion.robots import differences
from pi0_ros.conversion.seldom import seldom
from pi0_ros.conversion.takeovers import Span, corrections, led_frames, person_led
from pi0_ros.datasets.language import episode_columns
from pi0_ros.datasets.staged_episode import EpisodeStager
from pi0_ros.datasets.video import CODECS
from pi0_ros.observation.images import resize_with_pad
from pi0_ros.observation.stream_buffer import SECOND
from pi0_ros.robot import Robot

LATE_PROMPT_S = 1.0  # so long after the first row nobody takes the first prompt for one of the beginning


def staged_name(number: int) -> str:
    """Folder of the `number`th episode of a bag."""
    return f"episode-{number:03d}"


def convert_bag(path: Path, folder: Path | None, robot: Robot, options: Options, line: int | None = None) -> BagReport:
    """Convert one bag at the robot file's `dataset_fps`.

    Its episodes go to `folder`/episode-000 and so on (None: nothing is written). Progress is shown on that `line` of
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
    for left_over in folder.glob("episode-*") if folder is not None else ():
        shutil.rmtree(left_over)


def _cut(bag: Bag, folder: Path | None, robot: Robot, options: Options, line: int | None) -> BagReport:
    """Cut an open bag into its episodes, and these at gaps, set clocks and changes of the prompt."""
    check_topics(bag, robot)
    asked = asked_topics(bag, options)
    found = scan(bag, robot, asked.prompt, asked.listened, dict(options.stamps))
    clocks = (": ".join(filter(None, said)) for said in found.timeline.notes)
    notes = (*bag.info.damage, *bag.info.notes, *clocks, *asked.notes)
    data = bag.info.custom_data
    odd = filter(None, (unknown_outcome(data), differences(robot, data, bag.path)))
    notes = (*notes, *odd, *grey_cameras(bag, robot))
    head = BagReport(str(bag.path), "skipped", "", round(bag.info.duration_s, 3), notes=notes)
    if found.timeline.problems:
        raise BagError("; ".join(f"{what}: {todo}" for what, todo in found.timeline.problems))
    looked = look(bag, robot, needed_topics(robot))
    if options.content == "reject" and (worthless := [it.what for it in looked if it.severity == "error"]):
        raise BagError(f"{'; '.join(worthless)} (--content accept takes it all the same)")
    notes = (*notes, *(f"{finding.what}: {finding.todo}" for finding in looked))
    give_back()  # both passes over a long recording needed more than the rows will
    advice = "".join(f"; {text}" for text in seldom(found, robot))
    marked = segments(bag, found, options)
    wanted = [segment for segment in marked if not segment.left_out]
    led = person_led(bag, found, asked.in_charge) if options.corrections else None
    if led is not None:
        wanted = corrections(wanted, led, options.before_s)
    grids = [ticks_of(found, robot, segment.start_ns, segment.end_ns) for segment in wanted]
    ends = [list(uncovered(found, robot, segment)) for segment in wanted]
    first_tick = next((int(grid[0]) for grid in grids if len(grid)), bag.info.start_ns)
    head = replace(head, first_tick_ns=first_tick)
    left_out = [_left_out(bag, found, segment, first_tick) for segment in marked if segment.left_out]
    if not wanted:
        nothing = "no episode is marked in it" if led is None else "no person took over in it"
        reason = "; ".join(dict.fromkeys(gap.why for gap in left_out)) or nothing
        return replace(head, left_out=tuple(left_out), reason=reason)
    if not options.keep_partial:  # what is cut off at an end is no success to learn from
        for place, missing in enumerate(ends):
            cut_off = [end for end in missing if end.length_ns > PARTIAL_S * SECOND]
            if cut_off:
                why = f"{'; '.join(end.why for end in cut_off)} (--keep-partial takes what there is)"
                span = covered(found, wanted[place])
                left_out.append(Gap(_s(span[0] - first_tick), _s(span[1] - span[0]), why))
                grids[place] = np.zeros(0, np.int64)
    ticks = np.concatenate([np.zeros(0, np.int64), *grids])
    places = np.repeat(np.arange(len(wanted)), [len(grid) for grid in grids])
    cutter = _Cutter(folder, robot, options, found.timeline.cuts, led)

    def place_of(tick: int) -> int:
        return int(places[np.searchsorted(ticks, tick)])

    def prompt_at(tick: int) -> str:
        return prompt_of(options, wanted[place_of(tick)], found, tick, bag.info.custom_data, robot)[0]

    def told_by(tick: int) -> str:
        return prompt_of(options, wanted[place_of(tick)], found, tick, bag.info.custom_data, robot)[1]

    begun, seen = 0, _Seen(-1)  # episodes before the present segment, and what of the latter had rows

    def end_segment() -> None:
        cutter.end_episode()
        if seen.place < 0 or options.keep_partial or not (why := seen.cut_off(grids[seen.place], cutter)):
            return
        while len(cutter.episodes) > begun:
            cutter.drop_last()
        grid = grids[seen.place]
        left_out.append(Gap(_s(int(grid[0]) - first_tick), _s(int(grid[-1] - grid[0])), why))

    try:
        made = rows(bag, robot, found, ticks, prompt_at)
        show = {"desc": bag.path.name, "unit": "row", "position": line, "leave": False}
        for row in tqdm(made, total=len(ticks), disable=True if line is None else None, **show):
            if (place := place_of(row.stamp_ns)) != seen.place:
                end_segment()
                begun, seen = len(cutter.episodes), _Seen(place)
            if cutter.add(row, wanted[place], told_by(row.stamp_ns)):
                seen.rows.append(row.stamp_ns)
        end_segment()
    except BaseException:
        cutter.discard()
        raise
    missing = [end for place, found_ends in enumerate(ends) if len(grids[place]) for end in found_ends]
    gaps = [Gap(_s(end.start_ns - first_tick), _s(end.length_ns), end.why) for end in missing]
    gaps = sorted([*gaps, *cutter.gaps(first_tick)], key=lambda gap: gap.at_s)
    if gaps and options.gaps == "reject":
        raise BagError(f"gap of {gaps[0].length_s:.2f} s at {gaps[0].at_s:.2f} s: {gaps[0].why}")
    if not cutter.episodes:
        if left_out:
            raise BagError("; ".join(dict.fromkeys(gap.why for gap in left_out)) + advice)
        worst = max(gaps, key=lambda gap: gap.length_s).why if gaps else "the streams do not overlap for long enough"
        raise BagError(f"no piece lasts {options.min_length_s:g} s: {worst}{advice}")
    streams = (
        stream_report(topic, stamps, found.fallbacks[topic], bag.info.topics[topic].advertised, cutter.runs)
        for topic, stamps in found.by_topic.items()
        if len(stamps)
    )
    return replace(
        head,
        status="converted",
        episodes=tuple(cutter.episodes),
        streams=tuple(streams),
        gaps=tuple(gaps),
        left_out=tuple(left_out),
        lags=cutter.lags.reports(),
        notes=(*notes, *cutter.notes, *seldom(found, robot), *_unsaid(found, robot, first_tick, asked.prompt)),
    )


def _unsaid(found: Scan, robot: Robot, first_tick: int, prompt_topic: str) -> Iterator[str]:
    """That the first command of a group which holds comes late, or the first prompt; that a base was never driven."""
    if found.prompts and (late := _s(found.prompts[0][0] - first_tick)) > LATE_PROMPT_S:
        yield f"{prompt_topic}: the first prompt comes {late:.2f} s after the first row and counts for those before it"
    for topic in sorted(robot.held_from_state & found.by_topic.keys()):
        if (late := _s(int(found.by_topic[topic][0]) - first_tick)) > 0:
            yield f"{topic}: before its first command, {late:.2f} s after the first row, its measured position is taken"
    for topic in sorted(robot.speed_topics & found.by_topic.keys()):
        if not len(found.by_topic[topic]):
            yield f"{topic}: no message, so its joints count as standing still all the time"


def _s(ns: int) -> float:
    return round(ns * 1e-9, 3)


def _left_out(bag: Bag, found: Scan, segment: Segment, first_tick: int) -> Gap:
    """A marked stretch that does not become an episode."""
    end = found.clock.at(bag.info.end_ns) if segment.end_ns == FOREVER else segment.end_ns
    start = max(segment.start_ns, found.clock.at(bag.info.start_ns))
    return Gap(_s(start - first_tick), _s(max(0, end - start)), segment.left_out)


@dataclass
class _Seen:
    """The ticks of segment number `place` that had a row."""

    place: int
    rows: array[int] = field(default_factory=lambda: array("q"))

    def cut_off(self, grid: np.ndarray, cutter: _Cutter) -> str:
        """Why the segment's begin or end is missing; empty where it is not, or where nothing is there at all."""
        if not self.rows:
            return ""
        begin, end = self.rows[0] - int(grid[0]), int(grid[-1]) - self.rows[-1]
        if max(begin, end) <= PARTIAL_S * SECOND:
            return ""
        where = "begin" if begin > PARTIAL_S * SECOND else "end"
        why = cutter.why_at(int(grid[0]) if where == "begin" else self.rows[-1] + 1)
        return f"its {where} is missing: {why} (--keep-partial takes what there is)"


class _Cutter:
    """Collects rows into episodes: a row without data, of another segment or prompt ends the present one."""

    def __init__(
        self,
        folder: Path | None,
        robot: Robot,
        options: Options,
        cuts: Sequence[tuple[int, str]] = (),
        led: Sequence[Span] | None = None,
    ) -> None:
        self.notes: list[str] = []
        self.episodes: list[EpisodeReport] = []
        self.runs: list[np.ndarray] = []  # ticks (ns) of each episode
        self.lags = LagMeter(robot)
        self._folder, self._robot, self._options = folder, robot, options
        self._fps = int(robot.dataset_fps)
        self._writer: EpisodeStager | None = None
        self._ticks, self._actions = array("q"), array("d")  # of a long episode lists would weigh far more
        self._prompt, self._told_by = "", ""
        self._cuts, self._led = list(cuts), led
        self._segment = Segment(0, 0)
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._gaps: list[tuple[int, int, str]] = []  # first tick, ticks, why

    def add(self, row: Row, segment: Segment, told_by: str = "") -> bool:
        """Take the next tick's row, which lies in `segment`; False: it has none. `told_by`: who said its prompt."""
        while self._cuts and row.stamp_ns >= self._cuts[0][0]:
            at, why = self._cuts.pop(0)
            if self._ticks:
                self.end_episode()
                self._gaps.append((at, 0, why))
        if row.observation is None or row.action is None:
            self.end_episode()
            self._note_gap(row.stamp_ns, 1, row.problem)
            return False
        if not row.observation.prompt:
            raise BagError("it has no prompt: none was recorded, and the robot file has none; give --task")
        if self._ticks and (row.observation.prompt != self._prompt or segment is not self._segment):
            self.end_episode()
        images = row.observation.images
        if self._options.resize:
            images = {camera: resize_with_pad(image, *self._options.resize) for camera, image in images.items()}
        shapes = {camera: image.shape for camera, image in images.items()}
        if shapes != (self._shapes or shapes):
            self.end_episode()
            changed = [camera for camera in shapes if shapes[camera] != self._shapes[camera]]
            sizes = ", ".join(f"{name} from {_size(self._shapes[name])} to {_size(shapes[name])}" for name in changed)
            self._note_gap(row.stamp_ns, 1, f"the size of pictures changes, {sizes}: give --resize WxH")
            return True  # it was recorded
        self._shapes, self._prompt, self._segment, self._told_by = shapes, row.observation.prompt, segment, told_by
        if self._folder is not None:
            if self._writer is None:
                codec = CODECS[self._options.codec]
                self._writer = EpisodeStager(self._folder / staged_name(len(self.episodes)), self._fps, codec)
            self._writer.add(row.observation.state, row.action, images)
        self.lags.add(row.observation)
        self._ticks.append(row.stamp_ns)
        self._actions.frombytes(row.action.tobytes())
        return True

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
            idle = idle_frames(np.array(self._actions).reshape(len(ticks), -1), self._robot, self._fps)
            labels = labels_on(ticks, self._fps, self._segment.labels, self._prompt)
            if self._writer is not None:
                by_person = None if self._led is None else led_frames(ticks, self._led)
                self._writer.close(self._prompt, episode_columns(idle, labels, by_person))
                give_back()
            report = EpisodeReport(
                len(ticks),
                self._ticks[0],
                self._prompt,
                self._segment.success,
                int(idle.sum()),
                len(labels),
                self._told_by,
            )
            self.episodes.append(report)
            self.runs.append(ticks)
        self._writer, self._ticks, self._actions = None, array("q"), array("d")

    def discard(self) -> None:
        """Drop what was written of the present episode."""
        if self._writer is not None:
            self._writer.discard()
            self._writer = None

    def gaps(self, first_tick: int) -> Iterator[Gap]:
        """All stretches without rows, in seconds after `first_tick`."""
        for at, ticks, why in self._gaps:
            yield Gap(round((at - first_tick) * 1e-9, 3), round(ticks / self._fps, 3), why)

    def why_at(self, tick: int) -> str:
        """Why there is no row from `tick` on."""
        return next((why for at, count, why in self._gaps if at + count * 1e9 / self._fps >= tick), "no row")

    def drop_last(self) -> None:
        """Take back the last episode."""
        self.episodes.pop()
        self.runs.pop()
        if self._folder is not None:
            shutil.rmtree(self._folder / staged_name(len(self.episodes)))

    def _note_gap(self, tick: int, ticks: int, why: str) -> None:
        if self._gaps and self._gaps[-1][1]:
            at, count, first_why = self._gaps[-1]
            if tick - at <= (count + 0.5) * 1e9 / self._fps:  # goes on where the last one ended: keep its reason
                self._gaps[-1] = (at, count + ticks, first_why)
                return
        self._gaps.append((tick, ticks, why))


def _size(shape: Sequence[int]) -> str:
    return f"{shape[1]}x{shape[0]}"
