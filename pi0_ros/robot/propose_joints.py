"""Joints for a robot that nobody has described yet: which there are, their units, limits and who tells of them."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pi0_ros.robot.evidence import JOINT_STATE, NAMED_STATES, JointFacts, TopicFacts, Track

DEGREES, MILLIMETRES, PERCENT = math.degrees(1.0), 1000.0, 100.0
GRIPPER = re.compile(r"gripper|finger|jaw|claw|knuckle|grasp", re.IGNORECASE)
TOLD = re.compile(r"command|cmd|goal|target|desired|reference|set_?point", re.IGNORECASE)  # what robots are told
LED = re.compile(  # what persons do, and what they do it with
    r"leader|teleop|master|pendant|operator|joy|gamepad|space_?(nav|mouse)|haptic|gello|(^|[/_])(vr|vive|quest)([/_]|$)",
    re.IGNORECASE,
)
BEYOND = 1.5  # times its limits: no joint is there, so the number is in another unit
MANY_TURNS = 8 * math.pi  # rad, of a joint without limits
SLOWEST = 0.001  # a velocity that a file may have
NEARLY = 1.1  # times its limits: sensors are not exact


@dataclass(frozen=True)
class ProposedJoint:
    """A joint as the robot file shall have it, and what of it was guessed."""

    name: str
    unit: str
    kind: str
    lower: float
    upper: float
    velocity: float
    acceleration: float
    called: str  # by the messages of its state
    scale: float  # message of the state = scale * value here
    heard: TopicFacts | None  # that tells its state
    about_unit: tuple[str, ...] = ()  # what was guessed
    about_kind: tuple[str, ...] = ()
    about_limits: tuple[str, ...] = ()

    @property
    def track(self) -> Track | None:
        """Its positions as the messages count them."""
        return self.heard.tracks.get(self.called) if self.heard is not None else None


def state_topics(topics: Sequence[TopicFacts], joints: Collection[str]) -> list[TopicFacts]:
    """The topics that say where joints are: as few as tell of all, joint states and those with the most joints first.

    `joints`: of the URDF; empty where there is none.
    """
    told = [topic for topic in topics if topic.type in NAMED_STATES and topic.tracks]
    found = [topic for topic in told if not TOLD.search(topic.topic) and not LED.search(topic.topic)]
    wanted = set(joints) or {name for topic in found for name in topic.tracks}
    chosen: list[TopicFacts] = []
    known: set[str] = set()
    for topic in sorted(
        found, key=lambda t: (t.type != JOINT_STATE, -len(called_in(wanted, t.tracks)), -t.rate_hz, t.topic)
    ):
        if new := called_in(wanted, topic.tracks).keys() - known:
            chosen.append(topic)
            known |= new
    return chosen


def called_in(joints: Iterable[str], names: Collection[str]) -> dict[str, str]:
    """Joint -> which of these names it has: the same, or the one that ends alike (fr3_joint1 and joint1)."""
    joints = list(joints)
    found = {name: name for name in joints if name in names}
    taken = set(found.values())
    for name in joints:
        alike = [
            other
            for other in names
            if other not in taken and (name.endswith(f"_{other}") or other.endswith(f"_{name}"))
        ]
        if name not in found and len(alike) == 1:
            found[name] = alike[0]
            taken.add(alike[0])
    return found


def propose_joints(
    described: Sequence[JointFacts],
    states: Sequence[TopicFacts],
    angles: str,
    grippers: Collection[str],
    unknown: list[str],
) -> list[ProposedJoint]:
    """The joints, those of the URDF in its order, or where there is none those that are told of.

    `angles`: rad | deg, the messages' unit, or auto: judged by their size. What nobody told goes into `unknown`, too.
    """
    facts = list(described) or [JointFacts(name) for name in dict.fromkeys(n for t in states for n in t.tracks)]
    found: list[ProposedJoint] = []
    for fact in facts:
        place = next(
            ((t, name) for t in states if (name := called_in([f.name for f in facts], t.tracks).get(fact.name))), None
        )
        if place is None and states:
            unknown.append(f"joint {fact.name} of the URDF: nobody tells where it is, so it is left out")
            continue
        topic, called = place or (None, fact.name)
        gripper = fact.name in grippers or bool(GRIPPER.search(fact.name))
        in_degrees = angles == "deg" or (angles == "auto" and topic is not None and _in_degrees(topic, facts, grippers))
        joint = _joint(fact, topic, called, gripper, in_degrees)
        if angles == "auto" and topic is not None and joint.unit == "rad":
            about = "degrees, by the size of the messages' numbers" if in_degrees else "rad, by the numbers' size"
            sure = in_degrees or (joint.track is not None and joint.track.most > 1.0)
            joint = joint if sure and not in_degrees else replace(joint, about_unit=(*joint.about_unit, about))
        found.append(_with_speeds(joint, fact))
    return found


def _in_degrees(topic: TopicFacts, facts: Sequence[JointFacts], grippers: Collection[str]) -> bool:
    """Whether a driver counts in degrees: one of its angles is where in rad it could not be."""
    called = called_in([fact.name for fact in facts], topic.tracks)
    for fact in facts:
        track = topic.tracks.get(called.get(fact.name, ""))
        if track is None or fact.kind == "prismatic" or fact.name in grippers or GRIPPER.search(fact.name):
            continue
        limit = BEYOND * fact.reach if math.isfinite(fact.reach) else MANY_TURNS if fact.kind else 2 * math.pi + 0.2
        if track.most > limit:
            return True
    return False


def _joint(fact: JointFacts, topic: TopicFacts | None, called: str, gripper: bool, in_degrees: bool) -> ProposedJoint:
    """Unit, kind, limits and scale; speeds come later."""
    track = topic.tracks.get(called) if topic is not None else None
    unit = "m" if fact.kind == "prismatic" else "rad"
    joint = ProposedJoint(fact.name, unit, fact.kind, fact.lower, fact.upper, 0.0, 0.0, called, 1.0, topic)
    if gripper:
        joint = replace(joint, kind="gripper", about_kind=("a gripper, by its name",))
        return _with_limits(_gripper(joint, fact, track, in_degrees), track)
    if not fact.kind:
        joint = replace(joint, kind="revolute", about_kind=("or continuous or prismatic: no URDF says it",))
    if unit == "rad" and in_degrees:
        joint = replace(joint, scale=DEGREES)
    elif unit == "m" and track is not None and track.most > BEYOND * fact.reach:
        joint = replace(joint, scale=MILLIMETRES, about_unit=("its messages are in mm, by their size",))
    return _with_limits(joint, track)


def _gripper(joint: ProposedJoint, fact: JointFacts, track: Track | None, in_degrees: bool) -> ProposedJoint:
    """A gripper's unit, scale and limits by its URDF and by the numbers that were seen."""
    whole = replace(joint, unit="normalized", lower=0.0, upper=1.0)
    known = math.isfinite(fact.reach) and fact.upper > fact.lower
    if known and joint.unit == "m" and fact.upper - fact.lower > 0.9:
        known = False  # no fingers are a metre wide: the URDF counts from 0 to 1
    if track is None:
        if known:
            return replace(joint, about_unit=("as in the URDF: no message of it was heard",))
        return replace(whole, about_unit=("no message of it was heard",))
    seen = f"its messages went from {track.low:.4g} to {track.high:.4g}"
    if known:
        scales = [DEGREES, 1.0] if joint.unit == "rad" and in_degrees else [1.0, DEGREES]
        for scale in scales if joint.unit == "rad" else [1.0, MILLIMETRES]:
            slack = (NEARLY - 1.0) * (fact.upper - fact.lower)
            if (fact.lower - slack) * scale <= track.low and track.high <= (fact.upper + slack) * scale:
                what = {DEGREES: "degrees", MILLIMETRES: "mm"}.get(scale)
                return replace(joint, scale=scale, about_unit=(f"{what}: {seen}",) if what else ())
    elif track.low >= -0.01 and track.high <= 0.15 and not math.isfinite(fact.reach):
        return replace(joint, unit="m", about_unit=(f"m: {seen}",))
    if track.low >= -0.1 and track.high <= NEARLY:
        return replace(whole, about_unit=(f"0 .. 1: {seen}; which end is open?",))
    if track.low >= -10.0 and 2.0 < track.high <= NEARLY * PERCENT:
        return replace(whole, scale=PERCENT, about_unit=(f"per cent: {seen}; which end is open?",))
    return replace(joint, about_unit=(f"{joint.unit}: {seen}",))


