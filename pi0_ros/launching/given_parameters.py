"""What people give to nodes, on command lines and in files: nothing that a node would ignore passes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pi0_ros.launching.parameter import Parameter, ParameterError
from pi0_ros.launching.parameters import NODES, RENAMED, table, unknown


def check_given(node: str, words: Sequence[str]) -> None:
    """Look at a node's command line, program first; ParameterError for what the node would ignore.

    ROS itself takes `robot:=ur5e` outside of --ros-args for a remapping, as it once was, and keeps the robot.
    """
    ros, others = _split(words[1:])
    if others:
        if others[0] in ("-h", "--help"):
            names = ", ".join(table(node))
            raise ParameterError(f"{node} takes --ros-args -p NAME:=VALUE (docs/reference.md says more) of {names}")
        hint = f": write --ros-args -p {others[0]}" if ":=" in others[0] else ""
        raise ParameterError(f"argument {others[0]!r} says nothing to {node}{hint}")
    given: dict[str, str] = {}
    for flag, word in zip(ros, ros[1:]):
        if flag == "--params-file":
            check_file(word)
        elif flag in ("-p", "--param"):
            name, _, value = word.partition(":=")
            if problem := unknown(node, name.rpartition(":")[2]):
                raise ParameterError(problem)
            if given.setdefault(name, value) != value:
                raise ParameterError(f"parameter {name} is given twice, as {given[name]} and as {value}")


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words within `--ros-args ... --`, and the others."""
    ros: list[str] = []
    others: list[str] = []
    within = False
    for word in words:
        if word == "--ros-args" or (within and word == "--"):
            within = word == "--ros-args"
        else:
            (ros if within else others).append(word)
    return ros, others


def check_file(path: str | Path) -> None:
    """Read a ROS parameter file; ParameterError names the file and what no node of ours would take.

    Sections of other packages' nodes are theirs. `/**` and `/*` speak to all nodes: somebody must have the parameter.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ParameterError(f"{path}: there is no such parameter file ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParameterError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if content is None:
        raise ParameterError(f"{path} is empty: config/policy.yaml shows how a parameter file looks")
    problems = [
        problem for node, names in _sections(content, path) for problem in _problems(node.rsplit("/", 1)[-1], names)
    ]
    if problems:
        raise ParameterError("\n".join(f"{path}: {problem}" for problem in problems))


def from_file(path: str | Path, node: str, namespace: str = "") -> dict[str, Any]:
    """What a file that `check_file` let pass says to `node`: first what it says to all, then what to this one.

    In a namespace a section without one speaks to it too.
    """
    content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    known = table(node) if node in NODES else {}
    full = f"{namespace}/{node}".strip("/")
    said: dict[int, dict[str, Any]] = {0: {}, 1: {}, 2: {}}
    for name, values in _sections(content, path):
        place = name.strip("/")
        rank = 0 if place.strip("*/") == "" else 1 if place == node else 2 if place == full else None
        if rank is not None:
            said[rank] |= values
    given = said[0] | said[1] | said[2]
    return {
        name: _as_ros(known[name], value) if name in known else value
        for name, value in given.items()
        if not known or not unknown(node, name)
    }


def _sections(content: Any, path: str | Path, prefix: str = "") -> Iterable[tuple[str, dict[str, Any]]]:
    """(node's full name or wildcard, flat parameters) of every section; a namespace may be a level of its own."""
    if not isinstance(content, dict):
        raise ParameterError(f"{path}: {prefix or 'the file'} must hold node names with ros__parameters below them")
    for key, below in content.items():
        name = str(key)
        if isinstance(below, dict) and "ros__parameters" in below:
            given = below["ros__parameters"]
            if not isinstance(given, dict):
                raise ParameterError(f"{path}: {name}: ros__parameters must hold name: value")
            yield f"{prefix}/{name}", _flat(given)
        elif isinstance(below, dict) and any(isinstance(inner, dict) for inner in below.values()):
            yield from _sections(below, path, f"{prefix}/{name}")
        else:
            raise ParameterError(
                f"{path}: {name}: write ros__parameters: below the node's name, and parameters below that"
            )


def _flat(given: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{rtc: {mode: off}}` -> `{"rtc.mode": "off"}`."""
    flat: dict[str, Any] = {}
    for key, value in given.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _problems(node: str, given: Mapping[str, Any]) -> list[str]:
    if node.strip("*") == "":
        nodes = {name: next((n for n in NODES if not unknown(n, name)), "") for name in given}
        lost = [name for name, owner in nodes.items() if not owner]
        every = sorted({parameter.name for parameters in NODES.values() for parameter in parameters})
        near = {name: difflib.get_close_matches(name, every, 1) for name in lost}
        old = {name: new for names in RENAMED.values() for name, new in names.items()}
        return [
            f"parameter {name} is called {old[name]} now"
            if name in old
            else f"no node has a parameter {name}" + (f": did you mean {near[name][0]}?" if near[name] else "")
            for name in lost
        ]
    if node not in NODES:
        meant = difflib.get_close_matches(node, NODES, 1)
        return [f"no node is called {node}: did you mean {meant[0]}?"] if meant else []  # else of another package
    problems = [unknown(node, name) for name in given]
    known = table(node)
    for name, value in given.items():
        if name in known:
            try:
                known[name].check(_as_ros(known[name], value))
            except ParameterError as error:
                problems.append(f"{node}: {error}")
    return [problem for problem in problems if problem]


def _as_ros(parameter: Parameter, value: Any) -> Any:
    """ROS's YAML reader knows 1e-3 as a number, PyYAML takes it for text."""
    if isinstance(value, str) and (isinstance(parameter.default, float) or parameter.word not in ("", value)):
        try:
            return float(value)
        except ValueError:
            return value
    return value
