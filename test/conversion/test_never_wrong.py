"""Recordings that once gave a wrong dataset without a word: each with its right rows, or the true reason.

Joints and pictures are known functions of the true time (`bagmaker`), so every row can be held against it.
"""

from __future__ import annotations

import dataclasses
import errno
import io
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest
from bagmaker import START_NS, Recipe, image_at, make_bag, stamp, state_at, string_message
from oddbags import write_bag
from rosbags.rosbag2 import CompressionMode

from pi0_ros.bags.reader import find_bags
from pi0_ros.cli.main import main
from pi0_ros.conversion import jobs
from pi0_ros.conversion.bag_check import check_bag
from pi0_ros.conversion.convert import convert
from pi0_ros.conversion.options import Options
from pi0_ros.conversion.report import BagReport
from pi0_ros.datasets.checks import check_dataset
from pi0_ros.datasets.dataset import Dataset
from pi0_ros.datasets.layout import DatasetError
from pi0_ros.observation.images import ImageError, check_image, decode_image, is_grey
from pi0_ros.robot import load_robot, robot_to_yaml

ROBOT = load_robot("demo_arm")
BASE, WRIST = (camera.topic for camera in ROBOT.cameras)
STATES, COMMANDS = ROBOT.state[0].topic, ROBOT.commands[0].topic
STAMPED = (BASE, WRIST, STATES, COMMANDS)
USUAL = Options()
SMALL = Recipe(seconds=6.0, size=(32, 32))


def restamped(shift: Callable[[float], float], topics: Sequence[str] = STAMPED) -> Callable[[str, float, Any], Any]:
    """A change of the stamps of these topics: by `shift` seconds at each true second."""

    def change(topic: str, t_s: float, message: Any) -> Any:
        if topic not in topics:
            return message
        ns = START_NS + round((t_s + shift(t_s)) * 1e9)
        return dataclasses.replace(message, header=dataclasses.replace(message.header, stamp=stamp(ns)))

    return change


def bag(tmp_path: Path, name: str = "bag", **changes: Any) -> Path:
    return make_bag(tmp_path / name, ROBOT, dataclasses.replace(SMALL, **changes))


def one(tmp_path: Path, options: Options = USUAL, **changes: Any) -> BagReport:
    """What becomes of a bag; check and convert agree on it."""
    path = bag(tmp_path, **changes)
    try:
        report = convert([path], tmp_path / "out", ROBOT, options).bags[0]
    except DatasetError:
        report = convert([path], tmp_path / "out", ROBOT, options, dry_run=True).bags[0]
    checked = check_bag(path, ROBOT, options)
    assert (checked.verdict == "unusable") == (report.status == "rejected"), (checked.findings, report)
    assert sum(checked.episode_rows) == report.frames
    return report


def hold_against_truth(tmp_path: Path, report: BagReport, shift_s: float = 0.0, late_s: float = 0.02) -> None:
    """Every row's joints and picture are those of its time, less `shift_s`, as of at most one period before."""
    for about, episode in zip(report.episodes, Dataset(tmp_path / "out").episodes, strict=True):
        seconds = (about.start_ns - START_NS) * 1e-9 + np.arange(episode.length) / 20 - shift_s
        exact = np.array([state_at(t, 6) for t in seconds])
        assert np.abs(episode.state - exact).max() < 0.3 * (1 / 50 + late_s)
        commanded = np.array([state_at(t + 0.1, 6) for t in seconds])
        assert np.abs(episode.action - commanded).max() < 0.3 * (1 / 50 + late_s)
        seen = (episode.frames("base").mean(axis=(1, 2, 3)) - 30) / 5
        behind = (seconds * 20 - seen + 20) % 40 - 20
        assert behind.min() > -0.5 and behind.max() < 1.0 + 20 * late_s + 0.3


# ---- 1: clocks


def test_joints_behind_camera_and_arrival(tmp_path: Path) -> None:
    behind = restamped(lambda t_s: -3.0, [STATES])
    report = one(tmp_path, change=behind)
    assert report.status == "rejected" and f"{STATES} is stamped 3.00 s before the other streams" in report.reason
    assert f"--stamp {STATES}=arrival" in report.reason
    again = convert([tmp_path / "bag"], tmp_path / "out", ROBOT, Options(stamps=((STATES, "arrival"),)))
    hold_against_truth(tmp_path, again.bags[0])
    assert again.frames > 110
    robot = dataclasses.replace(ROBOT, state=(dataclasses.replace(ROBOT.state[0], stamp="arrival"),))
    assert convert([tmp_path / "bag"], tmp_path / "other", robot).frames == again.frames  # or for good


