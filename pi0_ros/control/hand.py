"""A hand's command within its limits: lengths of velocity and acceleration of the whole pose, in m and in rad.

In plain numbers: a tick looks at few, and numpy's calls would cost more than the sums. Velocities are in the frame's
axes: of the place its difference over one period, of the rotation the shortest turn from one command to the next over
one period. Accelerations are the differences of these, so what a robot that is fed one pose per period can see.
"""

from __future__ import annotations

import math

import numpy as np

from pi0_ros.robot.rotations import plain_product
from pi0_ros.robot.space import PosePlace

Vector = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]
TOLERANCE = 1e-9  # relative; below it a difference is rounding, not a clamp
STILL = 1e-12  # m or rad
ZERO = (0.0, 0.0, 0.0)
AXIS_FRACTION = 1.0 / math.sqrt(3.0)  # of the acceleration with which each axis can brake before its wall, all at once


class Part:
    """Place or rotation: velocities whose length is limited, and whose change is."""

    def __init__(self, velocity: float, acceleration: float, period: float) -> None:
        self.fastest, self.change, self.period = velocity, acceleration * period, period
        self._reach = velocity**2 / acceleration + 2.0 * velocity * period  # more than stopping takes

    def wanted(self, behind: Vector, along: Vector) -> Vector:
        """The velocity that catches up with a target that is `behind` away and moves `along`, without overshoot."""
        size = length(behind)
        if size < STILL and along == ZERO:
            return ZERO  # sums of turns are never exact: a hand at its goal stands
        speed = stopping_speed(min(size, self._reach), self.change, self.period) / size if size > 0.0 else 0.0
        return add(along, scaled(behind, speed))

    def limited(self, velocity: Vector) -> Vector:
        """`velocity`, not longer than is allowed."""
        size = length(velocity)
        return scaled(velocity, self.fastest / size) if size > self.fastest else velocity

    def taken(self, before: Vector, wanted: Vector, ends: tuple[Vector, Vector] | None = None) -> Vector:
        """What becomes of a `wanted` velocity behind `before`: within the change of one period, and each axis within
        `ends`, the fastest down and up with which it can stop before its wall."""
        stay = before
        if ends is not None:
            stay, wanted = within(before, *ends), within(wanted, *ends)
        if length(less(wanted, before)) <= self.change:
            return wanted
        # From `stay`, which a brake before the walls reaches in time, as far towards the wanted one as can be.
        gap, way = less(stay, before), less(wanted, stay)
        square, along = dot(way, way), dot(gap, way)
        left = max(self.change**2 - dot(gap, gap), 0.0)
        if square == 0.0:
            return stay
        part = (math.sqrt(along**2 + square * left) - along) / square
        return add(stay, scaled(way, min(max(part, 0.0), 1.0)))


