"""Play a recording through the deployed policy and say what it would have done.

    pi0 replay bags/episode_000012 --checkpoint runs/my_robot
    pi0 replay bags/episode_000012 --checkpoint runs/old --checkpoint runs/new --html replay.html --png replay.png
    pi0 replay bags/episode_000012 --checkpoint runs/new --json --max-error 0.03 --max-holds 0     # for a CI

Policy and controller run as on the robot, as processes of their own, over DDS, on the recording's clock, in a domain of
their own; only the robot is the recording. It reports, per joint, how far the policy's actions are from what the
operator did, how far neighbouring chunks are from each other, clamps, holds and latency. As the recorded robot does not
follow, errors are those of each prediction from what was seen, not of a closed loop. Exit status 1 when a limit is
exceeded, 2 when it could not be played. It takes as long as the recording.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pi0_ros.base.arguments import fraction, positive, whole
from pi0_ros.base.errors import InputError
from pi0_ros.base.printing import table
from pi0_ros.inference.options import add_policy_arguments
from pi0_ros.inference.prefix import MODES

if TYPE_CHECKING:
    from pi0_ros.monitor.replay import Played, Report, Truth
    from pi0_ros.robot import Robot

OPTIONS = ("device", "dtype", "tokenizer", "seed", "torch_threads", "num_steps")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 replay`."""
    parser.add_argument("bag", type=Path, help="the recording: a bag folder or file")
    parser.add_argument(
        "--checkpoint", type=Path, action="append", required=True, help="the policy; twice: both, side by side"
    )
    parser.add_argument("--robot", help="name or path of the robot file (default: the one in the recording)")
    parser.add_argument("--rate", type=positive, default=1.0, help="seconds of the recording per second (default 1)")
    parser.add_argument(
        "--before", type=positive, default=6.0, help="seconds that the robot stands before it begins (default 6)"
    )
    add_policy_arguments(parser, OPTIONS)
    parser.add_argument(
        "--rtc",
        choices=MODES,
        default="off",
        help="rtc.mode of the policy (default off: each chunk from its observation alone. Otherwise a chunk continues "
        "what was sent, which the recorded robot never did)",
    )
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    parser.add_argument("--html", type=Path, help="write a page with tables and pictures")
    parser.add_argument("--png", type=Path, help="write a picture of all joints over time")
    limits = parser.add_argument_group("limits, for the exit status")
    limits.add_argument("--max-error", type=fraction, help="mean error of all joints, fraction of their ranges")
    limits.add_argument("--max-joint-error", type=fraction, help="the same of the worst joint")
    limits.add_argument("--max-disagreement", type=fraction, help="of neighbouring chunks, fraction of the ranges")
    limits.add_argument("--max-clamps", type=whole, help="commands that the limits changed")
    limits.add_argument("--max-holds", type=whole, help="times that the motion was interrupted")
    limits.add_argument("--max-latency-ms", type=positive, help="from picture to first command, p99")
    parser.add_argument("--log-dir", type=Path, help="folder for the processes' logs (default: a new temporary one)")


