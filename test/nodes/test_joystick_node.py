"""A person with a gamepad leads the arm, over real DDS: gamepad, joystick, controller and recorder are processes."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Processes, wait_until

rclpy = pytest.importorskip("rclpy")
from handovers import Leader, Moment, authors, judged  # noqa: E402
from launched import ROBOT, Body  # noqa: E402
from spinning import spinning  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from pi0_ros.robot import Robot, robot_to_yaml  # noqa: E402

pytestmark = pytest.mark.dds
GAMEPAD = Path(__file__).parents[1] / "helpers" / "gamepad.py"
PATIENT_S = 10.0  # of a busy machine
HOLD, YAW = 4, 0  # button and axis
PUSHES = ((1.0, "up"), (-1.0, "down"))


class Gamepad:
    """Thumbs on the process that plays the driver."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def set(self, kind: str, number: int, value: float) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{kind} {number} {value:g}\n")
        self._process.stdin.flush()

    def unplug(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30.0)


@pytest.fixture
def gamepad(ros_domain: int) -> Iterator[Gamepad]:
    process = subprocess.Popen([sys.executable, str(GAMEPAD)], stdin=subprocess.PIPE, text=True)
    yield Gamepad(process)
    with contextlib.suppress(OSError):
        process.kill()
    process.wait()


def patient(begins: str) -> Robot:
    """The demo's arm, whose streams may pause."""
    takeover = replace(ROBOT.takeover, begins=begins, timeout_s=PATIENT_S if begins == "switch" else 1.0)
    return replace(
        ROBOT,
        cameras=tuple(replace(camera, max_age_s=PATIENT_S) for camera in ROBOT.cameras),
        state=tuple(replace(item, max_age_s=PATIENT_S) for item in ROBOT.state),
        action_max_age_s=PATIENT_S,
        takeover=takeover,
    )


def pushed(leader: Leader, until: Callable[[], bool], what: str) -> np.ndarray:
    """Commands [N, J] from now on until the arm is where the person wants it."""
    first = len(leader.sent)
    leader.until(until, what)
    return np.array([position for _, position in leader.sent[first:]])


@pytest.mark.parametrize("begins", ["switch", "commands"])
def test_the_arm_follows_the_stick_while_the_button_is_held(
    ros_context: rclpy.Context, processes: Processes, gamepad: Gamepad, tmp_path: Path, begins: str
) -> None:
    bags, robot, file = tmp_path / "bags", patient(begins), tmp_path / "patient.yaml"
    file.write_text(robot_to_yaml(robot))
    processes.node("controller_node", robot=str(file), rearm_after_s=600.0, chunk_timeout_s=600.0)
    processes.node("recorder_node", robot=str(file), out_dir=str(bags))
    processes.node("joystick_node", robot=str(file), axes=f"yaw={YAW}", hold_button=HOLD, speed=0.25, timeout_s=5.0)
    body, leader = Body(ros_context, cameras=True), Leader(robot, ros_context, np.random.default_rng(0))
    with spinning(ros_context, body), spinning(ros_context, leader):
        leader.arm()
        leader.until(lambda: leader.in_charge == "policy", "the policy in charge")
        leader.until(lambda: leader.count_publishers("joy") > 0 and body.moving(), "gamepad and a moving arm")
        gamepad.set("axis", YAW, 1.0)  # nobody holds the button: nothing happens
        time.sleep(1.0)
        assert leader.in_charge == "policy"
        gamepad.set("axis", YAW, 0.0)
        leader.call(leader.record["start"], Trigger.Request())
        time.sleep(1.0)
        for value, way in PUSHES:
            asked = leader.now()
            gamepad.set("button", HOLD, 1)
            leader.until(lambda: leader.in_charge == "person", "the person in charge")
            on = (asked, leader.now())
            rests = leader.sent[-1][1][0]
            gamepad.set("axis", YAW, value)
            path = pushed(leader, lambda value=value, r=rests: value * (leader.sent[-1][1][0] - r) > 0.2, f"yaw {way}")
            assert np.ptp(path[:, 1:], axis=0).max() < 0.05, "the other joints stay"
            gamepad.set("axis", YAW, 0.0)
            time.sleep(1.0)
            before, _ = len(leader.sent), time.sleep(0.5)
            assert np.ptp([position[0] for _, position in leader.sent[before:]]) < 1e-3, "it stays where it was put"
            assert leader.in_charge == "person"
            let_go = leader.now()
            gamepad.set("button", HOLD, 0)
            leader.until(lambda: leader.in_charge == "policy", "the policy in charge again")
            leader.moments.append(Moment(on, (let_go, leader.now())))
            time.sleep(1.0)
        leader.call(leader.record["success"], Trigger.Request())
        verdict = judged(leader)
    assert not verdict.breaches and verdict.messages > 100
    found = authors(bags, tmp_path / "dataset", robot, leader.moments, 0.5, leader.breaks)
    assert found["wrong"] == 0 and found["person"] > 20 and found["policy"] > 5, found


