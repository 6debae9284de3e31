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

from pi0_ros.checkpoints.convert import convert_checkpoint, plan_conversion
from pi0_ros.checkpoints.describe import describe_checkpoint, load_spec, open_checkpoint
from pi0_ros.checkpoints.lerobot import feature_of
from pi0_ros.checkpoints.lerobot_keys import OF_RUNNING, OF_TRAINING
from pi0_ros.checkpoints.lerobot_steps import STATE
from pi0_ros.checkpoints.load import load_model
from pi0_ros.checkpoints.safetensors_files import CheckpointError
from pi0_ros.checkpoints.sources import whole
from pi0_ros.robot import file as robots
from pi0_ros.robot import load_robot, robot_from_yaml

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


# ---- releases ----


def before_relative_actions(name: str, folder: Path) -> Path:
    """The fixture as LeRobot 0.4 or 0.5.0 would have written it."""
    copy(name, folder)
    for file, step in (("pre", "relative_actions_processor"), ("post", "absolute_actions_processor")):
        edit(
            folder / f"policy_{file}processor.json",
            lambda content, gone=step: content["steps"].pop(at(content["steps"], gone)),
        )
    keys = ("use_relative_actions", "relative_exclude_joints", "action_feature_names")
    edit(folder / "config.json", lambda content: [content.pop(key, None) for key in keys])
    return folder


@pytest.mark.parametrize("name", ["pi0", "pi05"])
@pytest.mark.parametrize(("trainer", "resize"), [({}, "torch_0.4"), ({"cudnn_deterministic": False}, "torch")])
def test_the_trainers_file_tells_the_release(name, trainer, resize, tmp_path):
    folder = before_relative_actions(name, tmp_path / "trained")
    (folder / "train_config.json").write_text(json.dumps({"steps": 3000, **trainer}))
    found = describe_checkpoint(folder, config=HEADS)
    assert found.settings.image_resize == resize and not found.undecided
    assert found.settings.pad_state_text == (name == "pi05" and resize == "torch_0.4")


@pytest.mark.parametrize("release", ["0.4", "0.5"])
def test_where_nothing_tells_the_release_somebody_must(release, tmp_path):
    folder = before_relative_actions("pi05", tmp_path / "untold")
    robot = load_robot("libero")
    with pytest.raises(
        CheckpointError, match="whether LeRobot 0.4 or 0.5.0 trained it.*the bars -3.*0.4 pads the state"
    ):
        load_spec(folder, robot=robot, config=HEADS)
    with pytest.raises(CheckpointError, match="--lerobot-release 0.4"):
        plan_conversion(folder, config=HEADS)
    ours = convert_checkpoint(folder, tmp_path / "ours", config=HEADS, robot=robot, lerobot_release=release)
    settings = load_spec(ours).settings
    assert (settings.image_resize, settings.pad_state_text) == {
        "0.4": ("torch_0.4", True),
        "0.5": ("torch", False),
    }[release]
    if release == "0.4":
        with pytest.raises(CheckpointError, match="LeRobot 0.6 shows a model other pictures"):
            convert_checkpoint(ours, tmp_path / "back", "lerobot", config=HEADS)
    with pytest.raises(CheckpointError, match="no checkpoint of LeRobot"):
        describe_checkpoint(ours, lerobot_release="0.4")
    with pytest.raises(CheckpointError, match="lerobot_release is '1', expected one of 0.3, 0.4, 0.5"):
        describe_checkpoint(folder, config=HEADS, lerobot_release="1")


def test_a_newer_release_is_named_and_refused(tmp_path):
    """0.7 brought Trackio for Weights & Biases; what else it changed has not been compared."""
    folder = copy("pi05", tmp_path / "new")
    (folder / "train_config.json").write_text(json.dumps({"cudnn_deterministic": False, "trackio": {"enable": False}}))
    assert "LeRobot 0.7 or later" in describe_checkpoint(folder, config=HEADS).undecided
    with pytest.raises(CheckpointError, match="LeRobot 0.7 or later.*--lerobot-release 0.5"):
        plan_conversion(folder, config=HEADS)
    assert not describe_checkpoint(folder, config=HEADS, lerobot_release="0.5").undecided


