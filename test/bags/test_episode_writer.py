"""Episodes on their way to disk, without ROS: what a reader finds after every kind of end."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from pi0_ros.bags import mcap_writer
from pi0_ros.bags.episode_writer import EpisodeWriter, Message
from pi0_ros.bags.mcap_writer import COMPRESSIONS, TYPESTORE, McapWriter, finish_bag
from pi0_ros.bags.reader import Bag, header_stamp_ns
from pi0_ros.bags.recovery import recover
from pi0_ros.bags.stream_meter import StreamMeter

STRING, IMAGE = "std_msgs/msg/String", "sensor_msgs/msg/Image"
TOPICS = {"/said": STRING, "/seen": IMAGE, "/never": STRING}


def said(text: str) -> bytes:
    return bytes(TYPESTORE.serialize_cdr(TYPESTORE.types[STRING](data=text), STRING))


def read(path: Path) -> dict[str, list[tuple[int, bytes]]]:
    """Topic -> (receive time, data)."""
    with AnyReader([path]) as reader:
        found: dict[str, list[tuple[int, bytes]]] = {connection.topic: [] for connection in reader.connections}
        for connection, stamp_ns, data in reader.messages():
            found[connection.topic].append((stamp_ns, bytes(data)))
        assert {c.topic: c.msgcount for c in reader.connections} == {t: len(m) for t, m in found.items()}
    return found


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_bag_is_read_by_folder_and_by_file_and_by_records(tmp_path: Path, compression: str) -> None:
    episode = EpisodeWriter(tmp_path / "e", TOPICS, compression=compression)
    large = np.random.default_rng(0).integers(0, 9, 600_000, np.uint8).tobytes()
    sent: dict[str, list[tuple[int, bytes]]] = {topic: [] for topic in TOPICS}
    for number in range(10):
        for topic, data in (("/said", said(f"{number}")), ("/seen", large + bytes([number]))):
            sent[topic].append((1_000 + number, data))
            assert episode.put(Message(topic, 1_000 + number, data, number + 1, 500 + number))
    episode.drain()
    assert episode.written == {"/said": 10, "/seen": 10, "/never": 0} == episode.counts
    path = episode.close({"prompt": "über"})
    assert sorted(file.name for file in path.iterdir()) == ["e.mcap", "metadata.yaml"]
    assert read(path) == read(path / "e.mcap") == sent
    for salvage in (False, True):
        with Bag(path, salvage) as bag:
            assert (bag.info.damage, bag.info.notes) == ((), ())
            assert bag.info.custom_data == {"prompt": "über"}
            assert (bag.info.start_ns, bag.info.end_ns) == (1_000, 1_009)
            assert [(t, s, bytes(d)) for t, s, d in bag.raw()] == [
                (topic, *sent[topic][n]) for n in range(10) for topic in ("/said", "/seen")
            ]
    small = (path / "e.mcap").stat().st_size < 5 * 600_000
    assert small == (compression == "zstd")


def test_a_flipped_bit_is_found_by_the_checksum(tmp_path: Path) -> None:
    writer = McapWriter(tmp_path / "e.mcap", {"/said": STRING})
    for number in range(3):
        writer.write("/said", number + 1, said(f"number {number}"))
        writer.flush()
    finish_bag(writer, {})
    data = bytearray((tmp_path / "e.mcap").read_bytes())
    place = data.index(b"number 1")
    data[place] ^= 1
    (tmp_path / "e.mcap").write_bytes(data)
    with Bag(tmp_path, salvage=True) as bag:
        assert "checksum is wrong" in bag.info.damage[0]
        assert [bag.decode(topic, data).data for topic, _, data in bag.raw()] == ["number 0", "number 2"]


def test_topics_may_appear_later_and_unknown_types_are_refused(tmp_path: Path) -> None:
    topics = {"/said": STRING}
    episode = EpisodeWriter(tmp_path / "e", topics)
    topics["/also"] = STRING
    episode.put(Message("/also", 5, said("here")))
    assert read(episode.close({})) == {"/said": [], "/also": [(5, said("here"))]}
    with pytest.raises(ValueError, match="my_msgs/msg/Thing: its definition is not known"):
        EpisodeWriter(tmp_path / "f", {"/x": "my_msgs/msg/Thing"})
    with pytest.raises(FileExistsError, match="choose another folder"):
        EpisodeWriter(tmp_path / "e", {})
    assert [entry.name for entry in tmp_path.iterdir()] == ["e"]


def test_the_queue_is_bounded_by_bytes_and_what_is_left_out_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, slow = os.write, [True]

    def slowly(file: int, data: Any) -> int:
        while slow[0]:
            time.sleep(0.01)
        return write(file, data)

    episode = EpisodeWriter(tmp_path / "e", TOPICS, queue_bytes=10_000_000)
    monkeypatch.setattr(mcap_writer.os, "write", slowly)
    image = bytes(2_000_000)
    taken = [episode.put(Message("/seen", n, image)) for n in range(1, 21)]
    assert 5 <= sum(taken) <= 7  # one or two are already with the writer
    assert episode.pending_bytes <= 10_000_000
    slow[0] = False
    episode.drain()
    assert episode.counts["/seen"] == 20 and episode.written["/seen"] == sum(taken)
    assert len(read(episode.close({}))["/seen"]) == sum(taken)


class Disk:
    """`os.write` of a disk that has room for `room` bytes more."""

    def __init__(self, room: int) -> None:
        self.room = room
        self._write = os.write

    def __call__(self, file: int, data: Any) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = self._write(file, data[: self.room])
        self.room -= count
        return count


def test_a_full_disk_costs_the_last_chunk_and_the_bag_is_finished_when_the_index_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    episode = EpisodeWriter(tmp_path / "e", TOPICS)
    disk = Disk(2_500_000)
    monkeypatch.setattr(mcap_writer.os, "write", disk)
    for number in range(6):
        episode.put(Message("/seen", number + 1, bytes(600_000)))
    episode.drain()
    assert isinstance(episode.error, OSError) and episode.error.errno == errno.ENOSPC
    assert episode.written["/seen"] == 4  # two chunks of two; the half of the third is cut off again
    disk.room = 100_000  # what was cut off is free
    path = episode.close({"outcome": "interrupted"})
    assert len(read(path)["/seen"]) == 4
    with Bag(path, salvage=True) as bag:
        assert bag.info.damage == ()


def test_where_not_even_the_index_fits_the_partial_folder_is_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    episode = EpisodeWriter(tmp_path / "e", TOPICS, {"prompt": "p", "success": "false"})
    monkeypatch.setattr(mcap_writer.os, "write", Disk(1_500_000))
    for number in range(4):
        episode.put(Message("/seen", number + 1, bytes(600_000)))
    with pytest.raises(OSError, match=r"e\.partial: .*No space left on device; free the disk"):
        episode.close({})
    assert [file.name for file in tmp_path.rglob("*")] == ["e.partial", "e.mcap"]
    with Bag(tmp_path / "e.partial") as bag:
        assert bag.info.topics["/seen"].count == 2
        assert bag.info.custom_data == {"prompt": "p", "success": "false"}


KILLED = """
import os, signal, sys, time
from pathlib import Path
from pi0_ros.bags.episode_writer import EpisodeWriter, Message
episode = EpisodeWriter(Path(sys.argv[1]), {"/said": "std_msgs/msg/String"}, {"prompt": "p"})
size = os.path.getsize(episode.partial / "e.mcap")
for number in range(20):
    episode.put(Message("/said", number + 1, bytes.fromhex(sys.argv[2])))
