"""A mobile robot without physics on real topics: joints go where they are sent, a base drives as fast as it is told.

The base has no command timeout: with nothing but its last command it drives on for ever. That is what tests are after.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import numpy as np
from following import Follower
from nav_msgs.msg import Odometry
from rclpy.context import Context
from rclpy.node import Node
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from pi0_ros.nodes.messages import message_class, stamp_to_seconds
from pi0_ros.observation.joint_messages import decode_command
from pi0_ros.robot import Robot

RATE_HZ = 50.0
LAG_S = 0.08  # time constant with which the base takes on its speed


class MobileRobot(Node):
    """Hears every command topic of `robot`; says joint states and odometry. Keeps what it was told, and when."""

    def __init__(self, context: Context, robot: Robot) -> None:
        super().__init__("mobile_robot", context=context)
        self.robot, self.speaks, self.blocked = robot, True, False
        self.told: dict[str, list[tuple[float, np.ndarray]]] = {group.name: [] for group in robot.commands}
        self.sent: list[JointTrajectory] = []  # pi0/command
        self.measured_at: list[float] = []  # s, when the joints were at `measured`
        self.measured: list[np.ndarray] = []
        self.driven = np.zeros(2)  # m, rad: the way that the base has come
        self.speed = np.zeros(2)  # m/s, rad/s
        self._asked = np.zeros(2)
        self._moved = time.monotonic()
        middle = np.where(robot.speed_mask, 0.0, (robot.lower + robot.upper) / 2)
        still = [joint.name for joint in robot.joints if not joint.speed]
        self._joints = Follower(still, middle[~robot.speed_mask], robot.velocity[~robot.speed_mask])
        for group in robot.commands:
            self.create_subscription(message_class(group.type), group.topic, partial(self._heard, group), 100)
        self.create_subscription(JointTrajectory, "pi0/command", self.sent.append, 500)
        self._states = self.create_publisher(JointState, robot.state[0].topic, 10)
        self._odometry = self.create_publisher(Odometry, robot.state[1].topic, 10)
        self.create_timer(1.0 / RATE_HZ, self._feel)

    def where(self) -> np.ndarray:
        """All joints as they are now, float64 [J]; of the base its speeds."""
        return np.concatenate([self._joints.position, self.speed])

    def last(self, name: str) -> np.ndarray:
        """The newest command of a group."""
        return self.told[name][-1][1] if self.told[name] else np.full(1, np.nan)

    def _heard(self, group: Any, message: Any) -> None:
        command = decode_command(group, message)
        self.told[group.name].append((time.monotonic(), command))
        if group.speeds:
            self._asked = command
        else:
            self._joints.send(group.joints, command.tolist())

    def _feel(self) -> None:
        now = time.monotonic()
        passed, self._moved = now - self._moved, now
        asked = np.zeros(2) if self.blocked else self._asked
        self.speed = asked + (self.speed - asked) * np.exp(-passed / LAG_S)
        self.driven = self.driven + self.speed * passed
        joints = self._joints.move()
        if not self.speaks:
            return
        stamp = self.get_clock().now().to_msg()
        self.measured_at.append(stamp_to_seconds(stamp))
        self.measured.append(self.where())
        state = JointState(name=list(joints), position=list(joints.values()))
        state.header.stamp = stamp
        self._states.publish(state)
        odometry = Odometry()
        odometry.header.stamp = stamp
        odometry.twist.twist.linear.x, odometry.twist.twist.angular.z = self.speed.tolist()
        self._odometry.publish(odometry)
