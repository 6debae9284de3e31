"""Turn rosbags into a LeRobotDataset v3.

    pi0 convert bags/ dataset/ --robot demo_arm              every bag below bags/
    pi0 convert ep1 ep2 dataset/ --robot my_robot.yaml --task "fold the towel"
    pi0 convert bags/ dataset/ --robot my_robot --dry-run    read and report, write nothing

One bag is one episode. A stream that pauses for longer than its maximum age splits the episode (or rejects the bag,
`--gaps reject`): frames are neither invented nor dropped from the middle. Bags that their recorder marked as failed
are skipped (`--include-failed` takes them). Finished bags wait in OUT.partial; a conversion that was stopped goes on
from there when the same command is given again, and the dataset appears under its name only when it is whole.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import multiprocessing
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pi0_ros.robot import Robot, load_robot, robot_to_yaml
from pi0_ros.training.align import Row, check_topics, rows, scan, ticks_of
from pi0_ros.training.bags import Bag, BagError, custom_data, find_bags, storage_files
from pi0_ros.training.lerobot import DatasetError, write_dataset
from pi0_ros.training.parts import Part, PartWriter
from pi0_ros.training.report import BagReport, EpisodeReport, Gap, Report, stream_report
from pi0_ros.training.video import CODECS

PART_FORMAT = 1  # raised whenever finished parts of an older version must not be reused
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


def convert(
    bags: Sequence[Path],
    out: Path,
    robot: Robot,
    options: Options = DEFAULTS,
    *,
    fps: float | None = None,
    workers: int = 1,
    dry_run: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> Report:
    """Convert the recordings at `bags` (bags or folders of bags) into the dataset `out`.

    `fps` overrules the robot file's. Raises `BagError` where a path holds no bag, `DatasetError` where `out` exists
    or no bag gave an episode, `VideoError` and `OSError` where writing fails; a bag that can't be used is reported,
    not raised.
    """
    begin = time.monotonic()
    robot = robot if fps is None else dataclasses.replace(robot, dataset_fps=float(fps))
    if robot.dataset_fps != int(robot.dataset_fps):
        raise DatasetError(
            f"{robot.name}: dataset_fps is {robot.dataset_fps:g}; LeRobot needs a whole number, give --fps"
        )
    for name in (*robot.joint_names, *(camera.name for camera in robot.cameras)):
        if "/" in name:
            raise DatasetError(
                f"{robot.name}: the name {name!r} holds a '/', which LeRobot refuses: rename it in the robot file"
            )
    if out.exists() and not (overwrite or dry_run):
        raise DatasetError(f"{out} exists: choose another folder, remove it, or give --overwrite")
    found = find_bags(bags)
    staging = out.with_name(out.name + ".partial")
    settings = f"{PART_FORMAT} {robot_to_yaml(robot)} {options}"
    jobs = [_Job(bag, None if dry_run else staging / "parts" / _key(bag, settings), robot, options) for bag in found]
    reports = list(tqdm(_run(jobs, workers), total=len(jobs), unit="bag", disable=not progress))
    if not dry_run:
        reports, parts = _consistent(jobs, reports)
        if not parts:
            why = "\n".join(f"  {report.bag}: {report.reason}" for report in reports)
            raise DatasetError(f"no episode in {len(reports)} bags:\n{why}")
        whole = staging / "dataset"
        shutil.rmtree(whole, ignore_errors=True)
        conversion = {"robot": robot.name, "fps": int(robot.dataset_fps), "options": dataclasses.asdict(options)}
        conversion["bags"] = [report.to_dict() for report in reports]
        write_dataset(whole, parts, robot, int(robot.dataset_fps), CODECS[options.codec], conversion)
        if out.exists():
            out.rename(staging / f"replaced-{time.time_ns()}")
        whole.rename(out)
        shutil.rmtree(staging)
    return Report(None if dry_run else out, tuple(reports), int(robot.dataset_fps), time.monotonic() - begin)


@dataclass(frozen=True)
class _Job:
    """One bag and the folder of its parts (None: nothing is written)."""

    bag: Path
    folder: Path | None
    robot: Robot
    options: Options


def _run(jobs: Sequence[_Job], workers: int) -> Iterator[BagReport]:
    """Reports of all jobs, in their order."""
    if workers <= 1:
        yield from map(_convert_once, jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_convert_once, jobs)


def _convert_once(job: _Job) -> BagReport:
    """The report of a bag that was finished before, or is converted now; a folder under its final name is whole."""
    if job.folder is None:
        return convert_bag(job.bag, None, job.robot, job.options)
    if job.folder.is_dir():
        return BagReport.from_dict(json.loads((job.folder / "report.json").read_text()))
    unfinished = job.folder.with_name(job.folder.name + ".partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    report = convert_bag(job.bag, unfinished, job.robot, job.options)
    (unfinished / "report.json").write_text(json.dumps(report.to_dict()))
    unfinished.rename(job.folder)
    return report


def _key(bag: Path, settings: str) -> str:
    """Folder name of a bag's parts: the same only for the same bag, unchanged, converted with the same `settings`."""
    fingerprint = hashlib.sha256(f"{bag.resolve()} {settings}".encode())
    for file in storage_files(bag):
        stat = file.stat()
        fingerprint.update(f" {file.name} {stat.st_size} {stat.st_mtime_ns}".encode())
    fingerprint.update(json.dumps(_custom_data_or_nothing(bag), sort_keys=True).encode())
    return f"{bag.name}-{fingerprint.hexdigest()[:16]}"


