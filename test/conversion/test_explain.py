"""`pi0 convert --explain BAG`: the lines and the page say what became of a recording and why."""

from __future__ import annotations

from pathlib import Path

import pytest
from bagmaker import Recipe, make_bag
from strangebags import BASE, COMMANDS, ROBOT, STATES, WRIST, apart, only, restamped

from pi0_ros.cli.main import main

USUAL = {"seconds": 6.0, "size": (32, 32)}


def explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *more: str, **changes: object
) -> tuple[int, str, str]:
    """Exit status, lines and page."""
    path = make_bag(tmp_path / "bag", ROBOT, Recipe(**{**USUAL, **changes}))  # type: ignore[arg-type]
    page = tmp_path / "page.html"
    status = main(["convert", "--explain", str(path), "--robot", "demo_arm", "--page", str(page)])
    return status, capsys.readouterr().out, page.read_text()


def test_a_good_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, said, page = explained(tmp_path, capsys)
    assert status == 0 and "converted: 1 episodes, 120 rows of 6.0 s" in said
    for topic in (BASE, WRIST, STATES, COMMANDS):
        assert topic in said and topic in page
    assert "121 messages, 4.0 ms from stamp to arrival" in said
    assert "episode 0: 120 rows, 'put the red cube in the tray' from /pi0/prompt" in said
    assert page.count("data:image/") == 4  # streams, delays, two cameras


def test_a_gap_and_a_set_clock(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change = restamped(lambda t_s: -2.0 if t_s >= 4 else 0.0)
    status, said, page = explained(tmp_path, capsys, change=change, keep=apart(WRIST, (1.5, 2.5)))
    assert status == 0 and "3 episodes" in said
    bars = next(line for line in said.splitlines() if line.strip().startswith("episodes"))
    strip = bars.split("|")[1]
    assert strip.strip("0x12") == "" and [mark for mark in "012x" if mark in strip] == ["0", "1", "2", "x"]
    for words in ("the clock was set back by 2.00 s", f"{WRIST}: newest image is"):
        assert words in said and words in page


def test_a_rejected_one_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, said, page = explained(tmp_path, capsys, keep=only(WRIST, 0, 3))
    assert status == 1 and f"rejected: {WRIST} ends 3.00 s before the recording" in said
    assert f"{WRIST} ends 3.00 s" in page and "data:image/" in page


def test_one_bag_and_no_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_bag(tmp_path / "bags/a", ROBOT, Recipe(seconds=1.5, size=(32, 32)))
    make_bag(tmp_path / "bags/b", ROBOT, Recipe(seconds=1.6, size=(32, 32)))
    assert main(["convert", "--explain", str(tmp_path / "bags"), "--robot", "demo_arm"]) == 2
    assert "holds 2 bags" in capsys.readouterr().err
    assert main(["convert", "--explain", str(tmp_path / "bags/a"), str(tmp_path / "out"), "--robot", "demo_arm"]) == 2
    assert main(["convert", str(tmp_path / "bags"), "--robot", "demo_arm"]) == 2
    assert "BAGS OUT" in capsys.readouterr().err
    for unused in ("--overwrite", "--dry-run", "--workers=2"):
        assert main(["convert", "--explain", str(tmp_path / "bags/a"), "--robot", "demo_arm", unused]) == 2
        assert f"leave out {unused.split('=')[0]}" in capsys.readouterr().err
    page = str(tmp_path / "page.html")
    assert main(["convert", str(tmp_path / "bags"), str(tmp_path / "out"), "--robot", "demo_arm", "--page", page]) == 2
    assert "give --explain BAG" in capsys.readouterr().err


def test_what_cannot_be_scanned_is_explained_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, said, page = explained(tmp_path, capsys, keep=only(STATES, 99, 99))
    assert status == 1 and f"no message on {STATES}" in said and f"no message on {STATES}" in page
