"""The running demo's score, in words."""

from __future__ import annotations

import numpy as np

from pi0_ros.sim.referee import PATIENCE_S, Referee
from pi0_ros.sim.world import CUBES, EDGE, ON_TRAY, SLOTS, TRAY, lying_in_tray

LYING = {name: np.array([0.25, -0.1 + 0.1 * i, 0.02, 1, 0, 0, 0]) for i, name in enumerate(CUBES)}
INSIDE = np.array([*TRAY, 0.024, 1, 0, 0, 0])


def see(referee: Referee, now: float, *inside: str) -> None:
    referee.score.update({**LYING, **dict.fromkeys(inside, INSIDE)})
    referee.watch(now)


def test_instructions_are_counted_once_and_timed() -> None:
    referee = Referee()
    assert referee.sentence() == "no instruction yet" and referee.understood
    referee.instruct("put the red cube in the tray", 1.0)
    see(referee, 2.0)
    assert referee.sentence() == "at it: red; 0 of 1 so far" and not referee.settled
    see(referee, 4.5, "red")
    see(referee, 5.0, "red")
    assert referee.sentence() == "red in the tray after 3.5 s; 1 of 1 so far" and referee.settled
    referee.instruct("place the blue block in the tray", 6.0)
    see(referee, 8.0, "red", "blue")
    assert referee.fulfilled == referee.asked == 2


def test_the_wrong_cube_and_too_late_are_no_success() -> None:
    referee = Referee()
    referee.instruct("put the red cube in the tray", 0.0)
    see(referee, 1.0, "green", "red")
    assert referee.fulfilled == 0
    see(referee, PATIENCE_S + 1.0)
    see(referee, PATIENCE_S + 2.0, "red")
    assert referee.sentence() == "not fulfilled: red; 0 of 1 so far"


def test_an_instruction_outside_the_language_is_said_to_be_so() -> None:
    referee = Referee()
    referee.instruct("do a handstand", 0.0)
    assert not referee.understood and referee.asked == 0
    assert "was not taught 'do a handstand'" in referee.sentence() and "red, green or blue" in referee.sentence()


def test_a_new_scene_waits_for_an_instruction() -> None:
    referee = Referee()
    referee.instruct("put the red cube in the tray", 0.0)
    see(referee, 1.0, "red")
    referee.scene()
    see(referee, 2.0, "red")
    assert referee.sentence() == "a new scene: give an instruction" and referee.fulfilled == 1


def test_a_cube_on_another_in_the_tray_lies_in_the_tray_one_that_is_held_over_it_does_not() -> None:
    lying = np.array([*SLOTS["green"], ON_TRAY])
    on_it, held, beside = lying + [0.02, 0.01, EDGE], lying + [0.0, 0.0, 0.06], lying + [0.05, 0.0, EDGE]
    assert lying_in_tray({"green": lying, "blue": on_it}) == ["green", "blue"]
    assert lying_in_tray({"green": lying, "blue": held}) == ["green"]
    assert lying_in_tray({"green": lying, "blue": beside}) == ["green"], "over the floor of the tray: held"
    assert lying_in_tray({"green": np.array([0.25, 0.0, 0.02]), "blue": on_it}) == [], "on nothing"
