"""Pictures as JPEG and back, by the fastest library at hand; what a file claims is read before it is decoded."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable

import numpy as np

from pi0_ros.base.errors import InputError
from pi0_ros.base.foreign import MAX_IMAGE_SIDE
from pi0_ros.observation.compressed_kinds import JPEG, kind_of, size_of
from pi0_ros.observation.images import jpeg_decoder

QUALITY = 90


def encode_jpeg(image: np.ndarray) -> bytes:
    """uint8 [h, w, 3] RGB -> JPEG of quality 90, colour at half resolution (4:2:0)."""
    return _encoder()(np.ascontiguousarray(image))


def decode_jpeg(data: bytes) -> np.ndarray:
    """JPEG -> uint8 [h, w, 3] RGB; InputError for what is none, has no colour, or claims more than 4096 pixels."""
    kind, size = (kind_of(data), size_of(data)) if data.startswith(JPEG) else (None, None)
    if kind is None or size is None or kind.bits != 8 or kind.channels != 3 or 0 in size:
        raise InputError("a picture is no colour JPEG")
    if max(size) > MAX_IMAGE_SIDE:
        raise InputError(f"a JPEG claims {size[1]} x {size[0]} pixels, at most {MAX_IMAGE_SIDE} a side are read")
    try:
        image = jpeg_decoder()(data)
    except Exception as error:  # each library has its own errors for broken data
        raise InputError(f"a JPEG cannot be decoded: {error}") from None
    if image.shape != (*size, 3):
        raise InputError(f"a JPEG that claims {list(size)} became {list(image.shape)}")
    return image


@functools.cache
def _encoder() -> Callable[[np.ndarray], bytes]:
    try:
        import simplejpeg
    except ImportError:
        pass
    else:
        return functools.partial(simplejpeg.encode_jpeg, quality=QUALITY, colorspace="RGB", colorsubsampling="420")
    try:
        import cv2
    except ImportError:
        return _pillow

    def encode(image: np.ndarray) -> bytes:
        done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        if not done:
            raise InputError(f"OpenCV cannot write a picture {list(image.shape)} as JPEG")
        return data.tobytes()

    return encode


def _pillow(image: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=QUALITY, subsampling="4:2:0")
    return buffer.getvalue()
