"""Time and memory of training steps: full, LoRA, expert only; on random weights and data of any preset.

    python bench/train.py --model demo
    python bench/train.py --model pi05 --device cuda --batch 32 --micro 16 --recompute 0.5   # real size

A step is all of it: forward, backward, clipping, AdamW on float32 masters, averaged weights where the recipe has them.
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import time

import numpy as np
import torch

from pi0_ros.model.config import ModelConfig
from pi0_ros.model.paligemma import ModelInput
from pi0_ros.model.pi0 import Pi0
from pi0_ros.training.objective import Batch, Learner, draw_noise_and_time
from pi0_ros.training.optimizer import Average, clip_gradients
from pi0_ros.training.recipe import Recipe, Stage
from pi0_ros.training.weights import ever_learning, fit_out, kept_dtype


def random_batch(config: ModelConfig, size: int, views: int, text: int, device: str) -> Batch:
    """A batch with `views` cameras and prompts of `text` tokens."""
    random, side = np.random.default_rng(0), config.vision.image_size
    slots = config.cameras[:views]
    noise, times = draw_noise_and_time(random, size, 1, (config.action_horizon, config.action_dim))
    inputs = ModelInput(
        {slot: torch.rand(size, side, side, 3, device=device) * 2 - 1 for slot in slots},
        {slot: torch.ones(size, dtype=torch.bool, device=device) for slot in slots},
        torch.randint(0, config.vocab_size, (size, text), device=device),
        torch.ones(size, text, dtype=torch.bool, device=device),
        torch.randn(size, config.action_dim, device=device),
    )
    actions = torch.randn(size, config.action_horizon, config.action_dim, device=device)
    drawn = torch.from_numpy(noise).to(device), torch.from_numpy(times).to(device)
    return Batch(np.arange(size), inputs, actions, *drawn, {})


def measure(recipe: Recipe, config: ModelConfig, args: argparse.Namespace) -> str:
    """Run the steps of a recipe with one stage; returns a line with its numbers."""
    stage, depth, autocast = recipe.stages[0], config.vlm.depth, args.precision == "bfloat16"
    if args.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with torch.device(args.device):
        model = Pi0(dataclasses.replace(config, dtype="bfloat16"))
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to(kept_dtype(name, recipe, depth, autocast))
    fit_out(model, recipe, autocast)
    learner = Learner(model, {})
    learning = ever_learning(learner, recipe, depth)
    for name, parameter in learner.named_parameters():
        parameter.requires_grad_(name in learning)
    average = Average(learning, enabled=stage.ema > 0)
    optimizer = torch.optim.AdamW(list(learning.values()), lr=1e-5, betas=(0.9, 0.95), weight_decay=1e-10, fused=True)
    if recipe.compile:
        learner.compile()
    batch = random_batch(config, stage.batch, args.views, args.text, args.device)
    times = []
    for _ in range(args.steps + args.warm_up):
        start = time.perf_counter()
        optimizer.zero_grad()
        loss = torch.zeros((), device=args.device)
        for part in batch.parts(stage.micro_batch or stage.batch):
            with torch.autocast(args.device, torch.bfloat16, enabled=autocast):
                mean = (learner(part).flow / batch.counts.flow).mean()
            mean.backward()
            loss += mean.detach()
        clip_gradients(list(learning.values()), 1.0)
        optimizer.step()
        average.update(stage.ema)
        loss.item()
        times.append(time.perf_counter() - start)
    middle = float(np.median(times[args.warm_up :]))
    if args.device == "cuda":
        memory = f"{torch.cuda.max_memory_allocated() / 1e9:.1f} GB"
    else:
        memory = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB (process, so far)"
    count = sum(p.numel() for p in learning.values())
    return (
        f"{stage.trainable:14s} {count / 1e6:8.1f} M learn   {middle:7.3f} s/step   {stage.batch / middle:7.1f} "
        f"samples/s   {memory}   loss {loss.item():.4f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo", help="preset: demo, pi0 or pi05")
    parser.add_argument("--trainable", nargs="+", default=["full", "lora", "expert_only"])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--micro", type=int, default=0, help="frames computed at once; 0: the batch")
    parser.add_argument(
        "--recompute", type=float, default=0.0, help="fraction of layers whose activations are not kept"
    )
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--text", type=int, default=16, help="tokens of the prompt")
    parser.add_argument("--ema", type=float, default=0.99, help="0: no averaged weights")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--precision", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    config = ModelConfig.preset(args.model)
    where = torch.cuda.get_device_name() if args.device == "cuda" else f"cpu, {args.threads} thread(s)"
    print(
        f"{args.model} on {where}, torch {torch.__version__}: batch {args.batch} in parts of "
        f"{args.micro or args.batch}, {args.views} views, {args.text} tokens, {args.precision}, "
        f"recompute {args.recompute:g}, compile {args.compile}"
    )
    for trainable in args.trainable:
        stage = Stage(
            batch=args.batch,
            micro_batch=args.micro,
            trainable=trainable,
            ema=0.0 if trainable == "lora" else args.ema,
        )
        recipe = Recipe((stage,), recompute=args.recompute, residual="bfloat16", compile=args.compile)
        print(measure(recipe, config, args), flush=True)


if __name__ == "__main__":
    main()
