"""The link over real processes: servers that die, stand still or talk nonsense, clients that are many, slow or mad."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import link_fuzz
import numpy as np
import policy_fixtures
import pytest
import zmq
from conftest import wait_until
from policy_fixtures import SECOND, free_port, observation, tiny_robot

from pi0_ros.base.memory import resident_bytes
from pi0_ros.inference.client import Client
from pi0_ros.inference.keys import create, read_client_keys
from pi0_ros.inference.metadata import BackendError, RobotMismatchError
from pi0_ros.inference.protocol import encode, infer_message
from pi0_ros.inference.refusals import LINES, REPORT_S

GENEROUS_S = 60.0
SERVER = Path(policy_fixtures.__file__)
asking = partial(policy_fixtures.asking, timeout_s=GENEROUS_S)


@contextmanager
def server(address: str, *words: object) -> Iterator[subprocess.Popen[str]]:
    """`policy_fixtures.py` as a process; waits until it listens."""
    command = [sys.executable, str(SERVER), address, *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline()
            yield process
        finally:
            process.kill()


def test_killed_in_the_midst_of_an_inference_it_is_noticed_at_once_and_found_again() -> None:
    """The broken connection is the news; nobody waits for the time limit."""
    address = f"tcp://127.0.0.1:{free_port()}"
    with asking(address) as one:
        with server(address, 0.0):
            one.infer(observation(tiny_robot()))
        with server(address, 600.0) as slow:
            killer = threading.Thread(target=kill_when_asked, args=(slow, address))
            killer.start()
            with pytest.raises(BackendError, match="broke before the answer came"):
                one.infer(observation(tiny_robot()))
            killer.join()
        with server(address, 0.0):
            assert one.infer(observation(tiny_robot(), 1, 7 * SECOND)).stamp_ns == 7 * SECOND


def kill_when_asked(process: subprocess.Popen[str], address: str) -> None:
    """Kill a server that has taken a question."""
    watcher = Client(address, GENEROUS_S)
    try:
        wait_until(lambda: watcher.status()["clients"] == 1, GENEROUS_S, "a question")
    finally:
        process.kill()
        watcher.close()


def test_a_server_that_stands_still_is_left_for_the_other_and_its_late_answer_is_dropped(tmp_path: Path) -> None:
    first, second = f"ipc://{tmp_path}/first", f"ipc://{tmp_path}/second"
    with server(first) as preferred, server(second), asking(first, second, timeout_s=4.0) as one:
        one.infer(observation(tiny_robot(), 0, SECOND))
        preferred.send_signal(signal.SIGSTOP)
        for number in range(2, 8):
            assert one.infer(observation(tiny_robot(), number, number * SECOND)).stamp_ns == number * SECOND
        assert one.link.server == second and "no answer within" in one.link.trouble
        preferred.send_signal(signal.SIGCONT)

        def back() -> bool:
            assert one.infer(observation(tiny_robot(), 9, 9 * SECOND)).stamp_ns == 9 * SECOND
            return one.link.server == first

        wait_until(back, GENEROUS_S, "the preferred server")


def test_another_version_is_refused_by_both_sides(tmp_path: Path) -> None:
    """A server of version 2, as another release would run it."""
    address = f"ipc://{tmp_path}/policy"
    code = "import runpy, sys, pi0_ros.inference.protocol as p; p.VERSION = 2; sys.argv = sys.argv[1:]\n"
    code += "runpy.run_path(sys.argv[0], run_name='__main__')"
    with subprocess.Popen([sys.executable, "-c", code, str(SERVER), address], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stdout.readline()
            with asking(address) as one, pytest.raises(BackendError, match="speaks protocol version 2, this side 3"):
                one.infer(observation(tiny_robot()))
        finally:
            process.kill()


def test_another_model_and_a_wrong_key_are_said_by_name(tmp_path: Path) -> None:
    create(tmp_path / "ours", ["robot"])
    create(tmp_path / "theirs", ["robot"])
    address = f"ipc://{tmp_path}/policy"
    seen = observation(tiny_robot())
    with server(address, "0", "--keys", tmp_path / "ours/server") as guarded:
        with asking(address, keys=read_client_keys(tmp_path / "ours/robot")) as one:
            one.infer(seen)
        for keys in (read_client_keys(tmp_path / "theirs/robot"), None):
            with (
                asking(address, timeout_s=1.0, keys=keys) as other,
                pytest.raises(BackendError, match="refused the keys|it wants keys"),
            ):
                other.infer(seen)
        guarded.kill()
        _, log = guarded.communicate()
    assert log.count("refused:") <= 2, log
    with asking(address) as one:
        with server(address):
            one.infer(seen)
        with server(address, "0", "--model", "pi05"):
            for _ in range(2):
                with pytest.raises(RobotMismatchError, match="model is 'pi05' now and 'pi0' before"):
                    one.infer(seen)


def test_twenty_clients_all_get_their_own_answers_in_turns(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/policy"
    counts: dict[int, int] = {}

    def ask(number: int) -> None:
        with asking(address) as one:
            for turn in range(5):
                stamp = (100 * number + turn + 1) * SECOND
                seen = replace(observation(tiny_robot(), 0, stamp), state=np.full(6, number / 100))
                chunk = one.infer(seen)
                assert chunk.stamp_ns == stamp and np.all(chunk.actions == number / 100)
                counts[number] = turn + 1

    with server(address, 0.02):
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert counts == dict.fromkeys(range(20), 5)


def test_a_slow_client_holds_nobody_up(tmp_path: Path) -> None:
    """One that sends a byte now and then, one that never reads its answers."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    with server(address) as process, socket.create_connection(("127.0.0.1", port)) as drip:
        context = zmq.Context()
        deaf = context.socket(zmq.DEALER)
        deaf.setsockopt(zmq.RCVHWM, 1)
        deaf.connect(address)
        question = encode(infer_message(observation(tiny_robot()), "stale", "deaf", 1))
        with asking(address) as one:
            before = resident_bytes(process.pid)
            for number in range(1, len(link_fuzz.GREETING)):
                drip.send(link_fuzz.GREETING[number - 1 : number])
                for _ in range(20):
                    deaf.send_multipart(question)
                assert one.infer(observation(tiny_robot(), 0, number * SECOND)).stamp_ns == number * SECOND
            assert resident_bytes(process.pid) - before < 150e6
        context.destroy(linger=0)


