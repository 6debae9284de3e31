"""Camera messages to RGB pixels, and the letterbox resize of pi0.

Messages are read by their attributes alone, so DDS messages and messages from bags decode alike. One own codec serves
the common encodings everywhere, OpenCV YUV and Bayer (`raw_encodings.py`); cv_bridge is asked only for rarer ones.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from pi0_ros.base.errors import InputError
from pi0_ros.observation import raw_encodings
from pi0_ros.observation.compressed_kinds import JPEG, PNG, kind_of
from pi0_ros.observation.raw_encodings import LayoutError
from pi0_ros.robot.encodings import ENCODINGS, GREY, LAYOUTS, PIXELS

# encodings that say nothing about colour: refused with the remedy
COLOURLESS = {
    "16UC1": "is a depth image: name the camera's colour topic, or say `depth: {near: 0.2, far: 2.0}` (metres)",
    "32FC1": "is a depth image: name the camera's colour topic, or say `depth: {near: 0.2, far: 2.0}` (metres)",
    "8UC3": "does not say whether red or blue comes first: say `encoding: rgb8` or bgr8 for the camera",
    "8UC4": "does not say whether red or blue comes first: say `encoding: rgba8` or bgra8 for the camera",
}
HEAD = 1 << 17  # bytes of a JPEG that are looked through for its kind: behind all that a camera notes
DEPTH = ", as depth has it"
RIFF, WEBP = b"RIFF", b"WEBP"  # a WebP file: RIFF, four bytes of length, WEBP


class ImageError(InputError):
    """An image message that cannot be turned into RGB; the message names the encoding and what to do."""


class PartError(ImageError):
    """Nothing is wrong with a message of a video stream, but it builds on the pictures before it."""


@dataclass(frozen=True)
class DecodedImage:
    """A picture of a video stream in the place of its message: it was decoded when it came."""

    pixels: np.ndarray  # uint8 [H, W, 3] RGB

    @property
    def data(self) -> np.ndarray:
        """All bytes, uint8 [H * W * 3]: to tell whether the picture changes."""
        return self.pixels.reshape(-1)


def decode_image(msg: Any) -> np.ndarray:
    """Pixels of a `sensor_msgs` Image or CompressedImage, uint8 [H,W,3] RGB, contiguous.

    The array may share memory with the message: do not write to it. Raises `ImageError`.
    """
    if isinstance(msg, DecodedImage):
        return msg.pixels
    if stream_of(msg):
        return _picture_alone(msg)
    if not hasattr(msg, "encoding"):
        return _decompress(msg)
    if msg.encoding in LAYOUTS:
        return _opencv(msg, raw_encodings.decode)
    if msg.encoding not in PIXELS:
        return _bridge(msg.encoding)(msg)
    pixels = _view(msg)
    order = PIXELS[msg.encoding].order
    if order == (0, 1, 2) and pixels.shape[2] == 3 and pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)  # no copy unless the rows are padded
    rgb = np.empty((*pixels.shape[:2], 3), np.uint8)
    for channel, source in enumerate(order):
        plane = pixels[..., source]
        rgb[..., channel] = plane if plane.dtype == np.uint8 else (plane.astype(np.uint32) + 128) // 257
    return rgb


def check_image(msg: Any) -> None:
    """Raise the `ImageError` that decoding would meet, as far as can be told without decoding."""
    if isinstance(msg, DecodedImage) or stream_of(msg):
        return
    if not hasattr(msg, "encoding"):
        _decompressor(msg)
    elif msg.encoding in PIXELS:
        _view(msg)
    elif msg.encoding in LAYOUTS:
        _opencv(msg, raw_encodings.check)
    else:
        _bridge(msg.encoding)


def is_grey(msg: Any) -> bool:
    """Whether a camera message holds a picture without colour."""
    if hasattr(msg, "encoding"):
        return msg.encoding in GREY
    kind = kind_of(bytes(msg.data[:HEAD]))
    return kind is not None and kind.channels == 1


def resize_with_pad(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Fit an image into height x width with black bars, uint8 [H,W,3] -> uint8 [height,width,3].

    Pillow's antialiased bilinear kernel and truncated sizes and offsets, exactly as openpi prepares its images.
    An image that already has the size is returned as it is.
    """
    rows, columns = image.shape[:2]
    if (rows, columns) == (height, width):
        return image
    from PIL import Image  # only where an image has another size

    ratio = max(columns / width, rows / height)
    new_rows, new_columns = max(1, int(rows / ratio)), max(1, int(columns / ratio))
    resized = Image.fromarray(image).resize((new_columns, new_rows), Image.Resampling.BILINEAR)
    top, left = (height - new_rows) // 2, (width - new_columns) // 2
    padded = np.zeros((height, width, 3), np.uint8)
    padded[top : top + new_rows, left : left + new_columns] = np.asarray(resized)
    return padded


def _view(msg: Any) -> np.ndarray:
    """The message's pixels where they lie, [H,W,channels], honouring row padding (`step`) and byte order."""
    kind, channels, _ = PIXELS[msg.encoding]
    dtype = np.dtype((">" if msg.is_bigendian else "<") + kind)
    pixel = channels * dtype.itemsize
    height, width, step = int(msg.height), int(msg.width), int(msg.step)
    size = f"{msg.encoding} image of {width} x {height} pixels"
    if height < 1 or width < 1:
        raise ImageError(f"{size} is empty: check the camera driver")
    if step < width * pixel:
        raise ImageError(f"{size} has a step of {step} bytes, at least {width * pixel} are needed: fix the publisher")
    needed = step * (height - 1) + width * pixel
    if len(msg.data) < needed:
        raise ImageError(f"{size} holds {len(msg.data)} bytes, {needed} are needed: fix the publisher")
    return np.ndarray((height, width, channels), dtype, msg.data, strides=(step, pixel, dtype.itemsize))


