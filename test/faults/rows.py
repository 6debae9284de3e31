"""What a row of the fault table is, and how one trial of it is judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from judge import Judge, Part, Verdict, hand_of, judge_plans, part_of
from parts import pose_of, speeds_of
from stage import Stage

from pi0_ros.robot import rotations

HOLDS, SOFTLY_S = 0.5, 0.5  # a hold brakes with half of what is allowed, and begins and ends softly
BRAKES = 0.2  # of what a base may slow down by: less is no brake
CLOCK_LATE_S = 0.03  # three messages of `/clock`
Inject = Callable[[Stage, int], "str | tuple[str, ...]"]  # injects and mends; returns words that must have been said


@dataclass(frozen=True)
class Row:
    """One kind of fault."""

    name: str
    stage: str  # which kind of stage it plays on
    inject: Inject  # given the stage and the trial's number; AssertionError says what was not as promised
    breaks_off: bool = False  # whether the controller can no longer brake


def rows_of(stage: str, injects: Mapping[str, Inject], breaks_off: bool = False) -> list[Row]:
    """Rows of one kind of stage."""
    return [Row(name, stage, inject, breaks_off) for name, inject in injects.items()]


@dataclass
class Trial:
    """What one injection led to."""

    messages: int = 0
    lost: int = 0  # commands, on the way to the witness
    speed: float = 0.0  # the worst, times the limit
    acceleration: float = 0.0
    breaches: list[str] = field(default_factory=list)
    rest_s: float | None = None  # from the injection to the first command at rest, where the fault was told
    reason: str = ""  # the first text that held the first word
    wrong: list[str] = field(default_factory=list)  # not as promised
    by_told_time: int | None = (
        None  # how many of a simulated robot's there are in the time that its controller was told
    )
    perhaps_late: int = 0  # commands that may have left late, as the controller says
    brake_s: float | None = None  # of a base, from its last brake's beginning to zero,
    brake_m: float | None = None  # and how far it was told to go meanwhile
    needed: list[str] = field(default_factory=list)  # what had to be done until it ran again
    resumed_s: float | None = None  # from the mend until it ran again

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


Taken = list[tuple[str, float, int, Any]]  # of the wire: kind, steady time, lost before it, message


class Stream:
    """What goes to another part of the robot than its arm, and what that says of itself: judged message by message."""

    def __init__(self, part: Part, told: str, seen: str) -> None:
        self.part, self.kinds, self._judge = part, (told, seen), Judge(part)

    def numbers(self, kind: str, message: Any) -> np.ndarray:
        """A message as the judge counts."""
        raise NotImplementedError

    def weigh(self, taken: Taken, began: float, found: Verdict, result: Trial) -> list[tuple[float, np.ndarray]]:
        """Judge what is new of it; what was told, and when."""
        told = []
        for kind, at, lost, message in sorted((i for i in taken if i[0] in self.kinds), key=lambda item: item[1]):
            row = self.numbers(kind, message)
            if kind == self.kinds[0]:
                self._judge.feed(np.array([at]), row[None], found, np.array([lost]))
                told.append((at, row))
            else:
                self._judge.measured(np.array([at]), row[None])
        return told


class Base(Stream):
    """Speeds."""

    def numbers(self, kind: str, message: Any) -> np.ndarray:
        """A Twist's, or an odometry's."""
        return speeds_of(message.twist if kind == "base" else message.twist.twist)

    def weigh(self, taken: Taken, began: float, found: Verdict, result: Trial) -> list[tuple[float, np.ndarray]]:
        """Also how the base was last brought to stand since the trial began."""
        told = [item for item in super().weigh(taken, began, found, result) if item[0] > began]
        speeds = np.array([row[0] for _, row in told])
        stands = np.flatnonzero((speeds[1:] == 0.0) & (speeds[:-1] > 0.0)) + 1
        if len(stands):
            z = s = int(stands[-1])
            period = 1.0 / self.part.control_rate_hz
            while s > 0 and speeds[s - 1] > speeds[s]:
                s -= 1
            least = BRAKES * self.part.velocity[0] * period  # what is slower is the policy's own
            s += int(np.argmax(-np.diff(speeds[s : z + 1]) > least))
            result.brake_s = round(told[z][0] - told[s][0], 3)
            longest = speeds[s] / (HOLDS * self.part.velocity[0]) + SOFTLY_S
            if (z - s) * period > longest:  # while it is suspended the base goes on as it does, and nobody can brake it
                took = f"{(z - s) * period:.2f} s from {speeds[s]:.2f} m/s to zero, not {longest:.2f}"
                result.wrong.append(f"the base took {took}")
            result.brake_m = round(float(speeds[s:z].sum()) * period, 4)
        return told


class Hand(Stream):
    """Places, and turns added up: each from the command before it."""

    def __init__(self, part: Part, told: str, seen: str) -> None:
        super().__init__(part, told, seen)
        self._turn, self._along = np.array([0.0, 0.0, 0.0, 1.0]), np.zeros(3)

    def numbers(self, kind: str, message: Any) -> np.ndarray:
        """A pose's."""
        place, turn = pose_of(message)
        if not abs(np.linalg.norm(turn) - 1.0) < 1e-6:  # what is measured may be anything, a command never
            return np.full(6, np.nan)
        along = self._along + rotations.between(self._turn, turn)
        if kind == "hand":
            self._turn, self._along = turn, along
        return np.concatenate([place, along])


