"""A page about a dataset in one file that opens anywhere: every picture is inside, nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

STYLE = """
:root { color-scheme: light dark; --ink: #1d2733; --soft: #55636f; --line: #dde3ea; --paper: #ffffff; --shade: #f4f6f9;
  --mark: #0072B2; --bad: #b02a00; --warn: #7d5200; --good: #00704F; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6ebf0; --soft: #a3b0bc; --line: #37424e; --paper: #1a2129; --shade: #11161c;
    --mark: #56b4e9; --bad: #ff9a75; --warn: #f0ac3c; --good: #35c49a; }
}
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: var(--shade); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 24px; }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 8px; }
section { padding: 16px 22px; margin: 0 0 18px; }
h1, h2, h3, p { overflow-wrap: anywhere; } td { overflow-wrap: break-word; }
h1, h2, h3, p, td { unicode-bidi: plaintext; }
h1 { font-size: 24px; margin: 4px 0 16px; }
h2 { font-size: 18px; margin: 4px 0 10px; }
h3 { font-size: 14px; margin: 16px 0 4px; color: var(--soft); font-weight: 600; }
p.note { color: var(--soft); margin: 4px 0 10px; }
img { max-width: 100%; height: auto; display: block; background: #fff; border-radius: 4px; }
.scroll { overflow-x: auto; margin-bottom: 12px; } .long { max-height: 80vh; overflow-y: auto; }
table { border-collapse: collapse; font-size: 14px; }
th, td { text-align: left; padding: 3px 14px 3px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; position: sticky; top: 0; background: var(--paper); }
td.text { min-width: 16em; } td:first-child { max-width: 24em; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
a { color: var(--mark); text-decoration: none; } a:hover { text-decoration: underline; }
:focus-visible { outline: 3px solid var(--mark); outline-offset: 1px; }
.error, .rejected { color: var(--bad); font-weight: 600; } .warning, .skipped { color: var(--warn); font-weight: 600; }
.converted, .good, .ok { color: var(--good); } .top { float: right; font-size: 13px; margin-left: 12px; }
.bar { position: relative; min-width: 14em; height: 14px; margin: 4px 0; background: var(--shade); }
.bar * { position: absolute; top: 0; bottom: 0; } .bar .range { background: var(--line); border: solid var(--soft); }
.bar .range { border-width: 0 2px; } .bar .values { top: 5px; bottom: 5px; background: var(--mark); min-width: 2px; }
.bar .middle { width: 4px; margin-left: -2px; background: var(--mark); } .bar .far { background: var(--bad); }
@media (max-width: 820px) {
  main { padding: 10px; } section { padding: 12px; } .scroll > img { max-width: none; width: max(100%, 720px); }
}
"""


@dataclass(frozen=True)
class Link:
    """A cell that leads to a place on the page."""

    text: str
    anchor: str


@dataclass(frozen=True)
class Marked:
    """A cell in the colour of what it says: error, warning, note, converted, skipped, rejected."""

    text: str


@dataclass(frozen=True)
class Bar:
    """A cell that draws values against a range: their lowest, median and highest as shares of it (0 .. 1 is inside)."""

    lowest: float
    median: float
    highest: float


MOST_ROWS = 40  # of a table that is not scrolled
LONG = 40  # characters of a text that wants a wide column


Cell = str | int | Link | Marked | Bar


@dataclass(frozen=True)
class Picture:
    """An image file's bytes and what it shows; `heading`: the title stands above it, too."""

    data: bytes
    title: str
    heading: bool = True


@dataclass(frozen=True)
class Table:
    """A head and rows; columns of numbers, formatted ones too, stand to the right."""

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Part:
    """A box of the page: a heading and what is below it, texts in between."""

    title: str
    content: Sequence[str | Table | Picture] = field(default_factory=tuple)
    anchor: str = ""


def write_page(path: Path, title: str, parts: Sequence[Part]) -> None:
    """Write the page, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text("".join(_page(title, parts)), encoding="utf-8")
    partial.replace(path)


def _page(title: str, parts: Sequence[Part]) -> Iterator[str]:
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    yield f"<title>{_text(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
    yield f'<body id="top">\n<main>\n<h1>{_text(title)}</h1>\n'
    for part in parts:
        anchor = f' id="{_text(part.anchor)}"' if part.anchor else ""
        back = '<a class="top" href="#top">to the top</a>' if part.anchor else ""
        yield f"<section{anchor}>\n{back}<h2>{_text(part.title)}</h2>\n"
        for item in part.content:
            yield from _item(item)
        yield "</section>\n"
    yield "</main>\n</body>\n</html>\n"


def _item(item: str | Table | Picture) -> Iterator[str]:
    if isinstance(item, str):
        yield f'<p class="note">{_text(item)}</p>\n'
    elif isinstance(item, Picture):
        kind = "png" if item.data.startswith(b"\x89PNG") else "jpeg"
        data = base64.b64encode(item.data).decode("ascii")
        yield f"<h3>{_text(item.title)}</h3>\n" if item.heading else ""
        yield _scroll(item.title)
        yield f'<img alt="{_text(item.title)}" src="data:image/{kind};base64,{data}"></div>\n'
    else:
        numbers = [_are_numbers([row[place] for row in item.rows]) for place in range(len(item.head))]
        yield _scroll(next(filter(None, item.head), "table"), "scroll long" if len(item.rows) > MOST_ROWS else "scroll")
        yield "<table>\n"
        if any(item.head):
            heads = zip(item.head, numbers)
            yield "<tr>" + "".join(f"<th{_class(right)}>{_text(name)}</th>" for name, right in heads) + "</tr>\n"
        for row in item.rows:
            yield "<tr>" + "".join(_cell(cell, right) for cell, right in zip(row, numbers, strict=True)) + "</tr>\n"
        yield "</table></div>\n"


def _scroll(name: str, kind: str = "scroll") -> str:
    """A box that is scrolled where it is too narrow, by keys, too."""
    return f'<div class="{kind}" tabindex="0" role="region" aria-label="{_text(name)}">'


def _class(right: bool) -> str:
    return ' class="number"' if right else ""


def _cell(cell: Cell, right: bool) -> str:
    if isinstance(cell, Link):
        return f'<td{_class(right)}><a href="#{_text(cell.anchor)}">{_text(cell.text)}</a></td>'
    if isinstance(cell, Marked):
        return f'<td class="{_text(cell.text)}">{_text(cell.text)}</td>'
    if isinstance(cell, Bar):
        return f"<td>{_bar(cell)}</td>"
    long = ' class="text"' if len(str(cell)) > LONG else ""
    return f"<td{_class(right) or long}>{_text(cell)}</td>"


def _bar(bar: Bar) -> str:
    """The range takes the middle half of the width; what lies farther away is drawn at the end."""
    lowest, median, highest = (min(max(25 + 50 * at, 0.0), 100.0) for at in (bar.lowest, bar.median, bar.highest))
    said = "inside the range" if 0 <= bar.median <= 1 else "outside the range"
    far = "" if 0 <= bar.median <= 1 else " far"
    return (
        f'<div class="bar" role="img" aria-label="median {said}"><i class="range" style="left:25%;right:25%"></i>'
        f'<i class="values{far}" style="left:{lowest:.1f}%;right:{100 - highest:.1f}%"></i>'
        f'<i class="middle{far}" style="left:{median:.1f}%"></i></div>'
    )


def _are_numbers(cells: Sequence[Cell]) -> bool:
    """Whether a column holds numbers only: then it stands to the right."""
    texts = [cell.text if isinstance(cell, Link) else cell for cell in cells]
    told = [text for text in texts if text != ""]
    return bool(told) and not any(isinstance(text, Marked | Bar) for text in told) and all(map(_is_number, told))


def _is_number(cell: object) -> bool:
    """Whether a cell is a number, formatted or not."""
    try:
        float(str(cell).removesuffix("%"))
    except ValueError:
        return False
    return True


def _text(text: object) -> str:
    return html.escape(str(text), quote=True)
