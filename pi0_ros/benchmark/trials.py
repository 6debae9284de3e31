"""One trial: from the initial state until the task is fulfilled or the steps are used up."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from pi0_ros.base.errors import Pi0Error
from pi0_ros.base.foreign import shortened
from pi0_ros.benchmark.rules import MOST_TRIALS, STEPS_PER_S, SUITES, WAIT_ACTION, WAIT_STEPS, Rules
from pi0_ros.benchmark.seat import Seat
from pi0_ros.benchmark.simulator import Environment
from pi0_ros.inference.backend import Backend
from pi0_ros.observation.streams import Observation

Answer = TypeVar("Answer")
STEP_NS = 1_000_000_000 // STEPS_PER_S
TRIAL_NS = 40_000_000_000  # longer than any trial lasts


@dataclass(frozen=True)
class Key:
    """Which trial of which task."""

    suite: str
    task: int
    trial: int

    @property
    def stamp_ns(self) -> int:
        """When it begins, on a clock of its own: a policy's noise depends on it, and no two trials share any."""
        number = (list(SUITES).index(self.suite) * 100 + self.task) * MOST_TRIALS + self.trial
        return number * TRIAL_NS


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: `steps` are the policy's actions, `error` what an environment or answer failed with."""

    success: bool
    steps: int
    error: str = ""


class _TrialError(Pi0Error):
    """What ends a trial and makes it a failure."""


@dataclass(frozen=True)
class Player:
    """Plays trials with one policy.

    `watch` is shown every observation. `interrupted` says whether a person wants to stop: LIBERO's `reset` swallows the
    exception that Ctrl-C raises. `failures` are errors of the policy that make a failure of the trial; any other ends
    the benchmark, for it says nothing about how good the policy is.
    """

    policy: Backend
    seat: Seat
    rules: Rules = Rules()
    watch: Callable[[Observation], None] = lambda seen: None
    interrupted: Callable[[], bool] = lambda: False
    failures: tuple[type[Exception], ...] = ()

    def play(self, key: Key, environment: Environment, state: np.ndarray, prompt: str) -> Outcome:
        """One trial from the initial state `state`. An error of the environment makes it a failure that is told."""
        steps = 0
        try:
            self.ask(environment.reset)
            raw = self.ask(environment.set_init_state, state)
            for _ in range(WAIT_STEPS):
                raw, *_ = self.ask(environment.step, list(WAIT_ACTION))
            actions: deque[np.ndarray] = deque()
            for steps in range(SUITES[key.suite].max_steps):
                seen = self.seat.observe(raw, prompt, key.stamp_ns + steps * STEP_NS)
                self.watch(seen)
                if not actions:
                    actions.extend(self._chunk(seen)[: self.rules.replan])
                raw, _, done, _ = self.ask(environment.step, actions.popleft().tolist())
                if done:
                    return Outcome(True, steps + 1)
        except _TrialError as error:
            return Outcome(False, steps, str(error))
        return Outcome(False, SUITES[key.suite].max_steps)

    def ask(self, question: Callable[..., Answer], *arguments: object) -> Answer:
        """Ask an environment; its errors are the trial's."""
        try:
            answer = question(*arguments)
        except Exception as error:
            if self.interrupted():  # what it made of a Ctrl-C is not the trial's
                raise KeyboardInterrupt from error
            raise _TrialError(_said(error)) from error
        if self.interrupted():
            raise KeyboardInterrupt
        return answer

    def pass_over(self, environment: Environment) -> None:
        """Reset as a trial that is done already did, so that the next one meets the scene it would have met."""
        with suppress(_TrialError):  # as it was told then
            self.ask(environment.reset)

    def _chunk(self, seen: Observation) -> np.ndarray:
        """The policy's actions, float64 [H, 7]."""
        try:
            return self.policy.infer(seen).actions
        except self.failures as error:
            raise _TrialError(_said(error)) from error


def _said(error: Exception) -> str:
    return shortened(f"{type(error).__name__}: {' '.join(str(error).split())}", 300)
