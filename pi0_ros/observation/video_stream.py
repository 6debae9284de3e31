"""Cameras that send a video stream, a picture in each message: decoded in order, and never wrong.

A picture that builds on one that was lost is not shown, nor is any after it until the next key picture.
"""

from __future__ import annotations

import re
from statistics import median_low
from typing import Any

import numpy as np

from pi0_ros.observation import h264_order, h265_order
from pi0_ros.observation.images import DecodedImage, ImageError, PartError, stream_of
from pi0_ros.observation.rubbish import Rubbish, samples
from pi0_ros.observation.stream_units import UnsupportedStreamError

Order = h264_order.Order | h265_order.Order
# A decoder's name -> what messages call the stream, its name, who sees what is lost.
CODECS: dict[str, tuple[re.Pattern[str], str, type[Order]]] = {
    "h264": (re.compile(r"[hx]\.?264|avc", re.IGNORECASE), "H.264", h264_order.Order),
    "hevc": (re.compile(r"[hx]\.?265|hevc", re.IGNORECASE), "H.265", h265_order.Order),
}
LATE = 8  # times the usual period between messages: numbers of so many lost pictures may begin again
LONG_NS = 100_000_000  # in less the fastest cameras do not send so many
PERIODS = 15  # of which the usual one is the median
# Decoders go on behind the end of a picture that was cut short, with zeros, and say nothing: those of H.265 for any
# length, those of H.264 for two bytes. So each is decoded with ones behind it, too: what is whole looks the same.
# Arithmetic codes are intervals, so what zeros and ones leave alike is what any other bytes would have given.
ONES = b"\xff" * 32
SPARE = 2  # pictures more than a decoder holds: the one that it writes, and the one that was compared


class VideoStream:
    """One camera's stream."""

    def __init__(self, alone: bool = False) -> None:
        """`alone`: one picture is taken."""
        self._alone = alone
        self._kind = ""  # which of CODECS it is
        self._order: Order = h264_order.Order()
        self._codecs: list[Any] = []  # one that is given what came, and one that is given ones behind it
        self._rubbish: Rubbish | None = None  # into which the second writes
        self._last_ns: int | None = None
        self._periods: list[int] = []
        self.problem = "no key picture has come yet"  # why there is no picture; empty: there was

    def take(self, msg: Any, t_ns: int) -> np.ndarray | None:
        """The picture of the next message, uint8 [H, W, 3] RGB, that came at `t_ns`; None where something that it
        builds on is missing (`problem` says so). Raises `ImageError` for streams that are not understood."""
        kind = codec_of(stream_of(msg))
        if kind != self._kind:
            self._kind, self._order, self._codecs = kind, CODECS[kind][2](), []
        self._look_at_time(t_ns)
        data = bytes(msg.data)
        try:
            whole = self._order.follows(data)
        except UnsupportedStreamError as error:
            raise ImageError(f"its {CODECS[kind][1]} stream cannot be used: {error}") from error
        except ValueError as error:
            self._lose(f"a message is no whole picture ({error})")
            return None
        if not whole:
            self._lose(self.problem or "a picture was lost")
            return None
        return self._decode(data)

    def _look_at_time(self, t_ns: int) -> None:
        """Numbers are counted modulo 16 or more: after a long gap they may seem to follow."""
        last, self._last_ns = self._last_ns, t_ns
        if last is None:
            return
        period = t_ns - last
        if self._periods and period > max(LATE * median_low(self._periods), LONG_NS):
            self._lose(f"nothing came for {period * 1e-9:.2f} s")
        elif period < 0:
            self._lose("the clock jumped back")
        self._periods = [*self._periods, max(period, 0)][-PERIODS:]

    def _decode(self, data: bytes) -> np.ndarray | None:
        av = _library()
        more, order = data + ONES if self._order.ends_in_picture else data, self._order
        try:
            if self.problem or not self._codecs:  # begins anew, with a key picture
                self._codecs, self._rubbish = [_decoder(self._kind) for _ in range(2)], None
                if isinstance(order, h265_order.Order):
                    pictures = 1 if self._alone else order.buffered + SPARE
                    self._rubbish = Rubbish(self._codecs[1], av.Packet(data), pictures)
            frames = [codec.decode(av.Packet(part)) for codec, part in zip(self._codecs, (data, more))]
        except av.FFmpegError as error:
            self._lose(f"a picture cannot be decoded ({error})")
            return None
        if any(len(found) != 1 or found[0].is_corrupt for found in frames):
            self._lose("a picture is broken")
            return None
        (picture,), (other,) = frames
        if not _same(picture, other):
            self._lose("a picture was cut short")
            return None
        if isinstance(order, h265_order.Order) and self._rubbish is not None:
            self._rubbish.lend(other, order.number, order.held)
        self.problem = ""
        return np.asarray(picture.to_ndarray(format="rgb24"))

    def _lose(self, why: str) -> None:
        self._order.lost()
        self._codecs = []
        self.problem = why


def codec_of(name: str) -> str:
    """Which of CODECS a stream is that is called so. Raises `ImageError` for others."""
    for kind, (names, *_) in CODECS.items():
        if names.search(name):
            return kind
    known = ", ".join(told for _, told, _ in CODECS.values())
    raise ImageError(f"a stream of {name!r}: send {known}, JPEG or raw pictures (of no other losses can be seen)")


def decoded(stream: VideoStream, msg: Any, t_ns: int) -> DecodedImage | None:
    """`VideoStream.take` as what stands in the place of the message."""
    picture = stream.take(msg, t_ns)
    return None if picture is None else DecodedImage(picture)


def picture_alone(msg: Any) -> np.ndarray:
    """The picture of a stream's message that builds on no other. Raises `PartError` for others, and `ImageError`."""
    picture = VideoStream(alone=True).take(msg, 0)
    if picture is None:
        raise PartError("a part of a video stream, which builds on the pictures before it")
    return picture


def _same(one: Any, other: Any) -> bool:
    """Whether two decoded frames have the same samples."""
    if (one.format.name, one.width, one.height) != (other.format.name, other.width, other.height):
        return False
    return all(np.array_equal(samples(one, n), samples(other, n)) for n in range(len(one.planes)))


def _library() -> Any:
    try:
        import av
    except ImportError:
        raise ImageError("a video stream needs PyAV: pip install av") from None
    return av


def _decoder(kind: str) -> Any:
    av = _library()
    codec = av.CodecContext.create(kind, "r")
    codec.thread_count = 1
    codec.flags |= av.codec.context.Flags.low_delay
    codec.options = {"err_detect": "explode"}
    return codec
