"""Looks at the ROS graph before a launch: which node names are taken, who tells the time, and whether a driver
describes the robot."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable

import rclpy
from rcl_interfaces.srv import GetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import String

from pi0_ros.launching.surroundings import Surroundings
from pi0_ros.nodes.messages import LATCHED
from pi0_ros.nodes.ros import find_quickly, start_ros

LOOK_S = 1.0  # nodes are found one by one
ANSWER_S = 2.0  # a living node that is not at work answers within


def look_around(namespace: str, names: Iterable[str]) -> Surroundings:
    """What runs in `namespace` ("": none) under these names; takes `LOOK_S`, more where somebody has one of them."""
    find_quickly()
    context = rclpy.Context()
    start_ros(context=context)
    node = Node(
        f"pi0_launch_{os.getpid()}",
        namespace=namespace,
        context=context,
        use_global_arguments=False,
        start_parameter_services=False,
        enable_rosout=False,
    )
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        return _look(node, executor, set(names))
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown(context=context)


def _look(node: Node, executor: SingleThreadedExecutor, names: set[str]) -> Surroundings:
    def spin(limit_s: float, done: Callable[[], bool] = lambda: False) -> None:
        end = time.monotonic() + limit_s
        while not done() and time.monotonic() < end:
            executor.spin_once(timeout_sec=0.05)

    described: list[String] = []
    node.create_subscription(String, "robot_description", described.append, LATCHED)
    spin(LOOK_S)
    own = node.get_namespace()
    there = {name for name, space in node.get_node_names_and_namespaces() if space == own and name in names}
    clients = {name: node.create_client(GetParameters, f"{name}/get_parameters") for name in there}
    asked: dict[str, rclpy.Future] = {}

    def answered() -> bool:
        for name, client in clients.items():
            if name not in asked and client.service_is_ready():
                asked[name] = client.call_async(GetParameters.Request(names=["use_sim_time"]))
        return len(asked) == len(clients) and all(future.done() for future in asked.values())

    if clients:
        spin(ANSWER_S, answered)
    if node.count_publishers("robot_description"):
        spin(ANSWER_S, lambda: bool(described))
    alive = {name for name, future in asked.items() if future.done()}
    clocks = {
        f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in node.get_publishers_info_by_topic("/clock")
    }
    text = described[-1].data if described else ""
    return Surroundings(frozenset(alive), frozenset(there - alive), text, frozenset(clocks))
