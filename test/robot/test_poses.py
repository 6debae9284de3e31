"""A hand's poses: in the robot file, as the model counts them, in statistics and in messages."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from hand import COMMAND, FRAME, STAMPED, STATE, apart, hand_robot, hand_text, path, said, vectors
from hypothesis import given, settings
from hypothesis import strategies as st

from pi0_ros.conversion.idle import idle_frames
from pi0_ros.observation.joint_messages import MessageError, decode_command, decode_state
from pi0_ros.robot import Robot, RobotFileError, robot_from_yaml, robot_to_yaml, rotations
from pi0_ros.robot.rotations import WRITINGS
from pi0_ros.robot.units import actions_from_counted, actions_from_model, actions_to_model, counted_actions
from pi0_ros.training.statistics import measure

JOINTS, PLAN = "sensor_msgs/msg/JointState", "trajectory_msgs/msg/JointTrajectory"
SEVERAL = ("rot6d", "rot6d_rows", "axis_angle", "quaternion", "euler_xyz")


def motion(robot: Robot, seed: int, rows: int = 60) -> np.ndarray:
    return vectors(robot, *path(seed, np.arange(rows) * 0.05))


def moved_away(robot: Robot, values: np.ndarray, seed: int) -> np.ndarray:
    """The same motion of a robot that stands elsewhere, turned: as another base frame says it."""
    (pose,) = robot.action_space.poses
    rng = np.random.default_rng(seed)
    turn, away = rotations.normalized(rng.normal(size=4)), rng.normal(size=3)
    found = values.copy()
    found[..., pose.linear] = away + rotations.rotated(turn, values[..., pose.linear])
    q = rotations.product(
        np.broadcast_to(turn, (*values.shape[:-1], 4)), pose.writing.decode(values[..., pose.written])
    )
    found[..., pose.written] = pose.writing.encode(q)
    return found


@pytest.mark.parametrize("rotation", sorted(WRITINGS))
def test_a_robot_file_says_a_pose_in_one_entry(rotation: str) -> None:
    robot = hand_robot(rotation)
    (pose,) = robot.poses
    assert robot_from_yaml(robot_to_yaml(robot), "again") == robot
    assert robot.joint_names == (*pose.entries, "gripper") and robot.joint_names[:3] == ("hand.x", "hand.y", "hand.z")
    assert len(pose.entries) == 3 + len(WRITINGS[rotation].names)
    assert robot.topics[STATE] == robot.topics[COMMAND] == STAMPED
    assert robot.composed == (pose,) and not robot.relative_mask.any()
    document = yaml.safe_load(hand_text(rotation))
    document["joints"][0] |= {"model_index": 7}
    document["joints"][1] |= {"model_index": 0}
    placed = robot_from_yaml(yaml.safe_dump(document), "places.yaml")
    assert placed.state_places.tolist() == [*range(7, 7 + len(pose.entries)), 0]
    assert robot_from_yaml(robot_to_yaml(placed), "again") == placed


def changed(change: Any) -> str:
    document = yaml.safe_load(hand_text())
    change(document)
    return yaml.safe_dump(document, sort_keys=False)


@pytest.mark.parametrize(
    "change, sentence",
    [
        (lambda d: d["joints"][0].pop("frame"), "joints[0].frame: missing: write the frame"),
        (lambda d: d["joints"][0].update(frame="/base"), "joints[0].frame: frames have no slash in front"),
        (lambda d: d["joints"][0].update(rotation="euler"), "joints[0].rotation: 'euler' is not known"),
        (lambda d: d["joints"][0].update(action="velocity"), "joints[0].action: 'velocity' is not known"),
        (lambda d: d["joints"][0]["limits"].pop("angular"), "joints[0].limits.angular: missing"),
        (lambda d: d["joints"][0]["limits"]["linear"].update(jerk=1.0), "joints[0].limits.linear.jerk: a pose's jerk"),
        (lambda d: d["joints"][0]["limits"].update(jerk=1.0), "joints[0].limits.jerk: a pose's jerk cannot be limited"),
        (
            lambda d: d["joints"][0]["limits"].update(velocity=1.0, acceleration=2.0),
            "joints[0].limits.acceleration: of a pose there are two, m/s and rad/s: write it below linear and angular",
        ),
        (lambda d: d["joints"][0].update(unit="m"), "joints[0].unit: a pose is in m and rad: remove it"),
        (
            lambda d: d["joints"][0]["limits"]["position"].update(z=[1, 0]),
            "joints[0].limits.position.z: 1 is not below",
        ),
        (lambda d: d["joints"][1]["limits"].update(jerk=9.0), "joints[1].limits.jerk: no joint beside a pose (hand)"),
        (lambda d: d["state"][1].update(joints=["hand"]), "state[1].joints[0]: 'hand' is a pose"),
        (lambda d: d["state"][0].update(joints=["gripper"]), "state[0].joints[0]: 'gripper' is no pose"),
        (lambda d: d["state"][0].update(scale=[1000]), "state[0].scale: a pose is in m and unit quaternions"),
        (lambda d: d["commands"][0].update(points="trajectory"), "commands[0].points: a pose is sent at every tick"),
        (lambda d: d["commands"][0].update(on_change=0.1), "commands[0].on_change: only grippers are told on change"),
        (
            lambda d: d["commands"][0].update(type="trajectory_msgs/msg/MultiDOFJointTrajectory"),
            f" or geometry_msgs/msg/TwistStamped or {STAMPED} or geometry_msgs/msg/Pose",
        ),
        (lambda d: d["state"].pop(0), "state: no entry has joint 'hand'"),
        (
            lambda d: d["commands"].append({**d["commands"][0], "name": "b", "topic": "/b"}),
            "joint 'hand' is already in",
        ),
        (
            lambda d: d["commands"][1].update(type="trajectory_msgs/msg/JointTrajectory", points="trajectory"),
            "commands[1].points: whole plans cannot be sent beside poses yet",
        ),
        (lambda d: (d["joints"].pop(1), d["state"][1].pop("joints")), "state[1].type: it says no pose"),
        (lambda d: d.update(urdf="arm.urdf"), "urdf: the arm of a robot with a pose is not drawn yet"),
        (
            lambda d: d.update(takeover={"topics": [{"topic": "/t", "type": STAMPED}]}),
            "takeover.topics: no entry has joint 'gripper'",
        ),
        (
            lambda d: d.update(takeover={"topics": [{"topic": "/t", "type": STAMPED, "scale": [1.0]}]}),
            "takeover.topics[0].scale: a pose is in m",
        ),
        (
            lambda d: d.update(takeover={"topics": [{"topic": COMMAND, "type": STAMPED}]}),
            f"takeover.topics[0].topic: {COMMAND} is one of commands",
        ),
        (
            lambda d: d.update(takeover={"topics": [{"topic": "/t", "type": JOINTS, "joints": ["hand", "gripper"]}]}),
            f"takeover.topics[0].joints[0]: 'hand' is a pose, and no '{JOINTS}' says one",
        ),
    ],
)
def test_every_mistake_has_its_sentence(change: Any, sentence: str) -> None:
    with pytest.raises(RobotFileError) as caught:
        robot_from_yaml(changed(change), "hand.yaml")
    assert sentence in str(caught.value) + (caught.value.details or ""), str(caught.value)


def test_a_person_may_lead_by_poses() -> None:
    topics = [
        {"topic": "/person/hand", "type": STAMPED},
        {"topic": "/person/gripper", "type": JOINTS, "joints": ["gripper"]},
    ]
    robot = robot_from_yaml(hand_text(takeover={"topics": topics}), "led.yaml")
    hand, gripper = robot.takeover.topics
    assert hand.pose == robot.poses[0] and hand.joints == robot.poses[0].entries and gripper.joints == ("gripper",)
    assert robot_from_yaml(robot_to_yaml(robot), "again") == robot
    place, turn = (values[0] for values in path(0, np.zeros(1)))
    np.testing.assert_allclose(decode_command(hand, said(place, -turn)), vectors(robot, [place], [turn])[0][:-1])
    with pytest.raises(MessageError, match="/person/hand: the pose comes in the frame 'leader'"):
        decode_command(hand, said(place, turn, "leader"))


def test_a_pose_with_a_covariance_is_a_state_and_no_command() -> None:
    document = yaml.safe_load(hand_text("rot6d"))
    for kind in ("geometry_msgs/msg/PoseWithCovarianceStamped", "geometry_msgs/msg/PoseWithCovariance"):
        document["state"][0] |= {"type": kind}
        robot = robot_from_yaml(yaml.safe_dump(document), "covariance.yaml")
        assert robot.topics[STATE] == kind and robot_from_yaml(robot_to_yaml(robot), "again") == robot
    document["commands"][0] |= {"type": kind}
    with pytest.raises(RobotFileError, match=r"commands\[0\]\.type: a geometry_msgs/.* never commanded: write geom"):
        robot_from_yaml(yaml.safe_dump(document), "covariance.yaml")


def test_one_topic_says_one_pose() -> None:
    def two(document: Any) -> None:
        document["joints"].append({**document["joints"][0], "name": "other"})
        for key in ("state", "commands"):
            document[key][0]["joints"] = ["hand"]
            document[key].append({**document[key][0], "joints": ["other"], "name": "b"})
        document["commands"][-1]["topic"] = "/other/target"
        document["state"][-1].pop("name")

    with pytest.raises(RobotFileError, match=r"state\[2\].topic: state\[0\] has this topic already"):
        robot_from_yaml(changed(two), "hand.yaml")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 999), st.sampled_from(SEVERAL), st.sampled_from(("relative", "absolute")))
def test_actions_are_composed_and_come_back(seed: int, rotation: str, action: str) -> None:
    robot = hand_robot(rotation, action)
    values = motion(robot, seed)
    state, actions = values[None, 0], values[None, 3:33]
    for forth, back in ((actions_to_model, actions_from_model), (counted_actions, actions_from_counted)):
        again = back(robot, forth(robot, actions, state), state)
        assert apart(robot, again, actions).max() < 1e-9
        if rotation != "euler_xyz":  # beside a quarter turn of the middle angle the others may go anywhere
            assert np.abs(np.diff(again, axis=1)).max() < 0.5, "no name is jumped to"
    counts = actions_to_model(robot, actions, state)
    elsewhere = actions_to_model(robot, moved_away(robot, actions, seed), moved_away(robot, state, seed))
    if action == "relative":  # as the hand sees it: where the robot's base is does not matter
        np.testing.assert_allclose(elsewhere, counts, atol=1e-9)
        (pose,) = robot.action_space.poses
        q = [pose.writing.decode(x[..., pose.written]) for x in (state[:, None], counts, actions)]
        assert np.abs(rotations.between(rotations.product(q[0], q[1]), q[2])).max() < 1e-9
        place = state[:, None, :3] + rotations.rotated(q[0], counts[..., :3])
        np.testing.assert_allclose(place, actions[..., :3], atol=1e-9)
    noisy = counts + np.random.default_rng(seed).normal(0, 0.02, counts.shape)  # as a model puts it out
    found = actions_from_model(robot, noisy, state)
    assert apart(robot, found, robot.action_space.whole(found)).max() < 1e-9
    assert apart(robot, found, actions).max() < 0.3
    holes = actions.copy()
    holes[:, 5:8] = np.nan
    assert np.isnan(actions_to_model(robot, holes, state)[:, 5:8]).all()
    np.testing.assert_allclose(actions_to_model(robot, holes, state)[:, 8:], counts[:, 8:], atol=1e-9)


def dataset(robot: Robot, change: Any = lambda values: values) -> SimpleNamespace:
    episodes = []
    for seed in range(3):
        values = change(vectors(robot, *path(7, 0.02 * seed + np.arange(63) * 0.05, turns=0.15)))
        episodes.append(SimpleNamespace(state=values[:60], action=values[3:]))
    return SimpleNamespace(robot=robot, path="data", episodes=episodes)


@pytest.mark.parametrize("rotation", SEVERAL)
def test_statistics_know_no_names(rotation: str) -> None:
    robot = hand_robot(rotation)
    plain, _ = measure(dataset(robot), robot, 10)
    other, _ = measure(dataset(robot, lambda values: moved_away(robot, values, 3)), robot, 10)
    for field in ("mean", "std", "q01", "q99"):  # of composed actions
        np.testing.assert_allclose(other.actions.need(field), plain.actions.need(field), atol=1e-9)
    flipped, writing = robot.space.poses[0], WRITINGS[rotation]
    if writing.nearest is None:
        return

    def renamed(values: np.ndarray) -> np.ndarray:
        """Every second row by another name of the same rotation."""
        found = values.copy()
        rows = found[::2, flipped.written]
        turn = np.linalg.norm(rows, axis=1, keepdims=True)
        if rotation == "quaternion":
            found[::2, flipped.written] = -rows
        elif rotation == "axis_angle":
            found[::2, flipped.written] = rows * (1.0 - rotations.TURN / turn)
        else:
            found[::2, flipped.written] = rows * np.array([1, -1, 1]) + np.pi
        return found

    again, _ = measure(dataset(robot, renamed), robot, 10)
    for kind in ("state", "actions"):
        for field in ("mean", "std", "q01", "q99"):
            a, b = getattr(plain, kind).need(field), getattr(again, kind).need(field)
            np.testing.assert_allclose(b, a, atol=1e-9)
    still = np.tile(renamed(motion(robot, 1)[:1]), (60, 1))
    still[::2] = motion(robot, 1)[:1]
    assert idle_frames(still, robot, 20.0).all()


def test_messages_say_the_pose_in_its_frame() -> None:
    robot = hand_robot("quaternion")
    state, command = robot.state[0], robot.commands[0]
    q = rotations.normalized(np.array([0.1, -0.7, 0.2, 0.4]))
    for decode, item in ((decode_state, state), (decode_command, command)):
        np.testing.assert_allclose(decode(item, said([0.1, 0.2, 0.3], -q)), [0.1, 0.2, 0.3, *q])
        for message, sentence in (
            (said([0, 0, 0], q, "world"), f"the pose comes in the frame 'world', the robot file says '{FRAME}'"),
            (said([0, 0, 0], q, ""), "without a frame"),
            (said([0, 0, 0], 0.0 * q), "the orientation is no rotation: its quaternion has length 0"),
            (said([np.nan, 0, 0], q), "'x' is nan"),
            (SimpleNamespace(position=[1.0]), "the message is no geometry_msgs/msg/PoseStamped"),
        ):
            with pytest.raises(MessageError, match=sentence):
                decode(item, message)
    unsure = replace(state, type="geometry_msgs/msg/PoseWithCovarianceStamped")
    told = said([0.1, 0.2, 0.3], q)
    beside = SimpleNamespace(header=told.header, pose=SimpleNamespace(pose=told.pose, covariance=np.zeros(36)))
    np.testing.assert_allclose(decode_state(unsure, beside), [0.1, 0.2, 0.3, *q])
    bare = replace(state, type="geometry_msgs/msg/PoseWithCovariance")
    np.testing.assert_allclose(decode_state(bare, beside.pose), [0.1, 0.2, 0.3, *q])
    bare = replace(state, type="geometry_msgs/msg/Pose")
    np.testing.assert_allclose(decode_state(bare, said([0.1, 0.2, 0.3], q).pose), [0.1, 0.2, 0.3, *q])
