"""How fast to execute where nobody set it: as recorded, and slower where chunks come later than was trained for.

A policy trained to continue a prefix knows prefixes of up to so many actions. Where more pass until its chunk takes
over, the rest of them is kept from it, and it plans from where the robot will not be. Played slower, fewer actions pass
in the same time.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

LATE = 1.0  # of the trained delay: where more actions pass it is slowed down
AIM = 0.75  # of the trained delay: so many may pass then
EASY = 0.85  # of the trained delay: where no more pass at full speed it is at full speed again
SLOWEST_ALONE = 0.4  # no slower by itself
STEP = 0.05  # of the speeds chosen
FASTER = 0.1  # a smaller gain is not worth a change
OUTLIERS = 2  # of the remembered delays, which change nothing
MEMORY = 20  # delays
QUEUE = 10  # delays that a prefix reckons with (as in the paper, arXiv 2506.07339)


class DelayEstimate:
    """The last delays from an observation to the first command that followed its chunk, ns."""

    def __init__(self, length: int = QUEUE) -> None:
        self._length = length
        self._delays: deque[int] = deque(maxlen=max(MEMORY, length))
        self._warm = False

    def add(self, delay: int) -> None:
        """Remember a delay. The very first (loading, connecting) counts only until there is another."""
        if not self._warm and self._delays:
            self._delays.clear()
            self._warm = True
        self._delays.append(delay)

    def correct(self, delay: int) -> None:
        """The last delay was this long."""
        self._delays[-1] = delay

    @property
    def longest(self) -> int | None:
        """Of the last few; None before the first."""
        return max(list(self._delays)[-self._length :], default=None)

    @property
    def usual(self) -> int | None:
        """The longest of all remembered but for a few outliers; None before there are more than those."""
        return sorted(self._delays)[-1 - OUTLIERS] if len(self._delays) > OUTLIERS else None


class Slowing:
    """Chooses the speed for each inference. `trained` says how many given actions the policy was trained to continue,
    0: it was not, and is never slowed."""

    def __init__(self, trained: Callable[[], int] = lambda: 0) -> None:
        self.delays = DelayEstimate()
        self.reason = ""  # why it is slower than recorded
        self._trained, self._speed = trained, 1.0

    def choose(self, dt_ns: int) -> float:
        """The speed from now on, 1: as recorded, for a model whose actions are `dt_ns` apart then; 0: not known yet."""
        trained, delay_ns = self._trained(), self.delays.usual
        if not trained:
            self._speed, self.reason = 1.0, ""
        elif delay_ns is not None and dt_ns > 0:
            self._adapt(trained, delay_ns, delay_ns / dt_ns)
        return self._speed

    def _adapt(self, trained: int, delay_ns: int, passing: float) -> None:
        """`passing` actions pass at full speed."""
        slow = math.floor(AIM * trained / max(passing, 1e-9) / STEP + 1e-6) * STEP
        target = round(min(1.0, max(SLOWEST_ALONE, slow)), 2)
        if passing <= EASY * trained:
            self._speed = 1.0
        elif passing * self._speed > LATE * trained or target >= self._speed + FASTER - 1e-9:
            self._speed = target
        self.reason = ""
        if self._speed < 1.0:
            self.reason = (
                f"slowed to {self._speed:g} of the recorded speed: a chunk takes over {1e-6 * delay_ns:.0f} ms after "
                f"its observation, {passing:.1f} actions at full speed, and the policy was trained for {trained}"
            )
