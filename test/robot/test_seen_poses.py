"""Poses that share a topic with others: which is meant, what is refused, and one that counts from the chunk's start."""

from __future__ import annotations

import re
from types import SimpleNamespace as Said

import numpy as np
import pytest
from seen_poses import SEEN

from pi0_ros.observation.joint_messages import JointsHeard, MessageError, decode_state
from pi0_ros.robot import RobotFileError, robot_from_yaml, robot_to_yaml, rotations
from pi0_ros.robot.units import actions_from_model, actions_to_model, state_to_model
from pi0_ros.robot.words import explain

ROBOT = robot_from_yaml(SEEN, "seen.yaml")
TF_ENTRY = ROBOT.state[4]


def transform(parent: str, child: str, x: float) -> Said:
    place, turn = Said(x=x, y=0.0, z=0.0), Said(x=0.0, y=0.0, z=0.0, w=1.0)
    header = Said(frame_id=parent)
    return Said(header=header, child_frame_id=child, transform=Said(translation=place, rotation=turn))


def test_the_file_says_which_pose_is_meant() -> None:
    assert robot_from_yaml(robot_to_yaml(ROBOT), "again") == ROBOT
    assert [(item.index, item.child) for item in ROBOT.state] == [
        (None, ""),
        (None, ""),
        (0, ""),
        (1, ""),
        (None, "tool0"),
    ]
    assert [item.speeds for item in ROBOT.state] == [False, True, False, False, False]
    words = re.sub(r"\s+", " ", "\n".join(explain(ROBOT)))
    assert "(its pose number 1)" in words and "(its transform to tool0)" in words
    assert "the model sees it from where its chunk starts" in words


WRONG = {
    "no index": (", index: 0", "", "state[2].index: missing: write which pose of its messages it is, from 0 on"),
    "no child": (", child: tool0", "", "state[4].child: missing: write the frame (child_frame_id)"),
    "one index twice": ("index: 1", "index: 0", "state[3].index: state[2] has this topic already, and this pose of it"),
    "a slash": (
        "child: tool0",
        "child: /tool0",
        "state[4].child: frames have no slash in front since ROS 2: write tool0",
    ),
    "what never moves": (
        "topic: /tf,",
        "topic: /tf_static,",
        "state[4].topic: what /tf_static says never moves: write",
    ),
    "a stamp of many": (
        "child: tool0, ",
        "child: tool0, stamp: header, ",
        "state[4].stamp: messages on /tf hold many stamps and count by their arrival: write arrival",
    ),
    "an index of odometry": ("joints: [base],", "joints: [base], index: 0,", "state[0].index: unknown key"),
    "a start without a way": (
        "action: relative, seen_from: start",
        "action: absolute, seen_from: start",
        "joints[0].seen_from: start needs actions that start there, too: write the action relative, or frame",
    ),
    "seen from nowhere": ("seen_from: start", "seen_from: there", "joints[0].seen_from: 'there' is not known"),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=list(WRONG))
def test_what_is_not_clear_is_refused(wrong: tuple[str, str, str]) -> None:
    before, after, sentence = wrong
    assert SEEN.count(before) >= 1
    with pytest.raises(RobotFileError) as caught:
        robot_from_yaml(SEEN.replace(before, after, 1), "seen.yaml")
    found = [line for line in (str(caught.value), *caught.value.details.splitlines()) if sentence in line]
    assert found and re.match(r"seen\.yaml:\d+: ", found[0].strip()), str(caught.value)


def test_of_transforms_only_the_frames_own_is_read_and_the_last() -> None:
    told = Said(transforms=[transform("odom", "base", 9.0), *(transform("base_link", "tool0", x) for x in (1.0, 2.0))])
    assert decode_state(TF_ENTRY, told)[0] == 2.0
    others = Said(transforms=[transform("odom", "base", 9.0), transform("tool0", "camera", 3.0)])
    assert np.isnan(decode_state(TF_ENTRY, others)).all()
    with pytest.raises(
        MessageError, match="/tf: the transform to tool0 is told in 'wrist', .* only one direct transform"
    ):
        decode_state(TF_ENTRY, Said(transforms=[transform("wrist", "tool0", 1.0)]))
    heard = JointsHeard([TF_ENTRY])
    heard(others)
    assert "no message has the transform base_link -> tool0; they have odom -> base, tool0 -> camera" in heard.never()


def test_an_array_that_is_too_short_is_said() -> None:
    header = Said(frame_id="base_link")
    with pytest.raises(MessageError, match=r"/poses: the message has 0 poses, the robot file reads number 1"):
        decode_state(ROBOT.state[3], Said(header=header, poses=[]))


def test_a_pose_that_is_seen_from_the_chunks_start_tells_the_model_no_place_and_its_actions_are_composed() -> None:
    """Where odometry began means nothing: the same way from elsewhere is the same to the model, the short way round."""
    rng = np.random.default_rng(0)
    at = ROBOT.state_space.poses[0]

    def planar(x: float, y: float, heading: float) -> np.ndarray:
        turn = np.array([0.0, 0.0, np.sin(heading / 2), np.cos(heading / 2)])
        return np.concatenate([[x, y, 0.0], at.writing.encode(turn)])

    told = []
    for x, y, heading in ((0.0, 0.0, 0.0), (3.0, -2.0, 3.1)):
        state = rng.normal(size=len(ROBOT.state_names))
        state[at.whole] = planar(x, y, heading)
        ahead = [(x + s * np.cos(heading), y + s * np.sin(heading), heading + s) for s in (0.1, 0.2, 0.3)]
        actions = np.array([planar(*one) for one in ahead])
        counts = actions_to_model(ROBOT, actions, state)
        told.append((state_to_model(ROBOT, state)[at.whole], counts))
        np.testing.assert_allclose(actions_from_model(ROBOT, counts, state), actions, atol=1e-9)
    np.testing.assert_allclose(told[0][1], told[1][1], atol=1e-9)
    for seen, counts in told:
        np.testing.assert_array_equal(seen, ROBOT.poses[0].identity)
        np.testing.assert_allclose(counts[:, :2], [[0.1, 0.0], [0.2, 0.0], [0.3, 0.0]], atol=1e-9)
        angles = rotations.size(rotations.between(np.array([0.0, 0, 0, 1]), at.writing.decode(counts[:, 3:])))
        np.testing.assert_allclose(np.ravel(angles), [0.1, 0.2, 0.3], atol=1e-9)
