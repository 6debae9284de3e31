"""How smooth is a motion made of chunks? Every transition strategy at every latency, as a table and a picture.

    python bench/motion.py                                     # recorded-like chunks, half a minute
    python bench/motion.py --checkpoint pi0_ros/sim/checkpoint --episodes 10 --plot docs/images/motion.png

The controller core of the node, without ROS. Two parts. `recorded`: a predictor whose successive chunks disagree as a
policy's do (bench/motion_recorded.py), with a stand-in for guided sampling. `demo`: the simulated arm with the demo
policy, guided sampling included, and whether the cube ends up in the tray.

Acceleration, jerk and the velocity's steps are differences of the commands at the control rate, over all arm joints. A
transition is the 0.2 s after a chunk is taken up, mid-chunk is everything else. "Chunks alone" is the same ratio had
each chunk been followed alone: what a policy puts into the beginning of its chunks is no transition. Where the motion
is at its acceleration limit all the time, the ratio of p99 says nothing; "p90" is the same ratio of 90th percentiles.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from motion_figures import Figures, Trace, figures, lag
from motion_recorded import ARM_LAG_S, GRIPPER, JOINTS, Predictor, Reaching

from pi0_ros.control.controller import Controller
from pi0_ros.control.limits import JointLimits
from pi0_ros.control.plan import plan_behind
from pi0_ros.control.states import Settings, State
from pi0_ros.control.transitions import TRANSITIONS
from pi0_ros.inference.prefix import Continuation, RtcSettings

if TYPE_CHECKING:  # the recorded part needs neither torch nor MuJoCo
    from pi0_ros.policy.policy import Policy
    from pi0_ros.sim.world import World

LATENCIES_MS = (0, 20, 50, 100, 200, 300, -1)  # -1: random, 0 to 300
EVERY_S = 0.4  # between two inferences
PERIOD = 0.01


@dataclass(frozen=True)
class Row:
    """One strategy at one latency."""

    part: str
    transition: str
    latency_ms: int
    figures: Figures
    traces: list[Trace]
    lag_ms: float = float("nan")
    rms: float = float("nan")
    won: int = 0
    played: int = 0

    @property
    def success(self) -> str:
        return f"{self.won} of {self.played}" if self.played else ""

    @property
    def latency(self) -> str:
        return "random" if self.latency_ms < 0 else str(self.latency_ms)

    def values(self) -> dict[str, object]:
        """The row as plain numbers."""
        found: dict[str, object] = {"part": self.part, "transition": self.transition, "latency_ms": self.latency}
        for what in ("velocity_step", "acceleration", "jerk"):
            for where in ("transition", "mid", "chunk_transition", "chunk_mid"):
                found[f"{what}_{where}_p99"] = self.figures.p99(what, where)
                found[f"{what}_{where}_peak"] = self.figures.peak(what, where)
        return found | {
            "ratio": self.figures.ratio(),
            "ratio_p90": self.figures.ratio(percentile=90),
            "lag_ms": self.lag_ms,
            "rms": self.rms,
            "won": self.won,
            "played": self.played,
        }


def draw_latency(latency_ms: int, rng: np.random.Generator) -> float:
    """Seconds until the next chunk arrives."""
    return rng.uniform(0.0, 0.3) if latency_ms < 0 else latency_ms * 1e-3


def recorded(transition: str, latency_ms: int, seconds: float, interpolation: str) -> Row:
    """Follow the predictor's chunks with an arm that trails its command."""
    joints = len(JOINTS)
    limits = JointLimits(
        JOINTS, np.full(joints, -3.0), np.full(joints, 3.0), np.full(joints, 3.0), np.full(joints, 20.0), GRIPPER
    )
    settings = Settings(interpolation=interpolation, transition=transition)
    controller = Controller(limits, PERIOD, np.full(joints, 0.5), settings)
    path, rng = Reaching(3, seconds + 5.0), np.random.default_rng(latency_ms + 2)
    predictor = Predictor(path, 5)
    continuation = Continuation(RtcSettings("exact" if transition == "rtc" else "off"), GRIPPER, limits.velocity)
    trace = Trace(PERIOD, GRIPPER, interpolation)
    measured, command, waiting, next_inference = np.zeros(joints), np.zeros(joints), None, 0.5
    planned_for = -1  # the controller's revision
    for tick in range(round(seconds / PERIOD)):
        t = tick * PERIOD
        measured = measured + (command - measured) * PERIOD / ARM_LAG_S
        controller.measure(t, np.arange(joints), measured)
        if waiting is None and t >= next_inference:
            prefix = continuation.prefix(round(t * 1e9)) if transition == "rtc" else None
            waiting = (t + draw_latency(latency_ms, rng), predictor.infer(t, measured, prefix))
            next_inference = t + EVERY_S
        if waiting is not None and t >= waiting[0] - 1e-9:
            continuation.published(waiting[1], round(t * 1e9))
            controller.accept(waiting[1], t)
            waiting = None
        if tick == round(0.4 / PERIOD):
            assert not controller.arm(t)
        sent = controller.tick(t)
        if sent is not None:
            command = sent.position
            continuation.sent(round(t * 1e9), command)
            if controller.revision != planned_for:
                planned_for = controller.revision
                continuation.planned(round(t * 1e9), plan_behind(controller.fork(), sent, t))
                continuation.state(True, controller.state is State.RUNNING)
            trace.add(t, sent, controller)
    late, rms = lag(trace, path.at)
    return Row("recorded", transition, latency_ms, figures([trace]), [trace], late * 1e3, rms)


