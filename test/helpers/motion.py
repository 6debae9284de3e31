"""Small datasets of the demo arm that moves: smooth joints that follow their command, a square that runs through the
pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pi0_ros.datasets.language import episode_columns
from pi0_ros.datasets.staged_episode import EpisodeStager
from pi0_ros.datasets.video import CODECS
from pi0_ros.datasets.writer_v21 import write_dataset_v21
from pi0_ros.datasets.writer_v30 import write_dataset
from pi0_ros.robot import load_robot

ROBOT = load_robot("demo_arm")
FPS = 20
LENGTHS = (60, 44, 52)
PROMPTS = ("put the red cube in the tray", "put the green cube in the tray", "put the red cube in the tray")
LAG = 2  # frames by which the state follows the action
AMPLITUDE = np.array([0.5, 0.4, 0.6, 0.5, 0.3, 0.5])
MIDDLE = np.array([0.0, 0.4, 1.2, 1.0, 0.0, 0.5])


def commands(length: int, seed: int) -> np.ndarray:
    """The commanded positions of `length` + LAG frames, smooth and within the limits, float64 [length + LAG, 6]."""
    seconds = (np.arange(length + LAG) / FPS)[:, None]
    phase = np.random.default_rng(seed).uniform(0, 2 * np.pi, 6)
    return MIDDLE + AMPLITUDE * np.sin(1.5 * seconds + phase)


def picture(number: int, seed: int, camera: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A grey table with a square that moves with `number`, uint8 [H, W, 3]."""
    image = np.full((*size, 3), 110 + 20 * camera, np.uint8)
    x = (3 * number + 11 * seed) % (size[1] - 12)
    image[12:24, x : x + 12] = (220, 60, 40)
    image[30:40, 20:30] = (30, 60, 160)
    return image


Change = Callable[[int, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
Picture = Callable[[int, int, int], np.ndarray]


def make(
    folder: Path,
    *,
    lengths: Sequence[int] = LENGTHS,
    prompts: Sequence[str] = PROMPTS,
    change: Change = lambda episode, state, action: (state, action),
    draw: Picture = picture,
    seed: int = 0,
    bags: Sequence[dict[str, object]] = (),
    v21: bool = False,
) -> Path:
    """Write a dataset to `folder`; `change` sees each episode's state and action [T, 6], `draw` makes the pictures.

    The first tenth of every episode is idle, its middle has the label "grasp".
    """
    parts = []
    for episode, (length, prompt) in enumerate(zip(lengths, prompts, strict=True)):
        moves = commands(length, seed + episode)
        state, action = change(episode, moves[:length], moves[LAG:])
        writer = EpisodeStager(folder.with_name(f"{folder.name}-part{episode}"), FPS, CODECS["h264"])
        for number in range(length):
            images = {camera.name: draw(number, episode, place) for place, camera in enumerate(ROBOT.cameras)}
            writer.add(state[number], action[number], images)
        idle = np.arange(length) < length // 10
        parts.append(writer.close(prompt, episode_columns(idle, [(length / 2 / FPS, "grasp")])))
    write = write_dataset_v21 if v21 else write_dataset
    write(folder, parts, ROBOT, FPS, CODECS["h264"], {"robot": "demo_arm", "fps": FPS, "bags": list(bags)})
    return folder
