"""Success of a demo policy in simulated time, without ROS: quick enough to compare checkpoints and latencies.

    python bench/demo_policy.py pi0_ros/sim/checkpoint --episodes 50
    python bench/demo_policy.py runs/demo/policy/checkpoint --latency 0.2 --every-colour
    python bench/demo_policy.py pi0_ros/sim/checkpoint --latency 0.3 --rtc off exact lerobot

The same policy, controller core and simulator as `pi0 demo`, but in one process and one thread, with a set latency
between observation and chunk. With --every-colour each scene is played once per colour: the words alone must decide.

With several --rtc modes the same scenes are played in each. Shown is how far a new chunk is from what was sent before
it takes over (the frozen prefix), and how far it is from the last command when it takes over, over the arm joints.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from pi0_ros.checkpoints.checkpoint import load_checkpoint
from pi0_ros.control.chunk import ActionChunk
from pi0_ros.control.controller import Command, Controller, Settings
from pi0_ros.control.sent import SentLog
from pi0_ros.control.transitions import TRANSITIONS
from pi0_ros.inference.prefix import MODES, ActionPrefix, Continuation, RtcSettings
from pi0_ros.nodes.controller_node import limits_of
from pi0_ros.observation.streams import Observation
from pi0_ros.policy.policy import Policy
from pi0_ros.sim.task import Score, prompt
from pi0_ros.sim.world import CAMERAS, CUBES, TICK, World

ARM_AFTER_S = 0.3
STAY_S = 0.6


Differences = list[tuple[float, float, float]]  # of each chunk at its takeover, rad: see `differences`
Watch = Callable[[float, Command | None, Controller], None]  # is shown every tick: the time and what was sent


def scenes(first: int, number: int) -> list[tuple[int, str, int]]:
    """Seed, colour and wording of `number` scenes."""
    found = []
    for seed in range(first, first + number):
        rng = np.random.default_rng([seed, 11])
        found.append((seed, CUBES[rng.integers(3)], int(rng.integers(3))))
    return found


def play(
    world: World,
    policy: Policy,
    scene: tuple[int, str, int],
    rtc: RtcSettings,
    settings: Settings,
    latency: Callable[[], float],
    rate: float,
    limit: float,
    watch: Watch = lambda now, command, controller: None,
) -> tuple[Score, float, Differences]:
    """Run one scene of at most `limit` s with `rate` chunks per second, each as late as `latency` says (s).

    Returns the score, the seconds until success (or the limit), and what each chunk changed.
    """
    seed, colour, wording = scene
    robot = policy.spec.robot
    controller = Controller(limits_of(robot), 2 * TICK, np.full(len(robot.joints), 0.15), settings)
    everything = np.arange(len(robot.joints))
    continuation, sent, found = Continuation(rtc, robot.gripper_mask), SentLog(len(robot.joints)), Differences()
    start, score = 1000.0 * (seed + 1), Score()
    world.reset(seed)
    images: dict[str, np.ndarray] = {}
    waiting, next_inference, command, armed, done = None, 0.0, None, False, np.inf
    for tick in range(round(limit / TICK)):
        t = tick * TICK
        for offset, camera in zip((1, 3), CAMERAS, strict=True):
            if tick % 5 == offset:
                images[camera] = world.render(camera)
        if tick % 2 == 0:
            state = world.joint_positions()
            controller.measure(start + t, everything, state)
            if len(images) == len(CAMERAS) and t >= next_inference:
                seen = Observation(round((start + t) * 1e9), dict(images), state, prompt(colour, wording), {})
                prefix = continuation.prefix(start + t)
                chunk = policy.infer(seen, prefix)
                waiting, next_inference = (t + latency(), chunk, prefix), t + 1.0 / rate
            if waiting is not None and t >= waiting[0] - 1e-9:
                (_, chunk, prefix), waiting = waiting, None
                if prefix is not None and sent.span is not None and sent.span[0] <= chunk.stamp:
                    found.append(differences(chunk, prefix, sent, start + t, robot.gripper_mask))
                continuation.published(chunk, start + t)
                controller.accept(chunk, start + t)
            armed = armed or (t > ARM_AFTER_S and not controller.arm(start + t))
            if (following := controller.tick(start + t)) is not None:
                command = following.position
                sent.push(start + t, command)
                continuation.sent(start + t, command)
            watch(start + t, following, controller)
        world.step(command)
        score.update(world.cubes())
        done = min(done, t) if score.success(colour) else np.inf
        if t > done + STAY_S:
            break
    return score, min(done, limit), found


def differences(
    chunk: ActionChunk, prefix: ActionPrefix, sent: SentLog, now: float, gripper: np.ndarray
) -> tuple[float, float, float]:
    """Largest differences of an arm joint: `chunk` and what was sent up to `now`, and the last command; foresight."""
    executed = chunk.times[chunk.times < now]
    went = sent.at(executed)[:, ~gripper]
    frozen = np.abs(chunk.actions[: len(executed), ~gripper] - went).max(initial=0.0)
    there = [np.interp(now, chunk.times, joint) for joint in chunk.actions[:, ~gripper].T]
    transition = np.abs(there - sent.at(np.array([now]))[0, ~gripper]).max()
    known = min(len(executed), len(prefix.actions))
    foreseen = np.abs(prefix.actions[:known, ~gripper] - went[:known]).max(initial=0.0)
    return float(frozen), float(transition), float(foreseen)


def main() -> int:
    """Play, print a line per failure and the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1000, help="of the first scene")
    parser.add_argument("--latency", type=float, default=0.1, help="s, from observation to chunk")
    parser.add_argument("--rate", type=float, default=2.5, help="chunks per second")
    parser.add_argument("--limit", type=float, default=20.0, help="s, per scene")
    parser.add_argument("--every-colour", action="store_true", help="each scene once per colour")
    parser.add_argument("--rtc", nargs="+", choices=MODES, default=["off"], help="real-time chunking")
    parser.add_argument("--transition", choices=TRANSITIONS, default=Settings.transition)
    parser.add_argument("--schedule", default=RtcSettings.schedule)
    parser.add_argument("--weight", type=float, default=RtcSettings.max_guidance_weight)
    parser.add_argument("--mask-end", type=int, default=RtcSettings.mask_end)
    args = parser.parse_args()
    torch.set_num_threads(1)
    policy, world = Policy(load_checkpoint(args.checkpoint)), World()
    games = scenes(args.seed, args.episodes)
    if args.every_colour:
        games = [(seed, colour, wording) for seed, _, wording in games for colour in CUBES]
    settings = Settings(transition=args.transition)
    for mode in args.rtc:
        rtc = RtcSettings(mode, args.schedule, args.weight, args.mask_end)
        results, found = [], Differences()
        for seed, colour, wording in tqdm(games, unit="scene", disable=None):
            scene = (seed, colour, wording)
            score, seconds, changes = play(
                world, policy, scene, rtc, settings, lambda: args.latency, args.rate, args.limit
            )
            results.append((score.success(colour), score.right_cube(colour), seconds))
            found += changes
            if not results[-1][0]:
                tqdm.write(f"seed {seed} {colour}: lifted {score.lifted}, in tray {score.in_tray}")
        success, right, durations = (np.array(column) for column in zip(*results, strict=True))
        print(
            f"rtc {mode}: success {success.sum()} of {len(games)}, named cube lifted first {right.sum()}, "
            f"median {np.median(durations):.1f} s, inference {policy.timing.get('total_ms', 0):.0f} ms"
        )
        pairs = ("new chunk and executed actions", "new chunk and last command", "foreseen and executed actions")
        for what, values in zip(pairs, np.array(found).T, strict=True):
            p50, p90, p99 = np.percentile(values, (50, 90, 99))
            print(f"  {what:30s} differ by p50 {p50:.4f}, p90 {p90:.4f}, p99 {p99:.4f} rad")
    return 0


if __name__ == "__main__":
    sys.exit(main())
