"""A publisher or subscriber of the ROS graph as the doctor's checks take it."""

from __future__ import annotations

import math
from typing import Any

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
