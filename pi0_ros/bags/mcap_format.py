"""The MCAP file format, as far as writing and salvaging need it: https://mcap.dev/spec, profile `ros2`."""

from __future__ import annotations

import struct

MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX, CHUNK_INDEX = range(1, 9)
STATISTICS, METADATA, METADATA_INDEX, SUMMARY_OFFSET, DATA_END = 0x0B, 0x0C, 0x0D, 0x0E, 0x0F
RECORD_HEAD = struct.Struct("<BQ")  # kind, length
MESSAGE_HEAD = struct.Struct("<HIQQ")  # channel, sequence, receive time, send time; the data follow
FOOTER_BYTES = RECORD_HEAD.size + 20 + len(MAGIC)


def record(kind: int, content: bytes) -> bytes:
    """A record with its kind and length before it."""
    return RECORD_HEAD.pack(kind, len(content)) + content


def pack_text(text: str) -> bytes:
    """A string with its length before it."""
    data = text.encode()
    return struct.pack("<I", len(data)) + data


def unpack_text(content: bytes, at: int) -> tuple[str, int]:
    """The string at `at`, and where it ends. Raises `struct.error` and `UnicodeDecodeError`."""
    end = at + 4 + int(struct.unpack_from("<I", content, at)[0])
    return content[at + 4 : end].decode(), end
