"""Arrays in memory, the split, the sampler and the batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from synthetic import ROBOT, TINY, make_data, make_stats

from pi0_ros.checkpoints.settings import PolicySettings
from pi0_ros.checkpoints.spec import PolicySpec
from pi0_ros.datasets.language import episode_columns
from pi0_ros.datasets.staged_episode import EpisodeStager
from pi0_ros.datasets.video import CODECS
from pi0_ros.datasets.writer_v30 import write_dataset
from pi0_ros.model.config import ModelConfig
from pi0_ros.policy.transforms import make_inputs
from pi0_ros.tokens.tokenizer import Tokenizer
from pi0_ros.training.loader import (
    Augmentation,
    Sampler,
    TrainingData,
    chunk_rows,
    load_data,
    make_batch,
    shift_images,
    split_episodes,
)
from pi0_ros.training.vocabulary import make_tokenizer


@pytest.fixture
def spec(tmp_path: Path) -> PolicySpec:
    config = ModelConfig.from_dict({**ModelConfig.preset("demo").to_dict(), **TINY})
    data = make_data(6)
    tokenizer = Tokenizer.load(make_tokenizer(data.prompts, tmp_path / "t.model", config.vocab_size))
    return PolicySpec(config, PolicySettings("mean_std", "mean_std", 20.0), ROBOT, make_stats(data), tokenizer)


def test_chunks_stop_at_the_last_row_of_their_episode() -> None:
    data = make_data(2, length=5)
    rows = chunk_rows(data, np.array([0, 3, 4, 7]), 4)
    assert rows.tolist() == [[0, 1, 2, 3], [3, 4, 4, 4], [4, 4, 4, 4], [7, 8, 9, 9]]


def test_every_prompt_gives_held_out_episodes_and_keeps_one_to_train_on() -> None:
    prompts = ["a"] * 10 + ["b"] * 2 + ["c"]
    train, held_out = split_episodes(prompts, [10] * 13, 0.2, seed=3)
    assert sorted(train + held_out) == list(range(13))
    assert [prompts[i] for i in held_out] == ["a", "a", "b"]
    assert split_episodes(prompts, [10] * 13, 0.2, seed=3) == (train, held_out)
    assert split_episodes(prompts, [10] * 13, 0.0, seed=3) == (list(range(13)), [])
    assert len(split_episodes(prompts, [10] * 13, 0.99, seed=3)[0]) == 3


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 300)), min_size=2, max_size=60),
    st.floats(0.01, 0.6),
    st.integers(0, 5),
)
def test_held_out_episodes_are_about_the_fraction_asked_for(
    episodes: list[tuple[int, int]], fraction: float, seed: int
) -> None:
    """However many prompts there are, and however long each episode is."""
    prompts, lengths = [f"task {kind}" for kind, _ in episodes], [length for _, length in episodes]
    train, held_out = split_episodes(prompts, lengths, fraction, seed)
    assert held_out and train and sorted(train + held_out) == list(range(len(episodes)))
    frames, wanted = sum(lengths[i] for i in held_out), fraction * sum(lengths)
    assert len(held_out) == 1 or frames <= wanted + max(lengths) / 2
    if max(prompts.count(prompt) for prompt in prompts) > 1:
        assert {prompts[i] for i in train} == set(prompts)
        spare = [i for i in train if sum(prompts[k] == prompts[i] for k in train) > 1]
        assert not spare or frames >= wanted - max(lengths)


def test_a_draw_depends_on_seed_stage_and_step_alone() -> None:
    rows = np.arange(100, 200)
    first, second = (Sampler(rows, np.ones(100), seed=1, stage=0) for _ in range(2))
    for _ in range(3):
        first.draw(first.generator(7), 16)
    assert np.array_equal(first.draw(first.generator(8), 16), second.draw(second.generator(8), 16))
    other = Sampler(rows, np.ones(100), seed=1, stage=1)
    assert not np.array_equal(first.draw(first.generator(8), 16), other.draw(other.generator(8), 16))


def test_draws_follow_the_weights_and_cover_the_data_evenly() -> None:
    weights = np.repeat([1.0, 0.0, 3.0], 40)
    sampler = Sampler(np.arange(120), weights, seed=0, stage=0)
    draws = np.stack([sampler.draw(sampler.generator(step), 16) for step in range(400)])
    counts = np.bincount(draws.reshape(-1), minlength=120)
    assert counts[40:80].sum() == 0
    assert (draws < 40).sum(1).tolist() == [4] * 400  # a quarter of the weight is a quarter of every batch
    np.testing.assert_allclose(counts[80:] / counts[:40].mean(), 3.0, atol=1.0)
    with pytest.raises(ValueError, match="nothing to train on"):
        Sampler(np.arange(3), np.zeros(3), 0, 0)


def test_shifted_images_repeat_their_edge() -> None:
    image = np.arange(9, dtype=np.uint8).reshape(1, 3, 3, 1).repeat(3, axis=3)
    moved = shift_images(image, np.array([[1, -1]]))[0, ..., 0]
    assert moved.tolist() == [[1, 2, 2], [1, 2, 2], [4, 5, 5]]


def test_a_batch_is_what_the_live_policy_makes_of_the_same_frames(spec: PolicySpec) -> None:
    data, rows = make_data(6), np.array([0, 29, 95])
    inputs, actions = make_batch(data, spec, rows, Augmentation(), np.random.default_rng(0))
    prompts = [data.prompts[i] for i in data.episode[rows]]
    live = make_inputs(spec, {name: frames[rows] for name, frames in data.frames.items()}, data.state[rows], prompts)
    for slot, image in live.images.items():
        assert torch.equal(inputs.images[slot], image)
    assert torch.equal(inputs.state, live.state)
    assert torch.equal(inputs.prompt_tokens, live.prompt_tokens)

    chunk = data.action[chunk_rows(data, rows, 6)].astype(np.float64)
    relative = chunk - np.where(ROBOT.relative_mask, data.state[rows], 0.0)[:, None]
    stats = spec.norm_stats.actions
    np.testing.assert_allclose(actions[..., :6], (relative - stats.mean) / (stats.std + 1e-6), atol=1e-5)
    assert (actions[..., 6:] == 0).all()


def test_augmentation_touches_only_what_it_names(spec: PolicySpec) -> None:
    data, rows = make_data(6), np.arange(60)

    def batch(augmentation: Augmentation):
        return make_batch(data, spec, rows, augmentation, np.random.default_rng(0))

    plain, actions = batch(Augmentation())
    noisy, noisy_actions = batch(Augmentation(state_noise=0.1))
    difference = noisy.state - plain.state
    assert (difference[:, 6:] == 0).all() and 0.08 < difference[:, :6].std() < 0.12
    assert torch.equal(actions, noisy_actions)
    bright, _ = batch(Augmentation(brightness=0.5))
    for slot, image in bright.images.items():
        assert image.min() >= -1 and image.max() <= 1 and not torch.equal(image, plain.images[slot])
    shifted, _ = batch(Augmentation(shift=2))
    assert not torch.equal(shifted.images["base_0_rgb"], plain.images["base_0_rgb"])
    assert torch.equal(shifted.state, plain.state)


def test_frames_of_a_dataset_are_decoded_once(tmp_path: Path) -> None:
    data = make_data(3, size=32, length=12)
    parts = []
    for number, (start, stop) in enumerate(data.spans):
        writer = EpisodeStager(tmp_path / f"part{number}", 20, CODECS["h264"])
        for row in range(start, stop):
            images = {name: frames[row] for name, frames in data.frames.items()}
            writer.add(data.state[row], data.action[row], images)
        parts.append(writer.close(data.prompts[number]))
    folder = tmp_path / "dataset"
    write_dataset(folder, parts, ROBOT, 20, CODECS["h264"], {})

    loaded = load_data(folder, 32)
    np.testing.assert_allclose(loaded.action, data.action)
    assert loaded.prompts == data.prompts and loaded.spans == data.spans and loaded.fps == 20
    assert np.abs(loaded.frames["base"].astype(int) - data.frames["base"]).mean() < 6
    for video in folder.rglob("*.mp4"):
        video.unlink()
    again = load_data(folder, 32)
    assert np.array_equal(again.frames["wrist"], loaded.frames["wrist"])
    assert not list(folder.rglob("*.partial"))


def test_labels_take_the_place_of_prompts_and_idle_rows_are_known(tmp_path: Path) -> None:
    data = make_data(2, size=32, length=12)
    parts = []
    idle, labels = np.arange(12) > 8, ((0.1, "reach"), (0.3, "grasp"))
    for number, (start, stop) in enumerate(data.spans):
        writer = EpisodeStager(tmp_path / f"part{number}", 20, CODECS["h264"])
        for row in range(start, stop):
            writer.add(data.state[row], data.action[row], {name: frames[row] for name, frames in data.frames.items()})
        parts.append(writer.close(data.prompts[number], episode_columns(idle, labels if number else ())))
    folder = tmp_path / "dataset"
    write_dataset(folder, parts, ROBOT, 20, CODECS["h264"], {})
    first, second = data.prompts
    plain, labelled = load_data(folder, 32), load_data(folder, 32, labels=True)
    assert plain.prompts_of(np.arange(24)) == [first] * 12 + [second] * 12
    assert labelled.prompts_of(np.arange(24)) == [first] * 12 + [second] * 2 + ["reach"] * 4 + ["grasp"] * 6
    assert labelled.texts == (first, second, "reach", "grasp") and plain.texts == data.prompts
    assert plain.idle is not None and plain.idle.tolist() == [*idle, *idle]


def test_arrays_that_do_not_fit_are_refused() -> None:
    data = make_data(2, length=5)
    with pytest.raises(ValueError, match="'state' has 9 rows"):
        TrainingData(data.frames, data.state[:-1], data.action, data.episode, data.prompts, 20)
    with pytest.raises(ValueError, match="numbered 0 to 2"):
        TrainingData(data.frames, data.state, data.action, data.episode, (*data.prompts, "more"), 20)
    with pytest.raises(ValueError, match="ascending"):
        TrainingData(data.frames, data.state, data.action, data.episode[::-1], data.prompts, 20)


def test_a_tokenizer_made_from_prompts_has_one_piece_per_word_and_spells_the_rest(tmp_path: Path) -> None:
    config = ModelConfig.preset("demo")
    tokenizer = Tokenizer.load(make_tokenizer(["put the red cube in the tray"], tmp_path / "t.model", 512))
    _, mask = tokenizer.encode_prompt(config, "put the red cube in the tray")
    assert mask.sum() == 1 + 7 + 1  # begin, words, newline
    tokens, mask = tokenizer.encode_prompt(config, "grüße the cube")
    assert (tokens[mask] < 512).all() and 3 not in tokens[mask].tolist()  # 3 stands for the unknown
    with pytest.raises(ValueError, match="vocab_size 300 is too small"):
        make_tokenizer(["put it"], tmp_path / "small.model", 300)
