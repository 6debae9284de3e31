"""Joints: where they are against the robot file. numpy alone: the controller asks before it arms."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from pi0_ros.base.findings import Finding, error
from pi0_ros.robot import Joint, Robot, StateTopic

Series = tuple[np.ndarray, np.ndarray]  # times in s, values, [N] each
OUTSIDE = 0.1  # of its range: a joint found further outside its limits than this, where its file says nothing else


@dataclass(frozen=True)
class Unit:
    """A unit that is mistaken for the robot file's."""

    name: str
    of: str  # the robot file's
    factor: float  # so many of them are one of the robot file's
    least: float  # a value beyond this is none of the robot file's unit: no joint turns so far


UNITS = (
    Unit("degrees", "rad", math.degrees(1.0), 2 * math.pi),
    Unit("millimetres", "m", 1000.0, 5.0),
    Unit("percent", "normalized", 100.0, 3.0),
)


def check_places(robot: Robot, state: Mapping[str, Series]) -> list[Finding]:
    """Joints outside their limits, and the unit that would explain it."""
    found: list[Finding] = []
    for item in robot.state:
        told = (joint for joint in robot.joints if joint.name in item.joints and joint.name in state)
        joints = [joint for joint in told if not joint.writes_rotation]
        reached = {joint.name: _reach(state[joint.name][1]) for joint in joints}
        outside = [joint for joint in joints if _is_outside(joint, reached[joint.name], 1.0)]
        explained = [unit for unit in UNITS if _explains(unit, outside, joints, reached)]
        for unit in explained:
            found.append(_unit(item, unit, joints, reached))
        of = {unit.of for unit in explained}
        found += [_limits(joint, reached[joint.name]) for joint in outside if joint.unit not in of]
    return found


def position_findings(robot: Robot, position: np.ndarray) -> list[Finding]:
    """The same for one measured position, float64 [J]; NaN where a joint is not measured."""
    now = np.zeros(1)
    measured = {joint.name: (now, position[n : n + 1]) for n, joint in enumerate(robot.joints)}
    return check_places(robot, {name: series for name, series in measured.items() if np.isfinite(series[1]).all()})


def _unit(item: StateTopic, unit: Unit, joints: Iterable[Joint], reached: Mapping[str, tuple[float, float]]) -> Finding:
    shown = ", ".join(
        f"{joint.name} {max(reached[joint.name], key=abs):.4g}" for joint in joints if joint.unit == unit.of
    )
    what = f"{item.topic} says {unit.name}, not {unit.of} ({shown}): divided by {unit.factor:.4g} all are within limits"
    return error("units", what, scale_by(unit))


def scale_by(unit: Unit) -> str:
    """What to write in the robot file where a joint is told in this unit."""
    return (
        f"`scale: {unit.factor:.7g}` for these joints of this topic in the robot file, or let the driver say {unit.of}"
    )


def _limits(joint: Joint, reached: tuple[float, float]) -> Finding:
    place = max(reached, key=lambda value: max(joint.lower - value, value - joint.upper))
    what = f"{joint.name} is at {place:.4g} {joint.unit}, its limits are [{joint.lower:.4g}, {joint.upper:.4g}]"
    return error("limits", what, "move it inside by hand, calibrate it, or correct its limits.position")


def _reach(values: np.ndarray) -> tuple[float, float]:
    return float(np.min(values)), float(np.max(values))


def _is_outside(joint: Joint, reached: tuple[float, float], factor: float) -> bool:
    allowed = OUTSIDE * (joint.upper - joint.lower) if joint.outside is None else joint.outside
    low, high = (value / factor for value in reached)
    return low < joint.lower - allowed or high > joint.upper + allowed


def _explains(
    unit: Unit, outside: Iterable[Joint], joints: Iterable[Joint], reached: Mapping[str, tuple[float, float]]
) -> bool:
    """Whether joints of the unit's kind are outside by far, and in that unit all would be within their limits."""
    if not any(joint.unit == unit.of and max(map(abs, reached[joint.name])) > unit.least for joint in outside):
        return False
    return not any(joint.unit == unit.of and _is_outside(joint, reached[joint.name], unit.factor) for joint in joints)
