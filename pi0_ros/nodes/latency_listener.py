"""Listening to `pi0/latency`: the halves of each chunk's trace, from the policy and the controller."""

from __future__ import annotations

import time

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor

from pi0_ros.control.latency import Traces
from pi0_ros.nodes.ros import start_ros


def listen(seconds: float, topic: str) -> Traces:
    """What was said on `topic` within `seconds`."""
    traces = Traces()
    start_ros(None)
    node = rclpy.create_node("latency_trace")
    node.create_subscription(DiagnosticArray, topic, lambda message: traces.take([message]), 100)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    end = time.monotonic() + seconds
    try:
        while (left := end - time.monotonic()) > 0:
            executor.spin_once(timeout_sec=min(left, 0.1))  # Ctrl-C is heard between the waits
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    return traces
