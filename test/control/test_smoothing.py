"""Jerk limits by a running mean that takes nothing from the other limits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from arms import PERIOD, arm_limits

from pi0_ros.control.limits import JointLimits, Limiter
from pi0_ros.control.smoothing import LONGEST_S, Smoother


def worst_case(limits: JointLimits, period: float) -> np.ndarray:
    """Positions sent when the target leaps to and fro, [n, J]."""
    smoother = Smoother(limits, period)
    limiter = Limiter(replace(limits, acceleration=smoother.acceleration), period)
    limiter.start(np.zeros(3))
    smoother.start(np.zeros(3))
    random, sent = np.random.default_rng(1), [np.zeros(3)]
    for tick in range(600):
        if tick % 23 == 0:
            goal = random.uniform(1.2 * limits.lower, 1.2 * limits.upper)
        limiter.follow(goal, np.zeros(3))
        sent.append(np.empty(3))
        smoother.push(limiter.position, out=sent[-1])
    return np.array(sent)


@pytest.mark.parametrize("period", [0.02, 0.004, 0.001])
@pytest.mark.parametrize("jerk", [60.0, 400.0, 7500.0])
def test_every_limit_is_kept(period, jerk):
    limits = replace(arm_limits(), jerk=np.array([jerk, 2 * jerk, np.inf]))
    sent = worst_case(limits, period)
    assert (sent >= limits.lower - 1e-12).all() and (sent <= limits.upper + 1e-12).all()
    bounds = (limits.velocity, limits.acceleration, limits.jerk)
    for order, bound in enumerate(bounds, start=1):
        start = np.repeat(sent[:1], order, axis=0)  # at rest before
        reached = np.abs(np.diff(np.concatenate([start, sent]), n=order, axis=0)).max(axis=0) / period**order
        assert (reached <= bound * (1 + 1e-6) + 1e-14 / period**order).all(), order
    assert reached[0] > 0.4 * min(jerk, 2 * limits.acceleration[0] / period), "and made use of"


def test_without_jerk_limits_nothing_is_delayed_or_changed():
    smoother = Smoother(arm_limits(), PERIOD)
    assert (smoother.window, smoother.ahead) == (1, 0.0)
    out, position = np.empty(3), np.array([0.1, 0.2, 0.3])
    smoother.push(position, out=out)
    np.testing.assert_array_equal(out, position)
    np.testing.assert_array_equal(smoother.acceleration, arm_limits().acceleration)


def test_a_low_jerk_limit_costs_acceleration_instead_of_a_long_window():
    smoother = Smoother(replace(arm_limits(), jerk=np.array([50.0, np.inf, np.inf])), PERIOD)
    assert smoother.window * PERIOD == pytest.approx(LONGEST_S)
    np.testing.assert_allclose(smoother.acceleration, [50.0 * LONGEST_S / 2, 12.0, 50.0])


def test_the_mean_belongs_to_the_middle_of_its_window():
    limits = replace(arm_limits(), jerk=np.full(3, 400.0))
    smoother = Smoother(limits, PERIOD)
    smoother.start(np.zeros(3))
    line, out = np.array([0.1, 0.2, 0.0]), np.empty(3)
    for tick in range(50):
        smoother.push(tick * PERIOD * line, out=out)
    assert smoother.window > 3 and not smoother.settled
    np.testing.assert_allclose(out, (49 * PERIOD - smoother.ahead) * line)
    for _ in range(smoother.window):
        smoother.push(line, out=out)
    assert smoother.settled
