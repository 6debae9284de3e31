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

from tqdm import tqdm

from pi0_ros.robot import Robot, load_robot, robot_to_yaml
from pi0_ros.training.bags import BagError, custom_data, find_bags, storage_files
from pi0_ros.training.cut import DEFAULTS, Options, convert_bag, part_name
from pi0_ros.training.lerobot import DatasetError
from pi0_ros.training.lerobot_v30 import write_dataset
from pi0_ros.training.parts import Part
from pi0_ros.training.report import BagReport, Report
from pi0_ros.training.video import CODECS

PART_FORMAT = 1  # raised whenever finished parts of an older version must not be reused


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
        new = [Part.load(job.folder / part_name(number)) for number in range(len(report.episodes))]
        if new and parts and new[0].shapes != parts[0].shapes:
            reason = f"images are {_sizes(new[0])}, those of the first bag {_sizes(parts[0])}"
            kept.append(dataclasses.replace(report, status="rejected", reason=reason, episodes=()))
            continue
        kept.append(report)
        parts += new
    return kept, parts


def _sizes(part: Part) -> str:
    return ", ".join(f"{camera} {width}x{height}" for camera, (height, width, _) in part.shapes.items())


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
