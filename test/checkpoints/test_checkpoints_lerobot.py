"""LeRobot folders of every age and kind: what their files say, old names, shards, training folders, PEFT adapters."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import torch
from safetensors.torch import load_file, save_file

from pi0_ros.checkpoints.load import describe_checkpoint, load_model, open_checkpoint
from pi0_ros.checkpoints.safetensors_files import CheckpointError
from pi0_ros.checkpoints.weights import whole

HEADS = {"vision": {"num_heads": 4}}
LEROBOT = reference.ROOT / "lerobot"
PALIGEMMA = "paligemma_with_expert.paligemma"


def copy(name: str, folder: Path, **config: Any) -> Path:
    """The fixture's folder, with some keys of config.json replaced (None: removed)."""
    shutil.copytree(LEROBOT / name, folder)
    edit(folder / "config.json", lambda content: content.update(config))
    return folder


def edit(path: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def weights_of(path: Path, base: Path | None = None) -> dict[str, torch.Tensor]:
    source = open_checkpoint(path, config=HEADS, base=base)[1]
    return {name: whole(source, name) for name in source.tensors}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in other)


def test_what_a_pi0_folder_says():
    found = describe_checkpoint(LEROBOT / "pi0", config=HEADS)
    assert (found.format, found.config.model, found.config.dtype) == ("lerobot", "pi0", "float32")
    assert (found.config.action_horizon, found.config.max_token_len) == (7, 48)
    assert found.config.cameras == ("cam_high", "cam_left_wrist", "cam_right_wrist")
    settings = found.settings
    assert settings.state_normalization == settings.action_normalization == "lerobot_mean_std"
    assert (settings.prompt_format, settings.image_resize, settings.pad_state_text) == ("lerobot", "torch", False)
    assert settings.relative_actions == (True,) * 6 + (False,) + (True,) * 6 + (False,)
    assert settings.action_names[6] == "left_gripper.pos" and settings.fps is None
    assert (found.state_dim, found.action_dim) == (14, 14)
    stored = load_file(LEROBOT / "pi0" / "policy_preprocessor_step_6_normalizer_processor.safetensors")
    np.testing.assert_array_equal(found.norm_stats.state.need("std"), stored["observation.state.std"].numpy())
    np.testing.assert_array_equal(found.norm_stats.actions.need("max"), stored["action.max"].numpy())
    assert found.tokenizer_path == LEROBOT / "pi0" / "tokenizer" / "tokenizer.model"
    assert len(found.leftovers) == 2 and all(name.endswith("lm_head.weight") for name in found.leftovers)
    assert found.assumed == ()


def test_what_a_pi05_folder_says():
    found = describe_checkpoint(LEROBOT / "pi05", config=HEADS)
    assert (found.config.model, found.config.max_token_len, found.config.discrete_state_input) == ("pi05", 200, True)
    assert found.config.cameras == ("base_0_rgb", "left_wrist_0_rgb", "empty_camera_0")
    assert found.settings.state_normalization == found.settings.action_normalization == "lerobot_quantile"
    assert (found.state_dim, found.action_dim) == (8, 7)
    assert found.settings.relative_actions == (False,) * 7 and found.settings.action_names is None


def test_a_base_model_has_no_statistics_yet(tmp_path):
    folder = copy("pi05", tmp_path / "base", rtc_training_max_delay=3)
    for file in ("policy_preprocessor.json", "policy_postprocessor.json"):
        edit(folder / file, lambda content: [step.pop("state_file", None) for step in content["steps"]])
    found = describe_checkpoint(folder, config=HEADS)
    assert found.norm_stats is None and found.settings.action_normalization == "lerobot_quantile"
    assert found.settings.relative_actions is None and found.settings.rtc_trained_max_delay == 3


def test_a_folder_of_weights_and_config_alone_takes_lerobots_defaults(tmp_path):
    folder = copy("pi0", tmp_path / "bare")
    for file in [*folder.glob("policy_*"), folder / "tokenizer"]:
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    edit(folder / "config.json", lambda content: content.pop("normalization_mapping"))
    found = describe_checkpoint(folder, config=HEADS)
    assert found.settings.state_normalization == "lerobot_mean_std"
    assert (found.norm_stats, found.tokenizer_path, found.config.max_token_len) == (None, None, 48)


