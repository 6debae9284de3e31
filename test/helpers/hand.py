"""A hand that is commanded by poses: its robot file, its motions and its messages."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import yaml

from pi0_ros.observation.joint_messages import pose_numbers
from pi0_ros.robot import Robot, robot_from_yaml, rotations

FRAME = "base_link"
STATE, COMMAND = "/hand/pose", "/hand/target"
STAMPED = "geometry_msgs/msg/PoseStamped"


def hand_text(
    rotation: str = "rot6d", action: str = "relative", rate: float = 100.0, age_s: float = 0.2, **more: object
) -> str:
    """The robot file of a hand with a gripper and a camera; `more` replaces keys of the file."""
    position = {axis: [-1.0, 1.0] for axis in "xyz"}
    linear, angular = {"velocity": 0.5, "acceleration": 2.0}, {"velocity": 1.5, "acceleration": 6.0}
    hand = {"name": "hand", "kind": "pose", "frame": FRAME, "rotation": rotation, "action": action}
    hand["limits"] = {"position": position, "linear": linear, "angular": angular}
    gripper = {"name": "gripper", "unit": "normalized", "kind": "gripper", "action": "absolute"}
    gripper["limits"] = {"position": [0.0, 1.0], "velocity": 5.0, "acceleration": 50.0}
    image = {"name": "cam", "topic": "/cam", "type": "sensor_msgs/msg/Image", "slot": "base_0_rgb", "max_age_s": 0.3}
    fingers = {"type": "sensor_msgs/msg/JointState", "joints": ["gripper"]}
    document = {
        "name": "hand_robot",
        "control_rate_hz": rate,
        "policy_rate_hz": 5.0,
        "dataset_fps": 20.0,
        "prompt": "put the red cube in the tray",
        "joints": [hand, gripper],
        "cameras": [image],
        "state": [
            {"topic": STATE, "type": STAMPED, "max_age_s": age_s},
            {"topic": "/gripper/state", "max_age_s": age_s, **fingers},
        ],
        "commands": [
            {"name": "hand", "topic": COMMAND, "type": STAMPED},
            {"name": "gripper", "topic": "/gripper/command", **fingers},
        ],
        "action": {"source": "command", "max_age_s": 0.3},
    }
    return yaml.safe_dump({**document, **more}, sort_keys=False)


def hand_robot(rotation: str = "rot6d", action: str = "relative", rate: float = 100.0) -> Robot:
    return robot_from_yaml(hand_text(rotation, action, rate), "hand.yaml")


def vectors(robot: Robot, place: np.ndarray, q: np.ndarray, gripper: np.ndarray | float = 0.5) -> np.ndarray:
    """The robot's vectors [N, J] of places [N, 3], quaternions [N, 4] and the gripper."""
    (pose,) = robot.poses
    rows = [pose_numbers(pose, p, turn) for p, turn in zip(place, q)]
    return np.hstack([rows, np.broadcast_to(np.reshape(gripper, (-1, 1)), (len(rows), 1))])


def path(seed: int, times: np.ndarray, turns: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    """A smooth motion of the hand: places [N, 3] and quaternions [N, 4] that tumble by about `turns` rad/s."""
    rng = np.random.default_rng(seed)
    place = 0.3 * np.sin(times[:, None] * rng.uniform(0.3, 1.0, 3) + rng.uniform(0, 6, 3))
    axis = rng.normal(size=3)
    swing = 0.5 * np.sin(times[:, None] * rng.uniform(0.3, 0.8, 3) + rng.uniform(0, 6, 3))
    first = rotations.normalized(rng.normal(size=4))
    along = rotations.turned(first, turns * times[:, None] * axis / np.linalg.norm(axis))
    return place, rotations.turned(along, swing)


def apart(robot: Robot, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How far two vectors are apart as places: [..., J], see `Space.sizes`."""
    space = robot.action_space
    return space.sizes(space.way(np.asarray(one), np.asarray(other)))


def said(place: np.ndarray, q: np.ndarray, frame: str = FRAME, stamp_ns: int = 1) -> SimpleNamespace:
    """A PoseStamped, by its attributes."""
    sec, nanosec = divmod(stamp_ns, 10**9)
    header = SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec), frame_id=frame)
    position = SimpleNamespace(x=place[0], y=place[1], z=place[2])
    orientation = SimpleNamespace(x=q[0], y=q[1], z=q[2], w=q[3])
    return SimpleNamespace(header=header, pose=SimpleNamespace(position=position, orientation=orientation))
