"""Rates, intervals, and the sentences beside published figures."""

from __future__ import annotations

import json
import math

import pytest

from pi0_ros.benchmark.journal import Line
from pi0_ros.benchmark.rules import SUITES, USUAL, Rules
from pi0_ros.benchmark.score import Scores, wilson


@pytest.mark.parametrize(
    ("successes", "trials", "expected"),
    [
        (81, 263, (0.2553, 0.3662)),  # Newcombe 1998, table I, method 3
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
        (20, 20, (0.8389, 1.0)),
        (0, 0, (0.0, 1.0)),
    ],
)
def test_wilsons_interval(successes: int, trials: int, expected: tuple[float, float]) -> None:
    assert wilson(successes, trials) == pytest.approx(expected, abs=6e-5)


@pytest.mark.parametrize("trials", [1, 7, 500])
def test_its_bounds_solve_wilsons_equation(trials: int) -> None:
    """A bound p is as far from the rate as 1.96 standard errors at p."""
    for successes in {0, 1, trials // 2, trials}:
        for p in wilson(successes, trials):
            distance, error = abs(successes / trials - p), math.sqrt(p * (1 - p) / trials)
            assert distance == pytest.approx(1.959964 * error, abs=1e-6)


def lines(won: dict[str, int], trials: int = 50, tasks: int = 10) -> list[Line]:
    """Of each suite so many successes; the last ones fail."""
    found = []
    for suite, wins in won.items():
        for number in range(tasks * trials):
            success = number < wins
            found.append(Line(suite, number // trials, number % trials, success, 100 if success else 220, "", 1.0))
    return found


def said(found: list[Line], replan: int = 5) -> list[str]:
    return list(Scores.of(found).comparisons(Rules(replan=replan)))


def test_published_figures_within_above_and_below() -> None:
    (sentence, note) = said(lines({"libero_spatial": 485}))
    assert sentence == (
        "libero_spatial: 97.0 % (95 % interval 95.1 .. 98.2 %); openpi's pi05_libero (98.8 %) lies above it; "
        "LeRobot's pi05_libero_finetuned (97 %) lies within."
    )
    suites = "libero_spatial, libero_object, libero_goal, libero_10"
    assert note == f"The published averages of the four suites ({suites}) need all four."
    assert "lies below it" in said(lines({"libero_10": 490}))[0]


def test_the_average_needs_all_four_suites_whole() -> None:
    won = dict(zip(USUAL, (494, 492, 490, 462)))
    *_, average = said(lines(won))
    assert average.startswith(
        "all four: 96.9 % (95 % interval 96.0 .. 97.6 %); openpi's pi05_libero (96.85 %) lies within"
    )
    assert not average.endswith("other trials.")
    partly = said(lines(won, trials=100, tasks=5))
    assert partly[0].endswith("Only 5 of 10 tasks were played, so the published figures are of other trials.")
    assert "Only 20 of 40 tasks" in partly[-1]
    unlike = [line for line in lines(won) if line.suite != "libero_10" or line.trial < 10]
    assert "unlike numbers of trials" in said(unlike)[-1]


def test_libero_90_has_no_published_figure() -> None:
    assert said(lines({"libero_90": 30}, trials=1, tasks=90)) == []


def test_other_settings_are_told() -> None:
    assert (
        "not openpi's settings (--replan 5, --seed 7), but --replan 10, --seed 7"
        in said(lines({"libero_goal": 3}), replan=10)[-1]
    )


def test_the_table_and_its_json() -> None:
    played = [
        Line("libero_goal", 3, 0, True, 90, "", 1.0),
        Line("libero_goal", 3, 1, False, 12, "RuntimeError: unstable", 1.0),
        Line("libero_goal", 0, 0, True, 110, "", 1.0),
        Line("libero_object", 1, 0, False, 280, "", 1.0),
    ]
    words = {("libero_goal", 0): "open the middle drawer", ("libero_goal", 3): "put it " * 20}
    scores = Scores.of(reversed(played))
    head, *rows = scores.rows(words)
    assert [row[:2] for row in rows] == [
        ("libero_object", "1"), ("libero_object", "1 of 10"),
        ("libero_goal", "0"), ("libero_goal", "3"), ("libero_goal", "2 of 10"), ("all", ""),
    ]  # fmt: skip
    assert rows[3][3:] == ("1 of 2", "50.0 %", "9.5 .. 90.5 %", "90", "1")
    assert len(rows[3][2]) <= 44 and len(head) == len(rows[0])
    content = json.loads(json.dumps(scores.to_dict(words, Rules())))
    goal = content["suites"]["libero_goal"]
    assert (goal["successes"], goal["trials"], goal["errors"], goal["mean_steps_of_successes"]) == (2, 3, 1, 100.0)
    assert goal["published_percent"]["openpi's pi05_libero"] == 98.0
    assert content["errors"] == [{"suite": "libero_goal", "task": 3, "trial": 1, "error": "RuntimeError: unstable"}]
    assert content["all"]["trials"] == 4


def test_the_four_suites_are_among_those_that_are_known() -> None:
    """openpi's client: so many steps, and so many tasks, as LIBERO has."""
    assert {name: suite.max_steps for name, suite in SUITES.items()} == {
        "libero_spatial": 220, "libero_object": 280, "libero_goal": 300, "libero_10": 520, "libero_90": 400,
    }  # fmt: skip
    assert set(USUAL) == SUITES.keys() - {"libero_90"}
