"""Datasets of other authors, v3.0 and v2.1: names are mapped, units told, and what does not fit is an error."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import motion
import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pi0_ros.checkpoints.norm_stats import load_norm_stats
from pi0_ros.cli.main import main
from pi0_ros.datasets.dataset import Dataset, parse_names
from pi0_ros.datasets.folder import DatasetFolder
from pi0_ros.datasets.layout import DatasetError
from pi0_ros.robot import load_robot, robot_from_yaml, robot_to_yaml
from pi0_ros.robot.dataset_names import DatasetNames
from pi0_ros.training.loader import load_data
from pi0_ros.training.statistics import NORM_STATS_PATH

ROBOT = load_robot("demo_arm")
FIRST, SECOND = (camera.name for camera in ROBOT.cameras)
TOP, HAND = "observation.images.top", "observation.images.hand"
MAP = {"top": FIRST, HAND: SECOND, **{f"main_{name}": name for name in ROBOT.joint_names}}
ORDER = [2, 0, 1, 5, 4, 3]  # of their joints


def foreign(folder: Path, v21: bool, *, scale: float = 1.0, names: bool = True) -> Path:
    """The moving arm as somebody else would have written it: other names, another order of joints, nothing of ours."""
    motion.make(folder, v21=v21)
    for file in folder.glob("meta/pi0_*"):
        file.unlink()
    renamed = {f"observation.images.{FIRST}": TOP, f"observation.images.{SECOND}": HAND}
    info = json.loads((folder / "meta/info.json").read_text())
    info["robot_type"] = "their_arm"
    info["features"] = {renamed.get(key, key): value for key, value in info["features"].items() if key != "idle"}
    theirs = [f"main_{ROBOT.joint_names[place]}" for place in ORDER]
    for key in ("observation.state", "action"):
        info["features"][key]["names"] = theirs if names else None
    info["features"].pop("language_persistent", None)
    (folder / "meta/info.json").write_text(json.dumps(info))
    for old, new in renamed.items():
        for path in list((folder / "videos").rglob(old)):
            path.rename(path.with_name(new))
    for file in folder.rglob("*.parquet"):
        table = pq.read_table(file)
        if "action" in table.column_names:
            for key in ("observation.state", "action"):
                values = np.array(table.column(key).to_pylist(), np.float32)[:, ORDER] * scale
                column = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), 6)
                table = table.set_column(table.column_names.index(key), key, column)
            table = table.drop_columns([name for name in ("idle", "language_persistent") if name in table.column_names])
            pq.write_table(table, file)
        elif "length" in table.column_names:
            for old, new in renamed.items():
                table = table.rename_columns([name.replace(f"/{old}/", f"/{new}/") for name in table.column_names])
            pq.write_table(table, file)
    return folder


def only_metadata(folder: Path, v21: bool) -> None:
    """Leave what LeRobot's metadata says of a dataset: no rows, no videos, right statistics."""
    whole = DatasetFolder(folder)

    def statistics(rows: slice) -> dict[str, dict[str, list[float]]]:
        columns = {key: whole.columns[key][rows] for key in ("observation.state", "action")}
        return {key: {"min": v.min(0).tolist(), "max": v.max(0).tolist()} for key, v in columns.items()}

    if v21:
        (folder / "meta/stats.json").unlink(missing_ok=True)
        lines = [{"episode_index": entry.index, "stats": statistics(whole.rows(entry))} for entry in whole.entries]
        (folder / "meta/episodes_stats.jsonl").write_text("\n".join(map(json.dumps, lines)))
    else:
        (folder / "meta/stats.json").write_text(json.dumps(statistics(slice(None))))
    for rows in ("data", "videos"):
        shutil.rmtree(folder / rows)


