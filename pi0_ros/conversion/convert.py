"""Recordings into a dataset: which of them, by which engine, joined into a new dataset or added to an old one.

Finished bags wait in OUT.partial; a conversion that was stopped goes on from there, and the dataset appears under its
name only when it is whole.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pi0_ros.bags.reader import find_bags
from pi0_ros.base.memory import give_back
from pi0_ros.conversion.annotations import check_bags
from pi0_ros.conversion.cut import staged_name
from pi0_ros.conversion.jobs import Engine, Job, run_here
from pi0_ros.conversion.options import DEFAULTS, Options
from pi0_ros.conversion.report import BagReport, Report
from pi0_ros.conversion.staging import Staging, identity
from pi0_ros.conversion.timing import camera_fps
from pi0_ros.datasets.append import Base, converted_before, joined_report
from pi0_ros.datasets.layout import DatasetError
from pi0_ros.datasets.staged_episode import StagedEpisode
from pi0_ros.datasets.video import CODECS
from pi0_ros.datasets.writer_v21 import write_dataset_v21
from pi0_ros.datasets.writer_v30 import write_dataset
from pi0_ros.robot import Robot, robot_to_yaml

STAGED_FORMAT = 4  # raised whenever finished episodes of an older version must not be reused
FORMATS = ("v3.0", "v2.1")
ALREADY = "it is already in the dataset"


def convert(
    bags: Sequence[Path],
    out: Path,
    robot: Robot,
    options: Options = DEFAULTS,
    *,
    fps: float | str | None = None,
    workers: int = 1,
    engine: Engine | None = None,
    format: str = "v3.0",
    dry_run: bool = False,
    overwrite: bool = False,
    append: bool = False,
    progress: bool = False,
) -> Report:
    """Convert the recordings at `bags` (bags or folders of bags) into the dataset `out`.

    `fps` overrules the robot file's ("auto": what the slowest camera gives); `engine` (default: this machine with
    `workers` processes) runs the jobs. With `append`, `out` grows by the bags that are not in it. Raises `BagError`
    where a path holds no bag, `AnnotationError` where annotations do not fit the bags, `DatasetError` where `out`
    exists (with `append`: does not, or does not fit) or no bag gave an episode, `VideoError` and `OSError` where
    writing fails; a bag that can't be used is reported, not raised.
    """
    begin = time.monotonic()
    out = out if out.name not in ("", "..") else out.resolve()  # its neighbours get their names from its own
    _check_names(robot)
    found = find_bags(bags)
    check_bags(options.annotations, found)
    fps = camera_fps(found, robot.recorded) if fps == "auto" else fps
    robot = robot if fps is None else dataclasses.replace(robot, dataset_fps=float(fps))
    if robot.dataset_fps < 1 or robot.dataset_fps != int(robot.dataset_fps):
        raise DatasetError(
            f"{robot.name}: dataset_fps is {robot.dataset_fps:g}; LeRobot needs a whole number from 1 on, give --fps"
        )
    if append and (overwrite or format != "v3.0"):
        raise DatasetError("--append adds to datasets of format v3.0, and goes without --overwrite")
    staging = Staging(out)
    with nullcontext() if dry_run else staging.held():
        if append and not out.exists():
            raise DatasetError(f"{out}: no dataset to append to; leave out --append")
        if out.exists() and not (overwrite or append or dry_run):
            raise DatasetError(f"{out} exists: choose another folder, remove it, or give --append or --overwrite")
        if append:
            Base.load(out).check_settings(robot, int(robot.dataset_fps), CODECS[options.codec])
        before = converted_before(out) if append else set()
        identities = {bag: identity(bag) for bag in found}
        first = {identity: bag for bag, identity in reversed(identities.items())}
        new = [bag for bag, i in identities.items() if i not in before and (not i or first[i] == bag)]
        known = [
            BagReport(str(bag), "skipped", ALREADY if i in before else f"a copy of {first[i]}", identity=i)
            for bag, i in identities.items()
            if bag not in new
        ]
        settings = f"{STAGED_FORMAT} {_version()} {robot_to_yaml(robot)} {options}"
        jobs = [
            Job(bag, None if dry_run else staging.episodes_of(bag, settings), robot.recorded, options) for bag in new
        ]
        run = engine or partial(run_here, workers=workers, progress=progress)
        done = dict(tqdm(run(jobs), total=len(jobs), unit="bag", disable=not progress))
        reports = [dataclasses.replace(done[i], identity=identities[bag]) for i, bag in enumerate(new)]
        if not dry_run:
            reports, episodes = _consistent(jobs, reports)
            give_back()
            if episodes:
                _join(staging, episodes, reports, robot, options, format, append)
            elif append and known:
                shutil.rmtree(staging.episodes, ignore_errors=True)  # nothing to add
            else:
                why = "\n".join(f"  {report.bag}: {report.reason}" for report in reports)
                raise DatasetError(f"no episode in {len(reports)} bags:\n{why}")
    return Report(None if dry_run else out, (*known, *reports), int(robot.dataset_fps), time.monotonic() - begin)


def _version() -> str:
    try:
        return metadata.version("pi0_ros")
    except metadata.PackageNotFoundError:
        return ""


def _check_names(robot: Robot) -> None:
    """Raises `DatasetError` where LeRobot refuses a name."""
    for name in (*robot.joint_names, *(camera.name for camera in robot.cameras)):
        if "/" in name:
            raise DatasetError(
                f"{robot.name}: the name {name!r} holds a '/', which LeRobot refuses: rename it in the robot file"
            )


def _join(
    staging: Staging,
    episodes: Sequence[StagedEpisode],
    reports: Sequence[BagReport],
    robot: Robot,
    options: Options,
    format: str,
    append: bool,
) -> None:
    """Make the dataset of `episodes` and put it in its place."""
    fps, codec = int(robot.dataset_fps), CODECS[options.codec]
    conversion: dict[str, Any] = {"robot": robot.name, "fps": fps, "options": dataclasses.asdict(options)}
    conversion["bags"] = [report.to_dict() for report in reports]
    if format == "v2.1":
        write_dataset_v21(staging.dataset, episodes, robot, fps, codec, conversion)
    elif append:
        report = joined_report(staging.out, conversion)
        write_dataset(staging.dataset, episodes, robot, fps, codec, report, staging.out)
    else:
        write_dataset(staging.dataset, episodes, robot, fps, codec, conversion)
    staging.replace()


def _consistent(jobs: Sequence[Job], reports: Sequence[BagReport]) -> tuple[list[BagReport], list[StagedEpisode]]:
    """All reports and episodes, those bags rejected whose image sizes differ from the first one's."""
    kept: list[BagReport] = []
    episodes: list[StagedEpisode] = []
    for job, report in zip(jobs, reports, strict=True):
        assert job.folder is not None
        new = [StagedEpisode.load(job.folder / staged_name(number)) for number in range(len(report.episodes))]
        if new and episodes and new[0].shapes != episodes[0].shapes:
            reason = f"images are {_sizes(new[0])}, those of the first bag {_sizes(episodes[0])}: give --resize WxH"
            kept.append(dataclasses.replace(report, status="rejected", reason=reason, episodes=()))
            continue
        kept.append(report)
        episodes += new
    return kept, episodes


def _sizes(episode: StagedEpisode) -> str:
    return ", ".join(f"{camera} {width}x{height}" for camera, (height, width, _) in episode.shapes.items())
