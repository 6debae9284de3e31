"""Fixtures of all tests: isolation of ROS tests from each other and from everything else on the machine and network.

Every test that speaks ROS takes `ros_domain` (its own ROS_DOMAIN_ID, this machine only) or `ros_context` (an rclpy
context in that domain), and starts processes through `processes`, which surely stops them and shows their output when
a test fails.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pi0_ros.launching.processes import ProcessGroup, ros_environment

DOMAINS = range(10, 100)  # 0 is people's default; above 101 Linux's ephemeral ports begin
os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core per test worker
if shutil.which("nvidia-smi") is None:  # read when triton is first imported
    os.environ.setdefault("TRITON_INTERPRET", "1")

try:
    import hypothesis
except ImportError:  # its tests will say so
    pass
else:
    # A busy machine is no failure. Everybody draws the same examples, unless PI0_EXAMPLES asks for a search.
    hypothesis.settings.register_profile("any machine", deadline=None, derandomize="PI0_EXAMPLES" not in os.environ)
    hypothesis.settings.load_profile("any machine")


# Where ROS's package manager installs this package these may be absent (see package.xml): their tests are skipped.
PIP_ONLY = {
    *("torch", "safetensors", "sentencepiece", "tokenizers", "tensorstore", "ml_dtypes", "transformers", "triton"),
    *("rosbags", "lz4", "av", "matplotlib", "pandas", "pyarrow", "ray", "mujoco", "viser", "yourdfpy", "hypothesis"),
    *("zmq", "msgpack", "tqdm", "cv2", "PIL", "catkin_pkg"),
}


def absent_library(name: str | None) -> str:
    """The library that the module `name` belongs to where it is one of those and not installed, else ""."""
    library = (name or "").split(".")[0]
    if library not in PIP_ONLY:
        return ""
    try:
        return "" if importlib.util.find_spec(library) else library
    except ModuleNotFoundError:
        return library


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    """A test file that imports what is not installed is skipped and says why."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.failed and isinstance(collector, pytest.Module):
        missing = re.findall(r"ModuleNotFoundError: No module named '([\w.]+)'", str(report.longrepr))
        if missing and (library := absent_library(missing[-1])):
            report.outcome, report.longrepr = "skipped", (str(collector.path), 0, f"Skipped: needs {library}")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """So is a test that meets it while it runs."""
    error = call.excinfo.value if call.excinfo is not None else None
    if isinstance(error, ModuleNotFoundError) and (library := absent_library(error.name)):
        skipped = pytest.skip.Exception(f"needs {library}").with_traceback(error.__traceback__)
        call.excinfo = pytest.ExceptionInfo.from_exception(skipped)
    yield


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, and say why. What starts processes may fail once: see CONTRIBUTING.md."""
    reruns = config.pluginmanager.hasplugin("rerunfailures")
    for item in items:
        if reruns and (item.get_closest_marker("dds") or item.get_closest_marker("slow")):
            item.add_marker(pytest.mark.flaky(reruns=1))
        if item.get_closest_marker("gpu") and not _has_gpu():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def _has_gpu() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())


@pytest.fixture
def ros_domain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A ROS_DOMAIN_ID that no other test of any run on this machine uses meanwhile, set in the environment with
    discovery on this machine only, quick discovery for images, and logs below `tmp_path`."""
    yield from own_domain(tmp_path, monkeypatch)


def own_domain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """What `ros_domain` does, for fixtures that live longer than one test."""
    pytest.importorskip("rclpy")
    domain, lock = _lock_a_domain()
    environment = ros_environment(localhost=True)
    for name in environment.keys() - os.environ.keys():
        monkeypatch.setenv(name, environment[name])
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path / "ros_log"))
    yield domain
    os.close(lock)


def _lock_a_domain() -> tuple[int, int]:
    """(domain, file descriptor whose closing frees it): the lock file makes it ours across processes and test runs.

    One in which somebody lives is left alone: programs that people started by hand, and nodes of earlier tests that
    their process has not let go of yet (rclpy frees a lifecycle node when garbage is collected, and until then the
    graph names it, without topics).
    """
    for _ in range(600):
        for domain in DOMAINS:
            path = Path(tempfile.gettempdir()) / f"pi0_ros_test_domain_{domain}.lock"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
            else:
                if not inhabited(domain):
                    return domain, descriptor
                os.close(descriptor)
        time.sleep(0.1)
    raise RuntimeError("no free ROS_DOMAIN_ID: 90 tests run at this moment?")


