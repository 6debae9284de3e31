"""Client and server over real sockets: equal actions, and nothing that a dead, hanging or mad peer does lasts."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgpack
import numpy as np
import policy_fixtures
import pytest
import zmq
from policy_fixtures import FIXTURES, SECOND, HeldPolicy, observation, serving, tiny_checkpoint, tiny_robot

from pi0_ros.checkpoints.checkpoint import load_checkpoint
from pi0_ros.inference import protocol
from pi0_ros.inference.client import Client
from pi0_ros.inference.metadata import BackendError, RobotMismatchError
from pi0_ros.inference.options import PolicyOptions
from pi0_ros.inference.prefix import ActionPrefix, RtcSettings
from pi0_ros.inference.protocol import Message, decode, encode
from pi0_ros.inference.server import Server
from pi0_ros.observation.streams import Observation
from pi0_ros.policy.policy import Policy, load_policy
from pi0_ros.robot import load_robot

GENEROUS_S = 20.0  # machines are busy: for answers that do come
SHORT_S = 0.4  # for answers that never come


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture(scope="module")
def policy(folder: Path) -> Policy:
    return load_policy(PolicyOptions(checkpoint=str(folder), device="cpu", seed=4))


@contextmanager
def peer(answer: Callable[[list[bytes]], list[bytes] | None]) -> Iterator[str]:
    """A ROUTER that is no policy server: `answer(frames)` are the frames it sends back, None for silence."""
    stop = threading.Event()
    context = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    socket.setsockopt(zmq.LINGER, 0)
    port = socket.bind_to_random_port("tcp://127.0.0.1")

    def run() -> None:
        while not stop.is_set():
            if socket.poll(20):
                identity, *frames = socket.recv_multipart()
                if (reply := answer(frames)) is not None:
                    socket.send_multipart([identity, *reply])

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield f"tcp://127.0.0.1:{port}"
    finally:
        stop.set()
        thread.join()
        context.destroy(linger=0)


@contextmanager
def client(address: str, timeout_s: float = GENEROUS_S, **more) -> Iterator[Client]:
    one = Client(address, timeout_s=timeout_s, **more)
    try:
        yield one
    finally:
        one.close()


def takes_at_most(seconds: float, action: Callable[[], object], message: str) -> None:
    start = time.monotonic()
    with pytest.raises(BackendError, match=message):
        action()
    assert time.monotonic() - start < seconds


def test_remote_equals_local(policy: Policy, folder: Path) -> None:
    """Also for images that the client makes smaller before it sends them."""
    local = Policy(load_checkpoint(folder), seed=4)
    with serving(policy) as server:
        remote = Client(server.address, timeout_s=GENEROUS_S, robot=tiny_robot())
        for seed in range(3):
            seen = observation(tiny_robot(), seed, (seed + 1) * SECOND, size=100)
            here, there = local.infer(seen), remote.infer(seen)
            np.testing.assert_array_equal(here.actions, there.actions)
            assert (here.stamp_ns, here.dt_ns, here.names) == (there.stamp_ns, there.dt_ns, there.names)
        assert remote.metadata == local.metadata
        remote.close()


def test_a_checkpoint_of_lerobot_is_served_like_any() -> None:
    """Its state is wider than its action, and its images are resized by torch, or here almost as torch does it."""
    robot, folder = load_robot("libero"), FIXTURES / "reference" / "lerobot" / "pi05"
    policy = Policy(load_checkpoint(folder, robot=robot, config={"vision": {"num_heads": 4}}), seed=4)
    assert policy.warm_up() > 0
    random = np.random.default_rng(0)
    images = {camera.name: random.integers(0, 256, (60, 80, 3), np.uint8) for camera in robot.cameras}
    seen = Observation(SECOND, images, random.uniform(-1, 1, 8), "open the drawer", {})
    here = policy.infer(seen).actions
    with serving(policy) as server:
        with client(server.address, robot=robot, image_coding="whole") as one:
            there = one.infer(seen)
            assert there.names == robot.action_names and there.actions.shape[1] == 7
            np.testing.assert_array_equal(there.actions, here)
            assert one.metadata == policy.metadata and policy.metadata.image_resize == "torch"
        with client(server.address, robot=robot) as one:  # resized on the robot: half a grey level away
            np.testing.assert_allclose(one.infer(seen).actions, here, atol=0.05)


@pytest.mark.parametrize("mode", ["exact", "lerobot"])
def test_a_prefix_does_the_same_remotely(policy: Policy, mode: str) -> None:
    """The server keeps nothing between two questions: all it must know comes with each."""
    seen = observation(tiny_robot())
    prefix = ActionPrefix(np.tile(seen.state + 0.2, (3, 1)), 0.05, 2, RtcSettings(mode))
    with serving(policy) as server, client(server.address) as one:
        there = one.infer(seen, prefix).actions
        assert not np.allclose(there, one.infer(seen).actions)
        np.testing.assert_array_equal(policy.infer(seen, prefix).actions, there)
        short = replace(prefix, actions=prefix.actions[:, :5])
        takes_at_most(GENEROUS_S, lambda: one.infer(seen, short), "the robot has 6 joints")
        untrained = replace(prefix, settings=RtcSettings("trained"))
        takes_at_most(GENEROUS_S, lambda: one.infer(seen, untrained), "not trained to continue a prefix")


def test_handshake_tells_what_the_policy_is(policy: Policy) -> None:
    with serving(policy) as server, client(server.address) as one:
        metadata = one.hello()
        assert (metadata.checkpoint, metadata.model, metadata.horizon, metadata.fps) == ("tiny", "pi0", 5, 20.0)
        assert metadata.robot == tiny_robot()


def test_timing_of_both_sides(policy: Policy) -> None:
    with serving(policy) as server, client(server.address) as one:
        one.infer(observation(tiny_robot()))
        assert one.timing["round_trip_ms"] > one.timing["total_ms"] >= one.timing["model_ms"] > 0


def test_another_robot_is_refused(policy: Policy) -> None:
    robot = replace(tiny_robot(), cameras=tiny_robot().cameras[:1])
    with serving(policy) as server, client(server.address, robot=robot) as one:
        for _ in range(2):
            with pytest.raises(RobotMismatchError, match="cameras"):
                one.infer(observation(robot))


def test_loopback_is_the_default(policy: Policy) -> None:
    assert protocol.DEFAULT_ADDRESS == "tcp://127.0.0.1:5555"


def test_nobody_there() -> None:
    with client("tcp://127.0.0.1:9", SHORT_S) as one:
        takes_at_most(
            SHORT_S + 1, lambda: one.infer(observation(tiny_robot())), "not reachable within 0.4 s.*pi0 serve"
        )


def test_server_restart_is_survived(policy: Policy) -> None:
    """Gone: a bounded, clear error each time. Back, at the same address: the next question is answered."""
    seen = observation(tiny_robot())
    with serving(policy) as server:
        address = server.address
        one = Client(address, timeout_s=GENEROUS_S, robot=tiny_robot())
        expected = one.infer(seen).actions
    one.timeout_s = SHORT_S
    for _ in range(2):
        takes_at_most(SHORT_S * 2 + 1, lambda: one.infer(seen), "no answer|not reachable|connection broke")
    one.timeout_s = GENEROUS_S
    with serving(policy, address):
        np.testing.assert_array_equal(one.infer(seen).actions, expected)
    one.close()


def test_restart_between_two_questions_goes_unnoticed_by_the_robot(policy: Policy) -> None:
    """ZeroMQ reconnects by itself; the new server's session makes the client hear again what it serves."""
    seen = observation(tiny_robot())
    with serving(policy) as server:
        address, first = server.address, server.session
        one = Client(address, timeout_s=GENEROUS_S, robot=tiny_robot())
        expected = one.infer(seen).actions
        assert one._session == first
    with serving(policy, address) as server:
        time.sleep(0.3)
        np.testing.assert_array_equal(one.infer(seen).actions, expected)
        assert one._session == server.session != first
    one.close()


