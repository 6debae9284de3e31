"""Looking at camera pictures: is there something to see, and many of them on one sheet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pi0_ros.observation.images import resize_with_pad

BLACK = 6.0  # mean grey level (of 255) below which nothing can be seen
SIDE = 240  # pixels of a picture's longer side on a contact sheet
GAP = 4
LABEL = 18  # pixels for the text below a picture


def is_black(image: np.ndarray) -> bool:
    """Whether nothing can be seen: dark everywhere, uint8 [H, W, 3]."""
    return bool(image.mean() < BLACK and np.quantile(image, 0.999) < 8 * BLACK)


def contrast(image: np.ndarray) -> float:
    """Standard deviation of the grey levels (of 255); near 0 for a covered lens or a wall."""
    return float(image.mean(axis=2).std())


def sharpness(image: np.ndarray) -> float:
    """Variance of the Laplacian of the grey levels over their own variance: near 0 where no edge is sharp.

    The Laplacian's variance is the usual measure of focus (Pech-Pacheco et al., ICPR 2000); divided by the contrast
    it says the same for dim and for bright scenes. Taken of block means, about 120 a side, which have little noise.
    """
    grey = blocks(image, max(2, min(image.shape[:2]) // 120)).mean(axis=2)
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    return float(laplacian.var() / max(grey.var(), 1e-6))


def blocks(image: np.ndarray, side: int = 8) -> np.ndarray:
    """Mean colour of every block of side x side pixels, float64 [H // side, W // side, 3]."""
    rows, columns = (length // side for length in image.shape[:2])
    return image[: rows * side, : columns * side].reshape(rows, side, columns, side, 3).mean(axis=(1, 3))


def contact_sheet(pictures: Sequence[np.ndarray], labels: Sequence[str], columns: int) -> Image.Image:
    """All pictures [H, W, 3] in rows of `columns`, each above its label."""
    height, width = pictures[0].shape[:2]
    shrink = SIDE / max(height, width)
    cell = max(1, round(height * shrink)), max(1, round(width * shrink))
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (cell[1] + GAP) + GAP, rows * (cell[0] + LABEL + GAP) + GAP), (255, 255, 255))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    for number, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        x = GAP + number % columns * (cell[1] + GAP)
        y = GAP + number // columns * (cell[0] + LABEL + GAP)
        sheet.paste(Image.fromarray(resize_with_pad(picture, *cell)), (x, y))
        draw.text((x + 2, y + cell[0] + 3), label, fill=(60, 60, 60), font=font)
    return sheet
