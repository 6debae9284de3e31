"""Every command, with every one of its arguments wrong in turn: status 2 and one line that names what is wrong.

The commands and their arguments are read from the commands themselves. A new argument must be given a kind here.
"""

from __future__ import annotations

import argparse
import importlib
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from bagmaker import Recipe, make_bag

from pi0_ros.cli.main import COMMANDS, Parser, main
from pi0_ros.robot import load_robot

SHIPPED = Path(__file__).parents[2] / "pi0_ros" / "sim" / "checkpoint"
LIMIT_S = 20
# What stands behind an argument, by its name in the program: something that must exist ("in"), a name among known
# ones ("name"), a name in ROS ("ros"), a place to write ("out"), or any text ("text"). Numbers and choices are known
# by themselves.
KINDS = {
    **dict.fromkeys(
        ("bags", "bag", "src", "path", "a", "b", "sources", "source", "dataset", "datasets", "stats"), "in"
    ),
    **dict.fromkeys(
        ("checkpoint", "config", "init", "base", "annotations", "partial", "paths", "explain", "takeover"), "in"
    ),
    **dict.fromkeys(("tokenizer", "own_keys", "wanted_token", "tls_cert", "tls_key"), "in"),
    **dict.fromkeys(
        ("robot", "map", "changes", "only", "file", "device", "episodes", "dtype", "asset", "bind", "arguments"), "name"
    ),
    **dict.fromkeys(("fps", "ray_address", "gpu", "websocket", "metrics", "status", "weights", "host"), "name"),
    **dict.fromkeys(("out", "dst", "plots", "plot", "log_dir", "page", "folder", "html", "png"), "out"),
    **dict.fromkeys(
        ("prompt", "task", "prompt_topic", "subtask_topic", "text", "words", "names"),
        "text",
    ),
    **dict.fromkeys(("start_topic", "stop_topic", "discard_topic"), "text"),
    **dict.fromkeys(("namespace", "recorder", "topic"), "ros"),
    **dict.fromkeys(("urdf",), "in"),
    **dict.fromkeys(("gripper", "without", "backend", "server", "keys", "token_file"), "name"),
}
NUMBERS = ("abc", "-1", "nan", "inf")
# What a command does not refuse before it has worked for long, and why that is right.
UNUSED = {
    ("demo", "checkpoint", "odd_folder"): "the policy process reads it; its last words stand below the line",
    **{
        ("robot", option, name): "it must have listened to know which joints and topics there are; test_robot_new tries"
        for option in ("gripper", "without")
        for name in ("no_such_name", "no_such_thing/robot.yaml", "garbage.bin", "::::")
    },
    ("latency", "plot", "garbage.bin/below_a_file"): "written after it has listened, and here nobody speaks",
}
# Commands that print what is wrong in a report, on stdout: status 1 or 2, and there it stands.
REPORTS = (("doctor",), ("dataset", "check"), ("bag", "check"))


@dataclass(frozen=True)
class Case:
    """One command line; its message must name one of `names`."""

    words: tuple[str, ...]
    names: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(self.words)


def parsers() -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    """Every command, or command and action, with its parser."""
    for command, (module_name, _) in COMMANDS.items():
        module = importlib.import_module(module_name)
        actions = getattr(module, "ACTIONS", {"": (module, "")})
        for action, (inner, _) in actions.items():
            parser = Parser()
            inner.add_arguments(parser)
            yield (command, action) if action else (command,), parser


