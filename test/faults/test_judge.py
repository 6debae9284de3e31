"""The judge of the fault suite sees what it must see: faults planted in a recorded stream of commands."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from arms import PERIOD, Bench, path_chunk
from judge import Judge, Part, Verdict, judge

from pi0_ros.robot import Robot, load_robot

DEMO = load_robot("demo_arm")
LIMITS = Bench().limits
ROBOT: Robot = replace(
    DEMO,
    control_rate_hz=1.0 / PERIOD,
    joints=tuple(
        replace(joint, name=name, lower=lower, upper=upper, velocity=velocity, acceleration=acceleration)
        for joint, name, lower, upper, velocity, acceleration in zip(
            (*DEMO.joints[:2], DEMO.joints[-1]),
            LIMITS.names,
            LIMITS.lower.tolist(),
            LIMITS.upper.tolist(),
            LIMITS.velocity.tolist(),
            LIMITS.acceleration.tolist(),
        )
    ),
)


@dataclass
class Record:
    """What went over the wire: times [n] s, commands [n, J], and what was measured at [m] times [m, J]."""

    times: np.ndarray
    commands: np.ndarray
    seen_at: np.ndarray
    seen: np.ndarray

    def judged(self, lost: np.ndarray | None = None) -> Verdict:
        return judge(ROBOT, self.times, self.commands, (self.seen_at, self.seen), lost)


def record(stall_s: float = 0.0, moved: float = 0.0, jitter_s: float = 0.0) -> Record:
    """An arm swings, stands still for `stall_s` while it is moved by `moved`, goes on, and ends at rest.

    Ticks come up to `jitter_s` late.
    """
    bench, times, seen = Bench(), [], []
    random = np.random.default_rng(0)
    bench.arm()
    for part in range(2):
        for tick in range(100):
            if tick % 20 == 0:
                bench.controller.accept(path_chunk(bench.now - 0.1), bench.now)
            bench.step()
            if bench.sent[-1] is not None:
                times.append(bench.steady + random.uniform(0.0, jitter_s))
            seen.append((bench.steady - 0.002, bench.measured.copy()))
        if part == 0 and stall_s:
            bench.stall(stall_s)
            bench.measured = bench.measured - [moved, 0.0, 0.0]
    bench.controller.disarm("test")
    while bench.step() or bench.sent[-1] is not None:
        times += [bench.steady] if bench.sent[-1] is not None else []
    commands = np.array([command.position for command in bench.sent if command is not None])[-len(times) :]
    return Record(np.array(times), commands, np.array([t for t, _ in seen]), np.array([p for _, p in seen]))


def in_motion(whole: Record) -> int:
    """A place where the first joint goes at a fair speed and nothing else happens."""
    speed = np.abs(np.gradient(whole.commands[:, 0]))
    return int(np.argmax(speed[40:90])) + 40


@pytest.mark.parametrize("stall_s", [0.0, 0.3])
@pytest.mark.parametrize("jitter_s", [0.0, 0.015])
@pytest.mark.parametrize("moved", [0.0, 0.8])
def test_what_the_controller_does_is_within_the_limits(stall_s: float, jitter_s: float, moved: float) -> None:
    verdict = record(stall_s, moved if stall_s else 0.0, jitter_s).judged()
    assert verdict.messages > 150 and not verdict.breaches and len(verdict.broken_off) == (stall_s > 0)
    assert 0.2 < verdict.speed <= 1.0 + 1e-6 and 0.2 < verdict.acceleration <= 1.0 + 1e-6


def test_a_velocity_that_is_kept_over_a_stall_is_seen() -> None:
    whole = record(jitter_s=0.005)
    place = in_motion(whole)
    for pause in (0.15, 0.3, 2.0):
        whole.times[place:] += pause
        whole.seen_at[whole.seen_at > whole.times[place - 1]] += pause
        (breach,) = whole.judged().breaches[:1]
        assert breach.startswith("acceleration (times its limit) of yaw")


def test_a_start_from_where_the_robot_was_before_the_stall_is_seen() -> None:
    whole = record(0.3, moved=0.8)
    place = int(np.argmax(np.diff(whole.times))) + 1
    assert abs(whole.commands[place, 0] - whole.commands[place - 1, 0]) > 0.7, "it began where the robot was led to"
    whole.commands[place:, 0] += whole.commands[place - 1, 0] - whole.commands[place, 0] + 0.4
    assert any("velocity" in breach for breach in whole.judged().breaches)


@pytest.mark.parametrize("times", [1.5, 1.1, 1.01])
def test_one_command_beyond_the_acceleration_limit_is_seen(times: float) -> None:
    whole = record(jitter_s=0.015)
    steps = np.diff(whole.commands, axis=0) / PERIOD
    i = in_motion(whole)
    most = LIMITS.acceleration[0] * PERIOD * times
    whole.commands[i + 1 :, 0] += (steps[i - 1, 0] + most - steps[i, 0]) * PERIOD
    found = whole.judged()
    assert found.breaches and found.acceleration >= times * (1 - 1e-6)


@pytest.mark.parametrize("by", [0.05, -0.05, 0.01])
@pytest.mark.parametrize("joint", [0, 1])
def test_a_jump_is_seen(by: float, joint: int) -> None:
    for lasts in (1, 10_000):  # one command, or from then on
        whole = record(jitter_s=0.015)
        i = in_motion(whole)
        whole.commands[i : i + lasts, joint] += by
        assert whole.judged().breaches


def test_a_jump_behind_ticks_that_were_late_is_seen() -> None:
    whole = record()
    i = in_motion(whole)
    for pause in (0.025, 0.045, 0.07):
        late = replace_times(whole, i, pause)
        assert not late.judged().breaches, "late by itself is no breach"
        late.commands[i:, 0] += 0.05
        assert late.judged().breaches


def replace_times(whole: Record, place: int, pause: float) -> Record:
    times = whole.times.copy()
    times[place:] += pause - PERIOD
    return Record(times, whole.commands.copy(), whole.seen_at, whole.seen)


def test_a_stop_without_braking_is_seen() -> None:
    whole = record()
    i = in_motion(whole)
    for kept in (slice(0, i), slice(0, i + 1)):
        stopped = Record(whole.times[kept], whole.commands[kept].copy(), whole.seen_at, whole.seen)
        stopped.commands = np.vstack([stopped.commands, stopped.commands[-1:]])
        stopped.times = np.append(stopped.times, stopped.times[-1] + PERIOD)
        assert any("acceleration" in breach for breach in stopped.judged().breaches)
    assert whole.judged().broken_off == []
    gone = replace_times(whole, i, 1.0)
    assert gone.judged().broken_off


def test_a_position_beyond_the_limits_and_no_number_are_seen() -> None:
    for value in (2.0001, -2.0001, np.nan, np.inf):
        whole = record()
        whole.commands[in_motion(whole), 0] = value
        assert whole.judged().breaches
    outside = record()
    slow = outside.commands.copy()
    slow[:] = [1.99, 0.0, 0.0]
    slow[:, 0] += np.clip(np.arange(len(slow)) * 1e-4, 0, 0.02)
    outside.commands = slow
    assert any("position" in breach for breach in outside.judged().breaches)


def test_every_command_may_be_the_one() -> None:
    """A fault at any place of the stream, the first and the last among them."""
    whole = record(0.3, jitter_s=0.01)
    for i in [*range(0, len(whole.commands), 5), len(whole.commands) - 1]:
        planted = Record(whole.times, whole.commands.copy(), whole.seen_at, whole.seen)
        planted.commands[i:, 0] += 0.05
        assert planted.judged().breaches, i


@pytest.mark.parametrize("most", [1, 4, 15])
def test_commands_that_were_lost_are_no_breach_and_hide_no_jump(most: int) -> None:
    """The sender counts its messages: what is seen behind those that were lost must be reachable in as many periods."""
    whole, random = record(0.3, jitter_s=0.005), np.random.default_rng(0)
    for _ in range(10):
        kept = [0]
        while kept[-1] < len(whole.times) - 1:
            kept.append(min(kept[-1] + 1 + int(random.integers(0, most + 1)), len(whole.times) - 1))
        lost = np.diff(kept, prepend=-1) - 1
        thin = Record(whole.times[kept], whole.commands[kept].copy(), whole.seen_at, whole.seen)
        assert thin.judged(lost).breaches == [] and thin.judged(lost).lost == lost.sum() > 0
        if most > 1:
            assert thin.judged().breaches, "without their number it looks like jumps"
        place = int(np.searchsorted(kept, in_motion(whole)))
        reach = LIMITS.velocity[0] * PERIOD * (lost[place] + 1)
        thin.commands[place:, 0] += 2.1 * reach
        assert thin.judged(lost).breaches


BASE = Part(("forward",), np.array([-0.3]), np.array([0.6]), np.array([0.6]), np.array([6.0]), 50.0, np.ones(1, bool))
HAND = Part(
    tuple("xyzabc"),
    np.array([-1.0] * 3 + [-np.inf] * 3),
    np.array([1.0] * 3 + [np.inf] * 3),
    np.array([0.5] * 3 + [1.5] * 3),
    np.array([2.0] * 3 + [6.0] * 3),
    50.0,
    np.zeros(6, bool),
    (slice(0, 3), slice(3, 6)),
)


def part(which: Part, path: np.ndarray, pause: tuple[int, float] = (0, 0.0)) -> Verdict:
    """Judge a path [n, J] at 50 Hz, with a pause (s) before one command."""
    verdict, times = Verdict(), 0.02 * np.arange(len(path))
    times[pause[0] :] += pause[1]
    Judge(which).feed(times, path, verdict)
    return verdict


def speeds(top: float = 0.5, brake: float = 0.3) -> np.ndarray:
    """A base that speeds up, drives and brakes, m/s [n, 1]; its acceleration fades in and out."""
    up, down = round(top / 0.3 * 50), round(top / brake * 50)
    change = np.concatenate([np.full(up, 0.3), np.zeros(50), np.full(down, -brake)])
    soft = np.convolve(change, np.full(10, 0.1), "full")
    return np.append(np.cumsum(soft) * 0.02, [0.0, 0.0])[:, None]


def test_a_base_is_judged_by_its_speeds() -> None:
    good = part(BASE, speeds())
    assert not good.breaches and not good.broken_off and 0.4 < good.speed <= 1.0
    assert part(BASE, speeds(top=0.7)).breaches, "too fast"
    assert part(BASE, speeds(brake=0.9)).breaches, "brakes harder than it may"
    jump = speeds()
    jump[100:] = 0.0
    assert part(BASE, jump).breaches, "zero at once"
    silent = part(BASE, speeds()[:110], (100, 0.5))
    assert [share > 0.5 for _, share in silent.broken_off] == [True], "no command while it drives on"


def test_a_hand_is_judged_by_lengths_of_velocity_and_change() -> None:
    t, rise = 0.02 * np.arange(150)[:, None], 0.02 * np.cumsum(np.minimum(np.arange(150) / 60.0, 1.0))[:, None]
    along = np.array([[1.0, 1.0, 1.0]]) / np.sqrt(3.0)
    moves = lambda v, w: np.hstack([-0.5 + v * rise * along, w * rise * along])  # noqa: E731
    assert not part(HAND, moves(0.49, 1.49)).breaches
    for v, w in ((0.6, 0.0), (0.0, 1.8)):  # each axis alone would be slow enough
        breaches = part(HAND, moves(v, w)).breaches
        assert breaches and v * along.max() < 0.5 and w * along.max() < 1.5
    sudden = np.hstack([0.3 * t * along, 0.0 * t * along])
    sudden[75:] = sudden[75]
    assert part(HAND, sudden).breaches
