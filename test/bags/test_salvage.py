"""Damaged recordings: everything that is still there is read, what is lost is said, and nothing is ever written."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from bagmaker import Recipe, messages
from oddbags import cut, fingerprint, killed_with_wal, overwrite, storage_file, write_bag, write_mcap
from rosbags.rosbag2 import CompressionMode, StoragePlugin

from pi0_ros.bags.reader import Bag, BagError, DamagedError
from pi0_ros.robot import load_robot

ROBOT = load_robot("demo_arm")
DATA = {"prompt": "fold", "outcome": "success"}


def noisy(topic: str, t_s: float, message: Any) -> Any:
    """Pictures that can't be compressed, as a camera's."""
    if not hasattr(message, "encoding"):
        return message
    noise = np.random.default_rng(round(t_s * 1000)).integers(0, 256, message.data.shape, np.uint8)
    return dataclasses.replace(message, data=noise)


MCAP = Recipe(seconds=1.0, custom_data=DATA, size=(48, 48), change=noisy)
SQLITE = dataclasses.replace(MCAP, storage=StoragePlugin.SQLITE3)
FOUND = messages(ROBOT, MCAP)
LAYOUTS = {
    "mcap": (MCAP, None),
    "mcap zstd": (MCAP, CompressionMode.STORAGE),
    "mcap zstd file": (MCAP, CompressionMode.FILE),
    "sqlite": (SQLITE, None),
    "sqlite zstd messages": (SQLITE, CompressionMode.MESSAGE),
    "sqlite zstd file": (SQLITE, CompressionMode.FILE),
}

SURELY_LEFT = {layout: 0.5 if "zstd" in layout else 0.8 for layout in LAYOUTS}  # compression works in blocks


def content(path: Path, salvage: bool = False) -> list[tuple[str, int, bytes]]:
    with Bag(path, salvage) as bag:
        return list(bag.raw())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, int, bytes]]:
    return content(write_bag(tmp_path_factory.mktemp("whole") / "bag", ROBOT, MCAP))


@pytest.mark.parametrize("share", [0.97, 0.5, 0.4567])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_cut_file_gives_what_stands_before_the_cut(
    tmp_path: Path, whole: list[tuple[str, int, bytes]], layout: str, share: float
) -> None:
    bag = cut(write_bag(tmp_path / "bag", ROBOT, *LAYOUTS[layout]), share)
    before = fingerprint(bag)
    left = content(bag)
    assert left == whole[: len(left)]
    assert len(left) > len(whole) * SURELY_LEFT[layout] * share
    with Bag(bag) as opened:
        assert opened.info.damage and sum(topic.count for topic in opened.info.topics.values()) == len(left)
        assert sum(topic.advertised for topic in opened.info.topics.values()) == len(whole)
        assert opened.info.custom_data == DATA
    assert fingerprint(bag) == before


@pytest.mark.parametrize("layout", LAYOUTS)
def test_salvage_of_a_whole_file_gives_all_of_it(
    tmp_path: Path, whole: list[tuple[str, int, bytes]], layout: str
) -> None:
    bag = write_bag(tmp_path / "bag", ROBOT, *LAYOUTS[layout])
    assert content(bag, salvage=True) == content(bag) == whole
    with Bag(bag, salvage=True) as opened:
        assert opened.info.damage == opened.info.notes == ()


@pytest.mark.parametrize("layout", ["mcap", "sqlite"])
def test_nothing_left(tmp_path: Path, layout: str) -> None:
    bag = cut(write_bag(tmp_path / "bag", ROBOT, *LAYOUTS[layout]), 0.0003)
    with pytest.raises(BagError, match=rf"{storage_file(bag).name}: can't be read"):
        content(bag)
    storage_file(bag).write_bytes(b"")
    with pytest.raises(BagError, match="it is empty"):
        content(bag)
    storage_file(bag).write_bytes(b"a shopping list" * 100)
    with pytest.raises(BagError, match="does not begin as"):
        content(bag)


def test_broken_pages_of_sqlite_are_stepped_over(tmp_path: Path, whole: list[tuple[str, int, bytes]]) -> None:
    bag = write_bag(tmp_path / "bag", ROBOT, *LAYOUTS["sqlite zstd messages"])
    file = storage_file(bag)
    overwrite(file, file.stat().st_size // 4096 // 3 * 4096, 4096)
    before = fingerprint(bag)
    left = content(bag, salvage=True)
    assert 0.5 * len(whole) < len(left) < len(whole)
    assert set(left) < set(whole) and left[-1] == whole[-1]  # what stands behind the page too
    with Bag(bag, salvage=True) as opened:
        assert "can't be read" in opened.info.damage[0] and "lost" in opened.info.damage[-1]
    assert fingerprint(bag) == before


@pytest.mark.parametrize("compression", ["", "lz4"])
def test_a_broken_chunk_is_left_out_whole(
    tmp_path: Path, whole: list[tuple[str, int, bytes]], compression: str
) -> None:
    def spoil(number: int, data: bytes) -> bytes:
        return data if number != 2 else data[:60] + bytes(byte ^ 255 for byte in data[60:70]) + data[70:]

    sound = write_mcap(tmp_path / "sound.mcap", FOUND, compression=compression)
    assert content(sound) == whole
    with Bag(sound) as opened:
        assert opened.info.damage == ()
    file = write_mcap(tmp_path / "bag.mcap", FOUND, compression=compression, spoil=spoil)
    assert content(file) == whole[:40] + whole[60:]
    with Bag(file) as opened:
        assert len(opened.info.damage) == 1 and "chunk" in opened.info.damage[0]


def test_zeros_in_a_cut_chunk_are_no_part_of_a_message(tmp_path: Path, whole: list[tuple[str, int, bytes]]) -> None:
    """A file system gave the file its length but not yet its last pages: within the only chunk, in a picture."""
    file = write_mcap(tmp_path / "bag.mcap", FOUND, chunk=len(FOUND))
    data = file.read_bytes()
    number = next(n for n in range(len(whole) // 2, len(whole)) if len(whole[n][2]) > 4096)
    at = data.index(whole[number][2]) + 1000
    file.write_bytes(data[:at] + bytes(3 * len(whole[number][2])))
    left = content(file)
    assert left == whole[: len(left)] and whole[len(left)][2] == whole[number][2]
    with Bag(file) as opened:
        assert any("zeros" in sentence for sentence in opened.info.damage)


def test_damage_that_shows_only_while_reading(tmp_path: Path) -> None:
    """The index is sound, the chunk is not."""
    bag = write_bag(tmp_path / "bag", ROBOT, Recipe(seconds=1.0), CompressionMode.STORAGE)
    everything = set(content(bag))
    file = storage_file(bag)
    chunks = [found.start() for found in re.finditer(re.escape(b"\x28\xb5\x2f\xfd"), file.read_bytes())]  # zstd's magic
    overwrite(file, chunks[len(chunks) // 2] + 30, 50)
    with pytest.raises(DamagedError, match="damaged storage"):
        content(bag)
    left = set(content(bag, salvage=True))
    assert left and left < everything


def test_records_outside_of_chunks_and_another_profile(tmp_path: Path, whole: list[tuple[str, int, bytes]]) -> None:
    file = write_mcap(tmp_path / "bag.mcap", FOUND, profile="", compression=None)
    assert content(file) == whole
    with Bag(file) as opened:
        assert opened.info.damage == () and "Profile is not ros2" in opened.info.notes[0]
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2] + bytes(5000))  # a file system's zeros after a power cut
    left = content(file)
    assert 0.3 * len(whole) < len(left) < 0.7 * len(whole) and left == whole[: len(left)]


def test_a_write_ahead_log_is_read_without_touching_it(tmp_path: Path, whole: list[tuple[str, int, bytes]]) -> None:
    bag = killed_with_wal(write_bag(tmp_path / "bag", ROBOT, SQLITE))
    before = fingerprint(bag)
    assert len(before) == 4  # folder, metadata.yaml, file and log
    assert content(bag) == whole
    with Bag(bag) as opened:
        assert opened.info.damage == () and "-wal" in opened.info.notes[0]
    assert fingerprint(bag) == before


@pytest.mark.parametrize("layout", ["mcap", "mcap zstd file", "sqlite"])
@pytest.mark.parametrize("metadata", [None, "a: [", "just text", "\x00\xff"])
def test_metadata_is_rebuilt_from_the_files(tmp_path: Path, layout: str, metadata: str | None) -> None:
    bag = write_bag(tmp_path / "bag", ROBOT, *LAYOUTS[layout])
    (bag / "metadata.yaml").unlink()
    if metadata is not None:
        (bag / "metadata.yaml").write_text(metadata, encoding="latin1")
    before = fingerprint(bag)
    with Bag(bag) as opened:
        assert opened.info.custom_data == DATA
        assert opened.info.damage == () and "metadata.yaml is" in opened.info.notes[0]
    assert fingerprint(bag) == before


def test_split_files_that_are_missing_or_empty(tmp_path: Path, whole: list[tuple[str, int, bytes]]) -> None:
    bag = tmp_path / "bag"
    bag.mkdir()
    half = len(FOUND) // 2
    for number, part in enumerate((FOUND[:half], FOUND[half:], [])):
        write_mcap(bag / f"bag_{number}.mcap", part)
    (bag / "bag_2.mcap").write_bytes(b"")
    assert content(bag) == whole
    with Bag(bag) as opened:
        assert opened.info.damage == ("bag_2.mcap: can't be read: it is empty",)
    (bag / "bag_2.mcap").unlink()
    names = [f"bag_{number}.mcap" for number in range(2)]
    (bag / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": {"relative_file_paths": names}}))
    with Bag(bag) as opened:
        assert opened.info.damage == ()
    shutil.move(bag / "bag_1.mcap", tmp_path)
    assert content(bag) == whole[:half]
    with Bag(bag) as opened:
        assert opened.info.damage == ("bag_1.mcap: metadata.yaml names this file, but it is not there",)


def test_definitions_that_nobody_can_parse_harm_only_their_own_topic(tmp_path: Path) -> None:
    file = write_mcap(tmp_path / "bag.mcap", FOUND, compression=None)
    data = file.read_bytes()
    start = data.index(b"string data")  # of std_msgs/msg/String
    file.write_bytes(data[:start] + b"string !!!!" + data[start + 11 :])
    with Bag(file) as bag:
        decoded = {topic for topic, _, raw in bag.raw() if topic != "/pi0/prompt" and bag.decode(topic, raw)}
        assert decoded == set(ROBOT.topics)
