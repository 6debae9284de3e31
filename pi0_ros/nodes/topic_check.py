"""Listen to a robot's topics for some seconds and say what is wrong with them (for `pi0 doctor --live`)."""

from __future__ import annotations

import time

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter

from pi0_ros.doctor.topic_report import TopicReport
from pi0_ros.nodes.messages import SENSOR, message_class, stamp_to_ns
from pi0_ros.observation.streams import ObservationBuffer, StaleError
from pi0_ros.robot import Robot

DISCOVERY_LIMIT_S = 10.0  # Fast DDS may need three seconds to find a publisher, more on a busy machine


def listen(robot: Robot, seconds: float, use_sim_time: bool = False) -> tuple[list[TopicReport], list[str]]:
    """(a report for each topic of the robot file, what is wrong with an observation made at the end).

    In a ROS context of its own; waits up to `DISCOVERY_LIMIT_S` for publishers before it listens.
    """
    context = rclpy.Context()
    rclpy.init(context=context)
    node = Node("pi0_doctor", context=context, parameter_overrides=[Parameter("use_sim_time", value=use_sim_time)])
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        return _listen(node, executor, robot, seconds)
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown(context=context)


def _listen(
    node: Node, executor: SingleThreadedExecutor, robot: Robot, seconds: float
) -> tuple[list[TopicReport], list[str]]:
    buffer = ObservationBuffer(robot)
    commands = {group.topic for group in robot.commands}
    reports = [TopicReport(topic, kind, command=topic in commands) for topic, kind in robot.topics.items()]
    observed = [report for report in reports if not report.command]
    for report in observed:
        _subscribe(node, report, buffer)
    end = time.monotonic() + DISCOVERY_LIMIT_S
    # Counted, not `all`: every report is filled in, whatever the ones before it lack.
    while sum(_offered(node, report) for report in reports) < len(reports) and time.monotonic() < end:
        executor.spin_once(timeout_sec=0.1)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        executor.spin_once(timeout_sec=0.1)
    try:
        buffer.observe(node.get_clock().now().nanoseconds, robot.prompt)
    except StaleError as error:
        return reports, error.problems
    return reports, []


def _subscribe(node: Node, report: TopicReport, buffer: ObservationBuffer) -> None:
    def received(message: object) -> None:
        now_ns = node.get_clock().now().nanoseconds
        report.arrivals.append(time.monotonic())
        header = getattr(message, "header", None)  # not every message has one
        stamp_ns = stamp_to_ns(header.stamp) if header is not None else 0
        report.ages.append((now_ns - stamp_ns) * 1e-9 if stamp_ns else 0.0)
        buffer.push_message(report.topic, message, now_ns)

    node.create_subscription(message_class(report.wanted_type), report.topic, received, SENSOR)


def _offered(node: Node, report: TopicReport) -> bool:
    publishers = node.get_publishers_info_by_topic(report.topic)
    subscribers = node.get_subscriptions_info_by_topic(report.topic)
    ends = subscribers if report.command else publishers
    report.publishers = {end.node_name for end in publishers}
    report.subscribers = {end.node_name for end in subscribers}
    report.types = tuple(sorted({end.topic_type for end in ends}))
    return bool(ends)
