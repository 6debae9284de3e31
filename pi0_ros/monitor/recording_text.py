"""What the panel of the live view says of a recorder, as HTML, from the values of its status on `/diagnostics`."""

from __future__ import annotations

from collections.abc import Mapping

from pi0_ros.monitor.panel_text import age_words, as_text, padded, paragraph, table

LOST_AT_ALL = 'style="color:var(--pi0-bad);font-weight:600"'


def recording_lines(status: Mapping[str, str], in_charge: str = "") -> str:
    """Which episode, whose, for how long, and the disk."""
    return padded("".join([*_heading(status, in_charge), _disk(status), *_problems(status)]))


def recorded_streams(status: Mapping[str, str]) -> str:
    """Every stream's rate and age, and while recording how many messages came and how many were lost."""
    topics = [key.partition(" ")[2] for key in status if key.startswith("rate_hz ")]
    columns = ["topic", "Hz", "age", "messages", "lost"][: 5 if status.get("state") == "recording" else 3]
    rows = [_stream(status, topic)[: len(columns)] for topic in topics]
    return padded(table([columns, *rows])) if topics else ""


def _heading(status: Mapping[str, str], in_charge: str) -> list[str]:
    saved = f"{status.get('saved', '?')} saved, {status.get('discarded', '?')} discarded since the recorder's start"
    if status.get("state") != "recording":
        return [paragraph(f"<b>not recording</b>: {as_text(saved)}")]
    name = status.get("episode", "").rpartition("/")[2]
    whose = f", led by {as_text(in_charge)}" if in_charge else ""
    marked = f", marked {as_text(status['outcome'])}" if status.get("outcome") else ""
    dot = '<span style="color:var(--pi0-bad)">&#9679;</span>'
    return [
        paragraph(f"{dot} <b>{as_text(name)}</b> {as_text(status.get('duration_s', '?'))} s{whose}{marked}"),
        paragraph(f"<i>{as_text(status.get('prompt', ''))}</i>"),
        paragraph(as_text(saved)),
    ]


def _disk(status: Mapping[str, str]) -> str:
    waits = f", {status['queue_mb']} MB wait for it" if status.get("queue_mb") else ""
    return paragraph(f"disk: {as_text(status.get('free_gb', '?'))} GB free{as_text(waits)}")


def _problems(status: Mapping[str, str]) -> list[str]:
    return [paragraph(f"<span {LOST_AT_ALL}>{as_text(line)}</span>") for line in status.get("problem", "").splitlines()]


def _stream(status: Mapping[str, str], topic: str) -> list[str]:
    lost = status.get(f"lost {topic}", "")
    painted = as_text(lost) if lost in ("", "0", "unknown") else f"<span {LOST_AT_ALL}>{as_text(lost)}</span>"
    count, rate = as_text(status.get(f"messages {topic}", "")), as_text(status[f"rate_hz {topic}"])
    name = as_text(topic).replace("/", "/<wbr>").replace("_", "_<wbr>")  # lines break there
    return [name, rate, _age(status.get(f"age_s {topic}", "")), count, painted]


def _age(age: str) -> str:
    """`0.031` -> `31 ms`; nothing came yet: `never`."""
    try:
        return age_words(float(age))
    except ValueError:
        return "never"
