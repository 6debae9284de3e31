"""Run openpi's PyTorch models on random small weights and save checkpoints, inputs and outputs for `compare.py`.

Needs openpi's source tree on the path and transformers 4.53.2 with openpi's `transformers_replace` copied over it:

    python openpi_torch.py --out cases --seeds 0 1 2 --models pi0 pi05
    python openpi_torch.py --out cases --check cases converted  # what `convert_cases.py` wrote

Weights are written by `safetensors.torch.save_model`, as openpi's training script and its converter do: `train` in
float32 with statistics, `converted` in bfloat16 with the converter's config.json.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import safetensors.torch
import torch
from common import draw_inputs, draw_sizes, draw_stats, new_case, parser, save_case
from openpi.models import gemma
from openpi.models.pi0_config import Pi0Config
from openpi.models_pytorch import gemma_pytorch
from openpi.models_pytorch.pi0_pytorch import PI0Pytorch
from openpi.shared import normalize
from torch_weights import cast_parameters, draw_parameters, shrink

PACKAGES = ("openpi", "torch", "transformers", "numpy")


@contextlib.contextmanager
def small(sizes: dict[str, Any]) -> Iterator[None]:
    """Make openpi build the network of `sizes`: its own are written into functions."""

    def gemma_config(variant: str) -> gemma.Config:
        return gemma.Config(**sizes["expert" if "300m" in variant else "vlm"])

    def shrunk(build: type) -> Any:
        def construct(config: Any) -> Any:
            shrink(config, sizes)
            return build(config=config)

        return construct

    with (
        mock.patch.object(gemma, "get_config", gemma_config),
        mock.patch.object(
            gemma_pytorch, "PaliGemmaForConditionalGeneration", shrunk(gemma_pytorch.PaliGemmaForConditionalGeneration)
        ),
        mock.patch.object(gemma_pytorch, "GemmaForCausalLM", shrunk(gemma_pytorch.GemmaForCausalLM)),
    ):
        yield


def observation(arrays: dict[str, np.ndarray], sizes: dict[str, Any]) -> SimpleNamespace:
    """Return what openpi's torch model reads of an observation."""
    images = {
        camera: torch.from_numpy(arrays[f"image_{camera}"]).float().permute(0, 3, 1, 2) / 255 * 2 - 1
        for camera in sizes["cameras"]
    }
    return SimpleNamespace(
        images=images,
        image_masks={camera: torch.from_numpy(arrays[f"image_mask_{camera}"]) for camera in sizes["cameras"]},
        state=torch.from_numpy(arrays["state"]),
        tokenized_prompt=torch.from_numpy(arrays["tokens"]),
        tokenized_prompt_mask=torch.from_numpy(arrays["token_mask"]),
        token_ar_mask=None,
        token_loss_mask=None,
    )


def build(sizes: dict[str, Any], dtype: str) -> PI0Pytorch:
    """Return openpi's torch model of the sizes, without torch.compile."""
    config = Pi0Config(
        dtype=dtype,
        pi05=sizes["model"] == "pi05",
        pytorch_compile_mode=None,
        **{key: sizes[key] for key in ("action_dim", "action_horizon", "max_token_len")},
    )
    with small(sizes):
        model = PI0Pytorch(config).eval()
    torch.set_float32_matmul_precision("highest")  # the constructor lowers it
    return model


