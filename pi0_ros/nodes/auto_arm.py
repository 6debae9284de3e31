"""Arming unasked, once: `auto_arm`. What is waited for, and for how long."""

from __future__ import annotations

import math
from collections.abc import Sequence


class AutoArm:
    """Whether to arm without being asked, on a clock that never stops.

    What comes too late needs somebody's word: whoever starts a policy an hour later does not expect the robot to move.
    """

    def __init__(self, wanted: bool, timeout_s: float, steady: float) -> None:
        self.waiting = wanted
        self.said = "off"  # what is waited for, or for what it was in vain
        self.gave_up = False
        self._timeout_s = timeout_s
        self._until = steady + timeout_s if timeout_s > 0 else math.inf

    def end(self) -> None:
        """Somebody has armed, stopped or disarmed it, or it has run: from now on it arms by a word only."""
        self.waiting, self.gave_up, self.said = False, False, "off"

    def wait_for(self, problems: Sequence[str], steady: float) -> None:
        """These are in the way at this time; the wait may be over."""
        what = "; ".join(problems)
        if steady < self._until:
            self.said = f"waits for: {what}"
        else:
            self.waiting, self.gave_up = False, True
            self.said = f"gave up after {self._timeout_s:g} s of waiting for: {what}; call ~/arm when it is there"
