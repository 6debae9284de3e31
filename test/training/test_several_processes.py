"""Training on two processes is training on one: the same losses and weights, whatever was cut up, saved and resumed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from several_processes import main
from synthetic import TINY, make_data, make_source

from pi0_ros.checkpoints.folders import leftovers
from pi0_ros.checkpoints.safetensors_files import CheckpointError
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
MIXTURE = {
    **COMMON, "log_every": 1,
    "stages": [{"name": "flow", "steps": 6, "batch": 8, "lr": 1e-3, "warmup": 1, "ema": 0.5, "shift": 1}],
}  # fmt: skip
SUBTASK = {
    **COMMON, "log_every": 1, "prompts": "subtask",
    "model_overrides": {**TINY, "model": "pi05", "discrete_state_input": True, "max_token_len": 64},
    "stages": [{"name": "both", "steps": 4, "batch": 8, "lr": 1e-3, "warmup": 1, "auxiliary": {"subtask": 0.5}}],
}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "fsdp": {**COMMON, "stages": STAGES},
    "ddp": {**COMMON, "stages": STAGES, "parallel": "ddp"},
    "lora": {**COMMON, "stages": LORA, "model": "demo", "rtc_max_delay": 3, "recompute": 1.0, "held_out": 0.0},
}


def on_two(folder: Path, cases: list[dict[str, Any]], killed: bool = False) -> str:
    """Train the cases on two processes, of which one may be `killed`; returns what they printed."""
    (folder / "cases.json").write_text(json.dumps(cases))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HELPERS), *sys.path]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(HELPERS / "several_processes.py"), str(folder / "cases.json")],
        capture_output=True, text=True, env=environment, timeout=1500,
    )  # fmt: skip
    assert bool(done.returncode) == killed, done.stdout + done.stderr
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


def state_in(out: Path) -> dict[str, torch.Tensor]:
    """The training state of a stopped run, put together from its shards where it has any."""
    folder = out / "checkpoint" / "train_state"
    if (folder / "state.safetensors").is_file():
        return load_file(folder / "state.safetensors")
    found: dict[str, torch.Tensor] = {}
    for path in sorted((folder / "shards").iterdir()):
        with safe_open(path, "pt") as file:
            places = json.loads(file.metadata()["DCP_SHARDING_INFO"])
            for name in places:
                part, start = file.get_tensor(name), places[name]["saved_offsets"][0]
                found.setdefault(name, torch.zeros(0, *part.shape[1:]))
                assert len(found[name]) == start  # files come in the order of the processes
                found[name] = torch.cat([found[name], part])
    return found


def assert_same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if not torch.equal(found[name], wanted[name])] == []


def assert_losses(found: Path, wanted: Path, *names: str) -> None:
    """The same numbers in every step."""
    rows, others = (read_progress(out / "progress.csv") for out in (found, wanted))
    assert len(rows) == len(others) > 3
    for row, other in zip(rows, others, strict=True):
        for name in names:  # validation is not in every row
            assert row[name] == (other[name] and pytest.approx(other[name], rel=1e-5)), (found, row["step"], name)


@pytest.mark.slow
def test_each_process_saves_its_shards_and_any_number_goes_on(tmp_path: Path) -> None:
    """Stopped, and killed in the middle of a save: on two as if nothing had been, on one with the very same state.

    The same of a mixture of two robots, whose losses are those of one process; so are those of subtasks.
    """
    wanted = CASES["fsdp"]
    of = {name: tmp_path / name for name in ("whole", "stopped", "killed", "one", "two", "back", "on one")}
    main([{"recipe": wanted, "out": str(of["one"]), "stop_after": 8}], ALONE)
    mixed = {name: tmp_path / f"mixture {name}" for name in ("alone", "whole", "stopped")}
    mixture: dict[str, Any] = {"recipe": MIXTURE, "two_robots": True}
    text: dict[str, Any] = {"recipe": SUBTASK, "labelled": True}
    main([{**mixture, "out": str(mixed["alone"])}, {**text, "out": str(tmp_path / "text alone")}], ALONE)
    cases = [
        {**text, "out": str(tmp_path / "text")},
        {**mixture, "out": str(mixed["whole"])},
        {**mixture, "out": str(mixed["stopped"]), "stop_after": 4},
        {"recipe": wanted, "out": str(of["whole"])},
        {"recipe": {**wanted, "keep_last": 2}, "out": str(of["stopped"]), "stop_after": 8},
        {"recipe": wanted, "out": str(of["two"]), "state_of": str(of["one"])},
        {"recipe": wanted, "out": str(of["killed"]), "killed": [1, 3]},
    ]
    on_two(tmp_path, cases, killed=True)
    assert_same(state_in(of["two"]), state_in(of["one"]))  # from one to two
    assert sorted(path.name for path in (of["stopped"] / "checkpoints").iterdir()) == ["6", "8"]
    assert not any((of["stopped"] / "checkpoints").rglob("train_state"))
    files = sorted((of["stopped"] / "checkpoint" / "train_state" / "shards").iterdir())
    sizes = [path.stat().st_size for path in files]
    assert len(files) == 2 and max(sizes) < 1.5 * min(sizes)
    main([{"recipe": wanted, "out": str(of["back"]), "state_of": str(of["stopped"])}], ALONE)
    assert_same(state_in(of["back"]), state_in(of["stopped"]))  # from two to one
    saved = json.loads((of["killed"] / "checkpoint" / "config.json").read_text())["training"]
    assert (saved["stage"], saved["step"]) == ("ground", 6)
    shutil.copytree(of["killed"], of["on one"])
    again = [{"recipe": wanted, "out": str(of[name])} for name in ("stopped", "killed")]
    on_two(tmp_path, [*again, {**mixture, "out": str(mixed["stopped"])}])
    main([{"recipe": wanted, "out": str(of["on one"])}], ALONE)
    for name in ("stopped", "killed"):
        assert_same(weights(of[name]), weights(of["whole"]))
        assert not leftovers(of[name] / "checkpoint") and not (of[name] / "checkpoint" / "train_state").exists()
    assert_same(weights(mixed["stopped"]), weights(mixed["whole"]))
    assert sorted(path.name for path in (mixed["stopped"] / "checkpoint" / "robots").iterdir()) == ["other"]
    assert_losses(mixed["whole"], mixed["alone"], "loss", "grad_norm", "val_flow")
    assert_losses(tmp_path / "text", tmp_path / "text alone", "loss", "subtask", "grad_norm", "val_subtask")
    (last,), (expected,) = (read_progress(of[name] / "progress.csv")[-1:] for name in ("on one", "whole"))
    assert last["loss"] == pytest.approx(expected["loss"], rel=1e-4)


def test_a_missing_shard_is_said_and_never_read_as_zeros(tmp_path: Path) -> None:
    out = tmp_path / "run"
    main([{"recipe": CASES["lora"], "out": str(out), "stop_after": 2}], ALONE)
    state = out / "checkpoint" / "train_state"
    whole = load_file(state / "state.safetensors")
    (state / "state.safetensors").unlink()
    (state / "shards").mkdir()
    for number, cut in enumerate((slice(0, 1), slice(1, None)), 1):
        parts = {name: tensor[cut].contiguous() for name, tensor in whole.items() if len(tensor[cut])}
        offsets = {name: {"saved_offsets": [cut.start, *[0] * (tensor.ndim - 1)]} for name, tensor in parts.items()}
        save_file(parts, state / "shards" / f"{number}.safetensors", {"DCP_SHARDING_INFO": json.dumps(offsets)})
    main([{"recipe": CASES["lora"], "out": str(tmp_path / "copy"), "state_of": str(out)}], ALONE)
    assert_same(state_in(tmp_path / "copy"), whole)
    (state / "shards" / "1.safetensors").unlink()
    with pytest.raises(CheckpointError, match="are missing: copy the files of all processes"):
        main([{"recipe": CASES["lora"], "out": str(out)}], ALONE)
    (state / "shards" / "2.safetensors").unlink()
    with pytest.raises(CheckpointError, match="does not fit this model"):
        main([{"recipe": CASES["lora"], "out": str(out)}], ALONE)


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
