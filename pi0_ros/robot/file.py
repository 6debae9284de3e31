"""The robot file: joints, cameras, topics and rates of one robot, read and written.

Nodes, converter, trainer, simulator and doctor all read this one file. Reading is strict: a key nobody knows, a missing
unit, a joint listed twice or limits upside down raise `RobotFileError`, which names file, line, key and remedy.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from pi0_ros.base.errors import InputError
from pi0_ros.base.share import config_path
from pi0_ros.base.strict_yaml import Place, Section, WrongValueError, key_of, nearest, read, unique
from pi0_ros.robot.dataset_names import read_dataset_names, write_dataset_names
from pi0_ros.robot.encodings import ENCODINGS
from pi0_ros.robot.mending import mend
from pi0_ros.robot.message_types import (
    CAMERA_TYPES,
    COMMAND_TYPES,
    PATH_PATTERN,
    STATE_TYPES,
    TRAJECTORY,
    TYPE_PATTERN,
    is_state_field,
)
from pi0_ros.robot.released import read_released, write_released
from pi0_ros.robot.types import NOBODY, Camera, CommandGroup, Joint, Robot, StateTopic, TakeoverTopics
from pi0_ros.robot.units import read_scales, write_scales

UNITS = ("rad", "m", "normalized")
OTHER_UNITS = {  # what people write -> ours, and how many of theirs one of ours is
    **dict.fromkeys(("deg", "degree", "degrees"), ("rad", math.degrees(1.0))),
    **dict.fromkeys(("mm", "millimetre", "millimetres", "millimeter", "millimeters"), ("m", 1000.0)),
    **dict.fromkeys(("%", "percent"), ("normalized", 100.0)),
}
KINDS = ("revolute", "continuous", "prismatic", "gripper")
KIND_UNITS = {"revolute": ("rad",), "continuous": ("rad",), "prismatic": ("m",), "gripper": UNITS}
ACTIONS = ("absolute", "relative", "velocity")
ROLES = ("both", "state", "action")
CONTROL_RATES = (20, 1000)  # Hz
AS_ALWAYS = (("stamp", "auto"), ("hold", False), ("names_from", "names"))
LIMITS = ("jerk", "tracking", "outside")  # that a joint may have besides position, velocity and acceleration
SLOTS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
ROTATIONS = (0, 90, 180, 270)
STAMPS = ("auto", "header", "arrival")
NAMES_FROM = ("names", "order")
COMMAND_POINTS = ("one", "trajectory")
ACTION_SOURCES = ("command", "next_state")
TAKEOVER_KEYS = ("topic", "type", "joints", "names", "scale", "offset")
TAKEOVER_BEGINS = ("switch", "commands")

TOPIC_PATTERN = re.compile(r"/?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*")
SLOT_PATTERN = re.compile(r"\w[\w.-]*")  # LeRobot's features may be called rgb.head, cam-high or 2cam


class RobotFileError(InputError):
    """A robot file that cannot be used; the message names the file, the key and what to write instead."""


# ---- finding


def load_robot(name_or_path: str | os.PathLike[str]) -> Robot:
    """Read a robot by its name (`demo_arm`: one of the files in `config/robots`) or by the path of its file.

    Raises `RobotFileError` when there is no such file or when it is wrong.
    """
    text = os.fspath(name_or_path)
    path = Path(text).expanduser()
    if os.sep not in text and path.suffix not in (".yaml", ".yml"):
        path = config_path("robots", f"{text}.yaml")
        if not path.is_file():
            known = sorted(file.stem for file in path.parent.glob("*.yaml"))
            raise RobotFileError(
                f"no robot is called {text!r}{nearest(text, known)}; known are {', '.join(known)}, "
                "or give the path of a robot file that ends in .yaml"
            )
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RobotFileError(f"{path}: cannot be read: {error}") from error
    return robot_from_yaml(content, str(path))


# ---- reading


def robot_from_yaml(text: str, origin: str) -> Robot:
    """Parse and check the text of a robot file; `origin` names it in errors. Raises `RobotFileError`."""
    return read(text, origin, _robot, RobotFileError, mend)


HINTS = {
    "unit": "one of " + ", ".join(UNITS),
    "kind": "one of " + ", ".join(KINDS),
    "action": "absolute, relative or velocity for a joint; source and max_age_s for the robot",
    "step": "how far an action of 1 moves the joint per frame",
    "slot": "the model's image slot, such as " + ", ".join(SLOTS),
    "limits": "position: [lower, upper] (not for continuous joints), velocity and acceleration",
    "max_age_s": "the age in seconds from which on a sample is too old",
    "source": "one of " + ", ".join(ACTION_SOURCES),
    "points": "one of " + ", ".join(COMMAND_POINTS),
    "topics": "a list with the topic and type of a person's poses, such as a leader arm's joint states",
}
ROBOT_KEYS = (
    ("name", "control_rate_hz", "policy_rate_hz", "dataset_fps", "joints", "cameras", "state", "commands", "action"),
    ("description", "prompt", "urdf", "policy", "dataset", "takeover"),
)


def _robot(document: Any) -> Robot:
    file = Section(document, (), *ROBOT_KEYS, HINTS)
    joints = tuple(_joint(item, place) for item, place in file.items("joints"))
    unique((("joints", i, "name"), joint.name) for i, joint in enumerate(joints))
    _model_places(joints)
    cameras = tuple(_camera(item, place) for item, place in file.items("cameras"))
    observed = [joint.name for joint in joints if joint.role != "action"]
    moved = [joint.name for joint in joints if joint.role != "state"]
    state = tuple(_state(item, place, observed) for item, place in file.items("state"))
    commands = tuple(_command(item, place, moved) for item, place in file.items("commands"))
    unique((("cameras", i, "name"), camera.name) for i, camera in enumerate(cameras))
    unique((("cameras", i, "slot"), camera.slot) for i, camera in enumerate(cameras))
    unique((("commands", i, "name"), group.name) for i, group in enumerate(commands))
    streams: dict[str, Sequence[Camera | StateTopic | CommandGroup]]
    streams = {"cameras": cameras, "state": state, "commands": commands}
    unique(
        ((key, i, "topic"), f"/{item.topic.removeprefix('/')}")
        for key, items in streams.items()
        for i, item in enumerate(items)
        if key != "state" or _first_of_topic(state, i)
    )
    _one_stream_each(state)
    _each_joint_once("state", state, observed)
    _each_joint_once("commands", commands, moved)
    action = Section(file.value["action"], ("action",), ("source", "max_age_s"), (), HINTS)
    source = action.choice("source", ACTION_SOURCES)
    _positions_where_actions_need_them(joints, state, source)
    control_rate, policy_rate = file.positive("control_rate_hz"), file.positive("policy_rate_hz")
    if not CONTROL_RATES[0] <= control_rate <= CONTROL_RATES[1]:
        allowed = "{} .. {} Hz".format(*CONTROL_RATES)
        file.wrong("control_rate_hz", f"{control_rate:g} Hz is not within {allowed}, which the controller can keep")
    if policy_rate > control_rate:
        file.wrong("policy_rate_hz", f"{policy_rate:g} Hz is above control_rate_hz, {control_rate:g} Hz: lower it")
    return Robot(
        name=file.text("name"),
        description=file.text("description", ""),
        joints=joints,
        cameras=cameras,
        state=state,
        commands=commands,
        action_source=source,
        action_max_age_s=action.positive("max_age_s"),
        control_rate_hz=control_rate,
        policy_rate_hz=policy_rate,
        dataset_fps=file.positive("dataset_fps"),
        prompt=file.text("prompt", ""),
        urdf=file.text("urdf") if "urdf" in file else None,
        released=read_released(file, len(observed), [camera.name for camera in cameras]),
        dataset=read_dataset_names(file, [joint.name for joint in joints], [camera.name for camera in cameras]),
        takeover=_takeover(file, moved, streams) if "takeover" in file else NOBODY,
    )


def _joint(value: Any, place: Place) -> Joint:
    role = value.get("role") if isinstance(value, dict) else None
    needed, possible = (("action",), ("step",)) if role != "state" else ((), ())
    keys = ("name", "unit", "kind", "limits", *needed), (*possible, "role", "model", "model_index")
    item = Section(value, place, *keys, HINTS)
    given = str(item.value["unit"])
    if (other := OTHER_UNITS.get(given.lower())) is not None:
        todo = f"where messages are in {given}, {other[1]:.7g} at this joint's place in `scale` of state and command"
        item.wrong("unit", f"joints are in {other[0]} here: write {other[0]}, and {todo}")
    unit, kind = item.choice("unit", UNITS), item.choice("kind", KINDS)
    if unit not in KIND_UNITS[kind]:
        item.wrong("unit", f"a {kind} joint is not measured in {unit}: write {KIND_UNITS[kind][0]}")
    lower, upper, limits = _limits(value["limits"], (*place, "limits"), kind, unit)
    role = item.choice("role", ROLES, "both")
    action = item.choice("action", ACTIONS) if role != "state" else ""
    state_scale, action_scale = read_scales(item)
    if kind == "continuous" and (state_scale.crank or action_scale.crank or action_scale.threshold is not None):
        item.wrong("model", "a continuous joint has neither crank nor threshold: remove them, or correct its kind")
    if action in ("relative", "velocity"):
        if state_scale != action_scale:
            item.wrong("action", f"{action} needs state and action scaled alike: write absolute, or one `model`")
        if role == "action":
            item.wrong("action", f"{action} needs the joint in the state, too: write absolute, or the role both")
    if (action == "velocity") != ("step" in item):
        hint = HINTS["step"] if action == "velocity" else "only the action velocity has a step"
        item.wrong("step", f"missing: write {hint}" if action == "velocity" else hint)
    return Joint(
        name=item.text("name"),
        unit=unit,
        kind=kind,
        lower=lower,
        upper=upper,
        velocity=limits.positive("velocity"),
        acceleration=limits.positive("acceleration"),
        jerk=limits.positive("jerk") if "jerk" in limits else None,
        tracking=limits.positive("tracking") if "tracking" in limits else None,
        outside=limits.positive("outside") if "outside" in limits else None,
        action=action,
        role=role,
        state_scale=state_scale,
        action_scale=action_scale,
        step=item.positive("step") if action == "velocity" else 1.0,
        model_index=item.count_from_zero("model_index") if "model_index" in item else None,
    )


def _limits(value: Any, place: Place, kind: str, unit: str) -> tuple[float, float, Section]:
    """Lower and upper end of a joint's positions, and the section of all its limits."""
    if kind != "continuous":
        limits = Section(value, place, ("position", "velocity", "acceleration"), LIMITS)
        return *limits.pair("position", f"[lower, upper] in {unit}"), limits
    if isinstance(value, dict):
        for key in ("position", "outside"):
            if key in value:
                message = "a continuous joint turns without end: remove it, or write the kind revolute"
                raise WrongValueError((*place, key), message)
    return -math.inf, math.inf, Section(value, place, ("velocity", "acceleration"), ("jerk", "tracking"))


