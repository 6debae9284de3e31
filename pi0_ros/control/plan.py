"""The plan: what the controller will command if nothing more arrives, for `pi0/plan` and robots that take it whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from pi0_ros.control.controller import Controller
from pi0_ros.control.limits import JointLimits
from pi0_ros.control.states import Command, State
from pi0_ros.robot.space import Space

SPACING_S = 0.02  # between two points, or one control period where that is longer
LONGEST_S = 10.0  # a longer one is cut by a stop
SOONEST_S = (
    0.05  # the first point that is sent is this far ahead: the receiver goes there from where it measures itself
)
AGREES_S = 5e-3  # plans that differ by no more than a joint goes in this time agree
JOIN_FRACTION = 0.5  # of the velocity limits, to get from one plan to the next where they differ


@dataclass(frozen=True)
class Plan:
    """Points of a motion that ends at rest."""

    times: np.ndarray  # float64 [N], rising, s after the command that the plan begins behind
    positions: np.ndarray  # float64 [N, J], robot units
    velocities: np.ndarray  # float64 [N, J], zero in the last point


def rest_of_plan(
    ahead: Controller, position: np.ndarray, now: float, abandoned: Callable[[], bool] = lambda: False
) -> Plan | None:
    """The motion after the command at `position` [J], sent at `now` (s); None when it is `abandoned` meanwhile.

    It is found by ticking `ahead`, a `Controller.fork` made behind that tick, until it rests: along the chunk to its
    end, or for `LONGEST_S`, then decelerating. So every point has passed the limits as the commands do; what lies
    between two points is the receiver's interpolation.
    """
    period, steady, positions = ahead.period, ahead.steady, [np.array(position)]
    while not abandoned():
        positions.extend(ahead.leap(int(LONGEST_S / period) - len(positions)))
        i = len(positions)
        if i * period > LONGEST_S:
            ahead.disarm("far enough")
        command = ahead.tick(now + i * period, steady + i * period)
        if command is None:
            break
        positions.append(command.position)
        if ahead.state is not State.RUNNING and not ahead.moving and not command.velocity.any():
            break
    else:
        return None
    path, space = np.array([*positions, positions[-1]]), ahead.limits.space
    velocities = space.way(path[:-2], path[2:]) / (
        2.0 * period
    )  # central: a command's own: the mean of the last period
    velocities = np.vstack([velocities, np.zeros_like(path[:1])])
    stride = max(1, round(SPACING_S / period))
    kept = np.arange(stride, len(path) - 1, stride)
    kept = np.append(kept, len(path) - 1)
    return Plan(kept * period, path[kept], velocities[kept - 1])


def plan_behind(
    ahead: Controller, command: Command, now: float, abandoned: Callable[[], bool] = lambda: False
) -> Plan | None:
    """`rest_of_plan` with the `command` itself, sent at `now` (s), as its first point; None when `abandoned`."""
    plan = rest_of_plan(ahead, command.position, now, abandoned)
    if plan is None:
        return None
    return begun(plan, command.position, command.velocity + command.acceleration * (ahead.period / 2.0))


def position_along(plan: Plan, times: np.ndarray, straight: np.ndarray, space: Space | None = None) -> np.ndarray:
    """Where the plan is at `times` [n] (s, as its own), float64 [n, J]: NaN before its first point, at rest behind its
    last, and between two points a cubic with their velocities, for the joints `straight` (bool [J]) a line, and in the
    `space` (None: lines) of poses slerp."""
    space = space or Space.lines(plan.positions.shape[1])
    if len(plan.times) == 1:
        positions = np.repeat(plan.positions, len(times), axis=0)
    else:
        i = np.clip(np.searchsorted(plan.times, times, side="right") - 1, 0, len(plan.times) - 2)
        duration = (plan.times[i + 1] - plan.times[i])[:, None]
        u = np.clip((times[:, None] - plan.times[i][:, None]) / duration, 0.0, 1.0)
        start, way = plan.positions[i], plan.positions[i + 1] - plan.positions[i]
        first, last = plan.velocities[i] * duration, plan.velocities[i + 1] * duration
        curve = start + u * (first + u * (3.0 * way - 2.0 * first - last + u * (first + last - 2.0 * way)))
        positions = np.where(straight, start + u * way, curve)
        if space.poses:
            along = space.partly(start, plan.positions[i + 1], u)
            positions[:, space.written] = along[:, space.written]
    return np.where((times >= plan.times[0])[:, None], positions, np.nan)


def still_to_come(plan: Plan, elapsed_s: float) -> Plan:
    """What is left of `plan` `elapsed_s` after it began, its times from now on; the last point is always left."""
    times = plan.times - elapsed_s
    times[-1] = max(times[-1], SOONEST_S)
    left = times >= SOONEST_S
    return Plan(times[left], plan.positions[left], plan.velocities[left])


def begun(plan: Plan, position: np.ndarray, velocity: np.ndarray) -> Plan:
    """`plan`, its times from now on, with where the robot really is and how it moves [J] when it begins."""
    return Plan(
        np.concatenate([[0.0], plan.times]),
        np.vstack([position, plan.positions]),
        np.vstack([velocity, plan.velocities]),
    )


def begun_elsewhere(going: Plan, position: np.ndarray) -> Plan:
    """`going` from another `position` [J] when it began."""
    return replace(going, positions=np.vstack([position, going.positions[1:]]))


def standing(position: np.ndarray) -> Plan:
    """The plan of a robot that rests at `position` [J]."""
    return Plan(np.zeros(1), position[None], np.zeros((1, len(position))))


def later(going: Plan, elapsed_s: float) -> Plan:
    """`going` with its times from `elapsed_s` later on."""
    return replace(going, times=going.times - elapsed_s)


def stood_still(going: Plan, joints: np.ndarray, position: np.ndarray) -> Plan:
    """`going` with the `joints` (bool [J]) at rest at their `position` [J] all the time."""
    positions = np.where(joints, position, going.positions)
    return Plan(going.times, positions, np.where(joints, 0.0, going.velocities))


def motion_along(going: Plan, t: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Position and velocity [J] of a robot on the plan `going` at `t` of its times."""
    return _at(going.times, going.positions, t), _at(going.times, going.velocities, t)


