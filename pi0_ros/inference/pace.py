"""How fast the actions are executed, of the rate at which they were recorded: slower for a first trial.

Where nobody sets it (`AUTO`), `slowing` does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pi0_ros.control.chunk import ActionChunk

AUTO = "auto"
SLOWEST, FASTEST = 0.1, 2.0


@dataclass(frozen=True)
class Pace:
    """A speed of execution, and which actions it makes greater or smaller: those that are speeds themselves."""

    speed: float = 1.0
    are_speeds: np.ndarray | None = None  # bool [J]; None: no joint's
    auto: bool = False  # nobody asked for this speed: it may be chosen anew

    def asked(self, speed: float | str) -> Pace:
        """This pace at another speed, as a parameter gives it: a number or `AUTO`."""
        return replace(self, speed=1.0, auto=True) if speed == AUTO else replace(self, speed=float(speed), auto=False)

    def executed(self, chunk: ActionChunk) -> ActionChunk:
        """A chunk of the model, as it is executed."""
        if self.speed == 1.0:
            return chunk
        return replace(chunk, dt_ns=round(chunk.dt_ns / self.speed), actions=self.scaled(chunk.actions))

    def scaled(self, actions: np.ndarray) -> np.ndarray:
        """What the model says [..., J], as it is executed."""
        return actions if self.are_speeds is None else np.where(self.are_speeds, actions * self.speed, actions)

    def unscaled(self, actions: np.ndarray) -> np.ndarray:
        """What was executed [..., J], as the model would have said it."""
        return actions if self.are_speeds is None else np.where(self.are_speeds, actions / self.speed, actions)
