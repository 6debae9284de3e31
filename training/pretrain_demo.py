"""Teach the demo's small model to see: where is the red, green, blue cube?

A released pi0 starts from a pre-trained vision-language model; the demo's starts from nothing. Before it learns to act
from recorded bags it learns to point, on rendered still scenes: each image token says how much of the named cube shows
in its patch, and the prompt's tokens say where on the table it lies. Pointing comes first and fast, and place follows
from it; asked for the place alone, the model stays at guessing far longer. Both heads are thrown away; the weights
are the `init` of `pi0 train`.

    pi0 pretrain-demo --stats runs/demo/dataset --out runs/demo/see
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pi0_ros.model.config import ModelConfig
from pi0_ros.model.init import sine_position_init
from pi0_ros.model.pi0 import Pi0
from pi0_ros.model.tokenizer import Tokenizer
from pi0_ros.policy.checkpoint import save_checkpoint
from pi0_ros.policy.norm import load_norm_stats
from pi0_ros.policy.transforms import PolicySettings, PolicySpec, make_inputs
from pi0_ros.robot import load_robot
from pi0_ros.sim.scenes import Scenes, render_scenes
from pi0_ros.sim.task import WORDINGS, prompt
from pi0_ros.sim.world import CAMERAS, CUBES

from .optimizer import clip_gradients
from .stats import NORM_STATS_PATH
from .vocabulary import make_tokenizer

HELD_OUT = 300  # scenes for validation
SEEN = 3  # pixels from which a cube counts as visible to a camera
POINTING = 0.5  # weight of the pointing loss beside the place's squared error
REPORT_EVERY = 200


@dataclass(frozen=True)
class Questions:
    """A batch: which scenes [B] and which cube of each [B] (index into CUBES)."""

    scenes: np.ndarray
    cubes: np.ndarray


class Pointer(nn.Module):
    """The network and its two throw-away heads."""

    def __init__(self, model: Pi0) -> None:
        super().__init__()
        width = model.config.vlm.width
        self.model = model
        self.point = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 1))
        self.place = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, 2))

    def forward(self, inputs: object) -> tuple[Tensor, Tensor]:
        """Return pointing logits [B, cameras, patches] and the place [B, 2] in normalised units."""
        hidden = self.model.encode_prefix(inputs).hidden.float()  # type: ignore[arg-type]
        mask = inputs.prompt_mask[..., None].float()  # type: ignore[attr-defined]
        words = (hidden[:, -mask.shape[1] :] * mask).sum(1) / mask.sum(1)
        patches = self.model.config.vision.num_positions
        logits = self.point(hidden[:, : patches * len(CAMERAS)])[..., 0].unflatten(1, (len(CAMERAS), patches))
        return logits, self.place(words)


def pointing_loss(logits: Tensor, pixels: Tensor) -> Tensor:
    """Cross-entropy between the softmax over one camera's patches [B,P] and the named cube's share of pixels [B,P].

    Rows where the camera does not see the cube do not count.
    """
    total = pixels.sum(1)
    seen = total > SEEN
    share = pixels / total.clamp(min=1.0)[:, None]
    entropy = -(share * F.log_softmax(logits, dim=-1)).sum(-1)
    return (entropy * seen).sum() / seen.sum().clamp(min=1)


class Lesson:
    """Scenes as batches of questions and answers, and the losses on them."""

    def __init__(self, scenes: Scenes, spec: PolicySpec) -> None:
        self.scenes, self.spec = scenes, spec
        places = scenes.cubes[..., :2].reshape(-1, 2)
        self.middle, self.scale = places.mean(0), float(places.std(0).max())  # m

    def losses(self, pointer: Pointer, asked: Questions, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return the squared error of the place, the pointing loss, and the distance [B] in cm."""
        rows, cubes = asked.scenes, asked.cubes
        words = [prompt(CUBES[cube], int(rng.integers(len(WORDINGS)))) for cube in cubes]
        images = {camera: frames[rows] for camera, frames in self.scenes.frames.items()}
        inputs = make_inputs(self.spec, images, self.scenes.state[rows].astype(np.float64), words)
        logits, place = pointer(inputs)
        truth = torch.from_numpy((self.scenes.cubes[rows, cubes, :2] - self.middle) / self.scale).float()
        pointing = torch.stack([
            pointing_loss(logits[:, k], torch.from_numpy(self.scenes.pixels[camera][rows, cubes]).flatten(1).float())
            for k, camera in enumerate(CAMERAS)
        ]).sum()  # fmt: skip
        distance = torch.linalg.norm(place.detach() - truth, dim=1) * self.scale * 100
        return (place - truth).square().mean(), pointing, distance


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 pretrain-demo`."""
    parser.add_argument("--stats", type=Path, required=True, help="dataset whose statistics normalise the state")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder to write")
    parser.add_argument("--scenes", type=int, default=10_000, help="number of rendered scenes (default 10000)")
    parser.add_argument("--steps", type=int, default=1200, help="optimiser steps (default 1200)")
    parser.add_argument("--batch", type=int, default=48, help="questions per step (default 48)")
    parser.add_argument("--lr", type=float, default=1e-3, help="peak learning rate (default 0.001)")
    parser.add_argument("--seed", type=int, default=200_000, help="seed of the first scene (default 200000)")


def run(args: argparse.Namespace) -> int:
    """`pi0 pretrain-demo`: writes the checkpoint and returns 0; does nothing where it exists."""
    from tqdm import tqdm

    if args.out.exists():
        print(f"{args.out} exists: nothing to do")
        return 0
    robot, config = load_robot("demo_arm"), ModelConfig.preset("demo")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    wordings = [prompt(colour, k) for colour in CUBES for k in range(len(WORDINGS))]
    tokenizer = make_tokenizer(wordings, args.out.with_name(f"{args.out.name}_tokenizer.model"), config.vocab_size)
    stats = load_norm_stats(args.stats / NORM_STATS_PATH)
    spec = PolicySpec(config, PolicySettings("mean_std", robot.dataset_fps), robot, stats, Tokenizer.load(tokenizer))
    side = config.vision.image_size // config.vision.patch_size
    with tqdm(total=args.scenes, unit="scene", desc="render") as bar:
        lesson = Lesson(render_scenes(args.scenes, args.seed, side, bar.update), spec)
    torch.manual_seed(0)
    model = Pi0(config)
    sine_position_init(model)
    curve = teach(Pointer(model), lesson, args.steps, args.batch, args.lr)
    notes = {"pretraining": "pi0 pretrain-demo", "scenes": args.scenes, "seed": args.seed, "curve": curve}
    save_checkpoint(args.out, model, config, spec.settings, robot, stats, tokenizer, notes)
    print(f"{args.out}: weights that point at cubes, {json.dumps(curve[-1])}")
    return 0


def teach(pointer: Pointer, lesson: Lesson, steps: int, batch: int, peak: float) -> list[dict[str, float]]:
    """Train `pointer` in place with AdamW, warm-up and cosine; return the validation errors along the way."""
    from tqdm import tqdm

    parameters = list(pointer.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=peak, betas=(0.9, 0.95), weight_decay=1e-4)
    curve: list[dict[str, float]] = []
    bar = tqdm(range(steps), unit="step", desc="see")
    for step in bar:
        decay = 0.05 + 0.95 * 0.5 * (1.0 + np.cos(np.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = peak * min(1.0, (step + 1) / 100) * decay
        rng = np.random.default_rng([1, step])
        asked = Questions(rng.integers(HELD_OUT, len(lesson.scenes.state), batch), rng.integers(0, len(CUBES), batch))
        place, pointing, _ = lesson.losses(pointer, asked, rng)
        optimizer.zero_grad(set_to_none=True)
        (place + POINTING * pointing).backward()
        clip_gradients(parameters, 1.0)
        optimizer.step()
        if (step + 1) % REPORT_EVERY == 0 or step + 1 == steps:
            curve.append({"step": step + 1, **examine(pointer, lesson)})
            bar.set_postfix({key: f"{value:.2f}" for key, value in curve[-1].items()})
    return curve


@torch.no_grad()
def examine(pointer: Pointer, lesson: Lesson) -> dict[str, float]:
    """Errors on the held-out scenes: distance between said and true place, cm."""
    rng = np.random.default_rng(5)
    asked = Questions(np.arange(HELD_OUT), rng.integers(0, len(CUBES), HELD_OUT))
    _, pointing, distance = lesson.losses(pointer, asked, rng)
    median, p90 = np.quantile(distance.numpy(), [0.5, 0.9])
    return {"pointing": round(float(pointing), 3), "median_cm": round(float(median), 2), "p90_cm": round(float(p90), 2)}
