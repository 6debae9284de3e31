"""Hands for a robot that nobody has described yet: topics that tell an arm poses, and those that say where its hand
is."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from pi0_ros.robot.evidence import TopicFacts
from pi0_ros.robot.message_types import POSE_STATE_TYPES, POSE_TYPES, SEVERAL_POSES, TF
from pi0_ros.robot.propose_joints import LED, TOLD
from pi0_ros.robot.proposed_lines import free_name, number, state_lines, word

OF_A_BASE = re.compile(r"goal_pose|initialpose|clicked|amcl|odom|base_pose|robot_pose|waypoint", re.IGNORECASE)
TELLS = re.compile(rf"{TOLD.pattern}|pose_in|desired_pose|servo", re.IGNORECASE)
FREE = 0.1  # m around what was seen that the room may reach
ROOM = {"x": (0.2, 0.6), "y": (-0.3, 0.3), "z": (0.1, 0.5)}  # m, where nothing was seen
MOVES_S = {"linear": (0.25, 1.0), "angular": (1.0, 4.0)}  # velocity and acceleration
MEASURED = re.compile(r"tcp|eef|(^|[/_])ee([/_]|$)|tool|hand|current|state|actual|measured", re.IGNORECASE)
MOVES = 0.02  # m: less is noise
NEAR = 0.15  # m from where it is told to be: so near is a pose among several where its name says nothing
SIDES = re.compile(r"left|right", re.IGNORECASE)


@dataclass(frozen=True)
class ProposedHand:
    """One hand: who is told its poses, and who says them."""

    name: str
    told: TopicFacts
    says: TopicFacts | None

    @property
    def frame(self) -> str:
        """In which its messages are; empty where none says it."""
        return next((t.frame.lstrip("/") for t in (self.says, self.told) if t is not None and t.frame), "")


def propose_hands(topics: Sequence[TopicFacts], joints: Collection[str], unknown: list[str]) -> list[ProposedHand]:
    """The hands that are told where to be, each with the pose topic that fits best; called as none of `joints`."""
    poses = [topic for topic in topics if topic.type in POSE_STATE_TYPES and not OF_A_BASE.search(topic.topic)]
    asked = [topic for topic in poses if topic.type in POSE_TYPES and TELLS.search(topic.topic)]
    told = [topic for topic in asked if (topic.count or topic.listeners) and not LED.search(topic.topic)]
    several = [topic for topic in topics if topic.type in SEVERAL_POSES]
    left = [topic for topic in poses if topic not in told and topic.count and not LED.search(topic.topic)]
    left += [part for topic in several for part in _moving_poses(topic)]
    found: list[ProposedHand] = []
    taken = set(joints)
    for topic in sorted(told, key=lambda t: t.topic):
        side = SIDES.search(topic.topic)
        name = free_name(f"{side[0].lower()}_hand" if side and len(told) > 1 else "hand", taken)
        there = [other for other in left if other.type not in SEVERAL_POSES or _may_be(topic, other)]
        says = max(there, key=lambda other: _fits(topic, other), default=None)
        left = [other for other in left if other is not says]
        hand = ProposedHand(name, topic, says)
        if says is None:
            unknown.append(f"where {name} is: no pose of it was heard, /to_be_found/pose stands there")
            unknown += _chains(topic, several)
        elif says.index is not None:
            unknown.append(f"which pose of {says.topic} is {name}: number {says.index} {_why_this(topic)}")
        if not hand.frame:
            unknown.append(f"the frame of {name}'s poses: no message said it, base_link stands there")
        if topic.frame and says is not None and says.frame and topic.frame.lstrip("/") != says.frame.lstrip("/"):
            frames = f"{topic.topic} is told in {topic.frame}, {says.topic} says {says.frame}"
            unknown.append(f"{frames}: both must be in one frame, so let a driver say it in the other's")
        found.append(hand)
    unknown += [
        f"{topic.topic} ({topic.type}): a pose that no command topic moves, so it is left out"
        for topic in (*poses, *(topic for topic in several if topic.type != TF and not OF_A_BASE.search(topic.topic)))
        if all(topic is not hand.told and (hand.says is None or topic.topic != hand.says.topic) for hand in found)
    ]
    return found


def _moving_poses(several: TopicFacts) -> list[TopicFacts]:
    """The poses of a topic with several that come again and again and are no base's."""
    if LED.search(several.topic) or TELLS.search(several.topic):
        return []
    parts = several.parts.values()
    return [part for part in parts if part.rate_hz and not OF_A_BASE.search(f"{part.topic} {part.child}")]


def _one_frame(told: TopicFacts, says: TopicFacts) -> bool:
    return not told.frame or told.frame.lstrip("/") == says.frame.lstrip("/")


