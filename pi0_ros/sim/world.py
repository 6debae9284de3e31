"""The simulated robot in its world: joint commands in, joint states, images and object poses out.

Joint vectors have six entries: yaw, shoulder, elbow, wrist, roll (rad) and gripper (0 open, 1 closed).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np

from pi0_ros.base.errors import InputError
from pi0_ros.sim.kinematics import forward, inverse
from pi0_ros.sim.render import Renderer

JOINTS = ("yaw", "shoulder", "elbow", "wrist", "roll", "gripper")
CUBES = ("red", "green", "blue")
CAMERAS = ("base", "wrist")
FINGER_TRAVEL = 0.043  # m, from open to closed
TRAY = np.array([0.12, 0.235])  # m, centre
TRAY_AXES = np.array([[TRAY[0], TRAY[1]], [-TRAY[1], TRAY[0]]]) / np.linalg.norm(
    TRAY
)  # rows: away from the arm, across
TRAY_HALF = np.array([0.09, 0.06])  # m, along these axes
# Each cube has a place of its own in the tray, in a row that points away from the arm: the hand opens across it.
SLOTS = {name: TRAY + step * TRAY_AXES[0] for name, step in zip(CUBES, (-0.055, 0.0, 0.055))}
ON_TRAY = 0.024  # m, height of the centre of a cube that lies in the tray
EDGE = 0.04  # m, of a cube
ON_ANOTHER = ON_TRAY + EDGE + 0.004  # m, greatest height of the centre of one that lies on another in the tray
TICK = 0.01  # s, one call of World.step
JOINTS_EVERY = 2  # ticks: joint states at 50 Hz
IMAGE_EVERY = 5  # ticks: each camera at 20 Hz
IMAGE_PHASES = {"base": 1, "wrist": 3}  # ticks: the cameras take turns
HOME = np.append(inverse(np.array([0.20, 0.0, 0.16])), 0.0)


@dataclass(frozen=True)
class Disturbance:
    """A slowly wandering offset between commanded and reached joint positions (rad), as worn gears and cables give."""

    amplitude: float = 0.0
    period_s: float = 0.8


ARM_STARTS = ("home", "beside", "tray", "anywhere")


@dataclass(frozen=True)
class Start:
    """How a scene begins.

    arm: "home" (near it); "beside" a cube, the gripper perhaps closed, as after a grasp that missed; "tray": over it,
    as after a success; "anywhere" above the table. tray: the cubes that lie in the tray already.
    """

    arm: str = "home"
    tray: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.arm not in ARM_STARTS or not set(self.tray) <= set(CUBES):
            raise InputError(f"{self}: arm is one of {', '.join(ARM_STARTS)}, tray holds some of {', '.join(CUBES)}")


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

    def reset(self, seed: int, start: Start = Start()) -> None:
        """Put the cubes at random places given by `seed`, and the arm where `start` says."""
        self.rng = np.random.default_rng(seed)
        mujoco.mj_resetData(self.model, self.data)
        home = HOME.copy()
        home[:5] += self.rng.uniform(-1, 1, 5) * [0.35, 0.12, 0.12, 0.12, 0.0]
        for name, (x, y, angle) in zip(CUBES, sample_cubes(self.rng), strict=True):
            self.place_cube(name, np.array([x, y, 0.02]), angle)
        for name in start.tray:
            place = np.append(SLOTS[name] + self.rng.uniform(-0.006, 0.006, 2), ON_TRAY)
            self.place_cube(name, place, np.arctan2(TRAY[1], TRAY[0]) + self.rng.uniform(-0.2, 0.2))
        self._offset = np.zeros(5)
        mujoco.mj_forward(self.model, self.data)
        poses = {
            "home": lambda: home,
            "beside": self._beside_a_cube,
            "tray": lambda: self._over_the_tray(start.tray or CUBES),
            "anywhere": self._anywhere,
        }
        self.place_arm(poses[start.arm]())

    def scatter(self, seed: int) -> None:
        """Put the cubes at other places, away from the hand; nothing else moves."""
        rng, hand = np.random.default_rng(seed), forward(self.joint_positions()[:5])[:2]
        while np.linalg.norm((places := sample_cubes(rng))[:, :2] - hand, axis=1).min() < 0.07:
            pass
        for name, (x, y, angle) in zip(CUBES, places, strict=True):
            self.place_cube(name, np.array([x, y, 0.02]), angle)
            first = self.model.jnt_dofadr[self._cube_address[name]]
            self.data.qvel[first : first + 6] = 0.0
        mujoco.mj_forward(self.model, self.data)

    def place_cube(self, name: str, position: np.ndarray, heading: float) -> None:
        """Put a cube at `position` [3] (m), turned by `heading` (rad); call `mj_forward` or `step` afterwards."""
        address = self.model.jnt_qposadr[self._cube_address[name]]
        turn = [np.cos(heading / 2), 0, 0, np.sin(heading / 2)]
        self.data.qpos[address : address + 7] = [*position, *turn]

    def _over_the_tray(self, cubes: tuple[str, ...]) -> np.ndarray:
        """Joint positions [6] with the open hand over a cube that has just been put down."""
        slot = SLOTS[cubes[self.rng.integers(len(cubes))]] + self.rng.normal(0.0, 0.01, 2)
        return np.append(inverse(np.append(slot, self.rng.uniform(0.065, 0.14))), self.rng.choice([0.0, 0.0, 0.3]))

    def _anywhere(self) -> np.ndarray:
        """Joint positions [6] with the hand somewhere above the table, mostly open."""
        radius, yaw = self.rng.uniform(0.17, 0.33), self.rng.uniform(-1.0, 1.2)
        point = np.array([radius * np.cos(yaw), radius * np.sin(yaw), self.rng.uniform(0.08, 0.20)])
        return np.append(inverse(point), self.rng.choice([0.0, 0.0, 0.97]))

    def _beside_a_cube(self) -> np.ndarray:
        """Joint positions [6] with the hand low beside a random cube, or higher and further off."""
        height = self.rng.uniform(0.02, 0.13)
        distance = self.rng.uniform(0.042, 0.06 if height < 0.06 else 0.12)
        direction = self.rng.uniform(-np.pi, np.pi)
        # Not beside one that lies in the tray: the hand would stand in its walls.
        cubes = [pose[:2] for pose in self.cubes().values() if not in_tray(pose[:3])]
        cube = cubes[self.rng.integers(len(cubes))]
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

    def focal_length(self, camera: str) -> tuple[float, int]:
        """(focal length, side) of the camera's square picture, both in pixels."""
        index = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_CAMERA, camera)
        side = self.renderer.size
        return side / 2 / float(np.tan(np.deg2rad(self.model.cam_fovy[index]) / 2)), side

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
    return _over_tray(position) and bool(position[2] < 0.035)


def lying_in_tray(cubes: dict[str, np.ndarray]) -> list[str]:
    """The cubes, of these poses [7] or places [3] (m), that lie in the tray: on its floor or on one that does."""
    floor = [place[:2] for place in cubes.values() if in_tray(place[:3])]

    def on_another(place: np.ndarray) -> bool:
        near = any(np.linalg.norm(place[:2] - other) < EDGE for other in floor)
        return near and _over_tray(place) and bool(place[2] < ON_ANOTHER)

    return [name for name, place in cubes.items() if in_tray(place[:3]) or on_another(place)]


def _over_tray(place: np.ndarray) -> bool:
    return bool(np.all(np.abs(TRAY_AXES @ (place[:2] - TRAY)) < TRAY_HALF))
