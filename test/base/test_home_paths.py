"""`keys:=~/keys` and `--out=~/bags`: shells leave such a ~ alone, so whoever opens the path must know what it means."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import zmq

from pi0_ros.base.disk import expanded
from pi0_ros.base.errors import InputError
from pi0_ros.cli.main import main
from pi0_ros.inference.options import PolicyOptions
from pi0_ros.launching import launches
from pi0_ros.launching.lookups import look_up
from pi0_ros.policy.backends import make_backend
from pi0_ros.robot import load_robot

pytestmark = pytest.mark.skipif(not zmq.has("curve"), reason="libzmq without CURVE")
ROOT = Path(__file__).parents[2]
ROBOT = load_robot("demo_arm")
CHECKPOINT = ROOT / "pi0_ros" / "sim" / "checkpoint"
POLICIES = {
    "keys": {"backend": "zmq", "server": "tcp://127.0.0.1:9", "keys": "~/all/left"},
    "token_file": {"backend": "openpi", "server": "ws://127.0.0.1:9", "token_file": "~/token"},
    "tokenizer": {"checkpoint": str(CHECKPOINT), "tokenizer": "~/my.model"},
    "checkpoint": {"checkpoint": "~/policy"},
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    for folder in (home, elsewhere):
        folder.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(elsewhere)
    return home


@pytest.mark.parametrize("name", POLICIES)
def test_what_the_lookups_approve_the_node_can_open(name: str, home: Path) -> None:
    assert main(["keys", "create", "~/all", "left"]) == 0
    (home / "token").write_text("x" * 32)
    shutil.copy(CHECKPOINT / "tokenizer.model", home / "my.model")
    shutil.copytree(CHECKPOINT, home / "policy")
    look_up(launches.resolve(launches.find("policy"), {"robot": "demo_arm", **POLICIES[name]}))
    backend = make_backend(PolicyOptions(**POLICIES[name]), robot=ROBOT)
    if close := getattr(backend, "close", None):
        close()


@pytest.mark.parametrize("name", POLICIES)
def test_the_home_of_an_unknown_user_is_no_such_file(name: str) -> None:
    given = {"robot": "demo_arm", **POLICIES[name], name: "~nobody_of_this_name/x"}
    with pytest.raises(InputError, match="no such"):
        look_up(launches.resolve(launches.find("policy"), given))
    with pytest.raises(InputError, match="~nobody_of_this_name"):
        make_backend(PolicyOptions(**{**POLICIES[name], name: given[name]}), robot=ROBOT)


def test_commands_write_and_read_in_the_home_folder(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every path of a command, alone or one of several, with the option's = before it or not."""
    assert main(["layout", "foxglove", "--robot", "demo_arm", "--out=~/layout.json"]) == 0
    assert (home / "layout.json").is_file() and not list(Path.cwd().iterdir())
    (home / "bags").mkdir()
    assert main(["bag", "check", "~/bags", "--robot", "demo_arm"]) == 2
    assert f"{home}/bags" in capsys.readouterr().err


def test_a_path_is_expanded_in_one_place() -> None:
    """`Path.expanduser` ends in a RuntimeError for an unknown user."""
    files = (ROOT / "pi0_ros").rglob("*.py")
    own = {path.name for path in files if re.search(r"\bexpanduser\(", path.read_text(encoding="utf-8"))}
    assert own == {"disk.py"}, "use pi0_ros.base.disk.expanded"
    assert expanded("~/x") == Path.home() / "x" and expanded("x/~") == Path("x/~")
