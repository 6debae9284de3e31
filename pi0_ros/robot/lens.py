"""How a camera's lens bends its picture: `rectify` of a camera, the numbers of a `sensor_msgs/msg/CameraInfo`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pi0_ros.base.strict_yaml import Place, Section, WrongValueError

COUNTS = {"plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14), "equidistant": (4,)}  # model -> numbers in `d`
MAX_PIXELS = 16384  # of a picture's side
HINTS = {
    "size": "width and height of the calibrated picture, [640, 480]",
    "k": "fx, fy, cx, cy in pixels: numbers 1, 5, 3 and 6 of CameraInfo's k",
    "d": "the distortion, as CameraInfo's d",
}


@dataclass(frozen=True)
class Lens:
    """A calibration, in pixels of the picture as sent."""

    size: tuple[int, int]  # width, height
    k: tuple[float, float, float, float]  # fx, fy, cx, cy
    d: tuple[float, ...]  # as OpenCV orders them
    model: str = "plumb_bob"  # one of COUNTS, as CameraInfo's distortion_model
    p: tuple[float, float, float, float] | None = None  # fx, fy, cx, cy of the rectified picture; None: those of k


def read_lens(value: Any, place: Place) -> Lens:
    """The entry `rectify` of a camera."""
    item = Section(value, place, ("size", "k", "d"), ("model", "p"), HINTS)
    size = []
    for side, where in item.items("size"):
        if type(side) is not int or not 2 <= side <= MAX_PIXELS:
            raise WrongValueError(where, f"{side!r} is no whole number of pixels from 2 to {MAX_PIXELS}")
        size.append(side)
    if len(size) != 2:
        item.wrong("size", f"it has {len(size)} numbers, expected width and height")
    model = item.choice("model", tuple(COUNTS)) if "model" in item else Lens.model
    d = item.numbers("d")
    if len(d) not in COUNTS[model]:
        counts = " or ".join(map(str, COUNTS[model]))
        item.wrong("d", f"it has {len(d)} numbers, {model} has {counts}; another `model` is {' or '.join(COUNTS)}")
    p = _four(item, "p") if "p" in item else None
    return Lens((size[0], size[1]), _four(item, "k"), d, model, p)


def write_lens(lens: Lens) -> dict[str, Any]:
    """What `read_lens` reads."""
    found: dict[str, Any] = {"size": list(lens.size), "k": list(lens.k), "d": list(lens.d), "model": lens.model}
    return found if lens.p is None else {**found, "p": list(lens.p)}


def _four(item: Section, key: str) -> tuple[float, float, float, float]:
    numbers = item.numbers(key)
    if len(numbers) != 4 or not all(number > 0 for number in numbers[:2]):
        item.wrong(key, "expected fx, fy, cx, cy in pixels, fx and fy above 0")
    return numbers[0], numbers[1], numbers[2], numbers[3]
