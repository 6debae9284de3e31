"""The encodings of raw pictures, and where red, green and blue are in each: one table for robot file and decoders.

A robot file may name each of them (`encoding`). `pi0_ros.observation` reads `PIXELS` by numpy and `LAYOUTS` by OpenCV.
"""

from __future__ import annotations

from typing import NamedTuple


class Pixels(NamedTuple):
    """Every pixel has its channels side by side."""

    kind: str  # of numpy, for one value
    channels: int  # in the message
    order: tuple[int, int, int]  # where red, green and blue are


class Layout(NamedTuple):
    """Pixels share their colour."""

    kind: str  # of numpy, for one value
    shape: str  # how they share it: pairs | planes | mosaic, see SHAPES in pi0_ros/observation/raw_encodings.py
    conversion: str  # what OpenCV calls it


PIXELS = {
    "rgb8": Pixels("u1", 3, (0, 1, 2)),
    "bgr8": Pixels("u1", 3, (2, 1, 0)),
    "rgba8": Pixels("u1", 4, (0, 1, 2)),
    "bgra8": Pixels("u1", 4, (2, 1, 0)),
    "mono8": Pixels("u1", 1, (0, 0, 0)),
    "8UC1": Pixels("u1", 1, (0, 0, 0)),
    "rgb16": Pixels("u2", 3, (0, 1, 2)),
    "bgr16": Pixels("u2", 3, (2, 1, 0)),
    "rgba16": Pixels("u2", 4, (0, 1, 2)),
    "bgra16": Pixels("u2", 4, (2, 1, 0)),
    "mono16": Pixels("u2", 1, (0, 0, 0)),
}
LAYOUTS = {
    "uyvy": Layout("u1", "pairs", "COLOR_YUV2RGB_UYVY"),
    "yuv422": Layout("u1", "pairs", "COLOR_YUV2RGB_UYVY"),  # ROS's old name of uyvy
    "yuyv": Layout("u1", "pairs", "COLOR_YUV2RGB_YUY2"),
    "yuy2": Layout("u1", "pairs", "COLOR_YUV2RGB_YUY2"),
    "yuv422_yuy2": Layout("u1", "pairs", "COLOR_YUV2RGB_YUY2"),
    "nv12": Layout("u1", "planes", "COLOR_YUV2RGB_NV12"),
    "nv21": Layout("u1", "planes", "COLOR_YUV2RGB_NV21"),
    **{
        f"bayer_{pattern}{bits}": Layout(f"u{bits // 8}", "mosaic", f"COLOR_BAYER_{pattern.upper()}2RGB")
        for pattern in ("rggb", "bggr", "gbrg", "grbg")
        for bits in (8, 16)
    },
}
ENCODINGS = (*PIXELS, *LAYOUTS)
GREY = tuple(name for name, pixels in PIXELS.items() if len({*pixels.order}) == 1)  # without colour
