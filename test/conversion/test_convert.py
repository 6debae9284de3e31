"""From bags to a dataset: every row is what was known at its time, nothing is invented, a kill costs only time."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bagmaker import START_NS, STORE, Recipe, header, image_at, make_bag, state_at
from rosbags.rosbag2 import StoragePlugin, Writer

from pi0_ros.bags.reader import Bag, read_bag
from pi0_ros.cli.main import main
from pi0_ros.conversion.align import Scan
from pi0_ros.conversion.annotations import Annotation
from pi0_ros.conversion.convert import convert
from pi0_ros.conversion.options import Options
from pi0_ros.conversion.report import Report
from pi0_ros.datasets.dataset import Dataset
from pi0_ros.datasets.layout import DatasetError
from pi0_ros.datasets.video import VideoWriter
from pi0_ros.observation.streams import ObservationBuffer
from pi0_ros.robot import Robot, load_robot, robot_from_yaml, robot_to_yaml
from pi0_ros.robot.types import NOBODY

ROBOT = load_robot("demo_arm")
BASE, WRIST = (camera.topic for camera in ROBOT.cameras)
AS_USUAL = Options()
STATES, COMMANDS = ROBOT.state[0].topic, ROBOT.commands[0].topic


def conversion(dataset: Path) -> dict[str, Any]:
    return json.loads((dataset / "meta/pi0_conversion.json").read_text())


def one(tmp_path: Path, recipe: Recipe, options: Options = AS_USUAL, robot: Robot = ROBOT, **more: Any) -> Report:
    """Convert a single bag made by `recipe` into tmp_path/out."""
    return convert([make_bag(tmp_path / "bag", ROBOT, recipe)], tmp_path / "out", robot, options, **more)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def brightness(frames: np.ndarray) -> np.ndarray:
    """The number that `image_at` drew into each frame of the base camera."""
    return np.round((frames.mean(axis=(1, 2, 3)) - 30) / 5).astype(int)


def test_rows_are_as_of_their_ticks(tmp_path: Path) -> None:
    report = one(tmp_path, Recipe(seconds=2.0))
    (bag,) = report.bags
    assert (bag.status, len(bag.episodes), bag.gaps) == ("converted", 1, ())
    (episode,) = Dataset(tmp_path / "out").episodes
    assert episode.prompt == "put the red cube in the tray"
    assert episode.length == report.frames == 40
    ticks = (bag.episodes[0].start_ns - START_NS) * 1e-9 + np.arange(40) / 20
    shown = np.floor(ticks * 50 + 1e-6) / 50  # the stamp of the newest joint state at each tick
    assert np.allclose(episode.state, [state_at(t, 6) for t in shown], atol=1e-6)
    assert np.allclose(episode.action, [state_at(t + 0.1, 6) for t in shown], atol=1e-6)
    assert brightness(episode.frames("base")).tolist() == (np.floor(ticks * 20 + 1e-6).astype(int) % 40).tolist()
    images = image_at(int(ticks[7] * 20), shade=3).astype(int)
    assert np.abs(episode.frames("wrist")[7].astype(int) - images).max() <= 4
    stream = {stream.topic: stream for stream in bag.streams}[BASE]
    assert (stream.messages, stream.rate_hz, stream.repeats, stream.skips) == (41, 20.0, 0, 0)
    assert 0 < stream.age_p50_s <= stream.age_max_s < 0.05


def test_jitter_neither_repeats_nor_skips_images(tmp_path: Path) -> None:
    report = one(tmp_path, Recipe(seconds=4.0, jitter_s=0.004))
    for stream in report.bags[0].streams:
        if stream.topic in (BASE, WRIST):
            assert (stream.repeats, stream.skips) == (0, 0)


def test_the_live_buffer_gives_the_same_observations(tmp_path: Path) -> None:
    """Messages pushed as they arrive into the node's bounded buffer, asked a moment later: the rows of the dataset."""
    report = one(tmp_path, Recipe(seconds=2.0, jitter_s=0.003, delay_s=0.0))
    (episode,) = Dataset(tmp_path / "out").episodes
    start = report.bags[0].episodes[0].start_ns
    ticks = [start + round(k * 1e9 / 20) for k in range(episode.length)]
    buffer = ObservationBuffer(ROBOT)
    live = []
    for topic, message, receive_ns in read_bag(tmp_path / "bag", set(ROBOT.topics)):
        while ticks and receive_ns > ticks[0]:
            live.append(buffer.observe(ticks.pop(0), ""))
        buffer.push_message(topic, message, receive_ns)
    live += [buffer.observe(tick, "") for tick in ticks]
    assert np.array_equal(np.float32([observation.state for observation in live]), episode.state)
    seen = np.stack([observation.images["base"] for observation in live])
    assert np.array_equal(brightness(seen), brightness(episode.frames("base")))


