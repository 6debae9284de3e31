"""What one tick of the controller core costs, in microseconds: following chunks, at any control rate.

    python bench/tick_cost.py --rate 1000 --joints 7

CPU time of the thread: what other processes take is not counted, but for their traces in the caches.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from pi0_ros.control.chunk import ActionChunk
from pi0_ros.control.controller import Controller, Settings
from pi0_ros.control.limits import JointLimits


def costs(rate: float, joints: int, seconds: float, settings: Settings, jerk: float) -> np.ndarray:
    """CPU seconds that each tick took, float64 [ticks]; a chunk of 50 actions every 0.1 s, joint states at 500 Hz."""
    names, ones, period = tuple(f"joint_{j}" for j in range(joints)), np.ones(joints), 1.0 / rate
    gripper = np.arange(joints) == joints - 1
    limits = JointLimits(names, -3 * ones, 3 * ones, 2 * ones, 10 * ones, gripper, jerk * ones)
    controller = Controller(limits, period, 0.5 * ones, settings)
    everything, found, t, measured = np.arange(joints), [], 1.7e9, np.zeros(joints)
    for tick in range(round((seconds + 0.5) * rate)):
        t += period
        if tick == round(0.4 * rate):
            assert not controller.arm(t)
        if tick > 0.4 * rate and tick % round(0.1 * rate) == 0:
            ahead = t - 0.05 + 0.02 * np.arange(50) - 1.7e9
            actions = 0.3 * np.sin(2 * ahead)[:, None] * ones
            controller.accept(ActionChunk(round((t - 0.05) * 1e9), 20_000_000, actions, names), t)
        if tick % max(1, round(rate / 500)) == 0:
            controller.measure(t, everything, measured)
        start = time.thread_time()
        command = controller.tick(t)
        found.append(time.thread_time() - start)
        measured = measured if command is None else command.position
    return np.array(found[round(0.6 * rate) :])


def main() -> None:
    """Print one line per setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=1000.0, help="Hz")
    parser.add_argument("--joints", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    cases = {
        "cubic, blend": (Settings(), np.inf),
        "quintic, blend": (Settings(interpolation="quintic"), np.inf),
        "cubic, ensemble": (Settings(transition="ensemble"), np.inf),
        "cubic, rtc, jerk limits": (Settings(transition="rtc"), 500.0),
    }
    print(f"{args.joints} joints at {args.rate:g} Hz: us per tick")
    for name, (settings, jerk) in cases.items():
        rounds = [costs(args.rate, args.joints, args.seconds, settings, jerk) * 1e6 for _ in range(args.rounds)]
        p50, p99 = np.min([np.percentile(one, (50, 99)) for one in rounds], axis=0)
        print(f"  {name:26s} p50 {p50:6.1f}   p99 {p99:6.1f}   of the period {p50 * args.rate * 1e-4:4.1f} %")


if __name__ == "__main__":
    main()
