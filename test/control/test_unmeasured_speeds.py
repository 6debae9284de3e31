"""Speeds that nobody measures, a hand's: they begin and end at zero, and the arm that is only seen must be fresh."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from arms import PERIOD, START
from chunks import chunk_of
from servoed_arm import SERVOED

from pi0_ros.control.controller import Controller
from pi0_ros.control.feedback import Feedback
from pi0_ros.control.limits import JointLimits, limits_of
from pi0_ros.control.states import Command, Settings, State
from pi0_ros.robot import robot_from_yaml
from pi0_ros.robot.types import DRIVER_WAITS_S

NAMES = ("vx", "wz")
ARM = JointLimits(("elbow",), [-3.0], [3.0], [2.0], [9.0], [False])
ENDS = [-0.2, -1.0], [0.2, 1.0], [1.0, 4.0], [10.0, 40.0], [False, False]
HAND = JointLimits(NAMES, *ENDS, speed=True, measured=False)
AGE_S = 0.15


class Hand:
    """A controller of the hand alone, and the arm behind it."""

    def __init__(self, limits: JointLimits = HAND) -> None:
        beside = Feedback(ARM, np.array([AGE_S]))
        self.controller = Controller(limits, PERIOD, np.full(2, np.inf), Settings(rearm_after_s=5.0), beside=beside)
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


@pytest.mark.parametrize(("elbow", "told"), [(2.5, "elbow is said to have moved by 2.5"), (30.0, "far outside")])
def test_an_arm_that_is_said_to_leap_is_a_fault_at_once(elbow: float, told: str) -> None:
    hand = Hand()
    hand.drive()
    before = hand.now
    hand.elbow = elbow
    hand.step(PERIOD)
    controller = hand.controller
    assert controller.state is State.DISARMED and told in controller.fault
    path = np.array([command.position for command in hand.step(1.0)])
    assert path[0].any() and not path[-1].any(), "it brakes to zero"
    chunk = chunk_of(before, 0.05, np.tile([0.1, 0.0], (40, 1)), NAMES)
    assert not controller.accept(chunk, hand.now) and "cannot be true" in controller.last_refusal


def test_an_arm_that_went_on_during_a_stall_is_no_leap() -> None:
    hand = Hand()
    hand.drive()
    hand.elbow, hand.heard = 2.95, False  # further than it could have gone while it was watched
    hand.step(PERIOD, gap=0.25)
    hand.heard = True
    hand.step(1.0)
    assert hand.controller.state is State.HOLDING and not hand.controller.fault


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


@pytest.mark.parametrize("waits_s", [0.1, 0.15, DRIVER_WAITS_S, 1.0, np.inf])
@pytest.mark.parametrize("gap_s", [0.08, 0.12, 0.3, 0.9, 2.0])
def test_behind_a_pause_it_goes_on_from_what_its_driver_made_of_it(waits_s: float, gap_s: float) -> None:
    """Where the driver has stopped it no brake starts it again; where it goes on it is braked within its limits."""
    hand = Hand(replace(HAND, driver_waits=np.array(waits_s)))
    hand.drive()
    stopped = gap_s + PERIOD > waits_s
    commands = np.array([command.position for command in hand.step(1.0, gap=gap_s)])
    assert hand.controller.state is State.HOLDING and "stood still" in hand.controller.reason
    changes = np.abs(np.diff(commands, axis=0, prepend=[[0.0, 0.0] if stopped else [0.15, 0.8]]))
    assert (changes <= np.array([1.0, 4.0]) * PERIOD * (1 + 1e-9)).all()
    assert commands.any() != stopped
    np.testing.assert_array_equal(commands[-1], [0.0, 0.0])


def test_two_pauses_one_behind_the_other_are_two_in_which_it_may_have_been_stopped() -> None:
    hand = Hand()
    hand.drive()
    hand.step(PERIOD, gap=0.12)
    for command in hand.step(0.5, gap=0.3):
        np.testing.assert_array_equal(command.position, [0.0, 0.0])


def test_a_hand_does_not_wait_for_what_is_not_heard_of_a_base() -> None:
    """The base is braked from what it was told where its odometry is gone; the hand has stopped."""
    limits = replace(HAND, names=("forward", "wz"), measured=np.array([True, False]))
    controller, now = Controller(limits, PERIOD, np.array([1.0, np.inf]), Settings()), START

    def tick(heard: bool) -> Command | None:
        if heard:
            controller.measure(now, np.arange(1), controller.sent[:1])
        return controller.tick(now)

    for n in range(60):
        if n == 20:
            assert controller.arm(now) == []
            controller.accept(chunk_of(now, 0.05, np.tile([0.15, 0.8], (40, 1)), limits.names), now)
        now += PERIOD
        tick(heard=True)
    np.testing.assert_allclose(controller.sent, [0.15, 0.8], atol=1e-6)
    now += 0.5
    commands = []
    for _ in range(60):
        now += PERIOD
        if (command := tick(heard=False)) is not None:
            commands.append(command.position)
    path = np.array(commands)
    assert not path[:, 1].any() and path[0, 0] > 0.1 and (np.diff(path[:, 0]) <= 0).all() and path[-1, 0] == 0.0


@pytest.mark.parametrize(("key", "waits_s"), [("", DRIVER_WAITS_S), ("max_age_s: 0.1", 0.1), ("hold: true", np.inf)])
def test_the_robot_file_says_how_long_a_driver_waits(key: str, waits_s: float) -> None:
    file = SERVOED.replace("{name: hand,", f"{{name: hand, {key},") if key else SERVOED
    limits = limits_of(robot_from_yaml(file, "servoed.yaml"))
    np.testing.assert_array_equal(limits.driver_waits, [*[waits_s] * 6, DRIVER_WAITS_S])


def test_what_lies_ahead_is_known() -> None:
    hand = Hand()
    hand.drive()
    ahead = hand.controller.fork()
    told = [ahead.tick(hand.now + n * PERIOD) for n in range(1, 20)]
    for command, other in zip(told, hand.step(0.38), strict=True):
        assert command is not None
        np.testing.assert_allclose(command.position, other.position, atol=1e-9)
    assert hand.controller.report(hand.now)["joint_state_age_s"] == 0.0
