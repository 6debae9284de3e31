"""Recordings as crashes, power cuts, bad disks and other tools leave them, made from sound ones."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import lz4.frame
import numpy as np
from bagmaker import STORE, Recipe, messages
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Writer
from rosbags.typesys import Stores, get_typestore

from pi0_ros.robot import Robot

ROS1 = get_typestore(Stores.ROS1_NOETIC)
MAGIC = b"\x89MCAP0\r\n"


def write_bag(path: Path, robot: Robot, recipe: Recipe, mode: CompressionMode | None = None) -> Path:
    """A bag folder by the rosbags writer, compressed by zstd as `mode` says."""
    writer = Writer(path, version=9, storage_plugin=recipe.storage)
    if mode is not None:
        writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        connections = {}
        for ns, topic, kind, message in messages(robot, recipe):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(connections[topic], ns, STORE.serialize_cdr(message, kind))
        for key, value in recipe.custom_data.items():
            writer.set_custom_data(key, value)
    return path


def storage_file(bag: Path) -> Path:
    """The single storage file of a bag folder."""
    (file,) = (file for file in bag.iterdir() if file.name != "metadata.yaml")
    return file


def cut(bag: Path, share: float) -> Path:
    """Keep only the first part of the storage file."""
    file = storage_file(bag)
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    return bag


def overwrite(file: Path, at: int, length: int, seed: int = 0) -> None:
    """Noise in place of `length` bytes."""
    noise = np.random.default_rng(seed).integers(0, 256, length, np.uint8).tobytes()
    with file.open("r+b") as target:
        target.seek(at)
        target.write(noise)


def fingerprint(folder: Path) -> dict[str, tuple[str, int]]:
    """Content and time of change of every file and folder below `folder`, itself included."""
    paths = [folder, *sorted(folder.rglob("*"))]
    return {
        str(path): (hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "", path.stat().st_mtime_ns)
        for path in paths
    }


# ---- MCAP files by hand, as other writers make them


def record(kind: int, content: bytes) -> bytes:
    return struct.pack("<BQ", kind, len(content)) + content


def text(value: str) -> bytes:
    return struct.pack("<I", len(value.encode())) + value.encode()


def write_mcap(
    path: Path,
    found: Sequence[tuple[int, str, str, object]],
    *,
    profile: str = "ros2",
    compression: str | None = "",
    chunk: int = 20,
    spoil: Callable[[int, bytes], bytes] = lambda number, data: data,
    spell: Callable[[str], str] = lambda kind: kind,
    ros1: bool = False,
) -> Path:
    """An MCAP file without index: messages (ns, topic, type, message) in chunks of so many (`compression` None: none);
    a memoryview in place of a message is its content.

    `spell` may spell the types otherwise, `ros1` writes messages and definitions as ROS 1 has them, `spoil` may change
    the compressed content of chunk `number` after its checksum was taken.
    """
    topics = {topic: kind for _, topic, kind, _ in found}
    head = b""
    for number, (topic, kind) in enumerate(topics.items(), 1):
        store, version = (ROS1, 1) if ros1 else (STORE, 2)
        definition, encoding = store.generate_msgdef(kind, ros_version=version)[0], ("cdr", "ros1")[ros1]
        head += record(3, struct.pack("<H", number) + text(spell(kind)) + text(f"ros{version}msg") + text(definition))
        head += record(4, struct.pack("<HH", number, number) + text(topic) + text(encoding) + text(""))
    numbers = {topic: number for number, topic in enumerate(topics, 1)}
    body = []
    for ns, topic, kind, message in found:
        data = message if isinstance(message, memoryview) else STORE.serialize_cdr(message, kind)
        data = STORE.cdr_to_ros1(data, kind) if ros1 else data
        body.append((ns, record(5, struct.pack("<HIQQ", numbers[topic], 0, ns, ns) + bytes(data))))
    content = MAGIC + record(1, text(profile) + text("by hand"))
    if compression is None:
        content += head + b"".join(data for _, data in body)
    else:
        for number, start in enumerate(range(0, len(body), chunk)):
            part = body[start : start + chunk]
            raw = (head if not number else b"") + b"".join(data for _, data in part)
            packed = spoil(number, lz4.frame.compress(raw) if compression == "lz4" else raw)
            span = struct.pack("<QQQI", part[0][0], part[-1][0], len(raw), zlib.crc32(raw))
            content += record(6, span + text(compression) + struct.pack("<Q", len(packed)) + packed)
    content += record(15, struct.pack("<I", 0)) + record(2, struct.pack("<QQI", 0, 0, 0)) + MAGIC
    path.write_bytes(content)
    return path


def killed_with_wal(bag: Path) -> Path:
    """The last half of the messages is in the write-ahead log only, as a killed recorder leaves them."""
    file = storage_file(bag)
    live = bag.with_name("live.db3")
    shutil.move(file, live)
    with sqlite3.connect(live) as database:
        rows = database.execute("SELECT topic_id, timestamp, data FROM messages ORDER BY id").fetchall()
        database.execute("DELETE FROM messages WHERE id > ?", (len(rows) // 2,))
    database.execute("PRAGMA journal_mode = WAL")
    with database:
        late = rows[len(rows) // 2 :]
        database.executemany("INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)", late)
    for end in ("", "-wal"):
        shutil.copy(f"{live}{end}", f"{file}{end}")
    database.close()
    live.unlink()
    return bag