def test_late_messages_count_at_their_stamp(tmp_path: Path) -> None:
    """One camera arrives 0.7 s late: rows still hold the image that was taken last before each tick."""
    bag = make_bag(tmp_path / "bag", ROBOT, Recipe(seconds=2.0))
    late = tmp_path / "late"
    from bagmaker import STORE
    from rosbags.rosbag2 import StoragePlugin, Writer

    with Bag(bag) as source, Writer(late, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {
            topic: writer.add_connection(topic, info.type, typestore=STORE)
            for topic, info in source.info.topics.items()
        }
        shifted = [(ns + (700_000_000 if topic == BASE else 0), topic, data) for topic, ns, data in source.raw()]
        for ns, topic, data in sorted(shifted, key=lambda item: item[0]):
            writer.write(connections[topic], ns, data)
    convert([bag], tmp_path / "a", ROBOT)
    with pytest.raises(DatasetError, match=r"stamped 0.70 s before the other streams.*--stamp .*=arrival"):
        convert([late], tmp_path / "b", ROBOT)  # a slow camera, or a clock that is off: nobody can tell
    convert([late], tmp_path / "b", ROBOT, Options(stamps=((BASE, "header"),)))
    on_time, delayed = Dataset(tmp_path / "a").episodes[0], Dataset(tmp_path / "b").episodes[0]
    assert np.array_equal(on_time.frames("base"), delayed.frames("base"))
    assert np.array_equal(on_time.state, delayed.state)


def test_needed_counts_messages_up_to_each_tick() -> None:
    stamps = np.array([10, 30, 20, 50, 40], np.int64)
    scan = Scan(stamps, {"a": np.sort(stamps)}, {"a": 0}, ())
    assert scan.needed(np.array([5, 10, 20, 30, 45, 60])).tolist() == [0, 1, 3, 3, 5, 5]


def test_a_gap_splits_the_episode(tmp_path: Path) -> None:
    recipe = Recipe(seconds=6.0, keep=lambda topic, t_s: topic != WRIST or not 2.0 < t_s < 3.0)
    report = one(tmp_path, recipe)
    (bag,) = report.bags
    first, second = Dataset(tmp_path / "out").episodes
    assert len(bag.gaps) == 1
    assert WRIST in bag.gaps[0].why and bag.gaps[0].length_s == pytest.approx(0.75, abs=0.06)
    assert first.length + second.length == pytest.approx((6.0 - 0.75) * 20, abs=2)
    ages = {stream.topic: stream.age_max_s for stream in bag.streams}
    assert ages[WRIST] <= ROBOT.cameras[1].max_age_s
    start = (bag.episodes[1].start_ns - START_NS) * 1e-9
    assert 2.95 <= start <= 3.06
    assert np.allclose(second.state[0], state_at(np.floor(start * 50 + 1e-6) / 50, 6), atol=1e-6)
    assert brightness(second.frames("base", 0, 1))[0] == int(start * 20 + 1e-6) % 40


def test_a_gap_can_reject_the_bag(tmp_path: Path) -> None:
    recipe = Recipe(seconds=6.0, keep=lambda topic, t_s: topic != STATES or not 2.0 < t_s < 3.0)
    with pytest.raises(DatasetError, match=r"gap of 0\.\d+ s at 2\.\d+ s: /demo_arm/joint_states"):
        one(tmp_path, recipe, Options(gaps="reject"))


def test_short_pieces_are_left_out_and_reported(tmp_path: Path) -> None:
    recipe = Recipe(seconds=4.0, keep=lambda topic, t_s: topic != BASE or not 0.3 < t_s < 1.0)
    report = one(tmp_path, recipe)
    (bag,) = report.bags
    assert len(bag.episodes) == 1 and bag.gaps[0].at_s == 0.0
    assert "too short" in bag.gaps[0].why


def test_commands_that_stop_end_the_episode(tmp_path: Path) -> None:
    stopped = Recipe(seconds=4.0, keep=lambda topic, t_s: topic != COMMANDS or t_s < 2.0)
    report = one(tmp_path, stopped, Options(keep_partial=True))
    assert report.frames == pytest.approx((2.0 + ROBOT.action_max_age_s) * 20, abs=2)
    assert COMMANDS in report.bags[0].gaps[0].why


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        (Recipe(seconds=2.0, keep=lambda topic, t_s: topic != WRIST), f"no message on {WRIST}"),
        (Recipe(seconds=2.0, keep=lambda topic, t_s: topic != COMMANDS), f"no message on {COMMANDS}"),
        (Recipe(seconds=0.4), "no piece lasts 1 s"),
        (
            Recipe(
                seconds=2.0,
                change=lambda topic, t_s, m: dataclasses.replace(m, encoding="16UC1") if topic == BASE else m,
            ),
            "depth image",
        ),
        (
            Recipe(
                seconds=2.0,
                change=lambda topic, t_s, m: dataclasses.replace(m, name=["x"] * 6) if topic == STATES else m,
            ),
            "joint 'yaw'",
        ),
    ],
)
def test_unusable_bags_are_rejected_with_the_reason(tmp_path: Path, recipe: Recipe, reason: str) -> None:
    good = make_bag(tmp_path / "good", ROBOT, Recipe(seconds=1.5))
    bad = make_bag(tmp_path / "bad", ROBOT, recipe)
    report = convert([bad, good], tmp_path / "out", ROBOT)
    assert [bag.status for bag in report.bags] == ["rejected", "converted"]
    assert reason in report.bags[0].reason
    assert reason in report.summary()
    assert len(Dataset(tmp_path / "out").episodes) == 1
    assert conversion(tmp_path / "out")["bags"][0]["status"] == "rejected"


