"""Chunks on one time axis: where the newest one wants the joints to be, and the transition that leads there."""

from __future__ import annotations

import numpy as np

from pi0_ros.base.errors import InputError
from pi0_ros.control.chunk import ActionChunk
from pi0_ros.control.limits import JointLimits
from pi0_ros.control.splines import INTERPOLATIONS, Fades, Spline, chunk_spline, stop
from pi0_ros.control.transitions import (
    SPEED_FRACTION,
    TransitionStatistics,
    fade_duration,
    slowing_duration,
    stop_duration,
    transition_of,
)
from pi0_ros.robot.rotations import exp, product, rotated, same_turn_near, speed_of
from pi0_ros.robot.space import PosePlace, Space

USUAL_PERCENTILE = 90  # percentile of a chunk's accelerations that counts as its usual one


class Timeline:
    """Where the joints shall be at any time: on the newest chunk, reached from where the command was.

    When a chunk is taken up it seldom starts where the command is. Transition `replace`, and any where `blend_s` is 0,
    jumps there and leaves the rest to the limits. The others cancel the offset in position, velocity and acceleration
    and fade it out: `blend` and `ensemble` over `blend_s`, `rtc`, whose chunks were generated to agree with what was
    sent, over two steps of the chunk; all of them over longer where limits or calm need it, speeds for themselves. So
    the motion is continuous up to its acceleration where the interpolation is. Grippers switch to the new chunk at once
    and hold each action until the next.

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
        self._rests = -np.inf  # when speeds have come to zero in a stop
        self._fades = Fades(len(limits.names))
        self._sum, self._sum_velocity = np.empty((2, len(limits.names)))

    def clear(self) -> None:
        """Forget chunk and transitions."""
        self.chunk, self._plan, self._rests = None, None, -np.inf
        self._fades.clear()

    @property
    def idle(self) -> bool:
        """Whether there is neither a chunk nor a stop to follow."""
        return self._plan is None

    @property
    def end(self) -> float:
        """Time from which on the plan stands still; -inf where there is none."""
        return max(self._plan.end, self._rests) if self._plan else -np.inf

    @property
    def fade_end(self) -> float:
        """Time from which on the joints are on the chunk itself; -inf where they always were."""
        return self._fades.end

    def push(
        self, chunk: ActionChunk, now: float, position: np.ndarray, velocity: np.ndarray, acceleration: np.ndarray
    ) -> None:
        """Follow `chunk`, leaving from the command at `now`: [J] each, velocity and acceleration as the differences
        over the last control periods, so that a chunk that agrees with the commands has no offset at all."""
        plan = chunk_spline(chunk, self.interpolation, self.limits.gripper, self.origin, self.limits.space)
        if self._fades.full:
            self._fades.clear()
        times = now - self.period * np.arange(3)
        newest, before, oldest = plan.positions(times) + [self._fades.sample(t)[0].copy() for t in times]
        acceleration_gap = acceleration - (newest - 2 * before + oldest) / self.period**2
        velocity_gap = velocity - (newest - before) / self.period + acceleration_gap * self.period / 2
        motion = np.where(self.limits.gripper, 0.0, [position - newest, velocity_gap, acceleration_gap])
        if self.limits.space.poses:
            motion = np.where(
                self.limits.space.posed, self._pose_gap(plan, times, position, velocity, acceleration), motion
            )
        self.transitions.add(motion)
        self.chunk, self._plan = chunk, plan
        shortest = self._fade_s(chunk, self.blend_s) if self.blend_s > 0 else 0.0
        if shortest > 0:
            limits, usual = self.limits, usual_acceleration(chunk, self.limits.space)
            still = np.where(limits.speed, 0.0, motion)
            self._fades.add(now, fade_duration(still, limits, usual, shortest), still)
            if limits.speed.any():  # a base needs longer than arms, which shall not wait for it
                slow = motion - still
                self._fades.add(now, fade_duration(slow, limits, usual, shortest, SPEED_FRACTION), slow)

    def _pose_gap(
        self, plan: Spline, times: np.ndarray, position: np.ndarray, velocity: np.ndarray, acceleration: np.ndarray
    ) -> np.ndarray:
        """The fade [3, J] that leads poses from the commands at `times` (the last three, newest first) to `plan`,
        beside the fades under way."""
        space, h = self.limits.space, self.period
        commands = [position]
        for speed in (velocity, velocity - acceleration * h):
            commands.append(space.moved(commands[-1], -speed * h))
        targets = plan.positions(times)
        ways = np.stack([space.way(target, command) for target, command in zip(targets, commands)])
        for pose in space.poses:  # a half turn may be told both ways
            for k in (1, 2):
                ways[k, pose.angular] = same_turn_near(ways[k, pose.angular], ways[k - 1, pose.angular])
        newest, before, oldest = ways - [self._fades.sample(t)[0].copy() for t in times]
        bend = (newest - 2 * before + oldest) / h**2
        return np.stack([newest, (newest - before) / h + bend * h / 2, bend])

    def stop(self, now: float, position: np.ndarray, velocity: np.ndarray, acceleration: np.ndarray) -> None:
        """Leave the chunk and come to rest smoothly from this motion [J] at `now`; for speeds that is zero, and what
        leads there are the limits."""
        limits, still = self.limits, np.where(self.limits.speed, 0.0, 1.0)
        position, velocity, acceleration = position * still, velocity * still, acceleration * still
        duration = max(stop_duration(velocity, acceleration, limits), self.period)
        self.clear()
        self._plan = stop(now, duration, position, velocity, acceleration, limits.space)
        self._rests = now + (slowing_duration(limits) if limits.speed.any() else 0.0)

    def sample(self, t: float) -> tuple[np.ndarray, np.ndarray]:
        """Position and velocity [J] at time `t`; both are overwritten by the next call."""
        if self._plan is None:
            raise ValueError("the timeline holds no chunk")
        position, velocity = self._plan.sample(t)
        if t >= self._fades.end:
            return position, velocity
        offset, offset_velocity = self._fades.sample(t)
        np.add(position, offset, out=self._sum)
        np.add(velocity, offset_velocity, out=self._sum_velocity)
        for pose in self.limits.space.poses:
            _turned_on(pose, position, velocity, offset, offset_velocity, self._sum, self._sum_velocity)
        return self._sum, self._sum_velocity

    def along(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What `sample` gives at each of `times` [n], [n, J] each, in new arrays."""
        if self._plan is None:
            raise ValueError("the timeline holds no chunk")
        offsets, offset_velocities = self._fades.along(times)
        fading = (times < self._fades.end)[:, None]
        planned, planned_velocities = self._plan.positions(times), self._plan.velocities(times)
        offsets, offset_velocities = (np.where(fading, x, 0.0) for x in (offsets, offset_velocities))
        positions, velocities = planned + offsets, planned_velocities + offset_velocities
        for pose in self.limits.space.poses:
            _turned_on(pose, planned, planned_velocities, offsets, offset_velocities, positions, velocities)
        return positions, velocities


