"""Checkpoint folders: whole or not there, and every defect is named."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from policy_fixtures import TOKENIZER, tiny_checkpoint, tiny_config, tiny_robot, tiny_stats

from pi0_ros.checkpoints import folders as module
from pi0_ros.checkpoints.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from pi0_ros.checkpoints.describe import load_spec
from pi0_ros.checkpoints.settings import PolicySettings
from pi0_ros.model.pi0 import Pi0

FILES = {"model.safetensors", "config.json", "robot.yaml", "norm_stats.json", "tokenizer.model"}
SETTINGS = PolicySettings("quantile", "quantile", 15.0, 7)


def save(folder: Path, **more) -> tuple[Pi0, Path]:
    torch.manual_seed(1)
    model = Pi0(tiny_config())
    return model, save_checkpoint(
        folder, model, tiny_config(), SETTINGS, tiny_robot(), tiny_stats(6), TOKENIZER, **more
    )


def test_round_trip(tmp_path: Path) -> None:
    model, folder = save(tmp_path / "best", training={"step": 20, "dataset": "cubes"})
    assert {path.name for path in folder.iterdir()} == FILES
    loaded = load_checkpoint(folder)
    assert loaded.spec.config == tiny_config()
    assert loaded.spec.settings == SETTINGS
    assert loaded.spec.robot == tiny_robot()
    assert loaded.spec.norm_stats.to_dict() == tiny_stats(6).to_dict()
    assert loaded.training == {"step": 20, "dataset": "cubes"}
    assert not loaded.model.training
    assert all(torch.equal(a, b) for a, b in zip(loaded.model.parameters(), model.parameters()))


def test_spec_alone(tmp_path: Path) -> None:
    assert load_spec(save(tmp_path / "best")[1]).settings == SETTINGS


def test_it_can_be_moved(tmp_path: Path) -> None:
    folder = save(tmp_path / "best")[1]
    load_checkpoint(folder.rename(tmp_path / "elsewhere"))


def test_further_files_travel_along(tmp_path: Path) -> None:
    def optimizer(folder: Path) -> None:
        (folder / "train_state").mkdir()
        (folder / "train_state" / "step").write_text("20")

    folder = save(tmp_path / "best", write_more=optimizer)[1]
    assert (folder / "train_state" / "step").read_text() == "20"
    load_checkpoint(folder)


def test_saving_again_replaces_and_leaves_nothing_behind(tmp_path: Path) -> None:
    save(tmp_path / "best", training={"step": 1})
    save(tmp_path / "best", training={"step": 2})
    assert load_checkpoint(tmp_path / "best").training == {"step": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_a_failing_writer_leaves_the_previous_one(tmp_path: Path) -> None:
    save(tmp_path / "best", training={"step": 1})

    def disk_full(folder: Path) -> None:
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        save(tmp_path / "best", write_more=disk_full)
    assert load_checkpoint(tmp_path / "best").training == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


class Killed(BaseException):
    """The process is gone: nothing more runs."""


@pytest.mark.parametrize("renames_done", [0, 1, 2])
def test_a_killed_writer_leaves_a_whole_checkpoint(
    renames_done: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever rename is the last one that happens; the next writer cleans up."""
    save(tmp_path / "best", training={"step": 1})
    real, count = Path.rename, 0

    def rename(self: Path, target: Path) -> Path:
        nonlocal count
        count += 1
        if count > renames_done:
            raise Killed
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        patch.setattr(module.shutil, "rmtree", lambda *args, **kwargs: None)
        with contextlib.suppress(Killed):
            save(tmp_path / "best", training={"step": 2})
    assert load_checkpoint(tmp_path / "best").training == {"step": 2 if renames_done == 2 else 1}
    save(tmp_path / "best", training={"step": 3})
    assert load_checkpoint(tmp_path / "best").training == {"step": 3}
    assert not list(tmp_path.glob(".best.previous"))


def change(key: str, value: object):
    def edit(folder: Path) -> None:
        path = folder / "config.json"
        content = json.loads(path.read_text())
        target = content
        *parents, last = key.split(".")
        for parent in parents:
            target = target[parent]
        if value is None:
            del target[last]
        else:
            target[last] = value
        path.write_text(json.dumps(content))

    return edit


def write(name: str, text: str):
    return lambda folder: (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "robot.yaml").unlink(), "no robot file in it: say which robot it drives"),
        (lambda folder: (folder / "model.safetensors").unlink(), "config.json is there but no model.safetensors"),
        (write("config.json", "{"), r"config.json: not JSON"),
        (write("config.json", "[]"), "config.json: expected a JSON mapping"),
        (change("format", "other"), "how many heads the vision tower"),
        (change("version", 2), "'version' is 2"),
        (change("extra", 1), "unknown key.*extra"),
        (change("model", "pi0"), "'model' must be a mapping"),
        (change("model.action_dim", None), "config.json: 'model': .*action_dim"),
        (change("policy.fps", 0), "config.json: 'policy': .*fps"),
        (change("policy.state_normalization", "minmax"), "'policy': normalization is 'minmax'"),
        (change("model.action_dim", 9), "model.safetensors: its files say action_dim 9, its tensors 8"),
        (change("model.action_dim", 4), "its files say action_dim 4, its tensors 8"),
        (write("norm_stats.json", "{}"), "norm_stats.json.*norm_stats.state"),
        (write("robot.yaml", "name: x"), "robot.yaml"),
        (write("tokenizer.model", "nonsense"), "tokenizer.model"),
        (write("model.safetensors", "nonsense"), "model.safetensors"),
    ],
)
def test_every_defect_is_named(damage, message: str, tmp_path: Path) -> None:
    folder = save(tmp_path / "best")[1]
    damage(folder)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder)
    assert caught.match("(?s)" + message)
    assert str(folder) in str(caught.value)


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no such checkpoint"):
        load_checkpoint(tmp_path / "nothing")


def test_equal_seeds_make_equal_tiny_checkpoints(tmp_path: Path) -> None:
    """The tests of server and node count on it."""
    first, second = (load_checkpoint(tiny_checkpoint(tmp_path / name)) for name in "ab")
    for a, b in zip(first.model.parameters(), second.model.parameters()):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())
