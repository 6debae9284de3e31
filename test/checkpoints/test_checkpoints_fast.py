"""pi0-FAST through every format that has it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import reference
import torch
from orbax_files import read_orbax, write_orbax
from safetensors.torch import load_file, save_file

from pi0_ros.checkpoints import safetensors_files
from pi0_ros.checkpoints.convert import convert_checkpoint
from pi0_ros.checkpoints.describe import describe_checkpoint
from pi0_ros.checkpoints.load import load_model
from pi0_ros.checkpoints.safetensors_files import CheckpointError, SafetensorsFile
from pi0_ros.checkpoints.sources import EMBEDDING, TIED_HEAD, TorchSource, equals_embedding
from pi0_ros.checkpoints.spec import policy_spec
from pi0_ros.checkpoints.verify import verify_checkpoints as verify
from pi0_ros.checkpoints.weights import named_weights
from pi0_ros.model.fast import Pi0Fast
from pi0_ros.robot import load_robot

HEADS = {"vision": {"num_heads": 4}}


@pytest.fixture(scope="module")
def jax_folder(tmp_path_factory) -> Path:
    """The vision-language part of the pi0 fixture, which is all that a pi0-FAST has."""
    leaves = read_orbax(reference.ROOT / "pi0" / "checkpoint" / "params")
    folder = tmp_path_factory.mktemp("fast")
    expert = [leaf for leaf in leaves if not leaf.startswith("PaliGemma/") or ("/llm/" in leaf and "_1/" in leaf)]
    write_orbax(folder / "params", {leaf: array for leaf, array in leaves.items() if leaf not in expert})
    return folder


def test_a_jax_pi0_fast_is_recognised_and_filled(jax_folder):
    found = load_model(jax_folder)
    assert isinstance(found.model, Pi0Fast) and found.config.model == "pi0_fast" and found.config.expert is None
    assert (found.config.action_horizon, found.config.max_token_len) == (32, 250)
    assert found.config.cameras == ("base_0_rgb", "base_1_rgb", "wrist_0_rgb")
    assert found.settings.action_normalization == "quantile" and "action_dim" in found.assumed
    exact = load_file(reference.ROOT / "pi0" / "model.safetensors")
    weights = named_weights(found.model)
    assert weights.keys() == {name for name in exact if name.startswith("paligemma_with_expert.paligemma.")}
    assert all(torch.equal(weight, exact[name]) for name, weight in weights.items())


@pytest.mark.parametrize("to", ["pi0_ros", "lerobot"])
def test_conversion_and_back(to, jax_folder, tmp_path):
    said = {"action_horizon": 10, "max_token_len": 180, "action_dim": 8}
    convert_checkpoint(jax_folder, tmp_path / "new", to, config=said)
    found = describe_checkpoint(tmp_path / "new", config=HEADS)
    assert (found.format, found.config.model) == (to, "pi0_fast")
    assert (found.config.action_horizon, found.config.max_token_len, found.config.action_dim) == (10, 180, 8)
    differences = verify(jax_folder, tmp_path / "new", config=HEADS | said)
    assert differences.equal and differences.actions == 0 and differences.scale > 0
    if to == "lerobot":
        tensors = load_file(tmp_path / "new" / "model.safetensors")
        assert torch.equal(tensors[f"model.{TIED_HEAD}"], tensors[f"model.{EMBEDDING}"])
        assert not any("gemma_expert" in name for name in tensors)
        assert json.loads((tmp_path / "new" / "config.json").read_text())["type"] == "pi0_fast"


def test_a_head_of_its_own_is_refused(jax_folder, tmp_path):
    convert_checkpoint(jax_folder, tmp_path / "new", "lerobot")
    tensors = load_file(tmp_path / "new" / "model.safetensors")
    tensors[f"model.{TIED_HEAD}"][3] += 1
    save_file(tensors, tmp_path / "new" / "model.safetensors")
    with pytest.raises(CheckpointError, match="is not the embedding table"):
        load_model(tmp_path / "new", config=HEADS)
    with pytest.raises(CheckpointError, match="is not the embedding table"):  # what `info` asks
        describe_checkpoint(tmp_path / "new", config=HEADS)
    with pytest.raises(CheckpointError, match="is not the embedding table"):
        convert_checkpoint(tmp_path / "new", tmp_path / "ours", config=HEADS)


_NO_TORCH = """
import sys
sys.modules["torch"] = None  # importing it fails
from pi0_ros.cli.main import main
sys.exit(main(["checkpoint", "info", *sys.argv[1:]]))
"""


@pytest.mark.parametrize("spoilt", [False, True])
def test_the_head_is_compared_without_torch(spoilt, jax_folder, tmp_path, monkeypatch):
    """In a process without torch, as on a robot's computer; and piece by piece, with the difference in the last one."""
    convert_checkpoint(jax_folder, tmp_path / "new", "lerobot")
    file = tmp_path / "new" / "model.safetensors"
    if spoilt:
        tensors = load_file(file)
        tensors[f"model.{TIED_HEAD}"][-1, -1] += 1
        save_file(tensors, file)
    (tmp_path / "heads.yaml").write_text(json.dumps(HEADS))
    run = [sys.executable, "-c", _NO_TORCH, str(tmp_path / "new"), "--config", str(tmp_path / "heads.yaml")]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120)
    assert done.returncode == (2 if spoilt else 0), done.stderr
    assert "Traceback" not in done.stderr and ("is not the embedding table" in done.stderr) == spoilt
    monkeypatch.setattr(safetensors_files, "_PIECE", 4096)
    source = TorchSource(file, [SafetensorsFile(file)])
    assert len(list(source.raw(TIED_HEAD))) > 2
    assert equals_embedding(source, TIED_HEAD) is not spoilt