def test_older_pi05_pads_the_state_before_it_becomes_text(tmp_path):
    folder = copy("pi05", tmp_path / "older")

    def drop(content: Any) -> None:
        content["steps"] = [step for step in content["steps"] if "relative_actions" not in step["registry_name"]]

    edit(folder / "policy_preprocessor.json", drop)
    assert describe_checkpoint(folder, config=HEADS).settings.pad_state_text


def test_what_has_no_statistics_stays_as_it_is(tmp_path):
    folder = copy("pi0", tmp_path / "partial")
    file = folder / "policy_preprocessor_step_6_normalizer_processor.safetensors"
    save_file({key: value for key, value in load_file(file).items() if key.startswith("action")}, file)
    found = describe_checkpoint(folder, config=HEADS)
    assert (found.settings.state_normalization, found.settings.action_normalization) == ("identity", "lerobot_mean_std")
    assert found.norm_stats.state.dim == 0 and found.norm_stats.actions.dim == 14


def test_the_processors_modes_count_not_the_configs(tmp_path):
    folder = copy("pi0", tmp_path / "modes", normalization_mapping={"STATE": "IDENTITY", "ACTION": "IDENTITY"})
    edit(folder / "policy_postprocessor.json", lambda c: c["steps"][0]["config"]["norm_map"].update(ACTION="MIN_MAX"))
    settings = describe_checkpoint(folder, config=HEADS).settings
    assert (settings.state_normalization, settings.action_normalization) == ("lerobot_mean_std", "lerobot_min_max")


def test_empty_cameras_of_the_config_are_slots(tmp_path):
    folder = copy("pi0", tmp_path / "empty", empty_cameras=2)
    cameras = describe_checkpoint(folder, config=HEADS).config.cameras
    assert cameras == ("cam_high", "cam_left_wrist", "cam_right_wrist", "empty_camera_0", "empty_camera_1")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"type": "pi05"}, "'type' is 'pi05', but the tensors are those of a pi0 model"),
        ({"type": "act"}, "a policy of type 'act'"),
        ({"min_period": 0.01}, "'min_period' is 0.01, this package's models have 0.004 built in"),
        ({"use_visual_memory": True}, "'use_visual_memory' is on"),
        ({"max_action_dim": 24}, "its files say action_dim 24, its tensors 32"),
        ({"image_resolution": [336, 336]}, "its files say vision.image_size 336, its tensors 224"),
        ({"input_features": [1]}, r"'input_features' is \[1\], expected a dict"),
        ({"num_inference_steps": "ten"}, "'num_inference_steps' is 'ten', expected a whole number"),
        ({"num_inference_steps": 4000}, "num_steps is 4000, expected 1 .. 1000"),
        ({"empty_cameras": [1]}, r"'empty_cameras' is \[1\], expected a whole number"),
        ({"image_resolution": 224}, "'image_resolution' is 224, expected a list of sizes"),
        ({"action_feature_names": "hand"}, "'action_feature_names' is 'hand', expected a list"),
    ],
)
def test_configs_that_the_weights_or_the_network_contradict(config, message, tmp_path):
    folder = copy("pi0", tmp_path / "wrong", **config)
    with pytest.raises(CheckpointError, match=message) as error:
        load_model(folder, config=HEADS)
    assert str(folder) in str(error.value)


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("config.json", "{", "config.json: not JSON"),
        ("policy_preprocessor.json", "[", "policy_preprocessor.json: not JSON"),
        ("policy_postprocessor.json", '{"steps": 3}', "'steps' must be a list"),
        ("policy_preprocessor_step_6_normalizer_processor.safetensors", None, "there is no such weights file"),
        ("policy_postprocessor_step_0_unnormalizer_processor.safetensors", "x" * 40, "not a whole safetensors file"),
        ("policy_preprocessor.json", '{"steps": [{"config": 3}]}', "'config' is 3, expected a dict"),
        ("policy_preprocessor.json", '{"steps": [{"state_file": 3}]}', "'state_file' is 3, expected a str"),
        ("tokenizer/tokenizer.model", "no model", "tokenizer.model: not a SentencePiece model"),
        ("model.safetensors", None, "config.json is there but no model.safetensors"),
    ],
)
def test_a_damaged_file_is_named(file, damage, message, tmp_path):
    folder = copy("pi0", tmp_path / "damaged")
    (folder / file).unlink()
    if damage is not None:
        (folder / file).write_text(damage)
    with pytest.raises(CheckpointError, match=message) as error:
        load_model(folder, config=HEADS)
    assert str(folder) in str(error.value)