def _custom_data_or_nothing(bag: Path) -> dict[str, str]:
    try:
        return custom_data(bag)
    except BagError:  # reported when the bag is opened
        return {}


def _consistent(jobs: Sequence[_Job], reports: Sequence[BagReport]) -> tuple[list[BagReport], list[Part]]:
    """All reports and parts, those bags rejected whose image sizes differ from the first one's."""
    kept: list[BagReport] = []
    parts: list[Part] = []
    for job, report in zip(jobs, reports, strict=True):
        assert job.folder is not None
        new = [Part.load(job.folder / _part_name(number)) for number in range(len(report.episodes))]
        if new and parts and new[0].shapes != parts[0].shapes:
            reason = f"images are {_sizes(new[0])}, those of the first bag {_sizes(parts[0])}"
            kept.append(dataclasses.replace(report, status="rejected", reason=reason, episodes=()))
            continue
        kept.append(report)
        parts += new
    return kept, parts


def _sizes(part: Part) -> str:
    return ", ".join(f"{camera} {width}x{height}" for camera, (height, width, _) in part.shapes.items())


def _part_name(number: int) -> str:
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
                self._writer = PartWriter(self._folder / _part_name(len(self.episodes)), self._fps, codec)
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `pi0 convert`."""
    parser.add_argument("bags", nargs="+", type=Path, metavar="BAGS", help="bag folders or files, or folders of bags")
    parser.add_argument("out", type=Path, metavar="OUT", help="the dataset's folder, made new")
    parser.add_argument("--robot", required=True, help="name or path of the robot file")
    parser.add_argument("--fps", type=int, help="frames per second (default: the robot file's dataset_fps)")
    parser.add_argument("--task", help="prompt of all episodes, overruling what was recorded")
    parser.add_argument("--codec", choices=sorted(CODECS), default="h264", help="video codec (default: %(default)s)")
    parser.add_argument(
        "--gaps", choices=("split", "reject"), default="split", help="at a gap, split or reject (default: %(default)s)"
    )
    parser.add_argument(
        "--min-length", type=float, default=1.0, metavar="S", help="shortest episode in seconds (default: %(default)s)"
    )
    parser.add_argument("--include-failed", action="store_true", help="also convert bags marked as failed")
    parser.add_argument("--workers", type=int, default=1, help="bags converted at the same time (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    parser.add_argument("--dry-run", action="store_true", help="read and report, write nothing")


def run(args: argparse.Namespace) -> int:
    """Convert and print the summary; exit status 1 when a dry run finds bags that would be rejected, 0 otherwise."""
    options = Options(args.task, args.codec, args.gaps, args.min_length, args.include_failed)
    report = convert(
        args.bags,
        args.out,
        load_robot(args.robot),
        options,
        fps=args.fps,
        workers=args.workers,
        dry_run=args.dry_run,
        overwrite=args.overwrite,
        progress=True,
    )
    print(report.summary())
    return int(args.dry_run and any(bag.status == "rejected" for bag in report.bags))
