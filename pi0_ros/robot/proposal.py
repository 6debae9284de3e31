"""A first robot file from what a URDF and topics say: whole, commented, and with what nobody told marked as guessed."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pi0_ros.base.errors import InputError
from pi0_ros.base.strict_yaml import nearest
from pi0_ros.robot.evidence import JOINT_STATE, OF_JOINTS, JointFacts, TopicFacts
from pi0_ros.robot.propose_bases import base_command_lines, base_joint_lines, base_state_lines, propose_base
from pi0_ros.robot.propose_cameras import camera_lines, propose_cameras
from pi0_ros.robot.propose_commands import (
    NOWHERE,
    ProposedGroup,
    command_lines,
    command_topics,
    propose_commands,
)
from pi0_ros.robot.propose_hands import hand_command_lines, hand_joint_lines, hand_state_lines, propose_hands
from pi0_ros.robot.propose_joints import ProposedJoint, called_in, outside, propose_joints, state_topics
from pi0_ros.robot.propose_servers import propose_servers, server_lines
from pi0_ros.robot.propose_takeover import ProposedTakeover
from pi0_ros.robot.propose_twists import ProposedTwist, propose_twist, twist_command_lines, twist_joint_lines
from pi0_ros.robot.proposed_lines import joint_lines, number, state_lines, word

OURS = re.compile(r"(^|/)(pi0/|_?pi0_)|/rosout$|/parameter_events$")
USUAL_FPS = (5, 10, 15, 20, 25, 30)
WHEELS = re.compile(r"wheel|caster|castor|steer", re.IGNORECASE)
MARK = "# guessed:"


@dataclass(frozen=True)
class Wishes:
    """What whoever asks knows already."""

    name: str = ""
    prompt: str = ""
    urdf: str = ""  # its path, for the file
    angles: str = "auto"  # of the messages: rad | deg | auto
    grippers: tuple[str, ...] = ()  # joints
    without: tuple[str, ...] = ()  # joints and topics that are left out
    slots: Mapping[str, str] = field(default_factory=dict)  # camera -> the model's slot


@dataclass(frozen=True)
class Proposal:
    """The text of a robot file, and in sentences what nobody told."""

    text: str
    unknown: tuple[str, ...]
    cameras: Mapping[str, str]  # camera -> slot
    joints: tuple[str, ...]


def propose(described: Sequence[JointFacts], topics: Sequence[TopicFacts], wishes: Wishes) -> Proposal:
    """A robot file for a robot whose URDF describes these joints (none: it is not known), by these topics.

    `InputError` where neither tells of a joint, and for a wish that names what is not there.
    """
    _check(described, topics, wishes)
    unknown: list[str] = []
    topics = [topic for topic in topics if not OURS.search(topic.topic) and topic.topic not in wishes.without]
    described = [fact for fact in described if fact.name not in wishes.without]
    states = state_topics(topics, {fact.name for fact in described})
    for topic in states:
        for name in wishes.without:
            topic.tracks.pop(name, None)
    joints = propose_joints(described, states, wishes.angles, wishes.grippers, unknown)
    hands, base = propose_hands(topics, [joint.name for joint in joints], unknown), propose_base(topics, unknown)
    twist = propose_twist(topics, [joint.name for joint in joints], unknown) if not hands else None
    if not joints and not hands and base is None:
        heard = ", ".join(topic.topic for topic in topics if topic.count) or "none"
        raise InputError(f"neither a URDF nor joint states tell of a joint; topics heard: {heard}: give --urdf")
    cameras = propose_cameras(topics, wishes.slots, unknown)
    servers = propose_servers(topics, _not_told(joints, topics, states), unknown)
    rest = [joint for joint in joints if all(joint is not server.joint for server in servers)]
    groups = propose_commands(topics, rest, states, unknown)
    watched = _only_seen(groups, twist, unknown)
    if groups and groups[-1].nowhere and (hands or base is not None):
        gone = _moved_otherwise(groups.pop(), bool(hands), base is not None, groups, unknown)
        joints = [joint for joint in joints if joint not in gone]
    groups = [replace(group, whole=False) for group in groups] if hands else groups
    speeds = (*(twist.joints if twist is not None else ()), *(base.joints if base is not None else ()))
    number_of = len(joints) + len(hands) + len(speeds)
    moved = [joint for group in groups for joint in group.joints] + [server.joint for server in servers]
    takeover = ProposedTakeover(topics, moved, hands, twist, base)
    unknown += takeover.unknown
    rates = [camera.topic.rate_hz for camera in cameras if camera.topic.rate_hz]
    fps = _fps(min(rates)) if rates else 20
    taken: set[str] = set()
    lines = [
        f"name: {word(wishes.name)}",
        f"description: {word(wishes.name)}  {MARK} for people",
        f"control_rate_hz: 50  {MARK} commands per second",
        f"policy_rate_hz: 2.5  {MARK} most inferences per second",
        f"dataset_fps: {fps}" + ("  # the slowest camera's, at most 30" if rates else f"  {MARK} no camera was heard"),
        f"prompt: {word(wishes.prompt)}" + ("" if wishes.prompt else f"  {MARK} none; such as: fold the towel"),
        *([f"urdf: {word(wishes.urdf)}"] if wishes.urdf and not hands else []),
        "",
        "joints:",
        *(line for joint in joints for line in _joint_lines(joint, joint in watched)),
        *(line for hand in hands for line in hand_joint_lines(hand, MARK)),
        *(twist_joint_lines(twist, MARK) if twist is not None else ()),
        *(base_joint_lines(base, MARK) if base is not None else ()),
        "",
        "cameras:" if cameras else f"cameras: []  {MARK} none was heard, so the policy sees the state alone",
        *(line for camera in cameras for line in camera_lines(camera, MARK)),
        "",
        "state:",
        *(_state_lines(joints, states, number_of, unknown) if joints else ()),
        *(line for hand in hands for line in hand_state_lines(hand, MARK)),
        *(base_state_lines(base, MARK) if base is not None else ()),
        "",
        "commands:",
        *command_lines(groups, number_of, MARK, taken),
        *(line for server in servers for line in server_lines(server, MARK, taken)),
        *(line for hand in hands for line in hand_command_lines(hand, taken)),
        *(twist_command_lines(twist, MARK, taken) if twist is not None else ()),
        *(base_command_lines(base, MARK, taken) if base is not None else ()),
        "",
        "action:",
        *_action_lines(bool(hands or speeds) or any(t.topic.count or t.topic.listeners for t in groups), fps),
        *takeover.lines(),
    ]
    unknown += [f"joint {name} was seen at {where}" for name, where in outside(joints).items()]
    unknown += [
        "the robot's true speeds: begin slowly, `limits` are enforced on every command",
        "which actions the model shall see relative to the state: here all but grippers, as pi0 was trained",
    ]
    unknown += [f"{topic.topic}: {topic.unreadable}" for topic in topics if topic.unreadable and not topic.tracks]
    head = [f"# A first robot file. What nobody told is marked with `{MARK}`; and look at these:"]
    for sentence in unknown:
        head += textwrap.wrap(sentence, 112, initial_indent="# - ", subsequent_indent="#   ")
    text = "\n".join([*head, *lines]) + "\n"
    slots = {camera.name: camera.slot for camera in cameras}
    named = [joint.name for joint in joints] + [hand.name for hand in hands]
    return Proposal(text, tuple(unknown), slots, (*named, *speeds))


def _not_told(
    joints: Sequence[ProposedJoint], topics: Sequence[TopicFacts], states: Sequence[TopicFacts]
) -> list[ProposedJoint]:
    """The joints that no command topic names: they may be an action server's."""
    named = [name for topic in command_topics(topics, states) for name in (*topic.tracks, *topic.joints_told)]
    return [joint for joint in joints if joint.called not in called_in([joint.called], named)]


