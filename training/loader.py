"""A dataset as plain arrays in memory, and the batches that the trainer draws from it.

Frames are decoded once into a uint8 cache on disk at the model's image size and mapped into memory, so a second start
(a resume, another recipe) costs nothing. Which frames step k trains on is a pure function of (seed, stage, k): a run
that was killed goes on exactly where an unbroken one would be, and no sampler state has to be saved.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from pi0_ros.base.errors import InputError
from pi0_ros.checkpoints.folders import partial_of, remove_leftovers
from pi0_ros.checkpoints.spec import PolicySpec
from pi0_ros.datasets.dataset import Dataset, Episode
from pi0_ros.datasets.language import label_index
from pi0_ros.datasets.layout import image_key
from pi0_ros.model.paligemma import ModelInput
from pi0_ros.observation.images import resize_with_pad
from pi0_ros.policy.transforms import actions_to_model, encode_prompts, make_inputs, state_to_model
from pi0_ros.tokens.action_tokens import ActionTokens


@dataclass(frozen=True)
class TrainingData:
    """N frames of E episodes, episode after episode, in the robot file's units and joint order.

    frames: camera name -> uint8 [N,H,W,3] RGB; state, action: float32 [N,J], action absolute;
    episode: int64 [N], ascending from 0 to E-1 without holes; prompts: E strings; fps: frames per second;
    idle: bool [N], where no sample should start (None: nowhere); label: int64 [N], which of `labels` says what a frame
    is about, finer than the prompt, -1 for none (None: nowhere); takeover: bool [N], where a person led instead of the
    policy (None: nobody says); labels_as_prompts: whether the model is told a frame's label instead of the prompt.
    """

    frames: Mapping[str, np.ndarray]
    state: np.ndarray
    action: np.ndarray
    episode: np.ndarray
    prompts: tuple[str, ...]
    fps: float
    idle: np.ndarray | None = None
    label: np.ndarray | None = None
    labels: tuple[str, ...] = ()
    takeover: np.ndarray | None = None
    labels_as_prompts: bool = True

    def __post_init__(self) -> None:
        n = len(self.episode)
        for name, array in {"state": self.state, "action": self.action, **self.frames}.items():
            if len(array) != n:
                raise ValueError(f"training data: '{name}' has {len(array)} rows, the episode index has {n}")
        if n == 0 or not np.array_equal(np.unique(self.episode), np.arange(len(self.prompts))):
            raise ValueError(
                f"training data: episodes must be numbered 0 to {len(self.prompts) - 1}, each with a frame"
            )
        if (np.diff(self.episode) < 0).any():
            raise ValueError("training data: frames of one episode must stand together, episodes in ascending order")

    @property
    def length(self) -> int:
        return len(self.episode)

    @property
    def spans(self) -> list[tuple[int, int]]:
        """First row and the row after the last one of every episode."""
        edges = np.searchsorted(self.episode, np.arange(len(self.prompts) + 1))
        return [(int(a), int(b)) for a, b in zip(edges[:-1], edges[1:], strict=True)]

    @property
    def texts(self) -> tuple[str, ...]:
        """All that a frame's prompt can be."""
        return (*self.prompts, *self.labels)

    def prompts_of(self, rows: np.ndarray) -> list[str]:
        """What to tell the model at `rows`: the label, where there is one, else the episode's prompt."""
        told = self.label if self.labels_as_prompts else None
        labels = np.full(len(rows), -1) if told is None else told[rows]
        return [
            self.prompts[i] if label < 0 else self.labels[label]
            for i, label in zip(self.episode[rows], labels, strict=True)
        ]

    def rows_of(self, episodes: Sequence[int]) -> np.ndarray:
        """All rows of these episodes, int64 ascending."""
        return np.flatnonzero(np.isin(self.episode, np.asarray(episodes, np.int64)))


def load_data(dataset: Dataset | Path, image_size: int, labels: bool = False) -> TrainingData:
    """Read a dataset (a path: one of `pi0 convert`); frames come from `<dataset>/cache/` where a fresh one lies there.

    With `labels` a frame's label takes the place of its episode's prompt.
    """
    source = dataset if isinstance(dataset, Dataset) else Dataset(dataset)
    data = load_rows(source, labels)
    dataset, episodes, total = source.path, source.episodes, data.length
    newest = (dataset / "meta" / "info.json").stat().st_mtime
    frames: dict[str, np.ndarray] = {}
    for camera in source.robot.cameras:
        path = dataset / "cache" / f"{cache_name(source, camera.name)}_{image_size}.npy"
        shape = (total, image_size, image_size, 3)
        if not _is_fresh(path, shape, newest):
            path.parent.mkdir(exist_ok=True)
            remove_leftovers(path)
            partial = partial_of(path)  # two runs may build it at once
            if shutil.disk_usage(path.parent).free < np.prod(shape) * 1.05:
                raise OSError(f"{path}: the frame cache needs {np.prod(shape) / 1e9:.1f} GB, the disk has less")
            cache = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
            row = 0
            for episode in tqdm(episodes, unit="episode", desc=f"frames of {camera.name}", leave=False, disable=None):
                for image in episode.frames(camera.name):
                    same = image.shape[:2] == (image_size, image_size)
                    cache[row] = image if same else resize_with_pad(image, image_size, image_size)
                    row += 1
            if row != total:
                raise InputError(f"{dataset}: camera '{camera.name}' has {row} frames, the episodes have {total} rows")
            cache.flush()
            partial.replace(path)
        frames[camera.name] = np.load(path, mmap_mode="r")
    return dataclasses.replace(data, frames=frames)


