"""Whether joints do what they are told: their order, signs, scales and zeros, by state against command. numpy alone.

A right joint may be late and slow, a pause may hide a motion, and somebody may put the arm elsewhere. So a fault is
named only where the state follows the command closely with it, and no right joint would have gone so.

Shapes: N times on one axis, GRID_S apart; NaN where a state or a command was not heard.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from pi0_ros.base.findings import Finding, error, warning
from pi0_ros.doctor.joints import UNITS, Fault, Series
from pi0_ros.doctor.remedies import Entries, entries_of, for_each, written
from pi0_ros.robot import Joint, Robot
from pi0_ros.robot.turning import whole_turns

GRID_S = 0.02
LAGS = range(16)  # of GRID_S: a state that follows closely is this much later
LEAST_S = 0.8  # that state and command must be known together without a pause
LEAST_VALUES = 8  # of a state or a command; a gripper may be told only when to open
BREAK_S = 600.0  # a longer silence parts what was heard, also where a message has a stamp of another clock
SAME_CLOCK_S = 86400.0  # times of one clock are no further apart
PERIODS, PAUSE_S = 3.0, 0.2  # a pause is longer than so many usual periods and than this
MOVES = 0.05  # of a joint's range: less is not judged
FURTHER = 4.0  # times as far a joint goes that did not move by its commands
FITS = 0.98  # correlation of a state with the command that it follows closely
NEAR, FAR = 0.04, 0.1  # of the range: state and command that belong together differ by less than NEAR, others by more
SLOPES, GRIPPER_SLOPES = (0.6, 1.6), (0.2, 5.0)  # a gripper may be stopped by what it holds
ALIKE = 1.1  # slopes that differ by less than this factor have one cause
ZERO, SAG = 0.15, 0.1  # of the range: a wrong zero; and how far a right joint may stand beside its command
DELAYS = range(0, 31, 3)  # of GRID_S: a right joint on a busy machine may be this much later
SLOWNESS_S = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6)  # and get nearer to its command with these time constants
PARTS, UNLIKE = 3, 0.4  # parts of the motion, and by what share of it their slopes may differ
WORSE = 4.0  # times as far from what a right joint would do as from what one with the fault would


@dataclass(frozen=True)
class Slope:
    """How far a joint's state goes for each unit that is commanded, where it goes so all the time."""

    joint: Joint
    slope: float
    zero: float = 0.0  # where the state is when 0 is commanded, if that matters
    entries: Entries = Entries()

    @property
    def factor(self) -> float:
        """The slope, or what it is meant to be where it is near that: 1, or a factor of units."""
        known = [other.factor for other in UNITS if other.of == self.joint.unit]
        size = abs(self.slope)
        near = (factor for factor in (*known, *(1 / factor for factor in known)) if _near(size, factor))
        return math.copysign(1.0 if self.usual else next(near, size), self.slope)

    @property
    def usual(self) -> bool:
        """Whether a right joint goes so far, to whichever side."""
        low, high = GRIPPER_SLOPES if self.joint.kind == "gripper" else SLOPES
        return low < abs(self.slope) < high

    def in_state(self) -> str:
        """What to write where the state is read, if that is what is wrong."""
        old = self.entries.state
        return written(old, old.of_state(self.factor, self.zero), self._digits)

    def in_command(self) -> str:
        """What to write where it is commanded, if that is what is wrong."""
        old = self.entries.command
        return written(old, old.of_command(self.factor, self.zero), self._digits)

    @property
    def _digits(self) -> int:
        return 3 if self.factor == self.slope else 7  # of what was measured, of what is known


@dataclass(frozen=True)
class Following:
    """What the joints' motion told."""

    faults: list[Fault] = field(default_factory=list)
    unclear: tuple[str, ...] = ()  # joints that were commanded to move, and whose states did not tell
    slopes: Mapping[str, float] = field(default_factory=dict)  # joint -> its state for each unit commanded, where told
    apart: bool = False  # whether states and commands are told by clocks far apart

    @property
    def findings(self) -> list[Finding]:
        return [fault.finding for fault in self.faults]

    @property
    def beside(self) -> set[str]:
        """Joints whose zero is wrong: where they are tells nothing of their unit."""
        return {name for fault in self.faults if fault.finding.check == "zero" for name in fault.joints}

    def explains(self, joint: str) -> bool:
        """Whether a fault says why this joint is where it is."""
        return any(joint in fault.joints for fault in self.faults)


