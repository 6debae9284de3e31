"""Episodes by annotations, marks, prompts and labels: what is cut where, what is left out, what frames are called."""

from __future__ import annotations

import dataclasses
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bagmaker import START_NS, TYPES, Recipe, make_bag, string_message

from pi0_ros.conversion.annotations import Annotation, AnnotationError, check_bags, read_annotations
from pi0_ros.conversion.convert import convert
from pi0_ros.conversion.episodes import labels_on
from pi0_ros.conversion.marks import EVENT_INFO, Mark, Take, takes
from pi0_ros.conversion.options import Options
from pi0_ros.conversion.report import BagReport
from pi0_ros.datasets.dataset import Dataset
from pi0_ros.robot import load_robot

ROBOT = load_robot("demo_arm")
STRING, BOOL, EMPTY = "std_msgs/msg/String", "std_msgs/msg/Bool", "std_msgs/msg/Empty"


def said(t_s: float, topic: str, text: str) -> tuple[float, str, str, Any]:
    return t_s, topic, STRING, string_message(text)


def pressed(t_s: float, topic: str, down: bool = True) -> tuple[float, str, str, Any]:
    return t_s, topic, BOOL, TYPES[BOOL](data=down)


def cut(tmp_path: Path, recipe: Recipe, options: Options) -> tuple[BagReport, list[tuple[float, float, str]]]:
    """The bag's report, and of each episode its first second, its length and its prompt."""
    report = convert([make_bag(tmp_path / "bag", ROBOT, recipe)], tmp_path / "out", ROBOT, options, dry_run=True)
    (bag,) = report.bags
    return bag, [((e.start_ns - START_NS) * 1e-9, e.frames / 20, e.prompt) for e in bag.episodes]


def starts(episodes: list[tuple[float, float, str]]) -> list[float]:
    return [round(start) for start, _, _ in episodes]


def lengths(episodes: list[tuple[float, float, str]]) -> list[float]:
    return [round(length) for _, length, _ in episodes]


# ---- annotations

CSV = """bag,start,end,prompt,success,discard,subtask
bag,1,3,"fold, then stack",true,,
bag,4,6,stack,false,,
bag,6,8,,,true,
bag,9,,,,,
bag,1.5,2.2,,,,grasp the towel
bag,2.5,,,,,let go
"""


def test_annotated_episodes(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text(CSV)
    rows = read_annotations(tmp_path / "notes.csv")
    assert rows[0] == Annotation("bag", 1.0, 3.0, "fold, then stack", True)
    assert rows[4] == Annotation("bag", 1.5, 2.2, subtask="grasp the towel")
    recipe = Recipe(seconds=11.0, prompts=((0.0, "said"),))
    bag, episodes = cut(tmp_path, recipe, Options(annotations=rows))
    assert starts(episodes) == [1, 9] and lengths(episodes) == [2, 2]
    assert [prompt for _, _, prompt in episodes] == ["fold, then stack", "said"]
    assert [gap.why for gap in bag.left_out] == ["it failed", "it is annotated as discarded"]
    assert [round(gap.length_s) for gap in bag.left_out] == [2, 2]
    assert [(e.success, e.labels) for e in bag.episodes] == [(True, 3), (None, 1)]
    everything = convert(
        [tmp_path / "bag"], tmp_path, ROBOT, Options(annotations=rows, include_failed=True), dry_run=True
    )
    assert [e.success for e in everything.bags[0].episodes] == [True, False, None]
    overruled = convert([tmp_path / "bag"], tmp_path, ROBOT, Options(annotations=rows, task="x"), dry_run=True)
    assert {e.prompt for e in overruled.bags[0].episodes} == {"x"}


def test_yaml_says_the_same(tmp_path: Path) -> None:
    rows = [
        {"bag": "bag", "start": 1, "end": 3, "prompt": "fold, then stack", "success": True},
        {"bag": "bag", "start": 9},
    ]
    (tmp_path / "notes.yaml").write_text(json.dumps(rows))
    assert read_annotations(tmp_path / "notes.yaml") == (
        Annotation("bag", 1.0, 3.0, "fold, then stack", True),
        Annotation("bag", 9.0),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bag,begin\nb,1\n", r"line 2: unknown key begin; known are bag, start"),
        ("start,end\n1,2\n", r"line 2: bag is missing"),
        ("bag,start,end\nb,3,2\n", r"line 2: end 2 is not after start 3"),
        ("bag,start\nb,soon\n", r"line 2: start 'soon': expected seconds"),
        ("bag,start\nb,-1\n", r"line 2: start '-1': expected seconds"),
        ("bag,success\nb,maybe\n", r"line 2: success 'maybe': expected true or false"),
        ("bag,subtask\nb,grasp\n", r"line 2: the label 'grasp' has no start"),
        ("bag,start,end\nb,0,2\nb,1,3\n", r"line 3: overlaps the episode of .*line 2"),
        ("bag,prompt\nb,fold, then stack\n", r"line 2: more columns"),
        ("bag\n", "no row"),
    ],
)
def test_wrong_annotations_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "notes.csv"
    path.write_text(text)
    with pytest.raises(AnnotationError, match=message) as caught:
        read_annotations(path)
    assert "notes.csv" in str(caught.value)


