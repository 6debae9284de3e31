"""A controller with a fault, which the suite must see: python planted.py PLANT --ros-args ..."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pi0_ros.control.controller import Controller
from pi0_ros.control.states import Command
from pi0_ros.nodes import controller_node
from pi0_ros.nodes.command_output import CommandOutput

EVERY = 30  # commands


def kept_velocity() -> None:
    """Time without ticks counts as nothing."""
    made = Controller.__init__

    def init(self: Controller, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
        self.stalls.limit_s = 1e9

    Controller.__init__ = init  # type: ignore[method-assign]


def displaced(by: float) -> Callable[[], None]:
    """One command in `EVERY` of the first joint is somewhere else."""

    def plant() -> None:
        publish, count = CommandOutput.publish, iter(range(10**9))

        def displace(self: CommandOutput, command: Command, *args: Any, **kwargs: Any) -> bool:
            if next(count) % EVERY == EVERY - 1:
                command = replace(command, position=command.position + [by, 0.0, 0.0])
            return publish(self, command, *args, **kwargs)

        CommandOutput.publish = displace  # type: ignore[method-assign]

    return plant


PLANTS = {"kept velocity": kept_velocity, "jump": displaced(0.05), "acceleration": displaced(0.5 * 16.0 * 0.02**2)}

if __name__ == "__main__":
    PLANTS[sys.argv.pop(1)]()
    sys.exit(controller_node.main())
