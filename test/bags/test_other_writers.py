"""Recordings of other writers: ROS 1 bags, types and topics spelled otherwise, `.zst` endings."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from bagmaker import STORE, Recipe, make_bag, messages
from oddbags import write_mcap
from rosbags.rosbag1 import Writer
from rosbags.typesys import Stores, get_typestore

from pi0_ros.bags.reader import Bag, BagError, find_bags, full_topic, full_type
from pi0_ros.conversion.convert import convert
from pi0_ros.datasets.dataset import Dataset
from pi0_ros.robot import load_robot

ROBOT = load_robot("demo_arm")
STRING = "std_msgs/msg/String"
USUAL = Recipe(seconds=3.0, size=(32, 32))


def ros1_bag(path: Path, compression: Writer.CompressionFormat | None = None) -> Path:
    """The usual recording as a ROS 1 bag."""
    writer = Writer(path)
    if compression is not None:
        writer.set_compression(compression)
    store, connections = get_typestore(Stores.ROS1_NOETIC), {}
    with writer:
        for ns, topic, kind, message in messages(ROBOT, USUAL):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=store)
            writer.write(connections[topic], ns, STORE.cdr_to_ros1(STORE.serialize_cdr(message, kind), kind))
    return path


def same(tmp_path: Path, bag: Path) -> None:
    """The bag gives the dataset that the same recording in ROS 2's own form gives."""
    convert([make_bag(tmp_path / "own", ROBOT, USUAL)], tmp_path / "a", ROBOT)
    report = convert([bag], tmp_path / "b", ROBOT)
    assert report.bags[0].status == "converted", report.bags[0]
    one, other = Dataset(tmp_path / "a").episodes[0], Dataset(tmp_path / "b").episodes[0]
    assert np.array_equal(one.state, other.state) and np.array_equal(one.action, other.action)
    assert one.prompt == other.prompt
    assert np.array_equal(one.frames("base"), other.frames("base"))


@pytest.mark.parametrize("compression", [None, Writer.CompressionFormat.LZ4, Writer.CompressionFormat.BZ2])
def test_ros1_bags(tmp_path: Path, compression: Writer.CompressionFormat | None) -> None:
    same(tmp_path, ros1_bag(tmp_path / "one.bag", compression))
    assert find_bags([tmp_path / "one.bag"]) == [tmp_path / "one.bag"]


def test_a_cut_ros1_bag_says_what_mends_it(tmp_path: Path) -> None:
    bag = ros1_bag(tmp_path / "one.bag")
    bag.write_bytes(bag.read_bytes()[: bag.stat().st_size // 2])
    with pytest.raises(BagError, match="rosbag reindex"), Bag(bag):
        pass


def test_types_and_topics_of_old_files(tmp_path: Path) -> None:
    """`sensor_msgs/Image`, and topics without the slash before them."""
    found = [(ns, topic.removeprefix("/"), kind, message) for ns, topic, kind, message in messages(ROBOT, USUAL)]
    file = write_mcap(tmp_path / "old.mcap", found, spell=lambda kind: kind.replace("/msg/", "/"))
    with Bag(file) as bag:
        assert set(bag.info.topics) == {*ROBOT.topics, "/pi0/prompt"}
        assert bag.info.topics[ROBOT.cameras[0].topic].type == "sensor_msgs/msg/Image"
    same(tmp_path, file)


@pytest.mark.parametrize("compression", ["", "lz4", None])
def test_ros1_messages_in_mcap(tmp_path: Path, compression: str | None) -> None:
    """As converters of ROS 1 bags write them: other bytes, other definitions, types without `msg`, no index."""
    found = messages(ROBOT, USUAL)
    spell = {"spell": lambda kind: kind.replace("/msg/", "/"), "profile": "ros1"}
    file = write_mcap(tmp_path / "one.mcap", found, ros1=True, compression=compression, **spell)
    with Bag(file) as bag:
        assert {topic: info.type for topic, info in bag.info.topics.items()} == {**ROBOT.topics, "/pi0/prompt": STRING}
        assert not bag.info.damage
    same(tmp_path, file)


def test_a_broken_ros1_message_in_mcap_is_one_that_does_not_decode(tmp_path: Path) -> None:
    file = write_mcap(tmp_path / "one.mcap", messages(ROBOT, USUAL), ros1=True, compression=None)
    data = bytearray(file.read_bytes())
    at = len(data) // 2
    for _ in range(20):  # some 0.2 s of joints and commands
        at = data.index(b"shoulder", at) + 4
        data[at - 8 : at - 4] = b"\xff\xff\xff\x7f"  # the length of a name
    file.write_bytes(data)
    report = convert([file], tmp_path / "out", ROBOT, dry_run=True).bags[0]
    assert any("does not decode" in gap.why for gap in report.gaps)


def test_spellings() -> None:
    assert full_type("sensor_msgs/Image") == full_type("sensor_msgs/msg/Image") == "sensor_msgs/msg/Image"
    assert full_topic("camera/image") == full_topic("/camera/image") == "/camera/image"


def test_zst_is_zstd(tmp_path: Path) -> None:
    from backports import zstd

    file = write_mcap(tmp_path / "a.mcap", messages(ROBOT, dataclasses.replace(USUAL, seconds=2.0)))
    packed = tmp_path / "b.mcap.zst"
    packed.write_bytes(zstd.compress(file.read_bytes()))
    with Bag(file) as one, Bag(packed) as other:
        assert one.info.topics == other.info.topics
