"""The trials of a benchmark in order: what is done is passed over, each finished one is written at once."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType

import numpy as np

from pi0_ros.base.errors import InputError
from pi0_ros.benchmark.film import Films
from pi0_ros.benchmark.journal import Journal, Line
from pi0_ros.benchmark.rules import SUITES
from pi0_ros.benchmark.simulator import Simulator, SimulatorError, Suite
from pi0_ros.benchmark.trials import Key, Player

GUESSED_STEP_S, GUESSED_CHUNK_S = 0.05, 0.1  # before anything was measured


@dataclass(frozen=True)
class Plan:
    """Which trials are asked for."""

    suites: tuple[str, ...]
    tasks: tuple[int, ...]  # empty: all
    trials: int

    def __post_init__(self) -> None:
        for name in self.suites:
            if wrong := [task for task in self.tasks if task >= SUITES[name].tasks]:
                there = f"{name} has {SUITES[name].tasks}, counted from 0"
                raise InputError(f"--tasks {' '.join(map(str, wrong))}: there is no such task; {there}")

    def tasks_of(self, suite: str) -> tuple[int, ...]:
        """The tasks of a suite, each once."""
        return tuple(dict.fromkeys(self.tasks)) or tuple(range(SUITES[suite].tasks))

    @property
    def places(self) -> list[tuple[str, int]]:
        """Every suite and task."""
        return [(suite, task) for suite in dict.fromkeys(self.suites) for task in self.tasks_of(suite)]

    @property
    def keys(self) -> list[Key]:
        """Every trial."""
        return [Key(suite, task, trial) for suite, task in self.places for trial in range(self.trials)]


class Progress:
    """Is told what happens; this one says nothing."""

    def task(self, suite: str, task: int, prompt: str) -> None:
        """A task begins."""

    def trial(self, line: Line) -> None:
        """A trial has ended."""


def left_of(plan: Plan, journal: Journal, retry_errors: bool) -> list[Key]:
    """The trials that are still to be played; `retry_errors`: those that ended by an error, too."""
    lines = journal.lines
    return [key for key in plan.keys if key not in lines or (retry_errors and lines[key].error)]


def seconds_left(left: Sequence[Key], journal: Journal, replan: int) -> tuple[float, bool]:
    """How long they take at most, roughly, and whether that was measured; a trial that succeeds is shorter."""
    done = journal.lines.values()
    steps = sum(line.steps for line in done)
    per_step = sum(line.seconds for line in done) / steps if steps else GUESSED_STEP_S + GUESSED_CHUNK_S / replan
    return sum(SUITES[key.suite].max_steps for key in left) * per_step, bool(steps)


def instructions_of(simulator: Simulator, plan: Plan, journal: Journal) -> dict[tuple[str, int], str]:
    """The instruction of every task that is asked for or that the journal has trials of."""
    found, suites = {}, {}
    for suite, task in (*plan.places, *((key.suite, key.task) for key in journal.lines)):
        if suite not in suites:
            suites[suite] = checked_suite(simulator, suite)
        found[suite, task] = str(suites[suite].get_task(task).language)
    return found


def checked_suite(simulator: Simulator, name: str) -> Suite:
    """A suite of the simulator; SimulatorError where it has another number of tasks than openpi's protocol knows."""
    suite = simulator.suite(name)
    if suite.n_tasks != SUITES[name].tasks:
        raise SimulatorError(
            f"{name} has {suite.n_tasks} tasks in the installed LIBERO, not {SUITES[name].tasks}: is it LIBERO?"
        )
    return suite


def play_all(
    simulator: Simulator,
    player: Player,
    plan: Plan,
    journal: Journal,
    films: Films,
    progress: Progress,
    retry_errors: bool = False,
) -> None:
    """Play what is left of `plan`, in the order of openpi's client.

    In each task the environment is seeded once and reset before each trial. Where trials are done already it is reset
    without playing them, so that a benchmark that was interrupted meets the same scenes as one that was not.
    """
    left = set(left_of(plan, journal, retry_errors))
    for suite_name, task in plan.places:
        trials = [trial for trial in range(plan.trials) if Key(suite_name, task, trial) in left]
        if not trials:
            continue
        suite = checked_suite(simulator, suite_name)
        described = suite.get_task(task)
        prompt, states = str(described.language), suite.get_task_init_states(task)
        if trials[-1] >= len(states):
            raise InputError(f"--trials {plan.trials}: {suite_name} task {task} has {len(states)} initial states")
        np.random.seed(player.rules.seed)  # noqa: NPY002 - LIBERO draws from it
        environment = simulator.environment(described)
        try:
            environment.seed(player.rules.seed)
            progress.task(suite_name, task, prompt)
            with interruptible() as interrupted:
                for trial in range(trials[-1] + 1):
                    key = Key(suite_name, task, trial)
                    if key not in left:
                        replace(player, interrupted=interrupted).pass_over(environment)
                        continue
                    begun = time.perf_counter()
                    with films.film(key) as film:
                        one = replace(player, watch=film.add, interrupted=interrupted)
                        outcome = one.play(key, environment, states[trial], prompt)
                        film.keep = not outcome.success
                    line = Line.of(key, outcome, time.perf_counter() - begun)
                    journal.add(line)
                    progress.trial(line)
        finally:
            environment.close()


class _Interrupted:
    """Whether Ctrl-C was pressed."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self) -> bool:
        return self.asked


@contextmanager
def interruptible() -> Iterator[_Interrupted]:
    """Ctrl-C raises KeyboardInterrupt as ever, and is remembered, in case that somebody swallows it."""
    found = _Interrupted()

    def handle(number: int, frame: FrameType | None) -> None:
        found.asked = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield found
    finally:
        signal.signal(signal.SIGINT, before)
