"""Interpolation between the actions of one chunk."""

from __future__ import annotations

import numpy as np
import pytest
from arms import path, path_chunk
from chunks import chunk_of

from pi0_ros.control.chunk import ActionChunk
from pi0_ros.control.splines import INTERPOLATIONS, chunk_spline

GRIPPER = np.array([False, False, True])


def rough(actions: int = 12) -> ActionChunk:
    return chunk_of(3.0, 0.1, np.random.default_rng(5).uniform(-1, 1, (actions, 3)), ("a", "b", "c"))


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_arrays_of_times_agree_with_single_ones(interpolation):
    spline = chunk_spline(rough(), interpolation, GRIPPER)
    times = np.array([2.8, 3.0, 3.07, 3.55, 4.0, 4.0999, 4.2])
    one_by_one = [tuple(part.copy() for part in spline.sample(t)) for t in times]
    np.testing.assert_allclose(spline.positions(times), [position for position, _ in one_by_one], atol=1e-12)
    np.testing.assert_allclose(spline.velocities(times), [velocity for _, velocity in one_by_one], atol=1e-12)


@pytest.mark.parametrize("interpolation", ["linear", "cubic", "quintic"])
def test_velocity_is_the_slope_of_position(interpolation):
    spline = chunk_spline(rough(), interpolation, GRIPPER)
    times = np.array([3.013, 3.21, 3.777, 4.02])
    derivative = (spline.positions(times + 1e-6) - spline.positions(times - 1e-6)) / 2e-6
    np.testing.assert_allclose(spline.velocities(times)[:, :2], derivative[:, :2], atol=1e-6)


@pytest.mark.parametrize(
    ("interpolation", "continuous"), [("linear", [False, True]), ("cubic", [True, False]), ("quintic", [True, True])]
)
def test_which_derivatives_are_continuous_where_pieces_meet(interpolation, continuous):
    spline = chunk_spline(rough(), interpolation, GRIPPER)
    knots, h = 3.0 + 0.1 * np.arange(1, 11), 1e-4
    derivative = (spline.velocities(knots + h), spline.velocities(knots - h))
    second_derivative = [
        (spline.velocities(knots + s * 2 * h) - spline.velocities(knots + s * h)) * s / h for s in (1, -1)
    ]
    jumps = [np.abs(after - before)[:, :2].max() for after, before in (derivative, second_derivative)]
    scale = [10.0, 300.0]  # speed and acceleration of actions this rough
    assert [jump < 0.05 * size for jump, size in zip(jumps, scale, strict=True)] == continuous


def test_smoother_interpolations_are_nearer_to_a_smooth_path():
    times = np.arange(0.1, 1.0, 0.007)
    error = {
        kind: np.abs(chunk_spline(path_chunk(0.0 + 1.7e9), kind, GRIPPER, 1.7e9).positions(times) - path(times))[
            :, :2
        ].max()
        for kind in INTERPOLATIONS
    }
    assert error["cubic"] < 0.2 * error["linear"] < 0.02 * error["hold"]
    assert error["quintic"] < 0.2 * error["linear"]


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_a_chunk_of_one_or_two_actions(interpolation):
    one = chunk_spline(rough(1), interpolation, GRIPPER)
    np.testing.assert_array_equal(one.sample(3.05)[0], rough(1).actions[0])
    two = chunk_spline(rough(2), interpolation, GRIPPER)
    np.testing.assert_allclose(two.sample(3.1)[0], rough(2).actions[1])