while os.path.getsize(episode.partial / "e.mcap") == size:
    time.sleep(0.05)
episode.put(Message("/said", 100, bytes.fromhex(sys.argv[2])))
os.kill(os.getpid(), 9)
"""


def test_kill_9_costs_half_a_second_of_small_messages(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "e"), said("x").hex()], timeout=60)
    assert done.returncode == -signal.SIGKILL
    whole = recover(tmp_path / "e.partial")
    assert [stamp for stamp, _ in read(whole)["/said"]] == list(range(1, 21))
    with Bag(whole) as bag:
        assert bag.info.custom_data == {"prompt": "p", "outcome": "interrupted", "success": "false"}
    with pytest.raises(FileExistsError):
        recover(tmp_path / "e.partial")


def test_a_disk_without_room_for_the_beginning_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcap_writer.os, "write", Disk(100))
    with pytest.raises(OSError, match="No space left"):
        EpisodeWriter(tmp_path / "e", TOPICS)
    assert not list(tmp_path.iterdir())


def test_discard_removes_everything_also_after_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for room in (10**9, 1_000_000):
        monkeypatch.setattr(mcap_writer.os, "write", Disk(room))
        episode = EpisodeWriter(tmp_path / "e", TOPICS)
        for number in range(50):
            episode.put(Message("/seen", number + 1, bytes(100_000)))
        episode.discard()
        assert not list(tmp_path.iterdir())
        monkeypatch.undo()


def test_a_meter_counts_gaps_rates_and_ages() -> None:
    meter = StreamMeter(stamped=True)
    assert meter.age_s(0.0) is None
    head = b"\x00\x01\x00\x00" + (1000).to_bytes(4, "little") + (500_000_000).to_bytes(4, "little")
    assert header_stamp_ns(head) == 1_000_500_000_000
    for number in range(40):
        meter.hear(10.0 + number / 20, 1000.6 + number / 20, head, 1 + number + 3 * (number > 7))
    assert meter.lost == 3 and meter.unnumbered == 0 and meter.received == 40
    assert meter.rate_hz(10.0 + 39 / 20) == pytest.approx(20.0, abs=0.6)
    assert meter.rate_hz(20.0) == 0.0
    assert meter.age_s(12.0) == pytest.approx(0.1 + 39 / 20 + 0.05)
    meter.hear(12.0, 1002.6, head, 1)  # the publisher was started again
    meter.hear(12.1, 1002.7, head, 2)
    assert meter.lost == 3
    meter.forget_sequence()
    meter.hear(12.2, 1002.8, head, 70)
    meter.hear(12.3, 1002.9, head, None)
    assert (meter.lost, meter.unnumbered) == (3, 1)
