"""Ticks on absolute deadlines: no drift, no bursts, and a record of how late they came."""

from __future__ import annotations

import math
import time

LOWEST_S = 1e-6  # lower edge of the first bucket; below it a tick is on time
PER_DECADE = 20  # buckets: each is 12 % wide
BUCKETS = 120  # to 1 s; later ticks fall into the last one

STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # the former goes on while a machine is suspended


def steady_seconds() -> float:
    """Seconds that pass whatever happens to the date: for how long something lasts."""
    return time.clock_gettime(STEADY)


class Histogram:
    """Counts of durations in fixed logarithmic buckets. Adding one takes no memory and a microsecond.

    Bucket `i` holds durations from `LOWEST_S * 10**(i / PER_DECADE)` s on; shorter ones are in the first, longer ones
    in the last.
    """

    def __init__(self) -> None:
        self.counts = [0] * BUCKETS
        self.total = 0
        self.greatest = 0.0  # s, exact

    def add(self, duration: float) -> None:
        """Count one duration in s."""
        bucket = int(math.log10(duration / LOWEST_S) * PER_DECADE) if duration > LOWEST_S else 0
        self.counts[min(bucket, BUCKETS - 1)] += 1
        self.total += 1
        self.greatest = max(self.greatest, duration)

    def quantile(self, fraction: float) -> float:
        """The duration (s) that `fraction` of all do not exceed: upper edge of its bucket; 0 for an empty histogram."""
        needed, seen = math.ceil(fraction * self.total), 0
        for bucket, count in enumerate(self.counts):
            seen += count
            if seen >= needed and count:
                return min(lower_edge(bucket + 1), self.greatest)
        return 0.0

    def to_text(self) -> str:
        """The filled buckets as `bucket:count ...`."""
        return " ".join(f"{bucket}:{count}" for bucket, count in enumerate(self.counts) if count)

    @classmethod
    def from_text(cls, text: str, greatest: float) -> Histogram:
        """What `to_text` wrote, with the greatest duration (s), which the text lacks. ValueError for anything else."""
        histogram = cls()
        for word in text.split():
            bucket, _, count = word.partition(":")
            if not 0 <= int(bucket) < BUCKETS:
                raise ValueError(f"bucket {bucket} is not between 0 and {BUCKETS - 1}")
            histogram.counts[int(bucket)] += int(count)
        histogram.total, histogram.greatest = sum(histogram.counts), greatest
        return histogram


def lower_edge(bucket: int) -> float:
    """Where a bucket of `Histogram` begins, s."""
    return LOWEST_S * 10.0 ** (bucket / PER_DECADE)


class Pacer:
    """Deadlines `start + k * period` on any clock. Missed deadlines are skipped and counted, never made up for."""

    def __init__(self, period: float) -> None:
        self.period = period
        self.deadline = 0.0
        self.late_ticks = 0  # deadlines skipped
        self.ticks = 0
        self.lateness = Histogram()  # from deadline to wake-up

    def start(self, now: float) -> None:
        """The next deadline is one period after `now`; also after the clock jumped."""
        self.deadline = now + self.period

    def wake(self, now: float) -> float:
        """Called at or after the deadline: returns the deadline this tick stands for and sets the next one."""
        late = now - self.deadline
        missed = max(0, int(late / self.period))
        due = self.deadline + missed * self.period
        self.late_ticks += missed
        self.ticks += 1
        self.lateness.add(late)
        self.deadline = due + self.period
        return due

    def report(self) -> dict[str, object]:
        """Counts and quantiles of the lateness (ms) since the start, as the diagnostics show them."""
        late = self.lateness
        return {
            "ticks": self.ticks,
            "late_ticks": self.late_ticks,
            "tick_p50_ms": late.quantile(0.5) * 1e3,
            "tick_p99_ms": late.quantile(0.99) * 1e3,
            "tick_p999_ms": late.quantile(0.999) * 1e3,
            "tick_max_ms": late.greatest * 1e3,
            "tick_histogram": late.to_text(),
        }


class LateFraction:
    """The fraction of deadlines that were missed over the last seconds, from a pacer's counts."""

    def __init__(self, window_s: float = 5.0) -> None:
        self.window_s = window_s
        self._seen: list[tuple[float, int, int]] = []  # (time, ticks, late ticks), oldest first

    def update(self, now: float, ticks: int, late: int) -> float:
        """Take the counts at `now` (s of a clock that never goes back); the fraction since about `window_s` ago."""
        self._seen.append((now, ticks, late))
        while len(self._seen) > 1 and self._seen[1][0] <= now - self.window_s:
            del self._seen[0]
        _, first_ticks, first_late = self._seen[0]
        due = ticks - first_ticks + late - first_late
        return (late - first_late) / due if due else 0.0