@pytest.mark.parametrize("value", [True, 3, "x", {"a": 1}, [1]])
def test_a_key_that_no_release_has_is_refused(value, tmp_path):
    folder = copy("pi0", tmp_path / "strange", attention_sinks=value)
    with pytest.raises(CheckpointError, match="has no key 'attention_sinks' there, so a newer one"):
        describe_checkpoint(folder, config=HEADS)
    for nothing in (None, False):
        describe_checkpoint(copy("pi0", tmp_path / str(nothing), attention_sinks=nothing), config=HEADS)


@pytest.mark.parametrize(("keys", "summed"), [((), True), (("rtc_config",), True), (("rtc_config", "use_peft"), False)])
def test_how_04_counts_flow_times(keys, summed, tmp_path):
    """0.4.0 to 0.4.2 add them up, 0.4.3, which brought `use_peft`, and 0.4.4 multiply."""
    folder = before_relative_actions("pi0", tmp_path / "trained")
    (folder / "train_config.json").write_text("{}")

    def write(content: Any) -> None:
        for key in ("rtc_config", "use_peft"):
            content.pop(key, None)
        content.update(dict.fromkeys(keys))

    edit(folder / "config.json", write)
    assert describe_checkpoint(folder, config=HEADS).settings.times_summed == summed


def test_a_base_model_is_meant_as_openpi_means_it(tmp_path):
    folder = before_relative_actions("pi05", tmp_path / "base")
    for file in ("policy_preprocessor.json", "policy_postprocessor.json"):
        edit(folder / file, lambda content: [step.pop("state_file", None) for step in content["steps"]])
    found = describe_checkpoint(folder, config=HEADS)
    assert (found.settings.image_resize, found.settings.pad_state_text, found.undecided) == ("torch", False, "")


def test_what_04_pads_differently_when_it_trains_is_refused(tmp_path):
    folder = before_relative_actions("pi05", tmp_path / "trained")
    (folder / "train_config.json").write_text("{}")
    edit(folder / "config.json", lambda content: content.update(max_state_dim=20))
    with pytest.raises(CheckpointError, match="max_state_dim is 20.*pads the state in the prompt to 20"):
        describe_checkpoint(folder, config=HEADS)


# ---- the processors, as programs ----


def mutated(name: str, folder: Path, change: Callable[[list[Any], list[Any]], object]) -> Path:
    """The fixture with other steps; `change` gets those of both processors."""
    copy(name, folder)
    files = [folder / f"policy_{part}processor.json" for part in ("pre", "post")]
    contents = [json.loads(file.read_text()) for file in files]
    change(contents[0]["steps"], contents[1]["steps"])
    for file, content in zip(files, contents, strict=True):
        file.write_text(json.dumps(content))
    return folder


def at(steps: list[Any], name: str) -> int:
    return [step["registry_name"] for step in steps].index(name)


def move(steps: list[Any], name: str, place: int) -> None:
    steps.insert(place, steps.pop(at(steps, name)))


