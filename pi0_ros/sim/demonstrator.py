"""The scripted demonstrator: plays the teleoperator from what a person would see, joints and cubes.

Each command depends on the measured state and the last command only, never on a clock or a stored phase, so a policy
can learn the same mapping from its observation, and a mishap (a push, a slipped cube) is followed by a fresh try.
"""

from __future__ import annotations

import numpy as np

from pi0_ros.sim.kinematics import forward, inverse
from pi0_ros.sim.world import HOME, TRAY, in_tray

GRASP_HEIGHT = 0.018
HOVER = 0.09  # m above the grasp while not yet over the cube
CARRY_HEIGHT = 0.12
RELEASE_HEIGHT = 0.055
CLOSED_ON_CUBE = 0.5  # measured gripper position from which fingers press on a cube
GAIN = 6.0  # 1/s, of the approach to the target
MAX_SPEED = np.array([1.1, 0.9, 0.9, 1.1, 1.1])  # rad/s
MAX_ACCELERATION = 10.0  # rad/s^2


class Demonstrator:
    """Turns measured joints and cube positions into joint commands [6] at a fixed period."""

    def __init__(self, period: float = 0.02) -> None:
        self.period = period
        self._command = HOME.copy()
        self._started = False
        self._velocity = np.zeros(5)
        self.offset = np.zeros(2)

    def reset(self, joints: np.ndarray, offset: np.ndarray | None = None) -> None:
        """Start from measured `joints` [6]; `offset` [2] (m) is a first aim beside the cube, mended on the way down."""
        self._command = np.asarray(joints, dtype=np.float64).copy()
        self._velocity[:] = 0.0
        self._started = True
        self.offset = np.zeros(2) if offset is None else np.asarray(offset, dtype=np.float64)

    def act(self, joints: np.ndarray, cubes: dict[str, np.ndarray], colour: str) -> np.ndarray:
        """Return the next command [6] for measured `joints` [6] and cube poses [7] by colour."""
        if not self._started:
            self.reset(joints)
        point, gripper = self._target(joints, cubes[colour][:3])
        if point is None:
            goal = HOME[:5]
        else:  # lean against a steady error between target and reached point, as a person does by eye
            error = point - forward(joints[:5])
            goal = inverse(point + 0.8 * error * min(1.0, 0.02 / max(float(np.linalg.norm(error)), 1e-9)))
        velocity = np.clip(GAIN * (goal - self._command[:5]), -MAX_SPEED, MAX_SPEED)
        change = MAX_ACCELERATION * self.period
        self._velocity += np.clip(velocity - self._velocity, -change, change)
        self._command[:5] += self._velocity * self.period
        self._command[5] = gripper
        return self._command.copy()

    def _target(self, joints: np.ndarray, cube: np.ndarray) -> tuple[np.ndarray | None, float]:
        """Return where the grasp point should go (None: home) and the gripper command."""
        tip, gripper = forward(joints[:5]), joints[5]
        near_cube = np.linalg.norm(tip - cube) < 0.03
        if in_tray(cube) and not (near_cube and gripper > 0.35):
            over_tray = np.linalg.norm(tip[:2] - TRAY) < 0.08
            return (np.append(TRAY, CARRY_HEIGHT), 0.0) if over_tray and tip[2] < CARRY_HEIGHT - 0.03 else (None, 0.0)
        if near_cube and gripper > CLOSED_ON_CUBE:
            return self._carry(tip)
        return self._approach(tip, cube)

    def _carry(self, tip: np.ndarray) -> tuple[np.ndarray, float]:
        to_tray = float(np.linalg.norm(tip[:2] - TRAY))
        if to_tray < 0.025:
            return np.append(TRAY, RELEASE_HEIGHT), float(tip[2] > RELEASE_HEIGHT + 0.012)
        height = CARRY_HEIGHT if to_tray > 0.06 else RELEASE_HEIGHT
        # Rise first, then travel: the sideways goal opens up with height.
        fraction = np.clip((tip[2] - 0.04) / 0.05, 0.0, 1.0)
        return np.append(tip[:2] + fraction * (TRAY - tip[:2]), height), 1.0

    def _approach(self, tip: np.ndarray, cube: np.ndarray) -> tuple[np.ndarray, float]:
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
