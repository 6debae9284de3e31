"""Where the numbers of a robot's vector live: on lines, on circles (`kind: continuous`), and poses among them.

Differences, sums and middles that are right on all three. Of joints on a line they are numpy's own. Two kinds of
difference: of *numbers*, each taken by the name nearest to the other (`short_way`: what data and plots compare), and of
*places*, a way (`way`: what motion is made of). A way has the vector's length; of a pose it holds the distance in the
frame's axes, m, then the turn about them, rad, then zeros where the rotation is written with more numbers than three.
Shapes: J entries of the vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pi0_ros.robot import rotations
from pi0_ros.robot.rotations import WRITINGS, Writing
from pi0_ros.robot.turning import unwrapped, whole_turns

if TYPE_CHECKING:
    from pi0_ros.robot.types import Joint


@dataclass(frozen=True)
class PosePlace:
    """Where a pose stands in the vector: x, y, z from `at` on, then its rotation."""

    at: int
    rotation: str  # one of WRITINGS

    @property
    def writing(self) -> Writing:
        return WRITINGS[self.rotation]

    @cached_property
    def linear(self) -> slice:
        """x, y, z."""
        return slice(self.at, self.at + 3)

    @cached_property
    def written(self) -> slice:
        """The numbers of the rotation."""
        return slice(self.at + 3, self.at + 3 + len(self.writing.names))

    @cached_property
    def angular(self) -> slice:
        """In a way: the turn."""
        return slice(self.at + 3, self.at + 6)

    @cached_property
    def whole(self) -> slice:
        """All of it."""
        return slice(self.at, self.written.stop)


@dataclass(frozen=True, eq=False)
class Space:
    """The vector of `len(turning)` entries."""

    turning: np.ndarray  # bool [J]: turn without end, rad
    poses: tuple[PosePlace, ...] = field(default=())

    @staticmethod
    def lines(entries: int) -> Space:
        """No circles and no poses."""
        return Space(np.zeros(entries, bool))

    @property
    def plain(self) -> bool:
        """Whether every number has one name."""
        return not self.poses and not self.turning.any()

    def at(self, entries: np.ndarray) -> Space:
        """The space of some entries (intp [K]) alone: a pose that is not whole among them is numbers like others."""
        found = []
        for pose in self.poses:
            wanted = np.arange(pose.whole.start, pose.whole.stop)
            for start in np.flatnonzero(entries == wanted[0]):
                if np.array_equal(entries[start : start + len(wanted)], wanted):
                    found.append(PosePlace(int(start), pose.rotation))
        return Space(self.turning[entries], tuple(found))

    # --- names of the same place

    def nearest(self, values: np.ndarray, near: np.ndarray) -> np.ndarray:
        """`values` [..., J] by the names nearest to those `near` [..., J]; as they are where that is NaN."""
        if self.plain:
            return values
        found = np.asarray(values - whole_turns(values - near, self.turning))
        for pose in self.poses:
            if pose.writing.nearest is not None:
                own, other = found[..., pose.written], np.broadcast_to(near, found.shape)[..., pose.written]
                named = pose.writing.nearest(own, other)
                found[..., pose.written] = np.where(np.isfinite(named), named, own)
        return found

    def short_way(self, values: np.ndarray, others: np.ndarray) -> np.ndarray:
        """`values` - `others`, [..., J], each number by the name nearest to the other's."""
        return np.asarray(self.nearest(values, others) - others)

    def unwrapped(self, values: np.ndarray, origin: np.ndarray | None = None) -> np.ndarray:
        """Sequences [..., H, J] without jumps from name to name, from `origin` [..., J] on (None: from their first).

        Float64. What is NaN stays so, and what follows goes on from the last value that is known.
        """
        found = unwrapped(values, self.turning, origin)
        for pose in self.poses:
            near = pose.writing.nearest
            if near is None:
                continue
            found = np.array(found) if found is values or not found.flags.writeable else found
            rows = found[..., pose.written]
            last = rows[..., 0, :] if origin is None else np.asarray(origin, np.float64)[..., pose.written]
            for step in range(rows.shape[-2]):
                own = rows[..., step, :]
                named = near(own, last)
                rows[..., step, :] = np.where(np.isfinite(named), named, own)
                last = np.where(np.isfinite(rows[..., step, :]), rows[..., step, :], last)
        return found

    def whole(self, values: np.ndarray) -> np.ndarray:
        """`values` [..., J] with their rotations made whole, as near to how they are written as can be: what a model
        or a mean puts out is nearly one. NaN where it is none at all."""
        if not self.poses:
            return values
        found = np.array(values, np.float64)
        for pose in self.poses:
            self.write(found, pose, pose.writing.decode(found[..., pose.written]), found)
        return found

    # --- ways

    def way(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """The way [..., J] from `start` to `end`; of joints that turn, the difference of numbers, turns and all."""
        found = end - start
        for pose in self.poses:
            decode, here, there = pose.writing.decode, start[..., pose.written], end[..., pose.written]
            turn = rotations.between(decode(here), decode(there))
            turn = np.where((here == there).all(axis=-1, keepdims=True), 0.0, turn)  # what stands, stands exactly
            found[..., pose.written] = 0.0
            found[..., pose.angular] = turn
        return np.asarray(found)

    def moved(self, start: np.ndarray, way: np.ndarray) -> np.ndarray:
        """Where a `way` [..., J] leads from `start`, named as near to it as can be."""
        found = np.asarray(start + way)
        for pose in self.poses:
            q = rotations.turned(pose.writing.decode(start[..., pose.written]), way[..., pose.angular])
            self.write(found, pose, q, start)
        return found

    def carried(self, way: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        """How fast goes what stays a constant `way` [J] from a place that moves with this velocity [J]: a pose's turn
        turns its speed, too."""
        found = velocity
        for pose in self.poses:
            found = found.copy() if found is velocity else found
            found[pose.angular] = rotations.rotated(rotations.exp(way[pose.angular]), velocity[pose.angular])
        return found

    def partly(self, start: np.ndarray, end: np.ndarray, part: np.ndarray) -> np.ndarray:
        """`part` [..., 1] (0 .. 1) of the way from `start` to `end` [..., J]: lines, and slerp."""
        return self.moved(start, part * self.way(start, end))

    def interpolated(self, asked: np.ndarray, known: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Rows [N, J] of the times `known` [N], rising, at the times `asked` [K]: [K, J], held outside."""
        found = np.column_stack([np.interp(asked, known, column) for column in values.T])
        if self.poses and len(known) > 1:
            right = np.clip(np.searchsorted(known, asked), 1, len(known) - 1)
            gap = known[right] - known[right - 1]
            part = np.clip((asked - known[right - 1]) / gap, 0.0, 1.0)[:, None]
            found[:, self.posed] = self.partly(values[right - 1], values[right], part)[:, self.posed]
        return found

    def write(self, values: np.ndarray, pose: PosePlace, q: np.ndarray, near: np.ndarray) -> None:
        """Put the rotation `q` [..., 4] of a pose into `values` [..., J], named as near to that in `near` as can be."""
        numbers, named = pose.writing.encode(q), pose.writing.nearest
        values[..., pose.written] = numbers if named is None else named(numbers, near[..., pose.written])

    def sizes(self, way: np.ndarray) -> np.ndarray:
        """How long a way, a velocity or an acceleration [..., J] is in each entry; in all entries of a pose's position
        the length of that part, and in all of its rotation the angle: what is measured by limits of poses."""
        found = np.abs(way)
        for pose in self.poses:
            found[..., pose.linear] = rotations.size(way[..., pose.linear])
            found[..., pose.written] = rotations.size(way[..., pose.angular])
        return np.asarray(found)

    @cached_property
    def axes(self) -> np.ndarray:
        """Where ways may be other than zero, bool [J]."""
        found = np.ones(len(self.turning), bool)
        for pose in self.poses:
            found[pose.angular.stop : pose.written.stop] = False
        return found

    @cached_property
    def posed(self) -> np.ndarray:
        """The entries of poses, bool [J]."""
        found = np.zeros(len(self.turning), bool)
        for pose in self.poses:
            found[pose.whole] = True
        return found

    @cached_property
    def written(self) -> np.ndarray:
        """The entries that write rotations, bool [J]."""
        found = np.zeros(len(self.turning), bool)
        for pose in self.poses:
            found[pose.written] = True
        return found


def space_of(joints: Sequence[Joint]) -> Space:
    """The space of these entries of a robot's vector."""
    poses, at = [], 0
    while at < len(joints):
        pose = joints[at].pose
        names = () if pose is None else pose.entries
        if pose is not None and tuple(joint.name for joint in joints[at : at + len(names)]) == names:
            poses.append(PosePlace(at, pose.rotation))
            at += len(names)
        else:
            at += 1
    return Space(np.array([joint.continuous for joint in joints], bool), tuple(poses))