def arguments(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """All arguments that take a value."""
    return [action for action in parser._actions if action.nargs != 0 and not isinstance(action, argparse._HelpAction)]


def kind_of(action: argparse.Action) -> str:
    if action.choices is not None:
        return "choice"
    if action.type in (None, Path, str):
        return KINDS.get(action.dest, "")
    return KINDS.get(action.dest, "number")


ALL = [(words, parser, action) for words, parser in parsers() for action in arguments(parser)]


def test_every_argument_has_a_kind() -> None:
    unknown = {f"{' '.join(words)}: {action.dest}" for words, _, action in ALL if not kind_of(action)}
    assert not unknown, f"say in KINDS what these take: {sorted(unknown)}"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all kinds of wrong things, made once."""
    place = tmp_path_factory.mktemp("hostile")
    (place / "empty_folder").mkdir()
    (place / "garbage.bin").write_bytes(np.random.default_rng(0).bytes(2000))
    (place / "text.yaml").write_text("a: [1, 2\n  b: }")
    (place / "odd.json").write_text('{"name": 3, "joints": "none", "format": [], "codebase_version": null}')
    odd = place / "odd_folder"
    odd.mkdir()
    for name in ("config.json", "meta.json", "robot.yaml", "metadata.yaml", "model.safetensors", "episode.mcap"):
        (odd / name).write_bytes(b"\x00\xff not what you think")
    (odd / "meta").mkdir()
    (odd / "meta" / "info.json").write_text("[]")
    return place


WRONG = {
    "in": ("no_such_thing", "empty_folder", "garbage.bin", "text.yaml", "odd.json", "odd_folder"),
    "name": ("no_such_name", "no_such_thing/robot.yaml", "garbage.bin", "::::"),
    "ros": ("9left", "a b", "a//b", "lärm"),
    "out": ("garbage.bin/below_a_file",),
    "number": NUMBERS,
    "choice": ("no_such_choice",),
    "text": (),
}
GOOD = {"robot": "demo_arm", "checkpoint": str(SHIPPED), "src": str(SHIPPED), "a": str(SHIPPED), "b": str(SHIPPED)}


# Options that a command needs though its parser does not ask for them.
NEEDED = {  # and those in whose company it does not
    ("serve", "checkpoint"): ("status",),
    ("view", "path"): ("robot",),
    ("bench-sim", "checkpoint"): ("backend",),
}


def needed(words: tuple[str, ...], action: argparse.Action, chosen: argparse.Action) -> bool:
    """Whether a line with a wrong `chosen` must have `action`, too."""
    instead = NEEDED.get((words[0], action.dest))
    return action.required or (instead is not None and chosen.dest not in instead)


def fill(action: argparse.Action, number: int) -> str:
    """Something for another, required argument: right where that is cheap, else missing."""
    if action.choices is not None:
        return str(next(iter(action.choices)))
    if action.dest in ("out", "dst"):
        return f"new_{number}"
    return GOOD.get(action.dest, "no_such_other")


def cases() -> Iterator[Case]:
    for words, parser, chosen in ALL:
        for number, wrong in enumerate(WRONG.get(kind_of(chosen), ())):
            if (words[0], chosen.dest, wrong) in UNUSED:
                continue
            line, names = [*words], [Path(wrong).name, wrong.split("/")[0], *chosen.option_strings]
            for action in arguments(parser):
                if action is not chosen and not needed(words, action, chosen):
                    continue
                value = wrong if action is chosen else fill(action, number)
                names += ["no_such_other"] if value == "no_such_other" else []
                line += [f"{action.option_strings[-1]}={value}"] if action.option_strings else [value]
            yield Case(tuple(line), tuple(names))


class RanOnError(BaseException):
    """A command went to work instead of refusing."""


@pytest.mark.parametrize("case", list(cases()), ids=str)
def test_a_wrong_argument_is_one_line(
    case: Case, place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def ran_on(number: int, frame: object) -> None:
        raise RanOnError(f"`pi0 {case}` still runs after {LIMIT_S} s")

    monkeypatch.chdir(place)
    monkeypatch.setenv("PI0_TRACEBACK", "")
    before = signal.signal(signal.SIGALRM, ran_on)
    signal.alarm(LIMIT_S)
    try:
        status = main(list(case.words))
    except SystemExit as ended:  # argparse
        status = int(ended.code or 0)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    captured = capfd.readouterr()  # of child processes, too
    printed = re.sub(r"[^\n]*\r[^\n]*\n?", "", captured.err)  # without progress bars
    assert "Traceback" not in printed, printed
    if case.words[:2] in REPORTS or case.words[:1] in REPORTS:
        assert status in (1, 2), f"status {status}: {captured.out}"
        assert any(name in captured.out + printed for name in case.names), captured.out + printed
        return
    assert status == 2, f"status {status}: {printed}"
    line = printed.splitlines()[-1]
    assert line.startswith("pi0 ") and any(name in line for name in case.names), printed
    assert len(printed.splitlines()) == 1, printed


@pytest.mark.parametrize(
    "words", [["no_such_command"], ["stats"], ["dataset", "no_such_action"], ["up", "demo", "--no-such"]]
)
def test_a_wrong_command_line_is_one_line(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    printed = capfd.readouterr().err
    assert printed.startswith("pi0") and len(printed.splitlines()) == 1
    assert words[-1] in printed or "DATASET" in printed


def test_a_planted_bug_shows_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from pi0_ros.training import statistics

    def planted(*args: object, **kwargs: object) -> np.ndarray:
        return np.zeros(3) + np.zeros(4)

    bag = make_bag(tmp_path / "bag", load_robot("demo_arm"), Recipe(seconds=1.5))
    assert main(["convert", str(bag), str(tmp_path / "out"), "--robot", "demo_arm"]) == 0
    monkeypatch.setattr(statistics, "_spread", planted)
    assert main(["stats", str(tmp_path / "out")]) == 70
    printed = capfd.readouterr().err
    assert "Traceback (most recent call last)" in printed and "in planted" in printed
    assert "operands could not be broadcast" in printed and "report it" in printed
