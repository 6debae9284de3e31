"""What a recording holds of a robot that nobody has described yet: the facts for `pi0 robot new`."""

from __future__ import annotations

from pathlib import Path

from pi0_ros.bags.conventions import PROMPT_TOPIC
from pi0_ros.bags.reader import Bag, BagError
from pi0_ros.robot.evidence import ACTION, LOOKED_AT, TopicFacts
from pi0_ros.robot.message_types import CAMERA_TYPES

MOST_MESSAGES = 20_000  # of a topic, from the beginning
MOST_PICTURES = 200


def survey_bag(path: Path) -> tuple[list[TopicFacts], str, str]:
    """The topics of a recording, the URDF that a driver described in it and the last instruction (empty: none).

    Raises `BagError`.
    """
    said = {"urdf": "", "prompt": ""}
    with Bag(path) as bag:
        found = {topic: TopicFacts(topic, info.type) for topic, info in bag.info.topics.items() if info.count}
        texts = {
            topic: "prompt" if topic == PROMPT_TOPIC else "urdf"
            for topic, facts in found.items()
            if facts.type == "std_msgs/msg/String" and (topic == PROMPT_TOPIC or topic.endswith("robot_description"))
        }
        asked = {topic for topic, facts in found.items() if facts.type in LOOKED_AT}
        for topic, received_ns, data in bag.raw(asked | texts.keys()):
            facts = found[topic]
            if topic in texts:
                said[texts[topic]] = str(bag.decode(topic, data).data)
            elif facts.count < (MOST_PICTURES if facts.type in CAMERA_TYPES else MOST_MESSAGES):
                try:
                    facts.take(bag.decode(topic, data), received_ns * 1e-9)
                except BagError as error:  # another message may be whole
                    facts.unreadable = str(error)
            else:
                facts.arrived(received_ns * 1e-9)
    return [*found.values(), *_actions(found)], said["urdf"], said["prompt"]


def _actions(found: dict[str, TopicFacts]) -> list[TopicFacts]:
    """The action servers whose hidden topics were recorded; their type is known by the feedback alone."""
    actions: dict[str, TopicFacts] = {}
    for topic, facts in found.items():
        action, hidden, part = topic.partition("/_action/")
        if hidden and part in ("status", "feedback"):
            kind = facts.type.removesuffix("_FeedbackMessage") if part == "feedback" else ACTION
            known = actions.setdefault(action, TopicFacts(action, kind))
            known.type = kind if known.type == ACTION else known.type
    return list(actions.values())
