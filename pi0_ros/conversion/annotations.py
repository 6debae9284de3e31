"""Episodes written down by people: a CSV or YAML file beside the recordings.

    bag,start,end,prompt,success,discard,subtask
    episode_000003,1.2,9.8,fold the towel,true,,
    episode_000003,1.2,4.0,,,,grasp the towel

Seconds count from the recording's first message. A row without `subtask` is an episode, one with it a label inside.
YAML holds the same keys as a list of mappings. Everything but `bag` may be left out.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pi0_ros.base.errors import InputError

KEYS = ("bag", "start", "end", "prompt", "success", "discard", "subtask")
BOOLS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class AnnotationError(InputError):
    """An annotation file that can't be used; the message names file, row and remedy."""


@dataclass(frozen=True)
class Annotation:
    """One row: an episode, or with `subtask` a label. None stands for the recording's begin or end."""

    bag: str
    start_s: float | None = None
    end_s: float | None = None
    prompt: str = ""
    success: bool | None = None
    discard: bool = False
    subtask: str = ""

    def is_of(self, bag: Path) -> bool:
        """Whether the row is about the recording at `bag`: its folder's or file's name, or the end of its path."""
        wanted, path = Path(self.bag).parts, bag.resolve()
        found = [path.parts, path.with_name(path.name.split(".")[0]).parts]
        return any(parts[-len(wanted) :] == wanted for parts in found)


def read_annotations(path: Path) -> tuple[Annotation, ...]:
    """All rows of a `.csv`, `.yaml` or `.yml` file. Raises `AnnotationError`."""
    try:
        rows = list(_csv_rows(path) if path.suffix == ".csv" else _yaml_rows(path))
    except (OSError, UnicodeDecodeError, csv.Error, yaml.YAMLError) as error:
        raise AnnotationError(f"{path}: can't be read: {' '.join(str(error).split())}") from error
    if not rows:
        raise AnnotationError(f"{path}: no row; write the keys {', '.join(KEYS)}")
    found = [_annotation(row, place) for place, row in rows]
    for (place, _), (earlier, annotation) in _overlaps([(place, a) for (place, _), a in zip(rows, found)]):
        raise AnnotationError(f"{place}: overlaps the episode of {earlier} in {annotation.bag}: episodes share no time")
    return tuple(found)


def check_bags(annotations: Sequence[Annotation], bags: Sequence[Path]) -> None:
    """Raises `AnnotationError` where a row is about none or several of the `bags`, or two call one by other names."""
    names: dict[str, str] = {}
    for name in dict.fromkeys(annotation.bag for annotation in annotations):
        found = [str(bag) for bag in bags if Annotation(name).is_of(bag)]
        if not found:
            raise AnnotationError(
                f"annotations: no bag {name!r} among the {len(bags)} to convert: write its folder's name"
            )
        if len(found) > 1:
            raise AnnotationError(f"annotations: {name!r} is {' and '.join(found)}: write more of its path")
        if (other := names.setdefault(found[0], name)) != name:
            raise AnnotationError(f"annotations: {other!r} and {name!r} are both {found[0]}: write one of them")


def _csv_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, restkey="", restval="")
        for row in reader:
            place = f"{path}, line {reader.line_num}"
            if "" in row:
                raise AnnotationError(
                    f"{place}: more columns than the first line names: put texts with commas in quotes"
                )
            yield place, {key: value.strip() for key, value in row.items() if value.strip()}


def _yaml_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, list):
        raise AnnotationError(f"{path}: expected a list of mappings, each with the key bag")
    for number, row in enumerate(content, 1):
        if not isinstance(row, dict):
            raise AnnotationError(f"{path}, entry {number}: expected a mapping with the key bag, got {row!r}")
        yield f"{path}, entry {number}", {str(key): value for key, value in row.items() if value is not None}


def _annotation(row: dict[str, Any], place: str) -> Annotation:
    if unknown := [key for key in row if key not in KEYS]:
        raise AnnotationError(f"{place}: unknown key {', '.join(unknown)}; known are {', '.join(KEYS)}")
    if not row.get("bag"):
        raise AnnotationError(f"{place}: bag is missing: write the name of the recording's folder")
    start, end = (_seconds(row, key, place) for key in ("start", "end"))
    if end is not None and end <= (start or 0.0):
        raise AnnotationError(f"{place}: end {end:g} is not after start {start or 0.0:g}")
    subtask = str(row.get("subtask", ""))
    if subtask and start is None:
        raise AnnotationError(f"{place}: the label {subtask!r} has no start: write the second from which on it holds")
    success, discard = (_bool(row, key, place) for key in ("success", "discard"))
    return Annotation(str(row["bag"]), start, end, str(row.get("prompt", "")), success, bool(discard), subtask)


def _seconds(row: dict[str, Any], key: str, place: str) -> float | None:
    if key not in row:
        return None
    try:
        value = math.nan if isinstance(row[key], bool) else float(row[key])
    except (TypeError, ValueError):
        value = math.nan
    if not 0 <= value < math.inf:
        raise AnnotationError(f"{place}: {key} {row[key]!r}: expected seconds since the recording's first message")
    return value


def _bool(row: dict[str, Any], key: str, place: str) -> bool | None:
    if key not in row:
        return None
    text = str(row[key]).lower()
    if text not in BOOLS:
        raise AnnotationError(f"{place}: {key} {row[key]!r}: expected true or false")
    return BOOLS[text]


Placed = tuple[str, Annotation]


def _overlaps(rows: Sequence[Placed]) -> Iterator[tuple[Placed, Placed]]:
    """Pairs (later, earlier) of episodes of one recording that share time."""
    episodes = [row for row in rows if not row[1].subtask]
    for bag in dict.fromkeys(annotation.bag for _, annotation in episodes):
        of_bag = sorted((row for row in episodes if row[1].bag == bag), key=lambda row: row[1].start_s or 0.0)
        for earlier, later in zip(of_bag, of_bag[1:]):
            if earlier[1].end_s is None or (later[1].start_s or 0.0) < earlier[1].end_s:
                yield later, earlier
