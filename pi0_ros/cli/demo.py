"""Run the simulated arm with its trained policy and score it.

Simulator, policy and controller are processes of their own and talk over ROS topics, exactly as with a real arm; this
command only lays out scenes, gives prompts, arms the controller and keeps the score.

    pi0 demo                                        # ten random scenes, browser view, table at the end
    pi0 demo --episodes 50 --seed 1000 --headless
    pi0 demo --prompt "put the blue cube in the tray" --episodes 3
    pi0 demo --instructions 3                       # three cubes, one instruction after the other
    pi0 demo --backend zmq                          # the model in a server process, over ZeroMQ
    pi0 demo --backend zmq --added-latency 0.3      # and far away
    pi0 demo --corrections 50 --out corrections/bags --seed 150000     # a scripted person takes over; recorded
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pi0_ros.base.arguments import count, fraction, port, positive, whole
from pi0_ros.base.errors import InputError
from pi0_ros.launching import launches
from pi0_ros.launching.lookups import look_up

if TYPE_CHECKING:
    from rclpy.executors import Executor

    from pi0_ros.launching.processes import ProcessGroup
    from pi0_ros.nodes.stage import Stage

FIRST = ("server", "policy", "sim")  # their delays are seen at once
NICENESS = -10
VIEW_S = 20.0  # within which the view says its address
CHECKPOINT = Path(__file__).parents[1] / "sim" / "checkpoint"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 demo`."""
    parser.add_argument("--episodes", type=count, default=10, help="number of scenes (default 10)")
    parser.add_argument(
        "--seed", type=whole, default=0, help="seed of the first scene (default 0; training: from 100000)"
    )
    parser.add_argument(
        "--instructions",
        type=count,
        default=1,
        help="per scene, one after the other: 2 or 3 name another cube as soon as one is in the tray (default 1)",
    )
    parser.add_argument("--headless", action="store_true", help="without the browser view")
    parser.add_argument("--prompt", help="the same instruction in every scene (default: a random colour and wording)")
    parser.add_argument("--backend", choices=("local", "zmq"), default="local", help="zmq: behind `pi0 serve`")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help="policy to run (default: the shipped one)")
    parser.add_argument(
        "--corrections",
        type=count,
        metavar="N",
        help="instead of scoring: record N scenes in which a scripted person takes over from the policy",
    )
    parser.add_argument("--out", type=Path, help="folder for their bags, with --corrections")
    parser.add_argument("--limit", type=positive, default=20.0, help="seconds per scene (default 20)")
    parser.add_argument(
        "--require", type=fraction, default=0.5, help="successes for exit status 0, as a fraction (default 0.5)"
    )
    parser.add_argument("--port", type=port, default=5599, help="loopback port of the server with --backend zmq")
    parser.add_argument(
        "--added-latency",
        type=positive,
        metavar="S",
        help="seconds on the way to the server and back, half of it each, as if it were far away; with --backend zmq",
    )
    parser.add_argument("--log-dir", type=Path, help="folder for the processes' logs (default: a new temporary one)")


