"""Joined datasets hold the same frames bit by bit, exact statistics, and nothing half-written."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import motion
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pi0_ros.cli.main import main
from pi0_ros.datasets import merge as merging
from pi0_ros.datasets.checks import check_dataset
from pi0_ros.datasets.dataset import Dataset
from pi0_ros.datasets.folder import DatasetFolder
from pi0_ros.datasets.layout import DatasetError
from pi0_ros.datasets.merge import merge
from pi0_ros.robot import robot_to_yaml

BAG = {"bag": "monday/a", "status": "converted", "reason": "", "duration_s": 3.0, "identity": "a"}
OTHER = {"bag": "tuesday/b", "status": "skipped", "reason": "outcome is 'failure'", "duration_s": 2.0, "identity": "b"}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("merge")
    first = motion.make(folder / "monday", bags=[BAG])
    prompts = ("put the blue cube in the tray", "put the green cube in the tray")
    return first, motion.make(folder / "tuesday", lengths=(41, 58), prompts=prompts, seed=9, bags=[OTHER])


def test_all_episodes_in_order_bit_by_bit(sources: tuple[Path, Path], tmp_path: Path) -> None:
    merge(tmp_path / "out", sources)
    before = [episode for path in sources for episode in Dataset(path).episodes]
    after = Dataset(tmp_path / "out").episodes
    assert [episode.index for episode in after] == list(range(5))
    for old, new in zip(before, after, strict=True):
        assert (new.prompt, new.labels) == (old.prompt, old.labels)
        assert new.labels[0][1] == "grasp"
        for name in ("state", "action", "idle"):
            assert np.array_equal(getattr(new, name), getattr(old, name)), name
        for camera in ("base", "wrist"):
            assert np.array_equal(new.frames(camera), old.frames(camera))
    assert not [f for f in check_dataset(tmp_path / "out", full=True) if f.severity != "note"]


def test_statistics_are_those_of_all_rows(sources: tuple[Path, Path], tmp_path: Path) -> None:
    merge(tmp_path / "out", sources)
    stats = json.loads((tmp_path / "out/meta/stats.json").read_text())
    actions = np.concatenate([DatasetFolder(path).columns["action"] for path in sources]).astype(np.float64)
    for name, share in (("q01", 0.01), ("q50", 0.5), ("q99", 0.99)):
        assert np.allclose(stats["action"][name], np.quantile(actions, share, axis=0))
    assert np.allclose(stats["action"]["std"], actions.std(axis=0))
    counts, means = zip(*(_image(path, "observation.images.base") for path in sources))
    mean = np.average(means, axis=0, weights=counts)
    assert np.allclose(np.ravel(stats["observation.images.base"]["mean"]), mean)
    assert stats["observation.images.base"]["count"] == [255]


def _image(path: Path, key: str) -> tuple[int, np.ndarray]:
    stats = json.loads((path / "meta/stats.json").read_text())[key]
    return stats["count"][0], np.ravel(stats["mean"])


def test_reports_and_robot_file_travel(sources: tuple[Path, Path], tmp_path: Path) -> None:
    made = merge(tmp_path / "out", sources)
    assert made.robot == motion.ROBOT
    assert [bag["bag"] for bag in made.conversion["bags"]] == ["monday/a", "tuesday/b"]
    assert [item["dataset"] for item in made.conversion["merged"]] == ["monday", "tuesday"]
    assert made.tasks == [motion.PROMPTS[0], motion.PROMPTS[1], "put the blue cube in the tray"]


def test_one_row_group_for_each_episode_and_files_that_roll_over(
    sources: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = merge(tmp_path / "out", sources)
    groups = pq.read_metadata(made.data_files[0])
    assert [groups.row_group(i).num_rows for i in range(5)] == [60, 44, 52, 41, 58]
    monkeypatch.setattr(merging, "DATA_MB", 1e-6)
    small = merge(tmp_path / "small", sources)
    assert len(small.data_files) == 5
    assert not [f for f in check_dataset(tmp_path / "small") if f.severity != "note"]


def test_older_format_becomes_v30(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = motion.make(tmp_path / "old", v21=True)
    assert "v2.1" in DatasetFolder(old).version
    assert main(["dataset", "merge", str(tmp_path / "new"), str(old)]) == 0
    assert "3 episodes, 156 frames, 2 tasks from 1 datasets" in capsys.readouterr().out
    folders = DatasetFolder(old), Dataset(tmp_path / "new")
    for entry, episode in zip(folders[0].entries, folders[1].episodes, strict=True):
        assert np.array_equal(folders[0].columns["action"][folders[0].rows(entry)], episode.action)
        (frame,) = folders[0].frames(entry, "observation.images.base", [7])
        assert np.array_equal(frame, episode.frames("base", 7, 8)[0])
    assert not [f for f in check_dataset(tmp_path / "new", full=True) if f.severity != "note"]


def _edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda info: info.update(fps=30), "fps is 30, not 20"),
        (lambda info: info.update(robot_type="other"), "robot_type is other, not demo_arm"),
        (lambda info: info["features"].pop("idle"), "the feature idle is missing in .*b"),
        (lambda info: info["features"]["action"].update(names=list("abcdef")), "names of action is"),
        (lambda info: info["features"]["observation.images.base"].update(shape=[96, 96, 3]), "shape of observation"),
        (
            lambda info: info["features"]["observation.images.base"]["info"].update({"video.codec": "av1"}),
            "observation.images.base is coded in av1, not h264",
        ),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    first, second = (motion.make(tmp_path / name, lengths=(21,), prompts=("red",)) for name in "ab")
    _edit(second / "meta/info.json", change)
    with pytest.raises(DatasetError, match=message):
        merge(tmp_path / "out", [first, second])
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("out")]


def test_another_robot_file_is_refused(tmp_path: Path) -> None:
    first, second = (motion.make(tmp_path / name, lengths=(21,), prompts=("red",)) for name in "ab")
    robot = dataclasses.replace(motion.ROBOT, prompt="another")
    (second / "meta/pi0_robot.yaml").write_text(robot_to_yaml(robot))
    with pytest.raises(DatasetError, match=r"different robot files \(prompt\)"):
        merge(tmp_path / "out", [first, second])


def test_nothing_is_left_of_a_merge_that_fails(sources: tuple[Path, Path], tmp_path: Path) -> None:
    def fail(text: str, frames: int) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        merge(tmp_path / "out", sources, fail)
    assert not list(tmp_path.iterdir())
    waiting = tmp_path / "out.partial/episodes"  # bags that a stopped conversion has finished
    waiting.mkdir(parents=True)
    merge(tmp_path / "out", sources[:1])
    assert waiting.is_dir()
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out").mkdir()
    with pytest.raises(DatasetError, match="exists"):
        merge(tmp_path / "out", sources)


def test_one_dataset_under_two_names_is_refused(sources: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "again").symlink_to(sources[0])
    with pytest.raises(DatasetError, match="is given twice"):
        merge(tmp_path / "out", [sources[0], tmp_path / "again"])
    assert not (tmp_path / "out").exists()


def test_links_of_a_cache_are_followed(tmp_path: Path) -> None:
    """In the Hugging Face cache every file is a relative link into a folder of blobs."""
    source, cache = motion.make(tmp_path / "source"), tmp_path / "cache"
    for number, file in enumerate(path for path in sorted(source.rglob("*")) if path.is_file()):
        blob, link = cache / "blobs" / str(number), cache / "snapshots" / "main" / file.relative_to(source)
        blob.parent.mkdir(parents=True, exist_ok=True)
        link.parent.mkdir(parents=True, exist_ok=True)
        file.rename(blob)
        link.symlink_to(os.path.relpath(blob, link.parent))
    made = merge(tmp_path / "out", [cache / "snapshots" / "main"])
    shutil.rmtree(cache)
    assert not [path for path in made.path.rglob("*") if path.is_symlink()]
    assert not [finding for finding in check_dataset(made.path) if finding.severity == "error"]


def test_a_link_to_nothing_is_no_success(tmp_path: Path) -> None:
    source = motion.make(tmp_path / "source")
    video = next(source.rglob("*.mp4"))
    video.unlink()
    video.symlink_to("nowhere.mp4")
    with pytest.raises(DatasetError, match=r"missing: it leads to .*nowhere.mp4"):
        merge(tmp_path / "out", [source])
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.merging").exists()


def test_demonstrations_and_corrections_come_together(sources: tuple[Path, Path], tmp_path: Path) -> None:
    """Only the second says which frames a person led in takeovers: in the other there were none."""
    corrected = shutil.copytree(sources[1], tmp_path / "corrected")
    info = json.loads((corrected / "meta/info.json").read_text())
    info["features"]["takeover"] = dict(info["features"]["idle"])
    (corrected / "meta/info.json").write_text(json.dumps(info))
    for file in (corrected / "data").rglob("*.parquet"):
        table = pq.read_table(file)
        led = pa.array(np.arange(len(table)) % 3 == 0)
        pq.write_table(table.append_column("takeover", led), file)
    for order in (sources[0], corrected), (corrected, sources[0]):
        merge(tmp_path / order[0].name / "out", order)
        episodes = Dataset(tmp_path / order[0].name / "out").episodes
        took = [episode.takeover for episode in episodes]
        assert [bool(t is not None and t.any()) for t in took] == (
            [False] * 3 + [True] * 2 if order[1] is corrected else [True] * 2 + [False] * 3
        )
