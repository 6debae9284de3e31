"""A checkpoint's statistics against the robot: how it was normalised in training, and what the robot shows now.

All in the model's count of each joint, as the statistics are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pi0_ros.base.findings import Finding, Spread, error, note, warning
from pi0_ros.doctor.joints import Series
from pi0_ros.robot import Joint, Robot
from pi0_ros.robot.units import actions_to_model, state_to_model

WIDE = 3.0  # times a joint's whole range: no motion of the robot gave such statistics
FAR = 2.0  # times their own width beyond them: the policy has seen nothing like it
BESIDE = 0.5  # and this much is worth a word
BESIDE_ZERO = 0.1  # of its width, and of the joint's whole range, a range of changes may lie beside 0
NO_WIDTH = 1e-9
BAR = 24  # characters


@dataclass(frozen=True)
class Range:
    """What statistics say of one vector: usual lower and upper ends, float64 [D] each."""

    low: np.ndarray
    high: np.ndarray

    @property
    def width(self) -> np.ndarray:
        return self.high - self.low


def check_widths(robot: Robot, state: Range, actions: Range) -> list[Finding]:
    """Statistics that no motion of this robot gives: all zero, far wider than its joints can go, or those of something
    else. One cause is one line, though both have it."""
    given = {"state": state, "actions": actions}
    without = [what for what, one in given.items() if len(one.width) and (np.abs(one.width) < NO_WIDTH).all()]
    wide = [text for what, one in given.items() if what not in without and (text := _wide(robot, what, one))]
    found = []
    if without:
        text = f"the statistics of the {' and the '.join(without)} have no width at all (q01 = q99 for every joint)"
        todo = "they were made of nothing: `pi0 stats` on the dataset it was trained on"
        found.append(error("statistics", text, todo))
    if wide:
        todo = "made of degrees, or of another robot? compute them again with `pi0 stats`"
        found.append(error("statistics", f"statistics are too wide: {'; '.join(wide)}", todo))
    return found or check_changes(robot, state, actions)


def check_changes(robot: Robot, state: Range, actions: Range) -> list[Finding]:
    """Of actions that are changes of the state: their range has 0 in it, as an arm at times stands still."""
    known = dict(zip(robot.state_names, zip(state.low, state.high)))
    ranges = dict(zip(robot.action_names, zip(actions.low, actions.high)))
    spans = dict(zip(robot.action_names, _spans(robot, "actions") / 2.0))  # of changes: twice the range
    relative = (name for name, mask in zip(robot.action_names, robot.relative_mask) if mask)
    names = [name for name in relative if name in known and name in ranges]
    away = [name for name in names if not _has_zero(*ranges[name], spans[name])]
    if not away:
        return []
    low, high = ranges[away[0]]
    where = f"{', '.join(away)} ({away[0]} {low:.4g} to {high:.4g})"
    if all(_has_zero(*known[name], spans[name]) for name in names):
        what = f"the statistics of state and actions are exchanged: actions are changes, yet 0 is none of {where}"
        return [error("statistics", what, "put each where it belongs, or compute them again with `pi0 stats`")]
    what = f"the statistics of the actions are not those of changes, as the robot file says: 0 is none of {where}"
    return [error("statistics", what, "made of absolute actions? compute them again with `pi0 stats --robot`")]


def check_shown(robot: Robot, state: Range, shown: Mapping[str, Series]) -> list[Finding]:
    """How much of what the robot shows lies outside q01 .. q99 of the state, per joint, drawn."""
    places = [place for place, name in enumerate(robot.state_names) if name in shown and place < len(state.low)]
    if not places or len(places) < len(robot.state_names) or (state.width < NO_WIDTH).all():
        return []  # that nothing has a width is said by `check_widths`
    count = min(len(shown[name][1]) for name in robot.state_names)
    values = np.column_stack([shown[name][1][-count:] for name in robot.state_names])
    counts = state_to_model(robot, values)
    found, spreads, widest = [], [], max(map(len, robot.state_names))
    for place in places:
        name, low, high, column = robot.state_names[place], state.low[place], state.high[place], counts[:, place]
        share = float(((column < low) | (column > high)).mean())
        ends = (float(column.min()), float(np.median(column)), float(column.max()))
        spreads.append(Spread(name, float(low), float(high), *ends, share))
        width = high - low
        beyond = float(np.median(np.maximum(low - column, column - high)))
        if width < NO_WIDTH:
            if beyond > 1e-3 * max(1.0, abs(low)):
                what = f"{name} never moved in training (always {low:.4g}) and is at {float(np.median(column)):.4g} now"
                found.append(error("statistics", what, "put it there, or train with data in which it moves"))
        elif beyond > BESIDE * width and not _closed_on_nothing(robot.state_joints[place], shown[name][1][-count:]):
            level = error if beyond > FAR * width else warning
            what = (
                f"{name} is at {float(np.median(column)):.4g}, training saw {low:.4g} to {high:.4g} (q01 .. q99): "
                f"{share:.0%} of what it shows is outside"
            )
            found.append(
                level(
                    "statistics",
                    what,
                    "begin where demonstrations began; else units, zero, or another robot's statistics",
                )
            )
    rows = [f"{one.name:{widest}s} {_bar(one)} {one.outside:4.0%} outside" for one in spreads]
    text = "\n".join(["the state now (o) between q01 [ and q99 ]:", *rows])
    return [*found, note("statistics", text, spreads=spreads)]


def _wide(robot: Robot, what: str, given: Range) -> str:
    """Which joint is how much too wide, and how many are; empty where none is."""
    names = robot.state_names if what == "state" else robot.action_names
    known = min(len(given.width), len(names))
    width, span = given.width[:known], _spans(robot, what)[:known]
    factor = np.where(np.isfinite(span) & (span > 0), width / span, 0.0)
    if not len(wide := np.flatnonzero(factor > WIDE)):
        return ""
    worst = int(wide[np.argmax(factor[wide])])
    most = f"{names[worst]} most ({width[worst]:.4g}, {factor[worst]:.0f} times its whole range)"
    return f"{len(wide)} of {known} joints of the {what}, {most}"


def _has_zero(low: float, high: float, span: float) -> bool:
    """A joint that is held still stands a little beside its command."""
    slack = BESIDE_ZERO * max(high - low, span)
    return not (low - slack > 0.0 or high + slack < 0.0)


def _closed_on_nothing(joint: Joint, values: np.ndarray) -> bool:
    """Whether this may be a gripper that just holds nothing: where training held things it never closed so far."""
    slack = 0.02 * (joint.upper - joint.lower)
    shut = float(np.median(values))  # fingers that shut overshoot for a moment
    return joint.kind == "gripper" and joint.lower - slack <= shut <= joint.upper + slack


def _spans(robot: Robot, what: str) -> np.ndarray:
    """The widest that a joint can go, as the model counts it; float64 [S] or [A], infinite where nothing tells."""
    joints = robot.state_joints if what == "state" else robot.action_joints
    lower = np.array([joint.lower for joint in joints])
    upper = np.array([joint.upper for joint in joints])
    known = np.isfinite(lower) & np.isfinite(upper)
    turning = np.array([joint.writes_rotation for joint in joints], bool)
    neutral = np.array([joint.neutral for joint in joints])
    reach = upper - lower
    lower, upper = np.where(known, lower, 0.0), np.where(known, upper, 1.0)
    lower, upper = np.where(turning, neutral, lower), np.where(turning, neutral, upper)
    if what == "state":
        ends = np.abs(state_to_model(robot, upper) - state_to_model(robot, lower))
    else:
        rest = np.array([joint.neutral for joint in robot.state_joints])
        rest = np.where(np.isfinite(rest), rest, 0.0)
        ends = np.abs(np.subtract(*(actions_to_model(robot, end[None], rest)[0] for end in (upper, lower))))
        ends = np.where(robot.velocity_mask, 2.0, ends * np.where(robot.relative_mask, 2.0, 1.0))
    return np.where(turning, reach, np.where(known, ends, np.inf))


def _bar(spread: Spread) -> str:
    """`..[....o...]..`: where the values' median lies, in and beside the range."""
    at = (spread.median - spread.low) / max(spread.high - spread.low, NO_WIDTH)  # 0 .. 1 inside
    cells = ["."] * BAR
    left, right = BAR // 4, 3 * BAR // 4
    cells[left], cells[right] = "[", "]"
    cells[int(np.clip(round(left + at * (right - left)), 0, BAR - 1))] = "o"
    return "".join(cells)
