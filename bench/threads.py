"""CPU threads of the policy beside simulator and controller: the demo, once for each choice.

    python bench/threads.py --episodes 2

`auto` is what the policy node chooses by itself (`torch_threads: 0`): one thread for a small model, else all cores but
one, whose idle workers sleep (`OMP_WAIT_POLICY=passive`). `active` is how OpenMP's workers wait unless told otherwise.
Prints the demo's own last lines for each: how long a chunk takes, how late ticks are.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

CHOICES = {"auto": ("0", "PASSIVE"), "one": ("1", "PASSIVE"), "two": ("2", "PASSIVE"), "two, active": ("2", "ACTIVE")}
_DEMO = """
import sys
from pi0_ros.cli import demo
from pi0_ros.cli.main import main
resolve = demo.launches.resolve
demo.launches.resolve = lambda launch, given, *more: resolve(launch, {**given, "torch_threads": sys.argv[1]}, *more)
sys.exit(main(["demo", "--headless", "--require", "0", "--episodes", sys.argv[2], "--seed", sys.argv[3]]))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=990_000)
    args = parser.parse_args()
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} before the first")
    for name, (threads, waiting) in CHOICES.items():
        command = [sys.executable, "-c", _DEMO, threads, str(args.episodes), str(args.seed)]
        environment = {**os.environ, "OMP_WAIT_POLICY": waiting}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise SystemExit(f"{name}: {done.stderr[-2000:]}")
        told = [
            " ".join(line.split()) for line in done.stdout.splitlines() if " ms" in line or line.startswith("success")
        ]
        print(f"{name:12s} {' | '.join(told)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
