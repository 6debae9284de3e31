"""A tiny robot, checkpoint and observation for tests of the policy, its server and its node.

Run as a program, it serves a policy without a network, and so without torch: `python policy_fixtures.py ADDRESS`.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ros.checkpoints.norm_stats import NormStats, Stats
from pi0_ros.control.chunk import ActionChunk
from pi0_ros.inference.backend import Backend
from pi0_ros.inference.client import Client
from pi0_ros.inference.failover import Failover
from pi0_ros.inference.keys import ServerKeys, read_server_keys
from pi0_ros.inference.metadata import Metadata
from pi0_ros.inference.prefix import ActionPrefix
from pi0_ros.inference.server import Server
from pi0_ros.observation.streams import Observation
from pi0_ros.robot import Robot, load_robot

FIXTURES = Path(__file__).parents[1] / "fixtures"
TOKENIZER = FIXTURES / "reference" / "tokenizer" / "tiny.model"
SECOND = 1_000_000_000


def free_port() -> int:
    """A TCP port of this machine on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def asking(*addresses: str, timeout_s: float, **more: Any) -> Iterator[Failover]:
    """The robot's side of these servers, in order of preference."""
    one = Failover([Client(address, timeout_s, **more) for address in addresses], timeout_s)
    try:
        yield one
    finally:
        one.close()


def tiny_robot() -> Robot:
    """The demo arm's file with generous ages, because test machines are slow."""
    robot = load_robot("demo_arm")
    cameras = tuple(replace(camera, max_age_s=2.0) for camera in robot.cameras)
    state = tuple(replace(item, max_age_s=2.0) for item in robot.state)
    return replace(robot, cameras=cameras, state=state, policy_rate_hz=10.0)


def tiny_stats(joints: int) -> NormStats:
    random = np.random.default_rng(3)
    mean, std = random.normal(size=joints) * 0.1, random.uniform(0.2, 0.4, joints)
    stats = Stats(mean, std, mean - 2 * std, mean + 2 * std)
    return NormStats(state=stats, actions=stats)


def tiny_config(horizon: int = 5):
    """A pi0 of a few thousand weights with two cameras of 24 px."""
    from pi0_ros.model.config import Expert, ModelConfig, Vision

    expert = Expert(width=16, depth=2, mlp_dim=16, num_heads=2, num_kv_heads=1, head_dim=8)
    return ModelConfig(
        model="pi0",
        vocab_size=512,
        vlm=expert,
        expert=expert,
        vision=Vision(width=16, depth=1, mlp_dim=16, num_heads=2, patch_size=12, image_size=24),
        action_dim=8,
        action_horizon=horizon,
        max_token_len=24,
        cameras=("base_0_rgb", "left_wrist_0_rgb"),
        discrete_state_input=False,
    )


def tiny_checkpoint(
    folder: Path, robot: Robot | None = None, seed: int = 0, kind: str = "pi0", horizon: int = 5
) -> Path:
    """Write a checkpoint of a pi0 or pi05 with random weights; equal seeds give equal weights."""
    import torch

    from pi0_ros.checkpoints.checkpoint import save_checkpoint
    from pi0_ros.checkpoints.settings import PolicySettings
    from pi0_ros.model.pi0 import Pi0

    robot = robot or tiny_robot()
    torch.manual_seed(seed)
    config = tiny_config(horizon)
    if kind == "pi05":
        config = replace(config, model=kind, discrete_state_input=True, max_token_len=64)
    model = Pi0(config)
    settings = PolicySettings("mean_std", "mean_std", fps=20.0, num_steps=4)
    return save_checkpoint(folder, model, config, settings, robot, tiny_stats(len(robot.joints)), TOKENIZER)


def observation(robot: Robot, seed: int = 0, stamp_ns: int = 5 * SECOND, size: int = 96) -> Observation:
    random = np.random.default_rng(seed)
    return Observation(
        stamp_ns=stamp_ns,
        images={camera.name: random.integers(0, 256, (size, size, 3), np.uint8) for camera in robot.cameras},
        state=random.normal(size=len(robot.joints)) * 0.2,
        prompt="put the red cube into the tray",
        ages_s={},
    )


class HeldPolicy:
    """Stays where it is: a chunk of the observed state, after `seconds`."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    timing: Mapping[str, float] = {}
    metadata = Metadata("held", "pi0", tiny_robot(), horizon=5, fps=20.0, image_size=24)

    def infer(self, observation: Observation, prefix: ActionPrefix | None = None) -> ActionChunk:
        time.sleep(self.seconds)
        actions = np.tile(observation.state, (5, 1))
        return ActionChunk(observation.stamp_ns, 50_000_000, actions, self.metadata.robot.joint_names)

    def close(self) -> None:
        pass


@contextmanager
def serving(policy: Backend, bind: str = "tcp://127.0.0.1:*", keys: ServerKeys | None = None) -> Iterator[Server]:
    """A running server of `policy`."""
    stop = threading.Event()
    server = Server(policy, bind, keys)
    thread = threading.Thread(target=server.run, args=(stop.is_set,))
    thread.start()
    try:
        yield server
    finally:
        stop.set()
        thread.join()
        server.close()


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("seconds", type=float, nargs="?", default=0.0, help="of each inference")
    parser.add_argument("--model", default="pi0")
    parser.add_argument("--keys", type=Path)
    parser.add_argument("--websocket", type=int, help="port on this machine")
    given = parser.parse_args()
    held = HeldPolicy(given.seconds)
    held.metadata = replace(held.metadata, model=given.model)
    served = Server(held, given.address, read_server_keys(given.keys) if given.keys else None)
    if given.websocket:
        from pi0_ros.inference.openpi_server import OpenpiServer

        OpenpiServer(held, "127.0.0.1", given.websocket).start()
    print(served.address, served.session, flush=True)
    served.run(stop=lambda: False)
