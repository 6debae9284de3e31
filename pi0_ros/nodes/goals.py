"""Commands to action servers: a gripper's goals, sent when they change, one at a time, the newest first."""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from action_msgs.msg import GoalStatus, GoalStatusArray
from rclpy.action import ActionClient
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import qos_profile_action_status_default
from sensor_msgs.msg import JointState
from unique_identifier_msgs.msg import UUID

from pi0_ros.base.errors import InputError
from pi0_ros.nodes.messages import LATEST, action_class
from pi0_ros.observation.joint_messages import to_message_units
from pi0_ros.robot import CommandGroup, Robot
from pi0_ros.robot.goals import CHANGE

LOOKS_EVERY_S = 0.02  # whether there is a goal to send
SILENCE_S = 0.5  # a command that is older is none; after a pause as long the next one is sent, changed or not
RESTS_S = 0.2  # what has stood still for so long is sent exactly
EXACT = 0.01  # of the change that counts
ANSWER_S = 3.0  # a server that says neither yes nor no for longer does not work
GOALS = 256  # of ours whose ids are known
HOLDS: dict[type, tuple[str, ...]] = {  # of messages' fields
    float: ("double", "float"),
    int: tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    bool: ("boolean",),
    str: ("string", "wstring"),
}
TAKES = {float: "a number", int: "a number", bool: "true or false", str: "a text"}
UNDER_WAY = (GoalStatus.STATUS_ACCEPTED, GoalStatus.STATUS_EXECUTING)


class Changes:
    """Tells which of a stream of commands [k] are worth sending: those `tolerance` [k] away from the last that was
    sent, the first after a silence, and where they come to rest."""

    def __init__(self, tolerance: np.ndarray) -> None:
        self._tolerance = tolerance
        self._sent: np.ndarray | None = None
        self._last, self._since, self._heard_at = np.zeros(0), -np.inf, -np.inf

    def hear(self, position: np.ndarray, now: float) -> bool:
        """Whether `position` [k], commanded at `now` (s, steady), is to be sent."""
        if now - self._heard_at > SILENCE_S:
            self._sent = None
        self._heard_at = now
        if len(self._last) != len(position) or (np.abs(position - self._last) > EXACT * self._tolerance).any():
            self._last, self._since = position, now
        if self._sent is None:
            return True
        away = np.abs(position - self._sent)
        rests = now - self._since >= RESTS_S
        return bool((away > self._tolerance).any() or (rests and (away > EXACT * self._tolerance).any()))

    def sent(self, position: np.ndarray) -> None:
        """`position` has been sent."""
        self._sent = position

    def forget(self) -> None:
        """The last was not taken: the next is sent."""
        self._sent = None


def tolerance_of(group: CommandGroup, robot: Robot) -> np.ndarray:
    """The changes of a group's joints that count, float64 [k], in the robot file's units."""
    if group.on_change is not None:
        return np.full(len(group.joints), group.on_change)
    return np.array([CHANGE * robot.joints[n].span for n in robot.indices(group.joints)])


class GoalMessage:
    """The goals of one server: its type's fields, looked up by their names when it is made."""

    def __init__(self, group: CommandGroup, kind: Any) -> None:
        assert group.server is not None
        self._group, self._kind, server = group, kind, group.server
        many, one = _declared(kind.Goal(), server.field, group)
        if one not in (float, int):
            raise InputError(f"{_at(group, server.field)} is no number: name the one that takes the command")
        if not many and len(group.joints) > 1:
            where = _at(group, server.field)
            raise InputError(f"{where} takes one number, and the entry has {len(group.joints)} joints: write one")
        self._take = (lambda told: told) if many else (lambda told: told[0])
        self._fixed = [*server.fixed, *([(server.names_field, group.message_names)] if server.names_field else [])]
        self.filled(np.zeros(len(group.joints)))  # what the fields do not take is said now

    def filled(self, position: np.ndarray) -> Any:
        """A goal with `position` [k] in the robot file's units."""
        goal, server = self._kind.Goal(), self._group.server
        assert server is not None
        told = to_message_units(self._group, position).tolist()
        for path, value in ((server.field, self._take(told)), *self._fixed):
            *outer, last = path.split(".")
            holder = goal
            for name in outer:
                holder = getattr(holder, name)
            try:
                setattr(holder, last, _fitting(_declared(goal, path, self._group), value))
            except TypeError as error:
                raise InputError(f"{_at(self._group, path)} does not take {value!r}: write {error}") from error
        return goal


