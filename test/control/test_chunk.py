"""A chunk is whole or it does not exist."""

from __future__ import annotations

import numpy as np
import pytest

from pi0_ros.control.chunk import ActionChunk, ChunkError


def test_each_action_has_its_time():
    chunk = ActionChunk(10.0, 0.05, np.zeros((24, 2)), ("a", "b"))
    assert chunk.times[0] == 10.0
    assert chunk.end == pytest.approx(10.0 + 23 * 0.05) == chunk.times[-1]


def test_actions_are_a_copy_that_cannot_be_changed():
    actions = np.zeros((3, 1), dtype=np.float32)
    chunk = ActionChunk(0.0, 0.1, actions, ("a",))
    actions[0] = 9
    assert chunk.actions[0] == 0 and chunk.actions.dtype == np.float64
    with pytest.raises(ValueError, match="read-only"):
        chunk.actions[0] = 1


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_bad_numbers_name_their_joint(number):
    actions = np.zeros((4, 2))
    actions[2, 1] = number
    with pytest.raises(ChunkError, match="NaN or infinity for elbow"):
        ActionChunk(0.0, 0.1, actions, ("yaw", "elbow"))


@pytest.mark.parametrize("shape", [(0, 2), (4, 3), (4,), (2, 2, 2)])
def test_wrong_shape(shape):
    with pytest.raises(ChunkError, match="expected .*2 joints"):
        ActionChunk(0.0, 0.1, np.zeros(shape), ("yaw", "elbow"))


@pytest.mark.parametrize(("stamp", "dt"), [(np.nan, 0.1), (0.0, 0.0), (0.0, -0.1), (0.0, np.inf)])
def test_bad_times(stamp, dt):
    with pytest.raises(ChunkError, match="dt"):
        ActionChunk(stamp, dt, np.zeros((2, 1)), ("a",))
