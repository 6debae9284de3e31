"""What of a chunk lies ahead: smooth, to its end, and its colours."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("visualization_msgs")
from chunks import chunk_of

from pi0_ros.monitor.markers import EXECUTED, PLANNED, gradient
from pi0_ros.monitor.plan import MOST_POINTS, STEP_S, path_fractions, remaining_times, smooth_positions

CHUNK = chunk_of(100.0, 0.5, np.array([[0.0, 4.0], [1.0, 3.0], [2.0, 2.0], [3.0, 1.0]]), ("a", "b"))
CORNER = chunk_of(100.0, 0.1, np.array([[0.0], [1.0], [0.0], [1.0], [0.0]]), ("a",))


def test_positions_go_through_the_actions_and_are_held_outside() -> None:
    np.testing.assert_allclose(smooth_positions(CHUNK, np.array([100.25])), [[0.5, 3.5]])
    np.testing.assert_allclose(smooth_positions(CHUNK, np.array([0.0, 200.0])), [[0.0, 4.0], [3.0, 1.0]])
    np.testing.assert_allclose(smooth_positions(CORNER, CORNER.times), CORNER.actions, atol=1e-6)


def test_a_path_has_no_corner_where_the_actions_have() -> None:
    times = remaining_times(CORNER, 100.0)
    path = smooth_positions(CORNER, times)[:, 0]
    turns = np.abs(np.diff(np.diff(path)))
    lines = np.abs(np.diff(np.diff(np.interp(times, CORNER.times, CORNER.actions[:, 0]))))
    assert turns.max() < 0.7 * lines.max()


def test_what_remains_begins_now_and_ends_with_the_chunk() -> None:
    for now, first in ((100.75, 100.75), (90.0, 100.0)):
        times = remaining_times(CHUNK, now)
        assert (times[0], times[-1]) == (first, 101.5)
        assert np.diff(times).max() <= STEP_S * 1.001
    slow = chunk_of(0.0, 1.0, np.zeros((50, 1)), ("a",))
    assert len(remaining_times(slow, 0.0)) == MOST_POINTS
    for over in (101.5, 200.0):
        times = remaining_times(CHUNK, over)
        assert times.shape == (0,) and smooth_positions(CHUNK, times).shape == (0, 2)


def test_a_path_fades_where_the_next_chunk_takes_over() -> None:
    places = path_fractions(np.array([10.0, 10.25, 10.5, 11.5]), 10.0, 10.5, 11.5)
    np.testing.assert_allclose(places, [0.0, 0.5, 1.0, 2.0], atol=1e-4)
    alpha = gradient(PLANNED, places / 2)[:, 3]
    assert alpha[0] == alpha[1] == 1.0 and alpha[2] < 0.5 and alpha[3] < 0.11
    np.testing.assert_allclose(path_fractions(np.array([10.0, 11.5]), 10.0, 11.5, 11.5), [0.0, 1.0], atol=1e-4)


def test_colours_begin_and_end_at_the_outer_stops() -> None:
    for stops in (PLANNED, EXECUTED):
        colours = gradient(stops, np.array([-1.0, 0.0, 1.0, 2.0]))
        np.testing.assert_allclose(colours, stops[[0, 0, -1, -1]])
    assert gradient(PLANNED, np.zeros(0)).shape == (0, 4)
