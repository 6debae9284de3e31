"""Is a recording usable? Said before anyone leaves the robot, and with the reason."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bagmaker import START_NS, Recipe, make_bag, stamp

from pi0_ros.cli.bag_check import lines
from pi0_ros.cli.main import main
from pi0_ros.conversion.bag_check import BagCheck, check_bag
from pi0_ros.conversion.convert import convert
from pi0_ros.robot import load_robot, robot_to_yaml

ROBOT = load_robot("demo_arm")
BASE, WRIST = (camera.topic for camera in ROBOT.cameras)
STATES, COMMANDS = ROBOT.state[0].topic, ROBOT.commands[0].topic


def textured(topic: str, t_s: float, message: Any) -> Any:
    """A scene with edges and a little noise, as cameras see it, and joints within their limits."""
    if topic in (BASE, WRIST):
        random = np.random.default_rng(round(t_s * 1000))
        scene = np.kron(np.random.default_rng(7).integers(40, 200, (12, 12, 1)), np.ones((8, 8, 3)))
        pixels = np.clip(scene + random.normal(0, 3, scene.shape), 0, 255)
        return dataclasses.replace(message, data=pixels.astype(np.uint8).reshape(-1))
    return message


def check(tmp_path: Path, **recipe: Any) -> BagCheck:
    return check_bag(make_bag(tmp_path / "bag", ROBOT, Recipe(**{"seconds": 4.0, "change": textured, **recipe})), ROBOT)


def found(result: BagCheck, severity: str) -> str:
    return "\n".join(f"{f.check}: {f.what}" for f in result.findings if f.severity == severity)


def changed(topic: str, edit: Callable[[float, Any], Any]) -> Callable[[str, float, Any], Any]:
    """The usual scene, but messages of `topic` go through `edit`."""

    def change(name: str, t_s: float, message: Any) -> Any:
        message = textured(name, t_s, message)
        return edit(t_s, message) if name == topic else message

    return change


def test_a_good_recording_and_as_many_rows_as_the_converter_gets(tmp_path: Path) -> None:
    result = check(tmp_path)
    assert result.verdict == "usable", result.findings
    assert sum(result.episode_rows) == convert([tmp_path / "bag"], tmp_path / "out", ROBOT).frames > 70


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = Recipe(seconds=2.0, change=textured, custom_data={"robot_file": robot_to_yaml(ROBOT)})
    make_bag(tmp_path / "bags/good", ROBOT, good)
    assert main(["bag", "check", str(tmp_path / "bags"), "-v"]) == 0
    said = capsys.readouterr().out
    assert f"{tmp_path}/bags/good: usable: 40 rows at 20 fps, 2.0 of 2.0 s" in said
    assert "put the red cube in the tray" in said and STATES in said
    make_bag(tmp_path / "bags/mute", ROBOT, dataclasses.replace(good, keep=lambda topic, t_s: topic != COMMANDS))
    assert main(["bag", "check", str(tmp_path / "bags")]) == 1
    said = capsys.readouterr().out
    assert f"mute: unusable because no message on {COMMANDS}" in said
    assert "2 recordings: 1 unusable, 1 usable; 40 rows" in said
    assert main(["bag", "check", str(tmp_path / "bags"), "--json"]) == 1
    listed = json.loads(capsys.readouterr().out)
    assert [item["verdict"] for item in listed] == ["usable", "unusable"] and listed[0]["rows"] == 40


def test_without_a_robot_file_nobody_can_tell(tmp_path: Path) -> None:
    bag = make_bag(tmp_path / "bag", ROBOT, Recipe(seconds=2.0, change=textured))
    result = check_bag(bag)
    assert result.verdict == "readable"
    assert {stream.topic for stream in result.streams} == {BASE, WRIST, STATES}


def test_a_file_that_is_no_bag(tmp_path: Path) -> None:
    (tmp_path / "a.mcap").write_bytes(b"nothing")
    assert check_bag(tmp_path / "a.mcap", ROBOT).verdict == "unusable"


def test_another_type(tmp_path: Path) -> None:
    robot = dataclasses.replace(
        ROBOT, cameras=(dataclasses.replace(ROBOT.cameras[0], type="sensor_msgs/msg/CompressedImage"), ROBOT.cameras[1])
    )
    bag = make_bag(tmp_path / "bag", ROBOT, Recipe(seconds=1.5, change=textured))
    assert f"{BASE} holds sensor_msgs/msg/Image, the robot file says" in found(check_bag(bag, robot), "error")


def test_a_gap_splits(tmp_path: Path) -> None:
    result = check(tmp_path, keep=lambda topic, t_s: topic != WRIST or not 1.5 < t_s < 2.2)
    assert result.verdict == "usable with warnings"
    assert f"gaps: {WRIST}: a gap of 0.70 s at 1.5 s (limit 0.25 s)" in found(result, "warning")
    assert len(result.episode_rows) == 2
    assert sum(result.episode_rows) == convert([tmp_path / "bag"], tmp_path / "out", ROBOT).frames


def test_lost_messages_and_slow_streams(tmp_path: Path) -> None:
    lost = check(tmp_path, keep=lambda topic, t_s: topic != BASE or round(t_s * 20) % 9 != 4)
    assert f"rate: {BASE}: 9 messages lost between others (11%)" in found(lost, "warning")
    slow = check(tmp_path / "slow", camera_hz=10.0)
    assert f"rate: {WRIST}: 10.0 Hz for a dataset of 20 fps" in found(slow, "warning")


def test_zero_stamps(tmp_path: Path) -> None:
    result = check(tmp_path, stamped=False)
    assert f"stamps: {STATES}: 201 of 201 stamps are zero" in found(result, "warning")


def restamped(shift: Callable[[float], float]) -> Callable[[float, Any], Any]:
    def edit(t_s: float, message: Any) -> Any:
        ns = START_NS + round((t_s + shift(t_s)) * 1e9)
        return dataclasses.replace(message, header=dataclasses.replace(message.header, stamp=stamp(ns)))

    return edit


def test_another_clock(tmp_path: Path) -> None:
    result = check(tmp_path, change=changed(STATES, restamped(lambda t_s: -5.0)))
    assert result.verdict == "unusable"
    assert f"rows: {STATES} is stamped 5.00 s before the other streams: its clock is another" in found(result, "error")


def test_a_clock_that_jumps(tmp_path: Path) -> None:
    result = check(tmp_path, change=changed(STATES, restamped(lambda t_s: 2.0 if t_s > 2.5 else 0.0)))
    assert f"{STATES}: its clock was set by 2.00 s at 2.5 s" in found(result, "error")


def with_pixels(draw: Callable[[float, np.ndarray], np.ndarray]) -> Callable[[float, Any], Any]:
    def edit(t_s: float, message: Any) -> Any:
        pixels = draw(t_s, np.asarray(message.data).reshape(message.height, message.width, 3))
        return dataclasses.replace(message, data=np.ascontiguousarray(pixels, np.uint8).reshape(-1))

    return edit


def blurred(t_s: float, image: np.ndarray) -> np.ndarray:
    """Nothing but soft hills, and the noise of the sensor."""
    x, y = np.meshgrid(np.arange(96), np.arange(96))
    hills = 120 + 60 * np.sin(x / 9) * np.cos(y / 11)
    return hills[..., None] + np.random.default_rng(round(t_s * 1000)).normal(0, 2, (96, 96, 3))


@pytest.mark.parametrize(
    ("draw", "severity", "text"),
    [
        (lambda t_s, image: image // 100, "error", "camera base is black"),
        (lambda t_s, image: image // 100 if t_s < 2 else image, "warning", "camera base is black in 4 of 8 pictures"),
        (lambda t_s, image: image // 100 + 252, "warning", "camera base is overexposed"),
        (lambda t_s, image: image // 100 + 90 + round(t_s), "warning", "camera base shows hardly anything"),
        (blurred, "warning", "camera base is blurred"),
        (lambda t_s, image: textured_once(image), "error", "camera base sends one and the same picture all the time"),
        (
            lambda t_s, image: textured_once(image) if t_s < 1.49 else image,
            "warning",
            "camera base sends one and the same picture for 1.5 s",
        ),
    ],
)
def test_cameras(tmp_path: Path, draw: Callable[[float, np.ndarray], np.ndarray], severity: str, text: str) -> None:
    assert text in found(check(tmp_path, change=changed(BASE, with_pixels(draw))), severity)


def textured_once(image: np.ndarray) -> np.ndarray:
    return np.kron(np.random.default_rng(3).integers(40, 200, (12, 12, 1)), np.ones((8, 8, 3)))


def scaled(factor: float, offset: float = 0.0) -> Callable[[float, Any], Any]:
    def edit(t_s: float, message: Any) -> Any:
        if hasattr(message, "points"):
            (point,) = message.points
            moved = dataclasses.replace(point, positions=np.array(point.positions) * factor + offset)
            return dataclasses.replace(message, points=[moved])
        return dataclasses.replace(message, position=np.array(message.position) * factor + offset)

    return edit


@pytest.mark.parametrize(
    ("topic", "edit", "severity", "text"),
    [
        (STATES, scaled(57.3), "warning", "joints: state of yaw reaches from"),
        (STATES, scaled(0.0, 0.5), "error", "joints: no joint moves although commands change"),
        (COMMANDS, scaled(0.0, 0.5), "error", "joints: the command never changes although the robot moves"),
        (COMMANDS, scaled(1.0, 1.5), "warning", "joints: command and state of yaw are"),
        (
            STATES,
            lambda t_s, m: dataclasses.replace(m, name=[f"other_{n}" for n in m.name]),
            "error",
            "yaw",
        ),
    ],
)
def test_joints(tmp_path: Path, topic: str, edit: Callable[[float, Any], Any], severity: str, text: str) -> None:
    assert text in found(check(tmp_path, change=changed(topic, edit)), severity)


def test_prompt_and_outcome(tmp_path: Path) -> None:
    result = check(tmp_path, prompts=(), custom_data={"outcome": "failure"})
    assert "prompt: none recorded, so the robot file's: 'put the red cube in the tray'" in found(result, "warning")
    assert any("outcome is 'failure': `pi0 convert` skips it" in line for line in lines(result, verbose=False))


# ---- words


def slow(*topics: str, every: int) -> Callable[[str, float], bool]:
    return lambda topic, t_s: topic not in topics or round(t_s * 20) % every == 0


def dim(message: Any) -> Any:
    return dataclasses.replace(message, data=(message.data // 100).astype(np.uint8))


def flat(message: Any) -> Any:
    return dataclasses.replace(message, data=np.full_like(message.data, 255))


def half_black(t_s: float, message: Any) -> Any:
    return dim(message) if t_s > 2 else message


def wild(topic: str, t_s: float, message: Any) -> Any:
    message = textured(topic, t_s, message)
    if topic != STATES or round(t_s * 50) != 100:
        return message
    years_ago = dataclasses.replace(message.header, stamp=stamp(1_000_000_000))
    return dataclasses.replace(message, header=years_ago)


def stamped_early(topic: str, t_s: float, message: Any) -> Any:
    message = textured(topic, t_s, message)
    early = dataclasses.replace(message.header, stamp=stamp(START_NS + round((t_s - 0.1) * 1e9)))
    return dataclasses.replace(message, header=early) if topic == WRIST else message


ODD: dict[str, dict[str, Any]] = {
    "black": {"change": changed(BASE, lambda t_s, message: dim(message))},
    "half black": {"change": changed(BASE, half_black)},
    "bright": {"change": changed(BASE, lambda t_s, message: flat(message))},
    "slow camera": {"keep": slow(BASE, every=5)},
    "one picture": {"keep": lambda topic, t_s: topic != BASE or t_s == 0},
    "few commands": {"keep": lambda topic, t_s: topic != COMMANDS or t_s in (0, 2)},
    "one command": {"keep": lambda topic, t_s: topic != COMMANDS or t_s == 0},
    "gaps": {"keep": lambda topic, t_s: topic != WRIST or not 1.5 < t_s < 2.2},
    "lost": {"keep": lambda topic, t_s: topic != WRIST or round(t_s * 20) % 7 != 3},
    "no stamps": {"stamped": False},
    "a wild stamp": {"change": wild},
    "a camera that is missing": {"keep": lambda topic, t_s: topic != WRIST},
    "a camera stamped early": {"change": stamped_early},
    "still joints": {"change": changed(STATES, lambda t_s, m: dataclasses.replace(m, position=m.position * 0))},
}
BLAMES = (
    "driver",
    "cable",
    "usb",
    "exposure",
    "lens",
    "motor",
    "chrony",
    "publisher",
    "light",
    "cap off",
    "node running",
)


@pytest.mark.parametrize("name", ODD)
def test_what_to_do_now_comes_before_how_to_record_better(tmp_path: Path, name: str) -> None:
    """Weeks of recordings may be there already: no remedy only blames a machine that is gone, no number is absurd."""
    result = check(tmp_path, **ODD[name])
    said = [finding for finding in result.findings if finding.severity != "note"]
    assert said, "nothing is said of it"
    for finding in said:
        now = finding.todo.partition("for the next recordings:")[0].lower()
        assert not any(word in now for word in BLAMES), finding
        assert finding.todo == "" or now.strip(" ;"), finding
    text = " ".join(f"{finding.what} {finding.todo}" for finding in result.findings)
    assert " 0.0 Hz" not in text and "black in 0 " not in text
    lost = [int(number) for number in re.findall(r"(\d+) messages lost", text)]
    assert all(number < 40 for number in lost), text
    assert "0.0" not in [line.split()[2] for line in lines(result, verbose=True) if line.startswith("  /")]


def test_a_gap_of_decades_is_none(tmp_path: Path) -> None:
    result = check(tmp_path, **ODD["a wild stamp"])
    assert result.verdict == "usable with warnings"
    (only,) = (finding for finding in result.findings if finding.severity == "warning")
    assert "1 stamps far off their neighbours, left out" in only.what


def test_commands_that_never_change_but_a_robot_that_moves_are_next_states(tmp_path: Path) -> None:
    def stuck(t_s: float, message: Any) -> Any:
        (point,) = message.points
        return dataclasses.replace(message, points=[dataclasses.replace(point, positions=point.positions * 0 + 0.4)])

    result = check(tmp_path, change=changed(COMMANDS, stuck))
    (error,) = (finding for finding in result.findings if finding.severity == "error")
    assert "`action: {source: next_state}`" in error.todo
    following = dataclasses.replace(ROBOT, action_source="next_state")
    assert check_bag(tmp_path / "bag", following).verdict == "usable"


def test_small_offsets_say_both_ways_to_go_on(tmp_path: Path) -> None:
    result = check(tmp_path, **ODD["a camera stamped early"])
    (said,) = (finding.what for finding in result.findings if "is stamped" in finding.what)
    assert f"{WRIST} is stamped 0.10 s before the other streams: a slow driver, or a clock off: rows take" in said
    assert f"--stamp {WRIST}=arrival" in said and "=header" in said