RELATIVE_ALOHA = ((True,) * 6 + (False,)) * 2
NORMALIZER, RELATIVE = "normalizer_processor", "relative_actions_processor"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("pi0", lambda b, a: b.pop(at(b, "pi0_new_line_processor")), "'tokenizer_processor', has no 'pi0_new_line_"),
        (
            "pi0",
            lambda b, a: move(b, "pi0_new_line_processor", 9),
            "'pi0_new_line_processor', comes after|has no 'pi0_",
        ),
        ("pi0", lambda b, a: b.pop(at(b, "tokenizer_processor")), "policy_preprocessor.json: there is no 'tokenizer_"),
        ("pi0", lambda b, a: move(b, RELATIVE, 9), "step 6, 'relative_actions_processor', comes after the normaliser"),
        ("pi0", lambda b, a: a[at(a, "absolute_actions_processor")]["config"].update(enabled=False), "does not add"),
        (
            "pi0",
            lambda b, a: b[at(b, RELATIVE)]["config"].update(enabled=False),
            "adds the state to actions that are not",
        ),
        ("pi0", lambda b, a: b.pop(at(b, RELATIVE)), "has no 'relative_actions_processor' in policy_preprocessor.json"),
        ("pi0", lambda b, a: move(a, "absolute_actions_processor", 0), "'unnormalizer_processor', comes after"),
        (
            "pi0",
            lambda b, a: b.insert(1, {"registry_name": "libero_processor"}),
            "step 1, 'libero_processor', is not known",
        ),
        ("pi0", lambda b, a: b.insert(0, {"class": "me.Mine"}), "step 0, 'me.Mine', is not known"),
        (
            "pi0",
            lambda b, a: b.append(dict(b[at(b, NORMALIZER)])),
            "step 7, 'normalizer_processor', stands there twice",
        ),
        ("pi0", lambda b, a: b.append(dict(a[0])), "'unnormalizer_processor', is no step of a pre-processor of a pi0"),
        ("pi0", lambda b, a: b[at(b, NORMALIZER)]["config"].update(eps=0.1), "has eps 0.1"),
        ("pi0", lambda b, a: b[at(b, NORMALIZER)]["config"].update(clip=1), "has the unknown key.*clip"),
        ("pi0", lambda b, a: b[at(b, "device_processor")]["config"].update(float_dtype="bfloat16"), "into bfloat16"),
        ("pi0", lambda b, a: b[0]["config"].update(rename_map={"observation.state": "observation.s"}), "renames"),
        (
            "pi0",
            lambda b, a: b[at(b, "tokenizer_processor")]["config"].update(padding_side="left"),
            "padding_side 'left'",
        ),
        ("pi05", lambda b, a: move(b, NORMALIZER, 9), "comes before the normaliser"),
        ("pi05", lambda b, a: b.pop(at(b, "pi05_prepare_state_tokenizer_processor_step")), "would not hold the state"),
        (
            "pi05",
            lambda b, a: b[at(b, "pi05_prepare_state_tokenizer_processor_step")].update(
                config={"include_state_in_prompt": False}
            ),
            "include_state_in_prompt off",
        ),
    ],
)
def test_a_step_that_cannot_be_followed_is_refused_by_name(name, change, message, tmp_path):
    folder = mutated(name, tmp_path / "mutated", change)
    with pytest.raises(CheckpointError, match=message) as error:
        describe_checkpoint(folder, config=HEADS)
    assert str(folder / "policy_p") in str(error.value)


def test_the_processors_count_where_the_config_says_relative_and_they_do_not(tmp_path):
    folder = mutated(
        "pi0", tmp_path / "steps", lambda b, a: (b.pop(at(b, RELATIVE)), a.pop(at(a, "absolute_actions_processor")))
    )
    assert json.loads((folder / "config.json").read_text())["use_relative_actions"]
    assert describe_checkpoint(folder, config=HEADS).settings.relative_actions == (False,) * 14


def test_051_called_the_relative_step_otherwise(tmp_path):
    rename = {"registry_name": "delta_actions_processor"}
    folder = mutated("pi0", tmp_path / "051", lambda b, a: b[at(b, RELATIVE)].update(rename))
    assert describe_checkpoint(folder, config=HEADS).settings.relative_actions == RELATIVE_ALOHA


