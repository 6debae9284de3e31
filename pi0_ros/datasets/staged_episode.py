"""One converted episode in a folder of its own, before episodes are joined into a dataset.

An episode's videos are encoded while its rows arrive, so memory holds a few frames only, and a conversion that is
killed keeps every finished episode.
"""

from __future__ import annotations

import json
import shutil
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pi0_ros.datasets.feature_stats import image_histogram
from pi0_ros.datasets.video import Codec, VideoError, VideoWriter


@dataclass(frozen=True)
class StagedEpisode:
    """A finished episode: its folder holds `arrays.npz` (state, action [T, J] float32, image histograms [3, 256]),
    `episode.json`, one mp4 per camera and, where the episode has further columns, `extra.parquet`.
    """

    folder: Path
    length: int
    prompt: str
    shapes: dict[str, tuple[int, int, int]]  # camera -> (H, W, 3)

    @staticmethod
    def load(folder: Path) -> StagedEpisode:
        """The episode that `EpisodeStager.close` left in `folder`."""
        content = json.loads((folder / "episode.json").read_text())
        shapes = {camera: (shape[0], shape[1], shape[2]) for camera, shape in content["shapes"].items()}
        return StagedEpisode(folder, content["length"], content["prompt"], shapes)

    def arrays(self) -> dict[str, np.ndarray]:
        """`state` and `action` float32 [T, J], and `histogram.<camera>` int64 [3, 256]."""
        with np.load(self.folder / "arrays.npz") as content:
            return {name: content[name] for name in content.files}

    def extra(self) -> pa.Table | None:
        """The columns that the episode has besides state and action, one row per frame."""
        path = self.folder / "extra.parquet"
        return pq.read_table(path) if path.exists() else None

    def video(self, camera: str) -> Path:
        """The episode's mp4 of `camera`."""
        return self.folder / f"{camera}.mp4"


class EpisodeStager:
    """Writes one episode row by row into `folder` (created)."""

    def __init__(self, folder: Path, fps: int, codec: Codec) -> None:
        self.folder = folder
        self._fps = fps
        self._codec = codec
        self._rows = 0
        self._states, self._actions = array("f"), array("f")  # of a long episode lists would weigh far more
        self._videos: dict[str, VideoWriter] = {}
        self._histograms: dict[str, np.ndarray] = {}
        folder.mkdir(parents=True)

    def __len__(self) -> int:
        return self._rows

    def add(self, state: np.ndarray, action: np.ndarray, images: Mapping[str, np.ndarray]) -> None:
        """Append a row.

        `state` and `action` are [J] in robot units, `images` camera -> uint8 [H, W, 3] RGB, not to be changed
        afterwards.
        """
        if not self._rows:
            for camera, image in images.items():
                path = self.folder / f"{camera}.mp4"
                self._videos[camera] = VideoWriter(path, image.shape[0], image.shape[1], self._fps, self._codec)
                self._histograms[camera] = np.zeros((3, 256), np.int64)
        for camera, writer in self._videos.items():
            writer.add(images[camera])
            self._histograms[camera] += image_histogram(images[camera])
        self._states.frombytes(np.asarray(state, np.float32).tobytes())
        self._actions.frombytes(np.asarray(action, np.float32).tobytes())
        self._rows += 1

    def close(self, prompt: str, extra: pa.Table | None = None) -> StagedEpisode:
        """Finish the files and return the episode; `extra` are further columns, one row per frame.

        Raises `VideoError` when a video does not hold one frame per row.
        """
        for writer in self._videos.values():
            if (frames := writer.close()) != len(self):
                raise VideoError(f"{writer.path}: {frames} frames for {len(self)} rows")
        if extra is not None:
            if len(extra) != len(self):
                raise ValueError(f"{self.folder}: {len(extra)} rows of extra columns for {len(self)} frames")
            pq.write_table(extra, self.folder / "extra.parquet")
        histograms = {f"histogram.{camera}": histogram for camera, histogram in self._histograms.items()}
        columns = {"state": self._states, "action": self._actions}
        rows = {key: np.frombuffer(column, np.float32).reshape(self._rows, -1) for key, column in columns.items()}
        arrays = {**rows, **histograms}
        np.savez(self.folder / "arrays.npz", allow_pickle=False, **arrays)
        shapes = {camera: writer.shape for camera, writer in self._videos.items()}
        content = {"length": len(self), "prompt": prompt, "shapes": shapes}
        (self.folder / "episode.json").write_text(json.dumps(content))
        return StagedEpisode(self.folder, len(self), prompt, shapes)

    def discard(self) -> None:
        """Stop encoding and remove everything written."""
        for writer in self._videos.values():
            writer.abandon()
        shutil.rmtree(self.folder, ignore_errors=True)
