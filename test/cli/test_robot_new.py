"""`pi0 robot new` from recordings and by options: what it writes, asks and refuses."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from bagmaker import (
    START_NS,
    TYPES,
    Recipe,
    header,
    joint_message,
    make_bag,
    odometry_message,
    pose_message,
    poses_message,
    transforms_message,
    unsure_pose_message,
)
from bagmaker import twist_message as hand_twist
from hypothesis import given, settings
from hypothesis import strategies as st
from new_robots import DEGREES, SO101, SO101_JOINTS, urdf

from pi0_ros.bags.reader import Bag
from pi0_ros.bags.survey import survey_bag
from pi0_ros.base.share import config_path
from pi0_ros.cli.main import main
from pi0_ros.control.limits import limits_of
from pi0_ros.conversion.align import rows, scan
from pi0_ros.robot import Robot, load_robot, robot_from_yaml
from pi0_ros.robot.evidence import ACTION, LOOKED_AT, SPEEDS, JointFacts, TopicFacts
from pi0_ros.robot.goals import KNOWN
from pi0_ros.robot.message_types import POSE_ARRAY, POSE_STATE_TYPES, POSE_TYPES, SEVERAL_POSES, TF, TWIST_STAMPED
from pi0_ros.robot.poses import called
from pi0_ros.robot.proposal import Wishes, propose

ARRAY, DEMO_URDF = "std_msgs/msg/Float64MultiArray", config_path("robots", "demo_arm.urdf")


def new(*words: object) -> int:
    return main(["robot", "new", *map(str, words)])


def test_a_recording_of_the_demo_gives_a_file_like_the_demos(tmp_path: Path, capsys) -> None:
    """The same joints, limits, cameras and topics; and rows that are equal to the last pixel."""
    demo, file = load_robot("demo_arm"), tmp_path / "new.yaml"
    path = make_bag(tmp_path / "bag", demo, Recipe(seconds=4.0, prompts=[(0.0, "push the cube")]))
    assert new("--bag", path, "--urdf", DEMO_URDF, "--out", file) == 0, capsys.readouterr().err
    robot = load_robot(file)
    assert (robot.name, robot.prompt, robot.dataset_fps) == (demo.name, "push the cube", demo.dataset_fps)
    for ours, theirs in zip(robot.joints, demo.joints, strict=True):
        limits = {"velocity": ours.velocity, "acceleration": ours.acceleration}  # nobody tells them
        assert ours == replace(theirs, **limits)
        assert ours.velocity <= 1.3 * theirs.velocity
    times = {"max_age_s": 0.0, "frozen_s": None}
    ours, theirs = ([replace(camera, **times) for camera in one.cameras] for one in (robot, demo))
    assert ours == theirs
    assert replace(robot.state[0], max_age_s=0.15) == demo.state[0] and len(robot.state) == 1
    assert replace(robot.commands[0], name="arm") == demo.commands[0] and len(robot.commands) == 1
    assert robot.action_source == demo.action_source
    seen: list[list] = []
    for one in (robot, demo):
        with Bag(path) as bag:
            found = scan(bag, one)
            ticks = np.arange(START_NS + 10**9, START_NS + 3 * 10**9, 10**8)
            seen.append(list(rows(bag, one, found, ticks, lambda tick: "")))
    for ours_row, theirs_row in zip(*seen, strict=True):
        np.testing.assert_array_equal(ours_row.action, theirs_row.action)
        np.testing.assert_array_equal(ours_row.observation.state, theirs_row.observation.state)
        for camera in demo.cameras:
            np.testing.assert_array_equal(*(row.observation.images[camera.name] for row in (ours_row, theirs_row)))


def so101_bag(folder: Path, order: list[str], lead_s: float = 0.06) -> Path:
    """In degrees; commands without names, in an order of their own, ahead of what the joints then do."""
    extra: list[tuple[float, str, str, object]] = []
    for number in range(200):
        t_s = 0.02 * number
        ns, where, goal = START_NS + round(t_s * 1e9), SO101.at(t_s), SO101.at(t_s + lead_s)
        message = joint_message(ns, list(where), np.array(list(where.values())))
        extra.append((t_s, SO101.states, "sensor_msgs/msg/JointState", message))
        layout = TYPES["std_msgs/msg/MultiArrayLayout"](dim=[], data_offset=0)
        told = TYPES[ARRAY](layout=layout, data=np.array([goal[name] for name in order]))
        extra.append((t_s, "/forward_controller/commands", ARRAY, told))
    nothing = replace(load_robot("demo_arm"), cameras=(), state=(), commands=())
    return make_bag(folder, nothing, Recipe(seconds=4.0, delay_s=0.0, extra=extra))


def test_the_order_of_numbers_is_told_by_the_motion(tmp_path: Path, capsys) -> None:
    order = ["gripper", *SO101_JOINTS[4::-1]]
    shape, file = tmp_path / "arm.urdf", tmp_path / "arm.yaml"
    shape.write_text(SO101.urdf)
    assert new("--bag", so101_bag(tmp_path / "bag", order), "--urdf", shape, "--out", file) == 0
    robot = load_robot(file)
    assert list(robot.joint_names) == SO101_JOINTS and robot.joints[4].continuous
    assert list(robot.commands[0].joints) == order
    assert robot.commands[0].scale == robot.state[0].scale == pytest.approx([DEGREES] * 6)
    command = next(line for line in file.read_text().splitlines() if "joints: [gripper" in line)
    assert "guessed" not in command, "it was seen"
    assert robot.cameras == () and "cameras: []  # guessed:" in file.read_text()
    assert robot.joints[0].velocity < 6.0, "rad/s, not degrees"


def test_without_a_urdf_limits_are_what_was_seen(tmp_path: Path, capsys) -> None:
    path = so101_bag(tmp_path / "bag", SO101_JOINTS)
    assert new("--bag", path, "--name", "my arm", "--prompt", "on") == 0
    text = capsys.readouterr().out
    robot = robot_from_yaml(text, "printed")
    assert (robot.name, robot.prompt) == ("my_arm", "on")
    lift, gripper = robot.joints[1], robot.joints[5]
    assert -1.5 < lift.lower < -1.3 and -0.72 < lift.upper < -0.6 and "# guessed: positions are" in text
    assert (gripper.unit, robot.state[0].scale[5]) == ("normalized", 100.0), "0 .. 100"
    assert "which end is open?" in text


def test_options_answer_what_no_topic_says(tmp_path: Path, capsys, monkeypatch) -> None:
    demo = load_robot("demo_arm")
    path = make_bag(tmp_path / "bag", demo, Recipe(seconds=2.0))
    told = ("--bag", path, "--urdf", DEMO_URDF)
    wrist = demo.cameras[1].topic
    assert (
        new(*told, "--slot", "base=right_wrist_0_rgb", "--without", "roll", "--without", wrist, "--angles", "deg") == 0
    )
    robot = robot_from_yaml(capsys.readouterr().out, "printed")
    assert [camera.slot for camera in robot.cameras] == ["right_wrist_0_rgb"]
    assert "roll" not in robot.joint_names and robot.state[0].scale[0] == pytest.approx(DEGREES)
    for words, says in (
        (("--slot", "top=base_0_rgb"), "no camera is called 'top'"),
        (("--gripper", "rol"), "there is no 'rol' (did you mean 'roll'?)"),
        (("--without", "/nowhere"), "there is no '/nowhere'"),
        (("--seconds", "3"), "not with --bag"),
        (("--overwrite",), "give that, too"),
    ):
        assert new(*told, *words) == 2
        assert says in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", io.StringIO("push\nright_wrist_0_rgb\n\n"))
    assert new(*told) == 0
    assert "push" not in capsys.readouterr().out, "nobody was asked"
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert new(*told) == 0
    captured = capsys.readouterr()
    robot = robot_from_yaml(captured.out, "printed")
    assert robot.prompt == "push" and captured.err.count("?") == 3, captured.err
    assert [camera.slot for camera in robot.cameras] == ["right_wrist_0_rgb", "left_wrist_0_rgb"]


def test_a_lone_command_topic_that_is_silent_moves_all() -> None:
    joints = [JointFacts(name, "revolute", -1.0, 1.0) for name in ("a", "b", "gripper")]
    kind = "trajectory_msgs/msg/JointTrajectory"
    arm, hand = (TopicFacts(f"/{name}/joint_trajectory", kind, listeners=("/c",)) for name in ("arm", "gripper"))
    for topics, moved in (([arm], [("a", "b", "gripper")]), ([arm, hand], [("a", "b"), ("gripper",)])):
        robot = robot_from_yaml(propose(joints, topics, Wishes(name="any")).text, "proposed")
        assert [group.joints for group in robot.commands] == moved


def test_what_tells_of_no_joint_is_refused(tmp_path: Path, capsys) -> None:
    robot = replace(load_robot("demo_arm"), state=(), commands=())
    assert new("--bag", make_bag(tmp_path / "bag", robot, Recipe(seconds=0.5))) == 2
    error = capsys.readouterr().err
    assert "give --urdf" in error and robot.cameras[0].topic in error


def test_a_recorded_joystick_is_proposed_as_who_may_lead(tmp_path: Path, capsys) -> None:
    joy, demo = "sensor_msgs/msg/Joy", load_robot("demo_arm")
    stick = TYPES[joy](header=header(START_NS), axes=np.zeros(4, np.float32), buttons=np.zeros(2, np.int32))
    path = make_bag(tmp_path / "bag", demo, Recipe(seconds=1.0, extra=[(0.5, "/spacenav/joy", joy, stick)]))
    assert new("--bag", path, "--urdf", DEMO_URDF) == 0, capsys.readouterr().err
    text = capsys.readouterr().out
    assert "#     - topic: /person/joints  # joystick_node says it, see below" in text
    first = " ".join(f"{name}={n}" for n, name in enumerate(robot_from_yaml(text, "printed").joint_names[:4]))
    assert f'#   -p axes:="{first}" -p hold_button:=0 -r joy:=/spacenav/joy' in text


def test_a_recorded_base_has_the_speeds_that_it_uses(tmp_path: Path, capsys) -> None:
    """Wheels of the URDF are no joints beside it; a lift stays one; twists of a hand are named and left out."""
    twist, odometry = "geometry_msgs/msg/Twist", "nav_msgs/msg/Odometry"
    extra: list[tuple[float, str, str, object]] = []
    for number in range(100):
        t_s = 0.02 * number
        ns = START_NS + round(t_s * 1e9)
        where = joint_message(ns, ["lift", "wheel_left"], np.array([0.2 + 0.1 * math.sin(t_s), 3.0 * t_s]))
        extra.append((t_s, "/joint_states", "sensor_msgs/msg/JointState", where))
        extra.append((t_s, "/odom", odometry, odometry_message(ns, 0.4 * math.sin(t_s), 0.2)))
        for topic in ("/cmd_vel", "/servo_node/delta_twist_cmds"):
            extra.append((t_s, topic, twist, twist_message(0.4 * math.sin(t_s), 0.2)))
        goal = joint_message(ns, ["lift"], np.array([0.2 + 0.1 * math.sin(t_s + 0.1)]))
        extra.append((t_s, "/lift/command", "sensor_msgs/msg/JointState", goal))
    nothing = replace(load_robot("demo_arm"), cameras=(), state=(), commands=())
    path = make_bag(tmp_path / "bag", nothing, Recipe(seconds=2.0, delay_s=0.0, extra=extra))
    shape = tmp_path / "cart.urdf"
    shape.write_text(urdf("cart", "lift prismatic 0 0.5 0.2", "wheel_left continuous 9"))
    assert new("--bag", path, "--urdf", shape) == 0
    text = capsys.readouterr().out
    robot = robot_from_yaml(text, "printed")
    assert robot.joint_names == ("lift", "base_forward", "base_turn") and robot.speed_mask.tolist() == [
        False,
        True,
        True,
    ]
    assert robot.upper[1] == pytest.approx(0.5, abs=0.02) and robot.lower[1] == -robot.upper[1]
    assert [(item.topic, item.names) for item in robot.state[1:]] == [("/odom", ("linear.x", "angular.z"))]
    assert robot.commands[1].topic == "/cmd_vel" and robot.commands[1].max_age_s == 0.5
    assert "wheel_left" in text and "/servo_node/delta_twist_cmds" in text and "twists of a hand" in text


def test_a_recorded_hand_replaces_its_arms_joints(tmp_path: Path, capsys) -> None:
    """Commanded by poses; its gripper has a topic. A pose that nothing moves (a goal of navigation) is named."""
    stamped, state = "geometry_msgs/msg/PoseStamped", "sensor_msgs/msg/JointState"
    extra: list[tuple[float, str, str, object]] = []
    for number in range(100):
        t_s = 0.02 * number
        ns, turn = START_NS + round(t_s * 1e9), np.array([0.0, 1.0, 0.0, 0.0])
        for topic, lead in (("/tcp_pose", 0.0), ("/target_frame", 0.1), ("/marker", 0.0)):
            place = np.array([0.4, 0.2 * math.sin(t_s + lead), 0.3])
            extra.append((t_s, topic, stamped, pose_message(ns, place, turn, "base_link")))
        names = [f"joint_{n}" for n in range(1, 8)] + ["finger"]
        extra.append((t_s, "/joint_states", state, joint_message(ns, names, np.full(8, 0.01))))
        extra.append((t_s, "/finger/command", state, joint_message(ns, ["finger"], np.array([0.01]))))
    nothing = replace(load_robot("demo_arm"), cameras=(), state=(), commands=())
    path = make_bag(tmp_path / "bag", nothing, Recipe(seconds=2.0, delay_s=0.0, extra=extra))
    assert new("--bag", path, "--name", "arm") == 0
    text = capsys.readouterr().out
    robot = robot_from_yaml(text, "printed")
    (pose,) = robot.poses
    assert pose.frame == "base_link" and robot.joint_names == ("finger", *pose.entries)
    assert [item.topic for item in robot.state] == ["/joint_states", "/tcp_pose"]
    assert [group.topic for group in robot.commands] == ["/finger/command", "/target_frame"]
    assert robot.lower[1] == pytest.approx(0.3) and robot.upper[1] == pytest.approx(0.5)
    assert "whether the hand's controller alone moves joint_1" in text and "/marker (" in text


def test_a_recorded_hand_of_twists_has_an_arm_that_is_seen(tmp_path: Path, capsys) -> None:
    """MoveIt Servo: the parts that moved are speeds; the arm's joints, which no topic commands, are only seen."""
    state = "sensor_msgs/msg/JointState"
    extra: list[tuple[float, str, str, object]] = []
    for number in range(100):
        t_s = 0.02 * number
        ns = START_NS + round(t_s * 1e9)
        told = hand_twist(ns, [0.2 * math.sin(t_s), 0.0, 0.1], [0.0, 0.0, 0.4])
        extra.append((t_s, "/servo_node/delta_twist_cmds", TWIST_STAMPED, told))
        names = [*(f"joint_{n}" for n in range(1, 7)), "finger"]
        extra.append((t_s, "/joint_states", state, joint_message(ns, names, np.full(7, 0.01 * math.sin(t_s)))))
        extra.append((t_s, "/finger/command", state, joint_message(ns, ["finger"], np.array([0.01]))))
    nothing = replace(load_robot("demo_arm"), cameras=(), state=(), commands=())
    path = make_bag(tmp_path / "bag", nothing, Recipe(seconds=2.0, delay_s=0.0, extra=extra))
    assert new("--bag", path, "--name", "arm") == 0
    robot = robot_from_yaml(capsys.readouterr().out, "printed")
    assert robot.action_names == ("finger", "hand_vx", "hand_vz", "hand_wz")
    assert robot.seen.joint_names == tuple(f"joint_{n}" for n in range(1, 7))
    hand = robot.commands[1]
    assert (hand.frame, hand.names) == ("base_link", ("linear.x", "linear.z", "angular.z"))
    assert robot.upper[robot.joint_names.index("hand_wz")] == pytest.approx(0.5)
    assert limits_of(robot).measured.tolist() == [True, False, False, False]


