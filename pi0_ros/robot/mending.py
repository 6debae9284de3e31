"""Robot files with several mistakes: each is mended in the document, so that reading goes on to the next.

What is put in never reaches a `Robot`: a file with a mistake is refused. It only must not bring up mistakes of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pi0_ros.base.strict_yaml import Place, WrongValueError
from pi0_ros.robot.message_types import CAMERA_TYPES, COMMAND_TYPES, POSE_TYPES, STATE_TYPES, TRAJECTORY

# May be left out: what is wrong anywhere in it goes with it.
OPTIONAL = frozenset(
    (
        "crop",
        "dataset",
        "depth",
        "description",
        "encoding",
        "frozen_s",
        "fixed",
        "hold",
        "jerk",
        "latency_s",
        "model",
        "model_index",
        "names",
        "names_field",
        "names_from",
        "offset",
        "on_change",
        "outside",
        "points",
        "policy",
        "prompt",
        "rectify",
        "role",
        "rotation",
        "seen_from",
        "rotate",
        "scale",
        "stamp",
        "takeover",
        "tracking",
        "urdf",
    )
)
ROOM = {axis: [-1.0, 1.0] for axis in "xyz"}
LIMITS = {"position": [-1.0, 1.0], "velocity": 1.0, "acceleration": 1.0}


def _kind(item: dict[str, Any], place: Place) -> str:
    limits = item.get("limits")
    if {"frame", "rotation"} & {*item}:
        return "pose"
    kinds = {"m": "prismatic", "normalized": "gripper", "m/s": "speed", "rad/s": "speed"}
    without_ends = isinstance(limits, dict) and "position" not in limits
    return kinds.get(str(item.get("unit")), "continuous" if without_ends else "revolute")


def _unit(item: dict[str, Any], place: Place) -> str:
    return {"prismatic": "m", "gripper": "normalized", "speed": "m/s"}.get(str(item.get("kind")), "rad")


def _action(item: dict[str, Any], place: Place) -> Any:
    if len(place) == 1:
        return {"source": "command", "max_age_s": 1.0}
    return "velocity" if "step" in item else "absolute"


def _type(document: dict[str, Any], item: dict[str, Any], place: Place) -> str:
    kinds = {
        str(joint.get("kind")) for joint in _mappings(document.get("joints")) if _has([item], str(joint.get("name")))
    }
    if place[0] == "cameras":
        return CAMERA_TYPES[0]
    if place[0] == "commands" and "server" in item:
        return "control_msgs/action/GripperCommand"
    if place[0] == "commands" and item.get("points") == "trajectory":
        return TRAJECTORY
    for key in ("field", "names_from"):
        item.pop(key, None)
    if "pose" in kinds:
        return POSE_TYPES[0]
    if "speed" in kinds and place[0] != "state":
        item.pop("names", None)
        return ARRAY
    item |= {"field": "velocity"} if "speed" in kinds else {}
    return JOINT_STATE


def _limits(item: dict[str, Any], place: Place) -> dict[str, Any]:
    if item.get("kind") == "pose":
        part = {"velocity": 1.0, "acceleration": 1.0}
        return {"position": {**ROOM}, "linear": {**part}, "angular": {**part}}
    if item.get("kind") == "speed":
        return {key: value for key, value in LIMITS.items() if key != "position"}
    return {key: value for key, value in LIMITS.items() if key != "position" or item.get("kind") != "continuous"}


def _own(item: dict[str, Any], place: Place) -> str:
    """A name that nothing else has."""
    return "_".join(map(str, ("mended", *place)))


# Must be there: what to put in, given the mapping it stands in and its place.
NEEDED: dict[str, Callable[[dict[str, Any], Place], Any]] = {
    "acceleration": lambda item, place: 1.0,
    "action": _action,
    "control_rate_hz": lambda item, place: 1000.0,
    "dataset_fps": lambda item, place: 20.0,
    "field": lambda item, place: "position" if "sensor_msgs" in str(item.get("type")) else "data",
    "kind": _kind,
    "limits": _limits,
    "max_age_s": lambda item, place: 1.0,
    "policy_rate_hz": lambda item, place: 1.0,
    "position": lambda item, place: {**ROOM} if {"linear", "angular"} & {*item} else [-1.0, 1.0],
    "x": lambda item, place: [-1.0, 1.0],
    "y": lambda item, place: [-1.0, 1.0],
    "z": lambda item, place: [-1.0, 1.0],
    "linear": lambda item, place: {"velocity": 1.0, "acceleration": 1.0},
    "angular": lambda item, place: {"velocity": 1.0, "acceleration": 1.0},
    "frame": lambda item, place: "mended",
    "child": lambda item, place: "mended",
    "index": lambda item, place: 0,
    "server": _own,
    "slot": _own,
    "source": lambda item, place: "command",
    "step": lambda item, place: 1.0,
    "topic": _own,
    "unit": _unit,
    "velocity": lambda item, place: 1.0,
}
LISTS = ("joints", "cameras", "state", "commands")  # the rest of the file goes by them
NEW: dict[str, dict[str, Any]] = {  # an entry of a list that is not there
    "state": {"topic": "", "max_age_s": 1.0},
    "commands": {"name": "", "topic": ""},
}
JOINT_STATE, ARRAY = "sensor_msgs/msg/JointState", "std_msgs/msg/Float64MultiArray"


def mend(document: Any, problem: WrongValueError, again: bool) -> bool:
    """Mend a `problem` of the document; `again`: by leaving it out, because a value did not help. False
    where nothing can be done without bringing up what is no mistake."""
    place = problem.place
    if place in [(key,) for key in LISTS]:
        return _put_list(document, str(place[0]))
    item = document
    for depth, key in enumerate(place):
        if isinstance(item, dict) and isinstance(key, str):
            if key == "names" and _put_parts(item):
                return True
            if key == "role" and not again and "action" not in item:
                item[key] = "state"
                return True
            if key in OPTIONAL and key in item:
                joints = document["joints"] if key == "model_index" and place[0] == "joints" else [item]
                for holder in joints:  # a place in the model is had by all joints, or by none
                    if isinstance(holder, dict):
                        holder.pop(key, None)
                return True
            last = depth == len(place) - 1 or isinstance(place[depth + 1], int)
            if place[0] == "joints" and last and key == "name":
                return not again and _put_joint_name(document, item)
            if last and key not in LISTS:
                return _put(document, item, place[: depth + 1], problem.meant, again)
        try:
            item = item[key]
        except (KeyError, IndexError, TypeError):
            return False
    return False


def _put_list(document: Any, key: str) -> bool:
    """Put in a whole list that is missing or none. False where it is one, and something else is wrong with it."""
    least = 0 if key == "cameras" else 1
    if not isinstance(document, dict) or (isinstance(document.get(key), list) and len(document[key]) >= least):
        return False
    if key in ("joints", "cameras"):
        _forget_names(document)
    document[key] = _joints(document) if key == "joints" else _entries(document, key)
    return True


def _forget_names(document: dict[str, Any]) -> None:
    """Leave out what goes by the names of joints and cameras that are not to be seen."""
    document.pop("dataset", None)
    if isinstance(policy := document.get("policy"), dict):
        policy.pop("openpi", None)


def _entries(document: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """Entries of `state` or `commands` that fit the joints: one for all places, one for all speeds, one a pose."""
    unseen = {"state": "action", "commands": "state"}.get(key)
    found: list[dict[str, Any]] = []
    joints = [joint for joint in _mappings(document.get("joints")) if joint.get("role") != unseen]
    names: dict[tuple[str, ...], list[Any]] = {}
    for joint in joints if unseen else ():
        kind, name = str(joint.get("kind")), joint.get("name")
        names.setdefault((kind, str(name)) if kind == "pose" else (str(kind == "speed"),), []).append(name)
    for listed in names.values():
        entry = {name: value or _own({}, (key, len(found), name)) for name, value in NEW[key].items()}
        entry |= {"joints": listed}
        found.append({**entry, "type": _type(document, entry, (key, len(found), "type"))} | _field(entry))
    return found


def _field(entry: dict[str, Any]) -> dict[str, Any]:
    return {"field": entry["field"]} if "field" in entry else {}


def _put_parts(item: dict[str, Any]) -> bool:
    """Name the parts of a message that always has the same. False where it has none."""
    known = STATE_TYPES.get(str(item.get("type"))) or COMMAND_TYPES.get(str(item.get("type")))
    count = len(_list(item.get("joints")))
    if known is None or not 0 < count <= len(known.parts) or item.get("names") == list(known.parts[:count]):
        return False
    item["names"] = list(known.parts[:count])
    return True


def _joints(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Joints with which the other entries agree: all that they name, or as many as they have numbers for."""
    takeover = document.get("takeover")
    led = _mappings(takeover.get("topics")) if isinstance(takeover, dict) else []
    seen, moved = _mappings(document.get("state")), [*_mappings(document.get("commands")), *led]
    counts = [len(_list(entry.get(key))) for key in ("names", "scale", "offset") for entry in _whole((*seen, *moved))]
    names = _named([*seen, *moved])
    names += [f"...{n or ''}" for n in range(max(counts, default=0) - len(names))]
    found = []
    for name in names or ["..."]:
        joint: dict[str, Any] = {"name": name, "unit": "rad", "kind": "revolute", "limits": {**LIMITS}}
        about = [entry for entry in (*seen, *moved) if name in _list(entry.get("joints"))]
        if any(STATE_TYPES.get(str(entry.get("type")), COMMAND_TYPES[JOINT_STATE]).speeds for entry in about):
            joint |= {"unit": "m/s", "kind": "speed"}
        elif any("server" in entry or "on_change" in entry for entry in about):
            joint |= {"kind": "gripper"}
        elif any(entry.get("type") in POSE_TYPES for entry in about):
            joint = {"name": name, "kind": "pose", "frame": "mended"}
        joint["limits"] = _limits(joint, ())
        if _has(moved, name):
            joint |= {"action": "absolute"} if _has(seen, name) else {"action": "absolute", "role": "action"}
        else:
            joint |= {"role": "state"}
        found.append(joint)
    return found


