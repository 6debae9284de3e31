"""Tab completion through bash itself, NO_COLOR, and readers that have seen enough."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pi0_ros.cli.completion import candidates

PI0 = f'"{sys.executable}" -m pi0_ros.cli'


@pytest.mark.parametrize(
    ("words", "among", "not_among"),
    [
        ([""], "doctor ", "demo_arm "),
        (["rec"], "record-demo ", "doctor "),
        (["bag", "c"], "check ", "info "),
        (["up", "po"], "policy ", "demo "),
        (["up", "policy", "rob"], "robot:=", "rviz:="),
        (["up", "policy", "robot:=demo"], "robot:=demo_arm ", "robot:=ur5e "),
        (["up", "policy", "transition:="], "transition:=rtc ", "robot:="),
        (["up", "demo", "view:="], "view:=false ", "view:="),
        (["doctor", "--rob"], "--robot ", "--live "),
        (["doctor", "--robot", "ur"], "ur5e ", "aloha "),
        (["completion", ""], "zsh ", "--help "),
    ],
)
def test_what_may_follow(words: list[str], among: str, not_among: str) -> None:
    found = candidates(words)
    assert among in found and not_among not in found, found
    assert candidates(["no-such-command", ""]) == []


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("line", "wanted"),
    [("pi0 doc", "doctor "), ("pi0 up policy robot:=demo_a", "demo_arm "), ("pi0 up demo namesp", "namespace:=")],
)
def test_bash_completes(line: str, wanted: str) -> None:
    """As bash calls it: what stands behind a colon or an equals sign is a word of its own to it."""
    script = f"""pi0() {{ {PI0} "$@"; }}
. <(pi0 completion bash)
COMP_LINE='{line}' COMP_POINT={len(line)}
_pi0
printf '%s|' "${{COMPREPLY[@]}}" """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout == f"{wanted}|", done.stdout + done.stderr


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["up", "policy", "--show-args"], ["doctor", "--help"]])
def test_a_reader_that_is_gone_is_no_reason_to_complain(words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    argv = [sys.executable, "-m", "pi0_ros.cli", *words]
    done = subprocess.run(argv, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(writer)
    assert done.returncode in (0, 141) and done.stderr == "", done.stderr  # 0: argparse's own help


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_no_color(no_color: str, coloured: bool, tmp_path: Path) -> None:
    pytest.importorskip("rclpy")
    master, slave = pty.openpty()
    environment = {**os.environ, "NO_COLOR": no_color, "TERM": "xterm"}
    argv = [sys.executable, "-m", "pi0_ros.cli", "doctor", "--robot", "demo_arm"]
    process = subprocess.Popen(argv, stdout=slave, stderr=slave, env=environment, cwd=tmp_path)
    os.close(slave)
    printed = b""
    try:
        while data := os.read(master, 65536):
            printed += data
    except OSError:  # the terminal's other end is closed
        pass
    os.close(master)
    process.wait(60)
    assert b"robot" in printed and (b"\x1b[" in printed) == coloured, printed
