"""Checkpoint folders on disk: JSON with clear errors, and folders that appear whole or not at all."""

from __future__ import annotations

import glob
import json
import logging
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pi0_ros.base.disk import sync_tree
from pi0_ros.checkpoints.safetensors_files import CheckpointError

logger = logging.getLogger(__name__)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON mapping; CheckpointError names the file."""
    try:
        content = json.loads(path.read_text())
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path}: not JSON ({error}); copy or download it again") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a JSON mapping, found {type(content).__name__}")
    return content


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


@contextmanager
def new_folder(folder: Path | str) -> Iterator[Path]:
    """Yield a folder beside `folder` to write into; when all is there, it takes the place of `folder`.

    A killed writer leaves the previous folder whole, see `existing`, and the next one removes what it left.
    """
    folder = Path(folder).absolute()
    recover(folder)
    remove_leftovers(folder)
    partial = partial_of(folder)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        sync_tree(partial)
        if folder.exists():
            folder.rename(_previous(folder))
        partial.rename(folder)
        shutil.rmtree(_previous(folder), ignore_errors=True)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        recover(folder)
        raise


def partial_of(path: Path) -> Path:
    """Where this process writes what will be `path`, a folder or a file, when it is whole."""
    return path.with_name(f".{path.name}.partial-{socket.gethostname()}-{os.getpid()}")


def leftovers(path: Path) -> list[Path]:
    """What writers of `path` that were killed, or are at work, have beside it."""
    return sorted(path.parent.glob(f".{glob.escape(path.name)}.partial-*")) if path.parent.is_dir() else []


def remove_leftovers(path: Path) -> None:
    """Remove what killed writers left, and say so; what may be another one's work is only named."""
    for partial in leftovers(path):
        host, _, process = partial.name.rpartition(".partial-")[2].rpartition("-")
        if host not in ("", socket.gethostname()) or not process.isdigit() or _runs(int(process)):
            logger.warning("%s is there: another conversion at work, or what one that was killed left", partial)
        else:
            if partial.is_dir():
                shutil.rmtree(partial, ignore_errors=True)
            else:
                partial.unlink(missing_ok=True)
            logger.warning("removed %s, left by a conversion that was killed", partial)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def existing(folder: Path) -> Path:
    """Return `folder`, or where it is when a writer was killed between its two renames."""
    return _previous(folder) if not folder.exists() and _previous(folder).exists() else folder


def _previous(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.previous")


def recover(folder: Path) -> None:
    """Undo what a killed writer may have left: put the previous folder back, or drop it when its successor is there."""
    if _previous(folder).exists():
        if folder.exists():
            shutil.rmtree(_previous(folder), ignore_errors=True)
        else:
            _previous(folder).rename(folder)
