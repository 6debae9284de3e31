"""Turn rosbags into a LeRobotDataset.

    pi0 convert bags/ dataset/ --robot demo_arm              every bag below bags/
    pi0 convert ep1 ep2 dataset/ --robot my_robot.yaml --task "fold the towel"
    pi0 convert bags/ dataset/ --robot my_robot --dry-run    read and report, write nothing
    pi0 convert bags/ dataset/ --robot my_robot --append     add the bags that are not in it yet
    pi0 convert --explain bags/ep1 --robot my_robot          what becomes of one bag and why, also as a page

One bag is one episode, unless marks in it or an annotation file say otherwise (docs/data.md). A stream that pauses for
longer than its maximum age splits the episode (or rejects the bag, `--gaps reject`): frames are neither invented nor
dropped from the middle. What is marked as failed is skipped (`--include-failed` takes it). Finished bags wait in
OUT.partial; a conversion that was stopped goes on from there when the same command is given again, and the dataset
appears under its name only when it is whole.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

from pi0_ros.bags.conventions import PROMPT_TOPIC, SUBTASK_TOPIC
from pi0_ros.bags.reader import find_bags
from pi0_ros.base.arguments import count, not_negative
from pi0_ros.base.errors import InputError
from pi0_ros.conversion.annotations import read_annotations
from pi0_ros.conversion.clocks import WAYS
from pi0_ros.conversion.convert import FORMATS, convert
from pi0_ros.conversion.explain import explain, lines, write_explanation
from pi0_ros.conversion.jobs import Engine, run_here
from pi0_ros.conversion.options import Options
from pi0_ros.conversion.ray_engine import run_on_ray
from pi0_ros.conversion.robots import robot_of_all
from pi0_ros.conversion.timing import camera_fps
from pi0_ros.datasets.draw import draw_some
from pi0_ros.datasets.video import CODECS
from pi0_ros.robot import load_robot

ENGINES = ("local", "ray")


def stamp_way(text: str) -> tuple[str, str]:
    """A `--stamp` argument, TOPIC=WAY."""
    topic, _, way = text.rpartition("=")
    if not topic or way not in WAYS:
        raise argparse.ArgumentTypeError(f"{text!r}: expected TOPIC=WAY, the way one of {', '.join(WAYS)}")
    return topic, way


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text!r}: expected WIDTHxHEIGHT, such as 640x480")
    return int(height), int(width)


def _fps(text: str) -> int | str:
    if text != "auto" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number or auto")
    return text if text == "auto" else int(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `pi0 convert`."""
    parser.add_argument(
        "paths",
        nargs="*",
        type=Path,
        metavar="BAGS ... OUT",
        help="bags or folders of bags, then the dataset's new folder",
    )
    parser.add_argument(
        "--explain",
        type=Path,
        metavar="BAG",
        help="say of one bag what becomes of it and why, with a page",
    )
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="where --explain writes it (default: BAG_explained.html)"
    )
    parser.add_argument("--robot", help="name or path of the robot file (default: the one in the recordings)")
    parser.add_argument(
        "--fps",
        type=_fps,
        help="frames per second, or auto: the slowest camera's (default: the robot file's dataset_fps)",
    )
    parser.add_argument("--codec", choices=sorted(CODECS), default="h264", help="video codec (default: %(default)s)")
    parser.add_argument(
        "--stamp",
        type=stamp_way,
        action="append",
        default=[],
        metavar="TOPIC=WAY",
        help=f"whose time counts, {' or '.join(WAYS)}: overrules the robot file's `stamp`",
    )
    parser.add_argument(
        "--resize", type=_size, metavar="WxH", help="fit all pictures into this size, black bars where they differ"
    )
    add_episode_arguments(parser)
    parser.add_argument(
        "--workers", type=count, help="bags converted at the same time (default: 1; with Ray, all CPUs)"
    )
    parser.add_argument(
        "--engine", choices=ENGINES, default="local", help="where: on this machine or a Ray cluster (default: local)"
    )
    parser.add_argument("--ray-address", metavar="HOST:PORT", help="the cluster (default: one started on this machine)")
    parser.add_argument(
        "--format", choices=FORMATS, default="v3.0", help="LeRobotDataset format; openpi reads v2.1 (default: v3.0)"
    )
    exclusive = parser.add_mutually_exclusive_group()
    exclusive.add_argument("--append", action="store_true", help="add the bags that are not yet in the dataset OUT")
    exclusive.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    parser.add_argument("--dry-run", action="store_true", help="read and report, write nothing")
    parser.add_argument(
        "--plots", type=Path, metavar="DIR", help="then draw the dataset there, as `pi0 dataset plot --html` does"
    )


