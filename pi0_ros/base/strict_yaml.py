"""YAML read strictly: unknown, repeated or missing keys and wrong values are errors with file, line and remedy."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import yaml

from pi0_ros.base.errors import InputError, Pi0Error
from pi0_ros.base.foreign import MAX_LINE_CHARS, one_line

T = TypeVar("T")
Place = tuple["str | int", ...]  # where in the file: ("joints", 2, "unit")
MAX_KEY_CHARS = 200
LEAST, MOST = 1e-30, 1e12  # beyond these, products of a few numbers are 0 or infinite
MAX_SECONDS = 3600.0
MAX_DEPTH = 100  # lists and mappings within each other
STRING, INTEGER, NUMBER = (f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float"))
OTHER_BASE = re.compile(r"[-+]?(0[0-7_]+|0b[01_]+|0x[\da-fA-F_]+|\d[\d_]*(:[0-5]?\d)+(\.[\d_]*)?)")  # YAML 1.1


class WrongValueError(InputError):
    """A value that cannot be used, at `place`; `read` adds the file and the line. `meant`: the key that it is like."""

    def __init__(self, place: Place, message: str, meant: str = "") -> None:
        super().__init__(message)
        self.place, self.meant = place, meant


def read(
    text: str,
    origin: str,
    build: Callable[[Any], T],
    error: type[Pi0Error],
    mend: Mend | None = None,
) -> T:
    """`build` of the document in `text`. What is wrong is raised as `error`, naming `origin`, line, key and remedy.

    With `mend(document, problem, again)`, which makes good what is wrong (`again`: it is still wrong) or
    returns False, all mistakes come at once: the first is the message, the others are its details.
    """
    root: yaml.Node | None = None
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        _refuse_what_yaml_makes_of_it(loader, root)
        document = None if root is None else loader.construct_document(root)
        try:
            return build(document)
        except WrongValueError as problem:
            problems = [problem, *_others(document, problem, build, mend)] if mend else [problem]
    except yaml.MarkedYAMLError as problem:
        line = problem.problem_mark.line + 1 if problem.problem_mark else 1
        raise error(f"{origin}:{line}: is not valid YAML: {problem.problem}") from problem
    except yaml.reader.ReaderError as problem:
        line = text.count("\n", 0, problem.position) + 1
        what = f"no file of text has the character {chr(problem.character)!r}: remove it"
        raise error(f"{origin}:{line}: is not valid YAML: {what}") from problem
    except WrongValueError as problem:  # of the document as a whole
        problems = [problem]
    found = []
    for wrong in problems:
        line, key = _line(root, wrong.place), key_of(wrong.place)
        found.append(
            (line, f"{origin}:{line}: {one_line(f'{key}: ', MAX_KEY_CHARS) if key else ''}{one_line(str(wrong))}")
        )
    first, *others = (sentence for _, sentence in sorted(found, key=lambda item: item[0]))
    if not others:
        raise error(first)
    raise error(f"{first} (the first of {len(found)} errors)", details="\n".join(others))


def _others(
    document: Any, problem: WrongValueError, build: Callable[[Any], object], mend: Mend
) -> list[WrongValueError]:
    """What is wrong with a document besides `problem`, as far as it can be mended on the way."""
    found: list[WrongValueError] = []
    met: dict[Place, int] = {}
    while met.setdefault(problem.place, 0) < 2 and mend(document, problem, met[problem.place] > 0):
        met[problem.place] += 1
        try:
            build(document)
            break
        except WrongValueError as next_one:
            problem = next_one
            if problem.place not in met:
                found.append(problem)
    return found


Mend = Callable[[Any, WrongValueError, bool], bool]


class Section:
    """One mapping of the file. Its keys are checked when it is made; its methods hand out checked values."""

    def __init__(
        self,
        value: Any,
        place: Place,
        required: Sequence[str],
        optional: Sequence[str] = (),
        hints: dict[str, str] | None = None,
    ) -> None:
        """`hints` says for a key what to write where it is missing."""
        known = (*required, *optional)
        if not isinstance(value, dict):
            raise WrongValueError(place, f"{_found(value)} stands where a mapping is needed: write {', '.join(known)}")
        for key in value:
            if key not in known:
                message = f"unknown key{nearest(str(key), known)}; known are {', '.join(known)}"
                raise WrongValueError((*place, str(key)), message, nearest_of(str(key), known))
        for key in required:
            if key not in value:
                raise WrongValueError((*place, key), f"missing: write {(hints or {}).get(key, 'it')}")
        self.value, self.place = value, place

    def __contains__(self, key: str) -> bool:
        """Whether the file gives the key a value."""
        return self.value.get(key) is not None

    def wrong(self, key: str | int, message: str) -> NoReturn:
        """Raise that the value of `key` cannot be used."""
        raise WrongValueError((*self.place, key), message)

    def text(self, key: str, default: str | None = None) -> str:
        """Text; where it is missing or empty the default, if there is one."""
        if default is not None and self.value.get(key) in (None, ""):
            return default
        return _text(self.value[key], (*self.place, key))

    def name(self, key: str) -> str:
        """A name: text on one line."""
        return _name(self.value[key], (*self.place, key))

    def choice(
        self, key: str, choices: Sequence[str], default: str | None = None, renamed: Mapping[str, str] | None = None
    ) -> str:
        """One of `choices`; `renamed` are the old names of some of them, refused with the new one."""
        value = self.text(key, default)
        if renamed and value in renamed:
            self.wrong(key, f"{value!r} is called {renamed[value]!r} now: write {renamed[value]}")
        return choice_at(value, (*self.place, key), choices)

    def number(self, key: str) -> float:
        """A finite number."""
        return number_at(self.value[key], (*self.place, key))

    def positive(self, key: str) -> float:
        """A finite number above zero."""
        value = self.number(key)
        if value <= 0:
            self.wrong(key, f"{value:g} is not above zero")
        if value < LEAST:
            self.wrong(key, f"{value:g} is next to nothing: write at least {LEAST:g}")
        return value

    def seconds(self, key: str) -> float:
        """A time above zero, of an hour at most."""
        value = self.positive(key)
        if value > MAX_SECONDS:
            self.wrong(key, f"{value:g} s is more than an hour: write seconds, {MAX_SECONDS:g} at most")
        return value

    def count(self, key: str) -> int:
        """A whole number above zero."""
        value = self.positive(key)
        if value != int(value):
            self.wrong(key, f"{value:g} is no whole number")
        return int(value)

    def count_from_zero(self, key: str) -> int:
        """A whole number from zero on."""
        value = self.number(key)
        if value < 0 or value != int(value):
            self.wrong(key, f"{value:g} is no whole number from 0 on")
        return int(value)

    def flag(self, key: str) -> bool:
        """true or false."""
        value = self.value[key]
        if not isinstance(value, bool):
            self.wrong(key, f"{_found(value)} stands where true or false is needed")
        return value

    def pair(self, key: str, what: str) -> tuple[float, float]:
        """Two finite numbers, the first below the second."""
        value, place = self.value[key], (*self.place, key)
        if not isinstance(value, list) or len(value) != 2:
            self.wrong(key, f"{_found(value)} is not a pair: write {what}")
        lower, upper = (number_at(number, (*place, i)) for i, number in enumerate(value))
        if lower >= upper:
            self.wrong(key, f"{lower:g} is not below {upper:g}: write {what}")
        return lower, upper

    def items(self, key: str, least: int = 1) -> list[tuple[Any, Place]]:
        """The entries of a list, at least so many, each with its place."""
        value, place = self.value[key], (*self.place, key)
        if not isinstance(value, list) or len(value) < least:
            self.wrong(
                key, f"{_found(value)} stands where a list{' with at least one entry' if least else ''} is needed"
            )
        return [(item, (*place, i)) for i, item in enumerate(value)]

    def numbers(self, key: str) -> tuple[float, ...]:
        """A list of finite numbers."""
        return tuple(number_at(item, place) for item, place in self.items(key))

    def names(self, key: str) -> tuple[str, ...]:
        """A list of different names."""
        items = self.items(key)
        return unique((place, _name(item, place)) for item, place in items)


def unique(values: Iterable[tuple[Place, str]]) -> tuple[str, ...]:
    """The values in their order; wrong where one stands twice."""
    seen: dict[str, Place] = {}
    for place, value in values:
        if value in seen:
            raise WrongValueError(place, f"{value!r} stands already at {key_of(seen[value])}: give each its own")
        seen[value] = place
    return tuple(seen)


def nearest(word: str, known: Iterable[str]) -> str:
    """` (did you mean ...?)` where one of the known words is like `word`, else nothing."""
    near = nearest_of(word, known)
    return f" (did you mean {near!r}?)" if near else ""


def nearest_of(word: str, known: Iterable[str]) -> str:
    """The known word that is like `word`; empty where none is."""
    near = difflib.get_close_matches(word.lower(), list(known), 1, 0.6)
    if near and "/" in word and "/" in near[0]:  # message types: of one package or not, their own names must be alike
        own, other = (text.rpartition("/")[2].lower() for text in (word, near[0]))
        near = near if difflib.SequenceMatcher(None, own, other).ratio() >= 0.6 else []
    return near[0] if near else ""


def key_of(place: Place) -> str:
    """`joints[2].unit` for ("joints", 2, "unit")."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")


