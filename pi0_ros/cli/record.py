"""Record episodes by keys: start, stop, mark, discard, with live rates, ages and losses on the screen.

Works on any machine that hears the recorder, which runs beside the robot:

    pi0 up record robot:=my_robot.yaml out_dir:=bags      # the recorder
    pi0 record                                            # its keys, here or on a laptop with the same ROS_DOMAIN_ID

keys: space start and stop | s stop, success | f stop, failure | d twice: discard | p next prompt | q quit

Quitting leaves the recorder as it is. Without a terminal use its services, for example
`ros2 service call /recorder/start std_srvs/srv/Trigger`; a joystick's buttons: its parameter `joy_buttons`.
"""

from __future__ import annotations

import argparse
import sys

from pi0_ros.base.arguments import ros_name
from pi0_ros.base.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 record`."""
    parser.add_argument(
        "--recorder", type=ros_name, default="recorder", help="name of the recorder node (default recorder)"
    )
    parser.add_argument("--prompt", help="what the next episodes show, in words")


def run(args: argparse.Namespace) -> int:
    """`pi0 record`: 0 when the user quits. Raises ValueError without a terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InputError(
            "needs a terminal for its keys; without one call the recorder's services, for example "
            f"`ros2 service call /{args.recorder}/start std_srvs/srv/Trigger`"
        )
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.node import Node

    from pi0_ros.monitor.recorder_desk import Desk
    from pi0_ros.nodes.recorder_client import RecorderClient
    from pi0_ros.nodes.ros import find_quickly, start_ros

    find_quickly()
    start_ros()
    executor, node = SingleThreadedExecutor(), Node("record_keys")
    executor.add_node(node)
    try:
        Desk(RecorderClient(node, args.recorder), executor, args.prompt or "").run()
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    return 0
