"""What a policy says about itself, and whether that fits the robot at hand. A robot without torch can ask, too."""

from __future__ import annotations

from dataclasses import dataclass

from pi0_ros.base.errors import InputError, Pi0Error
from pi0_ros.base.foreign import shortened
from pi0_ros.robot import Robot


class BackendError(Pi0Error, RuntimeError):
    """The policy could not answer now (server gone, bad numbers, ...); asking again later may work."""


class RobotMismatchError(InputError):
    """The policy was made for another robot; asking again will not help."""


@dataclass(frozen=True)
class Metadata:
    """A policy's answer to "what are you?"."""

    checkpoint: str  # folder name, for people
    model: str  # "pi0" | "pi05"
    robot: Robot  # the robot file that the checkpoint carries
    horizon: int  # actions per chunk
    fps: float  # actions per second
    image_size: int  # the model's square image side, px
    rtc_trained_max_delay: int = 0  # continues clean prefixes of up to so many actions; 0: not trained for that
    image_resize: str = "pillow"  # how images are brought to `image_size` (`observation.fitting`)
    statistics: str = ""  # digest of the normalisation statistics


JOINT_KEYS = ("unit", "kind", "action", "role", "step", "state_scale", "action_scale")  # what the policy depends on
FINGERPRINT = ("model", "horizon", "fps", "image_size", "image_resize", "rtc_trained_max_delay", "statistics")


def check_robot(robot: Robot, metadata: Metadata) -> None:
    """RobotMismatchError, listing every disagreement, when `metadata`'s policy cannot drive `robot`.

    Joints (names, order, unit, kind, meaning of the action, `model`) and cameras (name, slot) must agree; topics, rates
    and limits may differ: they belong to the machine, not to the policy.
    """
    if found := _differences(robot, metadata.robot, "in the checkpoint"):
        who = f"robot '{robot.name}' and checkpoint '{metadata.checkpoint}' (robot '{metadata.robot.name}')"
        raise RobotMismatchError(
            f"{shortened(who)} disagree: {shortened('; '.join(found))}"
            ". Use the checkpoint's robot file or a checkpoint trained for this robot."
        )


def check_same(before: Metadata, now: Metadata) -> None:
    """RobotMismatchError, naming every field, when `now` is another policy than `before`, in the midst of a run.

    A server that was started anew, or that answers in another's place, must go on with the motion of the one before.
    The checkpoint's name and weights may differ: a later save of the same training is the same kind of policy.
    """
    found = _differences(before.robot, now.robot, "now", "before")
    for key in FINGERPRINT:
        was, got = getattr(before, key), getattr(now, key)
        if was != got:
            found.append(f"{key} is {got!r} now and {was!r} before")
    if found:
        raise RobotMismatchError(
            f"another policy answers (checkpoint '{now.checkpoint}', before '{before.checkpoint}'): "
            f"{shortened('; '.join(found))}. To take it, clean up and configure the policy anew, or restart it."
        )


def _differences(ours: Robot, theirs: Robot, there_is: str, here_is: str = "here") -> list[str]:
    """What a policy depends on and two robot files say differently."""
    found: list[str] = []
    if ours.joint_names != theirs.joint_names:
        found.append(f"joints are {list(ours.joint_names)} {here_is} and {list(theirs.joint_names)} {there_is}")
    else:
        for ours_joint, theirs_joint in zip(ours.joints, theirs.joints, strict=True):
            for key in JOINT_KEYS:
                here, there = getattr(ours_joint, key), getattr(theirs_joint, key)
                if here != there:
                    found.append(f"joint '{ours_joint.name}': {key} is '{here}' {here_is} and '{there}' {there_is}")
    here_cameras = {camera.name: camera.slot for camera in ours.cameras}
    there_cameras = {camera.name: camera.slot for camera in theirs.cameras}
    if here_cameras != there_cameras:
        found.append(f"cameras (name: slot) are {here_cameras} {here_is} and {there_cameras} {there_is}")
    return found
