"""compare predicted with recorded actions on held-out episodes

    pi0 eval --checkpoint runs/demo/checkpoint datasets/demo        the episodes that training held out
    pi0 eval --checkpoint runs/demo/checkpoint bags/monday          all of these rosbags
    pi0 eval --checkpoint runs/demo/checkpoint datasets/demo --episodes 0,7 --out eval/

Prints a table of errors per joint and writes error.json, actions.png, and the worst moments for `pi0 view`. "of
holding" compares with a policy that does not move at all: below 100 % the policy knows something. All this measures
imitation; success only the robot can tell.
"""

from __future__ import annotations

import argparse
import json
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from pi0_ros.base.arguments import count
from pi0_ros.base.errors import InputError
from pi0_ros.checkpoints.checkpoint import Checkpoint, load_checkpoint
from pi0_ros.cli.dataset_options import add_map_argument
from pi0_ros.conversion.convert import convert
from pi0_ros.datasets.dataset import Dataset, parse_names
from pi0_ros.inference.options import add_policy_arguments
from pi0_ros.policy.policy import pick_device
from pi0_ros.robot import load_robot
from pi0_ros.training.evaluation import BATCH, errors, held_out_episodes, plot_actions, predict, render_table
from pi0_ros.training.loader import TrainingData, load_data
from pi0_ros.training.moments import write_moments


def open_data(
    sources: Sequence[Path], checkpoint: Checkpoint, scratch: Path, names: Mapping[str, str] | None = None
) -> TrainingData:
    """A dataset folder, or rosbags that are converted into `scratch` with the checkpoint's own robot file.

    Columns, cameras and joints of a dataset are found by the names of that robot file, or by `names` (theirs -> ours).
    """
    robot, size = checkpoint.spec.robot, checkpoint.spec.config.vision.image_size
    labels = checkpoint.training.get("recipe", {}).get("prompts") == "subtask"
    if len(sources) == 1 and (sources[0] / "meta" / "info.json").is_file():
        data = load_data(Dataset(sources[0], robot, names), size, labels)
    else:
        print(convert(sources, scratch / "dataset", robot, fps=checkpoint.spec.fps).summary(kept=False))
        data = load_data(scratch / "dataset", size, labels)
    widths, joints = (data.state.shape[1], data.action.shape[1]), (len(robot.state_names), len(robot.action_names))
    if widths != joints or set(data.frames) != {camera.name for camera in robot.cameras}:
        raise InputError(f"{sources[0]}: joints or cameras are not those of the checkpoint's robot '{robot.name}'")
    if data.fps != checkpoint.spec.fps:
        raise InputError(f"{sources[0]}: {data.fps:g} frames/s, the checkpoint was trained at {checkpoint.spec.fps:g}")
    return data


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 eval`."""
    parser.add_argument("source", type=Path, nargs="+", help="a LeRobot dataset, or rosbags or folders of them")
    add_map_argument(parser)
    add_policy_arguments(parser, ("checkpoint", "device", "dtype", "tokenizer", "seed"))
    parser.add_argument("--robot", help="robot file, by name or path; needed where the checkpoint carries none")
    parser.add_argument("--episodes", help="episode numbers, such as 0,3,8, or `all` (default: those held out)")
    parser.add_argument("--stride", type=count, help="frames between two predictions (default: half a chunk)")
    parser.add_argument("--out", type=Path, default=Path("eval"), help="folder for the results (default: eval)")


def run(args: argparse.Namespace) -> int:
    """`pi0 eval`."""
    checkpoint = load_checkpoint(
        args.checkpoint,
        device=pick_device(args.device),
        robot=load_robot(args.robot) if args.robot else None,
        tokenizer=args.tokenizer,
        dtype=args.dtype,
    )
    joints = [(joint.name, joint.unit) for joint in checkpoint.spec.robot.action_joints]
    with tempfile.TemporaryDirectory() as scratch:
        data = open_data(args.source, checkpoint, Path(scratch), parse_names(args.map))
        if args.episodes == "all":
            episodes = list(range(len(data.prompts)))
        elif args.episodes:
            episodes = [int(number) for number in args.episodes.split(",")]
        else:
            episodes = held_out_episodes(checkpoint, data)
        if unknown := [i for i in episodes if not 0 <= i < len(data.prompts)]:
            raise InputError(f"no episode {unknown}: there are {len(data.prompts)}, counted from 0")
        stride = args.stride or max(1, checkpoint.spec.config.action_horizon // 2)
        predictions = predict(checkpoint, data, episodes, stride, args.seed)
        table = errors(predictions, joints)
        args.out.mkdir(parents=True, exist_ok=True)
        plot_actions(predictions, data, episodes[0], joints, args.out / "actions.png")
        moments = write_moments(args.out, predictions, data, checkpoint.spec.robot)
    result = {
        "checkpoint": Path(args.checkpoint).name,
        "episodes": episodes,
        "chunks": len(predictions.rows),
        "errors": table,
    }
    (args.out / "error.json").write_text(json.dumps(result, indent=2) + "\n")
    count, speed = len(predictions.rows), 1000 * predictions.seconds / len(predictions.rows)
    print(f"{count} chunks from {len(episodes)} episodes, {speed:.1f} ms each in batches of {BATCH}")
    print(render_table(table))
    print(f"written: {args.out / 'error.json'}, {args.out / 'actions.png'}, {moments}")
    print(f"look at it: pi0 view {shlex.quote(str(args.out))}")
    return 0
