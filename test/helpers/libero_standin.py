"""The stand-in for LIBERO of `standin/`, and a policy that does its tasks by what an observation shows."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from pi0_ros.control.chunk import ActionChunk
from pi0_ros.inference.metadata import Metadata
from pi0_ros.inference.prefix import ActionPrefix
from pi0_ros.observation.streams import Observation
from pi0_ros.robot import Robot, load_robot

STANDIN = Path(__file__).parent / "standin"
COLOURS = {"red": 0, "green": 1, "blue": 2}
REACH, STEP_M, STEP_RAD, YAW, NEAR = 0.3, 0.05, 0.5, 0.3, 0.006


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Make the stand-in the package `libero`, here and in processes; returns its environments' module."""
    home = folder / "libero_config"
    home.mkdir()
    (home / "config.yaml").write_text("{}")
    monkeypatch.setenv("LIBERO_CONFIG_PATH", str(home))
    monkeypatch.syspath_prepend(str(STANDIN))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(STANDIN), os.environ.get("PYTHONPATH", "")))))
    importlib.invalidate_caches()
    importlib.import_module("libero.libero.benchmark")
    envs = importlib.import_module("libero.libero.envs")
    for name in [name for name in sys.modules if name.split(".")[0] == "libero"]:
        monkeypatch.setitem(sys.modules, name, sys.modules.pop(name))  # so that they are gone with the test
    return envs


class Expert:
    """Finds the cube in the pictures, goes there by steps, turns the hand, and closes the gripper."""

    timing: Mapping[str, float] = {}

    def __init__(self, robot: Robot | None = None, horizon: int = 10) -> None:
        self.robot = robot or load_robot("libero")
        self.metadata = Metadata("expert", "pi05", self.robot, horizon, 10.0, 224)
        self.horizon = horizon
        self.seen: list[Observation] = []

    def infer(self, observation: Observation, prefix: ActionPrefix | None = None) -> ActionChunk:
        self.seen.append(observation)
        table, hand = observation.images["image"].astype(int), observation.images["wrist_image"].astype(int)
        channel = COLOURS[observation.prompt.split()[-2]] if observation.prompt.split()[-1] == "cube" else 0
        others = [other for other in range(3) if other != channel]
        rows, columns = np.nonzero(table[..., channel] - table[..., others].max(-1) > 100)
        place = np.zeros(3)
        if len(rows):
            half = len(table) / 2  # a server is sent smaller pictures
            place = np.array([columns.mean() + 0.5 - half, rows.mean() + 0.5 - half, 0]) / half * REACH
        place[2] = hand[10, 10, 0] / 1000
        at, yaw, closing = observation.state[:3].copy(), observation.state[5], False
        actions = []
        for _ in range(self.horizon):
            move, turn = np.clip((place - at) / STEP_M, -1, 1), np.clip((YAW - yaw) / STEP_RAD, -1, 1)
            closing = closing or bool(np.linalg.norm(place - at) < NEAR)
            actions.append([*move, 0.0, 0.0, turn, 1.0 if closing else -1.0])
            at, yaw = at + STEP_M * move, yaw + STEP_RAD * turn
        return ActionChunk(observation.stamp_ns, 100_000_000, np.array(actions), self.robot.action_names)

    def close(self) -> None:
        pass
