"""Monitor: what the policy plans and what the robot did, as markers, a path and a ghost for RViz and Foxglove.

    ros2 run pi0_ros monitor_node --ros-args -p robot:=demo_arm
    ros2 launch pi0_ros monitor.launch.py robot:=demo_arm rviz:=true

It listens to `pi0/chunk`, `pi0/command` and the robot's state topics. In the frame of the URDF's root link it publishes

- `pi0/markers`: every arm's planned path (cyan is soon, magenta is where the next chunk takes over, then it fades),
  executed path, and a ball where it is sent; of hands that are commanded by poses their axes, too, in the poses' frame
- `pi0/path`: the planned poses of the first tip, each with its time
- `pi0/ghost`: joint states of the plan's end (or sweeping along it), for a second robot model
- `pi0/joint_states`: the measured joints under the URDF's names and units, for robot_state_publisher

It publishes no transforms: on a ROS machine robot_state_publisher does, from `pi0/joint_states`.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections import deque
from functools import partial
from typing import Any

import numpy as np
from nav_msgs.msg import Path
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Header, String
from trajectory_msgs.msg import JointTrajectory
from visualization_msgs.msg import Marker, MarkerArray

from pi0_ros.base.disk import expanded
from pi0_ros.base.share import share_path
from pi0_ros.control.chunk import ActionChunk, ChunkError
from pi0_ros.monitor import markers
from pi0_ros.monitor.hands import HandsModel, undrawn
from pi0_ros.monitor.kinematics import UrdfError, parse_urdf
from pi0_ros.monitor.model import RobotModel, robot_model
from pi0_ros.monitor.plan import Cadence, path_fractions, remaining_times, smooth_positions
from pi0_ros.nodes.messages import (
    LATCHED,
    LATEST,
    STATES,
    chunk_from_message,
    message_class,
    ns_to_stamp,
    seconds_to_stamp,
    sent_from_message,
)
from pi0_ros.nodes.parameters import declare
from pi0_ros.nodes.robots import robot_of
from pi0_ros.nodes.running import run_node
from pi0_ros.observation.joint_messages import MessageError, decode_positions
from pi0_ros.robot import StateTopic

PERIOD_S = 0.1
NICENESS = 5  # pictures never take a core from the policy or the controller
TRAIL_STEP_S = 0.05
LINE_WIDTH = 0.006  # m
AXES_M = 0.08  # of a hand's axes
GAP_S = 0.5  # a trail is broken where nothing was heard for so long,
LEAP = 3.0  # and where a joint went so many times farther than its speed allows: it was put there
LIFETIME_S = 1.0  # RViz keeps a marker that long after the monitor fell silent
Model = RobotModel | HandsModel


class MonitorNode(Node):
    """Publishes pictures of the plan ten times a second."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("monitor", **kwargs)
        values = declare(self, "monitor")
        self.robot = robot_of(self, values["robot"])
        self._urdf, self._tips = values["urdf"], values["tips"]
        self._closed_at, self._ghost_mode = values["gripper_closed_at"], values["ghost"]
        self._sweep_s, self._trail_s, self._prefix = values["sweep_s"], values["trail_s"], values["frame_prefix"]
        self.model: Model | None = None
        self._urdf_text = ""
        self.chunk: ActionChunk | None = None
        self._cadence = Cadence()
        self._state = np.where(self.robot.speed_mask, 0.0, np.nan)  # [J]; a speed moves nothing that is drawn
        self._commanded = np.full(len(self.robot.joints), np.nan)
        self._trail: deque[tuple[float, np.ndarray]] = deque()  # (s, measured positions [J])
        self._markers = self.create_publisher(MarkerArray, "pi0/markers", LATEST)
        self._path = self.create_publisher(Path, "pi0/path", LATEST)
        self._ghost = self.create_publisher(JointState, "pi0/ghost", LATEST)
        self._joint_states = self.create_publisher(JointState, "pi0/joint_states", 10)
        self._load_model()
        self.create_subscription(JointTrajectory, "pi0/chunk", self._on_chunk, LATEST)
        self.create_subscription(JointTrajectory, "pi0/command", self._on_command, LATEST)
        for topic in self.robot.state:
            self.create_subscription(message_class(topic.type), topic.topic, partial(self._on_state, topic), STATES)
        self.create_timer(PERIOD_S, self._publish, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _load_model(self) -> None:
        """The URDF of the parameter; without that the driver's, and until that comes the robot file's. Hands that are
        commanded by poses need none."""
        path = self._urdf or self.robot.urdf
        if path:
            file = share_path().joinpath(expanded(path))
            self._build_model(file.read_text("utf8"), str(file))
        else:
            self.model = HandsModel(self.robot) if self.robot.poses else None
            self.get_logger().warning(undrawn(self.robot, drawn=False))
        if not self._urdf and not self.robot.poses:
            self.create_subscription(String, "robot_description", self._on_description, LATCHED)

    def _on_description(self, message: String) -> None:
        if self.count_publishers("robot_description") > 1:
            self.get_logger().warning(
                "two nodes publish robot_description: start the driver before this launch, whose robot_state_publisher "
                "is then left out"
            )
        if message.data == self._urdf_text:
            return
        try:
            self._build_model(message.data, "robot_description")
        except UrdfError as error:
            kept = "the robot file's urdf is drawn" if self.model is not None else "no paths will be drawn"
            self.get_logger().error(f"{error}; {kept}")

    def _build_model(self, text: str, origin: str) -> None:
        self._urdf_text = text
        tips = [tip for tip in self._tips if tip]
        self.model = robot_model(self.robot, parse_urdf(text, origin), tips, self._closed_at)
        self.get_logger().info(f"draws the path of {', '.join(self.model.tips)} in frame {self.model.urdf.root}")
        if said := undrawn(self.robot, True, self.model.unmatched):
            self.get_logger().warning(said)

    def _now(self) -> float:
        return float(self.get_clock().now().nanoseconds) * 1e-9

    def _on_chunk(self, message: JointTrajectory) -> None:
        try:
            chunk = chunk_from_message(message, self.robot.action_names, self.get_clock().now().nanoseconds)
            if isinstance(self.model, RobotModel) and chunk.names != self.robot.joint_names:
                unsaid = ", ".join(name for name in self.robot.joint_names if name not in chunk.names)
                self.get_logger().warning(f"no path is drawn: chunks say nothing of {unsaid}", once=True)
                return
            self.chunk = chunk
            self._cadence.arrived(self.chunk.stamp, self._now())
        except ChunkError as error:
            self.get_logger().warning(f"pi0/chunk not drawn: {error}", throttle_duration_sec=2.0)
            return
        if self.model is not None:
            tip, poses = next(iter(self.model.tip_poses(self._of_all(self.chunk.actions)).items()))
            stamps = [ns_to_stamp(time_ns) for time_ns in self.chunk.times_ns]
            header = Header(frame_id=self._prefix + self.model.frame(tip), stamp=ns_to_stamp(self.chunk.stamp_ns))
            self._path.publish(markers.path_message(header, poses, stamps))

    def _of_all(self, actions: np.ndarray) -> np.ndarray:
        """Actions [..., A] as positions of all joints [..., J]; NaN of those that are no actions."""
        found = np.full((*actions.shape[:-1], len(self.robot.joints)), np.nan)
        found[..., self.robot.indices(self.robot.action_names)] = actions
        return found

    def _on_command(self, message: JointTrajectory) -> None:
        with contextlib.suppress(ChunkError):  # not ours: the controller's own are whole
            self._commanded = self._of_all(sent_from_message(message, self.robot.action_names))

    def _on_state(self, topic: StateTopic, message: Any) -> None:
        try:
            values = decode_positions(topic, message)
        except MessageError as error:
            self.get_logger().warning(f"not drawn: {error}", throttle_duration_sec=2.0)
            return
        heard = np.isfinite(values)
        self._state[self.robot.indices(topic.joints)[heard]] = values[heard]
        if self.model is None or np.isnan(self._state[self.model.seen]).any():
            return
        now = self._now()
        if isinstance(self.model, RobotModel):
            measured = self.model.urdf_positions(self._state)
            self._joint_states.publish(markers.joint_state(seconds_to_stamp(now), measured))
        if not self._trail or not 0 <= now - self._trail[-1][0] < TRAIL_STEP_S:
            if self._trail and self._leapt(*self._trail[-1], now):
                self._trail.clear()
            self._trail.append((now, self._state.copy()))

    def _leapt(self, before: float, there: np.ndarray, now: float) -> bool:
        """Whether it did not go from `there` [J] to where it is now: a scene began anew, or nothing was heard."""
        way = np.abs(self.robot.space.short_way(self._state, there))
        gone = LEAP * self.robot.plausible_velocity * (now - before)
        return bool(not 0 <= now - before <= GAP_S or (way > gone).any())

    def _header(self, time: float, tip: str) -> Header:
        assert self.model is not None
        return Header(frame_id=self._prefix + self.model.frame(tip), stamp=seconds_to_stamp(time))

    def _publish(self) -> None:
        if self.model is None:
            return
        now = self._now()
        # The trail forgets what is old, and everything when simulated time starts anew.
        while self._trail and not 0 <= now - self._trail[0][0] <= self._trail_s:
            self._trail.popleft()
        drawn = self._executed(self.model, now)
        if self.chunk is not None:
            drawn += self._planned(self.model, self.chunk, now)
        drawn += self._sent(self.model, self._commanded, now)
        if isinstance(self.model, HandsModel):
            drawn += self._axes(self.model, self._state, "hand", 1.0, now)
        self._markers.publish(MarkerArray(markers=drawn))

    def _executed(self, model: Model, now: float) -> list[Marker]:
        times = np.array([time for time, _ in self._trail])
        states = np.array([state for _, state in self._trail]).reshape(len(times), len(self.robot.joints))
        colours = markers.gradient(markers.EXECUTED, 1 - (now - times) / max(self._trail_s, 1e-9))
        return self._lines("executed", model.tip_poses(states), colours, now)

    def _planned(self, model: Model, chunk: ActionChunk, now: float) -> list[Marker]:
        until = self._cadence.until(chunk)
        times = remaining_times(chunk, now)
        positions = self._of_all(smooth_positions(chunk, times, self.robot.action_space))
        ends: list[Marker] = []
        if len(times) and isinstance(model, RobotModel):
            sweep = (now % self._sweep_s) / self._sweep_s if self._ghost_mode == "sweep" else 1.0
            ghost = positions[round(sweep * (len(times) - 1))]
            self._ghost.publish(markers.joint_state(seconds_to_stamp(now), model.urdf_positions(ghost)))
        elif len(times):
            ends = self._axes(model, positions[-1], "planned/end", 0.5, now)
        colours = markers.gradient(markers.PLANNED, path_fractions(times, chunk.stamp, until, chunk.end) / 2)
        return self._lines("planned", model.tip_poses(positions), colours, now) + ends

    def _lines(self, what: str, paths: dict[str, np.ndarray], colours: np.ndarray, now: float) -> list[Marker]:
        drawn = []
        for tip, poses in paths.items():
            known = np.isfinite(poses[:, :3, 3]).all(axis=1)
            points, paint = poses[known, :3, 3], colours[known]
            line = markers.line_strip(self._header(now, tip), f"{what}/{tip}", points, paint, LINE_WIDTH, LIFETIME_S)
            drawn.append(line)
        return drawn

    def _axes(self, model: Model, positions: np.ndarray, what: str, opacity: float, now: float) -> list[Marker]:
        """Axes of each hand at positions [J]."""
        return [
            markers.axes(self._header(now, tip), f"{what}/{tip}", pose, AXES_M, opacity, LIFETIME_S)
            for tip, pose in model.tip_poses(positions).items()
            if np.isfinite(pose).all()
        ]

    def _sent(self, model: Model, commanded: np.ndarray, now: float) -> list[Marker]:
        diameter = 2 * LINE_WIDTH
        return [
            markers.sphere(
                self._header(now, tip), f"commanded/{tip}", pose[:3, 3], markers.COMMANDED, diameter, LIFETIME_S
            )
            for tip, pose in model.tip_poses(commanded).items()
            if np.isfinite(pose).all()
        ]


def main(args: list[str] | None = None) -> int:
    """Spin the monitor until SIGINT or SIGTERM."""
    os.nice(NICENESS)
    return run_node("monitor", MonitorNode, args)


if __name__ == "__main__":
    sys.exit(main())
