"""Scored scenes in simulated time: a policy with the controller's core at the simulated arm, without ROS.

A game is a scene and one instruction after another, as a person gives them: the next one as soon as the last is
fulfilled, or in mid-motion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pi0_ros.base.errors import InputError
from pi0_ros.control.controller import Controller
from pi0_ros.control.states import Command
from pi0_ros.sim.policy_driver import PolicyDriver
from pi0_ros.sim.task import Score, prompt
from pi0_ros.sim.world import CAMERAS, CUBES, IMAGE_EVERY, IMAGE_PHASES, JOINTS_EVERY, TICK, Disturbance, Start, World

STAY_S = 0.6  # the cube must stay in the tray
REST_S = 2.0  # the last seconds of an instruction, in which the arm may be at rest
AT_REST = 0.06  # rad, a joint that moves by less is at rest
TASKS = ("one", "colours", "three", "changed", "again")

Watch = Callable[[float, Command | None, Controller], None]  # is shown every period: the time and what was sent


@dataclass(frozen=True)
class Instruction:
    """What is asked for, and for how long: until it is fulfilled but at most `limit_s`, or with `fixed` as long."""

    colour: str
    text: str
    limit_s: float
    fixed: bool = False


@dataclass(frozen=True)
class Game:
    """A scene and the instructions in it."""

    seed: int
    instructions: tuple[Instruction, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of an instruction. `rested`: the arm was at rest at its end."""

    colour: str
    success: bool
    right_cube: bool  # the named cube left the table first
    seconds: float
    lifted: tuple[str, ...]
    rested: bool


def games(task: str, first_seed: int, number: int, limit_s: float = 20.0) -> list[Game]:
    """`number` scenes of a task.

    one: a random cube. colours: each scene once per colour. three: all cubes, one after the other. changed: another
    cube after 0.5 to 4 s. again: the same instruction once more when it is fulfilled; the arm shall rest.
    """
    if task not in TASKS:
        raise InputError(f"task {task!r}: one of {', '.join(TASKS)}")
    found: list[Game] = []
    for seed in range(first_seed, first_seed + number):
        rng = np.random.default_rng([seed, 11])
        colour, wording = str(CUBES[rng.integers(3)]), int(rng.integers(3))
        others = [str(name) for name in rng.permutation([name for name in CUBES if name != colour])]
        soon = float(rng.uniform(0.5, 4.0))
        asked: dict[str, list[list[tuple[str, float, bool]]]] = {
            "one": [[(colour, limit_s, False)]],
            "colours": [[(name, limit_s, False)] for name in CUBES],
            "three": [[(name, limit_s, False) for name in (colour, *others)]],
            "changed": [[(others[0], soon, True), (colour, limit_s, False)]],
            "again": [[(colour, limit_s, False), (colour, 5.0, True)]],
        }
        for game in asked[task]:
            words = (Instruction(name, prompt(name, wording), limit, fixed) for name, limit, fixed in game)
            found.append(Game(seed, tuple(words)))
    return found


def play(
    world: World, driver: PolicyDriver, game: Game, watch: Watch = lambda now, command, controller: None
) -> list[Outcome]:
    """Play a game with a fresh driver; one outcome for each instruction.

    The policy's clock knows nothing of the scene: its first look comes within a period, when the seed chooses.
    """
    origin, score = 1000.0 * (game.seed + 1), Score()
    world.reset(game.seed, Start())
    world.disturbance = Disturbance()
    driver.begin(origin, float(np.random.default_rng([game.seed, 23]).uniform(0.0, 1.0 / driver.rate)))
    command: np.ndarray | None = None
    outcomes, tick = [], 0
    for number, asked in enumerate(game.instructions):
        score.instruct(asked.colour)
        start, done, resting = tick * TICK, np.inf, []
        last = number + 1 == len(game.instructions)
        while tick * TICK < start + asked.limit_s:
            t = tick * TICK
            for camera in CAMERAS:
                due = tick % IMAGE_EVERY == IMAGE_PHASES[camera]
                if due and driver.looks_before(origin + t + IMAGE_EVERY * TICK):
                    driver.images[camera] = world.render(camera)
            if tick % JOINTS_EVERY == 0:
                state = world.joint_positions()
                resting.append(state)
                following = driver.step(origin + t, state, asked.text)
                if following is not None:
                    command = following.position
                watch(origin + t, following, driver.controller)
            world.step(command)
            tick += 1
            score.update(world.cubes())
            done = min(done, t) if score.success(asked.colour) else np.inf
            # The next instruction comes at once; only the last success must show that it lasts.
            if not asked.fixed and t >= done + (STAY_S if last else 0.0):
                break
        moved = np.ptp(np.array(resting[-round(REST_S / (JOINTS_EVERY * TICK)) :]), axis=0)[:5].max()
        outcomes.append(
            Outcome(
                asked.colour,
                score.success(asked.colour),
                score.right_cube(asked.colour),
                min(done, tick * TICK) - start,
                tuple(score.lifted),
                bool(moved < AT_REST),
            )
        )
    return outcomes
