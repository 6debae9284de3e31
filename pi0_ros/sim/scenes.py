"""Still scenes of the simulated arm with the answer to "where is the red cube?".

A released pi0 starts from a vision-language model that has seen a good part of the internet; the demo's small model
starts from nothing. These scenes stand in for that: random cubes, the arm anywhere, and every cube's place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pi0_ros.sim.kinematics import inverse
from pi0_ros.sim.world import CAMERAS, CUBES, Start, World

TRAY_SHARES = (0.6, 0.2, 0.15, 0.05)  # how often 0, 1, 2, 3 cubes lie in the tray


@dataclass(frozen=True)
class Scenes:
    """N scenes.

    frames: camera -> uint8 [N,S,S,3]; state: float32 [N,6]; cubes: float32 [N,3,3], x y z (m) in CUBES order;
    pixels: camera -> uint8 [N,3,P,P], how many pixels of each cube show in each of the P x P patches.
    """

    frames: dict[str, np.ndarray]
    state: np.ndarray
    cubes: np.ndarray
    pixels: dict[str, np.ndarray]


def render_scenes(count: int, seed: int, patches: int, progress: Callable[[], object] = lambda: None) -> Scenes:
    """Render `count` scenes; scene k depends on `seed + k` alone. `progress` is called after each."""
    world = World()
    size = world.renderer.size
    geoms = np.array([world.model.geom(name).id for name in CUBES])
    pixels = {camera: np.empty((count, len(CUBES), patches, patches), np.uint8) for camera in CAMERAS}
    frames = {camera: np.empty((count, size, size, 3), np.uint8) for camera in CAMERAS}
    state, cubes = np.empty((count, 6), np.float32), np.empty((count, 3, 3), np.float32)
    for k in range(count):
        rng = np.random.default_rng([seed + k, 3])
        lying = tuple(str(name) for name in rng.permutation(CUBES)[: rng.choice(4, p=TRAY_SHARES)])
        world.reset(seed + k, Start(tray=lying))
        places = np.array([world.cubes()[name][:3] for name in CUBES])
        world.place_arm(_any_pose(places, world.rng))
        for camera in CAMERAS:
            frames[camera][k] = world.render(camera)
            shown = world.renderer.geoms == geoms[:, None, None]
            side = size // patches
            pixels[camera][k] = shown.reshape(len(CUBES), patches, side, patches, side).sum((2, 4))
        state[k], cubes[k] = world.joint_positions(), places
        progress()
    return Scenes(frames, state, cubes, pixels)


def _any_pose(places: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Joint positions [6]: half the time close over one of the cubes, else anywhere above the table."""
    if rng.random() < 0.5:
        point = places[rng.integers(len(places))] + np.append(rng.normal(0.0, 0.03, 2), rng.uniform(0.0, 0.10))
    else:
        radius, yaw = rng.uniform(0.15, 0.35), rng.uniform(-1.0, 1.4)
        point = np.array([radius * np.cos(yaw), radius * np.sin(yaw), rng.uniform(0.03, 0.20)])
    gripper = rng.uniform(0.0, 1.0) if rng.random() < 0.25 else 0.0
    return np.append(inverse(point) + rng.normal(0.0, 0.04, 5), gripper)
