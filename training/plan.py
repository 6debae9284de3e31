"""How much memory a run needs, known before anything is loaded: a step is traced on tensors without contents.

The trace counts what is alive at every moment, on one device: weights, gradients, AdamW's moments, averaged weights,
the batch, and whatever a forward and a backward pass hold. What a device keeps for itself (CUDA context, libraries,
fragments of free memory) comes on top: `OVERHEAD`.
"""

from __future__ import annotations

import dataclasses
import re
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from pi0_ros.base.errors import InputError
from pi0_ros.model.config import ModelConfig
from pi0_ros.model.fast import Pi0Fast, build_model
from pi0_ros.model.paligemma import ModelInput, PaliGemma, Pictures
from pi0_ros.training.loader import prompt_masks
from pi0_ros.training.objective import Batch, Learner
from pi0_ros.training.optimizer import clip_gradients
from pi0_ros.training.recipe import SUBTASK, Recipe, Stage, learns_text
from pi0_ros.training.run import Run
from pi0_ros.training.weights import ever_learning, fit_out, kept_dtype, learns, read_depth

SAMPLES = 128  # frames of each dataset whose prompts are written
OVERHEAD = 1.0e9  # bytes: CUDA context, libraries' workspaces
USED = 0.4  # of a processor's bf16 peak that training reaches
PEAK_TFLOPS = {"h200": 989.0, "h100": 989.0, "a100": 312.0, "l40s": 362.0, "4090": 165.0, "5090": 210.0, "3090": 71.0}
MEMORY_GB = {"h200": 141.0, "h100": 80.0, "a100": 80.0, "l40s": 48.0, "4090": 24.0, "5090": 32.0, "3090": 24.0}


@dataclass(frozen=True)
class Need:
    """Bytes that a run needs on its device, and the arithmetic of a step."""

    learning: int  # float32 weights that learn
    frozen: int
    gradients: int
    moments: int
    average: int
    activations: int  # everything else that is alive at the worst moment
    copy: int  # in the machine's memory, while a checkpoint is written beside the next steps
    flop: float  # of one step

    @property
    def total(self) -> int:
        """All together on the device that computes, without OVERHEAD."""
        return self.learning + self.frozen + self.gradients + self.moments + self.average + self.activations

    def held(self, device: str) -> int:
        """The same; where it is the machine's own processor, its memory holds the copy too."""
        return self.total + (self.copy if device == "cpu" else 0)


@dataclass(frozen=True)
class Lengths:
    """What a frame is for the model: cameras, tokens of the prompt, of which so many are a pi0-FAST's answer.

    subtask: tokens of the question for the subtask and its answer, where that is learned, and of the answer alone.
    """

    views: int
    text: int
    answer: int = 0
    subtask: tuple[int, int] = (0, 0)


