"""`pi0 serve` as people run it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from conftest import wait_until
from launched import alive, children
from policy_fixtures import SECOND, observation, tiny_checkpoint, tiny_robot

from pi0_ros.checkpoints.checkpoint import load_checkpoint
from pi0_ros.cli import main as cli
from pi0_ros.inference.client import Client
from pi0_ros.inference.metadata import BackendError
from pi0_ros.observation.streams import Observation
from pi0_ros.policy.policy import Policy

LIMIT_S = 120.0  # a process with torch takes its time to start on a busy machine


def test_serve_and_stop(tmp_path: Path) -> None:
    """In another process: the same actions as here; SIGTERM ends it cleanly."""
    folder = tiny_checkpoint(tmp_path / "tiny")
    address = f"ipc://{tmp_path}/policy.sock"
    words = [
        "serve",
        "--checkpoint",
        str(folder),
        "--bind",
        address,
        "--device",
        "cpu",
        "--seed",
        "3",
        "--threads",
        "1",
    ]
    command = [sys.executable, "-m", "pi0_ros.cli.main", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            one = Client(address, timeout_s=LIMIT_S, robot=tiny_robot())
            seen = observation(tiny_robot())
            expected = Policy(load_checkpoint(folder), seed=3).infer(seen).actions
            np.testing.assert_array_equal(one.infer(seen).actions, expected)
            one.close()
            server.send_signal(signal.SIGTERM)
            _, log = server.communicate(timeout=LIMIT_S)
        finally:
            server.kill()
    assert server.returncode == 0
    assert f"serving {folder} (pi0, robot 'demo_arm', 5 actions at 20 Hz) on {address}" in log
    assert "stopped after 1 chunks" in log


def test_serve_speaks_openpi_too(tmp_path: Path) -> None:
    pytest.importorskip("websockets", minversion="13")
    from pi0_ros.inference.openpi_client import OpenpiClient

    folder, token = tiny_checkpoint(tmp_path / "tiny"), tmp_path / "token"
    token.write_text("correct-horse-battery\n")
    words = [
        "--checkpoint",
        str(folder),
        "--bind",
        f"ipc://{tmp_path}/policy.sock",
        "--device",
        "cpu",
        "--threads",
        "1",
    ]
    words += ["--websocket", "0", "--token-file", str(token)]
    command = [sys.executable, "-m", "pi0_ros.cli.main", "serve", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            address = next(line.split()[-1] for line in server.stderr if "openpi's clients" in line)
            one = OpenpiClient(address, tiny_robot(), timeout_s=LIMIT_S, token=token.read_text().strip())
            assert one.infer(observation(tiny_robot())).actions.shape == (5, 6)
            server.send_signal(signal.SIGTERM)  # with the client still there
            _, log = server.communicate(timeout=LIMIT_S)
        finally:
            server.kill()
    assert server.returncode == 0 and "stopped after 1 chunks" in log


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--token-file", "x"], "--token-file belongs to --websocket"),
        (["--bind", "tcp://0.0.0.0:5555"], "is open to the network: give --keys"),
        (["--keys", "nowhere"], "nowhere/server.key_secret: no such file"),
        (["--websocket", "gpu"], "expected a port or HOST:PORT"),
        (["--websocket", "0.0.0.0:8000"], "is open to the network: give a --token-file, or say --insecure"),
        (["--websocket", "8000", "--tls-cert", "a.pem"], "belong together"),
        (["--websocket", "8000", "--tls-cert", "a.pem", "--tls-key", "b.pem"], "a.pem"),
        (["--websocket", "8000", "--token-file", "no_file"], "no_file"),
    ],
)
def test_a_wrong_websocket_is_refused_before_anything_is_loaded(words, message, capsys) -> None:
    pytest.importorskip("websockets", minversion="13")
    assert cli.main(["serve", "--checkpoint", "never_read", *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--metrics", "gpu"], "--metrics gpu: expected a port or HOST:PORT"),
        (["--device", "cuda:0,"], "expected one, or several by name"),
        (["--device", "auto,cpu"], "expected one, or several by name"),
        (["--status", "127.0.0.1:9"], "not reachable within"),
        (["--status", "nonsense"], "expected something like tcp://host:5555"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_loaded(words, message, capsys, monkeypatch) -> None:
    monkeypatch.setattr("pi0_ros.cli.serve_status.TIMEOUT_S", 0.3)
    assert cli.main(["serve", "--checkpoint", "never_read", *words]) in (1, 2)
    assert message in capsys.readouterr().err


def test_without_a_checkpoint_the_options_that_do_without_are_named(capsys) -> None:
    assert cli.main(["serve"]) == 2
    assert "give --checkpoint FOLDER, or --status HOST:PORT" in capsys.readouterr().err


def test_a_batch_whose_answers_would_differ_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tiny_checkpoint(tmp_path / "tiny")
    words = ["--bind", f"ipc://{tmp_path}/policy.sock", "--device", "cpu", "--threads", "1", "--batch", "3"]
    assert cli.main(["serve", "--checkpoint", str(folder), *words, "--dtype", "bfloat16"]) == 2
    assert "--batch 3: answers would differ from single ones by" in capfd.readouterr().err


def test_several_devices_answer_on_one_socket_and_one_of_them_may_die(tmp_path: Path) -> None:
    """The same answers as one; numbers for people and for Prometheus; a killed worker is stood in for."""
    folder, address = tiny_checkpoint(tmp_path / "tiny"), f"ipc://{tmp_path}/policy.sock"
    words = ["--checkpoint", str(folder), "--bind", address, "--device", "cpu,cpu", "--threads", "1", "--seed", "3"]
    command = [sys.executable, "-m", "pi0_ros.cli", "serve", *words, "--batch", "2", "--metrics", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            numbers = next(line.split()[-1] for line in server.stderr if "numbers are on" in line)
            one = Client(address, timeout_s=LIMIT_S, robot=tiny_robot())
            policy = Policy(load_checkpoint(folder), seed=3)

            def check(number: int) -> None:
                seen = observation(tiny_robot(), number, (number + 1) * SECOND)
                np.testing.assert_allclose(one.infer(seen).actions, policy.infer(seen).actions, atol=1e-5)

            for number in range(4):
                check(number)
            text = urllib.request.urlopen(numbers, timeout=LIMIT_S).read().decode()
            assert "pi0_chunks_total 4" in text and 'model="pi0",robot="demo_arm"' in text
            assert urllib.request.urlopen(numbers.replace("metrics", "healthz"), timeout=LIMIT_S).read() == b"OK\n"
            said = subprocess.run([*command[:4], "--status", address], capture_output=True, text=True, timeout=LIMIT_S)
            assert said.returncode == 0 and "ready" in said.stdout and "4 in " in said.stdout, said
            assert said.stdout.count("\n") == 8  # every line is there

            everyone = list(children(server.pid))
            assert len(everyone) == 5  # who owns the socket, and for each device a worker with who watches it
            (worker,) = (pid for pid in everyone if "0.sock" in children(server.pid)[pid] and not children(pid))
            os.kill(worker, signal.SIGKILL)
            for number in range(4, 10):
                check(number)
            everyone += children(server.pid)
            server.send_signal(signal.SIGTERM)
            _, log = server.communicate(timeout=LIMIT_S)
        finally:
            server.kill()
    one.close()
    assert server.returncode == 0 and "the worker was killed by SIGKILL" in log
    assert not any(map(alive, everyone))


def test_a_bad_checkpoint_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "--checkpoint", str(tmp_path / "nothing")]) == 2
    assert "nothing: there is no such checkpoint" in capfd.readouterr().err


def test_a_worker_that_dies_is_replaced_and_that_is_said(tmp_path: Path) -> None:
    """Killed, it answers again; told to end, it ends and leaves nobody."""
    folder, address = tiny_checkpoint(tmp_path / "tiny"), f"ipc://{tmp_path}/policy.sock"
    words = ["serve", "--checkpoint", str(folder), "--bind", address, "--device", "cpu", "--threads", "1"]
    with subprocess.Popen([sys.executable, "-m", "pi0_ros.cli", *words], stderr=subprocess.PIPE, text=True) as server:
        try:
            seen, workers = observation(tiny_robot()), []
            for _ in range(2):
                wait_until(lambda: answers(address, seen), LIMIT_S, "an answer")
                workers.append(*children(server.pid))
                os.kill(workers[-1], signal.SIGKILL) if len(workers) < 2 else server.send_signal(signal.SIGTERM)
                wait_until(lambda: not alive(workers[-1]), LIMIT_S, "the worker's end")
            _, log = server.communicate(timeout=LIMIT_S)
        finally:
            server.kill()
    assert server.returncode == 0 and len(set(workers)) == 2 and not any(map(alive, workers))
    assert log.count("the worker was killed by SIGKILL after") == 1 and "starting another in 1 s" in log


def test_a_worker_ends_with_its_supervisor(tmp_path: Path) -> None:
    folder, address = tiny_checkpoint(tmp_path / "tiny"), f"ipc://{tmp_path}/policy.sock"
    words = ["serve", "--checkpoint", str(folder), "--bind", address, "--device", "cpu", "--threads", "1"]
    with subprocess.Popen([sys.executable, "-m", "pi0_ros.cli", *words], stderr=subprocess.DEVNULL) as server:
        wait_until(lambda: answers(address, observation(tiny_robot())), LIMIT_S, "an answer")
        (worker,) = children(server.pid)
        server.kill()
    wait_until(lambda: not alive(worker), LIMIT_S, "the worker's end")


def answers(address: str, seen: Observation) -> bool:
    """Whether somebody infers there."""
    one = Client(address, timeout_s=1.0)
    try:
        return len(one.infer(seen).actions) > 0
    except BackendError:
        return False
    finally:
        one.close()
