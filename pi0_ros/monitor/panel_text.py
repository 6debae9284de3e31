"""What the panel of the live view says, as HTML: all foreign text is shown letter by letter, numbers have units."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

STATE_COLOURS = {  # of the headline, dark enough for white words
    "RUNNING": "#1d7a3d",
    "TAKEOVER": "#8a3a9a",
    "HOLDING": "#a35200",
    "IDLE": "#2b5f9e",
    "DISARMED": "#555",
    "STOPPED": "#b3261e",
}
SHOWN = 500  # characters of a foreign text
LEVELS = ("", " (warning)", " (error)", " (stale)")  # OK, WARN, ERROR, STALE
OTHER_COLOUR = "#333"  # of a state that is none of these
LARGE = "pi0-large"  # the class by which the style below finds enlarged cameras
# Colours of the panel's own marks on light and on dark ground.
STYLE = f"""<style>
:root {{ --pi0-bad: #b3261e; --pi0-track: #d5d8de; --pi0-is: #1c6fd1; --pi0-sent: #d9730d; }}
:root[data-mantine-color-scheme="dark"] {{
  --pi0-bad: #ff8a80; --pi0-track: #444; --pi0-is: #4dabf7; --pi0-sent: #ffa94d; }}
.mantine-Modal-content:has(.{LARGE}) {{ flex-basis: 95vw; }}
.mantine-Modal-content:has(.{LARGE}) img {{ width: 100%; max-height: 75vh; object-fit: contain; }}
</style>"""
PAD = 'style="padding:0 10px;overflow-wrap:anywhere"'
HIGHEST = "max-height:6.5em;overflow-y:auto"  # of a text above buttons: a long one is scrolled
TRACK = "position:relative;height:10px;min-width:70px;background:var(--pi0-track);border-radius:2px"
SMALL = "font-size:12px;border-spacing:0"
CELL = "padding:1px 6px 1px 0;vertical-align:top"
LEGEND = (
    ("linear-gradient(90deg,#00e6ff,#664dff,#ff0099)", "planned: now, later, where the next chunk takes over"),
    ("#ff9900", "executed: where the hand has been"),
    ("#33bf40", "commanded: where it is sent now"),
    ("#e600a0", "ghost: where the chunk ends"),
)
AXES = (
    "linear-gradient(90deg,#d92626 33%,#26a626 33% 66%,#3366f2 66%)",
    "hand: its axes x, y, z; pale: where the chunk ends",
)
NUMBERS = {  # of the statuses: what the number is called, and its unit
    "execution_speed": ("speed", ""),
    "latency_p50_ms": ("picture to chunk, median", "ms"),
    "latency_p99_ms": ("slowest of a hundred", "ms"),
    "tick_p99_ms": ("ticks late by at most", "ms"),
    "clamps": ("commands limited", ""),
    "stale_events": ("interruptions", ""),
    "chunks": ("chunks", ""),
    "queue": ("messages waiting", ""),
}


@dataclass(frozen=True)
class Health:
    """One line of the panel's health table, from a status on `/diagnostics`."""

    name: str
    level: int  # as in diagnostic_msgs: OK, WARN, ERROR, STALE
    text: str


@dataclass(frozen=True)
class JointRow:
    """A joint's limits, where it is and where it is sent; NaN: not heard."""

    name: str
    unit: str
    lower: float
    upper: float
    measured: float
    commanded: float


@dataclass(frozen=True)
class StreamRow:
    """A camera's or state topic's newest message: s since it came (inf: none yet), and how many come a second."""

    name: str
    age_s: float
    rate_hz: float
    limit_s: float


def as_text(text: str) -> str:
    """Foreign text as HTML that shows it letter by letter: no tag, no script, not longer than `SHOWN` characters.

    viser's markdown is MDX, which runs what stands in braces and tags; so the panel shows no foreign text through it.
    """
    return html.escape(text if len(text) <= SHOWN else f"{text[:SHOWN]} ...")


def headline(prompt: str, notice: str, why: str = "", heeded: bool = True) -> str:
    """The instruction, what the last button did, and why buttons are missing, all as text; `heeded`: by a policy."""
    told = f"<b>instruction</b> {as_text(prompt)}" if prompt else "no instruction yet"
    told += "" if heeded else " (no policy is heard)"
    lines = [told, *(f"<i>{as_text(text)}</i>" for text in (notice, why) if text)]
    return padded("".join(paragraph(line, HIGHEST) for line in lines))


def health_lines(rows: Iterable[Health]) -> str:
    """One line per row."""
    lines = (f"<b>{as_text(row.name)}</b>{LEVELS[min(row.level, 3)]} {as_text(row.text)}" for row in rows)
    return padded("".join(map(paragraph, lines)))


def numbers(values: Mapping[str, str]) -> str:
    """The few numbers of a status that say most, in words and with units; "" without."""
    found = [
        f"{label} {rounded(values[name])}{f' {unit}' if unit else ''}"
        for name, (label, unit) in NUMBERS.items()
        if name in values
    ]
    return f" ({', '.join(found)})" if found else ""


def rounded(value: str) -> str:
    """A number with three digits that say something; other texts as they are."""
    try:
        return f"{float(value):.3g}" if "." in value else value
    except ValueError:
        return value


def joint_table(rows: Sequence[JointRow]) -> str:
    """Each joint between its limits: blue where it is, orange where it is sent, and the number."""
    return padded(f'<table style="width:100%;{SMALL}">{"".join(map(_joint, rows))}</table>')


def _joint(row: JointRow) -> str:
    outside = np.isfinite(row.measured) and not row.lower <= row.measured <= row.upper
    number = f"{row.measured:.2f}" if np.isfinite(row.measured) else "?"
    unit = "" if row.unit == "normalized" else f" {row.unit}"
    paint = "color:var(--pi0-bad)" if outside else ""
    marks = "".join(
        _mark(row, value, colour)
        for value, colour in ((row.measured, "var(--pi0-is)"), (row.commanded, "var(--pi0-sent)"))
    )
    bar = f'<div style="{TRACK}">{marks}</div>'
    return (
        f'<tr><td style="{CELL}">{as_text(row.name)}</td><td style="{CELL};width:40%">{bar}</td>'
        f'<td style="{CELL};text-align:right;white-space:nowrap;{paint}">{number}{as_text(unit)}'
        f"{' outside' if outside else ''}</td></tr>"
    )


def _mark(row: JointRow, value: float, colour: str) -> str:
    span = row.upper - row.lower
    if not (np.isfinite(value) and np.isfinite(span) and span > 0):
        return ""
    share = 100 * min(max((value - row.lower) / span, 0.0), 1.0)
    return (
        f'<div style="position:absolute;left:calc({share:.1f}% - 1px);width:3px;height:10px;background:{colour}"></div>'
    )


def stream_table(rows: Sequence[StreamRow]) -> str:
    """How old each stream is, and in words where that is too old."""
    lines = []
    for row in rows:
        age = age_words(row.age_s)
        old = row.age_s > row.limit_s
        said = "nothing yet" if np.isinf(row.age_s) else f"{age} old{', too old' if old else ''}"
        told = f'<span style="color:var(--pi0-bad)">{said}</span>' if old else said
        lines.append([as_text(row.name), f"{row.rate_hz:.0f} Hz", told])
    return padded(table(lines))


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells of HTML: the first column to the left, numbers to the right."""
    lines = (
        "".join(f'<td style="{CELL}{";text-align:right;white-space:nowrap" if n else ""}">{cell}</td>'
                for n, cell in enumerate(row))
        for row in rows
    )  # fmt: skip
    return f'<table style="width:100%;{SMALL}">{"".join(f"<tr>{line}</tr>" for line in lines)}</table>'


def log_lines(lines: Iterable[tuple[str, str]]) -> str:
    """What happened, the newest first: (clock, text)."""
    said = "".join(
        f'<div style="margin:2px 0;font-size:12px"><b>{as_text(clock)}</b> {as_text(text)}</div>'
        for clock, text in lines
    )
    return padded(said or "nothing yet")


def legend(hands: bool = False) -> str:
    """The colours of the scene, in words; `hands`: of a robot that is commanded by poses, which has no ghost."""
    swatch = "display:inline-block;width:28px;height:8px;border-radius:2px;margin-right:6px;background:"
    entries = (*LEGEND[:-1], AXES) if hands else LEGEND
    return padded("".join(f'<div><span style="{swatch}{paint}"></span>{text}</div>' for paint, text in entries))


def padded(content: str) -> str:
    """HTML with the panel's distance from its edges."""
    return f"<div {PAD}>{content}</div>"


def paragraph(content: str, style: str = "") -> str:
    """HTML as a paragraph of the panel."""
    return f'<p style="margin:4px 0;{style}">{content}</p>'


def age_words(seconds: float) -> str:
    """`31 ms`, `4 s`."""
    return f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{seconds:.0f} s"
