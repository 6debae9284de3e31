"""Commands for a robot that nobody has described yet: which topics move which joints, in which order and unit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pi0_ros.robot.evidence import JOINT_COMMANDS, TopicFacts, Track
from pi0_ros.robot.message_types import TRAJECTORY
from pi0_ros.robot.propose_joints import DEGREES, GRIPPER, LED, MILLIMETRES, PERCENT, TOLD, ProposedJoint, called_in
from pi0_ros.robot.proposed_lines import free_name, joint_lines, word

ARRAY = "std_msgs/msg/Float64MultiArray"
SCALES = {"rad": (1.0, DEGREES), "m": (1.0, MILLIMETRES), "normalized": (1.0, PERCENT)}
NEAR, FAR = (
    0.1,
    0.4,
)  # of a joint's range: a command is that near what the joint then does; that far it is no such thing
STILL = 0.02  # of a joint's range: it did not move, so nothing is told by its motion
NOWHERE = "/to_be_found/commands"  # stands where no command topic was found
PLAIN = re.compile(r"^(joint_trajectory|commands?|cmd|goal|target)$")


@dataclass(frozen=True)
class ProposedGroup:
    """A command topic as the robot file shall have it."""

    topic: TopicFacts
    joints: tuple[ProposedJoint, ...]
    names: tuple[str, ...]  # what its messages call them
    scales: tuple[float, ...]
    guessed: str = ""  # what of the joints was guessed
    apart: tuple[str, ...] = ()  # joints whose commands are far from what they then do
    whole: bool = True  # whether whole plans may be sent to it

    @property
    def nowhere(self) -> bool:
        """Whether its topic is still to be found."""
        return self.topic.topic == NOWHERE


def command_topics(topics: Sequence[TopicFacts], states: Sequence[TopicFacts]) -> list[TopicFacts]:
    """Topics on which the robot may be told what to do; those that say most of themselves first."""
    found = [
        topic
        for topic in topics
        if topic.type in JOINT_COMMANDS
        and topic not in states
        and not LED.search(topic.topic)
        and (topic.count or topic.listeners)
        and (topic.type == TRAJECTORY or topic.joints_told or TOLD.search(topic.topic))
    ]

    def order(topic: TopicFacts) -> tuple[bool, bool, bool, bool, str]:
        return not topic.tracks, not topic.joints_told, not topic.named, topic.type != TRAJECTORY, topic.topic

    return sorted(found, key=order)


def propose_commands(
    topics: Sequence[TopicFacts], joints: Sequence[ProposedJoint], states: Sequence[TopicFacts], unknown: list[str]
) -> list[ProposedGroup]:
    """The command topics with the joints that each moves, every joint once; the rest in a topic that is to be found."""
    left = list(joints)
    found = []
    candidates = command_topics(topics, states)
    for topic in candidates:
        group = proposed_group(topic, left, alone=len(candidates) == 1)
        if group is None:
            continue
        left = [joint for joint in left if joint not in group.joints]
        found.append(group)
        if group.guessed:
            unknown.append(f"{topic.topic}: {group.guessed}")
        for name in group.apart:
            unknown.append(
                f"{topic.topic}: {name} is told other numbers than it then says: write their scale and offset"
            )
    found.sort(key=lambda group: joints.index(group.joints[0]))
    if left:
        names = ", ".join(joint.name for joint in left)
        unknown.append(f"what moves {names}: no command topic for it was found, {NOWHERE} stands there")
        nowhere = TopicFacts(NOWHERE, ARRAY)
        found.append(ProposedGroup(nowhere, tuple(left), (), (1.0,) * len(left), "nobody listens there"))
    return found


def proposed_group(topic: TopicFacts, left: Sequence[ProposedJoint], alone: bool) -> ProposedGroup | None:
    """What a topic, `alone` or beside others, moves of the joints that are left; None for nothing."""
    if (topic.named and topic.tracks) or topic.joints_told:
        names = list(topic.tracks) if topic.named and topic.tracks else list(topic.joints_told)
        called = called_in([joint.called for joint in left], names)
        mine = [joint for joint in left if joint.called in called]
        if not topic.named:
            mine.sort(key=lambda joint: names.index(called[joint.called]))
            if len(mine) < len(names):
                return None  # an array without some of its numbers would be another one
        tracks = [topic.tracks.get(called[j.called] if topic.named else str(n)) for n, j in enumerate(mine)]
        guessed = ""
    elif topic.numbers:
        mine, guessed = _by_numbers(topic, left)
        called = {joint.called: "" for joint in mine}
        tracks = [topic.tracks.get(str(n)) for n in range(len(mine))]
    else:
        mine, guessed = _by_name(topic, left, alone), "which joints it moves, and in which order: it was not heard"
        called = {joint.called: joint.called for joint in mine}
        tracks = [None] * len(mine)
    if not mine:
        return None
    scales, apart = [], []
    for joint, track in zip(mine, tracks):
        scale, error = _scale(joint, track)
        scales.append(scale)
        if error > FAR:
            apart.append(joint.name)
    names_in = tuple(called[joint.called] for joint in mine) if topic.named else ()
    return ProposedGroup(topic, tuple(mine), names_in, tuple(scales), guessed, tuple(apart))


def _by_numbers(topic: TopicFacts, left: Sequence[ProposedJoint]) -> tuple[list[ProposedJoint], str]:
    """The joints of an array's numbers, by what the joints do when they are told; else by how many there are."""
    count = topic.numbers
    cost = np.full((count, len(left)), np.inf)
    for n in range(count):
        for k, joint in enumerate(left):
            cost[n, k] = _scale(joint, topic.tracks.get(str(n)))[1]
    order = np.argsort(cost, axis=1) if len(left) else np.zeros((count, 0), int)
    if len(left) >= count and len({*(first := order[:, 0].tolist())}) == count:
        best = cost[np.arange(count), first]
        second = np.sort(cost, axis=1)[:, 1] if len(left) > 1 else np.full(count, np.inf)
        mine = [left[k] for k in first]
        moving = all((track := topic.tracks.get(str(n))) and _moves(j, track) for n, j in enumerate(mine))
        sure = moving and bool((best < NEAR).all() and (best < 0.5 * second).all())
        if sure:
            return mine, ""
    some = [list(left), [j for j in left if j.kind != "gripper"], [j for j in left if j.kind == "gripper"]]
    fit = next((joints for joints in some if len(joints) == count), [])
    return fit, f"the order of its {count} numbers, which its messages do not say"


