"""The streams of one recording as they were recorded: when each message was stamped and received, some of them kept.

One pass over the storage, no decoding: seconds for a recording of minutes.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from pi0_ros.bags.conventions import PROMPT_TOPIC, PROMPT_TYPE
from pi0_ros.bags.reader import Bag, header_stamp_ns
from pi0_ros.conversion.clocks import not_wild
from pi0_ros.conversion.timing import interval_s, missing
from pi0_ros.observation.streams import FROZEN_BYTES
from pi0_ros.robot.message_types import CAMERA_TYPES

TOGETHER = 3  # joint messages that follow each other are kept, so that their noise can be told
STAMP_BYTES = 12  # of a message with a header: encapsulation and stamp, which differ in equal pictures


@dataclass
class Stream:
    """One topic's messages in the order of their arrival; times in ns, int64."""

    topic: str
    type: str
    stamps: np.ndarray  # header stamps; receive times where there is no header or a zero one
    received: np.ndarray
    zero_stamps: int
    has_header: bool
    kept: list[bytes] = field(repr=False)  # evenly spread messages, undecoded
    same_s: float = 0.0  # of a camera: the longest time with one and the same picture

    @property
    def ordered(self) -> np.ndarray:
        """The stamps in rising order, without those that are far off the others of the stream."""
        if not len(self.stamps):
            return self.stamps
        return np.sort(self.stamps[not_wild(self.stamps - self.received)])

    @property
    def span_s(self) -> float:
        """Seconds from the first message to the last, by stamps or arrivals: clocks that are set make either longer."""
        return float(min(np.ptp(self.ordered), np.ptp(self.received))) * 1e-9 if len(self.stamps) else 0.0

    @property
    def rate_hz(self) -> float:
        """The usual rate: one over the median interval; 0 where there are not two messages."""
        usual = interval_s(self.ordered)
        return 1.0 / usual if usual > 0 else 0.0

    @property
    def missing(self) -> int:
        """How many messages fell out between others, judged by the usual interval."""
        return missing(self.ordered)

    @property
    def delay_s(self) -> float:
        """The median time from a message's stamp to its arrival."""
        return float(np.median(self.received - self.stamps)) * 1e-9

    def gaps(self, limit_s: float) -> list[tuple[float, float]]:
        """Pauses longer than `limit_s`: (seconds after the first stamp, length in seconds)."""
        ordered = self.ordered
        steps = np.diff(ordered) * 1e-9
        return [((ordered[n] - ordered[0]) * 1e-9, float(steps[n])) for n in np.flatnonzero(steps > limit_s)]


@dataclass(frozen=True)
class Recorded:
    """What `read_streams` found: the streams by topic, and the prompts said in the recording."""

    streams: dict[str, Stream]
    prompts: tuple[tuple[int, str], ...]  # receive time in ns, text


def read_streams(bag: Bag, topics: Mapping[str, str], keep: Mapping[str, int]) -> Recorded:
    """Read the messages of `topics` (topic -> type); of each topic up to `keep` messages are kept, evenly spread."""
    counts = {topic: bag.info.topics[topic].count for topic in topics}
    stamped = {topic for topic in topics if bag.has_header(topic)}
    groups = {topic: 1 if kind in CAMERA_TYPES else TOGETHER for topic, kind in topics.items()}
    wanted = {topic: _spread(counts[topic], keep.get(topic, 0), groups[topic]) for topic in topics}
    stamps = {topic: array("q") for topic in topics}  # of a long recording lists of int weigh four times as much
    received = {topic: array("q") for topic in topics}
    kept: dict[str, list[bytes]] = {topic: [] for topic in topics}
    zero = dict.fromkeys(topics, 0)
    pictures = {topic: _Sameness() for topic, kind in topics.items() if kind in CAMERA_TYPES}
    said = bag.info.topics.get(PROMPT_TOPIC)
    listened = {*topics, PROMPT_TOPIC} if said and said.type == PROMPT_TYPE else set(topics)
    prompts = []
    for topic, receive_ns, data in bag.raw(listened):
        if topic not in stamps:
            prompts.append((receive_ns, str(bag.decode(topic, data).data)))
            continue
        stamp = header_stamp_ns(data) if topic in stamped else receive_ns
        if not stamp:
            zero[topic] += 1
            stamp = receive_ns
        if len(stamps[topic]) in wanted[topic]:
            kept[topic].append(data)
        stamps[topic].append(stamp)
        received[topic].append(receive_ns)
        if topic in pictures:
            pictures[topic].add(stamp, receive_ns, data)
    streams = {
        topic: Stream(
            topic,
            kind,
            np.frombuffer(stamps[topic], np.int64),
            np.frombuffer(received[topic], np.int64),
            zero[topic],
            topic in stamped,
            kept[topic],
            pictures[topic].longest_s if topic in pictures else 0.0,
        )
        for topic, kind in topics.items()
    }
    return Recorded(streams, tuple(prompts))


class _Sameness:
    """How long a camera sends one and the same picture; a sensor's noise makes each differ."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._before, self._since, self._arrived = -1, 0, 0

    def add(self, stamp: int, receive_ns: int, data: bytes) -> None:
        """Take the next message. Of both times the shorter counts, since a clock that is set makes either longer."""
        content = np.frombuffer(data, np.uint8)[STAMP_BYTES:]
        mark = zlib.crc32(content[:: len(content) // FROZEN_BYTES | 1].tobytes())
        if mark != self._before or stamp < self._since:
            self._before, self._since, self._arrived = mark, stamp, receive_ns
        self.longest_s = max(self.longest_s, min(stamp - self._since, receive_ns - self._arrived) * 1e-9)


def _spread(count: int, most: int, together: int) -> Collection[int]:
    """At most `most` of the numbers 0 to `count` - 1, evenly spread in groups of so many `together`."""
    if not count or not most:
        return ()
    last = max(0, count - together)
    starts = np.linspace(0, last // together, min(count // together + 1, most // together)).round().astype(int)
    return frozenset(n for start in starts.tolist() for n in range(start * together, start * together + together))
