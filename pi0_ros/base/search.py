"""Looking for something below a user's folder, which may be a whole disk, or be linked into itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

MOST_ENTRIES = 200_000  # files and folders that are looked at
DEEPEST = 16  # folders below the first


@dataclass
class Search:
    """A bounded walk. Each real folder is entered once, however often links lead to it; `left_out` says in sentences
    what was not looked at."""

    most_entries: int = MOST_ENTRIES
    deepest: int = DEEPEST
    left_out: list[str] = field(default_factory=list)
    _entries: int = 0
    _entered: set[tuple[int, int]] = field(default_factory=set)  # device and number of each folder

    def find(self, folder: Path, wanted: Callable[[Path], bool]) -> list[Path]:
        """Files and folders below `folder` that are wanted, by name; into those nothing looks any further.

        Raises `OSError` where `folder` itself can't be read.
        """
        return self._find(folder, wanted, 0)

    def _find(self, folder: Path, wanted: Callable[[Path], bool], depth: int) -> list[Path]:
        about = folder.stat()
        if (about.st_dev, about.st_ino) in self._entered:
            return []
        self._entered.add((about.st_dev, about.st_ino))
        found = []
        for child in self._listed(folder):
            try:
                if wanted(child):
                    found.append(child)
                elif child.is_dir() and depth < self.deepest:
                    found += self._find(child, wanted, depth + 1)
                elif child.is_dir():
                    self.left_out.append(f"{child}: deeper than {self.deepest} folders")
            except OSError as error:
                self.left_out.append(f"{child}: {error.strerror or error}")
        return found

    def _listed(self, folder: Path) -> list[Path]:
        listed = []
        for path in folder.iterdir():
            if self._entries == self.most_entries:
                self.left_out.append(f"all but {self.most_entries} files and folders, from {folder} on")
            if self._entries >= self.most_entries:
                self._entries += 1  # said once
                break
            self._entries += 1
            listed.append(path)
        return sorted(listed)
