"""Whether the pictures that a picture of an H.265 stream builds on are all there: read from the heads of its slices.

Every picture lists the pictures that must be held for it and for what follows (its reference picture set), by their
distance. One that is not held was lost; decoders make something up for it and say nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from pi0_ros.observation.stream_units import Bits, UnsupportedStreamError, units

SEQUENCE, PICTURE = 33, 34  # types of units
KEYS, FRESH = range(16, 22), (19, 20)  # pictures that build on nothing; and those after which numbers begin anew
LEADING = range(6, 10)  # shown before the key picture that they come after
PICTURES = (*range(10), *KEYS)
MOST = 16  # pictures that a decoder may hold
HEAD = 128  # bytes of a slice in which its references are
LATE = "its pictures come in another order than they are shown: turn B pictures off (x265: tune zerolatency)"

References = tuple["tuple[int, bool]", ...]  # distance to each (before: negative), and whether this picture needs it


@dataclass(frozen=True)
class Sequence:
    """What a sequence parameter set says of the heads of slices."""

    number_bits: int  # of a picture's number
    buffered: int  # pictures that a decoder holds at most
    planes: bool  # each colour is a picture of its own
    references: tuple[References, ...]  # sets that slices choose from
    long_term: bool  # references of another kind may follow
    long_term_sets: int


@dataclass(frozen=True)
class Picture:
    """What a picture parameter set says of them."""

    sequence: int
    output_flag: bool
    extra_bits: int


class Order:
    """Follows one stream."""

    def __init__(self) -> None:
        self._sequences: dict[int, Sequence] = {}
        self._pictures: dict[int, Picture] = {}
        self.held: frozenset[int] = frozenset()  # numbers of the pictures that a decoder has, whole ones
        self.number = 0  # of the last picture
        self.buffered = 0  # pictures that a decoder holds at most
        self.ends_in_picture = False  # whether a slice was the last unit, which may have been cut short

    def follows(self, data: bytes) -> bool:
        """Take one picture's bytes; whether all that it builds on has come. A key picture builds on nothing.

        Raises `UnsupportedStreamError`, and `ValueError` for what is no H.265 at all.
        """
        pictures, whole = 0, True
        for unit in units(data):
            if len(unit) < 3 or unit[0] & 1 or unit[1] >> 3:  # of another layer
                continue
            kind = unit[0] >> 1 & 0x3F
            self.ends_in_picture = kind in PICTURES
            if kind == SEQUENCE:
                name, sequence = _sequence(Bits(unit[2:]))
                self._sequences[name] = sequence
            elif kind == PICTURE:
                bits = Bits(unit[2:])
                name, of = bits.unsigned(), bits.unsigned()
                bits.take(1)
                self._pictures[name] = Picture(of, bool(bits.take(1)), bits.take(3))
            elif kind in PICTURES:
                bits = Bits(unit[2 : 2 + HEAD])
                if not bits.take(1):  # not the first slice of its picture
                    continue
                pictures += 1
                whole = self._take(bits, kind)
        if pictures > 1:
            raise UnsupportedStreamError("a message holds several pictures: send one in each")
        if not pictures or not whole:
            self.lost()
        return pictures == 1 and whole

    def lost(self) -> None:
        """Something is missing: nothing follows until the next key picture."""
        self.held = frozenset()

    def _take(self, bits: Bits, kind: int) -> bool:
        if kind in LEADING:
            raise UnsupportedStreamError(LATE)
        if kind in KEYS:
            bits.take(1)
        picture = self._pictures.get(bits.unsigned())
        sequence = None if picture is None else self._sequences.get(picture.sequence)
        if picture is None or sequence is None:  # it began before we listened
            return False
        self.buffered = sequence.buffered
        bits.take(picture.extra_bits)
        bits.unsigned()
        bits.take(int(picture.output_flag) + 2 * int(sequence.planes))
        if kind in FRESH:
            self.held, self.number = frozenset({0}), 0
            return True
        self.number = number = bits.take(sequence.number_bits)
        if kind in KEYS:
            self.held = frozenset({number})
            return True
        return self._references(bits, sequence, number)

    def _references(self, bits: Bits, sequence: Sequence, number: int) -> bool:
        count = len(sequence.references)
        if not bits.take(1):
            references = _reference_set(bits, count, sequence.references, in_slice=True)
        else:
            choice = bits.take((count - 1).bit_length()) if count > 1 else 0
            if choice >= count:
                raise ValueError("a set of references that is not there")
            references = sequence.references[choice]
        if sequence.long_term:
            chosen = bits.unsigned() if sequence.long_term_sets else 0
            if chosen + bits.unsigned():
                raise UnsupportedStreamError("it has long-term references: turn them off")
        if any(distance > 0 for distance, _ in references):
            raise UnsupportedStreamError(LATE)
        numbers = 1 << sequence.number_bits
        needed = {(number + distance) % numbers for distance, used in references if used}
        kept = {(number + distance) % numbers for distance, _ in references}
        whole = needed <= self.held and bool(self.held)
        self.held = frozenset((kept & self.held) | {number})
        return whole


def _sequence(bits: Bits) -> tuple[int, Sequence]:
    bits.take(4)
    layers = bits.take(3)
    bits.take(1)
    _skip_profile(bits, layers)
    name, chroma = bits.unsigned(), bits.unsigned()
    planes = chroma == 3 and bits.take(1) == 1
    for _ in range(2):
        bits.unsigned()
    if bits.take(1):
        for _ in range(4):
            bits.unsigned()
    for _ in range(2):
        bits.unsigned()
    number_bits = bits.unsigned() + 4
    buffered = 0
    for _ in range(layers + 1 if bits.take(1) else 1):
        buffered = bits.unsigned() + 1
        if bits.unsigned():
            raise UnsupportedStreamError(LATE)
        bits.unsigned()
    for _ in range(6):
        bits.unsigned()
    if bits.take(1) and bits.take(1):
        _skip_scaling_lists(bits)
    bits.take(2)
    if bits.take(1):
        bits.take(8)
        bits.unsigned()
        bits.unsigned()
        bits.take(1)
    if (count := bits.unsigned()) > 64:
        raise ValueError("more sets of references than there can be")
    sets: tuple[References, ...] = ()
    for _ in range(count):
        sets = (*sets, _reference_set(bits, len(sets), sets, in_slice=False))
    long_term = bool(bits.take(1))
    return name, Sequence(
        number_bits, min(buffered, MOST), planes, sets, long_term, bits.unsigned() if long_term else 0
    )


def _reference_set(bits: Bits, index: int, sets: tuple[References, ...], in_slice: bool) -> References:
    """A set as it is written: in full, or by what differs from one before it."""
    if index and bits.take(1):
        back = 1 + (bits.unsigned() if in_slice else 0)
        sign = -1 if bits.take(1) else 1
        step = sign * (bits.unsigned() + 1)
        if back > index:
            raise ValueError("a set of references that is not there")
        found = []
        for distance in (*(distance for distance, _ in sets[index - back]), 0):
            used = bool(bits.take(1))
            if used or bits.take(1):
                found.append((distance + step, used))
    else:
        counts = bits.unsigned(), bits.unsigned()
        if max(counts) > 16:
            raise ValueError("more references than there can be")
        found = []
        for count, sign in zip(counts, (-1, 1)):
            distance = 0
            for _ in range(count):
                distance += sign * (bits.unsigned() + 1)
                found.append((distance, bool(bits.take(1))))
    before = sorted((item for item in found if item[0] < 0), reverse=True)
    return (*before, *sorted(item for item in found if item[0] > 0))


def _skip_profile(bits: Bits, layers: int) -> None:
    bits.take(96)
    told = [(bits.take(1), bits.take(1)) for _ in range(layers)]
    if layers:
        bits.take(2 * (8 - layers))
    for profile, level in told:
        bits.take(88 * profile + 8 * level)


def _skip_scaling_lists(bits: Bits) -> None:
    for size in range(4):
        for _ in range(6 if size < 3 else 2):
            if not bits.take(1):
                bits.unsigned()
                continue
            if size > 1:
                bits.signed()
            for _ in range(min(64, 16 << 2 * size)):
                bits.signed()
