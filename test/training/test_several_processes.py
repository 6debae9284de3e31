"""Training on two processes is training on one: the same losses and weights, whatever was cut up, saved and resumed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from several_processes import main
from synthetic import TINY, make_data, make_source

from pi0_ros.model.paligemma import ModelInput
from pi0_ros.training.not_finite import explain
from pi0_ros.training.objective import Batch
from pi0_ros.training.progress_file import read_progress
from pi0_ros.training.recipe import RecipeError, recipe_from_dict
from pi0_ros.training.run import _check_world, prepare
from pi0_ros.training.world import ALONE, World

HELPERS = Path(__file__).parents[1] / "helpers"
COMMON = {
    "precision": "float32", "threads": 1, "held_out": 0.2, "validation_frames": 16, "model_overrides": TINY,
    "log_every": 2, "validate_every": 5, "save_every": 3, "save_dtype": "float32",
}  # fmt: skip
STAGES = [
    {
        "name": "ground", "steps": 6, "batch": 12, "lr": 3e-3, "warmup": 2, "ema": 0.5,
        "flow": 0, "auxiliary": {"grounding": 1},
    },
    {
        "name": "flow", "steps": 8, "batch": 8, "draws": 3, "lr": 3e-3, "warmup": 2, "ema": 0.5, "micro_batch": 3,
        "auxiliary": {"grounding": 0.1}, "state_noise": 0.05, "brightness": 0.1, "shift": 1, "event_weight": 2,
    },
]  # fmt: skip
LORA = [{"name": "few", "steps": 6, "batch": 8, "lr": 3e-3, "warmup": 2, "ema": 0.0, "trainable": "lora"}]
CASES: dict[str, dict[str, Any]] = {
    "fsdp": {**COMMON, "stages": STAGES},
    "ddp": {**COMMON, "stages": STAGES, "parallel": "ddp"},
    "lora": {**COMMON, "stages": LORA, "model": "demo", "rtc_max_delay": 3, "recompute": 1.0, "held_out": 0.0},
}


def on_two(folder: Path, cases: list[dict[str, Any]]) -> str:
    """Train the cases on two processes; returns what they printed."""
    (folder / "cases.json").write_text(json.dumps(cases))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HELPERS), *sys.path]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(HELPERS / "several_processes.py"), str(folder / "cases.json")],
        capture_output=True, text=True, env=environment, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def weights(out: Path) -> dict[str, torch.Tensor]:
    """The finished policy's."""
    return load_file(out / "checkpoint" / "model.safetensors")


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    """Shards, copies and low-rank factors; stopped on two and resumed on one, and the other way round."""
    one, two = tmp_path / "one", tmp_path / "two"
    main([{"recipe": wanted, "out": str(one / name)} for name, wanted in CASES.items()], ALONE)
    main([{"recipe": CASES["fsdp"], "out": str(two / "begun on one"), "stop_after": 9}], ALONE)
    stopped = [{"recipe": CASES["fsdp"], "out": str(two / "fsdp stopped"), "stop_after": 8}]
    cases = [{"recipe": wanted, "out": str(two / name)} for name, wanted in CASES.items()]
    said = on_two(tmp_path, [*cases, *stopped, {"recipe": CASES["fsdp"], "out": str(two / "begun on one")}])
    assert said.count("saved after step 2 of stage flow") == 2  # both processes
    main([{"recipe": CASES["fsdp"], "out": str(two / "fsdp stopped")}], ALONE)
    for out in sorted(two.iterdir()):
        alone = one / ("fsdp" if out.name == "begun on one" else out.name.split()[0])
        expected, found = weights(alone), weights(out)
        assert expected.keys() == found.keys()
        for name, tensor in expected.items():
            if name.endswith("k_proj.bias"):
                continue  # no answer depends on it: its gradient is rounding, which AdamW blows up
            torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5, msg=f"{out}: {name}")
        rows, others = (read_progress(folder / "progress.csv") for folder in (alone, out))
        others = {row["step"]: row for row in others}
        for row in rows:
            for name in ("loss", "grad_norm", "param_norm", "val_flow"):
                if row["step"] % 2 == 0 and row.get(name) is not None and row["step"] in others:
                    assert others[row["step"]][name] == pytest.approx(row[name], rel=1e-4), (out, row["step"], name)


def test_processes_that_cannot_share_the_work_are_refused() -> None:
    recipe = recipe_from_dict({**COMMON, "stages": STAGES}, "test.yaml")
    with pytest.raises(RecipeError, match="batch: 12 frames cannot be shared by 5 processes"):
        _check_world(recipe, World(0, 5))
    recipe = recipe_from_dict({**COMMON, "stages": STAGES, "compile": True}, "test.yaml")
    with pytest.raises(RecipeError, match="parallel=ddp"):
        _check_world(recipe, World(0, 2))


def test_each_process_keeps_its_own_rows_of_a_batch_that_is_not_finite(tmp_path: Path) -> None:
    mixture = prepare(
        [make_source(make_data(2, length=5))], recipe_from_dict(CASES["lora"], "test.yaml"), tmp_path, {}, {}
    ).mixture
    folders = []
    for rank in range(2):
        inputs = ModelInput(
            {}, {}, torch.zeros(1, 3), torch.ones(1, 3), torch.full((1, 8), float("nan") if rank else 0.0)
        )
        batch = Batch(np.array([7 * rank]), inputs, None, torch.zeros(0), torch.zeros(0), {})
        folders.append(tmp_path / "not_finite" / f"process_{rank}")
        said = str(explain(tmp_path, batch, mixture, "one", 3, World(rank, 2)))
        assert str(folders[rank]) in said and ("state of episode 1, frame 2 is not" in said) == bool(rank)
    frames = [json.loads((folder / "batch.json").read_text())["episode_and_frame"] for folder in folders]
    assert frames == [[[0, 0]], [[1, 2]]]
    assert explain(tmp_path, batch, mixture, "one", 3) and (tmp_path / "not_finite" / "batch.json").is_file()
