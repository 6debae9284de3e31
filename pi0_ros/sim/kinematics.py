"""Closed-form kinematics of the simulated arm with its hand pointing straight down.

Joint angles are in radians in the order yaw, shoulder, elbow, wrist, roll; lengths are in metres in the base frame
(z up, the table's surface at z = 0). The numbers repeat `arm.xml`; a test compares the two.
"""

from __future__ import annotations

import numpy as np

SHOULDER_HEIGHT = 0.12
UPPER_ARM = 0.20
FOREARM = 0.20
HAND = 0.15  # wrist joint to the point between the fingertips


def forward(joints: np.ndarray) -> np.ndarray:
    """Return the grasp point [3] (m) for joint angles [5] (rad)."""
    yaw, shoulder, elbow, wrist = joints[:4]
    angles = np.cumsum([shoulder, elbow, wrist])
    lengths = np.array([UPPER_ARM, FOREARM, HAND])
    radius = lengths @ np.sin(angles)
    return np.array([radius * np.cos(yaw), radius * np.sin(yaw), SHOULDER_HEIGHT + lengths @ np.cos(angles)])


def inverse(point: np.ndarray) -> np.ndarray:
    """Return joint angles [5] (rad) that put the grasp point at `point` [3] (m), hand down, elbow up, roll zero.

    A point out of reach gives the nearest stretch of the arm towards it.
    """
    x, y, z = point
    radius, height = float(np.hypot(x, y)), z + HAND - SHOULDER_HEIGHT
    distance = np.hypot(radius, height)
    cosine = (distance**2 - UPPER_ARM**2 - FOREARM**2) / (2 * UPPER_ARM * FOREARM)
    elbow = np.arccos(np.clip(cosine, -1.0, 1.0))
    shoulder = np.arctan2(radius, height) - np.arctan2(FOREARM * np.sin(elbow), UPPER_ARM + FOREARM * np.cos(elbow))
    return np.array([np.arctan2(y, x), shoulder, elbow, np.pi - shoulder - elbow, 0.0])