def _camera(value: Any, place: Place) -> Camera:
    optional = ("frozen_s", "encoding", "crop", "rotate", "depth", "stamp")
    item = Section(value, place, ("name", "topic", "type", "slot", "max_age_s"), optional, HINTS)
    slot = item.text("slot")
    if not SLOT_PATTERN.fullmatch(slot):
        item.wrong("slot", f"{slot!r} is no image slot{nearest(slot, SLOTS)}; the usual ones are {', '.join(SLOTS)}")
    kind = item.choice("type", CAMERA_TYPES)
    for key in ("encoding", "depth"):
        if kind != CAMERA_TYPES[0] and key in item:
            item.wrong(key, f"only raw pictures have it: write type {CAMERA_TYPES[0]}")
    return Camera(
        name=item.text("name"),
        topic=_topic(item),
        type=kind,
        slot=slot,
        max_age_s=item.positive("max_age_s"),
        frozen_s=item.positive("frozen_s") if "frozen_s" in item else None,
        encoding=item.choice("encoding", ENCODINGS) if "encoding" in item else "",
        crop=_crop(item) if "crop" in item else None,
        rotate=_rotate(item) if "rotate" in item else 0,
        depth=_depth(item) if "depth" in item else None,
        stamp=_stamp(item),
    )


def _crop(item: Section) -> tuple[int, int, int, int]:
    box = Section(item.value["crop"], (*item.place, "crop"), ("left", "top", "width", "height"))
    for key in ("left", "top", "width", "height"):
        least = 0 if key in ("left", "top") else 1
        if type(box.value[key]) is not int or box.value[key] < least:
            box.wrong(key, f"{box.value[key]!r} is no whole number of pixels from {least} on")
    return box.value["left"], box.value["top"], box.value["width"], box.value["height"]


