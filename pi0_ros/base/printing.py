"""How commands print: labels on the left, text wrapped on the right, tables, numbers for people."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator, Sequence
from typing import TextIO

WIDTH = 118


def colours(stream: TextIO) -> bool:
    """Whether colours may be printed: to people who did not set NO_COLOR (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def labelled(label: str, text: str, indent: int) -> Iterator[str]:
    """Yield `text` in lines behind its label, `indent` columns to the right."""
    first, *rest = textwrap.wrap(text, WIDTH - indent, break_on_hyphens=False, break_long_words=False) or [""]
    yield f"{label:{indent}s}{first}"
    yield from (" " * indent + line for line in rest)


def table(rows: Sequence[Sequence[object]], left: int = 1) -> Iterator[str]:
    """Yield `rows` (the first is the head) in columns; the first `left` columns begin alike, the others end alike."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    for row in cells:
        aligned = (f"{c:<{w}s}" if i < left else f"{c:>{w}s}" for i, (c, w) in enumerate(zip(row, widths)))
        yield "  ".join(aligned).rstrip()


def numbers(values: Sequence[int], most: int = 8) -> str:
    """A list of numbers as text: `3, 5, 6 and 12 more`."""
    shown = ", ".join(map(str, values[:most]))
    return shown + (f" and {len(values) - most} more" if len(values) > most else "")


def size(count: float) -> str:
    """Bytes for people."""
    unit = "GiB" if count >= 2**30 else "MiB" if count >= 2**20 else "KiB"
    return f"{count / {'GiB': 2**30, 'MiB': 2**20, 'KiB': 2**10}[unit]:.1f} {unit}"


def duration(seconds: float) -> str:
    """A length of time for people: `9.5 s`, `4 min 10 s`, `1 h 41 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def value(content: object) -> str:
    """A setting for people: lists without brackets."""
    return " ".join(map(str, content)) if isinstance(content, tuple | list) else str(content)
