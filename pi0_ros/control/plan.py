"""The rest of the plan: what the controller would command if nothing more arrived."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np

from pi0_ros.control.controller import Controller, State
from pi0_ros.control.tracking import Tracking

SPACING_S = 0.02  # between two points, or one control period where that is longer
LONGEST_S = 10.0


@dataclass(frozen=True)
class Plan:
    """Points of a motion that ends at rest."""

    times: np.ndarray  # float64 [N], s after the command that the plan begins behind
    positions: np.ndarray  # float64 [N, J], robot units
    velocities: np.ndarray  # float64 [N, J], zero in the last point


def fork(controller: Controller) -> Controller:
    """A copy to be ticked ahead: it needs no further joint states."""
    ahead = copy.deepcopy(controller)
    ahead.feedback.max_age[:] = np.inf
    ahead.tracking = Tracking(ahead.limits, 0.0)
    return ahead


def rest_of_plan(ahead: Controller, position: np.ndarray, now: float) -> Plan:
    """The motion after the command at `position` [J], sent at `now`; `ahead` is a `fork` made behind that tick.

    It is found by ticking `ahead` until it rests: along the chunk to its end, then decelerating. So every point has
    passed the limits as the commands do; what lies between two points is the receiver's interpolation.
    """
    period, positions = ahead.period, [np.array(position)]
    for i in range(1, int(LONGEST_S / period) + 1):
        command = ahead.tick(now + i * period)
        if command is None:
            break
        positions.append(command.position)
        if ahead.state is not State.RUNNING and not ahead.moving and not command.velocity.any():
            break
    path = np.array([*positions, positions[-1]])
    velocities = (path[2:] - path[:-2]) / (2.0 * period)  # central: a command's own is the mean over the last period
    velocities = np.vstack([velocities, np.zeros_like(path[:1])])
    stride = max(1, round(SPACING_S / period))
    kept = np.arange(stride, len(path) - 1, stride)
    kept = np.append(kept, len(path) - 1)
    return Plan(kept * period, path[kept], velocities[kept - 1])
