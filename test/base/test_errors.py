"""What the user can mend is one line and status 2; a bug shows where it is and ends with status 70."""

from __future__ import annotations

import inspect
import os
from importlib import import_module

import pytest
from test_import_floors import modules

from pi0_ros.base import errors
from pi0_ros.base.errors import InputError, Pi0Error, mendable, report, take_traceback

OPTIONAL = {"rclpy", "mujoco", "viser", "yourdfpy", "ray", "torch", "av", "pyarrow", "matplotlib"}


def error_classes() -> list[type[Exception]]:
    """Every exception that this package defines, of the modules that can be imported here."""
    found: dict[str, type[Exception]] = {}
    for name in modules():
        if name.endswith("__main__"):
            continue
        try:
            module = import_module(name)
        except ImportError as error:
            if (error.name or "").split(".")[0] in OPTIONAL:
                continue
            raise
        for _, kind in inspect.getmembers(module, inspect.isclass):
            if issubclass(kind, Exception) and kind.__module__ == name:
                found[f"{name}.{kind.__name__}"] = kind
    return [found[name] for name in sorted(found)]


def test_every_error_of_this_package_is_a_pi0_error() -> None:
    kinds = error_classes()
    assert len(kinds) > 20
    assert not [kind.__name__ for kind in kinds if not issubclass(kind, Pi0Error)]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("robot.yaml:3: joints: missing"), "robot.yaml:3: joints: missing"),
        (Pi0Error("two\n  lines"), "two lines"),
        (FileNotFoundError(2, "No such file or directory", "a/b.yaml"), "a/b.yaml: No such file or directory"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), "pip install 'pi0_ros[policy]'"),
        (ModuleNotFoundError("No module named 'av.codec'", name="av.codec"), "pip install 'pi0_ros[train]'"),
        (MemoryError(), "not enough memory"),
    ],
)
def test_what_the_user_can_mend_is_one_line(
    error: Exception, line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(errors.VARIABLE, raising=False)
    assert report(error, "pi0 x") == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and printed.startswith("pi0 x: ") and line in printed


@pytest.mark.parametrize(
    "error",
    [
        ValueError("operands could not be broadcast together with shapes (3,) (4,)"),
        KeyError("state"),
        TypeError("x"),
        ModuleNotFoundError("No module named 'pi0_ros.gone'", name="pi0_ros.gone"),
    ],
)
def test_a_bug_shows_its_traceback(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    assert mendable(error) is None
    try:
        raise error
    except Exception as raised:
        assert report(raised, "pi0 x") == 70
    printed = capsys.readouterr().err
    assert "Traceback (most recent call last)" in printed and __file__ in printed and "report" in printed


def test_details_stand_below_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(Pi0Error("sim ended", details="its last\nwords"), "pi0 demo") == 2
    assert capsys.readouterr().err == "pi0 demo: sim ended\nits last\nwords\n"


def test_traceback_on_request(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(errors.VARIABLE, "")
    assert take_traceback(["a", "b"]) == ["a", "b"] and os.environ[errors.VARIABLE] == ""
    assert take_traceback(["a", "--traceback", "b"]) == ["a", "b"]
    assert os.environ[errors.VARIABLE] == "1", "it holds for the processes that are started, too"
    try:
        raise InputError("no such joint")
    except InputError as raised:
        assert report(raised, "pi0 x") == 2
    printed = capsys.readouterr().err
    assert "Traceback" in printed and printed.endswith("pi0 x: no such joint\n")
