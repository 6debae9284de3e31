"""Whatever is wrong with a robot file, it is refused with file, line and the key that would mend it, or it is read and
makes a difference: nothing that is written is passed over.

`PI0_EXAMPLES=N` tries N changes of every robot file that ships, drawn anew; else the same few are tried each time.
"""

from __future__ import annotations

import os
import random
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from seen_poses import SEEN
from servoed_arm import SERVOED
from spoilt_files import Spoilt, mixed, spoilt

from pi0_ros.robot import RobotFileError, load_robot, robot_from_yaml, robot_to_yaml
from pi0_ros.robot.words import explain

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "test/fixtures/every_key.yaml", ROOT / "config/robots/ur5e_pose.yaml"]
SEARCHED = int(os.environ.get("PI0_EXAMPLES", "0"))
KEY = re.compile(r"(.+?): (?=\S)")
ABSENT, EQUAL = object(), object()
DEFAULTS = ("auto", "names", "one", "both", "position", "rot6d", "frame", False, 0.0, [0.0])  # of keys that may lack


def changes() -> list[Spoilt]:
    """Some of tens of thousands."""
    files = FILES if not SEARCHED else [*FILES, *(ROOT / "config/robots").glob("*.yaml")]
    texts = [*(file.read_text(encoding="utf-8") for file in files), SEEN, SERVOED]
    documents = [yaml.safe_load(text) for text in texts]
    every = [change for document in documents for change in (*spoilt(document), *mixed(document, documents))]
    assert len(every) > 20_000
    return random.Random(None if SEARCHED else 0).sample(every, SEARCHED or 40)


def wrong_with(text: str) -> str:
    """What is wrong with how the text is read or refused; empty where nothing is."""
    try:
        robot = robot_from_yaml(text, "robot.yaml")
    except RobotFileError as error:
        first = re.sub(r" \(the first of \d+ errors\)$", "", str(error))
        found = [reason for line in (first, *error.details.splitlines()) if (reason := _unclear(line, text))]
        return "; ".join(found)
    again = robot_from_yaml(robot_to_yaml(robot), "again")
    if (again, again.takeover) != (robot, robot.takeover):
        return "it is read, and written otherwise"
    return "" if list(explain(robot)) else "it cannot be explained"


def passed_over(change: Spoilt) -> bool:
    """Whether the change is read and makes no difference, though it says something else and is no default."""
    before = original(change)
    if change.gone or before is EQUAL or (before is ABSENT and change.value in DEFAULTS):
        return False
    try:
        robot = robot_from_yaml(change.text(), "robot.yaml")
    except RobotFileError:
        return False
    was = robot_from_yaml(yaml.safe_dump(change.document, sort_keys=False, allow_unicode=True), "as it was")
    return (robot, robot.takeover) == (was, was.takeover)


def original(change: Spoilt) -> Any:
    """What stood where a file was changed: ABSENT, or EQUAL where the change means the same."""
    holder = change.document
    for part in change.at[:-1]:
        holder = holder[part]
    if isinstance(holder, dict) and change.at[-1] not in holder:
        return ABSENT
    old = holder[change.at[-1]]
    same = not change.raw and change.value == old and isinstance(change.value, bool) == isinstance(old, bool)
    return EQUAL if same else old


def _unclear(sentence: str, text: str) -> str:
    """Why a sentence is not one line with file, line and key."""
    place = re.fullmatch(r"robot\.yaml:(\d+): (.+)", sentence)
    if place is None or not sentence.isprintable() or len(sentence) > 1300:
        return f"not one line with file and line: {sentence!r}"
    line, said = int(place[1]), place[2]
    if not 1 <= line <= text.count("\n") + 1:
        return f"line {line} is not in the file"
    if said.startswith("is not valid YAML: "):
        return ""
    key = KEY.match(said)
    if key is None or " stands where " in key[1]:
        return "" if "stands where a mapping is needed" in said and line == 1 else f"no key: {sentence}"
    keys = [part for part in re.split(r"[.\[\]]+", key[1]) if part and not part.isdigit()]
    if any(part in text for part in keys) or "missing" in said or "\\x" in key[1]:
        return ""
    return f"not there: {sentence}"


def test_every_change_of_a_robot_file_is_read_or_refused_by_line_and_key() -> None:
    for change in changes():
        text = change.text()
        assert not (reason := wrong_with(text)), f"{change.what} at {change.at}: {reason}"
        assert not passed_over(change), f"{change.what} at {change.at} makes no difference"


