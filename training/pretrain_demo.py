"""Teach the demo's small model to see: where is the red, green, blue cube?

A released pi0 starts from a pre-trained vision-language model; the demo's starts from nothing. Before it learns to act from
recorded bags, it learns to point at cubes in rendered still scenes. Its weights are then the `init` of `pi0 train`.

    pi0 pretrain-demo --config config/train/demo_see.yaml --out runs/demo/see --stats runs/demo/dataset
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pi0_ros.policy.norm import load_norm_stats
from pi0_ros.robot import Robot, load_robot
from pi0_ros.sim.demonstrator import GRASP_HEIGHT
from pi0_ros.sim.kinematics import forward, inverse
from pi0_ros.sim.scenes import Scenes, render_scenes
from pi0_ros.sim.task import WORDINGS, prompt
from pi0_ros.sim.world import CUBES

from .grounding import GraspTargets
from .loader import TrainingData
from .stats import NORM_STATS_PATH


class Repeated:
    """Row k of the view is row k // times of the array: one picture serves several questions."""

    def __init__(self, array: np.ndarray, times: int) -> None:
        self.array, self.times = array, times

    def __len__(self) -> int:
        return len(self.array) * self.times

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return self.array[np.asarray(rows) // self.times]


def questions(scenes: Scenes, fps: float) -> TrainingData:
    """Three rows per scene, one for each colour, in random wordings; every row is an episode of its own."""
    count = len(scenes.state) * len(CUBES)
    wording = np.random.default_rng(0).integers(len(WORDINGS), size=count)
    state = np.repeat(scenes.state, len(CUBES), axis=0)
    return TrainingData(
        frames={camera: Repeated(frames, len(CUBES)) for camera, frames in scenes.frames.items()},  # type: ignore[misc]
        state=state,
        action=state,
        episode=np.arange(count),
        prompts=tuple(prompt(CUBES[row % len(CUBES)], int(wording[row])) for row in range(count)),
        fps=fps,
    )


def answers(scenes: Scenes, robot: Robot) -> GraspTargets:
    """The arm joints that would grasp each cube, as `grasp_targets` gives them for recorded episodes."""
    points = scenes.cubes.reshape(-1, 3).astype(np.float64) * [1, 1, 0] + [0, 0, GRASP_HEIGHT]
    joints = np.array([inverse(point) for point in points])
    mean = joints.mean(0)
    scale = np.full(5, np.sqrt(np.mean(joints[:, :4].var(0))))  # all in rad; the roll joint never differs
    return GraspTargets(
        joints=((joints - mean) / scale).astype(np.float32),
        event=np.zeros(len(points), np.int64),
        valid=np.ones(len(points), bool),
        mean=np.stack([mean, mean]).astype(np.float32),
        scale=scale.astype(np.float32),
        arm=np.flatnonzero(~robot.gripper_mask),
    )


def tool_positions(joints: np.ndarray) -> np.ndarray:
    """Joint positions [n,6] -> grasp points [n,3] in m."""
    return np.array([forward(row[:5]) for row in joints])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 pretrain-demo`."""
    parser.add_argument("--config", type=Path, required=True, help="training config, such as config/train/demo_see.yaml")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--stats", type=Path, required=True, help="dataset whose statistics normalise the state")
    parser.add_argument("--scenes", type=int, default=12000, help="number of rendered scenes (default 12000)")
    parser.add_argument("--seed", type=int, default=200_000, help="seed of the first scene (default 200000)")
    parser.add_argument("--resume", action="store_true", help="go on where the run in --out stands")


def run(args: argparse.Namespace) -> int:
    """`pi0 pretrain-demo`."""
    from tqdm import tqdm

    from .loop import train_on
    from .recipe import load_recipe

    robot = load_robot("demo_arm")
    with tqdm(total=args.scenes, unit="scene", desc="render") as bar:
        scenes = render_scenes(args.scenes, args.seed, bar.update)
    stats = load_norm_stats(args.stats / NORM_STATS_PATH)
    data = questions(scenes, robot.dataset_fps)
    notes = {"scenes": args.scenes, "scene_seed": args.seed}
    recipe = load_recipe(args.config)
    folder = train_on(data, robot, stats, recipe, args.out, args.resume, tool_positions, notes, answers(scenes, robot))
    print(f"weights that can see: {folder}")
    return 0
