"""Robot files with one thing wrong, whatever it is: every key in every way that people and programs spoil it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

Place = tuple["str | int", ...]
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
HOSTILE = "\x1b[2J\r\n'\"\\ {0} %s \u202e\U0001f916 " + "x" * 5000
VALUES: dict[str, Any] = {
    "nothing": None,
    "true": True,
    "zero": 0,
    "negative": -1,
    "huge": 10**400,
    "large": 1e308,
    "tiny": 5e-324,
    "nan": float("nan"),
    "infinite": float("inf"),
    "a fraction": 0.3,
    "no text": "",
    "blank": " ",
    "a word": "word",
    "hostile": HOSTILE,
    "number as text": "1e-3",
    "no list": [],
    "list of nothing": [None],
    "list of text": ["word"],
    "list of numbers": [0, 0],
    "list of nan": [float("nan")] * 4,
    "list of lists": [[], {}],
    "no mapping": {},
    "a mapping": {"word": 1},
    "a mapping of numbers": {1: 2},
}
RAW = (  # texts that stand in place of a value, as YAML reads them
    "1:30",  # sixty times one and thirty
    "010",  # eight
    "0x10",
    "1_000",
    "2001-13-45",
    "2001-12-14",
    "!!int word",
    "!!float word",
    "!!bool word",
    "!!timestamp word",
    "!!binary word",
    "!!set {a, b}",
    "!!omap [a]",
    "!!pairs [a]",
    "!!python/name:os.system",
    "!own {a: 1}",
    "&a [*a]",
    "&a {b: *a}",
    "*nobody",
    "{<<: 3}",
    "{<<: {word: 1}}",
    "{? [a] : b}",
    "{1: 2}",
    "{true: 2}",
    "{null: 2}",
    "[a, b",
    "'a",
    '"\\q"',
    "- a",
    "a: b: c",
    "%a",
    "@a",
    "`a`",
    "|",
    "\t",
    "[" * 300,
    "=",
    "<<",
)


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    """The place of everything in a document, outer ones first."""
    if at:
        yield at
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(item, (*at, key))


@dataclass(frozen=True)
class Spoilt:
    """A document with one change."""

    document: Any
    what: str
    at: Place
    value: Any = None  # what stands there now
    gone: bool = False
    raw: str = ""  # what stands there, as it is written

    def text(self) -> str:
        """The file."""
        document = copy.deepcopy(self.document)
        holder = _at(document, self.at[:-1])
        if self.gone:
            del holder[self.at[-1]]
        else:
            holder[self.at[-1]] = "MARK" if self.raw else copy.deepcopy(self.value)
        text = yaml.dump(document, Dumper=DUMPER, sort_keys=False, allow_unicode=True, width=120)
        return text.replace("MARK", self.raw, 1) if self.raw else text


def spoilt(document: Any) -> Iterator[Spoilt]:
    """Every change of every key."""
    for at in places(document):
        old = _at(document, at)
        for what, value in VALUES.items():
            yield Spoilt(document, what, at, value)
        for raw in RAW:
            yield Spoilt(document, f"as written: {raw[:20]}", at, raw=raw)
        yield Spoilt(document, "missing", at, gone=True)
        for what, value in _like(old):
            yield Spoilt(document, what, at, value)
        if isinstance(at[-1], str):  # another's value
            holder = _at(document, at[:-1])
            for other in holder:
                if other != at[-1]:
                    yield Spoilt(document, f"as {other}", at, holder[other])


def _like(old: Any) -> Iterator[tuple[str, Any]]:
    """Values that are nearly `old`."""
    yield from (("in a list", [old]), ("as text", str(old)))
    if isinstance(old, (int, float)) and not isinstance(old, bool):
        yield from (("ten times", 10 * old), ("other sign", -old), ("a hundredth", 0.01 * old))
    if isinstance(old, list) and old:
        yield from (("turned round", old[::-1]), ("twice", old + old[:1]), ("one less", old[1:]))
    if isinstance(old, str):
        yield from (("misspelled", old[:-1] + "~"), ("longer", f"{old}_"), ("large", old.upper()))
    if isinstance(old, dict):
        yield from (("unknown key", {**old, "word": 1}), ("hostile key", {**old, HOSTILE: 1}))


def mixed(document: Any, donors: Sequence[Any]) -> Iterator[Spoilt]:
    """Every key of an entry of a list, put into the other entries of the same list, its own or of other files."""
    for key in ("joints", "cameras", "state", "commands"):
        for donor in donors:
            for number, entry in enumerate(donor[key]):
                for name, value in entry.items():
                    for i, mine in enumerate(document[key]):
                        if mine.get(name) != value:
                            what = f"as {key}[{number}].{name} of {donor['name']}"
                            yield Spoilt(document, what, (key, i, name), value)


def _at(document: Any, at: Place) -> Any:
    for part in at:
        document = document[part]
    return document
