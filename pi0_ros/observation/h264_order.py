"""Whether the pictures of an H.264 stream are all there: read from the heads of its slices, before anything is decoded.

Decoders conceal what is lost: they go on from the wrong picture and say nothing. But reference pictures are numbered
(`frame_num`), so a gap shows.
"""

from __future__ import annotations

from dataclasses import dataclass

from pi0_ros.observation.stream_units import Bits, UnsupportedStreamError, units

SLICE, KEY_SLICE, SEQUENCE, PICTURE = 1, 5, 7, 8  # types of units
HEAD = 64  # bytes of a slice in which its head is
SCALED = (100, 110, 122, 244, 44, 83, 86, 118, 128)  # profiles that tell their chroma
B_SLICES = (1, 6)


@dataclass(frozen=True)
class Sequence:
    """What a sequence parameter set says of the numbers in slices."""

    number_bits: int  # of frame_num
    planes: bool  # each colour is a picture of its own


class Order:
    """Follows the numbers of one stream."""

    def __init__(self) -> None:
        self._sequences: dict[int, Sequence] = {}
        self._pictures: dict[int, int] = {}  # picture parameter set -> sequence parameter set
        self.ends_in_picture = False  # whether a slice was the last unit, which may have been cut short
        self._last: int | None = None  # frame_num of the last reference picture; None: something is missing

    def follows(self, data: bytes) -> bool:
        """Take one picture's bytes; whether all that it builds on has come. A key picture builds on nothing.

        Raises `UnsupportedStreamError`, and `ValueError` for what is no H.264 at all.
        """
        pictures = 0
        whole = True
        for unit in units(data):
            kind, reference = unit[0] & 0x1F, unit[0] >> 5 & 3
            self.ends_in_picture = kind in (SLICE, KEY_SLICE)
            if kind == SEQUENCE:
                self._sequence(Bits(unit[1:]))
            elif kind == PICTURE:
                bits = Bits(unit[1:])
                picture = bits.unsigned()
                self._pictures[picture] = bits.unsigned()
            elif kind in (SLICE, KEY_SLICE):
                bits = Bits(unit[1 : 1 + HEAD])
                if bits.unsigned() != 0:  # not the first slice of its picture
                    continue
                pictures += 1
                whole = self._take(bits, kind == KEY_SLICE, reference > 0)
        if pictures > 1:
            raise UnsupportedStreamError("a message holds several pictures: send one in each")
        if not pictures:
            self._last = None
        return pictures == 1 and whole

    def lost(self) -> None:
        """Something is missing: nothing follows until the next key picture."""
        self._last = None

    def _take(self, bits: Bits, key: bool, reference: bool) -> bool:
        if bits.unsigned() in B_SLICES:
            raise UnsupportedStreamError("it has B pictures, which come late: turn them off (x264: tune zerolatency)")
        sequence = self._sequences.get(self._pictures.get(bits.unsigned(), -1))
        if sequence is None:  # it began before we listened
            return False
        if sequence.planes:
            bits.take(2)
        number = bits.take(sequence.number_bits)
        follows = key or (self._last is not None and number == (self._last + 1) % (1 << sequence.number_bits))
        if not follows:
            self._last = None
        elif reference:
            self._last = number
        return follows

    def _sequence(self, bits: Bits) -> None:
        profile = bits.take(8)
        bits.take(16)
        name, planes = bits.unsigned(), False
        if profile in SCALED:
            chroma = bits.unsigned()
            planes = chroma == 3 and bits.take(1) == 1
            bits.unsigned()
            bits.unsigned()
            bits.take(1)
            if bits.take(1):
                for n in range(8 if chroma != 3 else 12):
                    if bits.take(1):
                        _skip_scaling_list(bits, 16 if n < 6 else 64)
        number_bits = bits.unsigned() + 4
        order = bits.unsigned()
        if order == 0:
            bits.unsigned()
        elif order == 1:
            bits.take(1)
            bits.signed()
            bits.signed()
            for _ in range(bits.unsigned()):
                bits.signed()
        bits.unsigned()
        if bits.take(1):
            raise UnsupportedStreamError(
                "it may leave pictures out, so losses cannot be seen: turn temporal layers off"
            )
        bits.unsigned()
        bits.unsigned()
        if not bits.take(1):
            raise UnsupportedStreamError("it is interlaced: send whole pictures")
        self._sequences[name] = Sequence(number_bits, planes)


def _skip_scaling_list(bits: Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last
