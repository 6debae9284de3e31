"""train or fine-tune a policy on a dataset

    pi0 train datasets/demo --config from_scratch --out runs/demo
    pi0 train datasets/demo --config my_config.yaml steps=5000 batch=16 --out runs/demo
    pi0 train datasets/demo --config from_scratch --out runs/demo --resume
    pi0 train datasets/mine --config pi05_lora --init pi05_base --plan --gpu 24GB
    pi0 train datasets/arm datasets/humanoid --weights 2,1 --config pi05_lora --init pi05_base --out runs/both

--plan prints the memory that a run needs, part by part, and what to change where it does not fit (status 1); no weights
and no frames are loaded, nothing is trained.

The finished policy is <out>/checkpoint (averaged weights, robot file, statistics, tokenizer). While training it also
holds `train_state/`, from which --resume goes on exactly where an unbroken run would be. progress.csv, curve.png,
tensorboard/ and first_batch.png (what the model sees) lie beside it. SIGTERM and SIGUSR1 save and end (status 143 and
138).

Of several datasets each may have a robot of its own. <out>/checkpoint is for the first one's; what the same policy
needs for each other robot lies in <out>/checkpoint/robots/, a folder to deploy for each.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import signal
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from pi0_ros.base.errors import InputError
from pi0_ros.cli.dataset_options import OWN, add_map_argument, open_datasets
from pi0_ros.cli.limits_report import limit_findings
from pi0_ros.datasets.dataset import Dataset
from pi0_ros.doctor.machine import host_memory
from pi0_ros.model.config import ModelConfig
from pi0_ros.sim.grounding import Grounding
from pi0_ros.training.loader import load_rows
from pi0_ros.training.loop import read_sources, train
from pi0_ros.training.objective import AuxiliaryLosses
from pi0_ros.training.plan import Lengths, parse_gpu, report, typical
from pi0_ros.training.recipe import SUBTASK, Recipe, learns_text, load_recipe
from pi0_ros.training.run import model_config, prepare, reads_labels
from pi0_ros.training.saving import ROBOTS, TrainingStoppedError
from pi0_ros.training.statistics import NORM_STATS_PATH
from pi0_ros.training.world import OtherProcessError, World, joined

AUXILIARY: AuxiliaryLosses = {"grounding": Grounding}  # losses that recipes may name beside the flow's


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 train`."""
    parser.add_argument(
        "datasets",
        nargs="+",
        metavar="DATASET|KEY=VALUE",
        help="LeRobot datasets with the statistics of `pi0 stats`; keys of the config to change, as steps=5000",
    )
    parser.add_argument("--weights", help="how often each dataset is drawn, as 2,1 (default: frames ** 0.43)")
    parser.add_argument(
        "--robot",
        action="append",
        help=f"robot file, by name or path, where a dataset carries none; of several one for each, `{OWN}` for its own",
    )
    add_map_argument(parser)
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
    paths, changes = split_words(args.datasets)
    datasets, weights = open_datasets(paths, args), parse_weights(args.weights, len(paths))
    if args.plan:
        return plan(datasets, changes, args)
    with joined() as world:
        return _train(datasets, weights, changes, args, world)


def split_words(words: Sequence[str]) -> tuple[list[Path], tuple[str, ...]]:
    """Datasets, and changes of the config: words with a `=` that are no folder."""
    changes = tuple(word for word in words if "=" in word and not Path(word).is_dir())
    paths = [Path(word) for word in words if word not in changes]
    if not paths:
        raise InputError("no dataset: name the folder of at least one before its KEY=VALUE words")
    return paths, changes


def parse_weights(text: str | None, count: int) -> tuple[float, ...]:
    """`--weights`: a number above 0 for each of `count` datasets, none where it is not given."""
    if text is None:
        return ()
    try:
        weights = tuple(float(word) for word in text.split(","))
    except ValueError:
        raise InputError(f"--weights {text!r}: numbers with commas between them, as 2,1") from None
    if len(weights) != count or not all(math.isfinite(weight) and weight > 0 for weight in weights):
        raise InputError(f"--weights {text!r}: one number above 0 for each of {count} dataset(s)")
    return weights


