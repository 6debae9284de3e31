"""Write a checkpoint of any format as one of this package, of LeRobot or of openpi (PyTorch).

    pi0 checkpoint convert ~/pi05_droid ~/droid --to pi0_ros --robot franka_droid
    pi0 checkpoint convert ~/pi05_droid ~/droid --to pi0_ros --robot franka_droid --dry-run
    pi0 checkpoint convert ~/pi0_base ~/pi0_trossen --to lerobot --asset trossen
    pi0 checkpoint convert runs/my_robot/checkpoint ~/mine --to openpi --dtype bfloat16

Weights pass through tensor by tensor, so a few GiB of memory do for any size. DST appears when it is whole; a
conversion that was stopped leaves nothing behind. `pi0 checkpoint verify SRC DST` compares the two afterwards.
"""

from __future__ import annotations

import argparse
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from pi0_ros.base.printing import labelled, size, value
from pi0_ros.checkpoints.convert import TARGETS, Conversion, plan_conversion
from pi0_ros.checkpoints.formats import FORMATS
from pi0_ros.checkpoints.lerobot import RELEASES
from pi0_ros.checkpoints.own import WEIGHTS
from pi0_ros.checkpoints.robot_file import misfit
from pi0_ros.checkpoints.summary import MODELS, asset_id, assumed
from pi0_ros.cli.checkpoint_options import BASE_HELP, CONFIG_HELP, RELEASE_HELP, describe_for, read_config
from pi0_ros.model.config import DTYPES, ModelConfig
from pi0_ros.robot import load_robot
from pi0_ros.robot.units import SAME
from pi0_ros.tokens.tokenizer import Tokenizer

