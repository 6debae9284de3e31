"""Joint states that cannot be true: one judgement, for the policy that looks at them and the controller that drives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pi0_ros.robot.space import Space

FACTOR = 4.0  # nothing moves faster than this many times its velocity limit, which may be half of what the robot can do
SOONEST_S = 0.02  # two stamps nearer than this say little about a speed
NOISE_FRACTION = 0.02  # of a joint's range that a sensor may jump by
REACH_RANGES = 1.0  # nor is it further outside its limits than this many of its ranges
BACK_S = 1.0  # a stamp further back than this belongs to another clock; one less far back was overtaken
TURN = 2.0 * np.pi  # a joint without position limits comes round again


class Plausibility:
    """Watches the measured positions of joints in any unit. Arrays are float64 [J], stamps are s of one clock."""

    def __init__(
        self,
        names: Sequence[str],
        lower: np.ndarray,
        upper: np.ndarray,
        velocity: np.ndarray,
        space: Space | None = None,
    ) -> None:
        """`space`: of the positions; None: lines."""
        self._names = tuple(names)
        self._space = space or Space.lines(len(self._names))
        self._lower, self._upper = np.asarray(lower, np.float64), np.asarray(upper, np.float64)
        self._fastest = FACTOR * np.asarray(velocity, np.float64)
        span = self._upper - self._lower
        self._endless = ~np.isfinite(span)
        self._span = np.where(self._endless, TURN, span)
        self.clear()

    def clear(self) -> None:
        """Forget what was seen, as after a jump of the clock."""
        self._position = np.full(len(self._names), np.nan)
        self._stamp = np.full(len(self._names), -np.inf)

    def look(self, stamp: float, joints: np.ndarray, position: np.ndarray) -> str:
        """Judge the positions of `joints` (indices) at `stamp`: a sentence about what cannot be true, or ""."""
        before, passed = self._position[joints], stamp - self._stamp[joints]
        if (passed < 0).any() and (passed > -BACK_S).all():
            return ""
        self._position[joints], self._stamp[joints] = position, stamp
        way = position - before
        if self._space.poses:
            space = self._space.at(joints)
            way = np.where(space.written, space.sizes(space.way(before, position)), way)
        way = np.where(self._endless[joints], (way + TURN / 2) % TURN - TURN / 2, way)
        noise = NOISE_FRACTION * self._span[joints]
        with np.errstate(invalid="ignore"):  # never seen before: NaN, and infinitely long ago
            jumped = np.abs(way) > self._fastest[joints] * np.maximum(passed, SOONEST_S) + noise
        jumped &= passed >= 0
        far = REACH_RANGES * self._span[joints]
        gone = (position < self._lower[joints] - far) | (position > self._upper[joints] + far)
        gone &= ~self._space.written[joints]  # a rotation is nowhere outside
        if not (jumped | gone).any():
            return ""
        k = int(np.argmax(jumped | gone))
        name = self._names[joints[k]]
        if gone[k]:
            limits = f"[{self._lower[joints[k]]:.4g}, {self._upper[joints[k]]:.4g}]"
            return f"{name} is said to be at {position[k]:.4g}, far outside its limits {limits}"
        speed, limit = abs(way[k]) / max(passed[k], 1e-3), self._fastest[joints[k]] / FACTOR
        within = f"within {passed[k]:.3f} s ({speed:.3g} per s, limit {limit:.3g})"
        return f"{name} is said to have moved by {way[k]:.3g} {within}"