def test_a_gigabyte_that_is_only_announced_costs_nothing() -> None:
    """A ZMTP frame and a websocket frame that claim 1 GB, 4 GB and 2^63 bytes."""
    pytest.importorskip("websockets", minversion="13")
    port, web = free_port(), free_port()
    address = f"tcp://127.0.0.1:{port}"
    with server(address, "0", "--websocket", web) as process, asking(address) as one:
        one.infer(observation(tiny_robot()))
        before = resident_bytes(process.pid)
        for claimed in (1 << 30, 1 << 32, (1 << 63) - 1):
            for _ in range(3):
                with socket.create_connection(("127.0.0.1", port)) as liar:
                    link_fuzz.greet_zmtp(liar)
                    liar.sendall(b"\x02" + struct.pack(">Q", claimed) + bytes(1000))  # a long frame
                    assert link_fuzz.closed(liar, GENEROUS_S)
                with socket.create_connection(("127.0.0.1", web)) as liar:
                    link_fuzz.greet_websocket(liar)
                    liar.sendall(b"\x82\xff" + struct.pack(">Q", claimed) + bytes(1000))
                    assert link_fuzz.closed(liar, GENEROUS_S)
        assert resident_bytes(process.pid) - before < 50e6
        one.infer(observation(tiny_robot()))


