"""The deadman button as a topic: sensor_msgs/msg/Joy, of which one button counts, or std_msgs/msg/Bool."""

from __future__ import annotations

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Joy
from std_msgs.msg import Bool

from pi0_ros.control.deadman import Deadman
from pi0_ros.control.pacing import steady_seconds

BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)  # hears reliable publishers as well


class DeadmanButton:
    """Listens to `topic`, a full name, through `node`, which a thread of its own should serve: it waits for nothing.

    `button` counts the buttons of a Joy from 0; -1: the topic is a Bool.
    """

    def __init__(self, node: Node, topic: str, button: int, timeout_s: float) -> None:
        self._node, self._topic, self._button = node, topic, button
        self._kind = "sensor_msgs/msg/Joy" if button >= 0 else "std_msgs/msg/Bool"
        self._deadman = Deadman(f"{topic}[{button}]" if button >= 0 else topic, timeout_s)
        kind, listener = (Joy, self._on_joy) if button >= 0 else (Bool, self._on_bool)
        node.create_subscription(kind, topic, listener, BEST_EFFORT)

    def withholds(self) -> str:
        """Why the robot must not move; "" while the button is pressed. Quick enough for every tick."""
        return self._deadman.withholds(steady_seconds())

    def problem(self) -> str:
        """The same with what the ROS graph knows of the cause; it takes longer."""
        if reason := self.withholds():
            kinds = {info.topic_type for info in self._node.get_publishers_info_by_topic(self._topic)}
            if not kinds:
                return f"{reason}: nobody publishes it"
            if self._kind not in kinds:
                cure = "set deadman_button" if "sensor_msgs/msg/Joy" in kinds else "set deadman_button to -1"
                return f"{reason}: it is a {', '.join(sorted(kinds))}, expected {self._kind} ({cure})"
        return reason

    def _on_joy(self, message: Joy) -> None:
        problem = "" if self._button < len(message.buttons) else f"the message has {len(message.buttons)} buttons"
        self._deadman.heard(not problem and bool(message.buttons[self._button]), steady_seconds(), problem)

    def _on_bool(self, message: Bool) -> None:
        self._deadman.heard(bool(message.data), steady_seconds())
