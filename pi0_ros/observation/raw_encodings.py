"""Raw encodings that cameras send to save bytes: YUV 4:2:2, NV12, NV21 and Bayer patterns, decoded by OpenCV.

cv_bridge decodes them with the same OpenCV functions; it is not needed here, OpenCV's headless wheel is enough.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from pi0_ros.base.errors import InputError

# encoding: (numpy kind, bytes a pixel in a row, rows of the message per row of the picture, OpenCV's conversion)
LAYOUTS: dict[str, tuple[str, int, float, str]] = {
    "uyvy": ("u1", 2, 1.0, "COLOR_YUV2RGB_UYVY"),
    "yuv422": ("u1", 2, 1.0, "COLOR_YUV2RGB_UYVY"),  # ROS's old name of uyvy
    "yuyv": ("u1", 2, 1.0, "COLOR_YUV2RGB_YUY2"),
    "yuy2": ("u1", 2, 1.0, "COLOR_YUV2RGB_YUY2"),
    "yuv422_yuy2": ("u1", 2, 1.0, "COLOR_YUV2RGB_YUY2"),
    "nv12": ("u1", 1, 1.5, "COLOR_YUV2RGB_NV12"),
    "nv21": ("u1", 1, 1.5, "COLOR_YUV2RGB_NV21"),
    **{
        f"bayer_{pattern}{bits}": (f"u{bits // 8}", bits // 8, 1.0, f"COLOR_BAYER_{pattern.upper()}2RGB")
        for pattern in ("rggb", "bggr", "gbrg", "grbg")
        for bits in (8, 16)
    },
}


class LayoutError(InputError):
    """A picture whose size and data do not fit its encoding."""


def view(msg: Any, encoding: str) -> np.ndarray:
    """The message's bytes as OpenCV wants them: [H,W,2] for 4:2:2, [1.5 H,W] for NV12 and NV21, [H,W] for Bayer.

    Row padding (`step`) and byte order are honoured. LayoutError names what does not fit.
    """
    kind, pixel, rows_per_row, _ = LAYOUTS[encoding]
    height, width, step = int(msg.height), int(msg.width), int(msg.step)
    size = f"{encoding} image of {width} x {height} pixels"
    packed = kind == "u1" and pixel == 2  # 4:2:2 shares colour along a row only, the others between rows too
    if height < 1 or width < 1 or width % 2 or (height % 2 and not packed):
        raise LayoutError(f"{size}: the encoding needs even sizes: check the camera driver")
    if step < width * pixel:
        raise LayoutError(f"{size} has a step of {step} bytes, at least {width * pixel} are needed: fix the publisher")
    rows = int(height * rows_per_row)
    needed = step * (rows - 1) + width * pixel
    if len(msg.data) < needed:
        raise LayoutError(f"{size} holds {len(msg.data)} bytes, {needed} are needed: fix the publisher")
    dtype = np.dtype((">" if msg.is_bigendian else "<") + kind)
    if packed:
        return np.ndarray((rows, width, 2), np.uint8, msg.data, strides=(step, 2, 1))
    return np.ndarray((rows, width), dtype, msg.data, strides=(step, dtype.itemsize))


def decode(msg: Any, encoding: str) -> np.ndarray:
    """uint8 [H,W,3] RGB; 16-bit values are scaled to 8 bits. ImportError where OpenCV is missing."""
    convert, codes = _opencv()
    source = view(msg, encoding)
    rgb: np.ndarray = convert(np.ascontiguousarray(source, source.dtype.newbyteorder("=")), codes[encoding])
    return rgb if rgb.dtype == np.uint8 else ((rgb.astype(np.uint32) + 128) // 257).astype(np.uint8)


@functools.cache
def _opencv() -> tuple[Any, dict[str, int]]:
    import cv2

    return cv2.cvtColor, {encoding: getattr(cv2, layout[3]) for encoding, layout in LAYOUTS.items()}


def check(msg: Any, encoding: str) -> None:
    """Raise what decoding would, as far as can be told without decoding."""
    _opencv()
    view(msg, encoding)
