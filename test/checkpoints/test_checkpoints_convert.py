"""Conversion between all formats: the same bits, the same meaning, and nothing half-written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import reference
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pi0_ros.checkpoints.convert import convert_checkpoint
from pi0_ros.checkpoints.describe import describe_checkpoint
from pi0_ros.checkpoints.load import load_model
from pi0_ros.checkpoints.norm_stats import NORMALIZATIONS, NormStats, Stats, normalize, unnormalize
from pi0_ros.checkpoints.renormalize import renormalize
from pi0_ros.checkpoints.safetensors_files import CheckpointError
from pi0_ros.checkpoints.sources import EMBEDDING, TIED_HEAD, UNUSED_HEAD
from pi0_ros.checkpoints.verify import verify_checkpoints
from pi0_ros.checkpoints.weights import save_model
from pi0_ros.model.pi0 import Pi0
from pi0_ros.robot import load_robot
from pi0_ros.tokens.tokenizer import Tokenizer

HEADS = {"vision": {"num_heads": 4}}
LEROBOT = reference.ROOT / "lerobot"
both_models = pytest.mark.parametrize("name", reference.MODELS)


def same_tensors(one: Path, other: Path) -> bool:
    ours, theirs = load_file(one), load_file(other)
    return ours.keys() == theirs.keys() and all(
        ours[key].dtype == theirs[key].dtype and torch.equal(ours[key], theirs[key]) for key in theirs
    )


@both_models
def test_lerobot_to_ours_and_back_is_bit_equal(name, tmp_path):
    convert_checkpoint(LEROBOT / name, tmp_path / "ours", config=HEADS)
    convert_checkpoint(tmp_path / "ours", tmp_path / "back", "lerobot")
    files = sorted(file.name for file in (LEROBOT / name).glob("*.safetensors"))
    assert len(files) == 3
    for file in files:
        assert same_tensors(tmp_path / "back" / file, LEROBOT / name / file), file
    theirs = json.loads((LEROBOT / name / "config.json").read_text())
    ours = json.loads((tmp_path / "back" / "config.json").read_text())
    assert ours.keys() <= theirs.keys()  # LeRobot's parser refuses others
    for features in (theirs["input_features"], ours["input_features"]):
        for feature in features.values():
            feature["shape"] = feature["shape"][:1]  # image sizes are the dataset's, no model knows them
    assert {key for key in ours if ours[key] != theirs[key]} == {"device"}
    for file in ("policy_preprocessor.json", "policy_postprocessor.json"):
        steps, wanted = (
            [(step["registry_name"], step.get("state_file"), step["config"].keys()) for step in content["steps"]]
            for content in (json.loads((root / file).read_text()) for root in (tmp_path / "back", LEROBOT / name))
        )
        assert steps == wanted


@both_models
@pytest.mark.parametrize("to", ["pi0_ros", "openpi", "lerobot"])
def test_jax_to_every_format_keeps_weights_and_meaning(name, to, tmp_path):
    source, result = reference.ROOT / name / "checkpoint", tmp_path / "result"
    asset = "trossen" if name == "pi0" else None
    convert_checkpoint(source, result, to, asset_id=asset)
    found = verify_checkpoints(source, result, config=HEADS, num_steps=3)
    assert found.equal and found.actions < 1e-4 < found.scale and not found.config
    before = describe_checkpoint(source, asset_id=asset)
    after = describe_checkpoint(result, config=HEADS, asset_id=asset if to == "openpi" else None)
    assert after.format == {"openpi": "openpi_torch"}.get(to, to)
    x = np.linspace(-2, 2, before.action_dim)
    for key in ("state", "actions"):
        old, new = (getattr(description.norm_stats, key) for description in (before, after))
        kinds = [
            getattr(d.settings, f"{'state' if key == 'state' else 'action'}_normalization") for d in (before, after)
        ]
        np.testing.assert_allclose(unnormalize(x, new, kinds[1]), unnormalize(x, old, kinds[0]), atol=2e-6)
        np.testing.assert_allclose(normalize(x, new, kinds[1]), normalize(x, old, kinds[0]), atol=1e-4, rtol=1e-5)


def test_openpi_folders_hold_the_table_under_the_heads_name(tmp_path):
    convert_checkpoint(LEROBOT / "pi0", tmp_path / "torch", "openpi", config=HEADS)
    theirs = load_file(LEROBOT / "pi0" / "model.safetensors")
    with safe_open(tmp_path / "torch" / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", EMBEDDING: TIED_HEAD}
        assert EMBEDDING not in file.keys()  # noqa: SIM118
        assert torch.equal(file.get_tensor(TIED_HEAD), theirs[f"model.{EMBEDDING}"])
        assert torch.equal(file.get_tensor(UNUSED_HEAD), theirs[f"model.{UNUSED_HEAD}"])
    assert json.loads((tmp_path / "torch" / "config.json").read_text())["action_horizon"] == 7


def test_heads_that_nobody_has_are_the_table_and_zeros(tmp_path):
    convert_checkpoint(reference.ROOT / "pi05" / "checkpoint", tmp_path / "lerobot", "lerobot")
    found = load_file(tmp_path / "lerobot" / "model.safetensors")
    assert torch.equal(found[f"model.{TIED_HEAD}"], found[f"model.{EMBEDDING}"])
    unused = found[f"model.{UNUSED_HEAD}"]
    assert unused.shape == (512, 32) and not unused.any()


def test_a_head_that_is_the_table_is_not_kept_twice(tmp_path):
    convert_checkpoint(reference.ROOT / "pi05" / "checkpoint", tmp_path / "lerobot", "lerobot")
    convert_checkpoint(tmp_path / "lerobot", tmp_path / "ours", config=HEADS)
    assert TIED_HEAD not in load_file(tmp_path / "ours" / "model.safetensors")


def test_bfloat16_spares_what_the_model_keeps_in_float32(tmp_path):
    source = reference.ROOT / "pi05" / "checkpoint"
    convert_checkpoint(source, tmp_path / "half", dtype="bfloat16")
    found = load_file(tmp_path / "half" / "model.safetensors")
    exact = load_file(reference.ROOT / "pi05" / "model.safetensors")
    islands = {name for name, tensor in found.items() if tensor.dtype == torch.float32}
    assert "action_in_proj.weight" in islands and EMBEDDING not in islands and 0 < len(islands) < len(found)
    assert all(torch.equal(found[name], exact[name].to(found[name].dtype)) for name in exact)
    assert describe_checkpoint(tmp_path / "half").config.dtype == "bfloat16"
    again = load_model(tmp_path / "half", dtype="bfloat16").model
    direct = load_model(source, dtype="bfloat16").model
    pairs = zip(again.parameters(), direct.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_robot_and_tokenizer_travel_along(tmp_path):
    robot, tokenizer = load_robot("demo_arm"), reference.ROOT / "tokenizer" / "tiny.model"
    source = reference.ROOT / "pi0" / "checkpoint"
    convert_checkpoint(source, tmp_path / "ours", robot=robot, tokenizer=tokenizer, asset_id="trossen")
    convert_checkpoint(tmp_path / "ours", tmp_path / "lerobot", "lerobot")
    for folder in ("ours", "lerobot"):
        found = describe_checkpoint(tmp_path / folder, config=HEADS)
        assert found.robot == robot
        text = Tokenizer.load(found.tokenizer_path).encode_prompt(found.config, "pick up the block")[0]
        assert text.tolist() == Tokenizer.load(tokenizer).encode_prompt(found.config, "pick up the block")[0].tolist()
    relative = describe_checkpoint(tmp_path / "lerobot", config=HEADS).settings
    assert list(relative.relative_actions[: len(robot.joints)]) == list(robot.relative_mask)


def test_transformers_reads_the_tokenizer_of_a_lerobot_folder(tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("google.protobuf")
    tokenizer = reference.ROOT / "tokenizer" / "tiny.model"
    convert_checkpoint(reference.ROOT / "pi05" / "checkpoint", tmp_path / "lerobot", "lerobot", tokenizer=tokenizer)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "lerobot" / "tokenizer")
    for case in json.loads((reference.ROOT / "tokenizer" / "expected.json").read_text()):
        if case["format"] == "lerobot_pi0":
            text = case["prompt"] if case["prompt"].endswith("\n") else case["prompt"] + "\n"
            assert theirs(text)["input_ids"][: case["n_valid"]] == case["tokens"][: case["n_valid"]]


@pytest.mark.parametrize(
    ("mask", "names", "words"),
    [
        ((True, True, False), ("a.pos", "b.pos", "gripper.pos"), ["gripper"]),
        ((True, False, True), ("a.pos", "b.pos", "gripper.pos"), ["b.pos"]),
        ((True, True, True), ("a.pos", "b.pos", "gripper.pos"), []),
        ((False, False, False), None, ["gripper"]),
        ((True, False, True), None, ["dim_01"]),
    ],
)
def test_relative_actions_are_said_by_words(mask, names, words, tmp_path):
    ours = convert_checkpoint(reference.ROOT / "pi05" / "checkpoint", tmp_path / "ours")
    config = json.loads((ours / "config.json").read_text())
    config["policy"] |= {"relative_actions": mask} | ({"action_names": names} if names else {})
    (ours / "config.json").write_text(json.dumps(config))
    three = {field: array[:3] for field, array in describe_checkpoint(ours).norm_stats.actions.present().items()}
    stats = NormStats(describe_checkpoint(ours).norm_stats.state, Stats(**three))
    (ours / "norm_stats.json").write_text(json.dumps(stats.to_dict()))
    convert_checkpoint(ours, tmp_path / "lerobot", "lerobot")
    assert json.loads((tmp_path / "lerobot" / "config.json").read_text())["relative_exclude_joints"] == words
    assert describe_checkpoint(tmp_path / "lerobot", config=HEADS).settings.relative_actions == mask


def test_actions_that_words_cannot_tell_apart_are_an_error(tmp_path):
    ours = convert_checkpoint(reference.ROOT / "pi05" / "checkpoint", tmp_path / "ours")
    config = json.loads((ours / "config.json").read_text())
    config["policy"] |= {"relative_actions": [False, True], "action_names": ["joint_1", "joint_10"]}
    (ours / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="joint_1 cannot be told from the others among joint_1, joint_10"):
        convert_checkpoint(ours, tmp_path / "lerobot", "lerobot")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["ours"]


def test_a_policy_without_state_text_is_nothing_lerobot_has(tmp_path):
    source = reference.ROOT / "pi05" / "checkpoint"
    with pytest.raises(CheckpointError, match="this pi0.5 model gets no state"):
        convert_checkpoint(source, tmp_path / "lerobot", "lerobot", config={"discrete_state_input": False})


@pytest.mark.parametrize("wanted", sorted(set(NORMALIZATIONS) - {"identity"}))
@pytest.mark.parametrize("kind", sorted(NORMALIZATIONS))
def test_statistics_said_in_another_kind_mean_the_same(kind, wanted):
    rng = np.random.default_rng(0)
    low, x = rng.normal(size=5), rng.normal(size=(7, 5))
    spans = {"q99": low + 2, "q90": low + 1, "max": low + 3, "mean": low, "std": np.full(5, 0.7)}
    stats = Stats() if kind == "identity" else Stats(q01=low, q10=low, min=low, **spans)
    said = renormalize(stats, kind, wanted, 5)
    np.testing.assert_allclose(unnormalize(x, said, wanted), unnormalize(x, stats, kind), atol=1e-12)
    np.testing.assert_allclose(normalize(x, said, wanted), normalize(x, stats, kind), atol=1e-5, rtol=1e-5)


def test_nothing_is_overwritten_and_nothing_half_written_stays(tmp_path, monkeypatch):
    source = reference.ROOT / "pi05" / "checkpoint"
    (tmp_path / "there").mkdir()
    with pytest.raises(CheckpointError, match="something is there already"):
        convert_checkpoint(source, tmp_path / "there")
    with pytest.raises(CheckpointError, match="no format 'onnx'"):
        convert_checkpoint(source, tmp_path / "new", "onnx")

    def full_disk(descriptor):
        raise OSError("No space left on device")

    monkeypatch.setattr("pi0_ros.checkpoints.safetensors_files.os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        convert_checkpoint(source, tmp_path / "new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["there"]


def test_progress_counts_every_byte(tmp_path):
    calls: list[tuple[int, int]] = []
    convert_checkpoint(
        reference.ROOT / "pi05" / "checkpoint",
        tmp_path / "new",
        progress=lambda done, total: calls.append((done, total)),
    )
    sizes = [tensor.numel() * 4 for tensor in load_file(tmp_path / "new" / "model.safetensors").values()]
    assert [total for _, total in calls] == [sum(sizes)] * len(sizes)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls) and calls[-1][0] == sum(sizes)


def test_verify_finds_what_differs(tmp_path):
    config = reference.config("pi0")
    model = reference.model("pi0")
    assert isinstance(model, Pi0)
    save_model(model, tmp_path / "one.safetensors")
    with torch.no_grad():
        model.action_out_proj.bias[3] += 0.5
    save_model(model, tmp_path / "two.safetensors")
    found = verify_checkpoints(tmp_path / "one.safetensors", tmp_path / "two.safetensors", config=config)
    assert found.weights == {"action_out_proj.bias": pytest.approx(0.5, abs=1e-6)} and not found.equal
    assert found.actions > 0.1
    with pytest.raises(CheckpointError, match="model is pi0 and pi05"):
        verify_checkpoints(reference.ROOT / "pi0" / "checkpoint", reference.ROOT / "pi05" / "checkpoint")


def test_verify_names_what_weights_do_not_show(tmp_path):
    source = reference.ROOT / "pi0" / "checkpoint"
    ours, other = (convert_checkpoint(source, tmp_path / str(n), config={"action_horizon": n}) for n in (9, 11))
    found = verify_checkpoints(ours, other, num_steps=2)
    assert found.equal and found.config == {"action_horizon": (9, 11)} and found.actions == 0
    assert not verify_checkpoints(source, ours, num_steps=1).config  # of the source's horizon nothing is known


def test_verify_compares_what_statistics_mean(tmp_path):
    source = reference.ROOT / "pi0" / "checkpoint"
    lerobot = convert_checkpoint(source, tmp_path / "lerobot", "lerobot", asset_id="trossen")
    found = verify_checkpoints(source, lerobot, config=HEADS, asset_id="trossen", num_steps=1).statistics
    assert found.keys() == {"chosen state", "chosen actions"} and max(found.values()) < 1e-6
    moved = convert_checkpoint(source, tmp_path / "moved", "lerobot", asset_id="trossen")
    path = next(moved.glob("*unnormalizer_processor.safetensors"))
    arrays = load_file(path)
    arrays["action.mean"][3] += 0.1 * arrays["action.std"][3]
    save_file(arrays, path)
    found = verify_checkpoints(lerobot, moved, config=HEADS, num_steps=1).statistics
    assert found["chosen state"] == 0 and found["chosen actions"] == pytest.approx(0.1, rel=1e-4)
    other = verify_checkpoints(source, lerobot, config=HEADS, asset_id="physical-intelligence/libero", num_steps=1)
    assert other.statistics["chosen actions"] == np.inf  # seven dimensions against fourteen


def test_statistics_stay_inside_the_folder(tmp_path):
    for name in ("../../elsewhere", "/elsewhere", "a//b"):
        with pytest.raises(CheckpointError, match=f"'{name}' cannot be the id of statistics"):
            convert_checkpoint(LEROBOT / "pi0", tmp_path / "new", "openpi", config=HEADS, asset_id=name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("to", ["pi0_ros", "lerobot"])
def test_the_tokenizer_may_be_named_by_its_folder(to, tmp_path):
    source, folder = reference.ROOT / "pi0" / "checkpoint", LEROBOT / "pi0" / "tokenizer"
    convert_checkpoint(source, tmp_path / "new", to, asset_id="trossen", tokenizer=folder)
    found = describe_checkpoint(tmp_path / "new", config=HEADS)
    assert found.tokenizer_path.read_bytes() == (folder / "tokenizer.model").read_bytes()
    with pytest.raises(CheckpointError, match="neither tokenizer.model nor tokenizer.json is in it"):
        convert_checkpoint(source, tmp_path / "other", to, asset_id="trossen", tokenizer=tmp_path)


def test_verify_sees_what_is_not_a_number(tmp_path):
    convert_checkpoint(LEROBOT / "pi0", tmp_path / "ours", config=HEADS)
    tensors = load_file(tmp_path / "ours" / "model.safetensors")
    tensors["state_proj.bias"][-1] = torch.nan
    save_file(tensors, tmp_path / "ours" / "model.safetensors")
    found = verify_checkpoints(LEROBOT / "pi0", tmp_path / "ours", config=HEADS, num_steps=1)
    assert found.weights.keys() == {"state_proj.bias"} and np.isnan(found.actions)


def test_verify_gives_both_models_the_same_times(tmp_path):
    convert_checkpoint(reference.ROOT / "pi0" / "checkpoint", tmp_path / "new", "lerobot", asset_id="trossen")
    assert verify_checkpoints(reference.ROOT / "pi0" / "checkpoint", tmp_path / "new", config=HEADS).actions == 0


def test_verify_needs_an_input():
    with pytest.raises(CheckpointError, match="0 random inputs compare nothing"):
        verify_checkpoints(LEROBOT / "pi0", LEROBOT / "pi0", config=HEADS, batch=0)


def test_lerobot_gets_the_robots_dimensions_of_padded_statistics(tmp_path):
    shutil.copytree(reference.ROOT / "pi0" / "checkpoint", tmp_path / "base")
    file = tmp_path / "base/assets/trossen/norm_stats.json"
    content = json.loads(file.read_text())
    for part in content["norm_stats"].values():
        part.update({field: values + [0.0] * (32 - len(values)) for field, values in part.items()})
    file.write_text(json.dumps(content))
    options = {"asset_id": "trossen", "robot": load_robot("aloha")}
    convert_checkpoint(tmp_path / "base", tmp_path / "new", "lerobot", **options)
    found = describe_checkpoint(tmp_path / "new", config=HEADS)
    assert (found.state_dim, found.action_dim) == (14, 14)
    assert (found.norm_stats.state.dim, len(found.settings.relative_actions)) == (14, 14)
    statistics = verify_checkpoints(tmp_path / "base", tmp_path / "new", config=HEADS, asset_id="trossen").statistics
    assert statistics and max(statistics.values()) < 1e-6
