"""What real-time chunking costs: one chunk of batch 1, plain and in every mode, for a small and a middling network.

python bench/rtc.py                     # random weights: the time does not depend on them
python bench/rtc.py --sizes pi05 --device cuda
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from functools import partial

import torch
from model import milliseconds, random_input

from pi0_ros.model.config import Expert, ModelConfig, Vision
from pi0_ros.model.pi0 import Pi0
from pi0_ros.model.rtc import CleanPrefix, Guidance, SoftPrefix, soft_mask

HALF = Expert(width=512, depth=12, mlp_dim=2048, num_heads=8, num_kv_heads=1, head_dim=64)
MIDDLE = replace(
    ModelConfig.preset("pi05"),
    vlm=replace(HALF, width=768, mlp_dim=3072),
    expert=HALF,
    vision=Vision(width=384, depth=8, mlp_dim=1536, num_heads=6, patch_size=14, image_size=224),
    vocab_size=8192,
    cameras=("base_0_rgb", "left_wrist_0_rgb"),
    dtype="float32",
)


def main() -> None:
    """Parse the command line and print one table per network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["demo", "middle"], help="presets, and `middle`")
    parser.add_argument("--steps", type=int, default=10, help="flow steps")
    parser.add_argument("--delay", type=int, default=4, help="actions executed meanwhile")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for name in args.sizes:
        measure(name, args)


def measure(name: str, args: argparse.Namespace) -> None:
    """Print one line per mode for one network."""
    config = MIDDLE if name == "middle" else ModelConfig.preset(name)
    with torch.device(args.device):
        model = Pi0(config).requires_grad_(False)  # as in a policy
    inputs = random_input(config, 1, args.device)
    known = torch.randn(1, config.action_horizon, config.action_dim, device=args.device)
    mask = soft_mask("exp", args.delay, config.action_horizon * 2 // 3, config.action_horizon)[:, None]
    modes: dict[str, Guidance | None] = {
        "plain": None,
        "lerobot": SoftPrefix(known, mask.to(args.device), jacobian=False),
        "exact": SoftPrefix(known, mask.to(args.device)),
        "trained": CleanPrefix(known[:, : args.delay]),
    }

    def encode() -> None:
        with torch.no_grad():
            model.encode_prefix(inputs)

    def sample(guidance: Guidance | None) -> None:
        model.sample_actions(inputs, num_steps=args.steps, guidance=guidance)

    parameters = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    print(f"{name}: {parameters:.1f} M parameters, {args.device}, {args.threads} thread(s), {args.steps} steps")
    clock = time.process_time if args.device == "cpu" and args.threads == 1 else time.perf_counter  # others may be busy
    times = {"images and prompt alone": milliseconds(encode, args.device, args.repeats, clock)}
    times |= {
        f"chunk, {mode}": milliseconds(partial(sample, g), args.device, args.repeats, clock)
        for mode, g in modes.items()
    }
    for what, (best, median) in times.items():
        ratio = best / times["chunk, plain"][0]
        print(f"  {what:24s} best {best:8.1f} ms, median {median:8.1f} ms; best {ratio:5.2f} x plain")


if __name__ == "__main__":
    main()
