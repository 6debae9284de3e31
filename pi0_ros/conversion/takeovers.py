"""Where in a recording a person led instead of the policy: what `pi0 convert --corrections` keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pi0_ros.bags.conventions import PERSON
from pi0_ros.bags.reader import Bag
from pi0_ros.conversion.align import Scan
from pi0_ros.conversion.episodes import FOREVER, Segment
from pi0_ros.observation.stream_buffer import SECOND

Span = tuple[int, int]  # first ns, and the one after the last


def person_led(bag: Bag, found: Scan, topic: str) -> list[Span]:
    """When a person was in charge, in the order of time."""
    said = [(ns, bag.decode(topic, data).data == PERSON) for ns, data in found.events.get(topic, ())]
    spans: list[Span] = []
    for place, (ns, person) in enumerate(said):
        end = said[place + 1][0] if place + 1 < len(said) else FOREVER
        if person and spans and spans[-1][1] == ns:  # said again
            spans[-1] = (spans[-1][0], end)
        elif person:
            spans.append((ns, end))
    return spans


def corrections(segments: Sequence[Segment], led: Sequence[Span], before_s: float) -> list[Segment]:
    """Of every segment what a person led, each time an episode of its own, from `before_s` before.

    What came before belongs to no other takeover.
    """
    cut = []
    for segment in segments:
        earliest = segment.start_ns
        for start, end in led:
            start_ns = max(start - round(before_s * SECOND), earliest)
            end_ns = min(end, segment.end_ns)
            if max(start, segment.start_ns) < end_ns:
                cut.append(replace(segment, start_ns=start_ns, end_ns=end_ns))
                earliest = end_ns
    return cut


def led_frames(ticks: np.ndarray, led: Sequence[Span]) -> np.ndarray:
    """Which of the frames at `ticks` (ns) a person led, bool [T]."""
    return np.array([any(start <= tick < end for start, end in led) for tick in ticks.tolist()], bool)
