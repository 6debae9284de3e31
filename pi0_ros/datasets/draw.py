"""Draw a dataset into a folder: a picture for each episode and camera, and one page of it all."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL.Image import Image
from tqdm import tqdm

from pi0_ros.datasets.folder import DatasetFolder
from pi0_ros.datasets.html_report import Picture
from pi0_ros.datasets.layout import ACTION, IMAGE_PREFIX, STATE, DatasetError
from pi0_ros.datasets.page import episode_part, write_dataset_page
from pi0_ros.datasets.plots import episode_sheet, png, stream_ages, traces, value_ranges

DEFAULT_EPISODES = 12
PAGE = "report.html"


def spread(total: int, most: int | None) -> list[int]:
    """At most `most` of the numbers 0 to `total` - 1 (None: all), evenly spread."""
    count = total if most is None else min(total, most)
    return [int(number) for number in np.unique(np.linspace(0, total - 1, count).round())]


def draw_some(dataset: Path, out: Path) -> Path:
    """Draw some episodes of a dataset, evenly spread, into `out`; return the path of the page."""
    folder = DatasetFolder(dataset)
    draw(folder, spread(len(folder.entries), DEFAULT_EPISODES), out, page=True)
    return out / PAGE


def draw(folder: DatasetFolder, numbers: Sequence[int], out: Path, page: bool) -> list[Path]:
    """Write the pictures of these episodes into `out`, and `report.html` where `page` is wanted; return the PNGs.

    Raises `DatasetError` for a number that is no episode's.
    """
    entries = {entry.index: entry for entry in folder.entries}
    if unknown := [number for number in numbers if number not in entries]:
        raise DatasetError(f"{folder.path}: no episode {unknown[0]}; there are {len(entries)}, counted from 0")
    out.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []

    def keep(name: str, title: str, data: bytes) -> Picture:
        written.append(out / name)
        written[-1].write_bytes(data)
        return Picture(data, title, heading=False)  # it is in the picture

    values = [
        keep(f"values_{key.split('.')[-1]}.png", f"values of {key}", png(value_ranges(folder, key)))
        for key in (STATE, ACTION)
        if key in folder.columns
    ]
    ages = stream_ages(folder.conversion, folder.robot.max_ages_s if folder.robot else {})
    streams = [keep("streams.png", "age of the streams at their use", png(ages))] if ages else []
    parts = []
    for number in tqdm(numbers, unit="episode", disable=None, leave=False):
        entry = entries[number]
        stem = f"episode_{number:06d}"
        shown = [keep(f"{stem}_traces.png", f"traces of episode {number}", png(traces(folder, entry)))]
        for key in folder.camera_keys:
            camera = key.removeprefix(IMAGE_PREFIX)
            sheet = episode_sheet(folder, entry, key)
            keep(f"{stem}_{camera}.png", camera, encoded(sheet, "PNG"))
            shown.append(Picture(encoded(sheet, "JPEG"), f"camera {camera}"))  # a page of PNGs is five times as heavy
        parts.append(episode_part(folder, entry, shown))
    if page:
        write_dataset_page(out / PAGE, folder, numbers, values, streams, parts)
    return written


def encoded(picture: Image, kind: str) -> bytes:
    """The file of a picture, PNG or JPEG."""
    buffer = BytesIO()
    picture.save(buffer, kind, **({"quality": 85} if kind == "JPEG" else {}))
    return buffer.getvalue()
