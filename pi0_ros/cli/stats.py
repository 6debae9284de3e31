"""Compute the normalisation statistics of a dataset.

    pi0 stats dataset/                     writes dataset/meta/pi0_norm_stats.json and prints a table
    pi0 stats dataset/ --horizon 50        for a policy with chunks of 50 actions
    pi0 stats theirs/ --robot so101.yaml --map observation.images.top=base_camera     a dataset of another author

State statistics run over every frame. Action statistics run over every step of every chunk, with the last action
repeated at an episode's end, as in training. Both are of values as the model counts them (the robot file's `model` and
`action`: relative actions are less the state at the chunk's first frame). Quantiles are exact. A joint that hardly
moves would be blown up by normalisation: its range is widened to a floor and reported.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pi0_ros.base.arguments import count
from pi0_ros.cli.dataset_options import add_dataset_robot_arguments, open_dataset
from pi0_ros.training.statistics import DEFAULT_HORIZON, measure, table, write_stats


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `pi0 stats`."""
    parser.add_argument("dataset", type=Path, metavar="DATASET", help="a LeRobot dataset, v3.0 or v2.x")
    add_dataset_robot_arguments(parser)
    parser.add_argument(
        "--horizon", type=count, default=DEFAULT_HORIZON, help="actions per chunk (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Compute, print and write the statistics."""
    dataset = open_dataset(args.dataset, args)
    stats, widened = measure(dataset, dataset.robot, args.horizon)
    path = write_stats(args.dataset, stats, dataset.robot, args.horizon)
    print(table(stats, dataset.robot))
    for item in widened:
        print(f"widened: {item.kind} of {item.joint}: q99 - q01 is {item.width:.2g}, floor {item.floor:.2g}")
    print(f"{len(dataset.episodes)} episodes, {len(dataset)} frames, chunks of {args.horizon}: {path}")
    return 0
