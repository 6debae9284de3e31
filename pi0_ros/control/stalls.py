"""Whether the process stood still between two ticks. The steady clock tells, or in simulated time the simulator's."""

from __future__ import annotations

from collections import deque

import numpy as np

JUMP_S = 0.1  # a clock that steps back by more than this makes all stamps worthless
LEAP_S = 0.5  # and so does one that leaps ahead by more than this between two ticks
PERIODS = 4.5  # ticks further apart than this, and
LEAST_S = 0.03  # than this: the process stood still, and the robot with it
LATELY = 32  # ticks whose pace is that of simulated time
USUAL_GROWS = 1.1  # per tick: the usual time between two is the shortest of the last ones


class Stalls:
    """Looks at two times between ticks: the `step` of the robot's clock, which may be set or simulated, and the `gap`
    of the steady one, s.

    A gap beyond `limit_s` is a stall. It is infinite for simulated time, which may be slow: there the step tells, and
    the gap whether the clock was merely set.
    """

    def __init__(self, period: float, limit_s: float | None = None) -> None:
        self.longest_s = max(PERIODS * period, LEAST_S)  # without a tick or a command that is no stall
        self.limit_s = self.longest_s if limit_s is None else limit_s
        self._usual = np.inf  # simulated s between two ticks
        self._lately: deque[tuple[float, float]] = deque(maxlen=LATELY)  # steps and gaps of the last ones

    @property
    def simulated(self) -> bool:
        """Whether the time is a simulator's."""
        return bool(np.isinf(self.limit_s))

    @property
    def too_coarse(self) -> bool:
        """Whether simulated time goes in steps that are stalls themselves."""
        return self.simulated and bool(self.longest_s < self._usual < np.inf)

    def stalled(self, step: float, gap: float) -> bool:
        """Whether the process stood still before this tick; to be asked once at each."""
        return gap > self.limit_s or (self.simulated and self._passed_over(step, gap))

    def was_set(self, step: float, gap: float) -> bool:
        """Whether the clock was set during a stall."""
        return step < -JUMP_S or step - gap * self._pace() > LEAP_S

    def jumped(self, step: float) -> bool:
        """Whether the clock was set where no stall was."""
        return not -JUMP_S <= step <= (self.longest_s if self.simulated else LEAP_S)

    def too_late(self, step: float, gap: float) -> bool:
        """Whether a command that leaves now would follow the last one as late as after a stall."""
        if not self.simulated:
            return gap > self.limit_s
        lived = step if 0.0 <= step < LEAP_S else gap * self._pace()  # where the clock was set meanwhile
        return bool(lived > self.longest_s)

    def _passed_over(self, step: float, gap: float) -> bool:
        """Whether simulated time went on without ticks. It was merely set where the robot lived less than a stall
        meanwhile, and stood still where its clock tells so."""
        usual = PERIODS * self._usual
        lived = gap * self._pace() if step < 0.0 or step > self.longest_s else 0.0
        if 0.0 < step < LEAP_S and np.isfinite(gap):
            self._usual = min(self._usual * USUAL_GROWS, step)
            self._lately.append((step, gap))
        if step < 0.0:
            return lived > self.longest_s
        return bool(self.longest_s < step < np.inf and (lived > self.longest_s or step < min(usual, LEAP_S)))

    def _pace(self) -> float:
        """How many simulated seconds pass in a steady one, by the last ticks but those that a pause came before."""
        if not self._lately:
            return 1.0
        steps, gaps = np.array(self._lately).T
        usual = gaps <= PERIODS * np.median(gaps)
        return float(steps[usual].sum() / max(gaps[usual].sum(), 1e-9))
