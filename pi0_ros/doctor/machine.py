"""This machine: ROS, torch, GPU, memory, image transport. torch is looked at, not imported: that takes seconds."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pi0_ros.base.findings import Finding, error, note, ok, warning
from pi0_ros.base.middleware import PROFILES, profiles_variable
from pi0_ros.base.share import config_path
from pi0_ros.robot import Robot

ASK_S = 3.0  # nvidia-smi answers within
BUSY = 2.0  # processes that want each core: what needs its time does not get it
WAITING = 0.2  # of the time in which something waits for a core
PRESSURE = Path("/proc/pressure/cpu")
OF_LOAD = ("rate", "age", "latency", "image transport", "machine", "observation")  # what a busy machine explains
TODO = "end what else runs here, then look again"
SMALL_BYTES = 1 << 30  # weights up to this run on a CPU


@dataclass(frozen=True)
class Memory:
    """Where weights will lie."""

    where: str
    total_bytes: int
    free_bytes: int


def check_torch(gpu: Memory | None, weights_bytes: int = 0) -> Finding:
    """torch and its GPU; only the policy process needs them, and small weights need no GPU."""
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        todo = "only the policy process needs it: pip install torch there, or backend:=zmq"
        return warning("torch", "not installed", todo)
    if gpu is not None and _cuda_build():
        return ok("torch", f"{version}, {gpu.where}, {gpu.total_bytes / 2**30:.0f} GiB")
    text = f"{version}, no GPU" if gpu is None else f"{version} is built without CUDA, though there is {gpu.where}"
    todo = "enough for the demo's small model; a full pi0 needs a GPU, here or behind `pi0 serve` and backend:=zmq"
    return (warning if weights_bytes > SMALL_BYTES else note)("torch", text, todo)


def gpu_memory() -> Memory | None:
    """The first NVIDIA GPU, as its driver tells; None where there is none."""
    if (program := shutil.which("nvidia-smi")) is None:
        return None
    query = [program, "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, timeout=ASK_S, check=True).stdout.splitlines()
        name, total, free = (part.strip() for part in lines[0].rsplit(",", 2))
        return Memory(name, int(total) << 20, int(free) << 20)
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def host_memory() -> Memory:
    """This machine's memory; zeros where /proc does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return Memory("this machine", 0, 0)
    told = {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines if line.endswith("kB")}
    return Memory("this machine", told.get("MemTotal", 0), told.get("MemAvailable", 0))


def check_ros(has_ros: bool) -> Finding:
    """rclpy is importable, and where it comes from."""
    if not has_ros:
        return error(
            "ROS 2",
            "rclpy cannot be imported",
            "source /opt/ros/<distro>/setup.bash, or use .venv of `make`",
        )
    try:
        source = f"wheels, rclpy {importlib.metadata.version('ros-rclpy')}"
    except importlib.metadata.PackageNotFoundError:
        source = os.environ.get("ROS_DISTRO", "rclpy, distribution unknown")
    domain = os.environ.get("ROS_DOMAIN_ID", "0")
    rmw = os.environ.get("RMW_IMPLEMENTATION", "the default middleware")
    return ok("ROS 2", f"{source}; ROS_DOMAIN_ID {domain}; {rmw}")


def check_profile(robot: Robot, environment: Mapping[str, str]) -> Finding:
    """Fast DDS's shared memory is large enough for raw images, as far as the environment tells."""
    raw = [camera.topic for camera in robot.cameras if camera.type == "sensor_msgs/msg/Image"]
    if environment.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp") != "rmw_fastrtps_cpp":
        return ok("image transport", "not Fast DDS: its profile is not needed")
    variable = profiles_variable(dict(environment))
    file = environment.get(variable, "")
    if file and not Path(file).is_file():
        return error("image transport", f"{variable}={file}: no such file", "correct or unset the variable")
    if file or not raw:
        return ok("image transport", f"{variable}={file}" if file else "no raw images")
    return warning(
        "image transport",
        f"{variable} is not set here: raw images from this shell lose fragments",
        f"for every camera driver: export {variable}={config_path(PROFILES)}",
    )


def _cuda_build() -> bool:
    """Whether the installed torch was built with CUDA, read from its version file."""
    spec = importlib.util.find_spec("torch")
    folder = Path(spec.origin).parent if spec is not None and spec.origin else Path()
    try:
        lines = (folder / "version.py").read_text().splitlines()
    except OSError:
        return False
    return any(line.startswith("cuda") and "None" not in line for line in lines)


@dataclass(frozen=True)
class Load:
    """How busy this machine is."""

    per_core: float = 0.0  # processes that wanted each core during the last minute, on average
    waiting: float = 0.0  # share of the time in which something waited for a core

    @property
    def busy(self) -> bool:
        """Whether what needs its time may not get it."""
        return self.per_core >= BUSY or self.waiting >= WAITING

    def __str__(self) -> str:
        if self.per_core >= BUSY:
            return f"{self.per_core:.0f} processes want each core"
        return f"in {100 * self.waiting:.0f} % of the time something waits for a core"


def load_now(waited_share: float = 0.0) -> Load:
    """The load; `waited_share` was seen while something else was looked at. Zeros where the system does not tell."""
    try:
        cores = len(os.sched_getaffinity(0))
        per_core = os.getloadavg()[0] / max(1, cores)
    except (OSError, AttributeError):
        per_core = 0.0
    return Load(per_core, max(waited_share, _pressure("avg60") / 100.0))


def waited_s() -> float:
    """Seconds since the machine started in which something waited for a core; 0 where the system does not tell."""
    return _pressure("total") * 1e-6


def _pressure(name: str) -> float:
    """A value of the first line of Linux's pressure stall information of processors."""
    try:
        words = PRESSURE.read_text(encoding="ascii").splitlines()[0].split()
        return float(dict(word.split("=", 1) for word in words[1:])[name])
    except (OSError, ValueError, KeyError, IndexError):
        return 0.0


def overloaded(findings: Sequence[Finding], load: Load) -> list[Finding]:
    """The findings; on a busy machine one line in the place of all that this explains.

    It is an error where one of them was: nothing can run like this, whatever the cause.
    """
    explained = [f for f in findings if f.severity in ("error", "warning") and f.check in OF_LOAD]
    explained = [f for f in explained if f.severity == "warning" or f.check != "image transport"]
    if not load.busy or not explained:
        return list(findings)
    seen = "; ".join(finding.what for finding in explained if finding.check != "image transport")
    what = f"{load}, so rates and latencies say nothing of the set-up"
    severe = any(finding.severity == "error" for finding in explained)
    cause = (error if severe else warning)("machine", f"{what}: {seen}" if seen else what, TODO)
    first = findings.index(explained[0])
    rest = [finding for finding in findings if finding not in explained]
    return [*rest[:first], cause, *rest[first:]]