def run(args: argparse.Namespace) -> int:
    """`pi0 replay`: 0 within the limits, 1 when one is exceeded."""
    from pi0_ros.bags.conventions import kept_because
    from pi0_ros.bags.reader import Bag
    from pi0_ros.conversion.robots import robot_of_bag
    from pi0_ros.launching.processes import private_domain, ros_environment
    from pi0_ros.monitor.replay import Limits, draw, measure
    from pi0_ros.monitor.replay import table as rows_of
    from pi0_ros.nodes.replay import play, truth_of
    from pi0_ros.view.incidents import incidents_of

    for checkpoint in args.checkpoint:
        if not checkpoint.exists():
            raise InputError(f"--checkpoint {checkpoint}: there is no such checkpoint")
    for file in (args.html, args.png):
        if file is not None and not file.absolute().parent.is_dir():
            raise InputError(f"{file}: there is no folder {file.absolute().parent}")
    robot = robot_of_bag(args.bag, args.robot).recorded
    truth = truth_of(args.bag, robot)
    with Bag(args.bag) as bag:
        marks, reasons = incidents_of(bag), kept_because(bag.info.custom_data)
    incidents = [(mark.at_s, mark.text) for mark in marks]
    kept = [f"kept by the flight recorder: {reason}" for reason in reasons]
    environment = ros_environment(localhost=True, domain_id=private_domain())
    os.environ.update(environment)  # this process plays and listens: it must be in the domain of those it starts
    options = {name: getattr(args, name) for name in OPTIONS}
    played, reports = [], []
    for name, checkpoint in zip(names(args.checkpoint), args.checkpoint, strict=True):
        if not args.json:
            print(f"playing {args.bag} to {checkpoint}", flush=True)
        log_dir = args.log_dir / name.replace("/", "_") if args.log_dir is not None else None
        policy = {**options, "rtc.mode": args.rtc, "checkpoint": str(checkpoint.absolute())}
        found = play(args.bag, robot, policy, environment, log_dir, args.rate, args.before)
        played.append(found)
        reports.append(measure(name, robot, truth, found))
    limits = Limits(
        args.max_error,
        args.max_joint_error,
        args.max_disagreement,
        args.max_clamps,
        args.max_holds,
        args.max_latency_ms,
    )
    exceeded = [sentence for report in reports for sentence in limits.exceeded(report)]
    exceeded += [f"{report.name}: no chunk came during the recording" for report in reports if not report.chunks]
    replays = list(zip(reports, played, strict=True))
    if args.png is not None:
        draw(args.png, robot, truth, replays, [at for at, _ in incidents])
    if args.html is not None:
        write_replay_page(args.html, args.bag, robot, truth, replays, exceeded, incidents, kept)
    if args.json:
        told = [report.to_dict() for report in reports]
        happened = [{"at_s": at, "what": text} for at, text in incidents]
        content = {"bag": str(args.bag), "replays": told, "exceeded": exceeded, "kept": reasons, "incidents": happened}
        print(json.dumps(content, indent=2, ensure_ascii=False))
    else:
        print("\n".join([*table(rows_of(reports)), *kept]))
        print("\n".join(exceeded) if exceeded else "No limit is exceeded.")
    return int(bool(exceeded))


def names(checkpoints: list[Path]) -> list[str]:
    """A short name for each: the end of its path that tells it from the others; `checkpoint` alone tells nothing."""
    least = 2 if any(path.name == "checkpoint" for path in checkpoints) else 1
    for depth in range(least, max(len(path.absolute().parts) for path in checkpoints) + 1):
        short = ["/".join(path.absolute().parts[-depth:]) for path in checkpoints]
        if len(set(short)) == len(short):
            return short
    return [f"{path.name} ({number + 1})" for number, path in enumerate(checkpoints)]


def write_replay_page(
    path: Path,
    bag: Path,
    robot: Robot,
    truth: Truth,
    replays: list[tuple[Report, Played]],
    exceeded: list[str],
    incidents: list[tuple[float, str]],
    kept: list[str],
) -> None:
    """The report as one file."""
    import numpy as np

    from pi0_ros.datasets.html_report import Part, Picture, Table, write_page
    from pi0_ros.monitor.replay import draw
    from pi0_ros.monitor.replay import table as rows_of

    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder) / "joints.png", robot, truth, replays, [at for at, _ in incidents])
        picture = (Path(folder) / "joints.png").read_bytes()
    head, *rows = rows_of([report for report, _ in replays])
    verdict = "; ".join(exceeded) if exceeded else "No limit is exceeded."
    said = (
        "Black: what the operator commanded. Blue: what the controller sent. Orange: every chunk of the policy. Grey: "
        "the controller held or was not running. Dashed red: what the recording was kept for."
    )
    happened = Table(("at s", "in the recording"), [(f"{at:.2f}", text) for at, text in incidents])
    parts = [
        Part("What it would have done", [*kept, *([happened] if incidents else []), verdict, Table(head, rows)]),
        Part("Joints over time", [said, Picture(picture, "joints over time", heading=False)]),
    ]
    for report, _ in replays:
        states = [(f"{max(at, 0.0):.2f}", state, reason) for at, state, reason in report.states]
        steps = [(number + 1, f"{error:.2%}") for number, error in enumerate(report.by_step)]
        told = Table(("at s", "state", "reason"), states or [("0.00", "RUNNING", "all the time")])
        errors = Table(("action", "of range"), steps)
        worst = sorted(report.joints, key=lambda joint: -np.nan_to_num(joint.worst / joint.span, nan=-1.0))
        farthest = Table(
            ("joint", "unit", "farthest off", "of range", "at s"),
            [(j.joint, j.unit, f"{j.worst:.3g}", f"{j.worst / j.span:.1%}", f"{j.worst_at:.2f}") for j in worst],
        )
        content: list[str | Table] = ["Where each joint's action was farthest from the operator:", farthest]
        content += ["The controller:", told, "Mean error of the n-th action of a chunk:", errors]
        parts.append(Part(report.name, content))
    write_page(path, f"Replay of {bag.name}", parts)
