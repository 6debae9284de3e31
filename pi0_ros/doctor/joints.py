"""Joints: where they are against the robot file, and whether they do what they are told. numpy alone: the controller
asks before it arms.

Shapes: N samples of a joint over time. What moves is compared with what was commanded: a sign, an order, a scale can't
be seen in a robot that stands still.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pi0_ros.base.findings import Finding, error
from pi0_ros.robot import Joint, Robot, StateTopic
from pi0_ros.robot.turning import whole_turns

Series = tuple[np.ndarray, np.ndarray]  # times in s, values, [N] each
OUTSIDE = 0.1  # of its range: a joint found further outside its limits than this, where its file says nothing else
GRID_S, LAGS_S = 0.02, tuple(np.arange(0.0, 0.31, 0.04))  # a robot follows its commands this much later
LEAST_S = 0.8  # that state and command must be known together
MOVES = 0.05  # of a joint's range: less is not judged
FOLLOWS, OPPOSES = 0.9, -0.8  # correlation of command and state
NEAR, FAR = 0.04, 0.1  # of the range: state and command that belong together differ by less than NEAR, others by more
SLOPES, GRIPPER_SLOPES = (0.5, 2.0), (0.2, 5.0)  # a gripper may be stopped by what it holds
ZERO = 0.3  # of the range


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


def check_following(robot: Robot, state: Mapping[str, Series], command: Mapping[str, Series]) -> list[Finding]:
    """Order, signs, scales and zeros, by what the joints do when they are commanded; nothing where they are not."""
    joints = [joint for joint in robot.joints if joint.action != "velocity" or joint.kind == "gripper"]
    both = [joint for joint in joints if joint.name in state and joint.name in command and not joint.writes_rotation]
    grid = _grid([state[joint.name] for joint in both] + [command[joint.name] for joint in both])
    if not both or not len(grid):
        return []
    told = {joint.name: _on(grid, command[joint.name]) for joint in both}
    done = {joint.name: _on(grid, state[joint.name]) for joint in both}
    for joint in both:  # of a continuous joint whole turns between state and command are none
        way = np.median(done[joint.name] - told[joint.name], keepdims=True)
        done[joint.name] = done[joint.name] - whole_turns(way, np.array([joint.continuous]))
    mixed = mixed_up(both, done, told)
    found = [_order(mixed)] if mixed else []
    for joint in both:
        if joint.name not in mixed:
            found += _one(joint, done[joint.name], told[joint.name])
    return found


def moved(robot: Robot, state: Mapping[str, Series]) -> bool:
    """Whether any joint moved by as much as is needed to judge it."""
    return any(np.ptp(state[joint.name][1]) > MOVES * joint.span for joint in robot.joints if joint.name in state)


def mixed_up(joints: Sequence[Joint], done: Mapping[str, np.ndarray], told: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Joint -> the joint whose command its state follows, for those that follow another's and not their own.

    States and commands are compared as positions, so poses tell as well as motion; only whole exchanges count.
    """
    places = {
        joint.name: {other.name: _apart(done[joint.name], told[other.name]) for other in joints} for joint in joints
    }
    span = {joint.name: joint.span for joint in joints}
    found: dict[str, str] = {}
    for joint in joints:
        apart = places[joint.name]
        best = min(apart, key=lambda name: apart[name])
        if best != joint.name and apart[best] < NEAR * span[best] and apart[joint.name] > FAR * span[joint.name]:
            found[joint.name] = best
    return found if len(found) > 1 and set(found) == set(found.values()) else {}


def _one(joint: Joint, done: np.ndarray, told: np.ndarray) -> list[Finding]:
    """What is wrong with how one joint follows its command, [N] each on one time axis."""
    span = joint.span
    if not np.isfinite(span) or np.ptp(told) < MOVES * span:
        return []
    values = [(_correlation(done, told, lag), lag) for lag in LAGS_S]
    (best, lag), (worst, _) = max(values), min(values)
    if best < 0.3 and worst < OPPOSES:
        what = f"{joint.name} moves against its command (correlation {worst:.2f})"
        todo = "its sign is flipped: `scale: -1` for it in the robot file's state topic, or in its command's"
        return [error("sign", what, todo)]
    if best < FOLLOWS:
        return []
    state, command = _shifted(done, told, lag)
    slope = float(np.polyfit(command, state, 1)[0])
    low, high = GRIPPER_SLOPES if joint.kind == "gripper" else SLOPES
    if not low < slope < high:
        for unit in UNITS:
            if joint.unit == unit.of and 0.8 < slope / unit.factor < 1.25:
                what = (
                    f"{joint.name} moves {slope:.3g} for each {unit.of} that is commanded: its state is in {unit.name}"
                )
                return [error("units", what, _scale_by(unit))]
        what = f"{joint.name} moves {slope:.3g} {joint.unit} for each {joint.unit} that is commanded"
        return [
            error("scale", what, f"a wrong scale: `scale: {slope:.3g}` for it in its state topic, or mend the driver")
        ]
    zero = float(np.median(state - command))
    if joint.kind != "gripper" and abs(zero) > ZERO * span:
        what = f"{joint.name} is {zero:.3g} {joint.unit} beside its command all the time"
        return [error("zero", what, "its zero differs: `offset` in the robot file's state topic, or calibrate the arm")]
    return []


def _order(mixed: Mapping[str, str]) -> Finding:
    pairs = ", ".join(f"{name} does what {other} is told" for name, other in mixed.items())
    return error(
        "order", f"joints are mixed up: {pairs}", "correct the order of `joints` (or `names`) in the robot file"
    )


def _unit(item: StateTopic, unit: Unit, joints: Iterable[Joint], reached: Mapping[str, tuple[float, float]]) -> Finding:
    shown = ", ".join(
        f"{joint.name} {max(reached[joint.name], key=abs):.4g}" for joint in joints if joint.unit == unit.of
    )
    what = f"{item.topic} says {unit.name}, not {unit.of} ({shown}): divided by {unit.factor:.4g} all are within limits"
    return error("units", what, _scale_by(unit))


def _scale_by(unit: Unit) -> str:
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


def _grid(series: Sequence[Series]) -> np.ndarray:
    """The times that all know, [K]; empty where these are too few."""
    if not series:
        return np.empty(0)
    begin, end = max(times[0] for times, _ in series), min(times[-1] for times, _ in series)
    return np.arange(begin, end, GRID_S) if end - begin >= LEAST_S else np.empty(0)


def _on(grid: np.ndarray, series: Series) -> np.ndarray:
    return np.interp(grid, *series)


def _shifted(done: np.ndarray, told: np.ndarray, lag_s: float) -> tuple[np.ndarray, np.ndarray]:
    """The states and the commands that were `lag_s` older."""
    steps = round(lag_s / GRID_S)
    return done[steps:], told[: len(told) - steps]


def _correlation(done: np.ndarray, told: np.ndarray, lag_s: float) -> float:
    state, command = _shifted(done, told, lag_s)
    state, command = state - state.mean(), command - command.mean()
    size = math.sqrt(float(state @ state) * float(command @ command))
    return float(state @ command) / size if size > 1e-12 else 0.0


def _apart(done: np.ndarray, told: np.ndarray) -> float:
    """How far a state is from a command most of the time, at the lag that fits best."""
    best = math.inf
    for lag in LAGS_S:
        state, command = _shifted(done, told, lag)
        best = min(best, float(np.sqrt(np.mean((state - command) ** 2))))
    return best
