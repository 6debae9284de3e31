"""What living topics tell of a robot that nobody has described yet: the facts for `pi0 robot new`. Sends nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import rclpy
from rcl_interfaces.srv import GetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import String

from pi0_ros.bags.conventions import PROMPT_TOPIC
from pi0_ros.base.errors import InputError
from pi0_ros.doctor import speed_driver
from pi0_ros.doctor.trajectory_controller import JOINTS, NONZERO
from pi0_ros.nodes.messages import LATCHED, SENSOR, message_class
from pi0_ros.nodes.ros import start_ros
from pi0_ros.nodes.topic_check import parameter_value
from pi0_ros.nodes.topic_ends import endpoint, served_actions
from pi0_ros.robot.evidence import ACTION, LOOKED_AT, OF_JOINTS, SPEEDS, TopicFacts
from pi0_ros.robot.message_types import CAMERA_TYPES, COMMAND_TYPES, POSE_TYPES

NAME = "pi0_robot_new"
DISCOVERY_S = 5.0  # beyond the time of listening, until the first joint is heard of
LOOK_AGAIN_S = 0.3  # topics and nodes are found one by one
PARAMETERS = (JOINTS, NONZERO, *speed_driver.PARAMETERS)  # read one by one: releases differ in which they have
HEARS_ALL = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)


class Survey:
    """Everything heard in a domain since it was made."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.topics: dict[str, TopicFacts] = {}
        self.said: dict[str, str] = {}  # prompt, urdf
        self._settings: dict[str, dict[str, object]] = {}  # node -> parameters of a controller
        self._asked: dict[str, Any] = {}  # node -> client, until it was asked
        self._futures: list[Any] = []

    def look(self) -> None:
        """Listen to topics that are new, and ask those who take commands which joints they move."""
        for topic, kinds in self._node.get_topic_names_and_types():
            if topic in self.topics or not kinds:
                continue
            facts = self.topics[topic] = TopicFacts(topic, kinds[0])
            if facts.type in LOOKED_AT:
                try:
                    kind = message_class(facts.type)
                except InputError as error:  # of a package that is not installed here
                    facts.unreadable = str(error)
                    continue
                qos = SENSOR if facts.type in CAMERA_TYPES else HEARS_ALL
                self._node.create_subscription(kind, topic, partial(self._heard, facts), qos)
            elif facts.type == "std_msgs/msg/String" and (topic == PROMPT_TOPIC or topic.endswith("robot_description")):
                key = "prompt" if topic == PROMPT_TOPIC else "urdf"
                self._node.create_subscription(String, topic, partial(self._told, key), LATCHED)
        for action, (kind, nodes) in served_actions(self._node).items():
            facts = self.topics.setdefault(f"{action} {ACTION}", TopicFacts(action, kind))
            facts.listeners = tuple(sorted(nodes))
        for facts in self.topics.values():
            if facts.type in COMMAND_TYPES or facts.type in POSE_TYPES:
                facts.listeners = self._listeners(facts.topic)
                for name in facts.listeners if facts.type in (*OF_JOINTS, *SPEEDS) else ():
                    if name not in self._settings:
                        self._settings[name] = {}
                        self._asked[name] = self._node.create_client(GetParameters, f"{name}/get_parameters")
        for name, client in self._asked.items():
            if client is not None and client.service_is_ready():
                self._asked[name] = None
                for parameter in PARAMETERS:
                    future = client.call_async(GetParameters.Request(names=[parameter]))
                    future.add_done_callback(partial(self._answered, name, parameter))
                    self._futures.append((client, future))  # kept until the end

    def finish(self) -> list[TopicFacts]:
        """All topics that somebody says or hears, with what their controllers answered."""
        for facts in self.topics.values():
            for name in facts.listeners:
                settings: Mapping[str, object] = self._settings.get(name, {})
                if isinstance(joints := settings.get(JOINTS), list) and joints:
                    facts.joints_told = tuple(map(str, joints))
                if isinstance(moving := settings.get(NONZERO), bool):
                    facts.ends_moving = moving
                if facts.type in SPEEDS and not math.isnan(stops_s := speed_driver.stops_after_s(settings)):
                    facts.stops_s = stops_s
        return [t for t in self.topics.values() if t.count or t.listeners or t.unreadable]

    def _listeners(self, topic: str) -> tuple[str, ...]:
        ends = (endpoint(info).node for info in self._node.get_subscriptions_info_by_topic(topic))
        return tuple(sorted({name for name in ends if name != self._node.get_fully_qualified_name()}))

    def _heard(self, facts: TopicFacts, message: Any) -> None:
        facts.take(message, time.monotonic())

    def _told(self, key: str, message: String) -> None:
        self.said[key] = message.data

    def _answered(self, name: str, parameter: str, future: Any) -> None:
        values = future.result().values if future.exception() is None else []
        for value in values:
            self._settings[name][parameter] = parameter_value(value)


def survey_topics(seconds: float) -> tuple[list[TopicFacts], str, str]:
    """All topics of the domain, heard for so long once a joint is heard of, the URDF that a driver describes and the
    instruction (empty: not said)."""
    context = rclpy.Context()
    start_ros(context=context)
    node = Node(NAME, context=context, use_global_arguments=False, start_parameter_services=False, enable_rosout=False)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        survey, looked, began, heard_at = Survey(node), 0.0, time.monotonic(), math.inf
        while (now := time.monotonic()) < min(heard_at + seconds, began + seconds + DISCOVERY_S):
            if heard_at == math.inf and any(facts.tracks or facts.parts for facts in survey.topics.values()):
                heard_at = now
            if now - looked > LOOK_AGAIN_S:
                looked = now
                survey.look()
            executor.spin_once(timeout_sec=0.05)
        return survey.finish(), survey.said.get("urdf", ""), survey.said.get("prompt", "")
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown(context=context)
