"""Run openpi's JAX models on random small weights and save checkpoints, inputs and outputs for `compare.py`.

Needs openpi's source tree on the path and what its pyproject.toml pins of jax, flax and orbax (the CPU build does):

    python openpi_jax.py --out cases --seeds 0 1 2 --models pi0 pi05 pi0_fast

Kinds: `network` (checkpoint written by openpi's own `save_state`), `released` (no `value` leaves, as in the released
checkpoints) and `lora` (every combination of experts with LoRA, ranks drawn, also rank-stabilised).
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from common import draw_inputs, draw_sizes, draw_stats, draw_weight, new_case, parser, save_case
from flax import traverse_util
from ml_collections import ConfigDict
from openpi.models import gemma, gemma_fast, lora, pi0, siglip
from openpi.models import model as openpi_model
from openpi.models.pi0_config import Pi0Config
from openpi.models.pi0_fast import Pi0FASTConfig
from openpi.shared import array_typing
from openpi.shared.normalize import NormStats
from openpi.training import checkpoints
from openpi.training.config import DataConfig
from openpi.training.utils import TrainState

PACKAGES = ("openpi", "jax", "flax", "orbax-checkpoint", "numpy")
DECODED = 12  # greedy tokens of pi0-FAST


@contextlib.contextmanager
def small(sizes: dict[str, Any], lora_config: dict[str, Any] | None = None) -> Iterator[None]:
    """Make openpi build the network of `sizes`: its own sizes are written into functions and constants."""

    def loras(variant: str) -> dict[str, lora.LoRAConfig]:
        return {part: lora.LoRAConfig(**(lora_config or {})) for part in ("attn", "ffn")} if "lora" in variant else {}

    def gemma_config(variant: str) -> gemma.Config:
        part = "expert" if "300m" in variant else "vlm"
        return gemma.Config(**sizes[part], lora_configs=loras(variant))

    def fast_config(variant: str) -> ConfigDict:
        extra = {"norm_eps": 1e-6, "vocab_size": sizes["vocab_size"], "scan": True, "remat_policy": "nothing_saveable"}
        found = loras(variant)
        return ConfigDict({"variant": variant, **sizes["vlm"], **extra, **({"lora_configs": found} if found else {})})

    vision = sizes["vision"]
    tower = {key: vision[key] for key in ("width", "depth", "mlp_dim", "num_heads")}
    tower["patch_size"] = (vision["patch_size"],) * 2
    with (
        mock.patch.object(gemma, "get_config", gemma_config),
        mock.patch.object(gemma_fast, "get_config", fast_config),
        mock.patch.object(gemma, "PALIGEMMA_VOCAB_SIZE", sizes["vocab_size"]),
        mock.patch.object(siglip, "decode_variant", lambda variant: tower),
    ):
        yield


def model_config(sizes: dict[str, Any], dtype: str, variants: tuple[str, str] = ("gemma_2b", "gemma_300m")) -> Any:
    """Return openpi's config of the network."""
    shared = {key: sizes[key] for key in ("action_dim", "action_horizon", "max_token_len")}
    if sizes["model"] == "pi0_fast":
        return Pi0FASTConfig(dtype=dtype, paligemma_variant=variants[0], **shared)
    return Pi0Config(
        dtype=dtype,
        pi05=sizes["model"] == "pi05",
        paligemma_variant=variants[0],
        action_expert_variant=variants[1],
        **shared,
    )


def draw_params(rng: np.random.Generator, config: Any) -> dict[str, Any]:
    """Draw every parameter of openpi's model, as openpi's pure dict."""
    shapes = nnx.state(nnx.eval_shape(config.create, jax.random.key(0))).to_pure_dict()
    flat = traverse_util.flatten_dict(shapes)
    return traverse_util.unflatten_dict({path: _draw(rng, path, leaf.shape) for path, leaf in flat.items()})


