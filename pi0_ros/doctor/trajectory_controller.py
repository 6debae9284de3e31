"""A joint_trajectory_controller at the other end of a command topic: whether its parameters let it follow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pi0_ros.base.findings import Finding, error, note, ok, warning
from pi0_ros.robot import CommandGroup

JOINTS, PARTIAL = "joints", "allow_partial_joints_goal"
NONZERO, FROM_DESIRED = "allow_nonzero_velocity_at_trajectory_end", "interpolate_from_desired_state"
INTERFACES, METHOD = "command_interfaces", "interpolation_method"
PARAMETERS = (
    JOINTS,
    PARTIAL,
    NONZERO,
    FROM_DESIRED,
    INTERFACES,
    METHOD,
)  # read one by one: releases differ in which they have


def check_controller(group: CommandGroup, node: str, settings: Mapping[str, object]) -> Iterator[Finding]:
    """Findings about the parameters of `node`, which listens to the commands of `group`; none where it has no joints
    among them: it is no such controller. What a release does not have is not judged."""
    joints = settings.get(JOINTS)
    if not isinstance(joints, Sequence) or isinstance(joints, str) or not joints:
        return
    found = [*_joints(group, node, list(map(str, joints)), settings.get(PARTIAL) is True)]
    if group.points == "one" and settings.get(NONZERO) is False:
        todo = f"set {NONZERO}: true in its parameters, or points: trajectory in the robot file"
        found.append(error("controller", f"{node} refuses every command that moves: {NONZERO} is false", todo))
    if group.points == "trajectory" and settings.get(FROM_DESIRED) is False:
        what = f"{node} begins each new plan where the robot is measured, which lags: {FROM_DESIRED} is false"
        found.append(warning("controller", what, f"set {FROM_DESIRED}: true in its parameters"))
    interfaces = settings.get(INTERFACES)
    if isinstance(interfaces, Sequence) and interfaces and not {"position", "velocity"} & set(map(str, interfaces)):
        what = f"{node} commands {', '.join(map(str, interfaces))} only, by positions and gains: {INTERFACES}"
        found.append(note("controller", what, f"set {INTERFACES}: [position] where the hardware takes positions"))
    if settings.get(METHOD) == "none":
        what = f"{node} jumps from point to point of a plan: {METHOD} is none"
        found.append(error("controller", what, f"set {METHOD}: splines in its parameters"))
    yield from found or [ok("controller", f"{node}: its parameters fit")]


def _joints(group: CommandGroup, node: str, moves: list[str], partial: bool) -> Iterator[Finding]:
    unknown = [name for name in group.message_names if name not in moves]
    left_out = [name for name in moves if name not in group.message_names]
    refuses, todo = "so it refuses every command", "correct `names` or `joints` of the command in the robot file"
    if unknown:
        what = f"{node} has no joint {', '.join(unknown)} (it moves {', '.join(moves)}), {refuses}"
        yield error("controller", what, todo)
    elif left_out and not partial:
        what = f"{node} also moves {', '.join(left_out)}, which is not commanded, {refuses}"
        yield error("controller", what, f"set {PARTIAL}: true in its parameters, or {todo}")
