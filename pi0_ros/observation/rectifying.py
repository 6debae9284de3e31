"""Pictures without their lens's distortion, as image_proc rectifies them: OpenCV's maps, bilinear."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from pi0_ros.observation.images import ImageError
from pi0_ros.robot.lens import Lens


def rectified(picture: np.ndarray, lens: Lens, camera: str) -> np.ndarray:
    """uint8 [h, w, 3] -> the same shape; `ImageError` for a picture of another size, and where OpenCV is missing."""
    rows, columns = picture.shape[:2]
    if (columns, rows) != lens.size:
        width, height = lens.size
        raise ImageError(
            f"the pictures are {columns} x {rows}, camera '{camera}' was calibrated at {width} x {height}: change "
            "rectify in the robot file to the CameraInfo of this size"
        )
    try:
        import cv2
    except ImportError as error:
        raise ImageError(
            f"rectify needs OpenCV, which fails here ({error}): pip install opencv-python-headless, or python3-opencv "
            "on a ROS machine"
        ) from error
    across, down = _maps(lens)
    found: np.ndarray = cv2.remap(picture, across, down, cv2.INTER_LINEAR)
    return found


@functools.lru_cache(maxsize=16)
def _maps(lens: Lens) -> tuple[Any, Any]:
    """Where each pixel of the rectified picture lies in the one that was sent, in OpenCV's fixed point."""
    import cv2

    before, after, d = _matrix(lens.k), _matrix(lens.p or lens.k), np.array(lens.d)
    bent = cv2.fisheye if lens.model == "equidistant" else cv2
    maps: tuple[Any, Any] = bent.initUndistortRectifyMap(before, d, np.eye(3), after, lens.size, cv2.CV_16SC2)
    return maps


def _matrix(numbers: tuple[float, float, float, float]) -> np.ndarray:
    fx, fy, cx, cy = numbers
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
