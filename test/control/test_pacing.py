"""Deadlines do not drift, late ticks are skipped, and their lateness is counted."""

from __future__ import annotations

import numpy as np
import pytest

from pi0_ros.control.pacing import BUCKETS, LOWEST_S, PER_DECADE, Histogram, LateFraction, Pacer, lower_edge


def test_deadlines_are_absolute():
    pacer = Pacer(0.02)
    pacer.start(100.0)
    for k in range(1, 1000):
        assert pacer.deadline == pytest.approx(100.0 + 0.02 * k)
        assert pacer.wake(pacer.deadline + 0.001) == pytest.approx(100.0 + 0.02 * k)
    assert pacer.late_ticks == 0 and pacer.ticks == pacer.lateness.total == 999
    assert pacer.lateness.greatest == pytest.approx(0.001)


def test_a_late_wake_up_skips_and_never_bursts():
    pacer = Pacer(0.02)
    pacer.start(0.0)
    assert pacer.wake(0.095) == pytest.approx(0.08)  # due at 0.02: three deadlines are lost, this tick stands for 0.08
    assert pacer.late_ticks == 3 and pacer.ticks == 1
    assert pacer.deadline == pytest.approx(0.10)
    report = pacer.report()
    assert report["ticks"] == 1 and report["late_ticks"] == 3
    assert report["tick_p50_ms"] == report["tick_max_ms"] == pytest.approx(75.0)
    assert Pacer(0.02).report()["tick_p99_ms"] == 0.0


def test_quantiles_are_those_of_the_durations_to_a_bucket():
    durations = np.random.default_rng(0).lognormal(np.log(3e-4), 1.5, 5000)
    histogram = Histogram()
    for duration in durations:
        histogram.add(float(duration))
    assert histogram.total == 5000 and histogram.greatest == durations.max()
    for share in (0.5, 0.99, 0.999):
        exact = float(np.quantile(durations, share, method="inverted_cdf"))
        assert exact <= histogram.quantile(share) <= exact * 10 ** (1 / PER_DECADE) * (1 + 1e-9)
    assert histogram.quantile(1.0) == durations.max()


@pytest.mark.parametrize(
    ("duration", "bucket"), [(-1.0, 0), (0.0, 0), (2e-7, 0), (1.5e-3, 63), (0.999, 119), (60, 119)]
)
def test_every_duration_has_a_bucket(duration, bucket):
    histogram = Histogram()
    histogram.add(duration)
    assert histogram.counts.index(1) == bucket
    assert lower_edge(0) == LOWEST_S and lower_edge(BUCKETS) == pytest.approx(1.0)


def test_a_histogram_survives_as_text():
    histogram = Histogram()
    for duration in (1e-5, 1e-5, 3e-3):
        histogram.add(duration)
    again = Histogram.from_text(histogram.to_text(), histogram.greatest)
    assert vars(again) == vars(histogram)
    with pytest.raises(ValueError, match="bucket 120"):
        Histogram.from_text("120:1", 1.0)


def test_the_late_fraction_looks_back_on_the_last_seconds_only():
    late = LateFraction(window_s=5.0)
    assert late.update(0.0, 0, 0) == 0.0
    assert late.update(1.0, 40, 10) == pytest.approx(0.2)
    assert late.update(5.0, 240, 10) == pytest.approx(10 / 250)
    assert late.update(6.0, 290, 10) == 0.0  # since 1.0
    assert late.update(60.0, 290, 10) == 0.0  # no tick at all, as under a clock that stands still
