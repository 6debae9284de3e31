"""A conversion killed at any moment goes on to the very dataset of an unbroken one; an old dataset is never harmed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from bagmaker import Recipe, make_bag

from pi0_ros.conversion.convert import Options, convert
from pi0_ros.conversion.staging import Staging
from pi0_ros.datasets.dataset import Dataset
from pi0_ros.datasets.layout import DatasetError
from pi0_ros.robot import load_robot

ROBOT = load_robot("demo_arm")
KILLS = 20
# Imports once, then forks one conversion for each line, so that a kill meets the conversion and not the imports.
FORKS = """
import json, os, signal, sys, time
from pi0_ros.cli.main import main
import pi0_ros.conversion.convert
for line in sys.stdin:
    arguments, kill_after_s = json.loads(line)
    pid = os.fork()
    if pid == 0:
        os.dup2(2, 1)
        os._exit(main(arguments))
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(pid, signal.SIGKILL)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


class Forks:
    """Runs conversions in processes that can be killed."""

    def __init__(self) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([sys.executable, "-c", FORKS], text=True, **pipes)

    def run(self, *arguments: object, kill_after_s: float | None = None) -> int:
        """Run `pi0 convert` and return its exit status as `os.waitpid` gives it: 9 when it was killed."""
        assert self.process.stdin and self.process.stdout
        command = ["convert", *map(str, arguments), "--robot", "demo_arm"]
        print(json.dumps([command, kill_after_s]), file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())


@pytest.fixture
def forks() -> Iterator[Forks]:
    found = Forks()
    yield found
    found.process.stdin.close()  # type: ignore[union-attr]
    found.process.wait(10)


@pytest.fixture
def bags(tmp_path: Path) -> list[Path]:
    return [make_bag(tmp_path / f"bags/{n}", ROBOT, Recipe(seconds=1.2 + n / 5, size=(32, 32))) for n in range(4)]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def draw() -> np.random.Generator:
    seed = int(os.environ.get("PI0_SEED", time.time_ns() % 2**32))
    print(f"PI0_SEED={seed}")
    return np.random.default_rng(seed)


@pytest.mark.slow
def test_a_conversion_killed_at_random_moments(tmp_path: Path, bags: list[Path], forks: Forks) -> None:
    random, killed, seen = draw(), 0, set()
    forks.run(*bags, tmp_path / "warm")
    begin = time.monotonic()
    assert forks.run(*bags, tmp_path / "unbroken") == 0
    length = time.monotonic() - begin
    whole = files(tmp_path / "unbroken")
    for number in range(KILLS):
        out = tmp_path / f"{number}"
        killed += forks.run(*bags, out, kill_after_s=random.uniform(0, 0.9 * length)) == signal.SIGKILL
        staging = Staging(out)
        seen.add("joining" if staging.dataset.exists() else "bags" if staging.episodes.exists() else "else")
        assert not out.exists() or files(out) == whole
        if not out.exists():
            assert forks.run(*bags, out) == 0
        assert files(out) == whole
    print(f"{killed} of {KILLS} were killed before their end, during: {', '.join(sorted(seen))}")
    assert killed >= KILLS / 4 and "bags" in seen


@pytest.mark.slow
def test_appending_killed_at_random_moments(tmp_path: Path, bags: list[Path], forks: Forks) -> None:
    random, killed = draw(), 0
    assert forks.run(*bags[:2], tmp_path / "old") == 0
    old = files(tmp_path / "old")
    shutil.copytree(tmp_path / "old", tmp_path / "unbroken")
    begin = time.monotonic()
    assert forks.run(*bags[2:], tmp_path / "unbroken", "--append") == 0
    length = time.monotonic() - begin
    grown = files(tmp_path / "unbroken")
    assert len(Dataset(tmp_path / "unbroken").episodes) == 4
    for number in range(KILLS):
        out = tmp_path / f"{number}"
        shutil.copytree(tmp_path / "old", out)
        killed += forks.run(*bags[2:], out, "--append", kill_after_s=random.uniform(0, 0.9 * length)) == signal.SIGKILL
        assert files(out if out.exists() else Staging(out).folder / "replaced") in (old, grown)
        assert forks.run(*bags[2:], out, "--append") == 0
        assert files(out) == grown
    print(f"{killed} of {KILLS} were killed before their end")
    assert killed >= KILLS / 4