def _only_seen(groups: list[ProposedGroup], twist: ProposedTwist | None, unknown: list[str]) -> Sequence[ProposedJoint]:
    """The arm's joints, which no topic commands and the twists of its hand move. The others stay in `groups`."""
    if twist is None or not groups or not groups[-1].nowhere:
        return ()
    left = groups.pop()
    arm = [joint for joint in left.joints if joint.kind != "gripper" and not WHEELS.search(joint.name)]
    stay = [(joint, scale) for joint, scale in zip(left.joints, left.scales) if joint not in arm]
    unknown[:] = [sentence for sentence in unknown if NOWHERE not in sentence]
    names = ", ".join(joint.name for joint in arm)
    unknown.append(f"whether {twist.told.topic} moves {names or 'nothing'}: they are only seen")
    if stay:
        kept, scales = zip(*stay)
        groups.append(replace(left, joints=kept, scales=scales))
        unknown.append(
            f"what moves {', '.join(j.name for j in kept)}: no command topic was found, {NOWHERE} stands there"
        )
    return arm


def _moved_otherwise(
    left: ProposedGroup, hands: bool, base: bool, groups: list[ProposedGroup], unknown: list[str]
) -> list[ProposedJoint]:
    """The joints without a command topic that the controller of a hand, or a base, moves: they are left out. The others
    stay in `groups`."""
    gone = [
        joint for joint in left.joints if (hands and joint.kind != "gripper") or (base and WHEELS.search(joint.name))
    ]
    stay = [joint for joint in left.joints if joint not in gone]
    unknown[:] = [sentence for sentence in unknown if NOWHERE not in sentence]
    if gone:
        names, who = ", ".join(joint.name for joint in gone), "the hand's controller" if hands else "the base"
        unknown.append(f"whether {who} alone moves {names}: no topic commands them, so they are left out")
    if stay:
        groups.append(replace(left, joints=tuple(stay), scales=left.scales[: len(stay)]))
        unknown.append(
            f"what moves {', '.join(j.name for j in stay)}: no command topic was found, {NOWHERE} stands there"
        )
    return gone


