"""What is said of a stream's regularity, and the frame rate taken from cameras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bagmaker import START_NS, Recipe, make_bag

from pi0_ros.bags.reader import BagError
from pi0_ros.conversion.convert import convert
from pi0_ros.conversion.timing import camera_fps, hertz, interval_s, jitter_s, missing
from pi0_ros.observation.stream_buffer import SECOND
from pi0_ros.robot import load_robot

ROBOT = load_robot("demo_arm")
BASE, WRIST = (camera.topic for camera in ROBOT.cameras)


def test_intervals_drops_and_jitter() -> None:
    stamps = np.arange(0, 10_000_000_000, 20_000_000)
    assert (interval_s(stamps), missing(stamps), jitter_s(stamps)) == (0.02, 0, 0.0)
    holes = np.delete(stamps, [50, 51, 52, 200])
    assert missing(holes) == 4 and jitter_s(holes) == pytest.approx(0, abs=1e-9)
    shaken = np.sort(stamps + np.random.default_rng(0).uniform(-3e6, 3e6, len(stamps)).astype(np.int64))
    assert missing(shaken) == 0 and 0.003 < jitter_s(shaken) < 0.006
    assert missing(stamps[:1]) == 0 and jitter_s(stamps[:0]) == 0 and interval_s(stamps[:1]) == 0


@pytest.mark.parametrize(
    "stamps",
    [
        np.arange(200) + START_NS,  # all stamped in one go: no stream has 1 GHz
        np.append(np.arange(100), 89 * SECOND),  # and one 89 s later: "88999995000 messages lost"
        np.append(np.arange(0, SECOND, SECOND // 50), SECOND * 86400 * 1000),  # one stamped years later
        np.repeat(np.arange(5) * 7 * SECOND, 2) + np.tile([0, 1], 5),  # a gripper told twice within 1 ns, now and then
        np.cumsum(np.random.default_rng(0).exponential(3.0, 40) * 1e9).astype(np.int64),  # events
        np.zeros(4, np.int64),
    ],
)
def test_nothing_is_lost_where_there_is_no_rate(stamps: np.ndarray) -> None:
    assert missing(stamps) == 0


def test_lost_messages_are_counted_where_there_is_one() -> None:
    kept = np.random.default_rng(1).random(5000) > 0.2
    stamps = (np.arange(5000) * SECOND // 30)[kept]
    assert missing(stamps) == pytest.approx(5000 * 0.2, abs=20)


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (29.97, "30.0 Hz"),
        (1.0, "1.0 Hz"),
        (0.04, "a message every 25 s"),
        (0.333, "a message every 3 s"),
        (0, "a single message"),
    ],
)
def test_slow_rates_are_said_by_their_interval(rate: float, text: str) -> None:
    assert hertz(rate) == text


def test_the_slowest_camera_gives_the_frame_rate(tmp_path: Path) -> None:
    recipe = Recipe(seconds=3.0, rates={BASE: 29.9, WRIST: 12.1}, jitter_s=0.002)
    bags = [make_bag(tmp_path / "bags" / name, ROBOT, recipe) for name in "ab"]
    assert camera_fps(bags, ROBOT) == 12
    report = convert(bags, tmp_path / "out", ROBOT, fps="auto", dry_run=True)
    assert report.fps == 12 and report.frames == pytest.approx(72, abs=2)
    assert all(stream.repeats == 0 for bag in report.bags for stream in bag.streams)


def test_drops_are_reported(tmp_path: Path) -> None:
    dropped = Recipe(seconds=3.0, keep=lambda topic, t_s: topic != BASE or round(t_s * 20) not in (20, 30, 31))
    report = convert([make_bag(tmp_path / "bag", ROBOT, dropped)], tmp_path / "out", ROBOT, dry_run=True)
    assert {stream.topic: stream.drops for stream in report.bags[0].streams}[BASE] == 3
    assert " drops " in report.summary()


def test_no_image_no_frame_rate(tmp_path: Path) -> None:
    bag = make_bag(tmp_path / "bag", ROBOT, Recipe(seconds=1.0, keep=lambda topic, t_s: topic != WRIST))
    with pytest.raises(BagError, match=f"fewer than two images on {WRIST}.*give --fps"):
        camera_fps([bag], ROBOT)
