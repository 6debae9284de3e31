"""Whether something can be seen in a camera's pictures: recordings, datasets and living cameras are judged alike."""

from __future__ import annotations

import numpy as np

BLACK = 6.0  # mean grey level (of 255) below which nothing can be seen
BRIGHT, FLAT = 250.0, 2.0  # mean grey level, standard deviation of it
BLURRED = 0.02  # of `sharpness`: details of less than about 2 % of the picture's width are gone


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
