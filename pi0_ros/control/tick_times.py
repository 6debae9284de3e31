"""The time of the ticks: evenly spaced, although the clock that they are read from is not."""

from __future__ import annotations

import numpy as np

LAG_S = 1.0  # over which the ticks follow a clock that runs differently


class TickAxis:
    """Seconds since `origin` at each tick, one `period` after the other.

    A tick that is due every period is told the time with some jitter, and its rounding at today's dates is 0.2
    microseconds: sampled at such times a smooth path shakes. So regular ticks advance by the period and lean to the
    clock by `period / LAG_S` of the difference. Irregular ones (late, skipped, a clock that was set) take the
    clock's time.
    """

    def __init__(self, period: float) -> None:
        self.period = period
        self.origin = 0.0
        self.t = 0.0
        self._last = float("-inf")

    @property
    def last(self) -> float:
        """Time of the last tick."""
        return self._last

    def step(self, now: float) -> float:
        """Time from the last tick to `now`, s; infinite before the first."""
        return now - self._last

    def restart(self, now: float) -> None:
        """Count from `now` on, as after a jump of the clock."""
        self.origin, self.t, self._last = now, 0.0, now

    def ahead(self, ticks: int) -> np.ndarray:
        """`t` of the next regular ticks if each is told one period more, float64 [ticks]."""
        seen, i = self._last - self.origin, np.arange(1, ticks + 1)
        return seen + i * self.period - (seen - self.t) * (1.0 - self.period / LAG_S) ** i

    def skip(self, ticks: int) -> None:
        """Be behind so many of them."""
        self.t, self._last = float(self.ahead(ticks)[-1]), self._last + ticks * self.period

    def tick(self, now: float) -> bool:
        """Advance to the tick at `now`; returns whether it came one period after the last."""
        seen, expected = now - self.origin, self.t + self.period
        regular = 0.5 < self.step(now) / self.period < 1.5 and abs(seen - expected) < 2.0 * self.period
        self.t = expected + (seen - expected) * self.period / LAG_S if regular else seen
        self._last = now
        return regular