@pytest.mark.parametrize(("shift", "status"), [(-0.3, "rejected"), (0.3, "rejected"), (-0.06, "converted")])
def test_small_offsets_are_seen_in_full(tmp_path: Path, shift: float, status: str) -> None:
    report = one(tmp_path, change=restamped(lambda t_s: shift, [STATES]))
    assert report.status == status
    when = "after" if shift > 0 else "before"
    assert f"{STATES} is stamped {abs(shift):.2f} s {when}" in " ".join((report.reason, *report.notes))


def test_the_odd_one_of_two(tmp_path: Path) -> None:
    """Of a camera and joints the one that the arrivals contradict is named, and its offset is not halved."""
    robot = dataclasses.replace(ROBOT, cameras=ROBOT.cameras[:1], action_source="next_state")
    path = make_bag(tmp_path / "bag", robot, dataclasses.replace(SMALL, change=restamped(lambda t_s: 3.0, [BASE])))
    report = convert([path], tmp_path / "out", robot, dry_run=True).bags[0]
    assert f"{BASE} is stamped 3.00 s after {STATES}" in report.reason


def test_simulated_time_with_commands_without_a_stamp(tmp_path: Path) -> None:
    """Messages without stamps are carried over to the clock of the others; a simulator at half speed too."""

    def change(topic: str, t_s: float, message: Any) -> Any:
        if topic == COMMANDS:
            return dataclasses.replace(message, header=dataclasses.replace(message.header, stamp=stamp(0)))
        return dataclasses.replace(message, header=dataclasses.replace(message.header, stamp=stamp(round(t_s * 1e9))))

    report = one(tmp_path, change=change)
    assert report.status == "converted" and report.frames > 110
    assert any("without stamps is carried over" in note for note in report.notes)
    hold_against_truth(tmp_path, report, shift_s=-START_NS * 1e-9)


# ---- 2: ends


@pytest.mark.parametrize(
    ("topic", "first", "last", "said"),
    [
        (WRIST, 0, 3, f"{WRIST} ends 7.00 s before the recording"),
        (STATES, 0, 4, f"{STATES} ends 6.0"),
        (BASE, 4, 99, f"{BASE} begins only 4.00 s after the recording"),
        (COMMANDS, 2.5, 99, f"{COMMANDS} begins only 2.50 s after the recording"),
    ],
)
def test_a_stream_that_misses_an_end(tmp_path: Path, topic: str, first: float, last: float, said: str) -> None:
    missing = {"seconds": 10.0, "keep": lambda other, t_s: other != topic or first <= t_s <= last}
    report = one(tmp_path, **missing)
    assert report.status == "rejected" and said in report.reason and "--keep-partial" in report.reason
    shutil.rmtree(tmp_path / "bag")
    kept = one(tmp_path, Options(keep_partial=True), **missing)
    assert kept.status == "converted" and said in kept.gaps[0].why + kept.gaps[-1].why
    hold_against_truth(tmp_path, kept)


def test_messages_that_cannot_be_used_at_the_end_are_a_missing_end(tmp_path: Path) -> None:
    def change(topic: str, t_s: float, message: Any) -> Any:
        return (
            dataclasses.replace(message, position=message.position * np.nan) if topic == STATES and t_s > 3 else message
        )

    report = one(tmp_path, change=change)
    assert report.status == "rejected" and "its end is missing" in report.reason and "nan" in report.reason


def test_marks_say_what_must_be_covered(tmp_path: Path) -> None:
    """A camera that ends after the stop mark misses nothing."""
    marks = [(1.0, "/start", string_message("start")), (4.0, "/stop", string_message("stop"))]
    recipe = {"extra": [(t, topic, "std_msgs/msg/String", m) for t, topic, m in marks]}
    report = one(
        tmp_path,
        Options(start_topic="start", stop_topic="/stop"),
        keep=lambda topic, t_s: topic != WRIST or t_s < 4.2,
        **recipe,
    )
    assert report.status == "converted" and report.frames == pytest.approx(60, abs=2) and not report.gaps


