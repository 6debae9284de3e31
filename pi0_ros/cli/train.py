"""train or fine-tune a policy on a dataset

    pi0 train datasets/demo --config from_scratch --out runs/demo
    pi0 train datasets/demo --config my_config.yaml steps=5000 batch=16 --out runs/demo
    pi0 train datasets/demo --config from_scratch --out runs/demo --resume
    pi0 train datasets/mine --config pi05_lora --init pi05_base --plan --gpu 24GB

--plan prints the memory that a run needs, part by part, and what to change where it does not fit (status 1); nothing is
loaded or trained.

The finished policy is <out>/checkpoint (averaged weights, robot file, statistics, tokenizer). While training it also
holds `train_state/`, from which --resume goes on exactly where an unbroken run would be. progress.csv, curve.png,
tensorboard/ and first_batch.png (what the model sees) lie beside it. SIGTERM and SIGUSR1 save and end (status 143 and
138).
"""

from __future__ import annotations

import argparse
import dataclasses
import signal
import sys
from pathlib import Path

import torch

from pi0_ros.base.errors import InputError
from pi0_ros.cli.dataset_options import add_dataset_robot_arguments, open_dataset
from pi0_ros.cli.limits_report import limit_findings
from pi0_ros.datasets.dataset import Dataset
from pi0_ros.doctor.machine import host_memory
from pi0_ros.sim.grounding import Grounding
from pi0_ros.training.loop import train
from pi0_ros.training.objective import AuxiliaryLosses
from pi0_ros.training.plan import parse_gpu, report
from pi0_ros.training.recipe import load_recipe
from pi0_ros.training.run import model_config
from pi0_ros.training.saving import TrainingStoppedError
from pi0_ros.training.world import OtherProcessError, World, joined

AUXILIARY: AuxiliaryLosses = {"grounding": Grounding}  # losses that recipes may name beside the flow's


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 train`."""
    parser.add_argument("dataset", type=Path, help="a LeRobot dataset, with the statistics of `pi0 stats`")
    add_dataset_robot_arguments(parser)
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="keys of the config to change, as steps=5000")
    parser.add_argument("--config", required=True, help="training config: a file, or the name of a shipped one")
    parser.add_argument("--init", type=Path, help="checkpoint to start from, instead of the config's `init`")
    parser.add_argument("--out", type=Path, help="folder of this run")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out, if it has begun")
    parser.add_argument("--overwrite", action="store_true", help="begin anew in an --out that is not empty")
    parser.add_argument("--plan", action="store_true", help="print the memory that is needed, and train nothing")
    parser.add_argument(
        "--gpu", help="device of the plan: its memory (24GB) or a card, such as 4090 (default: this one)"
    )


def run(args: argparse.Namespace) -> int:
    """`pi0 train`."""
    dataset = open_dataset(args.dataset, args)
    if args.plan:
        return plan(dataset, args)
    with joined() as world:
        return _train(dataset, args, world)


def _train(dataset: Dataset, args: argparse.Namespace, world: World) -> int:
    """One of the processes that train."""
    if args.gpu:
        raise InputError("--gpu belongs to --plan")
    if args.out is None:
        raise InputError("--out is missing: the folder of this run")
    for finding in limit_findings(dataset.folder, dataset.robot) if world.first else ():
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
            world=world,
        )
    except TrainingStoppedError as stopped:
        if world.first:
            print(f"{signal.Signals(stopped.signal).name}: {stopped}; go on with --resume", file=sys.stderr)
        return 128 + stopped.signal
    except OtherProcessError:
        return 2  # the first process says why
    if world.first:
        print(f"policy: {checkpoint}\ncurve:  {args.out / 'curve.png'}")
    return 0


def plan(dataset: Dataset, args: argparse.Namespace) -> int:
    """`pi0 train --plan`: 0 where the run fits, 1 where it does not."""
    recipe = load_recipe(args.config, args.changes)
    if args.init is not None:
        recipe = dataclasses.replace(recipe, init=str(args.init))
    config = model_config(recipe)
    gpu = parse_gpu(args.gpu) if args.gpu else None
    if gpu is None and torch.cuda.is_available():
        gpu = torch.cuda.get_device_name(), float(torch.cuda.mem_get_info()[1])
    if gpu is None:
        if not (free := host_memory().free_bytes):
            raise InputError("this machine does not say how much memory is free: give --gpu")
        gpu = "this machine's free memory", float(free)
    views = sum(camera.slot in config.cameras for camera in dataset.robot.cameras)
    print("tracing a step without its numbers: a minute or more at full size", file=sys.stderr)
    text, fits = report(recipe, config, views, config.max_token_len, gpu)
    print(text)
    return 0 if fits else 1
