"""The table of parameters: what it writes, what it lets pass, and what it says of everything else."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pi0_ros.base.share import config_path
from pi0_ros.launching.given_parameters import check_file, from_file
from pi0_ros.launching.parameter import Parameter, ParameterError, yaml_value
from pi0_ros.launching.parameter_docs import policy_yaml, with_tables
from pi0_ros.launching.parameters import NODES, RENAMED, table, unknown

ROOT = Path(__file__).resolve().parents[2]
EVERY = [(node, parameter) for node, parameters in NODES.items() for parameter in parameters]
CURE = "run `python tools/parameters.py`"


def _file(folder: Path, text: str) -> Path:
    path = folder / "my.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_files_show_the_table_as_it_is() -> None:
    assert config_path("policy.yaml").read_text(encoding="utf-8") == policy_yaml(), CURE
    page = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert with_tables(page) == page, CURE


def test_the_yaml_file_holds_every_default_and_is_accepted() -> None:
    shown = yaml.safe_load(policy_yaml())
    defaults = {node: {p.name: p.default for p in parameters} for node, parameters in NODES.items()}
    assert {node: below["ros__parameters"] for node, below in shown.items()} == defaults
    check_file(config_path("policy.yaml"))


@pytest.mark.parametrize(("node", "parameter"), EVERY, ids=[f"{node}.{p.name}" for node, p in EVERY])
def test_every_parameter_takes_its_default_and_is_described(node: str, parameter: Parameter) -> None:
    parameter.check(parameter.default)
    assert parameter.text and not parameter.text.endswith(".") and "|" not in parameter.text
    assert parameter.range is None or parameter.word or isinstance(parameter.default, int | float)
    assert not parameter.choices or isinstance(parameter.default, str)
    assert list(table(node)).count(parameter.name) == 1


@given(st.sampled_from([p for _, p in EVERY]), st.none() | st.booleans() | st.integers() | st.floats() | st.text())
def test_what_is_taken_has_the_type_and_lies_in_the_range(parameter: Parameter, value: object) -> None:
    try:
        parameter.check(value)
    except ParameterError as error:
        assert parameter.name in str(error) and parameter.takes in str(error)
        return
    if parameter.word and value == parameter.word:
        return
    assert type(value) in ((int, float) if parameter.word else (type(parameter.default),))
    assert parameter.range is None or parameter.range[0] <= value <= parameter.range[1]  # type: ignore[operator]
    assert not parameter.choices or value in parameter.choices


@given(st.sampled_from(EVERY), st.integers(0, 30))
def test_a_name_with_a_letter_missing_is_told_its_right_name(entry: tuple[str, Parameter], place: int) -> None:
    node, parameter = entry
    place %= len(parameter.name)
    wrong = parameter.name[:place] + parameter.name[place + 1 :]
    if wrong not in table(node) and len(wrong) > 4:
        assert "did you mean" in unknown(node, wrong)
    assert unknown(node, parameter.name) == ""


@pytest.mark.parametrize("text", ["auto", "0.5", "1", "2.0", "1e-1"])
def test_a_number_or_its_word_is_read_and_found_in_a_file(tmp_path: Path, text: str) -> None:
    speed = table("policy")["execution_speed"]
    value = speed.read(text)
    assert value == ("auto" if text == "auto" else float(text))
    file = _file(tmp_path, f"policy:\n  ros__parameters:\n    execution_speed: {text}\n")
    check_file(file)
    assert from_file(file, "policy")["execution_speed"] == value


@pytest.mark.parametrize("text", ["", "0", "0.0", "-1", "3", "nan", "inf", "Auto", "true", "0,5", "1e-400"])
def test_what_is_neither_the_word_nor_such_a_number_is_refused(tmp_path: Path, text: str) -> None:
    takes = "execution_speed is .*: it takes auto or a number from 0.1 to 2.0"
    with pytest.raises(ParameterError, match=takes):
        table("policy")["execution_speed"].read(text)
    quoted = f"policy:\n  ros__parameters:\n    execution_speed: {text or repr(text)}\n"
    with pytest.raises(ParameterError, match=takes):
        check_file(_file(tmp_path, quoted))


def test_renamed_parameters_say_their_new_name() -> None:
    for node, names in RENAMED.items():
        for old, new in names.items():
            assert unknown(node, old) == f"parameter {old} of {node} is called {new} now"
            assert new in table(node)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("controller:\n  ros__parameters:\n    seam: blend\n", "seam of controller is called transition now"),
        ("controller:\n  ros__parameters:\n    blend: 0.3\n", "did you mean blend_s"),
        (
            "/left/controller:\n  ros__parameters:\n    blend_s: 9.0\n",
            "blend_s is 9.0: it takes a number from 0.0 to 5.0",
        ),
        ("left:\n  controller:\n    ros__parameters:\n      blend_s: x\n", "blend_s is 'x'"),
        ("controller:\n  ros__parameters:\n    transition: rest\n", "takes one of replace, blend, ensemble, rtc"),
        (
            "controller:\n  ros__parameters:\n    checkpoint: a\n",
            "controller has no parameter checkpoint: policy has it",
        ),
        ("policy:\n  ros__parameters:\n    rtc:\n      mod: 'off'\n", "rtc.mod: did you mean rtc.mode"),
        ("controler:\n  ros__parameters:\n    robot: a\n", "did you mean controller"),
        ("/**:\n  ros__parameters:\n    chekpoint: a\n", "no node has a parameter chekpoint: did you mean checkpoint"),
        ("/**:\n  ros__parameters:\n    seam: rtc\n", "seam is called transition now"),
        ("controller:\n  robot: a\n", "write ros__parameters:"),
        ("controller: [\n", "is not valid YAML"),
        ("", "is empty"),
        ("- a\n", "must hold node names"),
    ],
)
def test_wrong_parameter_files_are_named_with_the_cure(tmp_path: Path, text: str, message: str) -> None:
    path = _file(tmp_path, text)
    with pytest.raises(ParameterError) as caught:
        check_file(path)
    assert message in str(caught.value)
    assert all(str(path) in line for line in str(caught.value).splitlines())


def test_a_missing_parameter_file_is_named() -> None:
    with pytest.raises(ParameterError, match="/nowhere/my.yaml: there is no such parameter file"):
        check_file("/nowhere/my.yaml")


def test_nodes_of_others_and_parameters_for_all_may_be_in_the_file(tmp_path: Path) -> None:
    text = (
        "camera_driver:\n  ros__parameters:\n    exposure: 3\n"
        "/**:\n  ros__parameters:\n    use_sim_time: true\n    checkpoint: a\n"
        "/left/policy:\n  ros__parameters:\n    rtc:\n      max_guidance_weight: 1e1\n"
    )
    check_file(_file(tmp_path, text))


def test_yaml_values_come_back_as_they_went() -> None:
    for _, parameter in EVERY:
        assert yaml.safe_load(yaml_value(parameter.default)) == parameter.default


def test_parameters_are_declared_in_one_place_only() -> None:
    found = set()
    for path in (ROOT / "pi0_ros").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in ("declare_parameter", "declare_parameters"):
                found.add(path.relative_to(ROOT).as_posix())
    assert found == {"pi0_ros/nodes/parameters.py"}
