"""`pi0 robot check`: a robot file in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pi0_ros.base.share import config_path
from pi0_ros.cli.main import main
from pi0_ros.robot import load_robot
from pi0_ros.robot.lens import Lens
from pi0_ros.robot.words import explain

SHIPPED = sorted(path.stem for path in config_path("robots").glob("*.yaml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_all_that_a_shipped_file_names_is_said(name: str) -> None:
    robot = load_robot(name)
    text = " ".join(" ".join(explain(robot)).split())
    for stream in (*robot.cameras, *robot.state, *robot.commands, *robot.takeover.topics):
        assert stream.topic in text
    for item in (*robot.state, *robot.commands):
        assert all(named in text for named in (item.type, *item.joints, *item.message_names))
    assert all(part in text for camera in robot.cameras for part in (camera.name, camera.slot))


def test_what_a_stream_may_say_changes_the_words() -> None:
    demo = load_robot("demo_arm")

    def told(**changed) -> str:
        return " ".join(" ".join(explain(replace(demo, **changed))).split())

    camera, state = demo.cameras[0], demo.state[0]
    many = (57.3,) * len(state.joints)
    for key, value in (
        ("cameras", replace(camera, crop=(1, 2, 30, 40))),
        ("cameras", replace(camera, rotate=90)),
        ("cameras", replace(camera, rectify=Lens((640, 480), (400.0, 400.0, 320.0, 240.0), (0.1, 0.0, 0.0, 0.0)))),
        ("cameras", replace(camera, depth=(0.2, 2.0))),
        ("cameras", replace(camera, frozen_s=3.5)),
        ("state", replace(state, stamp="arrival")),
        ("state", replace(state, scale=many)),
        ("state", replace(state, offset=many)),
        ("state", replace(state, names_from="order")),
        ("commands", replace(demo.commands[0], hold=True)),
        ("commands", replace(demo.commands[0], scale=(2.0,) * len(demo.commands[0].joints))),
    ):
        others = getattr(demo, key)[1:]
        assert told(**{key: (value, *others)}) != told(), value
    assert told(action_source="next_state") != told()
    for changed in ({"begins": "commands"}, {"timeout_s": 0.7}, {"topics": ()}):
        assert told(takeover=replace(demo.takeover, **changed)) != told(), changed


def test_the_command_prints_it_or_all_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["robot", "check", "demo_arm"]) == 0
    assert capsys.readouterr().out.startswith("demo_arm: ")
    text = config_path("robots", "demo_arm.yaml").read_text()
    file = tmp_path / "wrong.yaml"
    file.write_text(text.replace("unit: rad", "unit: deg").replace("control_rate_hz", "control_rate", 1))
    assert main(["robot", "check", str(file)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == text.count("unit: rad") + 1 and all(str(file) in line for line in lines)
    assert sum("57.29578" in line and "scale" in line for line in lines) == text.count("unit: rad")
