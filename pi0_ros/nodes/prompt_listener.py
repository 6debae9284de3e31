"""Hearing prompts from every publisher: plain ones, and what latched ones said before we came.

A transient local subscription would not hear a plain `ros2 topic pub` (both sides would warn that they do not match), a
volatile one not what was said before. So the lasting subscription is volatile, and where a latched publisher appears
a second one lives until it has brought what that publisher had said.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy
from std_msgs.msg import String

from pi0_ros.nodes.messages import LATCHED, LATEST, SILENT

LOOK_S = 0.25
LATE_S = 5.0  # what was said before arrives within this, or nothing was said


class PromptListener:
    """Calls `heard(text)` for every prompt on `topic`; the same one may come twice."""

    def __init__(self, node: Node, topic: str, heard: Callable[[str], None]) -> None:
        self._node, self._heard = node, heard
        self._topic = node.create_subscription(String, topic, self._on_message, LATEST).topic_name
        self._known: set[bytes] = set()  # latched publishers that were asked
        self._late: Any = None  # the subscription for what they had said
        self._since, self._answered = 0.0, False
        node.create_timer(LOOK_S, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _look(self) -> None:
        if self._late is not None and (self._answered or time.monotonic() - self._since > LATE_S):
            self._node.destroy_subscription(self._late)
            self._late = None
        latched = {
            bytes(info.endpoint_gid)
            for info in self._node.get_publishers_info_by_topic(self._topic)
            if info.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
        }
        new, self._known = latched - self._known, latched
        if new:
            if self._late is not None:
                self._node.destroy_subscription(self._late)
            self._since, self._answered = time.monotonic(), False
            self._late = self._node.create_subscription(
                String, self._topic, self._on_late, LATCHED, event_callbacks=SILENT
            )

    def _on_late(self, message: String) -> None:
        self._answered = True
        self._heard(message.data)

    def _on_message(self, message: String) -> None:
        self._heard(message.data)
