"""What every kind of page is made from: JSON values that are small however long the episode is, and pictures.

Times are seconds from the episode's beginning. N samples, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pi0_ros.base.errors import InputError
from pi0_ros.base.foreign import shortened

MOST_POINTS = 3000  # of a curve: more than a screen has pixels
LONGEST_SIDE = 1280  # pixels of a picture that is sent: larger ones are made smaller
PAGE = 200  # episodes that are listed at once
PICTURES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}


@dataclass(frozen=True)
class Shown:
    """A picture's file, and how old it was at the time that was asked for (s; None: it is of that very frame)."""

    data: bytes
    kind: str = "image/jpeg"
    age_s: float | None = None


class NoPictureYetError(InputError):
    """A camera had sent nothing at that time: as it is in every recording, so no failure."""


@dataclass(frozen=True)
class Listed:
    """An episode in the list."""

    number: int
    text: str
    seconds: float | None = None  # None: nobody has read it yet


class Source(Protocol):
    """One thing that is looked at."""

    def about(self) -> dict[str, Any]:
        """`kind`, `title`, `facts` and what the page of this kind shows at once."""

    def listed(self) -> Sequence[Listed]:
        """Its episodes."""

    def episode(self, number: int) -> dict[str, Any]:
        """One of them, without its pictures (`Episode.to_dict`)."""

    def picture(self, number: int, camera: int, frame: int) -> Shown:
        """What a camera showed at a frame."""

    def file(self, name: str) -> Shown:
        """A picture file that `about` names."""


@dataclass(frozen=True)
class Curve:
    """One line of a trace; `times` None: a value at each frame."""

    what: str  # state | action | value
    times: np.ndarray | None  # float64 [N], s
    values: np.ndarray  # float64 [N]


@dataclass(frozen=True)
class Trace:
    """All that is known of one joint, with its limits where somebody says them."""

    name: str
    unit: str
    curves: Sequence[Curve]
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True)
class Band:
    """A stretch of time of a kind: idle, takeover, gap, left out, hold, stopped, or what a column is called."""

    kind: str
    start_s: float
    stop_s: float
    text: str = ""


@dataclass(frozen=True)
class Mark:
    """Something said at a time: a prompt, a label, or what went wrong."""

    kind: str  # prompt | label | incident
    at_s: float
    text: str


@dataclass(frozen=True)
class Episode:
    """An episode as its page shows it; frame k is at k / `fps`."""

    number: int
    title: str
    frames: int
    fps: float
    cameras: Sequence[str]
    traces: Sequence[Trace]
    bands: Sequence[Band] = ()
    marks: Sequence[Mark] = ()
    facts: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()
    alerts: Sequence[str] = ()  # what one must not miss
    more: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON values, curves thinned."""
        most = max((len(curve.values) for trace in self.traces for curve in trace.curves), default=0)
        notes = list(self.notes)
        if most > MOST_POINTS:
            notes.append(f"of {most} samples the least and the greatest of every stretch are drawn")
        return {
            "number": self.number,
            "title": shortened(self.title),
            "frames": self.frames,
            "fps": self.fps,
            "cameras": list(self.cameras),
            "traces": [
                {
                    "name": trace.name,
                    "unit": trace.unit,
                    "lower": number(trace.lower),
                    "upper": number(trace.upper),
                    "curves": [_curve(curve, self.fps) for curve in trace.curves],
                }
                for trace in self.traces
            ],
            "bands": [
                {"kind": b.kind, "start": b.start_s, "stop": b.stop_s, "text": shortened(b.text)} for b in self.bands
            ],
            "marks": [{"kind": m.kind, "at": m.at_s, "text": shortened(m.text)} for m in self.marks],
            "facts": said(self.facts),
            "notes": [shortened(note) for note in notes],
            "alerts": [shortened(alert) for alert in self.alerts],
            **self.more,
        }


def _curve(curve: Curve, fps: float) -> dict[str, Any]:
    times, values = curve.times, curve.values
    if len(values) > MOST_POINTS:
        kept = extremes(values, MOST_POINTS)
        times = kept / fps if times is None else times[kept]
        values = values[kept]
    return {"what": curve.what, "t": None if times is None else numbers(times), "v": numbers(values)}


def extremes(values: np.ndarray, most: int) -> np.ndarray:
    """Places of the least and the greatest value of each of `most` / 3 equal stretches, and of the first that is no
    number, so that a line stays broken there; rising, int64 [<= most]."""
    edges = np.linspace(0, len(values), most // 3 + 1).astype(int)
    low = np.where(np.isfinite(values), values, np.inf)
    high = np.where(np.isfinite(values), values, -np.inf)
    found = []
    for start, stop in zip(edges[:-1], edges[1:]):
        if stop > start:
            absent = ~np.isfinite(values[start:stop])
            found += [start + int(low[start:stop].argmin()), start + int(high[start:stop].argmax())]
            found += [start + int(absent.argmax())] if absent.any() else []
    return np.unique(np.array(found, np.int64))


def numbers(values: np.ndarray) -> list[float | None]:
    """JSON values of six digits; null where there is no finite number."""
    return [number(value) for value in np.asarray(values, np.float64).tolist()]


def number(value: float | None) -> float | None:
    """A JSON value of six digits; null where there is no finite number."""
    return float(f"{value:.6g}") if value is not None and np.isfinite(value) else None


def said(facts: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Facts as JSON values, none longer than is worth showing."""
    return [[name, shortened(str(text))] for name, text in facts]


def stretches(marked: np.ndarray, fps: float, kind: str, text: str = "") -> list[Band]:
    """The stretches of frames that `marked`, bool [N], marks."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marked.astype(bool).reshape(-1), [False]]).astype(int)))
    return [Band(kind, start / fps, stop / fps, text) for start, stop in edges.reshape(-1, 2).tolist()]


def picture_file(folder: Path, name: str) -> Shown:
    """The PNG or JPEG file `name` below `folder`. Raises `InputError` where it is elsewhere or something else."""
    path = folder / name
    if folder.resolve() not in path.resolve().parents:
        raise InputError(f"{name}: not in {folder.name}")
    if not path.is_file():
        raise InputError(f"{path}: there is no such picture")
    data = path.read_bytes()
    kind = next((kind for start, kind in PICTURES.items() if data.startswith(start)), None)
    if kind is None:
        raise InputError(f"{path}: neither PNG nor JPEG")
    return Shown(data, kind)


class NoEpisodes:
    """What a page without episodes answers."""

    def listed(self) -> Sequence[Listed]:
        """None."""
        return ()

    def episode(self, number: int) -> dict[str, Any]:
        """There is none. Raises `InputError`."""
        raise InputError("there are no episodes here")

    def picture(self, number: int, camera: int, frame: int) -> Shown:
        """There is none. Raises `InputError`."""
        raise InputError("there are no episodes here")


class NoFiles:
    """What a page without picture files answers."""

    def file(self, name: str) -> Shown:
        """There is none. Raises `InputError`."""
        raise InputError(f"there is no picture {shortened(name, 80)!r} here")
