"""The table of transitions, and temporal ensembling, checked against LeRobot's ACT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from arms import arm_limits
from chunks import chunk_of

from pi0_ros.control.chunk import ActionChunk
from pi0_ros.control.controller import Controller
from pi0_ros.control.splines import INTERPOLATIONS
from pi0_ros.control.states import Settings
from pi0_ros.control.transitions import TRANSITIONS, Ensemble, Transition

REFERENCE = Path(__file__).parents[1] / "fixtures" / "reference" / "lerobot_transforms.npz"
START, DT = 1.7e9, 0.02
NO_GRIPPER = np.zeros(3, dtype=bool)


def chunk(stamp: float, actions: np.ndarray) -> ActionChunk:
    return chunk_of(stamp, DT, actions, ("a", "b", "c"))


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_a_chunk_at_every_step_gives_acts_average(interpolation):
    reference = np.load(REFERENCE)
    ensemble = Ensemble(0.01, interpolation, NO_GRIPPER)
    for k, actions in enumerate(reference["ens0_chunks"]):
        mean = ensemble.add(chunk(START + k * DT, actions))
        np.testing.assert_allclose(
            mean.actions[0], reference["ens0_actions"][k], atol=2e-4
        )  # stamps of today are rounded
    ensemble.clear()
    for k, actions in enumerate(reference["ens0_chunks"]):
        np.testing.assert_allclose(
            ensemble.add(chunk(k * DT, actions)).actions[0], reference["ens0_actions"][k], atol=1e-6
        )


def test_the_oldest_weighs_most_and_hands_over_smoothly_where_it_ends():
    ensemble = Ensemble(0.1, "cubic", NO_GRIPPER)
    ensemble.add(chunk(0.0, np.zeros((20, 3))))
    mean = ensemble.add(chunk(8 * DT, np.ones((20, 3)))).actions[:, 0]
    np.testing.assert_allclose(mean[:5], np.exp(-0.8) / (1 + np.exp(-0.8)))
    np.testing.assert_array_equal(mean[12:], 1.0)
    assert (np.diff(mean[4:13]) > 0).all() and np.diff(mean).max() < 0.2


def test_between_steps_the_older_chunk_is_interpolated():
    ensemble, line = Ensemble(0.0, "cubic", NO_GRIPPER), np.arange(10.0)[:, None] * np.ones(3)
    ensemble.add(chunk(0.0, line))
    mean = ensemble.add(chunk(2.5 * DT, line + 2.5)).actions
    np.testing.assert_allclose(mean, line + 2.5, atol=1e-9)


def test_grippers_take_the_newest_word():
    ensemble = Ensemble(0.01, "cubic", np.array([False, False, True]))
    ensemble.add(chunk(0.0, np.zeros((10, 3))))
    mean = ensemble.add(chunk(DT, np.ones((10, 3)))).actions
    assert (mean[:, 2] == 1.0).all() and (mean[:8, 0] < 0.6).all()


def test_a_chunk_that_is_over_counts_no_more():
    ensemble = Ensemble(0.01, "cubic", NO_GRIPPER)
    ensemble.add(chunk(0.0, np.zeros((5, 3))))
    np.testing.assert_array_equal(ensemble.add(chunk(5 * DT, np.ones((5, 3)))).actions, 1.0)


class Halved:
    """Follows half of every chunk."""

    def __init__(self) -> None:
        self.taken = 0

    def add(self, chunk: ActionChunk) -> ActionChunk:
        self.taken += 1
        return ActionChunk(chunk.stamp_ns, chunk.dt_ns, chunk.actions / 2, chunk.names)

    def clear(self) -> None:
        self.taken = 0


def test_a_transition_is_a_line_in_the_table(monkeypatch):
    halved, fades = Halved(), []
    long = Transition(lambda chunk, blend_s: fades.append(blend_s) or 7.0, lambda *made_of: halved)
    monkeypatch.setitem(TRANSITIONS, "halved", long)
    limits = arm_limits()
    names = limits.names
    controller = Controller(limits, 0.01, np.full(len(names), 9.0), Settings(transition="halved"))
    for tick in range(30):
        controller.tick(0.01 * tick)
        controller.measure(0.01 * tick, np.arange(len(names)), np.zeros(len(names)))
    assert not controller.arm(0.29)
    assert controller.accept(chunk_of(0.29, 0.1, np.full((20, len(names)), 0.2), names), 0.29)
    assert controller.fork()._combined is None, "a copy takes up no chunk"
    controller.tick(0.30)
    assert controller.timeline.chunk is not None and controller.timeline.chunk.actions[0, 0] == pytest.approx(0.1)
    assert fades == [0.2] and controller.timeline.fade_end > 7.0 and halved.taken == 1
    controller.disarm("enough")
    assert halved.taken == 0, "and forgets its chunks with the controller"


def test_a_transition_that_the_table_does_not_hold_is_refused():
    with pytest.raises(ValueError, match="transition 'glue' is unknown, expected one of replace, blend, ensemble, rtc"):
        Controller(arm_limits(), 0.01, np.full(3, 9.0), Settings(transition="glue"))