# ---- 3: clock steps


@pytest.mark.parametrize("by", [-2.0, 2.0, 3600.0, -3600.0])
def test_a_clock_that_is_set_cuts_and_loses_nothing(tmp_path: Path, by: float) -> None:
    report = one(tmp_path, change=restamped(lambda t_s: by if t_s >= 3.0 else 0.0))
    assert report.status == "converted" and len(report.episodes) == 2
    assert report.frames > 112
    said = f"the clock was set {'back' if by < 0 else 'forward'} by {abs(by):.2f} s"
    assert said in report.notes and said in [gap.why for gap in report.gaps]
    hold_against_truth(tmp_path, report)


def test_one_wild_stamp_is_left_out(tmp_path: Path) -> None:
    report = one(tmp_path, change=restamped(lambda t_s: -1e6 if t_s == 3.0 else 0.0, [WRIST]))
    assert report.status == "converted" and len(report.episodes) == 1 and report.frames > 110
    assert f"{WRIST}: 1 stamps far off their neighbours, left out" in report.notes
    hold_against_truth(tmp_path, report)


# ---- 4: labels


@pytest.mark.parametrize(
    ("topic", "said"),
    [("/pi0/promt", "not recorded; topics with texts are /pi0/prompt"), (STATES, "of type sensor_msgs/msg/JointState")],
)
def test_a_topic_asked_for_and_absent_is_an_error(tmp_path: Path, topic: str, said: str) -> None:
    report = one(tmp_path, Options(prompt_topic=topic))
    assert report.status == "rejected" and f"--prompt-topic {topic} is {said}" in report.reason


def test_a_topic_without_its_slash_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = [(0.0, "/instruction", "std_msgs/msg/String", string_message("fold the towel"))]
    path = bag(tmp_path, extra=said)
    args = [str(path), str(tmp_path / "out"), "--robot", "demo_arm", "--prompt-topic", "instruction"]
    assert main(["convert", *args]) == 0
    assert Dataset(tmp_path / "out").episodes[0].prompt == "fold the towel"
    assert "prompt    'fold the towel' from instruction: 1 episodes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "changes", "by"),
    [
        (Options(task="fold"), {}, "--task"),
        (Options(), {}, "/pi0/prompt"),
        (Options(), {"prompts": (), "custom_data": {"task": "x"}}, "custom_data"),
        (Options(), {"prompts": ()}, "robot file"),
    ],
)
def test_who_said_the_prompt(tmp_path: Path, options: Options, changes: dict[str, Any], by: str) -> None:
    assert [episode.told_by for episode in one(tmp_path, options, **changes).episodes] == [by]


def test_files_of_different_episodes_in_one_folder(tmp_path: Path) -> None:
    """Their names differ in a number only, as those of one split recording do; their custom data tells them apart."""
    (tmp_path / "bags").mkdir()
    for number, prompt in enumerate(("red", "green", "blue")):
        made = bag(tmp_path, f"episode_{number}", prompts=(), custom_data={"prompt": prompt}, seconds=2.0)
        (file,) = made.glob("*.mcap")
        file.rename(tmp_path / "bags" / f"episode_{number}.mcap")
    assert len(find_bags([tmp_path / "bags"])) == 3
    convert([tmp_path / "bags"], tmp_path / "out", ROBOT)
    assert [episode.prompt for episode in Dataset(tmp_path / "out").episodes] == ["red", "green", "blue"]


# ---- 5: pictures


def compressed(pixels: np.ndarray, kind: str) -> SimpleNamespace:
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, kind)
    return SimpleNamespace(format=kind.lower(), data=np.frombuffer(file.getvalue(), np.uint8))