def check_following(robot: Robot, state: Mapping[str, Series], command: Mapping[str, Series]) -> Following:
    """Order, signs, scales and zeros, by what the joints do when they are commanded; nothing where they are not."""
    both = comparable(robot, state, command)
    heard = {joint.name: (_together(state[joint.name]), _together(command[joint.name])) for joint in both}
    meet = _meetings(heard)
    asked = [joint.name for joint in both if moved(joint, command[joint.name][1])]
    if not meet:
        between = [max(said[0], to[0]) - min(said[-1], to[-1]) for (said, _), (to, _) in heard.values()]
        return Following(unclear=tuple(asked), apart=bool(asked) and min(between) > BREAK_S)
    grid = np.arange(min(begin for begin, _ in meet.values()), max(end for _, end in meet.values()), GRID_S)
    done = {joint.name: _on(grid, heard[joint.name][0]) for joint in both}
    told = {name: _on(grid, to) if name in meet else np.full(len(grid), np.nan) for name, (_, to) in heard.items()}
    for joint in both:  # of a continuous joint whole turns between state and command are none
        beside = done[joint.name] - told[joint.name]
        way = np.median(beside[np.isfinite(beside)], keepdims=True) if np.isfinite(beside).any() else np.zeros(1)
        done[joint.name] = done[joint.name] - whole_turns(way, np.array([joint.continuous]))
    if stuck := _stuck(both, done, told):
        return Following([stuck])
    if speeds := _speeds(both, done, told):
        return Following([speeds])
    mixed = mixed_up([joint for joint in both if joint.name in meet], done, told)
    found = [Fault(_order(mixed), tuple(mixed))] if mixed else []
    unclear = [name for name in asked if name not in meet]
    wrong: list[Slope] = []
    slopes: dict[str, float] = {}
    for joint in both:
        if joint.name in mixed or not moved(joint, told[joint.name]):
            led = joint.name in meet and joint.name not in mixed and joint.kind != "gripper"
            if led and moved(joint, done[joint.name] / FURTHER):
                unclear.append(joint.name)
            continue
        known = _longest(np.isfinite(done[joint.name]) & np.isfinite(told[joint.name]))
        judged = _one(joint, entries_of(robot, joint.name), done[joint.name][known], told[joint.name][known])
        if isinstance(judged, Slope):
            slopes[joint.name] = judged.slope
            wrong += [] if judged.usual else [judged]
        elif isinstance(judged, Finding):
            found.append(Fault(judged, (joint.name,)))
        elif joint.kind != "gripper":  # which stops at whatever it holds
            unclear.append(joint.name)
    return Following([*found, *_scales(wrong)], tuple(unclear), slopes)


def comparable(robot: Robot, state: Mapping[str, Series], command: Mapping[str, Series]) -> list[Joint]:
    """Joints whose states can be compared with their commands."""
    joints = [joint for joint in robot.joints if joint.action != "velocity" or joint.kind == "gripper"]
    return [joint for joint in joints if joint.name in state and joint.name in command and not joint.writes_rotation]


def moved(joint: Joint, values: np.ndarray) -> bool:
    """Whether a joint moved, or was to move, by as much as is needed to judge it."""
    values = values[np.isfinite(values)]
    return bool(len(values) and np.isfinite(joint.span) and np.ptp(values) >= MOVES * joint.span)


