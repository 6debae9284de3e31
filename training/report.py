"""What a conversion did, bag by bag: kept inside the dataset and printed as a summary."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

STATUSES = ("converted", "skipped", "rejected")  # skipped: its own flags say so; rejected: it can't be used


@dataclass(frozen=True)
class StreamReport:
    """How one topic met the tick grid. Ages are tick minus stamp of the sample in use, in seconds."""

    topic: str
    messages: int
    rate_hz: float
    stamp_fallbacks: int
    age_p50_s: float
    age_p95_s: float
    age_max_s: float
    repeats: int  # ticks that saw the same sample as the tick before
    skips: int  # samples that no tick saw


@dataclass(frozen=True)
class Gap:
    """A stretch without rows: seconds since the first tick, length in seconds, and why."""

    at_s: float
    length_s: float
    why: str


@dataclass(frozen=True)
class EpisodeReport:
    """One episode cut from a bag; `start_ns` is its first tick (row k is at `start_ns` + k / fps)."""

    frames: int
    start_ns: int
    prompt: str


@dataclass(frozen=True)
class BagReport:
    """What became of one bag."""

    bag: str
    status: str  # one of STATUSES
    reason: str = ""
    duration_s: float = 0.0
    episodes: tuple[EpisodeReport, ...] = ()
    streams: tuple[StreamReport, ...] = ()
    gaps: tuple[Gap, ...] = ()

    @property
    def frames(self) -> int:
        """Rows in all episodes of the bag."""
        return sum(episode.frames for episode in self.episodes)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and dicts."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(content: dict[str, Any]) -> BagReport:
        """The inverse of `to_dict`, from JSON."""
        nested = {
            "episodes": tuple(EpisodeReport(**item) for item in content["episodes"]),
            "streams": tuple(StreamReport(**item) for item in content["streams"]),
            "gaps": tuple(Gap(**item) for item in content["gaps"]),
        }
        return BagReport(**{**content, **nested})


@dataclass(frozen=True)
class Report:
    """What became of all bags; `out` is None for a dry run."""

    out: Path | None
    bags: tuple[BagReport, ...]
    fps: int
    seconds: float = field(compare=False)

    @property
    def frames(self) -> int:
        """Rows in all episodes."""
        return sum(bag.frames for bag in self.bags)

    @property
    def episodes(self) -> int:
        """Number of episodes."""
        return sum(len(bag.episodes) for bag in self.bags)

    def summary(self) -> str:
        """A text for people: the streams over all bags, every bag that is not simply whole, and the totals."""
        lines = _stream_table([bag for bag in self.bags if bag.status == "converted"])
        for bag in self.bags:
            if bag.status != "converted":
                lines.append(f"{bag.status:9s} {bag.bag}: {bag.reason}")
            for gap in bag.gaps:
                lines.append(f"gap       {bag.bag}: {gap.length_s:.2f} s from {gap.at_s:.2f} s on: {gap.why}")
        statuses = [bag.status for bag in self.bags]
        counts = ", ".join(f"{statuses.count(status)} {status}" for status in STATUSES)
        recorded = sum(bag.duration_s for bag in self.bags)
        lines.append(
            f"{len(self.bags)} bags: {counts}; "
            f"{self.episodes} episodes, {self.frames} frames ({self.frames / self.fps:.1f} s at {self.fps} fps)"
        )
        if self.seconds > 0:
            lines.append(
                f"{recorded:.1f} s of recordings in {self.seconds:.1f} s: {recorded / self.seconds:.1f} x real time"
            )
        lines.append(f"dataset: {self.out}" if self.out else "dry run: nothing was written")
        return "\n".join(lines)


def stream_report(topic: str, stamps: np.ndarray, fallbacks: int, runs: Sequence[np.ndarray]) -> StreamReport:
    """Measure a stream's sorted `stamps` against the ticks of each episode in `runs` (ns, int64; at least one tick)."""
    used = [np.searchsorted(stamps, run, side="right") - 1 for run in runs]
    ages = np.concatenate([run - stamps[index] for run, index in zip(runs, used, strict=True)]) * 1e-9
    steps = np.concatenate([np.diff(index) for index in used])
    span = (stamps[-1] - stamps[0]) * 1e-9
    p50, p95 = np.quantile(ages, [0.5, 0.95])
    return StreamReport(
        topic=topic,
        messages=len(stamps),
        rate_hz=round((len(stamps) - 1) / span, 3) if span > 0 else 0.0,
        stamp_fallbacks=fallbacks,
        age_p50_s=round(float(p50), 6),
        age_p95_s=round(float(p95), 6),
        age_max_s=round(float(ages.max()), 6),
        repeats=int((steps == 0).sum()),
        skips=int(np.maximum(steps - 1, 0).sum()),
    )


def _stream_table(bags: Sequence[BagReport]) -> list[str]:
    topics = list(dict.fromkeys(stream.topic for bag in bags for stream in bag.streams))
    if not topics:
        return []
    width = max(len(topic) for topic in topics)
    lines = [f"{'stream':{width}s}  messages    Hz  age p50  p95 ms  max ms  repeats   skips  stamps=0"]
    frames = sum(bag.frames for bag in bags)
    for topic in topics:
        found = [stream for bag in bags for stream in bag.streams if stream.topic == topic]
        messages = sum(stream.messages for stream in found)
        columns = [
            f"{messages:8d}",
            f"{np.median([stream.rate_hz for stream in found]):5.1f}",
            f"{np.median([stream.age_p50_s for stream in found]) * 1e3:8.1f}",
            f"{max(stream.age_p95_s for stream in found) * 1e3:7.1f}",
            f"{max(stream.age_max_s for stream in found) * 1e3:7.1f}",
            f"{sum(stream.repeats for stream in found) / frames:8.1%}",
            f"{sum(stream.skips for stream in found) / messages:7.1%}",
            f"{sum(stream.stamp_fallbacks for stream in found):9d}",
        ]
        lines.append(f"{topic:{width}s}  {' '.join(columns)}")
    return lines
