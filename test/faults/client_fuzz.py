"""Mutated answers at the policy client's socket: python client_fuzz.py [FRAMES]

A server on this machine answers every question with a burst of what is nearly an answer (`fuzz.mutated`), the true one
somewhere among it. The client must give back a chunk that may be followed, or refuse in time with a sentence, whatever
came; and it must go on as if nothing had been when the server speaks the truth again.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fuzz
import msgpack
import numpy as np
import zmq

from pi0_ros.base.foreign import MAX_TEXT_CHARS
from pi0_ros.control.chunk import ActionChunk
from pi0_ros.inference import client as client_module
from pi0_ros.inference.client import Client
from pi0_ros.inference.metadata import BackendError, Metadata
from pi0_ros.inference.protocol import Message, chunk_message, decode, encode, metadata_message
from pi0_ros.observation.streams import Observation
from pi0_ros.robot import load_robot

ROBOT, FPS, HORIZON = load_robot("demo_arm"), 20.0, 16
TIMEOUT_S, BURST = 0.1, 6  # frames to a question, at most
ACTIONS = np.zeros((HORIZON, len(ROBOT.joints))) + np.linspace(0.0, 0.1, HORIZON)[:, None]
SEEN = Observation(5, {}, np.zeros(len(ROBOT.joints)), "swing", {})


class Fuzzer:
    """The server; `honest`, it only says the truth."""

    def __init__(self, address: str, seed: int) -> None:
        self.honest, self._address, self._closing = False, address, threading.Event()
        self._random, self._thread = np.random.default_rng(seed), threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join(10.0)

    def _answer(self, question: Message) -> list[bytes]:
        if question.type == "hello":
            metadata = Metadata("fuzz", "pi0", ROBOT, HORIZON, FPS, 48)
            answer = metadata_message(metadata, "session", question.id)
        else:
            chunk = ActionChunk(5, round(1e9 / FPS), ACTIONS, ROBOT.action_names)
            answer = chunk_message(chunk, {}, question.id)
        return [bytes(frame) for frame in encode(answer)]

    def _run(self) -> None:
        context = zmq.Context()
        socket = context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.bind(self._address)
        while not self._closing.is_set():
            if not socket.poll(50):
                continue
            peer, *frames = socket.recv_multipart()
            truth = self._answer(decode(frames))
            honest = self.honest or (len(truth) == 1 and self._random.random() < 0.8)  # else it seldom gets to a chunk
            lies = [] if honest else [self._lie(truth) for _ in range(int(self._random.integers(1, BURST + 1)))]
            if honest or self._random.random() < 0.9:
                lies.insert(int(self._random.integers(len(lies) + 1)), truth)
            for lie in lies:
                socket.send_multipart([peer, *lie])
        context.destroy(linger=0)

    def _lie(self, truth: list[bytes]) -> list[bytes]:
        """Half are whole, for another question, so that the client reads on; the others mostly end its patience."""
        if self._random.random() < 0.5:
            header = msgpack.unpackb(truth[0])
            return [msgpack.packb({**header, "id": int(header["id"]) + 7}), *truth[1:]]
        return fuzz.mutated(truth, self._random)


def run(frames: int, seed: int = 0) -> Counter[str]:
    """Ask until so many were read; AssertionError for whatever a client must not do. What became of the questions."""
    found: Counter[str] = Counter()
    read = 0

    def counted(frames: Sequence[Any]) -> Message:
        nonlocal read
        read += 1
        return decode(frames)

    client_module.decode = counted  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as folder:
        address = f"ipc://{folder}/fuzzer"
        server, client = Fuzzer(address, seed), Client(address, TIMEOUT_S, ROBOT)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            while read < frames:
                began = time.thread_time()
                try:
                    chunk = client.infer(SEEN)
                except BackendError as error:
                    assert len(str(error)) < MAX_TEXT_CHARS + 500, str(error)[:200]
                    found[_kind(str(error))] += 1
                else:
                    assert chunk.actions.shape[1] == len(chunk.names) and set(chunk.names) == set(ROBOT.action_names)
                    assert np.isfinite(chunk.actions).all() and abs(chunk.dt * FPS - 1.0) < 1e-2
                    found["a chunk"] += 1
                assert time.thread_time() - began < 4 * TIMEOUT_S + 1.0, "of work, for up to four questions"
            grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
            assert grown_mb < 100, f"grew by {grown_mb:.0f} MB"
            server.honest, end = True, time.monotonic() + 60.0
            while True:  # the first answers may still be of before
                try:
                    chunk = client.infer(SEEN)
                    break
                except BackendError:
                    assert time.monotonic() < end, "it does not come back to a server that speaks the truth"
            np.testing.assert_array_equal(chunk.actions, ACTIONS)
        finally:
            client.close()
            server.close()
            client_module.decode = decode
        found["messages read"] = read
    return found


def _kind(text: str) -> str:
    """The words of a refusal, without its numbers and names."""
    return " ".join(word for word in text.split()[2:8] if word.isalpha())


if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[2])]
    for what, count in run(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000).most_common():
        print(f"{count:8d} {what}")
