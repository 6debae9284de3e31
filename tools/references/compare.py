"""Load the case folders of the reference scripts with pi0_ros and print how far its numbers are from the reference's.

    python compare.py cases [--only PART] [--skip-bf16]

One line per case: the largest absolute difference of the loss and of the actions in float32, the scale of the actions,
and for orientation two bfloat16 columns: the reference's own bfloat16 against its float32, and ours against it.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pi0_ros.checkpoints.load import load_model
from pi0_ros.model.fast import Pi0Fast
from pi0_ros.model.paligemma import ModelInput
from pi0_ros.model.pi0 import Pi0

LIMIT = 1e-4


def unsaid(case: dict[str, Any]) -> dict[str, Any]:
    """Return the sizes that the files of the case cannot tell, for `load_model`."""
    sizes = case["sizes"]
    heads = {key: sizes["vlm"][key] for key in ("num_heads", "num_kv_heads", "head_dim")}
    config: dict[str, Any] = {"vision": {"num_heads": sizes["vision"]["num_heads"]}, "vlm": heads, "expert": heads}
    if sizes["model"] == "pi0_fast":
        del config["expert"]
    if case["reference"] != "lerobot":
        config |= {key: sizes[key] for key in ("action_horizon", "max_token_len", "cameras")}
    if sizes["model"] == "pi0_fast":
        config["action_dim"] = sizes["action_dim"]
    return config


def model_input(case: dict[str, Any], arrays: dict[str, np.ndarray]) -> ModelInput:
    """Return the inputs of the network as our model takes them."""
    tensors = {key: torch.from_numpy(value) for key, value in arrays.items() if value.dtype.kind in "fiub"}
    cameras = case["sizes"]["cameras"]
    if case["reference"] == "lerobot":
        images = {c: tensors["images"][:, i].permute(0, 2, 3, 1).contiguous() for i, c in enumerate(cameras)}
        masks = {c: tensors["masks"][:, i] for i, c in enumerate(cameras)}
    else:
        images = {c: tensors[f"image_{c}"].float() / 255 * 2 - 1 for c in cameras}
        masks = {c: tensors[f"image_mask_{c}"] for c in cameras}
    rows = len(tensors["tokens"])
    state = tensors.get("state", torch.zeros(rows, case["sizes"]["action_dim"]))
    return ModelInput(images, masks, tensors["tokens"].long(), tensors["token_mask"].bool(), state)


def flow_row(case: dict[str, Any], folder: Path, arrays: dict[str, np.ndarray], bf16: bool) -> dict[str, float]:
    """Compare loss and actions of a pi0 or pi0.5 case."""
    checkpoint = load_model(folder / "checkpoint", config=unsaid(case))
    model, inputs = checkpoint.model, model_input(case, arrays)
    assert isinstance(model, Pi0)
    chunk = {name: torch.from_numpy(arrays[name]) for name in ("actions", "noise_train", "time_train", "noise_sample")}
    with torch.no_grad():
        loss = model.loss(inputs, chunk["actions"], chunk["noise_train"], chunk["time_train"]).numpy()
    row = {}
    if "loss_per_element" in arrays:
        row["loss"] = largest(loss, arrays["loss_per_element"])
    else:
        row["loss"] = largest(loss.mean(-1), arrays["loss_per_step"])
    names = {"actions_10": 10, "actions_3": 3, "actions_model": case.get("num_steps", 10)}
    for name, steps in names.items():
        if name in arrays:
            ours = model.sample_actions(inputs, chunk["noise_sample"], num_steps=steps).numpy()
            row[name] = largest(ours, arrays[name])
            row["scale"] = float(np.abs(arrays[name]).max())
    if bf16 and "actions_10_bf16" in arrays:
        low = load_model(folder / "checkpoint", config=unsaid(case), dtype="bfloat16").model
        assert isinstance(low, Pi0)
        ours = low.sample_actions(inputs, chunk["noise_sample"], num_steps=10).numpy()
        row["bf16 ref-fp32"] = largest(arrays["actions_10_bf16"], arrays["actions_10"])
        row["bf16 ours-fp32"] = largest(ours, arrays["actions_10"])
    return row


def fast_row(case: dict[str, Any], folder: Path, arrays: dict[str, np.ndarray]) -> dict[str, float]:
    """Compare the teacher-forced loss and the greedy tokens of a pi0-FAST case; `tokens` counts those that differ."""
    model = load_model(folder / "checkpoint", config=unsaid(case)).model
    assert isinstance(model, Pi0Fast)
    answer = torch.from_numpy(arrays["token_loss_mask"])
    inputs = model_input(case, arrays)
    question = replace(inputs, prompt_mask=inputs.prompt_mask & ~answer)
    with torch.no_grad():
        loss = model.loss(inputs, answer).numpy()
    written = model.sample_tokens(question, max_new_tokens=arrays["greedy_tokens"].shape[1]).numpy()
    padded = np.zeros_like(arrays["greedy_tokens"])
    padded[:, : written.shape[1]] = written
    return {
        "loss": largest(loss, arrays["loss_per_row"]),
        "tokens": float((padded != arrays["greedy_tokens"]).sum()),
        "scale": float(arrays["loss_per_row"].max()),
    }


def largest(ours: np.ndarray, reference: np.ndarray) -> float:
    """Return the largest absolute difference; arrays of other shapes are an error, not a broadcast."""
    if ours.shape != reference.shape:
        raise SystemExit(f"ours is {ours.shape}, the reference {reference.shape}")
    return float(np.abs(ours - reference).max())


def summary(case: dict[str, Any]) -> str:
    """Return the drawn sizes in short."""
    sizes = case["sizes"]
    parts = "/".join(f"{sizes[p]['width']}x{sizes[p]['depth']}" for p in ("vlm", "expert", "vision"))
    vlm = sizes["vlm"]
    heads = f"{vlm['num_heads']}:{vlm['num_kv_heads']}x{vlm['head_dim']}"
    return f"{parts} h{heads} p{sizes['vision']['patch_size']} A{sizes['action_dim']} H{sizes['action_horizon']}"


if __name__ == "__main__":
    command = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    command.add_argument("cases", type=Path)
    command.add_argument("--only", default="", help="part of the names of the cases to compare")
    command.add_argument("--skip-bf16", action="store_true")
    options = command.parse_args()
    torch.set_num_threads(1)
    worst: dict[str, float] = {}
    for folder in sorted(options.cases.iterdir()):
        if options.only not in folder.name or not (folder / "case.json").is_file():
            continue
        case = json.loads((folder / "case.json").read_text())
        arrays = dict(np.load(folder / "expected.npz"))
        try:
            fast = case["model"] == "pi0_fast"
            row = fast_row(case, folder, arrays) if fast else flow_row(case, folder, arrays, not options.skip_bf16)
        except ValueError as error:
            print(f"{folder.name:34s} FAILED {str(error)[:300]}", flush=True)
            continue
        limited = {key: value for key, value in row.items() if key != "scale" and not key.startswith("bf16")}
        mark = "" if max(limited.values()) <= LIMIT else "  <-- above the limit"
        print(
            f"{folder.name:34s} {summary(case):46s} " + " ".join(f"{k} {v:.1e}" for k, v in row.items()) + mark,
            flush=True,
        )
        group = folder.name.rpartition("-")[0]
        worst[group] = max(worst.get(group, 0.0), *limited.values())
    for group, value in sorted(worst.items()):
        print(f"largest in {group}: {value:.1e}")
