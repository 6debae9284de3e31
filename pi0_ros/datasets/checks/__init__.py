"""Everything in a dataset that would bite a trainer: found before the training, not after."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from pi0_ros.base.findings import SEVERITIES, Finding, error, note, warning
from pi0_ros.datasets.checks.motion import check_motion
from pi0_ros.datasets.checks.rows import check_files, check_rows
from pi0_ros.datasets.checks.statistics import check_statistics
from pi0_ros.datasets.checks.videos import SAMPLED_EPISODES, check_video_files, check_videos, sampled
from pi0_ros.datasets.folder import DatasetFolder
from pi0_ros.datasets.layout import DatasetError

__all__ = ["SEVERITIES", "Finding", "check_dataset", "error", "note", "warning"]


def check_dataset(path: Path, full: bool = False, step: Callable[[str], None] = lambda text: None) -> list[Finding]:
    """All findings about the dataset at `path`, errors first; `full` looks at every episode's pictures.

    `step` is called with what is being looked at.
    """
    try:
        folder = DatasetFolder(path)
    except DatasetError as problem:
        return [error("files", str(problem))]
    findings: list[Finding] = []

    def collect(check: Callable[[], Iterator[Finding]]) -> None:
        try:
            findings.extend(check())
        except DatasetError as problem:  # a file that several checks need: said once
            if (found := error("files", str(problem))) not in findings:
                findings.append(found)

    step("files")
    collect(lambda: check_files(folder))
    step("rows")
    collect(lambda: check_rows(folder))
    step("motion")
    collect(lambda: check_motion(folder))
    collect(lambda: check_videos(folder, full, step))
    step("statistics")
    collect(lambda: check_statistics(folder, sampled(folder, len(folder.entries) if full else SAMPLED_EPISODES)))
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def check_written(folder: DatasetFolder) -> list[Finding]:
    """What a dataset that was just written must hold: its files, rows and counters, and a frame for every row."""
    return [*check_files(folder), *check_rows(folder), *check_video_files(folder)]
