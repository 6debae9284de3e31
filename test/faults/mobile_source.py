"""Chunks for the stage `mobile`, until killed: python mobile_source.py ROBOT_FILE

The arm swings as `chunk_source.py` has it, the base always drives forward and weaves, the hand wanders and tumbles.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import rclpy
from rclpy.node import Node
from trajectory_msgs.msg import JointTrajectory

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "helpers"), str(HERE.parents[1])]

from chunks import chunk_of  # noqa: E402

from pi0_ros.nodes.messages import LATEST, chunk_to_message  # noqa: E402
from pi0_ros.observation.joint_messages import pose_numbers  # noqa: E402
from pi0_ros.robot import Robot, load_robot, rotations  # noqa: E402

STEPS, DT, EVERY_S, LATENCY_S = 32, 0.05, 0.2, 0.1


def motion(robot: Robot, t: np.ndarray) -> np.ndarray:
    """What the robot shall do at these times [H], s: [H, J]."""
    swing = 0.6 * np.sin(2.0 * t)
    base = np.stack([0.35 + 0.1 * np.sin(t), 0.5 * np.sin(1.5 * t)], axis=1)
    place = np.stack([0.3 + 0.15 * np.sin(1.5 * t), 0.15 * np.cos(1.1 * t), 0.4 + 0.1 * np.sin(0.7 * t)], axis=1)
    axis = np.stack([np.sin(0.9 * t), 0.6 * np.cos(0.7 * t), 0.8 * np.sin(1.3 * t)], axis=1)
    (pose,) = robot.poses
    still = np.array([0.0, 0.0, 0.0, 1.0])
    hand = [pose_numbers(pose, p, rotations.turned(still, way)) for p, way in zip(place, axis)]
    return np.hstack([np.stack([swing, 0.5 * swing, swing > 0], axis=1), base, np.array(hand)])


def main() -> None:
    robot = load_robot(sys.argv[1])
    rclpy.init()
    publisher = Node("mobile_source").create_publisher(JointTrajectory, "pi0/chunk", LATEST)
    while True:
        stamp = time.time() - LATENCY_S
        actions = motion(robot, stamp + DT * np.arange(STEPS))
        publisher.publish(chunk_to_message(chunk_of(stamp, DT, actions, robot.joint_names)))
        time.sleep(EVERY_S)


if __name__ == "__main__":
    main()
