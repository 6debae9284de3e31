"""Success of a demo policy in simulated time, without ROS: quick enough to compare checkpoints and latencies.

    python bench/demo_policy.py pi0_ros/sim/checkpoint --episodes 50
    python bench/demo_policy.py runs/demo/policy/checkpoint --latency 0 0.1 0.2 0.3 --transition blend rtc --workers 2
    python bench/demo_policy.py pi0_ros/sim/checkpoint --task three --episodes 100
    python bench/demo_policy.py pi0_ros/sim/checkpoint --latency 0.3 --rtc off exact lerobot trained

The same policy, controller core and simulator as `pi0 demo`, but in one process and one thread, with a set latency
between observation and chunk. Tasks: one instruction; each scene once per colour (the words alone must decide); three
instructions, the next at once after each success; a mind that changes in mid-motion; the same instruction again.

Shown beside the rates is how far a new chunk is from what was sent before it takes over (the frozen prefix), and how
far it is from the last command when it takes over, over the arm joints.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from pi0_ros.checkpoints.checkpoint import load_checkpoint
from pi0_ros.control.chunk import ActionChunk
from pi0_ros.control.controller import Settings
from pi0_ros.control.sent import SentLog
from pi0_ros.control.transitions import TRANSITIONS
from pi0_ros.inference.pace import Pace
from pi0_ros.inference.prefix import MODES, ActionPrefix, RtcSettings
from pi0_ros.policy.policy import Policy
from pi0_ros.sim.policy_driver import PolicyDriver
from pi0_ros.sim.trials import TASKS, Game, Outcome, games, play
from pi0_ros.sim.world import World

Differences = list[tuple[float, float, float]]  # of each chunk at its takeover, rad: see `differences`


@dataclass(frozen=True)
class Way:
    """How the scenes are played."""

    checkpoint: Path
    rtc: RtcSettings
    transition: str
    latency: float  # s
    rate: float  # chunks per second
    speed: float  # of execution


@cache
def _policy(checkpoint: Path) -> Policy:
    torch.set_num_threads(1)
    return Policy(load_checkpoint(checkpoint))


@cache
def _world() -> World:
    return World()


def play_one(game: Game, way: Way) -> tuple[list[Outcome], Differences]:
    """Play a game; its outcomes and what each chunk changed."""
    policy, found = _policy(way.checkpoint), Differences()
    settings, pace = Settings(transition=way.transition), Pace(way.speed)
    driver = PolicyDriver(policy, way.rtc, settings, lambda: way.latency, way.rate, pace)
    gripper = policy.spec.robot.gripper_mask

    def compare(chunk: ActionChunk, prefix: ActionPrefix | None, sent: SentLog, now: float) -> None:
        if prefix is not None and sent.span is not None and sent.span[0] <= chunk.stamp:
            found.append(differences(chunk, prefix, sent, now, gripper))

    driver.on_chunk = compare
    return play(_world(), driver, game), found


def differences(
    chunk: ActionChunk, prefix: ActionPrefix, sent: SentLog, now: float, gripper: np.ndarray
) -> tuple[float, float, float]:
    """Largest differences of an arm joint: `chunk` and what was sent up to `now`, and the last command; foresight."""
    executed = chunk.times[chunk.times < now]
    went = sent.at(executed)[:, ~gripper]
    frozen = np.abs(chunk.actions[: len(executed), ~gripper] - went).max(initial=0.0)
    there = [np.interp(now, chunk.times, joint) for joint in chunk.actions[:, ~gripper].T]
    seam = np.abs(there - sent.at(np.array([now]))[0, ~gripper]).max()
    known = min(len(executed), len(prefix.actions))
    foreseen = np.abs(prefix.actions[:known, ~gripper] - went[:known]).max(initial=0.0)
    return float(frozen), float(seam), float(foreseen)


def main() -> int:
    """Play, print a line per failure and the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--task", nargs="+", choices=TASKS, default=["one"])
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1000, help="of the first scene")
    parser.add_argument("--latency", nargs="+", type=float, default=[0.1], help="s, from observation to chunk")
    parser.add_argument("--rate", type=float, default=0.0, help="chunks per second (default: the robot file's)")
    parser.add_argument("--speed", nargs="+", type=float, default=[1.0], help="of execution")
    parser.add_argument("--limit", type=float, default=20.0, help="s, per instruction")
    parser.add_argument("--rtc", nargs="+", choices=MODES, default=["auto"], help="real-time chunking")
    parser.add_argument("--transition", nargs="+", choices=TRANSITIONS, default=[Settings.transition])
    parser.add_argument("--schedule", default=RtcSettings.schedule)
    parser.add_argument("--weight", type=float, default=RtcSettings.max_guidance_weight)
    parser.add_argument("--mask-end", type=int, default=RtcSettings.mask_end)
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--quiet", action="store_true", help="one line for each way, no failures or differences")
    args = parser.parse_args()
    pool = ProcessPoolExecutor(args.workers, multiprocessing.get_context("spawn")) if args.workers > 1 else None
    ways = itertools.product(args.task, args.latency, args.rtc, args.transition, args.speed)
    for task, latency, mode, transition, speed in ways:
        rtc = RtcSettings(mode, args.schedule, args.weight, args.mask_end)
        way = Way(args.checkpoint, rtc, transition, latency, args.rate, speed)
        scenes = games(task, args.seed, args.episodes, args.limit)
        go: Callable = partial(play_one, way=way)
        played = pool.map(go, scenes, chunksize=2) if pool else map(go, scenes)
        results, found = [], Differences()
        for game, (outcomes, changes) in zip(scenes, tqdm(played, total=len(scenes), disable=args.quiet or None)):
            results.append(outcomes)
            found += changes
            for number, outcome in enumerate(outcomes):
                if not outcome.success and not game.instructions[number].fixed and not args.quiet:
                    tqdm.write(f"seed {game.seed} instruction {number + 1} {outcome.colour}: lifted {outcome.lifted}")
        how = f"rtc {mode}, transition {transition}, speed {speed:g}"
        print(f"{task}, latency {1e3 * latency:.0f} ms, {how}: {summary(task, results)}", flush=True)
        pairs = ("new chunk and executed actions", "new chunk and last command", "foreseen and executed actions")
        for what, values in zip(pairs, np.array(found).T, strict=True) if found and not args.quiet else ():
            p50, p90, p99 = np.percentile(values, (50, 90, 99))
            print(f"  {what:30s} differ by p50 {p50:.4f}, p90 {p90:.4f}, p99 {p99:.4f} rad")
    if pool:
        pool.shutdown()
    return 0


def summary(task: str, results: list[list[Outcome]]) -> str:
    """The rates of a task, one line."""
    number, last = len(results), [outcomes[-1] for outcomes in results]
    seconds = [o.seconds for o in last if o.success]
    median = f"median {np.median(seconds):.1f} s" if seconds else "never"
    if task == "three":
        each = ", ".join(str(sum(outcomes[k].success for outcomes in results)) for k in range(3))
        whole = sum(all(o.success for o in outcomes) for outcomes in results)
        return f"first, second, third {each} of {number}, all {whole}; the third {median}"
    if task == "again":
        tried = [o for outcomes in results for o in outcomes[1:] if outcomes[0].success]
        stayed = sum(o.success and not o.lifted for o in tried)
        return f"{stayed} of {len(tried)} stay, {sum(o.rested for o in tried)} rest"
    first = sum(o.right_cube for o in last)
    return f"{sum(o.success for o in last)} of {number}, named cube lifted first {first}, {median}"


if __name__ == "__main__":
    sys.exit(main())