def _rotate(item: Section) -> int:
    turn = item.value["rotate"]
    if type(turn) is not int or turn not in ROTATIONS:
        item.wrong("rotate", f"{turn!r} is not one of {', '.join(map(str, ROTATIONS))} (degrees clockwise)")
    return int(turn)


def _depth(item: Section) -> tuple[float, float]:
    span = Section(item.value["depth"], (*item.place, "depth"), ("near", "far"))
    near, far = span.positive("near"), span.positive("far")
    if near >= far:
        span.wrong("near", f"{near:g} m is not nearer than far, {far:g} m")
    return near, far


def _state(value: Any, place: Place, known: Sequence[str]) -> StateTopic:
    optional = ("joints", "names", "names_from", "scale", "offset", "field", "stamp")
    item = Section(value, place, ("topic", "type", "max_age_s"), optional, HINTS)
    joints, names = _joints(item, known)
    kind = _state_type(item)
    field = _state_field(item, kind)
    units = _units(item, joints)
    named = is_state_field(kind, field) and STATE_TYPES[kind].named
    names_from = item.choice("names_from", NAMES_FROM, "names" if named else "order")
    if names_from == "names" and not named:
        item.wrong("names_from", "these messages have no joint names: write order, and `joints` in their order")
    if names_from == "order" and "names" in item:
        item.wrong("names", "joints are told by their order here, not by names: remove it")
    age = item.positive("max_age_s")
    return StateTopic(
        _topic(item), kind, joints, age, field, names, *units, _stamp(item), names_from if named else "names"
    )


