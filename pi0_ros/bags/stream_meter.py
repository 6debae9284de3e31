"""What the recorder knows of one topic while it listens: messages, losses, rate and age. No ROS in here."""

from __future__ import annotations

from collections import deque

from pi0_ros.bags.reader import header_stamp_ns

WINDOW_S = 2.0  # over which rates are measured


class StreamMeter:
    """Counts the messages of one topic; all times in seconds of one steady clock.

    `lost` counts the gaps in the publisher's sequence numbers, `unnumbered` the messages without one: with these,
    nobody can tell what was lost. `stamped`: the messages begin with a header, whose stamp tells their age.
    """

    def __init__(self, stamped: bool) -> None:
        self.received = 0
        self.lost = 0
        self.unnumbered = 0
        self.heard_s: float | None = None
        self._stamped = stamped
        self._delay_s = 0.0  # from the stamp of the last message to its receipt
        self._times: deque[float] = deque()
        self._sequence = 0  # of the last message; 0: none

    def forget_sequence(self) -> None:
        """The publisher is another one: its first number is no gap."""
        self._sequence = 0

    def hear(self, now_s: float, receive_s: float, data: bytes, sequence: int | None) -> None:
        """A message came at `now_s`, which is `receive_s` on the clock of the stamps; `sequence` None: not known."""
        self.received += 1
        self.heard_s = now_s
        stamp_s = header_stamp_ns(data) * 1e-9 if self._stamped else 0.0
        self._delay_s = receive_s - stamp_s if stamp_s else 0.0
        self._times.append(now_s)
        while self._times[0] <= now_s - WINDOW_S:
            self._times.popleft()
        if sequence is None:
            self.unnumbered += 1
        elif 0 < self._sequence < sequence:
            self.lost += sequence - self._sequence - 1
        self._sequence = sequence or 0

    def rate_hz(self, now_s: float) -> float:
        """Messages per second of the last two seconds."""
        return sum(time > now_s - WINDOW_S for time in self._times) / WINDOW_S

    def age_s(self, now_s: float) -> float | None:
        """Seconds since the last message's stamp, or since it came where it has none; None before the first."""
        return None if self.heard_s is None else now_s - self.heard_s + self._delay_s
