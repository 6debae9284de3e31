"""Chunks on one time axis: interpolation inside a chunk, and the seam from one chunk to the next."""

from __future__ import annotations

import numpy as np

from pi0_ros.control.chunk import ActionChunk
from pi0_ros.control.limits import JointLimits

INTERPOLATIONS = ("hold", "linear", "cubic")
SEAM_SHARE = 0.5  # a seam alone may use this share of the velocity and acceleration limits


class Timeline:
    """Where the newest chunk wants the joints to be, reached from where the command was when the chunk arrived.

    At its arrival a chunk seldom starts where the command is. That offset, in position and velocity, is cancelled and
    faded out over `blend_s`, or over longer where the limits need it, so position and velocity are continuous (C1)
    across chunks. Grippers switch to the new chunk at once and hold each action until the next. With `blend_s` 0 a
    chunk simply replaces the one before. Times are seconds of one clock.
    """

    def __init__(self, limits: JointLimits, interpolation: str = "cubic", blend_s: float = 0.2) -> None:
        if interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation {interpolation!r} is unknown, expected one of {', '.join(INTERPOLATIONS)}")
        if not blend_s >= 0:
            raise ValueError(f"blend_s is {blend_s}, expected 0 or more seconds")
        self.limits = limits
        self.interpolation = interpolation
        self.blend_s = blend_s
        self.chunk: ActionChunk | None = None
        self.clear()

    def clear(self) -> None:
        """Forget the chunk."""
        self.chunk = None
        self._slopes = np.zeros((0, len(self.limits.names)))
        self._offset = np.zeros(len(self.limits.names))
        self._offset_velocity = np.zeros(len(self.limits.names))
        self._seam_start, self._seam_s = 0.0, 0.0

    def push(self, chunk: ActionChunk, now: float, position: np.ndarray, velocity: np.ndarray) -> None:
        """Follow `chunk` from `now` on, leaving from a command at `position` [J] with `velocity` [J]."""
        self.chunk = chunk
        self._slopes = slopes(chunk) if self.interpolation == "cubic" else np.zeros((0, len(chunk.names)))
        target, target_velocity = self._plain(now)
        blended = ~self.limits.gripper if self.blend_s > 0 else np.zeros_like(self.limits.gripper)
        self._offset = np.where(blended, position - target, 0.0)
        self._offset_velocity = np.where(blended, velocity - target_velocity, 0.0)
        self._seam_start = now
        self._seam_s = seam_duration(self._offset, self._offset_velocity, self.limits, self.blend_s)

    def sample(self, t: float) -> tuple[np.ndarray, np.ndarray]:
        """Position and velocity [J] at time `t`; before its first action and after its last a chunk stands still."""
        position, velocity = self._plain(t)
        if self._seam_s > 0.0 and t < self._seam_start + self._seam_s:
            offset, offset_velocity = fade(
                self._offset, self._offset_velocity, max(0.0, t - self._seam_start), self._seam_s
            )
            position, velocity = position + offset, velocity + offset_velocity
        return position, velocity

    def _plain(self, t: float) -> tuple[np.ndarray, np.ndarray]:
        """The chunk itself at `t`, without the seam."""
        if self.chunk is None:
            raise ValueError("the timeline holds no chunk")
        actions, dt = self.chunk.actions, self.chunk.dt
        still = np.zeros(actions.shape[1])
        phase = (t - self.chunk.stamp) / dt
        if phase < 0 or phase >= len(actions) - 1:
            return actions[0 if phase < 0 else -1], still
        i = int(phase)
        u, start, end = phase - i, actions[i], actions[i + 1]
        if self.interpolation == "hold":
            return start, still
        if self.interpolation == "linear":
            position, velocity = start + (end - start) * u, (end - start) / dt
        else:
            position, velocity = hermite(start, self._slopes[i], end, self._slopes[i + 1], u, dt)
        return np.where(self.limits.gripper, start, position), np.where(self.limits.gripper, 0.0, velocity)


def slopes(chunk: ActionChunk) -> np.ndarray:
    """Velocity at every action [H, J]: central differences (Catmull-Rom), one-sided at both ends."""
    if len(chunk.actions) < 2:
        return np.zeros_like(chunk.actions)
    return np.asarray(np.gradient(chunk.actions, chunk.dt, axis=0))


def hermite(
    start: np.ndarray, start_slope: np.ndarray, end: np.ndarray, end_slope: np.ndarray, u: float, dt: float
) -> tuple[np.ndarray, np.ndarray]:
    """Cubic Hermite segment of duration `dt` at the fraction `u` in [0, 1]: position and velocity."""
    position = (
        (2 * u**3 - 3 * u**2 + 1) * start
        + (u**3 - 2 * u**2 + u) * dt * start_slope
        + (3 * u**2 - 2 * u**3) * end
        + (u**3 - u**2) * dt * end_slope
    )
    velocity = (
        (6 * u**2 - 6 * u) / dt * (start - end) + (3 * u**2 - 4 * u + 1) * start_slope + (3 * u**2 - 2 * u) * end_slope
    )
    return position, velocity


def fade(
    offset: np.ndarray, offset_velocity: np.ndarray, elapsed: float, duration: float
) -> tuple[np.ndarray, np.ndarray]:
    """What is left of an offset after `elapsed` of `duration` s: a cubic to rest at zero, with its velocity."""
    nothing = np.zeros_like(offset)
    return hermite(offset, offset_velocity, nothing, nothing, elapsed / duration, duration)


def seam_duration(offset: np.ndarray, offset_velocity: np.ndarray, limits: JointLimits, shortest: float) -> float:
    """Seconds over which to fade an offset so that the fade alone stays within `SEAM_SHARE` of every joint's limits.

    The cubic's greatest speed beyond its first is at most 1.5 |d| / T, its greatest acceleration (6 |d| + 4 |v| T) /
    T^2 (at its start): both are solved for T, the slowest joint decides, and all joints fade together.
    """
    distance, speed = np.abs(offset), np.abs(offset_velocity)
    acceleration = SEAM_SHARE * limits.acceleration
    for_speed = 1.5 * distance / (SEAM_SHARE * limits.velocity)
    for_acceleration = (2 * speed + np.sqrt(4 * speed**2 + 6 * distance * acceleration)) / acceleration
    return float(max(shortest, for_speed.max(initial=0.0), for_acceleration.max(initial=0.0)))