# ---- old layouts ----


def old_folder(folder: Path) -> Path:
    """A folder as LeRobot wrote it before September 2025: other names, statistics among the weights, no processors."""
    folder.mkdir()
    old = {}
    for name, tensor in load_file(LEROBOT / "pi0" / "model.safetensors").items():
        name = name.replace(f"{PALIGEMMA}.model.language_model.", f"{PALIGEMMA}.language_model.model.")
        name = name.replace(f"{PALIGEMMA}.lm_head.", f"{PALIGEMMA}.language_model.lm_head.")
        for part in ("vision_tower", "multi_modal_projector"):
            name = name.replace(f"{PALIGEMMA}.model.{part}.", f"{PALIGEMMA}.{part}.")
        old[name] = tensor
    stats = load_file(LEROBOT / "pi0" / "policy_preprocessor_step_6_normalizer_processor.safetensors")
    for name, tensor in stats.items():
        feature, _, field = name.rpartition(".")
        if field in ("mean", "std"):
            side = "normalize_inputs" if feature == "observation.state" else "unnormalize_outputs"
            old[f"{side}.buffer_{feature.replace('.', '_')}.{field}"] = tensor
    old["normalize_targets.buffer_action.mean"] = stats["action.mean"].clone()
    old["normalize_inputs.buffer_observation_images_cam_high.mean"] = torch.zeros(3, 1, 1)
    save_file(old, folder / "model.safetensors")
    known = ("type", "input_features", "output_features", "chunk_size", "max_action_dim", "tokenizer_max_length")
    current = json.loads((LEROBOT / "pi0" / "config.json").read_text())
    content = {key: current[key] for key in known} | {"num_steps": 10, "attention_implementation": "eager"}
    (folder / "config.json").write_text(json.dumps(content))
    return folder


def test_the_layout_before_september_2025(tmp_path):
    folder = old_folder(tmp_path / "old")
    assert_same(weights_of(folder), weights_of(LEROBOT / "pi0"))
    new, found = describe_checkpoint(LEROBOT / "pi0", config=HEADS), describe_checkpoint(folder, config=HEADS)
    assert found.config == new.config
    for key in ("mean", "std"):
        np.testing.assert_array_equal(found.norm_stats.state.need(key), new.norm_stats.state.need(key))
        np.testing.assert_array_equal(found.norm_stats.actions.need(key), new.norm_stats.actions.need(key))
    assert found.settings.relative_actions is None and not found.settings.pad_state_text
    reasons = {name: why for name, why in found.leftovers.items() if "normalize" in name}
    assert len(reasons) == 6 and set(reasons.values()) == {"normalisation statistics, not weights"}


def test_statistics_that_were_never_filled_are_none(tmp_path):
    folder = old_folder(tmp_path / "old")
    tensors = load_file(folder / "model.safetensors")
    infinite = {name: torch.full_like(t, torch.inf) if "buffer_" in name else t for name, t in tensors.items()}
    save_file(infinite, folder / "model.safetensors")
    assert describe_checkpoint(folder, config=HEADS).norm_stats is None


def test_a_tensor_under_two_names_is_an_error(tmp_path):
    folder = copy("pi0", tmp_path / "twice")
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"state_proj.bias": torch.zeros(32)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="are the same tensor \\(state_proj.bias\\)"):
        load_model(folder, config=HEADS)


# ---- shards and training folders ----


