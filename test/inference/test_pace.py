"""Actions executed slower or faster than they were recorded."""

from __future__ import annotations

import numpy as np
import pytest
from chunks import chunk_of
from hypothesis import given
from hypothesis import strategies as st

from pi0_ros.control.plan import Plan
from pi0_ros.inference.pace import FASTEST, SLOWEST, Pace
from pi0_ros.inference.prefix import Continuation, RtcSettings

SECOND = 1_000_000_000
DT, START, TICK = 0.05, 1.7e9, 0.02
SPEEDS = np.array([False, True])


@given(st.floats(SLOWEST, FASTEST), st.integers(1, 30))
def test_the_way_stays_and_speeds_are_scaled(speed: float, steps: int) -> None:
    made = chunk_of(START, DT, np.random.default_rng(steps).normal(size=(steps, 2)), ("arm", "base"))
    done = Pace(speed, SPEEDS).executed(made)
    assert done.stamp_ns == made.stamp_ns and done.dt_ns == pytest.approx(made.dt_ns / speed, abs=1)
    np.testing.assert_array_equal(done.actions[:, 0], made.actions[:, 0])
    went = [chunk.actions[:, 1].sum() * chunk.dt for chunk in (made, done)]  # a base goes as far
    assert went[0] == pytest.approx(went[1], rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("speed", [0.5, 1.0, 2.0])
def test_the_model_is_given_its_own_actions_at_its_own_rate(speed: float) -> None:
    """Whatever the pace: what it made, executed and then read back as the prefix of the next chunk is the same."""
    one = Continuation(RtcSettings(), np.zeros(2, bool), np.full(2, 9.0), pace=Pace(speed, SPEEDS))
    one.state(armed=True, follows=True)
    made = chunk_of(START, DT, np.stack([np.arange(40) * DT, np.full(40, 0.4)], 1), ("arm", "base"))
    one.prefix(made.stamp_ns)
    done = one.executed(made)
    one.published(done, made.stamp_ns + 1)
    seen_at = 5 * done.dt  # s after the chunk's stamp: the next observation
    ticks = np.arange(round(seen_at / TICK) + 3) * TICK
    for t in ticks:
        one.sent(round((START + t) * SECOND), np.array([t * speed, 0.4 * speed]))
    ahead = TICK * np.arange(200)
    positions = np.stack([(ticks[-1] + ahead) * speed, np.full(200, 0.4 * speed)], 1)
    velocities = np.stack([np.full(200, speed), np.zeros(200)], 1)
    one.planned(round((START + ticks[-1]) * SECOND), Plan(ahead, positions, velocities))
    found = one.prefix(made.stamp_ns + 5 * done.dt_ns)
    assert found is not None and found.dt == pytest.approx(DT) and len(found.actions) >= 10
    np.testing.assert_allclose(found.actions, made.actions[5 : 5 + len(found.actions)], atol=1e-4)
    assert one.report()["execution_speed"] == speed
    one.pace = Pace(1.0, SPEEDS)  # it changes with the next inference, not in the middle of one
    assert one.executed(made).dt_ns == done.dt_ns
