"""A button that a person holds while the robot may move: let go of it, or out of reach, and the robot holds."""

from __future__ import annotations

import math


class Deadman:
    """Whether the button `name` is pressed, by the newest word that is at most `timeout_s` old. Seconds are steady."""

    def __init__(self, name: str, timeout_s: float) -> None:
        self._name, self._timeout_s = name, timeout_s
        self._heard, self._pressed, self._problem = -math.inf, False, ""

    def heard(self, pressed: bool, steady: float, problem: str = "") -> None:
        """Take what the button says now; `problem`: why that says nothing about it."""
        self._pressed, self._heard, self._problem = pressed and not problem, steady, problem

    def withholds(self, steady: float) -> str:
        """Why the robot must not move; "" while the button is pressed."""
        if steady - self._heard > self._timeout_s:
            return f"nothing was heard of the deadman button {self._name} within {self._timeout_s:g} s"
        if self._problem:
            return f"deadman button {self._name}: {self._problem}"
        return "" if self._pressed else f"the deadman button {self._name} is not pressed"
