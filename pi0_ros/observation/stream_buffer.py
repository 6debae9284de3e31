"""One stream: its samples by their stamps, and which of them holds at a time."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

T = TypeVar("T")
SECOND = 1_000_000_000  # ns
FOREVER = 2**62  # ns
RESTART_S = 1.0  # a command that holds until the next one has no age; a clock that jumps back by more has restarted
MOST_PARTS = 16  # times as many parts, while they are younger than the maximum age: a slow joint among fast ones


@dataclass
class StreamCounts:
    """What has happened to one topic since its buffer was made."""

    messages: int = 0
    receive_stamped: int = 0  # header stamp zero, receive time taken
    late: int = 0  # not newer than one that came before
    broken: int = 0  # of a video stream, with nothing to build on
    restarts: int = 0  # the clock jumped back and the buffer was emptied


class StreamBuffer(Generic[T]):
    """Samples of one stream by their stamps, for one pusher and one reader.

    `keep` bounds the number of samples (None: all of them), but whatever an `as_of` at `late_ns` before the newest can
    return stays. When a bounded buffer gets a sample that is older than its
    newest by more than `max_age_s`, the clock has jumped back (a simulator's reset, a bag in a loop): it starts again.
    With an infinite `max_age_s` a sample holds until the next one. A sample's age counts from the end of what it holds.
    Where samples are `parts` (messages that speak of some joints each) equal stamps stand side by side, and all that is
    younger than `max_age_s` is kept.
    """

    def __init__(
        self,
        max_age_s: float,
        keep: int | None = None,
        topic: str = "stream",
        what: str = "message",
        parts: bool = False,
        late_ns: int = 0,
    ) -> None:
        self.max_age_s, self.keep, self.topic, self.what, self.parts = max_age_s, keep, topic, what, parts
        self.late_ns = late_ns
        self.counts = StreamCounts()
        self._max_age_ns = FOREVER if np.isinf(max_age_s) else round(max_age_s * SECOND)
        self._restart_ns = min(self._max_age_ns, round(RESTART_S * SECOND)) if np.isinf(max_age_s) else self._max_age_ns
        self._stamps: list[int] = []
        self._ends: list[int] = []  # of what each sample holds, ns: its stamp, or where its plan ends
        self._values: list[T] = []
        self._lock = threading.Lock()

    def push(self, stamp_ns: int, value: T, lasts_ns: int = 0) -> None:
        """Add a sample that holds for `lasts_ns`; one with the same stamp is replaced, but among parts."""
        with self._lock:
            self.counts.messages += 1
            stamps, values, ends = self._stamps, self._values, self._ends
            if self.keep is not None and stamps and stamp_ns < stamps[-1] - self._restart_ns:
                self.counts.restarts += 1
                stamps.clear()
                values.clear()
                ends.clear()
            if not stamps or stamp_ns > stamps[-1]:
                stamps.append(stamp_ns)
                values.append(value)
                ends.append(stamp_ns + lasts_ns)
            elif self.parts:
                self.counts.late += stamp_ns < stamps[-1]
                at = bisect_right(stamps, stamp_ns)
                stamps.insert(at, stamp_ns)
                values.insert(at, value)
                ends.insert(at, stamp_ns + lasts_ns)
            else:
                self.counts.late += 1
                at = bisect_left(stamps, stamp_ns)
                same = stamps[at] == stamp_ns
                stamps[at : at + same] = [stamp_ns]
                values[at : at + same] = [value]
                ends[at : at + same] = [stamp_ns + lasts_ns]
            if self.keep is not None and len(stamps) > self.keep and stamps[1] <= stamps[-1] - self.late_ns:
                young = self.parts and stamps[-1] - stamps[0] <= self._max_age_ns + self.late_ns
                if not young or len(stamps) > MOST_PARTS * self.keep:
                    del stamps[0], values[0], ends[0]

    def as_of(self, t_ns: int) -> tuple[int, T] | None:
        """The newest sample not newer than `t_ns` as (stamp_ns, value); None if it is too old or missing."""
        with self._lock:
            at = bisect_right(self._stamps, t_ns) - 1
            if at < 0 or t_ns - self._ends[at] > self._max_age_ns:
                return None
            return self._stamps[at], self._values[at]

    def back_from(self, t_ns: int) -> list[tuple[int, T]]:
        """All samples not newer than `t_ns` that are not too old, the newest first."""
        with self._lock:
            first = bisect_left(self._stamps, t_ns - self._max_age_ns)
            last = bisect_right(self._stamps, t_ns)
            return list(zip(self._stamps[first:last][::-1], self._values[first:last][::-1]))

    def newest_ns(self) -> int | None:
        """Stamp of the newest sample."""
        with self._lock:
            return self._stamps[-1] if self._stamps else None

    def stamps(self) -> np.ndarray:
        """All kept stamps in rising order, int64 [N]."""
        with self._lock:
            return np.array(self._stamps, np.int64)

    def forget(self, before_ns: int) -> None:
        """Drop the samples that no `as_of` (or `back_from`, of parts) at `before_ns` or later can return.

        The newest one stays, however old: `problem` tells its age.
        """
        with self._lock:
            drop = max(0, bisect_right(self._stamps, before_ns) - 1)
            if self.parts:
                drop = min(drop, bisect_left(self._stamps, before_ns - self._max_age_ns))
            del self._stamps[:drop], self._values[:drop], self._ends[:drop]

    def problem(self, t_ns: int) -> str | None:
        """Why there is no sample at `t_ns`, as a sentence; None if there is one."""
        with self._lock:
            if not self._stamps:
                return f"{self.topic}: no {self.what} has arrived"
            at = bisect_right(self._stamps, t_ns) - 1
            if at < 0:
                ahead = (self._stamps[0] - t_ns) / SECOND
                return f"{self.topic}: oldest {self.what} is {ahead:.2f} s in the future{_clocks(ahead)}"
            age_ns, planned = t_ns - self._ends[at], self._ends[at] > self._stamps[at]
        if age_ns <= self._max_age_ns:
            return None
        age = age_ns / SECOND
        ended = "has a plan that ended; it is" if planned else "is"
        return f"{self.topic}: newest {self.what} {ended} {age:.2f} s old, limit {self.max_age_s:.2f} s{_clocks(age)}"


def _clocks(difference_s: float) -> str:
    return " (different clocks? compare use_sim_time)" if difference_s > 1e6 else ""
