"""Every row of the table in docs/data.md: damaged and odd recordings come out, and are checked, exactly as it says."""

from __future__ import annotations

import dataclasses
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from bagmaker import STORE, TYPES, Recipe, joint_message, make_bag, messages, stamp
from oddbags import cut, fingerprint, killed_with_wal, overwrite, storage_file, write_bag, write_mcap
from rosbags.rosbag2 import CompressionMode, StoragePlugin
from strangebags import (
    apart,
    black,
    depth,
    during,
    empty_state,
    frozen,
    grey,
    not_a_number,
    only,
    reordered,
    restamped,
    simulated,
    still,
    trembling,
    truncated,
    without_points,
)

from pi0_ros.conversion.bag_check import check_bag
from pi0_ros.conversion.convert import convert
from pi0_ros.conversion.options import Options
from pi0_ros.conversion.report import BagReport, Report
from pi0_ros.datasets.dataset import Dataset
from pi0_ros.robot import load_robot

PAGE = Path(__file__).parents[2] / "docs" / "data.md"
ROBOT = load_robot("demo_arm")
BASE, WRIST = (camera.topic for camera in ROBOT.cameras)
STATES, COMMANDS = ROBOT.state[0].topic, ROBOT.commands[0].topic
USUAL = Recipe(seconds=4.0, size=(32, 32), custom_data={"outcome": "success"})
SQLITE = dataclasses.replace(USUAL, storage=StoragePlugin.SQLITE3)
ZSTD = CompressionMode.STORAGE


def noisy(topic: str, t_s: float, message: Any) -> Any:
    if not hasattr(message, "encoding"):
        return message
    noise = np.random.default_rng(round(t_s * 1000)).integers(0, 256, message.data.shape, np.uint8)
    return dataclasses.replace(message, data=noise)


def recorded(**changes: Any) -> Callable[[Path], object]:
    """A maker of a bag whose recipe differs from the usual one."""
    return lambda path: make_bag(path, ROBOT, dataclasses.replace(USUAL, **changes))


def without(topic: str) -> Callable[[str, float], bool]:
    return lambda other, t_s: other != topic


def paused(topic: str, t_s: float) -> bool:
    return topic != WRIST or not 1.5 < t_s < 2.5


