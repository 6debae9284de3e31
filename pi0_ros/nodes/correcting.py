"""The demo's policy corrected: it drives, the scripted demonstrator takes over as a person would; both are recorded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pi0_ros.base.errors import Pi0Error
from pi0_ros.nodes.demonstrator_node import DemonstratorNode
from pi0_ros.nodes.recorder import Recorder
from pi0_ros.nodes.stage import Stage
from pi0_ros.sim.plans import EPISODE_LIMIT_S, HOMEWARD_LIMIT_S, plan, takeover

READY_S = 30.0


@dataclass(frozen=True)
class Corrected:
    """What became of a scene."""

    seed: int
    colour: str
    drove_s: float  # the policy alone, simulated
    took_over: bool  # False: it had fulfilled the instruction by then, and nothing was kept
    success: bool
    bag: str = ""

    def line(self) -> str:
        """One line for people."""
        ended = f"{'success' if self.success else 'failed'}  {self.bag}"
        what = ended if self.took_over else "not needed"
        return f"seed {self.seed:<6d} {self.colour:<6s} policy alone {self.drove_s:4.1f} s, correction: {what}"


class Correcting:
    """Plays scenes on the stage until enough of them were corrected and recorded."""

    def __init__(self, stage: Stage, demonstrator: DemonstratorNode, recorder: Recorder) -> None:
        self._stage, self._demonstrator, self._recorder = stage, demonstrator, recorder

    def play(self, first_seed: int, count: int) -> Iterator[Corrected]:
        """Scenes from `first_seed` on, until `count` were corrected."""
        if not self._stage.spin(lambda: not self._recorder.missing(), READY_S):
            raise TimeoutError(f"no publisher of {', '.join(self._recorder.missing())}")
        seed = first_seed
        while count > 0:
            scene = self._one(seed)
            yield scene
            count -= scene.took_over
            seed += 1

    def _one(self, seed: int) -> Corrected:
        stage, demonstrator, sim = self._stage, self._demonstrator, self._stage.sim
        what, how = plan(seed, "fresh"), takeover(seed)
        sim.reset(seed)
        stage.instruct(what.text)
        stage.arm()
        self._recorder.start(what.text, {"seed": str(seed)})
        start = sim.seconds
        stage.spin(lambda: sim.holds(what.colour) or sim.seconds > start + how.own_s, 4 * how.own_s + READY_S)
        drove_s = sim.seconds - start
        took_over = not sim.holds(what.colour)
        if not took_over:
            self._recorder.discard()
            stage.disarm()
            return Corrected(seed, what.colour, drove_s, False, True)
        demonstrator.take_over(what.colour)
        try:
            stage.lead(True)
            if not stage.spin(lambda: stage.controller.get("in_charge") == "person", READY_S):
                raise Pi0Error("the controller does not follow the demonstrator: see its log")
            limit = sim.seconds + EPISODE_LIMIT_S
            stage.spin(lambda: sim.holds(what.colour) or sim.seconds > limit, 4 * EPISODE_LIMIT_S + READY_S)
            limit = sim.seconds + HOMEWARD_LIMIT_S  # to the end at home and at rest: chunks repeat the last command
            stage.spin(lambda: demonstrator.still or sim.seconds > limit, 4 * HOMEWARD_LIMIT_S + READY_S)
            stage.wait(what.rest_s)
            stage.lead(False)
        finally:
            demonstrator.rest()
        stage.wait(0.5)  # the recording sees that it was handed back
        success = sim.holds(what.colour)
        recording = self._recorder.stop("success" if success else "failure")
        stage.disarm()
        return Corrected(seed, what.colour, drove_s, True, success, recording.path.name)
