"""Recordings of a hand as training data: composed actions that do not know where the robot's base is, and back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bagmaker import START_NS, Recipe, joint_message, make_bag, pose_message
from hand import COMMAND, FRAME, STAMPED, STATE, apart, hand_robot, path
from synthetic import TINY

from pi0_ros.checkpoints.settings import PolicySettings
from pi0_ros.checkpoints.spec import PolicySpec
from pi0_ros.conversion.convert import convert
from pi0_ros.conversion.options import Options
from pi0_ros.datasets.dataset import Dataset
from pi0_ros.model.config import ModelConfig
from pi0_ros.policy.transforms import actions_from_model
from pi0_ros.robot import rotations
from pi0_ros.tokens.tokenizer import Tokenizer
from pi0_ros.training.loader import Augmentation, chunk_rows, load_data, make_batch
from pi0_ros.training.statistics import measure
from pi0_ros.training.vocabulary import make_tokenizer

JOINT_STATE = "sensor_msgs/msg/JointState"


@pytest.mark.parametrize("rotation", ["rot6d", "axis_angle"])
def test_composed_actions_are_learnt_and_come_back(tmp_path: Path, rotation: str) -> None:
    robot = hand_robot(rotation)
    found = []
    for name, turn, away in (("here", [0.0, 0, 0], [0.0, 0, 0]), ("elsewhere", [0.0, 2.0, 1.0], [1.0, -0.5, 0.2])):
        folder = tmp_path / name
        folder.mkdir()
        base, extra = rotations.exp(np.array(turn)), []
        for number, (place, q) in enumerate(zip(*path(5, np.arange(101) * 0.02, turns=2.0))):
            t_s, ns = number * 0.02, START_NS + number * 20_000_000
            place, q = away + rotations.rotated(base, place), rotations.product(base, q)
            q = q if number % 3 else -q  # one rotation
            extra.append((t_s, STATE, STAMPED, pose_message(ns, place, q, FRAME)))
            extra.append(
                (max(t_s - 0.1, 0.0), COMMAND, STAMPED, pose_message(max(ns - 10**8, START_NS), place, q, FRAME))
            )
            for topic in ("/gripper/state", "/gripper/command"):
                extra.append((t_s, topic, JOINT_STATE, joint_message(ns, ["gripper"], np.array([number / 101]))))
        recipe = Recipe(seconds=2.0, delay_s=0.0, extra=extra)
        bag = make_bag(folder / "bag", replace(robot, state=(), commands=()), recipe)
        report = convert([bag], folder / "data", robot, Options())
        assert report.frames >= 35
        dataset = Dataset(folder / "data")
        assert dataset.robot == robot, "it travels inside"
        stats, _ = measure(dataset, dataset.robot, 6)
        data = load_data(dataset, 24)
        config = ModelConfig.from_dict({**ModelConfig.preset("demo").to_dict(), **TINY, "action_dim": 12})
        tokenizer = Tokenizer.load(make_tokenizer(data.prompts, folder / "t.model", config.vocab_size))
        spec = PolicySpec(config, PolicySettings("mean_std", "mean_std", 20.0), robot, stats, tokenizer)
        rows = np.arange(25)
        _, actions = make_batch(data, spec, rows, Augmentation(0, 0.0, 0.0), np.random.default_rng(0))
        again = actions_from_model(spec, actions, data.state[rows].astype(np.float64))
        recorded = data.action[chunk_rows(data, rows, config.action_horizon)].astype(np.float64)
        assert apart(robot, recorded, again).max() < 1e-4
        found.append(actions.numpy())
    np.testing.assert_allclose(found[1], found[0], atol=2e-3)  # recorded as float32, divided by small spreads
    assert np.ptp(found[0][:, -1, :3], axis=0).min() > 0.1, "it moves"
