"""openpi's protocol for LIBERO, as its client plays it (examples/libero/main.py there)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SuiteRules:
    """A suite of LIBERO: how many tasks it has, and after how many actions a trial is lost."""

    tasks: int
    max_steps: int


SUITES = {
    "libero_spatial": SuiteRules(10, 220),
    "libero_object": SuiteRules(10, 280),
    "libero_goal": SuiteRules(10, 300),
    "libero_10": SuiteRules(10, 520),
    "libero_90": SuiteRules(90, 400),
}
USUAL = ("libero_spatial", "libero_object", "libero_goal", "libero_10")  # whose average is published
INIT_STATES = 50  # of each task: trial k begins in state k
WAIT_STEPS = 10  # in which objects fall to where they lie
WAIT_ACTION = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0)  # stand still, gripper open
PICTURE_SIDE = 256  # px, as rendered
STEPS_PER_S = 20  # of the simulated robot's controller
MOST_TRIALS = 10_000


@dataclass(frozen=True)
class Rules:
    """What a command may choose; the defaults are openpi's."""

    seed: int = 7  # of the environment, for each task anew: where fixtures stand
    replan: int = 5  # actions that are executed of each chunk
