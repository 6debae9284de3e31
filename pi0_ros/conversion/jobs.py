"""Converting many bags: each becomes a folder of finished episodes, one after the other or on several processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pi0_ros.base.workers import end_with_parent
from pi0_ros.conversion.cut import convert_bag
from pi0_ros.conversion.options import Options
from pi0_ros.conversion.report import BagReport
from pi0_ros.datasets.layout import DatasetError
from pi0_ros.robot import Robot


@dataclass(frozen=True)
class Job:
    """One bag and the folder that its episodes and report get (None: nothing is written)."""

    bag: Path
    folder: Path | None
    robot: Robot
    options: Options


_line = 1  # of the terminal, for the bag in work; line 0 shows how many bags are done
Engine = Callable[[Sequence[Job]], Iterator[tuple[int, BagReport]]]  # (which job, its report), as they finish


def finish(job: Job, progress: bool = False) -> BagReport:
    """The report of a bag that was finished before, or is converted now; a folder under its final name is whole.

    With `progress` a terminal shows the bag's rows, on this process's own line.
    """
    line = _line if progress else None
    if job.folder is None:
        return convert_bag(job.bag, None, job.robot, job.options, line)
    if job.folder.is_dir():
        return BagReport.from_dict(json.loads((job.folder / "report.json").read_text()))
    unfinished = begin(job.folder)
    report = convert_bag(job.bag, unfinished, job.robot, job.options, line)
    keep(unfinished, job.folder, report)
    return report


def keep(unfinished: Path, folder: Path, report: BagReport) -> None:
    """Give a finished bag its final name. A rejected one is not kept: its cause may be gone the next time."""
    if report.status == "rejected":
        shutil.rmtree(unfinished)
        return
    write_report(unfinished, report)
    unfinished.rename(folder)


def write_report(folder: Path, report: BagReport) -> None:
    """Keep the report beside the bag's episodes."""
    (folder / "report.json").write_text(json.dumps(report.to_dict()))


def begin(folder: Path) -> Path:
    """An empty folder beside `folder`, to be renamed to it when it is whole; what a killed process left is removed.

    Its name is this process's own, so that one which outlived its parent for a moment can't spoil it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.iterdir():
        if left.name.startswith(f"{folder.name}.partial-"):
            shutil.rmtree(left, ignore_errors=True)
    unfinished = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    unfinished.mkdir()
    return unfinished


def run_here(jobs: Sequence[Job], workers: int = 1, progress: bool = False) -> Iterator[tuple[int, BagReport]]:
    """Run `jobs` on this machine, `workers` at a time. Raises `DatasetError` when a worker process dies."""
    if workers <= 1:
        for number, job in enumerate(jobs):
            yield number, finish(job, progress)
        return
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, spawn, _begin_worker, (spawn.Value("i", 0),))
    try:
        numbers = {pool.submit(finish, job, progress): number for number, job in enumerate(jobs)}
        for future in as_completed(numbers):
            yield numbers[future], future.result()
    except BrokenProcessPool as error:
        raise DatasetError(
            "a worker process died, often for lack of memory: give the same command again, with fewer --workers; "
            "finished bags are kept"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker(lines: Any) -> None:
    """Give this worker process its line of the terminal.

    No lock keeps the lines apart, since a killed process would never give it back.
    """
    global _line
    with lines:
        lines.value += 1
        _line = lines.value
    end_with_parent()