def test_an_unplugged_joystick_lets_the_policy_lead_again(
    ros_context: rclpy.Context, processes: Processes, gamepad: Gamepad, tmp_path: Path
) -> None:
    robot, file = patient("switch"), tmp_path / "patient.yaml"
    file.write_text(robot_to_yaml(robot))
    processes.node("controller_node", robot=str(file), rearm_after_s=600.0, chunk_timeout_s=600.0)
    processes.node("joystick_node", robot=str(file), axes=f"yaw={YAW}", hold_button=HOLD, timeout_s=2.0)
    body, leader = Body(ros_context), Leader(robot, ros_context, np.random.default_rng(0))
    with spinning(ros_context, body), spinning(ros_context, leader):
        leader.arm()
        leader.until(lambda: leader.in_charge == "policy" and leader.count_publishers("joy") > 0, "the policy")
        gamepad.set("axis", YAW, 1.0)
        gamepad.set("button", HOLD, 1)
        leader.until(lambda: leader.in_charge == "person", "the person in charge")
        gamepad.unplug()
        leader.until(lambda: leader.in_charge == "policy", "the policy in charge again")
        assert not judged(leader).breaches


def test_a_button_that_is_held_before_the_robot_is_armed_is_asked_for_again(
    ros_context: rclpy.Context, processes: Processes, gamepad: Gamepad, tmp_path: Path
) -> None:
    robot, file = patient("switch"), tmp_path / "patient.yaml"
    file.write_text(robot_to_yaml(robot))
    processes.node("controller_node", robot=str(file), rearm_after_s=600.0, chunk_timeout_s=600.0)
    processes.node("joystick_node", robot=str(file), axes=f"yaw={YAW}", hold_button=HOLD, timeout_s=5.0)
    body, leader = Body(ros_context), Leader(robot, ros_context, np.random.default_rng(0))
    with spinning(ros_context, body), spinning(ros_context, leader):
        leader.until(lambda: leader.count_publishers("joy") > 0, "the gamepad")
        gamepad.set("button", HOLD, 1)
        wait_until(lambda: "not taken over" in processes.output("joystick_node"), 60.0, "the refusal")
        leader.arm()
        leader.until(lambda: leader.in_charge == "person", "the person in charge")
        assert not judged(leader).breaches


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"robot": "demo_arm"}, 'say which axis moves which joint, for example axes:="yaw=0 shoulder=1"'),
        ({"robot": "so101", "axes": "shoulder_pan=0"}, "names no topic of a person: write `takeover` into its file"),
    ],
)
def test_a_joystick_that_cannot_lead_is_refused(processes: Processes, parameters: dict[str, str], said: str) -> None:
    processes.node("joystick_node", **parameters)
    wait_until(lambda: not processes.is_running("joystick_node"), 60.0, "its refusal")
    assert processes.returncode("joystick_node") == 2 and said in processes.output("joystick_node")
