"""Predicted against recorded actions: the numbers, the picture, the command."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from synthetic import ROBOT, make_data, make_source
from test_loop import STAGES, recipe

from pi0_ros.checkpoints.checkpoint import load_checkpoint
from pi0_ros.cli import eval as evaluate
from pi0_ros.sim.grounding import Grounding
from pi0_ros.training.evaluation import Predictions, errors, held_out_episodes, plot_actions, predict, render_table
from pi0_ros.training.loop import train_on

JOINTS = [(joint.name, joint.unit) for joint in ROBOT.joints]


@pytest.fixture(scope="module")
def checkpoint_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_on(
        [make_source(make_data(9, length=15))],
        recipe(STAGES[1:]),
        tmp_path_factory.mktemp("run"),
        notes={"dataset": "d"},
        auxiliary={"grounding": Grounding},
    )


def test_errors_are_in_joint_units_and_relative_to_holding() -> None:
    recorded = np.zeros((4, 3, 6))
    recorded[..., 0] = 0.2
    predicted = recorded.copy()
    predicted[:, -1, 0] += 0.3
    table = errors(Predictions(np.arange(4), predicted, recorded, np.zeros((4, 6)), 1.0), JOINTS)
    yaw = table[0]
    assert (yaw["joint"], yaw["unit"]) == ("yaw", "rad")
    assert [yaw[key] for key in ("mean", "first", "last")] == pytest.approx([0.1, 0.0, 0.3])
    assert yaw["of_holding"] == pytest.approx(0.5)
    assert table[-1]["of_holding"] == pytest.approx(0.5)  # joints that stand still do not count
    assert "yaw" in render_table(table) and "50%" in render_table(table)


def test_predictions_cover_the_episodes_and_repeat_with_their_seed(checkpoint_folder: Path, tmp_path: Path) -> None:
    checkpoint, data = load_checkpoint(checkpoint_folder), make_data(9, length=15)
    held_out = held_out_episodes(checkpoint, data)
    assert held_out == checkpoint.training["held_out_episodes"]
    assert held_out_episodes(checkpoint, make_data(9, length=15, seed=1)) == list(range(9))
    first, second = (predict(checkpoint, data, held_out, stride=4, seed=5) for _ in range(2))
    assert first.rows.tolist() == [15 * episode + k for episode in held_out for k in (0, 4, 8, 12)]
    assert first.predicted.shape == (4 * len(held_out), 6, 6) and np.array_equal(first.predicted, second.predicted)
    assert np.array_equal(first.recorded[0], data.action[first.rows[0] : first.rows[0] + 6].astype(np.float64))
    plot_actions(first, data, held_out[0], JOINTS, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10000


def test_the_command_prints_a_table_and_writes_its_results(
    checkpoint_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluate, "open_data", lambda *_: make_data(9, length=15))
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    base = ["d", "--checkpoint", str(checkpoint_folder), "--out", str(tmp_path)]
    assert evaluate.run(parser.parse_args(base)) == 0
    assert "of holding" in capsys.readouterr().out
    result = json.loads((tmp_path / "error.json").read_text())
    assert result["episodes"] == load_checkpoint(checkpoint_folder).training["held_out_episodes"]
    assert len(result["errors"]) == 7 and (tmp_path / "actions.png").exists()
    with pytest.raises(ValueError, match="no episode"):
        evaluate.run(parser.parse_args([*base, "--episodes", "99"]))
