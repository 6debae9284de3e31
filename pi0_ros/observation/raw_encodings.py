"""Raw encodings that cameras send to save bytes: YUV 4:2:2, NV12, NV21 and Bayer patterns, decoded by OpenCV.

cv_bridge decodes them with the same OpenCV functions; it is not needed here, OpenCV's headless wheel is enough.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from pi0_ros.base.errors import InputError
from pi0_ros.robot.encodings import LAYOUTS


class LayoutError(InputError):
    """A picture whose size and data do not fit its encoding."""


class Shape(NamedTuple):
    """Where the values of a message lie."""

    values: int  # a pixel, in its row
    rows: float  # of the message, per row of the picture
    shared: int  # rows of the picture that share colour: its height is a multiple of it


SHAPES = {"pairs": Shape(2, 1.0, 1), "planes": Shape(1, 1.5, 2), "mosaic": Shape(1, 1.0, 2)}


def view(msg: Any, encoding: str) -> np.ndarray:
    """The message's values as OpenCV wants them: [H,W,2] for 4:2:2, [1.5 H,W] for NV12 and NV21, [H,W] for Bayer.

    Row padding (`step`) and byte order are honoured. LayoutError names what does not fit.
    """
    kind, name, _ = LAYOUTS[encoding]
    if name not in SHAPES:
        raise LayoutError(
            f"{encoding} images have the shape {name!r}, which nobody reads; known are {', '.join(SHAPES)}"
        )
    shape, dtype = SHAPES[name], np.dtype((">" if msg.is_bigendian else "<") + kind)
    height, width, step = int(msg.height), int(msg.width), int(msg.step)
    size, row = f"{encoding} image of {width} x {height} pixels", width * shape.values * dtype.itemsize
    if height < 1 or width < 1 or width % 2 or height % shape.shared:
        raise LayoutError(f"{size}: the encoding needs even sizes: check the camera driver")
    if step < row:
        raise LayoutError(f"{size} has a step of {step} bytes, at least {row} are needed: fix the publisher")
    rows = int(height * shape.rows)
    needed = step * (rows - 1) + row
    if len(msg.data) < needed:
        raise LayoutError(f"{size} holds {len(msg.data)} bytes, {needed} are needed: fix the publisher")
    strides = (step, shape.values * dtype.itemsize, dtype.itemsize)
    values = np.ndarray((rows, width, shape.values), dtype, msg.data, strides=strides)
    return values if shape.values > 1 else values[..., 0]


def decode(msg: Any, encoding: str) -> np.ndarray:
    """uint8 [H,W,3] RGB; 16-bit values are scaled to 8 bits. ImportError where OpenCV is missing."""
    convert, code = _opencv(LAYOUTS[encoding].conversion)
    source = view(msg, encoding)
    rgb: np.ndarray = convert(np.ascontiguousarray(source, source.dtype.newbyteorder("=")), code)
    return rgb if rgb.dtype == np.uint8 else ((rgb.astype(np.uint32) + 128) // 257).astype(np.uint8)


@functools.cache
def _opencv(conversion: str) -> tuple[Any, int]:
    """OpenCV's function and its number of this conversion, which older and newer releases may lack."""
    import cv2

    code = getattr(cv2, conversion, None)
    if code is None:
        raise LayoutError(f"OpenCV {cv2.__version__} has no {conversion}: have the driver send rgb8")
    return cv2.cvtColor, int(code)


def check(msg: Any, encoding: str) -> None:
    """Raise what decoding would, as far as can be told without decoding."""
    _opencv(LAYOUTS[encoding].conversion)
    view(msg, encoding)