def _state_type(item: Section) -> str:
    kind = item.text("type")
    if kind in STATE_TYPES or (TYPE_PATTERN.fullmatch(kind) and "field" in item):
        return kind
    similar = nearest(kind, STATE_TYPES)
    if not TYPE_PATTERN.fullmatch(kind):
        item.wrong("type", f"{kind!r} is not known{similar}; write {' or '.join(STATE_TYPES)}, or any package/msg/Type")
    raise WrongValueError(
        (*item.place, "type"),
        f"{kind!r} is not known{similar}; known are {', '.join(STATE_TYPES)}; of any other type say with `field` where "
        "the joints are, such as data or fingers[0:6].angle",
    )


def _state_field(item: Section, kind: str) -> str:
    field = item.text("field", "position" if kind in STATE_TYPES else None)
    known = kind in STATE_TYPES
    if known and not {*"[."} & {*field}:
        return item.choice("field", STATE_TYPES[kind].fields, "position")
    if not PATH_PATTERN.fullmatch(field):
        item.wrong("field", f"{field!r} is no path: write fields with dots between them, and [i] or [i:j] after arrays")
    return field


def _command(value: Any, place: Place, known: Sequence[str]) -> CommandGroup:
    optional = ("joints", "names", "scale", "offset", "points", "stamp", "max_age_s", "hold")
    item = Section(value, place, ("name", "topic", "type"), optional, HINTS)
    joints, names = _joints(item, known)
    kind, points = (
        item.choice("type", tuple(COMMAND_TYPES)),
        item.choice("points", COMMAND_POINTS, "one", {"rest": "trajectory"}),
    )
    if "names" in item and not COMMAND_TYPES[kind].named:
        item.wrong("names", f"a {kind} has no names, its numbers come in the order of `joints`: remove it")
    if points == "trajectory" and kind != TRAJECTORY:
        item.wrong("points", f"a {kind} holds one point only: write one, or the type {TRAJECTORY}")
    units = _units(item, joints)
    hold = _hold(item)
    age = item.positive("max_age_s") if "max_age_s" in item else None
    return CommandGroup(item.text("name"), _topic(item), kind, joints, names, *units, points, _stamp(item), age, hold)


