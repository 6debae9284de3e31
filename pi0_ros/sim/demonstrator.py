"""The scripted demonstrator: plays the teleoperator from what a person would see, joints and cubes.

Each command depends on the measured state and the last command only, never on a clock or a stored phase, so a policy
can learn the same mapping from its observation, and a mishap (a push, a slipped cube) is followed by a fresh try.
So is a change of mind: a cube in the hand that is no longer wanted is put down first, and where the instruction is
fulfilled the arm goes home and rests. Commands pass the robot file's limits as the controller's do.
"""

from __future__ import annotations

import numpy as np

from pi0_ros.control.limits import Limiter, limits_of
from pi0_ros.robot import load_robot
from pi0_ros.sim.kinematics import forward, inverse
from pi0_ros.sim.world import HOME, SLOTS, TRAY, TRAY_AXES, TRAY_HALF, in_tray

GRASP_HEIGHT = 0.018
HOVER = 0.09  # m above the grasp while not yet over the cube
CARRY_HEIGHT = 0.12
RELEASE_HEIGHT = 0.045
OVER_WALLS = 0.075  # m, a hand that is lower goes up before it goes sideways out of the tray
ON_PLACE = 0.008  # m, so near its place a cube is let go
OFF_CENTRE = 0.02  # m, most that a cube is thought to lie off the middle of the hand
CLEAR = 0.075  # m between a cube that is put down and the others
CLOSED_ON_CUBE = 0.5  # measured gripper position from which fingers press on a cube
GAIN = 6.0  # 1/s, of the approach to the target
MAX_SPEED = np.array([1.1, 0.9, 0.9, 1.1, 1.1])  # rad/s
MAX_ACCELERATION = 10.0  # rad/s^2
STILL = 0.02  # rad/s


