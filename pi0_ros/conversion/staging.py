"""Where a conversion works: the folder OUT.partial beside the dataset OUT, which changes by renaming only."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pi0_ros.bags.reader import BagError, custom_data, storage_files
from pi0_ros.base.disk import sync_tree
from pi0_ros.base.errors import AGAIN
from pi0_ros.datasets.layout import DatasetError

ENDS = 2**16  # bytes at each end of a file that tell recordings apart


class Staging:
    """The work of one conversion: finished bags in `episodes`, the joined dataset in `dataset` until it is whole."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out.with_name(out.name + ".partial")
        self.episodes = self.folder / "episodes"
        self.dataset = self.folder / "dataset"
        self._replaced = self.folder / "replaced"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other conversions away; undo the half of a replacement that a killed one left.

        Raises `DatasetError` when another process holds it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = self.folder / "lock"
        with lock.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise DatasetError(f"{self.out}: another conversion is writing it; wait for its end") from error
            try:
                if self._replaced.exists() and not self.out.exists():
                    self._replaced.rename(self.out)
                shutil.rmtree(self._replaced, ignore_errors=True)
                shutil.rmtree(self.dataset, ignore_errors=True)
                yield
            except OSError as error:  # not every library tells the file
                if error.errno is None or AGAIN in str(error.strerror):
                    raise
                why = f"{os.strerror(error.errno)}: {AGAIN}"
                raise OSError(error.errno, why, str(error.filename or self.folder)) from error
            finally:
                lock.unlink(missing_ok=True)
                with suppress(OSError):
                    self.folder.rmdir()  # it stays where finished bags wait in it

    def replace(self) -> None:
        """Let `dataset` take the place of OUT, and remove everything else."""
        sync_tree(self.dataset)  # a dataset under its final name survives a power cut too
        if self.out.exists():
            self.out.rename(self._replaced)
        self.dataset.rename(self.out)
        shutil.rmtree(self.folder)

    def episodes_of(self, bag: Path, settings: str) -> Path:
        """Folder of a bag's episodes: the same only for the same bag, unchanged, converted with the same `settings`."""
        fingerprint = hashlib.sha256(f"{bag.resolve()} {settings}".encode())
        with suppress(BagError, OSError):  # reported when the bag is opened
            for file in storage_files(bag):
                stat = file.stat()
                fingerprint.update(f" {file.name} {stat.st_size} {stat.st_mtime_ns}".encode())
            fingerprint.update(json.dumps(custom_data(bag), sort_keys=True).encode())
        return self.episodes / f"{bag.name}-{fingerprint.hexdigest()[:16]}"


def identity(bag: Path) -> str:
    """What tells a recording from all others, wherever it lies: a hash of its files' sizes, beginnings and ends.

    Empty where there is no file that can be read.
    """
    found = hashlib.sha256()
    try:
        for path in storage_files(bag):
            size = path.stat().st_size
            found.update(str(size).encode())
            with path.open("rb") as file:
                found.update(file.read(ENDS))
                file.seek(max(0, size - ENDS))
                found.update(file.read())
    except (BagError, OSError):  # reported when the bag is opened
        return ""
    return found.hexdigest()[:32]
