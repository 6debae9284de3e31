"""Say of recordings whether they are usable, before anyone leaves the robot: seconds for each.

    pi0 bag check bags/                              every recording below bags/
    pi0 bag check bags/episode_000012 --robot my_robot -v
    pi0 bag check bags/ --json | jq '.[] | select(.verdict == "unusable")'

One line for each recording: usable, usable with warnings, or unusable because of what; below it every finding with what
to do. Looks at topics and types, rates, lost messages and gaps, stamps and clocks, pictures (black, frozen, blurred),
joints (names, limits, moving at all) and the prompt, and says how many rows `pi0 convert` would get. Without --robot it
takes the robot file that the recorder put into the recording. The exit status is 1 when a recording is unusable, or
when nobody can tell for want of a robot file. Nothing is written.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from pi0_ros.bags.reader import find_bags
from pi0_ros.base.printing import labelled, table
from pi0_ros.conversion.bag_check import BagCheck, check_bag
from pi0_ros.robot import load_robot


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 bag check`."""
    parser.add_argument("bags", nargs="+", type=Path, metavar="BAG", help="bag folders or files, or folders of bags")
    parser.add_argument("--robot", help="name or path of the robot file (default: the one in the bag)")
    parser.add_argument("-v", "--verbose", action="store_true", help="also notes, and a table of the streams")
    parser.add_argument("--json", action="store_true", help="everything as JSON")


def run(args: argparse.Namespace) -> int:
    """`pi0 bag check`: 1 when a recording is unusable."""
    robot = load_robot(args.robot) if args.robot else None
    checks = []
    for path in tqdm(find_bags(args.bags), unit="bag", disable=None, leave=False):
        checks.append(check_bag(path, robot))
        if not args.json:
            tqdm.write("\n".join(lines(checks[-1], args.verbose)))
    if args.json:
        print(json.dumps([check.to_dict() for check in checks], indent=2, ensure_ascii=False))
    elif len(checks) > 1:
        verdicts = [check.verdict for check in checks]
        counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(sorted(verdicts)))
        print(f"{len(checks)} recordings: {counts}; {sum(sum(check.episode_rows) for check in checks)} rows")
    return int(any(check.verdict in ("unusable", "readable") for check in checks))


def lines(check: BagCheck, verbose: bool) -> Iterator[str]:
    """The verdict and what stands behind it."""
    errors = [finding.what for finding in check.findings if finding.severity == "error"]
    because = f" because {errors[0]}" + (f" (and {len(errors) - 1} more)" if len(errors) > 1 else "") if errors else ""
    rows = ""
    if check.episode_rows and not errors:
        rows = f": {sum(check.episode_rows)} rows at {check.fps:g} fps"
        rows += f" in {len(check.episode_rows)} episodes" if len(check.episode_rows) > 1 else ""
        rows += f", {sum(check.episode_rows) / check.fps:.1f} of {check.duration_s:.1f} s"
    yield f"{check.path}: {check.verdict}{because}{rows}"
    for finding in check.findings:
        if finding.severity == "note" and finding.check != "outcome" and not verbose:
            continue
        text = finding.what + (f" -> {finding.todo}" if finding.todo else "")
        yield from labelled(f"  {finding.severity:8s} {finding.check}", text, 20)
    if verbose and check.streams:
        head = ("  topic", "messages", "Hz", "lost", "s", "delay ms")
        body = [
            (f"  {s.topic}", len(s.stamps), f"{s.rate_hz:.3g}", s.missing, f"{s.span_s:.1f}", f"{s.delay_s * 1e3:.1f}")
            for s in check.streams
            if len(s.stamps)
        ]
        yield from table([head, *body])
