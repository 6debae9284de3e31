"""The v2.1 layout, as openpi's LeRobot reads it (`tools/references/lerobot_dataset.py` has LeRobot itself read it)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bagmaker import Recipe, image_at, make_bag

from pi0_ros.cli.main import main
from pi0_ros.datasets import writer_v21 as lerobot_v21
from pi0_ros.datasets.layout import DatasetError
from pi0_ros.datasets.staged_episode import EpisodeStager, StagedEpisode
from pi0_ros.datasets.video import CODECS, read_frames
from pi0_ros.datasets.writer_v21 import write_dataset_v21
from pi0_ros.robot import load_robot

ROBOT = load_robot("demo_arm")
FPS, LENGTHS, PROMPTS = 20, (12, 9, 15), ("red", "green", "red")


def make_part(folder: Path, length: int, prompt: str, seed: int) -> StagedEpisode:
    random = np.random.default_rng(seed)
    writer = EpisodeStager(folder, FPS, CODECS["h264"])
    for number in range(length):
        images = {camera.name: image_at(number + seed, 32, 48) for camera in ROBOT.cameras}
        writer.add(random.normal(size=6), random.normal(size=6), images)
    said = [{"role": "assistant", "content": "grasp", "style": "subtask", "timestamp": 0.0}]
    return writer.close(prompt, pa.table({"idle": np.arange(length) < 3, "language_persistent": [said] * length}))


@pytest.fixture
def parts(tmp_path: Path) -> list[StagedEpisode]:
    return [make_part(tmp_path / f"part{i}", *what, i) for i, what in enumerate(zip(LENGTHS, PROMPTS, strict=True))]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_layout(tmp_path: Path, parts: list[StagedEpisode], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lerobot_v21, "CHUNK_EPISODES", 2)
    out = tmp_path / "out"
    write_dataset_v21(out, parts, ROBOT, FPS, CODECS["h264"], {"bags": []})
    info = json.loads((out / "meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["robot_type"]) == ("v2.1", 20, "demo_arm")
    totals = [info[f"total_{name}"] for name in ("episodes", "frames", "tasks", "videos", "chunks")]
    assert totals == [3, 36, 2, 6, 2]
    assert "language_persistent" not in info["features"] and info["features"]["idle"]["dtype"] == "bool"
    assert lines(out / "meta/tasks.jsonl") == [{"task_index": 0, "task": "red"}, {"task_index": 1, "task": "green"}]
    assert lines(out / "meta/episodes.jsonl")[1] == {"episode_index": 1, "tasks": ["green"], "length": 9}
    for number, part in enumerate(parts):
        place = {"episode_chunk": number // 2, "episode_index": number}
        table = pq.read_table(out / info["data_path"].format(**place))
        assert set(table.column_names) == {name for name, ft in info["features"].items() if ft["dtype"] != "video"}
        assert np.array_equal(np.stack(table["action"].to_numpy()), part.arrays()["action"])
        assert table["index"].to_pylist() == list(range(sum(LENGTHS[:number]), sum(LENGTHS[: number + 1])))
        assert set(table["task_index"].to_pylist()) == {[0, 1, 0][number]}
        video = out / info["video_path"].format(video_key="observation.images.wrist", **place)
        wanted = np.stack([image_at(i + number, 32, 48) for i in range(part.length)]).astype(int)
        assert np.abs(read_frames(video, 0, part.length, FPS) - wanted).max() <= 4
        (stats,) = (row["stats"] for row in lines(out / "meta/episodes_stats.jsonl") if row["episode_index"] == number)
        assert set(stats["action"]) == {"min", "max", "mean", "std", "count"}
        assert np.allclose(stats["action"]["std"], part.arrays()["action"].astype(float).std(axis=0))
        assert np.shape(stats["observation.images.base"]["mean"]) == (3, 1, 1)
    total = json.loads((out / "meta/stats.json").read_text())["observation.state"]
    assert np.allclose(total["q99"], np.quantile(np.concatenate([p.arrays()["state"] for p in parts]), 0.99, axis=0))


def test_missing_frames_are_found(tmp_path: Path, parts: list[StagedEpisode]) -> None:
    parts[0].video("base").write_bytes(parts[1].video("base").read_bytes())
    with pytest.raises(DatasetError, match="9 frames for 12 rows"):
        write_dataset_v21(tmp_path / "out", parts, ROBOT, FPS, CODECS["h264"], {})


def test_command_line(tmp_path: Path) -> None:
    make_bag(tmp_path / "bags/one", ROBOT, Recipe(seconds=1.5))
    out = tmp_path / "out"
    arguments = ["convert", str(tmp_path / "bags"), str(out), "--robot", "demo_arm", "--format", "v2.1"]
    assert main(arguments) == 0
    assert json.loads((out / "meta/info.json").read_text())["total_frames"] == 30
    assert load_robot(out / "meta/pi0_robot.yaml") == ROBOT
    (bag,) = json.loads((out / "meta/pi0_conversion.json").read_text())["bags"]
    assert bag["status"] == "converted"
    assert main([*arguments, "--append"]) == 2
