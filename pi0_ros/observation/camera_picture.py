"""What the robot file says about a camera's pictures, done alike live and offline: encoding, depth,
rectification, crop, rotation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pi0_ros.observation.images import ImageError, check_image, decode_image
from pi0_ros.observation.rectifying import rectified
from pi0_ros.robot import Camera

DEPTHS = {"16UC1": ("u2", 1e-3), "mono16": ("u2", 1e-3), "32FC1": ("f4", 1.0)}  # kind, metres per unit


@dataclass(frozen=True)
class _Relabelled:
    """An Image message under the encoding that it really has."""

    message: Any
    encoding: str

    def __getattr__(self, name: str) -> Any:
        return getattr(self.message, name)


def decoder_of(camera: Camera) -> Callable[[Any], np.ndarray]:
    """A function from the camera's messages to its pictures, uint8 [H,W,3] RGB. It raises `ImageError`."""
    if not (camera.encoding or camera.depth or camera.rectify or camera.crop or camera.rotate):
        return decode_image

    def decode(msg: Any) -> np.ndarray:
        picture = _depth_picture(msg, camera) if camera.depth else decode_image(_relabelled(msg, camera))
        if camera.rectify is not None:
            picture = rectified(picture, camera.rectify, camera.name)
        return np.ascontiguousarray(np.rot90(_cropped(picture, camera), -camera.rotate // 90))

    return decode


def checker_of(camera: Camera) -> Callable[[Any], None]:
    """A function that raises the `ImageError` that decoding would meet, as far as can be told without decoding."""
    if camera.depth:
        return lambda msg: _check_depth(msg)
    if camera.encoding:
        return lambda msg: check_image(_relabelled(msg, camera))
    return check_image


def _relabelled(msg: Any, camera: Camera) -> Any:
    return _Relabelled(msg, camera.encoding) if camera.encoding and hasattr(msg, "encoding") else msg


def _cropped(picture: np.ndarray, camera: Camera) -> np.ndarray:
    if camera.crop is None:
        return picture
    left, top, width, height = camera.crop
    if left + width > picture.shape[1] or top + height > picture.shape[0]:
        raise ImageError(
            f"the pictures are {picture.shape[1]} x {picture.shape[0]}, too small for camera '{camera.name}'s crop of "
            f"{width} x {height} at {left}, {top}: change crop in the robot file"
        )
    return picture[top : top + height, left : left + width]


def _check_depth(msg: Any) -> None:
    encoding = getattr(msg, "encoding", None)
    if encoding not in DEPTHS:
        what = f"encoding {encoding!r} is" if encoding is not None else "a compressed image is"
        raise ImageError(f"{what} no depth image: remove `depth` from the camera, or name a depth topic")
    height, width, step = int(msg.height), int(msg.width), int(msg.step)
    pixel = np.dtype(DEPTHS[encoding][0]).itemsize
    if height < 1 or width < 1 or step < width * pixel or len(msg.data) < step * (height - 1) + width * pixel:
        raise ImageError(f"{encoding} image of {width} x {height} pixels does not hold its pixels: fix the publisher")


def _depth_picture(msg: Any, camera: Camera) -> np.ndarray:
    """Near is white, far is black, and what the camera did not measure (0 or not finite) is black."""
    assert camera.depth is not None
    _check_depth(msg)
    kind, metres = DEPTHS[msg.encoding]
    dtype = np.dtype((">" if msg.is_bigendian else "<") + kind)
    values = np.ndarray((msg.height, msg.width), dtype, msg.data, strides=(int(msg.step), dtype.itemsize))
    distance = values.astype(np.float32) * np.float32(metres)
    near, far = camera.depth
    measured = np.isfinite(distance) & (distance > 0)
    level = np.clip((far - np.where(measured, distance, far)) / (far - near), 0.0, 1.0)
    grey = np.round(255.0 * level).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)