def typical(run: Run) -> Lengths:
    """The cameras of a run's robots, its longest prompt and its mean answer, of some frames of each dataset."""
    text, answers, config = 1, [0], run.spec.config
    slots = {camera.slot for part in run.mixture.parts for camera in part.spec.robot.cameras}
    for part in run.mixture.parts:
        rows = np.unique(np.linspace(0, part.data.length - 1, SAMPLES).astype(int))
        mask, answer = prompt_masks(part.data, part.spec, rows, run.mixture.tokens)
        text = max(text, int(mask.sum(1).max()))
        answers.append(-(-int(answer.sum()) // len(rows)))
    views = sum(slot in slots or config.is_fast for slot in config.cameras)
    subtask = (0, 0)
    if SUBTASK in run.auxiliary:
        rows = run.train_rows[:: max(1, len(run.train_rows) // SAMPLES)]
        _, mask, answer, _ = run.auxiliary[SUBTASK].labels(rows)
        subtask = int(mask.sum(1).max()), -(-int(answer.sum()) // len(rows))
    return Lengths(views, config.max_token_len if run.recipe.compile else text, max(answers), subtask)


class _PlannedText:
    """The loss of so many tokens: which they are, a trace without numbers cannot find out."""

    def __init__(self, answer: int) -> None:
        self.head: torch.nn.Module = torch.nn.Identity()
        self.answer = answer

    def labels(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        raise NotImplementedError

    def text_errors(self, model: PaliGemma, pictures: Pictures, labels: Sequence[Tensor]) -> Tensor:
        tokens, mask = labels[:2]
        return _errors_of_some(model, model.read_text(tokens, mask, pictures), self.answer)[None].expand(len(tokens))

    def score(self, answers: np.ndarray, rows: np.ndarray) -> float:
        raise NotImplementedError


def _errors_of_some(model: PaliGemma, hidden: Tensor, count: int) -> Tensor:
    """Sum of the errors of `count` tokens per row of `hidden` [B, L-1, D]."""
    chosen = hidden.flatten(0, 1)[torch.arange(len(hidden) * count)]
    return F.cross_entropy(model.logits(chosen), torch.zeros(len(chosen), dtype=torch.int64), reduction="none").sum()


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive; `peak` is their maximum."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and count its results."""
        result = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self.track, result)
        return result

    def track(self, tensor: Tensor) -> Tensor:
        """Count the memory behind a tensor once, until it is gone."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._seen:
            size = storage.nbytes()
            self._seen.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._gone, key, size)
        return tensor

    def _gone(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size


def measure(recipe: Recipe, config: ModelConfig, lengths: Lengths, autocast: bool) -> Need:
    """What the most demanding stage of a recipe needs for such frames."""
    return max((_stage_need(recipe, s, config, lengths, autocast) for s in recipe.stages), key=lambda n: n.total)


def _stage_need(recipe: Recipe, stage: Stage, config: ModelConfig, lengths: Lengths, autocast: bool) -> Need:
    depth, size = read_depth(recipe, config), min(stage.micro_batch or stage.batch, stage.batch)
    memory = PeakMemory()
    with FakeTensorMode():
        model = build_model(dataclasses.replace(config, dtype="float32"))
        for name, parameter in model.named_parameters():
            parameter.data = parameter.data.to(kept_dtype(name, recipe, depth, autocast))
        fit_out(model, recipe, autocast)
        learner = Learner(model, {SUBTASK: _PlannedText(lengths.subtask[1])} if learns_text(recipe) else {})
        ever = ever_learning(learner, recipe, depth)
        for name, parameter in learner.named_parameters():
            parameter.requires_grad_(learns(name, stage, recipe, depth))
        trained = [p for p in learner.parameters() if p.requires_grad]
        batch = _batch(config, size, stage, lengths)
        for parameter in learner.parameters():
            memory.track(parameter)
        weights = memory.now
        with memory:
            _pass(learner, batch, lengths, autocast)
            if size < stage.batch:  # the gradients of one part wait while the next is computed
                _pass(learner, batch, lengths, autocast)
            clip_gradients(trained, recipe.clip)
        with FlopCounterMode(display=False) as counter:  # apart, for it keeps graphs alive
            _pass(learner, batch, lengths, autocast)
        gradients = sum(p.grad.nbytes for p in trained if p.grad is not None)
    learning = sum(p.nbytes for p in ever.values())
    moments = 2 * sum(p.nbytes for p in trained if p.grad is not None)
    average = learning if any(s.ema > 0 for s in recipe.stages) else 0
    step = moments + gradients  # the fused AdamW needs nothing beside them
    inputs = (*batch.inputs.images.values(), batch.inputs.state, batch.noise, batch.actions)
    held = sum(tensor.nbytes for tensor in inputs if tensor is not None) * stage.batch // size
    peak = max(memory.peak - weights + moments, step) + held
    return Need(
        learning=learning,
        frozen=weights - learning,
        gradients=gradients,
        moments=moments,
        average=average,
        activations=peak - moments - gradients,
        copy=learning + average + moments if recipe.save_async else 0,
        flop=counter.get_total_flops() * stage.batch / size,
    )


def _pass(learner: Learner, batch: Batch, lengths: Lengths, autocast: bool) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        if isinstance(learner.model, Pi0Fast):
            loss = _answers_loss(learner.model, batch, lengths)
        else:
            sums = learner(batch)
            loss = sums.flow.mean() + sum(sums.auxiliary.values())
    loss.backward()


def _answers_loss(model: Pi0Fast, batch: Batch, lengths: Lengths) -> Tensor:
    """`Pi0Fast.loss` of so many tokens."""
    assert batch.answer is not None
    return _errors_of_some(model, model.read_answer(batch.inputs, batch.answer), lengths.answer)


def _batch(config: ModelConfig, size: int, stage: Stage, lengths: Lengths) -> Batch:
    draws, labels = stage.draws, {}
    if stage.auxiliary.get(SUBTASK, 0.0) > 0:
        read = torch.ones(size, lengths.subtask[0], dtype=torch.bool)
        labels = {SUBTASK: (read.long(), read, read, torch.ones(size))}
    side, shape = config.vision.image_size, (config.action_horizon, config.action_dim)
    slots = config.cameras[: lengths.views]
    inputs = ModelInput(
        {slot: torch.empty(size, side, side, 3) for slot in slots},
        {slot: torch.ones(size, dtype=torch.bool) for slot in slots},
        torch.zeros(size, lengths.text, dtype=torch.int64),
        torch.ones(size, lengths.text, dtype=torch.bool),
        torch.empty(size, config.action_dim),
    )
    rows: Any = range(size)
    if config.is_fast:
        return Batch(rows, inputs, None, torch.empty(0), torch.empty(0), {}, inputs.prompt_mask)
    return Batch(
        rows, inputs, torch.empty(size, *shape), torch.empty(size * draws, *shape), torch.ones(size * draws), labels
    )


def parse_gpu(text: str) -> tuple[str, float]:
    """`24GB` or a known card, such as `4090`: its name and its memory in bytes."""
    if found := re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:GB|G)?", text, re.IGNORECASE):
        if text in MEMORY_GB:
            return text, MEMORY_GB[text] * 1e9
        return f"a device with {found[1]} GB", float(found[1]) * 1e9
    if text.lower() in MEMORY_GB:
        return text.lower(), MEMORY_GB[text.lower()] * 1e9
    raise InputError(f"--gpu {text}: write its memory, such as 24GB, or one of {', '.join(MEMORY_GB)}")


def alternatives(recipe: Recipe, config: ModelConfig, device: str = "cuda") -> Iterator[tuple[str, Recipe]]:
    """Changes that need less memory, the cheapest first: what to write, and the recipe with it."""

    def change(text: str, stages: dict[str, Any], **run: Any) -> tuple[str, Recipe]:
        return text, dataclasses.replace(
            recipe, stages=tuple(dataclasses.replace(s, **stages) for s in recipe.stages), **run
        )

    if device == "cpu" and recipe.save_async:
        yield change("save_async=false", {}, save_async=False)
    largest = max(stage.micro_batch or stage.batch for stage in recipe.stages)
    small = [n for n in (16, 8, 4, 2, 1) if n < largest]
    for size in small[:3]:
        yield change(f"micro_batch={size}", {"micro_batch": size})
    for size in [n for n in (8, 1) if n <= largest]:
        yield change(f"micro_batch={size} recompute=1", {"micro_batch": size}, recompute=1.0)
    yield change("micro_batch=1 recompute=1 ema=0", {"micro_batch": 1, "ema": 0.0}, recompute=1.0)
    for kind in ("expert_only", "lora") if config.expert else ("lora",):
        if recipe.stages[0].trainable == "full":
            stages = {"micro_batch": min(4, largest), "trainable": kind, "ema": 0.0}
            yield change(
                f"trainable={kind} ema=0 micro_batch={stages['micro_batch']} recompute=1", stages, recompute=1.0
            )


def report(
    recipe: Recipe, config: ModelConfig, lengths: Lengths, gpu: tuple[str, float], device: str = "cuda"
) -> tuple[str, bool]:
    """The plan as text, and whether the run fits on the device, whose name and memory `gpu` are."""
    autocast = recipe.precision != "float32"
    need = measure(recipe, config, lengths, autocast)
    parts = {
        "weights that learn (float32)": need.learning,
        f"weights that stay ({'bfloat16' if autocast else 'float32'})": need.frozen,
        "gradients": need.gradients,
        "AdamW's moments": need.moments,
        "averaged weights": need.average,
        "activations and scratch": need.activations,
    }
    if device == "cpu":
        parts["copy while a checkpoint is written"] = need.copy
    written = f"{lengths.text} prompt tokens" + (f", {lengths.answer} of them the answer" if lengths.answer else "")
    lines = [f"{config.model}, {lengths.views} camera(s), {written}, {_names(recipe.stages)}"]
    lines += [f"  {name:35s} {size / 1e9:9.2f} GB" for name, size in parts.items()]
    lines += [
        f"  {'together':35s} {need.held(device) / 1e9:9.2f} GB, and about {OVERHEAD / 1e9:.0f} GB of the device's own"
    ]
    if device != "cpu" and need.copy:
        lines += [f"  {need.copy / 1e9:.2f} GB of the machine's memory while a checkpoint is written (save_async)"]
    lines += [f"  a step computes {need.flop / 1e12:.2f} TFLOP"]
    name, memory = gpu
    if name in PEAK_TFLOPS:
        seconds = need.flop / (USED * PEAK_TFLOPS[name] * 1e12)
        lines[-1] += f": about {seconds:.2f} s on an {name}, at {USED:.0%} of its bf16 peak"
    if need.held(device) + OVERHEAD <= memory:
        return "\n".join([*lines, f"fits on {name} ({memory / 1e9:.0f} GB)"]), True
    lines.append(f"does not fit on {name} ({memory / 1e9:.0f} GB)")
    for change, other in alternatives(recipe, config, device):
        less = measure(other, config, lengths, autocast).held(device)
        if less + OVERHEAD <= memory:
            return "\n".join([*lines, f"with {change} it needs {less / 1e9:.1f} GB, which fits"]), False
    return "\n".join([*lines, "no change tried here makes it fit: take a larger device"]), False


def _names(stages: Sequence[Stage]) -> str:
    return "; ".join(
        f"{stage.name}: {stage.trainable}, batch {stage.batch} in parts of {stage.micro_batch or stage.batch}"
        for stage in stages
    )
