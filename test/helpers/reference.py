"""The reference fixtures as tensors: tiny random models, their inputs, and what the public implementations gave."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pi0_ros.checkpoints.weights import load_model
from pi0_ros.model.config import ModelConfig
from pi0_ros.model.paligemma import ModelInput
from pi0_ros.model.pi0 import Pi0

ROOT = Path(__file__).parents[1] / "fixtures" / "reference"
MODELS = ("pi0", "pi05")


def config(name: str) -> ModelConfig:
    return ModelConfig.from_dict(json.loads((ROOT / name / "sizes.json").read_text()))


def model(name: str) -> Pi0:
    return load_model(config(name), ROOT / name / "model.safetensors")


@cache
def expected(name: str) -> dict[str, np.ndarray]:
    with np.load(ROOT / name / "expected.npz") as arrays:
        return dict(arrays)


def case(name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of one recorded run of a whole pipeline, and what was said of it."""
    data = dict(np.load(ROOT / f"{name}.npz"))
    return data, json.loads(str(data["meta_json"]))


def tensor(name: str, key: str) -> torch.Tensor:
    return torch.from_numpy(expected(name)[key])


def inputs(name: str) -> ModelInput:
    cameras = config(name).cameras
    return ModelInput(
        images={c: tensor(name, f"image_{c}").float() / 255 * 2 - 1 for c in cameras},
        image_masks={c: tensor(name, f"image_mask_{c}") for c in cameras},
        prompt_tokens=tensor(name, "tokens").long(),
        prompt_mask=tensor(name, "token_mask"),
        state=tensor(name, "state"),
    )
