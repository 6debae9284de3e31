"""Kill training runs at random moments, resume them, and compare the finished weights bit for bit with an unbroken run.

    PYTHONPATH=. python test/helpers/killed_training.py --kills 20 --seed 1

Runs are forked from this process, so a kill comes at any moment of a run and not of its imports: while it prepares,
computes, saves, or resumes after the kill before. Ends with status 1 where a bit differs.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "training")]

import matplotlib.pyplot  # noqa: E402, F401  # before the forks
import test_loop  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from torch import equal  # noqa: E402

from pi0_ros.training.progress_file import read_progress  # noqa: E402


def start(out: Path) -> int:
    """Train in a process of its own, going on where an earlier one was killed; returns its id."""
    if pid := os.fork():
        return pid
    try:
        with Path(os.devnull).open("w") as silence:
            os.dup2(silence.fileno(), 1)
            os.dup2(silence.fileno(), 2)
        test_loop.run_training(out, test_loop.recipe(save_every=1, log_every=1, validate_every=100), resume=True)
    except BaseException as error:
        out.with_suffix(".error").write_text(repr(error))
        os._exit(1)
    os._exit(0)


def finished(pid: int, moment: Callable[[], bool]) -> bool:
    """Whether the process ends by itself before the moment comes; then it is killed."""
    while not moment():
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return not status
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1] == 0  # it may have ended in this very moment


def some_moment(drawn: random.Random, progress: Path, length: float) -> Callable[[], bool]:
    """A moment while a run prepares, or within a tenth of a run behind one of its next rows of progress."""
    rows = drawn.randint(0, 6)
    wait = drawn.uniform(0, length * (0.5 if rows == 0 else 0.1))
    seen, since = [stamp(progress)], [time.monotonic()]

    def come() -> bool:
        if len(seen) <= rows:
            if stamp(progress) != seen[-1]:
                seen.append(stamp(progress))
                since[0] = time.monotonic()
            return False
        return time.monotonic() > since[0] + wait

    return come


def stamp(path: Path) -> int:
    """When a file was written last; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    drawn, kills, runs, where = random.Random(args.seed), 0, 0, []
    with tempfile.TemporaryDirectory() as place:
        whole, out = Path(place) / "whole", Path(place) / "killed"
        begun = time.monotonic()
        finished(start(whole), lambda: False)
        length = time.monotonic() - begun
        wanted = load_file(whole / "checkpoint" / "model.safetensors")
        while kills < args.kills or out.exists():
            moment = some_moment(drawn, out / "progress.csv", length) if kills < args.kills else lambda: False
            ended = finished(start(out), moment)
            if error := [path.read_text() for path in Path(place).glob("*.error")]:
                sys.exit(f"after {kills} kills a run failed: {error}")
            if not ended:
                kills += 1
                where.append(len(read_progress(out / "progress.csv")))
                continue
            found = load_file(out / "checkpoint" / "model.safetensors")
            if found.keys() != wanted.keys() or not all(equal(found[name], wanted[name]) for name in wanted):
                sys.exit(f"run {runs}: other weights than the unbroken run's, after {kills} kills in all")
            runs += 1
            shutil.rmtree(out)
    print(f"{kills} kills (rows of progress then: {where}), {runs} runs finished, every weight the same bit for bit")


if __name__ == "__main__":
    main()
