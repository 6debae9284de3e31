"""Teach the demo's small model to see: where is the red, green, blue cube?

A released pi0 starts from a pre-trained vision-language model; the demo's starts from nothing. Before it learns to act
from recorded bags it learns to point, on rendered still scenes: each image token says how much of the named cube shows
in its patch, and the prompt's tokens say which joints would grasp it. Pointing comes first and fast, and the joints
follow from it; asked for the place alone, the model stays at guessing far longer. The answers are read from the
attention values of the later layers, which is all that the action expert will see. The heads are thrown away; the
weights are the `init` of `pi0 train`.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pi0_ros.checkpoints.checkpoint import save_checkpoint
from pi0_ros.checkpoints.norm_stats import NormStats, Stats
from pi0_ros.checkpoints.settings import PolicySettings
from pi0_ros.checkpoints.spec import PolicySpec
from pi0_ros.model.config import ModelConfig
from pi0_ros.model.init import sine_position_init
from pi0_ros.model.paligemma import ModelInput
from pi0_ros.model.pi0 import Pi0
from pi0_ros.policy.transforms import make_inputs
from pi0_ros.robot import load_robot
from pi0_ros.sim.demonstrator import GRASP_HEIGHT
from pi0_ros.sim.kinematics import forward, inverse
from pi0_ros.sim.scenes import Scenes, render_scenes
from pi0_ros.sim.task import WORDINGS, prompt
from pi0_ros.sim.world import CAMERAS, CUBES
from pi0_ros.tokens.tokenizer import Tokenizer
from pi0_ros.training.optimizer import clip_gradients, computes_bfloat16
from pi0_ros.training.vocabulary import make_tokenizer

HELD_OUT = 300  # scenes for validation
SEEN = 3  # pixels from which a cube counts as visible to a camera
ARM = 4  # joints that a grasp with the hand straight down fixes: yaw, shoulder, elbow, wrist
POINTING = 0.5  # weight of the pointing loss beside the joints' squared error
REPORT_EVERY = 200


@dataclass(frozen=True)
class Questions:
    """A batch: which scenes [B] and which cube of each [B] (index into CUBES)."""

    scenes: np.ndarray
    cubes: np.ndarray


class Pointer(nn.Module):
    """The network and its throw-away heads on the attention values of the layers from the middle on."""

    def __init__(self, model: Pi0) -> None:
        super().__init__()
        sizes = model.config.vlm
        width = sizes.num_kv_heads * sizes.head_dim
        self.model = model
        self.first = sizes.depth // 2
        self.point = nn.ModuleList(nn.Linear(width, 1) for _ in range(self.first, sizes.depth))
        self.joints = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, ARM))
            for _ in range(self.first, sizes.depth)
        )

    def forward(self, inputs: ModelInput) -> tuple[Tensor, Tensor]:
        """Return pointing logits [layers, B, cameras, patches] and normalised grasp joints [layers, B, ARM]."""
        mask = inputs.prompt_mask[..., None].float()
        patches = self.model.config.vision.num_positions
        logits, joints = [], []
        layers = self.model.encode_prefix(inputs).cached[self.first :]
        for (_, values), point, head in zip(layers, self.point, self.joints, strict=True):
            seen = values.transpose(1, 2).flatten(2).float()  # [B, P, kv heads * head_dim]
            logits.append(point(seen[:, : patches * len(CAMERAS)])[..., 0].unflatten(1, (len(CAMERAS), patches)))
            joints.append(head((seen[:, -mask.shape[1] :] * mask).sum(1) / mask.sum(1)))
        return torch.stack(logits), torch.stack(joints)


def pointing_loss(logits: Tensor, pixels: Tensor) -> Tensor:
    """Cross-entropy between the softmax over one camera's patches [B,P] and the named cube's fraction of pixels [B,P].

    Rows where the camera does not see the cube do not count.
    """
    total = pixels.sum(1)
    seen = total > SEEN
    fraction = pixels / total.clamp(min=1.0)[:, None]
    entropy = -(fraction * F.log_softmax(logits, dim=-1)).sum(-1)
    return (entropy * seen).sum() / seen.sum().clamp(min=1)


class Lesson:
    """Scenes as batches of questions and answers, and the losses on them."""

    def __init__(self, scenes: Scenes, spec: PolicySpec) -> None:
        self.scenes, self.spec = scenes, spec
        points = scenes.cubes.reshape(-1, 3).astype(np.float64) * [1, 1, 0] + [0, 0, GRASP_HEIGHT]
        joints = np.array([inverse(point)[:ARM] for point in points])
        self.middle = joints.mean(0)  # rad
        self.scale = joints.std(0)  # rad: guessing the mean scores 1
        self.joints = ((joints - self.middle) / self.scale).reshape(-1, len(CUBES), ARM).astype(np.float32)

    def losses(self, pointer: Pointer, asked: Questions, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return the squared error of the joints, the pointing loss, and the last layer's joints [B, ARM] (rad)."""
        rows, cubes = asked.scenes, asked.cubes
        words = [prompt(CUBES[cube], int(rng.integers(len(WORDINGS)))) for cube in cubes]
        images = {camera: frames[rows] for camera, frames in self.scenes.frames.items()}
        logits, joints = pointer(make_inputs(self.spec, images, self.scenes.state[rows].astype(np.float64), words))
        error = (joints - torch.from_numpy(self.joints[rows, cubes])).square().mean()
        pixels = [torch.from_numpy(self.scenes.pixels[c][rows, cubes]).flatten(1).float() for c in CAMERAS]
        pointing = torch.stack(
            [pointing_loss(layer[:, k], shown) for layer in logits for k, shown in enumerate(pixels)]
        ).mean()
        return error, pointing, joints[-1].detach() * torch.from_numpy(self.scale) + torch.from_numpy(self.middle)


