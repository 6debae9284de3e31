"""Two recordings of one motion, one of a roll joint that is mounted half a turn further on: the same training data."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bagmaker import Recipe, make_bag
from synthetic import TINY

from pi0_ros.checkpoints.settings import PolicySettings
from pi0_ros.checkpoints.spec import PolicySpec
from pi0_ros.conversion.convert import convert
from pi0_ros.conversion.options import Options
from pi0_ros.datasets.dataset import Dataset
from pi0_ros.model.config import ModelConfig
from pi0_ros.robot import Robot, load_robot
from pi0_ros.robot.turning import TURN
from pi0_ros.tokens.tokenizer import Tokenizer
from pi0_ros.training.loader import Augmentation, load_data, make_batch
from pi0_ros.training.statistics import measure
from pi0_ros.training.vocabulary import make_tokenizer

ROLL = 4


def endless(action: str) -> Robot:
    demo = load_robot("demo_arm")
    roll = replace(demo.joints[ROLL], kind="continuous", lower=-math.inf, upper=math.inf, action=action)
    return replace(demo, joints=(*demo.joints[:ROLL], roll, *demo.joints[ROLL + 1 :]))


def batch(folder: Path, robot: Robot, offset: float) -> tuple[np.ndarray, np.ndarray]:
    """State and action chunks as the model gets them, of a recording whose driver counts from -pi to pi."""

    def change(topic: str, t_s: float, message: Any) -> Any:
        for names, holder, key in (
            (getattr(message, "name", None), message, "position"),
            (getattr(message, "joint_names", None), (getattr(message, "points", None) or [None])[0], "positions"),
        ):
            if names is not None and holder is not None:
                values = getattr(holder, key)
                place = list(names).index("roll")
                values[place] = (values[place] + offset + np.pi) % TURN - np.pi
        return message

    bag = make_bag(folder / "bag", robot, Recipe(seconds=2.0, change=change))
    report = convert([bag], folder / "data", robot, Options())
    assert report.frames == 40
    dataset = Dataset(folder / "data")
    stats, widened = measure(dataset, dataset.robot, 6)
    assert not any(item.joint == "roll" for item in widened)
    data = load_data(dataset, 24)
    config = ModelConfig.from_dict({**ModelConfig.preset("demo").to_dict(), **TINY})
    tokenizer = Tokenizer.load(make_tokenizer(data.prompts, folder / "t.model", config.vocab_size))
    spec = PolicySpec(config, PolicySettings("mean_std", "mean_std", 20.0), robot, stats, tokenizer)
    inputs, actions = make_batch(data, spec, np.arange(30), Augmentation(0, 0.0, 0.0), np.random.default_rng(0))
    return inputs.state.numpy(), actions.numpy()


@pytest.mark.parametrize("action", ["relative", "absolute"])
def test_where_the_angle_jumps_changes_no_training_data(tmp_path: Path, action: str) -> None:
    robot = endless(action)
    found = {}
    for offset in (0.0, np.pi - 0.35):  # the second crosses pi again and again
        folder = tmp_path / f"{offset:.1f}"
        folder.mkdir()
        found[offset] = batch(folder, robot, offset)
    (state, actions), (other_state, other_actions) = found.values()
    np.testing.assert_allclose(other_state, state, atol=2e-5)
    np.testing.assert_allclose(other_actions, actions, atol=2e-5)