def test_sixteen_bit_pictures_are_no_colour() -> None:
    depth = compressed(np.full((8, 8), 3000, np.uint16), "PNG")
    for read in (decode_image, check_image):
        with pytest.raises(
            ImageError, match=r"16-bit values, no 8-bit colour, as depth has it: name the camera's colour"
        ):
            read(depth)
    mask = compressed(np.zeros((8, 8), bool), "PNG")
    with pytest.raises(ImageError, match="1-bit values"):
        decode_image(mask)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_grey_is_told_from_colour(kind: str) -> None:
    grey, colour = compressed(np.full((8, 8), 90, np.uint8), kind), compressed(np.full((8, 8, 3), 90, np.uint8), kind)
    assert is_grey(grey) and not is_grey(colour)
    assert np.abs(decode_image(grey).astype(int) - 90).max() <= 2
    palette = io.BytesIO()
    PIL.Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).convert("P").save(palette, "PNG")
    assert not is_grey(SimpleNamespace(format="png", data=palette.getvalue()))


def test_a_grey_camera_is_said(tmp_path: Path) -> None:
    def change(topic: str, t_s: float, message: Any) -> Any:
        if topic != BASE:
            return message
        return dataclasses.replace(message, encoding="mono8", step=message.width, data=message.data[::3].copy())

    report = one(tmp_path, change=change)
    assert "camera base sends grey pictures, without colour" in report.notes


def test_another_size_cuts_or_is_resized(tmp_path: Path) -> None:
    def change(topic: str, t_s: float, message: Any) -> Any:
        if topic != BASE or t_s < 3:
            return message
        pixels = image_at(round(t_s * 20), 48, 64)
        return dataclasses.replace(message, height=48, width=64, step=192, data=pixels.reshape(-1))

    report = one(tmp_path, change=change)
    assert report.status == "converted" and report.frames == pytest.approx(60, abs=2)
    assert "the size of pictures changes, base from 32x32 to 64x48: give --resize WxH" in report.gaps[0].why
    convert([tmp_path / "bag"], tmp_path / "all", ROBOT, Options(resize=(40, 40)))
    (episode,) = Dataset(tmp_path / "all").episodes
    assert episode.length > 115 and episode.frames("base").shape[1:] == (40, 40, 3)


# ---- 6: this machine's trouble


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EMFILE, errno.EACCES])
def test_trouble_of_the_machine_stops_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Compressed files are unpacked into the temporary folder: where that fails, nothing is lost of the recording."""
    robot_args = ["--robot", "demo_arm", "--workers", "1"]
    good = bag(tmp_path, "bags/a")
    packed = write_bag(tmp_path / "bags" / "b", ROBOT, SMALL, CompressionMode.FILE)
    copy = shutil.copyfileobj

    def fails(source: Any, target: Any, *more: Any) -> None:
        target.write(source.read(20000))
        raise OSError(code, "made up")

    monkeypatch.setattr(shutil, "copyfileobj", fails)
    args = ["convert", str(good.parent), str(tmp_path / "out"), *robot_args]
    assert main(args) != 0 and not (tmp_path / "out").exists()
    assert "give the same command again" in capsys.readouterr().err
    monkeypatch.setattr(shutil, "copyfileobj", copy)
    assert main(args) == 0 and packed.exists()
    assert [episode.length for episode in Dataset(tmp_path / "out").episodes] == [120, 120]


# ---- 7: remembered rejections


def test_a_rejection_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bag(tmp_path)
    real = jobs.convert_bag
    refuse = BagReport(str(path), "rejected", "the package for this encoding is missing")
    monkeypatch.setattr(jobs, "convert_bag", lambda *_: refuse)
    with pytest.raises(DatasetError, match="package for this encoding"):
        convert([path], tmp_path / "out", ROBOT)
    monkeypatch.setattr(jobs, "convert_bag", real)
    assert convert([path], tmp_path / "out", ROBOT).bags[0].status == "converted"


# ---- 8: which robot


def test_the_recorded_robot_file_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A copy of the shipped file that kept its name but has its own topics."""
    camera = dataclasses.replace(ROBOT.cameras[0], topic="/my/camera")
    mine = dataclasses.replace(ROBOT, cameras=(camera, ROBOT.cameras[1]))
    data = {"robot": ROBOT.name, "robot_file": robot_to_yaml(mine)}
    path = make_bag(tmp_path / "bag", mine, dataclasses.replace(SMALL, custom_data=data))
    result = check_bag(path)
    assert result.verdict != "unusable" and {stream.topic for stream in result.streams} >= {"/my/camera", WRIST}
    assert main(["convert", str(path), str(tmp_path / "out")]) == 0
    assert Dataset(tmp_path / "out").robot.cameras[0].topic == "/my/camera"
    slower = dataclasses.replace(mine, action_max_age_s=1.0)
    report = convert([path], tmp_path / "dry", slower, dry_run=True).bags[0]
    assert "the robot file is not the recorded one: action_max_age_s differ" in report.notes