class Hand:
    """One pose of a limiter's vector. Where it is, how it moves and what it is told are [J] of that vector."""

    def __init__(
        self,
        pose: PosePlace,
        lower: np.ndarray,
        upper: np.ndarray,
        velocity: np.ndarray,
        acceleration: np.ndarray,
        period: float,
    ) -> None:
        self.pose, self._period = pose, period
        at, turn = pose.at, pose.angular.start
        self._place = Part(float(velocity[at]), float(acceleration[at]), period)
        self._turn = Part(float(velocity[turn]), float(acceleration[turn]), period)
        self._lower, self._upper = (_vector(ends[pose.linear]) for ends in (lower, upper))
        self._wall = Part(self._place.fastest, float(acceleration[at]) * AXIS_FRACTION, period)
        self._q: Quaternion = (0.0, 0.0, 0.0, 1.0)
        self.excess = (False, False, False)  # what hindered the last command: position, velocity, acceleration

    def start(self, position: np.ndarray) -> None:
        """Be at `position`."""
        self._q = self.quaternion(position)

    def quaternion(self, position: np.ndarray) -> Quaternion:
        """The rotation in `position`."""
        return _quaternion(self.pose.writing.decode(position[self.pose.written]))

    def quaternions(self, positions: np.ndarray) -> list[Quaternion]:
        """The rotations of `positions` [N, J]."""
        return [_quaternion(q) for q in self.pose.writing.decode(positions[:, self.pose.written])]

    def step(
        self, at: Vector, moving: Vector, turning: Vector, place: Vector, turn: Quaternion, along: Vector, about: Vector
    ) -> tuple[Vector, Vector, Vector]:
        """From `at`, `moving` and `turning`, one period towards a target at `place` and `turn` by then that moves
        `along` and turns `about`: the next place and velocities. The rotation is kept."""
        period = self._period
        goal = within(place, self._lower, self._upper)
        along, about = self._place.limited(along), self._turn.limited(about)
        wanted = self._place.wanted(less(less(goal, at), scaled(along, period)), along)
        wanted_turn = self._turn.wanted(less(turn_between(self._q, turn), scaled(about, period)), about)
        allowed, allowed_turn = self._place.limited(wanted), self._turn.limited(wanted_turn)
        found = self._advance(at, moving, turning, allowed, allowed_turn)
        self.excess = (
            goal != place,
            _apart(wanted, allowed, self._place) or _apart(wanted_turn, allowed_turn, self._turn),
            _apart(found[1], allowed, self._place) or _apart(found[2], allowed_turn, self._turn),
        )
        return found

    def slow(self, at: Vector, moving: Vector, turning: Vector, kept: float) -> tuple[Vector, Vector, Vector]:
        """One period in which only the fraction `kept` of the velocities stays."""
        return self._advance(at, moving, turning, scaled(moving, kept), scaled(turning, kept))

    def _advance(
        self, at: Vector, moving: Vector, turning: Vector, wanted: Vector, wanted_turn: Vector
    ) -> tuple[Vector, Vector, Vector]:
        (down, up), stopping = (less(at, self._lower), less(self._upper, at)), self._stopping
        slowest = -stopping(down[0]), -stopping(down[1]), -stopping(down[2])
        taken = self._place.taken(moving, wanted, (slowest, (stopping(up[0]), stopping(up[1]), stopping(up[2]))))
        taken_turn = self._turn.taken(turning, wanted_turn)
        moved = add(at, scaled(taken, self._period))
        lowest, highest = _least(self._lower, at), _most(self._upper, at)
        if taken_turn != ZERO:  # a hand that stands keeps its very numbers
            self._q = turned(self._q, scaled(taken_turn, self._period))
        return within(moved, lowest, highest), taken, taken_turn

    def _stopping(self, room: float) -> float:
        wall = self._wall
        return stopping_speed(min(max(room, 0.0), wall._reach), wall.change, self._period)

    # --- between the limiter's arrays and plain numbers

    def read(self, position: np.ndarray, velocity: np.ndarray) -> tuple[Vector, Vector, Vector]:
        """Place, velocity and turn's velocity in vectors [J]."""
        pose = self.pose
        return _vector(position[pose.linear]), _vector(velocity[pose.linear]), _vector(velocity[pose.angular])

    def write(
        self,
        found: tuple[Vector, Vector, Vector],
        before: tuple[Vector, Vector, Vector],
        near: np.ndarray,
        position: np.ndarray,
        velocity: np.ndarray,
        acceleration: np.ndarray,
    ) -> None:
        """Put what was `found`, behind the velocities `before`, into vectors [J]; the rotation named as in `near`."""
        pose, (place, moving, turning) = self.pose, found
        position[pose.linear] = place
        position[pose.written] = self.written(near) if turning != ZERO else near[pose.written]
        for whole, ways in ((velocity, (moving, turning)), (acceleration, self._changes(found, before))):
            whole[pose.whole] = 0.0
            whole[pose.linear], whole[pose.angular] = ways

    def written(self, near: np.ndarray) -> np.ndarray:
        """The numbers of the rotation, named as near to those in `near` [J] as can be."""
        numbers, nearest = self.pose.writing.encode(np.array(self._q)), self.pose.writing.nearest
        return numbers if nearest is None else nearest(numbers, near[self.pose.written])

    @property
    def rotation(self) -> Quaternion:
        """Of the last command."""
        return self._q

    def _changes(
        self, found: tuple[Vector, Vector, Vector], before: tuple[Vector, Vector, Vector]
    ) -> tuple[Vector, Vector]:
        one, other = (scaled(less(found[n], before[n]), 1.0 / self._period) for n in (1, 2))
        return one, other


def stopping_speed(distance: float, change: float, period: float) -> float:
    """`limits.speed_to_stop_within` for one number."""
    steps = math.floor((math.sqrt(distance * 8.0 / (change * period) + 1.0) - 1.0) * 0.5)
    return steps * 0.5 * change + distance / (period * (steps + 1.0))


def turn_between(start: Quaternion, end: Quaternion) -> Vector:
    """The shortest turn from `start` to `end`, as `rotations.between`."""
    x, y, z, w = plain_product(*end, -start[0], -start[1], -start[2], start[3])
    size = math.sqrt(x * x + y * y + z * z)
    factor = 2.0 * math.atan2(size, abs(w)) / size if size > 1e-8 else 2.0
    factor = -factor if w < 0.0 else factor
    return x * factor, y * factor, z * factor


def turned(q: Quaternion, turn: Vector) -> Quaternion:
    """`q` and then a turn, as `rotations.turned`; of length 1 again."""
    angle = length(turn)
    factor = math.sin(angle / 2.0) / angle if angle > 1e-8 else 0.5
    x, y, z, w = plain_product(turn[0] * factor, turn[1] * factor, turn[2] * factor, math.cos(angle / 2.0), *q)
    size = math.sqrt(x * x + y * y + z * z + w * w)
    return x / size, y / size, z / size, w / size


def add(a: Vector, b: Vector) -> Vector:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def less(a: Vector, b: Vector) -> Vector:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def scaled(a: Vector, by: float) -> Vector:
    return a[0] * by, a[1] * by, a[2] * by


def dot(a: Vector, b: Vector) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def length(a: Vector) -> float:
    return math.sqrt(dot(a, a))


def within(a: Vector, lower: Vector, upper: Vector) -> Vector:
    """Each number within its ends."""
    return (
        min(max(a[0], lower[0]), upper[0]),
        min(max(a[1], lower[1]), upper[1]),
        min(max(a[2], lower[2]), upper[2]),
    )


def _least(a: Vector, b: Vector) -> Vector:
    return min(a[0], b[0]), min(a[1], b[1]), min(a[2], b[2])


def _most(a: Vector, b: Vector) -> Vector:
    return max(a[0], b[0]), max(a[1], b[1]), max(a[2], b[2])


def _apart(one: Vector, other: Vector, part: Part) -> bool:
    return length(less(one, other)) > TOLERANCE * part.fastest


def _vector(numbers: np.ndarray) -> Vector:
    x, y, z = numbers.tolist()
    return x, y, z


def _quaternion(numbers: np.ndarray) -> Quaternion:
    x, y, z, w = numbers.tolist()
    return x, y, z, w
