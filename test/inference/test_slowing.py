"""Executed slower where chunks come later than the policy was trained for, and only there."""

from __future__ import annotations

import numpy as np
import pytest
from chunks import chunk_of
from hypothesis import given
from hypothesis import strategies as st

from pi0_ros.inference.pace import AUTO, Pace
from pi0_ros.inference.prefix import Continuation, RtcSettings
from pi0_ros.inference.slowing import EASY, LATE, MEMORY, OUTLIERS, SLOWEST_ALONE, Slowing

DT_NS = 50_000_000


def after(delays_s: list[float], trained: int = 8) -> tuple[Slowing, list[float]]:
    """A slowing that heard these delays, and the speed it chose after each."""
    one = Slowing(lambda: trained)
    one.delays.add(30_000_000_000)  # loading
    speeds = []
    for delay in delays_s:
        one.delays.add(round(delay * 1e9))
        speeds.append(one.choose(DT_NS))
    return one, speeds


@pytest.mark.parametrize(
    ("delay", "speed"),
    [(0.05, 1.0), (0.2, 1.0), (0.35, 1.0), (0.4, 1.0), (0.42, 0.7), (0.5, 0.6), (0.6, 0.5), (0.9, 0.4)],
)
def test_a_steady_delay_has_one_speed(delay: float, speed: float) -> None:
    one, speeds = after([delay] * 30)
    assert set(speeds[:OUTLIERS]) == {1.0} and set(speeds[OUTLIERS:]) == {speed}
    assert ("slowed to" in one.reason) == (speed < 1.0)


@given(st.lists(st.floats(0.0, 2.0), min_size=1, max_size=80), st.integers(0, 20))
def test_slower_only_where_it_is_late_and_then_enough(delays: list[float], trained: int) -> None:
    one, speeds = after(delays, trained)
    assert all(SLOWEST_ALONE <= speed <= 1.0 for speed in speeds)
    usual = one.delays.usual
    if trained == 0 or usual is None:
        assert set(speeds) == {1.0} and one.reason == ""
        return
    passing = usual / DT_NS
    if speeds[-1] == 1.0:
        assert passing <= LATE * trained and one.reason == ""
    else:
        assert passing > EASY * trained and f"slowed to {speeds[-1]:g} of" in one.reason
        assert passing * speeds[-1] <= LATE * trained or speeds[-1] == SLOWEST_ALONE
    for _ in range(MEMORY):  # whatever was: a while of good answers ends it
        one.delays.add(int(0.99 * EASY * trained * DT_NS))
    assert one.choose(DT_NS) == 1.0


def test_a_few_late_chunks_change_nothing() -> None:
    """Two in twenty may be late."""
    delays = [0.1, 0.1, 0.9, 0.1, 0.1, 0.1, 0.1, 0.9, 0.1, 0.1] + [0.1] * 10
    assert set(after(delays * 3)[1]) == {1.0}


def test_a_delay_that_swings_about_a_limit_changes_the_speed_once() -> None:
    random = np.random.default_rng(0)
    for middle in (0.3, 0.37, 0.42, 0.5):
        _, speeds = after(list(middle + random.uniform(-0.015, 0.015, 300)))
        assert np.count_nonzero(np.diff(speeds[MEMORY:])) <= 1, middle


@pytest.mark.parametrize(("mode", "slowed"), [("auto", True), ("trained", True), ("exact", False), ("off", False)])
def test_only_what_is_given_as_trained_is_slowed(mode: str, slowed: bool) -> None:
    asked = Pace().asked(AUTO)
    one = Continuation(RtcSettings(mode), np.zeros(2, bool), np.full(2, 9.0), None, asked, Slowing(lambda: 8))

    def goes_on() -> float:
        for number in range(5):
            stamp = 1000.0 + 0.7 * number
            one.prefix(round(stamp * 1e9))
            made = chunk_of(stamp, 0.05, np.zeros((24, 2)), ("a", "b"))
            chunk = one.executed(made)
            one.published(chunk, made.stamp_ns + 600_000_000)
        assert chunk.dt_ns == round(made.dt_ns / float(str(one.report()["execution_speed"])))
        return made.dt_ns / chunk.dt_ns

    assert goes_on() == pytest.approx(0.5 if slowed else 1.0)
    assert bool(one.slowed) == bool(one.report()["execution_slowed"]) == slowed
    one.pace = one.pace.asked(1.5)  # what is asked for is done
    assert goes_on() == pytest.approx(1.5) and one.slowed == ""
