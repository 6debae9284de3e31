"""Where every node's process begins: signals first, then the node's module, whose libraries take a while to load.

    python -m pi0_ros.nodes.start controller --ros-args -p robot:=demo_arm

The console scripts (`ros2 run pi0_ros controller_node`) and both launchers begin here, so that Ctrl-C ends a process
that is still loading at once and without a traceback, and a library that is not installed is one line with its cure.
"""

from __future__ import annotations

import importlib
import signal
import sys
from functools import partial

from pi0_ros.base.errors import InputError, report


def run(node: str, args: list[str] | None = None) -> int:
    """Run the node's module; its exit status."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        from pi0_ros.launching.parameters import NODES  # takes a moment, in which a signal is answered already

        if node not in NODES:
            raise InputError(f"no node is called {node!r}: there are {', '.join(NODES)}")
        module = importlib.import_module(f"pi0_ros.nodes.{node}_node")
    except Exception as error:
        return report(error, f"{node}_node")
    return int(module.main(args))


policy = partial(run, "policy")
controller = partial(run, "controller")
recorder = partial(run, "recorder")
monitor = partial(run, "monitor")
viewer = partial(run, "viewer")
flight = partial(run, "flight")
joystick = partial(run, "joystick")
sim = partial(run, "sim")
demonstrator = partial(run, "demonstrator")


if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    sys.argv = [f"{name}_node", *sys.argv[2:]]
    sys.exit(run(name))
