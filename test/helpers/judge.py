"""Judges commands on the wire by when they left: written from the robot file and docs/safety.md alone.

A command is followed by a robot that takes one per control period and stands still while none comes. So within a motion
velocity and acceleration are differences over the period. A long pause is rest: the next motion begins at rest, at the
last command or where the joints were measured, each joint for itself; where both are near enough, the step that follows
is judged from either. What lies between is decided by the promise that
ticks further apart than 4.5 periods (at least 30 ms) are a stall, with what a tick and a message may be late:

    up to 3.5 periods (at least 20 ms)      the motion goes on; rest would be a jump of the velocity
    from 5.5 periods (at least 50 ms) on    it begins from rest; a velocity kept would be a stall that nobody noticed
    between                                 either

Commands that left and were lost on the way (the sender counts its messages) are periods that passed unseen: what is
seen behind them must be reachable within the limits in so many.

A robot that stood before the first command is at rest there. A pause while the command moved is noted
(`broken_off`): whoever knows why no command came may forgive it.

A speed (a mobile base) moves wherever it is not zero, and goes on as it was told while nothing comes. Behind commands
that did not come regularly it may go on changing as before or begin to anew; its greatest change holds all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pi0_ros.robot import Robot

GOES_ON, GOES_ON_S = 3.5, 0.02  # periods and s
RESTS, RESTS_S = 5.5, 0.05
SLACK = 1 + 1e-6
BACK_S = 0.5  # the measured positions of so long before a motion count
STANDS = 0.02  # of the velocity limit: a command that is slower is nearly at rest
IRREGULAR, FEW = 2.5, 4  # periods; measurements
JOIN_S = 0.02  # by so much the way of a plan to its robot may vary


@dataclass(frozen=True)
class Part:
    """What a part of a robot may do, in the numbers that are judged; arrays are float64 [J]."""

    joint_names: tuple[str, ...]
    lower: np.ndarray
    upper: np.ndarray
    velocity: np.ndarray
    acceleration: np.ndarray
    control_rate_hz: float
    speeds: np.ndarray  # bool: are speeds themselves, and stand at zero alone
    together: tuple[slice, ...] = ()  # of these the length is limited: a hand's place, and its rotation


def part_of(robot: Robot, names: Sequence[str] = ()) -> Part:
    """These joints of a robot, or all."""
    at = robot.indices(names or robot.joint_names)
    limits = (values[at].copy() for values in (robot.lower, robot.upper, robot.velocity, robot.acceleration))
    return Part(tuple(robot.joint_names[i] for i in at), *limits, robot.control_rate_hz, robot.speed_mask[at])


def hand_of(robot: Robot) -> Part:
    """A robot's one hand that is commanded by poses: its place, then the way that it has turned about the axes."""
    (pose,) = robot.poses
    at = robot.indices(pose.entries[:6])
    endless = np.array([0.0, 0.0, 0.0, np.inf, np.inf, np.inf])
    names = (*pose.entries[:3], *(f"{pose.name} about {axis}" for axis in "xyz"))
    lower, upper = robot.lower[at] - endless, robot.upper[at] + endless
    limits = lower, upper, robot.velocity[at], robot.acceleration[at]
    return Part(names, *limits, robot.control_rate_hz, np.zeros(6, bool), (slice(0, 3), slice(3, 6)))


@dataclass
class Verdict:
    """What was seen; speed and acceleration as fractions of each joint's limit, the worst."""

    messages: int = 0
    lost: int = 0  # on the way to the witness
    speed: float = 0.0
    acceleration: float = 0.0
    pause_s: float = 0.0  # the longest
    breaches: list[str] = field(default_factory=list)
    broken_off: list[tuple[float, float]] = field(default_factory=list)  # (when, s; fraction of the velocity limit)

    def breach(self, kind: str, index: int, what: str, value: float) -> None:
        """Note what was beyond a limit."""
        self.breaches.append(f"{kind} of {what} at message {index}: {value:.4g}")


