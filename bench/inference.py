"""One chunk on this machine's CPU: the engine, the plain model and, where it can be imported, LeRobot's own classes.

    python bench/inference.py                                # the demo's sizes, one thread
    python bench/inference.py --preset pi0 --rounds 2 --threads 2
    PYTHONPATH=. PYTHON_WITH_LEROBOT bench/inference.py      # beside LeRobot, with equal weights

Random weights, equal for all, float32 for the demo's sizes. Every round runs each of them once, so that whatever else
the machine does falls on all alike. Shown are wall and CPU time and the largest difference from the plain model's
actions. LeRobot's classes get pictures and tokens ready made; what they do before that is not counted.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

from gpu.measure import noise_for, observation  # noqa: E402

from pi0_ros.checkpoints.weights import named_weights  # noqa: E402
from pi0_ros.engine.engine import Engine  # noqa: E402
from pi0_ros.model.config import ModelConfig  # noqa: E402
from pi0_ros.model.paligemma import ModelInput  # noqa: E402
from pi0_ros.model.pi0 import Pi0  # noqa: E402


def lerobot_chunk(model: Pi0, inputs: ModelInput, noise: Tensor, steps: int) -> Callable[[], Tensor] | str:
    """A call of LeRobot's network with the weights of `model`, or why there is none."""
    sys.path.insert(0, str(ROOT / "tools" / "references"))
    try:
        from lerobot.configs.types import FeatureType, PolicyFeature
        from lerobot_policies import MODELS, small
    except ImportError as error:
        return f"LeRobot cannot be imported: {error}"
    config = model.config
    sizes = config.to_dict()
    _, policy_class, config_class, _ = MODELS[config.model]
    side = config.vision.image_size
    pictures = {
        f"observation.images.{slot}": PolicyFeature(FeatureType.VISUAL, (3, side, side)) for slot in inputs.images
    }
    with small(sizes):
        policy = policy_class(
            config_class(
                input_features=pictures | {"observation.state": PolicyFeature(FeatureType.STATE, (config.action_dim,))},
                output_features={"action": PolicyFeature(FeatureType.ACTION, (config.action_dim,))},
                device="cpu",
                dtype=config.dtype,
                chunk_size=config.action_horizon,
                max_state_dim=config.action_dim,
                n_action_steps=config.action_horizon,
                max_action_dim=config.action_dim,
                tokenizer_max_length=config.max_token_len,
                num_inference_steps=steps,
            )  # fmt: skip
        )
    weights = {f"model.{name}": parameter.data for name, parameter in named_weights(model).items()}
    missing, unknown = policy.load_state_dict(weights, strict=False)
    if unknown or any("lm_head" not in name for name in missing):
        return f"LeRobot's parameters have other names: {unknown[:3]} {missing[:3]}"
    network = policy.model.eval()
    images = [image.permute(0, 3, 1, 2).contiguous() for image in inputs.images.values()]
    arguments = [images, list(inputs.image_masks.values()), inputs.prompt_tokens, inputs.prompt_mask]
    if not config.is_pi05:
        arguments.append(inputs.state)
    return lambda: network.sample_actions(*arguments, noise=noise, num_steps=steps)


def main() -> int:
    """Measure and print a table; --json also writes it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="demo", choices=("demo", "pi0", "pi05"))
    parser.add_argument("--device", default="cpu", choices=("cpu",), help="for a GPU see bench/gpu_day.py")
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=9, help="valid tokens of the prompt")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    config = ModelConfig.preset(args.preset)
    torch.manual_seed(0)
    model = Pi0(config).eval().requires_grad_(False)
    if config.is_pi05:
        for name, parameter in model.named_parameters():
            if ".dense." in name:
                torch.nn.init.normal_(parameter, std=0.3 * parameter.shape[-1] ** -0.5)
    noise = noise_for(config, 0)
    padded = observation(config, args.views, args.tokens, 0, padded=True)
    model.lerobot_times = True
    theirs = lerobot_chunk(model, padded, noise, args.steps)
    engine = Engine(model)
    calls: dict[str, Callable[[], Tensor]] = {
        "plain model": lambda: model.sample_actions(padded, noise, args.steps),
        "engine": lambda: engine.sample_actions(padded, noise, args.steps),
    }
    if isinstance(theirs, str):
        print(f"{theirs}: beside the engine stands this package's own eager model, in openpi's shapes")
    else:
        calls = {"LeRobot": theirs, **calls}
    wall, cpu = {name: list[float]() for name in calls}, {name: list[float]() for name in calls}
    with torch.inference_mode():
        actions = {name: call().clone() for name, call in calls.items()}
        for _ in range(args.rounds):
            for name, call in calls.items():
                start, used = time.perf_counter(), time.process_time()
                call()
                wall[name].append((time.perf_counter() - start) * 1e3)
                cpu[name].append((time.process_time() - used) * 1e3)
    rows: list[dict[str, Any]] = []
    for name in calls:
        apart = float((actions[name] - actions["plain model"]).abs().max())
        rows.append(
            {"what": name, "wall_p50": statistics.median(wall[name]), "wall_best": min(wall[name])}
            | {"cpu_p50": statistics.median(cpu[name]), "cpu_best": min(cpu[name]), "apart": apart}
        )
    ours = rows[-1]
    print(f"{args.preset}, {args.views} cameras, {args.tokens} tokens, {args.steps} steps, {args.threads} thread(s)")
    for row in rows:
        print(
            f"{row['what']:12s} wall p50 {row['wall_p50']:8.2f} best {row['wall_best']:8.2f} ms, CPU p50 "
            f"{row['cpu_p50']:8.2f} best {row['cpu_best']:8.2f} ms, {row['cpu_p50'] / ours['cpu_p50']:.2f}x the "
            f"engine's CPU time, actions apart {row['apart']:.1e}"
        )
    if args.json:
        about = {"python": platform.python_version(), "torch": torch.__version__, "machine": platform.machine()}
        about |= {"processor": _processor(), "command": " ".join(["python", "bench/inference.py", *sys.argv[1:]])}
        if "LeRobot" in calls:
            from importlib.metadata import PackageNotFoundError, version

            try:
                about["lerobot"] = version("lerobot")
            except PackageNotFoundError:
                about["lerobot"] = "from its source"
        about |= {key: getattr(args, key) for key in ("preset", "views", "tokens", "steps", "rounds", "threads")}
        args.json.write_text(json.dumps({"cpu": about, "rows": rows}, indent=1) + "\n")
    return 0


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


if __name__ == "__main__":
    sys.exit(main())
