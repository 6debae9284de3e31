"""The newest chunk on the time axis, and the transition that leads to it."""

from __future__ import annotations

import numpy as np
import pytest
from arms import NAMES, PERIOD, START, arm_limits, path, path_chunk
from chunks import chunk_of
from hypothesis import given
from hypothesis import strategies as st

from pi0_ros.control.chunk import ActionChunk
from pi0_ros.control.splines import Fades
from pi0_ros.control.timeline import Timeline
from pi0_ros.control.transitions import LONGEST_S, TRANSITION_FRACTION, TRANSITIONS, fade_duration, transition_of

STILL = np.zeros(3)


def joined(chunk: ActionChunk, **options) -> Timeline:
    """A timeline that follows `chunk` from its beginning without any transition; its times are those since START."""
    timeline = Timeline(arm_limits(), PERIOD, **options, transition="replace")
    timeline.origin = START
    timeline.push(chunk, chunk.stamp - START, STILL, STILL, STILL)
    return timeline


def agreeing(timeline: Timeline, chunk: ActionChunk, t: float) -> None:
    """Take up `chunk` at `t` from commands that were the chunk itself."""
    plain = joined(chunk, interpolation=timeline.interpolation)
    newest, before, oldest = (plain.sample(t - k * PERIOD)[0].copy() for k in range(3))
    timeline.push(chunk, t, newest, (newest - before) / PERIOD, (newest - 2 * before + oldest) / PERIOD**2)


@pytest.mark.parametrize("interpolation", ["hold", "linear", "cubic", "quintic"])
def test_actions_are_met_at_their_times(interpolation):
    chunk = path_chunk(START)
    timeline = joined(chunk, interpolation=interpolation)
    for i in range(23):
        position, _ = timeline.sample(i * chunk.dt + 1e-6)
        np.testing.assert_allclose(position, chunk.actions[i], atol=1e-5)


def test_the_past_is_past():
    chunk = path_chunk(START)
    late = Timeline(arm_limits(), PERIOD, transition="replace")
    late.origin = START
    late.push(chunk, 0.61, STILL, STILL, STILL)
    np.testing.assert_array_equal(late.sample(0.61)[0], joined(chunk).sample(0.61)[0])


def test_between_actions():
    chunk = chunk_of(START, 0.1, np.array([[0.0, 0.0, 0.0], [1.0, 0.2, 1.0], [2.0, 0.4, 1.0]]), NAMES)
    for interpolation, expected, speed in (
        ("hold", 0, 0),
        ("linear", 0.5, 10),
        ("cubic", 0.5, 10),
        ("quintic", 0.5, 10),
    ):
        position, velocity = joined(chunk, interpolation=interpolation).sample(0.05)
        assert position[0] == pytest.approx(expected, abs=1e-6)
        assert velocity[0] == pytest.approx(speed, abs=1e-6)
        assert (position[2], velocity[2]) == (0.0, 0.0), "grippers hold each action until the next"


def test_outside_its_actions():
    chunk = path_chunk(START)
    timeline = joined(chunk)
    position, velocity = timeline.sample(chunk.end - START + 5.0)
    np.testing.assert_array_equal(position, chunk.actions[-1])
    assert not velocity.any(), "after its end a chunk stands still"
    first, slope = (part.copy() for part in timeline.sample(0.0))
    position, velocity = timeline.sample(-0.05)
    np.testing.assert_allclose(position, first - 0.05 * slope)
    np.testing.assert_allclose(velocity, slope, err_msg="and it comes along its first slope")


@pytest.mark.parametrize("transition", [name for name in TRANSITIONS if name != "replace"])
@pytest.mark.parametrize("interpolation", ["linear", "cubic", "quintic"])
def test_a_transition_starts_at_the_command_and_ends_on_the_chunk(transition, interpolation):
    timeline = Timeline(arm_limits(), PERIOD, interpolation, transition, blend_s=0.2)
    timeline.origin = START
    chunk, now = path_chunk(START), 0.21
    position, velocity = np.array([0.3, -0.05, 0.0]), np.array([0.5, 0.2, 0.0])
    timeline.push(chunk, now, position, velocity, np.zeros(3))
    before = position - velocity * PERIOD
    start = [before, position, *(timeline.sample(now + k * PERIOD)[0].copy() for k in range(1, 40))]
    assert np.abs(np.diff(start, n=2, axis=0)[:3, :2]).max() < 6.0 * PERIOD**2, "no step in position or velocity"
    plain = joined(chunk, interpolation=interpolation)
    shortest = transition_of(transition).fade_s(chunk, 0.2)
    assert shortest == pytest.approx(2 * chunk.dt if transition == "rtc" else 0.2)
    assert shortest <= timeline.fade_end - now < 1.2
    np.testing.assert_allclose(timeline.sample(timeline.fade_end)[0], plain.sample(timeline.fade_end)[0], atol=1e-9)
    before, after = timeline.sample(timeline.fade_end - 1e-6)[1].copy(), timeline.sample(timeline.fade_end + 1e-6)[1]
    np.testing.assert_allclose(before, after, atol=1e-4)


@pytest.mark.parametrize("transition", TRANSITIONS)
@pytest.mark.parametrize("interpolation", ["linear", "cubic", "quintic"])
def test_a_chunk_that_agrees_with_what_was_sent_leaves_no_transition(transition, interpolation):
    timeline = Timeline(arm_limits(), PERIOD, interpolation, transition)
    timeline.origin = START
    chunk = path_chunk(START)
    agreeing(timeline, chunk, 0.37)
    plain = joined(chunk, interpolation=interpolation)
    for t in np.arange(0.37, 0.9, 0.013):
        np.testing.assert_allclose(timeline.sample(t)[0], plain.sample(t)[0], atol=1e-9)
    assert timeline.transitions.report()["transition_acceleration_p99"] < 1e-6


