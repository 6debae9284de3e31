"""Does the robot go where it is told? The distance from command to measurement, and how long it has been too large."""

from __future__ import annotations

import numpy as np

from pi0_ros.control.limits import JointLimits

LASTS_S = 0.3  # a shorter excess is an acceleration or a knock


class Tracking:
    """Watches each joint's distance from its command.

    A joint may be `limits.tracking` away; where the robot file says nothing, as far as it goes in `lag_s` at its
    velocity limit. Grippers without a limit of their own are free: fingers on an object never arrive.
    """

    def __init__(self, limits: JointLimits, lag_s: float) -> None:
        usual = np.where(limits.gripper, np.inf, limits.velocity * lag_s if lag_s > 0 else np.inf)
        self.allowed = np.where(np.isfinite(limits.tracking), limits.tracking, usual)  # float64 [J]
        self._names = limits.names
        self._away_since = np.inf
        self._distance = np.zeros(len(limits.names))

    def restart(self) -> None:
        """Forget what was: the command starts from the measurement."""
        self._away_since = np.inf

    def away(self, measured: np.ndarray, command: np.ndarray, now: float) -> str:
        """Why the robot does not follow, measured and commanded positions [J] at `now` (s); empty while it does."""
        distance = np.abs(np.subtract(measured, command, out=self._distance), out=self._distance)
        if not (distance > self.allowed).any():
            self._away_since = np.inf
            return ""
        self._away_since = min(self._away_since, now)
        if now - self._away_since < LASTS_S:
            return ""
        j = int(np.argmax(distance / self.allowed))
        return (
            f"{self._names[j]} is {distance[j]:.3g} from its command (limit {self.allowed[j]:.3g}): "
            "blocked, or is the driver not listening?"
        )