def load_rows(source: Dataset, labels: bool = False) -> TrainingData:
    """The same without frames, which takes no time."""
    episodes = source.episodes
    return TrainingData(
        frames={},
        state=np.concatenate([episode.state for episode in episodes]).astype(np.float32),
        action=np.concatenate([episode.action for episode in episodes]).astype(np.float32),
        episode=np.repeat(np.arange(len(episodes)), [episode.length for episode in episodes]),
        prompts=tuple(episode.prompt for episode in episodes),
        fps=source.fps,
        idle=np.concatenate([episode.idle for episode in episodes]),
        takeover=np.concatenate(led) if len(led := [e.takeover for e in episodes if e.takeover is not None]) else None,
        **(_labels(episodes) if labels else {}),
    )


def cache_name(source: Dataset, camera: str) -> str:
    """Whose frames a cache holds: the camera's name, or with another column behind it also that column's."""
    key = source.key_of(camera)
    return camera if key == image_key(camera) else f"{camera}@{key.replace('/', '_')}"


def _labels(episodes: Sequence[Episode]) -> dict[str, Any]:
    """The fields `labels` and `label` of the training data."""
    texts = list(dict.fromkeys(text for episode in episodes for _, text in episode.labels))
    found = []
    for episode in episodes:
        numbers = np.array([*(texts.index(text) for _, text in episode.labels), -1])
        found.append(numbers[label_index(episode.labels, episode.length, episode.fps)])
    return {"labels": tuple(texts), "label": np.concatenate(found)}


def _is_fresh(path: Path, shape: tuple[int, ...], newest: float) -> bool:
    return path.exists() and path.stat().st_mtime >= newest and np.load(path, mmap_mode="r").shape == shape


def split_episodes(
    prompts: Sequence[str], lengths: Sequence[int], fraction: float, seed: int
) -> tuple[list[int], list[int]]:
    """Episodes for training and held-out ones: whole episodes with about `fraction` of all frames, spread over prompts.

    At least one of two or more episodes is held out. A prompt keeps one for training, unless no prompt has two.
    """
    everything = list(range(len(prompts)))
    if fraction <= 0 or len(prompts) < 2:
        return everything, []
    waiting: dict[str, list[int]] = {}
    for i in np.random.default_rng(seed).permutation(len(prompts)):
        waiting.setdefault(prompts[i], []).append(int(i))
    lacking = {p: fraction * sum(lengths[i] for i in members) for p, members in sorted(waiting.items())}
    several = any(len(members) > 1 for members in waiting.values())
    target = fraction * sum(lengths)
    held: list[int] = []
    while len(held) < len(prompts) - 1 and (open_ := [p for p in lacking if len(waiting[p]) > several]):
        prompt = max(open_, key=lambda p: lacking[p])
        episode = waiting[prompt].pop()
        if held and sum(lengths[i] for i in held) + lengths[episode] / 2 > target:
            break
        held.append(episode)
        lacking[prompt] -= lengths[episode]
    return sorted(set(everything) - set(held)), sorted(held)


def chunk_rows(data: TrainingData, rows: np.ndarray, horizon: int) -> np.ndarray:
    """Rows of the action chunks [B,H] that start at `rows` [B]; they stop at the episode's last row, which repeats."""
    last = np.searchsorted(data.episode, data.episode[rows], side="right") - 1
    return np.minimum(rows[:, None] + np.arange(horizon), last[:, None])


class Sampler:
    """Draws rows in proportion to their weights; the draw of a step depends on (seed, stage, step) alone.

    The draw is stratified: a batch of B splits the total weight into B equal parts and takes one row from each, so
    every batch covers all episodes evenly (less gradient noise than independent draws).
    """

    def __init__(self, rows: np.ndarray, weights: np.ndarray, seed: int, stage: int) -> None:
        if len(rows) == 0 or not (weights >= 0).all() or weights.sum() <= 0:
            raise InputError("nothing to train on: no rows with a positive weight")
        self.rows = rows
        self.edges = np.cumsum(weights, dtype=np.float64) / np.sum(weights, dtype=np.float64)
        self.key = (seed, stage)

    def generator(self, step: int) -> np.random.Generator:
        """The step's random generator, from which its rows, augmentation, noise and flow times come, in this order."""
        return np.random.default_rng([*self.key, step])

    def draw(self, random: np.random.Generator, batch: int) -> np.ndarray:
        """Rows int64 [batch], in shuffled order."""
        places = (random.permutation(batch) + random.random(batch)) / batch
        chosen: np.ndarray = self.rows[
            np.minimum(np.searchsorted(self.edges, places, side="right"), len(self.rows) - 1)
        ]
        return chosen