def inhabited(domain: int) -> bool:
    """Whether a process of this machine takes part in the domain: its ports are bound (RTPS 2.5, 9.6.2.3)."""
    ports = range(7400 + 250 * domain, 7400 + 250 * (domain + 1))
    for table in (Path("/proc/net/udp"), Path("/proc/net/udp6")):
        lines = table.read_text().splitlines()[1:] if table.exists() else []
        if any(int(line.split()[1].rpartition(":")[2], 16) in ports for line in lines):
            return True
    return False


@pytest.fixture
def ros_context(ros_domain: int) -> Iterator[object]:
    """An initialised `rclpy.Context` in the test's own domain: `Node(..., context=ros_context)`,
    `SingleThreadedExecutor(context=ros_context)`."""
    import rclpy

    context = rclpy.Context()
    rclpy.init(context=context, domain_id=ros_domain)
    yield context
    rclpy.try_shutdown(context=context)


@pytest.fixture
def executor(ros_context: Any) -> Iterator[Any]:
    """A `SingleThreadedExecutor` in the test's own domain; what was added to it is destroyed in the end."""
    from rclpy.executors import SingleThreadedExecutor

    executor = SingleThreadedExecutor(context=ros_context)
    yield executor
    for node in executor.get_nodes():
        node.destroy_node()
    executor.shutdown()


class Processes(ProcessGroup):
    """A ProcessGroup with the shortcuts that tests need."""

    def node(self, module: str, **parameters: object) -> int:
        """Start `python -m pi0_ros.nodes.<module>` with ROS parameters, under the module's name; returns its pid."""
        from pi0_ros.launching.launches import ros_arguments

        return self.start(module, [sys.executable, "-m", f"pi0_ros.nodes.{module}", *ros_arguments(parameters)])

    def wait_for_output(self, name: str, text: str, timeout_s: float = 60.0) -> str:
        """Wait until process `name` has printed `text`; its whole output, or AssertionError with its last lines."""
        printed_or_ended = lambda: text in self.output(name) or not self.is_running(name)  # noqa: E731
        wait_until(printed_or_ended, timeout_s, lambda: f"{name} printing {text!r}:\n{self.tail(name)}")
        assert text in self.output(name), f"{name} ended without printing {text!r}:\n{self.tail(name)}"
        return self.output(name)


@pytest.fixture
def processes(ros_domain: int, tmp_path: Path) -> Iterator[Processes]:
    """Starts processes in the test's ROS domain and stops all of them, by pid, whatever happens in the test;
    pytest shows their last lines when the test failed (captured standard output of the teardown)."""
    with Processes(log_dir=tmp_path / "processes") as group:
        yield group
        for name in group.names():
            print(f"--- {name} ---\n{group.tail(name, 30)}")


def wait_until(
    condition: Callable[[], object], timeout_s: float = 30.0, what: Callable[[], str] | str = "condition"
) -> None:
    """Poll `condition` until it is true; AssertionError naming `what` after `timeout_s` (be generous)."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout_s:g} s: {what() if callable(what) else what}")
        time.sleep(0.05)


@pytest.fixture(name="wait_until")
def _wait_until() -> Callable[..., None]:
    """`wait_until(condition, timeout_s, what)` for tests that do not import from conftest."""
    return wait_until


@pytest.fixture
def message_package(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes a package of message types importable, here and in processes: ROS's own, or built of its definitions."""
    import built_types

    def make(package: str) -> None:
        if folder := built_types.built(package):
            monkeypatch.syspath_prepend(folder)
            monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (folder, os.environ.get("PYTHONPATH", "")))))

    return make


@pytest.fixture
def control_msgs(message_package: Callable[[str], None]) -> None:
    """control_msgs can be imported."""
    message_package("control_msgs")