def demo(transition: str, latency_ms: int, args: argparse.Namespace, policy: Policy, world: World) -> Row:
    """Play the demo's scenes."""
    from pi0_ros.sim.policy_driver import PolicyDriver
    from pi0_ros.sim.trials import games, play

    traces, won = [], 0
    played, robot = games("one", args.seed, args.episodes, args.limit), policy.spec.robot
    rtc = RtcSettings("auto" if transition == "rtc" else "off")
    settings = Settings(interpolation=args.interpolation, transition=transition)
    for game in played:
        latency = partial(draw_latency, latency_ms, np.random.default_rng([game.seed, latency_ms + 1]))
        traces.append(Trace(1.0 / robot.control_rate_hz, robot.gripper_mask, args.interpolation))
        driver = PolicyDriver(policy, rtc, settings, latency, 1.0 / EVERY_S)
        won += play(world, driver, game, traces[-1].add)[0].success
    return Row("demo", transition, latency_ms, figures(traces), traces, won=won, played=len(played))


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    titles: tuple[str, ...] = (
        "latency ms",
        "transition",
        "acceleration at transitions: p99 (peak)",
        "mid-chunk p99",
        "ratio",
        "p90",
        "chunks alone",
    )
    titles += (
        "velocity step at transitions: p99 (peak)",
        "jerk at transitions: p99",
        "mid-chunk p99",
        "lag ms",
        "off the path",
        "success",
    )
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for row in rows:
        f = row.figures
        cells = (
            row.latency,
            row.transition,
            f"{f.p99('acceleration', 'transition'):.1f} ({f.peak('acceleration', 'transition'):.1f})",
            f"{f.p99('acceleration', 'mid'):.1f}",
            f"**{f.ratio():.2f}**",
            f"{f.ratio(percentile=90):.2f}",
            f"{f.ratio('chunk_'):.2f}",
            f"{f.p99('velocity_step', 'transition'):.3f} ({f.peak('velocity_step', 'transition'):.3f})",
            f"{f.p99('jerk', 'transition'):.0f}",
            f"{f.p99('jerk', 'mid'):.0f}",
            number(row.lag_ms, ".0f"),
            number(row.rms, ".3f"),
            row.success,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def number(value: float, form: str) -> str:
    """The number, or nothing where there is none."""
    return "" if np.isnan(value) else format(value, form)


def main() -> int:
    """Run what was asked for; print tables, write numbers and picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transitions", nargs="+", choices=TRANSITIONS, default=list(TRANSITIONS))
    parser.add_argument("--latencies", nargs="+", type=int, default=list(LATENCIES_MS), help="ms; -1: random, 0 to 300")
    parser.add_argument("--interpolation", default="cubic")
    parser.add_argument("--seconds", type=float, default=120.0, help="of recorded-like motion per row; 0: none")
    parser.add_argument("--checkpoint", type=Path, help="demo policy; none: recorded-like chunks only")
    parser.add_argument("--episodes", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1000, help="of the first scene")
    parser.add_argument("--limit", type=float, default=20.0, help="s, per scene")
    parser.add_argument("--save", type=Path, help="write all figures as JSON lines")
    parser.add_argument("--plot", type=Path, help="write the picture")
    args = parser.parse_args()
    pairs, rows = [(latency, transition) for latency in args.latencies for transition in args.transitions], []
    if args.seconds > 0:
        rows += [recorded(transition, latency, args.seconds, args.interpolation) for latency, transition in pairs]
        print(f"Recorded-like chunks:\n\n{table(rows)}\n", flush=True)
    if args.checkpoint:
        import torch

        from pi0_ros.checkpoints.checkpoint import load_checkpoint
        from pi0_ros.policy.policy import Policy
        from pi0_ros.sim.world import World

        torch.set_num_threads(1)
        policy, world = Policy(load_checkpoint(args.checkpoint)), World()
        for latency, transition in pairs:
            rows.append(demo(transition, latency, args, policy, world))
            print(table(rows[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
        print(f"Demo arm with its policy:\n\n{table([row for row in rows if row.part == 'demo'])}\n")
    if args.save:
        args.save.write_text("".join(json.dumps(row.values()) + "\n" for row in rows))
    if args.plot:
        from motion_plot import plot

        plot(rows, args.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
