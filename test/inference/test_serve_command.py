"""`pi0 serve` as people run it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from policy_fixtures import observation, tiny_checkpoint, tiny_robot

from pi0_ros.checkpoints.checkpoint import load_checkpoint
from pi0_ros.cli import main as cli
from pi0_ros.inference.client import Client
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


def test_a_bad_checkpoint_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "--checkpoint", str(tmp_path / "nothing")]) == 2
    assert "nothing: there is no such checkpoint" in capsys.readouterr().err
