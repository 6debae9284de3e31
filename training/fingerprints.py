"""Short hashes that tell recordings and robots apart, whatever their folders are called."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

import numpy as np

from pi0_ros.robot import Robot


def episode_fingerprint(state: np.ndarray, action: np.ndarray) -> str:
    """Of one episode's numbers [T,J] and [T,A]."""
    found = hashlib.sha256()
    for values in (state, action):
        found.update(np.ascontiguousarray(values, np.float32).tobytes())
    return found.hexdigest()[:16]


def dataset_fingerprint(episodes: Iterable[str]) -> str:
    """Of the fingerprints of all its episodes, in any order."""
    return hashlib.sha256(" ".join(sorted(episodes)).encode()).hexdigest()[:16]


def robot_fingerprint(robot: Robot) -> str:
    """Of what its numbers mean: names, units, roles and scales of the joints; not of topics, cameras or limits."""
    joints: list[list[object]] = [
        [j.name, j.role, j.unit, j.action, repr(j.state_scale), repr(j.action_scale)] for j in robot.joints
    ]
    joints += [[j.name, j.kind] for j in robot.joints if j.continuous]
    joints += [[j.name, j.kind, j.pose.frame, j.pose.rotation] for j in robot.joints if j.pose is not None]
    joints += [[j.name, "seen_from", j.pose.seen_from] for j in robot.joints if j.pose and j.pose.seen_from != "frame"]
    joints += [[j.name, "model_index", j.model_index] for j in robot.joints if j.model_index is not None]
    return hashlib.sha256(json.dumps(joints).encode()).hexdigest()[:16]
