"""A base's place by odometry, with hands that /tf and arrays tell of, in recordings: as far as a trained policy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bagmaker import (
    START_NS,
    Recipe,
    make_bag,
    odometry_message,
    pose_message,
    poses_message,
    transforms_message,
)
from first_policy import first_policy
from hand import path as hand_path
from seen_poses import SEEN

from pi0_ros.bags.reader import Bag
from pi0_ros.conversion.align import rows, scan, ticks_of
from pi0_ros.conversion.bag_check import check_bag
from pi0_ros.observation.joint_messages import pose_numbers
from pi0_ros.robot import robot_from_yaml

ROBOT = robot_from_yaml(SEEN, "seen.yaml")
SECONDS = 3.0


def heading(t_s: float) -> float:
    """Through half a turn, where an angle's name jumps."""
    return 3.0 + 0.3 * t_s


def recorded(path: Path, child: str = "tool0", parent: str = "base_link") -> Path:
    places, turns = hand_path(5, np.arange(round(SECONDS * 50) + 1) * 0.02)
    extra: list[tuple[float, str, str, object]] = []
    for number, (place, turn) in enumerate(zip(places, turns)):
        t_s, ns = number * 0.02, START_NS + number * 20_000_000
        odometry = odometry_message(ns, 0.2, 0.3, (0.2 * t_s, 0.1 * np.sin(t_s)), heading(t_s))
        extra.append((t_s, "/odom", ROBOT.state[0].type, odometry))
        ahead = odometry_message(ns, 0.2, 0.3, (0.2 * t_s + 0.02, 0.1 * np.sin(t_s)), heading(t_s + 0.1)).pose.pose
        q = ahead.orientation
        place_ahead = np.array([ahead.position.x, ahead.position.y, 0.0])
        target = pose_message(ns, place_ahead, np.array([q.x, q.y, q.z, q.w]), "odom")
        extra.append((t_s, "/base/target", ROBOT.commands[0].type, target))
        several = poses_message(ns, [place, -place], [turn, turn], "base_link")
        extra.append((t_s, "/poses", ROBOT.state[2].type, several))
        told = transforms_message(ns, ("map", "odom", place, turn), (parent, child, place, turn))
        extra.append((t_s, "/tf", ROBOT.state[4].type, told))
    return make_bag(path, replace(ROBOT, state=(), commands=()), Recipe(seconds=SECONDS, extra=extra))


def test_rows_have_each_pose_and_the_speed(tmp_path: Path) -> None:
    with Bag(recorded(tmp_path / "bag")) as bag:
        found = scan(bag, ROBOT)
        ticks = ticks_of(found, ROBOT)
        table = list(rows(bag, ROBOT, found, ticks, lambda tick: "go"))
    state = np.array([row.observation.state for row in table if row.observation is not None])
    assert len(state) == len(ticks) > 50 and np.isfinite(state).all()
    column = dict(zip(ROBOT.state_names, state.T))
    times = np.floor((ticks - START_NS) * 1e-9 / 0.02 + 1e-6) * 0.02
    np.testing.assert_allclose(column["base.x"], 0.2 * times, atol=1e-9)
    np.testing.assert_allclose(column["base.r1"], np.cos(heading(times)), atol=1e-9)
    np.testing.assert_allclose(column["right.x"], -column["left.x"], atol=1e-12)
    assert np.ptp(column["tool.x"]) > 0.01 and set(column["forward"]) == {0.2}


def test_a_transform_that_is_not_there_or_not_direct_is_said(tmp_path: Path) -> None:
    for number, (child, parent, sentence) in enumerate(
        [
            (
                "flange",
                "base_link",
                "no message has the transform base_link -> tool0; they have map -> odom",
            ),
            ("tool0", "wrist", "/tf: the transform to tool0 is told in 'wrist', the robot file says 'base_link'"),
        ]
    ):
        findings = check_bag(recorded(tmp_path / f"bag_{number}", child, parent), ROBOT).findings
        assert sentence in " ".join(finding.what for finding in findings), [finding.what for finding in findings]


@pytest.mark.slow
def test_from_recordings_to_a_policy_that_knows_no_place(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from pi0_ros.inference.options import PolicyOptions
    from pi0_ros.observation.streams import Observation
    from pi0_ros.policy.backends import make_backend
    from pi0_ros.policy.transforms import state_to_model

    recorded(tmp_path / "bags" / "episode_000000")
    _, _, checkpoint = first_policy(tmp_path, SEEN, 40)
    backend = make_backend(PolicyOptions(checkpoint=str(checkpoint), torch_threads=1), robot=ROBOT)
    rest = np.array([joint.neutral for joint in ROBOT.state_joints])
    states = np.tile(rest, (2, 1))
    for state, place, turn in zip(states, (0.0, 3.0), ([0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0])):
        state[:9] = pose_numbers(ROBOT.poses[0], np.array([place, 0.0, 0.0]), np.array(turn))
    told = state_to_model(backend.spec, states)
    np.testing.assert_array_equal(told[0], told[1])
    actions = [backend.infer(Observation(7, {}, state, "go", {})).actions for state in states]
    backend.close()
    near = [np.linalg.norm(chunk[:, :2] - state[:2], axis=1).max() for chunk, state in zip(actions, states)]
    assert max(near) < 2.0, "each goes on from where the base is"
