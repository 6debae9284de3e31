"""What the entries of a robot file's lists have in common: topic, joints, their names, scales, whose time counts."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from pi0_ros.base.strict_yaml import Place, Section, WrongValueError, key_of, nearest
from pi0_ros.robot.types import CommandGroup, StateTopic

MAX_AGE_HINT = "the age in seconds from which on a sample is too old"
MAX_LATENCY_S = 1.0  # all streams are kept for so long
STAMPS = ("auto", "header", "arrival")
TOPIC_PATTERN = re.compile(r"/?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*")


def stamp_of(item: Section) -> str:
    """Whose time counts."""
    return item.choice("stamp", STAMPS, "auto")


def latency_of(item: Section) -> float:
    """How long before its time a sample was taken, s; 0 where the file does not say."""
    latency = item.seconds("latency_s") if "latency_s" in item else 0.0
    if latency > MAX_LATENCY_S:
        item.wrong(
            "latency_s", f"{latency:g} s is more than {MAX_LATENCY_S:g} s: no robot is driven by what is so late"
        )
    return latency


def state_latency_of(item: Section, max_age_s: float) -> float:
    """A state's `latency_s`; the controller counts its age from when it was measured."""
    latency = latency_of(item)
    if latency >= max_age_s:
        item.wrong("latency_s", f"{max_age_s:g} s of max_age_s are over before a sample is here: raise max_age_s")
    return latency


def units_of(item: Section, joints: Sequence[str]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Scale and offset of the entry's joints in its messages (empty where not given)."""
    scale, offset = (item.numbers(key) if key in item else () for key in ("scale", "offset"))
    for key, numbers in (("scale", scale), ("offset", offset)):
        if numbers and len(numbers) != len(joints):
            item.wrong(key, f"{len(numbers)} numbers for {len(joints)} joints: write one for each, in their order")
    if 0.0 in scale:
        item.wrong("scale", "0 loses the position: write the message's value for one unit here")
    return scale, offset


def frame_at(item: Section, key: str = "frame") -> str:
    """The frame that messages name in their header, or at another `key`."""
    frame = item.name(key)
    if frame.startswith("/"):
        item.wrong(key, f"frames have no slash in front since ROS 2: write {frame.lstrip('/') or 'base_link'}")
    return frame


def topic_of(item: Section) -> str:
    """The name of a topic, absolute or to follow the namespace."""
    topic = item.text("topic")
    if not TOPIC_PATTERN.fullmatch(topic):
        item.wrong("topic", f"{topic!r} is no topic name: write /joint_states, or joint_states to follow the namespace")
    return topic


def joints_of(item: Section, known: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The entry's joints (all of the robot where it lists none) and their names in messages (empty where equal)."""
    joints = item.names("joints") if "joints" in item else tuple(known)
    for i, joint in enumerate(joints):
        if joint not in known:
            message = f"{joint!r} is not in the list of joints{nearest(joint, known)}; known are {', '.join(known)}"
            raise WrongValueError((*item.place, "joints", i), message)
    names = item.names("names") if "names" in item else joints
    if len(names) != len(joints):
        item.wrong("names", f"{len(names)} names for {len(joints)} joints: write one for each joint, in their order")
    return joints, () if names == joints else names


def each_joint_once(
    section: str, groups: Sequence[StateTopic | CommandGroup], known: Sequence[str], perhaps_blind: Collection[str] = ()
) -> None:
    """Wrong where one of the known joints is in no entry of the section, or in two; of some it may be that nobody can
    measure them."""
    seen: dict[str, Place] = {}
    place: Place = tuple(section.split("."))
    for i, group in enumerate(groups):
        for joint in (group.pose.name,) if group.pose is not None else group.joints:
            if joint in seen:
                message = f"joint {joint!r} is already in {key_of(seen[joint])}: list the joints of each entry"
                raise WrongValueError((*place, i, "joints"), message)
            seen[joint] = (*place, i)
    missing = [joint for joint in known if joint not in seen]
    if missing:
        message = f"no entry has joint {', '.join(map(repr, missing))}: add it to the `joints` of one of them"
        message += ", or write `role: action` where nobody measures it" if {*missing} & {*perhaps_blind} else ""
        raise WrongValueError(place, message)
