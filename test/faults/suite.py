"""Injects every fault of docs/safety.md over real processes and prints, as Markdown, what a witness saw.

    python test/faults/suite.py --times 20 --out faults.md
    python test/faults/suite.py --times 2 --rows stopped,chunk --rates 50,250 --points one,trajectory --transitions rtc

Each trial is written into `--log` (JSON lines) when it is over; a suite that was interrupted goes on behind the last
one there, rows with the fewest trials first. In pieces, and several at once (each in a ROS_DOMAIN_ID of its own):

    python test/faults/suite.py --share 1/4 --seconds 240        # and 2/4, 3/4, 4/4

The processes run on from trial to trial: each begins with a robot that follows chunks and has been brought to do so by
what an operator can do. Processes: the controller, what makes chunks, the witness (`watcher.py`). This one is the
robot: it goes where it is told, unless the row says otherwise, and injects. `judge.py` judges, from the robot file
alone.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "helpers"), str(HERE.parents[1])]

import chain_rows  # noqa: E402
import controller_rows  # noqa: E402
import mobile_rows  # noqa: E402
import other_rows  # noqa: E402
from rows import Referee, Row, Trial  # noqa: E402
from stage import KINDS_OF_STAGE, Stage  # noqa: E402

from pi0_ros.base.middleware import without_shared_memory  # noqa: E402
from pi0_ros.control.transitions import TRANSITIONS  # noqa: E402
from pi0_ros.launching.processes import ros_environment  # noqa: E402

ROWS: list[Row] = [*controller_rows.ROWS, *chain_rows.ROWS, *other_rows.ROWS, *mobile_rows.ROWS]

PLACES = {row.name: place for place, row in enumerate(ROWS)}


@dataclass(frozen=True)
class Setting:
    """How the controller is set up."""

    rate: float
    points: str
    transition: str
    priority: int = 0  # realtime.priority

    def __str__(self) -> str:
        scheduled = ", SCHED_FIFO" if self.priority else ""
        return f"{self.rate:g} Hz, points: {self.points}, transition: {self.transition}{scheduled}"


def play(
    rows: list[Row],
    setting: Setting,
    times: int,
    log: Path,
    plant: str = "",
    until: float = math.inf,
) -> None:
    """Every row `times` times, those left out that `log` has already; each is appended to it. None begins after the
    monotonic time `until`."""
    known = Counter(trial["row"] for trial in read(log) if trial["setting"] == str(setting))
    rows = [row for row in rows if row.stage != "sim" or (setting.rate == 50 and setting.points == "one")]
    total, done, began = sum(max(0, times - known[row.name]) for row in rows), 0, time.monotonic()
    commit = commit_of()
    for kind in sorted(KINDS_OF_STAGE, key=lambda kind: min([known[r.name] for r in rows if r.stage == kind] or [0])):
        turns = sorted(
            (number, place, row)
            for place, row in enumerate(rows)
            if row.stage == kind
            for number in range(known[row.name], times)
        )
        if not turns or time.monotonic() > until:
            continue
        with tempfile.TemporaryDirectory() as folder:
            stage = Stage(Path(folder), kind, setting.rate, setting.points, setting.transition, plant, setting.priority)
            try:
                referee = Referee(stage)
                for number, _, row in turns:
                    if (before := time.monotonic()) > until:
                        break
                    trial = referee.trial(row, number)
                    done += 1
                    record = {"setting": str(setting), "row": row.name, "number": number, **trial.as_dict()}
                    record |= {"commit": commit, "load": os.getloadavg()[0], "took_s": time.monotonic() - before}
                    with log.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(record) + "\n")
                    left_s = (time.monotonic() - began) / done * (total - done)
                    print(f"[{done}/{total}, {left_s / 60:.0f} min left] {told(row, number, trial)}", flush=True)
            finally:
                stage.close()
                if any(trial["wrong"] or trial["breaches"] for trial in read(log)):
                    for name in stage.processes.names():
                        if name != "watcher":
                            print(f"--- {name}\n{stage.processes.tail(name, 6)}", file=sys.stderr)


def commit_of() -> str:
    """What is tried, as git names it; empty where git does not know."""
    asked = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def told(row: Row, number: int, trial: Trial) -> str:
    """A trial in a line, and what was not as promised below it."""
    line = (
        f"{row.name} #{number}: {trial.messages} commands, {trial.speed:.2f}, {trial.acceleration:.2f}; {trial.reason}"
    )
    if trial.by_told_time is not None and trial.breaches:
        line += f"; {trial.by_told_time} of {len(trial.breaches)} in the time it was told"
    line += f"; {trial.perhaps_late} perhaps late" if trial.perhaps_late else ""
    return "\n    ".join([line, *trial.breaches[:5], *trial.wrong[:5]])


def read(log: Path) -> list[dict]:
    """The trials in a log; none where there is none."""
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []


def table(trials: list[dict]) -> str:
    """Trials of one setting as Markdown, a line per row."""
    head = "| fault | trials | commands (lost) | beyond limits (sent late) | worst speed, acceleration (of the limit) "
    head += "| s to rest, median (worst) | reason shown | to go on | not as promised |"
    lines = [head, "|---|---|---|---|---|---|---|---|---|"]
    for name in sorted({trial["row"] for trial in trials}, key=PLACES.__getitem__):
        mine = [trial for trial in trials if trial["row"] == name]
        rest = [trial["rest_s"] for trial in mine if trial["rest_s"] is not None]
        stop = f"{np.median(rest):.2f} ({max(rest):.2f})" if rest else ""
        brakes = [(trial["brake_s"], trial["brake_m"]) for trial in mine if trial.get("brake_s") is not None]
        if brakes:
            stop += f" base: {max(s for s, _ in brakes):.2f} s, {max(m for _, m in brakes):.2f} m"
        reason = Counter(trial["reason"] for trial in mine if trial["reason"]).most_common(1)
        needed = Counter(", ".join(trial["needed"]) for trial in mine).most_common()
        acts = "; ".join(f"{what or 'nothing'}{f' ({n})' if len(needed) > 1 else ''}" for what, n in needed)
        lines.append(
            f"| {name} | {len(mine)} | {counted(mine)} | {beyond(mine)} "
            f"| {max(t['speed'] for t in mine):.2f}, {max(t['acceleration'] for t in mine):.2f} | {stop} "
            f"| {reason[0][0].replace('|', '/') if reason else ''} | {acts} "
            f"| {sum(bool(t['wrong']) for t in mine) or ''} |"
        )
    return "\n".join(lines)


def counted(trials: list[dict]) -> str:
    """How many commands were judged, and how many the middleware lost on the way to the witness."""
    lost = sum(trial.get("lost", 0) for trial in trials)
    return f"{sum(trial['messages'] for trial in trials)}{f' ({lost})' if lost else ''}"


def beyond(trials: list[dict]) -> str:
    """How many commands were beyond a limit, and how many the controller knows of that it may have sent late."""
    late = sum(trial.get("perhaps_late", 0) for trial in trials)
    return f"{sum(len(trial['breaches']) for trial in trials)}{f' ({late})' if late else ''}"


def summary(trials: list[dict]) -> str:
    """All settings as Markdown, a line each."""
    lines = [
        "| setting | faults | injections | commands (lost) | beyond limits (sent late) | not as promised |",
        "|---|---|---|---|---|---|",
    ]
    for setting in dict.fromkeys(trial["setting"] for trial in trials):
        mine = [trial for trial in trials if trial["setting"] == setting]
        lines.append(
            f"| {setting} | {len({t['row'] for t in mine})} | {len(mine)} | {counted(mine)} "
            f"| {beyond(mine)} | {sum(bool(t['wrong']) for t in mine)} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Run and print; 1 when anything was beyond the limits or not as promised."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20, help="injections of every row (default %(default)s)")
    parser.add_argument("--rows", default="", help="only rows whose name holds one of these words, by comma")
    parser.add_argument("--stages", default=",".join(KINDS_OF_STAGE), help="only rows of these (default %(default)s)")
    parser.add_argument("--share", default="1/1", help="only the K-th of N shares of the rows (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no trial after so long")
    parser.add_argument("--rates", default="50", help="control rates in Hz, by comma (default %(default)s)")
    parser.add_argument("--points", default="one", help="one, trajectory or both, by comma (default %(default)s)")
    parser.add_argument("--transitions", default="blend", help=f"of {', '.join(TRANSITIONS)} (default %(default)s)")
    parser.add_argument("--log", type=Path, default=Path("faults.jsonl"), help="trials; goes on where it ends")
    parser.add_argument("--plant", default="", help="a controller with a fault that must be seen (planted.py)")
    parser.add_argument("--priority", type=int, default=0, help="the controller's realtime.priority; 0: none")
    parser.add_argument("--report", action="store_true", help="play nothing; tell of every trial in the log")
    parser.add_argument("--out", type=Path, help="write the tables here")
    args = parser.parse_args()
    os.environ.update(ros_environment(localhost=True))
    os.environ.update(without_shared_memory(os.environ))  # rows suspend processes
    os.environ.setdefault("ROS_DOMAIN_ID", "99")
    words, stages = [word for word in args.rows.split(",") if word], args.stages.split(",")
    rows = [r for r in ROWS if r.stage in stages and (not words or any(word in r.name for word in words))]
    share, shares = map(int, args.share.split("/"))
    rows, until = rows[share - 1 :: shares], time.monotonic() + args.seconds
    if not rows:
        parser.error(f"no row of {args.stages} holds one of {args.rows!r}")
    settings = [
        Setting(float(rate), points, transition, args.priority)
        for rate, points, transition in itertools.product(
            args.rates.split(","), args.points.split(","), args.transitions.split(",")
        )
    ]
    if not args.report:
        for setting in settings:
            print(setting, flush=True)
            play(rows, setting, args.times, args.log, args.plant, until)
    trials = [trial for trial in read(args.log) if args.report or trial["setting"] in map(str, settings)]
    texts = [summary(trials)]
    for setting in dict.fromkeys(trial["setting"] for trial in trials):
        mine = [trial for trial in trials if trial["setting"] == setting]
        texts.append(f"## {setting}\n\n{table(mine)}")
    text = "\n\n".join(texts) + "\n"
    print(text)
    if args.out:
        args.out.write_text(text, encoding="utf-8")
    bad = sum(len(trial["breaches"]) + len(trial["wrong"]) for trial in trials)
    print(f"{len(trials)} injections, {bad} not as promised")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
