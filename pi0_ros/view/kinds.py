"""What lies at a path: told by what is in it, never by what it is called."""

from __future__ import annotations

from pathlib import Path

from pi0_ros.bags.reader import bags_at, is_bag
from pi0_ros.base.errors import InputError

KINDS = ("dataset", "run", "evaluation", "bag")
MOST_SAID = 3  # of what a search left out
PROGRESS, ERRORS = "progress.csv", "error.json"
LOOKED_FOR = (
    f"a LeRobot dataset (meta/info.json), a recording or a folder of them (metadata.yaml, .mcap, .db3, .bag), the "
    f"results of `pi0 eval` ({ERRORS}), a training run ({PROGRESS})"
)


def kind_of(path: Path, kind: str | None = None) -> str:
    """One of `KINDS`; `kind` says which is meant where several lie there.

    Raises `InputError` where nothing is known, or several are and nobody says which.
    """
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder")
    found = [name for name, is_there in _found(path).items() if is_there]
    left_out = ""
    if not found and path.is_dir():
        bags, unseen = bags_at(path)
        found = ["bag"] if bags else []
        left_out = f"; left out: {'; '.join(unseen[:MOST_SAID])}" if unseen else ""
    if kind is not None:
        if kind not in found:
            there = f"it holds a {' and a '.join(found)}" if found else "nothing to look at is there"
            raise InputError(f"{path}: --kind {kind}: {there}")
        return kind
    if not found:
        raise InputError(f"{path}: nothing to look at; looked for {LOOKED_FOR}{left_out}")
    if len(found) > 1:
        raise InputError(f"{path}: holds a {' and a '.join(found)}: say which by --kind")
    return found[0]


def _found(path: Path) -> dict[str, bool]:
    return {
        "dataset": (path / "meta" / "info.json").is_file(),
        "run": (path / PROGRESS).is_file(),
        "evaluation": (path / ERRORS).is_file(),
        "bag": is_bag(path),
    }
