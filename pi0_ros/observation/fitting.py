"""Pictures made as small as the model needs them, before they travel: each resize of `engine.pictures`, without torch.

`pillow` is openpi's, to the last bit. `torch*` is LeRobot's (bilinear, no antialias, on floats), rounded to whole grey
levels: within one of what the model would have made of the whole picture.
"""

from __future__ import annotations

import functools

import numpy as np

from pi0_ros.base.choices import IMAGE_RESIZES
from pi0_ros.base.errors import InputError
from pi0_ros.observation.images import resize_with_pad


def fit(image: np.ndarray, size: int, resize: str) -> np.ndarray:
    """uint8 [h, w, 3] -> what the model, given it in the image's place, makes the same picture of.

    Without the bars of a letterbox where the model adds them again, else `size` x `size`. A picture whose bars are no
    colour (`torch_0.4`) and that the model would scale once more comes back as it is.
    """
    if resize not in IMAGE_RESIZES:
        raise InputError(f"image_resize is {resize!r}, expected one of {', '.join(IMAGE_RESIZES)}")
    rows, columns = image.shape[:2]
    inner = inner_shape(rows, columns, size)
    if (rows, columns) in (inner, (size, size)):
        return image
    stable = inner_shape(*inner, size) == inner
    if resize == "pillow":
        return _pillow(image, *inner) if stable else resize_with_pad(image, size, size)
    if stable:
        return bilinear(image, *inner)
    if resize == "torch_0.4":
        return image
    top, left = (size - side if resize == "torch_0.3" else (size - side) // 2 for side in inner)
    padded = np.zeros((size, size, 3), np.uint8)
    padded[top : top + inner[0], left : left + inner[1]] = bilinear(image, *inner)
    return padded


def inner_shape(rows: int, columns: int, size: int) -> tuple[int, int]:
    """Rows and columns of the picture within the letterbox, truncated as openpi and LeRobot do it."""
    ratio = max(columns / size, rows / size)
    return max(1, int(rows / ratio)), max(1, int(columns / ratio))


def bilinear(image: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """uint8 [h, w, C] -> uint8 [rows, columns, C] as torch's bilinear interpolation (align_corners=False), rounded."""
    above, below, down = _taps(image.shape[0], rows)
    left, right, across = _taps(image.shape[1], columns)
    upper, lower = np.take(image, above, axis=0), np.take(image, below, axis=0)
    rows_between = [
        _between(np.take(line, left, axis=1).astype(np.float32), np.take(line, right, axis=1), across[:, None])
        for line in (upper, lower)
    ]
    fitted = _between(rows_between[0], rows_between[1], down[:, None, None])
    fitted += 0.5
    return fitted.astype(np.uint8)


def _between(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    """`first`, moved by `share` of the way to `second`; overwrites nothing of `second`."""
    step = second - first
    step *= share
    step += first
    return step


@functools.lru_cache(maxsize=64)
def _taps(source: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which two pixels each pixel of the result lies between, int64 [target] twice, and how far, float32 [target]."""
    place = np.maximum((np.arange(target, dtype=np.float32) + np.float32(0.5)) * np.float32(source / target) - 0.5, 0)
    first = np.minimum(place.astype(np.int64), source - 1)
    return first, np.minimum(first + 1, source - 1), (place - first).astype(np.float32)


def _pillow(image: np.ndarray, rows: int, columns: int) -> np.ndarray:
    from PIL import Image  # only where an image has another size

    return np.asarray(Image.fromarray(image).resize((columns, rows), Image.Resampling.BILINEAR))
