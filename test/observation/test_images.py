"""Image messages to RGB: every encoding, padding and byte order, broken messages, and the resize of the reference."""

from __future__ import annotations

import array
import io
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pi0_ros.observation import images, raw_encodings
from pi0_ros.observation.images import ImageError, check_image, decode_image, is_grey, resize_with_pad
from pi0_ros.robot.encodings import ENCODINGS, LAYOUTS, PIXELS, Layout

RNG = np.random.default_rng(0)


def raw(
    pixels: np.ndarray, encoding: str, padding: int = 0, big: bool = False, container: Any = bytes
) -> SimpleNamespace:
    """An Image message of pixels [H,W,C] with `padding` bytes of rubbish after every row."""
    height, width, channels = pixels.shape
    wire = pixels.astype(pixels.dtype.newbyteorder(">" if big else "<")).tobytes()
    row = width * channels * pixels.dtype.itemsize
    data = b"".join(wire[i * row : (i + 1) * row] + b"\xab" * padding for i in range(height))
    return SimpleNamespace(
        encoding=encoding, height=height, width=width, step=row + padding, is_bigendian=int(big), data=container(data)
    )


def compressed(pixels: np.ndarray, kind: str, **options: Any) -> SimpleNamespace:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return SimpleNamespace(format=f"rgb8; {kind} compressed bgr8", data=array.array("B", buffer.getvalue()))


def smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)], -1).astype(np.uint8)


@pytest.fixture(autouse=True)
def fresh_decoders() -> Any:
    """The choice of a decoder is kept for good: forget it between tests that hide libraries."""
    caches = (images.jpeg_decoder, images._png_decoder, images._bridge)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def hide(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)


# ---- raw images

as_array = st.sampled_from(
    [
        bytes,
        lambda data: array.array("B", data),  # what rclpy gives
        lambda data: np.frombuffer(data, np.uint8),  # what rosbags gives
    ]
)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(PIXELS)), st.integers(1, 5), st.integers(1, 7), st.integers(0, 9), st.booleans(), as_array
)
def test_every_encoding_with_padding_and_byte_order(
    encoding: str, height: int, width: int, padding: int, big: bool, container: Any
) -> None:
    kind, channels, _ = PIXELS[encoding]
    pixels = RNG.integers(0, np.iinfo(kind).max, (height, width, channels), endpoint=True).astype(kind)
    colours = {"rgb": [0, 1, 2], "bgr": [2, 1, 0]}.get(encoding[:3], [0, 0, 0])
    expected = pixels[..., colours]
    if kind == "u2":
        expected = np.floor(expected / 257 + 0.5)
    message = raw(pixels, encoding, padding, big, container)
    check_image(message)
    decoded = decode_image(message)
    assert decoded.dtype == np.uint8 and decoded.flags.c_contiguous
    np.testing.assert_array_equal(decoded, expected)


def test_plain_rgb_is_not_copied() -> None:
    data = array.array("B", bytes(12))
    decoded = decode_image(SimpleNamespace(encoding="rgb8", height=2, width=2, step=6, is_bigendian=0, data=data))
    data[0] = 7
    assert decoded[0, 0, 0] == 7


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"encoding": "16UC1"}, ["'16UC1'", "depth image", "colour topic"]),
        ({"encoding": "32FC1"}, ["'32FC1'", "depth image"]),
        ({"encoding": "8UC3"}, ["'8UC3'", "does not say", "`encoding: rgb8` or bgr8"]),
        ({"encoding": "nv24"}, ["'nv24'", "cv_bridge", "rgb8"]),
        ({"encoding": ""}, ["''", "cv_bridge"]),
        ({"step": 8}, ["rgb8 image of 3 x 2 pixels", "step of 8 bytes", "at least 9"]),
        ({"data": bytes(17)}, ["rgb8 image of 3 x 2 pixels", "17 bytes, 18 are needed"]),
        ({"data": b""}, ["0 bytes"]),
        ({"height": 0}, ["is empty"]),
        ({"width": 0}, ["is empty"]),
    ],
)
def test_broken_images_are_refused_with_their_encoding(
    change: dict[str, Any], words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, "cv_bridge")
    message = raw(np.zeros((2, 3, 3), np.uint8), "rgb8")
    vars(message).update(change)
    for function in (decode_image, check_image):
        with pytest.raises(ImageError) as caught:
            function(message)
        for word in words:
            assert word in str(caught.value)


