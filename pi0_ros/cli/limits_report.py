"""Recordings and execution obey the same limits: what commands say it where they read recorded commands."""

from __future__ import annotations

from collections.abc import Iterator

from pi0_ros.base.errors import InputError
from pi0_ros.base.findings import Finding, warning
from pi0_ros.control.limits import limits_of
from pi0_ros.control.shortfall import shortfalls
from pi0_ros.datasets.folder import DatasetFolder
from pi0_ros.datasets.layout import ACTION
from pi0_ros.robot import Robot


def limit_findings(folder: DatasetFolder, robot: Robot | None = None) -> Iterator[Finding]:
    """One finding for each joint whose recorded commands the controller would follow late.

    None where the dataset has no robot file and no `robot` is given, or where the robot's actions are no positions.
    """
    robot = robot or folder.robot
    columns = folder.columns
    if robot is None or ACTION not in columns or columns[ACTION].shape[1:] != (len(robot.action_joints),):
        return
    if robot.velocity_mask.any():
        return
    try:
        limits = limits_of(robot)
    except InputError:  # the controller can't drive it, so it limits nothing
        return
    units = {joint.name: "rad" if joint.writes_rotation else joint.unit for joint in robot.action_joints}
    episodes = [columns[ACTION][folder.rows(entry)] for entry in folder.entries]
    for found in shortfalls(episodes, folder.fps, limits, 1.0 / robot.control_rate_hz):
        unit, j = units[found.joint], robot.action_names.index(found.joint)
        late = f"{found.late} of {found.commands} recorded commands late"
        lag = f"by up to {found.delay_s:.2f} s and {found.behind:.3g} {unit}"
        asked = f"up to {found.velocity:.3g} {unit}/s and {found.acceleration:.3g} {unit}/s2"
        allowed = f"{limits.velocity[j]:.3g} and {limits.acceleration[j]:.3g}"
        yield warning(
            "limits",
            f"{found.joint}: the controller would follow {late}, {lag}: "
            f"they ask for {asked}, {robot.name} allows {allowed}",
            "a policy learns this schedule and the robot can't keep it: raise the joint's `limits` in the robot file "
            "to what its hardware does, or record with a teleoperation that keeps them",
        )
