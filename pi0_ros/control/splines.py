"""Motion as polynomials of time: the interpolations of a chunk, the fading of offsets, a smooth stop."""

from __future__ import annotations

import numpy as np

from pi0_ros.control.chunk import ActionChunk
from pi0_ros.robot import rotations
from pi0_ros.robot.space import PosePlace, Space

INTERPOLATIONS = ("hold", "linear", "cubic", "quintic")
ORDER = 6  # coefficients of a piece: up to the fifth power
POWERS = np.arange(ORDER)
MOST_FADES = 24  # at the same time


class Spline:
    """Positions of `J` joints on the time axis, piece `i` from `start + i * duration` on.

    Within its piece, at the fraction `u` in [0, 1), a joint is at `sum(coefficients[i, k] * u**k)`. Before the first
    piece the joints come along its first velocity, after the last they stand still. `sample` reuses its arrays: one
    reader at a time, and it copies what it keeps. Of a pose's rotation the sum is the turn since the piece's beginning:
    between two rotations a line of turns is slerp. Velocities are those of ways (`robot.space`).
    """

    def __init__(
        self,
        start: float,
        duration: float,
        coefficients: np.ndarray,
        last: np.ndarray,
        turns: tuple[tuple[PosePlace, np.ndarray], ...] = (),
    ) -> None:
        """`turns`: each pose with the rotations [pieces, 4] that its pieces begin with."""
        self._turns = turns
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
        np.dot(powers, piece, out=self._position)
        np.dot(velocities, piece, out=self._velocity)
        for pose, begins in self._turns:
            _turned(pose, begins[i], self._position, self._velocity)
        return self._position, self._velocity

    def positions(self, times: np.ndarray) -> np.ndarray:
        """Positions [..., J] at `times`, as `sample` gives them, in a new array."""
        i, u = self._locate(times)
        powers = np.where((u >= 0.0) | (POWERS < 2), u**POWERS, 0.0)
        positions = np.einsum("...k,...kj->...j", powers, self.coefficients[i])
        for pose, begins in self._turns:
            _turned(pose, begins[i], positions)
        positions[times >= self.end] = self.last
        return np.asarray(positions)

    def velocities(self, times: np.ndarray) -> np.ndarray:
        """Velocities [..., J] at `times`, as `sample` gives them, in a new array."""
        i, u = self._locate(times)
        velocities = POWERS[1:] * np.where((u >= 0.0) | (POWERS[1:] < 2), u ** POWERS[:-1], 0.0) / self.duration
        velocities[times >= self.end] = 0.0
        found = np.asarray(np.einsum("...k,...kj->...j", velocities, self.coefficients[i, 1:]))
        if self._turns:
            powers = np.where((u >= 0.0) | (POWERS < 2), u**POWERS, 0.0)
            reached = np.einsum("...k,...kj->...j", powers, self.coefficients[i])
            for pose, begins in self._turns:
                _turned(pose, begins[i], reached, found)
        return found

    def _locate(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Piece of each of `times` [...], and the fraction within it [..., 1]."""
        phase = (times - self.start) / self.duration
        i = np.clip(phase.astype(np.intp), 0, len(self.coefficients) - 1)
        return i, np.minimum(phase - i, 1.0)[..., None]


def _turned(pose: PosePlace, begins: np.ndarray, positions: np.ndarray, velocities: np.ndarray | None = None) -> None:
    """Make rotations, and how fast they turn, of turns [..., J] since the rotations `begins` [..., 4], in place."""
    turn = positions[..., pose.angular].copy()
    if velocities is not None:
        velocities[..., pose.angular] = rotations.speed_of(turn, velocities[..., pose.angular])
    positions[..., pose.written] = pose.writing.encode(rotations.turned(begins, turn))


def chunk_spline(
    chunk: ActionChunk, interpolation: str, gripper: np.ndarray, origin: float = 0.0, space: Space | None = None
) -> Spline:
    """The chunk between its actions, in seconds since `origin`. Joints in the mask `gripper` [J] hold each action.

    `cubic` runs through central differences (Catmull-Rom, C1), `quintic` through those and second differences (C2).
    `space`: of the actions; None: lines.
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
    turns = []
    for pose in () if space is None else space.poses:
        q = pose.writing.decode(actions[:, pose.written])
        coefficients[:, :, pose.written] = 0.0
        coefficients[:, :, pose.angular] = _turn_pieces(q, interpolation)
        turns.append((pose, q[:-1]))
    return Spline(chunk.stamp - origin, dt, coefficients, actions[-1], tuple(turns))


def _turn_pieces(q: np.ndarray, interpolation: str) -> np.ndarray:
    """Between rotations [N, 4] the turns since each: coefficients in `u`, [N - 1, ORDER, 3]; C1 and C2 as of places.

    A turn's own rates are those of the rotation only where it begins: `change_of` leads from one to the other.
    """
    ways = rotations.between(q[:-1], q[1:])
    found = np.zeros((len(ways), ORDER, 3))
    if interpolation == "linear":
        found[:, 1] = ways
    elif interpolation in ("cubic", "quintic"):
        edges = (3 * ways[:2] - ways[1::-1]) / 2 if len(ways) > 1 else ways, (3 * ways[-1:] - ways[-2:-1]) / 2
        speeds = np.concatenate([edges[0][:1], (ways[:-1] + ways[1:]) / 2, edges[1] if len(ways) > 1 else ways])
        last = rotations.change_of(ways, speeds[1:])
        if interpolation == "cubic":
            found[:, 1] = speeds[:-1]
            found[:, 2] = 3 * ways - 2 * speeds[:-1] - last
            found[:, 3] = -2 * ways + speeds[:-1] + last
        else:
            inner = np.diff(ways, axis=0) if len(ways) > 1 else np.zeros((1, 3))
            bends = np.concatenate([inner[:1], inner, inner[-1:]]) if len(ways) > 1 else np.zeros((2, 3))
            eps = 1e-5  # how the rate itself changes along the turn, by a difference
            drift = rotations.speed_of(ways + eps * last, last) - rotations.speed_of(ways - eps * last, last)
            ends = rotations.change_of(ways, bends[1:] - drift / (2 * eps))
            nothing = np.zeros_like(ways)
            found[:] = np.stack(quintic(nothing, speeds[:-1], bends[:-1], ways, last, ends), axis=1)
    return found


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


def stop(
    start: float,
    duration: float,
    position: np.ndarray,
    velocity: np.ndarray,
    acceleration: np.ndarray,
    space: Space | None = None,
) -> Spline:
    """From `position` [J] in motion to rest in `duration` s: velocity and acceleration end at zero (both continuous).

    The velocity is the cubic `v + a u + (-3v - 2a) u^2 + (2v + a) u^3` (`a` per `u`), the position its integral.
    """
    v, a = velocity * duration, acceleration * duration**2
    steps = (position, v, a / 2, -v - a * 2 / 3, v / 2 + a / 4, np.zeros_like(v))
    if space is None or not space.poses:
        return Spline(start, duration, np.stack(steps)[None], position + v / 2 + a / 12)
    coefficients = np.stack(steps)[None]
    coefficients[:, 0, space.written] = 0.0
    turns = tuple((pose, pose.writing.decode(position[None, pose.written])) for pose in space.poses)
    return Spline(start, duration, coefficients, space.moved(position, v / 2 + a / 12), turns)
