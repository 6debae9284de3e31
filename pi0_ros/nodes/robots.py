"""The robot as a node meets it: its topics with the node's namespace and remaps."""

from __future__ import annotations

from rclpy.node import Node

from pi0_ros.robot import Robot, load_robot


def robot_of(node: Node, name_or_path: str) -> Robot:
    """The robot file's robot, its topics called as `node` must call them; RobotFileError as `load_robot`."""
    return load_robot(name_or_path).with_topics(node.resolve_topic_name)
