"""Entries of `joints` of one number each: what they are measured in, how far and fast they go, what moves them."""

from __future__ import annotations

import math
from typing import Any

from pi0_ros.base.strict_yaml import Place, Section, WrongValueError, choice_at
from pi0_ros.robot import speeds
from pi0_ros.robot.types import Joint
from pi0_ros.robot.units import read_scales, write_scales

UNITS = ("rad", "m", "normalized")
OTHER_UNITS = {  # what people write -> ours, and how many of theirs one of ours is
    **dict.fromkeys(("deg", "degree", "degrees"), ("rad", math.degrees(1.0))),
    **dict.fromkeys(("mm", "millimetre", "millimetres", "millimeter", "millimeters"), ("m", 1000.0)),
    **dict.fromkeys(("%", "percent"), ("normalized", 100.0)),
}
KINDS = ("revolute", "continuous", "prismatic", "gripper", "speed")  # of one number; and `pose`, which is several
KIND_UNITS = {
    "revolute": ("rad",),
    "continuous": ("rad",),
    "prismatic": ("m",),
    "gripper": UNITS,
    "speed": speeds.UNITS,
}
ACTIONS = ("absolute", "relative", "velocity")
ROLES = ("both", "state", "action")
LIMITS = ("jerk", "tracking", "outside")  # that a joint may have besides position, velocity and acceleration
HINTS = {
    "unit": "one of " + ", ".join((*UNITS, *speeds.UNITS)),
    "kind": "one of " + ", ".join((*KINDS, "pose")),
    "action": "absolute, relative or velocity for a joint; source and max_age_s for the robot",
    "step": "how far an action of 1 moves the joint per frame",
    "limits": "position: [lower, upper] (not for continuous joints and speeds), velocity and acceleration",
}


def read_joint(value: Any, place: Place) -> Joint:
    """An entry of `joints` that is one number."""
    role = value.get("role") if isinstance(value, dict) else None
    if role not in (None, ""):
        choice_at(role, (*place, "role"), ROLES)
    if isinstance(value, dict) and "kind" in value:  # the other keys go by it
        choice_at(value["kind"], (*place, "kind"), (*KINDS, "pose"))
    needed, possible = (("action",), ("step",)) if role != "state" else ((), ())
    keys = ("name", "unit", "kind", "limits", *needed), (*possible, "role", "model", "model_index")
    item = Section(value, place, *keys, HINTS)
    given = str(item.value["unit"])
    if (other := OTHER_UNITS.get(given.lower())) is not None:
        todo = f"where messages are in {given}, {other[1]:.7g} at this joint's place in `scale` of state and command"
        item.wrong("unit", f"joints are in {other[0]} here: write {other[0]}, and {todo}")
    unit, kind = item.choice("unit", (*UNITS, *speeds.UNITS)), item.choice("kind", (*KINDS, "pose"))
    if unit not in KIND_UNITS[kind]:
        kinds = [other for other, units in KIND_UNITS.items() if unit in units]
        message = f"a {kind} joint is not measured in {unit}: write {KIND_UNITS[kind][0]}"
        item.wrong("unit", f"{message}, or the kind {' or '.join(kinds)}")
    limits = _limits(value["limits"], (*place, "limits"), kind, unit)
    role = item.choice("role", ROLES, "both")
    action = item.choice("action", ACTIONS) if role != "state" else ""
    state_scale, action_scale = read_scales(item)
    if kind == "speed" and action in ("relative", "velocity"):
        item.wrong("action", f"a speed is a velocity already, and {action} to no place: write absolute")
    if kind == "speed" and (state_scale.crank or action_scale.crank):
        item.wrong("model", "a speed has no crank: remove it, or correct its kind")
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
        name=item.name("name"),
        unit=unit,
        kind=kind,
        **limits,
        action=action,
        role=role,
        state_scale=state_scale,
        action_scale=action_scale,
        step=item.positive("step") if action == "velocity" else 1.0,
        model_index=item.count_from_zero("model_index") if "model_index" in item else None,
    )


def _limits(value: Any, place: Place, kind: str, unit: str) -> dict[str, Any]:
    """A joint's limits as its `Joint` has them."""
    if kind == "speed":
        return speeds.read_limits(value, place, unit)
    lower, upper, limits = _position_limits(value, place, kind, unit)
    others = {key: limits.positive(key) if key in limits else None for key in LIMITS}
    velocity, acceleration = limits.positive("velocity"), limits.positive("acceleration")
    return {"lower": lower, "upper": upper, "velocity": velocity, "acceleration": acceleration, **others}


def _position_limits(value: Any, place: Place, kind: str, unit: str) -> tuple[float, float, Section]:
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


def write_joint(item: Joint) -> dict[str, Any]:
    """The entry of `joints` that reads back as `item`."""
    limits: dict[str, Any] = {} if item.continuous else {"position": [item.lower, item.upper]}
    limits |= {"velocity": item.velocity, "acceleration": item.acceleration}
    limits = speeds.write_limits(item) if item.speed else limits
    limits |= {key: value for key in LIMITS if (value := getattr(item, key)) is not None}
    content: dict[str, Any] = {"name": item.name, "unit": item.unit, "kind": item.kind, "limits": limits}
    content |= {"action": item.action} if item.action else {}
    content |= {"step": item.step} if item.action == "velocity" else {}
    content |= {"role": item.role} if item.role != "both" else {}
    content |= {} if item.model_index is None else {"model_index": item.model_index}
    return {**content, **write_scales(item)}
