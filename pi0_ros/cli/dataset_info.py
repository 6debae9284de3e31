"""Say what is in a dataset. Reads metadata and numbers, no video, so it is quick on any size.

    pi0 dataset info datasets/towels
    pi0 dataset info datasets/towels --json | jq .tasks

Knows LeRobotDataset v3.0 and v2.x, of this package and of others.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pi0_ros.base.printing import labelled, table
from pi0_ros.datasets.facts import SPREAD, facts, summarize
from pi0_ros.datasets.folder import DatasetFolder

INDENT = 13


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 dataset info`."""
    parser.add_argument("path", type=Path, help="a dataset's folder")
    parser.add_argument("--json", action="store_true", help="everything as JSON")


def run(args: argparse.Namespace) -> int:
    """`pi0 dataset info`: 0; what is wrong with a dataset is raised."""
    summary = summarize(DatasetFolder(args.path))
    print(json.dumps(summary, indent=2, ensure_ascii=False) if args.json else "\n".join(lines(summary)))
    return 0


def lines(summary: dict[str, Any]) -> Iterator[str]:
    """The report as text."""
    yield f"{summary['path']}: LeRobotDataset {summary['version']}"
    yield ""
    for label, text in facts(summary):
        yield from labelled(label, text, INDENT)
    yield ""
    yield from table([("task", "episodes"), *((f'"{task}"', count) for task, count in summary["tasks"].items())])
    for key, ranges in summary["ranges"].items():
        yield ""
        head = (key, "unit", *SPREAD)
        cells = zip(ranges["names"], ranges["units"], *([f"{v:.4g}" for v in ranges[name]] for name in SPREAD))
        yield from table([head, *cells], left=2)
