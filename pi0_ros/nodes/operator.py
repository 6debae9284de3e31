"""A person's hands on a running robot: services called and prompts given by a command, without ROS's own CLI."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from pi0_ros.base.errors import InputError
from pi0_ros.base.middleware import domain_of
from pi0_ros.nodes.messages import STATUS, diagnostic_values, status_name
from pi0_ros.nodes.ros import find_quickly, start_ros

LEVELS = {b"\x00": "ok", b"\x01": "warning", b"\x02": "error", b"\x03": "stale"}
ESTOP = "/controller/estop"
ANSWER_S = 10.0  # a node that is there may be at work, or the machine
SAID_AFTER_S = 3.0  # whoever looks on longer says so


class Operator:
    """Speaks to the nodes of one namespace ("": those without): looks for them for `patience_s`, and gives those that
    it finds `ANSWER_S`."""

    def __init__(self, node: Node, executor: SingleThreadedExecutor, patience_s: float) -> None:
        self._node, self._executor, self._patience_s = node, executor, patience_s

    def arm(self, on: bool) -> tuple[bool, str]:
        """Arm or disarm the controller; (whether it did, what it says)."""
        return self._call(SetBool, "controller/arm", SetBool.Request(data=on))

    def takeover(self, on: bool) -> tuple[bool, str]:
        """A person leads, or hands back to the policy; (whether the controller agrees, what it says)."""
        return self._call(SetBool, "controller/takeover", SetBool.Request(data=on))

    def reset(self) -> tuple[bool, str]:
        """Take back the controller's stop; (whether it did, what it says)."""
        return self._call(Trigger, "controller/reset", Trigger.Request())

    def estop(self) -> tuple[bool, str]:
        """Stop this namespace's controller; (whether it did, what it says)."""
        return self._call(Trigger, "controller/estop", Trigger.Request())

    def estop_all(self) -> list[tuple[str, bool, str]]:
        """Stop every controller that is found, the first at once: (name, whether it stops, what it says) of each."""
        asked: dict[str, Any] = {}  # name -> (client, future or None)

        def ask() -> bool:
            """Ask whoever has connected meanwhile; whether anybody has."""
            for name, (client, future) in asked.items():
                if future is None and client.service_is_ready():
                    asked[name] = (client, client.call_async(Trigger.Request()))
            return any(future is not None for _, future in asked.values())

        def answered() -> bool:
            ask()  # one may be found at once and connect late
            return all(future is not None and future.done() for _, future in asked.values())

        end, first, told = time.monotonic() + self._patience_s, None, False
        while time.monotonic() < end and (first is None or time.monotonic() < first + 1.0):
            for name, kinds in self._node.get_service_names_and_types():
                if name.endswith(ESTOP) and "std_srvs/srv/Trigger" in kinds and name not in asked:
                    asked[name] = (self._node.create_client(Trigger, name), None)
            if ask() and first is None:
                first = time.monotonic()
            if not asked and not told and time.monotonic() > end - self._patience_s + SAID_AFTER_S:
                self._say_that_it_looks_on()
                told = True
            self._executor.spin_once(timeout_sec=0.02)
        self._spin(answered, ANSWER_S)
        if not asked:
            raise InputError(_absent(f"...{ESTOP}"))
        return [
            (name.removesuffix("/estop").removeprefix("/"), *_answer(future)) for name, (_, future) in asked.items()
        ]

    def prompt(self, text: str) -> list[str]:
        """Tell policy and recorder what to do; the names of those that listened."""
        topics = ("policy/prompt", "recorder/prompt")
        publishers = {topic: self._node.create_publisher(String, topic, 1) for topic in topics}
        if not self._found(lambda: any(p.get_subscription_count() for p in publishers.values()), "policy", "recorder"):
            raise InputError(_absent(" or ".join(self._node.resolve_topic_name(topic) for topic in topics)))
        self._spin(lambda: all(p.get_subscription_count() for p in publishers.values()), 1.0)
        heard = [topic for topic, publisher in publishers.items() if publisher.get_subscription_count()]
        for topic in heard:
            publishers[topic].publish(String(data=text))
            publishers[topic].wait_for_all_acked(rclpy.duration.Duration(seconds=ANSWER_S))
        return [self._node.resolve_topic_name(topic).removesuffix("/prompt") for topic in heard]

    def statuses(self, seconds: float) -> list[tuple[str, str, str, dict[str, str]]]:
        """(name, level, message, values) of what policy, controller and recorder say, heard for `seconds` from the
        first on."""
        found: dict[str, DiagnosticStatus] = {}
        own = {status_name(self._node, name) for name in ("policy", "controller", "recorder")}
        whole = self._node.get_namespace() == "/"

        def hear(array: DiagnosticArray) -> None:
            for status in array.status:
                if status.name in own or (whole and status.name.startswith(STATUS)):
                    found[status.name.removeprefix(STATUS)] = status

        self._node.create_subscription(DiagnosticArray, "/diagnostics", hear, 50)
        if self._found(lambda: bool(found), "policy", "controller", "recorder"):
            self._spin(lambda: False, seconds)
        rows = sorted(found.items())
        return [(name, LEVELS[bytes(s.level)], s.message, diagnostic_values(s)) for name, s in rows]

    def _call(self, kind: Any, name: str, request: Any) -> tuple[bool, str]:
        client = self._node.create_client(kind, name)
        service = self._node.resolve_service_name(name)
        if not self._found(client.service_is_ready, "controller"):
            raise InputError(_absent(service))
        future = client.call_async(request)
        if not self._spin(future.done, ANSWER_S):
            raise InputError(f"{service} does not answer within {ANSWER_S:g} s")
        return bool(future.result().success), str(future.result().message)

    def _found(self, ready: Callable[[], bool], *nodes: str) -> bool:
        """Whether `ready` comes true, for which one of these nodes must be there."""
        if self._spin(ready, min(self._patience_s, SAID_AFTER_S)):
            return True
        if self._patience_s > SAID_AFTER_S:
            self._say_that_it_looks_on()
            if self._spin(ready, self._patience_s - SAID_AFTER_S):
                return True
        return self._known(nodes) and self._spin(ready, ANSWER_S)

    def _say_that_it_looks_on(self) -> None:
        print(f"nobody is found yet, looking on until {self._patience_s:g} s are over", file=sys.stderr)

    def _known(self, names: tuple[str, ...]) -> bool:
        own = self._node.get_namespace()
        return any(name in names and space == own for name, space in self._node.get_node_names_and_namespaces())

    def _spin(self, condition: Callable[[], bool], limit_s: float) -> bool:
        end = time.monotonic() + limit_s
        while not condition():
            if time.monotonic() > end:
                return False
            self._executor.spin_once(timeout_sec=0.02)
        return True


@contextmanager
def operator(namespace: str, patience_s: float) -> Iterator[Operator]:
    """An `Operator` in a ROS context of its own."""
    find_quickly()
    context = rclpy.Context()
    start_ros(context=context)
    node = Node("pi0_operator", namespace=namespace, context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        yield Operator(node, executor, patience_s)
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown(context=context)


def _answer(future: Any) -> tuple[bool, str]:
    """(whether it stops, what it says) of one that was asked, or could not be (None)."""
    if future is None:
        return False, "was not asked: its service did not connect"
    return (bool(future.result().success), str(future.result().message)) if future.done() else (False, "no answer")


def _absent(name: str) -> str:
    return f"nobody offers {name}: is it running, in ROS_DOMAIN_ID {domain_of(os.environ)}, and is --namespace right?"
