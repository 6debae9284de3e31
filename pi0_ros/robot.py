"""The robot file: joints, cameras, topics and rates of one robot as frozen dataclasses.

Nodes, converter, trainer, simulator and doctor all read this one file. Reading is strict: a key nobody knows, a missing unit,
a joint listed twice or limits upside down raise `RobotFileError`, which names the file, the line, the key and the remedy.
"""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

UNITS = ("rad", "m", "normalized")
KINDS = ("revolute", "prismatic", "gripper")
KIND_UNITS = {"revolute": ("rad",), "prismatic": ("m",), "gripper": UNITS}
ACTIONS = ("absolute", "relative")
SLOTS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
CAMERA_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
STATE_TYPES = ("sensor_msgs/msg/JointState",)
STATE_FIELDS = ("position", "velocity", "effort")
COMMAND_TYPES = (
    "trajectory_msgs/msg/JointTrajectory",
    "std_msgs/msg/Float64MultiArray",
    "sensor_msgs/msg/JointState",
)
ACTION_SOURCES = ("command", "next_state")

_TOPIC = re.compile(r"(/[A-Za-z_][A-Za-z0-9_]*)+")
_SLOT = re.compile(r"[a-z][a-z0-9_]*_\d+_rgb")


class RobotFileError(ValueError):
    """A robot file that cannot be used; the message names the file, the key and what to write instead."""


@dataclass(frozen=True)
class Joint:
    """One joint. `unit` holds for positions; velocity, acceleration and jerk are in unit/s, unit/s^2 and unit/s^3."""

    name: str
    unit: str  # rad | m | normalized (a gripper from 0 open to 1 closed)
    kind: str  # revolute | prismatic | gripper (grippers switch, they are never blended)
    lower: float
    upper: float
    velocity: float
    acceleration: float
    jerk: float | None
    action: str  # absolute | relative (to the state when the observation was captured)


@dataclass(frozen=True)
class Camera:
    """One camera topic and the image slot of the model that it fills."""

    name: str
    topic: str
    type: str
    slot: str
    max_age_s: float


@dataclass(frozen=True)
class StateTopic:
    """One topic that carries the measured state of `joints`."""

    topic: str
    type: str
    joints: tuple[str, ...]
    max_age_s: float
    field: str = "position"
    names: tuple[str, ...] = ()  # what the messages call the joints; empty: the same as `joints`

    @property
    def message_names(self) -> tuple[str, ...]:
        """The names of `joints` inside the messages, in the same order."""
        return self.names or self.joints


@dataclass(frozen=True)
class CommandGroup:
    """Joints that are commanded together through one topic."""

    name: str
    topic: str
    type: str
    joints: tuple[str, ...]
    names: tuple[str, ...] = ()  # what the messages call the joints; empty: the same as `joints`

    @property
    def message_names(self) -> tuple[str, ...]:
        """The names of `joints` inside the messages, in the same order."""
        return self.names or self.joints


@dataclass(frozen=True)
class Robot:
    """A robot as its file describes it. Vectors are in the order of `joints`."""

    name: str
    description: str
    joints: tuple[Joint, ...]
    cameras: tuple[Camera, ...]
    state: tuple[StateTopic, ...]
    commands: tuple[CommandGroup, ...]
    action_source: str  # command (the recorded command topics) | next_state
    action_max_age_s: float
    control_rate_hz: float
    policy_rate_hz: float
    dataset_fps: float
    prompt: str
    urdf: str | None  # relative to the package

    @property
    def joint_names(self) -> tuple[str, ...]:
        return tuple(joint.name for joint in self.joints)

    @property
    def lower(self) -> np.ndarray:
        """Lower position limits, float64 [J]."""
        return np.array([joint.lower for joint in self.joints], np.float64)

    @property
    def upper(self) -> np.ndarray:
        """Upper position limits, float64 [J]."""
        return np.array([joint.upper for joint in self.joints], np.float64)

    @property
    def velocity(self) -> np.ndarray:
        """Velocity limits, float64 [J], unit/s."""
        return np.array([joint.velocity for joint in self.joints], np.float64)

    @property
    def acceleration(self) -> np.ndarray:
        """Acceleration limits, float64 [J], unit/s^2."""
        return np.array([joint.acceleration for joint in self.joints], np.float64)

    @property
    def gripper_mask(self) -> np.ndarray:
        """True where the joint is a gripper, bool [J]."""
        return np.array([joint.kind == "gripper" for joint in self.joints], bool)

    @property
    def relative_mask(self) -> np.ndarray:
        """True where the action is relative to the state at capture, bool [J]."""
        return np.array([joint.action == "relative" for joint in self.joints], bool)

    @property
    def topics(self) -> dict[str, str]:
        """Every topic of the file with its message type: cameras, then state, then commands."""
        return {stream.topic: stream.type for stream in (*self.cameras, *self.state, *self.commands)}

    def indices(self, joints: Sequence[str]) -> np.ndarray:
        """Where `joints` stand in the robot's order, intp [len(joints)]."""
        return np.array([self.joint_names.index(joint) for joint in joints], np.intp)


