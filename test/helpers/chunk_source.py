"""Stands in for a policy: publishes chunks of a swinging motion until it is killed.

python chunk_source.py yaw,elbow,gripper 0.5 [0,0,0]    the last: around where

The first joint swings by the amplitude, the second by half of it, the last is a gripper.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import rclpy
from chunks import chunk_of
from rclpy.node import Node
from trajectory_msgs.msg import JointTrajectory

from pi0_ros.nodes.messages import LATEST, chunk_to_message

STEPS, DT, EVERY_S, LATENCY_S = 32, 0.05, 0.2, 0.1


def main() -> None:
    names, amplitude = tuple(sys.argv[1].split(",")), float(sys.argv[2])
    middle = [float(word) for word in sys.argv[3].split(",")] if len(sys.argv) > 3 else [0.0] * len(names)
    rclpy.init()
    publisher = Node("chunk_source").create_publisher(JointTrajectory, "pi0/chunk", LATEST)
    while True:
        stamp = time.time() - LATENCY_S
        swing = amplitude * np.sin(2.0 * (stamp + DT * np.arange(STEPS)))
        actions = np.tile(middle, (STEPS, 1))
        actions[:, 0] += swing
        actions[:, 1] += 0.5 * swing
        actions[:, -1] = swing > 0
        publisher.publish(chunk_to_message(chunk_of(stamp, DT, actions, names)))
        time.sleep(EVERY_S)


if __name__ == "__main__":
    main()
