"""How the actions print: labels on the left, text wrapped on the right, numbers for people."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

WIDTH = 118


def labelled(label: str, text: str, indent: int) -> Iterator[str]:
    """Yield `text` in lines behind its label, `indent` columns to the right."""
    first, *rest = textwrap.wrap(text, WIDTH - indent, break_on_hyphens=False, break_long_words=False) or [""]
    yield f"{label:{indent}s}{first}"
    yield from (" " * indent + line for line in rest)


def size(count: float) -> str:
    """Bytes for people."""
    unit = "GiB" if count >= 2**30 else "MiB" if count >= 2**20 else "KiB"
    return f"{count / {'GiB': 2**30, 'MiB': 2**20, 'KiB': 2**10}[unit]:.1f} {unit}"


def value(content: object) -> str:
    """A setting for people: lists without brackets."""
    return " ".join(map(str, content)) if isinstance(content, tuple | list) else str(content)