def _turned_on(
    pose: PosePlace,
    position: np.ndarray,
    velocity: np.ndarray,
    offset: np.ndarray,
    offset_velocity: np.ndarray,
    found: np.ndarray,
    found_velocity: np.ndarray,
) -> None:
    """Turn the rotations in `position` [..., J] by an `offset`, and their velocity with it, into what is `found`."""
    turn = offset[..., pose.angular]
    away = exp(turn)
    q = product(away, pose.writing.decode(position[..., pose.written]))
    found[..., pose.written] = pose.writing.encode(q)
    found_velocity[..., pose.written] = 0.0
    speed = speed_of(turn, offset_velocity[..., pose.angular])
    found_velocity[..., pose.angular] = speed + rotated(away, velocity[..., pose.angular])


def usual_acceleration(chunk: ActionChunk, space: Space) -> np.ndarray:
    """What the chunk itself asks of each joint, [J]: a high percentile of the accelerations between its actions."""
    if len(chunk.actions) < 3:
        return np.zeros(chunk.actions.shape[1])
    ways = space.way(chunk.actions[:-1], chunk.actions[1:])
    accelerations = space.sizes(np.diff(ways, axis=0)) / chunk.dt**2
    return np.asarray(np.percentile(accelerations, USUAL_PERCENTILE, axis=0))
