"""Serve a policy over ZeroMQ for robots without a GPU.

    pi0 serve --checkpoint runs/stack_cups/best
    pi0 serve --checkpoint runs/stack_cups/best --bind tcp://0.0.0.0:5555 --keys keys/server --device cuda
    pi0 serve --checkpoint pi05_droid --robot franka_droid       (a checkpoint of openpi or LeRobot, as downloaded)
    pi0 serve --checkpoint pi05_droid --robot franka_droid --websocket 8000         (for openpi's clients, too)
    pi0 serve --checkpoint pi05_droid --robot franka_droid --websocket 0.0.0.0:8000 --token-file token.txt
    pi0 serve --checkpoint runs/stack_cups/best --device cuda:0,cuda:1 --metrics 9100  (both GPUs, one address)
    pi0 serve --status 127.0.0.1:5555                                                  (what does that server do?)

The default address is reachable from this machine only. Beyond it the server wants keys (`pi0 keys create keys/ NAME`),
or a token for openpi's clients, unless you say --insecure: whoever reaches it may then ask. On the robot:

    ros2 launch pi0_ros policy.launch.py robot:=my_robot backend:=zmq server:=tcp://gpu-box:5555 keys:=NAME

The work is done by a second process. Should it die, however that came, another takes its place and that is said.
SIGTERM lets it answer what it took; what comes later is refused, so that robots turn to their next server.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pi0_ros.base.arguments import count
from pi0_ros.base.errors import InputError
from pi0_ros.cli import serve_status
from pi0_ros.inference.addresses import is_local, is_local_endpoint, parse_port
from pi0_ros.inference.backend import Backend
from pi0_ros.inference.keys import ServerKeys, read_server_keys
from pi0_ros.inference.metrics import MetricsServer
from pi0_ros.inference.openpi import read_token
from pi0_ros.inference.options import LOCAL, OPTIONS, add_policy_arguments, policy_options
from pi0_ros.inference.protocol import DEFAULT_ADDRESS
from pi0_ros.inference.server import Server
from pi0_ros.launching import supervisor
from pi0_ros.launching.lifeline import Lifeline
from pi0_ros.launching.workers import Workers
from pi0_ros.robot import load_robot

if TYPE_CHECKING:
    from pi0_ros.inference.openpi_server import OpenpiServer

log = logging.getLogger("pi0 serve")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_policy_arguments(parser, checkpoint_required=False)
    parser.add_argument("--robot", help="robot file, by name or path; needed where the checkpoint carries none")
    parser.add_argument("--bind", default=DEFAULT_ADDRESS, help="address to listen on (default %(default)s)")
    parser.add_argument("--keys", dest="own_keys", metavar="FOLDER", type=Path, help="keys/server of `pi0 keys create`")
    parser.add_argument(
        "--batch",
        type=count,
        default=1,
        metavar="N",
        help="infer for up to N waiting robots at once, if that changes no answer by more than 1e-5 (default 1)",
    )
    parser.add_argument(
        "--metrics",
        metavar="[HOST:]PORT",
        help="answer /metrics (Prometheus) and /healthz there (this machine only without HOST)",
    )
    parser.add_argument(
        "--status",
        metavar="HOST:PORT",
        help="ask the server there what it does, print that and end; with --keys FOLDER of a robot where it wants keys",
    )
    parser.add_argument("--insecure", action="store_true", help="listen beyond this machine without keys or token")
    openpi = parser.add_argument_group("openpi's clients")
    openpi.add_argument(
        "--websocket", metavar="[HOST:]PORT", help="speak openpi's protocol there, too (this machine only without HOST)"
    )
    openpi.add_argument(
        "--token-file",
        dest="wanted_token",
        metavar="FILE",
        type=Path,
        help="clients must send the token in it (openpi-client: api_key)",
    )
    openpi.add_argument("--tls-cert", type=Path, help="certificate chain, PEM: clients connect to wss://")
    openpi.add_argument("--tls-key", type=Path, help="its private key, PEM")


def run(args: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s", datefmt="%H:%M:%S")
    if args.status is not None:
        return serve_status.show(args.status, args.own_keys)
    if supervisor.is_worker():
        return _serve(args) if len(_devices(args)) == 1 else _serve_from_several(args)
    if not args.checkpoint:
        raise InputError("give --checkpoint FOLDER, or --status HOST:PORT of a server that runs")
    _keys(args)  # what cannot be is said before a worker is started
    _websocket(args)
    _metrics(args)
    _devices(args)
    return supervisor.supervise([sys.executable, "-m", "pi0_ros.cli", "serve", *args.given], log.error)


def _serve(args: argparse.Namespace) -> int:
    """The worker: load, answer, end with its supervisor."""
    from pi0_ros.policy.batch import MOST_APART, apart
    from pi0_ros.policy.policy import load_policy

    stop, lifeline = _stop_requests(), Lifeline.from_environment()
    policy = load_policy(policy_options(args), robot=load_robot(args.robot) if args.robot else None)
    if args.batch > 1 and not (found := apart(policy, args.batch)) <= MOST_APART:
        raise InputError(
            f"--batch {args.batch}: answers would differ from single ones by {found:.2g} (at most {MOST_APART:g} is "
            "allowed): try --dtype float32, or leave --batch out"
        )
    _answer(args, policy, lambda: stop.is_set() or lifeline.cut, batch=args.batch)
    return 0


def _serve_from_several(args: argparse.Namespace) -> int:
    """The worker that owns the socket: each device has a server of its own behind it."""
    stop, lifeline = _stop_requests(), Lifeline.from_environment()
    given = {name: getattr(args, name) for name in LOCAL if name != "device"}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value != OPTIONS[name].default]
    options += [f"--batch={args.batch}", *([f"--robot={args.robot}"] if args.robot else [])]
    command = [sys.executable, "-m", "pi0_ros.cli", "serve", *options]
    workers = Workers(_devices(args), lambda device, address: [*command, f"--device={device}", f"--bind={address}"])
    try:
        workers.start()
        metadata = workers.wait_until_ready(lambda: not stop.is_set() and not lifeline.cut)
        if metadata is not None:
            pool = workers.pool(metadata, each=args.batch)
            try:
                done = lambda: stop.is_set() or lifeline.cut or workers.ended() is not None  # noqa: E731
                _answer(args, pool, done, threads=len(pool))
            finally:
                pool.close()
        if (ended := workers.ended()) is None:
            return 0
        log.error("%s", ended)
        return ended.returncode if ended.returncode > 0 else 1
    finally:
        workers.stop()


def _answer(
    args: argparse.Namespace, policy: Backend, stop: Callable[[], bool], *, threads: int = 1, batch: int = 1
) -> None:
    """Answer on every socket that was asked for until `stop()`, then what was taken, and close."""
    keys, websocket, metrics = _keys(args), _websocket(args), _metrics(args)
    metadata = policy.metadata
    assert metadata is not None
    server = Server(policy, args.bind, keys, threads=threads, batch=batch)
    openpi: OpenpiServer | None = None
    watched: MetricsServer | None = None

    def look() -> dict[str, Any]:
        found = server.look()
        if openpi is not None:
            found["answered"] += openpi.answered
            found["refused"] |= openpi.refusals.by_code
        return found

    try:
        openpi = websocket(policy) if websocket is not None else None
        watched = MetricsServer(look, *metrics) if metrics is not None else None
        log.info(
            "serving %s (%s, robot '%s', %d actions at %g Hz) on %s",
            args.checkpoint, metadata.model, metadata.robot.name, metadata.horizon, metadata.fps, server.address,
        )  # fmt: skip
        if keys is None and not is_local_endpoint(args.bind):
            log.warning("%s is open to the network, without keys or encryption", server.address)
        supervisor.at_work()
        if openpi is not None:
            openpi.start()
            log.info("openpi's clients are answered on %s", openpi.address)
        if watched is not None:
            watched.start()
            log.info("numbers are on %s", watched.address)
        server.run(stop)
        if openpi is not None:
            openpi.drain()
    finally:
        server.close()
        for other in (openpi, watched):
            if other is not None:
                other.close()
    log.info("stopped after %d chunks", server.answered + (openpi.answered if openpi is not None else 0))


def _stop_requests() -> threading.Event:
    """Set by the signals that end a server in order."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, frame: stop.set())
    return stop


