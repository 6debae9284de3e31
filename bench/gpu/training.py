"""One optimiser step at full size: the network, its loss and AdamW, in float32 masters under bfloat16 autocast.

Without the data loader and the averaged weights, so that what is timed is the device.
"""

from __future__ import annotations

from typing import Any

import torch

from gpu.measure import Deadline, Run, observation, random_model, synchronize, time_wall
from pi0_ros.model.config import ModelConfig
from pi0_ros.model.flow import sample_time
from pi0_ros.model.lora import add_lora
from pi0_ros.model.paligemma import ModelInput
from pi0_ros.model.pi0 import Pi0

VIEWS, TOKENS = 2, {"pi0": 20, "pi05": 64}
FROZEN: dict[str, tuple[str, ...]] = {
    "full": (),
    "LoRA": ("embedding", "vlm", "expert"),
    "expert only": ("vision", "projector", "embedding", "vlm"),
}


def measure(run: Run) -> list[dict[str, Any]]:
    """A row per model and kind of training: seconds a step, samples a second, memory."""
    deadline, rows = Deadline(run.seconds), list[dict[str, Any]]()
    for name in ("pi0", "pi05"):
        for kind, batches in (("full", (32, 16, 8)), ("LoRA", (32, 16, 8)), ("expert only", (32, 16))):
            if deadline.left < (0 if run.small else 60):
                rows.append({"model": name, "kind": kind, "why": "left out: the stage's time was up"})
                continue
            for batch in (2,) if run.small else batches:
                row: dict[str, Any] = {"model": name, "kind": kind, "batch": batch, "views": VIEWS}
                try:
                    rows.append(row | _step(run, name, kind, batch))
                except torch.cuda.OutOfMemoryError:
                    rows.append(row | {"why": "more memory than the device has"})
                    torch.cuda.empty_cache()
                    continue
                break
            print(f"  {rows[-1]}", flush=True)
    return rows


def batch_of(config: ModelConfig, rows: int, tokens: int) -> ModelInput:
    """`rows` random observations, valid tokens only."""
    each = [observation(config, VIEWS, tokens, seed) for seed in range(rows)]
    return ModelInput(
        images={slot: torch.cat([one.images[slot] for one in each]) for slot in each[0].images},
        image_masks={slot: torch.cat([one.image_masks[slot] for one in each]) for slot in each[0].images},
        prompt_tokens=torch.cat([one.prompt_tokens for one in each]),
        prompt_mask=torch.cat([one.prompt_mask for one in each]),
        state=torch.cat([one.state for one in each]),
    )


def _step(run: Run, name: str, kind: str, batch: int) -> dict[str, Any]:
    device = run.device
    model: Pi0 = random_model(name, run).float().requires_grad_(True)
    if kind == "LoRA":  # openpi's, of both experts
        ranks = {"vlm": 16, "expert": 32}
        add_lora(model, "openpi", ranks, {name: float(rank) for name, rank in ranks.items()}, ("attention", "mlp"))
    for key, parameter in model.named_parameters():
        parameter.requires_grad_(".lora_" in key or key.split(".")[0] not in FROZEN[kind])
    blind = kind == "expert only"
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=device.type == "cuda")
    inputs = batch_of(model.config, batch, 9 if run.small else TOKENS[name]).to(device)
    shape = (batch, model.config.action_horizon, model.config.action_dim)
    actions, noise = torch.zeros(shape, device=device), torch.randn(shape, device=device)
    losses = []

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            with torch.set_grad_enabled(not blind):
                prefix = model.encode_prefix(inputs)
            loss = model.loss(inputs, actions, noise, sample_time(batch, device=device), "mean", prefix)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    took = time_wall(step, device, 2 if run.small else 5, 1 if run.small else 2)
    synchronize(device)
    found = {"s_per_step": took.p50 / 1e3, "samples_per_s": batch / took.p50 * 1e3}
    found["trained_parameters"] = sum(parameter.numel() for parameter in trained)
    found["finite"] = bool(torch.stack(losses).isfinite().all())
    if device.type == "cuda":
        found["peak_gb"] = torch.cuda.max_memory_allocated() / 1e9
    return found
