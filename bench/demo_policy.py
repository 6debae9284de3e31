"""Success of a demo policy in simulated time, without ROS: quick enough to compare checkpoints and latencies.

    python bench/demo_policy.py pi0_ros/sim/checkpoint --episodes 50
    python bench/demo_policy.py runs/demo/policy/checkpoint --latency 0 0.1 0.2 0.3 --transition blend rtc
    python bench/demo_policy.py pi0_ros/sim/checkpoint --task three --episodes 100
    python bench/demo_policy.py pi0_ros/sim/checkpoint --latency 0.3 --rtc off exact lerobot trained

The same policy, controller core and simulator as `pi0 demo`, but in one process, with a set latency between observation
and chunk; the first look falls on a random moment, as the policy's clock knows nothing of the scene. Tasks: one
instruction; each scene once per colour (the words alone must decide); three instructions, the next at once after each
success; a mind that changes in mid-motion; the same instruction again.

Shown beside the rates is how far a new chunk is from what was sent before it takes over (the frozen prefix), and how
far it is from the last command when it takes over, over the arm joints.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from pi0_ros.checkpoints.checkpoint import load_checkpoint
from pi0_ros.control.chunk import ActionChunk
from pi0_ros.control.sent import SentLog
from pi0_ros.control.states import Settings
from pi0_ros.control.transitions import TRANSITIONS
from pi0_ros.inference.pace import AUTO, FASTEST, SLOWEST, Pace
from pi0_ros.inference.prefix import MODES, ActionPrefix, RtcSettings
from pi0_ros.observation.streams import Observation
from pi0_ros.policy.policy import Policy
from pi0_ros.sim.policy_driver import PolicyDriver, slowing_for
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
    speed: str  # of execution: a number or auto


class Together:
    """One policy for players in threads: what all of them ask is answered in one pass of the network."""

    def __init__(self, policy: Policy, players: int) -> None:
        self.policy, self.spec = policy, policy.spec
        self._players, self._lock = players, threading.Lock()
        self._asked: list[tuple[Observation, ActionPrefix | None, Future[ActionChunk]]] = []

    def infer(self, observation: Observation, prefix: ActionPrefix | None = None) -> ActionChunk:
        """As the policy does; waits for the other players."""
        answer: Future[ActionChunk] = Future()
        with self._lock:
            self._asked.append((observation, prefix, answer))
            self._answer()
        return answer.result()

    def leave(self) -> None:
        """One player fewer."""
        with self._lock:
            self._players -= 1
            self._answer()

    def _answer(self) -> None:
        if self._asked and len(self._asked) >= self._players:
            asked, self._asked = self._asked, []
            try:
                chunks = self.policy.infer_many([(observation, prefix) for observation, prefix, _ in asked])
            except Exception as error:  # everybody's
                for *_, answer in asked:
                    answer.set_exception(error)
                return
            for (*_, answer), chunk in zip(asked, chunks, strict=True):
                answer.set_result(chunk)


class Player:
    """A world, and a policy node's memory of delays, which lives from scene to scene."""

    def __init__(self, way: Way, policy: Policy | Together) -> None:
        self.way, self.policy = way, policy
        self.world, self.slowing = World(), slowing_for(policy)

    def play(self, game: Game) -> tuple[list[Outcome], Differences]:
        """Play a game; its outcomes and what each chunk changed."""
        way, found = self.way, Differences()
        settings, pace = Settings(transition=way.transition), Pace().asked(way.speed)
        driver = PolicyDriver(self.policy, way.rtc, settings, lambda: way.latency, way.rate, pace, self.slowing)
        gripper = self.policy.spec.robot.gripper_mask

        def compare(chunk: ActionChunk, prefix: ActionPrefix | None, sent: SentLog, now: float) -> None:
            if prefix is not None and sent.span is not None and sent.span[0] <= chunk.stamp:
                found.append(differences(chunk, prefix, sent, now, gripper))

        driver.on_chunk = compare
        return play(self.world, driver, game), found


