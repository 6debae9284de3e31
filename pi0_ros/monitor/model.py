"""The robot file's joints on the robot's URDF: which joint is which, how grippers open, which links are the tips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pi0_ros.monitor.kinematics import MOVING, Urdf, UrdfError, UrdfJoint
from pi0_ros.robot import Joint, Robot


@dataclass(frozen=True)
class RobotModel:
    """Turns positions in the robot file's joint order and units into link poses."""

    urdf: Urdf
    joints: tuple[UrdfJoint | None, ...]  # the URDF's counterpart of each joint of the robot file; of a speed none
    scale: np.ndarray  # float64 [J]: URDF position = scale * robot position + offset
    offset: np.ndarray  # float64 [J]
    tips: tuple[str, ...]  # links whose path is drawn
    unmatched: tuple[str, ...] = ()  # grippers that the URDF does not name: they are drawn as they stand in it

    @property
    def seen(self) -> np.ndarray:
        """Which joints (intp) must have been heard before it is known where the robot is: all."""
        return np.arange(len(self.joints))

    def frame(self, tip: str) -> str:
        """In which a tip's poses are."""
        return self.urdf.root

    def urdf_positions(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        """Robot positions [..., J] as URDF joint name -> rad or m [...]."""
        values = np.asarray(positions, np.float64) * self.scale + self.offset
        return {joint.name: values[..., index] for index, joint in enumerate(self.joints) if joint is not None}

    def tip_poses(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        """Robot positions [..., J] as tip link -> pose in the root's frame, float64 [..., 4, 4]."""
        poses = self.urdf.poses(self.urdf_positions(positions))
        return {tip: poses[tip] for tip in self.tips}

    def arms(self) -> dict[str, frozenset[str]]:
        """Tip -> links that move with this tip and with no other: its arm, from the first joint of its own on."""
        parent = {joint.child: joint for joint in self.urdf.joints}
        found = {}
        for tip in self.tips:
            link, root = tip, tip
            while link in parent and set(self.tips) & _below(self.urdf, link) == {tip}:
                root, link = (link if parent[link].kind in MOVING else root), parent[link].parent
            found[tip] = _below(self.urdf, root)
        return found


def robot_model(robot: Robot, urdf: Urdf, tips: Sequence[str] = (), closed_at: str = "lower") -> RobotModel:
    """Match the joints of `robot` with those of `urdf` by name.

    A normalized gripper (0 open .. 1 closed) whose name the URDF lacks is the one free joint that is left over, or the
    one behind the joint that the robot file lists before it (on its arm). Its URDF joint takes the value as it is where
    its limits are [0, 1], else it moves between its limits and is closed at the `closed_at` ("lower" or "upper") one.
    Without `tips` the tips are found: after the last arm joint of every chain, down its fixed joints to the end.

    Raises UrdfError for joints or tips that the URDF lacks; grippers that it lacks are `unmatched`, and no reason to
    draw nothing.
    """
    free = {joint.name: joint for joint in urdf.free_joints}
    joints = [None if joint.speed else free.get(joint.name) for joint in robot.joints]  # a speed has no place
    wanted = [n for n, joint in enumerate(robot.joints) if joints[n] is None and not joint.speed]
    grippers = {n: _spare(robot, urdf, joints, n) for n in wanted if robot.joints[n].kind == "gripper"}
    missing = [robot.joints[n].name for n in wanted if n not in grippers]
    if missing:
        absent, known = ", ".join(missing), ", ".join(free)
        raise UrdfError(f"the URDF {urdf.name} has no free joint {absent} of robot {robot.name}; it has {known}")
    for n, match in grippers.items():
        joints[n] = match
    unknown = [tip for tip in tips if tip not in urdf.links]
    if unknown:
        raise UrdfError(f"the URDF {urdf.name} has no link {', '.join(unknown)}; it has {', '.join(urdf.links)}")
    spans = [_span(joint, match, closed_at) for joint, match in zip(robot.joints, joints)]
    scale, offset = np.array(spans, np.float64).reshape(-1, 2).T
    arm = [match for joint, match in zip(robot.joints, joints) if match is not None and joint.kind != "gripper"]
    unmatched = tuple(robot.joints[n].name for n, match in grippers.items() if match is None)
    return RobotModel(urdf, tuple(joints), scale, offset, tuple(tips) or _tips(urdf, arm), unmatched)


def _spare(robot: Robot, urdf: Urdf, joints: Sequence[UrdfJoint | None], place: int) -> UrdfJoint | None:
    """The free joint that is the gripper at `place` of the robot file: the only one left over, there or on its arm."""
    if robot.joints[place].unit != "normalized":
        return None
    spare = [joint for joint in urdf.free_joints if joint.name not in robot.joint_names]
    before = [joint for joint in joints[:place] if joint is not None]
    if len(spare) != 1 and before:
        behind = _below(urdf, before[-1].child)
        spare = [joint for joint in spare if joint.child in behind]
    return spare[0] if len(spare) == 1 else None


def _span(joint: Joint, match: UrdfJoint | None, closed_at: str) -> tuple[float, float]:
    """Scale and offset from the robot file's value to the URDF's."""
    if match is None or joint.unit != "normalized" or not np.isfinite(match.lower + match.upper):
        return 1.0, 0.0
    if (match.lower, match.upper) == (0.0, 1.0):
        return 1.0, 0.0
    opened, closed = (match.upper, match.lower) if closed_at == "lower" else (match.lower, match.upper)
    return closed - opened, opened


def _below(urdf: Urdf, link: str) -> frozenset[str]:
    """`link` and all that hangs on it."""
    found = {link}
    for joint in urdf.joints:  # parents come before their children
        if joint.parent in found:
            found.add(joint.child)
    return frozenset(found)


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