def test_a_restart_with_another_robot_is_noticed(policy: Policy, tmp_path: Path) -> None:
    robot = replace(tiny_robot(), cameras=tuple(replace(c, name=f"{c.name}_2") for c in tiny_robot().cameras))
    other = Policy(load_checkpoint(tiny_checkpoint(tmp_path / "other", robot)))
    with serving(policy) as server:
        address = server.address
        one = Client(address, timeout_s=GENEROUS_S, robot=tiny_robot())
        one.infer(observation(tiny_robot()))
    with serving(other, address), pytest.raises(RobotMismatchError, match="checkpoint 'other'.*disagree"):
        one.infer(observation(tiny_robot()))
    one.close()


def test_hanging_server() -> None:
    with peer(lambda frames: None) as address, client(address, SHORT_S) as one:
        for _ in range(2):
            takes_at_most(SHORT_S + 1, lambda: one.infer(observation(tiny_robot())), "no answer within 0.4 s")


def hello_then(policy: Policy, answer: Callable[[Message], list[bytes]]) -> Callable[[list[bytes]], list[bytes]]:
    def reply(frames: list[bytes]) -> list[bytes]:
        message = decode(frames)
        if message.type == "hello":
            return encode(protocol.metadata_message(policy.metadata, "s", message.id))
        return answer(message)

    return reply


