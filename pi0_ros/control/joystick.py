"""A joystick's axes and buttons as joint positions: speeds that are added up from where the robot was commanded to.

Arrays are in the robot file's joint order and units, [J]. A hand that is commanded by poses moves along and turns about
the axes of its frame: `hand.x`, `hand.angular.x`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pi0_ros.base.errors import InputError
from pi0_ros.robot import Robot


@dataclass(frozen=True)
class Stick:
    """An axis (-1 .. 1) or a button (0, 1) that moves a joint, `sign` -1 the other way."""

    joint: int  # where in the vector; of a pose, in a way (`pi0_ros/robot/space.py`)
    number: int
    sign: float
    is_button: bool


def read_sticks(axes: str, buttons: str, robot: Robot) -> tuple[Stick, ...]:
    """The parameters `axes` and `buttons`: "JOINT=NUMBER -JOINT=NUMBER". Raises InputError naming the wrong word."""
    sticks, known = [], _moves(robot)
    for parameter, text in (("axes", axes), ("buttons", buttons)):
        for word in text.split():
            name, equals, number = word.removeprefix("-").partition("=")
            if not equals or not number.isdecimal():
                raise InputError(f"{parameter}: {word!r}: write JOINT=NUMBER, or -JOINT=NUMBER the other way")
            if name not in known:
                raise InputError(f"{parameter}: {robot.name} has no joint {name!r}; it has {', '.join(known)}")
            sign = -1.0 if word.startswith("-") else 1.0
            sticks.append(Stick(known[name], int(number), sign, parameter == "buttons"))
    if not sticks:
        example = " ".join(f"{name}={number}" for number, name in enumerate(list(known)[:2]))
        raise InputError(f'say which axis moves which joint, for example axes:="{example}"')
    return tuple(sticks)


def _moves(robot: Robot) -> dict[str, int]:
    """What a stick can move, and where in a way it is."""
    found = {joint.name: i for i, joint in enumerate(robot.joints) if not joint.writes_rotation}
    for pose, place in zip(robot.poses, robot.space.poses, strict=True):
        found |= {f"{pose.name}.angular.{axis}": place.angular.start + n for n, axis in enumerate("xyz")}
    return found


class Joystick:
    """Where the robot shall be for whoever holds the joystick."""

    def __init__(self, robot: Robot, sticks: Sequence[Stick], speed: float, dead_zone: float) -> None:
        """`speed`: share of each joint's velocity limit at full deflection; `dead_zone`: share of it that is none."""
        self._sticks, self._dead_zone = tuple(sticks), dead_zone
        self._lower, self._upper, self._speeds = robot.lower, robot.upper, robot.speed_mask
        self._space = robot.space
        self._forward = speed * np.where(robot.speed_mask, robot.upper, robot.velocity)
        self._backward = speed * np.where(robot.speed_mask, -robot.lower, robot.velocity)
        self.position = np.array([joint.neutral for joint in robot.joints])

    def problem(self, axes: Sequence[float], buttons: Sequence[int]) -> str:
        """Why this joystick is another than the one that was meant; "" where it is not."""
        for stick in self._sticks:
            kind, there = ("button", len(buttons)) if stick.is_button else ("axis", len(axes))
            if stick.number >= there:
                return f"there is no {kind} {stick.number}: the message has {there}, counted from 0"
        return ""

    def begin(self, position: np.ndarray) -> None:
        """From now on the joints move away from here."""
        self.position = np.where(self._speeds, 0.0, position)

    def move(self, axes: Sequence[float], buttons: Sequence[int], seconds: float) -> np.ndarray:
        """The position [J] after so long with the sticks as they are. Of a base's speeds: as fast as the stick says."""
        asked = np.zeros(len(self.position))
        for stick in self._sticks:
            value = float(buttons[stick.number] != 0) if stick.is_button else self._deflection(axes[stick.number])
            asked[stick.joint] += stick.sign * value
        asked = np.clip(asked, -1.0, 1.0)
        velocity = asked * np.where(asked > 0.0, self._forward, self._backward)
        space, before = self._space, self.position
        moved = np.where(self._speeds, velocity, space.moved(before, velocity * seconds))
        within = np.clip(moved, np.minimum(self._lower, before), np.maximum(self._upper, before))
        self.position = np.where(space.written, moved, within)
        return self.position

    def _deflection(self, value: float) -> float:
        """-1 .. 1, and 0 within the dead zone; what is no number moves nothing."""
        if not np.isfinite(value):
            return 0.0
        beyond = max(abs(value) - self._dead_zone, 0.0) / (1.0 - self._dead_zone)
        return float(np.copysign(min(beyond, 1.0), value))