@pytest.mark.parametrize(
    "change",
    [
        lambda b, a: b[at(b, NORMALIZER)]["config"].update(normalize_observation_keys=[]),
        lambda b, a: b[at(b, NORMALIZER)]["config"]["features"].pop("observation.state"),
        lambda b, a: b[at(b, NORMALIZER)]["config"]["features"]["observation.state"].update(type="ENV"),
        lambda b, a: b[at(b, NORMALIZER)]["config"]["norm_map"].pop("STATE"),
        lambda b, a: b.pop(at(b, NORMALIZER)),
    ],
)
def test_a_state_that_lerobot_leaves_alone_is_left_alone(change, tmp_path):
    settings = describe_checkpoint(mutated("pi0", tmp_path / "raw", change), config=HEADS).settings
    assert (settings.state_normalization, settings.action_normalization) == ("identity", "lerobot_mean_std")


def test_pictures_scaled_by_statistics_are_refused(tmp_path):
    folder = copy("pi0", tmp_path / "visual")
    step = next(s for s in json.loads((folder / "policy_preprocessor.json").read_text())["steps"] if "state_file" in s)
    tensors = load_file(folder / step["state_file"])
    for field in ("mean", "std"):
        tensors[f"observation.images.cam_high.{field}"] = torch.full((3, 1, 1), 0.5)
    save_file(tensors, folder / step["state_file"])
    assert describe_checkpoint(folder, config=HEADS).settings.lerobot.get("visual_mode") is None

    def scale(content: Any) -> None:
        content["steps"][at(content["steps"], NORMALIZER)]["config"]["norm_map"].update(VISUAL="MEAN_STD")

    edit(folder / "policy_preprocessor.json", scale)
    with pytest.raises(CheckpointError, match="scales the pictures of observation.images.cam_high by statistics"):
        describe_checkpoint(folder, config=HEADS)


def test_what_lerobot_alone_reads_survives_both_ways(tmp_path):
    folder = copy("pi0", tmp_path / "kept", n_action_steps=5)
    names = {"observation.images.front": "observation.images.cam_high"}
    edit(folder / "policy_preprocessor.json", lambda content: content["steps"][0]["config"].update(rename_map=names))
    ours = convert_checkpoint(folder, tmp_path / "ours", config=HEADS, robot=load_robot("aloha"))
    back = convert_checkpoint(ours, tmp_path / "back", "lerobot", config=HEADS)
    content = json.loads((back / "config.json").read_text())
    assert (content["n_action_steps"], content["output_features"]["action"]["shape"]) == (5, [14])
    steps = json.loads((back / "policy_preprocessor.json").read_text())["steps"]
    assert steps[0]["config"]["rename_map"] == names


@pytest.mark.parametrize("name", ["pi0", "pi05"])
def test_what_is_lost_on_the_way_to_lerobot_is_what_the_docs_list(name, tmp_path):
    """Every key that any release writes, with a value of its own: what comes back, and what does not."""
    source = copy(name, tmp_path / "source", **dict.fromkeys(OF_RUNNING | OF_TRAINING, "mine"))
    edit(
        source / "config.json",
        lambda content: content.update(
            n_action_steps=3, num_inference_steps=4, dtype="float32", use_relative_actions=True
        ),
    )  # fmt: skip

    def change(content: Any) -> None:
        for step in content["steps"]:
            if "enabled" in step["config"]:
                step["config"].update(enabled=True)
            if "norm_map" in step["config"]:
                step["config"]["norm_map"].update(VISUAL="MEAN_STD")

    for part in ("pre", "post"):
        edit(source / f"policy_{part}processor.json", change)
    back = convert_checkpoint(source, tmp_path / "back", "lerobot", config=HEADS)
    before, after = (json.loads((folder / "config.json").read_text()) for folder in (source, back))
    lost = {key for key in before if before[key] not in (None, False, [], after.get(key))}
    # a picture's own size, which nothing reads; constants; what the processors say, which config.json follows
    follow = {"input_features", "min_period", "max_period", "normalization_mapping", "relative_exclude_joints"}
    assert lost - follow <= OF_RUNNING | OF_TRAINING
    assert set(before["input_features"]) <= set(after["input_features"])  # and empty cameras, as features
    assert after["n_action_steps"] == 3 and after["normalization_mapping"]["VISUAL"] == "MEAN_STD"
    for part in ("pre", "post"):
        files = [folder / f"policy_{part}processor.json" for folder in (source, back)]
        steps = [json.loads(file.read_text())["steps"] for file in files]
        programs = [{step["registry_name"]: step["config"] for step in listed} for listed in steps]
        for step in ("relative_actions_processor", "absolute_actions_processor", "rename_observations_processor"):
            ours, theirs = (dict(program.get(step, {})) for program in reversed(programs))
            if not theirs.get("action_names"):  # without names its words exclude nothing
                ours.pop("exclude_joints", None), theirs.pop("exclude_joints", None)
            assert ours == theirs
        for step in ("normalizer_processor", "unnormalizer_processor"):
            assert programs[0].get(step, {}).get("norm_map") == programs[1].get(step, {}).get("norm_map")
    docs = (reference.ROOT.parents[2] / "docs" / "checkpoints.md").read_text()
    for key in (
        "optimizer_lr",
        "time_sampling_beta_alpha",
        "freeze_vision_encoder",
        "compile_model",
        "rtc_config",
        "tags",
    ):
        assert key in lost and f"`{key}`" in docs