def run(args: argparse.Namespace) -> int:
    """`pi0 demo`: 0 when enough scenes succeeded, 1 when not, 2 when it could not run."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    from pi0_ros.launching.processes import (
        ProcessGroup,
        interrupted_by_signals,
        private_domain,
        ros_environment,
    )
    from pi0_ros.nodes.ros import start_ros
    from pi0_ros.nodes.stage import Stage, summary
    from pi0_ros.sim.slow_line import SlowLine
    from pi0_ros.sim.task import named_colour

    if (args.corrections is None) != (args.out is None):
        raise InputError("--corrections N records takeovers into the folder --out: give both or neither")
    if args.corrections and (args.prompt or args.instructions > 1):
        raise InputError("--corrections: scenes have their own instructions: leave out --prompt and --instructions")
    if args.added_latency and args.backend != "zmq":
        raise InputError("--added-latency is that of the way to a server: add --backend zmq")
    if args.prompt and named_colour(args.prompt) is None:
        raise InputError(f"--prompt {args.prompt!r}: name exactly one of the cubes red, green, blue")
    if args.instructions > 3 or (args.prompt and args.instructions > 1):
        raise InputError("--instructions: 1 to 3, and 1 with --prompt")
    if not (args.checkpoint / "config.json").is_file():
        raise InputError(f"{args.checkpoint}: no checkpoint there; train one with `make train-demo`")
    line = SlowLine(args.port, args.added_latency / 2) if args.added_latency else None
    environment = ros_environment(localhost=True, domain_id=private_domain())
    environment.setdefault("OMP_NUM_THREADS", "1")  # fastest for a small policy
    os.environ.update(environment)
    with interrupted_by_signals(), ProcessGroup(args.log_dir) as group:
        start(group, args, environment, line.port if line is not None else args.port)
        start_ros()
        executor = SingleThreadedExecutor()
        stage = Stage(executor, group, attended=not args.headless)
        try:
            stage.wait_until_ready()
            if not args.headless:
                print(_view_address(group), flush=True)
            if args.corrections:
                return _correct(args, executor, stage)
            episodes = []
            for number in range(args.episodes):
                played = stage.play(args.seed + number, args.prompt, args.limit, args.instructions)
                print("\n".join(episode.line() for episode in played), flush=True)
                episodes += played
            print(summary(episodes, stage.policy, stage.controller))
        finally:
            stage.close()
            executor.shutdown()
            rclpy.try_shutdown()
            if line is not None:
                line.close()
    return 0 if sum(episode.success for episode in episodes) >= args.require * len(episodes) else 1


def _view_address(group: ProcessGroup) -> str:
    """What the viewer says of its page: of the processes it may be the last that is ready."""
    end = time.monotonic() + VIEW_S
    while group.is_running("viewer") and time.monotonic() < end:
        if lines := [line for line in group.output("viewer").splitlines() if "http" in line]:
            return lines[-1]
        time.sleep(0.1)
    return f"browser view: see {group.log_dir}/viewer.log"


def _correct(args: argparse.Namespace, executor: Executor, stage: Stage) -> int:
    """Record the corrections; 1 where less than `--require` of them ended in success."""
    from rclpy.node import Node

    from pi0_ros.nodes.correcting import Correcting
    from pi0_ros.nodes.demonstrator_node import DemonstratorNode
    from pi0_ros.nodes.recorder import Recorder
    from pi0_ros.robot import load_robot

    demonstrator, desk = DemonstratorNode(corrects=True), Node("corrections")
    executor.add_node(demonstrator)
    executor.add_node(desk)
    recorder = Recorder(desk, load_robot("demo_arm"), args.out)
    scenes = []
    try:
        for scene in Correcting(stage, demonstrator, recorder).play(args.seed, args.corrections):
            print(scene.line(), flush=True)
            scenes.append(scene)
    finally:
        recorder.close()
        desk.destroy_node()
        demonstrator.destroy_node()
    kept = [scene for scene in scenes if scene.took_over]
    well = sum(scene.success for scene in kept)
    alone = len(scenes) - len(kept)
    print(f"{len(kept)} corrections in {args.out}, {well} ended in success; the policy needed none in {alone} scenes")
    print(f"next: pi0 convert {args.out} DATASET --robot demo_arm --corrections")
    return 0 if well >= args.require * len(kept) else 1


def start(group: ProcessGroup, args: argparse.Namespace, environment: Mapping[str, str], port: int) -> None:
    """Start the processes of the `demo` launch file and, with --backend zmq, the model server, heard at `port`."""
    given = {"checkpoint": str(args.checkpoint), "auto_arm": "false", "view": str(not args.headless).lower()}
    address = f"tcp://127.0.0.1:{args.port}"
    if args.backend == "zmq":
        given |= {"backend": "zmq", "server": f"tcp://127.0.0.1:{port}", "checkpoint": launches.EMPTY}
    commands = launches.resolve(launches.find("demo"), given)
    look_up(commands)
    if args.backend == "zmq":
        server = ["serve", "--checkpoint", str(args.checkpoint), "--bind", address]
        group.start("server", [sys.executable, "-m", "pi0_ros.cli.main", *server], env=environment)
    for command in commands:
        group.start(command.name, command.argv(), env=environment)
    print(f"processes: {', '.join(group.names())}; logs in {group.log_dir}", flush=True)
    if problem := prefer({name: group.pid(name) for name in FIRST if name in group.names()}):
        print(problem, flush=True)


def prefer(pids: Mapping[str, int]) -> str:
    """Let these processes go before other work on this machine; where it does not allow that, the problem."""
    try:
        for pid in pids.values():  # before they start threads, which inherit it
            os.setpriority(os.PRIO_PROCESS, pid, NICENESS)
            prefer_session(pid)
    except OSError as error:
        delayed = f"other work may delay the {' and the '.join(pids)}"
        return f"{delayed}: only root may start them with niceness {NICENESS} ({error.strerror})"
    return ""


def prefer_session(pid: int) -> None:
    """Let the session of `pid` go before others where Linux shares the processor among sessions first.

    There (autogroups) niceness alone counts within a session only, and each of the demo's processes has its own.
    """
    group = Path(f"/proc/{pid}/autogroup")
    if group.exists() and os.getsid(pid) == pid:
        group.write_text(str(NICENESS))
