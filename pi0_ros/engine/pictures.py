"""Camera frames as they come, resized and scaled where the model runs: uint8 [cameras, h, w, 3] to float32 in -1 .. 1.

`pillow` is Pillow's antialiased bilinear filter to the last bit, as openpi prepares images; `torch` is LeRobot's, without
antialias. Both fit the frame into a square with black bars.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

RESIZES = ("pillow", "torch")
_BITS = 22  # of Pillow's fixed-point weights
_LOW = 11  # the lower half of them: a sum of products of a half and a pixel is exact in float32


@dataclass(frozen=True)
class Filter:
    """One direction of Pillow's filter as two matrices [to, from]: the weights are `high * 2^11 + low`."""

    high: Tensor
    low: Tensor


def bilinear(source: int, target: int, device: torch.device) -> Filter:
    """The weights of Pillow's bilinear filter from `source` to `target` pixels."""
    scale = source / target
    support = max(scale, 1.0)
    weights = torch.zeros(target, source, dtype=torch.int64)
    for index in range(target):
        centre = (index + 0.5) * scale
        first, last = max(0, int(centre - support + 0.5)), min(source, int(centre + support + 0.5))
        row = [max(0.0, 1.0 - abs((pixel - centre + 0.5) / support)) for pixel in range(first, last)]
        total = sum(row)
        for pixel, weight in zip(range(first, last), row, strict=True):
            weights[index, pixel] = int(0.5 + weight * (1.0 / total) * (1 << _BITS))
    high = weights >> _LOW
    return Filter(high.float().to(device), (weights - (high << _LOW)).float().to(device))


def _apply(pixels: Tensor, weights: Filter) -> Tensor:
    """Filter the last axis of whole numbers 0 .. 255, rounding to whole numbers as Pillow does."""
    high, low = F.linear(pixels, weights.high).int(), F.linear(pixels, weights.low).int()
    return ((high * (1 << _LOW) + low + (1 << (_BITS - 1))) >> _BITS).clamp_(0, 255).float()


class Letterbox:
    """Frames of one size to the model's pictures."""

    def __init__(self, rows: int, columns: int, size: int, resize: str, device: torch.device) -> None:
        if resize not in RESIZES:
            raise ValueError(f"resize is {resize!r}, expected one of {', '.join(RESIZES)}")
        self.size, self.resize, self.same = size, resize, (rows, columns) == (size, size)
        ratio = max(columns / size, rows / size)
        self.shape = max(1, int(rows / ratio)), max(1, int(columns / ratio))
        top, left = ((size - side) // 2 for side in self.shape)
        self.bars = left, size - self.shape[1] - left, top, size - self.shape[0] - top
        if not self.same and resize == "pillow":
            self.across = bilinear(columns, self.shape[1], device) if columns != self.shape[1] else None
            self.down = bilinear(rows, self.shape[0], device) if rows != self.shape[0] else None

    def __call__(self, frames: Tensor) -> Tensor:
        """uint8 [N, h, w, 3] -> float32 [N, size, size, 3]."""
        if self.same:
            return frames.float() / 255.0 * 2.0 - 1.0
        planes = frames.permute(0, 3, 1, 2)
        if self.resize == "torch":
            fitted = F.interpolate(planes.float() / 255.0, self.shape, mode="bilinear", align_corners=False).clamp(0, 1)
            return F.pad(fitted, self.bars).permute(0, 2, 3, 1) * 2.0 - 1.0
        pixels = planes.float()
        if self.across is not None:
            pixels = _apply(pixels, self.across)
        if self.down is not None:
            pixels = _apply(pixels.transpose(2, 3), self.down).transpose(2, 3)
        return F.pad(pixels, self.bars).permute(0, 2, 3, 1) / 255.0 * 2.0 - 1.0
