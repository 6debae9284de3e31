"""What was sent can be read at any time."""

from __future__ import annotations

import numpy as np
import pytest

from pi0_ros.control.sent import SentLog

START = 1.7e9


def test_reads_between_commands_and_holds_outside():
    log = SentLog(2)
    for k in range(10):
        log.push(START + 0.02 * k, np.array([k, -2.0 * k]))
    times = START + np.array([-5.0, 0.0, 0.03, 0.18, 7.0])
    np.testing.assert_allclose(log.at(times), [[0, 0], [0, 0], [1.5, -3], [9, -18], [9, -18]], atol=1e-4)
    assert log.span == (START, pytest.approx(START + 0.18))


def test_the_chunk_grid_meets_the_commands():
    log, path = SentLog(1), lambda t: np.sin(t)[:, None]
    sent = np.arange(0, 4, 0.004)
    for t in sent:
        log.push(t, path(np.array([t]))[0])
    grid = 1.001 + 0.05 * np.arange(20)
    np.testing.assert_allclose(log.at(grid), path(grid), atol=1e-5)


def test_only_the_newest_are_kept():
    log = SentLog(1, capacity=8)
    for k in range(20):
        log.push(float(k), np.array([float(k)]))
    assert log.span == (12.0, 19.0)
    np.testing.assert_array_equal(log.at(np.array([0.0, 12.0, 15.5, 19.0, 30.0]))[:, 0], [12, 12, 15.5, 19, 19])


def test_a_clock_that_goes_back_begins_a_new_record():
    log = SentLog(1)
    log.push(10.0, np.array([1.0]))
    log.push(3.0, np.array([2.0]))
    np.testing.assert_array_equal(log.at(np.array([3.0, 10.0])), [[2.0], [2.0]])
    assert log.span == (3.0, 3.0)


def test_nothing_was_sent():
    log = SentLog(1)
    assert log.span is None
    with pytest.raises(ValueError, match="nothing was sent"):
        log.at(np.zeros(1))
    log.push(0.0, np.zeros(1))
    log.clear()
    assert log.span is None


def test_the_log_does_not_share_memory_with_the_caller():
    log, position = SentLog(1), np.array([1.0])
    log.push(0.0, position)
    position[0] = 9.0
    assert log.at(np.zeros(1))[0, 0] == 1.0
