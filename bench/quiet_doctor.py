"""Does the doctor keep quiet about a set-up that is right? Live beside the demo's processes, and on what they record.

    python bench/quiet_doctor.py --runs 20 --out runs/quiet_doctor

Simulator, policy, controller, monitor and recorder are processes of their own, as in `pi0 demo`, and play scenes all
the while. Every finding of every run is counted. A warning or an error is a false alarm; the one line that says that
this machine is overloaded (`machine`) is none.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import rclpy
from rclpy.executors import SingleThreadedExecutor
from std_srvs.srv import Trigger

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pi0_ros.cli.demo import CHECKPOINT  # noqa: E402
from pi0_ros.launching import launches  # noqa: E402
from pi0_ros.launching.processes import ProcessGroup, private_domain, ros_environment  # noqa: E402
from pi0_ros.nodes.sim_client import call  # noqa: E402
from pi0_ros.nodes.stage import Stage  # noqa: E402

PER_RECORDING = 2  # scenes
Finding = dict[str, str]


def examined(*options: str) -> list[Finding]:
    """What `pi0 doctor` finds."""
    command = [sys.executable, "-m", "pi0_ros.cli.main", "doctor", *options, "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if not done.stdout:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    findings: list[Finding] = json.loads(done.stdout)["findings"]
    return findings


def false_alarms(findings: Sequence[Finding]) -> list[Finding]:
    """What nobody should hear about a right set-up."""
    return [found for found in findings if found["severity"] in ("error", "warning") and found["check"] != "machine"]


def told(title: str, number: int, findings: Sequence[Finding]) -> int:
    """Print what a run found beside what is as it should be; how many false alarms there were."""
    alarms = false_alarms(findings)
    load = " ".join(f"{value:.1f}" for value in os.getloadavg()[:2])
    others = Counter(found["severity"] for found in findings)
    print(f"{title} {number}: {dict(others)}, load {load}", flush=True)
    for found in findings:
        if found["severity"] != "ok":
            print(f"    {found['severity']:8s}{found['check']}: {found['what']}", flush=True)
    return len(alarms)


def recorded(stage: Stage, bags: Path, enough: threading.Event) -> None:
    """Play scenes until `enough` is set and a recording is there."""
    clients = {name: stage.node.create_client(Trigger, f"recorder/{name}") for name in ("start", "success")}
    for seed in count(PER_RECORDING, PER_RECORDING):
        if enough.is_set() and any(bags.glob("episode_*[0-9]")):
            return
        call(stage.executor, clients["start"], Trigger.Request())
        for scene in range(PER_RECORDING):
            for episode in stage.play(seed + scene, None, 15.0):
                if not episode.success:  # then the arm may stand where no demonstration went, and that is said
                    print(f"a scene failed: {episode.line()}", flush=True)
        call(stage.executor, clients["success"], Trigger.Request())


def main() -> int:
    """Run it; 0 when nothing was a false alarm."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--runs", type=int, default=20, help="of each kind (default %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="new folder: bags, logs, findings")
    args = parser.parse_args()
    args.out.mkdir(parents=True)
    environment = ros_environment(localhost=True, domain_id=private_domain())
    environment.setdefault("OMP_NUM_THREADS", "1")
    os.environ.update(environment)
    bags, runs, enough = args.out / "bags", [], threading.Event()
    live = ("--robot", "demo_arm", "--checkpoint", str(CHECKPOINT), "--live")

    def listen() -> None:
        try:
            for number in range(args.runs):
                runs.append(examined(*live))
                told("live", number, runs[-1])
        finally:
            enough.set()

    with ProcessGroup(args.out / "logs") as group:
        for command in launches.resolve(launches.find("demo"), {"auto_arm": "false", "view": "false"}):
            group.start(command.name, command.argv(), env=environment)
        recorder = launches.ros_arguments({"robot": "demo_arm", "out_dir": str(bags)}, "recorder")
        group.start("recorder", [sys.executable, "-m", "pi0_ros.nodes.recorder_node", *recorder], env=environment)
        rclpy.init(args=[])
        executor = SingleThreadedExecutor()
        stage = Stage(executor, group)
        try:
            stage.wait_until_ready()
            threading.Thread(target=listen, daemon=True).start()
            recorded(stage, bags, enough)
        finally:
            stage.close()
            executor.shutdown()
            rclpy.try_shutdown()
    recordings = sorted(bags.glob("episode_*[0-9]"))
    for number in range(args.runs):
        bag = recordings[number % len(recordings)]
        runs.append(examined("--bag", str(bag), "--checkpoint", str(CHECKPOINT)))
        told(f"{bag.name}", number, runs[-1])
    (args.out / "findings.json").write_text(json.dumps(runs, indent=1), encoding="utf-8")
    alarms = [found for findings in runs for found in false_alarms(findings)]
    loud = ("error", "warning")
    busy = sum(f["check"] == "machine" and f["severity"] in loud for findings in runs for f in findings)
    print(f"{len(runs)} runs: {len(alarms)} false alarms; {busy} said in one line that this machine is overloaded")
    return int(bool(alarms) or len(runs) < 2 * args.runs)


if __name__ == "__main__":
    sys.exit(main())