# ---------------------------------------------------------------------------------------------------------------- finding


def share_path(*parts: str) -> Path:
    """A file or folder of the package (`launch/...`, `config/...`): in the source tree, else in the installed share folder."""
    here = Path(__file__).resolve()
    prefixes = [*here.parents, *map(Path, filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)))]
    roots = [here.parents[1], *(prefix / "share" / "pi0_ros" for prefix in prefixes)]
    for root in roots:
        if (root / "config" / "robots").is_dir():
            return root.joinpath(*parts)
    raise FileNotFoundError(
        f"the config folder of pi0_ros is neither beside {here.parent} nor in a share/pi0_ros: install the package "
        "(pip install . or colcon build) and source the workspace"
    )


def config_path(*parts: str) -> Path:
    """A file or folder below `config/`, for example `config_path("robots", "demo_arm.yaml")`."""
    return share_path("config", *parts)


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
                f"no robot is called {text!r}{_nearest(text, known)}; known are {', '.join(known)}, "
                "or give the path of a robot file ending in .yaml"
            )
    try:
        return robot_from_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise RobotFileError(f"{path}: cannot be read: {error}") from error


# ---------------------------------------------------------------------------------------------------------------- reading

Path_ = tuple["str | int", ...]  # where in the file: ("joints", 2, "unit")


class _Wrong(Exception):
    """A value that cannot be used, at `path`; becomes a `RobotFileError` once file and line are known."""

    def __init__(self, path: Path_, message: str) -> None:
        super().__init__(message)
        self.path = path