def test_server_that_hangs_in_the_middle_and_recovers(policy: Policy) -> None:
    """The late answer to the first question is never taken for the answer to the second."""
    asked: list[Message] = []

    def answer(message: Message) -> list[bytes]:
        asked.append(message)
        if len(asked) == 1:
            time.sleep(3 * SHORT_S)
        return encode(protocol.chunk_message(policy.infer(protocol.parse_observation(message)), {}, message.id))

    with peer(hello_then(policy, answer)) as address, client(address, SHORT_S) as one:
        takes_at_most(2 * SHORT_S + 1, lambda: one.infer(observation(tiny_robot(), 1, 1 * SECOND)), "no answer")
        one.timeout_s = GENEROUS_S
        assert one.infer(observation(tiny_robot(), 2, 2 * SECOND)).stamp_ns == 2 * SECOND


def test_answers_to_other_questions_are_dropped(policy: Policy) -> None:
    other = hello_then(policy, lambda message: encode(Message("chunk", message.id - 1)))
    with peer(other) as address, client(address) as one:
        one.hello()
        one.timeout_s = SHORT_S
        takes_at_most(SHORT_S + 1, lambda: one.infer(observation(tiny_robot())), "no answer")
        assert one.late_replies == 1


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([b"garbage"], "not a pi0_ros message|not msgpack"),
        ([b""], "not msgpack"),
        ([b"x"] * 40, "at most"),
        ([msgpack.packb({"pi0": 99, "type": "metadata", "id": 1})], "protocol version 99, this side 3"),
        (
            [msgpack.packb({"pi0": protocol.VERSION, "type": "metadata", "id": 1, "arrays": []})],
            "metadata cannot be read",
        ),
    ],
)
def test_a_server_that_talks_nonsense(frames: list[bytes], message: str) -> None:
    with peer(lambda _: frames) as address, client(address) as one:
        for _ in range(2):
            one._number = 0
            takes_at_most(GENEROUS_S, lambda: one.infer(observation(tiny_robot())), message)


def test_nan_from_a_server_never_becomes_a_chunk(policy: Policy) -> None:
    body = {"stamp_ns": SECOND, "dt_ns": 50_000_000, "names": list(tiny_robot().joint_names), "timing": {}}

    def answer(message: Message) -> list[bytes]:
        return encode(Message("chunk", message.id, body, {"actions": np.full((5, 6), np.nan)}))

    with peer(hello_then(policy, answer)) as address, client(address) as one:
        takes_at_most(GENEROUS_S, lambda: one.infer(observation(tiny_robot())), "NaN or infinity")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dt_ns": 1000 * SECOND}, "with 1000 s per action, although it said 20 actions per second"),
        ({"names": ["yaw"] * 6}, "a chunk for yaw, yaw, yaw, yaw, yaw, yaw, although it said yaw, shoulder"),
        ({"type": "infer"}, "a message of type 'infer', expected 'chunk'"),
    ],
)
def test_a_chunk_that_is_not_of_the_policy_is_refused(policy: Policy, changes: dict, message: str) -> None:
    def answer(question: Message) -> list[bytes]:
        body = {"stamp_ns": SECOND, "dt_ns": 50_000_000, "names": list(tiny_robot().joint_names), "timing": {}}
        kind = changes.get("type", "chunk")
        return encode(Message(kind, question.id, body | changes, {"actions": np.zeros((5, 6))}))

    with peer(hello_then(policy, answer)) as address, client(address) as one:
        takes_at_most(GENEROUS_S, lambda: one.infer(observation(tiny_robot())), message)


