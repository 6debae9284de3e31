"""Make readable what a killed recorder left behind.

    python -m pi0_ros.nodes.episode_recovery bags/episode_000007.partial

writes `bags/episode_000007_recovered` with every message of every whole MCAP chunk (all but at most the last megabyte),
marked as no success, and leaves the `.partial` folder as it is.
"""

from __future__ import annotations

import argparse
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from pi0_ros.nodes.episode_writer import PARTIAL, EpisodeWriter

MAGIC = b"\x89MCAP0\r\n"
SCHEMA, CHANNEL, MESSAGE, CHUNK = 0x03, 0x04, 0x05, 0x06  # record kinds of the MCAP format
CHUNK_HEADER = 28  # bytes of a chunk before its compression: two times, size, checksum


def records(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """(kind, content) of every whole record in `data`, those inside uncompressed chunks included."""
    position = 0
    while position + 9 <= len(data):
        kind, length = data[position], struct.unpack_from("<Q", data, position + 1)[0]
        content = data[position + 9 : position + 9 + length]
        if len(content) < length:
            return
        if kind == CHUNK:
            compression = struct.unpack_from("<I", content, CHUNK_HEADER)[0]
            yield from records(content[CHUNK_HEADER + 4 + compression + 8 :])
        else:
            yield kind, content
        position += 9 + length


def recover(partial: Path) -> Path:
    """Write the episode that `partial` holds to `<episode>_recovered`; returns that folder.

    Raises ValueError when there is no MCAP file or no whole message in it, FileExistsError when that was done before.
    """
    files = sorted(partial.glob("*.mcap"))
    if not files or files[0].open("rb").read(len(MAGIC)) != MAGIC:
        raise ValueError(f"{partial}: holds no MCAP file")
    data = memoryview(files[0].read_bytes())[len(MAGIC) :]
    types: dict[int, str] = {}
    topics: dict[int, tuple[str, str]] = {}  # channel -> (topic, type)
    messages: list[tuple[int, int, memoryview]] = []  # (channel, receive time in ns, data)
    for kind, content in records(data):
        if kind == SCHEMA:
            types[struct.unpack_from("<H", content)[0]] = _string(content, 2)
        elif kind == CHANNEL:
            channel, schema = struct.unpack_from("<HH", content)
            topics[channel] = _string(content, 4), types[schema]
        elif kind == MESSAGE:
            channel, _, stamp_ns = struct.unpack_from("<HIQ", content)
            messages.append((channel, stamp_ns, content[22:]))
    if not messages:
        raise ValueError(f"{files[0]}: not one whole message is in it; nothing can be recovered")
    name = partial.name.removesuffix(PARTIAL)
    episode = EpisodeWriter(partial.with_name(f"{name}_recovered"), dict(topics.values()))
    for channel, stamp_ns, content in messages:
        episode.put(topics[channel][0], stamp_ns, bytes(content))
    return episode.close({"outcome": "interrupted", "success": "false"})


def _string(content: memoryview, offset: int) -> str:
    length = struct.unpack_from("<I", content, offset)[0]
    return str(content[offset + 4 : offset + 4 + length], "utf8")


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("partial", type=Path, nargs="+", help="folder of an unfinished episode")
    for partial in parser.parse_args().partial:
        try:
            print(recover(partial))
        except (ValueError, OSError) as error:
            print(error, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