def _put_joint_name(document: Any, joint: dict[str, Any]) -> bool:
    """Name a joint as the other entries do where no joint has that name. False where none is left."""
    taken = [item.get("name") for item in _mappings(document["joints"]) if item is not joint]
    left = [item["name"] for item in _joints(document) if "role" not in item and item["name"] not in taken]
    joint.update({"name": left[0]} if left else {})
    return bool(left)


def _has(entries: list[dict[str, Any]], joint: str) -> bool:
    """Whether one of the entries is about the joint: because it names it, or names none."""
    return not entries or bool(_whole(entries)) or joint in _named(entries)


def _whole(entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries that are about all joints."""
    return [entry for entry in entries if "joints" not in entry]


def _named(entries: Iterable[dict[str, Any]]) -> list[str]:
    """The joints that the entries name, each once."""
    names = (name for entry in entries for name in _list(entry.get("joints")))
    return [*dict.fromkeys(name for name in names if isinstance(name, str))]


def _mappings(value: Any) -> list[dict[str, Any]]:
    return [item for item in _list(value) if isinstance(item, dict)]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _put(document: dict[str, Any], item: dict[str, Any], place: Place, meant: str, again: bool) -> bool:
    key = str(place[-1])
    if place[0] == "cameras" and key == "name":
        _forget_names(document)
    if key == "type" and not again:
        item[key] = _type(document, item, place)
        return True
    if again:
        return item.pop(key, None) is not None
    if key in NEEDED:
        if key == "step" and item.get("action") != "velocity":
            return item.pop(key, None) is not None
        item[key] = NEEDED[key](item, place)
        return True
    if key == "name":  # not of a joint: nothing goes by it
        item[key] = _own(item, place)
        return True
    if key not in item:
        return False
    value = item.pop(key)
    if meant and meant not in item:
        item[meant] = value
    return True