def halves(path: Path) -> tuple[Path, Path]:
    path.mkdir()
    found = messages(ROBOT, USUAL)
    half = len(found) // 2
    parts = [write_mcap(path / f"bag_{n}.mcap", part) for n, part in enumerate((found[:half], found[half:]))]
    names = {"relative_file_paths": [part.name for part in parts]}
    (path / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": names}))
    return parts[0], parts[1]


def broken_page(path: Path) -> None:
    file = storage_file(write_bag(path, ROBOT, dataclasses.replace(SQLITE, change=noisy)))
    overwrite(file, file.stat().st_size // 4096 // 2 * 4096, 4096)


def wrong_metadata(path: Path) -> None:
    make_bag(path, ROBOT, USUAL)
    content = yaml.safe_load((path / "metadata.yaml").read_text())
    information = content["rosbag2_bagfile_information"]
    information["storage_identifier"] = ""
    for topic in information["topics_with_message_count"]:
        topic["message_count"] += 100
        topic["topic_metadata"]["offered_qos_profiles"] = [{"history": "keep_all", "depth": 3}]
    (path / "metadata.yaml").write_text(yaml.safe_dump(content))


def no_definitions(path: Path) -> None:
    make_bag(path, ROBOT, SQLITE)
    with sqlite3.connect(storage_file(path)) as database:
        database.execute("DROP TABLE message_definitions")
        database.execute("UPDATE schema SET schema_version = 3")


def zeros_at_the_end(path: Path) -> None:
    path.mkdir()
    file = write_mcap(path / "bag.mcap", messages(ROBOT, USUAL), compression=None)
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2] + bytes(len(data) // 4))


def by_hand(**more: Any) -> Callable[[Path], object]:
    """A maker of a folder with an MCAP file written by `write_mcap`."""

    def make(path: Path) -> None:
        path.mkdir()
        write_mcap(path / "bag.mcap", messages(ROBOT, USUAL), **more)

    return make


def garbled(number: int, data: bytes) -> bytes:
    return data if number != 2 else data[:90] + bytes(byte ^ 255 for byte in data[90:99]) + data[99:]


def unknown_type(path: Path) -> None:
    path.mkdir()
    nothing = (messages(ROBOT, USUAL)[5][0], "/odd", "std_msgs/msg/Empty", TYPES["std_msgs/msg/Empty"](0))
    file = write_mcap(path / "bag.mcap", [nothing, *messages(ROBOT, USUAL)], compression=None)
    data = file.read_bytes()
    file.write_bytes(data.replace(b"std_msgs/msg/Empty", b"std_msgs/msg/E!!!!"))


def undecodable_states(path: Path) -> None:
    """Joint states without their end for a while."""
    path.mkdir()
    found = messages(ROBOT, USUAL)
    first = found[0][0]
    changed = [
        (ns, topic, kind, STORE.serialize_cdr(message, kind)[:40])
        if topic == STATES and 1.5e9 < ns - first < 2.2e9
        else (ns, topic, kind, message)
        for ns, topic, kind, message in found
    ]
    write_mcap(path / "bag.mcap", changed)


def short_images(topic: str, t_s: float, message: Any) -> Any:
    return dataclasses.replace(message, data=message.data[:100]) if topic == BASE and 1.5 < t_s < 2 else message


def without_a_joint(topic: str, t_s: float, message: Any) -> Any:
    if topic != STATES:
        return message
    return joint_message(0, message.name[1:], message.position[1:])


def other_size(topic: str, t_s: float, message: Any) -> Any:
    if topic != BASE or t_s < 2:
        return message
    return dataclasses.replace(message, height=16, data=message.data[: 16 * message.step])


def other_clock(topic: str, t_s: float, message: Any) -> Any:
    if topic != WRIST:
        return message
    return dataclasses.replace(
        message, header=dataclasses.replace(message.header, stamp=stamp(round(t_s * 1e9) + 10**9))
    )


def other_type(path: Path) -> None:
    cameras = tuple(dataclasses.replace(c, type="sensor_msgs/msg/CompressedImage") for c in ROBOT.cameras)
    make_bag(path, dataclasses.replace(ROBOT, cameras=cameras), USUAL)


def without_metadata(path: Path) -> None:
    (make_bag(path, ROBOT, USUAL) / "metadata.yaml").unlink()


def with_broken_metadata(path: Path) -> None:
    (make_bag(path, ROBOT, USUAL) / "metadata.yaml").write_text("rosbag2_bagfile_information: [")


def with_a_file(content: bytes) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        path.mkdir()
        (path / "bag.mcap").write_bytes(content)

    return make


def set_back(path: Path) -> None:
    """Stamps and arrivals step alike."""
    path.mkdir()
    found = messages(ROBOT, dataclasses.replace(USUAL, change=restamped(lambda t_s: -2.0 if t_s >= 2 else 0.0)))
    first = found[0][0]
    write_mcap(path / "bag.mcap", [(ns - 2 * 10**9 * (ns - first >= 2e9), *rest) for ns, *rest in found])


MAKERS: dict[str, Callable[[Path], object]] = {
    "MCAP cut anywhere": lambda path: cut(write_bag(path, ROBOT, dataclasses.replace(USUAL, change=noisy)), 0.6),
    "MCAP cut inside a compressed chunk": lambda path: cut(
        write_bag(path, ROBOT, dataclasses.replace(USUAL, change=noisy), ZSTD), 0.6
    ),
    "MCAP with a broken chunk": by_hand(compression="lz4", chunk=120, spoil=garbled),
    "MCAP that ends in zeros": zeros_at_the_end,
    "MCAP whose profile is not `ros2`": by_hand(profile=""),
    "MCAP without an index": by_hand(),
    "sqlite3 cut anywhere": lambda path: cut(write_bag(path, ROBOT, dataclasses.replace(SQLITE, change=noisy)), 0.6),
    "sqlite3 with a broken page": broken_page,
    "sqlite3 with a `-wal` or `-journal` beside it": lambda path: killed_with_wal(make_bag(path, ROBOT, SQLITE)),
    "sqlite3 without message definitions (Humble)": no_definitions,
    "`.mcap.zstd` or `.db3.zstd` cut anywhere": lambda path: cut(
        write_bag(path, ROBOT, dataclasses.replace(SQLITE, change=noisy), CompressionMode.FILE), 0.7
    ),
    "`metadata.yaml` missing": without_metadata,
    "`metadata.yaml` broken": with_broken_metadata,
    "`metadata.yaml` with wrong counts, QoS or storage": wrong_metadata,
    "a split file is missing": lambda path: halves(path)[1].unlink(),
    "a split file is empty": lambda path: halves(path)[1].write_bytes(b""),
    "a topic of unknown type that nobody needs": unknown_type,
    "images that do not decode": recorded(change=short_images),
    "joint messages that do not decode": undecodable_states,
    "a stream pauses": recorded(keep=paused),
    "all header stamps zero": recorded(stamped=False),
    "a needed topic is missing": recorded(keep=without(COMMANDS)),
    "a needed topic of another type": other_type,
    "a joint is missing in the messages": recorded(change=without_a_joint),
    "the image size changes": recorded(change=other_size),
    "a stream stamped by another clock": recorded(change=other_clock),
    "shorter than `--min-length`": recorded(seconds=0.5),
    "an empty file": with_a_file(b""),
    "a file that is no recording": with_a_file(b"a shopping list\n" * 50),
    "marked as failed": recorded(custom_data={"outcome": "failure"}),
    "discarded": recorded(custom_data={"discarded": "true"}),
    "a recorder's `.partial` folder": recorded(),
    "joints stamped 3 s before the rest": recorded(change=restamped(lambda t_s: -3.0, [STATES])),
    "joints stamped 3 s after the rest": recorded(change=restamped(lambda t_s: 3.0, [STATES])),
    "a camera stamped 0.3 s before the rest": recorded(change=restamped(lambda t_s: -0.3, [BASE])),
    "a camera stamped 0.1 s before the rest": recorded(change=restamped(lambda t_s: -0.1, [BASE])),
    "all stamps of a simulator's time": recorded(change=simulated()),
    "a simulator's time, commands without a stamp": recorded(change=simulated([COMMANDS])),
    "a machine whose clock is 0.4 s off": recorded(change=restamped(lambda t_s: 0.4)),
    "all clocks set back by 2 s": recorded(change=restamped(lambda t_s: -2.0 if t_s >= 2 else 0.0)),
    "the recording machine's clock set back by 2 s": set_back,
    "all clocks set forward by an hour": recorded(change=restamped(lambda t_s: 3600.0 if t_s >= 2 else 0.0)),
    "one camera's clock set by 2 s": recorded(change=restamped(lambda t_s: 2.0 if t_s >= 2 else 0.0, [BASE])),
    "a single stamp of long ago": recorded(change=restamped(lambda t_s: -1e7 if t_s == 2.0 else 0.0, [BASE])),
    "a camera that dies": recorded(keep=only(WRIST, 0, 2)),
    "joints that die": recorded(keep=only(STATES, 0, 2)),
    "a camera that begins late": recorded(keep=only(BASE, 1.5, 9)),
    "commands that begin late": recorded(keep=only(COMMANDS, 1.5, 9)),
    "commands that end early": recorded(keep=only(COMMANDS, 0, 2)),
    "a camera that is found 0.6 s later": recorded(keep=only(BASE, 0.6, 9)),
    "two pauses": recorded(seconds=6.0, keep=apart(BASE, (1.5, 2.2), (3.7, 4.4))),
    "pauses so often that no piece is long enough": recorded(keep=apart(BASE, (0.7, 1.1), (1.7, 2.2), (2.8, 3.3))),
    "joint states of NaN for a while": recorded(change=during(1.9, 2.1, STATES, not_a_number)),
    "empty joint states for a while": recorded(change=during(1.9, 2.1, STATES, empty_state)),
    "joint states of NaN to the end": recorded(change=during(2.0, 9, STATES, not_a_number)),
    "trajectories without a point for a while": recorded(change=during(1.9, 2.1, COMMANDS, without_points)),
    "four pictures cut short": recorded(change=during(1.9, 2.1, BASE, truncated)),
    "a prompt that flickers": recorded(prompts=[(n / 5, ("red", "green")[n % 2]) for n in range(20)]),
    "a prompt in `custom_data` alone": recorded(prompts=(), custom_data={"prompt": "fold the towel"}),
    "no prompt but the robot file's": recorded(prompts=()),
    "a camera black throughout": recorded(change=during(0, 9, BASE, black)),
    "a camera frozen throughout": recorded(change=during(0, 9, BASE, frozen)),
    "a camera frozen for a second": recorded(change=during(1.0, 2.0, BASE, frozen)),
    "joints that never move": recorded(change=during(0, 9, STATES, still)),
    "joints that only tremble": recorded(change=during(0, 9, STATES, trembling)),
    "commands that never change": recorded(change=during(0, 9, COMMANDS, still)),
    "grey pictures": recorded(change=during(0, 9, BASE, grey)),
    "depth instead of colour": recorded(change=during(0, 9, BASE, depth)),
    "a camera of half the dataset's rate": recorded(camera_hz=10.0),
    "joints in another order": recorded(change=during(0, 9, STATES, reordered)),
}


def table() -> dict[str, tuple[str, str]]:
    """First cell -> (what comes of it, what the report says) of the rows in docs/data.md."""
    lines = PAGE.read_text().split("## Damaged and odd recordings")[1].split("\n## ")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| ")]
    return {name.strip(): (result, says.strip()) for name, result, says in rows[1:]}


def folder_of(number: int, name: str) -> str:
    return f"{number:02d}" + (".partial" if ".partial" in name else "")


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    root = tmp_path_factory.mktemp("odd")
    (root / "bags").mkdir()
    for number, (name, make) in enumerate(MAKERS.items()):
        make(root / "bags" / folder_of(number, name))
    before = fingerprint(root / "bags")
    report = convert([root / "bags"], root / "out", ROBOT)
    assert fingerprint(root / "bags") == before, "a recording was written to"
    return root, report


def reports(everything: tuple[Path, Report]) -> dict[str, BagReport]:
    by_folder = {Path(bag.bag).name: bag for bag in everything[1].bags}
    return {name: by_folder[folder_of(number, name)] for number, name in enumerate(MAKERS)}


def test_the_table_has_a_row_for_each() -> None:
    assert list(table()) == list(MAKERS)


@pytest.mark.parametrize("name", MAKERS)
def test_row(everything: tuple[Path, Report], name: str) -> None:
    result, says = table()[name]
    bag = reports(everything)[name]
    status, episodes = re.fullmatch(r"(converted|rejected|skipped)(?:, (\d) episodes)?", result).groups()  # type: ignore[union-attr]
    assert bag.status == status, bag
    assert len(bag.episodes) == (int(episodes or 1) if status == "converted" else 0), bag.gaps
    said = " ".join((bag.reason, *bag.notes, *(gap.why for gap in bag.gaps)))
    assert says.strip("`") in said or not says, said
    if not says:
        assert not said


@pytest.mark.parametrize("name", MAKERS)
def test_check_and_convert_agree(everything: tuple[Path, Report], name: str) -> None:
    bag = reports(everything)[name]
    checked = check_bag(Path(bag.bag), ROBOT)
    assert (checked.verdict == "unusable") == (bag.status == "rejected"), (checked.findings, bag.reason)
    assert checked.episode_rows == tuple(episode.frames for episode in bag.episodes)


def test_the_dataset_holds_what_the_reports_say(everything: tuple[Path, Report]) -> None:
    root, report = everything
    dataset = Dataset(root / "out")
    lengths = [episode.frames for bag in report.bags for episode in bag.episodes]
    assert [episode.length for episode in dataset.episodes] == lengths
    lost = {name: sum(s.advertised - s.messages for s in bag.streams) for name, bag in reports(everything).items()}
    assert lost["MCAP cut anywhere"] > 100 and lost["sqlite3 with a broken page"] > 0
    assert lost["all header stamps zero"] == 0


def test_damaged_recordings_can_be_refused(everything: tuple[Path, Report]) -> None:
    root, report = everything
    bags = [Path(report.bags[0].bag), root / "bags" / folder_of(list(MAKERS).index("`metadata.yaml` missing"), "")]
    strict = convert(bags, root / "strict", ROBOT, Options(damaged="reject"), dry_run=True)
    assert [bag.status for bag in strict.bags] == ["rejected", "converted"]
    assert "before its index" in strict.bags[0].reason


def test_a_dry_run_says_the_same(everything: tuple[Path, Report]) -> None:
    root, report = everything
    shutil.rmtree(root / "dry", ignore_errors=True)
    dry = convert([root / "bags"], root / "dry", ROBOT, dry_run=True)
    assert dry.bags == report.bags and not (root / "dry").exists()