def _train(
    datasets: Sequence[Dataset],
    weights: tuple[float, ...],
    changes: tuple[str, ...],
    args: argparse.Namespace,
    world: World,
) -> int:
    """One of the processes that train."""
    if args.gpu:
        raise InputError("--gpu belongs to --plan")
    if args.out is None:
        raise InputError("--out is missing: the folder of this run")
    for dataset in datasets if world.first else ():
        for finding in limit_findings(dataset.folder, dataset.robot):
            of = f"{dataset.path}: " if len(datasets) > 1 else ""
            print(f"{finding.severity}: {of}{finding.what}\n  -> {finding.todo}", file=sys.stderr)
    try:
        checkpoint = train(
            datasets,
            args.config,
            args.out,
            args.resume,
            args.init,
            changes,
            auxiliary=AUXILIARY,
            overwrite=args.overwrite,
            world=world,
            weights=weights,
        )
    except TrainingStoppedError as stopped:
        if world.first:
            print(f"{signal.Signals(stopped.signal).name}: {stopped}; go on with --resume", file=sys.stderr)
        return 128 + stopped.signal
    except OtherProcessError:
        return 2  # the first process says why
    if world.first:
        others = sorted((checkpoint / ROBOTS).glob("*"))
        more = f" (for {datasets[0].robot.name})" + "".join(f"\n        {folder}" for folder in others)
        print(f"policy: {checkpoint}{more if others else ''}\ncurve:  {args.out / 'curve.png'}")
    return 0


def plan(datasets: Sequence[Dataset], changes: tuple[str, ...], args: argparse.Namespace) -> int:
    """`pi0 train --plan`: 0 where the run fits, 1 where it does not."""
    recipe = load_recipe(args.config, changes)
    if args.init is not None:
        recipe = dataclasses.replace(recipe, init=str(args.init))
    config = model_config(recipe)
    gpu, device = (parse_gpu(args.gpu) if args.gpu else None), "cuda"
    if gpu is None and torch.cuda.is_available():
        gpu = torch.cuda.get_device_name(), float(torch.cuda.mem_get_info()[1])
    if gpu is None:
        if not (free := host_memory().free_bytes):
            raise InputError("this machine does not say how much memory is free: give --gpu")
        gpu, device = ("this machine's free memory", float(free)), "cpu"
    print("tracing a step without its numbers: a minute or more at full size", file=sys.stderr)
    text, fits = report(recipe, config, plan_lengths(datasets, recipe, config), gpu, device)
    print(text)
    return 0 if fits else 1


def plan_lengths(datasets: Sequence[Dataset], recipe: Recipe, config: ModelConfig) -> Lengths:
    """What the frames of the datasets are made of; without their statistics prompts as long as the model takes."""
    text = {SUBTASK: 1.0} if learns_text(recipe) else {}  # other losses take next to nothing
    stages = tuple(dataclasses.replace(stage, auxiliary=text) for stage in recipe.stages)
    plain = dataclasses.replace(recipe, stages=stages, track=())
    missing = [dataset.path for dataset in datasets if not (dataset.path / NORM_STATS_PATH).is_file()]
    if not missing:
        sources = read_sources(datasets, config.action_horizon, partial(load_rows, labels=reads_labels(recipe)))
        with tempfile.TemporaryDirectory() as place:
            return typical(prepare(sources, plain, Path(place), {}, {}))
    if config.is_fast or text:
        raise InputError(
            f"{missing[0]}: no statistics, and how much text is learned depends on them: make them with "
            f"`pi0 stats {missing[0]} --horizon {config.action_horizon}`"
        )
    print(f"{missing[0]}: no statistics yet: prompts are counted as long as the model takes", file=sys.stderr)
    slots = {camera.slot for dataset in datasets for camera in dataset.robot.cameras}
    return Lengths(sum(slot in slots for slot in config.cameras), config.max_token_len)