def test_grippers_switch_at_once():
    timeline = Timeline(arm_limits(), PERIOD)
    timeline.origin = START
    chunk = chunk_of(START, 0.1, np.array([[0.0, 0.0, 1.0]] * 5), NAMES)
    timeline.push(chunk, 0.1, np.array([0.1, 0.1, 0.0]), np.zeros(3), np.zeros(3))
    position, velocity = timeline.sample(0.1)
    assert position[2] == 1.0 and velocity[2] == 0.0 and position[0] == pytest.approx(0.1)


@pytest.mark.parametrize("options", [{"transition": "replace"}, {"blend_s": 0.0}])
def test_without_blending_a_chunk_replaces_the_one_before(options):
    timeline = Timeline(arm_limits(), PERIOD, **options)
    timeline.origin = START
    timeline.push(path_chunk(START), 0.1, np.array([0.9, 0.9, 0.0]), np.zeros(3), np.zeros(3))
    np.testing.assert_allclose(timeline.sample(0.1)[0], path(0.1), atol=1e-6)


def test_transitions_are_measured():
    timeline = Timeline(arm_limits(), PERIOD)
    chunk = chunk_of(0.0, 0.1, np.full((9, 3), 0.1), NAMES)
    timeline.push(chunk, 0.2, np.zeros(3), np.full(3, 0.5), np.zeros(3))
    report = timeline.transitions.report()
    assert report["transitions"] == 1 and report["transition_position_p99"] == pytest.approx(0.1)
    assert report["transition_velocity_p50"] == pytest.approx(0.5) and report["transition_acceleration_p50"] == 0.0
    position, velocity = (part.copy() for part in timeline.sample(0.21))
    timeline.push(chunk, 0.21, position, velocity, np.zeros(3))
    assert timeline.transitions.report()["transition_position_p50"] == pytest.approx(0.05), (
        "what is fading already is no new transition"
    )


joint_values = st.lists(st.floats(-1.0, 1.0), min_size=3, max_size=3).map(np.array)


@given(offset=joint_values, velocity=joint_values, shortest=st.floats(0.05, 1.0))
def test_a_fade_stays_within_its_share_of_the_limits(offset, velocity, shortest):
    limits = arm_limits()
    motion = np.stack([offset, velocity, np.zeros(3)])
    duration = fade_duration(motion, limits, np.full(3, 1e3), shortest)
    assert duration >= shortest
    left = Fades(3)
    left.add(0.0, duration, motion)
    times = np.linspace(0.0, duration, 400)
    speeds = np.array([left.sample(t)[1].copy() for t in times])
    effort = np.abs(np.gradient(speeds, times, axis=0))
    allowed = np.maximum(TRANSITION_FRACTION * limits.velocity, np.abs(velocity))
    assert (effort <= TRANSITION_FRACTION * limits.acceleration * 1.05).all(), (
        "5 %: the fade is looked at in twelve places"
    )
    assert (np.abs(speeds) <= 1.05 * allowed).all()


def test_a_fade_is_drawn_out_until_it_is_calm():
    motion = np.array([[0.02, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    lively = fade_duration(motion, arm_limits(), np.full(3, 20.0), 0.1)
    calm = fade_duration(motion, arm_limits(), np.full(3, 3.0), 0.1)
    assert lively < 0.15 < calm <= LONGEST_S


def test_chunks_that_come_faster_than_the_fade_still_converge():
    timeline = Timeline(arm_limits(), 0.01, blend_s=0.3)
    position, velocity, acceleration = np.array([0.4, -0.4, 0.0]), np.zeros(3), np.zeros(3)
    for tick in range(200):
        now = START + tick * 0.01
        timeline.push(path_chunk(now - 0.05), now, position, velocity, acceleration)
        newest = timeline.sample(now + 0.01)[0].copy()
        acceleration = ((newest - position) / 0.01 - velocity) / 0.01
        velocity, position = (newest - position) / 0.01, newest
    np.testing.assert_allclose(position[:2], path(200 * 0.01)[:2], atol=5e-3)


def test_a_stop_is_smooth_and_ends_at_rest():
    timeline = Timeline(arm_limits(), PERIOD)
    position, velocity, acceleration = np.array([0.1, 0.2, 0.3]), np.array([1.5, -0.5, 0.0]), np.array([3.0, 0.0, 0.0])
    timeline.stop(2.0, position, velocity, acceleration)
    times = np.linspace(2.0, timeline.end, 500)
    speeds = np.array([timeline.sample(t)[1].copy() for t in times])
    effort = np.gradient(speeds, times, axis=0)
    np.testing.assert_allclose(speeds[0], velocity)
    np.testing.assert_allclose(effort[0], acceleration, atol=0.2)
    assert np.abs(speeds[-1]).max() < 1e-9 and np.abs(effort[-1]).max() < 0.1
    assert (np.abs(effort) <= TRANSITION_FRACTION * arm_limits().acceleration).all()


def test_unknown_interpolation_transition_and_bad_blend():
    with pytest.raises(ValueError, match="hold, linear, cubic"):
        Timeline(arm_limits(), PERIOD, "spline")
    with pytest.raises(ValueError, match="transition 'glue' is unknown, expected one of replace, blend, ensemble, rtc"):
        Timeline(arm_limits(), PERIOD, transition="glue")
    with pytest.raises(ValueError, match="blend_s"):
        Timeline(arm_limits(), PERIOD, blend_s=float("nan"))
    with pytest.raises(ValueError, match="no chunk"):
        Timeline(arm_limits(), PERIOD).sample(0.0)
