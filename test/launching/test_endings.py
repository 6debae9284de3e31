"""However a running robot's software ends, its last command is at rest and nothing lives on: see docs/safety.md.

Over real processes: `pi0 up`, and ROS's own launch where that is importable. This process is the robot and the policy:
it sends joint states and chunks of a swinging motion, and hears every command. `PI0_ENDINGS=5` tries each ending, and
each start that is refused, so many times.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import wait_until

rclpy = pytest.importorskip("rclpy")
from launched import Body, Launched, alive, children, clear, launch  # noqa: E402
from spinning import spinning  # noqa: E402

pytestmark = [pytest.mark.dds, pytest.mark.skipif(sys.platform != "linux", reason="stops processes by signals")]
TIMES = int(os.environ.get("PI0_ENDINGS", "1"))
WORDS = ["robot:=demo_arm", "backend:=zmq", "server:=tcp://127.0.0.1:9", "monitor:=false"]
NODES = ("controller", "policy")


@pytest.fixture
def body(ros_context: rclpy.Context) -> Iterator[Body]:
    node = Body(ros_context)
    with spinning(ros_context, node):
        yield node


Ending = Callable[[Launched], None]


def to_launcher(*numbers: signal.Signals) -> Ending:
    def end(launched: Launched) -> None:
        for number in numbers:
            with contextlib.suppress(ProcessLookupError):
                launched.process.send_signal(number)
            time.sleep(0.3)

    return end


def to_group(number: signal.Signals) -> Ending:
    return lambda launched: os.killpg(launched.process.pid, number)


def to_node(name: str, number: signal.Signals) -> Ending:
    return lambda launched: os.kill(launched.node(name), number)


S = signal
ENDINGS: dict[str, Ending] = {
    "Ctrl-C": lambda launched: os.write(launched.master, b"\x03") and None,
    "Ctrl-C thrice": lambda launched: (
        [(os.write(launched.master, b"\x03"), time.sleep(0.3)) for _ in range(3)] and None
    ),
    "Ctrl-Z": lambda launched: os.write(launched.master, b"\x1a") and None,
    "SIGINT to the launcher": to_launcher(S.SIGINT),
    "SIGTERM to the launcher": to_launcher(S.SIGTERM),
    "SIGTERM thrice to the launcher": to_launcher(S.SIGTERM, S.SIGTERM, S.SIGTERM),
    "SIGHUP to the launcher": to_launcher(S.SIGHUP),
    "SIGQUIT to the launcher": to_launcher(S.SIGQUIT),
    "SIGKILL to the launcher": to_launcher(S.SIGKILL),
    "SIGTERM to the group": to_group(S.SIGTERM),
    "SIGHUP to the group": to_group(S.SIGHUP),
    "SIGQUIT to the group": to_group(S.SIGQUIT),
    "closed terminal": lambda launched: launched.close_terminal(),
    "SIGINT to the controller": to_node("controller", S.SIGINT),
    "SIGTERM to the controller": to_node("controller", S.SIGTERM),
    "SIGHUP to the controller": to_node("controller", S.SIGHUP),
    "SIGQUIT to the controller": to_node("controller", S.SIGQUIT),
    "SIGTSTP to the controller": to_node("controller", S.SIGTSTP),
    "SIGUSR1 to the launcher": to_launcher(S.SIGUSR1),
    "SIGUSR1 to the controller": to_node("controller", S.SIGUSR1),
    "SIGXCPU to the controller": to_node("controller", S.SIGXCPU),
}
SHORT = ("Ctrl-C thrice", "SIGTERM to the launcher", "SIGKILL to the launcher", "SIGHUP to the controller")
LAUNCHERS = ["pi0 up", "ros2 launch"]


def needs(kind: str) -> None:
    if kind == "ros2 launch" and importlib.util.find_spec("launch_ros") is None:
        pytest.skip("launch_ros is not importable")


def running_robot(kind: str, folder: Path, body: Body) -> Launched:
    patient = folder / "patient.yaml"  # a busy machine must not disarm before the ending is tried
    patient.write_text(
        "controller:\n  ros__parameters:\n    rearm_after_s: 600.0\n    chunk_timeout_s: 600.0\n    tracking_s: 0.0\n"
    )
    launched = launch(kind, folder, [*WORDS, "auto_arm:=true", f"params_file:={patient}"])
    told = lambda: launched.printed.decode(errors="replace")[-3000:]  # noqa: E731
    try:
        wait_until(lambda: body.drives() or launched.process.poll() is not None, 60.0, told)
        assert launched.process.poll() is None, told()
        launched.nodes = children(launched.process.pid)
        lines = list(launched.nodes.values())
        assert all(any(f"nodes.start {name}" in line for line in lines) for name in NODES), lines
        wait_until(body.moving, 20.0)
    except BaseException:
        launched.nodes = children(launched.process.pid)
        clear(launched)
        raise
    return launched


def nothing_lives_on(launched: Launched) -> None:
    pids = [launched.process.pid, *launched.nodes]
    wait_until(
        lambda: launched.process.poll() is not None and not any(map(alive, pids)),
        25.0,
        lambda: f"{ {pid: launched.nodes.get(pid, 'launcher') for pid in pids if alive(pid)} } live on",
    )


def _marked(name: str) -> object:
    return name if name in SHORT else pytest.param(name, marks=pytest.mark.slow)


@pytest.mark.parametrize("attempt", range(TIMES))
@pytest.mark.parametrize("kind", LAUNCHERS)
@pytest.mark.parametrize("ending", [_marked(name) for name in ENDINGS])
def test_the_last_command_is_at_rest(ending: str, kind: str, attempt: int, body: Body, tmp_path: Path) -> None:
    needs(kind)
    launched = running_robot(kind, tmp_path, body)
    try:
        ENDINGS[ending](launched)
        nothing_lives_on(launched)
        wait_until(lambda: body.last_velocity() == 0.0, 10.0, "the last command at rest")  # what is under way arrives
        if "to the controller" in ending or (ending == "Ctrl-Z" and kind == "ros2 launch"):
            assert launched.process.returncode == 1
        elif ending.startswith(("Ctrl-C", "SIGINT")):
            late = kind == "ros2 launch" and "thrice" in ending  # the third may come when launch no longer listens
            assert launched.process.returncode in ((0, -signal.SIGINT) if late else (0,))
    finally:
        clear(launched)


@pytest.mark.parametrize("attempt", range(TIMES))
@pytest.mark.parametrize("kind", LAUNCHERS)
def test_a_killed_controller_ends_everything_with_status_1(kind: str, attempt: int, body: Body, tmp_path: Path) -> None:
    """As the kernel does when memory runs out. Nobody can brake any more: the robot's own watchdog must."""
    needs(kind)
    launched = running_robot(kind, tmp_path, body)
    try:
        os.kill(launched.node("controller"), signal.SIGKILL)
        nothing_lives_on(launched)
        assert launched.process.returncode == 1
    finally:
        clear(launched)


