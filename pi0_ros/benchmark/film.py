"""Videos of failed trials: both pictures side by side, as the policy saw them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pi0_ros.benchmark.rules import STEPS_PER_S
from pi0_ros.benchmark.trials import Key
from pi0_ros.observation.streams import Observation

if TYPE_CHECKING:
    from pi0_ros.datasets.video import VideoWriter

FOLDER, BEING_MADE = "failures", "partial.mp4"


class Film:
    """Takes one trial's pictures; stays on the disk where `keep` is set in the end."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._writer: VideoWriter | None = None
        self.keep = False

    def add(self, seen: Observation) -> None:
        """One step's pictures."""
        if self._path is None:
            return
        from pi0_ros.datasets.video import CODECS, VideoWriter

        frame = np.concatenate(list(seen.images.values()), axis=1)
        if self._writer is None:
            self._path.parent.mkdir(exist_ok=True)
            partial = self._path.with_name(BEING_MADE)
            rows, columns = frame.shape[:2]
            self._writer = VideoWriter(partial, rows, columns, STEPS_PER_S, CODECS["h264"])
        self._writer.add(frame)

    def end(self) -> None:
        """Finish it, under its name or not at all."""
        if self._writer is None or self._path is None:
            return
        if self.keep:
            self._writer.close()
            self._writer.path.rename(self._path)
        else:
            self._writer.abandon()
            self._writer.path.unlink(missing_ok=True)


class Films:
    """Films the first `most` failures of each task into `folder`/failures."""

    def __init__(self, folder: Path, most: int) -> None:
        self._folder, self._most = folder / FOLDER, most

    def path(self, key: Key) -> Path:
        """Where a trial's film lies."""
        return self._folder / f"{key.suite}_task_{key.task:02d}_trial_{key.trial:04d}.mp4"

    @contextmanager
    def film(self, key: Key) -> Iterator[Film]:
        """A film of the trial `key`, kept only if it is told to; one of an earlier try is removed."""
        self.path(key).unlink(missing_ok=True)
        there = list(self._folder.glob(f"{key.suite}_task_{key.task:02d}_trial_*.mp4"))
        film = Film(self.path(key) if len(there) < self._most else None)
        try:
            yield film
        finally:
            film.end()
