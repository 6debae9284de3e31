"""Every `pi0` command as a person gives it for the first time: a process of its own, in an environment where nothing is
set. Each does something, or refuses in one sentence; a new command without a row here fails.

What speaks to robots looks for one of a namespace that nobody has, so that no robot of this network is touched.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest
from bagmaker import Recipe, make_bag
from conftest import wait_until
from test_hostile_arguments import parsers

from pi0_ros.conversion.convert import convert
from pi0_ros.robot import load_robot

ROOT = Path(__file__).parents[2]
SHIPPED = str(ROOT / "pi0_ros" / "sim" / "checkpoint")
NOBODY = ("--namespace", "nobody_has_this_name", "--timeout", "0.5")
NOBODY_OFFERS = "nobody offers /nobody_has_this_name/"
LIMIT_S = 120.0


@dataclass(frozen=True)
class Door:
    """A command line, what it says, and what it leaves: `made` lies in its working directory afterwards, and nothing
    else that was not there. `until`: it runs on, and is ended by Ctrl-C once it has said this."""

    line: str
    says: str
    status: int = 0
    made: tuple[str, ...] = ()
    until: str = ""
    slow: bool = False
    needs: tuple[str, ...] = ()  # libraries

    @property
    def words(self) -> list[str]:
        return self.line.replace("SHIPPED", SHIPPED).split()


def nobody(command: str, service: str) -> Door:
    return Door(f"{command} {' '.join(NOBODY)}", f"{NOBODY_OFFERS}{service}", 2, needs=("rclpy",))


DOORS = [
    Door("demo --headless --checkpoint dataset", "dataset: no checkpoint there", 2, needs=("rclpy",)),
    Door("demo --headless --episodes 1 --require 0", "time to success", slow=True, needs=("rclpy", "mujoco")),
    Door("up policy robot:=demo_arm", "no checkpoint is given", 2),
    Door("up policy --show-args", "robot:="),
    Door(
        "up monitor robot:=demo_arm view:=false namespace:=nobody_has_this_name",
        "stopping",
        until="draws the path",
        slow=True,
        needs=("rclpy",),
    ),
    nobody("arm", "controller/arm"),
    nobody("disarm", "controller/arm"),
    nobody("estop", "controller/estop"),
    nobody("reset", "controller/reset"),
    nobody("takeover", "controller/takeover"),
    nobody("prompt fold the towel", "policy/prompt"),
    Door(f"state {' '.join(NOBODY)}", "nobody is heard on /diagnostics", 1, needs=("rclpy",)),
    Door("record", "needs a terminal", 2),
    Door(
        "record-demo demo_bags --episodes 1 --workers 1",
        "1 episodes in demo_bags",
        made=("demo_bags",),
        needs=("mujoco",),
    ),
    Door("convert bag again --robot demo_arm", "dataset: again", made=("again",)),
    Door("bag check bag --robot demo_arm", "bag: usable"),
    Door("dataset info dataset", "1 episodes"),
    Door("dataset check dataset", "fit for training"),
    Door("dataset merge merged dataset", "merged: 1 episodes", made=("merged",)),
    Door("dataset plot dataset", "written: ", made=("dataset_plots",)),
    Door("robot check demo_arm", "rates"),
    Door("robot convert dataset --out theirs.yaml", "written: theirs.yaml", made=("theirs.yaml",)),
    Door("robot new --bag bag --out first.yaml", "written: first.yaml", made=("first.yaml",)),
    Door("stats dataset", "1 episodes"),
    Door("pretrain-demo --out dataset", "dataset exists"),
    Door("train dataset --config no_such_config --out run", "no_such_config", 2),
    Door("eval --checkpoint SHIPPED dataset --episodes all --stride 20", "look at it: pi0 view eval", made=("eval",)),
    Door("bench-sim SHIPPED --dry-run", "demo_arm", 2),
    Door("checkpoint info SHIPPED", "demo_arm, in the checkpoint"),
    Door("checkpoint convert SHIPPED openpi --to openpi", "Written", made=("openpi",)),
    Door("checkpoint verify SHIPPED SHIPPED --num 1", "The same policy."),
    Door(
        "serve --checkpoint SHIPPED --bind tcp://127.0.0.1:PORT", "stopped after 0 chunks", until="tcp://127.0.0.1:PORT"
    ),
    Door("serve --status 127.0.0.1:PORT", "is `pi0 serve` running there?", 2),
    Door("keys create keys my_robot", "keys/my_robot: copy it", made=("keys",)),
    Door("replay bag --checkpoint SHIPPED --robot no_such_robot", "no_such_robot", 2),
    Door("replay bag --robot demo_arm --checkpoint SHIPPED", "picture to command", slow=True, needs=("rclpy",)),
    Door("view dataset --port PORT", "", 0, until="http://127.0.0.1:PORT"),
    Door("view --robot demo_arm --port PORT", "", 0, until="http", slow=True, needs=("rclpy", "viser")),
    Door("latency --seconds 0.5 --topic nobody_has_this_name/pi0/latency", "0 chunks on", 2, needs=("rclpy",)),
    Door("layout plotjuggler --robot demo_arm --out joints.xml", "written: joints.xml", made=("joints.xml",)),
    Door("doctor --robot demo_arm", "demo_arm: 6 joints"),
    Door("doctor --bag bag --robot demo_arm --checkpoint SHIPPED", "base and wrist show the same picture", 1),
    Door("completion bash", "complete"),
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bag and a dataset of the demo's arm, made once."""
    place, robot = tmp_path_factory.mktemp("inputs"), load_robot("demo_arm")
    make_bag(place / "bag", robot, Recipe(seconds=3.0))
    convert([place / "bag"], place / "dataset", robot)
    return place


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty home, in which matplotlib makes its list of fonts once."""
    return tmp_path_factory.mktemp("home")


def bare_environment(home: Path) -> dict[str, str]:
    """What a process cannot do without, this copy of the package, and nothing else."""
    return {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}


def free_port() -> str:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return str(held.getsockname()[1])


def ended_by_ctrl_c(process: subprocess.Popen[str], output: Path, until: str) -> None:
    """Waits for what it says, and ends it. A page that it names is there."""
    wait_until(lambda: until in output.read_text() or process.poll() is not None, LIMIT_S, output.read_text)
    said = output.read_text()
    assert process.poll() is None, said
    if until.startswith("http"):
        address = next(word for word in said.split() if word.startswith("http"))
        assert urllib.request.urlopen(address, timeout=20).status == 200
    process.send_signal(signal.SIGINT)


def test_every_command_has_a_door() -> None:
    tried = {tuple(door.line.split()) for door in DOORS}
    missing = [words for words, _ in parsers() if not any(line[: len(words)] == words for line in tried)]
    assert not missing, f"give these a row in DOORS: {missing}"


@pytest.mark.parametrize(
    "door",
    [pytest.param(door, marks=[pytest.mark.slow] if door.slow else [], id=door.line) for door in DOORS],
)
def test_a_door_opens_where_nothing_is_set(door: Door, inputs: Path, home: Path, tmp_path: Path) -> None:
    for library in door.needs:
        pytest.importorskip(library)
    place, output = tmp_path / "place", tmp_path / "output"
    shutil.copytree(inputs, place)
    port = free_port()
    words = [word.replace("PORT", port) for word in door.words]
    with output.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "pi0_ros.cli.main", *words],
            env=bare_environment(home),
            cwd=place,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )
    try:
        if door.until:
            ended_by_ctrl_c(process, output, door.until.replace("PORT", port))
        status = process.wait(LIMIT_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    said = output.read_text()
    assert status == door.status, said
    assert said.strip() and door.says in " ".join(said.split()), said
    assert "Traceback" not in said and "Error" not in said, said
    assert {path.name for path in place.iterdir()} - {"bag", "dataset"} == set(door.made)
