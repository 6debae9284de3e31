"""Interpolation inside a chunk and the seam to the next."""

from __future__ import annotations

import numpy as np
import pytest
from arms import ALL, NAMES, START, arm_limits, path, path_chunk
from hypothesis import given
from hypothesis import strategies as st

from pi0_ros.control.chunk import ActionChunk
from pi0_ros.control.timeline import SEAM_SHARE, Timeline, fade, seam_duration


def joined(chunk: ActionChunk, **options) -> Timeline:
    """A timeline that follows `chunk` from its beginning without any seam."""
    timeline = Timeline(arm_limits(), **options)
    timeline.blend_s = 0.0
    timeline.push(chunk, chunk.stamp, np.zeros(3), np.zeros(3))
    return timeline


@pytest.mark.parametrize("interpolation", ["hold", "linear", "cubic"])
def test_actions_are_met_at_their_times(interpolation):
    chunk = path_chunk(START)
    timeline = joined(chunk, interpolation=interpolation)
    for i in range(23):
        position, _ = timeline.sample(chunk.stamp + i * chunk.dt + 1e-6)
        np.testing.assert_allclose(position, chunk.actions[i], atol=1e-5)


def test_the_past_is_past():
    chunk = path_chunk(START)
    late = Timeline(arm_limits(), blend_s=0.0)
    late.push(chunk, START + 0.61, np.zeros(3), np.zeros(3))
    np.testing.assert_array_equal(late.sample(START + 0.61)[0], joined(chunk).sample(START + 0.61)[0])


def test_between_actions():
    chunk = ActionChunk(START, 0.1, np.array([[0.0, 0.0, 0.0], [1.0, 0.2, 1.0], [2.0, 0.4, 1.0]]), NAMES)
    t = START + 0.05
    for interpolation, expected, speed in (("hold", 0.0, 0.0), ("linear", 0.5, 10.0), ("cubic", 0.5, 10.0)):
        position, velocity = joined(chunk, interpolation=interpolation).sample(t)
        assert position[0] == pytest.approx(expected, abs=1e-4)
        assert velocity[0] == pytest.approx(speed, abs=1e-3)
        assert (position[2], velocity[2]) == (0.0, 0.0), "grippers hold each action until the next"


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_velocity_is_the_slope_of_position(interpolation):
    timeline = joined(path_chunk(START), interpolation=interpolation)
    for t in START + np.array([0.013, 0.21, 0.777, 1.12]):
        slope = (timeline.sample(t + 1e-3)[0] - timeline.sample(t - 1e-3)[0]) / 2e-3
        np.testing.assert_allclose(timeline.sample(t)[1][:2], slope[:2], atol=2e-2)


def test_cubic_is_nearer_to_a_smooth_path_than_linear():
    t = START + np.arange(0.1, 1.0, 0.007)
    error = {
        kind: max(
            np.abs(joined(path_chunk(START), interpolation=kind).sample(x)[0] - path(x - START))[:2].max() for x in t
        )
        for kind in ("linear", "cubic")
    }
    assert error["cubic"] < 0.2 * error["linear"] < 1e-3


def test_outside_its_actions_a_chunk_stands_still():
    chunk = path_chunk(START)
    timeline = joined(chunk)
    for t, i in ((START - 0.05, 0), (chunk.end + 5.0, -1)):
        position, velocity = timeline.sample(t)
        np.testing.assert_array_equal(position, chunk.actions[i])
        assert not velocity.any()


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_a_seam_starts_at_the_command_and_ends_on_the_chunk(interpolation):
    timeline = Timeline(arm_limits(), interpolation, blend_s=0.2)
    chunk, now = path_chunk(START), START + 0.2
    position, velocity = np.array([0.3, -0.05, 0.0]), np.array([0.5, 0.2, 0.0])
    timeline.push(chunk, now, position, velocity)
    start, start_velocity = timeline.sample(now)
    np.testing.assert_allclose(start[:2], position[:2], atol=1e-9)
    np.testing.assert_allclose(start_velocity[:2], velocity[:2], atol=1e-6)
    plain = joined(chunk, interpolation=interpolation)
    seam_end = now + timeline._seam_s
    assert 0.2 <= timeline._seam_s < 1.0
    np.testing.assert_allclose(timeline.sample(seam_end)[0], plain.sample(seam_end)[0], atol=1e-9)
    before, after = timeline.sample(seam_end - 1e-5)[1], timeline.sample(seam_end + 1e-5)[1]
    np.testing.assert_allclose(before, after, atol=1e-2)


def test_grippers_switch_at_once():
    timeline = Timeline(arm_limits(), blend_s=0.2)
    chunk = ActionChunk(START, 0.1, np.array([[0.0, 0.0, 1.0]] * 5), NAMES)
    timeline.push(chunk, START + 0.1, np.array([0.1, 0.1, 0.0]), np.zeros(3))
    position, velocity = timeline.sample(START + 0.1)
    assert position[2] == 1.0 and velocity[2] == 0.0 and position[0] == pytest.approx(0.1)


def test_without_blending_a_chunk_replaces_the_one_before():
    timeline = Timeline(arm_limits(), blend_s=0.0)
    timeline.push(path_chunk(START), START + 0.1, np.array([0.9, 0.9, 0.0]), np.zeros(3))
    np.testing.assert_allclose(timeline.sample(START + 0.1)[0], path(0.1), atol=1e-3)


joint_values = st.lists(st.floats(-2.0, 2.0), min_size=3, max_size=3).map(np.array)


@given(offset=joint_values, velocity=joint_values, shortest=st.floats(0.05, 1.0))
def test_a_fade_stays_within_its_share_of_the_limits(offset, velocity, shortest):
    limits = arm_limits()
    duration = seam_duration(offset, velocity, limits, shortest)
    assert duration >= shortest
    times = np.linspace(0.0, duration, 400)
    left = np.array([fade(offset, velocity, t, duration) for t in times])
    speed, acceleration = np.abs(left[:, 1]), np.abs(np.gradient(left[:, 1], times, axis=0))
    assert (acceleration <= SEAM_SHARE * limits.acceleration * 1.001 + 1e-9).all()
    assert (speed <= SEAM_SHARE * limits.velocity + np.abs(velocity) + 1e-9).all()


def test_chunks_that_come_faster_than_the_fade_still_converge():
    timeline, limits = Timeline(arm_limits(), blend_s=0.3), arm_limits()
    position, velocity = np.array([0.4, -0.4, 0.0]), np.zeros(3)
    for tick in range(150):
        now = START + tick * 0.01
        timeline.push(path_chunk(now - 0.05), now, position, velocity)
        position, velocity = timeline.sample(now + 0.01)
    np.testing.assert_allclose(position[:2], path(150 * 0.01)[:2], atol=5e-3)
    assert len(ALL) == len(limits.names)


def test_unknown_interpolation_and_bad_blend():
    with pytest.raises(ValueError, match="hold, linear, cubic"):
        Timeline(arm_limits(), "spline")
    with pytest.raises(ValueError, match="blend_s"):
        Timeline(arm_limits(), blend_s=float("nan"))
    with pytest.raises(ValueError, match="no chunk"):
        Timeline(arm_limits()).sample(0.0)
