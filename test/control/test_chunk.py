"""A chunk is whole or it does not exist."""

from __future__ import annotations

import numpy as np
import pytest
from chunks import chunk_of

from pi0_ros.control.chunk import ActionChunk, ChunkError


def test_each_action_has_its_time():
    chunk = chunk_of(10.0, 0.05, np.zeros((24, 2)), ("a", "b"))
    assert chunk.times[0] == 10.0
    assert chunk.end == pytest.approx(10.0 + 23 * 0.05) == chunk.times[-1]


def test_actions_are_a_copy_that_cannot_be_changed():
    actions = np.zeros((3, 1), dtype=np.float32)
    chunk = chunk_of(0.0, 0.1, actions, ("a",))
    actions[0] = 9
    assert chunk.actions[0] == 0 and chunk.actions.dtype == np.float64
    with pytest.raises(ValueError, match="read-only"):
        chunk.actions[0] = 1


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_bad_numbers_name_their_joint(number):
    actions = np.zeros((4, 2))
    actions[2, 1] = number
    with pytest.raises(ChunkError, match="NaN or infinity for elbow"):
        chunk_of(0.0, 0.1, actions, ("yaw", "elbow"))


@pytest.mark.parametrize("shape", [(0, 2), (4, 3), (4,), (2, 2, 2)])
def test_wrong_shape(shape):
    with pytest.raises(ChunkError, match="expected .*2 joints"):
        chunk_of(0.0, 0.1, np.zeros(shape), ("yaw", "elbow"))


@pytest.mark.parametrize(("stamp_ns", "dt_ns"), [(2**63, 1), (-(2**70), 1), (0, 0), (0, -5), (0, 2**63)])
def test_bad_times(stamp_ns, dt_ns):
    with pytest.raises(ChunkError, match="stamp_ns .* and dt_ns"):
        ActionChunk(stamp_ns, dt_ns, np.zeros((2, 1)), ("a",))


@pytest.mark.parametrize(("stamp_ns", "dt_ns"), [(1.7e9, 1), (0, 0.05)])
def test_seconds_are_no_nanoseconds(stamp_ns, dt_ns):
    with pytest.raises(TypeError):
        ActionChunk(stamp_ns, dt_ns, np.zeros((2, 1)), ("a",))


def test_times_are_exact_at_any_date():
    stamp_ns = 1_764_279_123_123_456_789  # float64 seconds would round it to the nearest 238 ns
    chunk = ActionChunk(stamp_ns, 33_333_333, np.zeros((50, 1)), ("a",))
    assert chunk.times_ns.tolist() == [stamp_ns + i * 33_333_333 for i in range(50)]
    assert chunk.end_ns == chunk.times_ns[-1]