def delay_to_join(plan: Plan, going: Plan, limits: JointLimits) -> float:
    """By how many seconds `plan` must be put off, that a robot on the plan `going` can get there; both from now on.

    0 where they agree, as they do unless the controller was late: the robot goes on by its own clock. Else what lies
    between them is spread over a time that keeps `JOIN_FRACTION` of the velocity limits and those of acceleration.
    """
    there = _at(going.times, going.positions, plan.times[0])
    apart = np.where(limits.speed, 0.0, np.abs(plan.positions[0] - there))  # speeds are told at every tick
    if (apart <= AGREES_S * limits.velocity).all():
        return 0.0
    needed = np.maximum(apart / (JOIN_FRACTION * limits.velocity), np.sqrt(6.0 * apart / limits.acceleration))
    return max(0.0, float(np.max(needed) - plan.times[0]))


def brake_along(going: Plan, limits: JointLimits) -> Plan:
    """A stop at the acceleration limits, from where the plan `going` (from now on) has led a robot."""
    position, velocity = (_at(going.times, values, 0.0) for values in (going.positions, going.velocities))
    needed = np.maximum(np.abs(velocity) / limits.acceleration, 1e-9)  # [J] s
    steps = max(1, int(np.ceil(np.max(needed) / SOONEST_S)))
    times = SOONEST_S * np.arange(1, steps + 1)
    spent = np.minimum(times[:, None], needed)
    positions = position + velocity * spent * (1.0 - spent / (2.0 * needed))
    velocities = np.where(limits.speed, 0.0, velocity * (1.0 - spent / needed))
    return Plan(times, np.where(limits.speed, 0.0, np.clip(positions, limits.lower, limits.upper)), velocities)


def _at(times: np.ndarray, values: np.ndarray, t: float) -> np.ndarray:
    """Rows [N, J] that belong to `times` [N], at `t`: linear, held outside."""
    return np.array([np.interp(t, times, column) for column in values.T])
