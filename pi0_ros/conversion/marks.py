"""Marks inside a recording that say where episodes begin and end: messages on topics, calls of services.

A mark's topic says what it is (start, stop, discard), its message may say more: a Bool on the start topic starts with
true and stops with false; a String may hold one of the words below instead, or on the start topic the prompt. A
recorded service call (`ros2 bag record --all-services`) counts when the service received it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from pi0_ros.bags.reader import Bag
from pi0_ros.observation.stream_buffer import SECOND

START, STOP, DISCARD, SUCCESS, FAILURE = "start", "stop", "discard", "success", "failure"
WORDS = {
    **dict.fromkeys(("start", "begin"), START),
    **dict.fromkeys(("stop", "end", "exit_early"), STOP),
    **dict.fromkeys(("discard", "delete", "delete_episode", "rerecord", "rerecord_episode"), DISCARD),
    **dict.fromkeys(("success", "succeeded"), SUCCESS),
    **dict.fromkeys(("failure", "failed", "fail"), FAILURE),
}
SERVICE_EVENT = "/_service_event"
# service_msgs/msg/ServiceEventInfo in CDR: kind, stamp, id of the client, sequence number
EVENT_INFO = struct.Struct("<4xB3xiI16s4xq")
REQUEST_SENT, REQUEST_RECEIVED = 0, 1  # kinds


@dataclass(frozen=True)
class Mark:
    """Something that was said about episodes at a time (ns)."""

    stamp_ns: int
    kind: str
    prompt: str = ""


@dataclass(frozen=True)
class Take:
    """What lies between two marks; `end_ns` is None where the recording ended first."""

    start_ns: int
    end_ns: int | None
    prompt: str = ""
    success: bool | None = None
    discarded: bool = False


def recorded_topic(bag: Bag, name: str) -> str:
    """The recorded topic that a name of the command line means: itself, with or without the slash before it, or of a
    service its events; empty: none."""
    spellings = (name, f"/{name}", name.removeprefix("/"), name + SERVICE_EVENT, f"/{name}{SERVICE_EVENT}")
    return next((topic for topic in spellings if name and topic in bag.info.topics), "")


def read_marks(bag: Bag, kind: str, topic: str, messages: Iterable[tuple[int, bytes]]) -> Iterator[Mark]:
    """The marks on a topic of the given kind: `messages` are (receive time in ns, CDR bytes)."""
    if topic.endswith(SERVICE_EVENT):
        yield from _calls(kind, messages)
        return
    for receive_ns, data in messages:
        if bag.info.topics[topic].type == "std_msgs/msg/String":
            text = bag.decode(topic, data).data.strip()
            word = WORDS.get(text.lower())
            yield Mark(receive_ns, word or kind, text if kind == START and not word else "")
        elif bag.info.topics[topic].type == "std_msgs/msg/Bool":
            opposite = {START: STOP, STOP: START}.get(kind, "")
            if found := kind if bag.decode(topic, data).data else opposite:
                yield Mark(receive_ns, found)
        else:
            yield Mark(receive_ns, kind)


def _calls(kind: str, messages: Iterable[tuple[int, bytes]]) -> Iterator[Mark]:
    """A mark for every call, at the time when it was first seen on its way to the service."""
    seen: set[tuple[bytes, int]] = set()
    for _, data in messages:
        if len(data) < EVENT_INFO.size:
            continue
        event, seconds, nanoseconds, client, sequence = EVENT_INFO.unpack_from(data)
        if event in (REQUEST_SENT, REQUEST_RECEIVED) and (client, sequence) not in seen:
            seen.add((client, sequence))
            yield Mark(seconds * SECOND + nanoseconds, kind)


def takes(marks: Sequence[Mark]) -> list[Take]:
    """The takes that `marks`, in any order, describe.

    A start ends the take before it. Discard, success and failure are about the running take, else about the last one.
    """
    found: list[Take] = []
    for mark in sorted(marks, key=lambda mark: mark.stamp_ns):
        running = found[-1] if found and found[-1].end_ns is None else None
        if running is not None and mark.kind in (START, STOP, DISCARD):
            found[-1] = replace(running, end_ns=mark.stamp_ns)
        if mark.kind == START:
            found.append(Take(mark.stamp_ns, None, mark.prompt))
        elif mark.kind == DISCARD and found:
            found[-1] = replace(found[-1], discarded=True)
        elif mark.kind in (SUCCESS, FAILURE) and found:
            found[-1] = replace(found[-1], success=mark.kind == SUCCESS)
    return found
