"""What of a chunk lies ahead, and its colours."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("visualization_msgs")
from chunks import chunk_of

from pi0_ros.monitor.markers import EXECUTED, PLANNED, gradient
from pi0_ros.monitor.plan import position_at, remaining

CHUNK = chunk_of(100.0, 0.5, np.array([[0.0, 4.0], [1.0, 3.0], [2.0, 2.0], [3.0, 1.0]]), ("a", "b"))


def test_positions_are_linear_between_actions_and_held_outside() -> None:
    np.testing.assert_allclose(position_at(CHUNK, 100.25), [0.5, 3.5])
    np.testing.assert_allclose(position_at(CHUNK, 0.0), [0.0, 4.0])
    np.testing.assert_allclose(position_at(CHUNK, 200.0), [3.0, 1.0])


def test_what_remains_begins_now_and_ends_with_the_chunk() -> None:
    times, positions = remaining(CHUNK, 100.75)
    np.testing.assert_allclose(times, [100.75, 101.0, 101.5])
    np.testing.assert_allclose(positions, [[1.5, 2.5], [2.0, 2.0], [3.0, 1.0]])
    times, positions = remaining(CHUNK, 100.5)
    np.testing.assert_allclose(times, [100.5, 101.0, 101.5])
    times, positions = remaining(CHUNK, 90.0)
    np.testing.assert_allclose(times, CHUNK.times)
    np.testing.assert_allclose(positions, CHUNK.actions)
    for over in (101.5, 200.0):
        times, positions = remaining(CHUNK, over)
        assert times.shape == (0,) and positions.shape == (0, 2)


def test_colours_begin_and_end_at_the_outer_stops() -> None:
    for stops in (PLANNED, EXECUTED):
        colours = gradient(stops, np.array([-1.0, 0.0, 1.0, 2.0]))
        np.testing.assert_allclose(colours, stops[[0, 0, -1, -1]])
    assert gradient(PLANNED, np.zeros(0)).shape == (0, 4)
