"""A hand that is told by twists (MoveIt Servo), for a robot that nobody has described yet: its speeds, who is told."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pi0_ros.robot.evidence import TopicFacts
from pi0_ros.robot.message_types import COMMAND_TYPES, TWIST_PARTS, TWIST_STAMPED
from pi0_ros.robot.propose_joints import LED
from pi0_ros.robot.proposed_lines import free_name, number, silence_lines, unsaid_end, word
from pi0_ros.robot.types import DRIVER_WAITS_S

OF_A_HAND = re.compile(r"servo|delta_twist|twist_controller|cartesian|tcp|eef", re.IGNORECASE)
MOVES = 1e-3  # m/s, rad/s: slower is standing still
USUAL = {"linear": 0.1, "angular": 0.5}  # m/s, rad/s, where nothing was seen
MARGIN = 1.25


@dataclass(frozen=True)
class ProposedTwist:
    """The speeds of one hand, by the parts of its twists."""

    told: TopicFacts
    parts: tuple[str, ...]
    joints: tuple[str, ...]  # what the robot file calls the parts


def propose_twist(topics: Sequence[TopicFacts], joints: Sequence[str], unknown: list[str]) -> ProposedTwist | None:
    """The hand that is told twists in a frame, its speeds called as none of `joints`; None where there is none."""
    speeds = [topic for topic in topics if topic.type in COMMAND_TYPES and COMMAND_TYPES[topic.type].speeds]
    told = [t for t in speeds if OF_A_HAND.search(t.topic) and (t.count or t.listeners) and not LED.search(t.topic)]
    for topic in told:
        if topic.type != TWIST_STAMPED:
            unknown.append(f"{topic.topic} ({topic.type}): twists of a hand without a frame, so it is left out")
    framed = [topic for topic in told if topic.type == TWIST_STAMPED]
    if not framed:
        return None
    first, *others = sorted(framed, key=lambda t: (not t.listeners, not t.count, len(t.topic), t.topic))
    for other in others:
        unknown.append(f"{other.topic} tells a hand twists, too: {first.topic} was taken")
    moved = tuple(part for part in TWIST_PARTS if _fastest(first, part) > MOVES)
    parts = moved or TWIST_PARTS
    if not moved:
        unknown.append(f"which parts of {first.topic} are used: none moved, so all six are joints")
    if not first.frame:
        unknown.append(f"the frame of {first.topic}: no message said it, base_link stands there")
    unknown += unsaid_end(first, first.topic)
    taken = set(joints)
    names = tuple(free_name(f"hand_{'v' if p.startswith('linear') else 'w'}{p[-1]}", taken) for p in parts)
    return ProposedTwist(first, parts, names)


def twist_joint_lines(twist: ProposedTwist, mark: str) -> Iterator[str]:
    """Its entries of `joints`."""
    for part, name in zip(twist.parts, twist.joints):
        seen = MARGIN * _fastest(twist.told, part)
        velocity = max(float(f"{seen:.3g}"), 0.01) if seen > MOVES else USUAL[part.split(".")[0]]
        why = "a quarter more than was told" if seen > MOVES else "it did not move"
        yield f"  - name: {word(name)}"
        yield f"    unit: {'m/s' if part.startswith('linear') else 'rad/s'}"
        yield "    kind: speed"
        yield "    role: action  # nobody measures it"
        yield f"    limits: {{velocity: {number(velocity)}, acceleration: {number(4 * velocity)}}}  {mark} {why}"
        yield "    action: absolute"


def twist_command_lines(twist: ProposedTwist, mark: str, taken: set[str]) -> Iterator[str]:
    """Its entry of `commands`."""
    who = f"  # heard by {', '.join(twist.told.listeners)}" if twist.told.listeners else ""
    frame = twist.told.frame.lstrip("/")
    yield f"  - name: {free_name('hand', taken)}"
    yield f"    topic: {twist.told.topic}{who}"
    yield f"    type: {twist.told.type}"
    yield f"    frame: {word(frame or 'base_link')}" + ("" if frame else f"  {mark} no message said it")
    yield f"    joints: [{', '.join(map(word, twist.joints))}]"
    yield f"    names: [{', '.join(twist.parts)}]"
    yield from silence_lines(twist.told, DRIVER_WAITS_S, mark)


def _fastest(topic: TopicFacts, part: str) -> float:
    """The largest speed that was told; 0 where none was."""
    track = topic.tracks.get(part)
    return track.most if track is not None else 0.0
