"""Reading recordings: every storage and compression gives the same messages, damage an error that names the file."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import yaml
from bagmaker import START_NS, STORE, Recipe, joint_message, make_bag, messages
from rosbags.interfaces import MessageDefinitionFormat
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from pi0_ros.bags.message_types import typestore
from pi0_ros.bags.reader import Bag, BagError, bag_info, custom_data, find_bags, header_stamp_ns, read_bag
from pi0_ros.robot import load_robot

ROBOT = load_robot("demo_arm")
SHORT = Recipe(seconds=0.3, custom_data={"prompt": "put the red cube in the tray", "outcome": "success"})
STATES = "/demo_arm/joint_states"


def summary(path: Path) -> list[tuple[str, int, float]]:
    """(topic, receive time, a number out of the message) of all messages."""
    found = []
    for topic, message, receive_ns in read_bag(path):
        value = getattr(message, "position", getattr(message, "data", [0.0]))
        found.append((topic, receive_ns, float(np.sum(value)) if not isinstance(value, str) else 0.0))
    return sorted(found)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bag(tmp_path_factory.mktemp("bags") / "plain", ROBOT, SHORT)


def test_info(plain: Path) -> None:
    info = bag_info(plain)
    assert info.topics[STATES].type == "sensor_msgs/msg/JointState"
    assert info.topics[STATES].count == 16
    assert info.start_ns == START_NS  # the prompt comes first
    assert info.end_ns == START_NS + 304_000_000
    assert info.duration_s == pytest.approx(0.304)
    assert info.custom_data == {"prompt": "put the red cube in the tray", "outcome": "success"}
    assert [file.name for file in info.files] == ["plain.mcap"]


def test_messages_come_in_order_and_by_topic(plain: Path) -> None:
    times = [receive_ns for _, _, receive_ns in read_bag(plain)]
    assert times == sorted(times)
    only = list(read_bag(plain, [STATES]))
    assert {topic for topic, _, _ in only} == {STATES} and len(only) == 16
    assert list(only[0][1].name) == list(ROBOT.joint_names[::-1])


def test_sqlite_equals_mcap(plain: Path, tmp_path: Path) -> None:
    bag = make_bag(tmp_path / "bag", ROBOT, Recipe(seconds=0.3, storage=StoragePlugin.SQLITE3))
    assert next(bag.glob("*.db3"))
    assert summary(bag) == summary(plain)


@pytest.mark.parametrize(
    ("storage", "mode"),
    [
        (StoragePlugin.MCAP, CompressionMode.STORAGE),
        (StoragePlugin.MCAP, CompressionMode.FILE),
        (StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
        (StoragePlugin.SQLITE3, CompressionMode.FILE),
    ],
)
def test_compression(plain: Path, tmp_path: Path, storage: StoragePlugin, mode: CompressionMode) -> None:
    bag = tmp_path / "bag"
    writer = Writer(bag, version=9, storage_plugin=storage)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        connections = {}
        for ns, topic, kind, message in messages(ROBOT, SHORT):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(connections[topic], ns, STORE.serialize_cdr(message, kind))
    assert summary(bag) == summary(plain)
    if mode == CompressionMode.MESSAGE:  # what metadata.yaml knows is not needed
        (bag / "metadata.yaml").unlink()
        assert summary(bag) == summary(plain)


def test_split_files_are_merged_by_time(plain: Path, tmp_path: Path) -> None:
    bag = tmp_path / "bag"
    bag.mkdir()
    everything = messages(ROBOT, SHORT)
    for number, part in enumerate((everything[::2], everything[1::2])):
        with Writer(tmp_path / f"part{number}", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
            connections = {}
            for ns, topic, kind, message in part:
                if topic not in connections:
                    connections[topic] = writer.add_connection(topic, kind, typestore=STORE)
                writer.write(connections[topic], ns, STORE.serialize_cdr(message, kind))
        shutil.move(tmp_path / f"part{number}" / f"part{number}.mcap", bag / f"bag_{number}.mcap")
    assert find_bags([bag]) == [bag]
    assert summary(bag) == summary(plain)
    times = [receive_ns for _, _, receive_ns in read_bag(bag)]
    assert times == sorted(times)


def test_metadata_is_not_needed_and_not_believed(plain: Path, tmp_path: Path) -> None:
    bag = tmp_path / "bag"
    shutil.copytree(plain, bag)
    metadata = yaml.safe_load((bag / "metadata.yaml").read_text())
    information = metadata["rosbag2_bagfile_information"]
    information["storage_identifier"] = ""  # as `ros2 bag reindex` of Humble leaves it
    for topic in information["topics_with_message_count"]:
        topic["message_count"] = 1
        topic["topic_metadata"]["offered_qos_profiles"] = [{"history": "keep_all", "depth": 3}]
    (bag / "metadata.yaml").write_text(yaml.safe_dump(metadata))
    assert summary(bag) == summary(plain)
    (bag / "metadata.yaml").unlink()
    assert summary(bag) == summary(plain)
    assert custom_data(bag) == {}
    assert summary(bag / "plain.mcap") == summary(plain)


def test_types_without_definitions_are_the_standard_ones(plain: Path, tmp_path: Path) -> None:
    bag = make_bag(tmp_path / "bag", ROBOT, Recipe(seconds=0.3, storage=StoragePlugin.SQLITE3))
    with sqlite3.connect(next(bag.glob("*.db3"))) as database:
        database.execute("DELETE FROM message_definitions WHERE topic_type LIKE 'sensor_msgs%'")
    assert summary(bag) == summary(plain)


def test_own_types_come_from_the_recording(tmp_path: Path) -> None:
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg("std_msgs/Header header\nfloat64[] torque", "my_msgs/msg/Torque"))
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/torque", "my_msgs/msg/Torque", typestore=store)
        header = joint_message(123, [], np.zeros(0)).header
        message = store.types["my_msgs/msg/Torque"](header=header, torque=np.array([1.5, 2.5]))
        writer.write(connection, START_NS, store.serialize_cdr(message, "my_msgs/msg/Torque"))
    with Bag(tmp_path / "bag") as bag:
        assert bag.has_header("/torque")
        ((_, _, data),) = bag.raw()
        assert bag.decode("/torque", data).torque.tolist() == [1.5, 2.5]
        assert header_stamp_ns(data) == 123


def test_types_defined_in_idl(tmp_path: Path) -> None:
    """As rosbag2 keeps types that have no .msg file: all needed definitions in one text, each below its name."""
    rule = "=" * 80
    parts = {
        "my_msgs/msg/Pair": "struct Pair { double first; my_msgs::msg::Inner second; };",
        "my_msgs/msg/Inner": "struct Inner { long number; };",
    }
    modules = (f"IDL: {name}\nmodule my_msgs {{ module msg {{ {idl} }}; }};\n" for name, idl in parts.items())
    text = f"{rule}\n".join(modules)
    store = typestore(frozenset({("my_msgs/msg/Pair", MessageDefinitionFormat.IDL, text)}))
    inner = store.types["my_msgs/msg/Inner"](number=7)
    data = store.serialize_cdr(store.types["my_msgs/msg/Pair"](first=1.5, second=inner), "my_msgs/msg/Pair")
    assert store.deserialize_cdr(data, "my_msgs/msg/Pair").second.number == 7


def test_header_stamp_in_both_byte_orders() -> None:
    message = joint_message(START_NS + 5, ["a"], np.zeros(1))
    for little in (True, False):
        data = bytes(STORE.serialize_cdr(message, "sensor_msgs/msg/JointState", little_endian=little))
        assert header_stamp_ns(data) == START_NS + 5
    assert [header_stamp_ns(data[:length]) for length in (0, 1, 11)] == [0, 0, 0]


def test_paths_that_mean_another_one_in_a_uri(tmp_path: Path) -> None:
    """A sqlite3 file at `a%20b` is not the one at `a b`."""
    texts = {"a b": "this one", "a%20b": "that one", "a#b": "a third", "a?b": "a fourth"}
    for number, (name, text) in enumerate(texts.items()):
        recipe = Recipe(seconds=0.1, prompts=((0.0, text),), storage=StoragePlugin.SQLITE3)
        written = make_bag(tmp_path / f"bag{number}", ROBOT, recipe)
        (tmp_path / name).mkdir()
        shutil.copy(next(written.glob("*.db3")), tmp_path / name / "x.db3")
    for name, text in texts.items():
        assert [message.data for _, message, _ in read_bag(tmp_path / name, ["/pi0/prompt"])] == [text]


def test_bags_are_found_at_any_depth_once_and_in_order(tmp_path: Path) -> None:
    tiny = Recipe(seconds=0.05)
    for name in ("day2/b", "day1/c", "day1/a"):
        make_bag(tmp_path / name, ROBOT, tiny)
    loose = tmp_path / "loose"
    loose.mkdir()
    for name in ("x", "y"):
        shutil.copy(tmp_path / "day2/b/b.mcap", loose / f"{name}.mcap")
    found = [path.relative_to(tmp_path).as_posix() for path in find_bags([tmp_path, tmp_path / "day1"])]
    assert found == ["day1/a", "day1/c", "day2/b", "loose/x.mcap", "loose/y.mcap"]


def test_wrong_paths(tmp_path: Path) -> None:
    with pytest.raises(BagError, match="no rosbag here"):
        find_bags([tmp_path])
    with pytest.raises(BagError, match="no rosbag here"):
        find_bags([tmp_path / "nothing"])
    with pytest.raises(BagError, match="no such file"):
        bag_info(tmp_path / "nothing")


def test_undecodable_bytes_name_topic_and_type(plain: Path) -> None:
    with Bag(plain) as bag, pytest.raises(BagError, match=rf"{STATES} does not decode as sensor_msgs/msg/JointState"):
        bag.decode(STATES, b"\x00\x01\x00\x00\x01")


def test_bytes_behind_a_message_are_let_be(tmp_path: Path) -> None:
    """As Fast DDS sends a point with accelerations; another type's bytes are refused all the same."""
    robot = load_robot("demo_arm")
    topic = robot.commands[0].topic
    with Bag(make_bag(tmp_path / "bag", robot, Recipe(seconds=0.5))) as bag:
        data = next(data for _, _, data in bag.raw({topic}))
        right = bag.decode(topic, data)
        for surplus in (1, 4, 8, 16):
            found = bag.decode(topic, data + bytes(range(surplus)))
            assert (found.points[0].positions == right.points[0].positions).all()
        for wrong in (data + bytes(len(data)), data[:-20], data[:8]):
            with pytest.raises(BagError, match="does not decode"):
                bag.decode(topic, wrong)