@pytest.mark.parametrize("v21", [False, True])
def test_every_value_and_picture_under_our_names(tmp_path: Path, v21: bool) -> None:
    ours = Dataset(motion.make(tmp_path / "ours"))
    theirs = Dataset(foreign(tmp_path / "theirs", v21), ROBOT, MAP)
    assert theirs.cameras == ours.cameras and theirs.fps == ours.fps and len(theirs) == len(ours)
    for a, b in zip(ours.episodes, theirs.episodes, strict=True):
        assert np.array_equal(a.state, b.state) and np.array_equal(a.action, b.action)
        assert (a.prompt, a.length) == (b.prompt, b.length) and not b.idle.any() and not b.labels
        for camera in ours.cameras:
            assert np.array_equal(a.frames(camera, 3, 9), b.frames(camera, 3, 9))
    data = load_data(theirs, 32)
    assert data.length == len(ours) and np.array_equal(data.state[:60], ours.episodes[0].state)


def test_our_own_v21_is_trained_on_like_v30(tmp_path: Path) -> None:
    new, old = Dataset(motion.make(tmp_path / "new")), Dataset(motion.make(tmp_path / "old", v21=True))
    for a, b in zip(new.episodes, old.episodes, strict=True):
        assert np.array_equal(a.state, b.state) and np.array_equal(a.idle, b.idle) and a.prompt == b.prompt
        assert np.array_equal(a.frames(FIRST, 5, 8), b.frames(FIRST, 5, 8))
    assert main(["stats", str(tmp_path / "old")]) == main(["stats", str(tmp_path / "new")]) == 0
    stats = [load_norm_stats(tmp_path / name / NORM_STATS_PATH) for name in ("old", "new")]
    assert stats[0].to_dict() == stats[1].to_dict()


