"""Which of the model's dimensions a joint takes: the same policy, elsewhere in its vectors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from policy_fixtures import TOKENIZER, observation, tiny_checkpoint, tiny_config, tiny_robot, tiny_stats

from pi0_ros.checkpoints.norm_stats import NormStats, Stats, save_norm_stats
from pi0_ros.checkpoints.own import ROBOT, STATS
from pi0_ros.checkpoints.settings import PolicySettings
from pi0_ros.checkpoints.spec import PolicySpec
from pi0_ros.doctor.checkpoint import examine_checkpoint
from pi0_ros.inference.prefix import ActionPrefix, RtcSettings
from pi0_ros.policy.guidance import make_guidance
from pi0_ros.policy.transforms import actions_from_model, actions_to_model, make_inputs
from pi0_ros.robot import Robot, RobotFileError, load_robot, robot_from_yaml, robot_to_yaml
from pi0_ros.tokens.tokenizer import Tokenizer
from pi0_ros.training.statistics import NOT_MOVED, measure

PLACES = (7, 2, 3, 4, 0, 6)  # of the tiny model's 8 dimensions


def at(robot: Robot, places: tuple[int, ...] = PLACES) -> Robot:
    return replace(robot, joints=tuple(replace(j, model_index=p) for j, p in zip(robot.joints, places, strict=True)))


def spread_out(stats: Stats) -> Stats:
    """The statistics of the plain robot at the other's places, with other joints' between them."""
    found = {}
    for field, values in stats.present().items():
        whole = np.full(8, 0.5 if field in ("std", "q99") else -0.5)
        whole[list(PLACES)] = values
        found[field] = whole
    return Stats(**found)


def spec(robot: Robot, stats: NormStats, **change: object) -> PolicySpec:
    settings = PolicySettings("mean_std", "mean_std", 20.0)
    return PolicySpec(replace(tiny_config(), **change), settings, robot, stats, Tokenizer.load(TOKENIZER))


@pytest.fixture
def both() -> tuple[PolicySpec, PolicySpec]:
    robot, stats = tiny_robot(), tiny_stats(6)
    moved = NormStats(spread_out(stats.state), spread_out(stats.actions))
    return spec(robot, stats), spec(at(robot), moved)


def test_states_and_actions_are_the_same_numbers_elsewhere(both: tuple[PolicySpec, PolicySpec]) -> None:
    plain, moved = both
    seen = observation(plain.robot, 3)
    images, state = {name: image[None] for name, image in seen.images.items()}, seen.state[None]
    ours, theirs = (make_inputs(one, images, state, ["go"]).state for one in both)
    np.testing.assert_array_equal(theirs[:, list(PLACES)], ours[:, :6])
    assert not theirs[:, [1, 5]].any()
    actions = np.random.default_rng(0).uniform(-1, 1, (1, 5, 6)) + state[:, None]
    ours, theirs = (actions_to_model(one, actions, state) for one in both)
    np.testing.assert_array_equal(theirs[..., list(PLACES)], ours[..., :6])
    assert not theirs[..., [1, 5]].any()
    np.testing.assert_allclose(actions_from_model(moved, theirs, state), actions, atol=1e-5)
    np.testing.assert_array_equal(actions_from_model(moved, theirs, state), actions_from_model(plain, ours, state))


def test_a_prefix_guides_the_joints_dimensions_only(both: tuple[PolicySpec, PolicySpec]) -> None:
    plain, moved = both
    state = observation(plain.robot, 3).state
    prefix = ActionPrefix(np.tile(state, (4, 1)), 1.0 / plain.fps, 1, RtcSettings("exact"))
    ours, theirs = (make_guidance(one, prefix, state) for one in both)
    assert ours is not None and theirs is not None
    np.testing.assert_array_equal(theirs.weights[..., list(PLACES)], ours.weights[..., :6])  # type: ignore[union-attr]
    assert not theirs.weights[..., [1, 5]].any()  # type: ignore[union-attr]


def test_what_cannot_fit_is_refused() -> None:
    robot, stats = tiny_robot(), tiny_stats(6)
    moved = NormStats(spread_out(stats.state), spread_out(stats.actions))
    with pytest.raises(ValueError, match=r"joint '\w+' of robot '\w+' has model_index 9, the model has 8 dimensions"):
        spec(at(robot, (9, 2, 3, 4, 0, 6)), moved)
    with pytest.raises(ValueError, match=r"model_index 7, norm_stats.state has 6 dimensions"):
        spec(at(robot), stats)
    still = replace(moved.actions, std=np.where(np.arange(8) == 4, 0.0, moved.actions.std))
    with pytest.raises(ValueError, match=r"model_index 4, where norm_stats.actions never varies: .*policy.asset_id"):
        spec(at(robot), NormStats(moved.state, still))


def test_statistics_of_ones_own_data_lie_at_the_joints_places() -> None:
    robot = load_robot("demo_arm")
    rng = np.random.default_rng(0)
    episode = SimpleNamespace(state=rng.normal(size=(40, 6)), action=rng.normal(size=(40, 6)))
    found = {}
    for one in (robot, at(robot)):
        data = SimpleNamespace(robot=one, path="data", episodes=[episode])
        found[one is robot] = measure(data, one, 5)[0]  # type: ignore[arg-type]
    for part in ("state", "actions"):
        plain, moved = getattr(found[True], part), getattr(found[False], part)
        for field, absent in zip(("mean", "std", "q01", "q99"), NOT_MOVED, strict=True):
            np.testing.assert_array_equal(moved.need(field)[list(PLACES)], plain.need(field))
            assert (moved.need(field)[[1, 5]] == absent).all()


def test_the_doctor_reads_the_joints_own_statistics(both: tuple[PolicySpec, PolicySpec], tmp_path: Path) -> None:
    plain, moved = both
    folder = tiny_checkpoint(tmp_path / "moved")
    (folder / ROBOT).write_text(robot_to_yaml(moved.robot))
    save_norm_stats(moved.norm_stats, folder / STATS)
    _, facts = examine_checkpoint(moved.robot, folder)
    assert facts is not None and facts.state is not None
    np.testing.assert_allclose(facts.state.low, plain.norm_stats.state.present()["q01"])


def test_the_robot_file_has_a_place_for_every_joint_or_for_none() -> None:
    robot = at(load_robot("demo_arm"))
    text = robot_to_yaml(robot)
    assert robot_from_yaml(text, "again") == robot and robot.has_places
    assert robot.state_places.tolist() == list(PLACES)
    for old, new, sentence in (
        ("  model_index: 2\n", "", r"joints\[1\]\.model_index: missing: 'yaw' has one"),
        ("model_index: 2\n", "model_index: 7\n", r"joints\[1\]\.model_index: '7' stands already"),
        ("model_index: 2\n", "model_index: -1\n", r"joints\[1\]\.model_index: -1 is no whole number"),
        ("model_index: 2\n", "model_index: 1.5\n", r"joints\[1\]\.model_index: 1.5 is no whole number"),
    ):
        assert old in text
        with pytest.raises(RobotFileError, match=sentence):
            robot_from_yaml(text.replace(old, new, 1), "r")
