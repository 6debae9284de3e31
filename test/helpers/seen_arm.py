"""The demo arm as the doctor hears it: it follows its commands, two cameras see it; every fault can be seeded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from bagmaker import START_NS, image_message, joint_message, trajectory_message

from pi0_ros.doctor.heard import Endpoint, Session
from pi0_ros.robot import Robot, load_robot

ROBOT = load_robot("demo_arm")
BASE, WRIST = (camera.topic for camera in ROBOT.cameras)
STATE, COMMAND = ROBOT.state[0].topic, ROBOT.commands[0].topic
LAG_S, NOISE = 0.06, 1e-3
SIDE = 72


@dataclass(frozen=True)
class Seed:
    """One set-up: what differs from the right one. Functions get and give what the driver sends."""

    robot: Robot = ROBOT
    state: Callable[[np.ndarray], np.ndarray] = lambda position: position  # [J] as the driver says it
    command: Callable[[np.ndarray], np.ndarray] = lambda position: position
    picture: Callable[[str, np.ndarray, int], np.ndarray | None] = lambda topic, pixels, number: pixels
    swapped: bool = False  # the drivers of the two cameras publish on each other's topics
    stamp_off_s: float = 0.0
    offs: tuple[tuple[str, float], ...] = ()  # (topic, its stamps are off by, s)
    rates: tuple[tuple[str, float], ...] = ()
    moves: bool = True
    more_publishers: tuple[tuple[str, str], ...] = ()  # (topic, node)
    ends: Callable[[Endpoint], Endpoint] = lambda end: end
    names: tuple[str, ...] = ROBOT.joint_names


def listened(
    seed: Seed = Seed(),
    number: int = 0,
    seconds: float = 3.0,
    live: bool = True,
    silent: Callable[[str, float], bool] = lambda topic, t: False,
) -> Session:
    """What is heard of this arm; `number` chooses the motion, the noise and the scene; `silent`: not heard then."""
    random = np.random.default_rng(number)
    session = Session(seed.robot, live=live, other_nodes=("/driver",))
    poses = _poses(random, seconds, seed.moves)
    scene = random.integers(40, 215, (SIDE // 6, SIDE // 6, 3)).repeat(6, axis=0).repeat(6, axis=1).astype(np.uint8)
    grain = random.normal(0, 1.0, (7, SIDE, SIDE, 3))
    rates, offs = dict(seed.rates), dict(seed.offs)
    due: list[tuple[float, str, Callable[[int, float], Any]]] = []

    def every(topic: str, rate: float, make: Callable[[int, float, int], Any]) -> None:
        rate = rates.get(topic, rate)
        for count in range(int(seconds * rate)):
            t = count / rate + random.uniform(0, 2e-3)
            due.append((t, topic, lambda ns, t=t, count=count: make(ns, t, count)))

    def joints(ns: int, t: float, count: int) -> Any:
        position = poses(t - LAG_S) + random.normal(0, NOISE, len(ROBOT.joints))
        return joint_message(ns, seed.names, seed.state(position))

    def command(ns: int, t: float, count: int) -> Any:
        return trajectory_message(ns, ROBOT.joint_names, seed.command(poses(t)))

    def picture(topic: str, ns: int, t: float, count: int) -> Any:
        shown = {BASE: WRIST, WRIST: BASE}[topic] if seed.swapped else topic
        pixels = _base(scene, poses(t)) if shown == BASE else _wrist(scene, poses(t))
        noisy = np.clip(pixels + grain[count % len(grain)], 0, 255).astype(np.uint8)
        return image_message(ns, seed.picture(topic, noisy, count))

    every(STATE, 50.0, joints)
    every(COMMAND, 50.0, command)
    for topic in (BASE, WRIST):
        every(topic, 20.0, lambda ns, t, count, topic=topic: picture(topic, ns, t, count))
    for t, topic, make in sorted(due, key=lambda item: item[0]):
        if silent(topic, t):
            continue
        received_ns = START_NS + round(t * 1e9)
        off_s = seed.stamp_off_s + offs.get(topic, 0.004)
        session.take(topic, make(received_ns - round(off_s * 1e9)), received_ns, t)
    for heard in session.topics.values():
        kind = heard.item.type
        heard.publishers = [Endpoint("/controller" if heard.command else "/driver", kind)]
        heard.subscribers = [Endpoint("/driver" if heard.command else "/policy", kind, "best_effort")]
        heard.publishers += [Endpoint(node, kind) for topic, node in seed.more_publishers if topic == heard.topic]
        heard.publishers, heard.subscribers = (
            [seed.ends(end) for end in ends] for ends in (heard.publishers, heard.subscribers)
        )
    return session


def _poses(random: np.random.Generator, seconds: float, moves: bool) -> Callable[[float], np.ndarray]:
    """A smooth way through random poses: t -> float64 [J]."""
    lower, upper = ROBOT.lower, ROBOT.upper
    knots = lower + random.uniform(0.1, 0.9, (int(seconds) + 3, len(lower))) * (upper - lower)
    knots = knots if moves else np.repeat(knots[:1], len(knots), axis=0)

    def pose(t: float) -> np.ndarray:
        at = max(t + 0.5, 0.0)
        part = at - int(at)
        part = 10 * part**3 - 15 * part**4 + 6 * part**5
        return (1 - part) * knots[int(at)] + part * knots[int(at) + 1]

    return pose


def _base(scene: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """The scene from beside: a small arm moves in it."""
    pixels = scene.astype(float).copy()
    x, y = (10 + 40 * (np.array(pose[:2]) % 1.0)).astype(int)
    pixels[y : y + 14, x : x + 14] = (230, 120, 30)
    return pixels


def _wrist(scene: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """The scene from the hand: all of it moves with the joints."""
    return np.roll(scene[::-1], (int(60 * pose[0]), int(60 * pose[1])), axis=(0, 1)).astype(float)


def swapped_names(first: int, second: int) -> tuple[str, ...]:
    """The joints' names with two exchanged: a driver that labels its motors wrongly."""
    names = list(ROBOT.joint_names)
    names[first], names[second] = names[second], names[first]
    return tuple(names)


def with_camera(**changes: Any) -> Robot:
    """The robot with changes to its base camera."""
    base, *others = ROBOT.cameras
    return replace(ROBOT, cameras=(replace(base, **changes), *others))