# Kinds that were wrong once: a traceback, a line without a place, or a value that was taken for another.
ONCE_WRONG = {
    "a number without end": ("dataset_fps: 20", f"dataset_fps: 1{'0' * 400}", "5: dataset_fps: 1000", "is not finite"),
    "a number of 5000 digits": (
        "dataset_fps: 20",
        f"dataset_fps: 1{'0' * 5000}",
        "5: dataset_fps: YAML cannot read",
        "",
    ),
    "beyond reckoning": ("velocity: 5.0", "velocity: 1.0e+300", "limits.velocity: 1e+300 is beyond", "at most 1e+12"),
    "next to nothing": ("velocity: 5.0", "velocity: 1.0e-300", "limits.velocity: 1e-300 is next to nothing", "1e-30"),
    "a time of days": ("max_age_s: 0.25", "max_age_s: 90000", "cameras[0].max_age_s: 90000 s is more than an hour", ""),
    "sexagesimal": (
        "dataset_fps: 20",
        "dataset_fps: 1:30",
        "5: dataset_fps: YAML reads 1:30 as 90: write 90",
        "quotes",
    ),
    "octal": ("dataset_fps: 20", "dataset_fps: 020", "5: dataset_fps: YAML reads 020 as 16: write 16", "quotes"),
    "a date that is none": ("name: every_key", "name: 2001-13-45", "1: name: YAML cannot read '2001-13-45'", "quotes"),
    "a wrong tag": ("dataset_fps: 20", "dataset_fps: !!int twenty", "5: dataset_fps: YAML cannot read 'twenty'", "int"),
    "lists without end": ("dataset_fps: 20", f"dataset_fps: {'[' * 400}", "5: is not valid YAML: more than 100", ""),
    "a name with a line break": (
        "name: base\n",
        'name: "ba\\nse"\n',
        "cameras[0].name: no name: it has line breaks",
        "",
    ),
    "a name of a picture's folder": ("name: base\n", "name: ../base\n", "cameras[0].name: '../base' becomes part", "/"),
    "a hostile key": ("dataset_fps: 20", 'dataset_fps: 20\n"\\e[2J\\n": 1', "6: \\x1b[2J\\n: unknown key", ""),
    "names no mapping": (
        "names: {observation.images.top: base, main_elbow: elbow}",
        "names: 3",
        "dataset.names: 3 stands where a mapping",
        "",
    ),
    "a list for a joint": ("joints: [gripper]", "joints: [[gripper]]", "commands[1].joints[0]: a list stands", ""),
    "a crank that cannot turn": (
        "horn_radius: 0.022",
        "horn_radius: 0.04",
        "horn_radius: 0.04 m is not below arm_le",
        "",
    ),
    "a goal that is no number": (
        "effort: [20.0]",
        "effort: [.nan]",
        "commands[2].fixed.command.effort: nan is not",
        "",
    ),
    "a picture without end": (
        "left: 80",
        f"left: 1{'0' * 30}",
        "crop.left: 1",
        "no whole number of pixels from 0 to 16384",
    ),
    "a role that is none": ("role: state", "role: 0.3", "joints[7].role: 0.3 stands where text", ""),
}


@pytest.mark.parametrize("wrong", ONCE_WRONG.values(), ids=list(ONCE_WRONG))
def test_what_once_was_no_clear_refusal_is_one(wrong: tuple[str, str, str, str]) -> None:
    old, new, *parts = wrong
    text = FILES[0].read_text(encoding="utf-8")
    assert old in text
    text = text.replace(old, new, 1)
    with pytest.raises(RobotFileError) as caught:
        robot_from_yaml(text, "robot.yaml")
    assert all(part in str(caught.value) for part in parts), str(caught.value)
    assert not wrong_with(text)


def test_what_is_no_text_is_refused_with_its_line(tmp_path: Path) -> None:
    good = FILES[0].read_bytes()
    file = tmp_path / "robot.yaml"
    for at in (0, 100, len(good) - 1):
        line = good.count(b"\n", 0, at) + 1
        for spoilt_byte, said in ((b"\xff", "byte 0xff is not UTF-8"), (b"\x07", "has the character '\\x07'")):
            file.write_bytes(good[:at] + spoilt_byte + good[at:])
            with pytest.raises(RobotFileError) as caught:
                load_robot(file)
            assert str(caught.value).startswith(f"{file}:{line}: ") and said in str(caught.value)
    file.write_bytes(b"\xef\xbb\xbf" + good)  # as some editors begin a file
    assert load_robot(file) == load_robot(FILES[0])
