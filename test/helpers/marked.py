"""What a marker draws."""

from __future__ import annotations

import numpy as np
from visualization_msgs.msg import Marker


def points(marker: Marker) -> np.ndarray:
    """Its points, float64 [N, 3] (m)."""
    return np.array([[point.x, point.y, point.z] for point in marker.points])
