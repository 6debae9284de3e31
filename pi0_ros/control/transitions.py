"""From one chunk to the next: the kinds of transition (`TRANSITIONS`), how long a fade must last, how rough it was."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pi0_ros.base.errors import InputError
from pi0_ros.control.chunk import ActionChunk
from pi0_ros.control.limits import JointLimits
from pi0_ros.control.splines import Spline, chunk_spline
from pi0_ros.robot.space import Space

TRANSITION_FRACTION = 0.5  # a transition alone may use this fraction of the velocity and acceleration limits
SPEED_FRACTION = 0.9  # the same of a speed, whose limits are those of its acceleration
CALM_FRACTION = 0.5  # and should accelerate no more than this fraction of what the chunk itself does
FLOOR_FRACTION = 0.02  # of the acceleration limits: a chunk that stands still would ask for endless fades
LONGEST_S = 0.4  # a fade is not drawn out beyond this for the sake of calm; limits may need more
NEARLY = 1.05  # as good as the best
LONGEST_FADE_S = 10.0  # whatever the limits say
TRIED = 24  # fades between the shortest and the longest
MEMBERS = 128  # overlapping chunks in an ensemble, at most
MIDDLE_STEPS = 4  # towards a mean of rotations; each squares what is left
KEPT = 512  # transitions that the percentiles look back on
RTC_FADE_STEPS = 2.0  # steps of the chunk over which `rtc` fades what guidance left over

_u = np.linspace(0.0, 1.0, 13)[1:, None]
# How a quintic fade's first offset, velocity and acceleration go into its velocity and acceleration: [n, 3].
FADE_VELOCITY = np.hstack(
    [
        -30 * _u**2 + 60 * _u**3 - 30 * _u**4,
        1 - 18 * _u**2 + 32 * _u**3 - 15 * _u**4,
        _u - 4.5 * _u**2 + 6 * _u**3 - 2.5 * _u**4,
    ]
)
FADE_ACCELERATION = np.hstack(
    [-60 * _u + 180 * _u**2 - 120 * _u**3, -36 * _u + 96 * _u**2 - 60 * _u**3, 1 - 9 * _u + 18 * _u**2 - 10 * _u**3]
)


def fade_duration(
    motion: np.ndarray,
    limits: JointLimits,
    usual: np.ndarray,
    shortest: float,
    fraction: float = TRANSITION_FRACTION,
) -> float:
    """Seconds over which to fade an offset with its velocity and acceleration, `motion` [3, J]; all joints together.

    The shortest fade to be found that by itself stays within this `fraction` of the velocity and acceleration
    limits (or within what it begins with), and, up to `LONGEST_S`, whose acceleration stays below `CALM_FRACTION` of
    the `usual` one [J], so that a transition cannot be told from the motion around it.
    """
    durations = np.geomspace(shortest, max(shortest, LONGEST_FADE_S), TRIED)[:, None, None]  # [fades, 1, 1]
    parts = motion * durations ** np.arange(3)[:, None]  # [fades, 3, J]
    sizes = limits.space.sizes
    speed = np.max(sizes(FADE_VELOCITY @ parts) / durations, axis=1)  # [fades, J]
    effort = np.max(sizes(FADE_ACCELERATION @ parts) / durations**2, axis=1)
    _, velocity, acceleration = sizes(motion)
    strain = np.maximum(
        np.max(speed / np.maximum(fraction * limits.velocity, velocity), axis=1),
        np.max(effort / np.maximum(fraction * limits.acceleration, acceleration), axis=1),
    )
    noise = np.max(effort / np.maximum(CALM_FRACTION * usual, FLOOR_FRACTION * limits.acceleration), axis=1)
    noise[durations[:, 0, 0] > max(shortest, LONGEST_S)] = np.inf
    # Where none will do, the shortest of the nearly best.
    good, calm = strain <= max(1.0, NEARLY * strain.min()), noise <= max(1.0, NEARLY * noise.min())
    both = good & calm
    return float(durations[np.argmax(both if both.any() else good), 0, 0])


def stop_duration(velocity: np.ndarray, acceleration: np.ndarray, limits: JointLimits) -> float:
    """Seconds of a smooth stop from this motion [J], within `TRANSITION_FRACTION` of the acceleration limits if it can.

    Its velocity is a cubic that decelerates by at most 1.5 |v| / T + |a| / 3.
    """
    sizes = limits.space.sizes
    room = np.maximum(TRANSITION_FRACTION * limits.acceleration - sizes(acceleration) / 3.0, 0.2 * limits.acceleration)
    return float(np.max(1.5 * sizes(velocity) / room, initial=0.0))


def slowing_duration(limits: JointLimits) -> float:
    """Seconds in which every speed comes to zero from wherever it may be, within its limits."""
    fastest = np.maximum(-limits.lower, limits.upper)[limits.speed]
    change, rise = limits.velocity[limits.speed], limits.acceleration[limits.speed]
    return float(np.max(fastest / change + 3.0 * change / rise, initial=0.0))


class Ensemble:
    """Temporal ensembling (ACT, arXiv 2304.13705) on the time axis: a chunk becomes the mean of all that overlap it.

    A prediction weighs `exp(-decay * i)`, `i` counting the steps from the oldest on, so the oldest weighs most. Where
    chunks arrive at every step this is ACT's average. Where they come every `g` steps, older chunks are interpolated,
    and over its last `g` steps a chunk loses its weight smoothly: the mean must not jump where it ends. Grippers
    switch: they take the newest word. Of rotations it is the mean turn from their middle, which is found step by step.
    """

    def __init__(self, decay: float, interpolation: str, gripper: np.ndarray, space: Space | None = None) -> None:
        self.decay = decay
        self._space = space or Space.lines(len(gripper))
        self._interpolation = "linear" if interpolation == "hold" else interpolation
        self._gripper = gripper
        self._members: deque[tuple[ActionChunk, Spline]] = deque(maxlen=MEMBERS)  # times since the chunk's stamp

    def clear(self) -> None:
        """Forget all chunks."""
        self._members.clear()

    def add(self, chunk: ActionChunk) -> ActionChunk:
        """Take a chunk, newer than those before, and return the mean in its place."""
        while self._members and self._members[0][0].end_ns < chunk.stamp_ns:
            self._members.popleft()
        gap_ns = max(chunk.dt_ns, chunk.stamp_ns - self._members[-1][0].stamp_ns) if self._members else chunk.dt_ns
        spline = chunk_spline(chunk, self._interpolation, self._gripper, chunk.stamp, self._space)
        self._members.append((chunk, spline))
        times_ns = chunk.times_ns
        total, weights = np.zeros_like(chunk.actions), np.zeros((len(times_ns), 1))
        told: list[tuple[np.ndarray, np.ndarray]] = []
        for member, spline in self._members:
            weight = np.exp(-self.decay * (member.stamp_ns - chunk.stamp_ns) / chunk.dt_ns)
            left_ns = (((member.end_ns - times_ns) // chunk.dt_ns + 1) * chunk.dt_ns)[:, None]  # its own step included
            factor = np.clip(left_ns / gap_ns, 0.0, 1.0) if member is not chunk else np.ones(left_ns.shape)
            factor = weight * factor**2 * (3.0 - 2.0 * factor)
            positions = spline.positions((times_ns - member.stamp_ns) * 1e-9)
            total += factor * positions
            weights += factor
            told.append((factor, positions))
        actions = np.where(self._gripper, chunk.actions, total / weights)
        if self._space.poses:
            actions = np.where(self._space.written, self._middle(chunk.actions, told, weights), actions)
        return ActionChunk(chunk.stamp_ns, chunk.dt_ns, actions, chunk.names)

    def _middle(
        self, actions: np.ndarray, told: Sequence[tuple[np.ndarray, np.ndarray]], weights: np.ndarray
    ) -> np.ndarray:
        """The mean [H, J] of what was `told` (weights [H, 1], positions [H, J]): the place from which all ways add up
        to none."""
        space = self._space
        for _ in range(MIDDLE_STEPS):
            way = sum(weight * space.way(actions, positions) for weight, positions in told)
            actions = space.moved(actions, way / weights)
        return actions


class Combined(Protocol):
    """Makes one chunk of those that arrived. It may remember them until it is told to forget."""

    def add(self, chunk: ActionChunk) -> ActionChunk:
        """Take a chunk, newer than those before, and return what is followed in its place."""

    def clear(self) -> None:
        """Forget all chunks."""


@dataclass(frozen=True)
class Transition:
    """One kind of transition, in two places: where a chunk arrives, and where the command goes over to it."""

    fade_s: Callable[[ActionChunk, float], float]  # chunk, blend_s -> shortest fade of the offset; 0: none, it jumps
    combined: Callable[[float, str, np.ndarray, Space], Combined] | None = (
        None  # of ensemble_decay, interpolation, gripper [J], what the actions are
    )


TRANSITIONS: dict[str, Transition] = {
    "replace": Transition(lambda chunk, blend_s: 0.0),
    "blend": Transition(lambda chunk, blend_s: blend_s),
    "ensemble": Transition(lambda chunk, blend_s: blend_s, combined=Ensemble),
    "rtc": Transition(lambda chunk, blend_s: RTC_FADE_STEPS * chunk.dt),
}


def transition_of(name: str) -> Transition:
    """The transition of this name; `InputError` names the ones that there are."""
    if name not in TRANSITIONS:
        raise InputError(f"transition {name!r} is unknown, expected one of {', '.join(TRANSITIONS)}")
    return TRANSITIONS[name]


class TransitionStatistics:
    """What the newest transitions had to bridge: the largest joint's offset in position, velocity and acceleration."""

    def __init__(self) -> None:
        self.count = 0
        self._sizes = np.zeros((KEPT, 3))

    def add(self, motion: np.ndarray) -> None:
        """Record one transition: offset, velocity and acceleration, [3, J]."""
        self._sizes[self.count % KEPT] = np.max(np.abs(motion), axis=1)
        self.count += 1

    def report(self) -> dict[str, float]:
        """Count, medians and 99th percentiles, in the robot's units, units/s and units/s^2."""
        values: dict[str, float] = {"transitions": self.count}
        kept = self._sizes[: min(self.count, KEPT)] if self.count else np.zeros((1, 3))
        for percentile in (50, 99):
            p, v, a = np.percentile(kept, percentile, axis=0)
            values |= {
                f"transition_position_p{percentile}": p,
                f"transition_velocity_p{percentile}": v,
                f"transition_acceleration_p{percentile}": a,
            }
        return {key: float(value) if key != "transitions" else int(value) for key, value in values.items()}
