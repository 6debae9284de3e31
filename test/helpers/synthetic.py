"""Episodes drawn by formula: coloured squares; the arm goes to the named one, closes, carries it away, opens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from policy_fixtures import tiny_stats

from pi0_ros.checkpoints.norm_stats import NormStats, Stats
from pi0_ros.robot import load_robot
from pi0_ros.training.loader import TrainingData, chunk_rows
from pi0_ros.training.mixture import Source

ROBOT = load_robot("demo_arm")
OTHER = load_robot("ur5e")  # seven joints, where the demo's arm has six
COLOURS = {"red": (220, 40, 40), "green": (40, 200, 40), "blue": (40, 60, 220)}
LABELS = ("go to the cube", "grasp it")
TINY = {
    "vlm": {"width": 32, "depth": 2, "mlp_dim": 48, "num_heads": 2, "num_kv_heads": 1, "head_dim": 16},
    "expert": {"width": 24, "depth": 2, "mlp_dim": 40, "num_heads": 2, "num_kv_heads": 1, "head_dim": 16},
    "vision": {"width": 32, "depth": 1, "mlp_dim": 48, "num_heads": 2, "patch_size": 8, "image_size": 24},
    "action_horizon": 6,
}


def make_data(episodes: int, size: int = 24, length: int = 30, seed: int = 0) -> TrainingData:
    """Episodes at 20 fps. The square at (u, v) in [0, 1] is grasped at yaw u - 0.5, shoulder v - 0.5 (rad)."""
    random = np.random.default_rng(seed)
    half = max(1, size // 16)
    base, wrist, state, action, prompts = [], [], [], [], []
    for number in range(episodes):
        named = list(COLOURS)[number % 3]
        place = {colour: random.uniform(0.1, 0.9, 2) for colour in COLOURS}
        picture = np.full((size, size, 3), 150, np.uint8)
        for colour, value in COLOURS.items():
            x, y = (place[colour] * size).astype(int)
            picture[max(0, y - half) : y + half + 1, max(0, x - half) : x + half + 1] = value
        goal = np.zeros(6)
        goal[:2] = place[named] - 0.5
        closing, opening = length // 2, length - length // 6
        way = np.concatenate([np.linspace(0, 1, closing), np.linspace(1, 0, length - closing)])
        commands = way[:, None] * goal
        commands[:, 5] = (np.arange(length) >= closing) & (np.arange(length) < opening)
        base += [picture] * length
        wrist += [np.full_like(picture, int(100 * w)) for w in way]
        action.append(commands)
        state.append(np.vstack([commands[:1], commands[:-1]]))
        prompts.append(f"put the {named} cube in the tray")
    return TrainingData(
        frames={"base": np.stack(base), "wrist": np.stack(wrist)},
        state=np.concatenate(state).astype(np.float32),
        action=np.concatenate(action).astype(np.float32),
        episode=np.repeat(np.arange(episodes), length),
        prompts=tuple(prompts),
        fps=20.0,
    )


def make_labelled(episodes: int = 6) -> TrainingData:
    """What the wrist camera shows says which label a frame has; the first frame of each episode has none."""
    data = make_data(episodes, length=15)
    label = (data.frames["wrist"][:, 0, 0, 0] > 50).astype(np.int64)
    label[[start for start, _ in data.spans]] = -1
    return replace(data, label=label, labels=LABELS)


def make_stats(data: TrainingData, horizon: int = 6) -> NormStats:
    """Statistics of the state and of all relative action chunks, with a floor for joints that stand still."""
    chunks = (
        data.action[chunk_rows(data, np.arange(data.length), horizon)]
        - np.where(ROBOT.relative_mask, data.state, 0)[:, None]
    )
    parts = []
    for values in (data.state, chunks.reshape(-1, chunks.shape[-1])):
        low, high = np.quantile(values, [0.01, 0.99], axis=0)
        parts.append(Stats(values.mean(0), np.maximum(values.std(0), 0.01), low, np.maximum(high, low + 0.02)))
    return NormStats(*parts)


def make_source(data: TrainingData) -> Source:
    """The data as the demo arm's, with their statistics."""
    return Source("dataset", data, ROBOT, make_stats(data))


def other_data(episodes: int, length: int = 20) -> TrainingData:
    """Data of the other robot: random poses, one colour in all pictures of a camera."""
    random = np.random.default_rng(5)
    n = episodes * length
    poses = random.normal(size=(n, 7)).astype(np.float32) * 0.1
    frames = {camera.name: np.full((n, 24, 24, 3), 90, np.uint8) for camera in OTHER.cameras}
    prompts = tuple(f"task {number}" for number in range(episodes))
    return TrainingData(frames, poses, poses + 0.01, np.repeat(np.arange(episodes), length), prompts, 10.0)


def two_robots() -> list[Source]:
    """Datasets of two robots."""
    data = make_data(6, length=15)
    return [Source("arm", data, ROBOT, make_stats(data)), Source("other", other_data(4), OTHER, tiny_stats(7))]
