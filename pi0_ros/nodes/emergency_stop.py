"""The emergency stop's own way in: a thread that waits for nothing else, so that it is answered whatever arrives.

`~/estop` (Trigger) stops this controller, and so does `true` on `pi0/estop` (Bool), which reaches every controller that
is there and, from a latched publisher, those that come later. Whoever is stopped by the service says so on the topic.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from functools import partial

from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from pi0_ros.nodes.messages import LATCHED, LATEST, SILENT


class EmergencyStop:
    """Calls `stop(reason)` from its own thread. A helper node carries it: an executor takes whole nodes only."""

    def __init__(self, node: Node, stop: Callable[[str], None]) -> None:
        self._stop = stop
        self.pressed_elsewhere = False  # somebody else's `true` is the newest word on the topic
        self._pressed = False  # by the service
        self._echoes = {"latched": 0, "plain": 0}  # how often each subscription has yet to say so
        self.topic = node.resolve_topic_name("pi0/estop")
        self.node = Node(  # what else must be heard at once may subscribe through it
            f"{node.get_name()}_estop",
            namespace=node.get_namespace(),
            context=node.context,
            use_global_arguments=False,
            start_parameter_services=False,
            enable_rosout=False,
        )
        self._publisher = self.node.create_publisher(Bool, self.topic, LATCHED)
        # A transient local subscription alone would not hear a plain publisher, such as `ros2 topic pub`.
        for way, qos in (("latched", LATCHED), ("plain", LATEST)):
            self.node.create_subscription(Bool, self.topic, partial(self._on_topic, way), qos, event_callbacks=SILENT)
        self.node.create_service(Trigger, node.resolve_service_name("~/estop"), self._on_service)
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, name="estop", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """False once the thread has ended, by `close` or by an exception."""
        return self._thread.is_alive()

    def release(self) -> str:
        """Take back what the service has said on the topic; why not, where somebody else still says stop."""
        if self.pressed_elsewhere:
            message = f'ros2 topic pub --once {self.topic} std_msgs/msg/Bool "{{data: false}}"'
            return f"{self.topic} still says stop: release it where it was pressed, or {message}"
        if self._pressed:
            self._pressed = False
            self._publisher.publish(Bool(data=False))
        return ""

    def close(self) -> None:
        """End the thread."""
        self._executor.shutdown(timeout_sec=1.0)
        self._thread.join(2.0)
        self.node.destroy_node()

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()

    def _on_service(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._stop("emergency stop by ~/estop")
        self._pressed = True
        self._echoes = {way: count + 1 for way, count in self._echoes.items()}
        self._publisher.publish(Bool(data=True))
        response.success, response.message = True, "stopping; ~/reset and ~/arm to go on"
        return response

    def _on_topic(self, way: str, message: Bool) -> None:
        if message.data and self._echoes[way]:
            self._echoes[way] -= 1
        elif message.data:
            self.pressed_elsewhere = True
            self._stop(f"emergency stop by {self.topic}")
        else:
            self.pressed_elsewhere, self._echoes[way] = False, 0