def _devices(args: argparse.Namespace) -> list[str]:
    """What --device lists: a policy runs on each."""
    devices = [device.strip() for device in args.device.split(",")]
    if not all(devices) or (len(devices) > 1 and "auto" in devices):
        raise InputError(f"--device {args.device}: expected one, or several by name, such as cuda:0,cuda:1")
    return devices


def _metrics(args: argparse.Namespace) -> tuple[str, int] | None:
    return parse_port("--metrics", args.metrics) if args.metrics is not None else None


def _keys(args: argparse.Namespace) -> ServerKeys | None:
    """The server's own keys; beyond this machine it wants them."""
    keys = read_server_keys(args.own_keys) if args.own_keys else None
    if not (keys or args.insecure or is_local_endpoint(args.bind)):
        raise InputError(
            f"--bind {args.bind} is open to the network: give --keys (`pi0 keys create`) or say --insecure"
        )
    return keys


def _websocket(args: argparse.Namespace) -> Callable[[Backend], OpenpiServer] | None:
    """What opens openpi's server, once the policy is there; what cannot be is refused before it is loaded."""
    if args.websocket is None:
        alone = {"--token-file": args.wanted_token, "--tls-cert": args.tls_cert, "--tls-key": args.tls_key}
        for option, value in alone.items():
            if value:
                raise InputError(f"{option} belongs to --websocket")
        return None
    from pi0_ros.inference.openpi_server import OpenpiServer, read_tls

    host, port = parse_port("--websocket", args.websocket)
    token = read_token(args.wanted_token) if args.wanted_token else ""
    if not (token or args.insecure or is_local(host)):
        raise InputError(f"--websocket {args.websocket} is open to the network: give a --token-file, or say --insecure")
    if (args.tls_cert is None) != (args.tls_key is None):
        raise InputError("--tls-cert and --tls-key belong together: give both")
    tls = read_tls(args.tls_cert, args.tls_key) if args.tls_cert else None
    return partial(OpenpiServer, host=host, port=port, token=token, tls=tls)