def choice_at(value: Any, place: Place, choices: Sequence[str]) -> str:
    """One of `choices`."""
    text = _text(value, place)
    if text not in choices:
        raise WrongValueError(place, f"{text!r} is not known{nearest(text, choices)}; write {' or '.join(choices)}")
    return text


def _text(value: Any, place: Place) -> str:
    if isinstance(value, bool):
        hint = "YAML reads an unquoted yes, no, on, off, true or false as a boolean: put it in quotes"
        raise WrongValueError(place, f"the boolean {str(value).lower()} stands where text is needed; {hint}")
    if not isinstance(value, str) or not value.strip():
        remedy = (
            "write some" if value in (None, "", [], {}) or isinstance(value, (str, list, dict)) else "put it in quotes"
        )
        raise WrongValueError(place, f"{_found(value)} stands where text is needed: {remedy}")
    return value


def _name(value: Any, place: Place) -> str:
    text = _text(value, place)
    if not text.isprintable() or len(text) > MAX_LINE_CHARS:
        what = "it has line breaks or control characters" if len(text) <= MAX_LINE_CHARS else f"it has {len(text)}"
        raise WrongValueError(place, f"no name: {what}, write one of at most {MAX_LINE_CHARS} printable characters")
    return text


def number_at(value: Any, place: Place) -> float:
    """A finite number."""
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            pass
        else:
            hint = f"YAML reads {value!r} as text: write {number!r}"
            raise WrongValueError(place, hint if math.isfinite(number) else f"{value} is not finite: write a number")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise WrongValueError(place, f"{_found(value)} stands where a number is needed")
    try:
        finite = math.isfinite(value)
    except OverflowError:  # of a whole number beyond all others
        finite = False
    if not finite:
        raise WrongValueError(place, f"{value} is not finite: write a number")
    if abs(value) > MOST:
        raise WrongValueError(place, f"{value:g} is beyond everything that is reckoned with: write at most {MOST:g}")
    return float(value)


