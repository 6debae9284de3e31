"""Find everything in a dataset that would bite a trainer.

    pi0 dataset check datasets/towels
    pi0 dataset check datasets/towels --full         every episode's pictures, not a sample
    pi0 dataset check ~/.cache/huggingface/lerobot/lerobot/aloha_sim --json

Looks at files, rows, counters, tasks, time stamps, videos (times, frame counts, black or frozen pictures), statistics,
at how state and action move, and whether the limits of the robot file let the controller follow the recorded commands.
Every finding says what to do; the exit status is 1 when one is an error. Reads LeRobotDataset v3.0 and v2.x of any
author, and changes nothing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from pi0_ros.base.findings import SEVERITIES, Finding
from pi0_ros.base.printing import labelled
from pi0_ros.cli.limits_report import limit_findings
from pi0_ros.datasets.checks import check_dataset
from pi0_ros.datasets.folder import DatasetFolder

INDENT = 22


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 dataset check`."""
    parser.add_argument("path", type=Path, help="a dataset's folder")
    parser.add_argument("--full", action="store_true", help="look at pictures of every episode, not of a few")
    parser.add_argument("--json", action="store_true", help="the findings as JSON")


def run(args: argparse.Namespace) -> int:
    """`pi0 dataset check`: 1 when something is an error."""
    with tqdm(unit="step", disable=None, leave=False) as bar:

        def step(text: str) -> None:
            bar.set_description(text, refresh=False)
            bar.update()

        findings = check_dataset(args.path, args.full, step)
        if not any(finding.severity == "error" for finding in findings):
            findings = [*findings, *limit_findings(DatasetFolder(args.path))]
    if args.json:
        print(json.dumps([finding.to_dict() for finding in findings], indent=2, ensure_ascii=False))
    else:
        print("\n".join(lines(args.path, findings)))
    return int(any(finding.severity == "error" for finding in findings))


def lines(path: Path, findings: Sequence[Finding]) -> Iterator[str]:
    """The findings as text, the worst first, and a verdict."""
    for finding in findings:
        yield from labelled(f"{finding.severity:8s} {finding.check}", finding.what, INDENT)
        if finding.todo:
            yield from labelled("", f"-> {finding.todo}", INDENT)
    counts = {name: sum(finding.severity == name for finding in findings) for name in SEVERITIES}
    verdict = (
        "not fit for training"
        if counts["error"]
        else "fit for training" + (", with doubts" if counts["warning"] else "")
    )
    yield f"{path}: {verdict} ({counts['error']} errors, {counts['warning']} warnings)"
