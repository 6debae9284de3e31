"""Joints: where they are against the robot file. numpy alone: the controller asks before it arms."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from pi0_ros.base.findings import Finding, error, warning
from pi0_ros.doctor.remedies import entries_of, for_each, written
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


@dataclass(frozen=True)
class Fault:
    """A finding, and the joints whose places or motion it explains."""

    finding: Finding
    joints: tuple[str, ...]


def check_places(robot: Robot, state: Mapping[str, Series]) -> list[Finding]:
    """Joints outside their limits, and the unit that would explain it."""
    return [fault.finding for fault in misplaced(robot, state, {})]


def misplaced(robot: Robot, state: Mapping[str, Series], slopes: Mapping[str, float]) -> list[Fault]:
    """The same, with the joints of each finding.

    `slopes`: of joints whose motion was seen, how far the state goes for each unit that is commanded; 1 is right.
    """
    found: list[Fault] = []
    for item in robot.state:
        told = (joint for joint in robot.joints if joint.name in item.joints and joint.name in state)
        joints = [joint for joint in told if not joint.writes_rotation]
        reached = {joint.name: _reach(state[joint.name][1]) for joint in joints}
        outside = [joint for joint in joints if _is_outside(joint, reached[joint.name], 1.0)]
        explained: set[str] = set()
        for unit, wrong in _other_units(joints, reached, outside, slopes):
            names = tuple(joint.name for joint in wrong)
            found.append(Fault(_unit(robot, item, unit, names, reached), names))
            explained.update(names)
        far = (joint for joint in outside if joint.name not in explained)
        found += [Fault(_limits(robot, joint, reached[joint.name]), (joint.name,)) for joint in far]
    return found


def _other_units(
    joints: list[Joint], reached: Mapping[str, tuple[float, float]], outside: list[Joint], slopes: Mapping[str, float]
) -> list[tuple[Unit, list[Joint]]]:
    """The units in which joints of one topic are told that are outside their limits, and which joints."""
    found = []
    for unit in UNITS:
        kin = [joint for joint in joints if joint.unit == unit.of]
        seen = {joint.name for joint in kin if joint.name in slopes and _is_factor(unit, slopes[joint.name])}
        # where none goes as in that unit, states and commands may both be told in it
        may = [joint for joint in kin if joint.name in seen or (not seen and _even(slopes.get(joint.name, 1.0)))]
        may += [joint for joint in kin if seen and joint.name not in slopes]
        far = [joint for joint in outside if joint in may]
        if _explains(unit, far, may, reached) and not (len(far) == 1 and _turned(far[0], reached[far[0].name], slopes)):
            found.append((unit, may))
    return found


def _is_factor(unit: Unit, slope: float) -> bool:
    """Whether a joint goes so far for each unit commanded because its state is told in this unit."""
    return 0.9 < slope / unit.factor < 1.1


def _even(slope: float) -> bool:
    return 0.5 < slope < 2.0


def _turned(joint: Joint, reached: tuple[float, float], slopes: Mapping[str, float]) -> bool:
    """Whether a whole turn would explain as well where a joint is, which its motion does not tell."""
    if joint.unit != "rad" or joint.name in slopes:
        return False
    return any(
        not _is_outside(joint, (reached[0] + turn, reached[1] + turn), 1.0) for turn in (-2 * math.pi, 2 * math.pi)
    )


def position_findings(robot: Robot, position: np.ndarray) -> list[Finding]:
    """The same for one measured position, float64 [J]; NaN where a joint is not measured."""
    now = np.zeros(1)
    measured = {joint.name: (now, position[n : n + 1]) for n, joint in enumerate(robot.joints)}
    return check_places(robot, {name: series for name, series in measured.items() if np.isfinite(series[1]).all()})


def _unit(
    robot: Robot, item: StateTopic, unit: Unit, kin: Iterable[str], reached: Mapping[str, tuple[float, float]]
) -> Finding:
    shown = ", ".join(f"{name} {max(reached[name], key=abs):.4g}" for name in kin)
    old = {name: entries_of(robot, name).state for name in kin}
    said = f"{item.topic} says {unit.name}, not {unit.of}"
    if any(numbers.scale != 1.0 for numbers in old.values()):
        said = f"by its scale in the robot file {item.topic} is read as {unit.name}, not {unit.of}"
    what = f"{said} ({shown}): divided by {unit.factor:.4g} all are within limits"
    todo = for_each({name: written(numbers, numbers.of_state(unit.factor, 0.0)) for name, numbers in old.items()})
    return error("units", what, f"{todo} in the robot file's state topic, or let the driver say {unit.of}")


def _limits(robot: Robot, joint: Joint, reached: tuple[float, float]) -> Finding:
    place = max(reached, key=lambda value: max(joint.lower - value, value - joint.upper))
    if joint.speed:
        what = f"{joint.name} went at {place:.4g} {joint.unit}, its limits are [{joint.lower:.4g}, {joint.upper:.4g}]"
        return warning("limits", what, "it was driven faster than the policy may; may it, too: raise limits.velocity")
    what = f"{joint.name} is at {place:.4g} {joint.unit}, its limits are [{joint.lower:.4g}, {joint.upper:.4g}]"
    if _turned(joint, reached, {}):
        turn = math.copysign(2 * math.pi, place)
        old = entries_of(robot, joint.name).state
        offset = written(old, old.of_state(1.0, turn))
        todo = f"a whole turn too far: {offset} in the robot file's state topic, calibrate it; or degrees?"
        return error("limits", what, todo)
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
    if not any(max(map(abs, reached[joint.name])) > unit.least for joint in outside):
        return False
    return not any(_is_outside(joint, reached[joint.name], unit.factor) for joint in joints)