class GoalSender:
    """Sends the commands of one group as goals. `want` in the ticks' thread, all else in the node's."""

    def __init__(self, node: Node, group: CommandGroup, robot: Robot) -> None:
        assert group.server is not None
        self.group, self.name = group, group.server.name
        kind = action_class(group.server.type)
        self._node, self._goal, self._changes = node, GoalMessage(group, kind), Changes(tolerance_of(group, robot))
        self._client = ActionClient(node, kind, self.name)
        self._told = node.create_publisher(JointState, group.topic, LATEST)
        self.topic = self._told.topic_name
        self._lock = threading.Lock()
        self._wanted: tuple[np.ndarray, float] | None = None  # the newest command and its time, s, steady
        self._asked_at: float | None = None  # a goal is under way to the server since then
        self._working = 0  # the number of the newest goal that the server took, until it is over
        self._newest = 0
        self._abandoned = 0  # no answer to the goals up to this number is waited for any more
        self._waits = False  # the server refuses while it works: the next goal goes when that is over
        self._own: deque[bytes] = deque(maxlen=GOALS)
        self._others: set[bytes] = set()  # goals of other clients that were seen
        self.fail: Callable[[str], None] = lambda reason: None  # what is called where commands do not arrive
        self.trouble = ""  # of the last goal, where it was given up; until one is reached
        self._status = node.create_subscription(
            GoalStatusArray, f"{self.name}/_action/status", self._on_status, qos_profile_action_status_default
        )
        node.create_timer(LOOKS_EVERY_S, self.look, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def want(self, position: np.ndarray) -> None:
        """The command of a tick, float64 [k] in the robot file's units."""
        self._wanted = position, time.monotonic()

    def problem(self) -> str:
        """Why goals cannot be sent now; empty where they can."""
        if self._client.server_is_ready():
            return ""
        feedback = f"{self.name}/_action/feedback"
        ours = f"{self.group.server.type}_FeedbackMessage" if self.group.server else ""
        kinds = [kind for _, kinds in filter(lambda item: item[0] == feedback, self._topics()) for kind in kinds]
        if others := [kind.removesuffix("_FeedbackMessage") for kind in kinds if kind != ours]:
            return f"{self.name} is {', '.join(others)}: correct the `type` of the command in the robot file"
        todo = "start the gripper's driver, or correct `server` in the robot file (`ros2 action list -t`)"
        return f"no action server {self.name} answers: {todo}"

    def look(self) -> None:
        """Send the newest command where it is new, and no goal is still on its way."""
        now, wanted = time.monotonic(), self._wanted
        fresh = wanted is not None and now - wanted[1] <= SILENCE_S
        changed = wanted is not None and fresh and self._changes.hear(*wanted)
        if self._asked_at is not None:
            if now - self._asked_at > ANSWER_S:
                self._asked_at, self._abandoned = None, self._newest
                self.fail(f"{self.name} does not answer for {ANSWER_S:g} s: is the gripper's driver at work?")
        elif wanted is not None and changed and not (self._waits and self._working):
            self._send(wanted[0], now)

    def flush(self) -> None:
        """Send what is still to be sent, whatever is on its way: the process ends."""
        wanted, self._wanted = self._wanted, None
        if wanted is not None and self._changes.hear(*wanted) and self._client.server_is_ready():
            self._send(wanted[0], time.monotonic())

    def _send(self, position: np.ndarray, now: float) -> None:
        if problem := self.problem():
            self._changes.sent(position)
            self.fail(problem)
            return
        identity = uuid.uuid4().bytes
        with self._lock:
            self._own.append(identity)
        self._changes.sent(position)
        self._asked_at, self._newest, self._waits = now, self._newest + 1, False
        message = JointState(name=list(self.group.message_names))
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.position = to_message_units(self.group, position).tolist()
        asked = self._client.send_goal_async(self._goal.filled(position), goal_uuid=UUID(uuid=list(identity)))
        self._told.publish(message)
        number = self._newest
        asked.add_done_callback(lambda future: self._on_answer(future, number, position))

    def _on_answer(self, future: Any, number: int, position: np.ndarray) -> None:
        handle = future.result()
        if number <= self._abandoned:
            if handle is not None and handle.accepted:  # nobody asks for it any more
                handle.cancel_goal_async()
                self._changes.forget()  # it may have ended a newer goal, which is sent again
                self._node.get_logger().warning(f"{self.name} took a goal after {ANSWER_S:g} s: it is cancelled")
            return
        if number != self._newest:
            return
        self._asked_at = None
        if handle is not None and handle.accepted:
            self._working = number
            handle.get_result_async().add_done_callback(lambda result: self._on_result(result, number))
        elif self._working:
            self._waits = True
            self._changes.forget()
            self._warn(f"{self.name} refuses goals while it works at the last one: the newest waits for it")
        else:
            self.fail(f"{self.name} refused the goal {self._written(position)}: see its driver's log for the reason")

    def _on_result(self, future: Any, number: int) -> None:
        if number != self._working:
            return  # a newer one has taken its place
        self._working, status = 0, future.result().status
        if status == GoalStatus.STATUS_SUCCEEDED:
            self.trouble = ""
        else:
            how = "was cancelled" if status == GoalStatus.STATUS_CANCELED else "was given up"
            self._warn(
                f"{self.name}: the last goal {how} by its server or another client (fingers on an object do that)"
            )

    def _warn(self, trouble: str) -> None:
        """Say it once, and show it until a goal is reached."""
        if not self.trouble:
            self._node.get_logger().warning(trouble)
        self.trouble = trouble

    def _on_status(self, message: GoalStatusArray) -> None:
        """Another client's goal that appears while commands are sent is a second hand on the gripper."""
        active = {bytes(item.goal_info.goal_id.uuid) for item in message.status_list if item.status in UNDER_WAY}
        with self._lock:
            others = active - set(self._own)
        new, self._others = others - self._others, others
        wanted = self._wanted
        if new and wanted is not None and time.monotonic() - wanted[1] < SILENCE_S:
            self.fail(f"another client sent {self.name} a goal: end it, or disconnect it")

    def _written(self, position: np.ndarray) -> str:
        return ", ".join(f"{value:.4g}" for value in to_message_units(self.group, position).tolist())

    def _topics(self) -> list[tuple[str, list[str]]]:
        return list(self._node.get_topic_names_and_types())


def _declared(goal: Any, path: str, group: CommandGroup) -> tuple[bool, type | None]:
    """Of a goal's field: whether it is an array, and what it (or an entry) holds, None where that is a message.
    InputError naming the fields that are there."""
    declared = ""
    for name in path.split("."):
        known = dict(getattr(goal, "get_fields_and_field_types", dict)())
        if name not in known:
            has = f"it has {', '.join(known)}" if known else "it has no fields"
            raise InputError(f"{_at(group, path)} is not there: no {name} in {type(goal).__name__}; {has}")
        goal, declared = getattr(goal, name), known[name]
    one = re.sub(r"^sequence<([^,>]*).*>$|\[\d+\]$", r"\1", declared)
    return one != declared, next((kind for kind, names in HOLDS.items() if one in names), None)


def _at(group: CommandGroup, path: str) -> str:
    return f"command {group.name}: the field {path} of {group.server.type if group.server else ''}"


def _fitting(declared: tuple[bool, type | None], value: Any) -> Any:
    """`value` as a field of this kind wants it: YAML writes 20 for 20.0. TypeError saying what it takes."""
    many, one = declared
    if many:
        if not isinstance(value, (list, tuple)):
            raise TypeError("a list")
        return [_fitting((False, one), entry) for entry in value]
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if one in (float, int) and number:
        return one(value) if one is float else round(value)
    if one is None:
        raise TypeError("one of its fields")
    if type(value) is not one:
        raise TypeError(TAKES[one])
    return value
