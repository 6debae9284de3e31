"""Say what a checkpoint is, and what a robot file must say to use it. Reads no weights, so it is quick on any size.

    pi0 checkpoint info runs/my_robot/checkpoint
    pi0 checkpoint info ~/pi05_droid --robot franka_droid      with what this robot file knows of it
    pi0 checkpoint info ~/pi0_base --asset trossen             the numbers of one of its statistics
    pi0 checkpoint info ~/pi0_base --json | jq .config

Every tensor's name, shape and dtype is compared with the model; what is missing or too much is an error.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from pi0_ros.base.printing import labelled, size, value
from pi0_ros.checkpoints import robot_file
from pi0_ros.checkpoints.description import Description
from pi0_ros.checkpoints.formats import FORMATS
from pi0_ros.checkpoints.lerobot import RELEASES
from pi0_ros.checkpoints.summary import (
    MODELS,
    asset_id,
    joint_name,
    prompt_name,
    range_of,
    size_name,
    summarize,
)
from pi0_ros.cli.checkpoint_options import BASE_HELP, CONFIG_HELP, RELEASE_HELP, describe_for, read_config
from pi0_ros.robot import Robot, load_robot
from pi0_ros.tokens.subwords import TOKENIZER_URL, TokenizerError
from pi0_ros.tokens.tokenizer import Tokenizer

INDENT = 13


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 checkpoint info`."""
    parser.add_argument("path", type=Path, help="a folder (or .safetensors file) of this package, LeRobot or openpi")
    parser.add_argument("--robot", help="a robot file whose key `policy` tells sizes and statistics")
    parser.add_argument("--asset", metavar="ID", help="which of several statistics to show")
    parser.add_argument("--config", type=Path, metavar="FILE", help=CONFIG_HELP)
    parser.add_argument("--base", type=Path, metavar="PATH", help=BASE_HELP)
    parser.add_argument("--lerobot-release", choices=RELEASES, help=RELEASE_HELP)
    parser.add_argument("--json", action="store_true", help="everything as JSON, statistics included")


def run(args: argparse.Namespace) -> int:
    """`pi0 checkpoint info`: 0; what is wrong with a checkpoint is raised."""
    robot = load_robot(args.robot) if args.robot else None
    description = describe_for(args.path, robot, read_config(args.config), args.asset, args.base, args.lerobot_release)
    if args.json:
        fitting = [known.name for known in robot_file.shipped_robots() if robot_file.fits(description, known)]
        needs = {"fits": fitting, "snippet": robot_file.snippet(description)}
        print(json.dumps({**summarize(description), "robot_file": needs}, indent=2))
    else:
        print("\n".join(lines(description, robot)))
    return 0


def lines(description: Description, robot: Robot | None = None) -> Iterator[str]:
    """The report as text; with a robot, whether the checkpoint drives that one."""
    yield f"{description.path}: {FORMATS[description.format].title}, {MODELS[description.config.model]}"
    yield ""
    for label, text in _facts(description):
        yield from labelled(label, text, INDENT)
    if description.norm_stats is not None:
        yield ""
        yield from _table(description)
    yield ""
    yield from _robot_file(description, robot)


def _facts(description: Description) -> Iterator[tuple[str, str]]:
    config, settings, summary = description.config, description.settings, summarize(description)
    dtypes = " and ".join(summary["dtypes"])
    held, stored = size(summary["bytes"]), size(summary["bytes_on_disk"])
    yield (
        "weights",
        f"{_count(summary['parameters'])} parameters in {dtypes}, {held}; the whole checkpoint: {stored} on disk",
    )
    yield "sizes", size_name(config)
    side = config.vision.image_size
    yield "images", f"{', '.join(config.cameras)} (in this order, {side} x {side})"
    yield "state", f"{_of(description.state_dim, config.action_dim)}, {_kind(settings.state_normalization)}"
    kind, width = _kind(settings.action_normalization), _of(description.action_dim, config.action_dim)
    yield "actions", f"{config.action_horizon} steps of {width}, {kind}; {_meaning(description)}"
    yield "prompt", f"{prompt_name(config, settings)}; {config.max_token_len} tokens at most"
    yield "rate", f"{settings.fps:g} actions per second" if settings.fps else "not said: dataset_fps of the robot file"
    yield "tokenizer", _tokenizer(description)
    yield (
        "robot file",
        f"{description.robot.name}, in the checkpoint" if description.robot else "none in the checkpoint",
    )
    for label, name in zip(("statistics", *[""] * len(description.assets)), description.assets):
        asset = description.assets[name]
        fields = " ".join(asset.actions.present())
        yield label, f"{name}: state {asset.state.used_dim}, actions {asset.actions.used_dim} ({fields})"
    if guessed := [key for key in summary["assumed"] if "." not in key]:
        values = ", ".join(f"{key} {value(getattr(config, key))}" for key in guessed)
        yield (
            "assumed",
            f"{values}: no file says it; where it is wrong, the robot file's `policy` can say it, or --config",
        )
    for label, name in zip(("not used", *[""] * len(description.leftovers)), description.leftovers):
        short = name.removeprefix("model.").removeprefix("paligemma_with_expert.")
        yield label, f"{short}: {description.leftovers[name]}"
    for label, note in zip(("note", *[""] * len(summary["notes"])), summary["notes"]):
        yield label, note


