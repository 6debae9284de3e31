"""From finished trials to numbers: success with Wilson's interval, by task and suite, beside published figures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pi0_ros.benchmark.journal import Line
from pi0_ros.benchmark.rules import SUITES, USUAL, Rules

Z = 1.959963984540054  # of 95 %
ALL = "all four"


@dataclass(frozen=True)
class Published:
    """Success of a published policy, %; `all four` is the average."""

    who: str
    percent: Mapping[str, float]


PUBLISHED = (
    Published("openpi's pi05_libero", dict(zip((*USUAL, ALL), (98.8, 98.2, 98.0, 92.4, 96.85)))),
    Published("LeRobot's pi05_libero_finetuned", dict(zip((*USUAL, ALL), (97.0, 99.0, 98.0, 96.0, 97.5)))),
)


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a success rate, 0 .. 1."""
    if trials == 0:
        return 0.0, 1.0
    rate, z2 = successes / trials, Z * Z
    middle = (rate + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z / (1 + z2 / trials) * math.sqrt(rate * (1 - rate) / trials + z2 / (4 * trials**2))
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True)
class Score:
    """Of some trials: how many succeeded, after how many actions, and how many ended by an error."""

    trials: int
    successes: int
    errors: int
    steps: float | None  # mean, of those that succeeded

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's, 95 %."""
        return wilson(self.successes, self.trials)

    @property
    def percent(self) -> float:
        """Success, %."""
        return 100.0 * self.successes / self.trials

    def cells(self) -> tuple[str, ...]:
        """Trials, success, interval, steps, errors as text."""
        low, high = self.interval
        return (
            f"{self.successes} of {self.trials}",
            f"{self.percent:.1f} %",
            f"{100 * low:.1f} .. {100 * high:.1f} %",
            "" if self.steps is None else f"{self.steps:.0f}",
            str(self.errors or ""),
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON: rates from 0 to 1."""
        return {
            "trials": self.trials,
            "successes": self.successes,
            "success": self.successes / self.trials,
            "wilson_95": [round(bound, 6) for bound in self.interval],
            "errors": self.errors,
            "mean_steps_of_successes": self.steps,
        }


def score(lines: Iterable[Line]) -> Score:
    """The score of these trials."""
    lines = list(lines)
    steps = [line.steps for line in lines if line.success]
    errors = sum(bool(line.error) for line in lines)
    return Score(len(lines), len(steps), errors, sum(steps) / len(steps) if steps else None)


@dataclass(frozen=True)
class Scores:
    """All that was played, by suite and task; only where there are trials."""

    tasks: Mapping[tuple[str, int], Score]
    suites: Mapping[str, Score]
    total: Score
    first_errors: Sequence[Line]  # one of each message, in the order of the tasks

    @classmethod
    def of(cls, lines: Iterable[Line]) -> Scores:
        """Of finished trials, in any order."""
        lines = sorted(lines, key=lambda line: (list(SUITES).index(line.suite), line.task, line.trial))
        by_task: dict[tuple[str, int], list[Line]] = {}
        by_suite: dict[str, list[Line]] = {}
        messages: dict[str, Line] = {}
        for line in lines:
            by_task.setdefault((line.suite, line.task), []).append(line)
            by_suite.setdefault(line.suite, []).append(line)
            if line.error:
                messages.setdefault(line.error, line)
        return cls(
            {key: score(some) for key, some in by_task.items()},
            {key: score(some) for key, some in by_suite.items()},
            score(lines),
            list(messages.values()),
        )

    def rows(self, instructions: Mapping[tuple[str, int], str]) -> list[tuple[str, ...]]:
        """A table, head first: each task, each suite, all."""
        rows: list[tuple[str, ...]] = [
            ("suite", "task", "instruction", "success", "", "95 % interval", "steps", "errors")
        ]
        for suite, whole in self.suites.items():
            tasks = {task: found for (name, task), found in self.tasks.items() if name == suite}
            of = SUITES[suite].tasks
            for task, found in tasks.items():
                rows.append((suite, str(task), _short(instructions.get((suite, task), "")), *found.cells()))
            rows.append((suite, "all" if len(tasks) == of else f"{len(tasks)} of {of}", "", *whole.cells()))
        if len(self.suites) > 1:
            rows.append(("all", "", "", *self.total.cells()))
        return rows

    def comparisons(self, rules: Rules) -> Iterator[str]:
        """One sentence for each suite with published figures, and for the four together."""
        for suite, found in self.suites.items():
            if suite not in USUAL:
                continue
            tasks, of = sum(name == suite for name, _ in self.tasks), SUITES[suite].tasks
            yield _compared(suite, found) + _unlike(tasks, of, "tasks")
        four = [self.suites[suite] for suite in USUAL if suite in self.suites]
        if len(four) == len(USUAL):
            trials, successes = sum(one.trials for one in four), sum(one.successes for one in four)
            together = Score(trials, successes, sum(one.errors for one in four), None)
            tasks = sum(name in USUAL for name, _ in self.tasks)
            unlike = _unlike(tasks, sum(SUITES[suite].tasks for suite in USUAL), "tasks")
            if not unlike and len({one.trials for one in four}) > 1:
                unlike = " The suites have unlike numbers of trials, the published average weighs them alike."
            yield _compared(ALL, together) + unlike
        elif four:
            yield f"The published averages of the four suites ({', '.join(USUAL)}) need all four."
        if rules != Rules():
            yield (
                f"These are not openpi's settings (--replan {Rules.replan}, --seed {Rules.seed}), but --replan "
                f"{rules.replan}, --seed {rules.seed}."
            )

    def to_dict(self, instructions: Mapping[tuple[str, int], str], rules: Rules) -> dict[str, Any]:
        """For JSON."""
        suites = {}
        for suite, whole in self.suites.items():
            tasks = [
                {"task": task, "instruction": instructions.get((name, task), ""), **found.to_dict()}
                for (name, task), found in self.tasks.items()
                if name == suite
            ]
            published = {one.who: one.percent[suite] for one in PUBLISHED if suite in one.percent}
            suites[suite] = {**whole.to_dict(), "published_percent": published, "tasks": tasks}
        errors = [{"suite": e.suite, "task": e.task, "trial": e.trial, "error": e.error} for e in self.first_errors]
        return {
            "suites": suites,
            "all": self.total.to_dict(),
            "errors": errors,
            "comparisons": list(self.comparisons(rules)),
        }


def _compared(name: str, found: Score) -> str:
    """Where the published figures lie."""
    low, high = (100 * bound for bound in found.interval)
    told = []
    for one in PUBLISHED:
        percent = one.percent[name]
        where = "lies above it" if percent > high else "lies below it" if percent < low else "lies within"
        told.append(f"{one.who} ({percent:g} %) {where}")
    return f"{name}: {found.percent:.1f} % (95 % interval {low:.1f} .. {high:.1f} %); {'; '.join(told)}."


def _unlike(done: int, of: int, what: str) -> str:
    return (
        f" Only {done} of {of} {what} were played, so the published figures are of other trials." if done < of else ""
    )


def _short(text: str, most: int = 44) -> str:
    return text if len(text) <= most else text[: most - 3].rstrip() + "..."
