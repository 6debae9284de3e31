"""The grid of ticks that a recording is read on: even, inside, and in the phase that spares images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi0_ros.observation.stream_buffer import SECOND
from pi0_ros.observation.tick_grid import tick_grid

MS = 1_000_000
T0 = 1_700_000_000 * SECOND


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 2**61),
    st.integers(0, 20 * SECOND),
    st.sampled_from([10.0, 15.0, 20.0, 29.97, 50.0, 60.0]),
    st.data(),
)
def test_ticks_are_evenly_spaced_and_inside(start: int, length: int, fps: float, data: st.DataObject) -> None:
    offsets = data.draw(st.lists(st.integers(0, max(1, length)), max_size=20))
    ticks = tick_grid(start, start + length, fps, [np.array(offsets, np.int64) + start])
    period = SECOND / fps
    assert ticks.dtype == np.int64
    assert len(ticks) in (int(length / period), int(length / period) + 1)
    if len(ticks):
        assert start <= ticks[0] < start + period + 1 and ticks[-1] <= start + length
        k = np.arange(len(ticks))
        assert np.abs((ticks - ticks[0]) - k * period).max() <= 1


def cameras(rng: np.random.Generator, fps: float, jitter_ns: float, count: int, seconds: int) -> Iterator[np.ndarray]:
    for _ in range(count):
        exact = T0 + rng.uniform(0, SECOND / fps) + np.arange(seconds * fps) * SECOND / fps
        yield np.sort((exact + rng.normal(0, jitter_ns, len(exact))).astype(np.int64))


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("seed", range(5))
def test_no_image_is_repeated_or_skipped_where_the_phase_allows(seed: int, count: int) -> None:
    """30 Hz cameras with 0.4 ms jitter on a 30 Hz grid: anchored on a camera's stamps a quarter would be repeated."""
    stamps = list(cameras(np.random.default_rng(seed), 30, 0.4 * MS, count, 60))
    start, end = max(s[0] for s in stamps), min(s[-1] for s in stamps)
    ticks = tick_grid(int(start), int(end), 30.0, stamps)
    for stream in stamps:
        picks = np.searchsorted(stream, ticks, side="right") - 1
        assert (picks >= 0).all() and (np.diff(picks) == 1).all()


def test_a_grid_on_the_stamps_themselves_would_repeat_and_skip_images() -> None:
    """What the phase is good for: here the grid lies where the stamps are, but for their jitter."""
    exact = T0 + np.rint(np.arange(1800) * SECOND / 30).astype(np.int64)
    stamps = exact + np.random.default_rng(0).normal(0, 0.4 * MS, 1800).astype(np.int64)
    repeated = np.diff(np.searchsorted(stamps, exact, side="right")) == 0
    assert 0.2 < repeated.mean() < 0.3
    chosen = tick_grid(int(stamps[0]), int(stamps[-1]), 30.0, [stamps])
    assert not (np.diff(np.searchsorted(stamps, chosen, side="right")) == 0).any()


def test_the_phase_ignores_a_few_outliers() -> None:
    stamps = T0 + np.arange(600) * 50 * MS
    stamps[300:303] += 25 * MS  # three late images in half a minute
    ticks = tick_grid(T0, int(stamps[-1]), 20.0, [stamps])
    assert 20 * MS <= (ticks[0] - T0) % (50 * MS) <= 30 * MS


def test_a_grid_without_cameras_starts_at_once_and_one_without_time_is_empty() -> None:
    assert tick_grid(T0, T0 + SECOND, 20.0, []).tolist() == [T0 + i * 50 * MS for i in range(21)]
    assert tick_grid(T0, T0 - 1, 20.0, []).tolist() == []
    assert tick_grid(T0, T0, 20.0, [np.array([T0])]).tolist() == []