NO_TURN = np.array([0.0, 0.0, 0.0, 1.0])


def hand_at(t_s: float) -> np.ndarray:
    return np.array([0.4, 0.2 * math.sin(t_s), 0.3])


def hand_bag(folder: Path, *said: tuple[str, str, Callable[[int, float], object]], led: bool = True) -> Path:
    """A recording of a hand that is told poses in base_link (where it is `led`), and of what these topics say."""
    extra: list[tuple[float, str, str, object]] = []
    for number in range(100):
        t_s = 0.02 * number
        ns = START_NS + round(t_s * 1e9)
        extra += [(t_s, topic, kind, message(ns, t_s)) for topic, kind, message in said]
        if led or not number:
            told = pose_message(ns, hand_at(t_s + 0.1), NO_TURN, "base_link")
            extra.append((t_s, "/target_frame", POSE_TYPES[0], told))
    nothing = replace(load_robot("demo_arm"), cameras=(), state=(), commands=())
    return make_bag(folder, nothing, Recipe(seconds=2.0, delay_s=0.0, extra=extra))


def transforms(ns: int, t_s: float) -> object:
    """As drivers publish them: the base's place, a chain's first link, a camera, and the hand directly."""
    told = [
        ("odom", "base_link", [t_s, 0, 0]),
        ("base_link", "shoulder", [0, 0, 0.2]),
        ("wrist", "hand_eye", [0, 0, 0]),
    ]
    told.append(("base_link", "tool0", hand_at(t_s)))
    return transforms_message(ns, *((frame, child, np.array(place, float), NO_TURN) for frame, child, place in told))