def robot_from_yaml(text: str, origin: str) -> Robot:
    """Parse and check the text of a robot file; `origin` names it in errors. Raises `RobotFileError`."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        _refuse_repeated_keys(root, origin)
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{origin}:{mark.line + 1}" if mark else origin
        raise RobotFileError(f"{where}: is not YAML: {getattr(error, 'problem', None) or error}") from error
    try:
        return _robot(document)
    except _Wrong as wrong:
        key = _key(wrong.path)
        raise RobotFileError(f"{origin}:{_line(root, wrong.path)}: {key + ': ' if key else ''}{wrong}") from None


def _robot(document: Any) -> Robot:
    required = (
        "name control_rate_hz policy_rate_hz dataset_fps joints cameras state commands action"
    ).split()
    _keys(document, (), required, ("description", "prompt", "urdf"))
    joints = tuple(_joint(item, path) for item, path in _items(document, "joints"))
    names = _unique((("joints", i, "name"), joint.name) for i, joint in enumerate(joints))
    cameras = tuple(_camera(item, path) for item, path in _items(document, "cameras"))
    _unique((("cameras", i, "name"), camera.name) for i, camera in enumerate(cameras))
    _unique((("cameras", i, "slot"), camera.slot) for i, camera in enumerate(cameras))
    state = tuple(_state(item, path, names) for item, path in _items(document, "state"))
    commands = tuple(_command(item, path, names) for item, path in _items(document, "commands"))
    _unique((("commands", i, "name"), group.name) for i, group in enumerate(commands))
    sections = {"cameras": cameras, "state": state, "commands": commands}
    _unique(((key, i, "topic"), item.topic) for key, items in sections.items() for i, item in enumerate(items))
    _each_joint_once("state", state, names)
    _each_joint_once("commands", commands, names)
    _keys(document["action"], ("action",), ("source", "max_age_s"))
    control_rate, policy_rate = _positive(document, (), "control_rate_hz"), _positive(document, (), "policy_rate_hz")
    if policy_rate > control_rate:
        raise _Wrong(("policy_rate_hz",), f"{policy_rate:g} Hz is above control_rate_hz {control_rate:g}: lower it")
    return Robot(
        name=_text(document, (), "name"),
        description=_text(document, (), "description", ""),
        joints=joints,
        cameras=cameras,
        state=state,
        commands=commands,
        action_source=_choice(document["action"], ("action",), "source", ACTION_SOURCES),
        action_max_age_s=_positive(document["action"], ("action",), "max_age_s"),
        control_rate_hz=control_rate,
        policy_rate_hz=policy_rate,
        dataset_fps=_positive(document, (), "dataset_fps"),
        prompt=_text(document, (), "prompt", ""),
        urdf=None if document.get("urdf") is None else _text(document, (), "urdf"),
    )


def _joint(item: Any, path: Path_) -> Joint:
    _keys(item, path, ("name", "unit", "kind", "limits", "action"))
    unit, kind = _choice(item, path, "unit", UNITS), _choice(item, path, "kind", KINDS)
    if unit not in KIND_UNITS[kind]:
        raise _Wrong((*path, "unit"), f"a {kind} joint is not measured in {unit}: write {KIND_UNITS[kind][0]}")
    limits, limits_path = item["limits"], (*path, "limits")
    _keys(limits, limits_path, ("position", "velocity", "acceleration"), ("jerk",))
    position, position_path = limits["position"], (*limits_path, "position")
    if not isinstance(position, list) or len(position) != 2:
        raise _Wrong(position_path, f"{position!r} is not a pair: write [lower, upper] in {unit}")
    lower, upper = (_number(position, position_path, i) for i in (0, 1))
    if not lower < upper:
        raise _Wrong(position_path, f"the lower limit {lower:g} is not below the upper limit {upper:g}: write [lower, upper]")
    return Joint(
        name=_text(item, path, "name"),
        unit=unit,
        kind=kind,
        lower=lower,
        upper=upper,
        velocity=_positive(limits, limits_path, "velocity"),
        acceleration=_positive(limits, limits_path, "acceleration"),
        jerk=None if limits.get("jerk") is None else _positive(limits, limits_path, "jerk"),
        action=_choice(item, path, "action", ACTIONS),
    )


def _camera(item: Any, path: Path_) -> Camera:
    _keys(item, path, ("name", "topic", "type", "slot", "max_age_s"))
    slot = _text(item, path, "slot")
    if not _SLOT.fullmatch(slot):
        raise _Wrong((*path, "slot"), f"{slot!r} is no image slot{_nearest(slot, SLOTS)}; usual are {', '.join(SLOTS)}")
    return Camera(
        name=_text(item, path, "name"),
        topic=_topic(item, path),
        type=_choice(item, path, "type", CAMERA_TYPES),
        slot=slot,
        max_age_s=_positive(item, path, "max_age_s"),
    )


def _state(item: Any, path: Path_, known: Sequence[str]) -> StateTopic:
    _keys(item, path, ("topic", "type", "max_age_s"), ("joints", "names", "field"))
    joints = _joint_list(item, path, known)
    return StateTopic(
        topic=_topic(item, path),
        type=_choice(item, path, "type", STATE_TYPES),
        joints=joints,
        max_age_s=_positive(item, path, "max_age_s"),
        field=_choice(item, path, "field", STATE_FIELDS) if "field" in item else "position",
        names=_message_names(item, path, joints),
    )


def _command(item: Any, path: Path_, known: Sequence[str]) -> CommandGroup:
    _keys(item, path, ("name", "topic", "type"), ("joints", "names"))
    joints = _joint_list(item, path, known)
    return CommandGroup(
        name=_text(item, path, "name"),
        topic=_topic(item, path),
        type=_choice(item, path, "type", COMMAND_TYPES),
        joints=joints,
        names=_message_names(item, path, joints),
    )


def _joint_list(item: Any, path: Path_, known: Sequence[str]) -> tuple[str, ...]:
    """The joints of a state topic or command group; all joints of the robot where the file names none."""
    if "joints" not in item:
        return tuple(known)
    joints = _names(item, path, "joints")
    for i, joint in enumerate(joints):
        if joint not in known:
            hint = f"{_nearest(joint, known)}; known are {', '.join(known)}"
            raise _Wrong((*path, "joints", i), f"{joint!r} is not in the list of joints{hint}")
    return joints


def _message_names(item: Any, path: Path_, joints: tuple[str, ...]) -> tuple[str, ...]:
    if "names" not in item:
        return ()
    names = _names(item, path, "names")
    if len(names) != len(joints):
        raise _Wrong((*path, "names"), f"{len(names)} names for {len(joints)} joints: write one name for each joint, in their order")
    return () if names == joints else names


def _names(item: Any, path: Path_, key: str) -> tuple[str, ...]:
    """A list of names without repetition."""
    values = [(item[key], (*path, key), i) for _, (*_, i) in _items(item, key, path)]
    return _unique(((*place, i), _text(names, place, i)) for names, place, i in values)


def _each_joint_once(section: str, groups: Sequence[StateTopic | CommandGroup], known: Sequence[str]) -> None:
    places = [((section, i), joint) for i, group in enumerate(groups) for joint in group.joints]
    seen: dict[str, Path_] = {}
    for place, joint in places:
        if joint in seen:
            raise _Wrong((*place, "joints"), f"joint {joint!r} is already in {_key(seen[joint])}: name each joint in one of them")
        seen[joint] = place
    missing = [joint for joint in known if joint not in seen]
    if missing:
        raise _Wrong((section,), f"no entry has joint {', '.join(map(repr, missing))}: add it to the `joints` of one entry")


# ----------------------------------------------------------------------------------------------------------- single values


def _keys(value: Any, path: Path_, required: Sequence[str], optional: Sequence[str] = ()) -> None:
    known = (*required, *optional)
    if not isinstance(value, dict):
        raise _Wrong(path, f"{_found(value)} stands where a mapping is needed: write the keys {', '.join(known)}")
    for key in value:
        if key not in known:
            raise _Wrong((*path, str(key)), f"unknown key{_nearest(str(key), known)}; known are {', '.join(known)}")
    for key in required:
        if key not in value:
            raise _Wrong((*path, key), f"missing: add it{_WHAT.get(key, '')}")


def _items(section: Any, key: str, path: Path_ = ()) -> list[tuple[Any, Path_]]:
    """The entries of a list that must not be empty, each with its place in the file."""
    value, place = section[key], (*path, key)
    if not isinstance(value, list) or not value:
        raise _Wrong(place, f"{_found(value)} stands where a list with at least one entry is needed")
    return [(item, (*place, i)) for i, item in enumerate(value)]


def _text(section: Any, path: Path_, key: str | int, default: str | None = None) -> str:
    if default is not None and (key not in section or section[key] is None):
        return default
    value = section[key]
    if isinstance(value, bool):
        hint = "YAML takes an unquoted yes, no, on, off, true or false for a boolean: put it in quotes"
        raise _Wrong((*path, key), f"{value} stands where a name is needed; {hint}")
    if value is not None and not isinstance(value, (str, list, dict)):
        raise _Wrong((*path, key), f"{_found(value)} stands where text is needed: put it in quotes")
    if not isinstance(value, str) or (not value.strip() and default is None):
        raise _Wrong((*path, key), f"{_found(value)} stands where text is needed: write a name")
    return value


def _choice(section: Any, path: Path_, key: str, choices: Sequence[str]) -> str:
    value = _text(section, path, key)
    if value not in choices:
        raise _Wrong((*path, key), f"{value!r} is not known{_nearest(value, choices)}; write {' or '.join(choices)}")
    return value


def _number(section: Any, path: Path_, key: str | int) -> float:
    value = section[key]
    if isinstance(value, str) and _is_number(value):
        raise _Wrong((*path, key), f"YAML takes {value!r} for text: write {float(value)!r} with a point and without quotes")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _Wrong((*path, key), f"{_found(value)} stands where a number is needed")
    if not math.isfinite(value):
        raise _Wrong((*path, key), f"{value} is not finite: write the real limit")
    return float(value)


def _positive(section: Any, path: Path_, key: str) -> float:
    value = _number(section, path, key)
    if value <= 0:
        raise _Wrong((*path, key), f"{value:g} must be above zero")
    return value


def _topic(section: Any, path: Path_) -> str:
    topic = _text(section, path, "topic")
    if not _TOPIC.fullmatch(topic):
        raise _Wrong((*path, "topic"), f"{topic!r} is no full topic name: write it as `ros2 topic list` shows it, such as /arm/joint_states")
    return topic


_WHAT = {
    "unit": ", one of " + ", ".join(UNITS),
    "kind": ", one of " + ", ".join(KINDS),
    "action": ", one of " + ", ".join(ACTIONS),
    "slot": ", such as " + ", ".join(SLOTS),
    "limits": ", with position: [lower, upper], velocity and acceleration",
    "max_age_s": ", the age in seconds above which a sample is refused",
    "source": ", one of " + ", ".join(ACTION_SOURCES),
}


def _unique(places: Iterable[tuple[Path_, str]]) -> tuple[str, ...]:
    """The values in their order; raises where one stands twice."""
    seen: dict[str, Path_] = {}
    for path, value in places:
        if value in seen:
            raise _Wrong(path, f"{value!r} stands already at {_key(seen[value])}: give each its own")
        seen[value] = path
    return tuple(seen)


def _found(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, (list, dict)):
        return f"an empty {type(value).__name__}" if not value else "a mapping" if isinstance(value, dict) else "a list"
    return repr(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), 1, 0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _key(path: Path_) -> str:
    """`joints[2].unit` for ("joints", 2, "unit")."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def _line(root: yaml.Node | None, path: Path_) -> int:
    """The line of the innermost part of `path` that the file has."""
    line, node = 1, root
    for part in path:
        if isinstance(node, yaml.MappingNode):
            found = [(key.start_mark.line, value) for key, value in node.value if key.value == part]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            found = [(value.start_mark.line, value) for value in node.value[part : part + 1]]
        else:
            found = []
        if not found:
            break
        line, node = found[0][0] + 1, found[0][1]
    return line


