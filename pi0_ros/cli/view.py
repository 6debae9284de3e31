"""Look at a robot that runs, or at a dataset, a recording, an evaluation or a training run, in a browser.

    pi0 view --robot my_robot.yaml       live: cameras, plan, state, buttons
    pi0 view datasets/towels             episodes to scrub: pictures, every joint with its limits, labels, takeovers
    pi0 view bags/monday                 the same of recordings, as they are
    pi0 view eval/                       what `pi0 eval` found: errors by joint, the worst moments
    pi0 view runs/towels                 a training run, also while it runs: curves, first batch, checkpoints

What lies at the path is told by its content. The page is served on this machine only, unless --host says otherwise:
then to all who have the printed address with its token. Nothing is ever changed. Keys on the page: left and right a
frame (with Shift a second), space plays, page up and down choose the episode, ? shows all.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pi0_ros.base.arguments import port
from pi0_ros.base.errors import InputError

if TYPE_CHECKING:
    from pi0_ros.robot import Robot
    from pi0_ros.view.server import Server
    from pi0_ros.view.source import Source

PORT, LIVE_PORT = 8090, 8080
KINDS = ("dataset", "run", "evaluation", "bag")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 view`."""
    parser.add_argument("path", type=Path, nargs="?", help="what to look at (without it: the robot that runs)")
    parser.add_argument(
        "--robot", help="robot file, by name or path: of the live view; else in place of the one that lies there"
    )
    parser.add_argument("--kind", choices=KINDS, help="which is meant, where several lie at the path")
    parser.add_argument("--host", default="127.0.0.1", help="address to serve on (default 127.0.0.1: this machine)")
    parser.add_argument("--port", type=port, help=f"port to serve on (default {PORT}, live {LIVE_PORT}, or the next)")


def run(args: argparse.Namespace) -> int:
    """`pi0 view`: 0 when it was ended."""
    if args.path is None:
        return _live(args)
    from pi0_ros.robot import load_robot

    robot = load_robot(args.robot) if args.robot else None
    source = open_source(args.path, args.kind, robot)
    about = source.about()
    server = _server(source, args.host, args.port)
    with server:
        print(f"{about['kind']} {args.path}: {server.address}  (Ctrl+C ends)", flush=True)
        try:
            server.serve_forever(poll_interval=0.1)
        except KeyboardInterrupt:
            print()
    return 0


def open_source(path: Path, kind: str | None, robot: Robot | None) -> Source:
    """What lies at `path`. Raises `InputError` where nothing is known, or an argument does not belong to it."""
    from pi0_ros.view.kinds import kind_of

    found = kind_of(path, kind)
    if robot is not None and found in ("run", "evaluation"):
        raise InputError(f"--robot: {path} is no dataset or recording: its file says the joints")
    if found == "dataset":
        from pi0_ros.view.dataset_source import DatasetSource

        return DatasetSource(path, robot)
    if found == "bag":
        from pi0_ros.view.bag_source import BagSource

        return BagSource(path, robot)
    if found == "run":
        from pi0_ros.view.run_source import RunSource

        return RunSource(path)
    from pi0_ros.view.eval_source import EvalSource

    return EvalSource(path)


def _server(source: Source, host: str, wanted: int | None) -> Server:
    """On the wanted port, or on the first free one of ours."""
    from pi0_ros.view.server import Server

    if wanted is not None:
        return Server(source, host, wanted)
    for number in range(PORT, PORT + 20):
        try:
            return Server(source, host, number)
        except InputError as error:
            failed = error
    raise failed


def _live(args: argparse.Namespace) -> int:
    if not args.robot:
        raise InputError("nothing to look at: give a path, or --robot for the robot that runs")
    if args.kind:
        raise InputError("--kind says what lies at a path: give one")
    from pi0_ros.launching.launches import ros_arguments
    from pi0_ros.nodes.viewer_node import main
    from pi0_ros.robot import load_robot

    load_robot(args.robot)
    parameters = {"robot": args.robot, "host": args.host, "port": args.port or LIVE_PORT}
    return main(["pi0", *ros_arguments(parameters)])  # a node reads the program first
