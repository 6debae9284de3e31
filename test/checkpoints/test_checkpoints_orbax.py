"""openpi JAX checkpoints: every orbax layout, LoRA, exactness, and folders that are not whole."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import reference
import torch
from orbax_files import read_orbax, write_orbax
from safetensors.torch import load_file

from pi0_ros.checkpoints.describe import describe_checkpoint, open_checkpoint
from pi0_ros.checkpoints.jax_names import RULES, JaxSource
from pi0_ros.checkpoints.load import load_model
from pi0_ros.checkpoints.lora import merge_leaf
from pi0_ros.checkpoints.orbax import OrbaxLeaves
from pi0_ros.checkpoints.safetensors_files import CheckpointError, TensorInfo
from pi0_ros.checkpoints.sizes import infer_config
from pi0_ros.checkpoints.sources import disk_name, model_shapes, whole
from pi0_ros.model.config import ModelConfig

both_models = pytest.mark.parametrize("name", reference.MODELS)


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    source = open_checkpoint(path)[1]
    return {name: whole(source, name) for name in source.tensors}


def assert_same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@both_models
def test_a_jax_checkpoint_is_the_torch_file_exactly(name):
    assert_same(
        weights_of(reference.ROOT / name / "checkpoint"), load_file(reference.ROOT / name / "model.safetensors")
    )


@pytest.mark.parametrize("below", ["", "params"])
def test_what_a_jax_checkpoint_says(below):
    found = describe_checkpoint(reference.ROOT / "pi05" / "checkpoint" / below)
    sizes = reference.config("pi05")
    assert (found.format, found.path.name) == ("openpi_jax", "checkpoint")
    assert (found.config.vlm, found.config.expert, found.config.vision) == (sizes.vlm, sizes.expert, sizes.vision)
    assert (found.config.model, found.config.action_horizon, found.config.max_token_len) == ("pi05", 50, 200)
    assert set(found.assumed) == {"action_horizon", "max_token_len", "cameras", "discrete_state_input"}
    assert list(found.assets) == ["droid"] and found.norm_stats is found.assets["droid"]
    assert (found.state_dim, found.action_dim) == (8, 8)
    assert found.settings.state_normalization == found.settings.action_normalization == "quantile"


def test_one_of_several_assets_is_chosen_by_its_id():
    folder = reference.ROOT / "pi0" / "checkpoint"
    libero = "physical-intelligence/libero"
    assert describe_checkpoint(folder).norm_stats is None
    found = describe_checkpoint(folder, asset_id=libero)
    stored = json.loads((folder / "assets" / libero / "norm_stats.json").read_text())["norm_stats"]
    np.testing.assert_array_equal(found.norm_stats.actions.need("std"), stored["actions"]["std"])
    assert found.settings.action_normalization == "mean_std"
    with pytest.raises(
        CheckpointError, match="no statistics of 'libero'; there are those of physical-intelligence/libero"
    ):
        describe_checkpoint(folder, asset_id="libero")


@pytest.mark.parametrize(
    "layout",
    [
        {"value": False},
        {"zarr3": True},
        {"ocdbt": False},
        {"ocdbt": False, "zarr3": True, "value": False},
        {"chunks": lambda leaf, shape: tuple(math.ceil(size / 2) for size in shape)},
    ],
    ids=["no value", "zarr3", "files", "zarr3 files", "chunks"],
)
def test_every_orbax_layout(layout, tmp_path):
    leaves = read_orbax(reference.ROOT / "pi0" / "checkpoint" / "params")
    write_orbax(tmp_path / "params", leaves, **layout)
    assert_same(weights_of(tmp_path), load_file(reference.ROOT / "pi0" / "model.safetensors"))


def test_bfloat16_leaves_keep_their_values(tmp_path):
    leaves = read_orbax(reference.ROOT / "pi05" / "checkpoint" / "params")
    write_orbax(tmp_path / "params", {leaf: array.astype(ml_dtypes.bfloat16) for leaf, array in leaves.items()})
    wanted = load_file(reference.ROOT / "pi05" / "model.safetensors")
    assert_same(weights_of(tmp_path), {name: tensor.bfloat16() for name, tensor in wanted.items()})
    assert describe_checkpoint(tmp_path).config.dtype == "bfloat16"


def test_several_key_value_heads_are_told_by_the_axes(tmp_path):
    leaves = read_orbax(reference.ROOT / "pi0" / "checkpoint" / "params")
    rng = np.random.default_rng(0)
    for suffix, width in (("", 64), ("_1", 32)):
        leaf = f"PaliGemma/llm/layers/attn/kv_einsum{suffix}/w"
        leaves[leaf] = rng.normal(size=(3, 2, 4, width, 16)).astype(np.float32)
    write_orbax(tmp_path / "params", leaves)
    config, found = describe_checkpoint(tmp_path).config, weights_of(tmp_path)
    assert (config.vlm.num_heads, config.vlm.num_kv_heads, config.vlm.head_dim) == (8, 4, 16)
    name = "paligemma_with_expert.gemma_expert.model.layers.1.self_attn.v_proj.weight"
    heads = leaves["PaliGemma/llm/layers/attn/kv_einsum_1/w"][1, 1]  # [heads, width, head_dim]
    np.testing.assert_array_equal(found[name].numpy(), np.concatenate([head.T for head in heads]))


# ---- LoRA ----


@pytest.fixture(scope="module")
def blocks():
    with np.load(reference.ROOT / "transforms.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays if key.startswith("lora_")}


@pytest.mark.parametrize(
    ("kind", "leaf", "einsum"),
    [
        ("q", "attn/q_einsum/w", "BTD,NDH->BTNH"),
        ("kv", "attn/kv_einsum/w", "BSD,CKDH->CBSKH"),
        ("attn_vec", "attn/attn_vec_einsum/w", "BTNH,NHD->BTD"),
    ],
)
def test_merged_attention_computes_what_the_reference_layer_does(kind, leaf, einsum, blocks):
    """A layer with its factors merged gives the reference's output; heads, or keys and values, merge one by one."""
    weight, a, b = (blocks[f"lora_{kind}_{part}"] for part in ("w", "lora_a", "lora_b"))
    if kind == "kv":
        weight, a, b = (x[:, None] if x.ndim == 3 else x for x in (weight, a, b))
    merged = torch.from_numpy(merge_leaf(f"PaliGemma/llm/layers/{leaf}", *(x.numpy() for x in (weight, a, b))))
    torch.testing.assert_close(
        torch.einsum(einsum, blocks[f"lora_{kind}_x"], merged), blocks[f"lora_{kind}_y"], atol=1e-4, rtol=0
    )