def both_hands(ns: int, t_s: float) -> object:
    """The other hand's pose stands first."""
    return poses_message(ns, [hand_at(t_s) * [1, 1, 2], hand_at(t_s)], [NO_TURN, NO_TURN], "base_link")


def new_hand(capsys: pytest.CaptureFixture, path: Path) -> tuple[Robot, str]:
    """The robot of the file for a recording, and its text; `pi0 robot check` explains it."""
    file = path.parent / f"{path.name}.yaml"
    assert new("--bag", path, "--name", "arm", "--out", file) == 0, capsys.readouterr().err
    capsys.readouterr()
    assert main(["robot", "check", str(file)]) == 0
    return load_robot(file), " ".join(capsys.readouterr().out.split())


def test_a_hand_is_found_among_the_transforms(tmp_path: Path, capsys) -> None:
    robot, words = new_hand(capsys, hand_bag(tmp_path / "bag", ("/tf", TF, transforms)))
    (hand,) = robot.state
    assert (hand.topic, hand.type, hand.child, robot.poses[0].frame) == ("/tf", TF, "tool0", "base_link")
    assert "its transform to tool0" in words
    with Bag(tmp_path / "bag") as bag:
        found = scan(bag, robot)
        ticks = np.arange(START_NS + 5 * 10**8, START_NS + 15 * 10**8, 10**8)
        for row in rows(bag, robot, found, ticks, lambda tick: ""):
            assert row.observation is not None and abs(row.observation.state[1]) <= 0.2, row.problem


