"""What each recorded demonstration is about: a pure function of its seed.

A person in front of the arm does not wait for a fresh scene. So beside fresh scenes there are those with cubes in the
tray already, instructions that follow a success, that change in mid-motion, that are fulfilled already, and hands that
missed. Two thirds wander: a slowly changing error is added to the joints (DART), so that they show how to mend an aim.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pi0_ros.base.errors import InputError
from pi0_ros.sim.task import prompt
from pi0_ros.sim.world import CUBES, Start

DISTURBANCES = (0.0, 0.03, 0.05)  # rad
FIRST_AIM = 0.02  # m, standard deviation of the first aim beside the cube
EPISODE_LIMIT_S = 15.0  # simulated
HOMEWARD_LIMIT_S = 5.0  # simulated, from the success until the arm is at rest
LATENCY_S = (0.0, 0.4)  # of the policy that drives before a takeover
EACH_OF_A_SEQUENCE_S = 7.0  # simulated, most that a policy gets for an instruction before the one that is demonstrated
TRAY_FRACTIONS = (0.6, 0.25, 0.15)  # how often 0, 1, 2 cubes lie in the tray already


@dataclass(frozen=True)
class Plan:
    """One demonstration. `before`: what was being done, unseen, for how long (s), until the instruction came."""

    seed: int
    colour: str
    text: str
    start: Start
    disturbance: float  # rad
    first_aim: np.ndarray  # m [2]
    rest_s: float  # recorded at home and at rest, behind the way there
    before: tuple[str, float] | None = None


KINDS = {"fresh": 0.38, "missed": 0.16, "next": 0.19, "changed": 0.14, "fulfilled": 0.13}


def plan(seed: int, kind: str | None = None) -> Plan:
    """The demonstration of `seed`, of a kind that the seed chooses, or of this `kind`."""
    rng = np.random.default_rng([seed, 7])
    colour, wording = CUBES[rng.integers(3)], int(rng.integers(3))
    first_aim = rng.normal(0.0, FIRST_AIM, 2)
    kind = kind or str(rng.choice(list(KINDS), p=list(KINDS.values())))
    if kind not in KINDS:
        raise InputError(f"kind {kind!r}: one of {', '.join(KINDS)}")
    others = [str(name) for name in rng.permutation([name for name in CUBES if name != colour])]
    lying = tuple(others[: rng.choice(3, p=TRAY_FRACTIONS)])
    before = None
    if kind == "missed":
        start = Start("beside", lying)
    elif kind == "next":
        start = Start("tray", lying or tuple(others[:1]))
    elif kind == "changed":
        start, before = Start("home", lying[:1]), (others[-1], float(rng.uniform(0.4, 4.5)))
    elif kind == "fulfilled":
        start = Start(str(rng.choice(["home", "tray", "anywhere"])), (colour, *lying[:1]))
    else:
        start = Start("anywhere" if rng.random() < 0.15 else "home", lying)
    rest_s = float(rng.uniform(1.0, 2.0) if kind == "fulfilled" else rng.uniform(0.2, 0.8))
    disturbance = DISTURBANCES[seed % len(DISTURBANCES)]
    return Plan(seed, colour, prompt(colour, wording), start, disturbance, first_aim, rest_s, before)


@dataclass(frozen=True)
class Before:
    """An instruction that a policy followed before the plan's own: for so long, or `until_done` and at most so long."""

    colour: str
    text: str
    seconds: float
    until_done: bool


@dataclass(frozen=True)
class Takeover:
    """How a policy drives before the demonstrator takes over: instructions, then the plan's own."""

    before: tuple[Before, ...]
    own_s: float  # with the instruction of the demonstration
    stuck: bool  # a long drive: until it is fulfilled, or never will be; then the demonstrator shows the rest
    latency_s: float  # mean of the chunks' latency
    transition: str
    rtc: str


def takeover(seed: int, latency_s: tuple[float, float] = LATENCY_S) -> Takeover:
    """How the policy drives before the demonstration of `seed`: often after other instructions.

    A third of them changed their mind; a third put one cube or two into the tray first, where this policy puts them.
    Its mean latency is drawn from `latency_s`.
    """
    rng = np.random.default_rng([seed, 13])
    what = plan(seed)
    colour = what.colour
    others = [str(name) for name in rng.permutation([name for name in CUBES if name != colour])]
    outside = [name for name in others if name not in what.start.tray]
    wording, kind = int(rng.integers(3)), rng.random()
    before: tuple[Before, ...] = ()
    if kind < 0.35:
        before = (Before(others[0], prompt(others[0], wording), float(rng.uniform(0.6, 5.0)), False),)
    elif kind < 0.7:
        first = outside[: int(rng.integers(1, 3))]
        before = tuple(Before(name, prompt(name, wording), EACH_OF_A_SEQUENCE_S, True) for name in first)
    own_s = float(rng.uniform(0.1, 1.5) if before and rng.random() < 0.3 else rng.uniform(0.8, 5.0))
    transition, rtc = (("rtc", "auto"), ("blend", "off"))[int(rng.random() < 0.15)]
    latency, stuck = float(rng.uniform(*latency_s)), bool(rng.random() < 0.3)
    return Takeover(before, float(rng.uniform(5.0, 11.0)) if stuck else own_s, stuck, latency, transition, rtc)
