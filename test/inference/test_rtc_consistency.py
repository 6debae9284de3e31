"""The shipped demo policy: with real-time chunking the next chunk agrees with what is executed meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import pi0_ros
from pi0_ros.control.plan import Plan
from pi0_ros.control.splines import chunk_spline
from pi0_ros.inference.client import Client
from pi0_ros.inference.options import PolicyOptions
from pi0_ros.inference.prefix import ActionPrefix, Continuation, RtcSettings
from pi0_ros.inference.server import Server
from pi0_ros.observation.streams import Observation
from pi0_ros.policy.policy import Policy, load_policy

pytest.importorskip("mujoco")
from pi0_ros.sim.world import CAMERAS, TICK, World

CHECKPOINT = Path(pi0_ros.__file__).parent / "sim" / "checkpoint"
START, EXECUTED_S, DELAY = 1000.0, 0.4, 4  # the next observation is taken 0.4 s on; 4 actions pass before its chunk
SCENES = 4


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy(PolicyOptions(checkpoint=str(CHECKPOINT), device="cpu", torch_threads=1))


@pytest.fixture
def client(policy: Policy) -> Iterator[Client]:
    server, stop = Server(policy, "tcp://127.0.0.1:*"), threading.Event()
    thread = threading.Thread(target=server.run, args=(stop.is_set,))
    thread.start()
    one = Client(server.address, timeout_s=60.0)
    yield one
    one.close()
    stop.set()
    thread.join()
    server.close()


def scene(policy: Policy, seed: int) -> tuple[Observation, ActionPrefix, np.ndarray]:
    """Follow a first chunk for a while: what is seen then, what is known then, and what the robot does meanwhile."""
    world, robot = World(), policy.spec.robot
    world.reset(seed)

    def look(stamp: float) -> Observation:
        images = {camera: world.render(camera) for camera in CAMERAS}
        return Observation(round(stamp * 1e9), images, world.joint_positions(), robot.prompt, {})

    chunk = policy.infer(look(START))
    going = chunk_spline(chunk, "cubic", robot.gripper_mask)
    continuation = Continuation(RtcSettings(), robot.gripper_mask, robot.velocity)
    continuation.sent(round(START * 1e9), going.positions(np.array([START]))[0])
    continuation.published(chunk, round((START + (DELAY - 0.5) * chunk.dt) * 1e9))  # taken over with the command after
    now = START
    while now < START + EXECUTED_S - 1e-9:
        now += TICK
        command = going.positions(np.array([now]))[0]
        world.step(command)
        continuation.sent(round(now * 1e9), command)
    ahead = TICK * np.arange(round((chunk.end - now) / TICK) + 1)  # what a controller that follows it says
    plan = Plan(ahead, going.positions(now + ahead), going.velocities(now + ahead))
    continuation.planned(round(now * 1e9), plan)
    prefix = continuation.prefix(round(now * 1e9))
    assert prefix is not None and prefix.delay == DELAY
    return look(now), prefix, going.positions(now + chunk.dt * np.arange(DELAY))


def disagreement(chunks: list[np.ndarray], executed: list[np.ndarray], arm: np.ndarray) -> float:
    """Root mean square over scenes, executed actions and the arm's joints, rad."""
    return float(np.sqrt(np.mean([(c[:DELAY, arm] - e[:, arm]) ** 2 for c, e in zip(chunks, executed, strict=True)])))


def test_successive_chunks_agree_on_what_is_executed_meanwhile(policy: Policy, client: Client) -> None:
    scenes = [scene(policy, 1000 + number) for number in range(SCENES)]
    executed, arm = [moves for _, _, moves in scenes], ~policy.spec.robot.gripper_mask
    plain = [policy.infer(seen).actions for seen, _, _ in scenes]
    found = {"off": disagreement(plain, executed, arm)}
    for mode in ("exact", "lerobot"):
        asked = [(seen, ActionPrefix(p.actions, p.dt, p.delay, RtcSettings(mode))) for seen, p, _ in scenes]
        here = [policy.infer(seen, prefix).actions for seen, prefix in asked]
        found[mode] = disagreement(here, executed, arm)
        for (seen, prefix), actions in zip(asked, here, strict=True):
            np.testing.assert_array_equal(client.infer(seen, prefix).actions, actions)  # the same from a server
    assert found["exact"] < 0.5 * found["off"] and found["lerobot"] < 0.5 * found["off"], found
