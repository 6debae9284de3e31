"""The dataset on disk, checked against the v3.0 layout, and our reader of it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bagmaker import image_at

from pi0_ros.datasets import writer_v30 as lerobot_v30
from pi0_ros.datasets.dataset import Dataset
from pi0_ros.datasets.layout import DatasetError
from pi0_ros.datasets.staged_episode import EpisodeStager, StagedEpisode
from pi0_ros.datasets.video import CODECS, VideoError, VideoWriter, join_videos, read_frames
from pi0_ros.datasets.writer_v30 import write_dataset
from pi0_ros.robot import Robot, load_robot

ROBOT = load_robot("demo_arm")
FPS = 20
LENGTHS = (30, 25, 41)
PROMPTS = ("red", "green", "red")


def make_part(
    folder: Path,
    length: int,
    prompt: str,
    seed: int,
    size: tuple[int, int] = (48, 64),
    codec: str = "h264",
    extra: pa.Table | None = None,
) -> StagedEpisode:
    random = np.random.default_rng(seed)
    writer = EpisodeStager(folder, FPS, CODECS[codec])
    for number in range(length):
        images = {camera.name: image_at(number + seed, *size, shade=3 * i) for i, camera in enumerate(ROBOT.cameras)}
        writer.add(random.normal(size=6), random.normal(size=6) + seed, images)
    return writer.close(prompt, extra)


def make_dataset(folder: Path, **more: object) -> list[StagedEpisode]:
    parts = [
        make_part(folder / f"part{i}", length, prompt, i, **more)  # type: ignore[arg-type]
        for i, (length, prompt) in enumerate(zip(LENGTHS, PROMPTS))
    ]
    write_dataset(folder / "out", parts, ROBOT, FPS, CODECS["h264"], {"bags": []})
    return parts


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[StagedEpisode]:
    return make_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def out(parts: list[StagedEpisode]) -> Path:
    return parts[0].folder.parent / "out"


def test_info(out: Path) -> None:
    info = json.loads((out / "meta/info.json").read_text())
    totals = [info[f"total_{name}"] for name in ("episodes", "frames", "tasks")]
    assert (info["codebase_version"], info["robot_type"], info["fps"]) == ("v3.0", "demo_arm", 20)
    assert totals == [3, 96, 2]
    assert info["splits"] == {"train": "0:3"}
    assert (info["chunks_size"], info["data_files_size_in_mb"], info["video_files_size_in_mb"]) == (1000, 100, 200)
    assert info["data_path"] == "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
    assert info["video_path"] == "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    vector = {"dtype": "float32", "shape": [6], "names": list(ROBOT.joint_names)}  # flat names
    assert info["features"]["observation.state"] == info["features"]["action"] == vector
    camera = info["features"]["observation.images.base"]
    assert (camera["dtype"], camera["shape"], camera["names"]) == (
        "video",
        [48, 64, 3],
        ["height", "width", "channels"],
    )
    assert camera["info"]["video.codec"] == "h264" and camera["info"]["video.pix_fmt"] == "yuv420p"
    assert camera["info"]["video.is_depth_map"] is camera["info"]["is_depth_map"] is False
    for name in ("frame_index", "episode_index", "index", "task_index"):
        assert info["features"][name] == {"dtype": "int64", "shape": [1], "names": None}
    assert info["features"]["timestamp"]["dtype"] == "float32"


def test_data(out: Path) -> None:
    file = pq.ParquetFile(out / "data/chunk-000/file-000.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == list(LENGTHS)
    table = file.read()
    assert table.schema.field("action").type == pa.list_(pa.float32(), 6)
    assert table.schema.field("timestamp").type == pa.float32()
    frame = table.to_pandas()
    assert frame["index"].tolist() == list(range(96))
    assert frame["episode_index"].tolist() == [0] * 30 + [1] * 25 + [2] * 41
    assert frame["frame_index"].tolist() == [*range(30), *range(25), *range(41)]
    assert np.array_equal(frame["timestamp"], (frame["frame_index"] / 20).astype(np.float32))
    assert frame["task_index"].tolist() == [0] * 30 + [1] * 25 + [0] * 41
    assert not [field.name for field in table.schema if field.type == pa.float64()]


def test_episodes_and_tasks(out: Path) -> None:
    rows = pq.read_table(out / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [row["episode_index"] for row in rows] == [0, 1, 2]
    assert [(row["dataset_from_index"], row["dataset_to_index"]) for row in rows] == [(0, 30), (30, 55), (55, 96)]
    assert [row["length"] for row in rows] == list(LENGTHS)
    assert [row["tasks"] for row in rows] == [["red"], ["green"], ["red"]]
    for key in ("observation.images.base", "observation.images.wrist"):
        spans = [(row[f"videos/{key}/from_timestamp"], row[f"videos/{key}/to_timestamp"]) for row in rows]
        assert spans == [(0.0, 1.5), (1.5, 2.75), (2.75, 4.8)]
        assert {(row[f"videos/{key}/chunk_index"], row[f"videos/{key}/file_index"]) for row in rows} == {(0, 0)}
        assert np.shape(rows[0][f"stats/{key}/q99"]) == (3, 1, 1)
    assert {(row["data/chunk_index"], row["meta/episodes/file_index"]) for row in rows} == {(0, 0)}
    assert rows[1]["stats/index/min"] == [30] and rows[1]["stats/action/count"] == [25]
    tasks = pd.read_parquet(out / "meta/tasks.parquet")
    assert tasks["task_index"].tolist() == [0, 1] and tasks["task_index"].dtype == np.int64
    assert [tasks.iloc[i].name for i in range(2)] == ["red", "green"]


def test_video_frames_stand_exactly_on_the_grid(out: Path) -> None:
    with av.open(str(out / "videos/observation.images.base/chunk-000/file-000.mp4")) as container:
        stream = container.streams.video[0]
        times = [frame.time for frame in container.decode(stream)]
        assert stream.average_rate == FPS
        assert stream.codec_context.name == "h264" and stream.codec_context.has_b_frames == 0
    assert len(times) == 96
    assert np.allclose(times, np.arange(96) / FPS, atol=1e-9)


def test_stats_are_exact_over_all_episodes(out: Path, parts: list[StagedEpisode]) -> None:
    stats = json.loads((out / "meta/stats.json").read_text())
    actions = np.concatenate([part.arrays()["action"] for part in parts]).astype(np.float64)
    for name, share in (("q01", 0.01), ("q10", 0.1), ("q50", 0.5), ("q90", 0.9), ("q99", 0.99)):
        assert np.allclose(stats["action"][name], np.quantile(actions, share, axis=0))
    assert np.allclose(stats["action"]["mean"], actions.mean(axis=0))
    assert np.allclose(stats["action"]["std"], actions.std(axis=0))
    assert stats["action"]["count"] == stats["observation.images.base"]["count"] == [96]
    assert stats["index"]["max"] == [95] and isinstance(stats["index"]["max"][0], int)
    pixels = np.concatenate(
        [[image_at(n + seed, 48, 64) for n in range(length)] for seed, length in enumerate(LENGTHS)]
    )
    image = stats["observation.images.base"]
    for channel in range(3):
        values = pixels[..., channel].ravel() / 255
        assert image["mean"][channel][0][0] == pytest.approx(values.mean())
        assert image["std"][channel][0][0] == pytest.approx(values.std())
        assert image["min"][channel][0][0] == pytest.approx(values.min())
        assert image["max"][channel][0][0] == pytest.approx(values.max())
        assert image["q10"][channel][0][0] == pytest.approx(np.quantile(values, 0.1, method="inverted_cdf"))


def test_reader(out: Path, parts: list[StagedEpisode]) -> None:
    dataset = Dataset(out)
    assert dataset.robot == ROBOT
    assert (dataset.fps, len(dataset), dataset.cameras) == (20, 96, ("base", "wrist"))
    assert [episode.prompt for episode in dataset.episodes] == list(PROMPTS)
    for seed, (episode, part) in enumerate(zip(dataset.episodes, parts)):
        arrays = part.arrays()
        assert episode.state.dtype == episode.action.dtype == np.float32
        assert np.array_equal(episode.state, arrays["state"]) and np.array_equal(episode.action, arrays["action"])
        frames = episode.frames("base")
        assert frames.shape == (LENGTHS[seed], 48, 64, 3) and frames.dtype == np.uint8
        wanted = np.stack([image_at(number + seed, 48, 64) for number in range(LENGTHS[seed])])
        assert np.abs(frames.astype(int) - wanted).max() <= 4
        assert np.array_equal(episode.frames("base", 7, 12), frames[7:12])
        assert np.array_equal(episode.frames("base", LENGTHS[seed] - 1), frames[-1:])
    with pytest.raises(DatasetError, match=r"no camera 'top'.*base"):
        dataset.episodes[0].frames("top")


def test_files_roll_over_when_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lerobot_v30, "VIDEO_MB", 1e-6)
    monkeypatch.setattr(lerobot_v30, "DATA_MB", 1e-6)
    monkeypatch.setattr(lerobot_v30, "CHUNK_FILES", 2)
    make_dataset(tmp_path)
    names = [path.relative_to(tmp_path / "out/data").as_posix() for path in (tmp_path / "out/data").rglob("*.parquet")]
    assert sorted(names) == ["chunk-000/file-000.parquet", "chunk-000/file-001.parquet", "chunk-001/file-000.parquet"]
    for seed, episode in enumerate(Dataset(tmp_path / "out").episodes):
        wanted = image_at(3 + seed, 48, 64).astype(int)
        assert np.abs(episode.frames("base", 3, 4)[0] - wanted).max() <= 4


def test_odd_image_sizes(tmp_path: Path) -> None:
    make_dataset(tmp_path, size=(33, 47))
    assert Dataset(tmp_path / "out").episodes[1].frames("wrist").shape == (25, 33, 47, 3)
    info = json.loads((tmp_path / "out/meta/info.json").read_text())
    assert info["features"]["observation.images.wrist"]["info"]["video.pix_fmt"] == "yuv444p"


def test_av1(tmp_path: Path) -> None:
    part = make_part(tmp_path / "part", 12, "red", 0, size=(64, 64), codec="av1")
    write_dataset(tmp_path / "out", [part, part], ROBOT, FPS, CODECS["av1"], {})
    frames = Dataset(tmp_path / "out").episodes[1].frames("base")
    assert np.abs(frames.astype(int) - [image_at(n, 64, 64) for n in range(12)]).max() <= 8
    info = json.loads((tmp_path / "out/meta/info.json").read_text())
    assert info["features"]["observation.images.base"]["info"]["video.codec"] == "av1"


def test_parts_that_do_not_fit_together(tmp_path: Path) -> None:
    small, large = (make_part(tmp_path / f"{side}", 5, "red", 0, size=(side, side)) for side in (32, 64))
    with pytest.raises(DatasetError, match="image sizes"):
        write_dataset(tmp_path / "out", [small, large], ROBOT, FPS, CODECS["h264"], {})
    with pytest.raises(VideoError, match="differ"):
        join_videos([small.video("base"), large.video("base")], tmp_path / "joined.mp4", FPS)
    with pytest.raises(DatasetError, match="no episode"):
        write_dataset(tmp_path / "none", [], ROBOT, FPS, CODECS["h264"], {})


def test_missing_frames_are_found_when_joining(tmp_path: Path) -> None:
    part, short = make_part(tmp_path / "a", 8, "red", 0), make_part(tmp_path / "b", 7, "red", 0)
    shutil.copy(short.video("wrist"), part.video("wrist"))
    with pytest.raises(DatasetError, match="7 frames for 8 rows"):
        write_dataset(tmp_path / "out", [part], ROBOT, FPS, CODECS["h264"], {})
    with pytest.raises(VideoError, match="frames 5 to 10 wanted, 3 there"):
        read_frames(part.video("base"), 5, 5, FPS)


def test_an_encoder_that_fails_says_so(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "nowhere/a.mp4", 32, 32, FPS, CODECS["h264"])
    with pytest.raises(VideoError, match="encoding failed"):
        for number in range(200):  # more than the queue holds: add() must not block for ever
            writer.add(image_at(number, 32, 32))
        writer.close()
    writer = VideoWriter(tmp_path / "a.mp4", 32, 32, FPS, CODECS["h264"])
    with pytest.raises(VideoError, match="the video is uint8"):
        writer.add(np.zeros((16, 32, 3), np.uint8))
    writer.abandon()


def test_foreign_folders_are_refused(tmp_path: Path, out: Path) -> None:
    with pytest.raises(DatasetError, match=r"no meta/info.json.*pi0 convert"):
        Dataset(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(out / "meta", copy / "meta")
    info = json.loads((copy / "meta/info.json").read_text())
    (copy / "meta/info.json").write_text(json.dumps({**info, "codebase_version": "v1.6"}))
    with pytest.raises(DatasetError, match=r"v1\.6"):
        Dataset(copy)
    (copy / "meta/info.json").write_text(json.dumps(info))
    (copy / "meta/pi0_robot.yaml").unlink()
    with pytest.raises(DatasetError, match=r"pi0_robot.yaml: missing"):
        Dataset(copy)


def test_the_robot_travels_inside(out: Path) -> None:
    robot: Robot = load_robot(out / "meta/pi0_robot.yaml")
    assert robot == ROBOT


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("limit_mb", [100.0, 0.005, 1e-6], ids=["one file", "some files", "a file for each"])
def test_appending_gives_what_joining_all_at_once_gives(
    tmp_path: Path, parts: list[StagedEpisode], monkeypatch: pytest.MonkeyPatch, limit_mb: float
) -> None:
    monkeypatch.setattr(lerobot_v30, "VIDEO_MB", limit_mb)
    monkeypatch.setattr(lerobot_v30, "DATA_MB", limit_mb)
    write_dataset(tmp_path / "whole", parts, ROBOT, FPS, CODECS["h264"], {})
    base: Path | None = None
    for number, part in enumerate(parts):
        before = files(base) if base else {}
        write_dataset(tmp_path / f"{number}", [part], ROBOT, FPS, CODECS["h264"], {}, base)
        assert (files(base) if base else {}) == before
        base = tmp_path / f"{number}"
    assert base and files(base) == files(tmp_path / "whole")
    assert len(list((base / "data").rglob("*.parquet"))) == {100.0: 1, 0.005: 2, 1e-6: 3}[limit_mb]


def test_what_can_not_be_appended(tmp_path: Path, parts: list[StagedEpisode], out: Path) -> None:
    def append(
        part: StagedEpisode, robot: Robot = ROBOT, fps: int = FPS, codec: str = "h264", base: Path = out
    ) -> None:
        write_dataset(tmp_path / "never", [part], robot, fps, CODECS[codec], {}, base)

    with pytest.raises(DatasetError, match="has 20 fps, the new episodes 10"):
        append(parts[0], fps=10)
    with pytest.raises(DatasetError, match="differs in: prompt; append with --robot"):
        append(parts[0], dataclasses.replace(ROBOT, prompt="other"))
    with pytest.raises(DatasetError, match="its videos are h264, the new ones av1"):
        append(parts[0], codec="av1")
    with pytest.raises(DatasetError, match=r"'observation.images.base'.*\[48, 64, 3\].*\[32, 32, 3\]"):
        append(make_part(tmp_path / "small", 5, "red", 0, size=(32, 32)))
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    (copy / "meta/pi0_image_levels.json").unlink()
    with pytest.raises(DatasetError, match="pi0_image_levels.json: missing"):
        append(parts[0], base=copy)
    assert not (tmp_path / "never").exists()


def test_extra_columns(tmp_path: Path) -> None:
    """A mask, a vector and lists of language rows; an episode without labels has empty lists."""
    labels = [{"role": "assistant", "content": "grasp", "style": "subtask", "timestamp": 0.0}]
    vectors = np.arange(60, dtype=np.float32).reshape(30, 2)
    first = pa.table(
        {
            "idle": np.arange(30) % 2 == 0,
            "torque": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 2),
            "language_persistent": [labels] * 30,
        }
    )
    plain = [make_part(tmp_path / "a", 30, "red", 0, extra=first)]
    plain += [make_part(tmp_path / "b", 5, "red", 0, extra=first.slice(0, 5).drop_columns("language_persistent"))]
    write_dataset(tmp_path / "out", plain, ROBOT, FPS, CODECS["h264"], {})
    write_dataset(tmp_path / "first", plain[:1], ROBOT, FPS, CODECS["h264"], {})
    write_dataset(tmp_path / "both", plain[1:], ROBOT, FPS, CODECS["h264"], {}, tmp_path / "first")
    assert files(tmp_path / "both") == files(tmp_path / "out")
    info = json.loads((tmp_path / "out/meta/info.json").read_text())["features"]
    assert info["idle"] == {"dtype": "bool", "shape": [1], "names": None}
    assert info["torque"] == {"dtype": "float32", "shape": [2], "names": None}
    assert info["language_persistent"] == {"dtype": "language", "shape": [1], "names": None}
    rows = pq.read_table(tmp_path / "out/data/chunk-000/file-000.parquet").to_pylist()
    assert [row["idle"] for row in rows] == [*[True, False] * 15, True, False, True, False, True]
    assert np.array_equal([row["torque"] for row in rows[:30]], vectors)
    assert rows[29]["language_persistent"] == labels and rows[30]["language_persistent"] == []
    stats = json.loads((tmp_path / "out/meta/stats.json").read_text())
    assert stats["idle"]["mean"] == [pytest.approx(18 / 35)] and "language_persistent" not in stats
    assert stats["torque"]["max"] == [58.0, 59.0]
    other = make_part(tmp_path / "c", 5, "red", 0)
    with pytest.raises(DatasetError, match="'idle', others do not"):
        write_dataset(tmp_path / "never", [*plain, other], ROBOT, FPS, CODECS["h264"], {})
    with pytest.raises(ValueError, match="30 rows of extra columns for 5 frames"):
        make_part(tmp_path / "d", 5, "red", 0, extra=first)
