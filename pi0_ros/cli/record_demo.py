"""Record scripted demonstrations of the simulated arm as rosbags.

In one process and as fast as the processor goes, with the same messages as through topics. With --over-topics the
demonstrator plays the teleoperator on the robot's own topics and the recorder records them, as with a real arm. With
--takeover a policy drives first, gets itself into whatever it gets into, and the demonstrator takes over: what is
recorded shows the way back. An interrupted run goes on where it stopped.

    pi0 record-demo runs/demo/bags --episodes 1000 --workers 2
    pi0 record-demo runs/demo/takeovers --episodes 500 --takeover runs/demo/first/checkpoint --seed 150000
    pi0 record-demo /tmp/bags --episodes 3 --seed 7 --over-topics
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pi0_ros.base.arguments import count, positive, span, whole
from pi0_ros.base.errors import InputError
from pi0_ros.base.workers import end_with_parent
from pi0_ros.sim.plans import KINDS, LATENCY_S

if TYPE_CHECKING:
    from rclpy.executors import Executor

    from pi0_ros.nodes.demonstrator_node import DemonstratorNode
    from pi0_ros.nodes.recorder import Recorder
    from pi0_ros.nodes.sim_client import SimClient


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 record-demo`."""
    parser.add_argument("out", type=Path, help="folder for the bags, one per episode")
    parser.add_argument("--episodes", type=count, default=500, help="bags the folder shall hold (default 500)")
    parser.add_argument("--seed", type=whole, default=100_000, help="seed of the first episode (default 100000)")
    parser.add_argument("--kind", choices=tuple(KINDS), help="what all of them begin with (default: a mixture)")
    parser.add_argument("--takeover", type=Path, metavar="CHECKPOINT", help="policy that drives before")
    parser.add_argument(
        "--latency",
        type=span,
        metavar="LEAST:MOST",
        help=f"s, its mean latency is drawn from these (default {LATENCY_S[0]:g}:{LATENCY_S[1]:g})",
    )
    parser.add_argument("--workers", type=count, default=1, help="processes (default 1)")
    parser.add_argument("--over-topics", action="store_true", help="simulator, demonstrator and recorder over DDS")
    parser.add_argument("--speed", type=positive, default=50.0, help="over topics: most simulated seconds per second")


def run(args: argparse.Namespace) -> int:
    """`pi0 record-demo`: 0 when the folder holds the episodes."""
    if args.latency and not args.takeover:
        raise InputError("--latency is that of the policy of --takeover, which is not given")
    if args.over_topics:
        if args.takeover or args.kind not in (None, "fresh", "missed") or args.workers > 1:
            raise InputError("--over-topics: records fresh scenes or, with --kind missed, hands that missed, alone")
        failures = _over_topics(args)
    else:
        failures = _in_process(args)
    print(
        f"{args.episodes} episodes in {args.out}" + (f", {failures} of this run failed, marked so" if failures else "")
    )
    return 0


def _in_process(args: argparse.Namespace) -> int:
    """Record what is missing; returns how many failed."""
    from tqdm import tqdm

    if args.takeover and not (args.takeover / "config.json").is_file():
        raise InputError(f"--takeover {args.takeover}: no checkpoint there")
    for left in args.out.glob("episode_*.partial"):  # of a run that was killed
        raise InputError(f"{left}: left by another run that was killed or is still at work; remove it")
    jobs = [
        (args.out / f"episode_{number:06d}", args.seed + number, args.kind, args.takeover, args.latency or LATENCY_S)
        for number in range(args.episodes)
    ]
    jobs = [job for job in jobs if not job[0].exists()]
    failures = 0
    with tqdm(total=args.episodes, initial=args.episodes - len(jobs), unit="episode") as bar:
        if args.workers == 1:
            for job in jobs:
                failures += not _record_one(*job)
                bar.update()
        else:
            pool = ProcessPoolExecutor(args.workers, multiprocessing.get_context("spawn"), end_with_parent)
            try:
                for done in as_completed([pool.submit(_record_one, *job) for job in jobs]):
                    failures += not done.result()
                    bar.update()
            finally:
                pool.shutdown(cancel_futures=True)
    return failures


@cache
def _world() -> Any:
    from pi0_ros.sim.world import World

    return World()


