"""From the shapes of the tensors to a `ModelConfig`: what they tell, what files and the user say, what is assumed.

Every size is read from all tensors that show it and the majority wins, so that one missing or misshapen tensor does not
hide the others: the comparison with the model afterwards lists it by name.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from pi0_ros.checkpoints.safetensors_files import CheckpointError
from pi0_ros.checkpoints.sources import Source, check_tensors, disk_name, model_shapes
from pi0_ros.model.config import ConfigError, ModelConfig

# Size -> parameters that show it and on which axis; {i} is any layer.
_SHOWN_BY: Mapping[str, tuple[tuple[str, int], ...]] = {
    "vocab_size": (("embedding.weight", 0),),
    "action_dim": (("action_in_proj.weight", 1), ("action_out_proj.weight", 0), ("action_out_proj.bias", 0)),
    "vlm.width": (("embedding.weight", 1), ("vlm.layers.{i}.input_layernorm.weight", 0), ("vlm.norm.weight", 0)),
    "vlm.mlp_dim": (("vlm.layers.{i}.mlp.gate_proj.weight", 0), ("vlm.layers.{i}.mlp.down_proj.weight", 1)),
    "expert.width": (("expert.layers.{i}.self_attn.o_proj.weight", 0), ("action_in_proj.weight", 0)),
    "expert.mlp_dim": (("expert.layers.{i}.mlp.gate_proj.weight", 0), ("expert.layers.{i}.mlp.down_proj.weight", 1)),
    "vision.width": (("vision.layers.{i}.layer_norm1.weight", 0), ("vision.post_layernorm.weight", 0)),
    "vision.mlp_dim": (("vision.layers.{i}.mlp.fc1.weight", 0), ("vision.layers.{i}.mlp.fc2.weight", 1)),
    "vision.patch_size": (("vision.patch_embedding.weight", 2), ("vision.patch_embedding.weight", 3)),
    "vision.num_positions": (("vision.position_embedding.weight", 0),),
    "queries": (("vlm.layers.{i}.self_attn.q_proj.weight", 0), ("expert.layers.{i}.self_attn.q_proj.weight", 0)),
    "keys": (("vlm.layers.{i}.self_attn.k_proj.weight", 0), ("expert.layers.{i}.self_attn.k_proj.weight", 0)),
}
_STACKS = {"vision.depth": ("vision",), "vlm.depth": ("vlm", "expert")}  # both experts have one layer per layer
_RELEASED_VISION = (1152, 16)  # width and heads of SigLIP So400m, the tower of every released model
_HEADS = ("num_heads", "num_kv_heads", "head_dim")
_EXPERT = disk_name("expert.")
_PLAIN_NORM = ("input_layernorm.weight", "post_attention_layernorm.weight", "model.norm.weight")


def model_of(source: Source) -> str:
    """Tell pi0, pi0.5 and pi0-FAST apart by their tensors; CheckpointError when it is none of them."""
    names = source.tensors
    if not any(name.startswith("paligemma_with_expert.") for name in names):
        some = ", ".join(list(names)[:3]) or "nothing"
        raise CheckpointError(f"{source.path}: not the weights of a pi0 model (it has {some})")
    expert = [name for name in names if name.startswith(_EXPERT)]
    if not expert and not any(name.startswith("action_") for name in names):
        return "pi0_fast"
    pi0 = [n for n in expert if n.endswith(_PLAIN_NORM)]
    pi0 += [n for n in names if n.startswith(("state_proj.", "action_time_mlp_"))]
    pi05 = [n for n in expert if ".dense." in n] + [n for n in names if n.startswith("time_mlp_")]
    return "pi05" if len(pi05) > len(pi0) else "pi0"


def infer_config(
    source: Source, stated: Mapping[str, Any], given: ModelConfig | Mapping[str, Any] | None
) -> tuple[ModelConfig, tuple[str, ...]]:
    """Return the config of the weights in `source` and the keys that nothing but the released models spoke for.

    `stated` is what the checkpoint's files say and `given` what the user says, both with the keys of
    `ModelConfig.to_dict` and both possibly partial; `given` wins. CheckpointError when the shapes say otherwise, when
    the tensors are not exactly those of the config, or when a size is needed that nobody tells.
    """
    given_flat = _flat(given.to_dict() if isinstance(given, ModelConfig) else given or {}, "config")
    said = _flat(stated, str(source.path)) | given_flat
    seen: dict[str, Any] = {"model": model_of(source), **_seen(source)}
    released = {**_flat(ModelConfig.preset(seen["model"]).to_dict(), "preset"), "state_dim": 0}
    image = _image_size(source, seen)
    seen |= {"vision.image_size": image} if image else {}
    seen |= _heads(source, seen, said, released)
    if "state_dim" in said and said["state_dim"] == seen.get("action_dim", said.get("action_dim")):
        said["state_dim"] = 0  # one width for both: what a config says that has no state_dim
    wrong = [key for key in seen if key in said and said[key] != seen[key]]
    if wrong:
        speakers = (f"{'config' if key in given_flat else 'its files'} say {key} {said[key]!r}" for key in wrong)
        lines = (f"{speaker}, its tensors {seen[key]!r}" for speaker, key in zip(speakers, wrong, strict=True))
        raise CheckpointError(f"{source.path}: {'; '.join(lines)}")
    if "vision.num_positions" not in {**said, **seen}:
        del released["vision.num_positions"]
    flat = {**released, "dtype": _dtype(source), **said, **seen}
    heads_known = "vision.num_heads" in {**said, **seen}
    if not heads_known and flat["vision.width"] == _RELEASED_VISION[0]:
        flat["vision.num_heads"], heads_known = _RELEASED_VISION[1], True
    elif not heads_known:
        flat["vision.num_heads"] = 1  # shapes do not depend on it: first see whether the tensors fit at all
    try:
        config = ModelConfig.from_dict(_nested({key: flat[key] for key in released}))
    except ConfigError as error:
        raise CheckpointError(f"{source.path}: {error}") from error
    check_tensors(source, model_shapes(config))
    if not heads_known:
        raise CheckpointError(
            f"{source.path}: no tensor and no file tells how many heads the vision tower (width {config.vision.width}) "
            "has; say it with --config FILE, a YAML file with {vision: {num_heads: 4}}, or as many as it has"
        )
    assumed = [
        key for key in released if key not in said and key not in seen and key not in ("model", "dtype", "state_dim")
    ]
    return config, tuple(assumed)


def _seen(source: Source) -> dict[str, int]:
    """All sizes that shapes tell, and those that the source adds."""
    depths = {size: _depth(source, stacks) for size, stacks in _STACKS.items()}
    depths["expert.depth"] = depths["vlm.depth"] if any(n.startswith(_EXPERT) for n in source.tensors) else 0
    seen = {size: depth for size, depth in depths.items() if depth}
    layers = range(max(depths.values()))
    for size, places in _SHOWN_BY.items():
        votes: Counter[int] = Counter()
        for own, axis in places:
            for name in {disk_name(own.format(i=i)) for i in layers} if "{i}" in own else [disk_name(own)]:
                shape = source.tensors[name].shape if name in source.tensors else ()
                votes.update([shape[axis]] if axis < len(shape) else [])
        if votes:
            seen[size] = votes.most_common(1)[0][0]
    return seen | dict(source.sizes)


def _depth(source: Source, stacks: Iterable[str]) -> int:
    """One more than the highest layer."""
    numbers = [
        int(name.removeprefix(prefix).split(".")[0])
        for prefix in (disk_name(f"{stack}.layers.") for stack in stacks)
        for name in source.tensors
        if name.startswith(prefix) and name.removeprefix(prefix).split(".")[0].isdigit()
    ]
    return max(numbers, default=-1) + 1


def _image_size(source: Source, seen: Mapping[str, int]) -> int | None:
    if not {"vision.num_positions", "vision.patch_size"} <= seen.keys():
        return None
    grid = math.isqrt(seen["vision.num_positions"])
    if grid**2 != seen["vision.num_positions"]:
        raise CheckpointError(f"{source.path}: {seen['vision.num_positions']} image positions are not a square grid")
    return grid * seen["vision.patch_size"]


def _heads(
    source: Source, seen: dict[str, Any], said: Mapping[str, Any], released: Mapping[str, Any]
) -> dict[str, int]:
    """Return the heads of both experts. Shapes tell them with one key/value head, which is assumed where nobody says.

    Removes `queries` and `keys`, which are no sizes of the config, from `seen`.
    """
    queries, keys = seen.pop("queries", 0), seen.pop("keys", 0)
    known = {
        key: value
        for key in _HEADS
        for name in (f"vlm.{key}", f"expert.{key}")
        if (value := seen.get(name, said.get(name))) is not None
    }
    if not queries or not keys:  # no attention at all: the list of missing tensors will say so
        return {}
    if "head_dim" in known:
        head_dim = known["head_dim"]
    elif "num_heads" in known:
        head_dim = queries // known["num_heads"]
    else:
        head_dim = keys // known.get("num_kv_heads", 1)
    head_dim = max(1, head_dim)
    heads = {"num_heads": queries // head_dim, "num_kv_heads": keys // head_dim, "head_dim": head_dim}
    fits = heads["num_heads"] * head_dim == queries and heads["num_kv_heads"] * head_dim == keys
    if not fits or any(heads[key] != value for key, value in known.items()):
        what = ", ".join(f"{key} {value}" for key, value in known.items()) or "one key/value head"
        raise CheckpointError(
            f"{source.path}: {what} cannot be: query projections have {queries} rows, key projections {keys}; "
            "say one of them with --config FILE, a YAML file such as {vlm: {num_kv_heads: 1}}"
        )
    sections = ("vlm", "expert") if "expert.depth" in seen else ("vlm",)
    return {f"{section}.{key}": value for section in sections for key, value in heads.items()}


def _dtype(source: Source) -> str:
    """The dtype of most weights; everything but bfloat16 counts as float32."""
    sizes: Counter[str] = Counter()
    for info in source.tensors.values():
        sizes[info.dtype] += math.prod(info.shape)
    return "bfloat16" if sizes.most_common(1)[0][0] == "bfloat16" else "float32"


def _flat(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """{"vlm": {"width": 64}} -> {"vlm.width": 64}; unknown keys are errors."""
    if not isinstance(values, Mapping):
        raise CheckpointError(f"{where}: expected a mapping of sizes, not {values!r}")
    flat: dict[str, Any] = {}
    nested = {**ModelConfig.preset("pi0").to_dict(), "state_dim": 0}
    for key, value in values.items():
        section = nested.get(key)
        if key not in nested:
            raise CheckpointError(f"{where}: the model has no size {key!r}; the keys are {', '.join(nested)}")
        if isinstance(section, dict) and isinstance(value, Mapping):
            if unknown := set(value) - set(section):
                raise CheckpointError(f"{where}: {key} has no size {', '.join(sorted(map(str, unknown)))}")
            flat |= {f"{key}.{inner}": number for inner, number in value.items()}
        elif isinstance(section, dict) and not (key == "expert" and value is None):
            raise CheckpointError(f"{where}: {key} must be a mapping of sizes, not {value!r}")
        elif key == "cameras" and not isinstance(value, list | tuple):
            raise CheckpointError(f"{where}: cameras must be a list of image slots, not {value!r}")
        else:
            flat[key] = list(value) if key == "cameras" else value
    return flat


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in flat.items():
        section, _, inner = key.rpartition(".")
        if section:
            values.setdefault(section, {})[inner] = value
        else:
            values[key] = value
    return values
