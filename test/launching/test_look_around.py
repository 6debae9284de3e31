"""Before a launch: names that are taken, those of nodes that no longer answer, and a driver's description."""

from __future__ import annotations

import sys
import time

import pytest

rclpy = pytest.importorskip("rclpy")
from rclpy.node import Node  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from spinning import spinning  # noqa: E402
from std_msgs.msg import String  # noqa: E402

from pi0_ros.nodes.look_around import look_around  # noqa: E402
from pi0_ros.nodes.messages import LATCHED  # noqa: E402

pytestmark = pytest.mark.dds
UP = [sys.executable, "-m", "pi0_ros.cli", "up"]


def test_who_is_there_and_who_answers(ros_context, wait_until) -> None:
    nodes = [Node("controller", context=ros_context, namespace="left"), Node("monitor", context=ros_context)]
    deaf = Node("policy", context=ros_context, namespace="left")  # nobody spins it
    described = nodes[0].create_publisher(String, "robot_description", LATCHED)
    described.publish(String(data="<robot/>"))
    with spinning(ros_context, *nodes):
        seen = []
        looked = lambda: seen.append(look_around("left", ["controller", "policy", "monitor"])) or seen[-1].nodes  # noqa: E731
        wait_until(looked, 60.0, "the node that answers")
        assert (seen[-1].nodes, seen[-1].silent) == ({"controller"}, {"policy"})
        assert seen[-1].description == "<robot/>"
        assert not look_around("right", ["controller", "policy"]).nodes
    deaf.destroy_node()


def test_a_name_that_is_taken_starts_nothing(ros_context, processes, wait_until) -> None:
    taken = Node("monitor", context=ros_context)
    with spinning(ros_context, taken):
        time.sleep(1.0)
        processes.start("up", [*UP, "monitor", "robot:=demo_arm", "view:=false"])
        wait_until(lambda: not processes.is_running("up"), 60.0, lambda: processes.tail("up"))
        said = processes.output("up")
        assert processes.returncode("up") == 2, said
        assert "/monitor is running already in this ROS_DOMAIN_ID" in said and "started" not in said
        processes.start("other", [*UP, "monitor", "robot:=demo_arm", "view:=false", "namespace:=right"])
        processes.wait_for_output("other", "draws the path", 60.0)


def test_a_second_simulated_time_starts_nothing(ros_context, processes, wait_until) -> None:
    """Namespaces keep two simulators apart, but not their clocks."""
    simulator = Node("sim", context=ros_context, namespace="left")
    simulator.create_publisher(Clock, "/clock", 1)
    with spinning(ros_context, simulator):
        wait_until(lambda: "/left/sim" in look_around("right", []).clocks, 60.0, "the clock")
        processes.start("up", [*UP, "demo", "namespace:=right", "use_sim_time:=true", "view:=false"])
        wait_until(lambda: not processes.is_running("up"), 60.0, lambda: processes.tail("up"))
        said = processes.output("up")
        assert processes.returncode("up") == 2 and "started" not in said, said
        assert "/clock is told already by /left/sim" in said and "another ROS_DOMAIN_ID" in said
