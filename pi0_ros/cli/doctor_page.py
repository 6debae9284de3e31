"""What `pi0 doctor` found, as a page in one file: the verdict, each finding with its remedy, joints drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pi0_ros.base.findings import SEVERITIES, Finding, Spread
from pi0_ros.datasets.html_report import Bar, Marked, Part, Table, write_page
from pi0_ros.doctor.statistics import NO_WIDTH


def write_doctor_page(path: Path, title: str, findings: Sequence[Finding], verdict: str) -> None:
    """Write the page; findings stand in the order in which they should be mended."""
    ordered = sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
    rows = [(Marked(finding.severity), finding.check, _what(finding), finding.todo) for finding in ordered]
    parts = [Part(verdict, [Table(("", "about", "what was seen", "what to do"), rows)])]
    parts += [_drawn(finding) for finding in ordered if finding.spreads]
    write_page(path, title, parts)


def _what(finding: Finding) -> str:
    return "the state now against q01 and q99: drawn below" if finding.spreads else finding.what


def _drawn(finding: Finding) -> Part:
    head = ("joint", "q01", "q99", "now", "grey: q01 to q99; line: what was seen; mark: its median", "outside")
    said = "What the robot showed while the doctor looked, and what the policy was trained on, as the model counts it."
    return Part("The state now against the training's statistics", [said, Table(head, [*map(_row, finding.spreads)])])


def _row(spread: Spread) -> tuple[str | Bar, ...]:
    width = max(spread.high - spread.low, NO_WIDTH)
    bar = Bar(*((value - spread.low) / width for value in (spread.lowest, spread.median, spread.highest)))
    return (spread.name, *(f"{value:.4g}" for value in (spread.low, spread.high, spread.median)), bar,
            f"{spread.outside:.0%}")  # fmt: skip