def test_half_of_the_processors_is_not_guessed(tmp_path):
    folder = copy("pi0", tmp_path / "half")
    (folder / "policy_postprocessor.json").unlink()
    with pytest.raises(CheckpointError, match="policy_postprocessor.json: it is missing, but policy_preprocessor.json"):
        describe_checkpoint(folder, config=HEADS)


# ---- cameras, widths ----


@pytest.mark.parametrize(
    "names", [("images.rgb.head", "images.cam-high", "images.2cam"), ("left.cam", "right.cam", "image")]
)
def test_cameras_keep_the_names_that_people_gave_them(names, tmp_path):
    visual = {f"observation.{name}": {"type": "VISUAL", "shape": [3, 48, 64]} for name in names}
    folder = copy("pi0", tmp_path / "named", input_features=visual | {STATE: {"type": "STATE", "shape": [14]}})
    found = describe_checkpoint(folder, config=HEADS)
    assert [feature_of(slot) for slot in found.config.cameras] == list(visual)
    back = convert_checkpoint(folder, tmp_path / "back", "lerobot", config=HEADS, robot=load_robot("aloha_sim"))
    assert [key for key in json.loads((back / "config.json").read_text())["input_features"] if key in visual] == list(
        visual
    )
    text = (Path(robots.__file__).parents[2] / "config/robots/demo_arm.yaml").read_text()
    robot_from_yaml(text.replace("slot: base_0_rgb", f"slot: {found.config.cameras[0]}"), "drawn.yaml")


def test_a_state_wider_than_the_actions(tmp_path):
    """LeRobot's max_state_dim: pi0 projects so many numbers."""
    folder = copy("pi0", tmp_path / "wide", max_state_dim=40)
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.endswith("state_proj.weight"))
    tensors[name] = torch.randn(tensors[name].shape[0], 40)
    save_file(tensors, folder / "model.safetensors")
    found = describe_checkpoint(folder, config=HEADS)
    assert (found.config.state_dim, found.config.state_width, found.config.action_dim) == (40, 40, 32)
    assert load_model(folder, config=HEADS).model.state_proj.weight.shape[1] == 40
    ours = convert_checkpoint(folder, tmp_path / "ours", config=HEADS)
    assert describe_checkpoint(ours).config.state_dim == 40
    with pytest.raises(CheckpointError, match="openpi has one width for both"):
        convert_checkpoint(folder, tmp_path / "openpi", "openpi", config=HEADS)


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
        ({"adapt_to_pi_aloha": True}, "'adapt_to_pi_aloha' is True, this package's models have False built in"),
        ({"resize_imgs_with_padding": None}, "'resize_imgs_with_padding' is None: pictures that are not resized"),
        ({"max_state_dim": 20}, "state_proj.weight"),
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
