"""Stamps of one topic: whether there are any, whether they move, and whether they move as time does."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pi0_ros.base.findings import Finding, error, warning
from pi0_ros.doctor.heard import Heard

ANOTHER_CLOCK_S = 1e6  # apart, one of two clocks is not the wall's
UNEVEN, UNEVEN_S = 4.0, 0.02  # times as much as messages' arrivals, and s: what stamps' steps vary by
FEW = 10  # messages below which nothing is said of how stamps move
BACK_S = 0.1  # a stamp may be older than the one before by so much: two threads send
STANDS_S, STEP_S = 0.5, 1e-6  # messages come for so long, and no stamp is further than this from the one before
DRIFT, LEAST_S = 0.1, 1.5  # s that stamps lose or win in a second, seen over this time
STEADY = 0.1  # of what they lost in all, the most that one message lies beside a straight line


def check_stamps(heard: Heard, partial: bool = False) -> Iterator[Finding]:
    """What is wrong with the stamps of one topic, at most one finding: the first explains the others.

    `partial`: its messages say some joints each, so that several drivers may stamp them.
    """
    if not heard.ages or abs(heard.age_s) > ANOTHER_CLOCK_S:
        return
    received, ages = np.array(heard.received), np.array(heard.ages)
    stamps = received - ages
    steps = np.diff(stamps)
    if len(stamps) < FEW:
        return
    if _stands_s(received, steps) > STANDS_S and not partial:
        what = f"{heard.topic}: its stamps stand still, though messages come"
        yield error("clock", what, "its driver stamps once and not each message: mend it, or `stamp: arrival`")
    elif (back := steps < -BACK_S).any() and not partial:
        far = -float(steps.min())
        what = f"{heard.topic}: its stamps leap back, {int(back.sum())} times in {len(stamps)}, by up to {far:.2f} s"
        yield error("clock", what, "two clocks, a clock that was set, or two publishers: let one clock stamp all")
    elif (lost := _drift(received, ages)) is not None:
        way = "fall behind" if lost > 0 else "run ahead"
        what = f"{heard.topic}: its stamps {way} by {abs(lost):.2f} s each second"
        yield error(
            "clock", what, "a clock that is being set (`chronyc tracking`), or a queue that fills up: lower its rate"
        )
    elif (varies := _uneven(np.diff(received), steps)) > 0.0 and not partial:
        what = f"{heard.topic}: its stamps are uneven (by {varies * 1e3:.0f} ms) though messages come evenly"
        yield warning("clock", what, "its driver does not stamp at capture: let it, or `stamp: arrival`")


def unstamped(topics: list[Heard]) -> Iterator[Finding]:
    """One line for all topics whose messages have no stamp though the robot file counts on it."""
    without = [heard for heard in topics if 2 * heard.unstamped > len(heard.arrivals) and not heard.command]
    if without:
        names = ", ".join(heard.topic for heard in without)
        what = f"no stamp (all zero) in the messages of {names}: the time of arrival is taken, which may be late"
        todo = "let the driver stamp at capture, or write `stamp: arrival` (and `latency_s`) in the robot file"
        yield warning("clock", what, todo)
    for heard in topics:
        if heard not in without and heard.unstamped and not heard.command:
            what = f"{heard.topic}: {heard.unstamped} of {len(heard.arrivals)} messages have no stamp (zero)"
            yield warning("clock", what, "two publishers, or a driver that stamps at times only: let it stamp each")


def _stands_s(received: np.ndarray, steps: np.ndarray) -> float:
    """The longest time (s) in which all messages have one stamp."""
    moves = np.flatnonzero(np.abs(steps) > STEP_S)
    begins, ends = np.concatenate([[0], moves + 1]), np.concatenate([moves, [len(steps)]])
    return float((received[ends] - received[begins]).max())


def _uneven(arrivals: np.ndarray, steps: np.ndarray) -> float:
    """By how much (s) the steps of stamps vary, where arrivals do not and it is more than a period; else 0."""
    varies = float(np.std(steps))
    least = max(UNEVEN * float(np.std(arrivals)), UNEVEN_S, float(np.median(arrivals)))
    return varies if varies > least else 0.0


def _drift(received: np.ndarray, ages: np.ndarray) -> float | None:
    """By how much ages grow in a second, where they do so steadily."""
    times = received - received[0]
    if times[-1] < LEAST_S:
        return None
    slope, begin = np.polyfit(times, ages, 1)
    beside = float(np.abs(ages - begin - slope * times).max())
    steady = abs(slope) > DRIFT and beside < STEADY * abs(slope) * times[-1]
    return float(slope) if steady else None
