"""A server of the real protocol whose policy swings the robot and has no network: python swinging.py ADDRESS ROBOT."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pi0_ros.control.chunk import ActionChunk
from pi0_ros.inference.metadata import Metadata
from pi0_ros.inference.prefix import ActionPrefix
from pi0_ros.inference.server import Server
from pi0_ros.observation.streams import Observation
from pi0_ros.robot import robot_from_yaml

STEPS, DT = 32, 0.05


class Swinging:
    """Chunks of one motion that goes on by the clock."""

    timing: Mapping[str, float] = {}

    def __init__(self, robot_file: Path) -> None:
        robot = robot_from_yaml(robot_file.read_text(encoding="utf-8"), str(robot_file))
        self.metadata = Metadata("swinging", "pi0", robot, horizon=STEPS, fps=1.0 / DT, image_size=48)

    def infer(self, observation: Observation, prefix: ActionPrefix | None = None) -> ActionChunk:
        """The motion of the next moments."""
        stamp = observation.stamp_ns * 1e-9
        swing = 0.6 * np.sin(2.0 * (stamp + DT * np.arange(STEPS)))
        actions = np.stack([swing, 0.5 * swing, swing > 0], axis=1)
        return ActionChunk(observation.stamp_ns, round(DT * 1e9), actions, self.metadata.robot.joint_names)

    def close(self) -> None:
        """Nothing to free."""


if __name__ == "__main__":
    Server(Swinging(Path(sys.argv[2])), sys.argv[1]).run(stop=lambda: False)
