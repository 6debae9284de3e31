"""Frames at which the robot waits: marked, not removed, so that training can leave them out as starting points.

DROID's rule (openpi `compute_droid_nonidle_ranges.py`) in seconds: a frame is still when no command has moved since
1/15 s before; 7/15 s of stillness are idle, and so is motion shorter than 16/15 s between; of every moving stretch the
last 10/15 s are left out too, because chunks that start there are mostly stillness. Two things differ: DROID's commands
are velocities from -1 to 1, here they are positions, so "moved" is 0.001 rad, and 0.001 of half the range of what is no
angle, of a rotation's numbers in a pose as of an angle; and the gripper counts, or every grasp would be idle. A speed
moves while it is not zero.
"""

from __future__ import annotations

import numpy as np

from pi0_ros.robot import Robot

STEP_S = 1 / 15
MOVED = 1e-3
STILL_S = 7 / 15
MOTION_S = 16 / 15
TAIL_S = 10 / 15


def idle_frames(actions: np.ndarray, robot: Robot, fps: float) -> np.ndarray:
    """True where no training sample should start, bool [T]; `actions` [T, A] are in the robot file's units."""
    step = max(1, round(STEP_S * fps))
    limits = [MOVED if joint.unit == "rad" else MOVED * joint.span / 2 for joint in robot.action_joints]
    still = np.zeros(len(actions), bool)
    moved = np.abs(robot.action_space.short_way(actions[step:], actions[:-step]))
    speed = np.array([joint.speed for joint in robot.action_joints], bool)
    moved[:, speed] = np.maximum(np.abs(actions[step:, speed]), np.abs(actions[:-step, speed]))
    still[step:] = (moved < np.array(limits)).all(axis=1)
    idle = np.zeros(len(actions), bool)
    for start, stop in _runs(still):
        idle[start:stop] = stop - start >= STILL_S * fps - 1e-6
    for start, stop in _runs(~idle):
        kept = stop - start >= MOTION_S * fps - 1e-6
        idle[max(start, stop - round(TAIL_S * fps)) if kept else start : stop] = True
    return idle


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """(first, one past the last) of every stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]
