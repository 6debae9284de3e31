"""Judges commands on the wire by when they arrived: written from the robot file and docs/safety.md alone.

A command is followed by a robot that takes one per control period and stands still while none comes. So within a motion
(messages no further apart than `few` periods) velocity and acceleration are differences over the period. A longer
pause is rest: the next motion begins at rest, at the last command or where the joints were measured; each joint's
next step is judged from whichever of the two its motion began at within the limits. In between (a pause of 2 periods to
`few`) either may be.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pi0_ros.robot import Robot

FEW = 5.5  # periods; the controller calls 4.5 a stall, and messages take their time
FEW_S = 0.05  # and so long at any rate: it calls nothing below 0.03 s a stall
SLACK = 1 + 1e-6
BACK_S = 0.5  # the measured positions of so long before a motion count


@dataclass
class Verdict:
    """What was seen; speed and acceleration as fractions of each joint's limit, the worst."""

    messages: int = 0
    speed: float = 0.0
    acceleration: float = 0.0
    pause_s: float = 0.0  # the longest within the record
    breaches: list[str] = field(default_factory=list)

    def breach(self, kind: str, index: int, joint: str, value: float) -> None:
        """Note what was beyond a limit."""
        self.breaches.append(f"{kind} of {joint} at message {index}: {value:.4g}")


def judge(
    robot: Robot,
    arrived: np.ndarray,
    commands: np.ndarray,
    measured: tuple[np.ndarray, np.ndarray] | None = None,
) -> Verdict:
    """Judge `commands` [n, J] that arrived at `arrived` [n] (s of a steady clock), with (times, positions [m, J])."""
    verdict = Verdict(len(commands), pause_s=float(np.max(np.diff(arrived), initial=0.0)))
    period, names = 1.0 / robot.control_rate_hz, robot.joint_names
    few = max(FEW * period, FEW_S)
    finite = np.isfinite(commands)
    for i, j in np.argwhere(~finite):
        verdict.breach("not a number", int(i), names[j], float(commands[i, j]))
    if not len(commands) or not finite.all():
        return verdict
    # How it moved before the record began is not known.
    velocity = (commands[1] - commands[0]) / period if len(commands) > 1 else np.zeros(len(names))
    bases: tuple[np.ndarray, ...] = (velocity,)  # what it may have been
    rest = (np.zeros(len(names)),)
    lower, upper = np.minimum(robot.lower, commands[0]), np.maximum(robot.upper, commands[0])
    for i in range(1, len(commands)):
        gap, step = arrived[i] - arrived[i - 1], commands[i] - commands[i - 1]
        going_on, from_rest = step / period, step / period
        if gap > few:
            found = _measured_at(measured, arrived[i])
            if found is not None:  # or it begins anew where the robot is
                anew = (commands[i] - found) / period
                from_rest = np.where(np.abs(anew) < np.abs(from_rest), anew, from_rest)
            options = [(from_rest, rest)]
        elif gap > 2.0 * period:
            options = [(going_on, bases), (from_rest, rest)]
        else:
            options = [(going_on, bases)]
        speeds, efforts, chosen = min(
            ((np.abs(v) / robot.velocity, _change(v, known) / period / robot.acceleration, v) for v, known in options),
            key=lambda option: max(option[0].max(), option[1].max()),
        )
        bases = (chosen,)
        if gap > few:  # begun at the last command, not where it was measured
            begun = step / period
            within = (np.abs(begun) <= robot.velocity * SLACK) & (np.abs(begun) / period <= robot.acceleration * SLACK)
            bases = (chosen, np.where(within, begun, chosen))
        verdict.speed, verdict.acceleration = (
            max(verdict.speed, float(speeds.max())),
            max(verdict.acceleration, float(efforts.max())),
        )
        for kind, values in (("velocity", speeds), ("acceleration", efforts)):
            if values.max() > SLACK:
                j = int(values.argmax())
                pauses = ", ".join(f"{pause:.3f}" for pause in np.diff(arrived[max(0, i - 3) : i + 3]))
                path = ", ".join(f"{position:.4f}" for position in commands[max(0, i - 3) : i + 3, j])
                verdict.breach(f"{kind} (times its limit)", i, f"{names[j]} [{path}] s [{pauses}]", float(values.max()))
        lower = np.where(
            gap > few,
            np.minimum(robot.lower, commands[i]),
            np.maximum(lower, np.minimum(robot.lower, commands[i - 1])),
        )
        upper = np.where(
            gap > few,
            np.maximum(robot.upper, commands[i]),
            np.minimum(upper, np.maximum(robot.upper, commands[i - 1])),
        )
        outside = np.maximum(lower - commands[i], commands[i] - upper)
        if outside.max() > 1e-9:
            verdict.breach("position", i, names[int(outside.argmax())], float(commands[i, int(outside.argmax())]))
    return verdict


def _change(velocity: np.ndarray, known: tuple[np.ndarray, ...]) -> np.ndarray:
    """How much `velocity` [J] differs from one of those that a joint may have had before, whichever is nearer."""
    return np.min([np.abs(velocity - before) for before in known], axis=0)


def _measured_at(measured: tuple[np.ndarray, np.ndarray] | None, at: float) -> np.ndarray | None:
    if measured is None or not len(measured[0]):
        return None
    times, positions = measured
    index = int(np.searchsorted(times, at)) - 1
    return positions[index] if index >= 0 and at - times[index] < BACK_S else None
