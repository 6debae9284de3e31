"""Speeds that nobody measures, a hand's: they begin and end at zero, and the arm that is only seen must be fresh."""

from __future__ import annotations

import numpy as np
from arms import PERIOD, START
from chunks import chunk_of

from pi0_ros.control.controller import Command, Controller, Settings, State
from pi0_ros.control.feedback import Feedback
from pi0_ros.control.limits import JointLimits

NAMES = ("vx", "wz")
ARM = JointLimits(("elbow",), [-3.0], [3.0], [2.0], [9.0], [False])
ENDS = [-0.2, -1.0], [0.2, 1.0], [1.0, 4.0], [10.0, 40.0], [False, False]
HAND = JointLimits(NAMES, *ENDS, speed=True, measured=False)
AGE_S = 0.15


class Hand:
    """A controller of the hand alone, and the arm behind it."""

    def __init__(self) -> None:
        beside = Feedback(ARM, np.array([AGE_S]))
        self.controller = Controller(HAND, PERIOD, np.full(2, np.inf), Settings(rearm_after_s=5.0), beside=beside)
        self.now, self.elbow, self.heard, self.sent = START, 0.0, True, []  # type: ignore[var-annotated]

    def step(self, seconds: float, gap: float = 0.0) -> list[Command]:
        """The commands of so long, behind a `gap` without ticks."""
        before, self.now = len(self.sent), self.now + gap
        for _ in range(round(seconds / PERIOD)):
            self.now += PERIOD
            if self.heard:
                self.controller.see(self.now, np.arange(1), np.array([self.elbow]))
            self.sent.append(self.controller.tick(self.now))
        return [command for command in self.sent[before:] if command is not None]

    def drive(self) -> None:
        """Armed and under way."""
        self.step(0.4)
        assert self.controller.arm(self.now) == []
        self.controller.accept(chunk_of(self.now, 0.05, np.tile([0.15, 0.8], (40, 1)), NAMES), self.now)
        np.testing.assert_allclose(self.step(0.8)[-1].position, [0.15, 0.8], atol=1e-6)


def test_it_arms_when_the_arm_is_seen_to_rest_and_not_before() -> None:
    hand = Hand()
    hand.heard = False
    hand.step(0.4)
    assert hand.controller.arm(hand.now) == ["no joint state for elbow"]
    hand.heard = True
    for _ in range(20):
        hand.elbow += 0.01
        hand.step(PERIOD)
    assert "elbow is not at rest" in hand.controller.arm(hand.now)[0]
    hand.elbow = 9.0
    hand.step(0.4)
    assert "elbow is at 9, outside its limits" in hand.controller.arm(hand.now)[0]
    hand.elbow = 0.5
    hand.drive()
    changes = np.abs(np.diff([command.position for command in hand.sent if command is not None], axis=0))
    assert (changes <= np.array([1.0, 4.0]) * PERIOD * (1 + 1e-9)).all() and changes.max() > 0


def test_it_brakes_to_zero_when_the_arm_is_not_seen_any_more() -> None:
    hand = Hand()
    hand.drive()
    hand.heard = False
    last = hand.step(AGE_S + 1.0)[-1]
    assert hand.controller.state is State.HOLDING and "joint state of elbow" in hand.controller.reason
    np.testing.assert_array_equal(last.position, [0.0, 0.0])
    hand.heard = True
    hand.step(0.4)
    hand.controller.accept(chunk_of(hand.now, 0.05, np.tile([0.1, 0.0], (40, 1)), NAMES), hand.now)
    np.testing.assert_allclose(hand.step(0.6)[-1].position, [0.1, 0.0], atol=1e-6)


def test_disarmed_or_stopped_it_brakes_within_its_limits_to_zero() -> None:
    for end in ("disarm", "estop"):
        hand = Hand()
        hand.drive()
        getattr(hand.controller, end)("asked")
        commands = hand.step(1.0)
        path = np.array([[0.15, 0.8], *(command.position for command in commands)])
        assert (np.abs(np.diff(path, axis=0)) <= np.array([1.0, 4.0]) * PERIOD * (1 + 1e-9)).all()
        np.testing.assert_array_equal(path[-1], [0.0, 0.0])
        assert hand.sent[-1] is None, "then nothing is commanded"


def test_behind_a_pause_in_which_its_driver_stopped_it_no_brake_starts_it_again() -> None:
    hand = Hand()
    hand.drive()
    for command in hand.step(0.5, gap=0.5):
        np.testing.assert_array_equal(command.position, [0.0, 0.0])
    assert hand.controller.state is State.HOLDING


def test_what_lies_ahead_is_known() -> None:
    hand = Hand()
    hand.drive()
    ahead = hand.controller.fork()
    told = [ahead.tick(hand.now + n * PERIOD) for n in range(1, 20)]
    for command, other in zip(told, hand.step(0.38), strict=True):
        assert command is not None
        np.testing.assert_allclose(command.position, other.position, atol=1e-9)
    assert hand.controller.report(hand.now)["joint_state_age_s"] == 0.0
