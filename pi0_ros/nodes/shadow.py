"""Shadow: what would be commanded, beside what the operator commands. Nothing here reaches the robot.

The controller runs whole, on the real robot's joint states, and follows the policy's chunks; its commands go to
`pi0/shadow_command` and, as distances from the operator's, to `pi0/shadow_error`.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState

from pi0_ros.control.states import Settings
from pi0_ros.nodes.messages import message_class, seconds_to_stamp
from pi0_ros.observation.stream_buffer import SECOND
from pi0_ros.observation.streams import ObservationBuffer, StaleError
from pi0_ros.robot import Robot

ERROR = "pi0/shadow_error"
HEARS_ALL = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
WINDOW_S = 5.0  # of the means on /diagnostics


def unwatched(settings: Settings) -> Settings:
    """The controller's settings for a robot that goes its own way."""
    return replace(settings, tracking_s=0.0, rearm_after_s=86400.0, idle_timeout_s=0.0)


class Shadow:
    """Hears the operator and says how far the would-be commands are from his."""

    def __init__(self, node: Node, robot: Robot) -> None:
        self._robot, self._node = robot, node
        self._buffer = ObservationBuffer(robot)
        self._spans = np.array([joint.span for joint in robot.action_joints])
        rate = robot.control_rate_hz
        self._errors: deque[np.ndarray] = deque(maxlen=max(1, round(WINDOW_S * rate)))  # [J] each
        self._lock = threading.Lock()
        self._unheard = ""
        self._publisher = node.create_publisher(JointState, ERROR, QoSProfile(depth=50))
        for group in robot.commands:
            heard = partial(self._heard, group.topic)
            node.create_subscription(message_class(group.type), group.topic, heard, HEARS_ALL)

    def compare(self, position: np.ndarray, now: float) -> None:
        """Compare a would-be command, float64 [J], with what the operator commands at `now` (ROS time, s)."""
        try:
            operator = self._buffer.action_at(round(now * SECOND))
        except StaleError as error:
            with self._lock:
                self._errors.clear()
                self._unheard = "; ".join(error.problems)
            return
        apart = self._robot.action_space.short_way(position, operator)
        with self._lock:
            self._errors.append(apart)
            self._unheard = ""
        message = JointState(name=list(self._robot.action_names), position=apart.tolist())
        message.header.stamp = seconds_to_stamp(now)
        self._publisher.publish(message)

    def report(self) -> dict[str, object]:
        """For /diagnostics: mean distances of the last seconds, as a fraction of the ranges and joint by joint."""
        with self._lock:
            errors, unheard = np.array(self._errors), self._unheard
        if not len(errors):
            return {"shadow": "true", "shadow_error": "", "shadow_operator": unheard or "not yet heard"}
        mean = np.abs(errors).mean(axis=0)
        share = float((mean / self._spans).mean())
        joints = dict(zip((f"shadow_error {name}" for name in self._robot.action_names), mean.tolist(), strict=True))
        return {"shadow": "true", "shadow_error": f"{share:.2%} of range", "shadow_operator": "heard", **joints}

    def _heard(self, topic: str, message: Any) -> None:
        self._buffer.push_message(topic, message, int(self._node.get_clock().now().nanoseconds))
