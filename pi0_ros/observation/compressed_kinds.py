"""What a compressed picture is before it is decoded: how many bits, and colour or grey. Reads a few bytes, no library.

Decoders differ in what they make of 16-bit and grey pictures (a 16-bit depth PNG becomes white RGB in one, noise in
another), so it is told here, whichever is installed.
"""

from __future__ import annotations

from typing import NamedTuple

JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
GREY_PNG, PALETTE_PNG = (0, 4), 3  # colour types of the PNG specification
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # JPEG markers that begin a frame: bits, height, width, components
STANDALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a length


class Kind(NamedTuple):
    """`bits` of each value, `channels` 1 (grey), 3 (colour, alpha not counted) or 4 (print colours)."""

    bits: int
    channels: int


def kind_of(data: bytes) -> Kind | None:
    """The kind of a PNG or JPEG file; None where it is neither, or too broken to tell."""
    if data.startswith(PNG):
        if len(data) < 26:
            return None
        bits, colour = data[24], data[25]
        return Kind(8 if colour == PALETTE_PNG else bits, 1 if colour in GREY_PNG else 3)
    if data.startswith(JPEG):
        return _jpeg(data)
    return None


def size_of(data: bytes) -> tuple[int, int] | None:
    """Rows and columns that a JPEG file claims; None where it is none, or too broken to tell."""
    at = _frame(data) if data.startswith(JPEG) else None
    if at is None:
        return None
    return int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")


def _jpeg(data: bytes) -> Kind | None:
    at = _frame(data)
    return None if at is None else Kind(data[at + 4], data[at + 9])


def _frame(data: bytes) -> int | None:
    """Where the marker that begins a JPEG's frame lies."""
    at = 2
    while at + 9 < len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in STANDALONE:
            at += 2
        elif marker in FRAMES:
            return at
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