def test_the_last_row_may_lack_its_padding() -> None:
    pixels = RNG.integers(0, 255, (3, 2, 3)).astype(np.uint8)
    message = raw(pixels, "rgb8", padding=4)
    message.data = message.data[:-4]
    np.testing.assert_array_equal(decode_image(message), pixels)


# ---- cv_bridge


def bridge(monkeypatch: pytest.MonkeyPatch, convert: Any) -> None:
    module = ModuleType("cv_bridge")
    module.CvBridge = lambda: SimpleNamespace(imgmsg_to_cv2=convert)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cv_bridge", module)


def test_rare_encodings_go_to_cv_bridge(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def convert(message: Any, encoding: str) -> np.ndarray:
        asked.append((message.encoding, encoding))
        pixels = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, -1)
        return pixels[..., ::-1] if message.encoding == "bgr8" else np.repeat(pixels, 3, -1)

    bridge(monkeypatch, convert)
    message = raw(smooth(4, 4)[..., :1], "nv24")
    check_image(message)
    decoded = decode_image(message)
    assert decoded.shape == (4, 4, 3) and decoded.flags.c_contiguous
    decode_image(message)
    assert asked == [("bgr8", "rgb8"), ("nv24", "rgb8"), ("nv24", "rgb8")]  # probed once


def test_a_cv_bridge_that_fails_or_lies_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(message: Any, encoding: str) -> np.ndarray:
        raise AttributeError("_ARRAY_API not found")

    message = raw(np.zeros((2, 2, 2), np.uint8), "nv24")
    bridge(monkeypatch, broken)
    with pytest.raises(ImageError, match=r"'nv24' needs the package cv_bridge, which fails here \(_ARRAY_API"):
        decode_image(message)
    bridge(monkeypatch, lambda message, encoding: np.zeros((1, 2, 3), np.uint8))
    with pytest.raises(ImageError, match="'nv24' needs the package cv_bridge, which converts wrongly here"):
        decode_image(message)

    def only_the_probe(message: Any, encoding: str) -> np.ndarray:
        if message.encoding != "bgr8":
            raise RuntimeError("no such conversion")
        return np.array([[[2, 1, 0], [5, 4, 3]]], np.uint8)

    bridge(monkeypatch, only_the_probe)
    with pytest.raises(ImageError, match="'nv24' cannot be decoded by cv_bridge: no such conversion"):
        decode_image(message)


# ---- compressed images


@pytest.mark.parametrize("hidden", [(), ("simplejpeg",), ("simplejpeg", "cv2")], ids=["first", "second", "last"])
def test_jpeg_and_png_by_every_library(hidden: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, *hidden)
    pixels = smooth(24, 32)
    np.testing.assert_array_equal(decode_image(compressed(pixels, "png")), pixels)
    jpeg = decode_image(compressed(pixels, "jpeg", quality=95))
    assert jpeg.shape == pixels.shape and jpeg.dtype == np.uint8 and jpeg.flags.c_contiguous
    assert np.abs(jpeg.astype(int) - pixels).max() <= 12
    grey = decode_image(compressed(pixels[..., 0], "jpeg", quality=95))
    assert grey.shape == pixels.shape and (grey[..., 0] == grey[..., 2]).all()


