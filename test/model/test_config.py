"""Model configs: what is read is what is written, and what does not fit is refused by name."""

from __future__ import annotations

import json

import pytest
import reference

from pi0_ros.model.config import PRESETS, ConfigError, ModelConfig


@pytest.mark.parametrize("name", reference.MODELS)
def test_sizes_survive_a_round_trip(name):
    sizes = json.loads((reference.ROOT / name / "sizes.json").read_text())
    assert ModelConfig.from_dict(sizes).to_dict() == sizes


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_a_round_trip(name):
    config = ModelConfig.preset(name)
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_unknown_preset():
    with pytest.raises(ConfigError, match="no model preset 'pi1'; choose one of pi0, pi05, pi0_fast, demo"):
        ModelConfig.preset("pi1")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("model", "pi1", "model is 'pi1'; write one of pi0, pi05"),
        ("dtype", "float16", "dtype is 'float16'"),
        ("action_dim", 0, "action_dim must be a positive integer"),
        ("vlm", None, "vlm must be a mapping"),
        ("vlm.wdth", 3, r"vlm: unknown keys \['wdth'\]"),
        ("expert", None, "expert must be a mapping"),
        ("expert.depth", 5, "vlm.depth and expert.depth must be equal"),
        ("vision.patch_size", 15, "image_size must be a multiple"),
        ("vision.num_positions", 255, "num_positions is 255, but"),
        ("vision.num_heads", 5, "vision.width must be a multiple of vision.num_heads"),
        ("cameras", [], "cameras must list image slots"),
        ("cameras", ["base_0_rgb", "base_0_rgb"], "cameras lists a slot twice"),
        ("horizon", 3, r"unknown keys \['horizon'\]"),
    ],
)
def test_what_does_not_fit_is_named(path, value, message):
    sizes = ModelConfig.preset("demo").to_dict()
    *sections, key = path.split(".")
    target = sizes
    for section in sections:
        target = target[section]
    target[key] = value
    with pytest.raises(ConfigError, match=message):
        ModelConfig.from_dict(sizes)


def test_missing_key_is_named():
    sizes = ModelConfig.preset("demo").to_dict()
    del sizes["action_dim"]
    with pytest.raises(ConfigError, match=r"missing keys \['action_dim'\]"):
        ModelConfig.from_dict(sizes)


def test_pi0_fast_has_no_action_expert():
    sizes = ModelConfig.preset("pi0_fast").to_dict()
    assert sizes["expert"] is None
    del sizes["expert"]
    assert ModelConfig.from_dict(sizes) == ModelConfig.preset("pi0_fast")
    with pytest.raises(ConfigError, match="expert must be absent"):
        ModelConfig.from_dict(sizes | {"expert": sizes["vlm"]})
    with pytest.raises(ConfigError, match="a pi0_fast model has no action expert"):
        _ = ModelConfig.preset("pi0_fast").flow_expert
