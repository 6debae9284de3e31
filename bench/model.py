"""Time the network on this machine: one training step and one sampled chunk of a preset.

python bench/model.py --preset demo --batch 64 --draws 4 --threads 1
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from pi0_ros.model.config import ModelConfig
from pi0_ros.model.flow import sample_time
from pi0_ros.model.paligemma import ModelInput
from pi0_ros.model.pi0 import Pi0


def random_input(config: ModelConfig, batch: int, device: str) -> ModelInput:
    """Return a batch of noise images with a full prompt."""
    size = config.vision.image_size
    return ModelInput(
        images={slot: torch.rand(batch, size, size, 3) * 2 - 1 for slot in config.cameras},
        image_masks={slot: torch.ones(batch, dtype=torch.bool) for slot in config.cameras},
        prompt_tokens=torch.randint(config.vocab_size, (batch, config.max_token_len)),
        prompt_mask=torch.ones(batch, config.max_token_len, dtype=torch.bool),
        state=torch.zeros(batch, config.action_dim),
    ).to(device)


def milliseconds(
    action: Callable[[], object], device: str, repeats: int, clock: Callable[[], float] = time.perf_counter
) -> tuple[float, float]:
    """Return the fastest and the median time of `action` after one call to warm up."""
    action()
    times = []
    for _ in range(repeats):
        start = clock()
        action()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        times.append((clock() - start) * 1e3)
    return min(times), sorted(times)[len(times) // 2]


def main() -> None:
    """Parse the command line and print one line per measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="demo")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--draws", type=int, default=4, help="noise and time draws that share one prefix")
    parser.add_argument("--steps", type=int, default=10, help="Euler steps of a sampled chunk")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    config = ModelConfig.preset(args.preset)
    with torch.device(args.device):
        model = Pi0(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    inputs, alone = (random_input(config, batch, args.device) for batch in (args.batch, 1))
    rows = args.batch * args.draws
    actions = torch.zeros(args.batch, config.action_horizon, config.action_dim, device=args.device)
    noise = torch.randn(rows, *actions.shape[1:], device=args.device)

    def train() -> None:
        times = sample_time(rows, device=torch.device(args.device))
        model.loss(inputs, actions, noise, times, reduction="mean").backward()
        optimizer.step()
        optimizer.zero_grad()

    def prefix_only() -> None:
        model.encode_prefix(inputs).hidden.mean().backward()
        optimizer.zero_grad()

    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{args.preset}: {count / 1e6:.2f} M parameters, {args.device}, {args.threads} thread(s)")
    for name, action in {
        f"training step, batch {args.batch}, {args.draws} draws": train,
        f"of it the prefix, batch {args.batch}": prefix_only,
        f"sampled chunk, batch 1, {args.steps} steps": lambda: model.sample_actions(alone, num_steps=args.steps),
    }.items():
        best, median = milliseconds(action, args.device, args.repeats)
        print(f"{name:40s} best {best:8.1f} ms, median {median:8.1f} ms")


if __name__ == "__main__":
    main()
