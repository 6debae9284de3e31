"""Hands that are commanded and seen as poses: `kind: pose` among the joints, and the topics that say them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from pi0_ros.base.strict_yaml import Place, Section, WrongValueError, nearest
from pi0_ros.robot.entries import frame_at, stamp_of, state_latency_of, topic_of
from pi0_ros.robot.message_types import (
    COMMAND_TYPES,
    ODOMETRY,
    POSE_STATE_TYPES,
    POSE_TYPES,
    SEVERAL_POSES,
    STATE_TYPES,
    TF,
    TWIST,
    TWIST_STAMPED,
)
from pi0_ros.robot.rotations import WRITINGS
from pi0_ros.robot.types import CommandGroup, Joint, Pose, StateTopic

ACTIONS = ("absolute", "relative")
ROLES = ("both", "state", "action")
EXAMPLE = "{position: {x: [0.2, 0.7], y: [-0.4, 0.4], z: [0.05, 0.6]}, linear: {...}, angular: {...}}"
HINTS = {
    "frame": "the frame of its messages' header.frame_id, such as base_link",
    "action": "absolute, or relative: to the hand as it was seen, composed",
    "limits": EXAMPLE,
    "position": "x, y and z, [lower, upper] in m each: the room that the hand may be in",
    "linear": "velocity in m/s and acceleration in m/s^2",
    "angular": "velocity in rad/s and acceleration in rad/s^2",
    "index": "which pose of its messages it is, from 0 on",
    "child": "the frame (child_frame_id) whose transform in the frame of the pose it is, such as tool0",
}
_UNITS = "a pose is in m and unit quaternions, here and in its messages: remove it, and let its driver say it so"
_LIMITS = "of a pose there are two, m/s and rad/s: write it below linear and angular"
OF_OTHERS = {  # keys that entries of joints have: what to do about them in those of poses
    "jerk": "a pose's jerk cannot be limited yet, its acceleration is: remove it",
    "velocity": _LIMITS,
    "acceleration": _LIMITS,
    "unit": "a pose is in m and rad: remove it",
    "points": "a pose is sent at every tick, whole plans (trajectory) are of joints alone yet: remove it",
    "scale": _UNITS,
    "offset": _UNITS,
    "names": "a message says one pose, and names none: remove it",
    "names_from": "a message says one pose, and names none: remove it",
    "on_change": "only grippers are told on change, a pose is sent at every tick: remove it",
}
TWISTS = (TWIST, TWIST_STAMPED)
SEEN_FROM = ("frame", "start")


def is_pose(value: Any) -> bool:
    """Whether an entry of `joints` is a pose."""
    return isinstance(value, dict) and value.get("kind") == "pose"


def read_pose(value: Any, place: Place) -> tuple[Joint, ...]:
    """The entries of one pose."""
    _refuse_keys_of_others(value, place)
    role = value.get("role")
    needed = ("action",) if role != "state" else ()
    item = Section(
        value,
        place,
        ("name", "kind", "frame", "limits", *needed),
        ("rotation", "role", "model_index", "seen_from"),
        HINTS,
    )
    role = item.choice("role", ROLES, "both")
    action = item.choice("action", ACTIONS) if role != "state" else ""
    if action == "relative" and role == "action":
        item.wrong("action", "relative needs the pose in the state, too: write absolute, or the role both")
    seen_from = item.choice("seen_from", SEEN_FROM, SEEN_FROM[0])
    if seen_from != SEEN_FROM[0] and action != "relative":
        item.wrong("seen_from", f"{seen_from} needs actions that start there, too: write the action relative, or frame")
    pose = Pose(item.name("name"), frame_at(item), item.choice("rotation", tuple(WRITINGS), "rot6d"), seen_from)
    writing = WRITINGS[pose.rotation]
    _refuse_keys_of_others(value["limits"], (*place, "limits"))
    limits = Section(value["limits"], (*place, "limits"), ("position", "linear", "angular"), (), HINTS)
    room = Section(limits.value["position"], (*limits.place, "position"), ("x", "y", "z"), (), HINTS)
    ends = [room.pair(axis, "[lower, upper] in m") for axis in ("x", "y", "z")]
    for key in ("linear", "angular"):
        _refuse_keys_of_others(limits.value[key], (*limits.place, key), ("jerk",))
    linear, angular = (
        Section(limits.value[key], (*limits.place, key), ("velocity", "acceleration"), ("tracking",))
        for key in ("linear", "angular")
    )
    ends += [(-writing.reach, writing.reach)] * len(writing.names)
    first = item.count_from_zero("model_index") if "model_index" in item else None
    found = []
    for n, (name, (lower, upper)) in enumerate(zip(pose.entries, ends)):
        of = linear if n < 3 else angular
        found.append(
            Joint(
                name=name,
                unit="m" if n < 3 else writing.unit,
                kind="pose",
                lower=lower,
                upper=upper,
                velocity=of.positive("velocity"),
                acceleration=of.positive("acceleration"),
                jerk=None,
                action=action,
                role=role,
                tracking=of.positive("tracking") if "tracking" in of else None,
                model_index=None if first is None else first + n,
                pose=pose,
            )
        )
    return tuple(found)


def write_pose(pose: Pose, entries: Sequence[Joint]) -> dict[str, Any]:
    """The entry of `joints` that reads back as `entries`."""
    place, turn = entries[0], entries[3]

    def limits(of: Joint) -> dict[str, float]:
        told = {"velocity": of.velocity, "acceleration": of.acceleration}
        return told if of.tracking is None else {**told, "tracking": of.tracking}

    room = {axis: [joint.lower, joint.upper] for axis, joint in zip("xyz", entries)}
    content: dict[str, Any] = {"name": pose.name, "kind": "pose", "frame": pose.frame, "rotation": pose.rotation}
    content["limits"] = {"position": room, "linear": limits(place), "angular": limits(turn)}
    content |= {"action": place.action} if place.action else {}
    content |= {"seen_from": pose.seen_from} if pose.seen_from != SEEN_FROM[0] else {}
    content |= {"role": place.role} if place.role != "both" else {}
    return content | ({} if place.model_index is None else {"model_index": place.model_index})


def called(joints: Sequence[Joint]) -> tuple[str, ...]:
    """What entries of `state` and `commands` call the joints: a pose by its own name."""
    return tuple(dict.fromkeys(joint.name if joint.pose is None else joint.pose.name for joint in joints))


def says_pose(value: Any, types: Sequence[str] = POSE_TYPES) -> bool:
    """Whether an entry of `commands` (or, with POSE_STATE_TYPES, of `state`) is of a type that says a pose alone."""
    return isinstance(value, dict) and value.get("type") in types


def is_pose_state(value: Any, joints: Sequence[Joint]) -> bool:
    """Whether an entry of `state` is about a pose. Odometry says speeds, too, and a path leads into any message."""
    if says_pose(value, POSE_STATE_TYPES):
        return True
    if says_pose(value, tuple(SEVERAL_POSES)):
        return "field" not in value
    if not says_pose(value, (ODOMETRY,)):
        return False
    listed, poses = value.get("joints"), {joint.pose.name for joint in joints if joint.pose is not None}
    if isinstance(listed, list):
        return any(isinstance(name, str) and name in poses for name in listed)
    return all(joint.pose is not None for joint in joints)


def read_pose_state(value: Any, place: Place, joints: Sequence[Joint]) -> StateTopic:
    """An entry of `state` whose messages say a pose."""
    _refuse_keys_of_others(value, place)
    which = tuple(key for kind, key in SEVERAL_POSES.items() if value.get("type") == kind)
    item = Section(value, place, ("topic", "type", "max_age_s", *which), ("joints", "stamp", "latency_s"), HINTS)
    pose, kind, topic = _pose(item, joints), item.text("type"), topic_of(item)
    if kind == TF and topic.endswith("tf_static"):
        item.wrong("topic", f"what {topic} says never moves: write /tf, or the topic that says where it is")
    if kind == TF and stamp_of(item) == "header":
        item.wrong("stamp", f"messages on {topic} hold many stamps and count by their arrival: write arrival")
    age = item.seconds("max_age_s")
    stamp, latency = stamp_of(item), state_latency_of(item, age)
    told = StateTopic(topic, kind, pose.entries, age, stamp=stamp, latency_s=latency, pose=pose)
    index = item.count_from_zero("index") if "index" in which else None
    return replace(told, index=index, child=frame_at(item, "child") if "child" in which else "")


def read_pose_command(value: Any, place: Place, joints: Sequence[Joint], hold: bool) -> CommandGroup:
    """An entry of `commands` whose messages say a pose."""
    _refuse_keys_of_others(value, place)
    item = Section(value, place, ("name", "topic", "type"), ("joints", "stamp", "max_age_s", "hold"), HINTS)
    pose = _pose(item, joints)
    age = item.seconds("max_age_s") if "max_age_s" in item else None
    name, topic, kind = item.name("name"), topic_of(item), item.text("type")
    return CommandGroup(name, topic, kind, pose.entries, stamp=stamp_of(item), max_age_s=age, hold=hold, pose=pose)


def read_pose_topic(value: Any, place: Place, joints: Sequence[Joint]) -> CommandGroup:
    """An entry of `takeover.topics` whose messages say where a person wants the hand."""
    _refuse_keys_of_others(value, place)
    item = Section(value, place, ("topic", "type"), ("joints",), HINTS)
    pose = _pose(item, joints)
    return CommandGroup("takeover", topic_of(item), item.text("type"), pose.entries, pose=pose)


def _refuse_keys_of_others(value: Any, place: Place, keys: Collection[str] = tuple(OF_OTHERS)) -> None:
    """Wrong where an entry of a pose has one of these keys, which others have."""
    for key in value if isinstance(value, dict) else ():
        if key in keys:
            raise WrongValueError((*place, key), OF_OTHERS[key])


def refuse_pose(value: Any, place: Place, joints: Sequence[Joint]) -> None:
    """Wrong where an entry of another type lists a pose."""
    listed = value.get("joints") if isinstance(value, dict) else None
    poses = {joint.pose.name for joint in joints if joint.pose is not None}
    for i, name in enumerate(listed if isinstance(listed, list) else ()):
        if isinstance(name, str) and name in poses:
            kind = value.get("type")
            known = isinstance(kind, str) and (kind in STATE_TYPES or kind in COMMAND_TYPES)
            message = f"{name!r} is a pose, and {'no ' if known else ''}{kind!r} says {'one' if known else 'none'}"
            at: Place = ("joints", i) if known else ("type",)
            told = ", or joints of the kind speed for its velocities" if known and (kind in TWISTS) else ""
            raise WrongValueError((*place, *at), f"{message}: write {' or '.join(POSE_TYPES)}{told}")
    if poses and all(joint.pose is not None for joint in joints):
        message = f"it says no pose, and the robot here has nothing else: write {' or '.join(POSE_TYPES)}"
        raise WrongValueError((*place, "type"), message)


def _pose(item: Section, joints: Sequence[Joint]) -> Pose:
    """The pose that an entry is about: the one it lists, or the only one."""
    poses = {joint.pose.name: joint.pose for joint in joints if joint.pose is not None}
    if not poses:
        item.wrong("type", "it says a pose, and no entry of `joints` that could be here has the kind pose: write one")
    names = item.names("joints") if "joints" in item else tuple(poses)
    if len(names) != 1:
        item.wrong("joints", f"a {item.text('type')} says one pose: list one of {', '.join(poses)}")
    if names[0] not in poses:
        known = f"known are {', '.join(poses)}"
        raise WrongValueError((*item.place, "joints", 0), f"{names[0]!r} is no pose{nearest(names[0], poses)}; {known}")
    return poses[names[0]]
