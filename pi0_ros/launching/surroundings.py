"""What a launch finds already running around it. Who looks is in `pi0_ros/nodes/look_around.py`; no ROS here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pi0_ros.base.errors import InputError
from pi0_ros.launching.launches import Command


@dataclass(frozen=True)
class Surroundings:
    """Of one namespace."""

    nodes: frozenset[str] = frozenset()  # names of those looked for that are there, and answer
    silent: frozenset[str] = frozenset()  # that are in the graph and do not answer: just killed, or at work
    description: str = ""  # the URDF on the topic robot_description
    clocks: frozenset[str] = frozenset()  # nodes of any namespace that publish /clock


Look = Callable[[str, Iterable[str]], Surroundings]  # (namespace, names of nodes)


def nothing_around(namespace: str, names: Iterable[str]) -> Surroundings:
    """A `Look` that does not look."""
    return Surroundings()


def check_names(commands: Iterable[Command], around: Surroundings) -> list[str]:
    """InputError where a node to be started runs already, or a second one would tell the time; what to say of those
    that may run."""
    commands = list(commands)
    taken = [full_name(command) for command in commands if command.name in around.nodes]
    if taken:
        raise InputError(
            f"{' and '.join(taken)} {'is' if len(taken) == 1 else 'are'} running already in this ROS_DOMAIN_ID: end "
            f"{'it' if len(taken) == 1 else 'them'} first, or start these under another namespace:=NAME"
        )
    if around.clocks and any(command.parameters.get("clock") for command in commands):
        raise InputError(
            f"/clock is told already by {', '.join(sorted(around.clocks))}, and a ROS_DOMAIN_ID has one simulated time "
            "whatever the namespaces: give these another ROS_DOMAIN_ID, or leave out use_sim_time:=true"
        )
    return [
        f"a node {full_name(command)} is known to the network but does not answer: if it was killed, it is forgotten "
        "within 20 s; if it lives, end it"
        for command in commands
        if command.name in around.silent
    ]


def full_name(command: Command) -> str:
    """A node's name with its namespace."""
    return f"/{command.namespace}/{command.name}" if command.namespace else f"/{command.name}"