def pretrain(out: Path, scenes: int, steps: int, batch: int, peak: float, seed: int) -> dict[str, float]:
    """Render `scenes`, teach a new network with them and write it to `out`; returns its last validation errors.

    `seed` is that of the first scene.
    """
    with tempfile.TemporaryDirectory() as place:
        return _pretrain(out, Path(place) / "tokenizer.model", scenes, steps, batch, peak, seed)


def _pretrain(
    out: Path, tokenizer: Path, scenes: int, steps: int, batch: int, peak: float, seed: int
) -> dict[str, float]:
    """`pretrain` with a place for the tokenizer until the checkpoint has it."""
    from tqdm import tqdm

    robot, config = load_robot("demo_arm"), ModelConfig.preset("demo")
    out.parent.mkdir(parents=True, exist_ok=True)
    wordings = [prompt(colour, k) for colour in CUBES for k in range(len(WORDINGS))]
    make_tokenizer(wordings, tokenizer, config.vocab_size)
    settings = PolicySettings("mean_std", "mean_std", robot.dataset_fps)
    side = config.vision.image_size // config.vision.patch_size
    with tqdm(total=scenes, unit="scene", desc="render") as bar:
        rendered = render_scenes(scenes, seed, side, bar.update)
    # Only the action expert sees the state, which has no part in this; `pi0 train` brings the dataset's statistics.
    states = rendered.state.astype(np.float64)
    measured = Stats(states.mean(0), states.std(0) + 1e-3, *(np.quantile(states, q, axis=0) for q in (0.01, 0.99)))
    norm_stats = NormStats(measured, measured)
    spec = PolicySpec(config, settings, robot, norm_stats, Tokenizer.load(tokenizer))
    lesson = Lesson(rendered, spec)
    torch.manual_seed(0)
    model = Pi0(config)
    sine_position_init(model)
    curve = teach(Pointer(model), lesson, steps, batch, peak)
    notes = {"pretraining": "pi0 pretrain-demo", "scenes": scenes, "seed": seed, "curve": curve}
    save_checkpoint(out, model, config, spec.settings, robot, norm_stats, tokenizer, notes)
    return curve[-1]


def teach(pointer: Pointer, lesson: Lesson, steps: int, batch: int, peak: float) -> list[dict[str, float]]:
    """Train `pointer` in place with AdamW, warm-up and cosine; return the validation errors along the way."""
    from tqdm import tqdm

    parameters, native = list(pointer.parameters()), computes_bfloat16(torch.device("cpu"))
    optimizer = torch.optim.AdamW(parameters, lr=peak, betas=(0.9, 0.95), weight_decay=1e-4)
    curve: list[dict[str, float]] = []
    bar = tqdm(range(steps), unit="step", desc="see")
    for step in bar:
        decay = 0.05 + 0.95 * 0.5 * (1.0 + np.cos(np.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = peak * min(1.0, (step + 1) / 100) * decay
        rng = np.random.default_rng([1, step])
        asked = Questions(rng.integers(HELD_OUT, len(lesson.scenes.state), batch), rng.integers(0, len(CUBES), batch))
        with torch.autocast("cpu", torch.bfloat16, enabled=native):
            joints, pointing, _ = lesson.losses(pointer, asked, rng)
        optimizer.zero_grad(set_to_none=True)
        (joints + POINTING * pointing).backward()
        clip_gradients(parameters, 1.0)
        optimizer.step()
        if (step + 1) % REPORT_EVERY == 0 or step + 1 == steps:
            curve.append({"step": step + 1, **examine(pointer, lesson)})
            bar.set_postfix({key: f"{value:.2f}" for key, value in curve[-1].items()})
    return curve


@torch.no_grad()
def examine(pointer: Pointer, lesson: Lesson) -> dict[str, float]:
    """Errors on the held-out scenes; cm between the grasp point of the said joints and the cube."""
    rng = np.random.default_rng(5)
    asked = Questions(np.arange(HELD_OUT), rng.integers(0, len(CUBES), HELD_OUT))
    error, pointing, joints = lesson.losses(pointer, asked, rng)
    said = np.array([forward(np.append(row, 0.0))[:2] for row in joints.numpy()])
    distance = 100 * np.linalg.norm(said - lesson.scenes.cubes[asked.scenes, asked.cubes, :2], axis=1)
    numbers = {
        "joints": error,
        "pointing": pointing,
        "median_cm": np.median(distance),
        "p90_cm": np.quantile(distance, 0.9),
    }
    return {name: round(float(value), 4) for name, value in numbers.items()}
