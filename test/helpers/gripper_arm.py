"""An arm whose gripper is an action server: its robot file, and its driver without the gripper."""

from __future__ import annotations

from conftest import wait_until
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import SetBool

from pi0_ros.nodes.messages import LATCHED
from pi0_ros.robot import Robot, robot_from_yaml

GRIPPER = "control_msgs/action/GripperCommand"
ACTION = "gripper_controller/gripper_cmd"
ARM = f"""
name: arm
control_rate_hz: 25
policy_rate_hz: 2
dataset_fps: 20
joints:
  - {{name: yaw, unit: rad, kind: revolute, limits: {{position: [-1, 1], velocity: 2, acceleration: 9}},
     action: relative}}
  - {{name: pitch, unit: rad, kind: revolute, limits: {{position: [-1, 1], velocity: 2, acceleration: 9}},
     action: relative}}
  - {{name: grip, unit: normalized, kind: gripper, limits: {{position: [0, 1], velocity: 2, acceleration: 20}},
     action: absolute}}
cameras: []
state:
  - {{topic: joint_states, type: sensor_msgs/msg/JointState, max_age_s: 2.0, names: [yaw, pitch, finger_joint],
     scale: [1, 1, 0.08]}}
commands:
  - {{name: arm, topic: arm, type: sensor_msgs/msg/JointState, joints: [yaw, pitch]}}
  - {{name: gripper, server: {ACTION}, type: {GRIPPER}, joints: [grip], scale: [0.08], on_change: 0.1,
     fixed: {{command.max_effort: 20}}}}
action: {{source: command, max_age_s: 2.0}}
"""

PARALLEL = "control_msgs/action/ParallelGripperCommand"
OF_PARALLEL = ARM.replace(GRIPPER, f"{PARALLEL}, names: [finger_joint]").replace(
    "command.max_effort: 20", "command.effort: [20]"
)


def robot(text: str = ARM) -> Robot:
    return robot_from_yaml(text, "arm.yaml")


class Body(Node):
    """The arm without its gripper; hears what the controller says."""

    def __init__(self, context: Context) -> None:
        super().__init__("arm_driver", context=context)
        self.position, self.commands, self.state, self.said, self.told = [0.0, 0.0], 0, "", "", []
        self.create_subscription(JointState, "arm", self._on_command, 10)
        self.create_subscription(String, "pi0/state", lambda message: setattr(self, "state", message.data), LATCHED)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.create_subscription(JointState, f"{ACTION}/sent", self.told.append, 100)
        self._states = self.create_publisher(JointState, "joint_states", 10)
        self.create_timer(0.02, self._feel)

    def _on_command(self, message: JointState) -> None:
        self.commands += 1
        self.position = list(message.position)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.said = next((item.message for item in message.status if "controller" in item.name), self.said)

    def _feel(self) -> None:
        message = JointState(name=["yaw", "pitch"], position=self.position)
        message.header.stamp = self.get_clock().now().to_msg()
        self._states.publish(message)

    def arm(self) -> str:
        """Ask the controller to arm; what it answers, "armed" or why not."""
        client = self.create_client(SetBool, "controller/arm")
        assert client.wait_for_service(timeout_sec=30.0)
        answer = client.call_async(SetBool.Request(data=True))
        wait_until(answer.done, 30.0, "an answer")
        self.destroy_client(client)
        return str(answer.result().message)
