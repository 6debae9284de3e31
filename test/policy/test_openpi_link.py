"""openpi's websocket both ways, over real sockets: openpi-client asks us, we ask an openpi server."""

from __future__ import annotations

import logging
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from policy_fixtures import TOKENIZER, HeldPolicy, observation, tiny_checkpoint, tiny_robot
from reference import ROOT as REFERENCE
from reference import case

pytest.importorskip("websockets", minversion="13")
from websockets.sync.client import connect
from websockets.sync.server import serve

from pi0_ros.checkpoints.checkpoint import load_checkpoint
from pi0_ros.inference.metadata import BackendError
from pi0_ros.inference.openpi import pack, unpack, write_observation
from pi0_ros.inference.openpi_client import OpenpiClient
from pi0_ros.inference.openpi_server import OpenpiServer
from pi0_ros.inference.options import PolicyOptions
from pi0_ros.inference.prefix import ActionPrefix, RtcSettings
from pi0_ros.observation.images import resize_with_pad
from pi0_ros.policy.backends import make_backend
from pi0_ros.policy.policy import Policy, load_policy
from pi0_ros.robot import load_robot

TINY = {"vision": {"num_heads": 4}, "action_horizon": 7}
LOOPBACK = "127.0.0.1"
TOKEN = "correct-horse-battery"


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    folder = tiny_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")
    return load_policy(PolicyOptions(checkpoint=str(folder), device="cpu", seed=4))


@contextmanager
def serving(policy: Any, **options: Any) -> Iterator[OpenpiServer]:
    server = OpenpiServer(policy, LOOPBACK, 0, **options)
    server.start()
    try:
        yield server
    finally:
        server.close()


def openpis_client(server: OpenpiServer, **options: Any) -> Any:
    module = pytest.importorskip("openpi_client.websocket_client_policy")
    return module.WebsocketClientPolicy(LOOPBACK, server.port, **options)


