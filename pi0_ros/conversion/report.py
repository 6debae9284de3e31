"""What a conversion did, bag by bag: kept inside the dataset and printed as a summary."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ros.conversion.lag import LagReport
from pi0_ros.conversion.timing import jitter_s, missing
from pi0_ros.datasets.layout import STATUSES


@dataclass(frozen=True)
class StreamReport:
    """How one topic met the tick grid. Ages are tick minus stamp of the sample in use, in seconds."""

    topic: str
    messages: int  # that could be read
    advertised: int  # that were recorded, as far as the recording says
    rate_hz: float
    jitter_s: float  # 95 % of the intervals are at most so far from the usual one
    drops: int  # messages missing between others, judged by the usual interval
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
    success: bool | None = None  # None: nobody said
    idle_frames: int = 0  # where no training sample should start
    labels: int = 0  # finer than the prompt
    told_by: str = ""  # where the prompt comes from


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
    left_out: tuple[Gap, ...] = ()  # marked stretches that must not be learned from
    lags: tuple[LagReport, ...] = ()  # camera-to-joint lag
    notes: tuple[str, ...] = ()  # what is lost or odd in the recording
    identity: str = ""  # tells the recording from all others, wherever it lies
    first_tick_ns: int = 0  # what the seconds of gaps count from, by the common clock of the streams

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
            "left_out": tuple(Gap(**item) for item in content["left_out"]),
            "lags": tuple(LagReport(**item) for item in content["lags"]),
            "notes": tuple(content["notes"]),
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

    def summary(self, kept: bool = True) -> str:
        """A text for people: the streams over all bags, every bag that is not simply whole, the totals, and the dataset
        where it is `kept`."""
        lines = _stream_table([bag for bag in self.bags if bag.status == "converted"])
        for bag in self.bags:
            if bag.status != "converted":
                lines.append(f"{bag.status:9s} {bag.bag}: {bag.reason}")
            for gap in bag.gaps:
                lines.append(f"gap       {bag.bag}: {gap.length_s:.2f} s from {gap.at_s:.2f} s on: {gap.why}")
            for gap in bag.left_out:
                lines.append(f"left out  {bag.bag}: {gap.length_s:.2f} s from {gap.at_s:.2f} s on: {gap.why}")
        lines += _note_lines(self.bags)
        lines += _prompt_lines(self.bags)
        lines += _lag_lines(self.bags)
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
        if kept:
            lines.append(f"dataset: {self.out}" if self.out else "dry run: nothing was written")
        return "\n".join(lines)


def stream_report(
    topic: str, stamps: np.ndarray, fallbacks: int, advertised: int, runs: Sequence[np.ndarray]
) -> StreamReport:
    """Measure a stream's sorted `stamps` against the ticks of each episode in `runs` (ns, int64; at least one tick)."""
    used = [np.searchsorted(stamps, run, side="right") - 1 for run in runs]
    ages = np.concatenate([(run - stamps[index])[index >= 0] for run, index in zip(runs, used, strict=True)]) * 1e-9
    ages = ages if len(ages) else np.zeros(1)  # what may be silent speaks behind all rows
    steps = np.concatenate([np.diff(index) for index in used])
    span = (stamps[-1] - stamps[0]) * 1e-9
    p50, p95 = np.quantile(ages, [0.5, 0.95])
    return StreamReport(
        topic=topic,
        messages=len(stamps),
        advertised=advertised,
        rate_hz=round((len(stamps) - 1) / span, 3) if span > 0 else 0.0,
        jitter_s=round(jitter_s(stamps), 6),
        drops=missing(stamps),
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
    lines = [f"{'stream':{width}s}  messages    Hz jitter ms  drops  age p50  p95 ms  max ms  repeats   skips stamps=0"]
    frames = sum(bag.frames for bag in bags)
    for topic in topics:
        found = [stream for bag in bags for stream in bag.streams if stream.topic == topic]
        messages = sum(stream.messages for stream in found)
        columns = [
            f"{messages:8d}",
            f"{np.median([stream.rate_hz for stream in found]):5.3g}",
            f"{np.median([stream.jitter_s for stream in found]) * 1e3:9.1f}",
            f"{sum(stream.drops for stream in found):6d}",
            f"{np.median([stream.age_p50_s for stream in found]) * 1e3:8.1f}",
            f"{max(stream.age_p95_s for stream in found) * 1e3:7.1f}",
            f"{max(stream.age_max_s for stream in found) * 1e3:7.1f}",
            f"{sum(stream.repeats for stream in found) / frames:8.1%}",
            f"{sum(stream.skips for stream in found) / messages:7.1%}",
            f"{sum(stream.stamp_fallbacks for stream in found):8d}",
        ]
        lines.append(f"{topic:{width}s}  {' '.join(columns)}")
    return lines


def _note_lines(bags: Sequence[BagReport]) -> list[str]:
    """What is said of recordings, each once: of which one, or of how many."""
    found: dict[str, list[str]] = {}
    for bag in bags:
        for note in bag.notes:
            found.setdefault(note, []).append(bag.bag)
    named = {
        note: names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more" for note, names in found.items()
    }
    return [f"note      {name}: {note}" for note, name in named.items()]


def _prompt_lines(bags: Sequence[BagReport]) -> list[str]:
    """Which prompt so many episodes have, and where it comes from; of few bags, which."""
    found: dict[tuple[str, str], list[str]] = {}
    for bag in bags:
        for episode in bag.episodes:
            found.setdefault((episode.prompt, episode.told_by), []).append(Path(bag.bag).name)
    lines = []
    for (prompt, by), names in found.items():
        which = f" ({', '.join(dict.fromkeys(names))})" if len(found) > 1 and len(set(names)) <= 3 else ""
        lines.append(f"prompt    {prompt!r} from {by or 'an older conversion'}: {len(names)} episodes{which}")
    return lines


def _lag_lines(bags: Sequence[BagReport]) -> list[str]:
    """A sentence for each camera: the median over the recordings that tell its lag."""
    lines = []
    for camera in dict.fromkeys(lag.camera for bag in bags for lag in bag.lags):
        all_of_it = [lag for bag in bags for lag in bag.lags if lag.camera == camera]
        told = [(lag.lag_s, lag.plus_minus_s or 0.0) for lag in all_of_it if lag.lag_s is not None]
        if told:
            lag_s, plus_minus_s = np.median(told, axis=0)
            lines.append(
                f"camera {camera} shows motions {lag_s * 1e3:.0f} ms after the joints report them "
                f"(+-{plus_minus_s * 1e3:.0f} ms; told by {len(told)} of {len(all_of_it)} bags)"
            )
    return lines
