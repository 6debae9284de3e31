"""Joints whose value is a speed (`kind: speed`): mobile bases, wheels, conveyors. Their limits and their topics.

Such a joint rests at zero. A command is a velocity and is never integrated to a position, a measurement is one too.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from pi0_ros.base.strict_yaml import Place, Section, WrongValueError
from pi0_ros.robot.entries import frame_at
from pi0_ros.robot.message_types import COMMAND_TYPES, STATE_TYPES, TWIST_STAMPED, JointMessages
from pi0_ros.robot.types import CommandGroup, Joint, StateTopic

UNITS = ("m/s", "rad/s")
HANDS = ("linear.z", "angular.x", "angular.y")  # parts of a twist that no base on wheels has
RISE_S = 0.1  # in which a speed takes on its whole acceleration where its file says no jerk
COMMANDED_BY = (
    *(kind for kind, messages in COMMAND_TYPES.items() if messages.speeds),
    "std_msgs/msg/Float64MultiArray",
)
Entry = TypeVar("Entry", StateTopic, CommandGroup)


def read_limits(value: Any, place: Place, unit: str) -> dict[str, Any]:
    """A speed's limits as its `Joint` has them: lower and upper, and how fast the speed may change."""
    limits = Section(value, place, ("velocity", "acceleration"), ("jerk", "tracking", "outside"))
    if isinstance(limits.value["velocity"], list):
        lower, upper = limits.pair("velocity", f"[backwards, forwards] in {unit}, or one number for both ways")
        if not lower <= 0.0 <= upper:
            limits.wrong("velocity", f"[{lower:g}, {upper:g}] has no 0 in it: it could not stand still")
    else:
        upper = limits.positive("velocity")
        lower = -upper
    acceleration = limits.positive("acceleration")
    jerk = limits.positive("jerk") if "jerk" in limits else acceleration / RISE_S
    others = {key: limits.positive(key) for key in ("tracking", "outside") if key in limits}
    return {"lower": lower, "upper": upper, "velocity": acceleration, "acceleration": jerk, "jerk": None, **others}


def read_frame(item: Section, kind: str) -> str:
    """The frame in which an entry's twists are told; empty where it does not say."""
    if "frame" not in item:
        return ""
    if kind != TWIST_STAMPED:
        item.wrong("frame", f"a {kind} is read without a frame: remove it, or write the type {TWIST_STAMPED}")
    return frame_at(item)


def write_limits(joint: Joint) -> dict[str, Any]:
    """The same for the file."""
    both_ways = joint.lower == -joint.upper
    velocity = joint.upper if both_ways else [joint.lower, joint.upper]
    return {"velocity": velocity, "acceleration": joint.velocity, "jerk": joint.acceleration}


def told_apart(section: str, entries: Sequence[Entry], speeds: Collection[str]) -> tuple[Entry, ...]:
    """`entries` of the section, each knowing whether its joints are speeds; wrong where it cannot be about them."""
    return tuple(_told(entry, (*section.split("."), i), speeds) for i, entry in enumerate(entries))


def _told(entry: Entry, place: Place, speeds: Collection[str]) -> Entry:
    if entry.pose is not None:  # of odometry, which says both
        return entry
    found = [joint for joint in entry.joints if joint in speeds]
    others = [joint for joint in entry.joints if joint not in speeds]
    known = (STATE_TYPES if isinstance(entry, StateTopic) else COMMAND_TYPES).get(entry.type)
    if found and others:
        message = f"{found[0]} is a speed, {others[0]} is none: write an entry for each kind, with its `joints`"
        raise WrongValueError((*place, "joints"), message)
    if others and known is not None and known.speeds:
        message = f"a {entry.type} says speeds, and {others[0]} is a place: write the kind speed, or another type"
        raise WrongValueError((*place, "type"), message)
    if known is not None and known.parts:
        _check_parts(entry, known, place)
    if found and isinstance(entry, CommandGroup) and entry.type not in COMMANDED_BY:
        message = f"a {entry.type} says places, and {found[0]} is a speed: write {' or '.join(COMMANDED_BY)}"
        raise WrongValueError((*place, "type"), message)
    if found and isinstance(entry, StateTopic) and known is not None and entry.field in known.fields:
        better = "velocity" if "velocity" in known.fields else "position"
        if entry.field != better:
            message = f"{found[0]} is a speed, not a {entry.field}: write {better}"
            raise WrongValueError((*place, "field"), message)
    return replace(entry, speeds=bool(found))


def _check_parts(entry: StateTopic | CommandGroup, known: JointMessages, place: Place) -> None:
    for i, name in enumerate(entry.message_names):
        if name not in known.parts:
            key: Place = ("names", i) if entry.names else ("names",)
            message = f"a {entry.type} has no {name!r}: write for each of {', '.join(entry.joints)} one of "
            raise WrongValueError((*place, *key), message + ", ".join(known.parts))
    of_hand = [name for name in entry.message_names if name in HANDS]
    if of_hand and isinstance(entry, CommandGroup) and entry.type == TWIST_STAMPED and not entry.frame:
        told = f"missing: {of_hand[0]} is a hand's velocity"
        raise WrongValueError((*place, "frame"), f"{told}: write the frame in which it is told, such as base_link")
    if isinstance(entry, StateTopic) and entry.names_from == "order":
        raise WrongValueError((*place, "names_from"), "these messages have names: remove it, and write `names`")