def test_a_hand_is_found_in_an_array_of_poses(tmp_path: Path, capsys) -> None:
    robot, words = new_hand(capsys, hand_bag(tmp_path / "bag", ("/poses", POSE_ARRAY, both_hands)))
    (hand,) = robot.state
    assert (hand.topic, hand.type, hand.index) == ("/poses", POSE_ARRAY, 1) and "its pose number 1" in words
    text = (tmp_path / "bag.yaml").read_text()
    assert "which pose of /poses is hand: number 1 is the nearest to where /target_frame tells it" in text
    assert "index: 1  # guessed:" in text


def test_of_several_who_say_where_a_hand_is_the_plainest_is_taken(tmp_path: Path, capsys) -> None:
    tcp = ("/tcp_pose", POSE_TYPES[0], lambda ns, t_s: pose_message(ns, hand_at(t_s), NO_TURN, "base_link"))
    several = ("/tf", TF, transforms), ("/poses", POSE_ARRAY, both_hands)
    robot, _ = new_hand(capsys, hand_bag(tmp_path / "all", tcp, *several))
    assert [item.topic for item in robot.state] == ["/tcp_pose"]
    assert "/poses (geometry_msgs/msg/PoseArray): a pose that no command" in (tmp_path / "all.yaml").read_text()
    robot, _ = new_hand(capsys, hand_bag(tmp_path / "several", *several))
    assert robot.state[0].child == "tool0", "its name says so"


