"""Which parameters a network has and how they are shaped, told without building it: no torch is needed.

The names and shapes are those of `model.fast.build_model`; a test compares the two.
"""

from __future__ import annotations

from pi0_ros.model.config import Expert, ModelConfig, Vision

Shapes = dict[str, tuple[int, ...]]


def parameter_shapes(config: ModelConfig) -> Shapes:
    """The shape of every parameter of a network of this config, by its name in it."""
    vision, vlm = config.vision, config.vlm
    found = _vision(vision) | _linear("projector", vision.width, vlm.width)
    found |= {"embedding.weight": (config.vocab_size, vlm.width)} | _transformer("vlm", vlm, adaptive=False)
    if config.is_fast:
        return found
    expert, width = config.flow_expert, config.flow_expert.width
    found |= _transformer("expert", expert, adaptive=config.is_pi05)
    found |= _linear("action_in_proj", config.action_dim, width) | _linear("action_out_proj", width, config.action_dim)
    if config.is_pi05:
        return found | _linear("time_mlp_in", width, width) | _linear("time_mlp_out", width, width)
    found |= _linear("state_proj", config.state_width, width)
    return found | _linear("action_time_mlp_in", 2 * width, width) | _linear("action_time_mlp_out", width, width)


def _vision(sizes: Vision) -> Shapes:
    width, patch = sizes.width, sizes.patch_size
    found: Shapes = {
        "vision.patch_embedding.weight": (width, 3, patch, patch),
        "vision.patch_embedding.bias": (width,),
        "vision.position_embedding.weight": (sizes.num_positions, width),
    }
    for number in range(sizes.depth):
        layer = f"vision.layers.{number}"
        found |= _layer_norm(f"{layer}.layer_norm1", width) | _layer_norm(f"{layer}.layer_norm2", width)
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            found |= _linear(f"{layer}.self_attn.{name}", width, width)
        found |= _linear(f"{layer}.mlp.fc1", width, sizes.mlp_dim) | _linear(f"{layer}.mlp.fc2", sizes.mlp_dim, width)
    return found | _layer_norm("vision.post_layernorm", width)


def _transformer(prefix: str, sizes: Expert, adaptive: bool) -> Shapes:
    """One Gemma transformer; with `adaptive` its norms are made from the time embedding (pi0.5)."""
    width, hidden = sizes.width, sizes.mlp_dim
    queries, keys = sizes.num_heads * sizes.head_dim, sizes.num_kv_heads * sizes.head_dim
    found: Shapes = {}
    for number in range(sizes.depth):
        layer = f"{prefix}.layers.{number}"
        for name in ("input_layernorm", "post_attention_layernorm"):
            found |= _norm(f"{layer}.{name}", width, adaptive)
        found |= {
            f"{layer}.self_attn.q_proj.weight": (queries, width),
            f"{layer}.self_attn.k_proj.weight": (keys, width),
            f"{layer}.self_attn.v_proj.weight": (keys, width),
            f"{layer}.self_attn.o_proj.weight": (width, queries),
            f"{layer}.mlp.gate_proj.weight": (hidden, width),
            f"{layer}.mlp.up_proj.weight": (hidden, width),
            f"{layer}.mlp.down_proj.weight": (width, hidden),
        }
    return found | _norm(f"{prefix}.norm", width, adaptive)


def _norm(name: str, width: int, adaptive: bool) -> Shapes:
    return _linear(f"{name}.dense", width, 3 * width) if adaptive else {f"{name}.weight": (width,)}


def _layer_norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
