"""Motion as polynomials of time: the interpolations of a chunk, the fading of offsets, a smooth stop."""

from __future__ import annotations

import numpy as np

from pi0_ros.control.chunk import ActionChunk

INTERPOLATIONS = ("hold", "linear", "cubic", "quintic")
ORDER = 6  # coefficients of a piece: up to the fifth power
POWERS = np.arange(ORDER)
MOST_FADES = 16  # at the same time


class Spline:
    """Positions of `J` joints on the time axis, piece `i` from `start + i * duration` on.

    Within its piece, at the fraction `u` in [0, 1), a joint is at `sum(coefficients[i, k] * u**k)`. Before the first
    piece the joints come along its first velocity, after the last they stand still. `sample` reuses its arrays: one
    reader at a time, and it copies what it keeps.
    """

    def __init__(self, start: float, duration: float, coefficients: np.ndarray, last: np.ndarray) -> None:
        self.start, self.duration = start, duration
        self.coefficients = coefficients  # float64 [pieces, ORDER, J]
        self.last = last  # float64 [J], where the joints stand after the last piece
        self.end = start + len(coefficients) * duration
        self._powers, self._slopes = np.ones(ORDER), np.zeros(ORDER)
        self._position, self._velocity = np.empty_like(last), np.empty_like(last)
        self._still = np.zeros_like(last)

    def sample(self, t: float) -> tuple[np.ndarray, np.ndarray]:
        """Position and velocity [J] at `t`; both are overwritten by the next call."""
        phase = (t - self.start) / self.duration
        if phase >= len(self.coefficients):
            return self.last, self._still
        i = max(0, int(phase))
        u, powers, velocities, per_s = phase - i, self._powers, self._slopes, 1.0 / self.duration
        powers[1], velocities[1] = u, per_s
        for k in range(2, ORDER):
            powers[k] = powers[k - 1] * u if u > 0.0 else 0.0
            velocities[k] = k * powers[k - 1] * per_s if u > 0.0 else 0.0
        piece = self.coefficients[i]
        return np.dot(powers, piece, out=self._position), np.dot(velocities, piece, out=self._velocity)

    def positions(self, times: np.ndarray) -> np.ndarray:
        """Positions [..., J] at `times`, as `sample` gives them, in a new array."""
        i, u = self._locate(times)
        powers = np.where((u >= 0.0) | (POWERS < 2), u**POWERS, 0.0)
        positions = np.einsum("...k,...kj->...j", powers, self.coefficients[i])
        positions[times >= self.end] = self.last
        return np.asarray(positions)

    def velocities(self, times: np.ndarray) -> np.ndarray:
        """Velocities [..., J] at `times`, as `sample` gives them, in a new array."""
        i, u = self._locate(times)
        velocities = POWERS[1:] * np.where((u >= 0.0) | (POWERS[1:] < 2), u ** POWERS[:-1], 0.0) / self.duration
        velocities[times >= self.end] = 0.0
        return np.asarray(np.einsum("...k,...kj->...j", velocities, self.coefficients[i, 1:]))

    def _locate(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Piece of each of `times` [...], and the fraction within it [..., 1]."""
        phase = (times - self.start) / self.duration
        i = np.clip(phase.astype(np.intp), 0, len(self.coefficients) - 1)
        return i, np.minimum(phase - i, 1.0)[..., None]


def chunk_spline(chunk: ActionChunk, interpolation: str, gripper: np.ndarray, origin: float = 0.0) -> Spline:
    """The chunk between its actions, in seconds since `origin`. Joints in the mask `gripper` [J] hold each action.

    `cubic` runs through central differences (Catmull-Rom, C1), `quintic` through those and second differences (C2).
    """
    actions, dt = chunk.actions, chunk.dt
    if len(actions) == 1:
        actions = np.repeat(actions, 2, axis=0)
    coefficients = np.zeros((len(actions) - 1, ORDER, actions.shape[1]))
    start, end = actions[:-1], actions[1:]
    coefficients[:, 0] = start
    if interpolation == "linear":
        coefficients[:, 1] = end - start
    elif interpolation in ("cubic", "quintic"):
        velocity = np.asarray(np.gradient(actions, axis=0, edge_order=2 if len(actions) > 2 else 1))  # per step
        if interpolation == "cubic":
            coefficients[:, 1] = velocity[:-1]
            coefficients[:, 2] = 3 * (end - start) - 2 * velocity[:-1] - velocity[1:]
            coefficients[:, 3] = 2 * (start - end) + velocity[:-1] + velocity[1:]
        else:
            acceleration = np.zeros_like(actions)
            acceleration[1:-1] = actions[2:] - 2 * actions[1:-1] + actions[:-2]
            acceleration[0], acceleration[-1] = acceleration[1], acceleration[-2]
            coefficients[:] = np.stack(
                quintic(start, velocity[:-1], acceleration[:-1], end, velocity[1:], acceleration[1:]), axis=1
            )
    coefficients[:, 1:, gripper] = 0.0
    return Spline(chunk.stamp - origin, dt, coefficients, actions[-1])


def quintic(
    start: np.ndarray,
    start_slope: np.ndarray,
    start_bend: np.ndarray,
    end: np.ndarray,
    end_slope: np.ndarray,
    end_bend: np.ndarray,
) -> tuple[np.ndarray, ...]:
    """The six coefficients in `u` of the quintic Hermite piece; velocities and accelerations are derivatives by `u`."""
    way = end - start
    return (
        start,
        start_slope,
        start_bend / 2,
        10 * way - 6 * start_slope - 4 * end_slope - 1.5 * start_bend + 0.5 * end_bend,
        -15 * way + 8 * start_slope + 7 * end_slope + 1.5 * start_bend - end_bend,
        6 * way - 3 * start_slope - 3 * end_slope - 0.5 * start_bend + 0.5 * end_bend,
    )


class Fades:
    """A sum of offsets that fade out, each a quintic from its motion to rest at zero.

    Adding one leaves those under way alone, so that a fade ends when it was meant to however many chunks arrive
    meanwhile. `sample` reuses its arrays.
    """

    def __init__(self, joints: int) -> None:
        self._coefficients = np.zeros((MOST_FADES, ORDER, joints))
        self._starts, self._ends = np.zeros(MOST_FADES), np.full(MOST_FADES, -np.inf)
        self._position, self._velocity = np.zeros((2, joints))
        self.clear()

    def clear(self) -> None:
        """Forget all."""
        self._count = 0
        self.end = -np.inf  # when the last one is over

    def add(self, start: float, duration: float, motion: np.ndarray) -> None:
        """Fade an offset with its velocity and acceleration, `motion` [3, J], from `start` on. A full sum forgets what
        is over; `full` says whether that is too little."""
        kept = np.flatnonzero(self._ends[: self._count] > start)
        for target, source in enumerate(kept):
            self._coefficients[target] = self._coefficients[source]
            self._starts[target], self._ends[target] = self._starts[source], self._ends[source]
        n = len(kept)
        zero = np.zeros(motion.shape[1])
        self._coefficients[n] = quintic(motion[0], motion[1] * duration, motion[2] * duration**2, zero, zero, zero)
        self._starts[n], self._ends[n] = start, start + duration
        self._count, self.end = n + 1, float(self._ends[: n + 1].max())

    @property
    def full(self) -> bool:
        """Whether the next one needs `clear` first."""
        return self._count == MOST_FADES

    def sample(self, t: float) -> tuple[np.ndarray, np.ndarray]:
        """Sum of the offsets and of their velocities [J] at `t`; both are overwritten by the next call."""
        n = self._count
        duration = self._ends[:n] - self._starts[:n]
        u = np.minimum((t - self._starts[:n]) / duration, 1.0)
        powers = u[:, None] ** POWERS
        velocities = np.zeros_like(powers)
        velocities[:, 1:] = POWERS[1:] * powers[:, :-1] / duration[:, None]
        flat = self._coefficients[:n].reshape(n * ORDER, len(self._position))
        np.dot(powers.reshape(-1), flat, out=self._position)
        return self._position, np.dot(velocities.reshape(-1), flat, out=self._velocity)

    def along(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What `sample` gives at each of `times` [n], [n, J] each, in new arrays."""
        n = self._count
        duration = self._ends[:n] - self._starts[:n]
        u = np.minimum((times[:, None] - self._starts[:n]) / duration, 1.0)
        powers = u[..., None] ** POWERS  # [times, fades, ORDER]
        velocities = np.zeros_like(powers)
        velocities[..., 1:] = POWERS[1:] * powers[..., :-1] / duration[:, None]
        positions, speeds = (np.einsum("tfk,fkj->tj", x, self._coefficients[:n]) for x in (powers, velocities))
        return np.asarray(positions), np.asarray(speeds)


def stop(start: float, duration: float, position: np.ndarray, velocity: np.ndarray, acceleration: np.ndarray) -> Spline:
    """From `position` [J] in motion to rest in `duration` s: velocity and acceleration end at zero (both continuous).

    The velocity is the cubic `v + a u + (-3v - 2a) u^2 + (2v + a) u^3` (`a` per `u`), the position its integral.
    """
    v, a = velocity * duration, acceleration * duration**2
    steps = (position, v, a / 2, -v - a * 2 / 3, v / 2 + a / 4, np.zeros_like(v))
    return Spline(start, duration, np.stack(steps)[None], position + v / 2 + a / 12)
