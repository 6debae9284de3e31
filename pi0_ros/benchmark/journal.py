"""The folder of a benchmark: its settings, and one line for each finished trial, on the disk before the next begins."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pi0_ros.base.disk import check_folder
from pi0_ros.base.errors import InputError
from pi0_ros.benchmark.trials import Key, Outcome

SETTINGS, TRIALS, LOCK = "settings.json", "trials.jsonl", "lock"
BLOCK, BLOCKS = 1 << 16, 256  # of a file that is too large to be read whole
KINDS = {"suite": str, "task": int, "trial": int, "success": bool, "steps": int, "error": str, "seconds": float}
APART = "train_state"  # beside a checkpoint's weights, and gone when training ends


class JournalError(InputError):
    """A folder that another benchmark has filled, or that was damaged."""


@dataclass(frozen=True)
class Line:
    """A finished trial as it is written: which, how it ended, how long it took."""

    suite: str
    task: int
    trial: int
    success: bool
    steps: int
    error: str
    seconds: float

    @property
    def key(self) -> Key:
        """Which trial."""
        return Key(self.suite, self.task, self.trial)

    @classmethod
    def of(cls, key: Key, outcome: Outcome, seconds: float) -> Line:
        """The line of a trial that has just ended."""
        return cls(**asdict(key), **asdict(outcome), seconds=round(seconds, 3))


class Journal:
    """What has been done; made by `held`, or by `glance` to look only."""

    def __init__(self, folder: Path, lines: Sequence[Line]) -> None:
        self.folder = folder
        self.lines = {line.key: line for line in lines}  # of two of one trial the later one holds

    def add(self, line: Line) -> None:
        """Write a finished trial, and wait until the disk has it."""
        self.lines[line.key] = line
        with (self.folder / TRIALS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(line)) + "\n")
            file.flush()
            os.fsync(file.fileno())


def glance(folder: Path, settings: Mapping[str, Any]) -> Journal:
    """What a folder holds, unchanged; JournalError where it is another benchmark's."""
    check_folder(folder)
    _check_settings(folder, settings)
    return Journal(folder, _read(folder / TRIALS)[0])


@contextmanager
def held(folder: Path, settings: Mapping[str, Any]) -> Iterator[Journal]:
    """The folder's journal, kept from other processes; begins one where there is none."""
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JournalError(f"{folder}: another benchmark is writing it; wait for its end") from None
        _check_settings(folder, settings)
        if not (folder / SETTINGS).exists():
            partial = folder / (SETTINGS + ".partial")
            partial.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
            partial.rename(folder / SETTINGS)
        lines, whole = _read(folder / TRIALS)
        if (folder / TRIALS).exists():
            os.truncate(folder / TRIALS, whole)  # a line that a killed one wrote half
        yield Journal(folder, lines)


def identity(paths: Sequence[Path]) -> str:
    """What tells a checkpoint from all others, wherever it lies: a hash of its files.

    Of large files 256 blocks, evenly spaced: every step of a training changes more than that leaves out.
    """
    found = hashlib.sha256()
    for path in paths:
        files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
        for file in files:
            name = file.relative_to(path).as_posix() if file != path else file.suffix
            if name.split("/")[0] == APART:
                continue
            size = file.stat().st_size
            found.update(f"{name} {size} ".encode())
            with file.open("rb") as opened:
                for start in range(0, size, max(BLOCK, size // BLOCKS)):
                    opened.seek(start)
                    found.update(opened.read(BLOCK))
    return found.hexdigest()[:32]


def _check_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """JournalError where the folder's trials were played otherwise."""
    path = folder / SETTINGS
    if not path.exists():
        if (folder / TRIALS).exists():
            raise JournalError(f"{folder}: there is {TRIALS} but no {SETTINGS}: give another --out")
        return
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(known, dict):
            raise ValueError("it is no mapping")
    except (ValueError, RecursionError) as error:
        raise JournalError(f"{path}: cannot be read ({error}): give another --out") from error
    other = [
        f"{name} is {settings.get(name)!r} now and was {known.get(name)!r}"
        for name in (*settings, *(name for name in known if name not in settings))
        if settings.get(name) != known.get(name)
    ]
    if other:
        raise JournalError(
            f"{folder}: its trials were played otherwise, and must not be mixed with these: {'; '.join(other)}. Give "
            "another --out"
        )


def _read(path: Path) -> tuple[list[Line], int]:
    """The finished trials, and how many bytes of the file they take: the last line may be half written."""
    if not path.exists():
        return [], 0
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    lines = []
    for number, text in enumerate(content[:whole].splitlines(), 1):
        try:
            values = json.loads(text)
            if wrong := [name for name, kind in KINDS.items() if type(values.get(name)) is not kind]:
                raise ValueError(f"{', '.join(wrong)}")
            line = Line(**{name: values[name] for name in KINDS})
            _ = line.key.stamp_ns  # of a suite that there is
        except (ValueError, AttributeError, RecursionError) as error:
            raise JournalError(f"{path}:{number}: is no line of a finished trial ({error}): remove it") from error
        lines.append(line)
    return lines, whole
