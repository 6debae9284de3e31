"""The demo's task: put the named cube in the tray. Wording of prompts and the score of an episode."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pi0_ros.sim.world import CUBES, lying_in_tray

WORDINGS = (
    "put the {} cube in the tray",
    "place the {} block in the tray",
    "pick up the {} cube and drop it in the tray",
)
LIFTED = 0.05  # m, height of a cube's centre that counts as lifted


def prompt(colour: str, wording: int = 0) -> str:
    """Return the instruction for `colour` in one of the three wordings."""
    return WORDINGS[wording % len(WORDINGS)].format(colour)


def named_colour(text: str) -> str | None:
    """Return the cube colour that an instruction names, or None when it names none or several."""
    named = [colour for colour in CUBES if colour in text.lower().split()]
    return named[0] if len(named) == 1 else None


@dataclass
class Score:
    """Watches the cubes. `lifted` lists colours in the order of their first lift since the last instruction."""

    lifted: list[str] = field(default_factory=list)
    in_tray: list[str] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)  # what may lie in the tray beside the cube that is named now

    def instruct(self, colour: str) -> None:
        """From now on `colour` is wanted in the tray; what lies there and what was asked for before may lie there."""
        self.asked |= {colour, *self.in_tray}
        self.lifted.clear()

    def update(self, cubes: dict[str, np.ndarray]) -> None:
        """Take in the poses [7] of all cubes."""
        self.in_tray = lying_in_tray(cubes)
        self.lifted += [name for name, pose in cubes.items() if pose[2] > LIFTED and name not in self.lifted]

    def success(self, colour: str) -> bool:
        """The named cube lies in the tray, and none that nobody asked for."""
        return colour in self.in_tray and set(self.in_tray) <= self.asked | {colour}

    def right_cube(self, colour: str) -> bool:
        """The first cube that left the table is the named one."""
        return self.lifted[:1] == [colour]