@pytest.mark.parametrize("append", [False, True], ids=["overwrite", "append"])
def test_killed_between_the_two_renames(
    tmp_path: Path, bags: list[Path], append: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old dataset has stepped aside and the new one is not in its place yet."""
    out = tmp_path / "out"
    convert(bags[:1], out, ROBOT)
    old = files(out)
    rename = Path.rename

    def stop(path: Path, target: Path) -> Path:
        if path.name == "dataset":
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", stop)
        convert(bags[1:2], out, ROBOT, append=append, overwrite=not append)
    assert not out.exists() and files(tmp_path / "out.partial/replaced") == old
    with pytest.raises(DatasetError, match="exists"):
        convert(bags[1:2], out, ROBOT)
    assert files(out) == old
    convert(bags[1:2], out, ROBOT, append=append, overwrite=not append)
    assert len(Dataset(out).episodes) == 1 + append
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bags", "out"]


def test_only_one_conversion_at_a_time(tmp_path: Path, bags: list[Path]) -> None:
    with Staging(tmp_path / "out").held(), pytest.raises(DatasetError, match="another conversion is writing it"):
        convert(bags[:1], tmp_path / "out", ROBOT)
    convert(bags[:1], tmp_path / "out", ROBOT)


@pytest.mark.slow
def test_workers_end_with_the_conversion_that_started_them(tmp_path: Path, bags: list[Path]) -> None:
    convert(bags, tmp_path / "unbroken", ROBOT)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "pi0_ros.cli", "convert", *map(str, bags), str(out), "--robot", "demo_arm"]
    process = subprocess.Popen([*command, "--workers", "2"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not Staging(out).episodes.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    assert process.stderr
    process.stderr.read()  # ends when the last process that holds the pipe has ended, workers included
    process.wait()
    assert not out.exists()
    convert(bags, out, ROBOT)
    assert files(out) == files(tmp_path / "unbroken")


def test_appending_bags(tmp_path: Path, bags: list[Path]) -> None:
    """Bag by bag gives the files of all at once; bags that are in it already, wherever they lie now, are left out."""
    convert(bags, tmp_path / "whole", ROBOT)
    out = tmp_path / "out"
    convert(bags[:1], out, ROBOT)
    for bag in bags[1:]:
        convert([bag], out, ROBOT, append=True)
    grown, whole = files(out), files(tmp_path / "whole")
    report = json.loads(grown.pop("meta/pi0_conversion.json"))
    assert report["bags"] == json.loads(whole.pop("meta/pi0_conversion.json"))["bags"]
    assert [run["first_bag"] for run in report["appended"]] == [1, 2, 3]
    assert grown == whole
    shutil.copytree(bags[0], tmp_path / "moved")
    again = convert([tmp_path / "moved", bags[1]], out, ROBOT, append=True)
    assert {(bag.status, bag.reason) for bag in again.bags} == {("skipped", "it is already in the dataset")}
    assert len(Dataset(out).episodes) == 4
    twice = convert([tmp_path / "moved", bags[0]], tmp_path / "twice", ROBOT).bags
    assert [(bag.status, bag.reason) for bag in twice] == [
        ("skipped", f"a copy of {tmp_path / 'moved'}"),
        ("converted", ""),
    ]
    short = make_bag(tmp_path / "short", ROBOT, Recipe(seconds=0.3, size=(32, 32)))
    assert convert([bags[0], short], out, ROBOT, append=True).bags[1].status == "rejected"
    assert not Staging(out).folder.exists()


def test_what_can_not_be_appended_is_said_before_any_bag_is_read(
    tmp_path: Path, bags: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with pytest.raises(DatasetError, match="no dataset to append to"):
        convert(bags, out, ROBOT, append=True)
    convert(bags[:1], out, ROBOT)
    old = files(out)
    monkeypatch.setattr("pi0_ros.conversion.jobs.convert_bag", lambda *_: 1 / 0)
    with pytest.raises(DatasetError, match="give --fps 20"):
        convert(bags[1:], out, ROBOT, fps=10, append=True)
    with pytest.raises(DatasetError, match="give --codec h264"):
        convert(bags[1:], out, ROBOT, Options(codec="av1"), append=True)
    with pytest.raises(DatasetError, match=r"v3\.0"):
        convert(bags[1:], out, ROBOT, append=True, format="v2.1")
    assert files(out) == old