@dataclass(frozen=True)
class Augmentation:
    """state_noise: standard deviation in normalised units, on the state input alone (actions stay relative to the true
    state); brightness: a factor from 1 - b to 1 + b; shift: up to so many pixels in each direction, edges repeated."""

    state_noise: float = 0.0
    brightness: float = 0.0
    shift: int = 0


def shift_images(images: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Move images uint8 [B,H,W,3] by offsets int64 [B,2] (down, right) in pixels; uncovered pixels repeat the edge."""
    batch, height, width = images.shape[:3]
    y = np.clip(np.arange(height) - offsets[:, :1], 0, height - 1)
    x = np.clip(np.arange(width) - offsets[:, 1:], 0, width - 1)
    return images[np.arange(batch)[:, None, None], y[:, :, None], x[:, None, :]]


def make_batch(
    data: TrainingData,
    spec: PolicySpec,
    rows: np.ndarray,
    augmentation: Augmentation,
    random: np.random.Generator,
    device: torch.device | str = "cpu",
    share: slice | np.ndarray = slice(None),
    tokens: ActionTokens | None = None,
) -> tuple[ModelInput, torch.Tensor]:
    """Rows [B] -> the model's input and the target action chunks [B,H,A] (relative, normalised, padded).

    With `tokens`, for pi0-FAST, the prompts hold question and answer, and the target is where the answers are, bool
    [B,L].

    Of a `share` of the rows only (a slice, or places), with the random numbers that these have in the whole batch.
    """
    total, rows = len(rows), rows[share]
    images = {name: np.asarray(data.frames[name][rows]) for name in data.frames}
    if augmentation.shift:
        offsets = {n: random.integers(-augmentation.shift, augmentation.shift + 1, (total, 2)) for n in images}
        images = {name: shift_images(image, offsets[name][share]) for name, image in images.items()}
    state, prompts = data.state[rows].astype(np.float64), data.prompts_of(rows)
    actions = actions_to_model(spec, data.action[chunk_rows(data, rows, spec.config.action_horizon)], state, device)
    written, target = None, actions
    if tokens is not None:
        question_and_answer, mask, answer = write_answers(spec, prompts, state, actions.cpu().numpy(), tokens)
        written, target = (question_and_answer, mask), torch.from_numpy(answer).to(device)
    inputs = make_inputs(spec, images, state, prompts, device, written=written)
    if augmentation.brightness:
        factor = 1.0 + augmentation.brightness * random.uniform(-1.0, 1.0, (total, 1, 1, 1)).astype(np.float32)
        gain = torch.from_numpy(factor[share]).to(device)
        for slot, pixels in inputs.images.items():
            inputs.images[slot] = ((pixels + 1.0) * gain - 1.0).clamp(-1.0, 1.0)
    if augmentation.state_noise:
        noise, joints = np.zeros(inputs.state.shape, np.float32), state.shape[1]
        drawn = random.standard_normal((total, joints), np.float32)
        noise[:, :joints] = augmentation.state_noise * drawn[share]
        inputs.state.add_(torch.from_numpy(noise).to(device))
    return inputs, target


def write_answers(
    spec: PolicySpec, prompts: Sequence[str], state: np.ndarray, actions: np.ndarray, tokens: ActionTokens
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """pi0-FAST's prompts of question and answer, [B,L]: tokens int64, mask bool, and bool where the answers are.

    state: [B,S] in robot units; actions: [B,H,A] in model units.
    """
    written = [
        spec.tokenizer.encode_action_answer(spec.config, prompt, row, tokens.encode(chunk))
        for prompt, row, chunk in zip(prompts, state_to_model(spec, state), actions, strict=True)
    ]
    question_and_answer, mask, answer = (np.stack(column) for column in zip(*written, strict=True))
    return question_and_answer.astype(np.int64), mask, answer


def prompt_masks(
    data: TrainingData, spec: PolicySpec, rows: np.ndarray, tokens: ActionTokens | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Of the prompts at rows [B] of the data, bool [B,L]: where there are tokens, and which the model writes itself."""
    state, prompts = data.state[rows].astype(np.float64), data.prompts_of(rows)
    if tokens is None:
        _, mask = encode_prompts(spec, prompts, state_to_model(spec, state))
        return mask, np.zeros_like(mask)
    chunk = data.action[chunk_rows(data, rows, spec.config.action_horizon)]
    _, mask, answer = write_answers(spec, prompts, state, actions_to_model(spec, chunk, state).numpy(), tokens)
    return mask, answer
