"""What the way to a policy server costs: time and bytes of a request, beside openpi's websocket and a plain REQ/REP.

    python bench/link.py                       # this machine, then two network namespaces with slow links (root)
    python bench/link.py --requests 200 --only loopback --json link.json

A robot with three cameras of 640 x 480 asks ten times a second; the policy answers at once, so the whole time is
overhead: resizing, coding, both ways, reading. Pictures are made from smooth fields, edges and a sensor's noise. The
slow links are `slow_link.py`: packets of the kernel's TCP, delayed, limited and lost by a program between namespaces.

openpi: `openpi-client` from PyPI against `pi0 serve --websocket`, pictures resized to 224 x 224 as openpi's examples do
it. REQ/REP: ZeroMQ with a msgpack message of openpi's layout and the pictures as the cameras gave them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import zmq
from slow_link import Conditions, SlowLink, possible

from pi0_ros.control.chunk import ActionChunk
from pi0_ros.inference.client import Client
from pi0_ros.inference.keys import create, read_client_keys, read_server_keys
from pi0_ros.inference.metadata import BackendError, Metadata
from pi0_ros.inference.openpi import pack, unpack, write_observation
from pi0_ros.inference.openpi_server import OpenpiServer
from pi0_ros.inference.prefix import ActionPrefix
from pi0_ros.inference.server import Server
from pi0_ros.observation.streams import Observation
from pi0_ros.robot import load_robot

ROBOT = "aloha_act"
HORIZON, FPS, SIDE = 50, 50.0, 224
PORTS = {"plain": 5555, "keys": 5556, "websocket": 5557, "rep": 5558}
TIMEOUT_S = 20.0
LINKS = {
    "loopback": None,
    "100 Mbit/s, 10 ms": Conditions(10, 100),
    "20 Mbit/s, 10 ms": Conditions(10, 20),
    "100 Mbit/s, 50 ms": Conditions(50, 100),
    "20 Mbit/s, 50 ms": Conditions(50, 20),
    "100 Mbit/s, 10 ms, 1 % loss": Conditions(10, 100, 0.01),
    "20 Mbit/s, 50 ms, 1 % loss": Conditions(50, 20, 0.01),
}
WAYS = ("pi0_ros raw", "pi0_ros jpeg", "pi0_ros jpeg, keys", "openpi websocket", "REQ/REP whole")


class Ready:
    """A policy that has its answer at once."""

    def __init__(self) -> None:
        self.metadata = Metadata("ready", "pi0", load_robot(ROBOT), HORIZON, FPS, SIDE)
        self.timing: Mapping[str, float] = {"total_ms": 0.0}
        self._actions = np.zeros((HORIZON, len(self.metadata.robot.action_names)))

    def infer(self, observation: Observation, prefix: ActionPrefix | None = None) -> ActionChunk:
        """Nothing moves."""
        return ActionChunk(observation.stamp_ns, round(1e9 / FPS), self._actions, self.metadata.robot.action_names)

    def close(self) -> None:
        """Nothing to free."""


def serve(host: str, keys: Path) -> None:
    """Answer in every way until standard input ends."""
    policy, stop = Ready(), threading.Event()
    servers = [
        Server(policy, f"tcp://{host}:{PORTS['plain']}"),
        Server(policy, f"tcp://{host}:{PORTS['keys']}", read_server_keys(keys / "server")),
    ]
    threads = [threading.Thread(target=server.run, args=(stop.is_set,)) for server in servers]
    websocket = OpenpiServer(policy, host, PORTS["websocket"])
    websocket.start()
    threads.append(threading.Thread(target=_rep, args=(host, policy, stop)))
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    for server in servers:
        server.close()
    websocket.close()


def _rep(host: str, policy: Ready, stop: threading.Event) -> None:
    socket = zmq.Context().socket(zmq.REP)
    socket.bind(f"tcp://{host}:{PORTS['rep']}")
    actions = policy.infer(Observation(0, {}, np.zeros(0), "", {})).actions
    while not stop.is_set():
        if socket.poll(100):
            unpack(socket.recv())
            socket.send(pack({"actions": actions}))


def pictures(seed: int) -> dict[str, np.ndarray]:
    """What three cameras see, uint8 [480, 640, 3] each."""
    found = {}
    for number, camera in enumerate(load_robot(ROBOT).cameras):
        random = np.random.default_rng([seed, number])
        y, x = np.mgrid[0:480, 0:640] / 640.0
        scene = np.zeros((480, 640, 3))
        for _ in range(6):  # light
            a, b, phase = random.normal(size=3) * 6
            scene += 18 * np.sin(a * x + b * y + phase)[..., None] * random.uniform(0.3, 1, 3)
        scene += 127
        for _ in range(25):  # things
            top, left = random.integers(0, 420), random.integers(0, 560)
            height, width = random.integers(15, 160, 2)
            scene[top : top + height, left : left + width] += random.normal(0, 45, 3)
        found[camera.name] = np.clip(scene + random.normal(0, 3, scene.shape), 0, 255).astype(np.uint8)
    return found


def asker(way: str, host: str, keys: Path) -> tuple[Callable[[Observation], object], Callable[[], int]]:
    """(what asks once, the bytes of its last question)."""
    robot = load_robot(ROBOT)
    if way.startswith("pi0_ros"):
        guarded = way.endswith("keys")
        client = Client(
            f"tcp://{host}:{PORTS['keys' if guarded else 'plain']}",
            TIMEOUT_S,
            robot,
            read_client_keys(keys / "robot") if guarded else None,
            "jpeg" if "jpeg" in way else "raw",
        )
        client.hello()
        return client.infer, lambda: client.sent_bytes
    sizes = [0]
    if way == "openpi websocket":
        from openpi_client.image_tools import resize_with_pad
        from openpi_client.msgpack_numpy import packb
        from openpi_client.websocket_client_policy import WebsocketClientPolicy

        policy = WebsocketClientPolicy(host, PORTS["websocket"])

        def ask(observation: Observation) -> object:
            small = {name: resize_with_pad(image, SIDE, SIDE) for name, image in observation.images.items()}
            message = write_observation(Observation(0, small, observation.state, observation.prompt, {}), robot)
            if not sizes[0]:
                sizes[0] = len(packb(message))
            return policy.infer(message)

        return ask, lambda: sizes[0]
    socket = zmq.Context().socket(zmq.REQ)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(f"tcp://{host}:{PORTS['rep']}")

    def ask_plainly(observation: Observation) -> object:
        data = pack(write_observation(observation, robot))
        sizes[0] = len(data)
        socket.send(data)
        if not socket.poll(int(TIMEOUT_S * 1e3)):
            raise BackendError("no answer")
        return unpack(socket.recv())

    return ask_plainly, lambda: sizes[0]


def ask_all(host: str, keys: Path, requests: int, rate_hz: float) -> dict[str, dict[str, float]]:
    """Every way in turns, so that a busy moment of the machine meets all alike."""
    seen = [pictures(seed) for seed in range(6)]
    state = np.zeros(len(load_robot(ROBOT).state_names))
    askers = {way: asker(way, host, keys) for way in WAYS}
    spent_ms: dict[str, list[float]] = {way: [] for way in WAYS}
    sizes: dict[str, list[int]] = {way: [] for way in WAYS}
    for way, (ask, size) in askers.items():
        for number in range(-3, requests):
            begin = time.perf_counter()
            ask(Observation(time.time_ns(), seen[number % len(seen)], state, "fold the towel", {}))
            if number >= 0:
                spent_ms[way].append((time.perf_counter() - begin) * 1e3)
                sizes[way].append(size())
            time.sleep(max(0.0, 1.0 / rate_hz - (time.perf_counter() - begin)))
    return {
        way: {
            "p50_ms": float(np.percentile(spent_ms[way], 50)),
            "p99_ms": float(np.percentile(spent_ms[way], 99)),
            "kB": float(np.mean(sizes[way])) / 1e3,
        }
        for way in WAYS
    }


def measure(name: str, requests: int, rate_hz: float) -> dict[str, dict[str, float]]:
    """One link: a server at one end, a robot at the other."""
    conditions = LINKS[name]
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder)
        create(keys, ["robot"])
        if conditions is None:
            return _between([], [], "127.0.0.1", keys, requests, rate_hz)
        with SlowLink(conditions) as link:
            return _between(link.inside("b", []), link.inside("a", []), link.address_b, keys, requests, rate_hz)


def _between(
    there: list[str], here: list[str], host: str, keys: Path, requests: int, rate_hz: float
) -> dict[str, dict[str, float]]:
    me = [sys.executable, __file__, "--keys", str(keys), "--host", host]
    with subprocess.Popen([*there, *me, "--part", "server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None and server.stdin is not None
        try:
            server.stdout.readline()
            more = ["--part", "client", "--requests", str(requests), "--rate", str(rate_hz)]
            done = subprocess.run([*here, *me, *more], stdout=subprocess.PIPE, check=True)
            found: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
            return found
        finally:
            server.stdin.close()


def _times(way: Mapping[str, float]) -> str:
    return f"{way['p50_ms']:.1f} / {way['p99_ms']:.1f}"


def _size(way: Mapping[str, float]) -> str:
    return f"{way['kB']:.0f}"


def main() -> None:
    """Parse the command line, measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=60, help="of each way over each link (default %(default)s)")
    parser.add_argument("--rate", type=float, default=10.0, help="requests per second (default %(default)g)")
    parser.add_argument("--only", nargs="+", choices=LINKS, help="these links")
    parser.add_argument("--json", type=Path, help="write the numbers there")
    parser.add_argument("--part", choices=("server", "client"), help=argparse.SUPPRESS)
    parser.add_argument("--host", help=argparse.SUPPRESS)
    parser.add_argument("--keys", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part == "server":
        serve(args.host, args.keys)
    elif args.part == "client":
        print(json.dumps(ask_all(args.host, args.keys, args.requests, args.rate)))
    else:
        chosen = args.only or list(LINKS)
        if (why := possible()) and chosen != ["loopback"]:
            print(f"loopback only: {why}", file=sys.stderr)
            chosen = ["loopback"]
        found = {name: measure(name, args.requests, args.rate) for name in chosen}
        if args.json:
            args.json.write_text(json.dumps(found, indent=1) + "\n")
        print(f"| link | {' | '.join(WAYS)} |\n|---|{'---|' * len(WAYS)}")
        for name, ways in found.items():
            print(f"| {name} | {' | '.join(map(_times, ways.values()))} |")
        sizes = next(iter(found.values()))
        print(f"| kB a request | {' | '.join(map(_size, sizes.values()))} |")


if __name__ == "__main__":
    main()
