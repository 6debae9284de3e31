"""train or fine-tune a policy on a dataset

    pi0 train datasets/demo --config from_scratch --out runs/demo
    pi0 train datasets/demo --config my_config.yaml steps=5000 batch=16 --out runs/demo
    pi0 train datasets/demo --config from_scratch --out runs/demo --resume

The finished policy is <out>/checkpoint (averaged weights, robot file, statistics, tokenizer). While training it also
holds `train_state/`, from which --resume goes on exactly where an unbroken run would be. progress.csv and curve.png lie
beside it.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from pi0_ros.cli.dataset_options import add_dataset_robot_arguments, open_dataset
from pi0_ros.cli.limits_report import limit_findings
from pi0_ros.sim.grounding import Grounding
from pi0_ros.training.loop import train
from pi0_ros.training.objective import AuxiliaryLosses
from pi0_ros.training.saving import TrainingStoppedError

AUXILIARY: AuxiliaryLosses = {"grounding": Grounding}  # losses that recipes may name beside the flow's


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 train`."""
    parser.add_argument("dataset", type=Path, help="a LeRobot dataset, with the statistics of `pi0 stats`")
    add_dataset_robot_arguments(parser)
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="keys of the config to change, as steps=5000")
    parser.add_argument("--config", required=True, help="training config: a file, or the name of a shipped one")
    parser.add_argument("--init", type=Path, help="checkpoint to start from, instead of the config's `init`")
    parser.add_argument("--out", type=Path, required=True, help="folder of this run")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out, if it has begun")
    parser.add_argument("--overwrite", action="store_true", help="begin anew in an --out that is not empty")


def run(args: argparse.Namespace) -> int:
    """`pi0 train`."""
    dataset = open_dataset(args.dataset, args)
    for finding in limit_findings(dataset.folder, dataset.robot):
        print(f"{finding.severity}: {finding.what}\n  -> {finding.todo}", file=sys.stderr)
    try:
        checkpoint = train(
            dataset,
            args.config,
            args.out,
            args.resume,
            args.init,
            tuple(args.changes),
            auxiliary=AUXILIARY,
            overwrite=args.overwrite,
        )
    except TrainingStoppedError as stopped:
        print(f"{signal.Signals(stopped.signal).name}: {stopped}; go on with --resume", file=sys.stderr)
        return 128 + stopped.signal
    print(f"policy: {checkpoint}\ncurve:  {args.out / 'curve.png'}")
    return 0