def test_annotations_must_fit_the_bags() -> None:
    bags = [Path("/data/day1/ep1"), Path("/data/day2/ep1"), Path("/data/day2/ep2.mcap")]
    for name in ("ep2", "ep2.mcap"):
        check_bags([Annotation("day1/ep1"), Annotation(name)], bags)
    with pytest.raises(AnnotationError, match="no bag 'ep3' among the 3"):
        check_bags([Annotation("ep3")], bags)
    with pytest.raises(AnnotationError, match="'ep1' is /data/day1/ep1 and /data/day2/ep1"):
        check_bags([Annotation("ep1")], bags)
    with pytest.raises(AnnotationError, match="'day1/ep1' and '/data/day1/ep1' are both /data/day1/ep1: write one"):
        check_bags([Annotation("day1/ep1"), Annotation("/data/day1/ep1", 1.0)], bags)


# ---- marks


def test_takes() -> None:
    marks = [Mark(*mark) for mark in ((5, "stop"), (1, "start", "a"), (7, "start"), (8, "start"), (9, "failure"))]
    marks += [Mark(10, "stop"), Mark(11, "success"), Mark(12, "start"), Mark(13, "discard"), Mark(14, "start")]
    assert takes(marks) == [
        Take(1, 5, "a"),
        Take(7, 8),
        Take(8, 10, success=True),
        Take(12, 13, discarded=True),
        Take(14, None),
    ]


def test_one_button_topic(tmp_path: Path) -> None:
    events = [pressed(1, "/button"), pressed(3, "/button", False), pressed(5, "/button"), pressed(7, "/button", False)]
    options = Options(start_topic="/button", stop_topic="/button")
    bag, episodes = cut(tmp_path, Recipe(seconds=9.0, extra=(*events, pressed(8, "/button"))), options)
    assert starts(episodes) == [1, 5] and lengths(episodes) == [2, 2]
    assert [gap.why for gap in bag.left_out] == ["it was never stopped"]
    everything = dataclasses.replace(options, include_failed=True)
    assert convert([tmp_path / "bag"], tmp_path / "all", ROBOT, everything).episodes == 3


def test_start_says_the_prompt_and_words_overrule_topics(tmp_path: Path) -> None:
    events = [
        said(1, "/episode", "fold the towel"),
        said(3, "/episode", "stop"),
        said(4, "/episode", "stack the cups"),
        said(6, "/episode", "rerecord"),
        said(6.5, "/episode", "start"),
        (8.5, "/trash", EMPTY, TYPES[EMPTY](structure_needs_at_least_one_member=0)),
        said(9, "/episode", "wipe"),
        said(11, "/episode", "end"),
        said(11.1, "/episode", "failure"),
    ]
    recipe = Recipe(seconds=12.0, prompts=((0.0, "said"),), extra=events)
    bag, episodes = cut(tmp_path, recipe, Options(start_topic="/episode", discard_topic="/trash"))
    assert [prompt for _, _, prompt in episodes] == ["fold the towel"]
    assert [gap.why for gap in bag.left_out] == ["it was discarded", "it was discarded", "it failed"]


