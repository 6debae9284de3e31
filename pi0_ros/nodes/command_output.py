"""Where commands leave: the robot file's command topics, `pi0/command` (what was sent), `pi0/plan` (what will be)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose, PoseStamped, Twist, TwistStamped
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import serialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from pi0_ros.base.errors import InputError
from pi0_ros.control.plan import Plan
from pi0_ros.control.states import Command
from pi0_ros.nodes.goals import Changes, GoalSender, tolerance_of
from pi0_ros.nodes.messages import LATCHED, LATEST, message_class, seconds_to_duration, seconds_to_stamp
from pi0_ros.observation.joint_messages import pose_parts, to_message_units
from pi0_ros.robot import CommandGroup, Robot
from pi0_ros.robot.message_types import COMMAND_TYPES, POSE_TYPES, TWIST, TWIST_STAMPED

SHADOW = "SHADOW"  # before the state of a controller that commands nothing
SHADOW_COMMAND = "pi0/shadow_command"  # what it would command


class CommandMessage:
    """One command of a group's type: built once, refilled at every tick, so that a tick allocates next to nothing.

    A JointTrajectory carries one point with velocities, to be reached `period` s after it arrives: its stamp is zero,
    which means "begin now" to a joint_trajectory_controller. One that is stamped with the present time would be refused
    by it whenever the way there takes longer than a period or the clocks differ. A JointState carries positions and
    velocities, a Float64MultiArray the positions alone, a pose place and rotation in the file's frame. In a Twist what
    the group has no joint of is zero.
    """

    def __init__(self, group: CommandGroup, period: float) -> None:
        names, zeros = list(group.message_names), [0.0] * len(group.joints)
        self._group = group
        self._parts: list[tuple[Any, str]] = []  # of a twist, each joint's: the vector and its axis
        self.message: Any
        if group.type == "std_msgs/msg/Float64MultiArray":
            self.message = Float64MultiArray(data=zeros)
            self._position, self._velocity = _view(self.message.data), np.zeros(len(zeros))
        elif group.type == "sensor_msgs/msg/JointState":
            self.message = JointState(name=names, position=zeros, velocity=zeros)
            self._position, self._velocity = _view(self.message.position), _view(self.message.velocity)
        elif group.type == "trajectory_msgs/msg/JointTrajectory":
            point = JointTrajectoryPoint(positions=zeros, velocities=zeros, time_from_start=seconds_to_duration(period))
            self.message = JointTrajectory(joint_names=names, points=[point])
            self._position, self._velocity = _view(point.positions), _view(point.velocities)
        elif group.type in (TWIST, TWIST_STAMPED):
            self.message = Twist() if group.type == TWIST else TwistStamped()
            self._position, self._velocity = np.zeros((2, len(zeros)))
            twist = self.message if group.type == TWIST else self.message.twist
            if group.frame:
                self.message.header.frame_id = group.frame
            self._parts = [(getattr(twist, part), axis) for part, axis in (name.split(".") for name in names)]
        elif group.pose is not None:
            self.message = PoseStamped() if group.type == POSE_TYPES[0] else Pose()
            self._hand = getattr(self.message, "pose", self.message)
            self._position, self._velocity = np.zeros((2, len(zeros)))
            self._turn = np.array([0.0, 0.0, 0.0, 1.0])
            if group.type == POSE_TYPES[0]:
                self.message.header.frame_id = group.pose.frame
        else:
            known = ", ".join((*COMMAND_TYPES, *POSE_TYPES))
            raise InputError(f"command type {group.type!r} is unknown, expected one of {known}")
        self._stamped = group.type in ("sensor_msgs/msg/JointState", POSE_TYPES[0], TWIST_STAMPED)
        self._scale = np.array(group.scale or (1.0,))

    def fill(self, position: np.ndarray, velocity: np.ndarray, stamp: Time) -> Any:
        """The message with `position` and `velocity` (float64 [J] of the group, robot file's units) of time `stamp`."""
        self._position[:] = to_message_units(self._group, position)
        np.multiply(velocity, self._scale, out=self._velocity)
        if self._group.pose is not None:
            self._fill_hand(*pose_parts(self._group.pose, position))
        for (vector, axis), speed in zip(self._parts, self._position.tolist()):
            setattr(vector, axis, speed)
        if self._stamped:
            self.message.header.stamp = stamp
        return self.message

    def _fill_hand(self, place: np.ndarray, turn: np.ndarray) -> None:
        """Of q and -q, one rotation, the one that is nearer to the last: who interpolates them goes the short way."""
        self._turn = turn if turn @ self._turn >= 0.0 else -turn
        point, orientation = self._hand.position, self._hand.orientation
        point.x, point.y, point.z = place.tolist()
        orientation.x, orientation.y, orientation.z, orientation.w = self._turn.tolist()


class CommandOutput:
    """Publishes each command to every command group of the robot and, whole and stamped, to `pi0/command`.

    What is going to be sent goes to `pi0/plan`, the controller's state to `pi0/state`, and who moves the robot to
    `pi0/in_charge`. As a shadow it has no
    publisher on any of the robot's topics, so that it cannot command; the record goes to `pi0/shadow_command`.
    """

    def __init__(self, node: Node, robot: Robot, shadow: bool = False) -> None:
        self._shadow = shadow
        self.turned = np.zeros(len(robot.joints))  # rad: by which the driver counts continuous joints further on
        groups = () if shadow else robot.commands
        self.goals = [(GoalSender(node, group, robot), robot.indices(group.joints)) for group in groups if group.server]
        groups = tuple(group for group in groups if group.server is None)
        publishers = {
            group.name: node.create_publisher(message_class(group.type), group.topic, LATEST) for group in groups
        }
        self._each_tick = [
            (
                CommandMessage(group, 1.0 / robot.control_rate_hz),
                robot.indices(group.joints),
                publishers[group.name],
                None if group.on_change is None else Changes(tolerance_of(group, robot)),
            )
            for group in groups
            if group.points == "one"
        ]
        self._planned = [
            (group, robot.indices(group.joints), publishers[group.name])
            for group in groups
            if group.points == "trajectory"
        ]
        self.topics = [publisher.topic_name for publisher in publishers.values()]
        self.topics += [sender.topic for sender, _ in self.goals]
        zeros = [0.0] * len(robot.joints)
        point = JointTrajectoryPoint(positions=zeros, velocities=zeros, accelerations=zeros)
        self._numbers = _view(point.positions), _view(point.velocities), _view(point.accelerations)
        self._sent = JointTrajectory(joint_names=list(robot.joint_names), points=[point])
        record = SHADOW_COMMAND if shadow else "pi0/command"
        self._record = node.create_publisher(JointTrajectory, record, QoSProfile(depth=50))
        self.topics.append(self._record.topic_name)
        self._plan = node.create_publisher(JointTrajectory, "pi0/plan", LATCHED)
        self._state = node.create_publisher(String, "pi0/state", LATCHED)
        self._in_charge, self._said = node.create_publisher(String, "pi0/in_charge", LATCHED), ""

    @property
    def planned_joints(self) -> np.ndarray:
        """The joints that get whole plans, bool [J]."""
        planned = np.zeros(len(self._sent.joint_names), bool)
        for _, joints, _ in self._planned:
            planned[joints] = True
        return planned

    @property
    def wants_plans(self) -> bool:
        """Whether a command group takes whole plans instead of every command."""
        return bool(self._planned)

    def publish(self, command: Command, now: float, in_time: Callable[[], bool] = lambda: True) -> np.ndarray:
        """Send `command` for the time `now` (ROS time, s) to the groups that take every command, and record it.

        All are bytes already when `in_time` is asked, right before each leaves: what stops the process between that and
        the kernel's call, some 10 us later, nobody can tell. Returns the joints that were sent, bool [J]; what the
        command is not about counts as sent.
        """
        stamp = seconds_to_stamp(now)
        ready = []
        for message, joints, publisher, changes in self._each_tick:
            if command.alone is not None and not command.alone[joints].all():
                continue
            position = command.position[joints]
            if changes is not None and not changes.hear(position, time.monotonic()):
                continue
            filled = message.fill(position + self.turned[joints], command.velocity[joints], stamp)
            ready.append((publisher, joints, serialize_message(filled), changes))
        for numbers, values in zip(self._numbers, (command.position, command.velocity, command.acceleration)):
            numbers[:] = values
        self._sent.header.stamp = stamp
        record, left = serialize_message(self._sent), np.zeros(len(command.position), bool)
        if command.alone is not None:
            left |= ~command.alone
        time.sleep(0)  # other threads have their turn now: for what follows the interpreter is ours
        for publisher, joints, data, changes in ready:
            if not in_time():
                return left
            publisher.publish(data)
            if changes is not None:
                changes.sent(command.position[joints])
            left[joints] = True
        if not left.all() and not in_time():  # the others go along a plan, or stand as they were told
            return left
        if command.alone is None:
            for sender, joints in self.goals:
                sender.want(command.position[joints].copy())
        self._record.publish(record)
        return np.ones_like(left)

    def say_state(self, state: str) -> None:
        """Say on `pi0/state` in which state the controller is; a shadow's is none in which anything is commanded."""
        self._state.publish(String(data=f"{SHADOW} {state}" if self._shadow else state))

    def say_in_charge(self, who: str, again: bool = False) -> None:
        """Say on `pi0/in_charge` who moves the robot, where that has changed or is to be said `again`.

        From several threads, within one lock: the newest word must be the last.
        """
        who = "nobody" if self._shadow else who
        if again or who != self._said:
            self._said = who
            self._in_charge.publish(String(data=who))

    def say_plan(self, plan: Plan | None, begins: float) -> None:
        """Say on `pi0/plan` what will be sent from `begins` (ROS time, s) on if nothing arrives; None: nothing."""
        message = JointTrajectory(joint_names=self._sent.joint_names)
        message.header.stamp = seconds_to_stamp(begins)
        if plan is not None:
            message.points = trajectory_points(plan.times, plan.positions, plan.velocities)
        self._plan.publish(message)

    def publish_plan(self, plan: Plan) -> None:
        """Send `plan`, its times from now on, to the groups that take plans."""
        for group, joints, publisher in self._planned:
            turned = replace(plan, positions=plan.positions + self.turned)
            publisher.publish(plan_message(group, joints, turned))

    def flush(self, timeout_s: float) -> None:
        """Wait until every listener has acknowledged the last command, for at most `timeout_s` per topic."""
        for sender, _ in self.goals:
            sender.flush()
        each_tick = [publisher for _, _, publisher, _ in self._each_tick]
        planned = [publisher for _, _, publisher in self._planned]
        for publisher in (*each_tick, *planned, self._record):
            publisher.wait_for_all_acked(Duration(seconds=timeout_s))


def plan_message(group: CommandGroup, joints: np.ndarray, plan: Plan) -> JointTrajectory:
    """The group's `joints` (indices) of `plan`, whose times are from now on; its stamp is zero, "begin now"."""
    positions = to_message_units(group, plan.positions[:, joints])
    velocities = plan.velocities[:, joints] * (group.scale or 1.0)
    points = trajectory_points(plan.times, positions, velocities)
    return JointTrajectory(joint_names=list(group.message_names), points=points)


def trajectory_points(times: np.ndarray, positions: np.ndarray, velocities: np.ndarray) -> list[JointTrajectoryPoint]:
    """The points of a message: `times` [N] in s, the others [N, J]."""
    return [
        JointTrajectoryPoint(positions=position, velocities=velocity, time_from_start=seconds_to_duration(t))
        for t, position, velocity in zip(times.tolist(), positions.tolist(), velocities.tolist())
    ]


def _view(numbers: Any) -> np.ndarray:
    """The float64 numbers of a message's field, to be overwritten in place."""
    return np.frombuffer(numbers, np.float64)