def test_other_image_sizes_are_rejected(tmp_path: Path) -> None:
    bags = [make_bag(tmp_path / f"{side}", ROBOT, Recipe(seconds=1.5, size=(side, side))) for side in (64, 96)]
    report = convert(bags, tmp_path / "out", ROBOT)
    assert [bag.status for bag in report.bags] == ["converted", "rejected"]
    assert "base 96x96" in report.bags[1].reason and "base 64x64" in report.bags[1].reason


@pytest.mark.parametrize("data", [{"outcome": "failure"}, {"success": "false"}, {"discarded": "true"}])
def test_failed_episodes_are_skipped_unless_wanted(tmp_path: Path, data: dict[str, str]) -> None:
    bags = [
        make_bag(tmp_path / "good", ROBOT, Recipe(seconds=1.5, custom_data={"outcome": "success"})),
        make_bag(tmp_path / "failed", ROBOT, Recipe(seconds=1.5, custom_data=data)),
        make_bag(tmp_path / "unfinished.partial", ROBOT, Recipe(seconds=1.5)),
    ]
    report = convert(bags, tmp_path / "out", ROBOT)
    assert [bag.status for bag in report.bags] == ["converted", "skipped", "skipped"]
    assert next(iter(data)).removesuffix("ed") in report.bags[1].reason
    everything = convert(bags, tmp_path / "all", ROBOT, Options(include_failed=True))
    assert everything.episodes == (2 if "discarded" in data else 3)  # a discarded take never


def test_prompts(tmp_path: Path) -> None:
    """The command line's, else what was said in the recording, else its custom data's, else the robot file's."""
    said = make_bag(tmp_path / "said", ROBOT, Recipe(seconds=1.5, custom_data={"prompt": "other"}))
    noted = make_bag(tmp_path / "noted", ROBOT, Recipe(seconds=1.5, prompts=(), custom_data={"prompt": "noted"}))
    silent = make_bag(tmp_path / "silent", ROBOT, Recipe(seconds=1.5, prompts=()))
    late = make_bag(tmp_path / "late", ROBOT, Recipe(seconds=1.5, prompts=((1.0, "said late"),)))
    convert([said, noted, silent, late], tmp_path / "out", ROBOT)
    prompts = [episode.prompt for episode in Dataset(tmp_path / "out").episodes]
    assert prompts == ["put the red cube in the tray", "noted", ROBOT.prompt, "said late"]
    convert([said, noted], tmp_path / "task", ROBOT, Options(task="fold"))
    assert {episode.prompt for episode in Dataset(tmp_path / "task").episodes} == {"fold"}


