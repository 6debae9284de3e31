"""Whatever comes, what leaves the controller is finite, continuous and within the limits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from arms import PERIOD, Bench
from chunks import chunk_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pi0_ros.control.chunk import ActionChunk, ChunkError
from pi0_ros.control.limits import JointLimits
from pi0_ros.control.splines import INTERPOLATIONS
from pi0_ros.control.states import Settings, State
from pi0_ros.control.transitions import TRANSITIONS, slowing_duration

NAMES = ("a", "b", "c", "g")


@st.composite
def limits(draw: st.DrawFn) -> JointLimits:
    """Slow and fast joints, narrow and wide ranges, not all around zero, some with jerk limits, one perhaps a speed."""
    number = lambda low, high: np.array([draw(st.floats(low, high)) for _ in NAMES])  # noqa: E731
    lower = number(-4.0, 3.0)
    gripper = np.array([False, False, False, True])
    plain = JointLimits(NAMES, lower, lower + number(0.05, 6.0), number(0.05, 8.0), number(0.1, 60.0), gripper)
    jerk = draw(st.none() | st.lists(st.sampled_from([5.0, 100.0, 3000.0, np.inf]), min_size=4, max_size=4))
    if draw(st.booleans()):
        back, forth = draw(st.sampled_from([0.0, 0.2, 1.0])), draw(st.floats(0.05, 2.0))
        lower, upper = (
            np.where(np.arange(4) == 1, end, ends) for end, ends in ((-back, plain.lower), (forth, plain.upper))
        )
        plain = replace(plain, lower=lower, upper=upper, speed=np.arange(4) == 1, outside=np.array(np.nan))
    return plain if jerk is None else replace(plain, jerk=np.array(jerk))


@st.composite
def events(draw: st.DrawFn) -> list[tuple]:
    """What happens between the ticks: chunks late, lost, shuffled or bad, lost joint states, stops, skipped ticks."""
    kinds = (
        ["chunk"] * 8
        + ["nothing"] * 4
        + ["refuse", "silence", "skip", "back", "leap", "push", "disarm", "estop", "arm"]
        + ["stall", "blocked", "liar", "slow"]
    )
    number = st.integers(0, 2**31)
    return draw(st.lists(st.tuples(st.sampled_from(kinds), number, st.integers(1, 25)), min_size=1, max_size=25))


def chunk(bench: Bench, seed: int) -> ActionChunk:
    """Smooth, rough or absurd actions, now and then beyond the limits; delay -0.05 to 1.5 s."""
    random = np.random.default_rng(seed)
    steps, dt = int(random.integers(1, 40)), float(random.choice([0.01, 0.02, 0.05, 0.2]))
    low, high = bench.limits.lower, bench.limits.upper
    middle, reach = (low + high) / 2, (high - low) / 2 * random.choice([0.1, 0.9, 1.5, 2.5])
    if random.random() < 0.5:
        actions = middle + reach * random.uniform(-1, 1, (steps, len(low)))
    else:
        phase = random.uniform(0, 6, len(low)) + random.uniform(0, 8) * dt * np.arange(steps)[:, None]
        actions = middle + reach * np.sin(phase)
    return chunk_of(bench.now - random.uniform(-0.05, 1.5), dt, actions, bench.limits.names)


def happen(bench: Bench, kind: str, seed: int) -> None:
    controller = bench.controller
    bench.feedback_works = kind != "silence"
    if kind == "push":  # the arm is held back or moved by a hand
        bench.measured = bench.measured + 0.2 * np.sin(seed + np.arange(len(NAMES)))
    if kind == "chunk":
        try:
            controller.accept(chunk(bench, seed), bench.now)
        except ChunkError as error:
            controller.refuse(str(error), bench.now)
    elif kind == "refuse":
        controller.refuse("test", bench.now)
    elif kind == "skip":
        bench.now += (seed % 7) * bench.period
    elif kind == "back":
        bench.now -= (seed % 100) * bench.period
    elif kind == "leap":
        bench.now += 50.0
    elif kind == "stall":
        bench.stall((0.1, 0.3, 0.9, 40.0)[seed % 4])
    elif kind == "slow":
        bench.stall((seed % 9) * bench.period)
    elif kind == "blocked":
        bench.follows = not bench.follows
    elif kind == "liar":
        bench.controller.measure(bench.now, np.arange(4), bench.measured + 1.0 * (seed % 3))
    elif kind == "disarm":
        controller.disarm("test")
    elif kind == "estop":
        controller.estop("test")
    elif kind == "arm":
        if controller.state is State.STOPPED:
            controller.reset()
        controller.arm(bench.now)


@pytest.mark.parametrize("transition", TRANSITIONS)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    limits=limits(),
    events=events(),
    blend_s=st.sampled_from([0.0, 0.05, 0.2, 1.0]),
    period=st.sampled_from([0.05, 0.02, 0.004, 0.001]),
)
def test_output_is_always_within_the_limits(transition, interpolation, limits, events, blend_s, period):
    bench = Bench(limits, Settings(interpolation=interpolation, transition=transition, blend_s=blend_s), period)
    bench.measured = np.where(limits.speed, 0.0, limits.lower + 0.3 * (limits.upper - limits.lower))
    bench.arm()
    for kind, seed, ticks in events:
        happen(bench, kind, seed)
        bench.step(ticks)
    longest_s = Settings().rearm_after_s + Settings().chunk_timeout_s + 2.0 * slowing_duration(limits) + 0.5
    if limits.speed.any() and longest_s / period <= 2000:  # whatever happened, when nothing more comes a base stands
        bench.feedback_works, bench.follows = True, False
        bench.step(round(longest_s / period))
        commands = [command.position for command in bench.sent if command is not None]
        assert not commands or not commands[-1][limits.speed].any()
    bench.assert_within_limits()


@settings(max_examples=30, deadline=None)
@given(limits=limits(), seeds=st.lists(st.integers(0, 2**31), min_size=1, max_size=8))
def test_it_always_comes_to_rest_when_chunks_end(limits, seeds):
    bench = Bench(limits)
    bench.measured = np.where(limits.speed, 0.0, (limits.lower + limits.upper) / 2)
    bench.arm()
    for seed in seeds:
        happen(bench, "chunk", seed)
        bench.step(10)
    slowest_stop = 7.5 * (limits.velocity / limits.acceleration).max()  # s: 1.5 v, with a fifth of the acceleration
    slowest_stop = max(slowest_stop, slowing_duration(limits))
    ticks = round((8.0 + slowest_stop) / PERIOD)
    bench.step(min(ticks, 2000))
    assert bench.controller.state in (State.IDLE, State.HOLDING, State.DISARMED)
    if ticks <= 2000:
        assert not bench.controller.limiter.moving
