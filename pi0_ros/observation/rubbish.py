"""Memory full of rubbish for a decoder of H.265, so that what it does not write of a picture is seen.

It leaves what is missing (of a message that ends just between two slices) as the picture's memory happens to be: zeros
at first, later an old picture, which may look right. Where one of two decoders writes into rubbish, they differ.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

RUBBISH = np.random.default_rng(0).integers(0, 256, 1 << 16, np.uint8)


def samples(frame: Any, number: int) -> np.ndarray:
    """A plane's bytes without what fills its lines up, uint8 [height, bytes]: all that is surely the picture's own."""
    plane, wide = frame.planes[number], (frame.format.components[0].bits + 7) // 8
    lines = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    return lines[: plane.height, : plane.width * wide]


class Rubbish:
    """Spoils the memory of one decoder's pictures as soon as no other builds on them: it writes the next ones there."""

    def __init__(self, codec: Any, key: Any, pictures: int) -> None:
        """`codec` will hold so many pictures of the size of the packet `key`, a key picture."""
        self._lent: list[tuple[int, Any]] = []  # numbers and frames that the decoder may still read
        for _ in range(pictures):
            self._lent += [(0, frame) for frame in codec.decode(key)]
            codec.flush_buffers()
        self._take_back(())

    def lend(self, frame: Any, number: int, held: Collection[int]) -> None:
        """The decoder has written `frame`, the picture `number`; behind it others build on those `held`."""
        self._take_back([other for other in held if other != number])
        self._lent.append((number, frame))

    def _take_back(self, held: Collection[int]) -> None:
        for number, frame in self._lent:
            for place in () if number in held else range(len(frame.planes)):
                lines = samples(frame, place)
                lines[:] = RUBBISH[: lines.shape[1]]
        self._lent = [(number, frame) for number, frame in self._lent if number in held]