def mixed_up(joints: Sequence[Joint], done: Mapping[str, np.ndarray], told: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Joint -> the joint whose command its state follows, for those that follow another's and not their own.

    States and commands are compared as positions, so poses tell as well as motion. Only whole exchanges count, and only
    where they are seen in motion or all others are where they were told to be: else the arm just does not follow.
    """
    places = {
        joint.name: {other.name: _apart(done[joint.name], told[other.name]) for other in joints} for joint in joints
    }
    span = {joint.name: joint.span for joint in joints}
    found: dict[str, str] = {}
    for joint in joints:
        apart = places[joint.name]
        best = min(apart, key=lambda name: apart[name])
        if best != joint.name and apart[best] < NEAR * span[best] and apart[joint.name] > FAR * span[joint.name]:
            found[joint.name] = best
    if len(found) < 2 or set(found) != set(found.values()):
        return {}
    others = [joint.name for joint in joints if joint.name not in found and joint.kind != "gripper"]
    obeys = bool(others) and all(places[name][name] < NEAR * span[name] for name in others)
    seen = all(_closest(done[name], told[other])[0] >= FITS for name, other in found.items())
    return found if obeys or seen else {}


def _stuck(joints: Sequence[Joint], done: Mapping[str, np.ndarray], told: Mapping[str, np.ndarray]) -> Fault | None:
    """Whether no state changes by a single bit, though several joints are commanded to move."""
    asked = [joint.name for joint in joints if moved(joint, told[joint.name])]
    heard = {joint.name: done[joint.name][np.isfinite(done[joint.name])] for joint in joints}
    if len(asked) < 2 or any(len(values) * GRID_S < LEAST_S or np.ptp(values) > 0.0 for values in heard.values()):
        return None
    what = f"no joint state changes at all, though {', '.join(asked)} are commanded to move"
    todo = "is the arm on, and does it listen to these commands? else its driver repeats an old state: restart it"
    return Fault(warning("frozen", what, todo), tuple(heard))


def _speeds(joints: Sequence[Joint], done: Mapping[str, np.ndarray], told: Mapping[str, np.ndarray]) -> Fault | None:
    """Whether the states are the speeds of what is commanded: another field of the message."""
    found: list[str] = []
    others: list[str] = []
    for joint in joints:
        state, command = done[joint.name], told[joint.name]
        if moved(joint, command) and joint.kind != "gripper":
            speed = np.gradient(command, GRID_S)
            close, lag = _closest(state, speed)
            follows = close >= FITS and _closest(state, command)[0] < FITS
            (found if follows and _as_fast(*_shifted(state, speed, lag)) else others).append(joint.name)
    if len(found) < 2 or len(found) <= len(others):
        return None
    what = f"the states of {', '.join(found)} are velocities, not positions: they follow how fast the commands change"
    todo = "`field: position` of this state topic in the robot file, or let the driver say positions"
    return Fault(error("velocities", what, todo), tuple(joint.name for joint in joints))


def _as_fast(state: np.ndarray, speed: np.ndarray) -> bool:
    """Whether these are the speeds themselves, of a motion that went to and fro."""
    most = float(np.max(np.abs(speed)))
    return bool(0.8 < np.polyfit(speed, state, 1)[0] < 1.25 and min(speed.max(), -speed.min()) > 0.2 * most)


def _one(joint: Joint, entries: Entries, done: np.ndarray, told: np.ndarray) -> Finding | Slope | None:
    """What is wrong with how one joint follows its command, [N] each without NaN, or how far it goes for a unit of it;
    None where that could not be told."""
    if len(told) * GRID_S < LEAST_S or not moved(joint, told):
        return None
    close, lag = _closest(done, told)
    away, lag_away = _closest(-done, told)
    if max(close, away) < FITS:
        return None
    flipped = away > close
    state, command = _shifted(done, told, lag_away if flipped else lag)
    slope = float(np.polyfit(command, state, 1)[0])
    seen = Slope(joint, slope, entries=entries)
    zero = float(np.median(state - seen.factor * command))
    seen = replace(seen, zero=zero if abs(zero) > ZERO * joint.span * abs(seen.factor) else 0.0)
    fault: Finding | Slope = seen
    if flipped:
        fault = _sign(seen, away)
    elif seen.usual:
        if joint.kind == "gripper" or not seen.zero:
            return replace(seen, zero=0.0)
        what = f"{joint.name} is {zero:.3g} {joint.unit} beside its command all the time"
        todo = f"its zero differs: {seen.in_state()} for it in the robot file's state topic, or calibrate the arm"
        fault = error("zero", what, todo)
    misfit = float(np.std(state)) * math.sqrt(max(0.0, 1.0 - max(close, away) ** 2))
    lasts = _alike(joint, state, command, slope) and _beside_right(joint, done, told) > WORSE * misfit
    return fault if lasts else None


def _sign(seen: Slope, correlation: float) -> Finding:
    joint = seen.joint
    what, why = f"{joint.name} moves against its command", "its sign is flipped"
    if joint.kind == "gripper":
        what, why = f"{joint.name} opens when it is told to close", "open and closed are exchanged"
        if seen.factor == -1.0:  # what it holds may have stopped it on its way
            seen = replace(seen, zero=joint.lower + joint.upper)
    state, command = seen.in_state(), seen.in_command()
    command = "" if command == state else f"{command} "
    todo = f"{why}: {state} for it in the robot file's state topic, or {command}in its command's"
    return error("sign", f"{what} (correlation {-correlation:.2f})", todo)


def _alike(joint: Joint, state: np.ndarray, command: np.ndarray, slope: float) -> bool:
    """Whether the state has this slope in every part of the motion, as an arm that was stopped has not."""
    for part in np.array_split(np.arange(len(state)), PARTS):
        if moved(joint, command[part]):
            own = float(np.polyfit(command[part], state[part], 1)[0])
            if abs(own - slope) > UNLIKE * abs(slope):
                return False
    return True


def _scales(slopes: Sequence[Slope]) -> list[Fault]:
    """Wrong scales: one line for all joints that share one."""
    groups: list[list[Slope]] = []
    for one in slopes:
        like = (g for g in groups if g[0].joint.unit == one.joint.unit and _near(one.slope, g[0].slope))
        if (group := next(like, None)) is None:
            groups.append([one])
        else:
            group.append(one)
    return [Fault(_scale(group), tuple(one.joint.name for one in group)) for group in groups]


def _near(one: float, other: float) -> bool:
    return 1 / ALIKE < one / other < ALIKE


def _scale(group: Sequence[Slope]) -> Finding:
    unit, slope = group[0].joint.unit, float(np.median([one.slope for one in group]))
    group = [replace(one, slope=slope) for one in group]  # they share it
    names, many = ", ".join(one.joint.name for one in group), len(group) > 1
    what = f"{names} {'move' if many else 'moves'} {slope:.3g} {unit} for each {unit} that is commanded"
    its, they = ("their", "they") if many else ("its", "it")
    state = for_each({one.joint.name: one.in_state() for one in group})
    command = for_each({one.joint.name: one.in_command() for one in group})
    for other in UNITS:
        if unit != other.of:
            continue
        if _near(slope, other.factor):
            todo = f"{state} in the robot file's state topic, or let the driver say {unit}"
            return error("units", f"{what}: {its} state is in {other.name}", todo)
        if _near(1 / slope, other.factor):
            if any(_near(abs(one.entries.state.scale), other.factor) for one in group):
                todo = f"{state} in the state topic if that says {unit}"
                todo += f"; if {they} really went no further, {command} in the command"
                return error("units", f"{what}: the robot file takes {its} state for {other.name}", todo)
            todo = (
                f"{command} in the command of the robot file, or let the driver take {unit}; "
                f"if {they} really went as far as was commanded, {state} in the state topic"
            )
            return error("units", f"{what}: {its} command is in {other.name}", todo)
    todo = f"a wrong scale: {state} in the state topic ({command} if the command's is wrong)"
    return error("scale", what, f"{todo}, or mend the driver")


def _order(mixed: Mapping[str, str]) -> Finding:
    pairs = ", ".join(f"{name} does what {other} is told" for name, other in mixed.items())
    return error(
        "order", f"joints are mixed up: {pairs}", "correct the order of `joints` (or `names`) in the robot file"
    )


def _beside_right(joint: Joint, done: np.ndarray, told: np.ndarray) -> float:
    """How far (rms) the state was from what a right joint would have done, of all the ways in which one may be late:
    by a delay, slowly, no faster than it was seen to go, beside its command by what it sags. [N] each; 0 where the
    time is too short to tell."""
    if len(done) * GRID_S < LEAST_S + DELAYS[-1] * GRID_S:
        return 0.0
    step = max(1, round(0.1 / GRID_S))
    fastest = float(np.max(np.abs(done[step:] - done[:-step]))) / step  # per GRID_S
    delay, slowness, speed = (
        values.ravel() for values in np.meshgrid(DELAYS, SLOWNESS_S, (np.inf, fastest), indexing="ij")
    )
    share = 1.0 - np.exp(-GRID_S / np.maximum(slowness, 1e-6))  # of its way a joint goes within GRID_S
    place = np.full(len(delay), done[0])
    beside = np.full((len(done), len(delay)), np.nan)
    for now in range(len(done)):
        begun = now > delay  # before, it did what was commanded before anybody listened
        toward = told[np.maximum(now - delay, 0)]
        place = np.where(begun, place + np.clip(share * (toward - place), -speed, speed), done[now])
        beside[now, begun] = (done[now] - place)[begun]
    sag = np.clip(np.nanmean(beside, axis=0), -SAG * joint.span, SAG * joint.span)
    return float(np.sqrt(np.nanmean((beside - sag) ** 2, axis=0)).min())


def _together(series: Series) -> Series:
    """The part of a series with the most values and no break."""
    times, values = series
    parts = np.split(np.arange(len(times)), np.flatnonzero(np.diff(times) > BREAK_S) + 1)
    most = max(parts, key=len)
    return times[most], values[most]


def _meetings(heard: Mapping[str, tuple[Series, Series]]) -> dict[str, tuple[float, float]]:
    """Joint -> since when and until when its state and its command were told, for those told long enough to judge."""
    meet = {}
    for name, ((said, _), (to, _)) in heard.items():
        begin, end = max(said[0], to[0]), min(said[-1], to[-1])
        if end - begin >= LEAST_S and _is_stream(said) and _is_stream(to):
            meet[name] = float(begin), float(end)
    longest = max(meet.values(), key=lambda times: times[1] - times[0], default=(0.0, 0.0))
    return {name: times for name, times in meet.items() if abs(times[0] - longest[0]) < SAME_CLOCK_S}


def _is_stream(times: np.ndarray) -> bool:
    """Whether values came often enough that a joint was meanwhile between them."""
    return len(times) >= LEAST_VALUES and float(np.median(np.diff(times))) < LEAST_S


def _pause_s(times: np.ndarray) -> float:
    """From how long a silence on a series counts as a pause."""
    return max(PAUSE_S, PERIODS * float(np.median(np.diff(times)))) if len(times) > 1 else math.inf


def _on(grid: np.ndarray, series: Series) -> np.ndarray:
    """The values at these times, NaN within pauses, before the first and after the last."""
    times, values = series
    found = np.interp(grid, times, values, left=np.nan, right=np.nan)
    for place in np.flatnonzero(np.diff(times) > _pause_s(times)):
        found[(grid > times[place]) & (grid < times[place + 1])] = np.nan
    return found


def _longest(heard: np.ndarray) -> slice:
    """The longest run of what was heard, bool [N]."""
    ends = np.flatnonzero(np.diff(np.concatenate([[False], heard, [False]]).astype(np.int8)))
    begins, ends = ends[::2], ends[1::2]
    if not len(begins):
        return slice(0, 0)
    best = int(np.argmax(ends - begins))
    return slice(int(begins[best]), int(ends[best]))


def _shifted(done: np.ndarray, told: np.ndarray, lag: int) -> tuple[np.ndarray, np.ndarray]:
    """The states and the commands that were `lag` of GRID_S older, of where both were heard."""
    state, command = done[lag:], told[: len(told) - lag]
    heard = np.isfinite(state) & np.isfinite(command)
    return state[heard], command[heard]


def _closest(done: np.ndarray, told: np.ndarray) -> tuple[float, int]:
    """The best correlation of state and command, and at which lag it is."""
    best, lag = max((_correlation(*_shifted(done, told, lag)), -lag) for lag in LAGS)
    return best, -lag


def _correlation(state: np.ndarray, command: np.ndarray) -> float:
    if not len(state):
        return 0.0
    state, command = state - state.mean(), command - command.mean()
    size = math.sqrt(float(state @ state) * float(command @ command))
    return float(state @ command) / size if size > 1e-12 else 0.0


def _apart(done: np.ndarray, told: np.ndarray) -> float:
    """How far (rms) a state is from a command, at the lag that fits best; infinite where both were not heard long
    enough."""
    best = math.inf
    for lag in LAGS:
        state, command = _shifted(done, told, lag)
        if len(state) * GRID_S >= LEAST_S:
            best = min(best, float(np.sqrt(np.mean((state - command) ** 2))))
    return best