def test_fuzzed_frames_on_both_sockets(tmp_path: Path) -> None:
    """The robot's questions go on; memory stays; the log says little. PI0_FUZZ frames, 3000 without it."""
    count = int(os.environ.get("PI0_FUZZ", "3000"))
    pytest.importorskip("websockets", minversion="13")
    web, address = free_port(), f"ipc://{tmp_path}/policy"
    with server(address, "0", "--websocket", web) as process, asking(address) as one:
        one.infer(observation(tiny_robot()))
        said: list[str] = []
        reading = threading.Thread(target=said.extend, args=(process.stderr,))  # a full pipe would stop the server
        reading.start()
        random, began = np.random.default_rng(0), time.monotonic()
        link_fuzz.flood_websocket(web, min(count, 2000), random)  # to its greatest memory
        link_fuzz.flood_zmq(address, min(count, 2000), random)
        before = resident_bytes(process.pid)
        for asked in range(1, count // 1000 + 1):
            link_fuzz.flood_websocket(web, 1000, random)
            link_fuzz.flood_zmq(address, 1000, random)
            assert one.infer(observation(tiny_robot(), 0, asked * SECOND)).stamp_ns == asked * SECOND
        assert process.poll() is None and resident_bytes(process.pid) - before < 100e6
        process.kill()
        reading.join()
    log = "".join(said)
    assert "Traceback" not in log, log[log.index("Traceback") :][:2000]
    windows = (time.monotonic() - began) / REPORT_S + 2  # in each of them both sockets may say `LINES` new things
    assert 2 <= len(log.splitlines()) <= 2 * (LINES + 1) * windows, log[:2000]


@pytest.mark.slow
def test_a_soak(tmp_path: Path) -> None:
    """Ten questions a second, for a minute or PI0_SOAK_S seconds: none is lost, memory is flat on both sides."""
    soak(tmp_path, float(os.environ.get("PI0_SOAK_S", "60")))


def soak(folder: Path, seconds: float) -> None:
    address = f"ipc://{folder}/policy"
    with server(address, 0.01) as process, asking(address, image_coding="jpeg") as one:
        marks: list[tuple[int, int]] = []
        began, number = time.monotonic(), 0
        seen = [observation(tiny_robot(), seed) for seed in range(20)]
        while time.monotonic() - began < seconds:
            number += 1
            chunk = one.infer(replace(seen[number % 20], stamp_ns=number * SECOND))
            assert chunk.stamp_ns == number * SECOND
            if number % 100 == 0:
                marks.append((resident_bytes(), resident_bytes(process.pid)))
            time.sleep(max(0.0, began + number * 0.1 - time.monotonic()))
        third = max(1, len(marks) // 3)
        for side in (0, 1):
            memory = np.array([mark[side] for mark in marks]) / 1e6
            assert memory[-third:].mean() - memory[third : 2 * third].mean() < 2.0, memory.tolist()
        print(f"{number} questions, {one.link}, memory MB {marks[0]} to {marks[-1]}")


@pytest.mark.slow
def test_a_link_that_is_cut_for_ten_seconds_heals(tmp_path: Path) -> None:
    """Between two network namespaces, where packets are lost from one moment to the next."""
    from slow_link import Conditions, SlowLink, possible

    if why := possible():
        pytest.skip(why)
    with SlowLink(Conditions(delay_ms=10, mbit=100)) as link:
        address = f"tcp://{link.address_b}:5555"
        there = link.inside("b", [sys.executable, str(SERVER), address])
        here = link.inside("a", [sys.executable, "-c", CUT_CLIENT, str(SERVER.parent), address])
        with (
            subprocess.Popen(there, stdout=subprocess.PIPE) as process,
            subprocess.Popen(here, stdout=subprocess.PIPE, text=True) as robot,
        ):
            try:
                assert robot.stdout is not None
                assert "answered" in robot.stdout.readline()
                link.cut(10.0)
                said = [robot.stdout.readline() for _ in range(2)]
            finally:
                process.kill()
                robot.kill()
    assert "no answer" in said[0] and "answered again" in said[1], said
    lost_s, up_ms, down_ms = map(float, said[1].split()[2:])
    assert lost_s > 9.0 and up_ms >= 10.0 and down_ms >= 10.0


CUT_CLIENT = """
import sys, time
sys.path.insert(0, sys.argv[1])
from policy_fixtures import SECOND, free_port, observation, tiny_robot
from pi0_ros.inference.client import Client
from pi0_ros.inference.failover import Failover
from pi0_ros.inference.metadata import BackendError
one = Failover([Client(sys.argv[2], 1.0, tiny_robot())], 1.0)
lost = None
answered = 0
while True:
    try:
        one.infer(observation(tiny_robot(), answered % 7, (answered + 1) * SECOND))
    except BackendError as error:
        if answered and lost is None:
            lost = time.monotonic()
            print(f"no answer: {error}", flush=True)
    else:
        answered += 1
        if answered == 5:
            print("answered", flush=True)
        if lost is not None:
            print("answered again", time.monotonic() - lost, one.link.up_ms, one.link.down_ms, flush=True)
            break
    time.sleep(0.1)
"""
