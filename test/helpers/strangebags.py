"""Changes of sound recordings: clocks, ends, labels, pictures and joints as they should not be. For `Recipe`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from bagmaker import START_NS, stamp

from pi0_ros.robot import load_robot

ROBOT = load_robot("demo_arm")
BASE, WRIST = (camera.topic for camera in ROBOT.cameras)
STATES, COMMANDS = ROBOT.state[0].topic, ROBOT.commands[0].topic
STAMPED = (BASE, WRIST, STATES, COMMANDS)
Change = Callable[[str, float, Any], Any]


def restamped(shift: Callable[[float], float], topics: Sequence[str] = STAMPED) -> Change:
    """A change of the stamps of these topics: by `shift` seconds at each true second."""

    def change(topic: str, t_s: float, message: Any) -> Any:
        if topic not in topics:
            return message
        ns = START_NS + round((t_s + shift(t_s)) * 1e9)
        return dataclasses.replace(message, header=dataclasses.replace(message.header, stamp=stamp(ns)))

    return change


def simulated(bare: Sequence[str] = ()) -> Change:
    """Stamps that count from 0; none on the topics `bare`."""

    def change(topic: str, t_s: float, message: Any) -> Any:
        ns = 0 if topic in bare else round(t_s * 1e9) + 1
        return dataclasses.replace(message, header=dataclasses.replace(message.header, stamp=stamp(ns)))

    return change


def during(first: float, last: float, topic: str, edit: Callable[[Any], Any]) -> Change:
    """`edit` of the topic's messages between two seconds."""
    return lambda other, t_s, message: edit(message) if other == topic and first <= t_s < last else message


def not_a_number(message: Any) -> Any:
    return dataclasses.replace(message, position=message.position * np.nan)


def empty_state(message: Any) -> Any:
    return dataclasses.replace(message, name=[], position=np.zeros(0))


def without_points(message: Any) -> Any:
    return dataclasses.replace(message, points=[])


def truncated(message: Any) -> Any:
    return dataclasses.replace(message, data=message.data[: len(message.data) // 2])


def black(message: Any) -> Any:
    return dataclasses.replace(message, data=message.data // 100)


def frozen(message: Any) -> Any:
    return dataclasses.replace(message, data=np.arange(len(message.data), dtype=np.uint8))


def grey(message: Any) -> Any:
    return dataclasses.replace(message, encoding="mono8", step=message.width, data=message.data[::3].copy())


def depth(message: Any) -> Any:
    data = np.zeros(message.width * message.height * 2, np.uint8)
    return dataclasses.replace(message, encoding="16UC1", step=message.width * 2, data=data)


def still(message: Any) -> Any:
    if hasattr(message, "points"):
        (point,) = message.points
        return dataclasses.replace(message, points=[dataclasses.replace(point, positions=point.positions * 0 + 0.5)])
    return dataclasses.replace(message, position=message.position * 0 + 0.5)


def trembling(message: Any) -> Any:
    """A joint at rest, with the noise of its sensor."""
    noise = np.random.default_rng(message.header.stamp.nanosec).normal(0, 0.02, 6)
    return dataclasses.replace(message, position=message.position * 0 + 0.5 + noise)


def reordered(message: Any) -> Any:
    return dataclasses.replace(message, name=message.name[::-1], position=message.position[::-1].copy())


def only(topic: str, first: float, last: float) -> Callable[[str, float], bool]:
    """The topic's messages between two seconds alone."""
    return lambda other, t_s: other != topic or first <= t_s <= last


def apart(topic: str, *pauses: tuple[float, float]) -> Callable[[str, float], bool]:
    """All but the topic's messages within the pauses."""
    return lambda other, t_s: other != topic or not any(first < t_s < last for first, last in pauses)
