"""Hands that a robot file says as poses, in the place of a URDF: where they are and where they go, in their frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pi0_ros.observation.joint_messages import pose_parts
from pi0_ros.robot import Robot
from pi0_ros.robot.rotations import matrix


@dataclass(frozen=True)
class HandsModel:
    """Turns positions in the robot file's joint order into poses of its hands."""

    robot: Robot

    @property
    def tips(self) -> tuple[str, ...]:
        """The hands' names."""
        return tuple(pose.name for pose in self.robot.poses)

    @property
    def seen(self) -> np.ndarray:
        """Which joints (intp) must have been heard before it is known where the hands are."""
        wanted = (n for n, joint in enumerate(self.robot.joints) if joint.pose is not None and joint.role != "action")
        return np.array(list(wanted), np.intp)

    def frame(self, tip: str) -> str:
        """In which a hand's poses are."""
        return next(pose.frame for pose in self.robot.poses if pose.name == tip)

    def tip_poses(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        """Robot positions [..., J] as hand -> pose in its frame, float64 [..., 4, 4]; NaN where they are."""
        found = {}
        for pose in self.robot.poses:
            place, turn = pose_parts(pose, positions[..., self.robot.indices(pose.entries)])
            found[pose.name] = np.broadcast_to(np.eye(4), (*positions.shape[:-1], 4, 4)).copy()
            found[pose.name][..., :3, 3], found[pose.name][..., :3, :3] = place, matrix(turn)
        return found

    def room(self) -> np.ndarray:
        """Corners of the box around all that the hands may reach, float64 [2, 3] (m)."""
        ends = np.stack([self.robot.lower, self.robot.upper])
        rooms = np.stack([ends[:, self.robot.indices(pose.entries[:3])] for pose in self.robot.poses])
        return np.stack([rooms[:, 0].min(axis=0), rooms[:, 1].max(axis=0)])


def undrawn(robot: Robot, drawn: bool, unmatched: tuple[str, ...] = ()) -> str:
    """What of a robot is not drawn, why, and what to do; "" where all is. `drawn`: a URDF is; `unmatched`: joints that
    it lacks."""
    said = []
    if robot.poses:
        frames = dict.fromkeys(pose.frame for pose in robot.poses)
        said.append(
            f"no arm is drawn, only hands, as axes in the frame {', '.join(frames)}: they are commanded by poses"
        )
        if len(frames) > 1:
            said.append(f"the browser shows what is in the frame {next(iter(frames))} alone")
    elif not drawn:
        said.append(
            f"no robot and no paths are drawn: robot {robot.name} has no URDF. Write `urdf: FILE.urdf` into the robot "
            "file, or start the robot's driver or robot_state_publisher, which says it on robot_description"
        )
    if speeds := [joint.name for joint in robot.joints if joint.speed]:
        said.append(f"no path is drawn of {', '.join(speeds)}: speeds (twists) lead to no known place")
    if unmatched:
        said.append(f"{', '.join(unmatched)}: not in the URDF, drawn as it stands there")
    return "; ".join(said)
