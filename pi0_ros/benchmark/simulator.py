"""What a benchmark's simulator offers: LIBERO's own classes and methods, as far as they are used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from pi0_ros.base.errors import InputError

Raw = Mapping[str, Any]  # what an environment shows: pictures uint8 [256, 256, 3] and numbers by name


class SimulatorError(InputError):
    """The simulator is not there, or is not what is expected; says what to do."""


class Task(Protocol):
    """One task of a suite."""

    @property
    def language(self) -> str:
        """The instruction."""


class Suite(Protocol):
    """Tasks by number."""

    @property
    def n_tasks(self) -> int:
        """How many there are."""

    def get_task(self, i: int) -> Task:
        """Task `i`."""

    def get_task_init_states(self, i: int) -> Sequence[np.ndarray]:
        """The states in which its trials begin."""


class Environment(Protocol):
    """One task's robot and things."""

    def seed(self, seed: int) -> None:
        """Seed numpy's global generator, from which each `reset` places what stands fast."""

    def reset(self) -> Raw:
        """Build the scene anew."""

    def set_init_state(self, init_state: np.ndarray) -> Raw:
        """Put everything that moves where `init_state` says."""

    def step(self, action: list[float]) -> tuple[Raw, float, bool, Mapping[str, Any]]:
        """Act for one period: what is seen then, reward, whether the task is fulfilled, and more."""

    def close(self) -> None:
        """Free the renderer."""


class Simulator(Protocol):
    """Where suites and environments come from."""

    def suite(self, name: str) -> Suite:
        """The suite called `name`."""

    def environment(self, task: Task) -> Environment:
        """A new environment for a task."""
