"""Evenly spaced ticks from a clock that is not."""

from __future__ import annotations

import numpy as np
import pytest

from pi0_ros.control.tick_times import TickAxis

START = 1.7e9


def ticks(axis: TickAxis, clock: np.ndarray) -> np.ndarray:
    times = []
    for now in clock:
        axis.tick(now)
        times.append(axis.t)
    return np.array(times)


@pytest.mark.parametrize("period", [0.02, 0.001])
def test_jitter_is_not_passed_on(period):
    axis, random = TickAxis(period), np.random.default_rng(0)
    axis.restart(START)
    clock = START + period * np.arange(1, 4000) + random.normal(0, 0.05 * period, 3999)
    times = ticks(axis, clock)
    assert np.abs(np.diff(times, n=2)).max() < 0.4 * period * period, (
        "the clock's own second difference is 100 times that"
    )
    assert np.abs(times - (clock - START)).max() < 0.3 * period


def test_it_stays_with_a_clock_that_runs_a_little_faster():
    axis = TickAxis(0.02)
    axis.restart(START)
    clock = START + 0.02 * 1.0005 * np.arange(1, 5000)
    assert abs(ticks(axis, clock)[-1] - (clock[-1] - START)) < 0.001


def test_irregular_ticks_take_the_clocks_time():
    axis = TickAxis(0.02)
    axis.restart(0.0)
    assert axis.tick(0.02) and not axis.tick(0.08) and axis.t == 0.08
    assert not axis.tick(0.03) and axis.t == 0.03
    assert axis.tick(0.05) and not axis.tick(0.0500001)


def test_a_caller_with_another_period_is_noticed():
    axis = TickAxis(0.02)
    axis.restart(0.0)
    times = ticks(axis, 0.03 * np.arange(1, 100))
    assert np.abs(times - 0.03 * np.arange(1, 100)).max() <= 0.04
