"""The robot file: joints, cameras, topics and rates of one robot, read and written.

Nodes, converter, trainer, simulator and doctor all read this one file. Reading is strict: a key nobody knows, a missing
unit, a joint listed twice or limits upside down raise `RobotFileError`, which names file, line, key and remedy.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import yaml

from pi0_ros.base.disk import expanded
from pi0_ros.base.errors import InputError
from pi0_ros.base.share import config_path
from pi0_ros.base.strict_yaml import Place, Section, WrongValueError, nearest, read, unique
from pi0_ros.robot import speeds
from pi0_ros.robot.cameras import read_camera
from pi0_ros.robot.dataset_names import read_dataset_names, write_dataset_names
from pi0_ros.robot.entries import (
    MAX_AGE_HINT,
    each_joint_once,
    joints_of,
    stamp_of,
    state_latency_of,
    topic_of,
    units_of,
)
from pi0_ros.robot.goals import only_grippers, read_goals, says_goal, write_goals
from pi0_ros.robot.joints import HINTS as JOINT_HINTS
from pi0_ros.robot.joints import read_joint, write_joint
from pi0_ros.robot.lens import write_lens
from pi0_ros.robot.mending import mend
from pi0_ros.robot.message_types import (
    COMMAND_TYPES,
    PATH_PATTERN,
    POSE_STATE_TYPES,
    POSE_TYPES,
    SEVERAL_POSES,
    STATE_TYPES,
    TRAJECTORY,
    TYPE_PATTERN,
    is_state_field,
)
from pi0_ros.robot.poses import (
    called,
    is_pose,
    is_pose_state,
    read_pose,
    read_pose_command,
    read_pose_state,
    refuse_pose,
    says_pose,
    write_pose,
)
from pi0_ros.robot.released import read_released, write_released
from pi0_ros.robot.takeover import read_takeover, write_takeover
from pi0_ros.robot.types import NOBODY, Camera, CommandGroup, Joint, Robot, StateTopic

CONTROL_RATES = (20, 1000)  # Hz
LEAST_RATE = 0.001  # Hz
AS_ALWAYS = (
    ("stamp", "auto"),
    ("hold", False),
    ("names_from", "names"),
    ("latency_s", 0.0),
    ("frame", ""),
    ("child", ""),
)
NAMES_FROM = ("names", "order")
COMMAND_POINTS = ("one", "trajectory")
ACTION_SOURCES = ("command", "next_state")


class RobotFileError(InputError):
    """A robot file that cannot be used; the message names the file, the key and what to write instead."""


# ---- finding


def load_robot(name_or_path: str | os.PathLike[str]) -> Robot:
    """Read a robot by its name (`demo_arm`: one of the files in `config/robots`) or by the path of its file.

    Raises `RobotFileError` when there is no such file or when it is wrong.
    """
    text = os.fspath(name_or_path)
    path = expanded(text)
    if os.sep not in text and path.suffix not in (".yaml", ".yml"):
        path = config_path("robots", f"{text}.yaml")
        if not path.is_file():
            known = sorted(file.stem for file in path.parent.glob("*.yaml"))
            raise RobotFileError(
                f"no robot is called {text!r}{nearest(text, known)}; known are {', '.join(known)}, "
                "or give the path of a robot file that ends in .yaml"
            )
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        raise RobotFileError(f"{path}: cannot be read: {error}") from error
    try:
        return robot_from_yaml(content.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        line, byte = content.count(b"\n", 0, error.start) + 1, content[error.start]
        message = f"byte 0x{byte:02x} is not UTF-8: save the file as UTF-8 text"
        raise RobotFileError(f"{path}:{line}: {message}") from error


# ---- reading


def robot_from_yaml(text: str, origin: str) -> Robot:
    """Parse and check the text of a robot file; `origin` names it in errors. Raises `RobotFileError`."""
    return read(text, origin, _robot, RobotFileError, mend)


HINTS = {
    **JOINT_HINTS,
    "max_age_s": MAX_AGE_HINT,
    "source": "one of " + ", ".join(ACTION_SOURCES),
    "points": "one of " + ", ".join(COMMAND_POINTS),
}
ROBOT_KEYS = (
    ("name", "control_rate_hz", "policy_rate_hz", "dataset_fps", "joints", "cameras", "state", "commands", "action"),
    ("description", "prompt", "urdf", "policy", "dataset", "takeover"),
)


def _robot(document: Any) -> Robot:
    file = Section(document, (), *ROBOT_KEYS, HINTS)
    entries = [
        read_pose(item, place) if is_pose(item) else (read_joint(item, place),) for item, place in file.items("joints")
    ]
    joints = tuple(joint for entry in entries for joint in entry)
    unique((("joints", i, "name"), name) for i, entry in enumerate(entries) for name in called(entry))
    unique((("joints", i, "name"), joint.name) for i, entry in enumerate(entries) for joint in entry)
    _model_places(entries)
    _calm_beside_poses(entries)
    cameras = tuple(read_camera(item, place) for item, place in file.items("cameras", least=0))
    observed = [joint for joint in joints if joint.role != "action"]
    moved = [joint for joint in joints if joint.role != "state"]
    state = tuple(_state(item, place, observed) for item, place in file.items("state"))
    commands = tuple(_command(item, place, moved) for item, place in file.items("commands"))
    are_speeds = frozenset(joint.name for joint in joints if joint.speed)
    state = speeds.told_apart("state", state, are_speeds)
    commands = speeds.told_apart("commands", commands, are_speeds)
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
    each_joint_once("state", state, called(observed), are_speeds)
    each_joint_once("commands", commands, called(moved))
    action = Section(file.value["action"], ("action",), ("source", "max_age_s"), (), HINTS)
    source = action.choice("source", ACTION_SOURCES)
    _positions_where_actions_need_them(joints, state, source)
    control_rate, policy_rate = file.positive("control_rate_hz"), file.positive("policy_rate_hz")
    if not CONTROL_RATES[0] <= control_rate <= CONTROL_RATES[1]:
        allowed = "{} .. {} Hz".format(*CONTROL_RATES)
        file.wrong("control_rate_hz", f"{control_rate:g} Hz is not within {allowed}, which the controller can keep")
    for i, group in enumerate(commands):
        if group.points == "trajectory" and any(joint.pose is not None for joint in joints):
            message = "whole plans cannot be sent beside poses yet: write one"
            raise WrongValueError(("commands", i, "points"), message)
    if "urdf" in file and any(joint.pose is not None for joint in joints):
        file.wrong(
            "urdf", "the arm of a robot with a pose is not drawn yet, nor are its joints that are seen: remove it"
        )
    fps = file.positive("dataset_fps")
    for key, rate in (("policy_rate_hz", policy_rate), ("dataset_fps", fps)):
        if not LEAST_RATE <= rate <= CONTROL_RATES[1]:
            file.wrong(key, f"{rate:g} is not within {LEAST_RATE:g} .. {CONTROL_RATES[1]} times a second")
    if policy_rate > control_rate:
        file.wrong("policy_rate_hz", f"{policy_rate:g} Hz is above control_rate_hz, {control_rate:g} Hz: lower it")
    return Robot(
        name=file.name("name"),
        description=file.text("description", ""),
        joints=joints,
        cameras=cameras,
        state=state,
        commands=commands,
        action_source=source,
        action_max_age_s=action.seconds("max_age_s"),
        control_rate_hz=control_rate,
        policy_rate_hz=policy_rate,
        dataset_fps=fps,
        prompt=file.text("prompt", ""),
        urdf=file.text("urdf") if "urdf" in file else None,
        released=read_released(file, len(observed), [camera.name for camera in cameras]),
        dataset=read_dataset_names(file, [joint.name for joint in joints], [camera.name for camera in cameras]),
        takeover=read_takeover(file, moved, streams) if "takeover" in file else NOBODY,
    )


def _state(value: Any, place: Place, observed: Sequence[Joint]) -> StateTopic:
    if is_pose_state(value, observed):
        return read_pose_state(value, place, observed)
    refuse_pose(value, place, observed)
    known = [joint.name for joint in observed if joint.pose is None]
    optional = ("joints", "names", "names_from", "scale", "offset", "field", "stamp", "latency_s", "frame")
    item = Section(value, place, ("topic", "type", "max_age_s"), optional, HINTS)
    joints, names = joints_of(item, known)
    kind = _state_type(item)
    field = _state_field(item, kind)
    units = units_of(item, joints)
    named = is_state_field(kind, field) and STATE_TYPES[kind].named
    names_from = item.choice("names_from", NAMES_FROM, "names" if named else "order")
    if names_from == "names" and not named:
        item.wrong("names_from", "these messages have no joint names: write order, and `joints` in their order")
    if names_from == "order" and "names" in item:
        meant = nearest(kind, STATE_TYPES) if kind not in STATE_TYPES else ""
        item.wrong("names", f"the joints of a {kind}{meant} are told by their order, not by names: remove it")
    age = item.seconds("max_age_s")
    names_from, latency = names_from if named else "names", state_latency_of(item, age)
    topic, stamp, frame = topic_of(item), stamp_of(item), speeds.read_frame(item, kind)
    told = StateTopic(topic, kind, joints, age, field, names, *units, stamp, names_from, latency_s=latency)
    return replace(told, frame=frame)


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
    field = item.text("field", STATE_TYPES[kind].fields[0] if kind in STATE_TYPES else None)
    known = kind in STATE_TYPES
    if known and not {*"[."} & {*field}:
        return item.choice("field", STATE_TYPES[kind].fields, STATE_TYPES[kind].fields[0])
    if not PATH_PATTERN.fullmatch(field):
        item.wrong("field", f"{field!r} is no path: write fields with dots between them, and [i] or [i:j] after arrays")
    return field


def _command(value: Any, place: Place, moved: Sequence[Joint]) -> CommandGroup:
    if says_pose(value):
        return read_pose_command(value, place, moved, _hold(Section(value, place, (), tuple(value))))
    if says_pose(value, POSE_STATE_TYPES):
        message = f"a {value['type']} is measured, never commanded: write {' or '.join(POSE_TYPES)}"
        raise WrongValueError((*place, "type"), message)
    refuse_pose(value, place, moved)
    if says_goal(value):
        return read_goals(value, place, moved)
    known = [joint.name for joint in moved if joint.pose is None]
    optional = ("joints", "names", "scale", "offset", "points", "stamp", "max_age_s", "hold", "on_change", "frame")
    item = Section(value, place, ("name", "topic", "type"), optional, HINTS)
    joints, names = joints_of(item, known)
    poses = POSE_TYPES if any(joint.pose is not None for joint in moved) else ()
    kind, points = (
        item.choice("type", (*COMMAND_TYPES, *poses)),
        item.choice("points", COMMAND_POINTS, "one", {"rest": "trajectory"}),
    )
    if "names" in item and not COMMAND_TYPES[kind].named:
        item.wrong("names", f"a {kind} has no names, its numbers come in the order of `joints`: remove it")
    if points == "trajectory" and kind != TRAJECTORY:
        item.wrong("points", f"a {kind} holds one point only: write one, or the type {TRAJECTORY}")
    units = units_of(item, joints)
    change = item.positive("on_change") if "on_change" in item else None
    if change is not None:
        only_grippers(item, joints, moved, "on_change", "commands on change are")
        for key in ("max_age_s", "hold", "points"):
            if key in item:
                item.wrong(key, "what is sent on change counts until the next, in recordings too: remove it")
    hold = _hold(item) or change is not None
    age = item.seconds("max_age_s") if "max_age_s" in item else None
    name, topic, frame, stamp = item.name("name"), topic_of(item), speeds.read_frame(item, kind), stamp_of(item)
    told = CommandGroup(name, topic, kind, joints, names, *units, points, stamp, age, hold, on_change=change)
    return replace(told, frame=frame)


def _hold(item: Section) -> bool:
    hold = item.value["hold"] if "hold" in item else False
    if not isinstance(hold, bool):
        item.wrong("hold", f"{hold!r} is neither true (a command stays valid until the next) nor false")
    if hold and "max_age_s" in item:
        item.wrong("hold", "a command that holds until the next has no max_age_s: write one of the two")
    return hold


def _model_places(entries: Sequence[Sequence[Joint]]) -> None:
    """All joints have a place in the model, or none; and each its own."""
    given = [entry for entry in entries if entry[0].model_index is not None]
    for i, entry in enumerate(entries if given else ()):
        if entry[0].model_index is None:
            first = called(given[0])[0]
            message = f"missing: {first!r} has one, so write for each joint which dimension of the model it is"
            raise WrongValueError(("joints", i, "model_index"), message)
    places = ((i, joint) for i, entry in enumerate(entries if given else ()) for joint in entry)
    unique((("joints", i, "model_index"), str(joint.model_index)) for i, joint in places)


def _calm_beside_poses(entries: Sequence[Sequence[Joint]]) -> None:
    """Jerk is limited by a running mean over all joints, and a mean of poses may be faster than they are."""
    poses = [name for entry in entries if entry[0].pose is not None for name in called(entry)]
    for i, (joint, *_) in enumerate(entries):
        if poses and joint.jerk is not None:
            message = f"no joint beside a pose ({poses[0]}) can have its jerk limited yet: remove it"
            raise WrongValueError(("joints", i, "limits", "jerk"), message)


def _first_of_topic(state: Sequence[StateTopic], i: int) -> bool:
    """Whether no entry before the `i`th has its topic: one topic may carry joints of several entries."""
    return all(item.topic.removeprefix("/") != state[i].topic.removeprefix("/") for item in state[:i])


def _one_stream_each(state: Sequence[StateTopic]) -> None:
    """Entries of one topic must agree in what is the topic's: how it is called, its type, whose time counts."""
    for i, item in enumerate(state):
        for k, other in enumerate(state[:i]):
            if item.topic.removeprefix("/") == other.topic.removeprefix("/"):
                if item.pose is not None and other.pose is not None:
                    key = SEVERAL_POSES.get(item.type)
                    same = key is None or getattr(item, key) == getattr(other, key)
                    meant = f"another {key}" if key is not None else "each pose's own topic"
                    if same:
                        message = f"state[{k}] has this topic already, and this pose of it: write {meant}"
                        raise WrongValueError(("state", i, key or "topic"), message)
                for key in ("topic", "type", "stamp", "latency_s", "frame"):
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

    def joints() -> list[dict[str, Any]]:
        found = []
        for item in robot.joints:
            if item.pose is None:
                found.append(write_joint(item))
            elif item.name == item.pose.entries[0]:
                found.append(write_pose(item.pose, [one for one in robot.joints if one.pose == item.pose]))
        return found

    def stream(item: Camera | StateTopic | CommandGroup) -> dict[str, Any]:
        values = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(item).items()}
        values.pop("pose", None)
        if not isinstance(item, Camera) and item.pose is not None:
            values = {key: values[key] for key in values if key not in ("field", "points")}
            values["joints"] = [item.pose.name]
        values.pop("speeds", None)  # their joints' kind says it
        if isinstance(item, CommandGroup) and item.on_change is not None:
            values = {key: values[key] for key in values if key not in ("hold", "points")}
        if isinstance(item, CommandGroup) and item.server is not None:
            kept = ("name", "topic", "joints", "names", "scale", "offset", "on_change")
            values = {key: values[key] for key in kept} | write_goals(item)
        return {
            key: value for key, value in values.items() if value not in ([], None) and (key, value) not in AS_ALWAYS
        }

    def camera(item: Camera) -> dict[str, Any]:
        values = stream(item)
        for key, names in (("crop", ("left", "top", "width", "height")), ("depth", ("near", "far"))):
            values |= {key: dict(zip(names, values[key]))} if key in values else {}
        values |= {"rectify": write_lens(item.rectify)} if item.rectify is not None else {}
        return {key: value for key, value in values.items() if value or key not in ("encoding", "rotate")}

    document = {
        "name": robot.name,
        "description": robot.description,
        "control_rate_hz": robot.control_rate_hz,
        "policy_rate_hz": robot.policy_rate_hz,
        "dataset_fps": robot.dataset_fps,
        "prompt": robot.prompt,
        "urdf": robot.urdf,
        "joints": joints(),
        "cameras": [camera(item) for item in robot.cameras],
        "state": [stream(item) for item in robot.state],
        "commands": [stream(item) for item in robot.commands],
        "action": {"source": robot.action_source, "max_age_s": robot.action_max_age_s},
        **write_released(robot.released),
        **write_dataset_names(robot.dataset),
        **write_takeover(robot.takeover),
    }
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)