def _listing(entry: object) -> list[bytes]:
    """An `infer` with one array that the header describes by `entry`."""
    return [msgpack.packb({"pi0": protocol.VERSION, "type": "infer", "id": 1, "arrays": [entry]}), b""]


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b""],
        [b"garbage"],
        [b"\x81"] * 3,
        [b"x" * (2 << 20)],
        [b"x"] * 50,
        _listing(["state", "uint8", [0, 2**63]]),
        _listing(b"\0" * 900_000),
        [msgpack.packb({"pi0": protocol.VERSION, "type": "\0" * 900_000, "id": 1, "arrays": []})],
    ],
    ids=range(9),
)
def test_a_client_that_talks_nonsense_harms_nobody(frames: list[bytes], policy: Policy) -> None:
    with serving(policy) as server:
        context = zmq.Context()
        mad = context.socket(zmq.DEALER)
        mad.connect(server.address)
        for _ in range(3):
            mad.send_multipart(frames or [b""])
        assert mad.poll(GENEROUS_S * 1e3)
        answer = decode(mad.recv_multipart())
        assert (answer.type, answer.body["code"]) == ("error", "bad_request")
        context.destroy(linger=0)
        with client(server.address) as one:
            one.infer(observation(tiny_robot()))


def test_questions_that_make_no_sense_get_errors(policy: Policy) -> None:
    seen = observation(tiny_robot())
    with serving(policy) as server:
        context = zmq.Context()
        socket = context.socket(zmq.DEALER)
        socket.connect(server.address)

        def ask(frames: list[bytes]) -> Message:
            socket.send_multipart(frames)
            assert socket.poll(GENEROUS_S * 1e3)
            return decode(socket.recv_multipart())

        def code(frames: list[bytes]) -> tuple[str, str]:
            answer = ask(frames)
            return answer.body["code"], answer.body["message"]

        other = ask([msgpack.packb({"pi0": 2, "type": "hello", "id": 1, "arrays": []})])
        said = "the other side speaks protocol version 2, this side 3: install the same pi0_ros on both machines"
        assert (other.body["code"], other.body["message"]) == ("version", said)
        assert code(encode(Message("chunk", 1)))[0] == "bad_request"
        assert code(encode(protocol.infer_message(seen, "stale", "me", 2)))[0] == "session"
        one_camera = replace(seen, images={"base": seen.images["base"]})
        assert (
            "no image of camera 'wrist'" in code(encode(protocol.infer_message(one_camera, server.session, "me", 3)))[1]
        )
        unhashable = Message("infer", 4, {"session": server.session, "client": [1]}, {})
        assert code(encode(unhashable))[0] == "infer"
        context.destroy(linger=0)


