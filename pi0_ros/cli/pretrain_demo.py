"""teach the demo's small model to see: where is the red, green, blue cube?

    pi0 pretrain-demo --out runs/demo/see

The weights are the `init` of `pi0 train`: see pi0_ros/sim/pretraining.py.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from pi0_ros.base.arguments import count, positive, whole
from pi0_ros.sim.pretraining import pretrain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 pretrain-demo`."""
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder to write")
    parser.add_argument("--scenes", type=count, default=10_000, help="number of rendered scenes (default 10000)")
    parser.add_argument("--steps", type=count, default=1200, help="optimiser steps (default 1200)")
    parser.add_argument("--batch", type=count, default=48, help="questions per step (default 48)")
    parser.add_argument("--lr", type=positive, default=1e-3, help="peak learning rate (default 0.001)")
    parser.add_argument("--seed", type=whole, default=200_000, help="seed of the first scene (default 200000)")


def run(args: argparse.Namespace) -> int:
    """`pi0 pretrain-demo`: writes the checkpoint and returns 0; does nothing where it exists."""
    if args.out.exists():
        print(f"{args.out} exists: nothing to do")
        return 0
    last = pretrain(args.out, args.scenes, args.steps, args.batch, args.lr, args.seed)
    print(f"{args.out}: weights that point at cubes, {json.dumps(last)}")
    return 0
