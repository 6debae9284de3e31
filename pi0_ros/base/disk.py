"""Files on disk: paths as people write them, whether a folder can be filled, and having files there for good when a
rename makes them official."""

from __future__ import annotations

import os
from pathlib import Path

from pi0_ros.base.errors import InputError


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path with the home folder for a leading ~, which shells leave alone in `keys:=~/keys` and `--out=~/bags`.

    The ~ of a user who is not known here stays: there is no such file, says whoever looks for it.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def sync(path: Path) -> None:
    """Wait until the disk has a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Wait until the disk has everything in `folder`, and the folder."""
    for path in [*folder.rglob("*"), folder]:
        sync(path)


def check_folder(folder: Path) -> None:
    """InputError where `folder`, which need not exist yet, cannot be written into or made; touches nothing."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir():
        raise InputError(f"{folder}: {there} is a file, not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: no permission to write into {there}")
