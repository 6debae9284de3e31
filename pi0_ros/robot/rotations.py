"""Rotations as quaternions, and the ways in which a model's vector may hold one. numpy only.

Quaternions are float64 [..., 4] in ROS's order x, y, z, w; turns are rotation vectors [..., 3], rad: the axis times the
angle, in the frame's own axes, so that `turned(q, turn)` is `exp(turn) q`. A rotation has several names in most ways of
writing it (q and -q; an angle and one a whole turn further): `nearest` takes the one next to a value before it.
What is NaN, or no rotation at all (a zero vector), stays or becomes NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations

import numpy as np

TURN = 2.0 * np.pi
SMALL = 1e-8  # rad; below it the first terms of the series are exact
LEVEL = 1e-7  # of the cosine of an Euler rotation's middle angle: nearer to a right angle the others are one
AXES = "xyz"
IDENTITY = np.array([0.0, 0.0, 0.0, 1.0])


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`a` after `b`, [..., 4]."""
    if a.ndim == b.ndim == 1:
        return np.array(plain_product(*a.tolist(), *b.tolist()))
    ax, ay, az, aw = a[..., 0], a[..., 1], a[..., 2], a[..., 3]
    bx, by, bz, bw = b[..., 0], b[..., 1], b[..., 2], b[..., 3]
    return np.stack(
        [
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
            aw * bw - ax * bx - ay * by - az * bz,
        ],
        axis=-1,
    )


def inverse(q: np.ndarray) -> np.ndarray:
    """The rotation back, [..., 4]."""
    return q * np.array([-1.0, -1.0, -1.0, 1.0])


def normalized(q: np.ndarray) -> np.ndarray:
    """Unit quaternions [..., 4]; NaN where there is no direction."""
    if q.ndim == 1:
        x, y, z, w = q.tolist()
        length = math.sqrt(x * x + y * y + z * z + w * w) or math.nan
        return np.array((x / length, y / length, z / length, w / length))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(q / np.sqrt(np.sum(q * q, axis=-1, keepdims=True)))


def rotated(q: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Vectors [..., 3] turned by `q` [..., 4]."""
    axis, w = q[..., :3], q[..., 3:]
    across = 2.0 * cross(axis, v)
    return np.asarray(v + w * across + cross(axis, across))


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a x b, [..., 3]; many times as fast as numpy's on single vectors."""
    if a.ndim == b.ndim == 1:
        (ax, ay, az), (bx, by, bz) = a.tolist(), b.tolist()
        return np.array((ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx))
    ax, ay, az = a[..., 0], a[..., 1], a[..., 2]
    bx, by, bz = b[..., 0], b[..., 1], b[..., 2]
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=-1)


def size(v: np.ndarray) -> np.ndarray:
    """Lengths [..., 1] of vectors [..., 3]."""
    return np.asarray(np.sqrt(np.sum(v * v, axis=-1, keepdims=True)))


def exp(turn: np.ndarray) -> np.ndarray:
    """The rotation [..., 4] by a turn [..., 3]."""
    if turn.ndim == 1:
        x, y, z = turn.tolist()
        one = math.sqrt(x * x + y * y + z * z)
        by = 0.5 if one < SMALL else math.sin(one / 2.0) / one
        return np.array((by * x, by * y, by * z, math.cos(one / 2.0)))
    angle = size(turn)
    tiny = angle < SMALL
    factor = np.where(tiny, 0.5, np.sin(angle / 2.0) / np.where(tiny, 1.0, angle))
    return np.concatenate([factor * turn, np.cos(angle / 2.0)], axis=-1)


def log(q: np.ndarray) -> np.ndarray:
    """The shortest turn [..., 3] of a unit quaternion [..., 4], of at most pi."""
    if q.ndim == 1:
        x, y, z, own = q.tolist()
        one = math.sqrt(x * x + y * y + z * z)
        by = (2.0 if one < SMALL else 2.0 * math.atan2(one, abs(own)) / one) * (-1.0 if own < 0.0 else 1.0)
        return np.array((by * x, by * y, by * z))
    q = np.where(q[..., 3:] < 0.0, -q, q)
    axis, w = q[..., :3], q[..., 3:]
    length = size(axis)
    tiny = length < SMALL
    angle = 2.0 * np.arctan2(length, w)
    return np.asarray(np.where(tiny, 2.0, angle / np.where(tiny, 1.0, length)) * axis)