@pytest.mark.parametrize("kind", ["jpeg", "png"])
@pytest.mark.parametrize("hidden", [(), ("simplejpeg",), ("simplejpeg", "cv2")], ids=["first", "second", "last"])
def test_broken_compressed_images_are_refused(
    kind: str, hidden: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, *hidden)
    message = compressed(smooth(24, 32), kind)
    message.data = message.data[:40]
    check_image(message)  # its beginning is good
    with pytest.raises(ImageError, match="broken"):
        decode_image(message)


def test_what_is_neither_jpeg_nor_png_is_refused() -> None:
    for data, words in ((b"", "is empty"), (b"\0" * 12 + b"\x89PNG", "is neither JPEG nor PNG nor WebP")):
        message = SimpleNamespace(format="16UC1; compressedDepth png", data=data)
        for function in (check_image, decode_image):
            with pytest.raises(ImageError, match=rf"format '16UC1; compressedDepth png' {words}.*raw"):
                function(message)


# ---- resize


@pytest.mark.parametrize("case", range(4))
def test_resize_equals_the_reference(case: int) -> None:
    with np.load(Path(__file__).parents[1] / "fixtures" / "resize.npz") as reference:
        resized = resize_with_pad(reference[f"resize{case}_in"], 224, 224)
        difference = np.abs(resized.astype(int) - reference[f"resize{case}_pil"])
    assert resized.dtype == np.uint8 and difference.max() <= 1  # equal with the Pillow that made the reference


