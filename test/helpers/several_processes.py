"""Started by torchrun: trains the synthetic task once for every case of a JSON file, on all processes together.

A case is `{"recipe": ..., "out": folder, "stop_after": steps}`: after so many steps the last process gets SIGTERM.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from synthetic import make_data, make_source

from pi0_ros.sim.grounding import Grounding
from pi0_ros.training import loop
from pi0_ros.training.recipe import recipe_from_dict
from pi0_ros.training.saving import TrainingStoppedError
from pi0_ros.training.world import World, joined


def main(cases: list[dict[str, Any]], world: World) -> None:
    """Train all cases."""
    source, plain = make_source(make_data(9, length=15)), loop.train_step
    for case in cases:
        left = [case.get("stop_after") or 10**9]

        def step(*args: Any, left: list[int] = left) -> Any:
            numbers = plain(*args)
            left[0] -= 1
            if left[0] == 0 and world.rank == world.size - 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return numbers

        loop.train_step = step
        try:
            loop.train_on(
                [source], recipe_from_dict(case["recipe"], "test.yaml"), Path(case["out"]),
                resume=True, auxiliary={"grounding": Grounding}, world=world,
            )  # fmt: skip
        except TrainingStoppedError as stopped:
            print(f"process {world.rank}: {stopped}")


if __name__ == "__main__":
    with joined() as world:
        main(json.loads(Path(sys.argv[1]).read_text()), world)
