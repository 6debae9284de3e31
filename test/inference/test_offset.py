"""Offset and delays from the four stamps of each exchange."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi0_ros.inference.clocks import ClockEstimate, Delays, Exchange

MS = 1_000_000


def exchange(at_ms: float, offset_ms: float, up_ms: float, down_ms: float, work_ms: float = 50.0) -> Exchange:
    """What both sides write down when a question leaves at `at_ms` of the robot's clock."""
    arrives = at_ms + up_ms
    back = arrives + work_ms + down_ms
    stamps = at_ms, arrives + offset_ms, arrives + work_ms + offset_ms, back
    return Exchange(*(round(stamp * MS) for stamp in stamps))


def test_nothing_is_known_at_first() -> None:
    assert math.isnan(Delays().offset_ms)


@given(st.floats(-1e6, 1e6), st.floats(0, 100), st.floats(0, 100), st.lists(st.floats(0, 500), max_size=20))
def test_the_offset_is_within_its_error_whatever_the_link_does(
    offset: float, up: float, down: float, extra: list[float]
) -> None:
    clocks = ClockEstimate()
    for number, more in enumerate([0.0, *extra]):
        found = clocks.add(exchange(1e6 + 1e3 * number, offset, up + more, down))
    assert abs(found.offset_ms - offset) <= found.offset_error_ms + 1e-3
    assert found.offset_error_ms == pytest.approx((up + down) / 2, abs=1e-3)
    last = up + (extra[-1] if extra else 0.0)
    assert found.up_ms + found.down_ms == pytest.approx(last + down, abs=1e-3)


def test_ways_of_equal_length_are_told_exactly_and_a_queue_on_one_of_them_is_seen() -> None:
    clocks, random = ClockEstimate(), np.random.default_rng(0)
    clocks.add(exchange(1e6, 1234.5, 3.0, 3.0))
    for number in range(1, 30):
        late = float(random.exponential(20.0))
        found = clocks.add(exchange(1e6 + 100 * number, 1234.5, 3.0, 3.0 + late))
        assert found.offset_ms == pytest.approx(1234.5, abs=1e-3)
        assert (found.up_ms, found.down_ms) == pytest.approx((3.0, 3.0 + late), abs=1e-3)


def test_a_clock_that_was_set_is_believed_after_a_while() -> None:
    clocks = ClockEstimate()
    for number in range(70):
        clocks.add(exchange(1e6 + 100 * number, 10.0, 2.0, 2.0))
    for number in range(70, 140):
        found = clocks.add(exchange(1e6 + 100 * number, -5000.0, 3.0, 3.0))
    assert found.offset_ms == pytest.approx(-5000.0, abs=1e-3)
