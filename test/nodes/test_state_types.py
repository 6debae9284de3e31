"""States as drivers publish them, heard by controller, monitor and view over real DDS."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("viser")

from pi0_ros.robot import StateTopic, load_robot, robot_to_yaml

pytestmark = pytest.mark.dds
JOINT_STATE, POSES = "sensor_msgs/msg/JointState", "geometry_msgs/msg/PoseArray"
LISTENERS = """
import sys, time
import numpy as np
import rclpy
from geometry_msgs.msg import Point, Pose, PoseArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64
from pi0_ros.nodes.controller_node import ControllerNode
from pi0_ros.nodes.monitor_node import MonitorNode
from pi0_ros.nodes.viewer_node import ViewerNode

robot = Parameter("robot", value=sys.argv[1])
rclpy.init(args=["--ros-args", "-p", f"robot:={sys.argv[1]}"])
controller = ControllerNode()
monitor = MonitorNode(parameter_overrides=[robot])
viewer = ViewerNode(parameter_overrides=[robot, Parameter("port", value=18180)])
arm, hand = Node("arm"), Node("hand")
joints = [node.create_publisher(JointState, "/joint_states", 5) for node in (arm, hand)]
elbow, poses = arm.create_publisher(Float64, "/elbow", 5), hand.create_publisher(PoseArray, "/wrist", 5)
executor = SingleThreadedExecutor()
for node in (controller, monitor, viewer):
    executor.add_node(node)
sent = np.linspace(0.1, 0.6, len(monitor.robot.joints))
names = monitor.robot.joint_names
heard = lambda: (controller.controller.feedback.position, monitor._state, viewer._state)

def say(with_gripper):
    stamp = arm.get_clock().now().to_msg()
    def joint_state(publisher, names, values):
        message = JointState(name=names, position=values)
        message.header.stamp = stamp
        publisher.publish(message)
    joint_state(joints[0], ["wheel", names[1], names[0]], [9.0, sent[1], sent[0]])
    joint_state(joints[0], list(names), [])
    joint_state(joints[1], ["finger"] if with_gripper else ["other"], [sent[5]])
    elbow.publish(Float64(data=sent[2]))
    message = PoseArray(poses=[Pose(position=Point(x=x)) for x in (9.0, sent[3], sent[4])])
    message.header.stamp = stamp
    poses.publish(message)

def until(done, with_gripper):
    end = time.monotonic() + 60.0
    while not done():
        assert time.monotonic() < end, (heard(), controller.controller.not_ready(controller.now()))
        say(with_gripper)
        for _ in range(40):
            executor.spin_once(timeout_sec=0.001)

until(lambda: all(np.allclose(position, sent) for position in heard()), True)
until(lambda: not controller.controller.not_ready(controller.now()), True)
until(lambda: controller.controller.feedback.stale(controller.now()), False)
print("stopped:", controller.controller.feedback.stale(controller.now()), flush=True)
controller.close()
viewer.close()
print("all of them heard it", flush=True)
"""


def test_the_nodes_merge_what_several_publishers_say(ros_domain: int, tmp_path: Path) -> None:
    """Two publishers with their own joints on one topic, one of them foreign or without positions, a bare number, and a
    path into another type. A joint that stops is named, and no other."""
    demo = load_robot("demo_arm")
    yaw, shoulder, elbow, wrist, roll, gripper = demo.joint_names
    state = (
        StateTopic("/joint_states", JOINT_STATE, (yaw, shoulder), 30.0),
        StateTopic("/joint_states", JOINT_STATE, (gripper,), 1.0, names=("finger",)),
        StateTopic("/elbow", "std_msgs/msg/Float64", (elbow,), 30.0),
        StateTopic("/wrist", POSES, (wrist, roll), 30.0, field="poses[1:3].position.x"),
    )
    file = tmp_path / "arm.yaml"
    file.write_text(robot_to_yaml(replace(demo, state=state)))
    environment = os.environ | {"ROS_DOMAIN_ID": str(ros_domain)}
    command = [sys.executable, "-c", LISTENERS, str(file)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250)
    assert "all of them heard it" in done.stdout, done.stdout[-2000:] + done.stderr[-4000:]
    (said,) = [line for line in done.stdout.splitlines() if line.startswith("stopped:")]
    assert gripper in said and not any(name in said for name in (yaw, shoulder, elbow, wrist, roll)), said
