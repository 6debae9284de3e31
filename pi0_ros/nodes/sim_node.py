"""The simulated arm as a robot on ROS topics: cameras, joint states and a command topic, as the robot file names them.

    ros2 run pi0_ros sim_node --ros-args -p seed:=3
    ros2 service call /sim/reset std_srvs/srv/Trigger

Beside the robot's own topics, and a `camera_info` for each camera, it publishes what only spectators and the scripted
demonstrator may use: where the cubes are (`/demo_arm/objects`), and seed, time, what was lifted and what lies in the
tray (`/demo_arm/status`).
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import Pose, Vector3
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory
from visualization_msgs.msg import Marker, MarkerArray

from pi0_ros.nodes.messages import (
    LATCHED,
    LATEST,
    STATUS,
    diagnostic_array,
    diagnostic_status,
    hardware_id,
    ns_to_stamp,
    stamp_to_ns,
    status_name,
)
from pi0_ros.nodes.parameters import declare
from pi0_ros.nodes.prompt_listener import PromptListener
from pi0_ros.nodes.robots import robot_of
from pi0_ros.nodes.running import Ending, run_node
from pi0_ros.nodes.sim_messages import camera_info, image_message, joint_message
from pi0_ros.sim.referee import Referee
from pi0_ros.sim.world import (
    IMAGE_EVERY,
    IMAGE_PHASES,
    JOINTS,
    JOINTS_EVERY,
    TICK,
    TRAY,
    TRAY_HALF,
    Disturbance,
    Start,
    World,
)

TICK_NS = round(TICK * 1e9)
COLOURS = {
    "red": (0.85, 0.12, 0.10),
    "green": (0.12, 0.65, 0.18),
    "blue": (0.12, 0.25, 0.85),
    "tray": (0.2, 0.22, 0.26),
}
LOCKSTEP_PATIENCE_S = 0.25


class SimNode(Node):
    """Publishes joint states at 50 Hz, each camera at 20 Hz and the scene at 25 Hz of simulated time."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("sim", **kwargs)
        self._prefix = declare(self, "sim")["frame_prefix"]
        self.world = World()
        self.referee = Referee()
        self.robot = robot_of(self, "demo_arm")
        self.images = {
            camera.name: self.create_publisher(Image, camera.topic, QoSProfile(depth=2))
            for camera in self.robot.cameras
        }
        self.infos = {
            camera.name: self.create_publisher(
                CameraInfo, f"{camera.topic.rpartition('/')[0]}/camera_info", QoSProfile(depth=2)
            )
            for camera in self.robot.cameras
        }
        self._info = {name: camera_info(*self.world.focal_length(name)) for name in self.infos}
        self.joint_states = self.create_publisher(JointState, self.robot.state[0].topic, QoSProfile(depth=10))
        self.objects = self.create_publisher(MarkerArray, "demo_arm/objects", LATEST)
        self.status = self.create_publisher(String, "demo_arm/status", LATCHED)
        self.clock = self.create_publisher(Clock, "/clock", QoSProfile(depth=10)) if self._value("clock") else None
        self.create_subscription(JointTrajectory, self.robot.commands[0].topic, self._on_command, LATEST)
        self.create_service(Trigger, "~/reset", self._on_reset)
        self.create_service(Trigger, "~/new_scene", self._on_new_scene)
        self._prompts = PromptListener(self, "policy/prompt", self._on_prompt)
        self.diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._scenes = 0  # laid out by ~/new_scene
        self._command: np.ndarray | None = None
        self._commanded_tick = -1000
        self._answered_ns = 0
        self._ticks = 0
        self._now_ns = time.time_ns()
        self.deadline = time.monotonic()  # of the next tick, wall time
        self._reset()

    @property
    def period_s(self) -> float:
        """Wall seconds per tick; in lockstep, real time until a commander is at work."""
        return TICK if self._value("lockstep") and not self._commanded_lately else TICK / float(self._value("speed"))

    def tick(self) -> None:
        """Advance the world by one TICK and publish what is due."""
        self.world.step(self._command)
        self.referee.score.update(self.world.cubes())
        self.referee.watch(self.world.time)
        self._ticks += 1
        self._now_ns = self._now_ns + TICK_NS if self.clock else self.get_clock().now().nanoseconds
        if self.clock:
            self.clock.publish(Clock(clock=ns_to_stamp(self._now_ns)))
        for camera, phase in IMAGE_PHASES.items():
            if self._ticks % IMAGE_EVERY == phase:
                self._publish_image(camera)
        if self._ticks % 4 == 0:
            self._publish_objects()
        if self._ticks % 10 == 0:
            self._publish_status()
        if self._ticks % 50 == 0:
            self._publish_diagnostics()
        if self._ticks % JOINTS_EVERY == 0:
            self._publish_joints()

    def awaits_command(self) -> bool:
        """In lockstep: the commander is at work and has not yet answered the newest joint state."""
        unanswered = self._ticks % JOINTS_EVERY == 0 and self._answered_ns < self._now_ns
        return bool(self._value("lockstep")) and self._commanded_lately and unanswered

    @property
    def _commanded_lately(self) -> bool:
        return self._ticks - self._commanded_tick < 20

    def _value(self, name: str) -> float | bool | str:
        return self.get_parameter(name).value

    def _start(self) -> Start:
        return Start(str(self._value("arm")), tuple(str(self._value("tray")).split()))

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._reset()
        response.success, response.message = True, self._status_json()
        return response

    def _on_new_scene(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Other places for the cubes; the arm stays where it is, so this may be asked for in the middle of a motion."""
        self._scenes += 1
        self.world.scatter(int(self._value("seed")) + 1000 * self._scenes)
        self.referee.scene()
        self._publish_objects()
        response.success, response.message = True, "a new scene"
        return response

    def _on_prompt(self, text: str) -> None:
        if text != self.referee.text or self.referee.settled:
            self.referee.instruct(text, self.world.time)

    def _publish_diagnostics(self) -> None:
        referee = self.referee
        level = DiagnosticStatus.OK if referee.understood else DiagnosticStatus.WARN
        values = {"asked": referee.asked, "fulfilled": referee.fulfilled, "instruction": referee.text}
        task = status_name(self, "task").removeprefix(STATUS)
        status = diagnostic_status(task, level, referee.sentence(), values, hardware_id(self, self.robot.name))
        self.diagnostics.publish(diagnostic_array(ns_to_stamp(self._now_ns), [status]))

    def _reset(self) -> None:
        self.world.reset(int(self._value("seed")), self._start())
        self.world.disturbance = Disturbance(float(self._value("disturbance")))
        self.referee.scene()
        self._command = None
        self._publish_objects()
        self._publish_status()

    def _on_command(self, message: JointTrajectory) -> None:
        positions = dict(zip(message.joint_names, message.points[-1].positions, strict=False)) if message.points else {}
        command = np.array([positions.get(name, np.nan) for name in JOINTS])
        if not np.isfinite(command).all():
            topic, needed = self.robot.commands[0].topic, ", ".join(JOINTS)
            text = f"{topic}: command ignored, it must name {needed} with finite positions"
            self.get_logger().error(text, throttle_duration_sec=1.0)
            return
        self._command = command
        self._commanded_tick = self._ticks
        self._answered_ns = stamp_to_ns(message.header.stamp) or self._now_ns  # zero: now

    def _publish_joints(self) -> None:
        positions, velocities = self.world.joint_positions(), self.world.joint_velocities()
        self.joint_states.publish(joint_message(positions, velocities, self._now_ns))

    def _publish_image(self, camera: str) -> None:
        image = image_message(self.world.render(camera), f"{self._prefix}{camera}_camera", self._now_ns)
        self._info[camera].header = image.header
        self.infos[camera].publish(self._info[camera])
        self.images[camera].publish(image)

    def _publish_objects(self) -> None:
        boxes = {f"cube/{name}": (pose, (0.04, 0.04, 0.04)) for name, pose in self.world.cubes().items()}
        half = np.arctan2(TRAY[1], TRAY[0]) / 2
        tray = np.array([*TRAY, 0.006, np.cos(half), 0, 0, np.sin(half)])
        boxes["tray"] = (tray, (2 * TRAY_HALF[0], 2 * TRAY_HALF[1], 0.012))
        self.objects.publish(MarkerArray(markers=[self._box(name, *box) for name, box in boxes.items()]))

    def _box(self, name: str, pose: np.ndarray, size: tuple[float, float, float]) -> Marker:
        marker = Marker(ns=name, type=Marker.CUBE, action=Marker.ADD, scale=Vector3(x=size[0], y=size[1], z=size[2]))
        marker.header.frame_id = f"{self._prefix}base"
        marker.header.stamp = ns_to_stamp(self._now_ns)
        marker.pose = Pose()
        place, turn = marker.pose.position, marker.pose.orientation
        place.x, place.y, place.z = pose[:3].tolist()
        turn.w, turn.x, turn.y, turn.z = pose[3:].tolist()
        marker.color.r, marker.color.g, marker.color.b = COLOURS[name.split("/")[-1]]
        marker.color.a = 1.0
        return marker

    def _publish_status(self) -> None:
        self.status.publish(String(data=self._status_json()))

    def _status_json(self) -> str:
        fields = {
            "seed": self._value("seed"),
            "time": round(self.world.time, 3),
            "lifted": self.referee.score.lifted,
            "in_tray": self.referee.score.in_tray,
        }
        return json.dumps(fields)


def _turn(node: SimNode, executor: SingleThreadedExecutor, ending: Ending) -> None:
    """One tick of the world, and messages until the next is due."""
    node.tick()
    patience = time.monotonic() + LOCKSTEP_PATIENCE_S
    while node.awaits_command() and time.monotonic() < patience and not ending.reason:
        executor.spin_once(timeout_sec=0.01)
    # A late simulator lets simulated time slip rather than hurry to catch up.
    node.deadline = max(node.deadline + node.period_s, time.monotonic() - 2 * node.period_s)
    while (remaining := node.deadline - time.monotonic()) > 0 and not ending.signals:
        executor.spin_once(timeout_sec=remaining)
    executor.spin_once(timeout_sec=0.0)


def main(args: list[str] | None = None) -> int:
    """Run the simulator until a signal ends it."""
    return run_node("sim", SimNode, args, spin=_turn)


if __name__ == "__main__":
    sys.exit(main())