def test_the_robot_file_says_names_and_units(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Degrees are told by their size, and become radians by the robot file; so do names."""
    theirs = foreign(tmp_path / "theirs", False, scale=57.29578)
    with pytest.raises(DatasetError, match=r"degrees for radians\? Write `dataset: \{scale"):
        _ = Dataset(theirs, ROBOT, MAP).episodes
    scale = tuple((name, 57.29578) for name in ROBOT.joint_names)
    robot = dataclasses.replace(ROBOT, dataset=DatasetNames(tuple(MAP.items()), scale))
    file = tmp_path / "robot.yaml"
    file.write_text(robot_to_yaml(robot))
    assert robot_from_yaml(file.read_text(), "robot") == robot
    assert main(["stats", str(theirs), "--robot", str(file)]) == 0
    ours = motion.make(tmp_path / "ours")
    assert main(["stats", str(ours)]) == 0
    mine, other = (load_norm_stats(path / NORM_STATS_PATH) for path in (ours, theirs))
    for kind in ("state", "actions"):
        for field in ("mean", "std", "q01", "q99"):
            a, b = getattr(mine, kind).need(field), getattr(other, kind).need(field)
            assert np.allclose(a, b, atol=1e-5), (kind, field)


def test_dimensions_without_names(tmp_path: Path) -> None:
    theirs = foreign(tmp_path / "theirs", True, names=False)
    cameras = {"top": FIRST, "hand": SECOND}
    by_place = Dataset(theirs, ROBOT, {**cameras, **{str(n): ROBOT.joint_names[p] for n, p in enumerate(ORDER)}})
    ours = Dataset(motion.make(tmp_path / "ours"))
    assert np.array_equal(by_place.episodes[1].action, ours.episodes[1].action)
    in_order = Dataset(theirs, ROBOT, cameras)  # as many as the robot has: taken in their order
    assert np.array_equal(in_order.episodes[1].action, ours.episodes[1].action[:, ORDER])


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({}, rf"no pictures of the robot's camera '{FIRST}'; there are .*top.*--map THEIRS={FIRST}"),
        ({**MAP, "nothing": FIRST}, "nothing is called 'nothing'"),
        ({**MAP, "top": "front"}, "robot demo_arm has no 'front'"),
        ({**MAP, HAND: FIRST}, "are both called"),
        ({"top": FIRST, "hand": SECOND}, rf"observation.state has no joint '{ROBOT.joint_names[0]}'.*--map main_"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, names: dict[str, str], said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        _ = Dataset(foreign(tmp_path / "theirs", False), ROBOT, names).episodes


def test_without_a_robot_file_the_remedy_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"--robot.*pi0 robot convert"):
        Dataset(foreign(tmp_path / "theirs", False))
    for wrong in ("top", "=base", "top="):
        with pytest.raises(DatasetError, match="THEIRS=OURS"):
            parse_names([wrong])


def test_pictures_inside_the_data_files(tmp_path: Path) -> None:
    folder = foreign(tmp_path / "theirs", False)
    plain = Dataset(folder, ROBOT, MAP).episodes[1].frames(FIRST, 0, 4)
    info = json.loads((folder / "meta/info.json").read_text())
    info["features"][TOP] = {"dtype": "image", "shape": [48, 64, 3], "names": ["height", "width", "channels"]}
    (folder / "meta/info.json").write_text(json.dumps(info))
    episodes = DatasetFolder(folder).entries
    for file in (folder / "data").rglob("*.parquet"):
        table = pq.read_table(file)
        cells = []
        for entry, number in zip(table.column("episode_index").to_pylist(), table.column("frame_index").to_pylist()):
            png = io.BytesIO()
            pixels = plain[min(number, 3)] if entry == 1 else np.zeros((48, 64, 3), np.uint8)
            PIL.Image.fromarray(pixels).save(png, "PNG")
            cells.append({"bytes": png.getvalue(), "path": None})
        pq.write_table(table.append_column(TOP, pa.array(cells)), file)
    assert len(episodes) == 3
    assert np.array_equal(Dataset(folder, ROBOT, MAP).episodes[1].frames(FIRST, 0, 4), plain)


def test_a_cache_of_another_column_is_not_taken(tmp_path: Path) -> None:
    folder = foreign(tmp_path / "theirs", False)
    crossed = {**MAP, "top": SECOND, HAND: FIRST}
    straight, swapped = load_data(Dataset(folder, ROBOT, MAP), 32), load_data(Dataset(folder, ROBOT, crossed), 32)
    assert np.array_equal(straight.frames[FIRST], swapped.frames[SECOND])
    assert not np.array_equal(straight.frames[FIRST], swapped.frames[FIRST])


@pytest.mark.parametrize(("scale", "v21"), [(1.0, True), (57.29578, False)])
def test_a_first_robot_file_from_a_dataset(
    tmp_path: Path, scale: float, v21: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = foreign(tmp_path / "theirs", v21, scale=scale)
    file = tmp_path / "their_arm.yaml"
    assert main(["robot", "convert", str(folder), "--out", str(file)]) == 0
    said = capsys.readouterr().out
    assert "Not known from it" in said and "the topics and their message types" in said and "image slot" in said
    assert ("taken for degrees" in said) == (scale != 1.0)
    robot = load_robot(file)
    assert robot.joint_names == tuple(f"main_{ROBOT.joint_names[place]}" for place in ORDER)
    assert {camera.name for camera in robot.cameras} == {"top", "hand"} and robot.dataset_fps == motion.FPS
    assert main(["stats", str(folder), "--robot", str(file)]) == 0
    ours = Dataset(motion.make(tmp_path / "ours"))
    found = Dataset(folder, robot).episodes[0].state
    arm = [place for place, number in enumerate(ORDER) if ROBOT.joints[number].kind != "gripper"]
    assert np.allclose(found[:, arm], ours.episodes[0].state[:, ORDER][:, arm], atol=1e-5)
    assert main(["robot", "convert", str(folder), "--out", str(file)]) == 2  # does not overwrite
    assert main(["robot", "convert", str(folder), "--out", str(file), "--overwrite"]) == 0
    only_metadata(folder, v21)
    assert main(["robot", "convert", str(folder / "meta" / "info.json"), "--out", str(tmp_path / "meta.yaml")]) == 0
    assert "velocities usual" in capsys.readouterr().out
    by_meta = load_robot(tmp_path / "meta.yaml")
    assert by_meta.cameras == robot.cameras and by_meta.dataset == robot.dataset and by_meta.prompt == robot.prompt
    for ours_joint, theirs_joint in zip(by_meta.joints, robot.joints, strict=True):
        speeds = {"velocity": theirs_joint.velocity, "acceleration": theirs_joint.acceleration}
        assert replace(ours_joint, **speeds) == theirs_joint
