"""Cameras that send H.264 or H.265: every picture that is shown is the right one, whatever was lost."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from bagmaker import START_NS, Recipe, make_bag
from hypothesis import given, settings
from hypothesis import strategies as st
from video import COMPRESSED, NAMES, encoded, stream_message

from pi0_ros.bags.reader import Bag
from pi0_ros.cli.main import main
from pi0_ros.conversion.align import rows, scan
from pi0_ros.observation.images import ImageError, stream_of
from pi0_ros.observation.video_stream import VideoStream
from pi0_ros.robot import load_robot, robot_to_yaml

av = pytest.importorskip("av")
PERIOD_NS = 33_000_000


def message(data: bytes, name: str = "h264") -> Any:
    return SimpleNamespace(format=name, data=data)


def shown(parts: list[tuple[int, bytes]], name: str = "h264") -> dict[int, np.ndarray]:
    """Number of a message -> the picture that was made of it."""
    stream = VideoStream()
    pictures = {number: stream.take(message(data, name), number * PERIOD_NS) for number, data in parts}
    return {number: picture for number, picture in pictures.items() if picture is not None}


SENT = encoded(60)
WHOLE = shown(list(enumerate(SENT)))
GAPS = (23, 41, 63)  # of the recording: from here to the next twentieth picture
codecs = pytest.mark.parametrize("codec", NAMES)


@cache
def sixty(codec: str) -> list[bytes]:
    """Sixty pictures, each tenth a key picture."""
    if codec not in av.codec.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec} to make a stream with")
    return encoded(60, codec=codec)


@cache
def whole_of(codec: str) -> dict[int, np.ndarray]:
    return shown(list(enumerate(sixty(codec))), NAMES[codec])


@codecs
def test_a_whole_stream_gives_a_picture_for_each_message(codec: str) -> None:
    whole = whole_of(codec)
    assert sorted(whole) == list(range(60))
    assert len({picture.tobytes() for picture in whole.values()}) == 60
    reader = av.CodecContext.create({"libx265": "hevc"}.get(codec, "h264"), "r")
    packets = [*reader.parse(b"".join(sixty(codec))), *reader.parse()]
    plain = [frame for packet in [*packets, None] for frame in reader.decode(packet)]
    for ours, frame in zip(whole.values(), plain, strict=True):  # what a player shows
        np.testing.assert_array_equal(ours, frame.to_ndarray(format="rgb24"))


@settings(max_examples=15)
@given(lost=st.sets(st.integers(0, 59)))
def test_what_is_lost_of_h265_makes_no_picture_wrong(lost: set[int]) -> None:
    whole = whole_of("libx265")
    pictures = shown([(n, data) for n, data in enumerate(sixty("libx265")) if n not in lost], "hevc")
    for number, picture in pictures.items():
        np.testing.assert_array_equal(picture, whole[number])
    for key in range(0, 60, 10):
        until = next((n for n in range(key, key + 10) if n in lost), key + 10)
        assert set(range(key, until)) <= pictures.keys()
        assert not set(range(until, key + 10)) & pictures.keys()


@pytest.mark.parametrize(
    "own",
    ["ref=1", "ref=5", "log2-max-poc-lsb=4:ref=2", "slices=4", "open-gop=1", "wpp=0:amp=1", "scaling-list=default"],
)
def test_h265_of_other_encoders(own: str) -> None:
    """Other sets of references, numbers that begin again after 16, several slices, other key pictures."""
    sixty("libx265")
    sent = encoded(60, 30, "libx265", **{"x265-params": own})
    whole = shown(list(enumerate(sent)), "x265")
    assert sorted(whole) == list(range(60))
    for lost in ({5}, {5, 6, 40}, {*range(20, 35)}, {*range(31, 47)}):
        pictures = shown([(n, data) for n, data in enumerate(sent) if n not in lost], "x265")
        for number, picture in pictures.items():
            np.testing.assert_array_equal(picture, whole[number])
        assert not {min(lost) + 1, min(lost) + 2} & pictures.keys() - {30}
        assert (59 in pictures) == (max(lost) <= 30)


CUT = {  # encoders' own settings, by codec
    "libx264": ["", "slices=4", "cabac=1", "cabac=1:slices=3", "aud=1", "cabac=1:8x8dct=1:ref=4:keyint=8"],
    "libx265": ["", "slices=4", "wpp=0", "wpp=1:ctu=16", "aud=1:slices=2", "hash=1", "amp=1:ref=4"],
}


@pytest.mark.parametrize(("codec", "own"), [(codec, own) for codec, settings in CUT.items() for own in settings])
def test_a_picture_that_was_cut_short_is_not_shown(codec: str, own: str) -> None:
    """Wherever it ends: decoders make the rest up and say nothing, and between two slices nothing is odd."""
    sixty(codec)
    name, sent = NAMES[codec], encoded(14, 8, codec, **({f"{codec[3:]}-params": own} if own else {}))
    whole = shown(list(enumerate(sent)), name)
    assert sorted(whole) == list(range(14))
    random = np.random.default_rng(0)
    for cut_one in (7, 8, 10):  # before a key picture, itself one, and behind it
        data = sent[cut_one]
        between = [m.start() + extra for m in re.finditer(rb"\x00\x00\x01", data) for extra in range(-1, 6)]
        ends = {*between, *range(len(data) - 3, len(data)), *random.integers(1, len(data), 25).tolist()}
        for end in sorted(end for end in ends if 0 < end < len(data)):
            parts = [(n, part[:end] if n == cut_one else part) for n, part in enumerate(sent)]
            pictures = shown(parts, name)
            for number, picture in pictures.items():
                np.testing.assert_array_equal(picture, whole[number], f"{number}, cut at {end} of {len(data)}")
            assert set(range(cut_one)) <= pictures.keys()
            assert cut_one > 7 or set(range(8, 14)) <= pictures.keys(), "the key picture mends it"


@codecs
def test_a_picture_that_was_cut_short_is_named(codec: str) -> None:
    stream, sent = VideoStream(), sixty(codec)
    for number in range(3):
        assert stream.take(message(sent[number], NAMES[codec]), number * PERIOD_NS) is not None
    assert stream.take(message(sent[3][:-20], NAMES[codec]), 3 * PERIOD_NS) is None
    assert stream.problem in ("a picture was cut short", "a picture is broken") or "cannot be decoded" in stream.problem


def slices_of(data: bytes) -> list[int]:
    """Where the slices of an H.265 message begin."""
    starts = [found.start() for found in re.finditer(rb"\x00\x00\x01", data)]
    return [at for at in starts if data[at + 3] >> 1 & 0x3F in (*range(10), *range(16, 22))]


def test_an_encoder_of_slices_of_a_size_is_no_stream_of_cut_pictures() -> None:
    sixty("libx265")
    sent = [*encoded(20, 10, "libx265", **{"x265-params": "slices=2"}), *encoded(20, 10, "libx265")]
    assert {len(slices_of(data)) for data in sent} == {1, 2}
    assert sorted(shown(list(enumerate(sent)), "hevc")) == list(range(40))


@pytest.mark.parametrize("own", ["slices=2", "slices=4:ctu=16", "slices=4:ctu=16:ref=4", "slices=3:ctu=16:ref=1"])
def test_a_picture_that_ends_just_between_two_slices_is_not_shown(own: str) -> None:
    """From the first picture on, however many slices those before it had, and where nothing moves."""
    sixty("libx265")
    for still in (False, True):
        sent = encoded(14, 7, "libx265", moves=0 if still else 2, **{"x265-params": own})
        whole = shown(list(enumerate(sent)), "hevc")
        assert sorted(whole) == list(range(14))
        for number in range(14):
            starts = slices_of(sent[number])
            assert len(starts) > 1
            for end in starts[1:]:
                parts = [(n, data[:end] if n == number else data) for n, data in enumerate(sent)]
                pictures = shown(parts, "hevc")
                assert sorted(pictures) == [*range(number), *range(7, 14 if number < 7 else 7)], (number, end)
                for n, picture in pictures.items():
                    np.testing.assert_array_equal(picture, whole[n])


@settings(max_examples=40)
@given(data=st.data())
def test_broken_heads_of_h265_are_no_error_of_ours(data: st.DataObject) -> None:
    """Bytes changed at random: a picture, a loss or one `ImageError`, and never anything else."""
    sent = [bytearray(part) for part in sixty("libx265")[:12]]
    for _ in range(data.draw(st.integers(1, 8))):
        part = sent[data.draw(st.integers(0, 11))]
        part[data.draw(st.integers(0, min(len(part), 120) - 1))] = data.draw(st.integers(0, 255))
    stream = VideoStream()
    for number, part in enumerate(sent):
        try:
            stream.take(message(bytes(part), "hevc"), number * PERIOD_NS)
        except ImageError as error:
            assert "H.265 stream cannot be used" in str(error)


@given(lost=st.sets(st.integers(0, 59)), spoilt=st.sets(st.integers(0, 59), max_size=3), cut=st.integers(0, 400))
def test_what_is_lost_makes_no_picture_wrong(lost: set[int], spoilt: set[int], cut: int) -> None:
    """Each picture that is shown is the one that the whole stream shows; a key picture mends all."""
    parts = [(n, data[: cut + 1] if n in spoilt else data) for n, data in enumerate(SENT) if n not in lost]
    pictures = shown(parts)
    for number, picture in pictures.items():
        np.testing.assert_array_equal(picture, WHOLE[number])
    for key in range(0, 60, 10):
        until = next((n for n in range(key, key + 10) if n in lost | spoilt), key + 10)
        assert set(range(key, until)) <= pictures.keys()
        assert not set(range(until, key + 10)) & pictures.keys()


def test_a_camera_that_is_set_to_another_codec_is_decoded_by_that() -> None:
    stream, parts = VideoStream(), [("libx264", 0), ("libx264", 1), ("libx265", 0), ("libx265", 1), ("libx264", 10)]
    for n, (codec, number) in enumerate(parts):
        picture = stream.take(message(sixty(codec)[number], NAMES[codec]), n * PERIOD_NS)
        assert picture is not None, stream.problem
        np.testing.assert_array_equal(picture, whole_of(codec)[number])


def test_so_many_lost_that_the_numbers_begin_again() -> None:
    sent = encoded(200, key_every=1000)
    whole = shown(list(enumerate(sent)))
    for lost in (1, 15, 16, 17, 32, 64, 128):
        kept = [(n, data) for n, data in enumerate(sent) if not 20 <= n < 20 + lost]
        assert sorted(shown(kept)) == list(range(20)), lost
    assert sorted(whole) == list(range(200))


def test_a_camera_that_slows_down_is_followed_again() -> None:
    sent, at, stream = encoded(120, key_every=500), 0, VideoStream()
    shown_at = []
    for number, data in enumerate(sent[:40] + encoded(60, key_every=20)):
        at += PERIOD_NS if number < 20 else 12 * PERIOD_NS
        if stream.take(message(data), at) is not None:
            shown_at.append(number)
    assert set(range(20)) <= {*shown_at} and set(range(60, 100)) <= {*shown_at}


@codecs
def test_who_listens_late_waits_for_a_key_picture(codec: str) -> None:
    stream, sent = VideoStream(), sixty(codec)
    for number in range(7, 10):
        assert stream.take(message(sent[number], NAMES[codec]), number * PERIOD_NS) is None
        assert "key picture" in stream.problem
    picture = stream.take(message(sent[10], NAMES[codec]), 10 * PERIOD_NS)
    np.testing.assert_array_equal(picture, whole_of(codec)[10])
    assert not stream.problem


def test_streams_that_cannot_be_used_say_why() -> None:
    late = encoded(30, bf="2", tune="film", preset="medium")
    stream = VideoStream()
    with pytest.raises(ImageError, match="B pictures.*zerolatency"):
        for number, data in enumerate(late):
            stream.take(message(data), number * PERIOD_NS)
    with pytest.raises(ImageError, match=r"a stream of 'av1': send H\.264, H\.265, JPEG"):
        VideoStream().take(message(SENT[0], "av1"), 0)
    sixty("libx265")
    late = encoded(30, 10, "libx265", tune="ssim", preset="medium", **{"x265-params": "bframes=3"})
    with pytest.raises(ImageError, match="H.265 stream cannot be used: .*B pictures.*zerolatency"):
        for number, data in enumerate(late):
            VideoStream().take(message(data, "h265"), number * PERIOD_NS)
    assert VideoStream().take(message(b"\xff\xd8\xffjpeg"), 0) is None


@codecs
def test_a_recording_of_a_stream_gives_each_row_its_picture(tmp_path: Path, capsys, codec: str) -> None:
    """With three messages lost on the way and one cut short: rows without their picture are left out, all others are
    right."""
    demo = load_robot("demo_arm")
    robot = replace(demo, cameras=(replace(demo.cameras[0], type=COMPRESSED, max_age_s=0.12),))
    sixty(codec)
    lost, sent = {23, 24, 41}, encoded(100, 20, codec)
    whole = shown(list(enumerate(sent)), NAMES[codec])
    extra = [
        (n * 0.05, robot.cameras[0].topic, COMPRESSED, stream_message(START_NS + n * 50_000_000, data, NAMES[codec]))
        for n, data in enumerate([*sent[:63], sent[63][:-20], *sent[64:]])
        if n not in lost
    ]
    recipe = Recipe(seconds=5.0, delay_s=0.0, extra=extra)
    path = make_bag(tmp_path / "bag", replace(robot, cameras=()), recipe)
    ticks = START_NS + np.arange(1, 99) * 50_000_000 + 10_000_000
    with Bag(path) as bag:
        found = list(rows(bag, robot, scan(bag, robot), ticks, lambda tick: ""))
    for n, row in zip(range(1, 99), found, strict=True):
        missing = any(start + 2 <= n < start // 20 * 20 + 20 for start in GAPS)  # 0.12 s: the two before may stand
        if missing:
            why = "picture was lost" if n < GAPS[2] else "picture (was cut short|is broken|cannot be decoded)"
            assert row.observation is None and re.search(f"waits for a key picture: a {why}", row.problem), row.problem
        elif row.observation is not None:
            newest = max(k for k in range(n + 1) if not any(s <= k < s // 20 * 20 + 20 for s in GAPS))
            np.testing.assert_array_equal(row.observation.images["base"], whole[newest])
    assert sum(row.observation is not None for row in found) > 40
    file = tmp_path / "robot.yaml"
    file.write_text(robot_to_yaml(robot))
    assert main(["doctor", "--bag", str(path), "--robot", str(file)]) in (0, 1)
    assert "decoded" not in capsys.readouterr().out, "its parts are no broken pictures"


def test_which_messages_are_of_a_stream() -> None:
    packet = SimpleNamespace(encoding="libx264", pts=3, data=b"")
    video = SimpleNamespace(format="h264", timestamp=None, data=b"")
    assert [stream_of(m) for m in (packet, video, message(b"", "h264"))] == ["libx264", "h264", "h264"]
    raw = SimpleNamespace(encoding="rgb8", step=3, data=b"")
    assert [stream_of(m) for m in (raw, message(b"", "rgb8; jpeg compressed bgr8"), message(b"", "png"))] == [
        "",
        "",
        "",
    ]
