"""Robot files with several mistakes: each is mended in the document, so that reading goes on to the next.

What is put in never reaches a `Robot`: a file with a mistake is refused. It only must not bring up mistakes of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pi0_ros.base.strict_yaml import Place, nearest_of
from pi0_ros.robot.message_types import CAMERA_TYPES, TRAJECTORY

# May be left out: what is wrong anywhere in it goes with it.
OPTIONAL = frozenset(
    (
        "crop",
        "dataset",
        "depth",
        "description",
        "encoding",
        "frozen_s",
        "hold",
        "jerk",
        "model",
        "model_index",
        "names",
        "names_from",
        "offset",
        "outside",
        "points",
        "policy",
        "prompt",
        "role",
        "rotate",
        "scale",
        "stamp",
        "takeover",
        "tracking",
        "urdf",
    )
)
LIMITS = {"position": [-1.0, 1.0], "velocity": 1.0, "acceleration": 1.0}


def _kind(item: dict[str, Any], place: Place) -> str:
    return {"m": "prismatic", "normalized": "gripper"}.get(str(item.get("unit")), "revolute")


def _unit(item: dict[str, Any], place: Place) -> str:
    return {"prismatic": "m", "gripper": "normalized"}.get(str(item.get("kind")), "rad")


def _action(item: dict[str, Any], place: Place) -> Any:
    if len(place) == 1:
        return {"source": "command", "max_age_s": 1.0}
    return "velocity" if "step" in item else "absolute"


def _type(item: dict[str, Any], place: Place) -> str:
    if place[0] == "cameras":
        return CAMERA_TYPES[0]
    if place[0] == "commands" and item.get("points") == "trajectory":
        return TRAJECTORY
    for key in ("field", "names_from"):
        item.pop(key, None)
    return "sensor_msgs/msg/JointState"


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
    "limits": lambda item, place: {**LIMITS} if item.get("kind") != "continuous" else {**LIMITS, "position": None},
    "max_age_s": lambda item, place: 1.0,
    "policy_rate_hz": lambda item, place: 1.0,
    "position": lambda item, place: [-1.0, 1.0],
    "slot": _own,
    "source": lambda item, place: "command",
    "step": lambda item, place: 1.0,
    "topic": _own,
    "type": _type,
    "unit": _unit,
    "velocity": lambda item, place: 1.0,
}
NOT_MENDED = frozenset(("joints", "cameras", "state", "commands"))  # the rest of the file goes by them


def mend(document: Any, place: Place, again: bool) -> bool:
    """Mend what is wrong at `place` of the document; `again`: by leaving it out, because a value did not help. False
    where nothing can be done without bringing up what is no mistake."""
    item = document
    for depth, key in enumerate(place):
        if isinstance(item, dict) and isinstance(key, str):
            if key in OPTIONAL and key in item:
                joints = document["joints"] if key == "model_index" and place[0] == "joints" else [item]
                for holder in joints:  # a place in the model is had by all joints, or by none
                    if isinstance(holder, dict):
                        holder.pop(key, None)
                return True
            last = depth == len(place) - 1 or isinstance(place[depth + 1], int)
            if last and key not in NOT_MENDED:
                return _put(item, key, place[: depth + 1], again)
        try:
            item = item[key]
        except (KeyError, IndexError, TypeError):
            return False
    return False


def _put(item: dict[str, Any], key: str, place: Place, again: bool) -> bool:
    if again:
        return item.pop(key, None) is not None
    if key in NEEDED:
        if key == "step" and item.get("action") != "velocity":
            return item.pop(key, None) is not None
        item[key] = NEEDED[key](item, place)
        return True
    if key == "name" and place[0] != "joints":  # nothing goes by it
        item[key] = _own(item, place)
        return True
    if key == "name" or key not in item:
        return False
    value, meant = item.pop(key), nearest_of(key, [*NEEDED, *OPTIONAL, *NOT_MENDED, "name"])
    if meant and meant not in item:
        item[meant] = value
    return True
