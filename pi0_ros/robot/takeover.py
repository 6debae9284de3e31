"""Who may lead a robot instead of the policy: the key `takeover` of a robot file."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from pi0_ros.base.strict_yaml import Place, Section, unique
from pi0_ros.robot import speeds
from pi0_ros.robot.entries import each_joint_once, joints_of, topic_of, units_of
from pi0_ros.robot.message_types import COMMAND_TYPES
from pi0_ros.robot.types import Camera, CommandGroup, StateTopic, TakeoverTopics

KEYS = ("topic", "type", "joints", "names", "scale", "offset", "frame")
BEGINS = ("switch", "commands")
HINTS = {"topics": "a list with the topic and type of a person's poses, such as a leader arm's joint states"}


def read_takeover(
    file: Section,
    known: Sequence[str],
    streams: dict[str, Sequence[Camera | StateTopic | CommandGroup]],
    are_speeds: Collection[str] = (),
) -> TakeoverTopics:
    """The key `takeover`; `streams` are what the robot itself says and hears, `are_speeds` joints of that kind."""
    place: Place = ("takeover",)
    section = Section(file.value["takeover"], place, ("topics",), ("begins", "timeout_s", "blend_s"), HINTS)
    topics = []
    for value, at in section.items("topics"):
        item = Section(value, at, KEYS[:2], KEYS[2:], HINTS)
        joints, names = joints_of(item, known)
        kind, units = item.choice("type", tuple(COMMAND_TYPES)), units_of(item, joints)
        if "names" in item and not COMMAND_TYPES[kind].named:
            item.wrong("names", f"a {kind} has no names, its numbers come in the order of `joints`: remove it")
        topic = topic_of(item)
        for key, others in streams.items():
            if any(topic.removeprefix("/") == other.topic.removeprefix("/") for other in others):
                item.wrong("topic", f"{topic} is one of {key}: write where a person's own poses come from")
        frame = speeds.read_frame(item, kind)
        topics.append(CommandGroup("takeover", topic, kind, joints, names, *units, frame=frame))
    unique(((*place, "topics", i, "topic"), f"/{item.topic.removeprefix('/')}") for i, item in enumerate(topics))
    each_joint_once("takeover.topics", topics, known)
    topics = list(speeds.told_apart("takeover.topics", topics, are_speeds))
    times = {key: section.seconds(key) for key in ("timeout_s", "blend_s") if key in section}
    return TakeoverTopics(tuple(topics), section.choice("begins", BEGINS, "switch"), **times)


def write_takeover(takeover: TakeoverTopics) -> dict[str, Any]:
    """The key `takeover`, where somebody can take over."""
    if not takeover.topics:
        return {}
    said = [{key: getattr(item, key) for key in KEYS} for item in takeover.topics]
    topics = [{key: list(v) if isinstance(v, tuple) else v for key, v in item.items() if v} for item in said]
    return {"takeover": {**vars(takeover), "topics": topics}}