def test_a_head_of_its_own_is_refused_below_an_adapter(jax_folder, tmp_path):
    base, folder = tmp_path / "base", tmp_path / "adapter"
    convert_checkpoint(jax_folder, base, "lerobot")
    tensors = load_file(base / "model.safetensors")
    tensors[f"model.{TIED_HEAD}"][3] += 1
    save_file(tensors, base / "model.safetensors")
    folder.mkdir()
    name = next(name for name in tensors if name.endswith("language_model.norm.weight"))
    save_file({f"base_model.model.{name}": tensors[name] + 1}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    with pytest.raises(CheckpointError, match="is not the embedding table"):
        load_model(folder, config=HEADS)


def test_lerobots_own_is_read_but_not_run(jax_folder, tmp_path):
    convert_checkpoint(jax_folder, tmp_path / "new", "lerobot")
    found = describe_checkpoint(tmp_path / "new", config=HEADS)
    with pytest.raises(CheckpointError, match="LeRobot's pi0_fast writes prompt and actions otherwise"):
        policy_spec(found, load_robot("franka_droid_fast"))


@pytest.mark.parametrize(("key", "value"), [("fast_skip_tokens", 64), ("temperature", 0.7)])
def test_settings_that_change_what_it_writes_are_refused(key, value, jax_folder, tmp_path):
    convert_checkpoint(jax_folder, tmp_path / "new", "lerobot")
    path = tmp_path / "new" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(CheckpointError, match=f"'{key}' is {value}"):
        describe_checkpoint(tmp_path / "new", config=HEADS)


def test_openpi_has_no_pi0_fast_in_torch(jax_folder, tmp_path):
    with pytest.raises(CheckpointError, match="openpi has no pi0-FAST in PyTorch"):
        convert_checkpoint(jax_folder, tmp_path / "new", "openpi")


def test_a_pi0_config_around_a_pi0_fast_is_an_error(jax_folder, tmp_path):
    convert_checkpoint(jax_folder, tmp_path / "new", "lerobot")
    shutil.copy(reference.ROOT / "lerobot" / "pi0" / "config.json", tmp_path / "new" / "config.json")
    with pytest.raises(CheckpointError, match="'type' is 'pi0', but the tensors are those of a pi0_fast model"):
        load_model(tmp_path / "new", config=HEADS)
