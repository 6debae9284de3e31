"""Message types of a recording: the definitions that travel inside, else those of ROS 2 Jazzy.

Humble's sqlite3 files carry no definitions at all. A definition that can't be parsed leaves only its own type unknown:
a recording holds topics that nobody converts, and these must not stop the others.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from rosbags.interfaces import MessageDefinitionFormat
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

HEADER = "std_msgs/msg/Header"
SURPLUS = 16  # bytes behind a message, or a quarter of it
Definition = tuple[str, MessageDefinitionFormat, str]  # type, kind of text, text


@functools.lru_cache(maxsize=8)
def typestore(definitions: frozenset[Definition]) -> Typestore:
    """Types of ROS 2 Jazzy, overruled by `definitions` as far as these can be parsed."""
    types: dict[str, Any] = dict(get_typestore(Stores.ROS2_JAZZY).fielddefs)
    own_header = types[HEADER]
    for name, kind, text in sorted(definitions, key=lambda definition: definition[0]):
        try:
            types.update(_parse(name, kind, text))
        except Exception:  # the parsers raise their own errors; decoding a message of this type says so
            continue
    if any(name == "seq" for name, _ in types[HEADER][1]):  # of ROS 1; messages come without it
        types[HEADER] = own_header
    store = get_typestore(Stores.EMPTY)
    store.register(types)
    return store


def deserialize(store: Typestore, data: bytes, kind: str) -> Any:
    """The message of type `kind` in CDR bytes.

    Fast DDS sometimes sends more bytes than a message has, by up to its alignments (8 behind a point with positions,
    velocities and accelerations): they are let be. `SerdeError` where bytes and type do not agree.
    """
    try:
        return store.deserialize_cdr(data, kind)
    except SerdeError:
        definition = store.get_msgdef(kind)
        read = definition.deserialize_cdr_le if data[1:2] == b"\x01" else definition.deserialize_cdr_be
        message, length = read(memoryview(data)[4:], 0, definition.cls, store)
        if len(data) - 4 - length > max(SURPLUS, len(data) // 4):
            raise
        return message


def full_type(kind: str) -> str:
    """One spelling of a message type: `sensor_msgs/msg/Image` for `sensor_msgs/Image` of ROS 1 and old files."""
    return kind.replace("/", "/msg/") if kind.count("/") == 1 else kind


def _parse(name: str, kind: MessageDefinitionFormat, text: str) -> Mapping[str, Any]:
    if kind == MessageDefinitionFormat.MSG:
        return get_types_from_msg(text, name)
    found: dict[str, Any] = {}
    if kind == MessageDefinitionFormat.IDL:
        for part in text.split("=" * 80 + "\n"):
            found.update(get_types_from_idl(part.split("\n", 1)[1] if part.startswith("IDL: ") else part))
    return found
