"""What of the network learns, in which precision each part is kept, and what a finished policy's weights are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from pi0_ros.base.strict_yaml import nearest
from pi0_ros.checkpoints.load import load_model
from pi0_ros.checkpoints.safetensors_files import TensorInfo, write_safetensors
from pi0_ros.checkpoints.sources import disk_name
from pi0_ros.model.config import ModelConfig
from pi0_ros.model.fast import Pi0Fast, build_model
from pi0_ros.model.init import sine_position_init
from pi0_ros.model.lora import add_lora, lora_layers, unreached
from pi0_ros.model.paligemma import stored_dtype
from pi0_ros.model.pi0 import Pi0
from pi0_ros.training.recipe import Recipe, RecipeError, Stage, learns_text

FROZEN: dict[str, tuple[str, ...]] = {
    "full": (),
    "expert_only": ("vision.", "projector.", "embedding.", "vlm."),
    "frozen_vision": ("vision.",),
}


def learns(name: str, stage: Stage, recipe: Recipe, depth: int | None) -> bool:
    """Whether a stage trains the learner's parameter `name`; `depth` is that of `read_depth`."""
    if not name.startswith("model."):  # heads
        return True
    part = name.removeprefix("model.")
    if unreached(part, depth) or (stage.freeze and part.startswith(stage.freeze)):
        return False
    if stage.trainable != "lora":
        return not part.startswith(FROZEN[stage.trainable])
    frozen: tuple[str, ...] = ("vlm.", "embedding.") if recipe.lora.vlm_rank else ()
    frozen += ("expert.",) if recipe.lora.expert_rank else ()
    return ".lora_" in part or not (frozen and part.startswith(frozen))


def read_depth(recipe: Recipe, config: ModelConfig) -> int | None:
    """The `depth` of `learns`: the config's, or None where text is learned, which all of the language model writes."""
    return None if learns_text(recipe) else config.cached_depth


def ever_learning(learner: nn.Module, recipe: Recipe, depth: int | None) -> dict[str, nn.Parameter]:
    """The parameters that learn in any stage, by name."""
    return {
        name: parameter
        for name, parameter in learner.named_parameters()
        if any(learns(name, stage, recipe, depth) for stage in recipe.stages)
    }


def new_model(recipe: Recipe, config: ModelConfig, device: torch.device, autocast: bool) -> Pi0 | Pi0Fast:
    """The network on its device, from `init` or from random weights (of the recipe's seed), with LoRA where wanted.

    What learns is float32. What never does is kept in bfloat16 where the run computes in it, but for the parts that the
    reference keeps in float32.
    """

    def dtype(name: str) -> torch.dtype:
        return kept_dtype(name, recipe, read_depth(recipe, config), autocast)

    torch.manual_seed(recipe.seed)
    if recipe.init is not None:
        loaded = load_model(recipe.init, config=config, device=device, dtypes=dtype).model
        model = loaded.train()
    else:
        model = build_model(replace(config, dtype="float32"))
        sine_position_init(model)
        for name, parameter in model.named_parameters():
            parameter.data = parameter.data.to(device, dtype(name))
    fit_out(model, recipe, autocast)
    return model


def kept_dtype(name: str, recipe: Recipe, depth: int | None, autocast: bool) -> torch.dtype:
    """The dtype in which the network's parameter `name` is kept."""
    learning = any(learns(f"model.{name}", stage, recipe, depth) for stage in recipe.stages)
    return torch.float32 if learning or not autocast else stored_dtype(name, torch.bfloat16)


def fit_out(model: Pi0 | Pi0Fast, recipe: Recipe, autocast: bool) -> None:
    """Give the network its low-rank factors, and say which activations it keeps, and how."""
    check_freeze(model, recipe)
    if recipe.stages[0].trainable == "lora":
        lora = recipe.lora
        parts = ("attention",) * lora.attention + ("mlp",) * lora.feed_forward
        ranks = {"vlm": lora.vlm_rank} | ({"expert": lora.expert_rank} if isinstance(model, Pi0) else {})
        alphas = {"vlm": lora.vlm_alpha, "expert": lora.expert_alpha}
        add_lora(model, lora.style, ranks, alphas, parts, learns_text(recipe))
    for transformer in (model.vlm, model.expert) if isinstance(model, Pi0) else (model.vlm,):
        transformer.recomputed_layers = round(recipe.recompute * len(transformer.layers))
        if autocast and recipe.residual == "bfloat16":
            transformer.activations = torch.bfloat16
    model.vision.recomputed_layers = round(recipe.recompute * len(model.vision.layers))


def check_freeze(model: nn.Module, recipe: Recipe) -> None:
    """RecipeError where a prefix in `freeze` is no parameter's: a typo would train what should stay."""
    names = [name for name, _ in model.named_parameters()]
    parts = sorted({name.split(".")[0] for name in names})
    for stage in recipe.stages:
        for prefix in stage.freeze:
            if not any(name.startswith(prefix) for name in names):
                raise RecipeError(
                    f"freeze: no parameter starts with {prefix!r}{nearest(prefix, parts)}; parts are {', '.join(parts)}"
                )


def finished_weights(
    model: nn.Module, tensors: Mapping[str, Tensor], dtype: torch.dtype
) -> tuple[dict[str, TensorInfo], Callable[[str], Tensor]]:
    """What a policy of the model consists of: names on disk with shapes and dtypes, and what gives each tensor.

    `tensors` are all parameters by name, perhaps copies; low-rank factors are merged into their weights on demand.
    """
    changes = {f"{name}.weight": (name, layer.change) for name, layer in lora_layers(model).items()}
    own = {disk_name(name): name for name in tensors if ".lora_" not in name}
    infos = {disk: TensorInfo.of(tensors[name], stored_dtype(name, dtype)) for disk, name in own.items()}

    def tensor(disk: str) -> Tensor:
        name = own[disk]
        if name not in changes:
            return tensors[name]
        layer, change = changes[name]
        return tensors[name].float() + change.delta(tensors[f"{layer}.lora_a"], tensors[f"{layer}.lora_b"])

    return infos, tensor


def write_finished(model: nn.Module, tensors: Mapping[str, Tensor], dtype: torch.dtype, path: Path) -> None:
    """Write a policy's weights, merged and cast, to `path`."""
    infos, tensor = finished_weights(model, tensors, dtype)
    write_safetensors(path, infos, lambda name: [tensor(name)])