def test_a_new_prompt_begins_a_new_episode(tmp_path: Path) -> None:
    report = one(tmp_path, Recipe(seconds=4.0, prompts=((0.0, "first"), (2.0, "second"), (3.0, "second"))))
    first, second = Dataset(tmp_path / "out").episodes
    assert (first.prompt, second.prompt) == ("first", "second")
    assert first.length == pytest.approx(40, abs=1) and first.length + second.length == 80
    assert report.bags[0].gaps == ()


def test_prompts_and_annotations_of_simulated_time(tmp_path: Path) -> None:
    """Stamped by a simulator that runs at half the speed, received by the wall's clock."""

    def simulated(topic: str, t_s: float, message: Any) -> Any:
        return dataclasses.replace(message, header=header(round((10 + t_s / 2) * 1e9)))

    recipe = Recipe(seconds=8.0, change=simulated, prompts=((0.0, "first"), (4.0, "second")))
    report = one(tmp_path, recipe)
    assert [(episode.prompt, episode.frames) for episode in report.bags[0].episodes] == [
        ("first", pytest.approx(40, abs=1)),
        ("second", pytest.approx(40, abs=1)),
    ]
    rows = (Annotation("bag", start_s=2.0, end_s=6.0, prompt="middle"),)
    report = convert([tmp_path / "bag"], tmp_path / "annotated", ROBOT, Options(annotations=rows))
    (episode,) = report.bags[0].episodes
    assert episode.frames == pytest.approx(40, abs=1) and episode.start_ns == pytest.approx(11e9, abs=0.1e9)


def test_without_any_prompt(tmp_path: Path) -> None:
    robot = dataclasses.replace(ROBOT, prompt="")
    recipe = Recipe(seconds=1.5, prompts=((0.0, " "),))
    with pytest.raises(DatasetError, match="no prompt: none was recorded.*give --task"):
        one(tmp_path, recipe, robot=robot)
    convert([tmp_path / "bag"], tmp_path / "out", robot, Options(task="fold"))
    assert Dataset(tmp_path / "out").episodes[0].prompt == "fold"