def test_what_is_no_hand_among_several_poses_is_not_taken(tmp_path: Path, capsys) -> None:
    """Things on a table, a cloud of a filter's particles, links of a chain, and goals that somebody else told."""
    far = ("/things", POSE_ARRAY, lambda ns, t_s: poses_message(ns, [np.array([0.9, 0, 0])], [NO_TURN], "base_link"))
    goals = ("/goal_poses", POSE_ARRAY, both_hands)
    cloud = (
        "/amcl/cloud",
        POSE_ARRAY,
        lambda ns, t_s: poses_message(ns, [hand_at(t_s)] * 40, [NO_TURN] * 40, "base_link"),
    )
    chain = ("/tf", TF, lambda ns, t_s: transforms_message(ns, ("wrist", "tool0", hand_at(t_s), NO_TURN)))
    robot, _ = new_hand(capsys, hand_bag(tmp_path / "bag", far, goals, cloud, chain))
    assert [item.topic for item in robot.state] == ["/to_be_found/pose"]
    text = " ".join((tmp_path / "bag.yaml").read_text().replace("#", " ").split())
    assert "/tf has tool0 in wrist, /target_frame is in base_link: let a small node look it up" in text
    silent, _ = new_hand(capsys, hand_bag(tmp_path / "silent", far, goals, led=False))
    assert [item.topic for item in silent.state] == ["/to_be_found/pose"]


