"""A world like LIBERO's for a client: a hand, a gripper and a cube on a table.

What a client must do right is what wins here: turn the pictures (which come upside down and mirrored), tell the cameras
apart (the cube's place is in one, its height in the other), read place, axis-angle and fingers, step and not jump, open
with -1 and close with +1, wait until the cube has fallen, seed before it resets (a fixture moves the cube). LOG tells
everything that was asked. STANDIN_FAULT="TASK:TRIAL:STEP" in the environment makes that step raise; STANDIN_STEP_S is
how long each lasts.
"""

import os
import pathlib
import time

import numpy as np

LOG: list[tuple] = []
SIDE, REACH = 256, 0.3  # px; m that a picture shows to each side
STEP_M, STEP_RAD, OPEN_M = 0.05, 0.5, 0.04
FALLS = 10  # steps
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (40, 60, 230)}
NEAR_M, NEAR_RAD = 0.012, 0.1
YAW = 0.3  # rad, at which the gripper fits the cube


class OffScreenRenderEnv:
    """LIBERO's environment: robosuite's step, reset and observations."""

    def __init__(self, bddl_file_name: str, camera_heights: int = 128, camera_widths: int = 128) -> None:
        assert pathlib.Path(bddl_file_name).exists(), f"[error] {bddl_file_name} does not exist!"
        suite, number, *words = pathlib.Path(bddl_file_name).read_text().split()
        self.suite, self.task, self.colour = suite, int(number), words[-2]
        self.shape = (camera_heights, camera_widths)
        self.trial = -1
        self.fixture = np.zeros(2)
        self.slow = float(os.environ.get("STANDIN_STEP_S", "0"))
        self.fault = os.environ.get("STANDIN_FAULT", "")
        LOG.append(("new", suite, self.task, self.shape))

    def seed(self, seed: int) -> None:
        """As LIBERO: numpy's global generator."""
        LOG.append(("seed", seed))
        np.random.seed(seed)  # noqa: NPY002 - as LIBERO
        self.trial = -1

    def reset(self):
        """As LIBERO: whatever it raises, Ctrl-C among it, is swallowed, and it is tried again."""
        success = False
        while not success:
            try:
                time.sleep(self.slow)
                self.fixture = np.random.uniform(-0.05, 0.05, 2)  # noqa: NPY002 - as LIBERO
                self.state = np.zeros(8)
                success = True
            finally:
                continue  # noqa: B012 - as LIBERO
        self.trial += 1
        self.steps = 0
        self.done = self.around = False
        LOG.append(("reset", tuple(np.round(self.fixture, 6))))
        return self._observations()

    def set_init_state(self, init_state):
        """Everything that moves; the fixture stays where `reset` has put it."""
        LOG.append(("init", tuple(np.round(init_state, 6))))
        self.state = np.array(init_state)
        return self._observations()

    def step(self, action):
        """One period: 5 cm and half a radian at most, as OSC_POSE."""
        if self.done:
            raise ValueError("executing action in terminated episode")
        if not isinstance(action, list) or len(action) != 7:
            raise ValueError(f"an action is a list of 7, not {action}")
        LOG.append(("step", tuple(np.round(action, 6))))
        if self.fault == f"{self.task}:{self.trial}:{self.steps}":
            raise RuntimeError("Nan, Inf or huge value in QACC at DOF 0. The simulation is unstable.")
        time.sleep(self.slow)
        move = np.clip(action, -1, 1)
        self.steps += 1
        self.state[:3] += STEP_M * move[:3]
        self.state[3] += STEP_RAD * move[5]
        self.state[4] = np.clip(self.state[4] - 0.02 * move[6], 0.0, OPEN_M)
        place, yaw, fingers = self.state[:3], self.state[3], self.state[4]
        at_it = np.linalg.norm(place - self.cube) < NEAR_M and abs(yaw - YAW) < NEAR_RAD
        self.around = at_it and (self.around or fingers > 0.03)  # fingers that come closed push the cube away
        self.done = bool(self.around and fingers < 0.005 and self.steps > FALLS)
        return self._observations(), float(self.done), self.done, {}

    def close(self) -> None:
        """The renderer is gone."""
        LOG.append(("close",))

    @property
    def cube(self) -> np.ndarray:
        """Where it is: it falls during the first steps, and lies beside the fixture."""
        fall = 0.1 * max(0, FALLS - self.steps) / FALLS
        return self.state[5:] + (*self.fixture, 0.0) + np.array([fall, 0.0, fall])

    def _observations(self) -> dict[str, np.ndarray]:
        table = np.full((SIDE, SIDE, 3), (90, 80, 70), np.uint8)
        column, row = (int((value / REACH + 1) * SIDE / 2) for value in self.cube[:2])
        table[max(0, row - 6) : row + 7, max(0, column - 6) : column + 7] = COLOURS[self.colour]
        hand = np.full((SIDE, SIDE, 3), 20, np.uint8)
        hand[: SIDE // 2, : SIDE // 2] = int(round(self.cube[2] * 1000))  # the height in mm, top left when upright
        half = self.state[3] / 2
        return {
            "agentview_image": self._rendered(table),
            "robot0_eye_in_hand_image": self._rendered(hand),
            "robot0_eef_pos": self.state[:3].copy(),
            "robot0_eef_quat": np.array([0.0, 0.0, np.sin(half), np.cos(half)]),
            "robot0_gripper_qpos": np.array([self.state[4], -self.state[4]]),
            "robot0_joint_pos": np.zeros(7),
        }

    def _rendered(self, upright: np.ndarray) -> np.ndarray:
        """As LIBERO shows it: turned by half a turn from what policies are trained on."""
        if self.shape != (SIDE, SIDE):
            return upright[: self.shape[0], : self.shape[1]]
        return upright[::-1, ::-1]
