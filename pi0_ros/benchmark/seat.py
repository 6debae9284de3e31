"""LIBERO's robot as the policy knows it: which picture is which camera, and what the numbers of the state are."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from pi0_ros.base.errors import InputError
from pi0_ros.benchmark.rules import PICTURE_SIDE
from pi0_ros.benchmark.simulator import Raw, SimulatorError
from pi0_ros.observation.streams import Observation
from pi0_ros.robot import Robot

TABLE, HAND = "agentview_image", "robot0_eye_in_hand_image"
KEYS = {"base_0_rgb": TABLE, "left_wrist_0_rgb": HAND, "image": TABLE, "image2": HAND}  # by slots: openpi's, LeRobot's
LEROBOT_SLOTS = {"base_0_rgb": "image", "left_wrist_0_rgb": "image2"}
STATE = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")
STATE_WIDTH, ACTION_WIDTH = 8, 7
OPEN, CLOSED = -1.0, 1.0  # of the gripper's action, the last one


@dataclass(frozen=True)
class Seat:
    """Where the policy sits: turns what LIBERO shows into the observation of `robot`; InputError for another robot."""

    robot: Robot

    def __post_init__(self) -> None:
        robot = self.robot
        wrong = []
        if len(robot.state_names) != STATE_WIDTH:
            wrong.append(
                f"its state has {len(robot.state_names)} numbers, LIBERO's {STATE_WIDTH}: place, turn, two fingers"
            )
        if len(robot.action_names) != ACTION_WIDTH:
            wrong.append(
                f"its action has {len(robot.action_names)} numbers, LIBERO's {ACTION_WIDTH}: a step, the gripper"
            )
        elif (robot.action_joints[-1].lower, robot.action_joints[-1].upper) != (OPEN, CLOSED):
            last = robot.action_joints[-1]
            wrong.append(
                f"its last action {last.name} goes from {last.lower:g} to {last.upper:g}, "
                f"LIBERO's gripper from {OPEN:g} (open) to {CLOSED:g} (closed)"
            )
        if unknown := [f"{camera.name} ({camera.slot})" for camera in robot.cameras if camera.slot not in KEYS]:
            wrong.append(f"LIBERO has no camera for {', '.join(unknown)}, only for the slots {', '.join(KEYS)}")
        if wrong:
            raise InputError(
                f"robot '{robot.name}' is not LIBERO's: {'; '.join(wrong)}. Give a checkpoint trained for LIBERO; "
                "robot files are libero and libero_pi0"
            )

    def observe(self, raw: Raw, prompt: str, stamp_ns: int) -> Observation:
        """The observation of the robot at `stamp_ns`; pictures at 256 px, which the policy makes as small as it was
        trained: for openpi's checkpoints exactly as openpi's client does it."""
        images = {camera.name: upright(raw, KEYS[camera.slot]) for camera in self.robot.cameras}
        return Observation(stamp_ns, images, state_of(raw), prompt, {})

    def black(self, prompt: str) -> Observation:
        """An observation of nothing, to hear whether a policy answers."""
        images = {camera.name: np.zeros((PICTURE_SIDE, PICTURE_SIDE, 3), np.uint8) for camera in self.robot.cameras}
        state = np.array([joint.neutral for joint in self.robot.state_joints])
        return Observation(0, images, state, prompt, {})


def with_lerobot_slots(robot: Robot) -> Robot:
    """The robot for LeRobot's checkpoints, which call the model's cameras image and image2."""
    return replace(robot, cameras=tuple(replace(one, slot=LEROBOT_SLOTS[one.slot]) for one in robot.cameras))


def upright(raw: Raw, key: str) -> np.ndarray:
    """A picture turned by 180 degrees, as in the data that policies were trained on: uint8 [256, 256, 3]."""
    picture = np.asarray(_shown(raw, key))
    if picture.dtype != np.uint8 or picture.shape != (PICTURE_SIDE, PICTURE_SIDE, 3):
        raise SimulatorError(
            f"the environment's {key} is {picture.dtype} {list(picture.shape)}, expected uint8 "
            f"[{PICTURE_SIDE}, {PICTURE_SIDE}, 3]"
        )
    return np.ascontiguousarray(picture[::-1, ::-1])


def state_of(raw: Raw) -> np.ndarray:
    """The hand's place (m), its turn as axis-angle (rad), both fingers (m): float64 [8]."""
    place, turn, fingers = (np.asarray(_shown(raw, key), np.float64) for key in STATE)
    state = np.concatenate([place, axis_angle(turn), fingers])
    if state.shape != (STATE_WIDTH,):
        raise SimulatorError(f"the environment's {', '.join(STATE)} make {len(state)} numbers, expected {STATE_WIDTH}")
    return state


def axis_angle(quaternion: np.ndarray) -> np.ndarray:
    """A quaternion (x, y, z, w) as axis times angle, [3] rad, by robosuite's formula: of w below zero, more than half a
    turn, and not the shorter way round."""
    w = min(1.0, max(-1.0, float(quaternion[3])))
    sine = math.sqrt(1.0 - w * w)
    if math.isclose(sine, 0.0):
        return np.zeros(3)
    turned: np.ndarray = quaternion[:3] * 2.0 * math.acos(w) / sine
    return turned


def _shown(raw: Raw, key: str) -> object:
    if key not in raw:
        raise SimulatorError(f"the environment does not show {key}, only {', '.join(sorted(map(str, raw)))}")
    return raw[key]