def asked_by_openpis_client(kind: str, run: str, robot: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """(our answer to a recorded observation of openpi, sent by its own client; openpi's answer), [H, A] each."""
    data, meta = case(f"{kind}/{run}")
    folder = REFERENCE / kind / "checkpoint"
    model = Policy(load_checkpoint(folder, robot=load_robot(robot), tokenizer=TOKENIZER, config=TINY))
    monkeypatch.setattr(model, "_noise", lambda stamp_ns: data["noise"][None])
    seen = {key.removeprefix("obs|"): value for key, value in data.items() if key.startswith("obs|")}
    with serving(model) as server:
        return openpis_client(server).infer({**seen, "prompt": meta["prompt"]})["actions"], data["out_actions"]


def test_openpis_client_gets_what_openpi_answers_droid(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's own keys, units and speeds; openpi's actions but for the clip and the threshold of its client."""
    found, answered = asked_by_openpis_client("pi05", "e2e_droid", "franka_droid", monkeypatch)
    expected = np.clip(answered, -1, 1)
    expected[:, 7] = answered[:, 7] > 0.5
    np.testing.assert_allclose(found, expected, atol=3e-3)  # speeds: differences of positions over 0.2


def test_openpis_client_gets_what_openpi_answers_libero(monkeypatch: pytest.MonkeyPatch) -> None:
    found, answered = asked_by_openpis_client("pi0", "e2e_libero", "libero_pi0", monkeypatch)
    np.testing.assert_allclose(found, answered, atol=5e-4)


def test_many_questions_of_openpis_client_equal_local_inference(policy: Policy) -> None:
    robot = policy.metadata.robot
    with serving(policy) as server:
        client = openpis_client(server)
        assert client.get_server_metadata()["action_horizon"] == policy.metadata.horizon
        for seed in range(50):
            seen = observation(robot, seed, stamp_ns=seed)
            answer = client.infer({**write_observation(seen, robot), "stamp_ns": seed})
            np.testing.assert_allclose(answer["actions"], policy.infer(seen).actions, atol=1e-9)
            assert answer["server_timing"]["infer_ms"] > 0 and answer["policy_timing"]["infer_ms"] > 0
        assert server.answered == 50 and ("prev_total_ms" in answer["server_timing"])


def test_clients_in_threads_each_get_their_own_answer(policy: Policy) -> None:
    robot, wrong = policy.metadata.robot, []

    def ask(first: int) -> None:
        with connect(server.address, compression=None, max_size=None) as connection:
            connection.recv()
            for seed in range(first, first + 10):
                content = write_observation(observation(robot, seed), robot) | {"stamp_ns": seed}
                connection.send(pack(content))
                found = unpack(connection.recv())["actions"]
                if not np.allclose(found, policy.infer(observation(robot, seed, stamp_ns=seed)).actions, atol=1e-9):
                    wrong.append(seed)

    with serving(policy) as server:
        threads = [threading.Thread(target=ask, args=(100 * n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120.0)
            assert not thread.is_alive()
    assert not wrong


def test_what_is_wrong_is_said_and_the_connection_lives_on(policy: Policy) -> None:
    robot = policy.metadata.robot
    good = write_observation(observation(robot), robot)
    with serving(policy) as server, connect(server.address, max_size=None) as connection:
        connection.recv()
        for bad in (b"\xc1", "text", pack({**good, "observation/state": np.zeros(2)}), pack([1, 2])):
            connection.send(bad)
            assert isinstance(connection.recv(20.0), str)
        connection.send(pack(good))
        assert unpack(connection.recv(20.0))["actions"].shape == (5, 6)
        assert server.refused == 4


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Api-Key wrong"}, 401),
        ({"Authorization": TOKEN}, 401),
        ({"Authorization": f"Api-Key {TOKEN}"}, 0),
        ({"Authorization": f"Bearer {TOKEN}"}, 0),
    ],
)
def test_a_token_is_asked_for(headers: dict[str, str], status: int) -> None:
    from websockets.exceptions import InvalidStatus

    with serving(HeldPolicy(), token=TOKEN) as server:
        if status == 0:
            with connect(server.address, additional_headers=headers) as connection:
                assert unpack(connection.recv(20.0))["server"] == "pi0_ros"
            return
        with pytest.raises(InvalidStatus) as refused:
            connect(server.address, additional_headers=headers)
        assert refused.value.response.status_code == status


def test_pages_of_a_browser_are_refused() -> None:
    from websockets.exceptions import InvalidStatus

    with serving(HeldPolicy()) as server, pytest.raises(InvalidStatus) as refused:
        connect(server.address, origin="http://evil.example")
    assert refused.value.response.status_code == 403


def test_health_is_answered_without_a_token() -> None:
    with serving(HeldPolicy(), token=TOKEN) as server:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{server.port}/healthz", timeout=20) as answer:
            assert answer.read() == b"OK\n"
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"http://{LOOPBACK}:{server.port}/", timeout=20)


def test_noise_on_the_socket_changes_nothing(policy: Policy) -> None:
    random = np.random.default_rng(0)
    with serving(policy) as server:
        for _ in range(50):
            with socket.create_connection((LOOPBACK, server.port), timeout=20) as raw:
                raw.sendall(random.bytes(200))
        client = OpenpiClient(server.address, policy.metadata.robot, timeout_s=20.0)
        assert client.infer(observation(policy.metadata.robot)).actions.shape == (5, 6)
        client.close()


# ---- the robot's side


def small(seen: Any) -> Any:
    """The observation as the client sends its pictures."""
    return replace(seen, images={name: resize_with_pad(image, 224, 224) for name, image in seen.images.items()})


def test_our_client_gets_local_inference(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    robot = policy.metadata.robot
    monkeypatch.setattr("pi0_ros.inference.openpi_server.time.time_ns", lambda: 7)
    with serving(policy, token=TOKEN) as server:
        client = OpenpiClient(server.address, robot, timeout_s=20.0, token=TOKEN)
        assert client.metadata is None
        seen = observation(robot, 3)
        chunk = client.infer(seen)
        expected = policy.infer(small(replace(seen, stamp_ns=7)))
        np.testing.assert_allclose(chunk.actions, expected.actions, atol=1e-9)
        assert chunk.names == robot.action_names and client.metadata is not None and client.metadata.horizon == 5
        assert client.timing["round_trip_ms"] >= client.timing["model_ms"] > 0
        with pytest.raises(ValueError, match="cannot continue a chunk"):
            client.infer(seen, ActionPrefix(np.zeros((1, 6)), 0.05, 1, RtcSettings("exact")))
        client.close()


@contextmanager
def stock(answer: Any) -> Iterator[str]:
    """A server that greets as openpi does and then does `answer(connection)` for every question."""

    def talk(connection: Any) -> None:
        connection.send(pack({}))
        for _ in connection:
            answer(connection)

    silent = logging.getLogger("test")
    silent.setLevel(logging.CRITICAL)
    with serve(talk, LOOPBACK, 0, compression=None, logger=silent) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"ws://{LOOPBACK}:{server.socket.getsockname()[1]}"
        server.shutdown()
        thread.join(20.0)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda c: c.send("Traceback (most recent call last):\n  File ...\nKeyError: 'state'\n"), "KeyError: 'state'"),
        (lambda c: c.send(b"\xc1"), "not openpi's msgpack"),
        (lambda c: c.send(pack({"actions": np.zeros((5, 32))})), r"\[5, 32\], expected \[steps, 6\]"),
        (lambda c: c.send(pack({"actions": np.full((5, 6), np.nan)})), "not finite"),
        (lambda c: c.close(), "does an openpi server run there"),
        (lambda c: None, "no answer within 0.5 s"),
    ],
)
def test_what_a_server_does_wrong_is_reported(answer: Any, message: str) -> None:
    with stock(answer) as address:
        client = OpenpiClient(address, tiny_robot(), timeout_s=0.5)
        for _ in range(2):
            with pytest.raises(BackendError, match=message):
                client.infer(observation(tiny_robot()))
        client.close()


def test_a_server_that_comes_back_is_asked_again(policy: Policy) -> None:
    robot = policy.metadata.robot
    with serving(policy) as server:
        port = server.port
        client = OpenpiClient(server.address, robot, timeout_s=5.0)
        client.infer(observation(robot))
    with pytest.raises(BackendError):
        for _ in range(3):
            client.infer(observation(robot))
    server = OpenpiServer(policy, LOOPBACK, port)
    server.start()
    assert client.infer(observation(robot)).actions.shape == (5, 6)
    client.close()
    server.close()


def test_options_and_addresses(tmp_path: Path) -> None:
    backend = make_backend(PolicyOptions(backend="openpi", server="ws://127.0.0.1:9"), robot=tiny_robot())
    assert isinstance(backend, OpenpiClient) and backend.metadata is None
    with pytest.raises(BackendError, match="does an openpi server run there"):
        backend.infer(observation(tiny_robot()))
    with pytest.raises(ValueError, match="needs an address such as ws://"):
        PolicyOptions(backend="openpi", server="tcp://127.0.0.1:5555")
    with pytest.raises(ValueError, match="token_file is for backend 'openpi'"):
        PolicyOptions(checkpoint="x", token_file="y")
