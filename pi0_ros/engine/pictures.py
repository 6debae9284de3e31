"""Camera frames as they come, resized and scaled where the model runs: uint8 [cameras, h, w, 3] to float32 in -1 .. 1.

`pillow` is Pillow's antialiased bilinear filter to the last bit, as openpi prepares images; `torch` is LeRobot's,
without antialias. Both fit the frame into a square with black bars. `torch_0.3` and `torch_0.4` are LeRobot's of those
releases: 0.3 puts all of a bar on top and left, 0.4 made bars -1 before it scaled pictures to -1 .. 1, so they are -3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pi0_ros.base.choices import IMAGE_RESIZES

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
        if resize not in IMAGE_RESIZES:
            raise ValueError(f"resize is {resize!r}, expected one of {', '.join(IMAGE_RESIZES)}")
        self.size, self.resize, self.same = size, resize, (rows, columns) == (size, size)
        ratio = max(columns / size, rows / size)
        self.shape = max(1, int(rows / ratio)), max(1, int(columns / ratio))
        top, left = (size - side if resize == "torch_0.3" else (size - side) // 2 for side in self.shape)
        self.bars = left, size - self.shape[1] - left, top, size - self.shape[0] - top
        if not self.same and resize == "pillow":
            self.across = bilinear(columns, self.shape[1], device) if columns != self.shape[1] else None
            self.down = bilinear(rows, self.shape[0], device) if rows != self.shape[0] else None

    def __call__(self, frames: Tensor) -> Tensor:
        """uint8 [N, h, w, 3] -> float32 [N, size, size, 3]."""
        if self.same:
            return frames.float() / 255.0 * 2.0 - 1.0
        planes = frames.permute(0, 3, 1, 2)
        if self.resize != "pillow":
            fitted = F.interpolate(planes.float() / 255.0, self.shape, mode="bilinear", align_corners=False).clamp(0, 1)
            bar = -1.0 if self.resize == "torch_0.4" else 0.0
            return F.pad(fitted, self.bars, value=bar).permute(0, 2, 3, 1) * 2.0 - 1.0
        pixels = planes.float()
        if self.across is not None:
            pixels = _apply(pixels, self.across)
        if self.down is not None:
            pixels = _apply(pixels.transpose(2, 3), self.down).transpose(2, 3)
        return F.pad(pixels, self.bars).permute(0, 2, 3, 1) / 255.0 * 2.0 - 1.0


class Inlet:
    """A buffer on the device and, for CUDA, its pinned twin on the host: copying in never waits for the device."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
        self.there = torch.zeros(shape, dtype=dtype, device=device)
        self.here = torch.zeros(shape, dtype=dtype, pin_memory=True) if device.type == "cuda" else self.there

    def fill(self, value: Tensor, index: int | slice = slice(None)) -> None:
        """Put a value, from wherever it is, into the part `index`."""
        if value.device.type == "cpu" and self.here is not self.there:
            self.here[index].copy_(value)
            self.there[index].copy_(self.here[index], non_blocking=True)
        else:
            self.there[index].copy_(value)


class Eye:
    """Frames of one set of sizes on their way to pictures: pinned copies, and on CUDA a graph of the resize."""

    def __init__(self, kinds: Sequence[tuple[int, int, bool]], size: int, resize: str, device: torch.device) -> None:
        """`kinds`: rows, columns and whether it is a raw frame, per camera."""
        alike = len(set(kinds)) == 1  # frames of one size are resized together
        groups = [list(kinds)] if alike else [[kind] for kind in kinds]
        self.inlets, self.boxes = [], []
        for group in groups:
            rows, columns, raw = group[0]
            self.inlets.append(Inlet((len(group), rows, columns, 3), torch.uint8 if raw else torch.float32, device))
            self.boxes.append(Letterbox(rows, columns, size, resize, device) if raw else None)
        self.pictures = torch.zeros(len(kinds), size, size, 3, device=device)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.copied = torch.cuda.Event() if device.type == "cuda" else None
        if device.type == "cuda":
            self._resize()
            torch.cuda.synchronize()
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self._resize()

    def look(self, images: Sequence[Tensor], out: Tensor) -> None:
        """Put `images` of the cameras into `out` float32 [cameras, size, size, 3] in -1 .. 1."""
        index = 0
        if self.copied is not None:
            self.copied.synchronize()
        for inlet in self.inlets:
            for part in range(len(inlet.there)):
                inlet.fill(images[index], part)
                index += 1
        if self.copied is not None:
            self.copied.record()
        if self.graph is None:
            self._resize()
        else:
            self.graph.replay()
        out.copy_(self.pictures)

    def _resize(self) -> None:
        first = 0
        for inlet, box in zip(self.inlets, self.boxes, strict=True):
            last = first + len(inlet.there)
            self.pictures[first:last] = inlet.there if box is None else box(inlet.there)
            first = last