class Demonstrator:
    """Turns measured joints and cube positions into joint commands [6] at a fixed period."""

    def __init__(self, period: float = 0.02) -> None:
        self.period = period
        self._command = HOME.copy()
        self._started = self._homeward = False
        self._velocity = np.zeros(5)
        self._limiter = Limiter(limits_of(load_robot("demo_arm")), period)
        self.offset = np.zeros(2)

    def reset(self, joints: np.ndarray, offset: np.ndarray | None = None) -> None:
        """Start from measured `joints` [6]; `offset` [2] (m) is a first aim beside the cube, mended on the way down."""
        self._command = np.asarray(joints, dtype=np.float64).copy()
        self._velocity[:] = 0.0
        self._limiter.start(self._command)
        self._started = True
        self.offset = np.zeros(2) if offset is None else np.asarray(offset, dtype=np.float64)

    def take_over(self, command: np.ndarray, velocity: np.ndarray) -> None:
        """Start from a `command` [6] that moves with `velocity` [6] per s."""
        self.reset(command)
        self._velocity[:] = velocity[:5]
        self._limiter.velocity[:] = velocity

    @property
    def still(self) -> bool:
        """Whether the instruction is fulfilled, and the arm at home and at rest."""
        return self._homeward and bool(np.abs(self._velocity).max() < STILL)

    def act(self, joints: np.ndarray, cubes: dict[str, np.ndarray], colour: str) -> np.ndarray:
        """Return the next command [6] for measured `joints` [6] and cube poses [7] by colour."""
        if not self._started:
            self.reset(joints)
        point, gripper = self._target(joints, cubes, colour)
        self._homeward = point is None
        if point is None:
            goal = HOME[:5]
        else:  # lean against a steady error between target and reached point, as a person does by eye
            error = point - forward(joints[:5])
            goal = inverse(point + 0.8 * error * min(1.0, 0.02 / max(float(np.linalg.norm(error)), 1e-9)))
        velocity = np.clip(GAIN * (goal - self._command[:5]), -MAX_SPEED, MAX_SPEED)
        change = MAX_ACCELERATION * self.period
        self._velocity += np.clip(velocity - self._velocity, -change, change)
        wanted = np.append(self._command[:5] + self._velocity * self.period, gripper)
        self._limiter.follow(wanted, np.append(self._velocity, 0.0))
        self._command = self._limiter.position.copy()
        return self._command.copy()

    def _target(self, joints: np.ndarray, cubes: dict[str, np.ndarray], colour: str) -> tuple[np.ndarray | None, float]:
        """Return where the grasp point should go (None: home) and the gripper command."""
        tip, gripper = forward(joints[:5]), joints[5]
        held = self._held(tip, gripper, cubes)
        if held == colour:
            return self._carry(tip, colour, cubes[colour])
        if held:
            return self._put_down(tip, held, cubes)
        if in_tray(cubes[colour][:3]):
            return (np.append(tip[:2], CARRY_HEIGHT), 0.0) if _in_the_walls(tip) else (None, 0.0)
        return self._approach(tip, cubes[colour][:3])

    def _held(self, tip: np.ndarray, gripper: float, cubes: dict[str, np.ndarray]) -> str:
        """Colour of the cube between the fingers, or ""; one that lies in the tray is let go sooner."""
        if gripper < 0.35:
            return ""
        away = {name: float(np.linalg.norm(tip - pose[:3])) for name, pose in cubes.items()}
        nearest = min(away, key=lambda name: away[name])
        enough = 0.35 if in_tray(cubes[nearest][:3]) else CLOSED_ON_CUBE
        return nearest if away[nearest] < 0.03 and gripper > enough else ""

    def _carry(self, tip: np.ndarray, colour: str, cube: np.ndarray) -> tuple[np.ndarray, float]:
        """Over the tray the cube is brought over its place, not the hand; it is let go there and nowhere else."""
        looking = np.clip(2.0 - float(np.linalg.norm(tip[:2] - SLOTS[colour])) / OFF_CENTRE, 0.0, 1.0)
        place = SLOTS[colour] + looking * np.clip(tip[:2] - cube[:2], -OFF_CENTRE, OFF_CENTRE)
        away = float(np.linalg.norm(tip[:2] - place))
        if away < 0.015 or (_in_the_walls(tip) and away < 0.03 and tip[2] < RELEASE_HEIGHT + 0.03):
            low, opening = tip[2] < RELEASE_HEIGHT + 0.012, self._command[5] < 0.5
            return np.append(place, RELEASE_HEIGHT), float(not (low and (opening or away < ON_PLACE)))
        height = RELEASE_HEIGHT + np.clip(3.0 * (away - 0.010), 0.0, CARRY_HEIGHT - RELEASE_HEIGHT)
        # Rise first, then travel: the sideways goal opens up with height.
        fraction = np.clip((tip[2] - 0.04) / 0.05, 0.0, 1.0)
        return np.append(tip[:2] + fraction * (place - tip[:2]), height), 1.0

    def _put_down(self, tip: np.ndarray, held: str, cubes: dict[str, np.ndarray]) -> tuple[np.ndarray, float]:
        """Where to let go of a cube that is not wanted: on the table, clear of the others, or in the tray if near."""
        if _beyond_the_walls(tip) < 0.04:
            return self._carry(tip, held, cubes[held])
        spot = tip[:2].copy()
        for name, pose in cubes.items():
            apart = spot - pose[:2]
            if name != held and (distance := float(np.linalg.norm(apart))) < CLEAR:
                spot += apart * (CLEAR / max(distance, 1e-3) - 1.0)
        off = float(np.linalg.norm(spot - tip[:2]))
        low = tip[2] < GRASP_HEIGHT + 0.012
        return np.append(spot, GRASP_HEIGHT + np.clip(3.0 * (off - 0.012), 0.0, HOVER)), float(not low)

    def _approach(self, tip: np.ndarray, cube: np.ndarray) -> tuple[np.ndarray, float]:
        if _in_the_walls(tip):
            return np.append(tip[:2], CARRY_HEIGHT), 0.0
        away = float(np.linalg.norm(tip[:2] - cube[:2]))
        aim = cube[:2] + self.offset * np.clip((tip[2] - 0.06) / 0.04, 0.0, 1.0)
        # A funnel: the further from the cube's axis, the higher the hand.
        height = GRASP_HEIGHT + np.clip(3.0 * (float(np.linalg.norm(tip[:2] - aim)) - 0.012), 0.0, HOVER)
        low = tip[2] < GRASP_HEIGHT + 0.010
        close = low and away < 0.016 or (low and self._closing(away))
        target = np.append(aim, height) if not close else np.append(cube[:2], GRASP_HEIGHT)
        return target, float(close)

    def _closing(self, away: float) -> bool:
        """Whether a grasp already under way goes on."""
        return bool(self._command[5] > 0.5 and away < 0.025)


def _in_the_walls(tip: np.ndarray) -> bool:
    """Whether the hand is so low over the tray that it must go up before it goes sideways."""
    return bool(_beyond_the_walls(tip) < 0.015 and tip[2] < OVER_WALLS)


def _beyond_the_walls(tip: np.ndarray) -> float:
    """How far the hand is from being over the tray, m; negative over it."""
    return float(np.max(np.abs(TRAY_AXES @ (tip[:2] - TRAY)) - TRAY_HALF))
