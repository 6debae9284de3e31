"""Several datasets, of one robot or of several, in one training."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from policy_fixtures import tiny_stats
from synthetic import OTHER, ROBOT, make_data, other_data, two_robots
from test_loop import recipe

from pi0_ros.base.errors import InputError
from pi0_ros.checkpoints.checkpoint import load_checkpoint
from pi0_ros.cli.main import main
from pi0_ros.datasets.dataset import Dataset
from pi0_ros.datasets.merge import merge
from pi0_ros.datasets.staged_episode import EpisodeStager
from pi0_ros.datasets.video import CODECS
from pi0_ros.datasets.writer_v30 import write_dataset
from pi0_ros.robot import Robot
from pi0_ros.training import loop
from pi0_ros.training.loader import Augmentation, TrainingData, make_batch
from pi0_ros.training.mixture import POWER, Mixture, Source, make_mixed_batch, shares
from pi0_ros.training.recipe import RecipeError
from pi0_ros.training.run import prepare
from pi0_ros.training.statistics import NORM_STATS_PATH, compute_norm_stats

STAGE = {"name": "flow", "steps": 4, "batch": 8, "lr": 1e-3, "warmup": 1, "ema": 0.5}


def mixed(tmp_path: Path, sources: list[Source]) -> Mixture:
    return prepare(sources, recipe([STAGE]), tmp_path, {}, {}).mixture


def test_rows_of_a_mixture_are_what_each_robot_s_own_batch_would_be(tmp_path: Path) -> None:
    mixture = mixed(tmp_path, two_robots())
    random = np.random.default_rng(1)
    rows = random.permutation(90 + 80)[:24]
    inputs, actions = make_mixed_batch(mixture, rows, Augmentation(), random)
    for place, row in enumerate(rows):
        part, local = mixture.at(row)
        alone, target = make_batch(part.data, part.spec, np.array([local]), Augmentation(), random)
        assert torch.equal(actions[place], target[0]) and torch.equal(inputs.state[place], alone.state[0])
        assert torch.equal(inputs.prompt_tokens[place], alone.prompt_tokens[0])
        for slot, image in inputs.images.items():
            assert torch.equal(image[place], alone.images[slot][0])
            assert inputs.image_masks[slot][place] == alone.image_masks[slot][0]
    assert mixture.where(89) == "episode 5, frame 14 of arm" and mixture.where(90) == "episode 0, frame 0 of other"


def test_processes_that_share_a_batch_compute_its_parts(tmp_path: Path) -> None:
    mixture = mixed(tmp_path, two_robots())
    rows = np.array(
        [3, 100, 4, 5, 6, 7, 120, 8]
    )  # the second process has one row of the other robot, the first one too
    augmentation = Augmentation(state_noise=0.1, brightness=0.2, shift=2)

    def batch(share: slice) -> list[torch.Tensor]:
        inputs, actions = make_mixed_batch(mixture, rows, augmentation, np.random.default_rng(2), "cpu", share)
        return [inputs.state, inputs.prompt_tokens, *inputs.images.values(), actions]

    for whole, first, second in zip(batch(slice(None)), batch(slice(0, 4)), batch(slice(4, 8)), strict=True):
        assert torch.equal(whole, torch.cat([first, second]))


@pytest.mark.parametrize("weights", [(None, None), (3.0, 1.0)])
def test_frames_are_drawn_by_size_or_by_weight(tmp_path: Path, weights: tuple[float | None, float | None]) -> None:
    sources = [replace(source, weight=weight) for source, weight in zip(two_robots(), weights, strict=True)]
    run = prepare(sources, recipe([STAGE]), tmp_path, {}, {})
    sampler = loop.stage_sampler(run, 0)
    drawn = np.concatenate([sampler.draw(sampler.generator(step), 50) for step in range(40)])
    wanted = 0.75 if weights[0] else 90**POWER / (90**POWER + 80**POWER)
    assert abs((drawn < 90).mean() - wanted) < 0.02


def test_weights_that_mean_nothing_are_refused() -> None:
    first, second = two_robots()
    for weights in ((1.0, None), (0.0, 1.0), (float("nan"), 1.0)):
        with pytest.raises(InputError, match="one above 0 for each"):
            shares([replace(first, weight=weights[0]), replace(second, weight=weights[1])])


def test_every_robot_gets_a_folder_to_deploy(tmp_path: Path) -> None:
    sources = [*two_robots(), replace(two_robots()[0], name="arm again")]
    folder = loop.train_on(sources, recipe([STAGE], keep_last=2, save_every=2), tmp_path / "run")
    assert sorted(path.name for path in (folder / "robots").iterdir()) == ["other"]
    own, others = load_checkpoint(folder), load_checkpoint(folder / "robots" / "other")
    assert own.spec.robot.name == ROBOT.name and others.spec.robot.name == OTHER.name
    assert others.spec.settings.fps == 10 and others.spec.norm_stats.to_dict() == tiny_stats(7).to_dict()
    for name, tensor in own.model.state_dict().items():
        assert torch.equal(tensor, others.model.state_dict()[name])
    weights = [path / "model.safetensors" for path in (folder, folder / "robots" / "other")]
    assert weights[0].stat().st_ino == weights[1].stat().st_ino
    assert own.training["datasets"] == ["arm", "other", "arm again"]
    assert len(own.training["held_out_fingerprints"]) == len(own.training["held_out_episodes"])
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "4" / "robots" / "other").spec.robot.name == OTHER.name


def test_a_stopped_mixture_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = loop.train_on(two_robots(), recipe([STAGE], save_every=2), tmp_path / "whole")
    stopped = tmp_path / "stopped"
    plain = loop.train_step

    def interrupted(run: Any, stage: Any, step: int, *rest: Any) -> Any:
        if step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(run, stage, step, *rest)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(loop.TrainingStoppedError):
        patch.setattr(loop, "train_step", interrupted)
        loop.train_on(two_robots(), recipe([STAGE], save_every=2), stopped)
    with pytest.raises(RecipeError, match="shares"):
        heavier = [replace(source, weight=1.0) for source in two_robots()]
        loop.train_on(heavier, recipe([STAGE], save_every=2), stopped, resume=True)
    again = loop.train_on(two_robots(), recipe([STAGE], save_every=2), stopped, resume=True)
    assert (whole / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("changes", "error"),
    [({"loss_dims": "robot"}, "loss_dims=all"), ({"stages": [{**STAGE, "gripper": 2.0}]}, "gripper=1")],
)
def test_what_one_robot_s_recipe_means_is_refused(tmp_path: Path, changes: dict[str, Any], error: str) -> None:
    wanted = recipe(**{"stages": [STAGE], **changes})
    with pytest.raises(RecipeError, match=error):
        prepare(two_robots(), wanted, tmp_path, {}, {})


def write(folder: Path, data: TrainingData, robot: Robot) -> Path:
    parts = []
    for number, (start, stop) in enumerate(data.spans):
        writer = EpisodeStager(folder.with_name(f"{folder.name}_{number}"), round(data.fps), CODECS["h264"])
        for row in range(start, stop):
            writer.add(data.state[row], data.action[row], {name: frames[row] for name, frames in data.frames.items()})
        parts.append(writer.close(data.prompts[number]))
    write_dataset(folder, parts, robot, round(data.fps), CODECS["h264"], {})
    assert main(["stats", str(folder), "--horizon", "6"]) == 0
    return folder


def test_the_command_trains_on_datasets_of_two_robots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = write(tmp_path / "first", make_data(3, size=24, length=12), ROBOT)
    second = write(tmp_path / "second", make_data(3, size=24, length=12, seed=8), ROBOT)
    other = write(tmp_path / "other", other_data(2), OTHER)
    config = tmp_path / "tiny.yaml"
    sizes = (
        "{action_horizon: 6, vision: {image_size: 24, patch_size: 8, width: 32, depth: 1, mlp_dim: 48, num_heads: 2}}"
    )
    config.write_text(
        f"model: demo\nmodel_overrides: {sizes}\nprecision: float32\nthreads: 1\nstages: [{{name: flow}}]\n"
    )
    words = [str(path) for path in (first, second, other)]
    common = ["steps=2", "batch=6", "--config", str(config), "--out", str(tmp_path / "run")]
    assert main(["train", *words, "--weights", "2,1,1", *common]) == 0
    told = capsys.readouterr()
    assert (
        "statistics of 'demo_arm'" in told.err and str(tmp_path / "run" / "checkpoint" / "robots" / "other") in told.out
    )
    checkpoint = load_checkpoint(tmp_path / "run" / "checkpoint")
    assert checkpoint.training["shares"] == [0.5, 0.25, 0.25]
    merge(tmp_path / "both", [first, second])
    both = compute_norm_stats(Dataset(tmp_path / "both"), ROBOT, 6)
    for found, wanted in (
        (checkpoint.spec.norm_stats.state, both.state),
        (checkpoint.spec.norm_stats.actions, both.actions),
    ):
        for name, values in wanted.present().items():
            np.testing.assert_allclose(found.present()[name], values, atol=1e-12)
    planned = ["train", *words, "--plan", "--gpu", "24GB", *common]
    assert main(planned) == 0
    tokens = int(capsys.readouterr().out.split(" prompt tokens")[0].split()[-1])
    assert 4 <= tokens < 16  # counted in the data, not the most that the model takes
    (other / NORM_STATS_PATH).rename(tmp_path / "stats.json")
    assert main(planned) == 0
    (tmp_path / "stats.json").rename(other / NORM_STATS_PATH)
    told = capsys.readouterr()
    assert "prompts are counted as long as the model takes" in told.err and " 16 prompt tokens" in told.out
    for wrong in (["--weights", "1,2"], ["--weights", "1,2,x"], ["--robot", "ur5e"], ["--map", "a=b"]):
        assert main(["train", *words, *wrong, *common, "--overwrite"]) == 2
        assert wrong[0] in capsys.readouterr().err
    assert main(["train", "steps=2", *common]) == 2 and "no dataset" in capsys.readouterr().err