def sharded(folder: Path, index: bool) -> Path:
    copy("pi05", folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    where = {name: f"model-{number % 3 + 1:05d}-of-00003.safetensors" for number, name in enumerate(sorted(tensors))}
    for file in set(where.values()):
        save_file({name: tensors[name] for name in where if where[name] == file}, folder / file)
    if index:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    return folder


@pytest.mark.parametrize("index", [True, False], ids=["index", "no index"])
def test_shards_are_one_file(index, tmp_path):
    folder = sharded(tmp_path / "shards", index)
    assert_same(weights_of(folder), weights_of(LEROBOT / "pi05"))
    (folder / "model-00002-of-00003.safetensors").unlink()
    message = "model-00002-of-00003.safetensors: there is no such weights file" if index else "2 of 3 shards are there"
    with pytest.raises(CheckpointError, match=message):
        load_model(folder, config=HEADS)


def test_shards_hold_what_the_index_says(tmp_path):
    folder = sharded(tmp_path / "shards", True)
    edit(
        folder / "model.safetensors.index.json",
        lambda content: content["weight_map"].update(lost="model-00001-of-00003.safetensors"),
    )
    with pytest.raises(CheckpointError, match="lost is not in model-00001-of-00003.safetensors"):
        load_model(folder, config=HEADS)


def test_training_folders_lead_to_the_model(tmp_path):
    steps = tmp_path / "run" / "checkpoints"
    copy("pi0", steps / "000100" / "pretrained_model")
    (steps / "last").symlink_to("000100")
    for start in (steps / "000100", steps, tmp_path / "run", steps / "last", steps / "last" / "pretrained_model"):
        found = describe_checkpoint(start, config=HEADS)
        assert found.path.name == "pretrained_model" and found.config.model == "pi0"
    (steps / "last").unlink()
    with pytest.raises(CheckpointError, match=r"steps of a training run \(000100\): name one of them"):
        describe_checkpoint(steps, config=HEADS)


# ---- PEFT ----

TARGETS = ("self_attn.q_proj", "self_attn.v_proj")
RANK, ALPHA = 4, 6.0


def adapter(folder: Path, base: str | None, **config: Any) -> dict[str, torch.Tensor]:
    """Write a PEFT adapter of the pi0 fixture; returns its tensors by their names in the file."""
    shutil.copytree(LEROBOT / "pi0", folder)
    (folder / "model.safetensors").unlink()
    edit(folder / "config.json", lambda content: content.update(use_peft=True))
    settings = {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "r": RANK,
        "lora_alpha": ALPHA,
        "use_rslora": False,
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings | config))
    generator, tensors = torch.Generator().manual_seed(0), {}
    for name, weight in load_file(LEROBOT / "pi0" / "model.safetensors").items():
        module = name.removesuffix(".weight")
        if "gemma_expert" in name and module.endswith(TARGETS):
            for factor, shape in (("A", (RANK, weight.shape[1])), ("B", (weight.shape[0], RANK))):
                random = torch.randn(shape, generator=generator) * 0.1
                tensors[f"base_model.model.{module}.lora_{factor}.weight"] = random
        elif "state_proj" in name:
            tensors[f"base_model.model.{name}"] = torch.randn(weight.shape, generator=generator)
    save_file(tensors, folder / "adapter_model.safetensors")
    return tensors


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({}, ALPHA / RANK),
        ({"use_rslora": True}, ALPHA / math.sqrt(RANK)),
        ({"alpha_pattern": {"layers.1.self_attn.q_proj": 10.0}}, 10.0 / RANK),
    ],
)
def test_an_adapter_is_merged_into_its_base(config, scale, tmp_path):
    tensors = adapter(tmp_path / "adapter", str(LEROBOT / "pi0"), **config)
    found, base = weights_of(tmp_path / "adapter"), weights_of(LEROBOT / "pi0")
    name = "paligemma_with_expert.gemma_expert.model.layers.1.self_attn.q_proj"
    a, b = (tensors[f"base_model.model.model.{name}.lora_{factor}.weight"] for factor in "AB")
    torch.testing.assert_close(found[f"{name}.weight"], base[f"{name}.weight"] + scale * b @ a, atol=1e-6, rtol=1e-6)
    assert torch.equal(found["state_proj.bias"], tensors["base_model.model.model.state_proj.bias"])
    changed = {name for name in base if not torch.equal(found[name], base[name])}
    assert len(changed) == 3 * 2 + 2
    description = describe_checkpoint(tmp_path / "adapter", config=HEADS)
    assert (
        description.config.cameras[0] == "cam_high" and description.norm_stats is not None and description.merged == 6
    )


def test_modules_to_save_may_keep_their_wrappers_name(tmp_path):
    tensors = adapter(tmp_path / "adapter", str(LEROBOT / "pi0"))
    wrapped = {name.replace("state_proj.", "state_proj.modules_to_save.default."): t for name, t in tensors.items()}
    save_file(wrapped, tmp_path / "adapter" / "adapter_model.safetensors")
    found = weights_of(tmp_path / "adapter")
    assert torch.equal(found["state_proj.weight"], tensors["base_model.model.model.state_proj.weight"])