def _hold(item: Section) -> bool:
    hold = item.value["hold"] if "hold" in item else False
    if not isinstance(hold, bool):
        item.wrong("hold", f"{hold!r} is neither true (a command stays valid until the next) nor false")
    if hold and "max_age_s" in item:
        item.wrong("hold", "a command that holds until the next has no max_age_s: write one of the two")
    return hold


def _takeover(
    file: Section, known: Sequence[str], streams: dict[str, Sequence[Camera | StateTopic | CommandGroup]]
) -> TakeoverTopics:
    """The key `takeover`; `streams` are what the robot itself says and hears."""
    place: Place = ("takeover",)
    section = Section(file.value["takeover"], place, ("topics",), ("begins", "timeout_s", "blend_s"), HINTS)
    topics = []
    for value, at in section.items("topics"):
        item = Section(value, at, TAKEOVER_KEYS[:2], TAKEOVER_KEYS[2:], HINTS)
        joints, names = _joints(item, known)
        kind, units = item.choice("type", tuple(COMMAND_TYPES)), _units(item, joints)
        if "names" in item and not COMMAND_TYPES[kind].named:
            item.wrong("names", f"a {kind} has no names, its numbers come in the order of `joints`: remove it")
        topic = _topic(item)
        for key, others in streams.items():
            if any(topic.removeprefix("/") == other.topic.removeprefix("/") for other in others):
                item.wrong("topic", f"{topic} is one of {key}: write where a person's own poses come from")
        topics.append(CommandGroup("takeover", topic, kind, joints, names, *units))
    unique(((*place, "topics", i, "topic"), f"/{item.topic.removeprefix('/')}") for i, item in enumerate(topics))
    _each_joint_once("takeover.topics", topics, known)
    times = {key: section.positive(key) for key in ("timeout_s", "blend_s") if key in section}
    return TakeoverTopics(tuple(topics), section.choice("begins", TAKEOVER_BEGINS, "switch"), **times)


def _stamp(item: Section) -> str:
    return item.choice("stamp", STAMPS, "auto")


