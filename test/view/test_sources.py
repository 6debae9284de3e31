"""What is shown is what lies there: rows, pictures, takeovers, gaps, worst moments; no kind is taken for another."""

from __future__ import annotations

import io
import json
import os
import shutil
import time
from pathlib import Path

import looked_at
import numpy as np
import pytest
from bagmaker import START_NS, Recipe, image_at, make_bag, state_at
from hypothesis import given
from hypothesis import strategies as st
from looked_at import FPS, ROBOT
from PIL import Image
from rosbags.rosbag2 import StoragePlugin

from pi0_ros.bags.reader import Bag
from pi0_ros.base.errors import InputError
from pi0_ros.cli.view import open_source
from pi0_ros.conversion.convert import convert
from pi0_ros.conversion.options import Options
from pi0_ros.datasets.folder import DatasetFolder
from pi0_ros.training.moments import worst
from pi0_ros.view.bag_source import _broken, _Line
from pi0_ros.view.incidents import incidents_of
from pi0_ros.view.source import MOST_POINTS, Shown, extremes


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of each."""
    place = tmp_path_factory.mktemp("looked_at")
    looked_at.dataset(place / "dataset")
    looked_at.recordings(place / "bags")
    looked_at.evaluation(place / "eval", place / "dataset")
    looked_at.training_run(place / "run")
    return place


def pixels(shown: Shown) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(shown.data)).convert("RGB")).astype(float)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("dataset", "dataset"), ("bags", "bag"), ("bags/a", "bag"), ("eval", "evaluation"), ("run", "run")],
)
def test_a_kind_is_told_by_its_content(place: Path, tmp_path: Path, name: str, kind: str) -> None:
    renamed = tmp_path / "anything"
    shutil.copytree(place / name, renamed)
    assert open_source(renamed, None, None).about()["kind"] == kind


def test_what_is_nothing_or_two_things_is_refused(place: Path, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("hello")
    for path in (tmp_path, tmp_path / "note.txt"):
        with pytest.raises(InputError, match=r"looked for a LeRobot dataset .* recording .* `pi0 eval` .*progress.csv"):
            open_source(path, None, None)
    with pytest.raises(InputError, match="no such file"):
        open_source(tmp_path / "absent", None, None)
    both = tmp_path / "both"
    shutil.copytree(place / "run", both)
    shutil.copy(place / "eval" / "error.json", both)
    with pytest.raises(InputError, match="a run and a evaluation: say which by --kind"):
        open_source(both, None, None)
    assert open_source(both, "evaluation", None).about()["kind"] == "evaluation"
    with pytest.raises(InputError, match="--kind bag: it holds a run"):
        open_source(both, "bag", None)
    with pytest.raises(InputError, match="--robot"):
        open_source(place / "run", None, ROBOT)


def test_an_episode_shows_its_rows_and_never_reads_the_others(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(place / "dataset", None, None)
    folder = DatasetFolder(place / "dataset")
    rows = folder.rows(folder.entries[1])
    monkeypatch.setattr(DatasetFolder, "columns", property(lambda self: pytest.fail("the whole dataset is read")))
    shown = source.episode(1)
    monkeypatch.undo()
    assert shown["frames"] == folder.entries[1].length and len(source.listed()) == 3
    for dim, (trace, joint) in enumerate(zip(shown["traces"], ROBOT.joints, strict=True)):
        assert (trace["name"], trace["unit"]) == (joint.name, joint.unit)
        assert (trace["lower"], trace["upper"]) == pytest.approx((joint.lower, joint.upper))
        for curve, key in zip(trace["curves"], ("observation.state", "action"), strict=True):
            assert curve["t"] is None
            assert np.allclose(curve["v"], folder.columns[key][rows, dim], rtol=1e-5, atol=1e-9)
    idle = folder.columns["idle"][rows]
    (band,) = shown["bands"]
    assert (band["kind"], band["start"], band["stop"]) == ("idle", 0.0, idle.sum() / FPS)
    assert [mark["text"] for mark in shown["marks"]] == ["grasp"]
    assert ["prompt", "put the green cube in the tray"] in shown["facts"]
    for frame in (0, 21, 43):
        there = folder.frames(folder.entries[1], "observation.images.wrist", [frame])[0]
        assert np.abs(pixels(source.picture(1, 1, frame)) - there).mean() < 4


def test_takeovers_gaps_and_where_it_was_recorded(tmp_path: Path) -> None:
    import motion

    since = START_NS
    bag = {
        "bag": "bags/monday_3", "status": "converted", "reason": "", "first_tick_ns": since,
        "episodes": [
            {"frames": n, "start_ns": since + round(at * 1e9), "success": success, "told_by": "the recording"}
            for n, at, success in zip(motion.LENGTHS, (0.0, 4.0, 8.0), (True, False, None), strict=True)
        ],
        "gaps": [{"at_s": 3.2, "length_s": 0.8, "why": "base silent"}],
        "left_out": [{"at_s": 5.0, "length_s": 0.5, "why": "marked"}],
    }  # fmt: skip
    source = open_source(motion.make(tmp_path / "set", bags=[bag]), None, None)
    facts = [dict(source.episode(n)["facts"]) for n in range(3)]
    assert [fact["outcome"] for fact in facts] == ["success", "failure", "nobody said"]
    assert facts[0]["gap in the recording"] == "0.20 s after its end, 0.80 s: base silent"
    (left_out,) = [band for band in source.episode(1)["bands"] if band["kind"] == "left out"]
    assert (left_out["start"], left_out["stop"]) == pytest.approx((1.0, 1.5))


def test_a_dataset_of_corrections_shows_whom_each_frame_is_of(place: Path, tmp_path: Path) -> None:
    """The recording's person leads from 1.0 to 1.8 s; half a second before is the policy's."""
    options = Options(corrections=True, before_s=0.5, min_length_s=0.2)
    convert([place / "bags" / "a"], tmp_path / "set", ROBOT, options)
    shown = open_source(tmp_path / "set", None, None).episode(0)
    (band,) = [band for band in shown["bands"] if band["kind"] == "takeover"]
    assert (band["start"], band["stop"]) == pytest.approx((0.5, 1.3), abs=2 / ROBOT.dataset_fps)
    share = (band["stop"] - band["start"]) * shown["fps"] / shown["frames"]
    assert dict(shown["facts"])["takeovers"] == f"a person led in {share:.0%} of the frames"


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_a_recording_shows_what_was_received_when(tmp_path: Path, storage: StoragePlugin) -> None:
    folder = make_bag(tmp_path / "bag", ROBOT, Recipe(storage=storage, delay_s=0.01))
    source = open_source(folder, None, ROBOT)
    shown = source.episode(0)
    assert [trace["name"] for trace in shown["traces"]] == list(ROBOT.joint_names)
    begin = 0.0  # of the first message: the prompt, which is received at once
    for dim, trace in enumerate(shown["traces"]):
        curves = {curve["what"]: curve for curve in trace["curves"]}
        for what, ahead in (("state", 0.0), ("action", 0.1)):
            times = np.array(curves[what]["t"])
            sent = [state_at(t - 0.01 + ahead + begin, 6)[dim] for t in times]
            assert np.allclose(curves[what]["v"], sent, atol=1e-5)
    for frame in (1, 20, 50):
        at_s = frame / shown["fps"]
        number = int(np.floor((at_s - 0.01) * 20 + 1e-6))
        found = source.picture(0, 0, frame)
        assert found.age_s == pytest.approx(at_s - number / 20 - 0.01, abs=1e-6)
        assert np.abs(pixels(found) - image_at(number)).mean() < 3
    with pytest.raises(InputError, match="no picture yet"):
        source.picture(0, 0, 0)


@pytest.mark.parametrize(("allowed_s", "broken"), [(0.0, True), (0.5, True), (2.0, False), (np.inf, False)])
def test_a_curve_is_broken_where_what_was_said_last_no_longer_counts(allowed_s: float, broken: bool) -> None:
    line = _Line(allowed_s)
    for at_s in (0.0, 0.05, 0.1, 0.15, 1.15, 1.2):  # 1 s without a word
        line.add(at_s, 7.0)
    times, values = _broken(line)
    assert np.isnan(values).any() == broken and (np.diff(times) > 0).all()


def test_a_recording_shows_who_led_and_where_it_was_silent(place: Path) -> None:
    source = open_source(place / "bags", None, None)
    assert [each.text for each in source.listed()] == ["a", "b<i>"]
    shown = source.episode(0)
    bands = {band["kind"]: band for band in shown["bands"]}
    assert set(bands) == {"takeover", "gap"} and len(shown["bands"]) == 2
    assert (bands["takeover"]["start"], bands["takeover"]["stop"]) == pytest.approx((1.0, 1.8), abs=0.01)
    assert (bands["gap"]["start"], bands["gap"]["stop"]) == pytest.approx((2.1, 2.5), abs=0.03)
    assert bands["gap"]["text"].startswith("/demo_arm/joint_states: nothing for 0.4")
    facts = dict(shown["facts"])
    assert facts["outcome"] == "success" and facts["robot file"] == "demo_arm, in the recording"
    assert [(mark["kind"], mark["text"]) for mark in shown["marks"]] == [
        ("prompt", "put the red cube in the tray"),
        ("label", "grasp"),
    ]


def test_a_recording_without_robot_file_is_shown_by_the_messages_own_names(tmp_path: Path) -> None:
    shown = open_source(make_bag(tmp_path / "bag", ROBOT, Recipe(seconds=1)), None, None).episode(0)
    assert {trace["name"] for trace in shown["traces"]} == set(ROBOT.joint_names)
    assert all(trace["lower"] is None for trace in shown["traces"])
    assert set(shown["cameras"]) == {camera.topic for camera in ROBOT.cameras}
    assert dict(shown["facts"])["robot file"].startswith("none: --robot")


def test_a_cut_recording_shows_what_is_left_and_says_so(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "bags" / "a", tmp_path / "a")
    (file,) = (tmp_path / "a").glob("*.mcap")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    source = open_source(tmp_path, None, None)
    shown = source.episode(0)
    assert shown["notes"] and shown["traces"][0]["curves"]
    assert pixels(source.picture(0, 0, shown["frames"] // 2)).shape == (96, 96, 3)


def test_the_worst_moment_is_the_worst(place: Path) -> None:
    about = open_source(place / "eval", None, None).about()
    first = about["worst"][0]
    assert (first["episode"], first["frame"], first["prompt"]) == (1, 20, "put the green cube in the tray")
    off = np.array(first["predicted"]) - np.array(first["recorded"])
    assert np.allclose(off, 0.3, atol=1e-4)
    assert np.allclose(first["by_joint"], [0.3 / joint.span for joint in ROBOT.action_joints], rtol=1e-3)
    assert len(first["pictures"]) == 2 and len(about["chunks"]) == sum(-(-n // 10) for n in (60, 44, 52))


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1)), min_size=1, max_size=60), st.integers(1, 30))
def test_no_two_of_the_worst_moments_are_one_moment(chunks: list[tuple[int, float]], horizon: int) -> None:
    errors, rows = np.array([error for _, error in chunks]), 5 * np.arange(len(chunks))
    episodes = np.sort([episode for episode, _ in chunks])
    found = worst(errors, episodes, rows, horizon)
    assert errors[found[0]] == errors.max() and list(errors[found]) == sorted(errors[found], reverse=True)
    for one in found:
        others = [k for k in found if k != one and episodes[k] == episodes[one]]
        assert all(abs(rows[one] - rows[k]) >= horizon for k in others)


def test_a_run_shows_its_curves_also_while_it_writes(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "run", tmp_path / "run")
    source = open_source(tmp_path / "run", None, None)
    about = source.about()
    curves = {curve["name"]: curve for curve in about["curves"]}
    assert curves["loss"]["t"][:3] == [10, 20, 30] and curves["loss"]["v"][:2] == [2.0, 1.0]
    assert curves["val_flow"]["t"] == [200, 400, 600]
    assert about["stages"] == [{"name": "all", "at": 0.0}, {"name": "last", "at": 400.0}]
    assert ["last flow, held out", "0.04"] in about["facts"] and ["last loss", "0.0333"] in about["facts"]
    assert ["checkpoint", "2.0 KiB"] in about["facts"] and source.file("first_batch.png").kind == "image/png"
    with (tmp_path / "run" / "progress.csv").open("a") as file:
        file.write("last,610,61,800,1e-4,0.5,")  # not yet whole
    assert source.about() | {"state": ""} == about | {"state": ""}
    (tmp_path / "run" / "progress.csv").write_text("stage,step,loss\nall,one,2\n")
    with pytest.raises(InputError, match=r"progress\.csv: not what `pi0 train` writes"):
        source.about()


def test_a_run_says_whether_it_goes_on_and_whether_it_learns(place: Path, tmp_path: Path) -> None:
    """A report came every second: after a minute without any, it is not taken for one that goes on."""
    run = looked_at.diverged(tmp_path / "run")
    about = open_source(run, None, None).about()
    assert about["state"].startswith("goes on, last report")
    assert about["alerts"][0].startswith("the loss is nan since step 610")
    for age_s, said in ((50, "goes on"), (600, "no report for 10 min 0 s, one came every 1 s: stopped or killed?")):
        then = time.time() - age_s
        os.utime(run / "progress.csv", (then, then))
        assert open_source(run, None, None).about()["state"].startswith(said)
    training = {"recipe": {"stages": [{"steps": 400}, {"steps": 300}]}, "finished": True}
    (run / "checkpoint" / "config.json").write_text(json.dumps({"training": training}))
    about = open_source(run, None, None).about()
    assert about["state"] == "finished" and ["steps", "610 of 700"] in about["facts"]
    assert open_source(place / "run", None, None).about()["alerts"] == []


def test_a_flight_recorders_file_says_why_it_was_kept_and_where_that_is(tmp_path: Path) -> None:
    bag = looked_at.incident(tmp_path / "flight")
    shown = open_source(bag, None, None).episode(0)
    assert shown["alerts"] == [f"kept by the flight recorder: {looked_at.STOPPED} (at 2.40 s)"]
    (mark,) = [mark for mark in shown["marks"] if mark["kind"] == "incident"]  # not the hold, which was no reason
    assert (mark["at"], mark["text"]) == (pytest.approx(2.4), looked_at.STOPPED)
    bands = [(band["kind"], band["start"], band["stop"], band["text"]) for band in shown["bands"]]
    assert ("hold", pytest.approx(1.0), pytest.approx(1.6), looked_at.OLD) in bands
    assert ("stopped", pytest.approx(2.4), pytest.approx(3.0, abs=0.02), "emergency stop by ~/estop") in bands
    assert dict(shown["facts"])["outcome"] == "an incident"
    with Bag(bag) as opened:
        assert [(found.at_s, found.text) for found in incidents_of(opened)] == [(pytest.approx(2.4), looked_at.STOPPED)]


def test_no_line_is_drawn_where_nothing_was_received(place: Path) -> None:
    """The joints are silent from 2.1 to 2.5 s, their commands are not."""
    for trace in open_source(place / "bags", None, None).episode(0)["traces"]:
        lines = {curve["what"]: dict(zip(curve["t"], curve["v"], strict=True)) for curve in trace["curves"]}
        broken = [at for at, value in lines["state"].items() if value is None]
        assert len(broken) == 1 and 2.1 < broken[0] < 2.16
        assert None not in lines["action"].values()


def test_an_older_evaluation_says_what_it_lacks(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "eval", tmp_path / "eval")
    (tmp_path / "eval" / "moments.json").unlink()
    about = open_source(tmp_path / "eval", None, None).about()
    assert about["worst"] == [] and "run it again" in about["notes"][0] and len(about["table"]) == 7


@pytest.mark.parametrize("broken", ["[]", "{}", '{"errors": 3}', '{"errors": [{}]}', "\x00", '{"errors": null}'])
def test_a_broken_evaluation_is_named(place: Path, tmp_path: Path, broken: str) -> None:
    for name in ("error.json", "moments.json"):
        folder = tmp_path / name
        shutil.copytree(place / "eval", folder)
        (folder / name).write_text(broken)
        with pytest.raises(InputError, match=name):
            open_source(folder, None, None)
    many = json.loads((place / "eval" / "moments.json").read_text())
    many["worst"][0]["held"] = [0.0]
    (tmp_path / "error.json" / "error.json").write_text((place / "eval" / "error.json").read_text())
    (tmp_path / "error.json" / "moments.json").write_text(json.dumps(many))
    with pytest.raises(InputError, match="1 values of 6 joints"):
        open_source(tmp_path / "error.json", None, None)


@given(st.integers(0, 20_000), st.integers(0, 2**32 - 1))
def test_a_thinned_curve_keeps_its_extremes(length: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=length)
    values[::7] = np.nan
    kept = extremes(values, MOST_POINTS)
    assert len(kept) <= MOST_POINTS and (np.diff(kept) > 0).all()
    assert length == 0 or np.isnan(values[kept]).any(), "a line that is broken stays broken"
    if np.isfinite(values).any():
        assert np.nanmin(values[kept]) == np.nanmin(values) and np.nanmax(values[kept]) == np.nanmax(values)
