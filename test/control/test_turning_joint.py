"""A joint that turns without end, driven: where its driver's angle jumps changes nothing in what the robot does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from arms import NAMES, START, Bench, arm_limits, path
from chunks import chunk_of

from pi0_ros.control.splines import INTERPOLATIONS
from pi0_ros.control.states import Settings, State
from pi0_ros.control.transitions import TRANSITIONS
from pi0_ros.robot.space import Space
from pi0_ros.robot.turning import TURN


def wrapped(angle: np.ndarray | float) -> np.ndarray:
    return (np.asarray(angle) + np.pi) % TURN - np.pi


class Turntable(Bench):
    """The arm of the other tests whose yaw turns without end and is mounted turned by `offset`; its driver says and
    takes angles from -pi to pi."""

    def __init__(self, offset: float, settings: Settings) -> None:
        plain = arm_limits()
        endless = {"lower": np.array([-np.inf, *plain.lower[1:]]), "upper": np.array([np.inf, *plain.upper[1:]])}
        limits = replace(plain, **endless, outside=np.full(3, np.nan), space=Space(np.array([True, False, False])))
        super().__init__(limits, settings)
        self.offset = offset
        self.measured = self.as_driver(np.zeros(3))
        self.true = np.zeros(3)
        self.told: list[np.ndarray] = []  # what the driver gets

    def as_driver(self, true: np.ndarray) -> np.ndarray:
        return np.array([wrapped(true[0] + self.offset), *true[1:]])

    def step(self, ticks: int = 1) -> None:
        for _ in range(ticks):
            super().step()
            command = self.sent[-1]
            if command is not None:
                self.told.append(command.position + self.controller.feedback.turned)
                self.true = np.array([self.true[0] + wrapped(self.told[-1][0] - self.offset - self.true[0]), 0, 0])
                self.true[1:] = command.position[1:]
                self.measured = self.as_driver(self.true)

    def run(self, seconds: float, every: float = 0.4, delay: float = 0.1) -> None:
        """Turn on and on: more than a whole turn, by chunks as a model gives them out, in -pi .. pi."""
        for tick in range(round(seconds / self.period)):
            if tick % round(every / self.period) == 0:
                t = self.now - delay - START + 0.05 * np.arange(24)
                actions = path(t)
                actions[:, 0] = wrapped(0.9 * t + self.offset)
                assert self.controller.accept(chunk_of(self.now - delay, 0.05, actions, NAMES), self.now)
            self.step()


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("transition", TRANSITIONS)
def test_where_the_angle_jumps_changes_no_command(interpolation: str, transition: str) -> None:
    found = []
    for offset in (0.0, 3.0, np.pi, -2.5):
        bench = Turntable(offset, Settings(interpolation=interpolation, transition=transition))
        bench.arm()
        bench.run(9.0)
        assert bench.controller.state is State.RUNNING, bench.controller.reason
        sent = bench.positions()
        bench.assert_within_limits()
        assert np.ptp(sent[:, 0]) > TURN, "it has turned more than once"
        apart = np.abs(np.array(bench.told)[:, 0] - np.roll(np.array(bench.told)[:, 0], 1))[1:]
        assert ((apart < 0.1) | (np.abs(apart - TURN) < 0.1)).all()
        found.append(np.hstack([wrapped(sent[:, :1] - offset), sent[:, 1:]]))
    for other in found[1:]:
        np.testing.assert_allclose(wrapped(other - found[0]), 0.0, atol=1e-6)


@pytest.mark.parametrize("turns", [0, 3, -2])
def test_a_driver_that_counts_on_is_told_in_its_own_count(turns: int) -> None:
    """It says 18.9 and is sent 18.9, not 0.05: a servo would turn back three times."""
    bench = Turntable(0.0, Settings())
    bench.as_driver = lambda true: np.array([true[0] + TURN * turns, *true[1:]])  # type: ignore[method-assign]
    bench.measured = bench.as_driver(np.zeros(3))
    bench.arm()
    bench.run(3.0)
    told = np.array(bench.told)[:, 0]
    assert np.abs(told - TURN * turns - bench.positions()[:, 0] + bench.positions()[0, 0]).max() < 0.1
    assert np.abs(np.diff(told)).max() < 0.1 and np.ptp(told) > 1.0


def test_a_joint_that_lags_across_the_jump_is_not_called_blocked() -> None:
    bench = Turntable(3.1, Settings())
    bench.arm()
    bench.follows = False
    bench.run(4.0)
    assert bench.controller.state is State.RUNNING and not bench.controller.fault


def test_a_hold_and_a_new_start_beside_the_jump() -> None:
    """No chunk for a while, disarmed, turned by hand across the jump, armed again: nothing leaps."""
    bench = Turntable(3.1, Settings())
    bench.arm()
    bench.run(2.0)
    bench.step(200)
    assert bench.controller.state is State.DISARMED
    bench.true = bench.true + [0.3, 0.0, 0.0]
    bench.measured = bench.as_driver(bench.true)
    before = len(bench.told)
    bench.step(40)
    bench.controller.fault = ""
    assert bench.controller.arm(bench.now) == []
    bench.step(20)
    told = np.array(bench.told[before:])[:, 0]
    assert np.abs(wrapped(told - bench.measured[0])).max() < 1e-6
