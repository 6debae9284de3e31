"""The simulated robot in its world: joint commands in, joint states, images and object poses out.

Joint vectors have six entries: yaw, shoulder, elbow, wrist, roll (rad) and gripper (0 open, 1 closed).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np

from pi0_ros.sim.kinematics import inverse
from pi0_ros.sim.render import Renderer

JOINTS = ("yaw", "shoulder", "elbow", "wrist", "roll", "gripper")
CUBES = ("red", "green", "blue")
CAMERAS = ("base", "wrist")
FINGER_TRAVEL = 0.043  # m, from open to closed
TRAY = np.array([0.12, 0.235])  # m, centre
TRAY_HALF = 0.065
TICK = 0.01  # s, one call of World.step
HOME = np.append(inverse(np.array([0.20, 0.0, 0.16])), 0.0)


@dataclass(frozen=True)
class Disturbance:
    """A slowly wandering offset between commanded and reached joint positions (rad), as worn gears and cables give."""

    amplitude: float = 0.0
    period_s: float = 0.8


class World:
    """MuJoCo world of the demo arm; deterministic for a seed and a sequence of commands."""

    def __init__(self, image_size: int = 96, disturbance: Disturbance = Disturbance()) -> None:
        self.model = mujoco.MjModel.from_xml_path(str(Path(__file__).with_name("arm.xml")))
        self.data = mujoco.MjData(self.model)
        self.renderer = Renderer(self.model, image_size)
        self.disturbance = disturbance
        self._substeps = round(TICK / self.model.opt.timestep)
        self._joint_address = [self.model.joint(name).qposadr[0] for name in JOINTS[:5]]
        self._fingers = [self.model.joint(name).qposadr[0] for name in ("left_finger", "right_finger")]
        self._cube_address = {name: self.model.body(name).jntadr[0] for name in CUBES}
        self.reset(0)

    def reset(self, seed: int, mishap: bool = False) -> None:
        """Put the cubes at random places given by `seed`, and the arm near its home pose.

        With `mishap` the arm stands beside a cube, its gripper perhaps closed, as after a grasp that missed.
        """
        self.rng = np.random.default_rng(seed)
        mujoco.mj_resetData(self.model, self.data)
        start = HOME.copy()
        start[:5] += self.rng.uniform(-1, 1, 5) * [0.35, 0.12, 0.12, 0.12, 0.0]
        for name, (x, y, angle) in zip(CUBES, sample_cubes(self.rng), strict=True):
            address = self.model.jnt_qposadr[self._cube_address[name]]
            self.data.qpos[address : address + 7] = [x, y, 0.02, np.cos(angle / 2), 0, 0, np.sin(angle / 2)]
        self._offset = np.zeros(5)
        mujoco.mj_forward(self.model, self.data)
        self.place_arm(self._beside_a_cube() if mishap else start)

    def _beside_a_cube(self) -> np.ndarray:
        """Joint positions [6] with the hand low beside a random cube, or higher and further off."""
        height = self.rng.uniform(0.02, 0.13)
        distance = self.rng.uniform(0.042, 0.06 if height < 0.06 else 0.12)
        direction = self.rng.uniform(-np.pi, np.pi)
        cube = self.cubes()[CUBES[self.rng.integers(3)]][:2]
        point = np.append(cube + distance * np.array([np.cos(direction), np.sin(direction)]), height)
        gripper = self.rng.choice([0.0, 0.97, 0.97, self.rng.uniform(0.0, 0.97)])
        return np.append(inverse(point), gripper)

    def place_arm(self, joints: np.ndarray) -> None:
        """Put the arm at `joints` [6], at rest, without moving anything else."""
        self.data.qpos[self._joint_address] = joints[:5]
        self.data.qpos[self._fingers] = joints[5] * FINGER_TRAVEL
        self.command = np.asarray(joints, dtype=np.float64).copy()
        mujoco.mj_forward(self.model, self.data)

    @property
    def time(self) -> float:
        """Simulated seconds since the reset."""
        return float(self.data.time)

    def step(self, command: np.ndarray | None = None) -> None:
        """Advance by one TICK, holding `command` [6] (or the last one) as the position target."""
        if command is not None:
            self.command = np.asarray(command, dtype=np.float64)
        keep = np.exp(-TICK / self.disturbance.period_s)
        noise = self.rng.standard_normal(5) * np.sqrt(1 - keep**2)
        self._offset = keep * self._offset + self.disturbance.amplitude * noise
        self.data.ctrl[:5] = self.command[:5] + self._offset
        self.data.ctrl[5:] = np.clip(self.command[5], 0.0, 1.0) * FINGER_TRAVEL
        mujoco.mj_step(self.model, self.data, self._substeps)

    def joint_positions(self) -> np.ndarray:
        """Return measured positions [6]."""
        gripper = self.data.qpos[self._fingers].mean() / FINGER_TRAVEL
        return np.append(self.data.qpos[self._joint_address], gripper)

    def joint_velocities(self) -> np.ndarray:
        """Return measured velocities [6] per second (velocity and position addresses agree: the arm comes first)."""
        return np.append(self.data.qvel[self._joint_address], self.data.qvel[self._fingers].mean() / FINGER_TRAVEL)

    def cubes(self) -> dict[str, np.ndarray]:
        """Return each cube's pose [7]: position (m) and quaternion w, x, y, z."""
        addresses = {name: self.model.jnt_qposadr[joint] for name, joint in self._cube_address.items()}
        return {name: self.data.qpos[a : a + 7].copy() for name, a in addresses.items()}

    def render(self, camera: str) -> np.ndarray:
        """Return the image of `camera` ("base" or "wrist") as uint8 RGB [S, S, 3]."""
        return self.renderer.render(self.data, camera)


def sample_cubes(rng: np.random.Generator) -> np.ndarray:
    """Draw x, y (m) and heading (rad) of the three cubes, [3, 3]: within reach and a hand's width apart."""
    while True:
        radius, yaw = rng.uniform(0.20, 0.32, 3), rng.uniform(-0.85, 0.42, 3)
        places = np.stack([radius * np.cos(yaw), radius * np.sin(yaw)], axis=1)
        gaps = np.linalg.norm(places[:, None] - places[None], axis=-1)[np.triu_indices(3, 1)]
        if gaps.min() > 0.10:
            return np.column_stack([places, yaw + rng.uniform(-0.3, 0.3, 3)])


def in_tray(position: np.ndarray) -> bool:
    """Whether a cube at `position` [3] (m) rests in the tray (and is not merely held over it)."""
    return bool(np.all(np.abs(position[:2] - TRAY) < TRAY_HALF) and position[2] < 0.035)
