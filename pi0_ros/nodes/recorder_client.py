"""Speaking to a recorder node, here or on another machine: its state, its actions, its prompt."""

from __future__ import annotations

import time

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.task import Future
from std_msgs.msg import String
from std_srvs.srv import Trigger

from pi0_ros.nodes.messages import diagnostic_values, status_name
from pi0_ros.nodes.recorder_node import ACTIONS


class RecorderClient:
    """The recorder called `name`, as `node` hears it; `node` must be spinning.

    `status` holds the values of the recorder's last diagnostics, all of them text.
    """

    def __init__(self, node: Node, name: str = "recorder") -> None:
        self.name = name
        self.status: dict[str, str] = {}
        self._status_name = status_name(node, name)
        self._heard = float("-inf")
        self._asked: tuple[str, Future] | None = None
        self._prompt = node.create_publisher(String, f"{name}/prompt", 1)
        self._clients = {action: node.create_client(Trigger, f"{name}/{action}") for action in ACTIONS}
        node.create_subscription(DiagnosticArray, "/diagnostics", self._hear, 10)

    @property
    def busy(self) -> bool:
        """Whether an answer is still to come."""
        return self._asked is not None

    def silent_s(self) -> float:
        """Seconds since the recorder was last heard."""
        return time.monotonic() - self._heard

    def act(self, action: str) -> bool:
        """Ask for one of `ACTIONS`; False where no recorder is there to be asked."""
        if not self._clients[action].service_is_ready():
            return False
        self._asked = action, self._clients[action].call_async(Trigger.Request())
        return True

    def answered(self) -> bool:
        """Whether the answer is here."""
        return self._asked is not None and self._asked[1].done()

    def answer(self) -> tuple[str, bool, str] | None:
        """(action, success, message) of what was asked, once; None while there is none."""
        if self._asked is None or not self.answered():
            return None
        (action, future), self._asked = self._asked, None
        response = future.result()
        return action, response.success, response.message

    def give_up(self) -> None:
        """No longer wait for an answer."""
        self._asked = None

    def set_prompt(self, text: str) -> bool:
        """Send the prompt of the next episodes; False while no recorder is there to hear it."""
        if not self._prompt.get_subscription_count():
            return False
        self._prompt.publish(String(data=text))
        return True

    def _hear(self, array: DiagnosticArray) -> None:
        for status in array.status:
            if status.name == self._status_name:
                self.status = diagnostic_values(status)
                self._heard = time.monotonic()
