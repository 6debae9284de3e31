"""Where a request's time went between two machines: the offset of their clocks and the delays of both ways.

As NTP does it (RFC 5905): a question leaves at t0 and its answer comes back at t3 by the robot's clock, the server took
it at t1 and answered at t2 by its own. The exchange that was on its way for the shortest time says the offset best.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

WINDOW = 64  # exchanges that are remembered


@dataclass(frozen=True)
class Exchange:
    """The four stamps of a question and its answer, ns of each side's clock of the day."""

    sent: int
    received: int  # by the server
    answered: int  # by the server
    back: int

    @property
    def travel_ns(self) -> int:
        """Both ways together, whatever the clocks say."""
        return (self.back - self.sent) - (self.answered - self.received)

    @property
    def offset_ns(self) -> float:
        """Server's clock minus robot's, if both ways took equally long; wrong by half their difference."""
        return ((self.received - self.sent) + (self.answered - self.back)) / 2


@dataclass(frozen=True)
class Delays:
    """What the last exchanges say; NaN before the first."""

    offset_ms: float = math.nan  # server's clock minus the robot's
    offset_error_ms: float = math.nan  # it is wrong by this at most
    up_ms: float = math.nan  # the last question's way
    down_ms: float = math.nan  # the last answer's way


class ClockEstimate:
    """The offset of a server's clock and the delays to and from it."""

    def __init__(self) -> None:
        self._exchanges: deque[Exchange] = deque(maxlen=WINDOW)

    def add(self, exchange: Exchange) -> Delays:
        """Take one more exchange and return what is known now."""
        self._exchanges.append(exchange)
        best = min(self._exchanges, key=lambda one: one.travel_ns)
        offset = best.offset_ns
        return Delays(
            offset_ms=offset * 1e-6,
            offset_error_ms=best.travel_ns / 2 * 1e-6,
            up_ms=(exchange.received - exchange.sent - offset) * 1e-6,
            down_ms=(exchange.back - exchange.answered + offset) * 1e-6,
        )
