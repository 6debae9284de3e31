"""Draw a dataset: joints over time, a contact sheet for each camera, the streams' ages, and a page of it all.

    pi0 dataset plot datasets/towels --episode 0 7 12      PNGs of three episodes in datasets/towels_plots
    pi0 dataset plot datasets/towels --html                12 episodes, evenly spread, and report.html
    pi0 dataset plot datasets/towels --all --out /tmp/towels --html

The page is one file with every picture inside: it opens anywhere, without a network. Grey in the traces: idle
frames; green: labels.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pi0_ros.base.arguments import whole
from pi0_ros.datasets.draw import DEFAULT_EPISODES, PAGE, draw, spread
from pi0_ros.datasets.folder import DatasetFolder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 dataset plot`."""
    parser.add_argument("path", type=Path, help="a dataset's folder")
    parser.add_argument("--episode", type=whole, nargs="+", metavar="N", help="episodes to draw, counted from 0")
    parser.add_argument("--all", action="store_true", help="draw every episode")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to (default: PATH_plots, beside the dataset)")
    parser.add_argument("--html", action="store_true", help=f"also write {PAGE}, one file with everything inside")


def run(args: argparse.Namespace) -> int:
    """`pi0 dataset plot`."""
    folder = DatasetFolder(args.path)
    numbers = args.episode or spread(len(folder.entries), None if args.all else DEFAULT_EPISODES)
    whole = args.path.resolve()
    out = args.out or whole.with_name(whole.name + "_plots")
    written = draw(folder, numbers, out, args.html)
    print(f"written: {len(written)} pictures of {len(numbers)} of {len(folder.entries)} episodes in {out}")
    if args.html:
        print(f"page: {out / PAGE}")
    return 0
