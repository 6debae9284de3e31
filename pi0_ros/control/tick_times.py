"""The time of the ticks: evenly spaced, although the clock that they are read from is not."""

from __future__ import annotations

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

    def step(self, now: float) -> float:
        """Time from the last tick to `now`, s; infinite before the first."""
        return now - self._last

    def restart(self, now: float) -> None:
        """Count from `now` on, as after a jump of the clock."""
        self.origin, self.t, self._last = now, 0.0, now

    def tick(self, now: float) -> bool:
        """Advance to the tick at `now`; returns whether it came one period after the last."""
        seen, expected = now - self.origin, self.t + self.period
        regular = 0.5 < self.step(now) / self.period < 1.5 and abs(seen - expected) < 2.0 * self.period
        self.t = expected + (seen - expected) * self.period / LAG_S if regular else seen
        self._last = now
        return regular
