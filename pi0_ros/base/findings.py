"""What a check found: how bad it is, where, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

SEVERITIES = ("error", "warning", "note", "ok")  # error: must be mended first, or a trainer learns nonsense


@dataclass(frozen=True)
class Spread:
    """Values of one joint against a range, all in one unit; `outside`: the share of the values beside it."""

    name: str
    low: float
    high: float
    lowest: float
    median: float
    highest: float
    outside: float


@dataclass(frozen=True)
class Finding:
    """One thing that was found; `check` is a short name of what was looked at, `spreads` is the evidence to draw."""

    severity: str  # one of SEVERITIES
    check: str
    what: str
    todo: str = ""
    spreads: tuple[Spread, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `spreads` only where there are any."""
        return {key: value for key, value in asdict(self).items() if key != "spreads" or value}


def error(check: str, what: str, todo: str = "") -> Finding:
    """Something that a trainer stops at or learns nonsense from."""
    return Finding("error", check, what, todo)


def warning(check: str, what: str, todo: str = "") -> Finding:
    """Something that is rarely meant."""
    return Finding("warning", check, what, todo)


def note(check: str, what: str, todo: str = "", spreads: Sequence[Spread] = ()) -> Finding:
    """Something good to know."""
    return Finding("note", check, what, todo, tuple(spreads))


def ok(check: str, what: str) -> Finding:
    """Something that is as it should be, where a check says that too."""
    return Finding("ok", check, what)


NEXT = "for the next recordings"


def remedy(now: str, later: str) -> str:
    """What to do with what is recorded already, and how to record better: recordings may not be repeatable."""
    return f"{now}; {NEXT}: {later}"
