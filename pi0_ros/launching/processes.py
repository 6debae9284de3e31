"""Start, watch and stop processes: their output in files and on request, signals in order, no child left behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from pi0_ros.base.errors import USER_ERROR
from pi0_ros.base.middleware import PROFILES, domain_of, profiles_variable
from pi0_ros.base.share import config_path
from pi0_ros.launching.lifeline import launcher_variable

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
# What stops a launcher or a node in order: every signal that would end a process and can be caught, but those that a
# process brings upon itself by a bug. Power that fails and a limit of CPU time that is reached are among them.
_ASKED, _MET = ("INT", "TERM", "HUP", "QUIT", "USR1", "USR2"), ("ABRT", "ALRM", "VTALRM", "PROF", "IO", "PWR", "XCPU")
_NAMES = [f"SIG{name}" for name in (*_ASKED, *_MET, "STKFLT")]
ENDINGS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
# Ctrl-Z too: whoever stops a launcher sees a prompt and takes the robot to be stopped.
ENDINGS_OF_ROBOTS = (*ENDINGS, signal.SIGTSTP)
REFUSED = USER_ERROR  # exit status of a node that did not start


class Interrupted(KeyboardInterrupt):
    """A signal that ends this process came; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextlib.contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Inside this block (of the main thread) each signal that ends a process raises `Interrupted`, so that what was
    started is stopped in order. Later ones are ignored: that takes seconds, and ends by itself. `nohup`'s ignored
    SIGHUP stays ignored."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        for other in before:
            signal.signal(other, signal.SIG_IGN)
        raise Interrupted(number)

    before = {number: signal.getsignal(number) for number in ENDINGS}
    if before[signal.SIGHUP] == signal.SIG_IGN:
        del before[signal.SIGHUP]
    try:
        for number in before:
            signal.signal(number, interrupt)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ros_environment(localhost: bool = False, domain_id: int | None = None) -> dict[str, str]:
    """This process's environment with our Fast DDS profile (unless the user chose one) and unbuffered Python output.

    `localhost` keeps discovery on this machine; `domain_id` sets ROS_DOMAIN_ID.
    """
    environment = dict(os.environ)
    environment.setdefault(profiles_variable(environment), str(config_path(PROFILES)))
    environment.setdefault("PYTHONUNBUFFERED", "1")
    if localhost:
        environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        if environment.get("ROS_DISTRO") == "humble":
            environment["ROS_LOCALHOST_ONLY"] = "1"  # newer distributions warn about it
    if domain_id is not None:
        environment["ROS_DOMAIN_ID"] = str(domain_id)
    return environment


def private_domain() -> int:
    """The ROS_DOMAIN_ID that the user chose, else one of this process's own, so that a demo disturbs no robot."""
    return domain_of(os.environ) if os.environ.get("ROS_DOMAIN_ID") else 50 + os.getpid() % 50


@dataclass(frozen=True)
class Ended:
    """A process that ended: `returncode` as in subprocess (negative: killed by that signal)."""

    name: str
    returncode: int
    required: bool

    def __str__(self) -> str:
        if self.returncode < 0:
            return f"{self.name} was killed by {signal.Signals(-self.returncode).name}"
        return f"{self.name} ended with exit status {self.returncode}"


@dataclass
class _Child:
    process: subprocess.Popen[bytes]
    log: Path
    required: bool
    reported: bool = False
    shown: int = field(default=0)  # bytes of the log already given out by new_lines()


class ProcessGroup:
    """Processes that live and end together. Their output goes to one log file each; use it as a context manager.

    Each child is in a session of its own, so a terminal's Ctrl-C reaches this process only, which then stops them in
    order. Where `setpriv` is at hand the kernel also ends them should this process be killed: call `start` from
    the main thread, because the kernel watches the thread that started them.
    """

    def __init__(self, log_dir: Path | None = None, grace_s: float = 5.0) -> None:
        self.log_dir = Path(tempfile.mkdtemp(prefix="pi0_")) if log_dir is None else Path(log_dir)
        self.grace_s = grace_s
        self._children: dict[str, _Child] = {}

    def __enter__(self) -> ProcessGroup:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(
        self,
        name: str,
        argv: Sequence[str],
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
        required: bool = True,
    ) -> int:
        """Start `argv` as `name` and return its pid; a name may be started again when its process has ended.

        Raises ValueError when `name` still runs, OSError when the program cannot be started.
        """
        if self.is_running(name):
            raise ValueError(f"process {name!r} is already running: stop it first")
        path = self.log_dir / f"{name}.log" if log is None else Path(log)
        path.parent.mkdir(parents=True, exist_ok=True)
        setpriv = shutil.which("setpriv")
        with path.open("ab") as output:
            shown = output.tell()
            process = subprocess.Popen(
                [setpriv, "--pdeathsig", "TERM", "--", *argv] if setpriv else list(argv),
                env={**(env if env is not None else ros_environment()), **launcher_variable()},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._children[name] = _Child(process, path, required, shown=shown)
        return process.pid

    def names(self) -> list[str]:
        """Every name ever started, in order."""
        return list(self._children)

    def is_running(self, name: str) -> bool:
        """True while the process of that name lives."""
        return name in self._children and self._children[name].process.poll() is None

    def pid(self, name: str) -> int:
        """Process id of `name` (the last one started under it)."""
        return self._children[name].process.pid

    def returncode(self, name: str) -> int | None:
        """Exit status as in subprocess, None while it runs."""
        return self._children[name].process.poll()

    def poll(self) -> list[Ended]:
        """The processes that ended since the last call."""
        ended = []
        for name, child in self._children.items():
            returncode = child.process.poll()
            if returncode is not None and not child.reported:
                child.reported = True
                ended.append(Ended(name, returncode, child.required))
        return ended

    def output(self, name: str) -> str:
        """Everything that `name` has printed."""
        return self._children[name].log.read_text(encoding="utf-8", errors="replace")

    def tail(self, name: str, lines: int = 15) -> str:
        """The last lines that `name` has printed."""
        return "\n".join(self.output(name).splitlines()[-lines:])

    def new_lines(self) -> list[tuple[str, str]]:
        """(name, line) for every complete line printed since the last call."""
        found = []
        for name, child in self._children.items():
            with child.log.open("rb") as file:
                file.seek(child.shown)
                complete, newline, _ = file.read().rpartition(b"\n")
            if newline:
                child.shown += len(complete) + 1
                found += [(name, line) for line in complete.decode("utf-8", "replace").splitlines()]
        return found

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a process if it still runs."""
        if self.is_running(name):
            self._children[name].process.send_signal(number)

    def stop(self, *names: str) -> list[Ended]:
        """Stop the named processes (default: all): SIGINT, SIGTERM after `grace_s`, SIGKILL after as long again.

        Returns those that needed stopping, with their exit status. None is left running.
        """
        running = [name for name in names or self._children if self.is_running(name)]
        for number in STOP_SIGNALS:
            for name in running:
                if number == signal.SIGKILL and self.is_running(name):
                    os.killpg(self.pid(name), signal.SIGKILL)  # its own session: its children go with it
                self.signal(name, number)
            end = time.monotonic() + self.grace_s
            while any(self.is_running(name) for name in running) and time.monotonic() < end:
                time.sleep(0.02)
        stopped = [self._children[name] for name in running]
        for child in stopped:
            child.process.wait()
            child.reported = True
        return [Ended(n, c.process.returncode, c.required) for n, c in zip(running, stopped)]
