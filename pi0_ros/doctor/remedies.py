"""The numbers that a joint needs in the robot file, from those that it has there and what its motion told. Pure Python.

A message is scale * value + offset. What was heard is slope * truth + zero, in the robot file's unit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pi0_ros.robot import CommandGroup, Robot, StateTopic


@dataclass(frozen=True)
class Numbers:
    """A joint's scale and offset in an entry of the robot file."""

    scale: float = 1.0
    offset: float = 0.0

    def of_state(self, slope: float, zero: float) -> Numbers:
        """What a state needs that is read as slope * truth + zero."""
        return Numbers(self.scale * slope, self.offset + self.scale * zero)

    def of_command(self, slope: float, zero: float) -> Numbers:
        """What a command needs that the joint obeys by going to slope * command + zero."""
        return Numbers(self.scale / slope, self.offset - self.scale * zero / slope)


@dataclass(frozen=True)
class Entries:
    """A joint's numbers where its state is read and where it is commanded."""

    state: Numbers = Numbers()
    command: Numbers = Numbers()


def entries_of(robot: Robot, joint: str) -> Entries:
    """What the robot file has for a joint."""
    states = (item for item in robot.state if joint in item.joints and item.is_position)
    commands = (item for item in robot.commands if joint in item.joints)
    return Entries(_numbers(next(states, None), joint), _numbers(next(commands, None), joint))


def _numbers(item: StateTopic | CommandGroup | None, joint: str) -> Numbers:
    if item is None:
        return Numbers()
    at = item.joints.index(joint)
    return Numbers(item.scale[at] if item.scale else 1.0, item.offset[at] if item.offset else 0.0)


def written(old: Numbers, new: Numbers, digits: int = 7) -> str:
    """How to get from the old numbers to the new ones: `scale: 57.29578`, or remove `scale`. `digits` of the scale
    count; of an offset three of its change do."""
    keys = []
    if not math.isclose(new.scale, old.scale, rel_tol=1e-6):
        one = math.isclose(new.scale, 1.0, rel_tol=1e-3)
        keys.append("remove `scale`" if one else f"`scale: {new.scale:.{digits}g}`")
    if change := new.offset - old.offset:
        offset = round(new.offset, 2 - math.floor(math.log10(abs(change))))
        keys.append(f"`offset: {offset:.10g}`" if offset else "remove `offset`")
    return ", ".join(keys)


def for_each(texts: Mapping[str, str]) -> str:
    """One sentence of what to write for each joint: `scale: 0.1` for it, for them, or for which of them."""
    groups: dict[str, list[str]] = {}
    for joint, text in texts.items():
        groups.setdefault(text, []).append(joint)
    if len(groups) == 1:
        return f"{next(iter(groups))} for {'it' if len(texts) == 1 else 'them'}"
    return ", ".join(f"{what} for {' and '.join(names)}" for what, names in groups.items())