class Judge:
    """Judges a stream of commands that comes in pieces; the robot stands until the first.

    `record`: of a robot that takes whole plans, which `judge_plans` judges. It goes along more than what is recorded,
    so a record at rest may begin anew at once where the robot is. `late_s`: by so much later the controller may hear
    what time it is.
    """

    def __init__(self, robot: Robot | Part, record: bool = False, late_s: float = 0.0) -> None:
        robot = robot if isinstance(robot, Part) else part_of(robot)
        self._robot, self._period, self._record = robot, 1.0 / robot.control_rate_hz, record
        self.goes_on = max(GOES_ON * self._period, GOES_ON_S)  # s
        self.few = max(RESTS * self._period, RESTS_S) + late_s  # s
        joints = len(robot.joint_names)
        self._lower, self._upper = robot.lower.copy(), robot.upper.copy()
        self._velocity = np.zeros(joints)
        self._spread = np.zeros(joints)  # by which it may have been more or less, behind commands that were lost
        self._others: tuple[np.ndarray, ...] = ()  # what it may have been instead, where a motion has just begun
        self._times: list[float] = []  # the last few commands'
        self._unseen: list[int] = []  # lost before each of them
        self._path: list[np.ndarray] = []
        self._seen_at, self._seen = np.zeros(0), np.zeros((0, joints))

    @property
    def started(self) -> bool:
        """Whether a command was ever judged."""
        return bool(self._times)

    def measured(self, times: np.ndarray, positions: np.ndarray) -> None:
        """What the joints were measured at [m, J] at these times [m], for the commands to come."""
        known = np.isfinite(positions).all(axis=1)
        self._seen_at = np.concatenate([self._seen_at[-200:], times[known]])
        self._seen = np.concatenate([self._seen[-200:], positions[known]])

    def feed(self, arrived: np.ndarray, commands: np.ndarray, verdict: Verdict, lost: np.ndarray | None = None) -> None:
        """Judge commands [n, J] that left at these times [n], s of one clock, each behind so many that were `lost`."""
        names = self._robot.joint_names
        unseen = np.zeros(len(arrived), int) if lost is None else lost
        for i, (at, command, before) in enumerate(zip(arrived.tolist(), commands, unseen.tolist())):
            verdict.messages += 1
            verdict.lost += before
            if not np.isfinite(command).all():
                verdict.breach("not a number", i, names[int(np.argmin(np.isfinite(command)))], np.nan)
            else:
                self._one(i, at, command, before + 1, verdict)

    def _one(self, index: int, at: float, command: np.ndarray, periods: int, verdict: Verdict) -> None:
        robot, names, rest = self._robot, self._robot.joint_names, np.zeros_like(self._velocity)
        gap = at - self._times[-1] if self._times else np.inf
        paused = gap - (periods - 1) * self._period  # what lost commands do not explain
        begins = paused > self.few
        anew = paused > self.goes_on or (self._record and not self._velocity.any())
        places = self._where(at) if anew else []
        lasted = periods * self._period
        starts: list[tuple[np.ndarray, np.ndarray]] = []  # mean velocity and least acceleration on the way here
        if self._times:
            way = command - self._path[-1]
            if not begins or periods > 1:
                kept = np.maximum(self._sizes(way / lasted - self._velocity) - self._spread, 0.0)
                starts.append((way, np.minimum(kept, self._change(way / lasted))))
            from_rest = way
            for place in places:
                there = command - place
                from_rest = np.where(self._sizes(there) < self._sizes(from_rest), there, from_rest)
            if anew:
                starts.append((from_rest, self._sizes(from_rest / lasted)))
            if robot.speeds.any() and max([gap, *np.diff(self._times[-2:])]) > IRREGULAR * self._period:
                anyway = np.minimum(self._sizes(way / lasted - self._velocity), self._sizes(way / lasted))
                starts.append((way, anyway))
            if np.isfinite(gap):
                verdict.pause_s = max(verdict.pause_s, paused)
            moved = float(np.max(self._sizes(self._velocity) / robot.velocity))
            if robot.speeds.any():  # it drives on with its last command
                fastest = np.maximum(-robot.lower, robot.upper)
                moved = max(moved, float((np.abs(self._path[-1]) / fastest)[robot.speeds].max()))
            if begins and moved > STANDS:
                verdict.broken_off.append((self._times[-1], moved))
        else:
            way = command - places[0] if places else rest
            starts.append((way, self._sizes(way / lasted)))
        # Accelerating in all of n periods changes the mean velocity by (n + 1) / 2 of them, and the last from it by
        # (n - 1) / 2.
        share = self._period * (periods + 1) / 2.0
        velocities, efforts, mean = min(
            (
                (self._sizes(way / lasted) / robot.velocity, change / share / robot.acceleration, way / lasted)
                for way, change in starts
            ),
            key=lambda option: max(option[0].max(), option[1].max()),
        )
        self._velocity, self._spread = mean, robot.acceleration * self._period * (periods - 1) / 2.0
        self._others = ()
        if anew and self._times:  # at the last command or where it was measured, whichever was nearer
            most = SLACK * np.minimum(robot.velocity, robot.acceleration * self._period)
            begun = [(command - place) / self._period for place in (self._path[-1], *places)]
            self._others = tuple(np.where(self._sizes(v) <= most, v, self._velocity) for v in begun)
        before = self._path[-1] if self._path else command
        self._times, self._path = [*self._times[-3:], at], [*self._path[-3:], command]
        self._unseen = [*self._unseen[-2:], periods - 1]
        verdict.speed = max(verdict.speed, float(velocities.max()))
        verdict.acceleration = max(verdict.acceleration, float(efforts.max()))
        for kind, values in (("velocity", velocities), ("acceleration", efforts)):
            if values.max() > SLACK:
                j = int(values.argmax())
                passed = zip(np.diff(self._times), self._unseen[-3:])
                pauses = ", ".join(f"{pause:.3f}{f' ({lost} lost)' if lost else ''}" for pause, lost in passed)
                path = ", ".join(f"{position[j]:.4f}" for position in self._path)
                verdict.breach(f"{kind} (times its limit)", index, f"{names[j]} [{path}] s [{pauses}]", values.max())
        # Whoever is outside may only come inward: a motion may begin as far outside as the robot is or was told to be.
        reach = np.array([before, *places])
        lower, upper = reach.min(axis=0), reach.max(axis=0)
        self._lower = np.minimum(robot.lower, lower if begins else np.maximum(lower, self._lower))
        self._upper = np.maximum(robot.upper, upper if begins else np.minimum(upper, self._upper))
        outside = np.maximum(self._lower - command, command - self._upper)
        if outside.max() > 1e-9:
            j = int(outside.argmax())
            verdict.breach("position", index, names[j], float(command[j]))

    def _where(self, at: float) -> list[np.ndarray]:
        """The newest measurement before this time, unless it is too old; of a base, which may be about to change its
        speed, the last few."""
        index = int(np.searchsorted(self._seen_at, at)) - 1
        few = FEW if self._robot.speeds.any() else 1
        return [self._seen[i] for i in range(max(0, index - few + 1), index + 1) if at - self._seen_at[i] < BACK_S]

    def _sizes(self, ways: np.ndarray) -> np.ndarray:
        """How long a way or a velocity [J] is, each entry's own or of what is limited together."""
        sizes = np.abs(ways)
        for together in self._robot.together:
            sizes[together] = np.linalg.norm(ways[together])
        return sizes

    def _change(self, velocity: np.ndarray) -> np.ndarray:
        """How much `velocity` [J] differs from the nearest of what each joint's may have been; infinite: from none."""
        return np.asarray(np.min([self._sizes(velocity - known) for known in self._others], axis=0, initial=np.inf))


