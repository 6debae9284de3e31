"""The robot file: shipped files, defaults, exact round trips, and how files are found."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pi0_ros.base import share
from pi0_ros.base.share import config_path
from pi0_ros.robot import (
    Camera,
    CommandGroup,
    Joint,
    Robot,
    RobotFileError,
    StateTopic,
    load_robot,
    robot_from_yaml,
    robot_to_yaml,
)
from pi0_ros.robot.file import ACTION_SOURCES
from pi0_ros.robot.joints import ACTIONS, KIND_UNITS, ROLES
from pi0_ros.robot.lens import COUNTS, Lens
from pi0_ros.robot.message_types import CAMERA_TYPES, COMMAND_TYPES, STATE_TYPES, TWIST_PARTS, TWIST_STAMPED
from pi0_ros.robot.released import MODELS, Release, Released
from pi0_ros.robot.speeds import COMMANDED_BY, HANDS
from pi0_ros.robot.units import Crank, Scale

SMALL = (Path(__file__).parents[1] / "fixtures" / "small_robot.yaml").read_text(encoding="utf-8")
ALOHA, FRANKA = ("aloha", "aloha_act", "aloha_sim"), ("franka_droid", "franka_droid_fast", "franka_droid_position")
SHIPPED = ("demo_arm", *ALOHA, *FRANKA, "libero", "libero_pi0", "mobile_bimanual", "so101", "ur5e", "ur5e_pose")


# ---- good files


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_robots_load_and_read_back_equal(name: str) -> None:
    robot = load_robot(name)
    assert robot.name == name
    assert robot_from_yaml(robot_to_yaml(robot), "again") == robot
    assert robot.description and robot.prompt
    assert robot.gripper_mask.any() and not robot.relative_mask[robot.gripper_mask].any()
    assert robot.cameras[0].slot == "base_0_rgb"
    assert load_robot(config_path("robots", f"{name}.yaml")) == robot


def test_the_config_folder_ships_these_robots_and_no_other() -> None:
    assert sorted(path.stem for path in config_path("robots").glob("*.yaml")) == sorted(SHIPPED)


def test_aloha_names_its_two_arms_apart() -> None:
    robot = load_robot("aloha")
    assert len(robot.joints) == 14
    assert robot.relative_mask.tolist() == ([True] * 6 + [False]) * 2
    assert {camera.slot for camera in robot.cameras} == {"base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"}
    left, right = robot.state
    assert left.message_names == right.message_names and left.joints != right.joints
    assert robot.indices(right.joints).tolist() == list(range(7, 14))


def test_values_defaults_and_vectors() -> None:
    robot = robot_from_yaml(SMALL, "small.yaml")
    assert robot.joint_names == ("shoulder", "gripper")
    assert (robot.description, robot.prompt, robot.urdf) == ("", "", None)
    assert robot.joints[0].jerk is None and robot.joints[1].jerk == 5.0
    for vector, expected in (
        (robot.lower, [-1, 0]),
        (robot.upper, [2, 1]),
        (robot.velocity, [3, 3]),
        (robot.acceleration, [4, 4]),
    ):
        assert vector.dtype == np.float64
        np.testing.assert_array_equal(vector, expected)
    assert robot.gripper_mask.tolist() == [False, True] and robot.gripper_mask.dtype == bool
    assert robot.relative_mask.tolist() == [True, False]
    assert robot.state[0].joints == robot.joint_names and robot.state[0].field == "position"
    assert robot.commands[0].message_names == ("shoulder",)
    assert robot.commands[1].message_names == ("finger",)
    assert robot.topics == {
        "/base/image": "sensor_msgs/msg/Image",
        "/wrist/image": "sensor_msgs/msg/CompressedImage",
        "/joint_states": "sensor_msgs/msg/JointState",
        "/arm/commands": "std_msgs/msg/Float64MultiArray",
        "/hand/command": "sensor_msgs/msg/JointState",
    }


@pytest.mark.parametrize("rate", [19.9, 1001])
def test_control_rates_that_no_controller_keeps_are_refused(rate: float) -> None:
    text = SMALL.replace("control_rate_hz: 50", f"control_rate_hz: {rate}")
    with pytest.raises(RobotFileError, match=rf"control_rate_hz: {rate} Hz is not within 20 .. 1000 Hz"):
        robot_from_yaml(text, "small.yaml")


# ---- finding files


def test_unknown_names_get_a_suggestion() -> None:
    with pytest.raises(
        RobotFileError, match=r"no robot is called 'demo_amr' \(did you mean 'demo_arm'\?\); known are aloha"
    ):
        load_robot("demo_amr")


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(RobotFileError, match=r"absent\.yaml: cannot be read"):
        load_robot(tmp_path / "absent.yaml")
    with pytest.raises(RobotFileError, match="cannot be read"):
        load_robot(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"# a robot\nname: \xe9\n")
    with pytest.raises(RobotFileError, match=r"latin\.yaml:2: byte 0xe9 is not UTF-8"):
        load_robot(str(tmp_path / "latin.yaml"))


def test_an_error_names_the_path_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SMALL.replace("unit: rad", "unit: deg"), encoding="utf-8")
    with pytest.raises(RobotFileError, match=rf"^{path}:6: joints\[0\]\.unit"):
        load_robot(path)


def test_config_is_found_in_the_source_tree_and_in_installed_shares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert config_path("robots", "demo_arm.yaml").is_file()
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    module = tmp_path / "lib" / "python3" / "site-packages" / "pi0_ros" / "robot.py"
    monkeypatch.setattr(share, "__file__", str(module))
    with pytest.raises(FileNotFoundError, match="install the package"):
        config_path("robots")
    for prefix in (tmp_path, tmp_path / "elsewhere"):
        robots = prefix / "share" / "pi0_ros" / "config" / "robots"
        robots.mkdir(parents=True)
        monkeypatch.setenv("AMENT_PREFIX_PATH", f"{tmp_path / 'nothing'}:{prefix}")
        assert config_path("robots") == robots
        robots.rmdir()


# ---- properties

names = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=8).filter(
    lambda text: text.strip() and text.isprintable()
)
positive = st.floats(1e-6, 1e6)
seconds = st.floats(1e-6, 3600.0)
topics = st.from_regex(r"\A(/[a-z][a-z0-9_]{0,5}){1,3}\Z")


def draw_camera(draw: st.DrawFn, name: str, topic: str, slot: str) -> Camera:
    kind = draw(st.sampled_from(CAMERA_TYPES))
    raw = kind == CAMERA_TYPES[0]
    whole = st.integers(0, 4000)
    return Camera(
        *(name, topic, kind, slot, draw(seconds), draw(st.none() | seconds)),
        encoding=draw(st.sampled_from(["", "bgr8", "uyvy", "bayer_rggb16"])) if raw else "",
        rectify=draw(st.none() | lenses()),
        crop=draw(st.none() | st.tuples(whole, whole, st.integers(1, 4000), st.integers(1, 4000))),
        rotate=draw(st.sampled_from([0, 90, 180, 270])),
        depth=draw(st.sampled_from([None, (0.2, 2.5)])) if raw else None,
        latency_s=draw(st.just(0.0) | st.floats(1e-9, 9e-7)),
    )


def lenses() -> st.SearchStrategy[Lens]:
    finite = st.floats(-9, 9)
    four = st.tuples(st.floats(1, 999), st.floats(1, 999), finite, finite)
    size = st.tuples(st.integers(2, 4000), st.integers(2, 4000))
    count = st.sampled_from([(model, count) for model, counts in COUNTS.items() for count in counts])
    return count.flatmap(
        lambda it: st.builds(Lens, size, four, st.tuples(*[finite] * it[1]), st.just(it[0]), st.none() | four)
    )


@st.composite
def scales(draw: st.DrawFn, threshold: bool = False, plain: bool = False) -> Scale:
    zero, crank = draw(st.floats(-9, 9)), None
    if not plain and draw(st.booleans()):
        lower = draw(st.floats(-1, 1))
        horn = draw(positive)
        crank = Crank(horn, horn + draw(positive), (lower, lower + draw(st.floats(1e-3, 1))))
    return Scale(
        zero, zero + draw(positive), crank, draw(st.none() | st.floats(0, 1)) if threshold and not plain else None
    )


@st.composite
def released(draw: st.DrawFn) -> Released:
    count = st.none() | st.integers(1, 300)
    models = draw(st.sets(st.sampled_from(MODELS)))
    flags = st.none() | st.booleans()
    entries = [Release(name, draw(count), draw(count), draw(count), draw(flags)) for name in MODELS if name in models]
    return Released(draw(st.just("") | names), tuple(entries))


@st.composite
def robots(draw: st.DrawFn) -> Robot:
    """Any robot that a file can describe."""

    def joint(name: str) -> Joint:
        kind = draw(st.sampled_from(sorted(KIND_UNITS)))
        lower, width = draw(st.floats(-1e6, 1e6)), draw(st.floats(1e-3, 1e6))
        ends = (-math.inf, math.inf) if kind == "continuous" else (lower, lower + width)
        if kind == "speed":
            ends = draw(st.sampled_from([(-width, width), (-2.0 * width, width), (0.0, width)]))
        return Joint(
            name=name,
            unit=draw(st.sampled_from(KIND_UNITS[kind])),
            kind=kind,
            lower=ends[0],
            upper=ends[1],
            velocity=draw(positive),
            acceleration=draw(positive),
            jerk=draw(st.none() | positive) if kind != "speed" else None,
            tracking=draw(st.none() | positive),
            **meaning(kind in ("continuous", "speed"), ACTIONS if kind != "speed" else ("absolute",)),
        )

    def meaning(continuous: bool, actions: tuple[str, ...]) -> dict[str, Any]:
        role, action = draw(st.sampled_from(ROLES)), draw(st.sampled_from(actions))
        if role == "state":
            return {"action": "", "role": role, "state_scale": draw(scales(plain=continuous))}
        if role == "action" or action == "absolute":
            scale = draw(scales(threshold=True, plain=continuous))
            return {
                "action": "absolute",
                "role": role,
                "state_scale": draw(scales(plain=continuous)),
                "action_scale": scale,
            }
        scale = draw(scales(plain=continuous))
        step = draw(positive) if action == "velocity" else 1.0
        return {"action": action, "role": role, "state_scale": scale, "action_scale": scale, "step": step}

    joints = tuple(joint(name) for name in draw(st.lists(names, min_size=1, max_size=5, unique=True)))
    assume(any(item.role != "action" for item in joints) and any(item.role != "state" for item in joints))

    def groups(without: str) -> list[tuple[str, ...]]:
        return [group for kind in (False, True) for group in some(without, kind)]

    def some(without: str, speed: bool) -> list[tuple[str, ...]]:
        order = draw(st.permutations([item.name for item in joints if item.role != without and item.speed == speed]))
        cuts = sorted(draw(st.sets(st.integers(1, len(order) - 1), max_size=2))) if len(order) > 1 else []
        return [tuple(order[a:b]) for a, b in zip([0, *cuts], [*cuts, len(order)]) if order]

    def parts(group: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(draw(st.permutations(TWIST_PARTS))[: len(group)])

    def frame(kind: str, names: tuple[str, ...]) -> str:
        """Of twists that have a header; of a hand's it must be told."""
        needed = kind == TWIST_STAMPED and not set(HANDS).isdisjoint(names)
        return (
            draw(st.sampled_from(["base_link", "tool 0"] if needed else ["", "base"])) if kind == TWIST_STAMPED else ""
        )

    speeds = {item.name for item in joints if item.speed}

    def message_names(group: tuple[str, ...]) -> tuple[str, ...]:
        other = tuple(draw(st.lists(names, min_size=len(group), max_size=len(group), unique=True)))
        return draw(st.sampled_from([(), other])) if other != group else ()

    def units(group: tuple[str, ...]) -> tuple[float, ...]:
        return tuple(draw(st.sampled_from([(), tuple(draw(positive) for _ in group)])))

    def command(name: str, group: tuple[str, ...]) -> CommandGroup:
        speed = speeds.issuperset(group)
        kinds = [kind for kind, messages in COMMAND_TYPES.items() if not messages.speeds]
        kind = draw(st.sampled_from(COMMANDED_BY if speed else kinds))
        points = draw(st.sampled_from(["one", "trajectory"])) if "Trajectory" in kind else "one"
        hold = draw(st.booleans())
        lasting = (None if hold else draw(st.none() | seconds), hold)
        names = message_names(group) if COMMAND_TYPES[kind].named and not speed else ()
        names = parts(group) if COMMAND_TYPES[kind].parts else names
        told = names, units(group), units(group), points, "auto", *lasting
        return CommandGroup(name, next(topic), kind, group, *told, speeds=speed, frame=frame(kind, names))

    def state(group: tuple[str, ...]) -> StateTopic:
        speed = speeds.issuperset(group)
        kinds = [kind for kind, messages in STATE_TYPES.items() if speed or not messages.speeds]
        kind = draw(st.sampled_from((*kinds, "my_msgs/msg/Hand")))
        fields = STATE_TYPES[kind].fields if kind in STATE_TYPES else ("fingers[0:6].angle", "data", "a.b[3]")
        field = fields[0] if needs_positions else draw(st.sampled_from(fields))
        if speed and kind in STATE_TYPES:
            field = "velocity" if "velocity" in fields else "position"
        named = kind in STATE_TYPES and STATE_TYPES[kind].named
        fixed = named and bool(STATE_TYPES[kind].parts)
        names_from = draw(st.sampled_from(["names", "order"])) if named and not fixed else "names"
        names = parts(group) if fixed else message_names(group) if named and names_from == "names" else ()
        told = names, units(group), units(group), "auto", names_from
        return StateTopic(
            next(topic),
            kind,
            group,
            draw(seconds),
            field,
            *told,
            draw(st.just(0.0) | st.floats(1e-9, 9e-7)),
            speeds=speed,
            frame=frame(kind, ()),
        )

    states, commands = groups("action"), groups("state")
    whole = all(item.role == "both" for item in joints)
    source = draw(st.sampled_from(ACTION_SOURCES)) if whole else "command"
    needs_positions = source == "next_state" or any(item.action in ("relative", "velocity") for item in joints)
    slots = draw(st.lists(st.sampled_from(["base_0_rgb", "left_wrist_0_rgb", "wrist_1_rgb"]), unique=True))
    count = len(slots) + len(states) + len(commands)
    topic = iter(draw(st.lists(topics, min_size=count, max_size=count, unique=True)))
    camera_names = draw(
        st.lists(names.filter(lambda text: "/" not in text), min_size=len(slots), max_size=len(slots), unique=True)
    )
    group_names = draw(st.lists(names, min_size=len(commands), max_size=len(commands), unique=True))
    control_rate = draw(st.floats(20.0, 1000.0))
    return Robot(
        name=draw(names),
        description=draw(st.just("") | names),
        joints=joints,
        cameras=tuple(draw_camera(draw, name, next(topic), slot) for name, slot in zip(camera_names, slots)),
        state=tuple(state(group) for group in states),
        commands=tuple(command(name, group) for name, group in zip(group_names, commands)),
        action_source=source,
        action_max_age_s=draw(seconds),
        control_rate_hz=control_rate,
        policy_rate_hz=draw(st.floats(1e-3, control_rate)),
        dataset_fps=draw(st.floats(1e-3, 1e3)),
        prompt=draw(st.just("") | names),
        urdf=draw(st.none() | names),
        released=draw(released()),
    )


