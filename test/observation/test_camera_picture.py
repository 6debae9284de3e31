"""What the robot file says about pictures: the encoding they really have, depth, rectification, crop and rotation."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from pi0_ros.observation.camera_picture import checker_of, decoder_of
from pi0_ros.observation.images import ImageError
from pi0_ros.robot import Camera
from pi0_ros.robot.lens import Lens

CAMERA = Camera("wrist", "/wrist", "sensor_msgs/msg/Image", "left_wrist_0_rgb", 0.2)
PIXELS = np.random.default_rng(1).integers(0, 256, (40, 60, 3), np.uint8)


def message(pixels: np.ndarray, encoding: str, big: bool = False) -> SimpleNamespace:
    wire = pixels.astype(pixels.dtype.newbyteorder(">" if big else "<")).tobytes()
    height, width = pixels.shape[:2]
    return SimpleNamespace(
        encoding=encoding, height=height, width=width, step=len(wire) // height, is_bigendian=int(big), data=wire
    )


def test_a_lying_driver_is_overruled() -> None:
    camera = replace(CAMERA, encoding="bgr8")
    for said in ("rgb8", "8UC3"):
        checker_of(camera)(message(PIXELS, said))
        assert np.array_equal(decoder_of(camera)(message(PIXELS, said)), PIXELS[..., ::-1])
    with pytest.raises(ImageError, match="say `encoding: rgb8`"):
        checker_of(CAMERA)(message(PIXELS, "8UC3"))


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_crop_comes_before_a_clockwise_rotation(turns: int) -> None:
    camera = replace(CAMERA, crop=(10, 4, 30, 20), rotate=90 * turns)
    found = decoder_of(camera)(message(PIXELS, "rgb8"))
    assert np.array_equal(found, np.rot90(PIXELS[4:24, 10:40], -turns))
    assert found.flags.c_contiguous


LENS = Lens((60, 40), (50.0, 48.0, 31.0, 19.0), (-0.3, 0.1, 0.001, -0.002, 0.0))
FISHEYE = Lens((60, 40), (50.0, 48.0, 31.0, 19.0), (0.1, -0.05, 0.01, 0.0), "equidistant", (30.0, 30.0, 30.0, 20.0))


def bent(lens: Lens, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where OpenCV's documentation says that the ray through the rectified pixels x, y meets the picture as sent."""
    fx, fy, cx, cy = lens.p or lens.k
    x, y = (x - cx) / fx, (y - cy) / fy
    r2 = x * x + y * y
    if lens.model == "equidistant":
        theta = np.arctan(np.sqrt(r2))
        powers = theta ** np.array([2, 4, 6, 8])[:, None, None]
        grown = theta * (1 + np.tensordot(np.array(lens.d), powers, 1)) / np.maximum(np.sqrt(r2), 1e-12)
        x, y = x * grown, y * grown
    else:
        k1, k2, p1, p2, k3 = lens.d
        grown = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
        x, y = (
            x * grown + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * grown + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        )
    return x * lens.k[0] + lens.k[2], y * lens.k[1] + lens.k[3]


@pytest.mark.parametrize("lens", [LENS, FISHEYE])
def test_a_lens_is_taken_out_before_the_crop(lens: Lens) -> None:
    pytest.importorskip("cv2")
    rows, columns = np.mgrid[0:40, 0:60].astype(float)
    smooth = np.stack([4 * columns, 6 * rows, 2 * columns + 3 * rows], 2).round().astype(np.uint8)
    camera = replace(CAMERA, rectify=lens, crop=(10, 8, 40, 24), rotate=90)
    found = np.rot90(decoder_of(camera)(message(smooth, "rgb8")), 1)
    x, y = bent(lens, columns, rows)
    expected = np.stack([4 * x, 6 * y, 2 * x + 3 * y], 2)[8:32, 10:50]
    inside = ((x > 1) & (x < 58) & (y > 1) & (y < 38))[8:32, 10:50]
    assert inside.mean() > 0.6 and np.abs(found - expected)[inside].max() < 2.0
    assert np.abs(smooth[8:32, 10:50] - expected)[inside].max() > 5.0  # it does bend


def test_a_picture_of_another_size_than_the_calibration_is_refused() -> None:
    with pytest.raises(ImageError, match="are 60 x 40, camera 'wrist' was calibrated at 640 x 480: change rectify"):
        decoder_of(replace(CAMERA, rectify=replace(LENS, size=(640, 480))))(message(PIXELS, "rgb8"))


def test_a_crop_outside_the_picture_is_named() -> None:
    camera = replace(CAMERA, crop=(40, 0, 30, 20))
    with pytest.raises(ImageError, match=r"60 x 40, too small for camera 'wrist's crop of 30 x 20 at 40, 0"):
        decoder_of(camera)(message(PIXELS, "rgb8"))


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_depth_becomes_grey_as_the_file_says(encoding: str, big: bool) -> None:
    metres = np.array([[0.0, 0.2, 0.5], [1.0, 1.8, 9.0]])
    values = (metres * 1000).astype("u2") if encoding == "16UC1" else metres.astype("f4")
    if encoding == "32FC1":
        values[0, 0] = np.nan
    camera = replace(CAMERA, depth=(0.2, 1.8))
    checker_of(camera)(message(values, encoding, big))
    found = decoder_of(camera)(message(values, encoding, big))
    assert found.shape == (2, 3, 3)
    expected = np.array([[0, 255, round(255 * 1.3 / 1.6)], [round(255 * 0.8 / 1.6), 0, 0]])
    assert np.abs(found.astype(int) - expected[..., None]).max() <= 1
    with pytest.raises(ImageError, match="depth: "):
        checker_of(CAMERA)(message(values, encoding, big))


def test_colour_on_a_depth_camera_is_refused() -> None:
    camera = replace(CAMERA, depth=(0.2, 1.8))
    for work in (checker_of(camera), decoder_of(camera)):
        with pytest.raises(ImageError, match="encoding 'rgb8' is no depth image"):
            work(message(PIXELS, "rgb8"))
