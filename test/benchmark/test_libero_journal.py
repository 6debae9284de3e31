"""What lies in a benchmark's folder: nothing is lost, nothing is mixed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pi0_ros.base.errors import InputError
from pi0_ros.benchmark.benchmark import Plan, left_of, seconds_left
from pi0_ros.benchmark.journal import Journal, JournalError, Line, glance, held, identity
from pi0_ros.benchmark.trials import Key

SETTINGS = {"seed": 7, "policy": "abc"}


def line(trial: int, success: bool = True, error: str = "") -> Line:
    return Line("libero_goal", 2, trial, success, 40, error, 1.5)


def test_trials_are_there_again(tmp_path: Path) -> None:
    with held(tmp_path / "out", SETTINGS) as journal:
        journal.add(line(0))
        journal.add(line(1, False, "RuntimeError: unstable"))
    with held(tmp_path / "out", SETTINGS) as journal:
        assert list(journal.lines.values()) == [line(0), line(1, False, "RuntimeError: unstable")]
        journal.add(line(1))  # played again
    assert glance(tmp_path / "out", SETTINGS).lines[Key("libero_goal", 2, 1)] == line(1)


def test_half_a_line_of_a_killed_process_is_cut_off(tmp_path: Path) -> None:
    with held(tmp_path, SETTINGS) as journal:
        journal.add(line(0))
        journal.add(line(1))
    trials = tmp_path / "trials.jsonl"
    whole = trials.read_bytes()
    trials.write_bytes(whole[:-9])
    with held(tmp_path, SETTINGS) as journal:
        assert list(journal.lines.values()) == [line(0)]
        journal.add(line(1))
    assert trials.read_bytes() == whole


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "[1]",
        "{}",
        json.dumps({**vars(line(0)), "success": "yes"}),
        json.dumps({**vars(line(0)), "suite": "libero_moon"}),
        json.dumps({**vars(line(0)), "trial": True}),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, text: str) -> None:
    with held(tmp_path, SETTINGS) as journal:
        journal.add(line(0))
    (tmp_path / "trials.jsonl").write_text(json.dumps(vars(line(0))) + f"\n{text}\n")
    with pytest.raises(JournalError, match=r"trials.jsonl:2: is no line of a finished trial"):
        glance(tmp_path, SETTINGS)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"seed": 8, "policy": "abc"}, "seed is 8 now and was 7"),
        ({"seed": 7, "policy": "xyz"}, "policy is 'xyz' now and was 'abc'"),
        ({"seed": 7}, "policy is None now and was 'abc'"),
        ({"seed": 7, "policy": "abc", "num_steps": 4}, "num_steps is 4 now and was None"),
    ],
)
def test_other_settings_are_refused(tmp_path: Path, other: dict[str, object], says: str) -> None:
    with held(tmp_path, SETTINGS) as journal:
        journal.add(line(0))
    for look in (lambda: glance(tmp_path, other), lambda: held(tmp_path, other).__enter__()):
        with pytest.raises(JournalError, match=f"must not be mixed.*{says}.*Give another --out"):
            look()


def test_trials_without_settings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "trials.jsonl").write_text("")
    with pytest.raises(JournalError, match="no settings.json"):
        glance(tmp_path, SETTINGS)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    other = (
        "import sys, pathlib\nfrom pi0_ros.benchmark.journal import held\n"
        "with held(pathlib.Path(sys.argv[1]), {}) as journal: print('in', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", other, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"in\n"
        with pytest.raises(JournalError, match="another benchmark is writing it"), held(tmp_path, {}):
            pass
        process.communicate()
    with held(tmp_path, {}):
        pass


def test_a_checkpoint_is_known_by_its_content(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        (folder / "assets").mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(bytes(range(256)) * 300_000)  # read in part
        (folder / "assets" / "norm_stats.json").write_text("{}")
    (second / "train_state").mkdir()
    (second / "train_state" / "optimizer.safetensors").write_bytes(b"soon gone")
    known = identity([first])
    assert identity([second]) == known
    (second / "assets" / "norm_stats.json").write_text("{ }")
    assert identity([second]) != known
    with (first / "model.safetensors").open("r+b") as file:
        for place in range(0, 256 * 300_000, 100_000):  # as a step of training
            file.seek(place)
            file.write(b"x")
    assert identity([first]) != known
    assert identity([first / "model.safetensors"]) != identity([second / "model.safetensors"])


def test_what_is_left_and_how_long(tmp_path: Path) -> None:
    plan = Plan(("libero_goal",), (2, 3, 2), 3)
    journal = Journal(tmp_path, [])
    assert left_of(plan, journal, False) == [Key("libero_goal", task, trial) for task in (2, 3) for trial in range(3)]
    assert seconds_left(left_of(plan, journal, False), journal, 5) == (pytest.approx(6 * 300 * 0.07), False)
    journal = Journal(tmp_path, [line(0), line(1, False, "broken")])
    left = left_of(plan, journal, False)
    assert len(left) == 4 and len(left_of(plan, journal, True)) == 5
    assert seconds_left(left, journal, 5) == (pytest.approx(4 * 300 * 3.0 / 80), True)


def test_tasks_that_there_are_not_are_refused() -> None:
    with pytest.raises(InputError, match="--tasks 10: there is no such task; libero_goal has 10"):
        Plan(("libero_90", "libero_goal"), (3, 10), 1)
    assert len(Plan(("libero_90",), (), 1).keys) == 90
