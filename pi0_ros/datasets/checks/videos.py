"""Checks of the videos: every row has its frame, at the right time, with something to see."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import av
import numpy as np

from pi0_ros.base.findings import Finding, error, note, warning
from pi0_ros.base.printing import numbers
from pi0_ros.datasets.checks.rows import AGAIN, TOLERANCE_S, video_files
from pi0_ros.datasets.folder import DatasetFolder, Entry
from pi0_ros.datasets.layout import STATE
from pi0_ros.datasets.video import VideoError
from pi0_ros.observation.picture_quality import blocks, contrast, is_black

SAMPLED_EPISODES = 8
KEYFRAMES_S = 0.5  # further apart, a trainer decodes many frames for each one that it wants
SAME = 5.0  # grey levels: coding alone changes the mean of a block by less


def check_videos(folder: DatasetFolder, full: bool, step: Callable[[str], None]) -> Iterator[Finding]:
    """Look at the frames' times of all video files and at the pictures of some episodes (`full`: of all).

    `step` is called with what is being looked at.
    """
    yield from check_video_files(folder, step)
    chosen = sampled(folder, len(folder.entries) if full else SAMPLED_EPISODES)
    for key in folder.camera_keys:
        step(f"{key} pictures")
        yield from _check_pictures(folder, key, chosen)


def check_video_files(folder: DatasetFolder, step: Callable[[str], None] = lambda text: None) -> Iterator[Finding]:
    """Has every row a frame, at its time? Reads packets, decodes nothing."""
    for key in folder.video_keys:
        for path, entries in video_files(folder, key).items():
            step(f"{key} {path.name}")
            if path.is_file():
                yield from _check_file(folder, key, path, entries)


def sampled(folder: DatasetFolder, count: int) -> list[Entry]:
    """At most `count` episodes, evenly spread, the first and the last among them."""
    entries = folder.entries
    return [
        entries[i] for i in np.unique(np.linspace(0, len(entries) - 1, min(count, len(entries))).round().astype(int))
    ]


def _check_file(folder: DatasetFolder, key: str, path: Path, entries: Sequence[Entry]) -> Iterator[Finding]:
    name = path.relative_to(folder.path)
    try:
        times, keys, shape, codec = packets(path)
    except (av.FFmpegError, IndexError, OSError) as problem:
        yield error("videos", f"{name} can't be read: {problem}", "copy the dataset again")
        return
    rows = sum(entry.length for entry in entries)
    if len(times) != rows:
        yield error("videos", f"{name} has {len(times)} frames for {rows} rows", AGAIN)
    wanted = folder.features[key]["shape"]
    if sorted(shape) != sorted(wanted[:2]) and not set(shape) <= set(wanted):
        yield error("videos", f"{name} is {shape[1]}x{shape[0]}, meta/info.json says shape {wanted}", AGAIN)
    if len(times) > 1 and len(keys) and (spacing := np.diff([*keys, len(times)]).max() / folder.fps) > KEYFRAMES_S:
        yield warning(
            "videos",
            f"{name}: up to {spacing:.1f} s between key frames ({codec}), so reading one frame decodes many",
            "training from its own cache of frames (`pi0 train` makes one) does not suffer",
        )
    worst, where = 0.0, -1
    for entry in entries:
        ticks = entry.videos[key].start_s + np.arange(entry.length) / folder.fps
        at = np.clip(np.searchsorted(times, ticks), 1, max(1, len(times) - 1))
        near = np.minimum(np.abs(times[at] - ticks), np.abs(times[at - 1] - ticks)) if len(times) > 1 else ticks
        if near.max() > worst:
            worst, where = float(near.max()), entry.index
    if worst > TOLERANCE_S:
        yield error(
            "videos",
            f"{name}: frames are up to {worst * 1e3:.2f} ms off their rows, first in episode {where}; LeRobot allows "
            f"{TOLERANCE_S * 1e3:g} ms",
            AGAIN,
        )


def packets(path: Path) -> tuple[np.ndarray, np.ndarray, tuple[int, int], str]:
    """Of a video: the frames' times in s (rising), which of them are key frames, (height, width), codec."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        found = sorted((packet.pts, packet.is_keyframe) for packet in container.demux(stream) if packet.pts is not None)
        context = stream.codec_context
        assert stream.time_base is not None
        times = np.array([pts for pts, _ in found], np.float64) * float(stream.time_base)
        keys = np.flatnonzero([flag for _, flag in found])
        return times, keys, (context.height, context.width), context.name


def _check_pictures(folder: DatasetFolder, key: str, entries: Sequence[Entry]) -> Iterator[Finding]:
    black: list[int] = []
    flat: list[int] = []
    frozen: list[int] = []
    for entry in entries:
        picked = sorted({0, entry.length // 3, 2 * entry.length // 3, entry.length - 1})
        try:
            pictures = folder.frames(entry, key, picked)
        except (VideoError, av.FFmpegError, OSError, KeyError) as problem:
            yield error(
                "pictures", f"episode {entry.index}, {key}: {problem}", "copy the dataset again, or leave it out"
            )
            continue
        if any(map(is_black, pictures)):
            black.append(entry.index)
        elif min(map(contrast, pictures)) < 1.0:
            flat.append(entry.index)
        elif len(pictures) > 1 and _moves(folder, entry):
            small = [blocks(picture) for picture in pictures]
            if max(np.abs(a - b).max() for a, b in zip(small, small[1:])) < SAME:
                frozen.append(entry.index)
    seen = f"of {len(entries)} episodes looked at"
    if black:
        yield error(
            "pictures", f"{key}: black in {numbers(black)} ({seen})", "leave the episodes out; check the camera"
        )
    if flat:
        yield warning("pictures", f"{key}: one single colour in {numbers(flat)} ({seen})", "check the camera")
    if frozen:
        yield warning(
            "pictures",
            f"{key}: the picture stands still while the joints move in {numbers(frozen)} ({seen})",
            "a frozen camera? leave the episodes out",
        )
    if not (black or flat or frozen):
        yield note("pictures", f"{key}: {len(entries)} episodes looked at, none black or frozen")


def _moves(folder: DatasetFolder, entry: Entry) -> bool:
    state = folder.columns.get(STATE)
    if state is None:
        return False
    whole, part = np.ptp(state, axis=0), np.ptp(state[folder.rows(entry)], axis=0)
    return bool((part > 0.2 * whole)[whole > 0].any())
