"""Where the recorder's own clock was set back in mid-recording, told by the order in which messages were written.

A machine whose clock is set while it records steps in the header stamps and in the times of arrival alike. Read in the
order of these times two moments would interleave, and nothing in them tells. The order in the file does: all topics go
back at one place. From there on messages get times of arrival that go on where the earlier ones ended. (A clock that
is set forward leaves a gap in all streams.)
"""

from __future__ import annotations

import sqlite3
import struct
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rosbags.interfaces import Connection

from pi0_ros.bags.mcap_format import CHUNK, MAGIC, MESSAGE, MESSAGE_HEAD, MESSAGE_INDEX, RECORD_HEAD

BACK_NS = 50_000_000  # a topic's messages of one recorder never go back; those of two threads of it, by less
Messages = Iterator[tuple[Connection, int, bytes]]
SECOND = 1_000_000_000
NEAR = 1000  # messages on both sides of a step, among which a topic must be to tell of it
NOTHING = np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class Written:
    """The messages of a file in the order in which they were written: connection ids and times of arrival (ns)."""

    ids: np.ndarray
    times: np.ndarray

    @staticmethod
    def of_pairs(pairs: array[int]) -> Written:
        """From id, time, id, time and so on."""
        table = np.frombuffer(pairs, np.int64)
        return Written(table[::2], table[1::2])


@dataclass(frozen=True)
class SetBack:
    """After so many messages of each connection (file, id) the recorder's clock had been set back by `by` ns in all.

    `first`, `last`: the times of arrival of the recording's first message and of the last one until the next step, as
    they were written (ns).
    """

    before: Mapping[tuple[int, int], int]
    by: int
    first: int
    last: int


def written_mcap(path: Path) -> Written:
    """From an MCAP file's message indexes; raises `struct.error` and `OSError` where the file is broken."""
    ids, times = [NOTHING], [NOTHING]
    chunk: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # ids, times, places within the chunk
    loose: list[tuple[int, int]] = []  # messages outside of chunks

    def flush() -> None:
        if chunk:
            order = np.argsort(np.concatenate([places for *_, places in chunk]), kind="stable")
            ids.append(np.concatenate([which for which, *_ in chunk])[order])
            times.append(np.concatenate([when for _, when, _ in chunk])[order])
            chunk.clear()
        if loose:
            ids.append(np.array([which for which, _ in loose], np.int64))
            times.append(np.array([when for _, when in loose], np.int64))
            loose.clear()

    with path.open("rb") as file:
        file.seek(len(MAGIC))
        while len(head := file.read(RECORD_HEAD.size)) == RECORD_HEAD.size:
            kind, length = RECORD_HEAD.unpack(head)
            end = file.tell() + length
            if kind == CHUNK:
                flush()
            elif kind == MESSAGE_INDEX:
                content = file.read(length)
                channel = struct.unpack_from("<H", content)[0]
                pairs = np.frombuffer(content, "<u8", offset=6).reshape(-1, 2).astype(np.int64)
                chunk.append((np.full(len(pairs), channel, np.int64), pairs[:, 0], pairs[:, 1]))
            elif kind == MESSAGE:
                channel, _, when, _ = MESSAGE_HEAD.unpack(file.read(MESSAGE_HEAD.size))
                loose.append((channel, when))
            file.seek(end)
        flush()
    return Written(np.concatenate(ids), np.concatenate(times))


def written_sqlite(path: Path) -> Written:
    """From a sqlite3 file; raises `sqlite3.DatabaseError` where it is broken. Pictures are not read."""
    database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
    try:
        table = array("q")  # of a long recording a list of tuples weighs far more
        for row in database.execute("SELECT topic_id, timestamp FROM messages NOT INDEXED ORDER BY id"):
            table.extend(row)
    finally:
        database.close()
    return Written.of_pairs(table)


def set_backs(files: Sequence[Written]) -> list[SetBack]:
    """Where the recorder's clock was set back, in the order of the files, which are the parts of one recording.

    Only within a file: files of several recorders may be of one and the same time.
    """
    if not any(len(file.times) and np.min(file.times - np.maximum.accumulate(file.times)) < -BACK_NS for file in files):
        return []
    times = np.concatenate([NOTHING, *(file.times for file in files)])
    starts = np.cumsum([0, *(len(file.times) for file in files)])
    topics = np.concatenate([NOTHING, *(file.ids for file in files)])
    own = {int(which): np.flatnonzero(topics == which) for which in np.unique(topics)}
    back = sorted(
        (int(place), which)
        for which, places in own.items()
        for place in places[1:][np.diff(times[places]) < -BACK_NS]
        if places[np.searchsorted(places, place) - 1] >= starts[np.searchsorted(starts, place, side="right") - 1]
    )
    found, since = list[tuple[int, int]](), 0
    for place, shown in _together(back):
        newest = int(times[since:place].max())
        before = {
            which: places[np.searchsorted(places, place) - 1] for which, places in own.items() if places[0] < place
        }
        there = {  # seldom topics do not know
            which
            for which, at in before.items()
            if place - at < NEAR and np.any((own[which] >= place) & (own[which] < place + NEAR))
        }
        if 2 * len(shown & there) <= len(there):
            continue  # some topics alone were written in another order
        due = [
            _next(times[own[which][own[which] < place]]) - int(times[own[which]][own[which] >= place][0])
            for which in shown
        ]
        by = max(newest - int(times[place]), int(np.median(due)))
        found.append((place, by))
        since = place
    if not found:
        return []
    ends = [*(place for place, _ in found[1:]), len(times)]
    totals = np.cumsum([by for _, by in found]).tolist()
    return [
        SetBack(_counts(files, place), total, int(times[: found[0][0]].min()), int(times[place:end].max()))
        for (place, _), total, end in zip(found, totals, ends, strict=True)
    ]


def unfolded(messages: Messages, number: int, steps: Sequence[SetBack]) -> Messages:
    """The messages of file `number`, which come as they were written, with times of arrival that never go back."""
    seen: Counter[int] = Counter()
    for connection, receive_ns, data in messages:
        count = seen[connection.id]
        seen[connection.id] += 1
        by = [step.by for step in steps if step.before.get((number, connection.id), 0) <= count]
        yield connection, receive_ns + (by[-1] if by else 0), data


def _next(times: np.ndarray) -> int:
    """When the topic's next message was due, ns."""
    recent = times[-50:]
    return int(recent[-1]) + (int(np.median(np.diff(recent))) if len(recent) > 1 else 0)


def _together(back: Sequence[tuple[int, int]]) -> Iterator[tuple[int, set[int]]]:
    """Groups of (place, topic), one of each topic: the first place and the topics."""
    first, topics = 0, set[int]()
    for place, which in back:
        if which in topics:
            yield first, topics
            topics = set()
        first = first if topics else place
        topics = topics | {which}
    if topics:
        yield first, topics


def _counts(files: Sequence[Written], place: int) -> dict[tuple[int, int], int]:
    """How many messages of each connection (file, id) stand before a place."""
    found = {}
    for number, file in enumerate(files):
        ids, counts = np.unique(file.ids[: max(0, place)], return_counts=True)
        found.update({(number, int(which)): int(count) for which, count in zip(ids, counts, strict=True)})
        place -= len(file.ids)
    return found