def _fps(rate_hz: float) -> int:
    """The usual frame rate that the slowest camera seems to have, at most 30."""
    usual = min(USUAL_FPS, key=lambda fps: abs(fps - rate_hz))
    near = abs(usual - rate_hz) < 0.15 * usual
    return min(usual if near else max(1, round(rate_hz)), USUAL_FPS[-1])


def _check(described: Sequence[JointFacts], topics: Sequence[TopicFacts], wishes: Wishes) -> None:
    """Refuse wishes that name nothing."""
    said = (topic for topic in topics if topic.type in OF_JOINTS)
    joints = [*(fact.name for fact in described), *(name for topic in said for name in topic.tracks)]
    for option, words, known in (
        ("--gripper", wishes.grippers, joints),
        ("--without", wishes.without, [*joints, *(topic.topic for topic in topics)]),
    ):
        for wanted in words:
            if wanted not in known:
                there = ", ".join(dict.fromkeys(known)) or "none"
                raise InputError(f"{option}: there is no {wanted!r}{nearest(wanted, known)}; there are {there}")


def _joint_lines(joint: ProposedJoint, seen: bool = False) -> Iterator[str]:
    def guessed(what: Sequence[str]) -> str:
        return f"  {MARK} {'; '.join(what)}" if what else ""

    ends = "" if joint.kind == "continuous" else f"position: [{number(joint.lower)}, {number(joint.upper)}], "
    speeds = f"velocity: {number(joint.velocity)}, acceleration: {number(joint.acceleration)}"
    yield f"  - name: {word(joint.name)}"
    yield f"    unit: {joint.unit}{guessed(joint.about_unit)}"
    yield f"    kind: {joint.kind}{guessed(joint.about_kind)}"
    yield f"    limits: {{{ends}{speeds}}}{guessed(joint.about_limits)}"
    action = "absolute" if joint.kind == "gripper" else "relative"
    yield f"    role: state  {MARK} the hand's twists move it" if seen else f"    action: {action}"


def _state_lines(
    joints: Sequence[ProposedJoint], states: Sequence[TopicFacts], of: int, unknown: list[str]
) -> Iterator[str]:
    if not states:
        unknown.append("where the joints' states come from: none were heard, /joint_states stands there")
        yield from state_lines(None, f"/joint_states  {MARK} it was not heard", JOINT_STATE)
        if len(joints) < of:
            yield f"    joints: [{', '.join(word(joint.name) for joint in joints)}]"
    for topic in states:
        mine = [joint for joint in joints if joint.heard is topic]
        if mine:
            yield from state_lines(topic, topic.topic, topic.type)
            yield from joint_lines(mine, [j.called for j in mine], [j.scale for j in mine], of)


def _action_lines(told: bool, fps: int) -> Iterator[str]:
    about = "the command topics" if told else f"{MARK} no command topic was found, so the state one row later"
    yield f"  source: {'command' if told else 'next_state'}  {about if about.startswith('#') else f'# {about}'}"
    yield f"  max_age_s: {max(0.25, math.ceil(250 / fps) / 100):g}"
