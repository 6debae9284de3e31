"""A stand-in for a policy: smooth reaching motions, predicted again and again by chunks that disagree a little.

It knows where the arm is to go and errs as flow policies do: each chunk is off by something smooth that grows with the
horizon, now and then it takes another way (a mode of the flow), it starts nearer to the measured state, which trails
the command, than to the command, and each action is a little noisy.

For real-time chunking there is a STAND-IN: a chunk agrees with the actions that are executed meanwhile, goes over to
what it would have been while the old plan lasts, and has some error left. It is what guidance aims
at, not what a network makes of it; that is measured with the demo policy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pi0_ros.control.chunk import ActionChunk
from pi0_ros.inference.prefix import ActionPrefix

STEPS, DT = 50, 0.02
JOINTS = ("j1", "j2", "j3", "j4", "j5", "j6", "gripper")
GRIPPER = np.array([False] * 6 + [True])
ARM_LAG_S = 0.06  # of the measured state behind the command
START_PULL = 0.5  # fraction of that lag that a chunk begins with
DRIFT = 0.012  # rad, error of a chunk at its beginning, and twice that per second on
MODE_SHARE, MODE_SIZE = 0.15, 0.06  # of chunks that take another way, and how far off it leads, rad
ACTION_NOISE = 2e-4  # rad
GUIDED_ERROR = 1e-3  # rad, what guidance leaves between prefix and chunk


class Reaching:
    """Minimum-jerk motions between random goals, one after the other, for ever."""

    def __init__(self, seed: int, seconds: float) -> None:
        rng = np.random.default_rng(seed)
        self._ends, self._goals = [1.0], [np.zeros(7), np.zeros(7)]
        while self._ends[-1] < seconds:
            self._ends.append(self._ends[-1] + rng.uniform(0.8, 1.6))
            self._goals.append(np.append(rng.uniform(-0.6, 0.6, 6), float(rng.random() < 0.5)))

    def at(self, times: np.ndarray) -> np.ndarray:
        """Where the arm should be, [n, 7]."""
        ends, goals = np.array(self._ends), np.array(self._goals)
        k = np.clip(np.searchsorted(ends, times, side="right"), 1, len(ends) - 1)
        u = np.clip((times - ends[k - 1]) / (ends[k] - ends[k - 1]), 0.0, 1.0)[:, None]
        path = goals[k] + (goals[k + 1] - goals[k]) * (10 * u**3 - 15 * u**4 + 6 * u**5)
        path[:, GRIPPER] = goals[k][:, GRIPPER]
        return path


@dataclass
class Predictor:
    """Chunks for observations of the reaching arm; equal seeds give equal chunks for every strategy."""

    path: Reaching
    seed: int

    def infer(self, stamp: float, measured: np.ndarray, prefix: ActionPrefix | None) -> ActionChunk:
        """Predict from an observation at `stamp` (s) with `measured` joints [7]."""
        rng = np.random.default_rng([self.seed, round(stamp * 1e6)])
        ahead = DT * np.arange(STEPS)[:, None]
        actions = self.path.at(stamp + ahead[:, 0])
        error = rng.normal(0, DRIFT, 7) + rng.normal(0, 2 * DRIFT, 7) * ahead
        if rng.random() < MODE_SHARE:
            error = error + rng.normal(0, MODE_SIZE, 7) * np.sin(np.pi * np.minimum(ahead, 1.0))
        pull = START_PULL * (measured - actions[0]) * np.exp(-ahead / 0.1)
        raw = actions + error + pull + rng.normal(0, ACTION_NOISE, (STEPS, 7))
        if prefix is not None:
            raw = stand_in(raw, prefix, rng)
        raw[:, GRIPPER] = actions[:, GRIPPER]
        return ActionChunk(round(stamp * 1e9), round(DT * 1e9), raw, JOINTS)


def stand_in(raw: np.ndarray, prefix: ActionPrefix, rng: np.random.Generator) -> np.ndarray:
    """What ideal guidance would make of a chunk; see above."""
    known = min(len(prefix.actions), len(raw))
    behind = np.clip((np.arange(known) - prefix.delay + 1) / max(1, known - prefix.delay), 0.0, 1.0)[:, None]
    weights = 1 - behind**3 * (10 - 15 * behind + 6 * behind**2)  # smooth, as a network's chunks are
    guided = raw + rng.normal(0, GUIDED_ERROR, raw.shape[1])
    guided[:known] += weights * (prefix.actions[:known] - raw[:known])
    return guided