def _found(value: Any) -> str:
    if isinstance(value, (list, dict)):
        return f"{'a list' if isinstance(value, list) else 'a mapping'}{'' if value else ' without entries'}"
    return "nothing" if value is None else repr(value)


def _line(root: yaml.Node | None, place: Place) -> int:
    """The line of the innermost part of `place` that the file has."""
    line, node = 1, root
    for part in place:
        found: list[tuple[int, yaml.Node]] = []
        if isinstance(node, yaml.MappingNode):
            found = [(key.start_mark.line, value) for key, value in node.value if key.value == part]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            found = [(value.start_mark.line, value) for value in node.value[part : part + 1]]
        if not found:
            break
        line, node = found[0][0] + 1, found[0][1]
    return line


class _Loader(yaml.SafeLoader):
    """Bounds how deep a document is: what composes and builds it calls itself."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            problem = f"more than {MAX_DEPTH} lists and mappings within each other"
            raise yaml.composer.ComposerError(None, None, problem, self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _refuse_what_yaml_makes_of_it(loader: yaml.SafeLoader, root: yaml.Node | None) -> None:
    """Refuse what YAML would read as something else, in silence or with an error without a place: of two equal keys
    the last, 010 as 8, 1:30 as 90, words that are not of the kind of their tag. Keys are taken as they are written."""
    pending: list[tuple[Place, yaml.Node | None]] = [((), root)]
    done: set[int] = set()
    while pending:
        place, node = pending.pop()
        if id(node) in done:  # an alias
            continue
        done.add(id(node))
        if isinstance(node, yaml.ScalarNode):
            _refuse_other_number(loader, node, place)
        elif isinstance(node, yaml.SequenceNode):
            pending += [((*place, i), item) for i, item in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            lines: dict[Any, int] = {}
            for key, value in node.value:
                name, line = key.value, key.start_mark.line + 1
                if not isinstance(key, yaml.ScalarNode):
                    raise WrongValueError(
                        place, "a list or mapping stands where a key is needed: check the indentation"
                    )
                if name in lines:
                    raise WrongValueError((*place, name), f"stands twice (again in line {line}): remove one of them")
                lines[name] = line
                if key.tag != "tag:yaml.org,2002:merge":
                    key.tag = STRING
                pending.append(((*place, name), value))


def _refuse_other_number(loader: yaml.SafeLoader, node: yaml.ScalarNode, place: Place) -> None:
    try:
        value = loader.construct_object(node)
    except yaml.MarkedYAMLError:
        raise
    except Exception as problem:  # each kind has its own
        kind = node.tag.rpartition(":")[2]
        raise WrongValueError(
            place, f"YAML cannot read {node.value!r} as {kind}: correct it, or put it in quotes"
        ) from problem
    if node.tag in (INTEGER, NUMBER) and OTHER_BASE.fullmatch(node.value):
        raise WrongValueError(place, f"YAML reads {node.value} as {value}: write {value}, or put it in quotes")