@settings(max_examples=60, deadline=None)
@given(robots())
def test_every_robot_survives_its_file(robot: Robot) -> None:
    assert robot_from_yaml(robot_to_yaml(robot), "again") == robot


junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.floats(),
    st.text(max_size=4),
    st.just([]),
    st.just({}),
    st.lists(st.integers(), max_size=2),
    st.just({"name": "x"}),
    st.dates(),
)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_junk_anywhere_is_either_read_or_refused_by_name(data: st.DataObject) -> None:
    """Junk at any place of a good file: nothing but `RobotFileError` comes out, and no number that is not finite."""
    document = copy.deepcopy(yaml.safe_load(SMALL))
    node = document
    while True:
        key = data.draw(st.sampled_from(list(node) if isinstance(node, dict) else list(range(len(node)))))
        if not (isinstance(node[key], (dict, list)) and node[key] and data.draw(st.booleans())):
            break
        node = node[key]
    node[key] = data.draw(junk)
    try:
        robot = robot_from_yaml(yaml.safe_dump(document), "junk.yaml")
    except RobotFileError as error:
        assert str(error).startswith("junk.yaml:")
    else:
        numbers = [*robot.lower, *robot.upper, *robot.velocity, *robot.acceleration, robot.dataset_fps]
        assert all(math.isfinite(number) for number in numbers)


def test_takeover_reads_back_and_says_nothing_about_data() -> None:
    entry = "{topic: /leader, type: sensor_msgs/msg/JointState, names: [a, b], scale: [57.3, 1]}"
    text = f"{SMALL}\ntakeover: {{topics: [{entry}], timeout_s: 0.5, begins: commands}}\n"
    robot = robot_from_yaml(text, "small")
    (leader,) = robot.takeover.topics
    assert (leader.topic, leader.names, leader.scale) == ("/leader", ("a", "b"), (57.3, 1.0))
    assert leader.joints == robot.joint_names and robot.takeover.begins == "commands" and robot.takeover.blend_s == 0.5
    assert robot_from_yaml(robot_to_yaml(robot), "again").takeover == robot.takeover
    assert robot == robot_from_yaml(SMALL, "small"), "its recordings fit those made without"
    assert robot.with_topics(lambda name: f"/left{name}").takeover.topics[0].topic == "/left/leader"
    assert load_robot("demo_arm").takeover.topics[0].topic == "/demo_arm/teleop"
