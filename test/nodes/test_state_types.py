"""A state type more is a line in the table: controller, monitor and view then hear it, over real DDS."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("viser")

from pi0_ros.robot import load_robot, robot_to_yaml

pytestmark = pytest.mark.dds
JOINT_STATE, ARRAY = "sensor_msgs/msg/JointState", "std_msgs/msg/Float64MultiArray"
LISTENERS = """
import sys, time
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_msgs.msg import Float64MultiArray
from pi0_ros.nodes.controller_node import ControllerNode
from pi0_ros.nodes.monitor_node import MonitorNode
from pi0_ros.nodes.viewer_node import ViewerNode
from pi0_ros.robot.message_types import STATE_TYPES, JointMessages

STATE_TYPES["std_msgs/msg/Float64MultiArray"] = JointMessages(lambda msg, field: (None, msg.data))
robot = Parameter("robot", value=sys.argv[1])
rclpy.init(args=["--ros-args", "-p", f"robot:={sys.argv[1]}"])
controller = ControllerNode()
monitor = MonitorNode(parameter_overrides=[robot])
viewer = ViewerNode(parameter_overrides=[robot, Parameter("port", value=18180)])
publisher = Node("arm").create_publisher(Float64MultiArray, monitor.robot.state[0].topic, 5)
executor = SingleThreadedExecutor()
for node in (controller, monitor, viewer):
    executor.add_node(node)
sent = np.linspace(0.1, 0.6, len(monitor.robot.joints))
heard = lambda: (controller.controller.feedback.position, monitor._state, viewer._state)
end = time.monotonic() + 60.0
while not all(np.allclose(position, sent) for position in heard()):
    assert time.monotonic() < end, heard()
    publisher.publish(Float64MultiArray(data=sent.tolist()))
    executor.spin_once(timeout_sec=0.02)
controller.close()
viewer.close()
print("all of them heard it", flush=True)
"""


def test_the_nodes_listen_to_what_the_robot_file_names(ros_domain: int, tmp_path: Path) -> None:
    text = robot_to_yaml(load_robot("demo_arm"))
    begin, state, end = text.partition("\nstate:")
    file = tmp_path / "arm.yaml"
    file.write_text(begin + state + end.replace(JOINT_STATE, ARRAY, 1))
    environment = os.environ | {"ROS_DOMAIN_ID": str(ros_domain)}
    command = [sys.executable, "-c", LISTENERS, str(file)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=150)
    assert "all of them heard it" in done.stdout, done.stdout[-2000:] + done.stderr[-4000:]
