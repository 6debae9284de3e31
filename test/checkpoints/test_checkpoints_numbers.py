"""The same weights through every format give the numbers of the references."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import reference
import torch
from safetensors.torch import load_file, save_file

from pi0_ros.checkpoints.load import load_model
from pi0_ros.checkpoints.sources import EMBEDDING, TIED_HEAD, UNUSED_HEAD
from pi0_ros.checkpoints.weights import named_weights
from pi0_ros.model.paligemma import ModelInput

TOLERANCE = {"atol": 1e-4, "rtol": 0}


def sizes(name: str) -> dict:
    return json.loads((reference.ROOT / name / "sizes.json").read_text())


def torch_folder(name: str, folder: Path) -> Path:
    """What openpi's converter leaves: no embedding but the head, an expert head, its config and the assets."""
    tensors = load_file(reference.ROOT / name / "model.safetensors")
    tensors[TIED_HEAD] = tensors.pop(EMBEDDING)
    tensors[UNUSED_HEAD] = torch.full((512, 32), 7.0)
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", {EMBEDDING: TIED_HEAD})
    (folder / "config.json").write_text(json.dumps({"action_dim": 32, "action_horizon": 7, "precision": "float32"}))
    shutil.copytree(reference.ROOT / name / "checkpoint" / "assets", folder / "assets")
    return folder


def lerobot_folder(name: str, folder: Path) -> Path:
    """The weights of the fixture in a LeRobot folder, wrapped by torch.compile, with a head that is something else."""
    shutil.copytree(reference.ROOT / "lerobot" / name, folder)
    tensors = load_file(reference.ROOT / name / "model.safetensors")
    tensors |= {TIED_HEAD: torch.zeros(512, 64), UNUSED_HEAD: torch.zeros(512, 32)}
    save_file({f"model._orig_mod.{key}": value for key, value in tensors.items()}, folder / "model.safetensors")
    return folder


def loaded(kind: str, name: str, tmp_path: Path):
    if kind == "file":
        return load_model(reference.ROOT / name / "model.safetensors", config=sizes(name))
    if kind == "openpi_jax":
        return load_model(reference.ROOT / name / "checkpoint", config={"action_horizon": 7, "max_token_len": 48})
    if kind == "openpi_torch":
        return load_model(torch_folder(name, tmp_path / "torch"), config={"vision": {"num_heads": 4}})
    config = {"vision": {"num_heads": 4}, "cameras": sizes(name)["cameras"]}
    return load_model(lerobot_folder(name, tmp_path / "lerobot"), config=config)


@pytest.mark.parametrize("name", reference.MODELS)
@pytest.mark.parametrize("kind", ["file", "openpi_torch", "openpi_jax", "lerobot"])
def test_loss_and_actions_through_every_format(kind, name, tmp_path):
    checkpoint = loaded(kind, name, tmp_path)
    assert checkpoint.format == {"file": "openpi_torch"}.get(kind, kind)
    assert checkpoint.config.action_horizon == 7
    model, inputs = checkpoint.model, reference.inputs(name)
    parts = (reference.tensor(name, key) for key in ("actions", "noise_train", "time_train"))
    loss = model.loss(inputs, *parts)
    torch.testing.assert_close(loss, reference.tensor(name, "loss_elem_torch"), **TOLERANCE)
    torch.testing.assert_close(loss.mean(-1), reference.tensor(name, "loss_jax"), **TOLERANCE)
    actions = model.sample_actions(inputs, reference.tensor(name, "noise_sample"), num_steps=10)
    for theirs in ("actions_jax_10", "actions_torch_10"):
        torch.testing.assert_close(actions, reference.tensor(name, theirs), **TOLERANCE)


def letterboxed(images: np.ndarray) -> torch.Tensor:
    """LeRobot's resize of uint8 [B, H, W, 3] to [B, 224, 224, 3] in [-1, 1]: bilinear, no antialias, black borders."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    ratio = max(size / 224 for size in pixels.shape[2:])
    small = [int(size / ratio) for size in pixels.shape[2:]]
    pixels = torch.nn.functional.interpolate(pixels, small, mode="bilinear", align_corners=False).clamp(0, 1)
    top, left = ((224 - size) // 2 for size in small)
    padded = torch.zeros(len(pixels), 3, 224, 224)
    padded[:, :, top : top + small[0], left : left + small[1]] = pixels
    return padded.permute(0, 2, 3, 1) * 2 - 1


@pytest.mark.parametrize("name", reference.MODELS)
def test_lerobot_folders_give_lerobots_actions(name):
    checkpoint = load_model(reference.ROOT / "lerobot" / name, config={"vision": {"num_heads": 4}})
    with np.load(reference.ROOT / "lerobot" / f"{name}_e2e.npz") as arrays:
        given = dict(arrays)
    order = [key.rpartition(".")[2] for key in json.loads(str(given["meta_json"]))["image_order"]]
    assert list(checkpoint.config.cameras) == order
    images = {}
    for number, slot in enumerate(order):
        camera = given.get(f"obs|observation.images.{slot}")
        images[slot] = letterboxed(camera) if camera is not None else torch.full((2, 224, 224, 3), -1.0)
        strided = images[slot][:, 3::16, 5::16].permute(0, 3, 1, 2)
        torch.testing.assert_close(strided, torch.from_numpy(given["images_strided"][:, number]))
    state = torch.from_numpy(given["model_state"])
    inputs = ModelInput(
        images=images,
        image_masks={slot: torch.from_numpy(given["image_masks"][:, n]) for n, slot in enumerate(order)},
        prompt_tokens=torch.from_numpy(given["tokens"]).long(),
        prompt_mask=torch.from_numpy(given["token_mask"]),
        state=torch.nn.functional.pad(state, (0, 32 - state.shape[1])),
    )
    assert inputs.prompt_tokens.shape[1] == checkpoint.config.max_token_len
    actions = checkpoint.model.sample_actions(inputs, torch.from_numpy(given["noise"]), checkpoint.settings.num_steps)
    wanted = torch.from_numpy(given["actions_model"])
    assert wanted.shape[-1] == checkpoint.action_dim
    # far below the usual tolerance: sampled at LeRobot's times, not at openpi's
    torch.testing.assert_close(actions[..., : checkpoint.action_dim], wanted, atol=3e-5, rtol=0)


@pytest.mark.parametrize("name", reference.MODELS)
def test_bfloat16_keeps_the_references_float32_parts(name):
    checkpoint = load_model(reference.ROOT / "lerobot" / name, config={"vision": {"num_heads": 4}}, dtype="bfloat16")
    keys = json.loads((reference.ROOT.parent / "keys" / f"{name}_torch.json").read_text())
    kept = {
        weight: str(tensor.dtype).removeprefix("torch.") for weight, tensor in named_weights(checkpoint.model).items()
    }
    assert set(kept.values()) == {"float32", "bfloat16"} and checkpoint.config.dtype == "bfloat16"
    assert kept == {weight: keys[weight][1] for weight in kept}
    exact = load_file(reference.ROOT / "lerobot" / name / "model.safetensors")
    weights = named_weights(checkpoint.model)
    assert all(torch.equal(w, exact[f"model.{key}"].to(w.dtype)) for key, w in weights.items())
