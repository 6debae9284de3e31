"""Ticks on absolute deadlines: no drift, no bursts."""

from __future__ import annotations

import numpy as np

KEPT = 4096  # ticks that the percentiles look back on


class Pacer:
    """Deadlines `start + k * period` on any clock. Missed deadlines are skipped and counted, never made up for."""

    def __init__(self, period: float) -> None:
        self.period = period
        self.deadline = 0.0
        self.late_ticks = 0  # deadlines skipped
        self.ticks = 0
        self._lateness = np.zeros(KEPT)

    def start(self, now: float) -> None:
        """The next deadline is one period after `now`; also after the clock jumped."""
        self.deadline = now + self.period

    def wake(self, now: float) -> float:
        """Called at or after the deadline: returns the deadline this tick stands for and sets the next one."""
        missed = max(0, int((now - self.deadline) / self.period))
        due = self.deadline + missed * self.period
        self.late_ticks += missed
        self._lateness[self.ticks % KEPT] = now - self.deadline
        self.ticks += 1
        self.deadline = due + self.period
        return due

    def lateness(self) -> np.ndarray:
        """Time from deadline to wake-up of the newest ticks, s."""
        return self._lateness[: min(self.ticks, KEPT)].copy()

    def report(self) -> dict[str, float]:
        """Counts, and median and 99th percentile of the lateness in ms."""
        lateness = self.lateness() * 1e3 if self.ticks else np.zeros(1)
        return {
            "ticks": self.ticks,
            "late_ticks": self.late_ticks,
            "tick_p50_ms": float(np.percentile(lateness, 50)),
            "tick_p99_ms": float(np.percentile(lateness, 99)),
        }