@dataclass
class Referee:
    """Judges one stage's wire from its first command to its last: what happens between two trials counts too."""

    stage: Stage
    ended_running: bool = False  # the trial before: it was seen to run on
    judged: Judge = field(init=False)
    judged_by_told_time: Judge = field(init=False)
    plans: list[tuple[float, np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)  # of what is no arm

    def __post_init__(self) -> None:
        late_s = CLOCK_LATE_S if self.stage.kind == "clock" else 0.0
        arm = part_of(self.stage.robot, self.stage.body.names)
        self.judged = Judge(arm, self.stage.points == "trajectory", late_s)
        self.judged_by_told_time = Judge(arm, self.stage.points == "trajectory")
        if self.stage.kind == "mobile":
            base = part_of(self.stage.robot, self.stage.robot.joint_names[3:5])
            self.streams = [Base(base, "base", "odometry"), Hand(hand_of(self.stage.robot), "hand", "hand_state")]

    def trial(self, row: Row, number: int) -> Trial:
        """One injection, from a robot that follows chunks to one that does again."""
        stage, result = self.stage, Trial()
        if not (self.ended_running and stage.state() == "RUNNING") and not stage.runs():
            result.wrong.append(f"it did not run before: {stage.text()[:200]}")
            return result
        stage.done.clear()
        late_before = stage.wire.perhaps_late
        began = stage.began = time.monotonic()
        said: tuple[str, ...] = ()
        try:
            words = row.inject(stage, number)
            said = (words,) if isinstance(words, str) else words
        except AssertionError as error:
            result.wrong.append(str(error))
        began, mended = stage.began, time.monotonic()
        stage.body.mend()
        stage.lie("")
        for word in said:
            if word and not stage.told(word):
                result.wrong.append(f"no word of {word!r}; the last: {stage.text()[:160]}")
        self.ended_running = stage.runs()
        if self.ended_running:
            result.resumed_s = round(time.monotonic() - mended - 0.6, 2)  # as long as `runs` looks on
        else:
            result.wrong.append(f"it did not run again: {stage.text()[:200]}")
        result.needed = sorted(stage.done)
        if said and said[0]:
            texts = (text for at, _, _, text in stage.wire.texts if at > began)
            result.reason = next((text for text in texts if said[0] in text), "").split(";")[0][:110]
        self.weigh(began, row, result)
        result.perhaps_late = stage.wire.perhaps_late - late_before
        stage.wire.texts = stage.wire.texts[-20:]
        return result

    def weigh(self, began: float, row: Row, result: Trial) -> None:
        """Judge all that came over the wire since the last time."""
        stage = self.stage
        planned = stage.points == "trajectory"
        taken = stage.wire.take(time.monotonic() - 0.2)
        sent = [(at, n, m) for kind, at, n, m in taken if kind == ("sent" if planned else "command") and m.points]
        states = [(at, m) for kind, at, _, m in taken if kind == "state"]
        times, lost = np.array([at for at, _, _ in sent]), np.array([n for _, n, _ in sent], int)
        positions = np.array([self._row(m.joint_names, m.points[0].positions) for _, _, m in sent]).reshape(
            len(times), len(stage.body.names)
        )
        seen_at = np.array([at for at, _ in states])
        seen = np.array([self._row(m.name, m.position) for _, m in states]).reshape(len(states), positions.shape[1])
        lived = stage.body.clock_of_simulation
        found = Verdict()
        self.judged.measured(seen_at if lived is None else lived.lived(seen_at), seen)
        self.judged.feed(times if lived is None else lived.lived(times), positions, found, lost)
        if lived is not None:
            result.by_told_time = self._by_told_time(taken)
        for stream in self.streams:
            stream.weigh(taken, began, found, result)
        if planned:
            for at, message in ((at, m) for kind, at, _, m in taken if kind == "command" and m.points):
                judge_plans(self.stage.robot, self.plans, at, message, (seen_at, seen), found)
        stood_still = any("stood still" in text for at, _, _, text in stage.wire.texts if at > began - 5.0)
        if found.broken_off and not row.breaks_off and not stood_still:
            found.breaches += [f"no command any more at {of:.2f} of the velocity limit" for _, of in found.broken_off]
        result.messages, result.lost, result.breaches = found.messages, found.lost, found.breaches
        result.speed, result.acceleration = round(found.speed, 4), round(found.acceleration, 4)
        if not len(times) and not self.judged.started:
            result.wrong.append("the witness saw no command")
        if result.reason and len(times) > 1:
            still = np.abs(np.diff(positions, axis=0)).max(axis=1) <= 1e-9
            after = np.flatnonzero(still & (times[1:] > began))
            paused = np.flatnonzero((np.diff(times) > self.judged.few) & (times[1:] > began))
            ends = [times[1:][after[0]]] if len(after) else []
            ends += [times[:-1][paused[0]]] if len(paused) else []
            ends += [] if ends or times[-1] < began else [times[-1]]
            result.rest_s = round(max(0.0, float(min(ends)) - began), 3) if ends else None

    def _by_told_time(self, taken: list[tuple[str, float, int, Any]]) -> int | None:
        """How many breaches there are where the stamps of commands and joint states are the time: a controller that
        hears `/clock` late knows of no other."""
        seconds = lambda message: message.header.stamp.sec + message.header.stamp.nanosec * 1e-9  # noqa: E731
        records = [(n, m) for kind, _, n, m in taken if kind == "sent" and m.points]
        sent = [(seconds(m), n, self._row(m.joint_names, m.points[0].positions)) for n, m in records]
        states = sorted((seconds(m), self._row(m.name, m.position)) for k, _, _, m in taken if k == "state")
        found, joints = Verdict(), len(self.stage.body.names)
        seen = np.array([position for _, position in states]).reshape(-1, joints)
        self.judged_by_told_time.measured(np.array([at for at, _ in states]), seen)
        commands = np.array([position for _, _, position in sent]).reshape(-1, joints)
        lost = np.array([n for _, n, _ in sent], int)
        times = np.array([at for at, _, _ in sent])
        self.judged_by_told_time.feed(times, commands, found, lost)
        return None if (np.diff(times) < 0.0).any() else len(found.breaches)  # time that goes back judges nothing

    def _row(self, names: object, values: object) -> list[float]:
        found = dict(zip(list(names), list(values)))  # type: ignore[call-overload]
        return [float(found.get(name, np.nan)) for name in self.stage.body.names]
