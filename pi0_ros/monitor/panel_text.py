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
TOP = "pi0-headline"  # the class by which the style below finds state and emergency stop
LARGE = "pi0-large"  # and that by which it finds enlarged cameras
# They stay in sight while the rest scrolls: their folder sticks to the top of what scrolls. The parts in between hide
# what flows out of them, and would so be what scrolls; to clip does the same without that.
STYLE = f"""<style>
.mantine-ScrollArea-content div[style*="overflow"]:has(.{TOP}) {{ overflow: clip !important; }}
.mantine-ScrollArea-content .mantine-Paper-root:has(.{TOP}) {{
  position: sticky !important; top: 9px; z-index: 50; background: var(--mantine-color-body);
  box-shadow: 0 -10px 0 var(--mantine-color-body); }}
.mantine-Modal-content:has(.{LARGE}) {{ flex-basis: 95vw; }}
.mantine-Modal-content:has(.{LARGE}) img {{ width: 100%; max-height: 75vh; object-fit: contain; }}
</style>"""
PAD = 'style="padding:0 10px;overflow-wrap:anywhere"'
CELL = "padding:1px 6px 1px 0;vertical-align:top"
LEGEND = (
    ("linear-gradient(90deg,#00e6ff,#664dff,#ff0099)", "planned: now, later, where the next chunk takes over"),
    ("#ff9900", "executed: where the hand has been"),
    ("#fff", "commanded: where it is sent now"),
    ("#e600a0", "ghost: where the chunk ends"),
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


def headline(state: str, prompt: str, notice: str) -> str:
    """The top of the panel as HTML, all three shown as text; the state also in colour, by its first known word."""
    word = next((word for word in state.split() if word in STATE_COLOURS), "")
    paint = f"background:{STATE_COLOURS.get(word, '#555')};color:#fff;padding:6px 10px;border-radius:4px;margin:8px 0"
    said = f'<p style="margin:4px 0"><i>{as_text(notice)}</i></p>' if notice else ""
    told = f'<p style="margin:4px 0">{as_text(prompt)}</p>'
    return f'<div class="{TOP}" {PAD}><h3 style="{paint}" role="status">{as_text(state)}</h3>{told}{said}</div>'


def health_lines(rows: Iterable[Health]) -> str:
    """One line per row."""
    lines = (
        f'<p style="margin:4px 0"><b>{as_text(row.name)}</b>{LEVELS[min(row.level, 3)]} {as_text(row.text)}</p>'
        for row in rows
    )
    return _padded("".join(lines))


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
    return _padded(f'<table style="width:100%;font-size:12px;border-spacing:0">{"".join(map(_joint, rows))}</table>')


def _joint(row: JointRow) -> str:
    outside = np.isfinite(row.measured) and not row.lower <= row.measured <= row.upper
    number = f"{row.measured:.2f}" if np.isfinite(row.measured) else "?"
    unit = "" if row.unit == "normalized" else f" {row.unit}"
    paint = "color:#ff6b6b" if outside else ""
    marks = "".join(
        _mark(row, value, colour) for value, colour in ((row.measured, "#4dabf7"), (row.commanded, "#ffa94d"))
    )
    bar = f'<div style="position:relative;height:10px;min-width:70px;background:#444;border-radius:2px">{marks}</div>'
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
        age = f"{row.age_s * 1e3:.0f} ms" if row.age_s < 1 else f"{row.age_s:.0f} s"
        old = row.age_s > row.limit_s
        said = "nothing yet" if np.isinf(row.age_s) else f"{age} old{', too old' if old else ''}"
        paint = ";color:#ff6b6b" if old else ""
        rate = f'<td style="{CELL};text-align:right">{row.rate_hz:.0f} Hz</td>'
        told = f'<td style="{CELL};text-align:right{paint}">{said}</td>'
        lines.append(f'<tr><td style="{CELL}">{as_text(row.name)}</td>{rate}{told}</tr>')
    return _padded(f'<table style="width:100%;font-size:12px;border-spacing:0">{"".join(lines)}</table>')


def log_lines(lines: Iterable[tuple[str, str]]) -> str:
    """What happened, the newest first: (clock, text)."""
    said = "".join(
        f'<div style="margin:2px 0;font-size:12px"><b>{as_text(clock)}</b> {as_text(text)}</div>'
        for clock, text in lines
    )
    return _padded(said or "nothing yet")


def legend() -> str:
    """The colours of the scene, in words."""
    swatch = "display:inline-block;width:28px;height:8px;border-radius:2px;margin-right:6px;background:"
    return _padded("".join(f'<div><span style="{swatch}{paint}"></span>{text}</div>' for paint, text in LEGEND))


def _padded(content: str) -> str:
    return f"<div {PAD}>{content}</div>"
