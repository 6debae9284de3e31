"""Where commands leave: the robot file's command topics, and `pi0/command` as the record of what was sent."""

from __future__ import annotations

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile
from trajectory_msgs.msg import JointTrajectory

from pi0_ros.control.controller import Command
from pi0_ros.nodes.messages import COMMAND_TYPES, LATEST, command_message, seconds_to_stamp
from pi0_ros.robot import Robot

TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"


class CommandOutput:
    """Publishes each command to every command group of the robot and, whole and stamped, to `pi0/command`."""

    def __init__(self, node: Node, robot: Robot) -> None:
        self._names = robot.joint_names
        self._period = 1.0 / robot.control_rate_hz
        self._groups = [
            (
                group,
                [self._names.index(name) for name in group.joints],
                node.create_publisher(kind, group.topic, LATEST),
            )
            for group, kind in ((group, COMMAND_TYPES[group.type]) for group in robot.commands)
        ]
        self._sent = node.create_publisher(JointTrajectory, "pi0/command", QoSProfile(depth=50))

    def publish(self, command: Command, now: float) -> None:
        """Send `command` for the time `now` (ROS time, s)."""
        stamp = seconds_to_stamp(now)
        for group, joints, publisher in self._groups:
            position, velocity = command.position[joints], command.velocity[joints]
            publisher.publish(command_message(group.type, group.message_names, position, velocity, stamp, self._period))
        sent = command_message(TRAJECTORY, self._names, command.position, command.velocity, stamp, 0.0)
        sent.points[0].accelerations = command.acceleration.tolist()
        self._sent.publish(sent)

    def flush(self, timeout_s: float) -> None:
        """Wait until every listener has acknowledged the last command, for at most `timeout_s` per topic."""
        for publisher in (*(publisher for _, _, publisher in self._groups), self._sent):
            publisher.wait_for_all_acked(Duration(seconds=timeout_s))