INDENT = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 checkpoint convert`."""
    parser.add_argument("src", type=Path, metavar="SRC", help="the checkpoint to read, of any format")
    parser.add_argument("dst", type=Path, metavar="DST", help="the folder to write")
    parser.add_argument("--to", required=True, choices=tuple(TARGETS), help="the format to write")
    parser.add_argument("--robot", help="robot file to put into DST; it also tells sizes and statistics, see `info`")
    parser.add_argument("--asset", metavar="ID", help="which of several statistics are the robot's")
    parser.add_argument("--tokenizer", type=Path, metavar="FILE", help="tokenizer to put into DST")
    parser.add_argument("--dtype", choices=DTYPES, help="numbers of the weights (default: those of SRC)")
    parser.add_argument("--config", type=Path, metavar="FILE", help=CONFIG_HELP)
    parser.add_argument("--base", type=Path, metavar="PATH", help=BASE_HELP)
    parser.add_argument("--lerobot-release", choices=RELEASES, help=RELEASE_HELP)
    parser.add_argument("--dry-run", action="store_true", help="check everything and list the files, write nothing")
    parser.add_argument("--overwrite", action="store_true", help="replace the checkpoint that is at DST")


def run(args: argparse.Namespace) -> int:
    """`pi0 checkpoint convert`: 0 when DST is written."""
    robot = load_robot(args.robot) if args.robot else None
    if args.tokenizer is not None:
        Tokenizer.load(args.tokenizer)  # a wrong one is better found now than on the robot
    description = describe_for(args.src, robot, read_config(args.config), args.asset, args.base, args.lerobot_release)
    plan = plan_conversion(
        args.src,
        args.to,
        config=description.config,
        robot=robot,
        asset_id=args.asset or asset_id(description),
        tokenizer=args.tokenizer,
        base=args.base,
        dtype=args.dtype,
        lerobot_release=args.lerobot_release,
    )
    dst = plan.check_target(args.dst, args.overwrite)
    print(f"from    {description.path}: {FORMATS[description.format].title}, {MODELS[description.config.model]}")
    print(f"to      {dst}: {TARGETS[args.to].title}, {size(plan.weights.nbytes)} of weights")
    for name, count in _files(plan):
        print(f"{'':{INDENT}s}{size(count):>9s}  {name}")
    for note in _notes(plan, assumed(description)):
        print("\n".join(labelled("note", note, INDENT)))
    if args.dry_run:
        print("Nothing was written: this was a dry run.")
        return 0
    with tqdm(total=plan.weights.nbytes, unit="B", unit_scale=True, dynamic_ncols=True) as bar:

        def progress(done: int, total: int) -> None:
            bar.update(done - bar.n)

        plan.write(args.dst, progress, args.overwrite)
    paths = shlex.join(map(str, (args.src, args.dst)))
    print(f"Written. Compare the two with: pi0 checkpoint verify {paths}{_options(args, plan)}")
    return 0


def _options(args: argparse.Namespace, plan: Conversion) -> str:
    """What `verify` has to be told, too."""
    told = {"--config": args.config, "--base": args.base, "--lerobot-release": args.lerobot_release}
    if len(plan.description.assets) > 1:
        told["--asset"] = plan.asset_id
    return "".join(f" {option} {shlex.quote(str(content))}" for option, content in told.items() if content)


def _files(plan: Conversion) -> Iterator[tuple[str, int]]:
    """Every file of the target and its size, found by writing the small ones somewhere else."""
    yield WEIGHTS, plan.weights.nbytes
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plan.write_files(folder)
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            yield str(file.relative_to(folder)), file.stat().st_size


def _notes(plan: Conversion, guessed: list[str]) -> Iterator[str]:
    """What the new checkpoint lacks, or says without anybody having said it."""
    description, to = plan.description, plan.to
    if guessed:
        values = ", ".join(f"{key} {value(getattr(description.config, key))}" for key in guessed if "." not in key)
        yield f"no file of it says {values}; these are written: where one is wrong, --robot or --config says better"
    if description.robot is None and to == "pi0_ros":
        yield "no robot file in it: give --robot, or name one whenever it runs (robot:=NAME)"
    if description.norm_stats is None and description.assets:
        known = ", ".join(description.assets)
        lack = "LeRobot has one place for statistics, which stays empty" if to == "lerobot" else "all go along"
        yield f"statistics of {known}: none is chosen, {lack}; --asset or --robot chooses"
    vision, released = description.config.vision, ModelConfig.preset("pi0").vision
    if to != "pi0_ros" and (vision.width, vision.num_heads) != (released.width, released.num_heads):
        heads = f"{{vision: {{num_heads: {vision.num_heads}}}}}"
        yield f"no file of this format tells the heads of this vision tower: read it with --config FILE and {heads}"
    if description.tokenizer_path is None and to != "openpi":
        fetch = "LeRobot fetches it from the gated google/paligemma-3b-pt-224" if to == "lerobot" else "see `info`"
        yield f"no tokenizer in it: {fetch}, or give --tokenizer"
    if description.robot is not None and (reason := misfit(description, description.robot)) is not None:
        yield f"robot file {description.robot.name} does not fit: {reason}"
    if to == "lerobot" and description.config.is_fast and description.settings.prompt_format == "openpi":
        yield "LeRobot writes prompt and actions of pi0-FAST otherwise: it acts well there only after a fine-tune"
    if to == "lerobot" and description.robot is None and description.settings.relative_actions is None:
        yield "no file of it says whether actions are relative to the state: absolute is written; --robot says better"
    joints = description.robot.joints if description.robot is not None and to == "lerobot" else ()
    if turned := [joint.name for joint in joints if (joint.state_scale, joint.action_scale) != (SAME, SAME)]:
        yield f"LeRobot has no `model` of a joint: what drives it must turn or scale {', '.join(turned)} itself"
    if composed := [pose.name for pose in (description.robot.composed if joints and description.robot else ())]:
        yield f"LeRobot composes no poses: what drives it must put that of {', '.join(composed)} on the hand itself"
    if speeds := [joint.name for joint in joints if joint.action == "velocity"]:
        yield f"LeRobot knows no velocities: what drives it must add up those of {', '.join(speeds)} itself"
