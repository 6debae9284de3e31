"""Serve a policy over ZeroMQ for robots without a GPU.

    pi0 serve --checkpoint runs/stack_cups/best
    pi0 serve --checkpoint runs/stack_cups/best --bind tcp://0.0.0.0:5555 --device cuda
    pi0 serve --checkpoint pi05_droid --robot franka_droid       (a checkpoint of openpi or LeRobot, as downloaded)

The default address is reachable from this machine only. There is no password and no encryption: on a network, use a
trusted one or an SSH tunnel (`ssh -L 5555:127.0.0.1:5555 gpu-box`). On the robot:

    ros2 launch pi0_ros policy.launch.py robot:=my_robot backend:=zmq server:=tcp://gpu-box:5555
"""

from __future__ import annotations

import argparse
import logging
import signal
import threading

from pi0_ros.inference.options import add_policy_arguments, policy_options
from pi0_ros.inference.protocol import DEFAULT_ADDRESS
from pi0_ros.inference.server import Server
from pi0_ros.robot import load_robot

log = logging.getLogger("pi0 serve")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_policy_arguments(parser)
    parser.add_argument("--robot", help="robot file, by name or path; needed where the checkpoint carries none")
    parser.add_argument("--bind", default=DEFAULT_ADDRESS, help="address to listen on (default %(default)s)")


def run(args: argparse.Namespace) -> int:
    from pi0_ros.policy.policy import load_policy

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s", datefmt="%H:%M:%S")
    policy = load_policy(policy_options(args), robot=load_robot(args.robot) if args.robot else None)
    server = Server(policy, args.bind)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, frame: stop.set())
    metadata = policy.metadata
    log.info(
        "serving %s (%s, robot '%s', %d actions at %g Hz) on %s",
        args.checkpoint, metadata.model, metadata.robot.name, metadata.horizon, metadata.fps, server.address,
    )  # fmt: skip
    if not any(local in server.address for local in ("127.0.0.1", "localhost", "[::1]", "ipc://")):
        log.warning("%s is open to the network, without password or encryption", server.address)
    try:
        server.run(stop.is_set)
    finally:
        server.close()
    log.info("stopped after %d chunks", server.answered)
    return 0
