"""The bytes of a video stream (H.264, H.265): its units, and the numbers in their heads."""

from __future__ import annotations

from collections.abc import Iterator

from pi0_ros.base.errors import InputError


class UnsupportedStreamError(InputError):
    """A stream whose losses could not be seen, or whose pictures come in another order; says what to change."""


def units(data: bytes) -> Iterator[bytes]:
    """The units of a stream, each behind a start code. `ValueError` where there is none."""
    at = data.find(b"\x00\x00\x01")
    if at < 0:
        raise ValueError("no stream with start codes (Annex B)")
    while at >= 0:
        end = data.find(b"\x00\x00\x01", at + 3)
        unit = data[at + 3 : end if end >= 0 else len(data)]
        if unit:
            yield unit
        at = end


class Bits:
    """Reads numbers bit by bit. `ValueError` at the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data.replace(b"\x00\x00\x03", b"\x00\x00")  # without what keeps start codes apart
        self._at = 0

    def take(self, count: int) -> int:
        value = 0
        for _ in range(count):
            if self._at >= 8 * len(self._data):
                raise ValueError("it ends within a head")
            value = value << 1 | self._data[self._at >> 3] >> (7 - (self._at & 7)) & 1
            self._at += 1
        return value

    def unsigned(self) -> int:
        """An Exp-Golomb code."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 32:
                raise ValueError("a number that is none")
        return (1 << zeros) - 1 + self.take(zeros)

    def signed(self) -> int:
        """A signed Exp-Golomb code."""
        code = self.unsigned()
        return (code + 1) // 2 if code & 1 else -(code // 2)