def test_a_pose_with_a_covariance_is_seen_of_a_hand() -> None:
    told = TopicFacts("/target_frame", POSE_TYPES[0], listeners=("/controller",))
    for kind in POSE_STATE_TYPES:
        says = TopicFacts("/tcp_pose", kind)
        pose = pose_message(0, np.array([0.4, 0.2, 0.3]), np.array([0.0, 0.0, 0.0, 1.0]), "base_link")
        unsure = unsure_pose_message(0, np.array([0.4, 0.2, 0.3]), np.array([0.0, 0.0, 0.0, 1.0]), "base_link")
        message = unsure if "Covariance" in kind else pose
        says.take(message if kind.endswith("Stamped") else message.pose, 1.0)
        robot = robot_from_yaml(propose([], [told, says], Wishes(name="any")).text, "proposed")
        assert [(item.topic, item.type) for item in robot.state] == [("/tcp_pose", kind)]
        assert robot.lower[:3] == pytest.approx([0.3, 0.1, 0.2])


def test_a_grippers_action_server_takes_the_gripper() -> None:
    """Seen by its name and type; of a type that is not known only its name is told."""
    joints = [
        JointFacts("yaw", "revolute", -1.0, 1.0, 2.0),
        JointFacts("left_finger_joint", "prismatic", 0.0, 0.04, 0.2),
    ]
    arm = TopicFacts("/arm/joint_trajectory", "trajectory_msgs/msg/JointTrajectory", listeners=("/c",), count=2)
    for kind in KNOWN:
        server = TopicFacts("/gripper_controller/gripper_cmd", kind, listeners=("/gripper_controller",))
        other = TopicFacts("/franka_gripper/move", "franka_msgs/action/Move", listeners=("/franka_gripper",))
        found = propose(joints, [arm, server, other], Wishes(name="any"))
        robot = robot_from_yaml(found.text, "proposed")
        assert [group.joints for group in robot.commands] == [("yaw",), ("left_finger_joint",)]
        told = robot.commands[1].server
        assert told is not None and (told.name, told.type) == (server.topic, kind) and "# fixed: {" in found.text
        assert any("/franka_gripper/move" in sentence for sentence in found.unknown)


def test_actions_of_a_recording_are_known_by_their_hidden_topics(tmp_path: Path) -> None:
    status = TYPES["action_msgs/msg/GoalStatusArray"](status_list=[])
    extra = [(0.1, "/gripper/_action/status", "action_msgs/msg/GoalStatusArray", status)]
    path = make_bag(tmp_path / "bag", load_robot("demo_arm"), Recipe(seconds=0.5, extra=extra))
    topics, _, _ = survey_bag(path)
    (action,) = (facts for facts in topics if facts.topic == "/gripper")
    assert action.type == ACTION


def twist_message(forward: float, turn: float) -> object:
    vector, twist = (TYPES[f"geometry_msgs/msg/{name}"] for name in ("Vector3", "Twist"))
    return twist(linear=vector(x=forward, y=0.0, z=0.0), angular=vector(x=0.0, y=0.0, z=turn))


