"""Grippers that are action servers: an entry of `commands` with a `server`, whose goals are the commands.

Goals are calls of a hidden service, so a recording has none. What was sent is told on a topic of its own, the entry's
`topic`, as a JointState in the messages' units: recorder, converter and training know commands from there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pi0_ros.base.strict_yaml import Place, Section, WrongValueError, number_at
from pi0_ros.robot.entries import TOPIC_PATTERN, joints_of, topic_of, units_of
from pi0_ros.robot.types import CommandGroup, Joint, Server

TYPE_PATTERN = re.compile(r"[A-Za-z]\w*/action/[A-Za-z]\w*")
FIELD_PATTERN = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
SENT_TYPE = "sensor_msgs/msg/JointState"  # of the topic that tells what was sent
SENT = "sent"  # its name where the file has none: SERVER/sent
CHANGE = 0.02  # of a joint's range: goals are sent for no less where the file does not say


@dataclass(frozen=True)
class Goals:
    """Where the goals of one action type have the commands."""

    field: str
    names_field: str = ""


KNOWN = {
    "control_msgs/action/GripperCommand": Goals("command.position"),
    "control_msgs/action/ParallelGripperCommand": Goals("command.position", "command.name"),
}
KEYS = ("name", "server", "type")
OPTIONAL = ("topic", "joints", "names", "scale", "offset", "field", "names_field", "fixed", "on_change")
HINTS = {
    "server": "the name of the action, such as /gripper_controller/gripper_cmd (`ros2 action list -t` shows them)",
    "field": "which field of its goals takes the command, such as command.position (`ros2 interface show TYPE`)",
}


def says_goal(value: Any) -> bool:
    """Whether an entry of `commands` is an action server."""
    if not isinstance(value, dict):
        return False
    return "server" in value or TYPE_PATTERN.fullmatch(str(value.get("type"))) is not None


def read_goals(value: Any, place: Place, moved: Sequence[Joint]) -> CommandGroup:
    """An entry of `commands` whose commands are the goals of an action."""
    item = Section(value, place, KEYS, OPTIONAL, HINTS)
    kind = item.text("type")
    if not TYPE_PATTERN.fullmatch(kind):
        item.wrong("type", f"a server takes goals, and {kind!r} is no action: write {' or '.join(KNOWN)}")
    server = item.text("server")
    if not TOPIC_PATTERN.fullmatch(server):
        item.wrong("server", f"{server!r} is no name: write {HINTS['server']}")
    joints, names = joints_of(item, [joint.name for joint in moved if joint.pose is None])
    only_grippers(item, joints, moved, "type", "goals are")
    known = KNOWN.get(kind, Goals(""))
    if not known.field and "field" not in item:
        raise WrongValueError((*place, "field"), f"missing, and {kind} is not known here: write {HINTS['field']}")
    field, names_field = (_field(item, key, getattr(known, key)) for key in ("field", "names_field"))
    if "names" in item and not names_field:
        item.wrong("names", f"the goals of {kind} have no names: remove it, or write `names_field`")
    topic = topic_of(item) if "topic" in item else f"{server}/{SENT}"
    change = item.positive("on_change") if "on_change" in item else None
    goals = Server(server, kind, field, names_field, _fixed(item))
    return CommandGroup(
        item.name("name"),
        topic,
        SENT_TYPE,
        joints,
        names,
        *units_of(item, joints),
        hold=True,
        on_change=change,
        server=goals,
    )


def only_grippers(item: Section, joints: Sequence[str], moved: Sequence[Joint], key: str, what: str) -> None:
    """Wrong at `key` where another joint than a gripper is among `joints`: an arm must hear every command."""
    for joint in moved:
        if joint.name in joints and joint.kind != "gripper":
            item.wrong(key, f"{what} for grippers only, and {joint.name} is {joint.kind}: write a topic that hears all")


def write_goals(group: CommandGroup) -> dict[str, Any]:
    """The keys that an entry with a server has besides those of a topic; `group` has one."""
    server = group.server
    assert server is not None
    content: dict[str, Any] = {"server": server.name, "type": server.type, "topic": group.topic}
    content |= {"field": server.field} | ({"names_field": server.names_field} if server.names_field else {})
    return content | ({"fixed": dict(server.fixed)} if server.fixed else {})


def _field(item: Section, key: str, default: str) -> str:
    field = item.text(key, default) if key in item or default else ""
    if field and not FIELD_PATTERN.fullmatch(field):
        item.wrong(key, f"{field!r} is no field: write its names with dots between them, such as command.position")
    return field


def _fixed(item: Section) -> tuple[tuple[str, Any], ...]:
    """The other fields of a goal, each with a number, a text, true, false or a list of them."""
    if "fixed" not in item:
        return ()
    found, place = item.value["fixed"], (*item.place, "fixed")
    if not isinstance(found, dict):
        item.wrong(
            "fixed",
            "a mapping is needed: write fields of the goal and what they shall be, such as command.max_effort: 20.0",
        )
    for key, value in found.items():
        many = value if isinstance(value, list) else [value]
        if not FIELD_PATTERN.fullmatch(str(key)):
            raise WrongValueError((*place, str(key)), "is no field of a goal: write names with dots between them")
        for one in many:
            if not isinstance(one, (bool, int, float, str)):
                raise WrongValueError((*place, key), "write a number, a text, true, false, or a list of them")
            if isinstance(one, (int, float)) and not isinstance(one, bool):
                number_at(one, (*place, key))
    return tuple((str(key), tuple(value) if isinstance(value, list) else value) for key, value in found.items())
