"""What the limits make of recorded commands: which of them the controller would follow late, how far behind, how long.

A policy learns the commands as they were recorded. Where they were quicker than the robot file allows, the robot lags
behind the schedule that the policy knows: a gripper that closes in 0.3 s instead of at once closes while the arm lifts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pi0_ros.control.chunk import ActionChunk
from pi0_ros.control.limits import JointLimits, Limiter
from pi0_ros.control.splines import chunk_spline

TOLERANCE = 0.01  # of what the joint does in the recordings; less is not worth a word
WORTH_S = 0.1  # and neither is a shorter delay
MOST_TICKS = 60_000  # are looked at, spread over all episodes


@dataclass(frozen=True)
class Shortfall:
    """One joint that can't follow: how many of `commands` come late, by up to `behind` (its unit) and `delay_s`.

    `velocity` and `acceleration` are what the recordings ask for (99.9 % of them stay below).
    """

    joint: str
    late: int
    commands: int
    behind: float
    delay_s: float
    velocity: float
    acceleration: float


def shortfalls(episodes: Sequence[np.ndarray], fps: float, limits: JointLimits, period: float) -> list[Shortfall]:
    """The joints that would follow recorded `episodes` (positions [T, J] at `fps`) late at control `period` (s)."""
    episodes = [limits.space.unwrapped(actions) for actions in episodes if len(actions) > 1]
    if not episodes:
        return []
    every = max(1, round(sum(map(len, episodes)) / fps / period / MOST_TICKS))
    spread, space = np.ptp(np.concatenate(episodes), axis=0), limits.space
    for pose in space.poses:
        for part in (pose.linear, pose.written):
            spread[part] = spread[part].max()
    tolerance = np.maximum(TOLERANCE * spread, 1e-9)
    joints = len(limits.names)
    late, behind, delay = np.zeros(joints, int), np.zeros(joints), np.zeros(joints)
    speeds: list[np.ndarray] = []
    changes: list[np.ndarray] = []
    commands = 0
    for actions in episodes[::every]:
        wanted, error = _follow(actions, fps, limits, period)
        apart = np.abs(error) > tolerance
        behind = np.maximum(behind, np.abs(error).max(axis=0))
        delay = np.maximum(delay, [_longest(column) * period for column in apart.T])
        ticks = np.minimum(np.round(np.arange(len(actions)) / fps / period).astype(int), len(apart) - 1)
        late += apart[ticks].sum(axis=0)
        commands += len(actions)
        velocity = space.way(wanted[:-1], wanted[1:]) / period
        speeds.append(space.sizes(velocity))
        changes.append(space.sizes(np.diff(velocity, axis=0)) / period)
    quick = np.quantile(np.concatenate(speeds), 0.999, axis=0)
    hard = np.quantile(np.concatenate(changes), 0.999, axis=0)
    return [
        Shortfall(
            limits.names[j], int(late[j]), commands, float(behind[j]), float(delay[j]), float(quick[j]), float(hard[j])
        )
        for j in np.flatnonzero((delay > WORTH_S) & (late > 0) & limits.spoken)
    ]


def _follow(actions: np.ndarray, fps: float, limits: JointLimits, period: float) -> tuple[np.ndarray, np.ndarray]:
    """Play an episode through the limiter: what was wanted [N, J] at each tick, and how far the command was from it."""
    plan = chunk_spline(
        ActionChunk(0, round(1e9 / fps), actions, limits.names), "cubic", limits.gripper, 0.0, limits.space
    )
    limiter = Limiter(limits, period)
    limiter.start(actions[0])
    speed = plan.sample(0.0)[1]  # cut out of a motion
    fast = np.maximum(limits.space.sizes(speed) / limits.velocity, 1.0)
    limiter.velocity[:] = speed / fast
    ticks = round((len(actions) - 1) / fps / period)
    wanted, error = np.zeros((2, ticks, actions.shape[1]))
    for tick in range(ticks):
        position, velocity = plan.sample((tick + 1) * period)
        wanted[tick] = position
        limiter.follow(position, velocity)
        error[tick] = limits.space.sizes(limits.space.way(wanted[tick], limiter.position))
    return wanted, error


def _longest(flags: np.ndarray) -> int:
    """Length of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(int)))
    return int((edges[1::2] - edges[::2]).max(initial=0))