def _units(item: Section, joints: Sequence[str]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Scale and offset of the entry's joints in its messages (empty where not given)."""
    scale, offset = (item.numbers(key) if key in item else () for key in ("scale", "offset"))
    for key, numbers in (("scale", scale), ("offset", offset)):
        if numbers and len(numbers) != len(joints):
            item.wrong(key, f"{len(numbers)} numbers for {len(joints)} joints: write one for each, in their order")
    if 0.0 in scale:
        item.wrong("scale", "0 loses the position: write the message's value for one unit here")
    return scale, offset


def _topic(item: Section) -> str:
    topic = item.text("topic")
    if not TOPIC_PATTERN.fullmatch(topic):
        item.wrong("topic", f"{topic!r} is no topic name: write /joint_states, or joint_states to follow the namespace")
    return topic


def _joints(item: Section, known: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
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


def _each_joint_once(section: str, groups: Sequence[StateTopic | CommandGroup], known: Sequence[str]) -> None:
    seen: dict[str, Place] = {}
    place: Place = tuple(section.split("."))
    for i, group in enumerate(groups):
        for joint in group.joints:
            if joint in seen:
                message = f"joint {joint!r} is already in {key_of(seen[joint])}: list the joints of each entry"
                raise WrongValueError((*place, i, "joints"), message)
            seen[joint] = (*place, i)
    missing = [joint for joint in known if joint not in seen]
    if missing:
        message = f"no entry has joint {', '.join(map(repr, missing))}: add it to the `joints` of one of them"
        raise WrongValueError(place, message)


def _model_places(joints: Sequence[Joint]) -> None:
    """All joints have a place in the model, or none; and each its own."""
    given = [joint for joint in joints if joint.model_index is not None]
    for i, joint in enumerate(joints if given else ()):
        if joint.model_index is None:
            message = f"missing: {given[0].name!r} has one, so write for each joint which dimension of the model it is"
            raise WrongValueError(("joints", i, "model_index"), message)
    unique((("joints", i, "model_index"), str(joint.model_index)) for i, joint in enumerate(joints) if given)


def _first_of_topic(state: Sequence[StateTopic], i: int) -> bool:
    """Whether no entry before the `i`th has its topic: one topic may carry joints of several entries."""
    return all(item.topic.removeprefix("/") != state[i].topic.removeprefix("/") for item in state[:i])


def _one_stream_each(state: Sequence[StateTopic]) -> None:
    """Entries of one topic must agree in what is the topic's: how it is called, its type, whose time counts."""
    for i, item in enumerate(state):
        for k, other in enumerate(state[:i]):
            if item.topic.removeprefix("/") == other.topic.removeprefix("/"):
                for key in ("topic", "type", "stamp"):
                    ours, theirs = getattr(item, key), getattr(other, key)
                    if ours != theirs:
                        message = f"{ours!r}, but state[{k}], of the same topic, has {theirs!r}: write the same"
                        raise WrongValueError(("state", i, key), message)


def _positions_where_actions_need_them(joints: Sequence[Joint], state: Sequence[StateTopic], source: str) -> None:
    """A position relative to a velocity, or a velocity sent as a position, would move the robot anywhere."""
    partial = [joint.name for joint in joints if joint.role != "both"]
    if source == "next_state" and partial:
        message = f"joint {partial[0]!r} is not in state and action both, which next_state needs: write command"
        raise WrongValueError(("action", "source"), message)
    relative = {joint.name for joint in joints if joint.action in ("relative", "velocity")}
    for i, item in enumerate(state):
        found = sorted(relative.intersection(item.joints))
        if not item.is_position and (found or source == "next_state"):
            why = f"the action of {found[0]} starts from where it is" if found else "action.source is next_state"
            raise WrongValueError(
                ("state", i, "field"), f"{why}, which needs positions: write position, not {item.field}"
            )


# ---- writing


def robot_to_yaml(robot: Robot) -> str:
    """The text of a robot file that reads back as an equal `Robot`."""

    def joint(item: Joint) -> dict[str, Any]:
        limits: dict[str, Any] = {} if item.continuous else {"position": [item.lower, item.upper]}
        limits |= {"velocity": item.velocity, "acceleration": item.acceleration}
        limits |= {key: value for key in LIMITS if (value := getattr(item, key)) is not None}
        content: dict[str, Any] = {"name": item.name, "unit": item.unit, "kind": item.kind, "limits": limits}
        content |= {"action": item.action} if item.action else {}
        content |= {"step": item.step} if item.action == "velocity" else {}
        content |= {"role": item.role} if item.role != "both" else {}
        content |= {} if item.model_index is None else {"model_index": item.model_index}
        return {**content, **write_scales(item)}

    def stream(item: Camera | StateTopic | CommandGroup) -> dict[str, Any]:
        values = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(item).items()}
        return {
            key: value for key, value in values.items() if value not in ([], None) and (key, value) not in AS_ALWAYS
        }

    def camera(item: Camera) -> dict[str, Any]:
        values = stream(item)
        for key, names in (("crop", ("left", "top", "width", "height")), ("depth", ("near", "far"))):
            values |= {key: dict(zip(names, values[key]))} if key in values else {}
        return {key: value for key, value in values.items() if value or key not in ("encoding", "rotate")}

    document = {
        "name": robot.name,
        "description": robot.description,
        "control_rate_hz": robot.control_rate_hz,
        "policy_rate_hz": robot.policy_rate_hz,
        "dataset_fps": robot.dataset_fps,
        "prompt": robot.prompt,
        "urdf": robot.urdf,
        "joints": [joint(item) for item in robot.joints],
        "cameras": [camera(item) for item in robot.cameras],
        "state": [stream(item) for item in robot.state],
        "commands": [stream(item) for item in robot.commands],
        "action": {"source": robot.action_source, "max_age_s": robot.action_max_age_s},
        **write_released(robot.released),
        **write_dataset_names(robot.dataset),
        **_write_takeover(robot.takeover),
    }
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)


def _write_takeover(takeover: TakeoverTopics) -> dict[str, Any]:
    """The key `takeover`, where somebody can take over."""
    if not takeover.topics:
        return {}
    said = [{key: getattr(item, key) for key in TAKEOVER_KEYS} for item in takeover.topics]
    topics = [{key: list(v) if isinstance(v, tuple) else v for key, v in item.items() if v} for item in said]
    return {"takeover": {**vars(takeover), "topics": topics}}
