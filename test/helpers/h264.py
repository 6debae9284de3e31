"""Pictures as a camera with an H.264 encoder sends them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import numpy as np
from bagmaker import TYPES, header

COMPRESSED = "sensor_msgs/msg/CompressedImage"


def encoded(count: int, key_every: int = 10, codec: str = "libx264", **options: str) -> list[bytes]:
    """A moving scene as a camera's encoder sends it, one picture in each."""
    stream = av.CodecContext.create(codec, "w")
    stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
    stream.time_base, stream.framerate = Fraction(1, 30), Fraction(30)
    stream.gop_size = key_every
    stream.options = {"tune": "zerolatency", "preset": "ultrafast"} | options
    scene = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    packets = []
    for number in range(count):
        frame = av.VideoFrame.from_ndarray(np.roll(scene, 2 * number, axis=1), format="rgb24")
        frame.pts = number
        packets += stream.encode(frame)
    return [bytes(packet) for packet in packets + stream.encode(None)]


def stream_message(ns: int, data: bytes) -> Any:
    return TYPES[COMPRESSED](header=header(ns), format="h264", data=np.frombuffer(data, np.uint8))
