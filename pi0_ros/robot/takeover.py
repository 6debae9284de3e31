"""Who may lead a robot instead of the policy: the key `takeover` of a robot file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pi0_ros.base.strict_yaml import Place, Section, WrongValueError, unique
from pi0_ros.robot import speeds
from pi0_ros.robot.entries import each_joint_once, joints_of, topic_of, units_of
from pi0_ros.robot.message_types import COMMAND_TYPES, POSE_TYPES
from pi0_ros.robot.poses import called, read_pose_topic, refuse_pose, says_pose
from pi0_ros.robot.types import Camera, CommandGroup, Joint, StateTopic, TakeoverTopics

KEYS = ("topic", "type", "joints", "names", "scale", "offset", "frame")
BEGINS = ("switch", "commands")
HINTS = {"topics": "a list with the topic and type of a person's poses, such as a leader arm's joint states"}


def read_takeover(
    file: Section,
    moved: Sequence[Joint],
    streams: dict[str, Sequence[Camera | StateTopic | CommandGroup]],
) -> TakeoverTopics:
    """The key `takeover` of a robot that moves these joints; `streams` are what the robot itself says and hears."""
    place: Place = ("takeover",)
    section = Section(file.value["takeover"], place, ("topics",), ("begins", "timeout_s", "blend_s"), HINTS)
    topics = [_topic(value, at, moved) for value, at in section.items("topics")]
    for i, item in enumerate(topics):
        for key, others in streams.items():
            if any(item.topic.removeprefix("/") == other.topic.removeprefix("/") for other in others):
                message = f"{item.topic} is one of {key}: write where a person's own poses come from"
                raise WrongValueError((*place, "topics", i, "topic"), message)
    unique(((*place, "topics", i, "topic"), f"/{item.topic.removeprefix('/')}") for i, item in enumerate(topics))
    each_joint_once("takeover.topics", topics, called(moved))
    topics = list(speeds.told_apart("takeover.topics", topics, [joint.name for joint in moved if joint.speed]))
    times = {key: section.seconds(key) for key in ("timeout_s", "blend_s") if key in section}
    return TakeoverTopics(tuple(topics), section.choice("begins", BEGINS, "switch"), **times)


def _topic(value: Any, place: Place, moved: Sequence[Joint]) -> CommandGroup:
    if says_pose(value):
        return read_pose_topic(value, place, moved)
    refuse_pose(value, place, moved)
    item = Section(value, place, KEYS[:2], KEYS[2:], HINTS)
    joints, names = joints_of(item, [joint.name for joint in moved if joint.pose is None])
    kind, units = item.choice("type", (*COMMAND_TYPES, *POSE_TYPES)), units_of(item, joints)
    if "names" in item and not COMMAND_TYPES[kind].named:
        item.wrong("names", f"a {kind} has no names, its numbers come in the order of `joints`: remove it")
    return CommandGroup("takeover", topic_of(item), kind, joints, names, *units, frame=speeds.read_frame(item, kind))


def write_takeover(takeover: TakeoverTopics) -> dict[str, Any]:
    """The key `takeover`, where somebody can take over."""
    if not takeover.topics:
        return {}
    said = [{key: getattr(item, key) for key in KEYS} for item in takeover.topics]
    for entry, item in zip(said, takeover.topics):
        if item.pose is not None:
            entry["joints"] = (item.pose.name,)
    topics = [{key: list(v) if isinstance(v, tuple) else v for key, v in item.items() if v} for item in said]
    return {"takeover": {**vars(takeover), "topics": topics}}