def _refuse_repeated_keys(root: yaml.Node | None, origin: str) -> None:
    """YAML would silently keep the last of two equal keys."""
    pending, done = [root], set()
    while pending:
        node = pending.pop()
        if id(node) in done:  # an alias
            continue
        done.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            pending += node.value
        elif isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                pending.append(value)
                if key.value in seen:
                    line = key.start_mark.line + 1
                    raise RobotFileError(f"{origin}:{line}: {key.value}: stands twice in one mapping: remove one")
                seen.add(key.value)


# ---------------------------------------------------------------------------------------------------------------- writing


def robot_to_yaml(robot: Robot) -> str:
    """The text of a robot file that reads back as an equal `Robot`."""

    def group(item: StateTopic | CommandGroup) -> dict[str, Any]:
        return {"joints": list(item.joints)} | ({"names": list(item.names)} if item.names else {})

    document = {
        "name": robot.name,
        "description": robot.description,
        "control_rate_hz": robot.control_rate_hz,
        "policy_rate_hz": robot.policy_rate_hz,
        "dataset_fps": robot.dataset_fps,
        "prompt": robot.prompt,
        "urdf": robot.urdf,
        "joints": [
            {
                "name": joint.name,
                "unit": joint.unit,
                "kind": joint.kind,
                "limits": {
                    "position": [joint.lower, joint.upper],
                    "velocity": joint.velocity,
                    "acceleration": joint.acceleration,
                }
                | ({} if joint.jerk is None else {"jerk": joint.jerk}),
                "action": joint.action,
            }
            for joint in robot.joints
        ],
        "cameras": [vars(camera) for camera in robot.cameras],
        "state": [
            {"topic": item.topic, "type": item.type, **group(item), "max_age_s": item.max_age_s, "field": item.field}
            for item in robot.state
        ],
        "commands": [{"name": item.name, "topic": item.topic, "type": item.type, **group(item)} for item in robot.commands],
        "action": {"source": robot.action_source, "max_age_s": robot.action_max_age_s},
    }
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)