def test_merged_feed_forward_computes_what_the_reference_layer_does(blocks):
    part = {key.removeprefix("lora_ffn_"): value for key, value in blocks.items()}
    gating, linear = (
        torch.from_numpy(
            merge_leaf(
                f"PaliGemma/llm/layers/mlp/{key}",
                *(part[name].numpy() for name in (key, f"{key}_lora_a", f"{key}_lora_b")),
            )
        )
        for key in ("gating_einsum", "linear")
    )
    gate = torch.nn.functional.gelu(part["x"] @ gating[0], approximate="tanh")
    torch.testing.assert_close((gate * (part["x"] @ gating[1])) @ linear, part["y"], atol=1e-4, rtol=0)


def with_factors(leaves: dict[str, np.ndarray], rank: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    added = {}
    for leaf, weight in leaves.items():
        if "/llm/layers/" in leaf and leaf.endswith(("_einsum/w", "_einsum_1/w", "gating_einsum", "linear")):
            name = f"{leaf[:-1]}lora_" if leaf.endswith("/w") else f"{leaf}_lora_"
            shapes = (*weight.shape[:-1], rank), (*weight.shape[:-2], rank, weight.shape[-1])
            added |= {f"{name}{f}": rng.normal(0, 0.1, shape).astype(np.float32) for f, shape in zip("ab", shapes)}
    return leaves | added


def test_lora_leaves_are_merged_into_every_layer(tmp_path):
    leaves = with_factors(read_orbax(reference.ROOT / "pi0" / "checkpoint" / "params"))
    write_orbax(tmp_path / "params", leaves)
    assert describe_checkpoint(tmp_path).merged == 3 * 2 * 7  # layers, experts, projections
    found = weights_of(tmp_path)
    layer, stack = "paligemma_with_expert.gemma_expert.model.layers.2", "PaliGemma/llm/layers"
    q, a, b = (leaves[f"{stack}/attn/q_einsum_1/{part}"][2] for part in ("w", "lora_a", "lora_b"))
    wanted = np.concatenate([(w + x @ y).T for w, x, y in zip(q, a, b, strict=True)])
    np.testing.assert_allclose(found[f"{layer}.self_attn.q_proj.weight"], wanted, atol=1e-6)
    up, a, b = (leaves[f"{stack}/mlp_1/gating_einsum{part}"][2, 1] for part in ("", "_lora_a", "_lora_b"))
    np.testing.assert_allclose(found[f"{layer}.mlp.up_proj.weight"], (up + a @ b).T, atol=1e-6)
    out, a, b = (leaves[f"{stack}/attn/attn_vec_einsum_1/{part}"][2] for part in ("w", "lora_a", "lora_b"))
    heads = [w + x @ b.sum(0) for w, x in zip(out, a, strict=True)]
    np.testing.assert_allclose(found[f"{layer}.self_attn.o_proj.weight"], np.concatenate(heads).T, atol=1e-6)
    unchanged = load_file(reference.ROOT / "pi0" / "model.safetensors")["state_proj.weight"]
    assert torch.equal(found["state_proj.weight"], unchanged)


def test_a_factor_of_another_shape_or_without_its_partner_is_an_error(tmp_path):
    leaves = with_factors(read_orbax(reference.ROOT / "pi0" / "checkpoint" / "params"))
    name = "PaliGemma/llm/layers/mlp/linear_lora_b"
    write_orbax(tmp_path / "one" / "params", leaves | {name: leaves[name][:, :2]})
    with pytest.raises(
        CheckpointError, match=r"LoRA factors \[3, 96, 3\] and \[3, 2, 64\] do not belong to .*/mlp/linear"
    ):
        describe_checkpoint(tmp_path / "one")
    del leaves[name]
    write_orbax(tmp_path / "two" / "params", leaves)
    with pytest.raises(CheckpointError, match="1 unexpected: PaliGemma/llm/layers/mlp/linear_lora_a"):
        describe_checkpoint(tmp_path / "two")


# ---- the released sizes ----


class Shapes:
    """The leaves of a released checkpoint without their numbers."""

    def __init__(self, name: str, extra: dict[str, list[int]] | None = None) -> None:
        shapes = json.loads((reference.ROOT.parent / "keys" / f"{name}_jax.json").read_text()) | (extra or {})
        self.path = Path(name)
        self.leaves = {leaf: TensorInfo(tuple(shape), "float32") for leaf, shape in shapes.items()}


@both_models
def test_released_leaves_are_exactly_the_released_model(name):
    source = JaxSource(Shapes(name))
    config, _ = infer_config(source, {}, None)
    preset = ModelConfig.preset(name).to_dict() | {"dtype": "float32"}
    assert config == ModelConfig.from_dict(preset)
    assert {key: info.shape for key, info in source.tensors.items()} == model_shapes(config)


@pytest.mark.parametrize("axes", range(7))
@pytest.mark.parametrize("leaf", RULES)
def test_a_leaf_of_any_number_of_axes_is_entered_or_keeps_its_name(leaf, axes):
    """What keeps its name is listed as unexpected; nothing ends in a traceback."""
    leaves = Shapes("pi0")
    leaves.leaves = {leaf: TensorInfo((2,) * axes, "float32")}
    found = JaxSource(leaves).tensors
    entered = {disk_name(rule.target.format(i=layer)) for rule in RULES[leaf] for layer in range(2)}
    assert found.keys() in ({leaf}, entered)


def test_released_lora_leaves_all_find_their_weight():
    freeze = json.loads((reference.ROOT / "lora_freeze.json").read_text())
    for key, entry in freeze.items():
        source = JaxSource(Shapes(key.split("|")[0], entry["lora_shapes"]))
        assert {name: info.shape for name, info in source.tensors.items()} == model_shapes(
            ModelConfig.preset(key.split("|")[0])
        )


# ---- folders that are not whole ----


def broken(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    shutil.copytree(reference.ROOT / "pi0" / "checkpoint", folder)
    return folder


def test_missing_data_files_are_an_error(tmp_path):
    """Some files hold only what a later one replaced; without any other nothing is loaded."""
    original = reference.ROOT / "pi0" / "checkpoint" / "params"
    wanted = load_file(reference.ROOT / "pi0" / "model.safetensors")
    needed = []
    for number, file in enumerate(file for file in original.rglob("d/*") if file.is_file()):
        folder = broken(tmp_path / str(number))
        (folder / "params" / file.relative_to(original)).unlink()
        try:
            assert_same(weights_of(folder), wanted)
        except CheckpointError as error:
            assert "is the folder complete" in str(error) and str(folder) in str(error)
            needed.append(file)
    assert len(needed) == 2


def test_a_missing_chunk_is_never_zeros(tmp_path):
    leaves = read_orbax(reference.ROOT / "pi0" / "checkpoint" / "params")
    folder = write_orbax(tmp_path / "params", leaves, ocdbt=False)
    chunk = folder / "params.PaliGemma.llm.layers.mlp.linear.value" / "0.0.0"
    chunk.unlink()
    with pytest.raises(CheckpointError, match="PaliGemma/llm/layers/mlp/linear cannot be read"):
        load_model(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"tree_metadata": {"a": {}}}'])
def test_broken_metadata_is_an_error(content, tmp_path):
    folder = broken(tmp_path)
    (folder / "params" / "_METADATA").write_text(content)
    with pytest.raises(CheckpointError, match="_METADATA"):
        load_model(folder)


def test_other_items_of_a_training_run_are_not_weights(tmp_path):
    write_orbax(tmp_path / "train_state", {"step": np.zeros(1, np.float32)}, root="")
    with pytest.raises(CheckpointError, match="not the weights of a model"):
        load_model(tmp_path / "train_state")


def test_integers_are_not_weights(tmp_path):
    leaves = read_orbax(reference.ROOT / "pi0" / "checkpoint" / "params")
    write_orbax(tmp_path / "params", leaves | {"state_proj/bias": np.zeros(32, np.int32)})
    with pytest.raises(CheckpointError, match="state_proj/bias has dtype int32"):
        load_model(tmp_path)


def test_unknown_missing_and_misshapen_leaves_are_listed_together(tmp_path):
    leaves = read_orbax(reference.ROOT / "pi0" / "checkpoint" / "params")
    del leaves["PaliGemma/llm/embedder/input_embedding"]
    leaves["state_proj/kernel"] = leaves["state_proj/kernel"][:14]
    leaves["PaliGemma/llm/surprise"] = np.zeros(3, np.float32)
    write_orbax(tmp_path / "params", leaves)
    with pytest.raises(CheckpointError) as error:
        load_model(tmp_path)
    message = str(error.value)
    assert "1 missing: paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight" in message
    assert "1 unexpected: PaliGemma/llm/surprise" in message
    assert "state_proj.weight is [32, 14], the model needs [32, 32]" in message


@pytest.mark.parametrize("name", ["query", "key", "value"])
def test_a_leaf_with_too_few_axes_is_listed(name, tmp_path):
    leaves = read_orbax(reference.ROOT / "pi0" / "checkpoint" / "params")
    leaf = f"PaliGemma/img/Transformer/encoderblock/MultiHeadDotProductAttention_0/{name}/kernel"
    write_orbax(tmp_path / "params", {**leaves, leaf: np.zeros(2, np.float32)})
    with pytest.raises(CheckpointError, match=f"1 unexpected: {leaf}"):
        describe_checkpoint(tmp_path, config={"vision": {"num_heads": 4}})


def test_a_chunk_of_all_layers_is_decoded_once(tmp_path):
    """More than the spare part of the cache, so that only a cache of the right size keeps it."""
    import tensorstore

    leaf = "PaliGemma/llm/layers/mlp/gating_einsum"
    weights = np.random.default_rng(0).standard_normal((8, 2, 1024, 1280), dtype=np.float32)
    source = JaxSource(OrbaxLeaves(write_orbax(tmp_path / "params", {leaf: weights})))

    def bytes_read() -> int:
        (metric,) = tensorstore.experimental_collect_matching_metrics("/tensorstore/kvstore/file/bytes_read")
        return metric["values"][0]["value"]

    before = bytes_read()
    for number, name in enumerate(source.tensors):
        layer, part = divmod(number, 2)
        np.testing.assert_array_equal(whole(source, name).numpy(), weights[layer, part].T)
    assert 0.5 * weights.nbytes < bytes_read() - before < 1.5 * weights.nbytes


def test_a_third_part_of_a_leaf_of_two_is_not_dropped(tmp_path):
    leaves = read_orbax(reference.ROOT / "pi0" / "checkpoint" / "params")
    leaf = "PaliGemma/llm/layers/mlp/gating_einsum"
    three = np.concatenate([leaves[leaf], leaves[leaf][:, :1]], axis=1)
    write_orbax(tmp_path / "params", {**leaves, leaf: three})
    with pytest.raises(CheckpointError, match=f"1 unexpected: {leaf}"):
        describe_checkpoint(tmp_path)