def test_resize_leaves_an_image_of_the_size_alone() -> None:
    image = smooth(96, 96)
    assert resize_with_pad(image, 96, 96) is image


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 80), st.integers(1, 80), st.integers(1, 60), st.integers(1, 60))
def test_resize_letterboxes_any_shape(rows: int, columns: int, height: int, width: int) -> None:
    resized = resize_with_pad(np.full((rows, columns, 3), 200, np.uint8), height, width)
    assert resized.shape == (height, width, 3)
    filled = resized[..., 0] == 200
    assert ((resized == 0) | (resized == 200)).all() and filled.any()
    inside = filled[np.ix_(filled.any(1), filled.any(0))]
    assert inside.all()  # one rectangle
    assert inside.shape[0] >= height - 1 or inside.shape[1] >= width - 1  # that fills one direction, but for truncation
    top, left = filled.any(1).argmax(), filled.any(0).argmax()
    assert (top, left) == ((height - inside.shape[0]) // 2, (width - inside.shape[1]) // 2)


# ---- YUV and Bayer


def to_yuv(rgb: np.ndarray) -> np.ndarray:
    """BT.601, limited range, float [H,W,3]: what YUV cameras send."""
    r, g, b = (rgb[..., i].astype(float) / 255 for i in range(3))
    y = 16 + 65.481 * r + 128.553 * g + 24.966 * b
    u = 128 - 37.797 * r - 74.203 * g + 112.0 * b
    v = 128 + 112.0 * r - 93.786 * g - 18.214 * b
    return np.stack([y, u, v], -1)


def yuv_message(rgb: np.ndarray, encoding: str, padding: int = 0) -> SimpleNamespace:
    """An Image message of `encoding` that shows `rgb`; chroma is the mean of the pixels that share it."""
    height, width = rgb.shape[:2]
    yuv = to_yuv(rgb)
    luma = np.round(yuv[..., 0]).astype(np.uint8)
    if encoding in ("nv12", "nv21"):
        chroma = np.round(yuv[..., 1:].reshape(height // 2, 2, width // 2, 2, 2).mean((1, 3))).astype(np.uint8)
        chroma = chroma if encoding == "nv12" else chroma[..., ::-1]
        rows = np.vstack([luma, chroma.reshape(height // 2, width)])
    else:
        chroma = (
            np.round(yuv[..., 1:].reshape(height, width // 2, 2, 2).mean(2)).astype(np.uint8).reshape(height, width)
        )
        pair = (chroma, luma) if encoding in ("uyvy", "yuv422") else (luma, chroma)
        rows = np.stack(pair, -1).reshape(height, 2 * width)
    rows = np.pad(rows, [(0, 0), (0, padding)], constant_values=0xAB)
    return SimpleNamespace(
        encoding=encoding, height=height, width=width, step=rows.shape[1], is_bigendian=0, data=rows.tobytes()
    )


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("encoding", [name for name, layout in LAYOUTS.items() if layout.shape != "mosaic"])
def test_yuv_is_decoded(encoding: str, padding: int) -> None:
    pytest.importorskip("cv2")
    shown = smooth(64, 96)
    message = yuv_message(shown, encoding, padding)
    check_image(message)
    found = decode_image(message)
    assert found.shape == shown.shape and found.dtype == np.uint8
    assert np.abs(found.astype(int) - shown).max() <= 6  # rounding, and chroma shared by two or four pixels


SITES = {"rggb": "RG/GB", "bggr": "BG/GR", "gbrg": "GB/RG", "grbg": "GR/BG"}


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("encoding", [name for name, layout in LAYOUTS.items() if layout.shape == "mosaic"])
def test_bayer_patterns_are_decoded(encoding: str, big: bool) -> None:
    """Each pixel keeps the colour that it measured; a picture of one colour is that colour everywhere."""
    pytest.importorskip("cv2")
    pattern, bits = encoding[6:10], int(encoding[10:])
    scale = 1 if bits == 8 else 257
    mosaic = np.zeros((32, 48, 1), f"u{bits // 8}")
    colour = {"R": 200, "G": 90, "B": 30}
    for row, letters in enumerate(SITES[pattern].split("/")):
        for column, letter in enumerate(letters):
            mosaic[row::2, column::2] = colour[letter] * scale
    found = decode_image(raw(mosaic, encoding, padding=4, big=big and bits == 16))
    assert np.abs(found[2:-2, 2:-2].astype(int) - [200, 90, 30]).max() <= 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"width": 95}, "even sizes"),
        ({"height": 0}, "even sizes"),
        ({"step": 20}, "has a step of 20 bytes, at least 192 are needed"),
        ({"data": b"\0" * 50}, "holds 50 bytes"),
    ],
)
def test_broken_yuv_is_named(change: dict[str, Any], words: str) -> None:
    pytest.importorskip("cv2")
    message = yuv_message(smooth(64, 96), "uyvy")
    vars(message).update(change)
    for work in (check_image, decode_image):
        with pytest.raises(ImageError, match=words):
            work(message)


def test_without_opencv_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    raw_encodings._opencv.cache_clear()
    hide(monkeypatch, "cv2")
    with pytest.raises(ImageError, match="pip install opencv-python-headless"):
        check_image(yuv_message(smooth(64, 96), "uyvy"))
    raw_encodings._opencv.cache_clear()


def test_webp_is_decoded() -> None:
    shown = smooth(64, 96)
    found = decode_image(compressed(shown, "webp", lossless=True))
    assert np.array_equal(found, shown)


def test_one_table_says_what_there_is() -> None:
    assert set(ENCODINGS) == {*PIXELS, *LAYOUTS} and not {*PIXELS} & {*LAYOUTS}
    assert {name for name in ENCODINGS if is_grey(SimpleNamespace(encoding=name))} == {"mono8", "8UC1", "mono16"}


def test_a_wrong_line_in_the_table_harms_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cv2")
    monkeypatch.setitem(LAYOUTS, "yuv411", Layout("u1", "pairs", "COLOR_YUV2RGB_Y411"))
    monkeypatch.setitem(LAYOUTS, "yuv410", Layout("u1", "tiles", "COLOR_YUV2RGB_NV12"))
    for encoding, words in (("yuv411", "OpenCV .* has no COLOR_YUV2RGB_Y411"), ("yuv410", "the shape 'tiles', which")):
        message = yuv_message(smooth(64, 96), "uyvy")
        message.encoding = encoding
        for work in (check_image, decode_image):
            with pytest.raises(ImageError, match=words):
                work(message)
    assert decode_image(yuv_message(smooth(64, 96), "nv12")).shape == (64, 96, 3)
