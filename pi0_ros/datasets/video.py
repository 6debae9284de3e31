"""Videos by PyAV: encoding one episode, joining episodes without re-encoding, decoding a stretch of frames.

There are no B-frames and one time step per frame, so frame k of a file is shown at exactly k / fps, and a joined file
keeps that: its time stamps are counted anew in frames, never summed up from container durations.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer

from pi0_ros.base.errors import InputError

QUEUE_FRAMES = 32
os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder prints its settings otherwise; 1: errors only


class VideoError(InputError):
    """A video that can't be written or read; the message names the file."""


@dataclass(frozen=True)
class Codec:
    """An encoder and its settings; `name` is the codec's name in `info.json`."""

    name: str
    encoder: str
    options: dict[str, str]


CODECS = {
    "h264": Codec("h264", "libx264", {"preset": "veryfast", "tune": "fastdecode", "g": "2", "bf": "0", "crf": "18"}),
    "av1": Codec("av1", "libsvtav1", {"preset": "12", "g": "2", "crf": "30"}),  # what LeRobot itself writes by default
}


def pixel_format(height: int, width: int) -> str:
    """yuv420p, which every decoder reads; yuv444p for odd sides, which 4:2:0 can't say."""
    return "yuv444p" if height % 2 or width % 2 else "yuv420p"


class VideoWriter:
    """Encodes frames into an mp4 on a thread of its own, behind a queue that blocks when full: none is ever dropped."""

    def __init__(self, path: Path, height: int, width: int, fps: int, codec: Codec) -> None:
        self.path = path
        self.shape = (height, width, 3)
        self.frames = 0
        self._codec = codec
        self._fps = fps
        self._queue: queue.Queue[np.ndarray | None] = queue.Queue(QUEUE_FRAMES)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=f"encode {path.name}", daemon=True)
        self._thread.start()

    def add(self, frame: np.ndarray) -> None:
        """Queue one uint8 frame [H, W, 3] RGB; it must not be changed afterwards.

        Raises `VideoError` on a wrong shape or a failed encoder.
        """
        if frame.shape != self.shape or frame.dtype != np.uint8:
            raise VideoError(f"{self.path}: frame is {frame.dtype} {frame.shape}, the video is uint8 {self.shape}")
        self._raise_error()
        self._queue.put(frame)

    def close(self) -> int:
        """Finish the file and return its number of frames."""
        self._queue.put(None)
        self._thread.join()
        self._raise_error()
        return self.frames

    def abandon(self) -> None:
        """Stop encoding; the file is worth nothing afterwards."""
        self._queue.put(None)
        self._thread.join()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise VideoError(f"{self.path}: encoding failed: {self._error}") from self._error

    def _run(self) -> None:
        images = self._queued()
        try:
            self._encode(images)
        except Exception as error:  # handed to the caller of add() or close()
            self._error = error
            for _ in images:  # keep add() from blocking for ever
                pass

    def _queued(self) -> Iterator[np.ndarray]:
        while (image := self._queue.get()) is not None:
            yield image

    def _encode(self, images: Iterator[np.ndarray]) -> None:
        with av.open(str(self.path), "w", format="mp4") as container:
            stream = container.add_stream(self._codec.encoder, rate=self._fps, options=self._codec.options)
            stream.height, stream.width = self.shape[:2]
            stream.pix_fmt = pixel_format(*self.shape[:2])
            stream.codec_context.thread_count = 1  # so that the bytes do not depend on the machine
            stream.time_base = stream.codec_context.time_base = Fraction(1, self._fps)
            for image in images:
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts = self.frames
                self.frames += 1
                container.mux(stream.encode(frame))
            container.mux(stream.encode())


def join_videos(parts: Sequence[Path], out: Path, fps: int) -> list[int]:
    """Write the frames of `parts`, one after the other and untouched, into `out`; return how many each has.

    Raises `VideoError` when a part differs in codec or size from the first.
    """
    counts: list[int] = []
    # without write_btrt=0, the first part's bit rate would be noted as that of the whole
    with av.open(str(parts[0])) as first, av.open(str(out), "w", "mp4", options={"write_btrt": "0"}) as target:
        model = first.streams.video[0]
        stream = target.add_stream_from_template(model, opaque=True)
        stream.time_base = Fraction(1, fps)
        for part in parts:
            with av.open(str(part)) as source:
                video = source.streams.video[0]
                if _settings(video) != _settings(model):
                    raise VideoError(f"{part}: codec or size differ from {parts[0]}, so it can't be joined to it")
                first = number = sum(counts)
                for packet in source.demux(video):
                    if not packet.size:  # the empty one flushes decoders
                        continue
                    packet.stream = stream
                    packet.time_base = Fraction(1, fps)
                    packet.pts = packet.dts = number
                    packet.duration = 1
                    target.mux(packet)
                    number += 1
            counts.append(number - first)
    return counts


def frame_sizes(path: Path) -> list[int]:
    """Bytes of each compressed frame in a video; joining videos keeps them."""
    with av.open(str(path)) as container:
        return [packet.size for packet in container.demux(container.streams.video[0]) if packet.size]


def _settings(stream: av.VideoStream) -> tuple[object, ...]:
    context = stream.codec_context
    return context.name, context.width, context.height, context.pix_fmt, context.extradata


def read_frames(path: Path, start: int, count: int, fps: int) -> np.ndarray:
    """Frames `start` to `start + count` of the video at `path`: uint8 [count, H, W, 3] RGB.

    Raises `VideoError` when there are fewer, or it can't be read.
    """
    try:
        with av.open(str(path)) as container:
            frames, filled = _decoded(container, start, count, fps)
    except FileNotFoundError:
        raise
    except (av.FFmpegError, IndexError) as error:  # IndexError: no video in it
        why = getattr(error, "strerror", None) or "no video in it"
        raise VideoError(f"{path}: can't be read: {why}; `pi0 dataset check` says what else is broken") from error
    if filled < count:
        raise VideoError(f"{path}: frames {start} to {start + count} wanted, {filled} there")
    return frames


def _decoded(container: InputContainer, start: int, count: int, fps: int) -> tuple[np.ndarray, int]:
    """Room for the frames, uint8 [count, H, W, 3], and how many are there."""
    stream = container.streams.video[0]
    context = stream.codec_context
    context.thread_count = 1
    frames = np.empty((count, context.height, context.width, 3), np.uint8)
    if start:
        assert stream.time_base is not None
        container.seek(int(Fraction(start, fps) / stream.time_base), stream=stream, backward=True)
    filled = 0
    for frame in container.decode(stream):
        index = round(frame.time * fps) - start
        if index < 0:
            continue
        if index != filled or filled == count:
            break
        frames[index] = frame.to_ndarray(format="rgb24")
        filled += 1
    return frames, filled