def between(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The shortest turn [..., 3] that leads from `start` to `end`, [..., 4]: `turned(start, turn)` is `end`."""
    return log(product(end, inverse(start)))


def turned(q: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """`q` [..., 4] and then a turn [..., 3] about the frame's axes."""
    return product(exp(turn), q)


def slerp(start: np.ndarray, end: np.ndarray, part: np.ndarray) -> np.ndarray:
    """`part` (0 .. 1) of the way from `start` to `end` at constant speed, [..., 4]."""
    return turned(start, np.asarray(part)[..., None] * between(start, end))


def same_turn_near(turn: np.ndarray, near: np.ndarray) -> np.ndarray:
    """The turn [..., 3] of the same rotation as `turn` that is nearest to `near` [..., 3]: whole turns more or less."""
    angle, reached = size(turn), size(near)
    still = angle < SMALL
    along = np.where(still, np.where(reached < SMALL, 0.0, near), turn)
    axis = along / np.maximum(size(along), SMALL)
    turns = np.round((np.sum(axis * near, axis=-1, keepdims=True) - angle) / TURN)
    return np.asarray(turn + TURN * turns * axis)


def speed_of(turn: np.ndarray, change: np.ndarray) -> np.ndarray:
    """How fast `exp(turn)` turns, rad/s [..., 3], while the rotation vector `turn` changes by `change` per second.

    Never faster than |change|.
    """
    b, c = _series(turn)
    along = cross(turn, change)
    return np.asarray(change + b * along + c * cross(turn, along))


def change_of(turn: np.ndarray, speed: np.ndarray) -> np.ndarray:
    """The inverse of `speed_of`, for turns of less than 2 pi."""
    angle2 = np.sum(turn * turn, axis=-1, keepdims=True)
    tiny = angle2 < 1e-6
    safe = np.where(tiny, 1.0, angle2)
    half = np.sqrt(safe) / 2.0
    factor = np.where(tiny, 1.0 / 12.0 + angle2 / 720.0, (1.0 - half / np.tan(half)) / safe)
    along = cross(turn, speed)
    return np.asarray(speed - 0.5 * along + factor * cross(turn, along))


def _series(turn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(1 - cos a) / a^2 and (a - sin a) / a^3 of the angle `a` of a turn [..., 3], [..., 1] each."""
    angle2 = np.sum(turn * turn, axis=-1, keepdims=True)
    tiny = angle2 < 1e-6
    safe = np.where(tiny, 1.0, angle2)
    angle = np.sqrt(safe)
    b = np.where(tiny, 0.5 - angle2 / 24.0, (1.0 - np.cos(angle)) / safe)
    c = np.where(tiny, 1.0 / 6.0 - angle2 / 120.0, (angle - np.sin(angle)) / (safe * angle))
    return b, c


def mean(rotations: np.ndarray) -> np.ndarray:
    """The middle [4] of unit quaternions [N, 4], whichever sign they have (Markley's: of all the nearest to all)."""
    finite = rotations[np.isfinite(rotations).all(axis=-1)]
    if not len(finite):
        return IDENTITY
    _, vectors = np.linalg.eigh(finite.T @ finite)
    middle = vectors[:, -1]
    return np.asarray(-middle if middle[3] < 0 else middle)


# ---- matrices


def matrix(q: np.ndarray) -> np.ndarray:
    """Rotation matrices [..., 3, 3] of unit quaternions [..., 4]."""
    x, y, z, w = q.tolist() if q.ndim == 1 else (q[..., 0], q[..., 1], q[..., 2], q[..., 3])
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    if q.ndim == 1:
        return np.array(rows)
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def of_matrix(m: np.ndarray) -> np.ndarray:
    """Unit quaternions [..., 4], w >= 0, of rotation matrices [..., 3, 3]."""
    if m.ndim == 2:
        return np.array(_plain_of_matrix(m.tolist()))
    a, b, c = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    near = np.stack(  # [..., candidate, 4]: each exact, and good where its own entry is large
        [
            np.stack(
                [1 + a - b - c, m[..., 1, 0] + m[..., 0, 1], m[..., 2, 0] + m[..., 0, 2], m[..., 2, 1] - m[..., 1, 2]],
                -1,
            ),
            np.stack(
                [m[..., 1, 0] + m[..., 0, 1], 1 - a + b - c, m[..., 2, 1] + m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0]],
                -1,
            ),
            np.stack(
                [m[..., 2, 0] + m[..., 0, 2], m[..., 2, 1] + m[..., 1, 2], 1 - a - b + c, m[..., 1, 0] - m[..., 0, 1]],
                -1,
            ),
            np.stack(
                [m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1], 1 + a + b + c],
                -1,
            ),
        ],
        axis=-2,
    )
    own = np.stack([1 + a - b - c, 1 - a + b - c, 1 - a - b + c, 1 + a + b + c], axis=-1)
    best = np.argmax(np.nan_to_num(own, nan=-1.0), axis=-1)
    q = normalized(np.take_along_axis(near, best[..., None, None], axis=-2)[..., 0, :])
    return np.asarray(np.where(q[..., 3:] < 0.0, -q, q))


# ---- one rotation in plain numbers: numpy's calls would cost more than the sums

Numbers = tuple[float, float, float, float]


def plain_product(ax: float, ay: float, az: float, aw: float, bx: float, by: float, bz: float, bw: float) -> Numbers:
    """`product` of two."""
    return (
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    )


def _plain_of_matrix(m: list[list[float]]) -> Numbers:
    (a, d, e), (f, b, g), (h, k, c) = m
    own = (1 + a - b - c, 1 - a + b - c, 1 - a - b + c, 1 + a + b + c)
    best = own.index(max(own)) if all(x == x for x in own) else 3
    q = (
        (own[0], f + d, h + e, k - g),
        (f + d, own[1], k + g, e - h),
        (h + e, k + g, own[2], f - d),
        (k - g, e - h, f - d, own[3]),
    )[best]
    length = math.sqrt(sum(x * x for x in q)) or math.nan
    length = -length if q[3] < 0.0 else length
    return q[0] / length, q[1] / length, q[2] / length, q[3] / length


def _plain_from_columns(a: float, b: float, c: float, d: float, e: float, f: float) -> Numbers:
    length = math.sqrt(a * a + b * b + c * c) or math.nan
    a, b, c = a / length, b / length, c / length
    along = a * d + b * e + c * f
    d, e, f = d - along * a, e - along * b, f - along * c
    length = math.sqrt(d * d + e * e + f * f) or math.nan
    d, e, f = d / length, e / length, f / length
    return _plain_of_matrix([[a, d, b * f - c * e], [b, e, c * d - a * f], [c, f, a * e - b * d]])


# ---- ways to write a rotation


@dataclass(frozen=True)
class Writing:
    """One way to write a rotation as numbers."""

    names: tuple[str, ...]  # of the numbers, after the pose's name and a point
    unit: str
    reach: float  # each number is within -reach .. reach
    encode: Callable[[np.ndarray], np.ndarray]  # unit quaternion [..., 4] -> numbers [..., N]
    decode: Callable[[np.ndarray], np.ndarray]  # the inverse, of numbers that are nearly a rotation, too
    nearest: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = (
        None  # [..., N] written as near to another as can be
    )

    @property
    def identity(self) -> np.ndarray:
        """No rotation, [N]."""
        return self.encode(IDENTITY)


def _from_columns(numbers: np.ndarray) -> np.ndarray:
    """Two columns of a matrix that are nearly at right angles -> quaternion (Gram-Schmidt: the first counts more)."""
    if numbers.ndim == 1:
        return np.array(_plain_from_columns(*numbers.tolist()))
    with np.errstate(invalid="ignore", divide="ignore"):
        first = numbers[..., :3] / size(numbers[..., :3])
        rest = numbers[..., 3:] - np.sum(first * numbers[..., 3:], axis=-1, keepdims=True) * first
        second = rest / size(rest)
    return of_matrix(np.stack([first, second, cross(first, second)], axis=-1))


def _columns(q: np.ndarray) -> np.ndarray:
    m = matrix(q)
    return np.concatenate([m[..., :, 0], m[..., :, 1]], axis=-1)


def _rows(q: np.ndarray) -> np.ndarray:
    return _columns(inverse(q))


def _from_rows(numbers: np.ndarray) -> np.ndarray:
    return inverse(_from_columns(numbers))


def _upper_half(q: np.ndarray) -> np.ndarray:
    return np.asarray(np.where(q[..., 3:] < 0.0, -q, q))


def _sign_near(q: np.ndarray, near: np.ndarray) -> np.ndarray:
    return np.asarray(np.where(np.sum(q * near, axis=-1, keepdims=True) < 0.0, -q, q))


def _euler(order: str) -> Writing:
    """Three turns one after the other: about the frame's fixed axes in this order (xyz: ROS's roll, pitch, yaw), or
    about the moving ones, where the order is in capitals."""
    moving = order.isupper()
    axes = [AXES.index(axis) for axis in (order.lower() if moving else order[::-1])]
    i, j, k = axes
    sign = 1.0 if (j - i) % 3 == 1 else -1.0

    def decode(numbers: np.ndarray) -> np.ndarray:
        angles = numbers if moving else numbers[..., ::-1]
        turns = np.eye(3)[axes] * angles[..., :, None]  # [..., 3 turns, 3]
        first, second, third = (exp(turns[..., n, :]) for n in range(3))
        return product(product(first, second), third)

    def encode(q: np.ndarray) -> np.ndarray:
        m = matrix(q)
        middle = np.arcsin(np.clip(sign * m[..., i, k], -1.0, 1.0))
        level = ~(np.hypot(m[..., i, i], m[..., i, j]) <= LEVEL)  # and what is NaN stays so
        first = np.arctan2(-sign * m[..., j, k], m[..., k, k])
        first = np.where(level, first, np.arctan2(sign * m[..., k, j], m[..., j, j]))
        third = np.where(level, np.arctan2(-sign * m[..., i, j], m[..., i, i]), 0.0)
        angles = np.stack([first, middle, third], axis=-1)
        return angles if moving else angles[..., ::-1]

    def near(numbers: np.ndarray, other: np.ndarray) -> np.ndarray:
        flipped = numbers * np.array([1.0, -1.0, 1.0]) + np.pi
        one, two = (x - TURN * np.round((x - other) / TURN) for x in (numbers, flipped))
        closer = np.sum((two - other) ** 2, axis=-1, keepdims=True) < np.sum((one - other) ** 2, axis=-1, keepdims=True)
        return np.asarray(np.where(closer, two, one))

    return Writing(tuple(f"e{axis}" for axis in order.lower()), "rad", TURN, encode, decode, near)


WRITINGS: dict[str, Writing] = {
    "rot6d": Writing(tuple(f"r{n}" for n in range(1, 7)), "normalized", 1.0, _columns, _from_columns),
    "rot6d_rows": Writing(tuple(f"r{n}" for n in range(1, 7)), "normalized", 1.0, _rows, _from_rows),
    "axis_angle": Writing(("rx", "ry", "rz"), "rad", TURN, log, exp, same_turn_near),
    "quaternion": Writing(("qx", "qy", "qz", "qw"), "normalized", 1.0, _upper_half, normalized, _sign_near),
    **{
        f"euler_{order}": _euler(order)
        for small in map("".join, permutations(AXES))
        for order in (small, small.upper())
    },
}