def test_without_any_robot_file_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    by_name = bag(tmp_path, "named", custom_data={"robot": "demo_arm"})
    assert main(["bag", "check", str(by_name)]) == 0
    assert "judged by the one that is shipped for the name 'demo_arm'" in " ".join(capsys.readouterr().out.split())
    by_path = bag(tmp_path, "path", custom_data={"robot": "/home/me/my_robot.yaml"})
    assert main(["bag", "check", str(by_path)]) == 1
    assert "nor given" in capsys.readouterr().out
    assert main(["convert", str(by_path), str(tmp_path / "out")]) == 2
    assert "holds no robot file" in capsys.readouterr().err


def test_repeated_pictures_are_a_warning_of_the_dataset_check_too(tmp_path: Path) -> None:
    convert([bag(tmp_path, camera_hz=14.0)], tmp_path / "out", ROBOT)
    said = [finding.what for finding in check_dataset(tmp_path / "out") if finding.severity == "warning"]
    assert any(f"{BASE}: 30 % of the frames show the picture before" in what for what in said), said


@pytest.mark.parametrize("by", [3600.0, -3600.0, 90.0])
def test_a_clock_that_is_set_at_half_of_all_messages(tmp_path: Path, by: float) -> None:
    """The median of the offsets is then one that no message has."""
    half = SMALL.seconds / 2
    keep = {"keep": lambda topic, t_s: t_s < SMALL.seconds, "change": restamped(lambda t_s: by if t_s >= half else 0.0)}
    report = one(tmp_path, **keep)
    assert report.status == "converted" and len(report.episodes) == 2
    hold_against_truth(tmp_path, report)


# ---- what is not wrong enough to refuse is said, by convert as by check


def test_degrees_for_radians_are_said(tmp_path: Path) -> None:
    def change(topic: str, t_s: float, message: Any) -> Any:
        return dataclasses.replace(message, position=np.degrees(message.position)) if topic == STATES else message

    report = one(tmp_path, change=change)
    said = [note for note in report.notes if "degrees for radians?" in note]
    assert report.status == "converted" and said and "state of yaw reaches from" in said[0]
    found = [finding.what for finding in check_bag(tmp_path / "bag", ROBOT).findings]
    assert len([what for what in found if "state of yaw reaches from" in what]) == 1, "once, not from both"


def test_a_prompt_that_comes_late_is_said(tmp_path: Path) -> None:
    report = one(tmp_path, prompts=((2.0, "put it"),))
    assert "the first prompt comes 1.98 s after the first row" in " ".join(report.notes)
    assert not one(tmp_path / "b", prompts=((0.5, "put it"),)).notes


def test_an_outcome_of_another_word_is_said(tmp_path: Path) -> None:
    said = one(tmp_path, custom_data={"outcome": "meh"}).notes
    assert said == ("outcome is 'meh': not understood, so neither success nor failure",)
    assert one(tmp_path / "b", custom_data={"outcome": " Failed "}).status == "skipped"
    assert one(tmp_path / "c", custom_data={"outcome": "Success"}).notes == ()


def test_three_of_four_streams_that_are_off_name_the_fourth(tmp_path: Path) -> None:
    report = one(tmp_path, change=restamped(lambda t_s: -0.06, [BASE, WRIST, STATES]))
    assert f"{COMMANDS} is stamped 0.06 s after the other streams" in report.notes[0]


def test_trouble_while_writing_names_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that says 'no space' without a file: the conversion adds where, and that it goes on."""
    path = bag(tmp_path)

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "Error writing bytes to file")

    monkeypatch.setattr("pi0_ros.conversion.convert.write_dataset", full)
    with pytest.raises(OSError, match=r"No space left on device: give the same command again") as caught:
        convert([path], tmp_path / "out", ROBOT)
    assert caught.value.filename == str(tmp_path / "out.partial")
    monkeypatch.undo()
    assert convert([path], tmp_path / "out", ROBOT).episodes == 1