def _meaning(description: Description) -> str:
    """Absolute or relative, as far as it is known."""
    relative = description.settings.relative_actions
    if relative is None and description.robot is not None:
        relative = tuple(description.robot.relative_mask.tolist())
    if relative is None:
        return "absolute or relative as the robot file says"
    absolute = [joint_name(description, index) for index, flag in enumerate(relative) if not flag]
    if not absolute or len(absolute) == len(relative):
        return "absolute" if absolute else "relative to the state"
    return f"relative to the state but for {', '.join(absolute)}"


def _tokenizer(description: Description) -> str:
    if description.tokenizer_path is not None:
        return f"{description.tokenizer_path.relative_to(description.path)}, in the checkpoint"
    try:
        Tokenizer.installed()
    except TokenizerError:
        get = f"get {TOKENIZER_URL} and save it in the checkpoint's folder as tokenizer.model"
        return f"none in the checkpoint, none on this machine: {get}"
    return "none in the checkpoint, found on this machine"


def _table(description: Description) -> Iterator[str]:
    """The numbers that normalise each dimension."""
    stats, settings = description.norm_stats, description.settings
    assert stats is not None
    count = max(stats.state.used_dim, stats.actions.used_dim)
    names = [joint_name(description, index) for index in range(count)]
    width = max(map(len, names))
    cells = [
        (
            range_of(stats.state, index, settings.state_normalization),
            range_of(stats.actions, index, settings.action_normalization),
        )
        for index in range(count)
    ]
    column = max(len(state) for state, _ in cells)
    chosen = asset_id(description)
    yield f"numbers of {chosen}" if chosen else "numbers"
    yield f"  {'':{width}s}  {'state':^{column}s}   {'actions':^{column}s}".rstrip()
    for name, (state, actions) in zip(names, cells):
        yield f"  {name:{width}s}  {state:{column}s}   {actions}".rstrip()


def _robot_file(description: Description, robot: Robot | None) -> Iterator[str]:
    """Which robot files fit, and what a new one must say."""
    if robot is not None:
        reason = robot_file.misfit(description, robot)
        yield f"robot:={robot.name} " + ("fits." if reason is None else f"does not fit: {reason}")
        return
    if description.robot is not None:
        yield "It drives every robot whose file has the same joints and camera slots as the one in the checkpoint;"
        yield "topics, rates and limits may differ."
        return
    shipped = robot_file.shipped_robots()
    found = [robot for robot in shipped if robot_file.fits(description, robot)]
    width = max((len(robot.name) for robot in found), default=0)
    yield "Robot files that fit:" if found else "None of the robot files of this package fits."
    for robot in found:
        says = [f"{key} {count}" for key, count in robot.released.sizes(description.config.model).items()]
        known = f" ({', '.join(says)})" if says else ""
        yield f"  robot:={robot.name:{width}s}  {robot.description}{known}"
    near = [robot.name for robot in shipped if robot_file.alike(description, robot) and not found]
    if near:
        yield f"As many joints have {', '.join(near)}; --robot {near[0]} says what differs."
    yield "A robot file of your own must say (docs/new_robot.md explains the other keys, `pi0 doctor` checks it):"
    yield ""
    yield from ("  " + line for line in robot_file.snippet(description).splitlines())


def _kind(normalization: str) -> str:
    if normalization == "identity":
        return "not normalised"
    by = normalization.removeprefix("lerobot_").replace("_", "/")
    return f"normalised by {by}" + (" as in LeRobot" if normalization.startswith("lerobot") else "")


def _of(dim: int | None, width: int) -> str:
    return f"{dim} of {width} numbers" if dim else f"up to {width} numbers"


def _count(number: int) -> str:
    return f"{number / 1e9:.3f} billion" if number >= 1e9 else f"{number / 1e6:.3g} million"