def run(args: argparse.Namespace) -> int:
    """Convert and print the summary; exit status 1 when a dry run finds bags that would be rejected, 0 otherwise."""
    options = options_of(args)
    if args.explain:
        return _explain(args, options)
    if args.page:
        raise InputError("--page is where --explain writes its page: give --explain BAG, too")
    if len(args.paths) < 2:
        given = f"{args.paths[0]}: one path alone" if args.paths else "no path"
        raise InputError(f"{given}; write the bags, and behind them the dataset's new folder: pi0 convert BAGS OUT")
    bags, out = args.paths[:-1], args.paths[-1]
    if args.engine == "ray":
        engine: Engine = partial(run_on_ray, tasks=args.workers, address=args.ray_address)
    else:
        engine = partial(run_here, workers=args.workers or 1, progress=True)
    report = convert(
        bags,
        out,
        load_robot(args.robot) if args.robot else robot_of_all(find_bags(bags)),
        options,
        fps=args.fps,
        engine=engine,
        format=args.format,
        dry_run=args.dry_run,
        overwrite=args.overwrite,
        append=args.append,
        progress=True,
    )
    print(report.summary())
    if args.plots and report.out:
        print(f"page: {draw_some(report.out, args.plots)}")
    return int(args.dry_run and any(bag.status == "rejected" for bag in report.bags))


def _explain(args: argparse.Namespace, options: Options) -> int:
    """`pi0 convert --explain BAG`; 1 where the bag would be rejected."""
    if args.paths:
        raise InputError("--explain is about one bag and writes no dataset: leave out the other paths")
    writing = {"append": args.append, "overwrite": args.overwrite, "dry-run": args.dry_run, "plots": args.plots}
    writing |= {"workers": args.workers, "ray-address": args.ray_address, "engine": args.engine != "local"}
    if unused := [f"--{name}" for name, value in writing.items() if value]:
        raise InputError(f"--explain writes no dataset: leave out {', '.join(unused)}")
    (bag,) = found if len(found := find_bags([args.explain])) == 1 else [None]
    if bag is None:
        raise InputError(f"{args.explain}: holds {len(found)} bags; --explain is about one")
    robot = load_robot(args.robot) if args.robot else robot_of_all([bag])
    fps = camera_fps([bag], robot) if args.fps == "auto" else args.fps
    explanation = explain(bag, replace(robot, dataset_fps=float(fps)) if fps else robot, options)
    print("\n".join(lines(explanation)))
    whole = bag.resolve()
    page = args.page or Path.cwd() / f"{whole.name}_explained.html"
    write_explanation(explanation, page)
    print(f"page: {page}")
    return int(explanation.report.status == "rejected")


def add_episode_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say what an episode is."""
    group = parser.add_argument_group("episodes", "where they begin and end, what they are called (docs/data.md)")
    group.add_argument("--task", help="prompt of all episodes, overruling what was recorded")
    group.add_argument("--annotations", type=Path, metavar="FILE", help="CSV or YAML: bag, start, end, prompt, success")
    group.add_argument("--start-topic", default="", metavar="TOPIC", help="a message or service call begins an episode")
    group.add_argument("--stop-topic", default="", metavar="TOPIC", help="a message or service call ends it")
    group.add_argument("--discard-topic", default="", metavar="TOPIC", help="a message or service call discards it")
    group.add_argument("--prompt-topic", default=PROMPT_TOPIC, metavar="TOPIC", help="String (default: %(default)s)")
    group.add_argument("--subtask-topic", default=SUBTASK_TOPIC, metavar="TOPIC", help="String (default: %(default)s)")
    group.add_argument(
        "--gaps", choices=("split", "reject"), default="split", help="at a gap, split or reject (default: %(default)s)"
    )
    group.add_argument(
        "--damaged",
        choices=("salvage", "reject"),
        default="salvage",
        help="of bags that lost messages, take what is left or nothing (default: %(default)s)",
    )
    group.add_argument(
        "--min-length",
        type=not_negative,
        default=1.0,
        metavar="S",
        help="shortest episode in seconds (default: %(default)s)",
    )
    group.add_argument(
        "--keep-partial",
        action="store_true",
        help="also episodes whose begin or end is not in every stream (otherwise rejected)",
    )
    group.add_argument(
        "--content",
        choices=("reject", "accept"),
        default="reject",
        help="bags with a camera that is black or frozen throughout, or without any motion (default: %(default)s)",
    )
    group.add_argument(
        "--corrections",
        action="store_true",
        help="only what a person led who took over from the policy, each time an episode (docs/takeover.md)",
    )
    group.add_argument(
        "--before",
        type=not_negative,
        metavar="S",
        help="with --corrections: seconds before each takeover that go with it (default: 0)",
    )
    group.add_argument("--include-failed", action="store_true", help="also failed and unfinished ones, never discarded")


def options_of(args: argparse.Namespace) -> Options:
    """The options of a parsed command line. Raises `AnnotationError`."""
    if args.before is not None and not args.corrections:
        raise InputError("--before is the time before each takeover: give --corrections, too")
    return Options(
        task=args.task,
        codec=args.codec,
        gaps=args.gaps,
        min_length_s=args.min_length,
        include_failed=args.include_failed,
        damaged=args.damaged,
        prompt_topic=args.prompt_topic,
        subtask_topic=args.subtask_topic,
        start_topic=args.start_topic,
        stop_topic=args.stop_topic,
        discard_topic=args.discard_topic,
        annotations=read_annotations(args.annotations) if args.annotations else (),
        stamps=tuple(args.stamp),
        keep_partial=args.keep_partial,
        content=args.content,
        resize=args.resize,
        corrections=args.corrections,
        before_s=args.before or 0.0,
    )
