"""Normalisation statistics against a plain computation over all chunks."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
from bagmaker import Recipe, make_bag
from policy_fixtures import FIXTURES

from pi0_ros.checkpoints.norm_stats import load_norm_stats
from pi0_ros.cli.main import main
from pi0_ros.conversion.convert import convert
from pi0_ros.datasets.dataset import Dataset
from pi0_ros.datasets.feature_stats import describe, describe_histogram, image_histogram
from pi0_ros.robot import Joint, load_robot
from pi0_ros.robot.units import actions_to_model, state_to_model
from pi0_ros.training.statistics import NORM_STATS_PATH, _spread, chunk_steps, compute_norm_stats, measure

ROBOT = load_robot("demo_arm")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("stats")
    bags = [make_bag(folder / f"bags/{n}", ROBOT, Recipe(seconds=1.5 + n)) for n in range(2)]
    convert(bags, folder / "out", ROBOT)
    return Dataset(folder / "out")


def plain_chunks(dataset: Dataset, horizon: int) -> np.ndarray:
    """All relative chunks [N, horizon, J], by loops."""
    chunks = []
    for episode in dataset.episodes:
        for t in range(episode.length):
            steps = [episode.action[min(t + i, episode.length - 1)] for i in range(horizon)]
            chunks.append(np.array(steps) - np.where(ROBOT.relative_mask, episode.state[t], 0))
    return np.array(chunks, np.float64)


@pytest.mark.parametrize("horizon", [8, 24, 200])
def test_statistics_are_exact(dataset: Dataset, horizon: int) -> None:
    stats = compute_norm_stats(dataset, ROBOT, horizon)
    states = np.concatenate([episode.state for episode in dataset.episodes]).astype(np.float64)
    actions = plain_chunks(dataset, horizon).reshape(-1, 6)
    for measured, values in ((stats.state, states), (stats.actions, actions)):
        assert np.allclose(measured.mean, values.mean(axis=0), atol=1e-6)
        assert np.allclose(measured.std, values.std(axis=0), atol=1e-6)
        assert np.allclose(measured.q01, np.quantile(values, 0.01, axis=0), atol=1e-6)
        assert np.allclose(measured.q99, np.quantile(values, 0.99, axis=0), atol=1e-6)


@pytest.mark.parametrize("name", ["aloha", "franka_droid", "libero_pi0"])
def test_statistics_are_of_values_as_the_model_counts_them(name: str) -> None:
    """After signs, cranks, velocities and relative actions, as openpi computes them; state and action may differ."""
    robot, random = load_robot(name), np.random.default_rng(1)

    def walk(joints: tuple[Joint, ...]) -> np.ndarray:
        lower, upper = (np.array([getattr(joint, end) for joint in joints]) for end in ("lower", "upper"))
        return lower + (upper - lower) * random.uniform(0.2, 0.8, (30, len(joints)))

    episodes = [SimpleNamespace(state=walk(robot.state_joints), action=walk(robot.action_joints)) for _ in range(2)]
    stats = compute_norm_stats(SimpleNamespace(robot=robot, episodes=episodes), robot, 7)  # type: ignore[arg-type]
    states = np.concatenate([state_to_model(robot, episode.state) for episode in episodes])
    chunks = [
        actions_to_model(robot, episode.action[np.minimum(t + np.arange(7), 29)], episode.state[t])
        for episode in episodes
        for t in range(30)
    ]
    for found, values in ((stats.state, states), (stats.actions, np.concatenate(chunks))):
        np.testing.assert_allclose(found.mean, values.mean(0), atol=1e-9)
        np.testing.assert_allclose(found.q99, np.quantile(values, 0.99, axis=0), atol=1e-9)


def test_statistics_agree_with_openpis() -> None:
    """Means and deviations are equal; its quantiles are edges of histogram bins: as many values lie below, give or take
    one."""
    reference = np.load(FIXTURES / "reference" / "transforms.npz")
    values = reference["stats_batches"].reshape(-1, 3)
    mean, std, *quantiles = np.array([_spread(column) for column in values.T]).T
    np.testing.assert_allclose(mean, reference["stats_mean"], atol=1e-9)
    np.testing.assert_allclose(std, reference["stats_std"], rtol=1e-9)
    for ours, key in zip(quantiles, ("stats_q01", "stats_q99")):
        assert (np.abs((values < ours).sum(0) - (values < reference[key]).sum(0)) <= 1).all()


def test_chunks_repeat_the_last_action() -> None:
    assert chunk_steps(np.array([1.0, 2.0, 3.0]), 3).tolist() == [[1, 2, 3], [2, 3, 3], [3, 3, 3]]


def test_a_joint_at_rest_gets_a_floor(dataset: Dataset) -> None:
    for episode in dataset.episodes:
        episode.state[:, 4] = episode.action[:, 4] = 0.75
    stats, widened = measure(dataset, ROBOT, 24)
    floor = 0.01 * (ROBOT.upper[4] - ROBOT.lower[4])
    assert [(item.kind, item.joint, item.width) for item in widened] == [
        ("state", "roll", 0.0),
        ("actions", "roll", 0.0),
    ]
    assert stats.state.q99[4] - stats.state.q01[4] == pytest.approx(floor)
    assert (stats.state.q99[4] + stats.state.q01[4]) / 2 == pytest.approx(0.75)
    assert stats.actions.std[4] == pytest.approx(floor / 4.6527, rel=1e-4)
    del dataset.episodes  # read again, unchanged


def test_wrong_robots_and_horizons(dataset: Dataset) -> None:
    with pytest.raises(ValueError, match="horizon is 0"):
        compute_norm_stats(dataset, ROBOT, 0)
    other = dataclasses.replace(ROBOT, joints=ROBOT.joints[:5])
    with pytest.raises(ValueError, match="has joints"):
        compute_norm_stats(dataset, other, 24)


def test_command_line(dataset: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", str(dataset.path), "--horizon", "10"]) == 0
    printed = capsys.readouterr().out
    assert "chunks of 10" in printed and "rad, relative" in printed
    stats = load_norm_stats(dataset.path / NORM_STATS_PATH)
    assert np.allclose(stats.actions.q99, compute_norm_stats(dataset, ROBOT, 10).actions.q99)
    content = json.loads((dataset.path / NORM_STATS_PATH).read_text())
    assert set(content["norm_stats"]) == {"state", "actions"}


def test_describe_keeps_integers() -> None:
    stats = describe(np.array([3, 4, 8], np.int64))
    assert stats["min"].dtype == np.int64 and stats["max"].tolist() == [8]
    assert stats["q50"].tolist() == [4.0] and stats["count"].tolist() == [3]


def test_histograms_of_large_images_are_thinned() -> None:
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3)).astype(np.uint8)
    histogram = image_histogram(image)
    assert histogram.sum() == 3 * 120 * 160
    stats = describe_histogram(histogram, 1)
    assert stats["mean"].shape == (3, 1, 1)
    assert np.allclose(stats["mean"], 0.5, atol=0.01) and np.allclose(stats["q90"], 0.9, atol=0.01)