@cache
def _policy(checkpoint: Path) -> Any:
    from pi0_ros.inference.options import PolicyOptions
    from pi0_ros.policy.policy import load_policy

    return load_policy(PolicyOptions(checkpoint=str(checkpoint), device="cpu", torch_threads=1))


def _record_one(path: Path, seed: int, kind: str | None, takeover: Path | None, latency_s: tuple[float, float]) -> bool:
    """Record the episode of `seed` as the bag `path`; True where it succeeded."""
    from pi0_ros.nodes.simulated_episodes import write_episode
    from pi0_ros.sim.plans import plan
    from pi0_ros.sim.sessions import demonstrate

    driver = _policy(takeover) if takeover else None
    session = demonstrate(_world(), plan(seed, kind), driver, latency_s=latency_s)
    return write_episode(session, path, {"takeover": str(takeover.name)} if takeover else {}, took_over=bool(takeover))


def _over_topics(args: argparse.Namespace) -> int:
    """Record what is missing through topics; returns how many failed."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.node import Node
    from rclpy.parameter import Parameter
    from tqdm import tqdm

    from pi0_ros.launching.processes import (
        ProcessGroup,
        interrupted_by_signals,
        private_domain,
        ros_environment,
    )
    from pi0_ros.nodes.demonstrator_node import DemonstratorNode
    from pi0_ros.nodes.recorder import Recorder
    from pi0_ros.nodes.ros import start_ros
    from pi0_ros.nodes.sim_client import SimClient, spin_until
    from pi0_ros.robot import load_robot

    environment = ros_environment(localhost=True, domain_id=private_domain())
    os.environ.update(environment)
    with interrupted_by_signals(), ProcessGroup() as group:
        options = [f"speed:={args.speed}", "clock:=true", "lockstep:=true"]
        flags = [word for option in options for word in ("-p", option)]
        group.start("sim", [sys.executable, "-m", "pi0_ros.nodes.sim_node", "--ros-args", *flags], env=environment)
        start_ros()
        executor = SingleThreadedExecutor()
        demonstrator = DemonstratorNode()
        desk = Node("record_demo", parameter_overrides=[Parameter("use_sim_time", value=True)])
        executor.add_node(demonstrator)
        executor.add_node(desk)
        recorder, sim = Recorder(desk, load_robot("demo_arm"), args.out), SimClient(desk, executor)
        done = len(list(args.out.glob("episode_*[0-9]"))) if args.out.is_dir() else 0
        failures = 0
        try:
            if not spin_until(executor, lambda: not recorder.missing(), 60.0):
                raise TimeoutError(f"no publisher of {', '.join(recorder.missing())}\n{group.tail('sim')}")
            for number in tqdm(range(done, args.episodes), initial=done, total=args.episodes, unit="episode"):
                failures += not record(args.seed + number, args.kind or "fresh", executor, sim, demonstrator, recorder)
        finally:
            recorder.close()
            executor.shutdown()
            desk.destroy_node()
            demonstrator.destroy_node()
            rclpy.try_shutdown()
    return failures


def record(
    seed: int, kind: str, executor: Executor, sim: SimClient, demonstrator: DemonstratorNode, recorder: Recorder
) -> bool:
    """Record one episode; True when the named cube ended in the tray."""
    from pi0_ros.nodes.sim_client import spin_until
    from pi0_ros.sim.plans import EPISODE_LIMIT_S, HOMEWARD_LIMIT_S, plan

    what = plan(seed, kind)
    sim.reset(seed, what.disturbance, what.start)
    # Joint states of the new scene only: those of the last one may still be on their way.
    demonstrator.joints = None
    spin_until(executor, lambda: demonstrator.joints is not None and sim.seconds > 0.05, 10.0)
    recorder.start(what.text, {"seed": str(seed)})
    demonstrator.begin(what.colour, what.first_aim)
    spin_until(executor, lambda: sim.holds(what.colour) or sim.seconds > EPISODE_LIMIT_S, 120.0)
    success, end = sim.holds(what.colour), sim.seconds + HOMEWARD_LIMIT_S
    # To the end at home and at rest: a chunk that reaches beyond a recording repeats its last command.
    spin_until(executor, lambda: demonstrator.still or sim.seconds >= end, 60.0)
    end = sim.seconds + what.rest_s
    spin_until(executor, lambda: sim.seconds >= end, 60.0)
    demonstrator.rest()
    recorder.stop("success" if success else "failure")
    return success