def test_service_calls(tmp_path: Path) -> None:
    """Events as service introspection records them: each call is seen up to four times, by client and server."""

    def call(t_s: float, service: str, number: int) -> list[tuple[float, str, str, Any]]:
        found = []
        for kind in range(4):
            info = TYPES["service_msgs/msg/ServiceEventInfo"](
                event_type=kind,
                stamp=TYPES["builtin_interfaces/msg/Time"](sec=START_NS // 10**9 + int(t_s), nanosec=0),
                client_gid=np.arange(16, dtype=np.uint8),
                sequence_number=number,
            )
            found.append((t_s + 0.01 * kind, f"{service}/_service_event", "service_msgs/msg/ServiceEventInfo", info))
        return found

    events = [*call(1, "/rec/start", 1), *call(3, "/rec/stop", 1), *call(4, "/rec/start", 2), *call(6, "/rec/stop", 2)]
    options = Options(start_topic="/rec/start", stop_topic="/rec/stop", discard_topic="/rec/discard")
    bag, episodes = cut(tmp_path, Recipe(seconds=8.0, extra=events), options)
    assert bag.left_out == () and starts(episodes) == [1, 4] and lengths(episodes) == [2, 2]
    assert struct.calcsize("<4xB3xiI16s4xq") == EVENT_INFO.size == 44


def test_a_bag_without_the_wanted_marks_is_skipped(tmp_path: Path) -> None:
    bag, episodes = cut(tmp_path, Recipe(seconds=2.0), Options(start_topic="/button"))
    assert (bag.status, episodes) == ("rejected", []) and "--start-topic /button is not recorded" in bag.reason


# ---- labels


def test_labels_begin_on_frames() -> None:
    ticks = np.arange(0, 1000, 50)
    labels = [(-5, "reach"), (101, "grasp"), (149, "lift"), (300, ""), (400, ""), (2000, "never")]
    assert labels_on(ticks, 20, labels, "task") == [(0.0, "reach"), (3 / 20, "lift"), (6 / 20, "task")]
    assert labels_on(ticks, 20, [(100, "")], "task") == []
    assert labels_on(ticks, 20, [(100, "a"), (200, "a")], "task") == [(0.1, "a")]


def test_spoken_labels_reach_the_dataset_and_its_reader(tmp_path: Path) -> None:
    events = (said(0.5, "/pi0/subtask", "reach"), said(1.2, "/pi0/subtask", "grasp"))
    bag = make_bag(tmp_path / "bag", ROBOT, Recipe(seconds=2.0, prompts=((0.0, "fold"),), extra=events))
    report = convert([bag], tmp_path / "out", ROBOT)
    (episode,) = Dataset(tmp_path / "out").episodes
    start = (report.bags[0].episodes[0].start_ns - START_NS) * 1e-9
    assert episode.prompt == "fold"
    assert [text for _, text in episode.labels] == ["reach", "grasp"]
    assert [at for at, _ in episode.labels] == pytest.approx([0.5 - start, 1.2 - start], abs=0.051)
    assert all(at * 20 == pytest.approx(round(at * 20)) for at, _ in episode.labels)
    assert episode.idle.dtype == bool and len(episode.idle) == episode.length


def test_prompts_from_custom_data_of_other_recorders(tmp_path: Path) -> None:
    for key in ("task", "instruction"):
        _, episodes = cut(tmp_path / key, Recipe(seconds=1.5, prompts=(), custom_data={key: "noted"}), Options())
        assert [prompt for _, _, prompt in episodes] == ["noted"]


def test_another_prompt_topic(tmp_path: Path) -> None:
    recipe = Recipe(
        seconds=4.0, prompts=((0.0, "not this"),), extra=(said(0, "/task", "first"), said(2, "/task", "second"))
    )
    _, episodes = cut(tmp_path, recipe, Options(prompt_topic="/task"))
    assert [prompt for _, _, prompt in episodes] == ["first", "second"]


# ---- takeovers


def in_charge(*said_at: tuple[float, str]) -> tuple[tuple[float, str, str, Any], ...]:
    return tuple(said(t_s, "/pi0/in_charge", who) for t_s, who in said_at)


HANDED = ((0.0, "policy"), (2.0, "person"), (2.5, "person"), (4.0, "nobody"), (4.3, "policy"), (6.0, "person"))


def test_corrections_are_what_a_person_led(tmp_path: Path) -> None:
    recipe = Recipe(seconds=9.0, extra=in_charge(*HANDED))
    bag, episodes = cut(tmp_path, recipe, Options(corrections=True))
    assert starts(episodes) == [2, 6] and lengths(episodes) == [2, 3]
    (again,) = convert([tmp_path / "bag"], tmp_path, ROBOT, Options(corrections=True, before_s=3.0), dry_run=True).bags
    first = [round((e.start_ns - START_NS) * 1e-9, 1) for e in again.episodes]
    assert first == [0.0, 4.0], "as far as the recording and the takeover before reach"
    out = tmp_path / "out"
    convert([tmp_path / "bag"], out, ROBOT, Options(corrections=True, before_s=1.0))
    one, two = Dataset(out).episodes
    assert one.takeover is not None and two.takeover is not None
    for episode, length in (one, 60), (two, 80):
        assert abs(episode.length - length) <= 1
        assert np.array_equal(episode.takeover, np.arange(episode.length) >= 20), "the author of every frame"


def test_recordings_without_a_takeover_say_so(tmp_path: Path) -> None:
    recipe = Recipe(seconds=2.0, extra=in_charge((0.0, "policy")))
    bag, _ = cut(tmp_path, recipe, Options(corrections=True))
    assert (bag.status, bag.reason) == ("skipped", "no person took over in it")
    (tmp_path / "plain").mkdir()
    bag, _ = cut(tmp_path / "plain", Recipe(seconds=2.0), Options(corrections=True))
    assert bag.status == "rejected" and "/pi0/in_charge is not recorded" in bag.reason
