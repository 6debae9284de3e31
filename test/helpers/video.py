"""Pictures as a camera with an H.264 or H.265 encoder sends them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import numpy as np
from bagmaker import TYPES, header

COMPRESSED = "sensor_msgs/msg/CompressedImage"


NAMES = {"libx264": "h264", "libx265": "h265"}  # of encoders -> what messages call their streams


def encoded(count: int, key_every: int = 10, codec: str = "libx264", moves: int = 2, **options: str) -> list[bytes]:
    """A scene that moves by so many pixels a picture, as a camera's encoder sends it, one picture in each."""
    stream = av.CodecContext.create(codec, "w")
    stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
    stream.time_base, stream.framerate = Fraction(1, 30), Fraction(30)
    stream.gop_size = key_every
    stream.options = {"tune": "zerolatency", "preset": "ultrafast"} | options
    if codec == "libx265":  # it hears of a file's heads and of key pictures in its own words only
        own = f"log-level=none:annexb=1:repeat-headers=1:scenecut=0:keyint={key_every}:pools=1:frame-threads=1"
        own = ":".join(filter(None, (own, options.get("x265-params"))))
        stream.options = {**stream.options, "x265-params": own}
    scene = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    packets = []
    for number in range(count):
        frame = av.VideoFrame.from_ndarray(np.roll(scene, moves * number, axis=1), format="rgb24")
        frame.pts = number
        packets += stream.encode(frame)
    return [bytes(packet) for packet in packets + stream.encode(None)]


def stream_message(ns: int, data: bytes, name: str = "h264") -> Any:
    return TYPES[COMPRESSED](header=header(ns), format=name, data=np.frombuffer(data, np.uint8))
