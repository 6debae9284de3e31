"""Weights in and out: names, sizes, dtypes, and files that are not what they should be."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import reference
import torch
from safetensors.torch import load_file, save_file

from pi0_ros.checkpoints.safetensors_files import WeightsError
from pi0_ros.checkpoints.sources import EMBEDDING, TIED_HEAD, UNUSED_HEAD
from pi0_ros.checkpoints.weights import load_model, named_weights, save_model
from pi0_ros.model.config import ModelConfig
from pi0_ros.model.pi0 import Pi0

both_models = pytest.mark.parametrize("name", reference.MODELS)


@both_models
def test_a_saved_model_equals_the_file_it_came_from(name, tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(reference.model(name), path)
    ours, theirs = load_file(path), load_file(reference.ROOT / name / "model.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


@both_models
def test_bfloat16_survives_a_round_trip(name, tmp_path):
    config = replace(reference.config(name), dtype="bfloat16")
    model = Pi0(config)
    save_model(model, tmp_path / "model.safetensors")
    again = load_model(config, tmp_path / "model.safetensors")
    pairs = zip(model.parameters(), again.parameters(), strict=True)
    assert all(a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)


@both_models
def test_real_size_names_shapes_and_dtypes(name):
    keys = json.loads((reference.ROOT.parent / "keys" / f"{name}_torch.json").read_text())
    with torch.device("meta"):
        weights = named_weights(Pi0(ModelConfig.preset(name)))
    dtypes = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
    ours = {key: [list(weight.shape), dtypes[weight.dtype]] for key, weight in weights.items()}
    theirs = {key: [shape, openpi] for key, (shape, openpi, _) in keys.items()}
    assert theirs.keys() - ours.keys() == {TIED_HEAD, UNUSED_HEAD}
    assert ours == {key: theirs[key] for key in ours}
    billions = sum(weight.numel() for weight in weights.values()) / 1e9
    assert billions == pytest.approx({"pi0": 3.238, "pi05": 3.353}[name], abs=5e-4)


def test_loading_leaves_torchs_compiler_out() -> None:
    """It takes longer to import than all else that a policy process does at its start."""
    code = "import sys, reference; reference.model('pi0'); sys.exit(bool({'sympy', 'torch._dynamo'} & {*sys.modules}))"
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1] / "helpers", timeout=300).returncode
        == 0
    )


def test_embedding_saved_as_head_only(tmp_path):
    tensors = load_file(reference.ROOT / "pi0" / "model.safetensors")
    table = tensors.pop(EMBEDDING)
    save_file(tensors | {TIED_HEAD: table, UNUSED_HEAD: torch.zeros(512, 32)}, tmp_path / "model.safetensors")
    model = load_model(reference.config("pi0"), tmp_path / "model.safetensors")
    assert torch.equal(model.embedding.weight, table)


def test_the_embedding_wins_over_the_head(tmp_path):
    tensors = load_file(reference.ROOT / "pi0" / "model.safetensors")
    save_file(tensors | {TIED_HEAD: torch.zeros(512, 64)}, tmp_path / "model.safetensors")
    model = load_model(reference.config("pi0"), tmp_path / "model.safetensors")
    assert torch.equal(model.embedding.weight, tensors[EMBEDDING])


def test_all_misfits_are_listed_in_one_error(tmp_path):
    tensors = load_file(reference.ROOT / "pi0" / "model.safetensors")
    del tensors["state_proj.bias"]
    tensors["time_mlp_in.bias"] = torch.zeros(32)
    tensors["action_in_proj.weight"] = torch.zeros(32, 14)
    path = tmp_path / "model.safetensors"
    save_file(tensors, path)
    with pytest.raises(WeightsError) as error:
        load_model(reference.config("pi0"), path)
    message = str(error.value)
    assert str(path) in message
    assert "1 missing: state_proj.bias" in message
    assert "1 unexpected: time_mlp_in.bias" in message
    assert "1 of another shape: action_in_proj.weight is [32, 14], the model needs [32, 32]" in message


@pytest.mark.parametrize("kind", ["truncated", "header only", "pickle", "empty", "missing"])
def test_broken_files_are_named(kind, tmp_path):
    whole = (reference.ROOT / "pi0" / "model.safetensors").read_bytes()
    path = tmp_path / "model.safetensors"
    content = {"truncated": whole[:-100], "header only": whole[:4000], "pickle": b"\x80\x02}q\x00." * 50, "empty": b""}
    if kind in content:
        path.write_bytes(content[kind])
    wanted = "no such weights file" if kind == "missing" else "not a whole safetensors file"
    with pytest.raises(WeightsError, match=wanted) as error:
        load_model(reference.config("pi0"), path)
    assert str(path) in str(error.value)


def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    model = reference.model("pi0")
    save_model(model, path)
    before = path.read_bytes()

    def full_disk(descriptor):
        raise OSError("No space left on device")

    monkeypatch.setattr("pi0_ros.checkpoints.safetensors_files.os.fsync", full_disk)
    torch.nn.init.zeros_(model.action_out_proj.weight)
    with pytest.raises(OSError, match="No space left"):
        save_model(model, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_dtype_that_checkpoints_do_not_have_is_refused(tmp_path):
    model = reference.model("pi0").double()
    with pytest.raises(WeightsError, match="cannot write weights as float64"):
        save_model(model, tmp_path / "model.safetensors")
