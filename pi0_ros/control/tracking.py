"""Tracking errors: the distance from command to measurement, and how long it has been too large."""

from __future__ import annotations

import math

import numpy as np

from pi0_ros.control.limits import JointLimits
from pi0_ros.control.sent import SentLog

LASTS_S = 0.3  # a shorter excess is an acceleration or a knock
USUAL_LAG_S = 0.15  # where the distance is not watched
SPEED_FRACTION = 0.25  # of its greatest: a speed may be so far from its command, for wheels slip and odometry is noisy
KEPT_S = 0.5  # commands are remembered this long: a measurement is compared with what was sent at its own time


class Tracking:
    """Watches each joint's distance from its command.

    A joint may be `limits.tracking` away; where the robot file says nothing, as far as it goes in `lag_s` at its
    velocity limit, and a speed a quarter of its greatest. Grippers without a limit of their own are free: fingers on an
    object never arrive. Joint states that come late or not at all change no distance: their age is `Feedback`'s
    business. Times in s of one clock.
    """

    def __init__(self, limits: JointLimits, lag_s: float, period: float) -> None:
        usual = np.where(limits.gripper, np.inf, limits.velocity * lag_s if lag_s > 0 else np.inf)
        fastest = np.maximum(-limits.lower, limits.upper)
        usual = np.where(limits.speed, np.maximum(usual, SPEED_FRACTION * fastest), usual)
        self.allowed = np.where(np.isfinite(limits.tracking), limits.tracking, usual)  # float64 [J]
        lag = limits.velocity * (lag_s or USUAL_LAG_S)
        self.near = np.where(np.isfinite(self.allowed), self.allowed, lag)  # [J] a robot this near is at its command
        self._names, self._is_speed = limits.labels, limits.speed
        self._space = limits.space
        self._sent = SentLog(len(limits.names), math.ceil(KEPT_S / period) + 1, limits.space)
        self.restart()

    def restart(self) -> None:
        """Forget what was: the command starts from the measurement."""
        self._sent.clear()
        self._away_since = np.inf
        self._distance = np.zeros(len(self._names))

    def sent(self, t: float, position: np.ndarray) -> None:
        """`position` [J] was commanded for the time `t`."""
        self._sent.push(t, position)

    def measured(self, stamp: float, joints: np.ndarray, position: np.ndarray) -> None:
        """`joints` (indices) were at `position` when it was `stamp`."""
        if self._sent.span is not None:
            command, space = self._sent.at(np.array([stamp]))[0, joints], self._space.at(joints)
            self._distance[joints] = space.sizes(space.way(command, position))

    @property
    def is_away(self) -> bool:
        """Whether a joint is too far from its command at this moment."""
        return bool((self._distance > self.allowed).any())

    @property
    def speed_is_away(self) -> bool:
        """Whether a speed is among them."""
        return bool((self._is_speed & (self._distance > self.allowed)).any())

    def away(self, now: float) -> str:
        """Why the robot does not follow; empty while it does."""
        if not self.is_away:
            self._away_since = np.inf
            return ""
        self._away_since = min(self._away_since, now)
        if now - self._away_since < LASTS_S:
            return ""
        j = int(np.argmax(self._distance / self.allowed))
        return (
            f"{self._names[j]} is {self._distance[j]:.3g} from its command (limit {self.allowed[j]:.3g}): "
            "blocked, or is the driver not listening?"
        )
