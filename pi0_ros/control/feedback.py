"""What the robot says about its joints: how old it is, and whether the robot is at rest."""

from __future__ import annotations

from collections import deque

import numpy as np

from pi0_ros.control.limits import JointLimits

FUTURE_S = 0.1  # a stamp further ahead of the clock than this belongs to another clock
REST_WINDOW_S = 0.1  # motion is measured over at least this long
MOMENTS = 512  # are remembered at most to tell whether the robot rests
REST_FRACTION = 0.05  # at rest: slower than this fraction of the velocity limit
BACK_S = 1.0  # a joint state older than the one before by less than this was overtaken; by more: another clock


class Feedback:
    """The newest measured position of each joint, from one or several joint state topics. Times in s of one clock.

    Of a speed that nobody measures it is zero, and never old. What is only seen, a hand's arm, is `beside`: it must be
    fresh and at rest like the others.

    Continuous joints go on without jumps, however their driver counts them, and rotations by the nearest name: `near`
    is the last command or, where nothing is commanded, the last measurement.
    """

    def __init__(self, limits: JointLimits, max_age: np.ndarray, beside: Feedback | None = None) -> None:
        self.limits, self.beside = limits, beside
        self.max_age = np.asarray(max_age, dtype=np.float64)  # [J] s
        slowest = np.max(self.max_age, where=np.isfinite(self.max_age), initial=0.0)
        self._remembered = max(4 * REST_WINDOW_S, slowest + 2 * REST_WINDOW_S)  # s: a slow joint must show twice
        joints = len(limits.names)
        self.near = np.full(joints, np.nan)  # [J] continuous joints are counted within half a turn of this
        self.turned = np.zeros(joints)  # [J] whole turns, rad: what their driver says is further on by so much
        self._named = not limits.space.plain
        self.clear()

    def clear(self) -> None:
        """Forget everything, as after a jump of the clock."""
        measured = self.limits.measured
        self.position = np.where(measured, np.nan, 0.0)
        self.stamp = np.where(measured, -np.inf, np.inf)
        self._fresh_from, self._fresh_until = (np.inf, -np.inf) if measured.any() else (-np.inf, np.inf)
        if self.beside is not None:
            self.beside.clear()
        self._history: deque[tuple[float, np.ndarray, np.ndarray]] = deque()  # stamp, each joint's, its position

    def never_stale(self) -> Feedback:
        """A copy that counts what was measured as fresh for ever."""
        joints = np.flatnonzero(self.limits.measured)
        copied = Feedback(self.limits, np.full(len(self.max_age), np.inf))
        if len(joints):
            copied.measure(float(self.stamp[joints].max()), joints, self.position[joints])
        return copied

    def measure(self, stamp: float, joints: np.ndarray, position: np.ndarray) -> bool:
        """Take the positions of `joints` (indices) captured at `stamp`.

        False for NaN or infinity, as good as nothing, and for one that was overtaken by a newer one.
        """
        if not np.isfinite(position).all() or -BACK_S < stamp - self.stamp[joints].max() < 0:
            return False
        if self._named:
            space = self.limits.space.at(joints)
            named = space.nearest(position, self.near[joints])
            self.turned[joints] = np.where(space.turning, position - named, 0.0)
            self.near[joints] = position = named
        self.position[joints] = position
        self.stamp[joints] = stamp
        self._fresh_from = self.stamp[self.limits.measured].max() - FUTURE_S
        self._fresh_until = (self.stamp + self.max_age).min()
        while self._history and not stamp - self._remembered <= self._history[0][0] <= stamp:
            self._history.popleft()
        if self._history and stamp - self._history[-1][0] < self._remembered / MOMENTS:
            return True
        self._history.append((stamp, self.stamp.copy(), self.position.copy()))
        return True

    def age(self, now: float) -> float:
        """Age of the oldest joint's measurement, s; infinite where one was never measured."""
        beside = self.beside.age(now) if self.beside is not None else -np.inf
        return max(float(now - self.stamp.min()), beside)

    def heard_since(self, time: float) -> bool:
        """Whether every joint has been measured after this time."""
        beside = self.beside is None or self.beside.heard_since(time)
        return beside and bool((self.stamp > time).all())

    def stale(self, now: float) -> list[str]:
        """Sentences about joints whose state is missing, too old or from the future; empty when all is well."""
        problems = self.beside.stale(now) if self.beside is not None else []
        if self._fresh_from <= now <= self._fresh_until:
            return problems
        age = np.where(self.limits.measured, now - self.stamp, 0.0)
        names = np.array(self.limits.names)
        never, future = np.isinf(age), age < -FUTURE_S
        old = (age > self.max_age) & ~never
        if never.any():
            problems.append("no joint state for " + ", ".join(names[never]))
        if old.any():
            worst = int(np.argmax(np.where(old, age - self.max_age, -np.inf)))
            problems.append(
                f"joint state of {', '.join(names[old])} is {age[worst]:.2f} s old (limit {self.max_age[worst]:.2f} s)"
            )
        if future.any():
            problems.append(f"joint state of {', '.join(names[future])} is stamped {-age.min():.2f} s in the future")
        return problems

    def not_ready(self, now: float) -> list[str]:
        """Reasons not to arm: stale, moving, or outside the position limits."""
        problems = self.stale(now)
        if problems:
            return problems
        names, limits = self.limits.names, self.limits
        if self.beside is not None:
            problems = self.beside.not_ready(now)
        for j in np.flatnonzero(
            (self.position < limits.lower - limits.outside) | (self.position > limits.upper + limits.outside)
        ):
            allowed = f"[{limits.lower[j]:.4g}, {limits.upper[j]:.4g}]"
            problems.append(
                f"{names[j]} is at {self.position[j]:.4g}, outside its limits {allowed} by more than "
                f"{limits.outside[j]:.3g}: move it inside by hand, or widen its limits.position or limits.outside in "
                "the robot file"
            )
        return [*problems, *self._moving()]

    def not_at_rest(self) -> list[str]:
        """Sentences about joints that move, or of which too little is known yet; empty where all rest."""
        return [*(self.beside.not_at_rest() if self.beside is not None else []), *self._moving()]

    def _moving(self) -> list[str]:
        """The same of its own joints."""
        if not (measured := self.limits.measured).any():
            return []
        ever = np.full(len(measured), np.inf)
        lasted = [  # each joint's own: topics may be slow
            np.subtract(self.stamp, stamps, out=ever.copy(), where=measured) for _, stamps, _ in self._history
        ]
        since = [i for i, passed in enumerate(lasted) if (passed >= REST_WINDOW_S).all()]
        if not since or np.isnan(old := self._history[since[-1]][2]).any():
            return [f"joint states have come for less than {REST_WINDOW_S} s, call again"]
        limits, space = self.limits, self.limits.space
        speed = space.sizes(space.way(old, self.position)) / lasted[since[-1]]
        speed = np.where(limits.speed, np.abs(self.position), speed)
        most = np.where(limits.speed, np.maximum(-limits.lower, limits.upper), limits.velocity)
        moving = np.flatnonzero((speed > REST_FRACTION * most) & limits.spoken)
        names, units = limits.labels, np.where(limits.speed, "", " per s")
        return [f"{names[j]} is not at rest, it moves at {speed[j]:.3g}{units[j]}" for j in moving]

    def forget_motion(self) -> None:
        """Whether the robot is at rest is to be found out anew."""
        self._history.clear()
        if self.beside is not None:
            self.beside.forget_motion()
