"""Many camera pictures on one sheet."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pi0_ros.observation.images import resize_with_pad

SIDE = 240  # pixels of a picture's longer side on a contact sheet
GAP = 4
LABEL = 18  # pixels for the text below a picture


def contact_sheet(pictures: Sequence[np.ndarray], labels: Sequence[str], columns: int) -> Image.Image:
    """All pictures [H, W, 3] in rows of `columns`, each above its label."""
    height, width = pictures[0].shape[:2]
    shrink = SIDE / max(height, width)
    cell = max(1, round(height * shrink)), max(1, round(width * shrink))
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (cell[1] + GAP) + GAP, rows * (cell[0] + LABEL + GAP) + GAP), (255, 255, 255))
    draw, font = ImageDraw.Draw(sheet), _font()
    for number, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        x = GAP + number % columns * (cell[1] + GAP)
        y = GAP + number // columns * (cell[0] + LABEL + GAP)
        sheet.paste(Image.fromarray(resize_with_pad(picture, *cell)), (x, y))
        draw.text((x + 2, y + cell[0] + 3), label, fill=(60, 60, 60), font=font)
    return sheet


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Large enough to be read where a page shows the sheet smaller than it is; older Pillows have one size only."""
    try:
        return ImageFont.load_default(size=LABEL - 3)
    except TypeError:
        return ImageFont.load_default()


def jpeg_file(pixels: np.ndarray, longest_side: int | None = None) -> bytes:
    """The JPEG file of a picture, uint8 [H, W, 3] RGB, made smaller where a side is longer than `longest_side`."""
    picture, buffer = Image.fromarray(pixels), BytesIO()
    if longest_side is not None:
        picture.thumbnail((longest_side, longest_side))
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
