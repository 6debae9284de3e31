"""Speeds whose driver may have stopped by itself: it waits for a command only so long."""

from __future__ import annotations

import numpy as np

from pi0_ros.control.limits import JointLimits

HEARS_S = 0.1  # behind a stall so long it is waited for how fast a base still goes


class DriverStops:
    """Knows from where a speed is braked behind a stall: no brake may start again what its driver has stopped."""

    def __init__(self, limits: JointLimits) -> None:
        self._waits = np.where(limits.speed, limits.driver_waits, np.inf)  # [J]
        self.doubted = np.zeros(len(limits.names), bool)  # speeds that may have been stopped since the stall
        self._until = -np.inf  # steady

    def stalled(self, gap: float, steady: float) -> None:
        """For `gap` s, until now, no command came."""
        self.doubted |= gap > self._waits
        self._until = steady + HEARS_S

    def forget(self) -> None:
        """The motion begins anew, at rest."""
        self.doubted[:] = False

    def brake_from(self, told: np.ndarray, measured: np.ndarray, heard: np.ndarray, steady: float) -> np.ndarray | None:
        """Where braking begins, float64 [J]; None: wait for how fast the base still goes.

        What was `told` last, or of a doubted speed that was `heard` of since (bool [J]) what is `measured`, as far as
        that lies between rest and what was told.
        """
        if steady < self._until and not heard[self.doubted].all():
            return None
        slowest, fastest = np.minimum(told, 0.0), np.maximum(told, 0.0)
        begin = np.where(self.doubted & heard, np.clip(measured, slowest, fastest), told)
        self.doubted[:] = False
        return begin
