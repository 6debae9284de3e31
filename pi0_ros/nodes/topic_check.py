"""Listen to a robot's topics for some seconds and to what the ROS graph says of them (for `pi0 doctor --live`)."""

from __future__ import annotations

import math
import os
import time
from functools import partial
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import GetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy

from pi0_ros.doctor import speed_driver
from pi0_ros.doctor.heard import Heard, Session
from pi0_ros.doctor.machine import waited_s
from pi0_ros.doctor.trajectory_controller import PARAMETERS
from pi0_ros.nodes.messages import SENSOR, diagnostic_values, message_class
from pi0_ros.nodes.ros import start_ros
from pi0_ros.nodes.topic_ends import endpoint, served_actions
from pi0_ros.observation.streams import ObservationBuffer, StaleError
from pi0_ros.robot import CommandGroup, Robot
from pi0_ros.robot.message_types import TRAJECTORY

NAME = "pi0_doctor"
DISCOVERY_S = 1.2  # beyond the time of listening: publishers that are found late
LOOKS_EVERY_S = 0.2  # for new listeners to commands
LEAST_S = 1.0  # of a topic that was found late
TURN_S = 0.05  # so long it waits for a message at once
DEAF_S = 0.1  # a turn that takes longer was not ours: another process had the core, or the middleware held us up
HEARS_ALL = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)  # commands, of whatever publisher


def listen(robot: Robot, seconds: float, use_sim_time: bool = False, discovery_s: float = DISCOVERY_S) -> Session:
    """What is heard on the topics of the robot file within `seconds`, sending nothing.

    In a ROS context of its own; waits up to `discovery_s` longer where publishers are found late or not at all.
    """
    context = rclpy.Context()
    start_ros(None, context)
    node = Node(NAME, context=context, parameter_overrides=[Parameter("use_sim_time", value=use_sim_time)])
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        return _listen(node, executor, robot, seconds, discovery_s)
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown(context=context)


def _listen(node: Node, executor: SingleThreadedExecutor, robot: Robot, seconds: float, discovery_s: float) -> Session:
    session, buffer = Session(robot, domain=os.environ.get("ROS_DOMAIN_ID", "0")), ObservationBuffer(robot)
    asked = SettingsAsked(node)
    for heard in session.topics.values():
        _subscribe(node, session, heard, buffer)
    node.create_subscription(DiagnosticArray, "/diagnostics", partial(_diagnosed, session), 10)
    began, waited_before = time.monotonic(), waited_s()
    found_at, turn = dict.fromkeys(session.topics, math.inf), began
    while (now := time.monotonic()) < began + seconds + discovery_s:
        if now - turn > TURN_S + DEAF_S:
            session.deaf.append((turn, now))
        turn = now
        executor.spin_once(timeout_sec=TURN_S)
        asked.ask(session)
        for topic, heard in session.topics.items():
            if found_at[topic] == math.inf and (heard.arrivals or _ends(node, heard)):
                found_at[topic] = now
        if now >= began + seconds and max(found_at.values()) + min(LEAST_S, seconds) <= now:
            break
    session.waited_share = (waited_s() - waited_before) / (time.monotonic() - began)
    for heard in session.topics.values():
        _look_up(node, heard)
    session.there = {topic: kinds[0] for topic, kinds in node.get_topic_names_and_types() if kinds}
    names = [f"{space.rstrip('/')}/{name}" for name, space in node.get_node_names_and_namespaces()]
    session.other_nodes = tuple(sorted(name for name in names if name != node.get_fully_qualified_name()))
    try:
        buffer.observe(node.get_clock().now().nanoseconds - buffer.delay_ns, robot.prompt)
    except StaleError as error:
        session.problems = error.problems
    return session