def _apart(told: TopicFacts, says: TopicFacts) -> float:
    """How far the middle of what is said is from that of what is told, m; infinite where nothing is told."""
    if any(axis not in topic.tracks for topic in (told, says) for axis in ROOM):
        return math.inf
    middles = [[(t.tracks[axis].low + t.tracks[axis].high) / 2 for t in (told, says)] for axis in ROOM]
    return math.dist(*zip(*middles))


def _may_be(told: TopicFacts, says: TopicFacts) -> bool:
    """Whether one of several poses may be the hand: one frame, and its name says so, or it is where the hand is told;
    where nobody tells it, it is one of an array that moves."""
    named = bool(MEASURED.search(says.child or says.topic))
    alone = not told.tracks and says.index is not None and _way(says) > MOVES
    return _one_frame(told, says) and (named or alone or _apart(told, says) < NEAR)


def _way(says: TopicFacts) -> float:
    """How far it went, m."""
    return max((track.high - track.low for track in says.tracks.values()), default=0.0)


def _fits(told: TopicFacts, says: TopicFacts) -> tuple[bool, bool, float, bool, float, float, float]:
    """How well a pose that is said goes with one that is told; the largest fits best."""
    named, apart = bool(MEASURED.search(says.child or says.topic)), _apart(told, says)
    alike = difflib.SequenceMatcher(None, told.topic, says.child or says.topic).ratio()
    return _one_frame(told, says), named, -round(apart, 1), says.type not in SEVERAL_POSES, alike, -apart, _way(says)


def _chains(told: TopicFacts, several: Sequence[TopicFacts]) -> Iterator[str]:
    """Sentences about transforms to a hand that are told in another frame than it is."""
    for topic in several:
        for part in _moving_poses(topic) if topic.type == TF else ():
            if MEASURED.search(part.child) and not _one_frame(told, part):
                way = f"{topic.topic} has {part.child} in {part.frame.lstrip('/')}, {told.topic} is in {told.frame}"
                yield f"{way}: let a small node look it up and publish it as a PoseStamped (docs/new_robot.md)"


def _why_this(told: TopicFacts) -> str:
    return f"is the nearest to where {told.topic} tells it to be" if told.tracks else "moves most; nobody commands it"


def hand_joint_lines(hand: ProposedHand, mark: str) -> Iterator[str]:
    """Its entry of `joints`."""
    yield f"  - name: {word(hand.name)}"
    yield "    kind: pose"
    yield f"    frame: {word(hand.frame or 'base_link')}" + ("" if hand.frame else f"  {mark} no message said it")
    yield "    limits:"
    room, seen = {}, False
    for axis, usual in ROOM.items():
        tracks = [t.tracks[axis] for t in (hand.says, hand.told) if t is not None and axis in t.tracks]
        ends = (min(t.low for t in tracks) - FREE, max(t.high for t in tracks) + FREE) if tracks else usual
        room[axis] = [float(f"{end:.3f}") for end in ends]
        seen = seen or bool(tracks)
    why = f"{FREE:g} m around where it was seen" if seen else "made up: it was not seen"
    written = ", ".join(f"{axis}: [{number(low)}, {number(high)}]" for axis, (low, high) in room.items())
    yield f"      position: {{{written}}}  {mark} {why}"
    for key, (velocity, acceleration) in MOVES_S.items():
        yield f"      {key}: {{velocity: {velocity:g}, acceleration: {acceleration:g}}}  {mark} begin slowly"
    yield "    action: relative"


def hand_state_lines(hand: ProposedHand, mark: str) -> Iterator[str]:
    """Its entry of `state`."""
    absent = f"/to_be_found/pose  {mark} nobody says where {hand.name} is"
    yield from state_lines(hand.says, absent, POSE_TYPES[0])
    if hand.says is not None and hand.says.child:
        yield f"    child: {word(hand.says.child)}" + (
            "" if MEASURED.search(hand.says.child) else f"  {mark} it is near"
        )
    if hand.says is not None and hand.says.index is not None:
        yield f"    index: {hand.says.index}  {mark} {_why_this(hand.told)}"
    yield f"    joints: [{word(hand.name)}]"


def hand_command_lines(hand: ProposedHand, taken: set[str]) -> Iterator[str]:
    """Its entry of `commands`."""
    who = f"  # heard by {', '.join(hand.told.listeners)}" if hand.told.listeners else ""
    yield f"  - name: {word(free_name(hand.name, taken))}"
    yield f"    topic: {hand.told.topic}{who}"
    yield f"    type: {hand.told.type}"
    yield f"    joints: [{word(hand.name)}]"
