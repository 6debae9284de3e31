"""Sizes from shapes, what the user says, files that are not what they should be, memory and exactness of loading."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import reference
import torch
from safetensors.torch import load_file, save_file

from pi0_ros.checkpoints.describe import describe_checkpoint, open_checkpoint
from pi0_ros.checkpoints.load import load_model, warn_of_tf32
from pi0_ros.checkpoints.safetensors_files import CheckpointError, TensorInfo
from pi0_ros.checkpoints.sizes import infer_config
from pi0_ros.checkpoints.sources import EMBEDDING, TIED_HEAD, UNUSED_HEAD, canonical_name, whole
from pi0_ros.checkpoints.weights import save_model
from pi0_ros.model.config import Expert, ModelConfig
from pi0_ros.model.pi0 import Pi0

HEADS = {"vision": {"num_heads": 4}}
both_models = pytest.mark.parametrize("name", reference.MODELS)


def tensors_of(name: str) -> dict[str, torch.Tensor]:
    return load_file(reference.ROOT / name / "model.safetensors")


def described(tensors: dict[str, torch.Tensor], path: Path, config: Any = HEADS) -> ModelConfig:
    save_file(tensors, path / "model.safetensors")
    return describe_checkpoint(path, config=config).config


# ---- sizes ----


@both_models
def test_all_sizes_but_the_vision_heads_are_read_off_the_shapes(name, tmp_path):
    found = described(tensors_of(name), tmp_path)
    wanted = replace(reference.config(name), action_horizon=50, max_token_len=48 if name == "pi0" else 200)
    assert found == wanted


class Shapes:
    """The tensors of a released file without their numbers."""

    merged = 0
    sizes: dict[str, int] = {}
    leftovers: dict[str, str] = {}

    def __init__(self, name: str, column: int) -> None:
        keys = json.loads((reference.ROOT.parent / "keys" / f"{name}_torch.json").read_text())
        heads = (TIED_HEAD, UNUSED_HEAD)
        self.path = Path(name)
        self.tensors = {
            key: TensorInfo(tuple(entry[0]), entry[column]) for key, entry in keys.items() if key not in heads
        }


@both_models
@pytest.mark.parametrize("column", [1, 2], ids=["openpi", "lerobot"])
def test_released_tensors_are_the_released_model(name, column):
    config, assumed = infer_config(Shapes(name, column), {}, None)
    assert config == ModelConfig.preset(name)
    assert "vision.num_heads" in assumed and "vlm.head_dim" not in assumed


def test_a_released_pi0_fast_is_told_by_what_it_lacks():
    source = Shapes("pi0", 2)
    source.tensors = {key: info for key, info in source.tensors.items() if ".paligemma." in key}
    assert infer_config(source, {}, None)[0] == ModelConfig.preset("pi0_fast")


def test_several_key_value_heads_need_to_be_said(tmp_path):
    shared = {"depth": 2, "num_heads": 4, "num_kv_heads": 2, "head_dim": 8}
    small = replace(
        reference.config("pi0"),
        vlm=Expert(width=32, mlp_dim=40, **shared),
        expert=Expert(width=16, mlp_dim=24, **shared),
    )
    save_model(Pi0(small), tmp_path / "model.safetensors")
    for heads in ({"num_kv_heads": 2}, {"head_dim": 8}, {"num_heads": 4}):
        assert describe_checkpoint(tmp_path, config=HEADS | {"vlm": heads}).config.vlm == small.vlm
    assert describe_checkpoint(tmp_path, config=small).config == small
    with pytest.raises(
        CheckpointError, match="num_kv_heads 3 cannot be: query projections have 32 rows, key projections 16"
    ):
        describe_checkpoint(tmp_path, config=HEADS | {"vlm": {"num_kv_heads": 3}})


@pytest.mark.parametrize("given", ["mapping", "config"])
def test_what_the_user_says_wins(given, tmp_path):
    said = reference.config("pi0").to_dict() | {"cameras": ["left", "right"], "action_horizon": 9}
    config = said if given == "mapping" else ModelConfig.from_dict(said)
    found = described(tensors_of("pi0"), tmp_path, config)
    assert (found.cameras, found.action_horizon, found.max_token_len) == (("left", "right"), 9, 12)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "no tensor and no file tells how many heads the vision tower"),
        (HEADS | {"vlm": {"width": 128}}, "config say vlm.width 128, its tensors 64"),
        (HEADS | {"model": "pi05"}, "config say model 'pi05', its tensors 'pi0'"),
        (HEADS | {"action_dim": 14}, "config say action_dim 14, its tensors 32"),
        (HEADS | {"horizon": 9}, "the model has no size 'horizon'; the keys are model, vocab_size"),
        (HEADS | {"vlm": {"heads": 8}}, "vlm has no size heads"),
        (HEADS | {"vlm": 8}, "vlm must be a mapping of sizes"),
        ({"vision": {"num_heads": 5}}, "vision.width must be a multiple of vision.num_heads"),
        (HEADS | {"action_horizon": 0}, "action_horizon must be a positive integer"),
    ],
)
def test_what_cannot_be_is_an_error(config, message, tmp_path):
    with pytest.raises(CheckpointError, match=message) as error:
        described(tensors_of("pi0"), tmp_path, config)
    assert str(tmp_path) in str(error.value) or "config" in str(error.value)


# ---- names ----


@pytest.mark.parametrize("prefix", ["", "model.", "_orig_mod.", "model._orig_mod.", "_orig_mod.model.", "module."])
def test_wrappers_in_front_of_names(prefix, tmp_path):
    tensors = tensors_of("pi05")
    save_file({prefix + name: tensor for name, tensor in tensors.items()}, tmp_path / "model.safetensors")
    if prefix == "module.":
        with pytest.raises(CheckpointError, match="not the weights of a pi0 model"):
            describe_checkpoint(tmp_path, config=HEADS)
        return
    source = open_checkpoint(tmp_path, config=HEADS)[1]
    assert source.tensors.keys() == tensors.keys()
    assert all(torch.equal(whole(source, name), tensor) for name, tensor in tensors.items())


def test_torch_compile_inside_the_name():
    assert (
        canonical_name("model.paligemma_with_expert._orig_mod.gemma_expert.x") == "paligemma_with_expert.gemma_expert.x"
    )


@pytest.mark.parametrize("order", [1, -1])
def test_the_real_embedding_wins_over_the_head(order, tmp_path):
    tensors = tensors_of("pi0")
    table = tensors[EMBEDDING]
    both = {f"model.{name}": tensor for name, tensor in (tensors | {TIED_HEAD: torch.zeros_like(table)}).items()}
    save_file(dict(list(both.items())[::order]), tmp_path / "model.safetensors")
    assert torch.equal(load_model(tmp_path, config=HEADS).model.embedding.weight, table)
    del both[f"model.{EMBEDDING}"]
    save_file(both, tmp_path / "model.safetensors")
    assert not load_model(tmp_path, config=HEADS).model.embedding.weight.any()


def test_missing_extra_and_misshapen_are_one_error(tmp_path):
    tensors = tensors_of("pi05")
    gone = "paligemma_with_expert.gemma_expert.model.layers.1.input_layernorm.dense.bias"
    del tensors[gone], tensors[EMBEDDING]
    tensors["state_proj.bias"] = torch.zeros(32)
    tensors["time_mlp_in.weight"] = torch.zeros(32, 31)
    with pytest.raises(CheckpointError) as error:
        described(tensors, tmp_path)
    message = str(error.value)
    assert str(tmp_path / "model.safetensors") in message
    assert "2 missing" in message and gone in message and EMBEDDING in message
    assert "1 unexpected: state_proj.bias" in message
    assert "time_mlp_in.weight is [32, 31], the model needs [32, 32]" in message


def test_nothing_is_read_or_allocated_before_the_check(tmp_path, monkeypatch):
    tensors = tensors_of("pi0")
    del tensors["state_proj.bias"]
    save_file(tensors, tmp_path / "model.safetensors")
    monkeypatch.setattr(
        "pi0_ros.checkpoints.safetensors_files.SafetensorsFile.pieces", lambda *args: pytest.fail("read too early")
    )
    monkeypatch.setattr("pi0_ros.checkpoints.weights.fill", lambda *args: pytest.fail("allocated too early"))
    with pytest.raises(CheckpointError, match="1 missing: state_proj.bias"):
        load_model(tmp_path, config=HEADS)


# ---- files that are not what they should be ----

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2\nsize 14478\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LFS.encode(), "a git-lfs pointer"),
        (b"<!DOCTYPE html><html>Access to this model is restricted</html>", "no safetensors header"),
        (b"", "no safetensors header"),
        (b"\x80\x02}q\x00." * 50, "no safetensors header"),
        (b"\x10" + bytes(7) + b"not a JSON text!", "header is not JSON"),
        (b"\x02" + bytes(7) + b"[]", "header is not JSON"),
        (b"\xff" + bytes(7) + b"{}", "ends within its header"),
    ],
)
def test_other_files_named_safetensors(content, message, tmp_path):
    for path in (tmp_path, tmp_path / "model.safetensors"):
        (tmp_path / "model.safetensors").write_bytes(content)
        with pytest.raises(CheckpointError, match=message) as error:
            load_model(path, config=HEADS)
        assert str(tmp_path / "model.safetensors") in str(error.value)


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.999])
def test_a_truncated_file_is_never_read(kept, tmp_path):
    whole_file = (reference.ROOT / "pi0" / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole_file[: int(kept * len(whole_file))])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_model(tmp_path, config=HEADS)


def test_a_file_that_is_longer_than_it_says_is_never_read(tmp_path):
    whole_file = (reference.ROOT / "pi0" / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole_file + b"and more")
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_model(tmp_path, config=HEADS)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.float8_e4m3fn])
def test_only_floats_are_weights(dtype, tmp_path):
    tensors = tensors_of("pi0")
    tensors["state_proj.bias"] = tensors["state_proj.bias"].to(dtype)
    with pytest.raises(CheckpointError, match="state_proj.bias has dtype"):
        described(tensors, tmp_path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_float_is_cast_on_the_way(dtype, tmp_path):
    tensors = {name: tensor.to(dtype) for name, tensor in tensors_of("pi0").items()}
    save_file(tensors, tmp_path / "model.safetensors")
    model = load_model(tmp_path, config=HEADS).model
    assert torch.equal(model.state_proj.weight, tensors["state_proj.weight"].float())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("device", ["cuda:99", "toaster"])
def test_a_device_that_is_not_here(device):
    with pytest.raises(CheckpointError, match=f"device '{device}' cannot be used: "):
        load_model(reference.ROOT / "pi0", config=HEADS, device=device)


def test_a_dtype_that_no_model_runs_in():
    with pytest.raises(CheckpointError, match="models run in float32 or bfloat16"):
        load_model(reference.ROOT / "pi0" / "model.safetensors", config=HEADS, dtype="float16")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "the folder is empty"),
        ({"notes.txt": ""}, r"\(only notes.txt\)"),
        ({"pytorch_model.bin": ""}, "pytorch_model.bin: pickled files are never read.*safetensors.torch.save_file"),
        ({"config.json": '{"type": "pi0"}', "pytorch_model.bin": ""}, "but pytorch_model.bin: pickled files are never"),
        ({"5000/x": "", "29999/x": ""}, r"steps of a training run \(5000, 29999\): name one.*/29999$"),
        ({"checkpoints/000200/x": ""}, r"steps of a training run \(000200\): name one.*/checkpoints/000200$"),
        (
            {"models--lerobot--pi05_base/snapshots/ab12/config.json": "{}", "models--x--bert/refs/main": "1"},
            r"cache of the Hugging Face hub \(2 models\).*/models--lerobot--pi05_base/snapshots$",
        ),
        ({"params/d/x": ""}, "no _METADATA, so it is no whole orbax checkpoint"),
        ({"config.json": "{}"}, "expected one of: a folder of this package"),
        ({"config.json": '{"format": "pi0_ros", "version": 9}'}, "config.json is there but no model.safetensors"),
    ],
)
def test_folders_that_are_no_checkpoint(files, message, tmp_path):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(content)
    with pytest.raises(CheckpointError, match=message) as error:
        load_model(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_a_model_in_the_hubs_cache_names_its_snapshot(tmp_path):
    folder = tmp_path / "hub" / "models--lerobot--pi05_base"
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_model(folder)
    for revision in ("ab12", "ff00"):
        (folder / "snapshots" / revision).mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"hub's cache of lerobot/pi05_base: name the snapshot.*/snapshots/ff00$"):
        load_model(folder)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("ab12\n")
    with pytest.raises(CheckpointError, match=r"/snapshots/ab12$"):
        load_model(folder)
    shutil.copytree(reference.ROOT / "pi0", folder / "snapshots" / "ab12", dirs_exist_ok=True)
    assert describe_checkpoint(folder / "snapshots" / "ab12", config=HEADS).config.model == "pi0"
    shutil.rmtree(folder / "snapshots")
    with pytest.raises(CheckpointError, match="without a snapshot: download it with hf download lerobot/pi05_base"):
        load_model(folder)


@pytest.mark.parametrize(
    ("buffer", "values"),
    [
        ("paligemma_with_expert.gemma_expert.model.rotary_emb.inv_freq", 10000.0 ** -(torch.arange(0, 16, 2) / 16)),
        (
            "paligemma_with_expert.paligemma.model.vision_tower.vision_model.embeddings.position_ids",
            torch.arange(4)[None],
        ),
    ],
)
def test_buffers_that_older_transformers_saved_are_no_weights(buffer, values, tmp_path):
    tensors = tensors_of("pi0")
    save_file({**tensors, buffer: values}, tmp_path / "model.safetensors")
    found = load_model(tmp_path, config=HEADS)
    assert found.leftovers[buffer].startswith("a constant") and buffer not in found.tensors
    save_file({**tensors, buffer: values * 3 + 1}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"{buffer} has other values than these models compute"):
        load_model(tmp_path, config=HEADS)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        (
            "https://huggingface.co/lerobot/pi05_base/tree/main",
            "nothing is downloaded here, do that first: hf download lerobot/pi05_base --local-dir FOLDER",
        ),
        ("https://example.org/models/pi0.safetensors", "nothing is downloaded here: download its whole folder first"),
        ("lerobot/pi05_base", "hf download lerobot/pi05_base --local-dir FOLDER"),
        ("gs://openpi-assets/checkpoints/pi0_base", "gsutil -m cp -r gs://openpi-assets/checkpoints/pi0_base FOLDER"),
    ],
)
def test_names_of_what_lies_elsewhere(name, command):
    with pytest.raises(CheckpointError, match=command):
        load_model(name)


@pytest.mark.parametrize(
    ("config", "message"),
    [([1], r"expected a mapping of sizes, not \[1\]"), ({"cameras": "base_0_rgb"}, "cameras must be a list of image")],
)
def test_sizes_of_another_kind(config, message):
    with pytest.raises(CheckpointError, match=message):
        describe_checkpoint(reference.ROOT / "pi0", config=config)


def test_nothing_and_other_files(tmp_path):
    with pytest.raises(CheckpointError, match="there is no such checkpoint"):
        load_model(tmp_path / "nowhere")
    (tmp_path / "model.ckpt").write_text("x")
    with pytest.raises(CheckpointError, match="pickled files are never read"):
        load_model(tmp_path / "model.ckpt")


# ---- memory and exactness ----

_PEAK = """
import re, sys, torch
from pi0_ros.checkpoints.load import load_model