def judge(
    robot: Robot,
    arrived: np.ndarray,
    commands: np.ndarray,
    measured: tuple[np.ndarray, np.ndarray] | None = None,
    lost: np.ndarray | None = None,
) -> Verdict:
    """Judge `commands` [n, J] that left at `arrived` [n] (s) after the robot stood, with (times, positions [m, J]),
    each behind so many that were `lost`."""
    verdict, judged = Verdict(), Judge(robot)
    if measured is not None:
        judged.measured(*measured)
    judged.feed(arrived, commands, verdict, lost)
    return verdict


def judge_plans(
    robot: Robot,
    going: list[tuple[float, np.ndarray, np.ndarray, np.ndarray]],
    at: float,
    message: Any,
    measured: tuple[np.ndarray, np.ndarray],
    verdict: Verdict,
) -> None:
    """Judge a whole plan (trajectory_msgs/JointTrajectory) that left at `at`; `going` holds the one before and is
    replaced by it: when, times [N], positions [N, J], velocities [N, J].

    A receiver goes to the first point from where the plan before has led it by then, at last to its end, or from where
    it is measured; each joint for itself.
    """
    index = [list(message.joint_names).index(name) for name in robot.joint_names]
    times = np.array([p.time_from_start.sec + p.time_from_start.nanosec * 1e-9 for p in message.points])
    path = np.array([np.asarray(p.positions)[index] for p in message.points])
    speeds = np.array([np.asarray(p.velocities)[index] for p in message.points])
    verdict.messages += 1
    if not (np.isfinite(path).all() and np.isfinite(speeds).all() and (np.diff(times, prepend=0.0) > 0).all()):
        verdict.breach("a plan", 0, "numbers or times that cannot be followed", np.nan)
        return
    names = robot.joint_names
    joins = None
    if going:
        began, old_times, old_path, _ = going[0]
        joins = np.array([np.interp(at - began, old_times, column) for column in old_path.T])
    seen_at, seen = measured
    i = int(np.searchsorted(seen_at, at)) - 1
    start = seen[i] if i >= 0 and at - seen_at[i] < BACK_S and np.isfinite(seen[i]).all() else joins
    if joins is not None and start is not None:  # where it is told to be by now, unless it was kept from it
        start = np.where(np.abs(joins - path[0]) < np.abs(start - path[0]), joins, start)
    if start is not None:
        ways = np.abs(path[0] - start) / (robot.velocity * (times[0] + JOIN_S))
        verdict.speed = max(verdict.speed, float(ways.max()))
        if ways.max() > SLACK:
            j, kind = int(ways.argmax()), "velocity (times its limit) to a plan's first point"
            told = "" if joins is None else f", told to be at {joins[j]:.4f} for {at - going[0][0]:.3f} s"
            seen_then = f", measured {seen[i, j]:.4f} {at - seen_at[i]:.3f} s before" if i >= 0 else ""
            way = f"{start[j]:.4f} -> {path[0, j]:.4f} in {times[0]:.3f} s{told}{seen_then}"
            if going:
                before = zip(going[0][1][:3], going[0][2][:3, j])
                way += f"; the plan before: {', '.join(f'{p:.4f} at {t:.3f}' for t, p in before)}"
            verdict.breach(kind, 0, f"{names[j]} [{way}]", float(ways.max()))
    if len(path) > 1:
        steps = np.diff(times)[:, None]
        between = np.abs(np.diff(path, axis=0)) / steps / robot.velocity
        changes = np.abs(np.diff(speeds, axis=0)) / steps / robot.acceleration
        verdict.speed = max(verdict.speed, float(between.max()))
        verdict.acceleration = max(verdict.acceleration, float(changes.max()))
        for kind, values in (("velocity", between), ("acceleration", changes)):
            if values.max() > 1 + 1e-3:  # times are sent as whole nanoseconds
                _, j = np.unravel_index(int(values.argmax()), values.shape)
                verdict.breach(f"{kind} (times its limit) within a plan", 0, names[int(j)], float(values.max()))
    outside = np.maximum(robot.lower - path, path - robot.upper)
    beyond = 0.0 if start is None else float(np.maximum(robot.lower - start, start - robot.upper).max())
    if outside.max() > max(beyond, 0.0) + 1e-9:
        verdict.breach("position within a plan", 0, names[int(outside.max(axis=0).argmax())], float(outside.max()))
    lead = start if start is not None else path[0]
    going[:] = [(at, np.array([0.0, *times]), np.vstack([lead, path]), speeds)]
