"""Servers of one policy on several devices, each a process that listens on this machine only."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pi0_ros.inference.client import Client
from pi0_ros.inference.failover import Failover
from pi0_ros.inference.metadata import BackendError, Metadata
from pi0_ros.inference.pool import Pool
from pi0_ros.launching.lifeline import launcher_variable
from pi0_ros.launching.processes import Ended
from pi0_ros.launching.supervisor import VARIABLE

ANSWER_S = 10.0  # a worker's longest answer
ASK_S = 0.5
STOP_S = 30.0


class Workers:
    """`pi0 serve` once per device, from `start` to `stop`; `command(device, address)` is what to run."""

    def __init__(self, devices: Sequence[str], command: Callable[[str, str], Sequence[str]]) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="pi0_serve_"))  # for its owner only
        self.addresses = [f"ipc://{self._folder}/{number}.sock" for number in range(len(devices))]
        self._commands = {
            f"the worker on {device} ({number})": command(device, address)
            for number, (device, address) in enumerate(zip(devices, self.addresses))
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start them all."""
        environment = {key: value for key, value in os.environ.items() if key != VARIABLE}  # each watches its own
        for name, argv in self._commands.items():
            self._processes[name] = subprocess.Popen(
                argv, env={**environment, **launcher_variable()}, start_new_session=True
            )

    def ended(self) -> Ended | None:
        """One that is gone for good, if any: what dies and is started again by its supervisor is not."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                return Ended(name, process.returncode, required=True)
        return None

    def wait_until_ready(self, go_on: Callable[[], bool]) -> Metadata | None:
        """What they serve, once all have said so; None when one has ended or `go_on()` is false."""
        metadata: Metadata | None = None
        for address in self.addresses:
            client = Client(address, ASK_S)
            client.expected = metadata
            try:
                while client.metadata is None:
                    if self.ended() is not None or not go_on():
                        return None
                    try:
                        metadata = client.hello()
                    except BackendError:
                        time.sleep(0.1)
            finally:
                client.close()
        return metadata

    def pool(self, metadata: Metadata, each: int = 1) -> Pool:
        """All of them as one backend that `each` threads per device may ask; a worker that is gone is stood in for."""
        members = []
        for number in range(len(self.addresses)):
            order = self.addresses[number:] + self.addresses[:number]
            for _ in range(each):
                clients = [Client(address, ANSWER_S, image_coding="whole", connect_s=ASK_S) for address in order]
                for client in clients:
                    client.expected = metadata
                members.append(Failover(clients, ANSWER_S))
        return Pool(members, metadata)

    def stop(self) -> None:
        """End them all; one that does not is killed."""
        for process in self._processes.values():
            process.terminate()
        deadline = time.monotonic() + STOP_S
        for process in self._processes.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