def peak():  # of this process; what resource.getrusage says goes back to the process that started it
    return int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) * 1024

heads = {"vision": {"num_heads": 4}}
load_model(sys.argv[2], config=heads)  # so that imports do not count
before = peak()
loaded = load_model(sys.argv[1], config=heads)
print(peak() - before)
"""


def test_loading_holds_the_model_and_nothing_else(tmp_path):
    config = reference.config("pi0")
    wide = replace(config, vocab_size=20000, vlm=replace(config.vlm, width=1024, mlp_dim=4096))
    save_model(Pi0(wide), tmp_path / "model.safetensors")
    small = reference.ROOT / "pi0" / "model.safetensors"
    run = [sys.executable, "-c", _PEAK, str(tmp_path / "model.safetensors"), str(small)]
    used = int(subprocess.run(run, capture_output=True, text=True, timeout=300, check=True).stdout)
    size = (tmp_path / "model.safetensors").stat().st_size
    assert size > 200e6 and 0.5 * size < used < 1.2 * size


def test_tf32_stays_off_and_is_never_silent(caplog):
    code = (
        "import sys, torch\nfrom pi0_ros.checkpoints.load import load_model\n"
        "load_model(sys.argv[1], config={'vision': {'num_heads': 4}})\n"
        "assert torch.get_float32_matmul_precision() == 'highest'\n"
        "assert not torch.backends.cuda.matmul.allow_tf32\n"
    )
    file = str(reference.ROOT / "pi0" / "model.safetensors")
    assert subprocess.run([sys.executable, "-c", code, file], timeout=300).returncode == 0
    with caplog.at_level(logging.WARNING):
        warn_of_tf32("cuda", "float32")
        assert not caplog.records
        torch.set_float32_matmul_precision("high")
        try:
            warn_of_tf32("cpu", torch.float32)
            warn_of_tf32("cuda", "bfloat16")
            assert not caplog.records
            warn_of_tf32("cuda", "float32")
        finally:
            torch.set_float32_matmul_precision("highest")
    assert "TF32" in caplog.text and "'high'" in caplog.text