@torch.no_grad()
def outputs_of(model: PI0Pytorch, arrays: dict[str, np.ndarray], sizes: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return the loss per element of the drawn noise and time, and actions after 10 and 3 steps."""
    observed = observation(arrays, sizes)
    plain = model._preprocess_observation
    chunk = {name: torch.from_numpy(arrays[name]) for name in ("actions", "noise_train", "time_train", "noise_sample")}
    with mock.patch.object(model, "_preprocess_observation", lambda seen, train: plain(seen, train=False)):
        loss = model(observed, chunk["actions"], chunk["noise_train"], chunk["time_train"])
    outputs = {"loss_per_element": loss}
    for steps in (10, 3):
        outputs[f"actions_{steps}"] = model.sample_actions("cpu", observed, chunk["noise_sample"], num_steps=steps)
    return {name: value.float().numpy() for name, value in outputs.items()}


def make_case(out: Path, seed: int, name: str, kind: str) -> None:
    """Draw one network, write its checkpoint, run it."""
    rng = np.random.default_rng([seed, sum(map(ord, name + kind)), 1])
    sizes = draw_sizes(rng, name, num_heads=8)
    model = build(sizes, "float32")
    draw_parameters(rng, model)
    folder = new_case(out, f"openpi_torch-{kind}-{name}-{seed}")
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir()
    if kind == "converted":
        cast_parameters(model, torch.bfloat16)
        config = {key: sizes[key] for key in ("action_dim", "action_horizon")}
        config |= {"paligemma_variant": "gemma_2b", "action_expert_variant": "gemma_300m", "precision": "bfloat16"}
        (checkpoint / "config.json").write_text(json.dumps(config, indent=2))
    safetensors.torch.save_model(model, str(checkpoint / "model.safetensors"))
    cast_parameters(model, torch.float32)
    drawn = {"state": draw_stats(rng, 8), "actions": draw_stats(rng, 7)}
    fields = ("mean", "std", "q01", "q99")
    stats = {key: normalize.NormStats(**{field: one[field] for field in fields}) for key, one in drawn.items()}
    normalize.save(checkpoint / "assets" / "droid", stats)
    arrays = draw_inputs(rng, sizes)
    outputs = outputs_of(model, arrays, sizes)
    low = build(sizes, "bfloat16")
    low.load_state_dict(model.state_dict())
    outputs["actions_10_bf16"] = outputs_of(low, arrays, sizes)["actions_10"]
    case = {"reference": "openpi_torch", "kind": kind, "model": name, "seed": seed, "sizes": sizes}
    save_case(folder, case | {"asset_id": "droid"}, PACKAGES, arrays | outputs)


def check(folder: Path, converted: Path) -> None:
    """Load `converted` as openpi does, run the case's inputs through it and print the difference from the case."""
    case = json.loads((folder / "case.json").read_text())
    arrays = dict(np.load(folder / "expected.npz"))
    if case["sizes"]["vlm"]["num_heads"] != 8:  # written into openpi's torch code
        return
    model = build(case["sizes"], "float32")
    safetensors.torch.load_model(model, converted / "model.safetensors")
    actions = outputs_of(model, arrays, case["sizes"])["actions_10"]
    stats = normalize.load(next((converted / "assets").rglob("norm_stats.json")).parent)
    wanted = normalize.load(folder / "checkpoint" / "assets" / case["asset_id"])
    apart = max(np.abs(np.asarray(stats[k].std) - np.asarray(wanted[k].std)).max() for k in wanted)
    difference = np.abs(actions - arrays["actions_10"]).max()
    print(f"{folder.name}: actions of openpi torch differ by {difference:.1e}, statistics by {apart:.1e}", flush=True)


if __name__ == "__main__":
    command = parser(__doc__.splitlines()[0])
    command.add_argument("--kinds", nargs="+", default=["train", "converted"], choices=["train", "converted"])
    command.add_argument("--check", type=Path, nargs=2, metavar=("CASES", "CONVERTED"))
    options = command.parse_args()
    if options.check:
        for one_case in sorted(options.check[1].iterdir()):
            if (one_case / "openpi").is_dir() and one_case.name.startswith("openpi"):
                check(options.check[0] / one_case.name, one_case / "openpi")
        raise SystemExit
    for one_kind in options.kinds:
        for one_model in options.models:
            for one_seed in options.seeds:
                make_case(options.out.absolute(), one_seed, one_model, one_kind)
