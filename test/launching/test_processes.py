"""`pi0 up` and ProcessGroup: processes are watched, and none outlives its group."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pi0_ros.base.middleware import without_shared_memory
from pi0_ros.base.share import config_path
from pi0_ros.cli.up import watch
from pi0_ros.launching import launches
from pi0_ros.launching.processes import ENDINGS, ProcessGroup, private_domain, ros_environment

STUBBORN = (
    "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('ready', flush=True)\ntime.sleep(60)\n"
)
OBEDIENT = """
import signal, sys, time
signal.signal(signal.SIGINT, lambda *_: (print("last words", flush=True), sys.exit(0)))
print("ready", flush=True)
while True:
    time.sleep(0.05)
"""


def _start(group: ProcessGroup, name: str, code: str, **options: bool) -> int:
    return group.start(name, [sys.executable, "-c", code], **options)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_stop_asks_first_and_then_insists(tmp_path: Path, wait_until) -> None:
    with ProcessGroup(tmp_path, grace_s=1.0) as group:
        pids = [_start(group, "obedient", OBEDIENT), _start(group, "stubborn", STUBBORN)]
        wait_until(lambda: all("ready" in group.output(name) for name in group.names()))
        ended = {end.name: end.returncode for end in group.stop()}
    assert ended == {"obedient": 0, "stubborn": -signal.SIGTERM}
    assert group.tail("obedient", 1) == "last words"
    assert not any(_alive(pid) for pid in pids)
    assert group.poll() == []  # stopped by us: no news


def test_leaving_the_group_stops_everything_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), ProcessGroup(tmp_path, grace_s=1.0) as group:
        pid = _start(group, "sleeper", "import time; time.sleep(60)")
        raise RuntimeError
    assert not _alive(pid)


def test_a_required_process_that_dies_ends_the_watch_with_its_reason(tmp_path: Path, capsys) -> None:
    with ProcessGroup(tmp_path, grace_s=1.0) as group:
        _start(group, "other", "import time; time.sleep(60)")
        _start(group, "broken", "raise SystemExit('no such checkpoint: runs/x')")
        assert watch(group, stop=[]) == 1
    printed = capsys.readouterr().out
    assert "broken ended with exit status 1" in printed
    assert "no such checkpoint: runs/x" in printed


def test_a_process_that_is_not_required_may_die(tmp_path: Path, wait_until) -> None:
    with ProcessGroup(tmp_path, grace_s=1.0) as group:
        _start(group, "controller", OBEDIENT)
        _start(group, "policy", "raise SystemExit(3)", required=False)
        wait_until(lambda: not group.is_running("policy"))
        assert [(end.name, end.returncode, end.required) for end in group.poll()] == [("policy", 3, False)]
        assert group.is_running("controller")
        first = group.pid("policy")
        assert _start(group, "policy", OBEDIENT) != first  # may be started again
        with pytest.raises(ValueError, match="already running"):
            _start(group, "policy", OBEDIENT)


def test_new_lines_gives_each_complete_line_once(tmp_path: Path, wait_until) -> None:
    with ProcessGroup(tmp_path) as group:
        _start(group, "talker", "print('one'); print('two'); print('unfinished', end='')")
        wait_until(lambda: not group.is_running("talker"))
        assert group.new_lines() == [("talker", "one"), ("talker", "two")]
        assert group.new_lines() == []


def test_children_end_when_their_group_is_killed(tmp_path: Path, wait_until) -> None:
    code = (
        "import sys, time; from pathlib import Path; from pi0_ros.launching.processes import ProcessGroup\n"
        f"group = ProcessGroup(Path({str(tmp_path)!r}))\n"
        "print(group.start('child', ['sleep', '60']), flush=True); time.sleep(60)"
    )
    if not Path("/usr/bin/setpriv").exists():
        pytest.skip("needs setpriv (util-linux)")
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        time.sleep(0.3)  # setpriv asks the kernel before it becomes `sleep`
        assert _alive(child)
    finally:
        parent.kill()
        parent.wait()
    wait_until(lambda: not _alive(child), 10)


def test_ros_environment_respects_the_users_choice(monkeypatch) -> None:
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    monkeypatch.delenv("FASTRTPS_DEFAULT_PROFILES_FILE", raising=False)
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    assert Path(ros_environment()["FASTRTPS_DEFAULT_PROFILES_FILE"]).is_file()
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", "/mine.xml")
    assert ros_environment()["FASTRTPS_DEFAULT_PROFILES_FILE"] == "/mine.xml"
    monkeypatch.setenv("ROS_DISTRO", "kilted")
    assert ros_environment()["FASTRTPS_DEFAULT_PROFILES_FILE"] == "/mine.xml"  # which it still reads
    monkeypatch.delenv("FASTRTPS_DEFAULT_PROFILES_FILE")
    assert "FASTDDS_DEFAULT_PROFILES_FILE" in ros_environment(localhost=True, domain_id=42)
    assert ros_environment(localhost=True, domain_id=42)["ROS_DOMAIN_ID"] == "42"


@pytest.mark.parametrize("given", ["0", "7"])
def test_a_demo_is_in_the_domain_that_was_asked_for(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", given)
    assert private_domain() == int(given)
    monkeypatch.delenv("ROS_DOMAIN_ID")
    assert 50 <= private_domain() < 100


@pytest.mark.parametrize(
    ("given", "file", "more"),
    [
        ({}, "fastdds_sockets.xml", {}),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}, "fastdds_sockets.xml", {}),
        (
            {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "ROS_LOCALHOST_ONLY": "1"},
            "fastdds_loopback.xml",
            {"ROS_AUTOMATIC_DISCOVERY_RANGE": "SYSTEM_DEFAULT", "ROS_LOCALHOST_ONLY": "0"},
        ),
    ],
)
def test_profiles_without_shared_memory_replace_ours_only(given, file, more) -> None:
    name = "FASTDDS_DEFAULT_PROFILES_FILE"
    for chosen in ({}, {name: str(config_path("fastdds_profiles.xml"))}):
        found = without_shared_memory({"ROS_DISTRO": "kilted"} | given | chosen)
        text = Path(found.pop(name)).read_text()
        assert text == config_path(file).read_text() and found == more
        assert "<type>SHM</type>" not in text and ("127.0.0.1" in text) == bool(more)
    assert without_shared_memory({"FASTRTPS_DEFAULT_PROFILES_FILE": "/mine.xml"} | given) == {}


def test_launch_arguments_become_typed_parameters() -> None:
    given = launches.parse_arguments(["checkpoint:=runs/a", "prompt:=take: it", "use_sim_time:=true", "robot:=1"])
    commands = {command.name: command for command in launches.resolve(launches.find("policy.launch.py"), given)}
    assert list(commands) == ["controller", "policy", "monitor"]
    assert commands["controller"].parameters == {"robot": "1", "auto_arm": False, "use_sim_time": True}
    assert commands["policy"].parameters.keys() == {"robot", "checkpoint", "prompt", "use_sim_time"}  # else params_file
    argv = commands["policy"].argv()
    assert 'prompt:="take: it"' in argv
    assert 'robot:="1"' in argv
    assert argv[-2:] == ["--log-level", "info"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["checkpoint:=x"], "robot:=... must be given"),
        (["robot:=demo_arm", "chekpoint:=x"], "did you mean 'checkpoint'"),
        (["robot:=demo_arm", "auto_arm:=perhaps"], "takes true or false"),
        (["robot"], "write name:=value"),
        (["robot:=demo_arm", "server:=a", "server:=b"], "argument 'server' is given twice"),
        (["robot:=demo_arm", "backend:=zmq", "checkpoint:=x"], "checkpoint:=x is read with backend:=local only"),
        (["robot:=demo_arm", "checkpoint:=x", "server:=a"], "server:=a is read with backend:=zmq or openpi only"),
        (["robot:=demo_arm", "checkpoint:=x", "keys:=a"], "keys:=a is read with backend:=zmq only"),
        (["robot:=demo_arm", "backend:=zmq", "token_file:=a"], "token_file:=a is read with backend:=openpi only"),
        (["robot:=demo_arm", "checkpoint:=x", "deadman_button:=4"], "is read with deadman_topic:=... only"),
    ],
)
def test_wrong_launch_arguments_are_named(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        launches.resolve(launches.find("policy"), launches.parse_arguments(words))


def test_unknown_launch_file_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="policy, record, monitor, demo"):
        launches.find("nonsense.launch.py")


def test_every_passed_argument_exists_and_every_argument_is_described() -> None:
    for name, launch in launches.LAUNCHES.items():
        known = {argument.name for argument in launch.arguments}
        for process in launch.processes:
            assert set(process.passes) <= known, (name, process.name)
            assert not process.when or process.when in known, (name, process.name)
        assert all(argument.help for argument in launch.arguments)
        assert launches.describe(launch).startswith(launch.summary)


def test_simulated_time_comes_from_the_simulator() -> None:
    commands = {c.name: c for c in launches.resolve(launches.find("demo"), {"use_sim_time": "true", "view": "false"})}
    assert commands["sim"].parameters["clock"] is True
    assert "use_sim_time" not in commands["sim"].parameters
    assert all(command.parameters["use_sim_time"] is True for name, command in commands.items() if name != "sim")


def test_a_namespace_reaches_nodes_topics_and_sections_of_the_parameter_file(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text(
        "controller:\n  ros__parameters:\n    blend_s: 0.1\n    tracking_s: 0.3\n"
        "left:\n  controller:\n    ros__parameters:\n      blend_s: 5e-1\n"
        "/**:\n  ros__parameters:\n    blend_s: 0.0\n    checkpoint: runs/a\n"
    )
    given = {"robot": "demo_arm", "namespace": "left", "params_file": str(file), "transition": "rtc"}
    commands = {command.name: command for command in launches.resolve(launches.find("policy"), given)}
    controller = commands["controller"]
    assert controller.parameters["blend_s"] == 0.5  # the most exact section wins
    assert controller.parameters["tracking_s"] == 0.3
    assert controller.parameters["transition"] == "rtc"
    assert "checkpoint" not in controller.parameters
    assert commands["policy"].parameters["checkpoint"] == "runs/a"
    argv = controller.argv()
    assert "__ns:=/left" in argv
    assert "/demo_arm/command:=demo_arm/command" in argv
    assert "/demo_arm/teleop:=demo_arm/teleop" in argv, "a person who leads the left arm leads no other"


def _ends_a_process(number: signal.Signals) -> bool:
    process = subprocess.Popen(["sleep", "60"])
    process.send_signal(number)
    try:
        return process.wait(0.5) == -number
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False


def test_every_signal_that_ends_a_process_and_can_be_caught_ends_a_node_in_order() -> None:
    bugs = {signal.SIGILL, signal.SIGTRAP, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV, signal.SIGSYS}
    of_python = {signal.SIGPIPE, signal.SIGXFSZ}  # which it ignores: the call fails instead
    others = set(signal.Signals) - bugs - of_python - {signal.SIGKILL, signal.SIGSTOP}
    others -= {number for number in others if number >= signal.SIGRTMIN}
    ending = {number for number in others if _ends_a_process(number)}
    assert {signal.SIGTERM, signal.SIGUSR1} <= ending <= set(ENDINGS)
