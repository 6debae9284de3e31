"""Join datasets of one robot into a new one.

    pi0 dataset merge datasets/all datasets/monday datasets/tuesday
    pi0 dataset merge datasets/exact datasets/foreign      one alone: v3.0 with exact statistics, from v2.x too

Robot, frame rate, features and codec must be the same. Videos are taken over as they are (a second name for the same
file where the disk can do that, else a copy), rows get new numbers, statistics are computed over everything, conversion
reports are kept. OUT appears when it is whole; the sources stay as they are.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from pi0_ros.datasets.folder import DatasetFolder
from pi0_ros.datasets.merge import merge


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 dataset merge`."""
    parser.add_argument("out", type=Path, metavar="OUT", help="the new dataset's folder")
    parser.add_argument("sources", type=Path, nargs="+", metavar="DATASET", help="datasets, in their new order")


def run(args: argparse.Namespace) -> int:
    """`pi0 dataset merge`."""
    total = sum(int(DatasetFolder(path).info["total_frames"]) for path in args.sources)
    with tqdm(total=total, unit="frame", disable=None, leave=False) as bar:

        def step(text: str, frames: int) -> None:
            bar.set_description(text, refresh=False)
            bar.update(frames)

        made = merge(args.out, args.sources, step)
    print(
        f"{made.path}: {len(made.entries)} episodes, {made.info['total_frames']} frames, {len(made.tasks)} tasks "
        f"from {len(args.sources)} datasets"
    )
    return 0
