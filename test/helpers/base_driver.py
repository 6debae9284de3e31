"""Stands in for a policy of a mobile robot: chunks that drive, turn and wave, until it is killed.

python base_driver.py ROBOT_FILE MIDDLE    the robot's first joint waves around MIDDLE, the last two are the base
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
from pi0_ros.robot import load_robot

STEPS, DT, EVERY_S, LATENCY_S = 32, 0.05, 0.2, 0.1


def main() -> None:
    robot, middle = load_robot(sys.argv[1]), [float(word) for word in sys.argv[2].split(",")]
    rclpy.init()
    publisher = Node("base_driver").create_publisher(JointTrajectory, "pi0/chunk", LATEST)
    while True:
        stamp = time.time() - LATENCY_S
        t = stamp + DT * np.arange(STEPS)
        actions = np.tile(middle, (STEPS, 1))
        actions[:, 0] += 0.3 * np.sin(2.0 * t)
        actions[:, -2] = 0.4 + 0.1 * np.sin(t)  # m/s: it always drives
        actions[:, -1] = 0.5 * np.sin(1.5 * t)
        publisher.publish(chunk_to_message(chunk_of(stamp, DT, actions, robot.joint_names)))
        time.sleep(EVERY_S)


if __name__ == "__main__":
    main()
