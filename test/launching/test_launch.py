"""The launch table with real nodes: through `pi0 up`, and through ROS's launch where it is installed."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.dds, pytest.mark.slow]
UP = [sys.executable, "-m", "pi0_ros.cli", "up"]


def test_up_starts_watches_and_stops_real_nodes(processes, tmp_path: Path, wait_until) -> None:
    words = ["record", "robot:=demo_arm", f"out_dir:={tmp_path / 'bags'}", "--log-dir", str(tmp_path / "logs")]
    processes.start("up", [*UP, *words])
    processes.wait_for_output("up", "[recorder]")
    processes.signal("up", signal.SIGINT)
    processes.wait_for_output("up", "recorder ended with exit status 0")
    wait_until(lambda: not processes.is_running("up"), 30)
    assert processes.returncode("up") == 0
    assert (tmp_path / "logs" / "recorder.log").read_text()


@pytest.mark.parametrize(
    "wrong", [("robot:=/nowhere/arm.yaml", "checkpoint:=/nowhere"), ("robot:=demo_arm", "checkpoint:=/nowhere")]
)
def test_up_looks_before_it_starts_anything(processes, wrong: tuple[str, str], wait_until) -> None:
    pytest.importorskip("torch")
    processes.start("up", [*UP, "policy", *wrong, "monitor:=false"])
    wait_until(lambda: not processes.is_running("up"), 60, lambda: processes.tail("up"))
    assert processes.returncode("up") == 2
    printed = processes.output("up")
    assert "/nowhere" in printed and "[controller]" not in printed


LAUNCH = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription, RegisterEventHandler, Shutdown, TimerAction
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import PythonLaunchDescriptionSource

def note(event, context):
    print("EXIT", event.process_name, event.returncode, flush=True)

file, *words = sys.argv[1:]
service = LaunchService(noninteractive=True)
service.include_launch_description(LaunchDescription([
    IncludeLaunchDescription(PythonLaunchDescriptionSource(file), launch_arguments=[w.split(":=", 1) for w in words]),
    RegisterEventHandler(OnProcessExit(on_exit=note)),
    TimerAction(period=8.0, actions=[Shutdown(reason="test over")])]))
sys.exit(service.run())
"""


@pytest.mark.parametrize("name", ["record", "demo"])
def test_launch_files_start_and_stop_real_nodes(processes, tmp_path: Path, wait_until, name: str) -> None:
    pytest.importorskip("launch_ros")
    index = pytest.importorskip("ament_index_python.packages")
    pytest.importorskip("mujoco")
    try:
        share = Path(index.get_package_share_directory("pi0_ros"))
    except (index.PackageNotFoundError, OSError):
        pytest.skip("pi0_ros is not in the ament index: build it with colcon and source the workspace")
    own = {"record": [f"out_dir:={tmp_path / 'bags'}"], "demo": ["checkpoint:=/nowhere"]}[name]
    words = ["robot:=demo_arm", "view:=false", *own]
    processes.start("launch", [sys.executable, "-c", LAUNCH, str(share / "launch" / f"{name}.launch.py"), *words])
    processes.wait_for_output("launch", "EXIT", 90)
    wait_until(lambda: not processes.is_running("launch"), 60, lambda: processes.tail("launch"))
    exits = [line.split() for line in processes.output("launch").splitlines() if line.startswith("EXIT")]
    started = {"record": {"recorder_node"}, "demo": {"sim_node", "controller_node", "policy_node", "monitor_node"}}[
        name
    ]
    assert {process.rsplit("-", 1)[0] for _, process, _ in exits} == started
    assert {code for _, process, code in exits if "policy" not in process} == {"0"}, processes.tail("launch", 40)
