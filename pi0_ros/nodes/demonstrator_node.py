"""The scripted demonstrator as a teleoperator on topics: joint states and cube markers in, commands out.

ros2 run pi0_ros demonstrator_node --ros-args -p colour:=red
"""

from __future__ import annotations

import sys

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory
from visualization_msgs.msg import MarkerArray

from pi0_ros.base.errors import InputError
from pi0_ros.nodes.messages import LATEST, stamp_to_ns
from pi0_ros.nodes.parameters import declare
from pi0_ros.nodes.robots import robot_of
from pi0_ros.nodes.running import run_node
from pi0_ros.nodes.sim_messages import command_message
from pi0_ros.sim.demonstrator import Demonstrator
from pi0_ros.sim.world import JOINTS


class DemonstratorNode(Node):
    """Answers every joint state with a command while `colour` names a cube.

    With `corrects` on the robot file's takeover topic, where the controller follows as far as it is told to.
    """

    def __init__(self, corrects: bool | None = None) -> None:
        super().__init__("demonstrator")
        values = declare(self, "demonstrator")
        self.colour = str(values["colour"])
        corrects = values["corrects"] if corrects is None else corrects
        self.cubes: dict[str, np.ndarray] = {}
        self.joints: np.ndarray | None = None
        self._demonstrator = Demonstrator()
        robot = robot_of(self, "demo_arm")
        self._last: tuple[np.ndarray, np.ndarray] | None = None  # the controller's command and its velocity, [6] each
        topic = (robot.takeover.topics if corrects else robot.commands)[0].topic
        self._commands = self.create_publisher(JointTrajectory, topic, QoSProfile(depth=10))
        if corrects:
            self.create_subscription(JointTrajectory, "pi0/command", self._on_command, LATEST)
        self.create_subscription(MarkerArray, "demo_arm/objects", self._on_objects, LATEST)
        self.create_subscription(JointState, robot.state[0].topic, self._on_joints, LATEST)

    def begin(self, colour: str, offset: np.ndarray | None = None) -> None:
        """Demonstrate with the cube of `colour` from where the arm is; `offset` [2] (m) misplaces the first aim."""
        if self.joints is not None:
            self._demonstrator.reset(self.joints, offset)
        self.colour = colour

    def take_over(self, colour: str) -> None:
        """Go on with the cube of `colour` from the controller's last command and its motion."""
        if self._last is None:
            raise InputError("nothing was heard on pi0/command: there is nothing to take over")
        self._demonstrator.take_over(*self._last)
        self.colour = colour

    @property
    def still(self) -> bool:
        """Whether the instruction is fulfilled, and the arm at home and at rest."""
        return self._demonstrator.still

    def rest(self) -> None:
        """Stop commanding."""
        self.colour = ""

    def _on_objects(self, message: MarkerArray) -> None:
        for marker in message.markers:
            if marker.ns.startswith("cube/"):
                place, turn = marker.pose.position, marker.pose.orientation
                self.cubes[marker.ns[5:]] = np.array([place.x, place.y, place.z, turn.w, turn.x, turn.y, turn.z])

    def _on_command(self, message: JointTrajectory) -> None:
        (point,) = message.points
        self._last = np.array(point.positions), np.array(point.velocities)

    def _on_joints(self, message: JointState) -> None:
        positions = dict(zip(message.name, message.position, strict=True))
        self.joints = np.array([positions[name] for name in JOINTS])
        if self.colour in self.cubes:
            command = self._demonstrator.act(self.joints, self.cubes, self.colour)
            self._commands.publish(command_message(command, stamp_to_ns(message.header.stamp)))


def main(args: list[str] | None = None) -> int:
    """Run the demonstrator until SIGINT or SIGTERM."""
    return run_node("demonstrator", DemonstratorNode, args)


if __name__ == "__main__":
    sys.exit(main())
