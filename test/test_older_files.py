"""What an older release has written is read today, to the same numbers."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
from policy_fixtures import FIXTURES, observation, tiny_robot

from pi0_ros.checkpoints.checkpoint import load_checkpoint
from pi0_ros.checkpoints.norm_stats import NormStats, load_norm_stats
from pi0_ros.cli.main import main
from pi0_ros.datasets.dataset import Dataset
from pi0_ros.policy.policy import Policy
from pi0_ros.training.loader import load_data
from pi0_ros.training.recipe import RecipeError
from pi0_ros.training.state import check_same_run
from pi0_ros.training.statistics import NORM_STATS_PATH

OLDER = FIXTURES / "older"
CONFIG = """
threads: 1
held_out: 0
stages:
- {name: few, steps: 2, batch: 4, lr: 1.0e-3, warmup: 1}
"""


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A copy, with the frame cache younger than its dataset, as it was made."""
    shutil.copytree(OLDER, tmp_path / "older")
    os.utime(tmp_path / "older" / "v30" / "cache" / "base_24.npy")
    return tmp_path / "older"


def numbers(stats: NormStats) -> np.ndarray:
    return np.stack([getattr(s, key) for s in (stats.state, stats.actions) for key in ("mean", "std", "q01", "q99")])


def test_a_checkpoint_gives_the_same_actions() -> None:
    expected = json.loads((OLDER / "expected.json").read_text())
    policy = Policy(load_checkpoint(OLDER / "checkpoint"), seed=expected["seed"])
    chunk = policy.infer(observation(tiny_robot()))
    np.testing.assert_allclose(chunk.actions, expected["actions"], atol=1e-5)


@pytest.mark.parametrize("folder", ["v30", "v21"])
def test_a_dataset_has_the_same_statistics(older: Path, folder: str) -> None:
    written = load_norm_stats(OLDER / "v30" / NORM_STATS_PATH)
    assert main(["stats", str(older / folder)]) == 0
    np.testing.assert_allclose(numbers(load_norm_stats(older / folder / NORM_STATS_PATH)), numbers(written), atol=1e-6)


def test_its_frame_cache_is_what_would_be_made_today(older: Path) -> None:
    cache = older / "v30" / "cache" / "base_24.npy"
    written_at, reused = cache.stat().st_mtime_ns, load_data(older / "v30", 24).frames
    assert cache.stat().st_mtime_ns == written_at, "it was made anew"
    shutil.rmtree(cache.parent)
    anew = load_data(older / "v30", 24).frames
    for camera in ("base", "wrist"):
        np.testing.assert_array_equal(reused[camera], anew[camera])


def test_both_formats_hold_the_same_rows() -> None:
    (new,), (old,) = (Dataset(OLDER / folder).episodes for folder in ("v30", "v21"))
    np.testing.assert_array_equal(new.state, old.state)
    np.testing.assert_array_equal(new.action, old.action)
    assert new.prompt == old.prompt and new.length == 79


@pytest.mark.parametrize("folder", ["v30", "v21"])
def test_a_policy_is_trained_from_them_and_judged(older: Path, folder: str) -> None:
    config, out = older / "few.yaml", older / "run"
    config.write_text(CONFIG)
    assert main(["stats", str(older / folder), "--horizon", "5"]) == 0
    words = ["train", str(older / folder), "--config", str(config), "--init", str(older / "checkpoint")]
    assert main([*words, "--out", str(out)]) == 0
    judged = ["eval", str(older / folder), "--checkpoint", str(out / "checkpoint"), "--episodes", "all"]
    assert main([*judged, "--stride", "40", "--out", str(older / "eval")]) == 0
    assert (older / "eval" / "error.json").is_file()


def test_a_run_that_an_older_release_began_says_how_to_go_on(older: Path) -> None:
    folder = older / "unfinished"
    recipe = json.loads((folder / "config.json").read_text())["training"]["recipe"]
    with pytest.raises(RecipeError, match="begun by another release.*--init"):
        check_same_run(folder, {"recipe": recipe | {"a_key_of_today": 1}})
    with pytest.raises(RecipeError, match="was trained with other seed: use the same"):
        check_same_run(folder, {"recipe": recipe | {"seed": 7}})
    check_same_run(folder, {"recipe": recipe})
