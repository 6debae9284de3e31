"""The robot file's joints on the robot's URDF: which joint is which, how grippers open, which links are the tips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pi0_ros.monitor.kinematics import Urdf, UrdfError, UrdfJoint
from pi0_ros.robot import Robot


@dataclass(frozen=True)
class RobotModel:
    """Turns positions in the robot file's joint order and units into link poses."""

    urdf: Urdf
    joints: tuple[UrdfJoint | None, ...]  # the URDF's counterpart of each joint of the robot file; of a speed none
    scale: np.ndarray  # float64 [J]: URDF position = scale * robot position + offset
    offset: np.ndarray  # float64 [J]
    tips: tuple[str, ...]  # links whose path is drawn

    def urdf_positions(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        """Robot positions [..., J] as URDF joint name -> rad or m [...]."""
        values = np.asarray(positions, np.float64) * self.scale + self.offset
        return {joint.name: values[..., index] for index, joint in enumerate(self.joints) if joint is not None}

    def tip_poses(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        """Robot positions [..., J] as tip link -> pose in the root's frame, float64 [..., 4, 4]."""
        poses = self.urdf.poses(self.urdf_positions(positions))
        return {tip: poses[tip] for tip in self.tips}


def robot_model(robot: Robot, urdf: Urdf, tips: Sequence[str] = (), closed_at: str = "lower") -> RobotModel:
    """Match the joints of `robot` with those of `urdf` by name.

    A normalized gripper (0 open .. 1 closed) whose name the URDF lacks is the one free joint that is left over, if
    there is exactly one. Its URDF joint takes the value as it is where its limits are [0, 1], else it moves between its
    limits and is closed at the `closed_at` ("lower" or "upper") one. Without `tips` the tips are found: after the last
    arm joint of every chain, down its fixed joints to the end.

    Raises UrdfError for joints or tips that the URDF lacks.
    """
    free = {joint.name: joint for joint in urdf.free_joints}
    spare = [joint for name, joint in free.items() if name not in robot.joint_names]
    joints: list[UrdfJoint | None] = []
    missing = []
    scale, offset = np.ones(len(robot.joints)), np.zeros(len(robot.joints))
    for index, joint in enumerate(robot.joints):
        if joint.speed:  # it has no place, and is drawn standing still
            joints.append(None)
            continue
        normalized = joint.unit == "normalized"
        match = free.get(joint.name) or (spare[0] if normalized and len(spare) == 1 else None)
        if match is None:
            missing.append(joint.name)
            continue
        joints.append(match)
        if normalized and (match.lower, match.upper) != (0.0, 1.0) and np.isfinite(match.lower + match.upper):
            opened, closed = (match.upper, match.lower) if closed_at == "lower" else (match.lower, match.upper)
            scale[index], offset[index] = closed - opened, opened
    if missing:
        absent, known = ", ".join(missing), ", ".join(free)
        raise UrdfError(f"the URDF {urdf.name} has no free joint {absent} of robot {robot.name}; it has {known}")
    unknown = [tip for tip in tips if tip not in urdf.links]
    if unknown:
        raise UrdfError(f"the URDF {urdf.name} has no link {', '.join(unknown)}; it has {', '.join(urdf.links)}")
    arm = [match for joint, match in zip(robot.joints, joints) if match is not None and joint.kind != "gripper"]
    return RobotModel(urdf, tuple(joints), scale, offset, tuple(tips) or _tips(urdf, arm))


def _tips(urdf: Urdf, arm: Sequence[UrdfJoint]) -> tuple[str, ...]:
    """The ends of the chains that `arm` moves, in the URDF's order."""
    parent_joint = {joint.child: joint for joint in urdf.joints}

    def ancestors(joint: UrdfJoint) -> list[str]:
        names: list[str] = []
        above = parent_joint.get(joint.parent)
        while above is not None:
            names.append(above.name)
            above = parent_joint.get(above.parent)
        return names

    inner = {name for joint in arm for name in ancestors(joint)}
    ends = [joint.child for joint in urdf.joints if any(joint is moved for moved in arm) and joint.name not in inner]
    return tuple(_down_fixed_joints(urdf, link) for link in ends)


def _down_fixed_joints(urdf: Urdf, link: str) -> str:
    """The last link that hangs on `link` by fixed joints; the first named where there are several."""
    fixed = [joint.child for joint in urdf.joints if joint.parent == link and joint.kind == "fixed"]
    return _down_fixed_joints(urdf, fixed[0]) if fixed else link