def _moves(joint: ProposedJoint, track: Track) -> bool:
    return (track.high - track.low) / max(joint.scale, 1e-9) > STILL * _span(joint)


def _span(joint: ProposedJoint) -> float:
    return 6.0 if joint.kind == "continuous" else joint.upper - joint.lower


def _scale(joint: ProposedJoint, track: Track | None) -> tuple[float, float]:
    """The messages' scale of a joint's commands, and how far they are from what the joint then does, of its range; NaN
    where that is not known: then the scale of its state."""
    state = joint.track
    if track is None or state is None or not track.times_s or len(state.times_s) < 2:
        return joint.scale, float("nan")
    times = np.array(track.times_s)
    inside = (times >= state.times_s[0]) & (times <= state.times_s[-1])
    if not inside.any():
        return joint.scale, float("nan")
    told, does = np.array(track.values)[inside], state.at(times[inside]) / joint.scale
    errors = {scale: float(np.median(np.abs(told / scale - does))) / _span(joint) for scale in SCALES[joint.unit]}
    best = min(errors, key=lambda scale: errors[scale])
    if max(errors.values()) < STILL:  # all near zero: both fit
        best = joint.scale if joint.scale in errors else best
    return best, errors[best]


def _by_name(topic: TopicFacts, left: Sequence[ProposedJoint], alone: bool) -> list[ProposedJoint]:
    if alone:
        return list(left)
    grippers = [joint for joint in left if joint.kind == "gripper"]
    if GRIPPER.search(topic.topic):
        return grippers
    return [joint for joint in left if joint.kind != "gripper"] or grippers


def command_lines(groups: Sequence[ProposedGroup], of: int, mark: str, taken: set[str]) -> Iterator[str]:
    """The entries of the robot file, for so many joints; `mark` begins what was guessed, names are `taken`."""
    for group in groups:
        topic = group.topic
        parts = [part for part in topic.topic.strip("/").split("/") if not PLAIN.match(part)]
        name = (parts[-1] if parts else "arm").removesuffix("_controller") or "arm"
        name = free_name(name, taken)
        who = f"  # heard by {', '.join(topic.listeners)}" if topic.listeners else ""
        yield f"  - name: {word(name)}"
        yield f"    topic: {topic.topic}" + (who if not group.nowhere else f"  {mark} {group.guessed}")
        yield f"    type: {topic.type}"
        yield from joint_lines(
            group.joints, group.names, group.scales, of, group.guessed and f"  {mark} {group.guessed}"
        )
        if topic.type == TRAJECTORY:
            many = topic.points > 1 or (not topic.count and topic.ends_moving is False)
            many = many and group.whole
            known = topic.count or topic.ends_moving is not None
            yield f"    points: {'trajectory' if many else 'one'}" + ("" if known else f"  {mark} or trajectory")


def leaders(topics: Sequence[TopicFacts]) -> list[TopicFacts]:
    """Topics by which a person may lead: a leader arm, a teleoperation."""
    return [topic for topic in topics if LED.search(topic.topic) and topic.type in JOINT_COMMANDS and topic.count]
