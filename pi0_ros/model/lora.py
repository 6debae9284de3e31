"""Low-rank changes (LoRA) of the transformers' linear layers, in openpi's form and in PEFT's.

PEFT has one pair of factors for each linear layer. openpi's follow its einsums: the query, key and value projections
have a pair for each head, the output projection a first factor for each head and a second one that is summed over the
heads, and the feed-forward counts its change without alpha / rank.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pi0_ros.model.config import Expert
from pi0_ros.model.paligemma import PaliGemma
from pi0_ros.model.transformer import Transformer

STYLES = ("openpi", "peft")
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")
INIT_STD = 0.01  # of both factors in openpi


@dataclass(frozen=True)
class Change:
    """What one layer's factors mean: weight + scale * a b, with `summed` second factors added up first."""

    scale: float
    summed: bool

    def delta(self, a: Tensor, b: Tensor) -> Tensor:
        """The change of the weight [out, in] in float32, for a [G, in, r] and b [G, r, out / G] or [heads, r, out]."""
        a, b = a.float(), b.float()
        b = b.sum(0, keepdim=True) if self.summed else b
        return self.scale * torch.einsum("gir,gro->goi", a, b).flatten(0, 1)


class LoraLinear(nn.Module):
    """A linear layer without bias whose weight stays while two small factors learn.

    lora_a: [G, in, r]; lora_b: [G, r, out / G] for G groups of outputs, or [heads, r, out], added up.
    """

    def __init__(self, base: nn.Linear, rank: int, change: Change, groups: int, summands: int) -> None:
        super().__init__()
        out_features, in_features = base.weight.shape
        self.weight = base.weight
        self.change = change
        device = base.weight.device
        self.lora_a = nn.Parameter(torch.empty(groups, in_features, rank, device=device))
        self.lora_b = nn.Parameter(torch.empty(summands, rank, out_features // groups, device=device))

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., in] to [..., out]."""
        b = self.lora_b.sum(0, keepdim=True) if self.change.summed else self.lora_b
        groups, _, rank = self.lora_a.shape
        a = self.lora_a.transpose(0, 1).flatten(1).to(x.dtype)  # [in, G * r]
        low = (x @ a).unflatten(-1, (groups, rank))
        change = torch.einsum("...gr,gro->...go", low, b.to(low.dtype)).flatten(-2)
        return F.linear(x, self.weight) + self.change.scale * change


def add_lora(
    model: PaliGemma,
    style: str,
    ranks: dict[str, int],
    alphas: dict[str, float],
    parts: tuple[str, ...],
    text: bool = False,
) -> None:
    """Give the transformers `vlm` and `expert` factors of these ranks (0: none), in `attention` and `mlp`.

    Layers that no action loss reaches get none, unless `text` is learned too. New factors are those of the style:
    openpi draws both, PEFT draws the first and starts the second at zero.
    """
    depth = None if text else model.config.cached_depth
    for name, rank in ranks.items():
        if rank == 0:
            continue
        transformer: Transformer = getattr(model, name)
        for index, layer in enumerate(transformer.layers):
            for part in parts:
                module = layer.get_submodule(_room(part))
                for linear in ATTENTION if part == "attention" else FEED_FORWARD:
                    if not unreached(f"{name}.layers.{index}.{_room(part)}.{linear}.weight", depth):
                        wrapped = _wrap(module, linear, style, rank, alphas[name], _sizes(model, name))
                        setattr(module, linear, wrapped)


def unreached(name: str, depth: int | None) -> bool:
    """Whether the parameter `name` of a network gets no gradient from any action loss.

    Nothing reads what the last of the VLM's `depth` layers puts out, only its keys and values. None: a network that
    writes its actions as text, of which all is read.
    """
    if depth is None:
        return False
    last = f"vlm.layers.{depth - 1}."
    behind = ("self_attn.q_proj", "self_attn.o_proj", "post_attention_layernorm", "mlp.")
    return name.startswith("vlm.norm.") or (name.startswith(last) and name.removeprefix(last).startswith(behind))


def lora_layers(model: nn.Module) -> dict[str, LoraLinear]:
    """All layers with factors by their names."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLinear)}


def _room(part: str) -> str:
    return "self_attn" if part == "attention" else "mlp"


def _sizes(model: PaliGemma, name: str) -> Expert:
    return model.config.vlm if name == "vlm" else model.config.flow_expert


def _wrap(module: nn.Module, linear: str, style: str, rank: int, alpha: float, sizes: Expert) -> LoraLinear:
    base: nn.Linear = getattr(module, linear)
    heads = {"q_proj": sizes.num_heads, "k_proj": sizes.num_kv_heads, "v_proj": sizes.num_kv_heads}
    if style == "openpi":
        summands = sizes.num_heads if linear == "o_proj" else heads.get(linear, 1)
        change = Change(1.0 if linear in FEED_FORWARD else alpha / rank, summed=linear == "o_proj")
        layer = LoraLinear(base, rank, change, heads.get(linear, 1), summands)
        nn.init.normal_(layer.lora_a, std=INIT_STD)
        nn.init.normal_(layer.lora_b, std=INIT_STD)
        return layer
    layer = LoraLinear(base, rank, Change(alpha / rank, summed=False), 1, 1)
    nn.init.kaiming_uniform_(layer.lora_a[0].T, a=5**0.5)
    nn.init.zeros_(layer.lora_b)
    return layer
