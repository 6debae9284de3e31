"""Chunks on one time axis: where the newest one wants the joints to be, and the transition that leads there."""

from __future__ import annotations

import numpy as np

from pi0_ros.base.errors import InputError
from pi0_ros.control.chunk import ActionChunk
from pi0_ros.control.limits import JointLimits
from pi0_ros.control.splines import INTERPOLATIONS, Fades, Spline, chunk_spline, stop
from pi0_ros.control.transitions import TransitionStatistics, fade_duration, stop_duration, transition_of

USUAL_PERCENTILE = 90  # percentile of a chunk's accelerations that counts as its usual one


class Timeline:
    """Where the joints shall be at any time: on the newest chunk, reached from where the command was.

    When a chunk is taken up it seldom starts where the command is. Transition `replace`, and any where `blend_s` is 0,
    jumps there and leaves the rest to the limits. The others cancel the offset in position, velocity and acceleration
    and fade it out: `blend` and `ensemble` over `blend_s`, `rtc`, whose chunks were generated to agree with what was
    sent, over two steps of the chunk; all of them over longer where limits or calm need it. So the motion is continuous
    up to its acceleration where the interpolation is. Grippers switch to the new chunk at once and hold each action
    until the next.

    Times are seconds since `origin`, on the clock of the chunks' stamps: today's dates would leave 0.2 microseconds of
    resolution, which twice differentiated at 1000 Hz is a rattle.
    """

    def __init__(
        self,
        limits: JointLimits,
        period: float,
        interpolation: str = "cubic",
        transition: str = "blend",
        blend_s: float = 0.2,
    ) -> None:
        if interpolation not in INTERPOLATIONS:
            raise InputError(f"interpolation {interpolation!r} is unknown, expected one of {', '.join(INTERPOLATIONS)}")
        if not blend_s >= 0:
            raise InputError(f"blend_s is {blend_s}, expected 0 or more seconds")
        self.limits = limits
        self.period = period
        self.interpolation = interpolation
        self.blend_s = blend_s
        self._fade_s = transition_of(transition).fade_s
        self.origin = 0.0
        self.transitions = TransitionStatistics()
        self.chunk: ActionChunk | None = None
        self._plan: Spline | None = None
        self._fades = Fades(len(limits.names))
        self._sum, self._sum_velocity = np.empty((2, len(limits.names)))

    def clear(self) -> None:
        """Forget chunk and transitions."""
        self.chunk = self._plan = None
        self._fades.clear()

    @property
    def idle(self) -> bool:
        """Whether there is neither a chunk nor a stop to follow."""
        return self._plan is None

    @property
    def end(self) -> float:
        """Time from which on the plan stands still; -inf where there is none."""
        return self._plan.end if self._plan else -np.inf

    @property
    def fade_end(self) -> float:
        """Time from which on the joints are on the chunk itself; -inf where they always were."""
        return self._fades.end

    def push(
        self, chunk: ActionChunk, now: float, position: np.ndarray, velocity: np.ndarray, acceleration: np.ndarray
    ) -> None:
        """Follow `chunk`, leaving from the command at `now`: [J] each, velocity and acceleration as the differences
        over the last control periods, so that a chunk that agrees with the commands has no offset at all."""
        plan = chunk_spline(chunk, self.interpolation, self.limits.gripper, self.origin)
        if self._fades.full:
            self._fades.clear()
        times = now - self.period * np.arange(3)
        newest, before, oldest = plan.positions(times) + [self._fades.sample(t)[0].copy() for t in times]
        acceleration_gap = acceleration - (newest - 2 * before + oldest) / self.period**2
        velocity_gap = velocity - (newest - before) / self.period + acceleration_gap * self.period / 2
        motion = np.where(self.limits.gripper, 0.0, [position - newest, velocity_gap, acceleration_gap])
        self.transitions.add(motion)
        self.chunk, self._plan = chunk, plan
        shortest = self._fade_s(chunk, self.blend_s) if self.blend_s > 0 else 0.0
        if shortest > 0:
            duration = fade_duration(motion, self.limits, usual_acceleration(chunk), shortest)
            self._fades.add(now, duration, motion)

    def stop(self, now: float, position: np.ndarray, velocity: np.ndarray, acceleration: np.ndarray) -> None:
        """Leave the chunk and come to rest smoothly from this motion [J] at `now`."""
        duration = max(stop_duration(velocity, acceleration, self.limits), self.period)
        self.clear()
        self._plan = stop(now, duration, position, velocity, acceleration)

    def sample(self, t: float) -> tuple[np.ndarray, np.ndarray]:
        """Position and velocity [J] at time `t`; both are overwritten by the next call."""
        if self._plan is None:
            raise ValueError("the timeline holds no chunk")
        position, velocity = self._plan.sample(t)
        if t >= self._fades.end:
            return position, velocity
        offset, offset_velocity = self._fades.sample(t)
        return np.add(position, offset, out=self._sum), np.add(velocity, offset_velocity, out=self._sum_velocity)

    def along(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What `sample` gives at each of `times` [n], [n, J] each, in new arrays."""
        if self._plan is None:
            raise ValueError("the timeline holds no chunk")
        offsets, offset_velocities = self._fades.along(times)
        fading = (times < self._fades.end)[:, None]
        positions = self._plan.positions(times) + np.where(fading, offsets, 0.0)
        return positions, self._plan.velocities(times) + np.where(fading, offset_velocities, 0.0)


def usual_acceleration(chunk: ActionChunk) -> np.ndarray:
    """What the chunk itself asks of each joint, [J]: a high percentile of the accelerations between its actions."""
    if len(chunk.actions) < 3:
        return np.zeros(chunk.actions.shape[1])
    accelerations = np.abs(np.diff(chunk.actions, n=2, axis=0)) / chunk.dt**2
    return np.asarray(np.percentile(accelerations, USUAL_PERCENTILE, axis=0))