@pytest.mark.parametrize("attempt", range(TIMES))
@pytest.mark.parametrize("kind", LAUNCHERS)
def test_a_killed_policy_leaves_a_controller_that_holds(kind: str, attempt: int, body: Body, tmp_path: Path) -> None:
    needs(kind)
    launched = running_robot(kind, tmp_path, body)
    try:
        os.kill(launched.node("policy"), signal.SIGKILL)
        time.sleep(1.0)
        assert alive(launched.node("controller")) and launched.process.poll() is None
        launched.process.send_signal(signal.SIGINT)
        nothing_lives_on(launched)
        wait_until(lambda: body.last_velocity() == 0.0, 10.0, "the last command at rest")
        assert launched.process.returncode == 0
    finally:
        clear(launched)


@pytest.mark.parametrize("attempt", range(TIMES))
@pytest.mark.parametrize("kind", LAUNCHERS)
@pytest.mark.parametrize(
    ("file", "words", "message"),
    [
        ("policy", ["robot:=demoarm", "backend:=zmq"], "no robot is called 'demoarm'"),
        ("policy", ["robot:=demo_arm", "checkpoint:=/nowhere"], "there is no such checkpoint"),
        ("policy", ["robot:=demo_arm", "backend:=zmq", "keys:=/nowhere"], "keys:=/nowhere: there is no such folder"),
        ("policy", ["robot:=demo_arm"], "no checkpoint is given"),
        ("policy", ["robot:=demo_arm", "backend:=zmq", "transition:=soft"], "transition:=soft: this argument takes"),
        ("policy", ["robot:=demo_arm", "backend:=zmq", "seam:=blend"], "is called 'transition' now"),
        ("policy", ["robot:=demo_arm", "backend:=zmq", "log_level:=loud"], "log_level:=loud: this argument takes"),
        ("policy", ["robot:=demo_arm", "backend:=zmq", "chekpoint:=x"], "did you mean 'checkpoint'"),
        ("policy", ["robot:=demo_arm", "backend:=zmq", "params_file:=/nowhere.yaml"], "no such parameter file"),
        ("policy", ["robot:=demo_arm", "backend:=zmq", "namespace:=a-b"], "namespace:=a-b: write letters"),
        ("policy", ["robot:=demo_arm", "backend:=zmq", "server:=nonsense"], "server address 'nonsense': expected"),
        ("policy", ["robot:=demo_arm", "backend:=zmq", "server:=a", "server:=b"], "'server' is given twice"),
        ("record", ["robot:=demo_arm", "out_dir:=/dev/null/bags"], "/dev/null is a file, not a folder"),
        ("demo", ["robot:=ur5e"], "robot:=ur5e: this argument takes one of demo_arm"),
        ("demo", ["seed:=-1"], "seed:=-1: this argument takes a whole number from 0"),
    ],
)
def test_what_cannot_start_starts_nothing(
    kind: str, file: str, words: list[str], message: str, attempt: int, ros_domain: int, tmp_path: Path
) -> None:
    needs(kind)
    if file == "demo":
        pytest.importorskip("mujoco")
    launched = launch(kind, tmp_path, [*words, "view:=false"], file)
    try:
        wait_until(lambda: launched.process.poll() is not None, 60.0)
        time.sleep(0.2)
        printed = launched.printed.decode(errors="replace")
        assert launched.process.returncode == (2 if kind == "pi0 up" else 1), printed
        assert printed.count(message) == 1, printed
        assert "started" not in printed and "Traceback" not in printed, printed
    finally:
        clear(launched)
