"""Every command line of the documents is read by the parser that a user's would meet: none has gone out of date.

They stand in fenced blocks and as `code in the text` of README.md, CONTRIBUTING.md and docs, and in the docstrings of
commands and scripts. Nothing is run.
"""

from __future__ import annotations

import argparse
import ast
import re
import runpy
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from test_package import _console_scripts

from pi0_ros.base.errors import InputError
from pi0_ros.cli.main import COMMANDS, Parser, _parse, command_parser
from pi0_ros.launching import launches
from pi0_ros.launching.given_parameters import check_given
from pi0_ros.launching.parameters import NODES
from pi0_ros.training.recipe import load_recipe, recipe_path

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SCRIPTS = [path for folder in ("pi0_ros", "bench", "tools") for path in sorted((ROOT / folder).rglob("*.py"))]
OURS = ("pi0", "ros2", "make", "python", "python3", "pip")
# Other programs that a line may begin with, so that a misspelt one of ours is found.
OTHERS = {
    *("mkdir", "cd", "git", "touch", ".", "source", "colcon", "export", "sudo", "for", "done", "curl", "hf", "cp"),
    *("srun", "echo", "pre-commit", "jq"),
}
LOGGERS = {("pi0", "engine")}  # a name, and no command
PLACEHOLDER = re.compile(r"\.\.\.|<[^>]*>|[A-Z]+|\$\S*")  # what a reader fills in


@dataclass(frozen=True)
class Line:
    """One command of a document; `whole`: it can be given as it stands, else it is mentioned in a sentence."""

    place: str
    words: tuple[str, ...]
    whole: bool

    def __str__(self) -> str:
        return f"{self.place}: {' '.join(self.words)}"


def commands_in(text: str) -> Iterator[list[str]]:
    """The words of each command of a shell line: comments, `VARIABLE=value` before it and `do` are left out."""
    lexer = shlex.shlex(re.sub(r"\$\(.*?\)", "$INNER", text), posix=True, punctuation_chars="|&;>")
    lexer.whitespace_split, lexer.commenters = True, "#"
    words: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set("|&;"):
            while words and (words[0] == "do" or re.match(r"[A-Z_]+=", words[0])):
                words = words[1:]
            if words:
                yield words
            words = []
        else:
            words.append(word)


def blocks_and_prose(text: str) -> tuple[list[str], str]:
    """The fenced blocks of a shell, and what stands between all blocks."""
    parts = re.split(r"^ *```(\w*)\n", text, flags=re.M)  # prose, language, block, "", prose, language ...
    return [block for kind, block in zip(parts[1::4], parts[2::4]) if kind in ("", "bash")], "\n".join(parts[::4])


def in_page(path: Path) -> Iterator[Line]:
    place = path.relative_to(ROOT).as_posix()
    blocks, prose = blocks_and_prose(path.read_text(encoding="utf-8"))
    for block in blocks:
        for line in block.replace("\\\n", " ").splitlines():
            if re.match(rf" *(export |[A-Z_]+=\S+ )?({'|'.join(map(re.escape, (*OURS, *OTHERS)))}) ", line):
                for words in commands_in(line):
                    yield Line(place, tuple(words), True)
    for code in re.findall(r"`([^`]+)`", prose):
        if re.match(rf"({'|'.join(OURS)}) |(bench|tools)/\w+\.py ", code):
            yield Line(place, tuple(shlex.split(code.replace("\\|", " "))), False)


