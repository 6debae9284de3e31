"""A person takes over and hands back over real DDS: controller and recorder in their own processes, then converted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Processes

rclpy = pytest.importorskip("rclpy")
from handovers import Leader, authors, hand_over, judged  # noqa: E402
from launched import ROBOT, Body  # noqa: E402
from spinning import spinning  # noqa: E402

from pi0_ros.robot import Robot, robot_to_yaml  # noqa: E402

pytestmark = pytest.mark.dds
TAKEOVERS, PATIENT_S = 4, 10.0  # of a busy machine


def patient() -> Robot:
    """The demo's arm, whose streams may pause."""
    return replace(
        ROBOT,
        cameras=tuple(replace(camera, max_age_s=PATIENT_S) for camera in ROBOT.cameras),
        state=tuple(replace(item, max_age_s=PATIENT_S) for item in ROBOT.state),
        action_max_age_s=PATIENT_S,
        takeover=replace(ROBOT.takeover, timeout_s=PATIENT_S),
    )


def test_handovers_are_smooth_and_every_frame_has_its_author(
    ros_context: rclpy.Context, processes: Processes, tmp_path: Path
) -> None:
    bags, robot, file = tmp_path / "bags", patient(), tmp_path / "patient.yaml"
    file.write_text(robot_to_yaml(robot))
    processes.node("controller_node", robot=str(file), rearm_after_s=600.0, chunk_timeout_s=600.0)
    processes.node("recorder_node", robot=str(file), out_dir=str(bags))
    body, leader = Body(ros_context, cameras=True), Leader(robot, ros_context, np.random.default_rng(0))
    with spinning(ros_context, body), spinning(ros_context, leader):
        leader.arm()
        leader.until(lambda: leader.in_charge == "policy", "the policy in charge")
        hand_over(leader, TAKEOVERS, shortest_s=1.0)
        verdict = judged(leader)
    assert not verdict.breaches and verdict.messages > 100
    found = authors(bags, tmp_path / "dataset", robot, leader.moments, 0.5, leader.breaks)
    assert found["wrong"] == 0 and found["episodes"] >= TAKEOVERS, "a stall of a busy machine cuts one in two"
    assert found["person"] > 20 and found["policy"] > 10
