"""What the stage `mobile` has beside its arm: a base that is told speeds, and a hand that is told poses."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped
from nav_msgs.msg import Odometry

from pi0_ros.nodes.messages import LATEST, seconds_to_stamp
from pi0_ros.observation.joint_messages import pose_numbers
from pi0_ros.robot import Robot

if TYPE_CHECKING:
    from stage import Body

LAG_S = 0.08  # time constant with which the base takes on its speed
PLACE, TURN = np.array([0.3, 0.0, 0.4]), np.array([0.0, 0.0, 0.0, 1.0])  # of the hand at first
FRAME = "base_link"
PARTS_YAML = {
    "joints": """
  - {name: forward, unit: m/s, kind: speed, action: absolute,
      limits: {velocity: [-0.3, 0.6], acceleration: 0.6, jerk: 6.0}}
  - {name: turn, unit: rad/s, kind: speed, action: absolute, limits: {velocity: 1.0, acceleration: 1.5, jerk: 15.0}}
  - {name: hand, kind: pose, frame: base_link, rotation: rot6d, action: absolute,
      limits: {position: {x: [-1, 1], y: [-1, 1], z: [-1, 1]},
        linear: {velocity: 0.5, acceleration: 2.0}, angular: {velocity: 1.5, acceleration: 6.0}}}
""",
    "state": """
  - {topic: /base/odom, type: nav_msgs/msg/Odometry, max_age_s: 0.25, joints: [forward, turn],
      names: [linear.x, angular.z]}
  - {topic: /hand/pose, type: geometry_msgs/msg/PoseStamped, max_age_s: 0.25, joints: [hand]}
""",
    "commands": """
  - {name: base, topic: /base/cmd_vel, type: geometry_msgs/msg/TwistStamped, joints: [forward, turn],
      names: [linear.x, angular.z]}
  - {name: hand, topic: /hand/target, type: geometry_msgs/msg/PoseStamped, joints: [hand]}
""",
}
TOPICS = {  # of the witness
    "base": "/base/cmd_vel",
    "odometry": "/base/odom",
    "hand": "/hand/target",
    "hand_state": "/hand/pose",
}


def speeds_of(twist: Any) -> np.ndarray:
    """Forward and turn of a Twist, m/s and rad/s."""
    return np.array([twist.linear.x, twist.angular.z])


def pose_of(message: PoseStamped) -> tuple[np.ndarray, np.ndarray]:
    """Place and quaternion."""
    point, turn = message.pose.position, message.pose.orientation
    return np.array([point.x, point.y, point.z]), np.array([turn.x, turn.y, turn.z, turn.w])


class Parts:
    """The base has no command timeout but where a row gives it one: it drives on with the last that it heard."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self.speed, self.driven = np.zeros(2), np.zeros(2)
        self.place, self.turned = PLACE.copy(), TURN.copy()
        self._asked, self._asked_at, self._moved = np.zeros(2), time.monotonic(), time.monotonic()
        self.mend()
        self._odometry = body.create_publisher(Odometry, TOPICS["odometry"], 10)
        self._pose = body.create_publisher(PoseStamped, TOPICS["hand_state"], 10)
        body.create_subscription(TwistStamped, TOPICS["base"], self._on_twist, LATEST)
        body.create_subscription(PoseStamped, TOPICS["hand"], self._on_pose, LATEST)

    def mend(self) -> None:
        """Their own faults are over; whoever had nobody left to listen to stands."""
        self.rolls, self.odometry_speaks, self.pose_speaks = True, True, True
        self.timeout_s = math.inf
        self.lie_of_odometry = self.lie_of_pose = lambda message: message
        if time.monotonic() - self._asked_at > 0.5:
            self._asked = np.zeros(2)

    def numbers(self, robot: Robot) -> np.ndarray:
        """Speeds and hand as the robot's vector holds them."""
        (pose,) = robot.poses
        return np.concatenate([self.speed, pose_numbers(pose, self.place, self.turned)])

    def _on_twist(self, message: TwistStamped) -> None:
        self._asked, self._asked_at = speeds_of(message.twist), time.monotonic()

    def _on_pose(self, message: PoseStamped) -> None:
        if self._body.follows:
            self.place, self.turned = pose_of(message)

    def feel(self) -> None:
        """Move, and say so."""
        now = time.monotonic()
        passed, self._moved = now - self._moved, now
        if now - self._asked_at > self.timeout_s:
            self._asked = np.zeros(2)
        asked = self._asked if self.rolls else np.zeros(2)
        self.speed = asked + (self.speed - asked) * np.exp(-passed / LAG_S)
        self.driven = self.driven + self.speed * passed
        stamp = seconds_to_stamp(self._body.now())
        if self.odometry_speaks:
            odometry = Odometry()
            odometry.header.stamp = stamp
            odometry.twist.twist.linear.x, odometry.twist.twist.angular.z = self.speed.tolist()
            self._odometry.publish(self.lie_of_odometry(odometry))
        if self.pose_speaks:
            pose = PoseStamped()
            pose.header.stamp, pose.header.frame_id = stamp, FRAME
            point, turn = pose.pose.position, pose.pose.orientation
            point.x, point.y, point.z = self.place.tolist()
            turn.x, turn.y, turn.z, turn.w = self.turned.tolist()
            self._pose.publish(self.lie_of_pose(pose))
