"""Twenty optimiser steps by the references' own models, optimisers and schedules, from the weights of the fixtures.

    python train_steps.py openpi --fixtures ../../test/fixtures/reference --out ../../test/fixtures/training
    python train_steps.py lerobot ...      python train_steps.py openpi_lora ...
    python train_steps.py openpi_fast --models pi0 ...

Needs what `openpi_torch.py`, `lerobot_policies.py` and `openpi_jax.py` need. Every step has its own noise and flow
times; images, prompts, states and actions are those of the fixture. Schedules are shortened, so that twenty steps move
the weights by more than rounding does. A result has per step `loss`, `grad_norm` and `lr`, and of every tensor
`moved/NAME`, the length of its change, and `final/NAME`, some of its numbers (see `some_of`). LoRA: `start/NAME` too.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

STEPS, WARMUP, PEAK, FINAL = 20, 4, 1e-4, 1e-5
JOINTS = 6  # of the robot whose dimensions LeRobot's loss counts
WRITTEN = 24  # tokens of question and answer of pi0-FAST
RANKS = {"attn": 3, "ffn": 2}
ALPHA = 6.0
Arrays = dict[str, np.ndarray]


def some_of(values: np.ndarray) -> np.ndarray:
    """At most 65 numbers, evenly spread over a tensor."""
    flat = np.asarray(values, np.float32).reshape(-1)
    return flat[:: max(1, len(flat) // 64)][:65]


def draw(fixture: Path, name: str) -> tuple[dict[str, Any], Arrays, Arrays]:
    """Sizes and inputs of a fixture, and the noise and flow times of all steps."""
    sizes = json.loads((fixture / "sizes.json").read_text())
    arrays = dict(np.load(fixture / "expected.npz"))
    rng = np.random.default_rng([20, sum(map(ord, name))])
    noise = rng.standard_normal((STEPS, *arrays["actions"].shape), dtype=np.float32)
    time = rng.random((STEPS, len(arrays["actions"]))) ** (1 / 1.5) * 0.999 + 0.001
    return sizes, arrays, {"noise": noise, "time": time.astype(np.float32)}


def changes(start: Mapping[str, np.ndarray], final: Mapping[str, np.ndarray]) -> Arrays:
    """What is kept of all tensors."""
    kept: Arrays = {}
    for name, before in start.items():
        kept[f"moved/{name}"] = np.asarray(np.linalg.norm((np.asarray(final[name], np.float64) - before).ravel()))
        kept[f"final/{name}"] = some_of(final[name])
    return kept


def openpi(fixture: Path, name: str) -> Arrays:
    """The loop of openpi's scripts/train_pytorch.py, which has no function for a step: the same calls in its order."""
    import openpi_torch
    import safetensors.torch
    import torch
    from openpi.training.optimizer import AdamW

    sizes, arrays, drawn = draw(fixture, name)
    model = openpi_torch.build(sizes, "float32")
    safetensors.torch.load_model(model, fixture / "model.safetensors", strict=False)
    values = AdamW()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=PEAK, betas=(values.b1, values.b2), eps=values.eps, weight_decay=values.weight_decay
    )
    start = {name: p.detach().numpy().copy() for name, p in model.named_parameters()}
    seen, actions = openpi_torch.observation(arrays, sizes), torch.from_numpy(arrays["actions"])
    plain, rows = model._preprocess_observation, []
    for step in range(STEPS):
        if step < WARMUP:
            first = PEAK / (WARMUP + 1)
            rate = first + (PEAK - first) * step / WARMUP
        else:
            progress = min(1.0, (step - WARMUP) / max(1, STEPS - WARMUP))
            rate = FINAL + (PEAK - FINAL) * 0.5 * (1 + np.cos(np.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = rate
        with mock.patch.object(model, "_preprocess_observation", lambda one, train: plain(one, train=False)):
            losses = model(seen, actions, torch.from_numpy(drawn["noise"][step]), torch.from_numpy(drawn["time"][step]))
        loss = losses.mean()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=values.clip_gradient_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        rows.append((loss.item(), norm.item(), rate))
    return drawn | columns(rows) | changes(start, {name: p.detach().numpy() for name, p in model.named_parameters()})


def lerobot(fixture: Path, name: str) -> Arrays:
    """LeRobot's `update_policy` with its optimizer and scheduler presets; only lengths and learning rates are ours."""
    import lerobot_policies
    import safetensors.torch
    import torch
    from accelerate import Accelerator
    from lerobot.configs.types import FeatureType, PolicyFeature
    from lerobot.scripts.lerobot_train import update_policy
    from lerobot.utils.logging_utils import AverageMeter, MetricsTracker

    sizes, arrays, drawn = draw(fixture, name)
    _, policy_class, config_class, _ = lerobot_policies.MODELS[name]
    cameras = {f"observation.images.{camera}": camera for camera in sizes["cameras"]}
    inputs = {key: PolicyFeature(FeatureType.VISUAL, (3, 224, 224)) for key in cameras}
    inputs["observation.state"] = PolicyFeature(FeatureType.STATE, (sizes["action_dim"],))
    config = config_class(
        input_features=inputs, output_features={"action": PolicyFeature(FeatureType.ACTION, (JOINTS,))},
        device="cpu", dtype="float32", chunk_size=sizes["action_horizon"], n_action_steps=sizes["action_horizon"],
        optimizer_lr=PEAK, scheduler_warmup_steps=WARMUP, scheduler_decay_steps=STEPS, scheduler_decay_lr=FINAL,
    )  # fmt: skip
    with lerobot_policies.small(sizes):
        policy = policy_class(config)
    torch.set_float32_matmul_precision("highest")  # the constructor lowers it
    missing, strange = policy.model.load_state_dict(
        safetensors.torch.load_file(fixture / "model.safetensors"), strict=False
    )
    print(f"not in the file: {missing}; not in the model: {strange}")
    start = {name: p.detach().numpy().copy() for name, p in policy.model.named_parameters()}
    optimizer = config.get_optimizer_preset().build(policy.parameters())
    scheduler = config.get_scheduler_preset().build(optimizer, STEPS)
    batch = {
        key: torch.from_numpy(arrays[f"image_{c}"]).permute(0, 3, 1, 2).float() / 255 for key, c in cameras.items()
    }
    batch["observation.language.tokens"] = torch.from_numpy(arrays["tokens"]).long()
    batch["observation.language.attention_mask"] = torch.from_numpy(arrays["token_mask"])
    batch["observation.state"] = torch.from_numpy(arrays["state"])
    batch["action"] = torch.from_numpy(arrays["actions"][..., :JOINTS])
    rows, accelerator = [], Accelerator(cpu=True)
    for step in range(STEPS):
        names = ("loss", "grad_norm", "lr", "update_s")
        tracker = MetricsTracker(2, 2, 1, {key: AverageMeter(key, ":.9g") for key in names})
        rate = optimizer.param_groups[0]["lr"]
        noise, time = (torch.from_numpy(drawn[key][step]) for key in ("noise", "time"))
        with (
            mock.patch.object(policy.model, "sample_noise", lambda *_, given=noise: given),
            mock.patch.object(policy.model, "sample_time", lambda *_, given=time: given),
        ):
            tracker, _ = update_policy(
                tracker, policy, batch, optimizer, config.optimizer_grad_clip_norm, accelerator, scheduler
            )
        rows.append((float(tracker.loss.val), float(tracker.grad_norm.val), rate))
    final = {name: p.detach().numpy() for name, p in policy.model.named_parameters()}
    return drawn | columns(rows) | changes(start, final)


def openpi_lora(fixture: Path, name: str) -> Arrays:
    """openpi's JAX model with LoRA in both experts, its freeze filter, schedule and optimizer; without augmentation."""
    import sys
    from types import SimpleNamespace

    for unneeded in ("checkpoints", "config"):  # of `openpi_jax`; they import datasets and servers
        sys.modules[f"openpi.training.{unneeded}"] = mock.MagicMock()

    import flax.nnx as nnx
    import jax
    import jax.numpy as jnp
    import openpi_jax
    import optax
    from flax import traverse_util
    from openpi.models import gemma, lora, pi0
    from openpi.models.model import restore_params
    from openpi.shared import array_typing
    from openpi.training.optimizer import AdamW, CosineDecaySchedule, create_optimizer

    sizes, arrays, drawn = draw(fixture, name)
    rng = np.random.default_rng([21, sum(map(ord, name))])
    parts = {part: lora.LoRAConfig(rank=rank, alpha=ALPHA) for part, rank in RANKS.items()}

    def with_factors(variant: str) -> gemma.Config:
        return gemma.Config(**sizes["expert" if "300m" in variant else "vlm"], lora_configs=parts)

    with openpi_jax.small(sizes), mock.patch.object(gemma, "get_config", with_factors):
        config = openpi_jax.model_config(sizes, "float32", ("gemma_2b_lora", "gemma_300m_lora"))
        shapes = nnx.state(nnx.eval_shape(config.create, jax.random.key(0))).to_pure_dict()
        params = traverse_util.flatten_dict(restore_params(fixture / "checkpoint" / "params", dtype=np.float32))
        for path, leaf in traverse_util.flatten_dict(shapes).items():
            if any("lora" in part for part in path):  # numbers that a small file keeps exactly
                params[path] = (0.1 * rng.standard_normal(leaf.shape)).astype(np.float16).astype(np.float32)
        with array_typing.disable_typechecking():
            model = config.load(traverse_util.unflatten_dict({k: jnp.asarray(v) for k, v in params.items()}))
        observed = openpi_jax.observation(arrays, sizes)
        learns = nnx.All(nnx.Param, nnx.Not(config.get_freeze_filter()))
        optimizer = create_optimizer(AdamW(), CosineDecaySchedule(WARMUP, PEAK, STEPS, FINAL))
        moments = optimizer.init(nnx.state(model, learns))
        schedule, rows = CosineDecaySchedule(WARMUP, PEAK, STEPS, FINAL).create(), []

        @nnx.jit
        def loss_and_gradients(one: Any, noise: Any, time: Any) -> Any:
            random = SimpleNamespace(**vars(jax.random))
            random.normal = lambda *_, **__: noise
            random.beta = lambda *_, **__: (time - 0.001) / jnp.float32(0.999)
            fixed = SimpleNamespace(**{**vars(jax), "random": random})

            def loss_of(network: Any) -> Any:
                losses = network.compute_loss(jax.random.key(0), observed, jnp.asarray(arrays["actions"]), train=False)
                return jnp.mean(losses)

            with mock.patch.object(pi0, "jax", fixed), array_typing.disable_typechecking():
                return nnx.value_and_grad(loss_of, argnums=nnx.DiffState(0, learns))(one)

        def leaves() -> Arrays:
            found = traverse_util.flatten_dict(nnx.state(model).to_pure_dict(), sep="/")
            return {name: np.array(leaf) for name, leaf in found.items()}

        first = leaves()
        for step in range(STEPS):
            draws = (jnp.asarray(drawn[key][step]) for key in ("noise", "time"))
            loss, gradients = loss_and_gradients(model, *draws)
            rows.append((float(loss), float(optax.global_norm(gradients)), float(schedule(step))))
            before = nnx.state(model, learns)
            updates, moments = optimizer.update(gradients, moments, before)
            nnx.update(model, optax.apply_updates(before, updates))
        final = leaves()
    start = {f"start/{k}": v.astype(np.float16) for k, v in first.items() if "lora" in k}
    return drawn | columns(rows) | start | changes(first, final)


def openpi_fast(fixture: Path, name: str) -> Arrays:
    """openpi's JAX pi0-FAST, of the language part of the pi0 fixture, with its schedule and optimizer."""
    import sys

    for unneeded in ("checkpoints", "config"):
        sys.modules[f"openpi.training.{unneeded}"] = mock.MagicMock()

    import flax.nnx as nnx
    import jax
    import jax.numpy as jnp
    import openpi_jax
    import optax
    from flax import traverse_util
    from openpi.models.model import restore_params
    from openpi.shared import array_typing
    from openpi.training.optimizer import AdamW, CosineDecaySchedule, create_optimizer

    sizes, arrays, _ = draw(fixture, name)
    sizes |= {"model": "pi0_fast", "max_token_len": WRITTEN}
    rng, place = np.random.default_rng(22), np.arange(WRITTEN)
    lengths, questions = np.array([[WRITTEN], [WRITTEN - 3]]), np.array([[7], [9]])
    mask = place < lengths
    written = {
        "tokens": np.where(mask, rng.integers(4, sizes["vocab_size"], (2, WRITTEN)), 0),
        "token_mask": mask,
        "token_loss_mask": mask & (place >= questions),
    }
    written["token_ar_mask"] = written["token_loss_mask"].astype(np.int32)
    arrays |= written | {f"image_mask_{camera}": np.ones(2, bool) for camera in sizes["cameras"]}
    with openpi_jax.small(sizes), array_typing.disable_typechecking():
        config = openpi_jax.model_config(sizes, "float32")
        params = traverse_util.flatten_dict(restore_params(fixture / "checkpoint" / "params", dtype=np.float32))
        kept = {k: v for k, v in params.items() if k[0] == "PaliGemma" and not (k[1] == "llm" and "_1" in "".join(k))}
        model = config.load(traverse_util.unflatten_dict({k: jnp.asarray(v) for k, v in kept.items()}))
        observed = openpi_jax.observation(arrays, sizes)
        optimizer = create_optimizer(AdamW(), CosineDecaySchedule(WARMUP, PEAK, STEPS, FINAL))
        moments = optimizer.init(nnx.state(model, nnx.Param))
        schedule, rows = CosineDecaySchedule(WARMUP, PEAK, STEPS, FINAL).create(), []

        def loss_of(network: Any) -> Any:
            losses = network.compute_loss(jax.random.key(0), observed, jnp.asarray(arrays["actions"]), train=False)
            return jnp.mean(losses)

        loss_and_gradients = nnx.jit(nnx.value_and_grad(loss_of, argnums=nnx.DiffState(0, nnx.Param)))

        def leaves() -> Arrays:
            found = traverse_util.flatten_dict(nnx.state(model).to_pure_dict(), sep="/")
            return {name: np.array(leaf) for name, leaf in found.items()}

        first = leaves()
        for step in range(STEPS):
            loss, gradients = loss_and_gradients(model)
            rows.append((float(loss), float(optax.global_norm(gradients)), float(schedule(step))))
            before = nnx.state(model, nnx.Param)
            updates, moments = optimizer.update(gradients, moments, before)
            nnx.update(model, optax.apply_updates(before, updates))
        final = leaves()
    return written | columns(rows) | changes(first, final)


def columns(rows: list[tuple[float, float, float]]) -> Arrays:
    """Loss, norm of the gradient and learning rate of every step."""
    return dict(zip(("loss", "grad_norm", "lr"), np.array(rows).T, strict=True))


KINDS: dict[str, Callable[[Path, str], Arrays]] = {
    "openpi": openpi,
    "lerobot": lerobot,
    "openpi_lora": openpi_lora,
    "openpi_fast": openpi_fast,
}

if __name__ == "__main__":
    command = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    command.add_argument("kind", choices=sorted(KINDS))
    command.add_argument("--fixtures", type=Path, required=True)
    command.add_argument("--out", type=Path, required=True)
    command.add_argument("--models", nargs="+", default=["pi0", "pi05"])
    options = command.parse_args()
    for one in options.models:
        found = KINDS[options.kind](options.fixtures / one, one)
        path = options.out / f"{options.kind}_{one}.npz"
        np.savez_compressed(path, **found)  # type: ignore[arg-type]  # numpy's stub: allow_pickle
        print(f"{options.kind} {one}: loss {found['loss'][0]:.6f} to {found['loss'][-1]:.6f}", flush=True)
