"""Do two checkpoints, of whatever formats, act the same? Compares actions on random inputs, and all that is around.

    pi0 checkpoint verify ~/pi05_droid ~/droid
    pi0 checkpoint verify ~/pi0_base ~/pi0_trossen --asset trossen --num 8
    pi0 checkpoint verify A B --device cuda --tolerance 1e-3

Both run in float32, one after the other: memory for one of them is enough. Exit status 1 when they differ in what a
robot would do: actions, statistics, sizes or settings. How a format resizes images, and whether LeRobot's pi0 takes
the prompt as it is, belongs to the format and is only said.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from pi0_ros.base.arguments import count, positive, whole
from pi0_ros.base.printing import labelled, value
from pi0_ros.checkpoints.describe import describe
from pi0_ros.checkpoints.lerobot import RELEASES
from pi0_ros.cli.checkpoint_options import BASE_HELP, CONFIG_HELP, RELEASE_HELP, check_asset, check_base, read_config

if TYPE_CHECKING:
    from pi0_ros.checkpoints.verify import Differences, Progress

INDENT = 12
SAME_STATISTICS = 1e-5  # model units: formats round statistics and add epsilons of their own
OF_THE_FORMAT = {"cameras", "image_resize", "prompt_format", "action_names"}
_LISTED = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 checkpoint verify`."""
    parser.add_argument("a", type=Path, metavar="A", help="one checkpoint")
    parser.add_argument("b", type=Path, metavar="B", help="the other")
    parser.add_argument("--num", type=count, default=4, help="random inputs (default %(default)s)")
    parser.add_argument("--steps", type=count, default=10, help="flow steps (default %(default)s)")
    parser.add_argument("--seed", type=whole, default=0, help="of the random inputs (default %(default)s)")
    parser.add_argument(
        "--tolerance", type=positive, default=1e-4, help="largest difference of actions in model units (default 1e-4)"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 ... (default %(default)s)")
    parser.add_argument("--asset", metavar="ID", help="which statistics of the one that has several")
    parser.add_argument("--config", type=Path, metavar="FILE", help=CONFIG_HELP)
    parser.add_argument("--base", type=Path, metavar="PATH", help=BASE_HELP)
    parser.add_argument("--lerobot-release", choices=RELEASES, help=RELEASE_HELP)


def run(args: argparse.Namespace) -> int:
    """`pi0 checkpoint verify`: 0 when they act the same, 1 when they do not."""
    from pi0_ros.checkpoints.verify import verify_checkpoints

    check_base(args.base, args.a, args.b)
    config = read_config(args.config)
    if args.asset is not None:
        check_asset(args.asset, *(describe(path, config=config, base=args.base) for path in (args.a, args.b)))
    with _told() as progress:
        found = verify_checkpoints(
            args.a,
            args.b,
            config=config,
            asset_id=args.asset,
            base=args.base,
            lerobot_release=args.lerobot_release,
            device=args.device,
            batch=args.num,
            num_steps=args.steps,
            seed=args.seed,
            progress=progress,
        )
    reasons = differing(found, args.tolerance)
    inputs = f"{args.num} random inputs, {args.steps} steps"
    _print("actions", f"apart by {found.actions:.1e}, themselves up to {found.scale:.3g} ({inputs})")
    _print("weights", _weights(found.weights))
    _print("statistics", _statistics(found.statistics))
    rest = [*_lines(found.config), *_lines(found.settings)]
    for label, line in zip(("settings", *[""] * len(rest)), rest or ["equal"]):
        _print(label, line)
    print(f"They differ in {', '.join(reasons)}." if reasons else "The same policy.")
    return int(bool(reasons))


@contextlib.contextmanager
def _told() -> Iterator[Progress]:
    """A bar while weights are compared, a line for each stage of the models; on the standard error."""
    with contextlib.ExitStack() as bars:
        bar: tqdm | None = None

        def progress(what: str, done: int, total: int) -> None:
            nonlocal bar
            if not total:
                bars.close()
                print(f"{what} ...", file=sys.stderr)
                return
            if bar is None:
                bar = bars.enter_context(tqdm(desc=what, total=total, unit="B", unit_scale=True, dynamic_ncols=True))
            bar.update(done - bar.n)

        yield progress


def differing(found: Differences, tolerance: float) -> list[str]:
    """In what two checkpoints act differently; empty when they act the same."""
    reasons = [] if found.actions <= tolerance else ["their actions"]
    if any(number > SAME_STATISTICS for number in found.statistics.values()):
        reasons.append("their statistics")
    return reasons + sorted({*found.config, *found.settings} - OF_THE_FORMAT)


def _print(label: str, text: str) -> None:
    print("\n".join(labelled(label, text, INDENT)))


def _weights(differences: Mapping[str, float]) -> str:
    if not differences:
        return "equal, every bit"
    most = ", ".join(f"{name} {number:.1e}" for name, number in list(differences.items())[:_LISTED])
    return f"{len(differences)} tensors differ, most: {most}"


def _statistics(differences: Mapping[str, float]) -> str:
    if not differences:
        return "none that both have"
    equal = [name for name, number in differences.items() if number <= SAME_STATISTICS]
    apart = [f"{name} apart by {differences[name]:.1e} in model units" for name in differences if name not in equal]
    return "; ".join([*apart, *([f"equal: {', '.join(equal)}"] if equal else [])])


def _lines(differences: Mapping[str, tuple[Any, Any]]) -> list[str]:
    return [
        f"{name}: {value(one)} | {value(other)}" + (" (as the format has it)" if name in OF_THE_FORMAT else "")
        for name, (one, other) in differences.items()
    ]