def _draw(rng: np.random.Generator, path: tuple[str, ...], shape: tuple[int, ...]) -> np.ndarray:
    name = path[-1]
    in_norm = any("LayerNorm" in part or part == "encoder_norm" for part in path)
    kind = {"scale": "layer_norm" if in_norm else "norm", "bias": "bias"}.get(name, "")
    kind = {"pos_embedding": "position", "input_embedding": "embedding"}.get(name, kind)
    if "lora" in name or (name == "kernel" and any(part.endswith("norm_1") for part in path)):
        kind = "adaptive"
    fan_in = int(np.prod(shape[:-1])) if name == "kernel" and len(shape) == 4 and "embedding" in path else shape[-2:][0]
    return draw_weight(rng, kind, shape, fan_in)


def observation(arrays: dict[str, np.ndarray], sizes: dict[str, Any]) -> openpi_model.Observation:
    """Return openpi's observation of the drawn inputs."""
    data: dict[str, Any] = {
        "image": {camera: arrays[f"image_{camera}"] for camera in sizes["cameras"]},
        "image_mask": {camera: jnp.asarray(arrays[f"image_mask_{camera}"]) for camera in sizes["cameras"]},
        "state": jnp.asarray(arrays["state"]),
        "tokenized_prompt": jnp.asarray(arrays["tokens"], jnp.int32),
        "tokenized_prompt_mask": jnp.asarray(arrays["token_mask"]),
    }
    if "token_ar_mask" in arrays:
        data["token_ar_mask"] = jnp.asarray(arrays["token_ar_mask"], jnp.int32)
        data["token_loss_mask"] = jnp.asarray(arrays["token_loss_mask"])
    observed = openpi_model.Observation.from_dict(data)
    return dataclasses.replace(observed, images={k: jnp.asarray(v) for k, v in observed.images.items()})


