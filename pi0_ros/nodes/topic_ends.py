"""Publishers, subscribers and action servers of the ROS graph as the doctor's checks take them."""

from __future__ import annotations

import math
from typing import Any

from rclpy.action import get_action_server_names_and_types_by_node
from rclpy.node import Node, NodeNameNonExistentError
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy

from pi0_ros.doctor.heard import Endpoint

INFINITE_NS = 2**62  # a duration that the middleware calls infinite is longer


def endpoint(info: Any) -> Endpoint:
    """One entry of `get_publishers_info_by_topic` or `get_subscriptions_info_by_topic`."""
    qos = info.qos_profile
    deadline_ns = qos.deadline.nanoseconds
    return Endpoint(
        f"{info.node_namespace.rstrip('/')}/{info.node_name}",
        info.topic_type,
        "best_effort" if qos.reliability == ReliabilityPolicy.BEST_EFFORT else "reliable",
        "transient_local" if qos.durability == DurabilityPolicy.TRANSIENT_LOCAL else "volatile",
        deadline_ns * 1e-9 if 0 < deadline_ns < INFINITE_NS else math.inf,
    )


def served_actions(node: Node) -> dict[str, tuple[str, list[str]]]:
    """Action -> its type and the nodes that serve it; clients do not count."""
    found: dict[str, tuple[str, list[str]]] = {}
    for name, space in node.get_node_names_and_namespaces():
        try:
            served = get_action_server_names_and_types_by_node(node, name, space)
        except NodeNameNonExistentError:  # it has just ended
            continue
        for action, kinds in served:
            found.setdefault(action, (kinds[0], []))[1].append(f"{space.rstrip('/')}/{name}")
    return found