def play_all(scenes: list[Game], way: Way, together: int) -> list[tuple[list[Outcome], Differences]]:
    """Play every game, so many at a time; the k-th player plays the k-th game and every `together`-th after it."""
    torch.set_num_threads(1)
    policy, number = Policy(load_checkpoint(way.checkpoint)), min(together, len(scenes))
    shared = Together(policy, number) if number > 1 else policy
    bar = tqdm(total=len(scenes), disable=None)

    def player(k: int) -> list[tuple[list[Outcome], Differences]]:
        one, played = Player(way, shared), []
        try:
            for game in scenes[k::number]:
                played.append(one.play(game))
                bar.update()
        finally:
            if isinstance(shared, Together):
                shared.leave()
        return played

    with ThreadPoolExecutor(number) as pool, bar:
        rows = list(pool.map(player, range(number)))
    return [rows[index % number][index // number] for index in range(len(scenes))]


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


def speed_of(text: str) -> str:
    """`text`, if it is a speed."""
    if text != AUTO and not SLOWEST <= float(text) <= FASTEST:
        raise argparse.ArgumentTypeError(f"{text}: {AUTO}, or {SLOWEST} to {FASTEST}")
    return text


def main() -> int:
    """Play, print a line per failure and the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--task", nargs="+", choices=TASKS, default=["one"])
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1000, help="of the first scene")
    parser.add_argument("--latency", nargs="+", type=float, default=[0.1], help="s, from observation to chunk")
    parser.add_argument("--rate", type=float, default=0.0, help="chunks per second (default: the robot file's)")
    parser.add_argument("--speed", nargs="+", type=speed_of, default=[AUTO], help="of execution: a number or auto")
    parser.add_argument("--limit", type=float, default=20.0, help="s, per instruction")
    parser.add_argument("--rtc", nargs="+", choices=MODES, default=["auto"], help="real-time chunking")
    parser.add_argument("--transition", nargs="+", choices=TRANSITIONS, default=[Settings.transition])
    parser.add_argument("--schedule", default=RtcSettings.schedule)
    parser.add_argument("--weight", type=float, default=RtcSettings.max_guidance_weight)
    parser.add_argument("--mask-end", type=int, default=RtcSettings.mask_end)
    parser.add_argument("--together", type=int, default=16, help="scenes at a time, in one pass of the network")
    parser.add_argument("--quiet", action="store_true", help="one line for each way, no failures or differences")
    args = parser.parse_args()
    ways = itertools.product(args.task, args.latency, args.rtc, args.transition, args.speed)
    for task, latency, mode, transition, speed in ways:
        rtc = RtcSettings(mode, args.schedule, args.weight, args.mask_end)
        way = Way(args.checkpoint, rtc, transition, latency, args.rate, speed)
        scenes = games(task, args.seed, args.episodes, args.limit)
        results, found = [], Differences()
        for game, (outcomes, changes) in zip(scenes, play_all(scenes, way, args.together), strict=True):
            results.append(outcomes)
            found += changes
            for number, outcome in enumerate(outcomes):
                if not outcome.success and not game.instructions[number].fixed and not args.quiet:
                    print(f"seed {game.seed} instruction {number + 1} {outcome.colour}: lifted {outcome.lifted}")
        how = f"rtc {mode}, transition {transition}, speed {speed}"
        print(f"{task}, latency {1e3 * latency:.0f} ms, {how}: {summary(task, results)}", flush=True)
        pairs = ("new chunk and executed actions", "new chunk and last command", "foreseen and executed actions")
        for what, values in zip(pairs, np.array(found).T, strict=True) if found and not args.quiet else ():
            p50, p90, p99 = np.percentile(values, (50, 90, 99))
            print(f"  {what:30s} differ by p50 {p50:.4f}, p90 {p90:.4f}, p99 {p99:.4f} rad")
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