def flow_outputs(
    model: Any, observed: openpi_model.Observation, arrays: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return the loss per step of the drawn noise and time, and actions after 10 and 3 steps."""
    draws = {
        "normal": lambda *_, **__: jnp.asarray(arrays["noise_train"]),
        "beta": lambda *_, **__: (jnp.asarray(arrays["time_train"]) - 0.001) / jnp.float32(0.999),
    }
    fixed = SimpleNamespace(**{**vars(jax), "random": SimpleNamespace(**{**vars(jax.random), **draws})})
    with mock.patch.object(pi0, "jax", fixed):
        outputs = {"loss_per_step": model.compute_loss(jax.random.key(0), observed, jnp.asarray(arrays["actions"]))}
    noise = jnp.asarray(arrays["noise_sample"])
    for steps in (10, 3):
        outputs[f"actions_{steps}"] = model.sample_actions(jax.random.key(0), observed, num_steps=steps, noise=noise)
    return {name: np.asarray(value, np.float32) for name, value in outputs.items()}


def fast_arrays(rng: np.random.Generator, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the masks of a pi0-FAST sequence: a bidirectional prefix, then a causal part that the loss counts."""
    valid = arrays["token_mask"].sum(1)
    start = np.maximum(1, (valid * rng.uniform(0.3, 0.7, len(valid))).astype(int))
    postfix = (np.arange(arrays["tokens"].shape[1]) >= start[:, None]) & arrays["token_mask"]
    return {"token_ar_mask": postfix.astype(np.int64), "token_loss_mask": postfix}


def fast_outputs(model: Any, sizes: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the teacher-forced loss per row, and greedy tokens after the prefixes alone."""
    loss = model.compute_loss(jax.random.key(0), observation(arrays, sizes), jnp.asarray(arrays["actions"]))
    prefix = arrays["token_mask"] & ~arrays["token_loss_mask"]
    alone = arrays | {
        "tokens": np.where(prefix, arrays["tokens"], 0),
        "token_mask": prefix,
        "token_ar_mask": np.zeros_like(arrays["token_ar_mask"]),
        "token_loss_mask": np.zeros_like(prefix),
    }
    greedy = model.sample_actions(jax.random.key(0), observation(alone, sizes), max_decoding_steps=DECODED)
    return {"loss_per_row": np.asarray(loss), "greedy_tokens": np.asarray(greedy).astype(np.int64)}


def write_training(folder: Path, model: Any, stats: dict[str, NormStats], asset_id: str) -> None:
    """Write the checkpoint with openpi's own `save_state`: train_state, params with `value` leaves, assets."""
    state = nnx.state(model)
    optimizer = optax.adamw(1e-3)
    training = TrainState(
        step=jnp.asarray(7),
        params=state,
        model_def=nnx.graphdef(model),
        opt_state=optimizer.init(state.filter(nnx.Param)),
        tx=optimizer,
        ema_decay=None,
        ema_params=None,
    )
    manager, _ = checkpoints.initialize_checkpoint_dir(folder / "run", keep_period=None, overwrite=False, resume=False)
    loader = mock.Mock()
    loader.data_config.return_value = DataConfig(asset_id=asset_id, norm_stats=stats)
    checkpoints.save_state(manager, training, loader, 7)
    manager.wait_until_finished()
    (folder / "run" / "7").rename(folder / "checkpoint")


def write_released(folder: Path, params: dict[str, Any], stats: dict[str, NormStats], asset_id: str) -> None:
    """Write the checkpoint as the released ones are: plain parameters in bfloat16 or float32, assets beside them."""
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save((folder / "checkpoint" / "params").absolute(), {"params": params})
    checkpoints._normalize.save(folder / "checkpoint" / "assets" / asset_id, stats)


def norm_stats(rng: np.random.Generator, state_dim: int, action_dim: int) -> dict[str, NormStats]:
    """Draw openpi statistics."""
    drawn = {"state": draw_stats(rng, state_dim), "actions": draw_stats(rng, action_dim)}
    fields = ("mean", "std", "q01", "q99")
    return {key: NormStats(**{field: stats[field] for field in fields}) for key, stats in drawn.items()}


def make_case(out: Path, seed: int, name: str, kind: str) -> None:
    """Draw one network, write its checkpoint, run it."""
    rng = np.random.default_rng([seed, sum(map(ord, name + kind))])
    sizes = draw_sizes(rng, name)
    lora_config = variants = None
    if kind == "lora":
        rank = int(rng.choice([2, 3, 4]))
        rslora = bool(seed % 2)  # no file states alpha: only a scale of one, as in openpi's configs, can be loaded
        lora_config = {"rank": rank, "alpha": rank**0.5 if rslora else float(rank), "rslora": rslora}
        combination = ("both", "vlm", "expert")[seed % 3] if name != "pi0_fast" else "vlm"
        variants = (
            "gemma_2b_lora" if combination in ("both", "vlm") else "gemma_2b",
            "gemma_300m_lora" if combination in ("both", "expert") else "gemma_300m",
        )
    stats, asset_id = norm_stats(rng, 8, 7), ("droid", "physical-intelligence/libero")[seed % 2]
    folder = new_case(out, f"openpi_jax-{kind}-{name}-{seed}")
    with small(sizes, lora_config):
        config = model_config(sizes, "float32", *([variants] if variants else []))
        params = draw_params(rng, config)
        if kind == "released" and seed % 2:
            params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), params)
        exact = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
        with array_typing.disable_typechecking():
            model = config.load(exact)
            if kind == "released":
                write_released(folder, params, stats, asset_id)
            else:
                write_training(folder, model, stats, asset_id)
        arrays = draw_inputs(rng, sizes)
        if name == "pi0_fast":
            arrays |= fast_arrays(rng, arrays)
            outputs = fast_outputs(model, sizes, arrays)
        else:
            outputs = flow_outputs(model, observation(arrays, sizes), arrays)
            half = model_config(sizes, "bfloat16", *([variants] if variants else []))
            low = half.load(jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), params))
            outputs["actions_10_bf16"] = np.asarray(
                low.sample_actions(
                    jax.random.key(0), observation(arrays, sizes), noise=jnp.asarray(arrays["noise_sample"])
                ),
                np.float32,
            )
    case = {"reference": "openpi_jax", "kind": kind, "model": name, "seed": seed, "sizes": sizes}
    case |= {"lora": lora_config, "variants": variants, "asset_id": asset_id}
    save_case(folder, case, PACKAGES, arrays | outputs)


if __name__ == "__main__":
    command = parser(__doc__.splitlines()[0])
    command.add_argument("--kinds", nargs="+", default=["network", "released", "lora"])
    options = command.parse_args()
    for one_kind in options.kinds:
        for one_model in options.models:
            for one_seed in options.seeds:
                make_case(options.out.absolute(), one_seed, one_model, one_kind)