def _with_limits(joint: ProposedJoint, track: Track | None) -> ProposedJoint:
    """With limits where the URDF gives none."""
    if joint.kind == "continuous" or (math.isfinite(joint.lower) and joint.lower < joint.upper):
        return joint
    if track is None:
        return replace(joint, lower=-1.0, upper=1.0, about_limits=("made up: nothing was heard or told of it",))
    low, high = track.low / joint.scale, track.high / joint.scale
    margin = max(0.05 * (high - low), 0.002 if joint.unit == "m" else 0.02, 0.002 * max(abs(low), abs(high)))
    about = ("positions are a twentieth more than was seen",)
    lower, upper = (float(f"{end:.4g}") for end in (low - margin, high + margin))
    return replace(joint, lower=lower, upper=upper, about_limits=about)


def _with_speeds(joint: ProposedJoint, fact: JointFacts) -> ProposedJoint:
    """Half of what the URDF allows, but no less than what was seen; a quarter of a second to get there."""
    span = joint.upper - joint.lower if joint.kind != "continuous" else 2 * math.pi
    told = fact.velocity if fact.velocity > 0 and joint.unit != "normalized" else math.nan
    usual = told / 2 if math.isfinite(told) else 2.0 * span if joint.kind == "gripper" else min(1.0, 0.5 * span)
    seen = 1.25 * joint.track.speed / joint.scale if joint.track is not None else 0.0
    velocity = max(usual, min(seen, told) if math.isfinite(told) else seen)
    if velocity > usual:
        about = "velocity is a quarter more than was seen"
    else:
        about = "velocity is half of the URDF's" if math.isfinite(told) else "velocity"
    velocity = max(float(f"{velocity:.3g}"), SLOWEST)
    return replace(
        joint,
        velocity=velocity,
        acceleration=4.0 * velocity,
        about_limits=(*joint.about_limits, f"{about}; acceleration is 4 times it"),
    )


def outside(joints: Iterable[ProposedJoint]) -> Mapping[str, str]:
    """Joint -> where it was seen outside its limits, in its unit."""
    found = {}
    for joint in joints:
        if (track := joint.track) is None or joint.kind == "continuous":
            continue
        low, high = track.low / joint.scale, track.high / joint.scale
        slack = 0.02 * (joint.upper - joint.lower)
        if low < joint.lower - slack or high > joint.upper + slack:
            found[joint.name] = (
                f"{low:.4g} to {high:.4g} {joint.unit}, its limits are {joint.lower:.4g} to {joint.upper:.4g}"
            )
    return found