NAMES = st.sampled_from(
    [
        "a",
        "b_1",
        "left_a",
        "gripper",
        "finger joint",
        "on",
        "7",
        "1e3",
        "null",
        "ünter",
        "x: y",
        "- z",
        "#c",
        "[q]",
        "'",
        "",
    ]
)
NUMBERS = st.floats(-400, 400) | st.sampled_from([0.0, 1.0, 1e-9, 1e6, math.nan, math.inf])
FRAMES = st.sampled_from(["", "base_link", "/base", "the frame: 1", "tool0", "/tool0", "odom", "hand, left", "7"])
HEADERS = st.builds(SimpleNamespace, frame_id=FRAMES)
PLACES = st.builds(SimpleNamespace, x=NUMBERS, y=NUMBERS, z=NUMBERS)
MOVED = st.builds(SimpleNamespace, translation=PLACES)
TRANSFORMS = st.builds(SimpleNamespace, header=HEADERS, child_frame_id=FRAMES, transform=MOVED)
POSES = st.builds(SimpleNamespace, position=PLACES)
SEVERAL = {"header": HEADERS, "poses": st.lists(POSES, max_size=3), "transforms": st.lists(TRANSFORMS, max_size=3)}


@st.composite
def topic_facts(draw: st.DrawFn, number: int) -> TopicFacts:
    """A topic of any type that heard anything."""
    place = draw(
        st.sampled_from(["joint_states", "arm/commands", "leader/joint_states", "image_raw", "wrist/compressed"])
        | st.sampled_from(["tf", "tool_poses"])
        | st.sampled_from(["servo/delta_twist_cmds", "target_pose", "tcp_pose"])
    )
    facts = TopicFacts(f"/t{number}/{place}", draw(st.sampled_from(LOOKED_AT)))
    facts.listeners = tuple(draw(st.lists(st.sampled_from(["/c", "/d"]), unique=True)))
    facts.joints_told = tuple(draw(st.lists(NAMES, max_size=3, unique=True)))
    names = draw(st.lists(NAMES, max_size=5, unique=True))
    for n in range(draw(st.integers(0, 4))):
        values = np.array([draw(NUMBERS) for _ in names])
        message = joint_message(0, names, values)
        if facts.type in SPEEDS or facts.type in POSE_STATE_TYPES:
            x, y, *_ = (*values, 0.0, 0.0)
            twist, place = twist_message(x, y), TYPES["geometry_msgs/msg/Point"](x=x, y=y, z=0.0)
            message = SimpleNamespace(twist=twist, position=place, linear=twist.linear, angular=twist.angular)
            message.twist = SimpleNamespace(twist=twist, linear=twist.linear, angular=twist.angular)
            message.header = SimpleNamespace(frame_id=draw(st.sampled_from(["", "base_link", "/base", "the frame: 1"])))
        elif facts.type in SEVERAL_POSES:
            message = draw(st.builds(SimpleNamespace, **SEVERAL))
        elif facts.type == ARRAY or "Float" in facts.type:
            message = TYPES[ARRAY](layout=None, data=values)
        elif "Trajectory" in facts.type or "Image" in facts.type:
            facts.arrived(0.1 * n)
            facts.encoding = draw(st.sampled_from(["rgb8", "16UC1", "8UC3", "jpeg", "h264"]))
            continue
        facts.take(message, 0.1 * n)
    return facts


@given(data=st.data())
@settings(deadline=None)
def test_whatever_was_seen_the_file_can_be_read(data: st.DataObject) -> None:
    """Or it is refused in a sentence: never a file that pi0 itself refuses."""
    kinds = st.sampled_from(["revolute", "continuous", "prismatic"])
    ends = st.tuples(st.floats(-10, 0), st.floats(0.01, 10)) | st.just((-math.inf, math.inf))
    joints = [
        JointFacts(name, data.draw(kinds), *data.draw(ends), data.draw(st.sampled_from([0.0, 2.0, math.nan])))
        for name in data.draw(st.lists(NAMES.filter(str.strip), max_size=4, unique=True))
    ]
    topics = [data.draw(topic_facts(n)) for n in range(data.draw(st.integers(0, 4)))]
    try:
        proposal = propose(joints, topics, Wishes(name="any", angles=data.draw(st.sampled_from(["auto", "deg"]))))
    except Exception as error:
        assert "tell of a joint" in str(error)
        return
    robot: Robot = robot_from_yaml(proposal.text, "proposed")
    assert called(robot.joints) == proposal.joints