class SettingsAsked:
    """Asks those who take commands for the parameters that the doctor judges, while it listens. It only reads.

    Whoever does not answer by the end is not judged by them.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._clients: dict[tuple[str, str], Any] = {}  # (topic, node) -> client
        self._futures: list[Any] = []
        self._looked_at = -math.inf

    def ask(self, session: Session) -> None:
        """Ask whoever is new."""
        if time.monotonic() - self._looked_at < LOOKS_EVERY_S:
            return
        self._looked_at = time.monotonic()
        for heard in session.of(CommandGroup):
            for info in self._node.get_subscriptions_info_by_topic(heard.topic):
                name = endpoint(info).node
                known = name == self._node.get_fully_qualified_name() or (heard.topic, name) in self._clients
                judged = isinstance(heard.item, CommandGroup) and (heard.item.type == TRAJECTORY or heard.item.speeds)
                if judged and not known:
                    client = self._node.create_client(GetParameters, f"{name}/get_parameters")
                    self._clients[heard.topic, name] = client
        for (topic, name), client in self._clients.items():
            if client is not None and client.service_is_ready():
                self._clients[topic, name] = None
                for parameter in (*PARAMETERS, *speed_driver.PARAMETERS):
                    future = client.call_async(GetParameters.Request(names=[parameter]))
                    settings = session.topics[topic].settings.setdefault(name, {})
                    future.add_done_callback(partial(_answered, settings, parameter))
                    self._futures.append((client, future))  # kept until the end


def _answered(settings: dict[str, object], name: str, future: Any) -> None:
    values = future.result().values if future.exception() is None else []
    for value in values:
        if (found := parameter_value(value)) is not None:
            settings[name] = found


def parameter_value(value: Any) -> bool | float | str | list[str] | None:
    """A parameter that is a boolean, a number, a text or a list of texts; None for others."""
    if value.type == ParameterType.PARAMETER_STRING:
        return str(value.string_value)
    if value.type == ParameterType.PARAMETER_BOOL:
        return bool(value.bool_value)
    if value.type in (ParameterType.PARAMETER_DOUBLE, ParameterType.PARAMETER_INTEGER):
        return float(value.double_value if value.type == ParameterType.PARAMETER_DOUBLE else value.integer_value)
    return list(value.string_array_value) if value.type == ParameterType.PARAMETER_STRING_ARRAY else None


def _subscribe(node: Node, session: Session, heard: Heard, buffer: ObservationBuffer) -> None:
    def received(message: Any) -> None:
        arrival_s, now_ns = time.monotonic(), node.get_clock().now().nanoseconds
        session.take(heard.topic, message, now_ns, arrival_s)
        buffer.push_message(heard.topic, message, now_ns)

    qos = HEARS_ALL if heard.command else SENSOR
    node.create_subscription(message_class(heard.item.type), heard.topic, received, qos)


def _diagnosed(session: Session, message: DiagnosticArray) -> None:
    """What the running policy says of its latency."""
    for status in message.status:
        if status.name.endswith("policy") and (text := diagnostic_values(status).get("latency_p99_ms")):
            try:
                session.latency_p99_s = float(text) * 1e-3
            except ValueError:
                continue


def _ends(node: Node, heard: Heard) -> bool:
    """Whether the other end of a topic is there; our own subscription to commands is none."""
    if isinstance(heard.item, CommandGroup) and heard.item.server is not None:
        return heard.item.server.name in served_actions(node)
    count = node.count_subscribers(heard.topic) - 1 if heard.command else node.count_publishers(heard.topic)
    return bool(count > 0)


def _look_up(node: Node, heard: Heard) -> None:
    heard.publishers = [endpoint(info) for info in node.get_publishers_info_by_topic(heard.topic)]
    ends = [endpoint(info) for info in node.get_subscriptions_info_by_topic(heard.topic)]
    own = node.get_fully_qualified_name()
    if isinstance(heard.item, CommandGroup) and heard.item.server is not None:
        kind, nodes = served_actions(node).get(heard.item.server.name, ("", []))
        heard.servers = dict.fromkeys(nodes, kind)
    heard.subscribers = [end for end in ends if end.node != own]
