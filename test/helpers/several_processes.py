"""Started by torchrun: trains the synthetic task once for every case of a JSON file, on all processes together.

A case is `{"recipe": ..., "out": folder}` and perhaps

    "stop_after": steps     after so many steps the last process gets SIGTERM
    "killed": [rank, save]  that process is killed while it writes this save's shards, when its part is on disk
    "state_of": folder      nothing is trained: the training state of that run's checkpoint is read, and saved in `out`
    "two_robots": true      a mixture
    "labelled": true        frames with labels
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from synthetic import make_data, make_labelled, make_source, two_robots
from torch.distributed.checkpoint import HuggingFaceStorageWriter

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
        if case.get("killed"):
            die_in(*case["killed"], world)
        if case.get("state_of"):
            copy_state(Path(case["state_of"]), Path(case["out"]), case["recipe"], world)
            continue
        sources = two_robots() if case.get("two_robots") else [source]
        sources = [make_source(make_labelled())] if case.get("labelled") else sources
        try:
            loop.train_on(
                sources, recipe_from_dict(case["recipe"], "test.yaml"), Path(case["out"]),
                resume=True, auxiliary={"grounding": Grounding}, world=world,
            )  # fmt: skip
        except TrainingStoppedError as stopped:
            print(f"process {world.rank}: {stopped}")


def die_in(rank: int, save: int, world: World) -> None:
    """Let one process die in the middle of a save."""
    plain, left = HuggingFaceStorageWriter.write_data, [save]

    def write_data(self: HuggingFaceStorageWriter, *args: Any) -> Any:
        written = plain(self, *args)
        left[0] -= 1
        if left[0] == 0 and world.rank == rank:
            os.kill(os.getpid(), signal.SIGKILL)
        return written

    HuggingFaceStorageWriter.write_data = write_data


def copy_state(run_folder: Path, out: Path, recipe: dict[str, Any], world: World) -> None:
    """Read the training state of a stopped run with these processes, and save it with them."""
    source = make_source(make_data(9, length=15))
    wanted = recipe_from_dict(recipe, "test.yaml")
    run = world.after_first(lambda: loop.prepare([source], wanted, run_folder, {}, {"grounding": Grounding}, world))
    learner = loop.new_learner(run)
    learning = loop.ever_learning(learner, wanted, run.spec.config.cached_depth)
    average = loop.Average(learning, any(stage.ema > 0 for stage in wanted.stages))
    position = loop.read_position(run_folder / "checkpoint")
    optimizer = loop.new_optimizer(learner, wanted.stages[position.stage], wanted, run.spec.config.cached_depth)
    loop.read_state(run_folder / "checkpoint", learning, average, optimizer, position)
    saver = loop.Saver(run, out, learner, learning)
    saver.save(average, optimizer, position, done=False)
    saver.wait()


if __name__ == "__main__":
    with joined() as world:
        main(json.loads(Path(sys.argv[1]).read_text()), world)
