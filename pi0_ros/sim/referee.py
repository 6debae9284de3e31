"""Keeps the score of the running demo: what was asked for, and what came of it, in words for people."""

from __future__ import annotations

from pi0_ros.sim.task import Score, named_colour
from pi0_ros.sim.world import CUBES

PATIENCE_S = 20.0  # an instruction that is not fulfilled by then counts as failed


class Referee:
    """Is told of instructions, new scenes and the cubes' places; `asked` and `fulfilled` count instructions."""

    def __init__(self) -> None:
        self.score = Score()
        self.asked = self.fulfilled = 0
        self.text = ""
        self._colour: str | None = None
        self._since = 0.0
        self._took: float | None = None  # s, once fulfilled
        self._counted = True

    def scene(self) -> None:
        """A new scene: what was asked for is asked for anew by the next instruction."""
        self.score = Score()
        self._colour, self._took, self._counted = None, None, True

    def instruct(self, text: str, now: float) -> None:
        """Somebody said `text` at `now` (s)."""
        self.text, self._since, self._took = text, now, None
        self._colour = named_colour(text)
        self._counted = self._colour is None
        if self._colour is not None:
            self.score.instruct(self._colour)
            self.asked += 1

    def watch(self, now: float) -> None:
        """Look at the score, which the caller keeps up to date."""
        if self._counted or self._colour is None:
            return
        if self.score.success(self._colour):
            self._took, self._counted = now - self._since, True
            self.fulfilled += 1
        elif now - self._since > PATIENCE_S:
            self._counted = True

    @property
    def settled(self) -> bool:
        """Whether the last instruction is fulfilled, given up, or was never one."""
        return self._counted

    @property
    def understood(self) -> bool:
        """Whether the last instruction is one that the demo's policy was taught."""
        return not self.text or named_colour(self.text) is not None

    def sentence(self) -> str:
        """How it stands, for people."""
        if not self.text:
            return "no instruction yet"
        if not self.understood:
            known = ", ".join(CUBES[:-1]) + f" or {CUBES[-1]}"
            return f"the demo's policy was not taught {self.text!r}: it knows one task, a {known} cube into the tray"
        if self._colour is None:
            return "a new scene: give an instruction"
        tally = f"{self.fulfilled} of {self.asked} so far"
        if self._took is not None:
            return f"{self._colour} in the tray after {self._took:.1f} s; {tally}"
        return f"{'not fulfilled' if self._counted else 'at it'}: {self._colour}; {tally}"