def test_messages_that_are_cut_off(tmp_path: Path) -> None:
    """Shorter than a header, whole bags of such, and a folder without any recording: none stops the others."""
    sound = make_bag(tmp_path / "bags/sound", ROBOT, Recipe(seconds=3.0))
    with Bag(sound) as bag:
        content = [(topic, bag.info.topics[topic].type, ns, data) for topic, ns, data in bag.raw()]
    for name, spoilt in (("one", {BASE: (30,)}), ("all", {STATES: range(1000)})):
        count = dict.fromkeys(spoilt, 0)
        with Writer(tmp_path / "bags" / name, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
            places = {}
            for topic, kind, ns, data in content:
                if topic not in places:
                    places[topic] = writer.add_connection(topic, kind, typestore=STORE)
                short = topic in spoilt and count[topic] in spoilt[topic]
                count[topic] = count.get(topic, 0) + 1
                writer.write(places[topic], ns, data[: count[topic] % 12] if short else data)
    (tmp_path / "bags/empty").mkdir()
    (tmp_path / "bags/empty/metadata.yaml").write_text("a: map\n")
    report = convert([tmp_path / "bags"], tmp_path / "out", ROBOT)
    found = {Path(bag.bag).name: bag for bag in report.bags}
    assert {name: bag.status for name, bag in found.items()} == {
        **dict.fromkeys(("all", "empty"), "rejected"),
        **dict.fromkeys(("one", "sound"), "converted"),
    }
    assert "no .mcap or .db3 file" in found["empty"].reason
    assert [episode.frames for episode in found["one"].episodes] == [pytest.approx(30, abs=1)] * 2


def test_next_state_as_action(tmp_path: Path) -> None:
    robot = dataclasses.replace(ROBOT, action_source="next_state")
    recipe = Recipe(seconds=2.0, keep=lambda topic, t_s: topic != COMMANDS)
    one(tmp_path, recipe, robot=robot)
    (episode,) = Dataset(tmp_path / "out").episodes
    assert np.array_equal(episode.action[:-1], episode.state[1:])
    assert not np.allclose(episode.action[-1], episode.state[-1])


def test_zero_stamps_fall_back_to_receive_time_and_are_counted(tmp_path: Path) -> None:
    report = one(tmp_path, Recipe(seconds=2.0, stamped=False))
    assert {stream.stamp_fallbacks for stream in report.bags[0].streams} == {41, 101}
    assert report.frames == 40
    assert "stamps=0" in report.summary()


def test_fps_can_be_set(tmp_path: Path) -> None:
    report = one(tmp_path, Recipe(seconds=3.0), fps=10)
    dataset = Dataset(tmp_path / "out")
    assert dataset.fps == dataset.robot.dataset_fps == report.fps == 10
    assert report.frames == 30
    assert {stream.topic: stream for stream in report.bags[0].streams}[BASE].skips > 25
    for fps in (12.5, 0, -5):
        with pytest.raises(DatasetError, match="whole number"):
            convert([tmp_path / "bag"], tmp_path / "other", ROBOT, fps=fps)


def test_dry_run_writes_nothing_and_reports_the_same(tmp_path: Path) -> None:
    recipe = Recipe(seconds=6.0, keep=lambda topic, t_s: topic != WRIST or not 2.0 < t_s < 3.0)
    dry = one(tmp_path, recipe, dry_run=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bag"]
    wet = convert([tmp_path / "bag"], tmp_path / "out", ROBOT)
    assert dry.bags == wet.bags
    assert "nothing was written" in dry.summary()


def test_an_existing_dataset_is_replaced_only_on_demand(tmp_path: Path) -> None:
    one(tmp_path, Recipe(seconds=1.5))
    before = files(tmp_path / "out")
    with pytest.raises(DatasetError, match="--overwrite"):
        convert([tmp_path / "bag"], tmp_path / "out", ROBOT)
    assert files(tmp_path / "out") == before
    convert([tmp_path / "bag"], tmp_path / "out", ROBOT, Options(task="fold"), overwrite=True)
    assert Dataset(tmp_path / "out").episodes[0].prompt == "fold"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bag", "out"]


def test_names_that_lerobot_refuses(tmp_path: Path) -> None:
    joints = (dataclasses.replace(ROBOT.joints[0], name="arm/yaw"), *ROBOT.joints[1:])
    with pytest.raises(DatasetError, match="'arm/yaw' holds a '/'"):
        convert([tmp_path], tmp_path / "out", dataclasses.replace(ROBOT, joints=joints))


def test_workers_give_the_same_dataset(tmp_path: Path) -> None:
    bags = [make_bag(tmp_path / f"bags/{n}", ROBOT, Recipe(seconds=1.0 + n / 5)) for n in range(3)]
    convert(bags, tmp_path / "one", ROBOT)
    convert(bags, tmp_path / "two", ROBOT, workers=2)
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_finished_bags_are_not_converted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second bag's encoder fails (a full disk, say): the next run begins with the second bag."""
    bags = [make_bag(tmp_path / f"bags/{n}", ROBOT, Recipe(seconds=1.5)) for n in range(2)]
    convert(bags, tmp_path / "unbroken", ROBOT)
    written: list[str] = []
    close = VideoWriter.close

    def count(writer: VideoWriter) -> int:
        written.append(writer.path.name)
        if len(written) == 3:
            raise OSError("no space left on device")
        return close(writer)

    monkeypatch.setattr(VideoWriter, "close", count)
    with pytest.raises(OSError, match="no space left"):
        convert(bags, tmp_path / "out", ROBOT)
    assert not (tmp_path / "out").exists()
    convert(bags, tmp_path / "out", ROBOT)
    assert written == ["base.mp4", "wrist.mp4", "base.mp4", "base.mp4", "wrist.mp4"]
    assert files(tmp_path / "out") == files(tmp_path / "unbroken")
    assert not (tmp_path / "out.partial").exists()


def test_a_changed_bag_or_option_is_converted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bag = make_bag(tmp_path / "bag", ROBOT, Recipe(seconds=1.5))
    monkeypatch.setattr("pi0_ros.conversion.convert.write_dataset", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        convert([bag], tmp_path / "out", ROBOT)
    parts = tmp_path / "out.partial/episodes"
    assert len(list(parts.iterdir())) == 1
    file = bag / "bag.mcap"
    os.utime(file, ns=(0, 0))
    with pytest.raises(ZeroDivisionError):
        convert([bag], tmp_path / "out", ROBOT)
    with pytest.raises(ZeroDivisionError):
        convert([bag], tmp_path / "out", ROBOT, Options(task="fold"))
    assert len(list(parts.iterdir())) == 3


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_bag(tmp_path / "bags/good", ROBOT, Recipe(seconds=1.5))
    make_bag(tmp_path / "bags/short", ROBOT, Recipe(seconds=0.3))
    arguments = ["convert", str(tmp_path / "bags"), str(tmp_path / "out"), "--robot", "demo_arm"]
    assert main([*arguments, "--dry-run"]) == 1
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "2 bags: 1 converted, 0 skipped, 1 rejected; 1 episodes, 30 frames (1.5 s at 20 fps)" in printed
    assert "x real time" in printed
    assert main(arguments) == 2
    assert "exists" in capsys.readouterr().err


@pytest.mark.parametrize("workers", ["1", "2"])
def test_progress_of_each_bag_on_a_terminal(tmp_path: Path, workers: str) -> None:
    for name in ("first", "second"):
        make_bag(tmp_path / "bags" / name, ROBOT, Recipe(seconds=1.5))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    command = [sys.executable, "-m", "pi0_ros.cli", "convert", str(tmp_path / "bags"), str(tmp_path / "out")]
    command += ["--robot", "demo_arm", "--workers", workers]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # what a terminal gives when the other side is closed
            while part := os.read(ours, 1 << 16):
                shown += part
        os.close(ours)
    assert process.returncode == 0
    for text in (b"0/2 ", b"2/2 ", b"first:   0%", b"second:   0%", b"0/30 "):
        assert text in shown, text


def test_message_units_and_joints_of_state_or_action_alone(tmp_path: Path) -> None:
    """Topics in degrees with an offset, a joint that is only measured and one that is only commanded: robot units."""
    names = ROBOT.joint_names
    measured, commanded = names[:5], (*names[:4], names[5])
    degrees = (180 / np.pi,) * 5
    roles = {names[4]: "state", names[5]: "action"}
    joints = tuple(dataclasses.replace(joint, role=roles.get(joint.name, "both")) for joint in ROBOT.joints)
    joints = (*joints[:4], dataclasses.replace(joints[4], action=""), dataclasses.replace(joints[5], action="absolute"))
    state = dataclasses.replace(ROBOT.state[0], joints=measured, scale=degrees, offset=(1.0, 2.0, 3.0, 4.0, 5.0))
    group = dataclasses.replace(ROBOT.commands[0], joints=commanded, scale=(-1.0, 1.0, 1.0, 1.0, 100.0))
    robot = dataclasses.replace(ROBOT, joints=joints, state=(state,), commands=(group,), takeover=NOBODY)
    assert robot_from_yaml(robot_to_yaml(robot), "robot.yaml") == robot
    report = one(tmp_path, Recipe(seconds=2.0), robot=robot)
    dataset = Dataset(tmp_path / "out")
    (episode,) = dataset.episodes
    assert dataset.info["features"]["observation.state"]["names"] == list(measured)
    assert dataset.info["features"]["action"]["names"] == list(commanded)
    ticks = (report.bags[0].episodes[0].start_ns - START_NS) * 1e-9 + np.arange(episode.length) / 20
    shown = np.floor(ticks * 50 + 1e-6) / 50
    states, goals = np.array([state_at(t, 6) for t in shown]), np.array([state_at(t + 0.1, 6) for t in shown])
    assert np.allclose(episode.state, (states[:, :5] - [1, 2, 3, 4, 5]) * np.pi / 180, atol=1e-6)
    assert np.allclose(episode.action, goals[:, [0, 1, 2, 3, 5]] / [-1, 1, 1, 1, 100], atol=1e-6)
