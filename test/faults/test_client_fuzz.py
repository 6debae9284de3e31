"""The policy client reads whatever a server sends and refuses it in time (`client_fuzz.py` does 10^5 messages)."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

import msgpack
import pytest

zmq = pytest.importorskip("zmq")
import client_fuzz  # noqa: E402

from pi0_ros.inference.client import Client  # noqa: E402
from pi0_ros.inference.metadata import BackendError  # noqa: E402
from pi0_ros.inference.protocol import VERSION  # noqa: E402


def test_mutated_answers_are_chunks_that_may_be_followed_or_are_refused() -> None:
    found = client_fuzz.run(600, seed=1)
    assert found["messages read"] >= 600 and found["a chunk"] > 10 and len(found) > 8, found


def test_a_flood_of_answers_to_other_questions_is_no_answer(tmp_path: Path) -> None:
    """Each is read and none is waited for, but not for longer than for a server that says nothing."""
    address, over = f"ipc://{tmp_path}/flood", threading.Event()

    def flood() -> None:
        context = zmq.Context()
        socket = context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDTIMEO, 100)
        socket.bind(address)
        while not socket.poll(100):
            if over.is_set():
                break
        else:
            peer, *_ = socket.recv_multipart()
            other = msgpack.packb(
                {"pi0": VERSION, "type": "error", "id": 9999, "arrays": [], "message": "", "code": ""}
            )
            while not over.is_set():
                with contextlib.suppress(zmq.Again):
                    socket.send_multipart([peer, other])
        context.destroy(linger=0)

    thread = threading.Thread(target=flood, daemon=True)
    thread.start()
    client = Client(address, timeout_s=0.5)
    began, limit = time.monotonic(), threading.Timer(60.0, over.set)
    limit.start()
    try:
        with pytest.raises(BackendError, match="no answer within 0.5 s"):
            client.hello()
        assert client.late_replies > 10, "it read what came"
    finally:
        limit.cancel()
        over.set()
        client.close()
        thread.join(10.0)
    assert time.monotonic() - began < 60.0