def in_docstring(path: Path) -> Iterator[Line]:
    """What an indented line of a module's docstring shows."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    for line in text.replace("\\\n", " ").splitlines():
        if re.match(rf" +({'|'.join(OURS)}) ", line):
            for words in commands_in(re.split(r"  +", line.strip())[0]):
                yield Line(path.relative_to(ROOT).as_posix(), tuple(words), True)


def lines() -> list[Line]:
    found = [line for page in PAGES for line in in_page(page)]
    found += [line for script in SCRIPTS for line in in_docstring(script)]
    return list(dict.fromkeys(found))


class RefusedError(Exception):
    """What a parser says of a line."""


def refused(parser: argparse.ArgumentParser, message: str) -> None:
    raise RefusedError(message)


def is_placeholder(word: str) -> bool:
    return PLACEHOLDER.fullmatch(word) is not None


def check_pi0(words: Sequence[str], whole: bool) -> None:
    if is_placeholder(words[0]) or words[0] == "--version":
        return
    words = words[: words.index(">")] if ">" in words else words
    if words[0] not in COMMANDS:
        raise RefusedError(f"there is no `pi0 {words[0]}`")
    args = _parse(words[0], list(words[1:]))
    if words[0] == "up":
        check_launch([args.file, *args.arguments], whole and not args.show_args)
    if words[0] == "train" and not args.config.endswith((".yaml", ".yml")):
        load_recipe(recipe_path(args.config), [word for word in args.datasets if "=" in word])


def check_launch(words: Sequence[str], whole: bool) -> None:
    """A launch file or its name, and its arguments."""
    if is_placeholder(words[0].split(".")[0]):
        return
    launch = launches.find(words[0])
    given = launches.parse_arguments(word for word in words[1:] if ":=" in word)
    known = {argument.name: argument for argument in launch.arguments}
    for name, value in given.items():
        if name not in known:
            raise RefusedError(f"{words[0]} has no argument {name}")
        if not is_placeholder(value):
            known[name].read(value)
    needed = [name for name, argument in known.items() if argument.default is None and name not in given]
    if whole and needed:
        raise RefusedError(f"{words[0]} needs {needed}")


def check_ros2(words: Sequence[str], whole: bool) -> None:
    if len(words) < 2 or is_placeholder(words[1]):
        return
    verb, rest = words[0], list(words[1:])
    if verb == "launch" and rest[0] == "pi0_ros":
        assert rest[1].endswith(".launch.py") and (
            is_placeholder(rest[1].split(".")[0]) or (ROOT / "launch" / rest[1]).exists()
        )
        check_launch(rest[1:], whole)
    elif verb == "run" and rest[0] == "pi0_ros":
        if rest[1] not in _console_scripts():
            raise RefusedError(f"there is no program {rest[1]}")
        check_given(rest[1].removesuffix("_node"), rest[1:])
    elif (verb, rest[0]) in (("service", "call"), ("topic", "pub")):
        name, kind = [word for word in rest[1:] if not word.startswith("-")][:2]
        if name.startswith("/sim/"):
            return  # the simulator's are no robot's
        known = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8").replace("/msg/", "/").replace("/srv/", "/")
        node, _, own = name.strip("/").rpartition("/")
        assert re.search(rf"`{node}/[^|]*`?{own}`[^\n]*\n", known), f"docs/reference.md has no {name}"
        assert kind.replace("/msg/", "/").replace("/srv/", "/") in known, f"docs/reference.md has no {kind}"


def check_make(words: Sequence[str], whole: bool) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in words:
        name, is_variable, _ = word.partition("=")
        there = re.search(rf"^{name} *\?=" if is_variable else rf"^{name}:", makefile, flags=re.M)
        if not there:
            raise RefusedError(f"the Makefile has no {name}")
    given = {name: value for name, _, value in (word.partition("=") for word in words if "=" in word)}
    if "demo" in words:
        check_pi0(["demo", *shlex.split(given.get("ARGS", ""))], whole)
    if "faults" in words:
        check_python(["test/faults/suite.py", "--out", "faults.md", *shlex.split(given.get("ARGS", ""))], whole)


class Understood(BaseException):
    """A script has read its arguments, and shall not go on."""


def check_python(words: Sequence[str], whole: bool) -> None:
    """Runs a script up to where it has read its arguments."""
    if words[0] == "-c":
        ast.parse(words[1])
        return
    if words[0] == "-m":
        if words[1].startswith("pi0_ros"):
            path = ROOT / Path(*words[1].split("."))
            assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), words
        if words[1] == "pi0_ros.nodes.start":
            check_given(words[2], words[2:])
        return
    read, read_known = argparse.ArgumentParser.parse_args, argparse.ArgumentParser.parse_known_args

    def parse_args(parser: argparse.ArgumentParser, *given: object) -> None:
        patch.setattr(argparse.ArgumentParser, "parse_known_args", read_known)  # which it calls
        read(parser, list(words[1:]))
        raise Understood

    def parse_known_args(parser: argparse.ArgumentParser, *given: object) -> None:
        read_known(parser, list(words[1:]))
        raise Understood

    before = list(sys.path)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Understood):
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
        patch.setattr(argparse.ArgumentParser, "parse_known_args", parse_known_args)
        patch.setattr(sys, "argv", [str(ROOT / words[0]), *words[1:]])
        patch.setattr(sys, "path", [str((ROOT / words[0]).parent), *before])
        runpy.run_path(str(ROOT / words[0]), run_name="__main__")


def check_pip(words: Sequence[str], whole: bool) -> None:
    """The extras of this package exist."""
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    for word in words:
        for extra in re.findall(r"pi0_ros\[([\w,]+)\]", word):
            for name in extra.split(","):
                assert re.search(rf'"{name}": ', setup), f"setup.py has no extra {name}"


CHECKS: dict[str, Callable[[Sequence[str], bool], None]] = {
    "pi0": check_pi0,
    "ros2": check_ros2,
    "make": check_make,
    "python": check_python,
    "python3": check_python,
    "pip": check_pip,
}


def mentions(words: Sequence[str]) -> Iterator[list[str]]:
    """What a sentence's `pi0 bag check BAG [--live or --json]` names: without brackets, `or`, and of each action of
    `pi0 dataset info, check` one."""
    plain = [word.strip("[]") for word in words if word not in ("or", "|", "...")]
    if len(plain) == 1:
        return
    if plain[0] == "pi0" and any(word.endswith(",") for word in plain[2:]):
        yield from (["pi0", plain[1], word.strip(",")] for word in plain[2:])
    else:
        yield plain


def options_exist(words: Sequence[str]) -> None:
    """Of a mention: the command, its action and its options are there, whatever else it would need."""
    parser = command_parser(words[0])
    actions = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if actions and len(words) > 1 and not is_placeholder(words[1]):
        if words[1] not in actions[0].choices:
            raise RefusedError(f"`pi0 {words[0]}` has no action {words[1]}")
        parser = actions[0].choices[words[1]]
    for word in words[1:]:
        if word.startswith("--") and word.split("=")[0] not in parser._option_string_actions:
            raise RefusedError(f"`pi0 {words[0]}` has no option {word}")


def check(line: Line) -> None:
    """Raises where the line would be refused."""
    program, *rest = line.words
    if line.words in LOGGERS:
        return
    if line.place.startswith("tools/references/"):  # which need other projects' code
        assert program == "python" and (ROOT / line.place).with_name(rest[0]).is_file(), rest
        return
    if line.whole:
        if program in CHECKS and rest:
            CHECKS[program](rest, True)
        else:
            assert program in OTHERS, f"which program is {program}?"
        return
    for words in mentions(line.words):
        if words[0] == "pi0" and words[1] == "up" and len(words) > 2:
            check_launch([word for word in words[2:] if ":=" in word or not word.startswith("-")], False)
        if words[0] == "pi0" and words[1] in COMMANDS:
            options_exist(words[1:])
        elif words[0] in CHECKS:
            CHECKS[words[0]](words[1:], False)
        else:
            check_python(words, False)


def unless_more_is_needed(error: RefusedError, line: Line) -> None:
    """A sentence names a command without what it needs; a line that stands alone must be whole."""
    if line.whole or "required" not in str(error):
        raise error


@pytest.mark.parametrize("line", lines(), ids=str)
def test_a_command_line_of_the_documents_is_understood(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("torch", "rosbags", "pyarrow", "av"):
        pytest.importorskip(library)
    monkeypatch.setattr(argparse.ArgumentParser, "error", refused)
    monkeypatch.setattr(Parser, "error", refused)
    try:
        check(line)
    except RefusedError as error:
        unless_more_is_needed(error, line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_launch_argument_and_parameter_of_the_documents_exists(page: Path) -> None:
    known = {argument.name for launch in launches.LAUNCHES.values() for argument in launch.arguments}
    known |= {parameter.name for parameters in NODES.values() for parameter in parameters}
    named = set(re.findall(r"(?<![\w.~])([a-z][\w.]*):=", page.read_text(encoding="utf-8")))
    assert named - known <= {"argument", "name", "joy"}  # two that stand for others, and a topic that is remapped


@pytest.mark.parametrize(
    "text",
    [
        "pi0 confert bags/ dataset/ --robot my_robot.yaml",
        "pi0 convert bags/ dataset/ --robto my_robot.yaml",
        "pi0 checkpoint convert a b --to onnx",
        "pi0 train dataset/ --config pi05_lora --out runs/x stages.flow.stepps=3",
        "pi0 train dataset/ --config pi06 --out runs/x",
        "pi0 up polisy robot:=demo_arm",
        "pi0 up policy robot:=demo_arm checkpoints:=x",
        "pi0 up policy checkpoint:=x",
        "pi0 up policy robot:=demo_arm transition:=jump",
        "ros2 launch pi0_ros policy.launch.py robots:=x",
        "ros2 run pi0_ros controler_node --ros-args -p robot:=x",
        "ros2 run pi0_ros controller_node -p robot:=x",
        "ros2 run pi0_ros controller_node --ros-args -p robto:=x",
        "ros2 service call /controller/arms std_srvs/srv/SetBool",
        "ros2 topic pub --once pi0/estop std_msgs/msg/Boolean '{}'",
        "make demmo",
        'make demo ARGS="--episode_count 3"',
        "make demo ARG=3",
        "python bench/record.py --secnds 60",
        "python tools/avarage.py",
        "pip install 'pi0_ros[trian]'",
        "po0 demo",
    ],
)
def test_a_line_that_is_out_of_date_is_found(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(argparse.ArgumentParser, "error", refused)
    monkeypatch.setattr(Parser, "error", refused)
    (words,) = commands_in(text)
    with pytest.raises((RefusedError, InputError, AssertionError, OSError)):
        check(Line("here", tuple(words), True))
