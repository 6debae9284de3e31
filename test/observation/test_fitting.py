"""Pictures made small without torch: what the model makes of them is what it makes of the whole picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi0_ros.base.choices import IMAGE_RESIZES
from pi0_ros.base.errors import InputError
from pi0_ros.observation.fitting import fit
from pi0_ros.observation.images import resize_with_pad
from pi0_ros.observation.jpeg import decode_jpeg, encode_jpeg

torch = pytest.importorskip("torch")


def picture(image: np.ndarray, size: int, resize: str) -> np.ndarray:
    """What the model sees, in grey levels, float32 [size, size, 3]."""
    from pi0_ros.engine.pictures import Letterbox

    letterbox = Letterbox(*image.shape[:2], size, resize, torch.device("cpu"))
    return (letterbox(torch.from_numpy(np.require(image, requirements=["C", "W"])[None])).numpy()[0] + 1.0) * 127.5


@settings(max_examples=150)
@given(
    st.integers(1, 700),
    st.integers(1, 700),
    st.sampled_from([1, 24, 56, 96, 224]),
    st.sampled_from([kind for kind in IMAGE_RESIZES if kind != "pillow"]),
    st.integers(0, 2**31),
)
def test_lerobots_resizes_are_torchs_to_one_grey_level(rows: int, columns: int, size: int, resize: str, seed: int):
    image = np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), np.uint8)
    small = fit(image, size, resize)
    assert np.abs(picture(small, size, resize) - picture(image, size, resize)).max() <= 0.51  # half a level is rounding
    assert max(small.shape[:2]) <= size or (small is image and resize == "torch_0.4")


@settings(max_examples=100)
@given(st.integers(1, 700), st.integers(1, 700), st.sampled_from([1, 24, 56, 96, 224]), st.integers(0, 2**31))
def test_openpis_resize_is_exact(rows: int, columns: int, size: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), np.uint8)
    small = fit(image, size, "pillow")
    np.testing.assert_array_equal(resize_with_pad(small, size, size), resize_with_pad(image, size, size))
    assert max(small.shape[:2]) <= size


def test_bars_do_not_travel() -> None:
    image = np.zeros((480, 640, 3), np.uint8)
    assert [fit(image, 224, kind).shape for kind in IMAGE_RESIZES] == [(168, 224, 3)] * len(IMAGE_RESIZES)
    with pytest.raises(InputError, match="image_resize is 'cubic', expected one of pillow"):
        fit(image, 224, "cubic")


def smooth(rows: int, columns: int) -> np.ndarray:
    """A picture without noise, uint8 [rows, columns, 3]."""
    y, x = np.mgrid[0:rows, 0:columns] / 40.0
    return (127 + 100 * np.stack([np.sin(x), np.cos(y), np.sin(x + y)], axis=2)).astype(np.uint8)


def test_jpeg_is_near_and_small() -> None:
    image = smooth(168, 224)
    data = encode_jpeg(image)
    assert len(data) < 20_000
    assert np.abs(decode_jpeg(data).astype(int) - image).mean() < 2


def claiming(rows: int, columns: int) -> bytes:
    """A JPEG file whose header claims another size."""
    data = bytearray(encode_jpeg(smooth(16, 16)))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = rows.to_bytes(2, "big") + columns.to_bytes(2, "big")
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no colour JPEG"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "no colour JPEG"),
        (b"\xff\xd8\xff", "no colour JPEG"),
        (claiming(60000, 60000), "claims 60000 x 60000 pixels, at most 4096"),
        (claiming(0, 16), "no colour JPEG"),
    ],
)
def test_what_is_no_jpeg_or_claims_too_much_is_never_decoded(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        decode_jpeg(data)


@settings(max_examples=200)
@given(st.data())
def test_a_broken_jpeg_is_refused_or_has_its_size(data: st.DataObject) -> None:
    whole = bytearray(encode_jpeg(smooth(24, 32)))
    for _ in range(data.draw(st.integers(0, 5))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = decode_jpeg(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    except InputError:
        return
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and max(image.shape) <= 4096