def _opencv(msg: Any, work: Callable[[Any, str], Any]) -> Any:
    """`work` on a message that OpenCV decodes, its errors said in the words of this module."""
    try:
        return work(msg, msg.encoding)
    except ImportError as error:
        raise ImageError(
            f"encoding {msg.encoding!r} needs OpenCV, which fails here ({error}): pip install opencv-python-headless, "
            "or python3-opencv on a ROS machine"
        ) from error
    except LayoutError as error:
        raise ImageError(str(error)) from error


# ---- video streams

STREAMS = re.compile(r"[hx]\.?26[45]|avc|hevc|av1|vp[89]", re.IGNORECASE)


def stream_of(msg: Any) -> str:
    """The codec of a message that is a part of a video stream; empty for a picture that stands alone."""
    if hasattr(msg, "encoding") and hasattr(msg, "pts"):  # ffmpeg_image_transport_msgs/msg/FFMPEGPacket
        return str(msg.encoding) or "unknown"
    name = str(getattr(msg, "format", ""))
    alone = not hasattr(msg, "timestamp") and not STREAMS.search(name)  # foxglove_msgs/msg/CompressedVideo has one
    return "" if alone else name or "unknown"


def _picture_alone(msg: Any) -> np.ndarray:
    from pi0_ros.observation.video_stream import picture_alone

    return picture_alone(msg)


# ---- compressed images


def _decompress(msg: Any) -> np.ndarray:
    try:
        return _decompressor(msg)(bytes(msg.data))
    except ImageError:
        raise
    except Exception as error:  # each library has its own errors for broken data
        raise ImageError(f"compressed image of format {msg.format!r} is broken: {error}") from error


def _decompressor(msg: Any) -> Callable[[bytes], np.ndarray]:
    """The decoder for a CompressedImage, chosen by its first bytes because drivers write `format` in many ways."""
    name, start = msg.format, bytes(msg.data[: len(PNG)])
    if start.startswith(RIFF) and bytes(msg.data[8:12]) == WEBP:
        return _pillow
    kind = kind_of(bytes(msg.data[:HEAD]))
    if kind is not None and (kind.bits != 8 or kind.channels not in (1, 3)):
        what = f"holds {kind.bits}-bit values" if kind.bits != 8 else f"has {kind.channels} channels"
        raise ImageError(
            f"compressed image of format {name!r} {what}, no 8-bit colour{DEPTH if kind.channels == 1 else ''}: "
            "name the camera's colour topic"
        )
    if start.startswith(JPEG):
        return jpeg_decoder()
    if start == PNG:
        return _png_decoder()
    what = "is empty" if not start else "is neither JPEG nor PNG nor WebP"
    raise ImageError(
        f"compressed image of format {name!r} {what}: name a topic with JPEG or PNG images, or the raw one"
    )


@functools.cache
def jpeg_decoder() -> Callable[[bytes], np.ndarray]:
    """What turns the bytes of a colour JPEG into uint8 [h, w, 3] RGB; broken ones raise each library's own errors."""
    try:
        import simplejpeg  # the fastest of the three
    except ImportError:
        return _png_decoder()
    return functools.partial(simplejpeg.decode_jpeg, colorspace="RGB")


@functools.cache
def _png_decoder() -> Callable[[bytes], np.ndarray]:
    try:
        import cv2
    except ImportError:
        return _pillow
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION

    def decode(data: bytes) -> np.ndarray:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        if image is None:
            raise ValueError("OpenCV cannot decode it")
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

    return decode


def _pillow(data: bytes) -> np.ndarray:
    import io

    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert("RGB"))


# ---- rare encodings


@functools.cache
def _bridge(encoding: str) -> Callable[[Any], np.ndarray]:
    """cv_bridge's decoder for an encoding that no table holds, after it has converted one small image rightly."""
    if encoding in COLOURLESS:
        raise ImageError(f"encoding {encoding!r} {COLOURLESS[encoding]}")
    known = f"decoded without it are {', '.join(ENCODINGS)}"
    probe = SimpleNamespace(encoding="bgr8", height=1, width=2, step=6, is_bigendian=0, data=bytes(range(6)))
    try:
        from cv_bridge import CvBridge

        convert = CvBridge().imgmsg_to_cv2
        works = np.asarray(convert(probe, "rgb8")).ravel().tolist() == [2, 1, 0, 5, 4, 3]
    except Exception as error:  # built against another numpy it fails with AttributeError, and not at import alone
        raise ImageError(
            f"encoding {encoding!r} needs the package cv_bridge, which fails here ({error}); {known}"
        ) from error
    if not works:
        raise ImageError(f"encoding {encoding!r} needs the package cv_bridge, which converts wrongly here; {known}")

    def decode(msg: Any) -> np.ndarray:
        try:
            return np.ascontiguousarray(convert(msg, "rgb8"), np.uint8)
        except Exception as error:
            raise ImageError(f"encoding {encoding!r} cannot be decoded by cv_bridge: {error}; {known}") from error

    return decode