def test_an_error_of_the_model_becomes_the_clients(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(observation: object, prefix: object) -> None:
        raise RuntimeError("CUDA out of memory")

    with serving(policy) as server, client(server.address) as one:
        one.hello()
        with monkeypatch.context() as patch:
            patch.setattr(policy, "infer", broken)
            takes_at_most(
                GENEROUS_S, lambda: one.infer(observation(tiny_robot())), "reports: RuntimeError: CUDA out of"
            )
        one.infer(observation(tiny_robot()))


def test_only_the_newest_question_of_a_client_is_answered() -> None:
    """What it gave up on is not worth the GPU's time; nobody waits for a client that asks on and on."""
    context = zmq.Context()
    with serving(HeldPolicy(seconds=1.0)) as server:  # type: ignore[arg-type]
        try:
            sockets = [context.socket(zmq.DEALER) for _ in range(4)]
            for number, (socket, name) in enumerate(zip(sockets, ("first", "me", "another", "me"))):
                socket.connect(server.address)
                question = protocol.infer_message(observation(tiny_robot()), server.session, name, number + 1)
                socket.send_multipart(encode(question))
                time.sleep(0.2)
            assert [bool(socket.poll(4000)) for socket in (sockets[0], sockets[3], sockets[2])] == [True] * 3
            assert not sockets[1].poll(100)
            assert server.answered == 3
        finally:
            context.destroy(linger=0)


def test_questions_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pi0_ros.inference.waiting.MAX_WAITING", 3)
    context = zmq.Context()
    with serving(HeldPolicy(seconds=1.0)) as server:  # type: ignore[arg-type]
        try:
            socket = context.socket(zmq.DEALER)
            socket.connect(server.address)
            for number in range(6):  # one is inferred, three wait
                question = protocol.infer_message(
                    observation(tiny_robot()), server.session, f"client {number}", number + 1
                )
                socket.send_multipart(encode(question))
                time.sleep(0.1)
            assert socket.poll(2000)
            answer = decode(socket.recv_multipart())
            assert answer.type == "error" and answer.body["code"] == "busy"
        finally:
            context.destroy(linger=0)


@pytest.mark.slow
@pytest.mark.parametrize("heartbeats", [False, True])
def test_no_client_can_end_the_server(heartbeats: bool) -> None:
    """A hundred questions whose answers nobody takes, then gone without a word: libzmq used to abort the process."""
    command = [sys.executable, policy_fixtures.__file__, "tcp://127.0.0.1:*", "0.05"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address, session = server.stdout.readline().split()
            bad = [
                subprocess.Popen([sys.executable, "-c", FLOOD, address, session, str(n), str(int(heartbeats))])
                for n in (1, 4)
            ]
            for process in bad:
                process.wait(60)
            deadline = time.monotonic() + 8.0  # longer than heartbeats and keep-alives need to find out
            while time.monotonic() < deadline:
                assert server.poll() is None, "the server died"
                time.sleep(0.2)
            with client(address) as good:
                good.infer(observation(tiny_robot()))
        finally:
            server.kill()


FLOOD = """
import os, signal, sys, time, zmq
sys.path[:0] = PATHS
from policy_fixtures import observation, tiny_robot
from pi0_ros.inference.protocol import encode, infer_message
address, session, wait, heartbeats = sys.argv[1:]
socket = zmq.Context().socket(zmq.DEALER)
socket.setsockopt(zmq.RCVHWM, 1)
if int(heartbeats):
    socket.setsockopt(zmq.HEARTBEAT_IVL, 500)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 1000)
socket.connect(address)
seen = observation(tiny_robot())
for number in range(100):
    socket.send_multipart(encode(infer_message(seen, session, f"{number % 40}", number)))
time.sleep(float(wait))
os.kill(os.getpid(), signal.SIGKILL)
""".replace("PATHS", repr([str(Path(policy_fixtures.__file__).parent)]))


def test_two_robots_at_one_server(policy: Policy) -> None:
    with serving(policy) as server, client(server.address) as first, client(server.address) as second:
        seen = [observation(tiny_robot(), seed, (seed + 1) * SECOND) for seed in (0, 1)]
        expected = [policy.infer(one).actions for one in seen]
        found: dict[int, np.ndarray] = {}

        def ask(index: int, one: Client) -> None:
            for _ in range(5):
                found[index] = one.infer(seen[index]).actions

        threads = [threading.Thread(target=ask, args=pair) for pair in ((0, first), (1, second))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for index in (0, 1):
            np.testing.assert_array_equal(found[index], expected[index])


def test_an_observation_too_large_to_send_is_said(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(policy) as server, client(server.address) as one:
        one.hello()
        with monkeypatch.context() as patch:
            patch.setattr(protocol, "MAX_BYTES", 100)
            takes_at_most(5, lambda: one.infer(observation(tiny_robot())), "cannot be sent.*at most")


@pytest.mark.parametrize("address", ["", "gpu-box:5555", "tcp://127.0.0.1", "tcp://*:5555", "http://127.0.0.1:5555"])
def test_addresses_are_checked(address: str, policy: Policy) -> None:
    with pytest.raises(ValueError, match="expected something like tcp://"):
        Client(address)
    if "*" not in address:
        with pytest.raises(ValueError, match="cannot bind"):
            Server(policy, address)


def test_an_address_in_use(policy: Policy) -> None:
    with serving(policy) as server, pytest.raises(ValueError, match="cannot bind.*in use"):
        Server(policy, server.address)


def test_a_closed_server_leaves_no_thread(policy: Policy) -> None:
    before = threading.active_count()
    with serving(policy) as server, client(server.address) as one:
        one.hello()
    assert threading.active_count() == before