def test_a_base_that_is_not_here_is_asked_for(tmp_path):
    adapter(tmp_path / "adapter", "lerobot/pi0_base")
    with pytest.raises(
        CheckpointError, match="changes the model 'lerobot/pi0_base', which is no folder here.*base="
    ) as error:
        load_model(tmp_path / "adapter", config=HEADS)
    assert "adapter_config.json" in str(error.value)
    given = load_model(tmp_path / "adapter", config=HEADS, base=LEROBOT / "pi0")
    assert given.format == "lerobot" and given.path == tmp_path / "adapter"
    beside = tmp_path / "adapter" / "base"
    shutil.copytree(LEROBOT / "pi0", beside)
    edit(tmp_path / "adapter" / "adapter_config.json", lambda content: content.update(base_model_name_or_path="base"))
    assert_same(weights_of(tmp_path / "adapter"), weights_of(tmp_path / "adapter", LEROBOT / "pi0"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda tensors, name: tensors.pop(name), r"lora_A \[\] and lora_B \[128, 4\] do not belong to"),
        (lambda tensors, name: tensors.update({name: torch.zeros(4, 7)}), r"lora_A \[4, 7\] and lora_B"),
        (
            lambda tensors, name: tensors.update({"base_model.model.model.extra.weight": torch.zeros(1)}),
            "extra.weight is not",
        ),
    ],
)
def test_an_adapter_of_another_model_is_an_error(damage, message, tmp_path):
    tensors = adapter(tmp_path / "adapter", str(LEROBOT / "pi0"))
    damage(tensors, next(name for name in tensors if "lora_A" in name))
    save_file(tensors, tmp_path / "adapter" / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        load_model(tmp_path / "adapter", config=HEADS)


def test_an_adapter_without_files_of_its_own_has_those_of_its_base(tmp_path):
    adapter(tmp_path / "adapter", str(LEROBOT / "pi0"))
    for file in [*(tmp_path / "adapter").glob("policy_*"), tmp_path / "adapter" / "config.json"]:
        file.unlink()
    found, base = (describe_checkpoint(path, config=HEADS) for path in (tmp_path / "adapter", LEROBOT / "pi0"))
    assert (found.config, found.settings, found.state_dim) == (base.config, base.settings, base.state_dim)
    assert found.path == tmp_path / "adapter" and found.merged == 6


def test_a_weight_is_not_replaced_and_changed(tmp_path):
    tensors = adapter(tmp_path / "adapter", str(LEROBOT / "pi0"))
    name = next(name for name in tensors if "lora_A" in name).replace("lora_A", "base_layer")
    save_file({**tensors, name: torch.zeros(128, 32)}, tmp_path / "adapter" / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="is both replaced and changed"):
        describe_checkpoint(tmp_path / "adapter", config=HEADS)


@pytest.mark.parametrize("config", [{"lora_alpha": None}, {"alpha_pattern": "q_proj"}, {"alpha_pattern": {"(": 1}}])
def test_an_alpha_that_is_none(config, tmp_path):
    adapter(tmp_path / "adapter", str(LEROBOT / "pi0"), **config)
    with pytest.raises(CheckpointError, match="'lora_alpha' or 'alpha_pattern' cannot be read"):
        describe_checkpoint(tmp_path / "adapter", config=HEADS)


def test_first_weights_taken_out_of_the_base_are_refused(tmp_path):
    adapter(tmp_path / "adapter", str(LEROBOT / "pi0"), init_lora_weights="pissa_niter_4")
    with pytest.raises(CheckpointError, match="'init_lora_weights' is 'pissa_niter_4', which changes the base"):
        describe_checkpoint(tmp_path / "adapter", config=HEADS)


@pytest.mark.parametrize(("config", "kind"), [({"use_dora": True}, "DoRA"), ({"peft_type": "IA3"}, "IA3")])
def test_other_adapters_are_refused(config, kind, tmp_path):
    adapter(tmp_path / "adapter", str(LEROBOT / "pi0"), **config)
    with pytest.raises(CheckpointError, match=f"an adapter of kind {kind}, only LORA can be merged"):
        load_model(tmp_path / "adapter", config=HEADS)
