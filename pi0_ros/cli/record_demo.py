"""Record scripted demonstrations of the simulated arm as rosbags.

The demonstrator plays the teleoperator on the robot's own topics and the recorder records them, as with a real arm.
An interrupted run goes on where it stopped.

    pi0 record-demo runs/demo/bags --episodes 500
    pi0 record-demo runs/demo/bags --episodes 700 --mishaps     # 200 more, to recover from missed grasps
    pi0 record-demo /tmp/bags --episodes 3 --seed 7
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pi0_ros.base.arguments import count, positive, whole

if TYPE_CHECKING:
    from rclpy.executors import Executor

    from pi0_ros.nodes.demonstrator_node import DemonstratorNode
    from pi0_ros.nodes.recorder import Recorder
    from pi0_ros.nodes.sim_client import SimClient

DISTURBANCES = (0.0, 0.03, 0.05)  # rad; wandering joint errors teach the policy to mend its aim
FIRST_AIM = 0.02  # m, standard deviation of the first aim beside the cube
EPISODE_LIMIT_S = 15.0  # simulated
AFTER_SUCCESS_S = 0.8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 record-demo`."""
    parser.add_argument("out", type=Path, help="folder for the bags, one per episode")
    parser.add_argument("--episodes", type=count, default=500, help="bags the folder shall hold (default 500)")
    parser.add_argument("--seed", type=whole, default=100_000, help="seed of the first episode (default 100000)")
    parser.add_argument("--mishaps", action="store_true", help="start beside a cube, as after a grasp that missed")
    parser.add_argument("--speed", type=positive, default=50.0, help="most simulated seconds per second (default 50)")


def run(args: argparse.Namespace) -> int:
    """`pi0 record-demo`: 0 when the folder holds the episodes."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.node import Node
    from rclpy.parameter import Parameter
    from tqdm import tqdm

    from pi0_ros.launching.processes import ProcessGroup, private_domain, ros_environment
    from pi0_ros.nodes.demonstrator_node import DemonstratorNode
    from pi0_ros.nodes.recorder import Recorder
    from pi0_ros.nodes.sim_client import SimClient, spin_until
    from pi0_ros.robot import load_robot

    environment = ros_environment(localhost=True, domain_id=private_domain())
    os.environ.update(environment)
    with ProcessGroup() as group:
        options = [f"speed:={args.speed}", "clock:=true", "lockstep:=true"]
        flags = [word for option in options for word in ("-p", option)]
        group.start("sim", [sys.executable, "-m", "pi0_ros.nodes.sim_node", "--ros-args", *flags], env=environment)
        rclpy.init(args=[])
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
                failures += not record(args.seed + number, args.mishaps, executor, sim, demonstrator, recorder)
        finally:
            recorder.close()
            executor.shutdown()
            desk.destroy_node()
            demonstrator.destroy_node()
            rclpy.try_shutdown()
    print(
        f"{args.episodes} episodes in {args.out}" + (f", {failures} of this run failed, marked so" if failures else "")
    )
    return 0


def record(
    seed: int, mishap: bool, executor: Executor, sim: SimClient, demonstrator: DemonstratorNode, recorder: Recorder
) -> bool:
    """Record one episode; True when the named cube ended in the tray."""
    from pi0_ros.nodes.sim_client import spin_until
    from pi0_ros.sim.task import prompt
    from pi0_ros.sim.world import CUBES

    rng = np.random.default_rng([seed, 7])
    colour, wording = CUBES[rng.integers(3)], int(rng.integers(3))
    sim.reset(seed, DISTURBANCES[seed % len(DISTURBANCES)], mishap)
    # Joint states of the new scene only: those of the last one may still be on their way.
    demonstrator.joints = None
    spin_until(executor, lambda: demonstrator.joints is not None and sim.seconds > 0.05, 10.0)
    recorder.start(prompt(colour, wording), {"seed": str(seed)})
    demonstrator.begin(colour, rng.normal(0.0, FIRST_AIM, 2))
    spin_until(executor, lambda: sim.in_tray(colour) or sim.seconds > EPISODE_LIMIT_S, 120.0)
    success, end = sim.in_tray(colour), sim.seconds + AFTER_SUCCESS_S
    spin_until(executor, lambda: sim.seconds >= end, 60.0)
    demonstrator.rest()
    recorder.stop("success" if success else "failure")
    return success
