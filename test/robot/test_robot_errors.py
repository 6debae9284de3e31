"""Wrong robot files: each is refused with file, line, key and remedy."""

from __future__ import annotations

import itertools
import random
import re
from pathlib import Path

import pytest
import yaml

from pi0_ros.robot import RobotFileError, robot_from_yaml

SMALL = (Path(__file__).parents[1] / "fixtures" / "small_robot.yaml").read_text(encoding="utf-8")


def refusal(text: str) -> str:
    with pytest.raises(RobotFileError) as caught:
        robot_from_yaml(text, "small.yaml")
    return str(caught.value)


# ---- wrong files: (what to replace, by what, parts of the message, more replacements ...)

LAST, PLAN = "action: {source: command, max_age_s: 0.3}", "trajectory_msgs/msg/JointTrajectory"
WRONG = {
    "takeover by the robot's own commands": (
        LAST,
        f"{LAST}\ntakeover: {{topics: [{{topic: arm/commands, type: {PLAN}}}]}}",
        ["22: takeover.topics[0].topic: arm/commands is one of commands"],
    ),
    "takeover of some joints": (
        LAST,
        f"{LAST}\ntakeover: {{topics: [{{topic: /a, type: {PLAN}, joints: [shoulder]}}]}}",
        ["22: takeover.topics: no entry has joint 'gripper'"],
    ),
    "takeover by another way": (
        LAST,
        f"{LAST}\ntakeover: {{begins: button, topics: [{{topic: /a, type: {PLAN}}}]}}",
        ["22: takeover.begins: 'button' is not known; write switch or commands"],
    ),
    "takeover without topics": (LAST, f"{LAST}\ntakeover: {{}}", ["22: takeover.topics: missing"]),
    "scales": (
        "names: [finger]",
        "names: [finger], scale: [1, 2]",
        ["20: commands[1].scale: 2 numbers for 1 joints"],
    ),
    "a scale of nothing": ("max_age_s: 0.1}", "max_age_s: 0.1, scale: [1, 0]}", ["state[0].scale: 0 loses"]),
    "rest of an array": (
        "joints: [shoulder]}",
        "joints: [shoulder], points: trajectory}",
        ["19: commands[0].points: a std_msgs/msg/Float64MultiArray holds one point only: write one"],
    ),
    "an old name": (
        "joints: [shoulder]}",
        "joints: [shoulder], points: rest}",
        ["commands[0].points: 'rest' is called 'trajectory' now: write trajectory"],
    ),
    "hold and an age": (
        "joints: [shoulder]}",
        "joints: [shoulder], hold: true, max_age_s: 2}",
        ["commands[0].hold: a command that holds until the next has no max_age_s: write one of the two"],
    ),
    "hold of another kind": (
        "joints: [shoulder]}",
        "joints: [shoulder], hold: 3}",
        ["commands[0].hold: 3 is neither true (a command stays valid until the next) nor false"],
    ),
    "a type that is nothing like the known ones": (
        "std_msgs/msg/Float64MultiArray",
        "geometry_msgs/msg/Wrench",
        ["commands[0].type: 'geometry_msgs/msg/Wrench' is not known; write trajectory_msgs"],
    ),
    "a type that says speeds": (
        "std_msgs/msg/Float64MultiArray",
        "geometry_msgs/msg/Twist",
        ["commands[0].type: a geometry_msgs/msg/Twist says speeds, and shoulder is a place: write the kind speed"],
    ),
    "a type that is misspelled": (
        "std_msgs/msg/Float64MultiArray",
        "std_msgs/msg/Float64MultArray",
        ["did you mean 'std_msgs/msg/Float64MultiArray'?"],
    ),
    "frozen": ("max_age_s: 0.2}", "max_age_s: 0.2, frozen_s: 0}", ["cameras[0].frozen_s: 0 is not above zero"]),
    "unknown key": (
        "dataset_fps: 20",
        "dataset_fps: 20\ncamera: []",
        ["5: camera: unknown key (did you mean 'cameras'?)"],
    ),
    "unknown joint key": ("kind: gripper", "knid: gripper", ["10: joints[1].knid", "did you mean 'kind'"]),
    "unknown limit": ("jerk: 5", "jrek: 5", ["11: joints[1].limits.jrek", "did you mean 'jerk'"]),
    "missing unit": ("    unit: normalized\n", "", ["8: joints[1].unit: missing: write one of rad, m, normalized"]),
    "missing limits": (
        "    limits: {position: [0, 1], velocity: 3, acceleration: 4, jerk: 5}\n",
        "",
        ["limits: missing"],
    ),
    "missing velocity": (
        "velocity: 3, acceleration: 4, jerk",
        "acceleration: 4, jerk",
        ["11: ", "limits.velocity: missing"],
    ),
    "missing section": ("action: {source: command, max_age_s: 0.3}", "", ["1: action: missing: write", "source"]),
    "a delay beyond the age": (
        "JointState, max_age_s: 0.1}",
        "JointState, max_age_s: 0.1, latency_s: 0.1}",
        ["state[0].latency_s: 0.1 s of max_age_s are over before a sample is here: raise max_age_s"],
    ),
    "a delay in milliseconds": (
        "slot: base_0_rgb, ",
        "slot: base_0_rgb, latency_s: 60, ",
        ["cameras[0].latency_s: 60 s is more than 1 s"],
    ),
    "missing age": (", max_age_s: 0.1", "", ["state[0].max_age_s: missing: write the age in seconds"]),
    "degrees": ("unit: rad", "unit: deg", ["6: joints[0].unit: joints are in rad here", "57.29578 at this joint's"]),
    "unit of another kind": (
        "unit: rad",
        "unit: m",
        ["joints[0].unit: a revolute joint is not measured in m: write rad"],
    ),
    "millimetres": ("unit: rad", "unit: mm", ["joints[0].unit: joints are in m here: write m, and where messages"]),
    "unknown kind": (
        "kind: revolute",
        "kind: rotary",
        ["joints[0].kind: 'rotary' is not known", "revolute or"],
    ),
    "joint twice": (
        "name: gripper",
        "name: shoulder",
        ["8: joints[1].name: 'shoulder' stands already at joints[0].name"],
    ),
    "limits upside down": ("[-1, 2]", "[2, -1]", ["limits.position: 2 is not below -1: write [lower, upper] in rad"]),
    "limits equal": ("[-1, 2]", "[2, 2]", ["2 is not below 2"]),
    "one limit": ("[-1, 2]", "[2]", ["limits.position: a list is not a pair: write [lower, upper] in rad"]),
    "limits no list": ("[-1, 2]", "2", ["limits.position: 2 is not a pair"]),
    "velocity zero": (
        "velocity: 3, acceleration: 4}",
        "velocity: 0, acceleration: 4}",
        ["limits.velocity: 0 is not above"],
    ),
    "acceleration nan": (
        "acceleration: 4}",
        "acceleration: .nan}",
        ["joints[0].limits.acceleration: nan is not finite"],
    ),
    "limit infinite": ("[-1, 2]", "[-.inf, 2]", ["joints[0].limits.position[0]: -inf is not finite: write a number"]),
    "limit nan": ("[-1, 2]", "[-1, nan]", ["joints[0].limits.position[1]: nan is not finite"]),
    "number as text": (
        "velocity: 3, acceleration: 4}",
        "velocity: 1e-3, acceleration: 4}",
        ["YAML reads '1e-3' as text", "0.001"],
    ),
    "number missing": ("dataset_fps: 20", "dataset_fps:", ["4: dataset_fps: nothing stands where a number is needed"]),
    "number boolean": ("dataset_fps: 20", "dataset_fps: yes", ["4: dataset_fps: True stands where a number is needed"]),
    "number word": ("dataset_fps: 20", "dataset_fps: fast", ["dataset_fps: 'fast' stands where a number is needed"]),
    "name is YAML's on": ("name: gripper", "name: on", ["8: joints[1].name: the boolean true", "put it in quotes"]),
    "name is YAML's no": ("joints: [shoulder]", "joints: [no]", ["commands[0].joints[0]: the boolean false", "quotes"]),
    "key is YAML's off": ("dataset_fps: 20", "dataset_fps: 20\noff: 1", ["5: off: unknown key"]),
    "name is a number": (
        "name: gripper",
        "name: 7",
        ["joints[1].name: 7 stands where text is needed: put it in quotes"],
    ),
    "name empty": ("name: small", "name: ''", ["1: name: '' stands where text is needed: write some"]),
    "name null": ("name: small", "name:", ["1: name: nothing stands where text is needed"]),
    "name a list": ("name: small", "name: [a]", ["1: name: a list stands where text is needed"]),
    "action neither": (
        "action: relative",
        "action: delta",
        ["joints[0].action: 'delta' is not known", "absolute or relative"],
    ),
    "velocity without its step": (
        "action: relative",
        "action: velocity",
        ["joints[0].step: missing: write how far an action of 1 moves"],
    ),
    "step without a velocity": ("action: relative", "action: relative, step: 1", ["step: only the action velocity"]),
    "role unknown": (
        "action: relative",
        "action: relative, role: none",
        ["role: 'none' is not known"],
    ),
    "action of a joint of the state": (
        "action: absolute",
        "action: absolute\n    role: state",
        ["12: joints[1].action: unknown key"],
    ),
    "relative action without state": (
        "action: relative",
        "action: relative, role: action",
        ["joints[0].action: relative needs the joint in the state, too"],
    ),
    "joint of the action in a state topic": (
        "max_age_s: 0.1}",
        "max_age_s: 0.1, joints: [shoulder, gripper]}",
        ["state[0].joints[1]: 'gripper' is not in the list of joints"],
        ("action: absolute", "action: absolute\n    role: action"),
    ),
    "next state of a joint without action": (
        "source: command",
        "source: next_state",
        ["action.source: joint 'gripper' is not in state and action both"],
        ("    action: absolute", "    role: state"),
        (", names: [finger]}", "}"),
        ("joints: [gripper]", "joints: [shoulder]"),
        ("  - {name: arm, topic: /arm/commands, type: std_msgs/msg/Float64MultiArray, joints: [shoulder]}\n", ""),
    ),
    "model key unknown": (
        "action: relative",
        "action: relative, model: {sgin: -1}",
        ["joints[0].model.sgin: unknown key (did you mean 'sign'?)"],
    ),
    "model no mapping": ("action: relative", "action: relative, model: -1", ["joints[0].model: -1 stands where a map"]),
    "sign no sign": (
        "action: relative",
        "action: relative, model: {sign: 2}",
        ["model.sign: 2 is neither 1 nor -1; for a scale write zero and one"],
    ),
    "sign beside zero": (
        "action: relative",
        "action: relative, model: {sign: -1, zero: 1}",
        ["model.sign: stands beside zero or one"],
    ),
    "zero is one": ("action: relative", "action: relative, model: {zero: 1}", ["model.one: 1 is also zero"]),
    "relative with two scales": (
        "action: relative",
        "action: relative, model: {state: {sign: -1}}",
        ["joints[0].action: relative needs state and action scaled alike"],
    ),
    "crank without arm": (
        "action: absolute",
        "action: absolute\n    model: {crank: {horn_radius: 0.02}}",
        ["13: joints[1].model.crank.arm_length: missing"],
    ),
    "crank's range upside down": (
        "action: absolute",
        "action: absolute\n    model: {crank: {horn_radius: 0.02, arm_length: 0.03, range: [1, 0]}}",
        ["model.crank.range: 1 is not below 0"],
    ),
    "threshold of the state": (
        "action: absolute",
        "action: absolute\n    model: {state: {threshold: 0.5}}",
        ["13: joints[1].model.state.threshold: unknown key"],
    ),
    "policy key unknown": (
        "dataset_fps: 20",
        "dataset_fps: 20\npolicy: {asset: droid}",
        ["5: policy.asset: unknown key (did you mean 'asset_id'?)"],
    ),
    "policy horizon broken": (
        "dataset_fps: 20",
        "dataset_fps: 20\npolicy: {pi0: {action_horizon: 7.5}}",
        ["policy.pi0.action_horizon: 7.5 is no whole number"],
    ),
    "policy flag": (
        "dataset_fps: 20",
        "dataset_fps: 20\npolicy: {pi05: {discrete_state_input: 1}}",
        ["policy.pi05.discrete_state_input: 1 stands where true or false is needed"],
    ),
    "camera name twice": (
        "name: wrist",
        "name: base",
        ["15: cameras[1].name: 'base' stands already at cameras[0].name"],
    ),
    "camera slot twice": (
        "left_wrist_0_rgb",
        "base_0_rgb",
        ["15: cameras[1].slot: 'base_0_rgb' stands already at cameras[0]"],
    ),
    "camera slot mistyped": (
        "left_wrist_0_rgb",
        "left wrist",
        ["slot: 'left wrist' is no image slot (did you mean 'left_wrist_0_rgb'?)"],
    ),
    "camera type": ("sensor_msgs/msg/Image,", "sensor_msgs/Image,", ["did you mean 'sensor_msgs/msg/Image'?"]),
    "topic twice": (
        "/wrist/image",
        "/base/image",
        ["cameras[1].topic: '/base/image' stands already at cameras[0].topic"],
    ),
    "topic of state and command": (
        "/hand/command",
        "/joint_states",
        ["commands[1].topic", "already at state[0].topic"],
    ),
    "topic twice, once relative": (
        "/wrist/image",
        "base/image",
        ["cameras[1].topic: '/base/image' stands already at cameras[0].topic"],
    ),
    "topic with a space": ("/base/image", "/base image", ["is no topic name", "to follow the namespace"]),
    "state type": (
        "JointState, max",
        "JointTrajectory, max",
        ["state[0].type", "known are sensor_msgs/msg/Joint"],
    ),
    "state field": (
        "max_age_s: 0.1}",
        "max_age_s: 0.1, field: positions}",
        ["state[0].field", "did you mean 'position'"],
    ),
    "state field of a relative action": (
        "max_age_s: 0.1}",
        "max_age_s: 0.1, field: velocity}",
        ["state[0].field", "shoulder starts from where it is, which needs positions"],
    ),
    "state joint unknown": (
        "max_age_s: 0.1}",
        "max_age_s: 0.1, joints: [sholder]}",
        ["joints[0]: 'sholder'", "mean 'shoulder'"],
    ),
    "state joint missing": (
        "max_age_s: 0.1}",
        "max_age_s: 0.1, joints: [gripper]}",
        ["state: no entry has joint 'shoulder'"],
    ),
    "command joint unknown": (
        "joints: [gripper]",
        "joints: [griper]",
        ["commands[1].joints[0]: 'griper'", "mean 'gripper'"],
    ),
    "command joint twice": (
        "joints: [gripper]",
        "joints: [shoulder]",
        ["commands[1].joints: joint 'shoulder' is already in"],
    ),
    "command joint repeated": (
        "joints: [shoulder]",
        "joints: [shoulder, shoulder]",
        ["commands[0].joints[1]", "already at"],
    ),
    "command joint missing": (", joints: [shoulder]", ", joints: []", ["commands[0].joints: a list without entries"]),
    "command type": (
        "std_msgs/msg/Float64MultiArray",
        "std_msgs/msg/Float32MultiArray",
        ["commands[0].type", "did you mean"],
    ),
    "command name twice": ("name: hand", "name: arm", ["commands[1].name: 'arm' stands already at commands[0].name"]),
    "too many names": ("names: [finger]", "names: [finger, thumb]", ["commands[1].names: 2 names for 1 joints"]),
    "names not text": ("names: [finger]", "names: [1]", ["commands[1].names[0]: 1 stands where text is needed"]),
    "no action": ("action: {source", "x: {source", ["action: missing"]),
    "policy faster than control": (
        "policy_rate_hz: 2",
        "policy_rate_hz: 51",
        ["3: policy_rate_hz: 51 Hz is above control"],
    ),
    "action source": (
        "source: command",
        "source: commands",
        ["action.source: 'commands' is not known (did you mean 'command'"],
    ),
    "action no mapping": (
        "action: {source: command, max_age_s: 0.3}",
        "action: command",
        ["21: action: 'command' stands where"],
    ),
    "joints a mapping": (
        "    unit: normalized\n",
        "    unit: {a: b}\n",
        ["joints[1].unit: a mapping stands where text"],
    ),
    "key twice": (
        "dataset_fps: 20",
        "dataset_fps: 20\nname: b",
        ["1: name: stands twice (again in line 5): remove one"],
    ),
    "joint key twice": ("unit: normalized", "unit: normalized\n    unit: rad", ["9: joints[1].unit: stands twice"]),
    "not YAML": ("name: small", "name: [small", ["small.yaml:2: is not valid YAML"]),
    "tab": ("name: small", "\tname: small", ["small.yaml:1: is not valid YAML"]),
    "list as key": ("name: small", "[a]: small", ["a list or mapping stands where a key is needed"]),
    "control character": (
        "name: small",
        "name: \x00",
        ["small.yaml:1: is not valid YAML: no file of text has the character '\\x00': remove it"],
    ),
    "python object": ("name: small", "name: !!python/object:os.system x", ["small.yaml:1: is not valid YAML"]),
}


def spoilt(text: str, wrong: tuple) -> str:
    """`text` with one of the mistakes; empty where there is no place for it."""
    old, new, _, *more = wrong
    for found, instead in ((old, new), *more):
        if found not in text:
            return ""
        text = text.replace(found, instead, 1)
    return text


def sentences(text: str) -> list[str]:
    """All that is wrong with a file, without the lines; empty where two mistakes mend each other."""
    try:
        robot_from_yaml(text, "small.yaml")
    except RobotFileError as error:
        caught = error
    else:
        return []
    first = re.sub(r" \(the first of \d+ errors\)$", "", str(caught))
    return [re.sub(r"^small.yaml:\d+: ", "", line) for line in (first, *caught.details.splitlines())]


@pytest.mark.parametrize("wrong", WRONG.values(), ids=list(WRONG))
def test_wrong_files_are_refused_with_file_line_key_and_remedy(wrong: tuple) -> None:
    message = refusal(spoilt(SMALL, wrong))
    assert message.startswith("small.yaml:")
    for part in wrong[2]:
        assert part in message
    assert "\n" not in message


def test_all_mistakes_of_a_file_come_at_once_in_the_order_of_its_lines() -> None:
    mistakes = ["unknown joint key", "too many names", "frozen", "missing age", "action source", "unknown limit"]
    text = SMALL
    for name in mistakes:
        text = spoilt(text, WRONG[name])
    with pytest.raises(RobotFileError) as caught:
        robot_from_yaml(text, "small.yaml")
    lines = [str(caught.value), *caught.value.details.splitlines()]
    assert lines[0].endswith(f"(the first of {len(mistakes)} errors)") and len(lines) == len(mistakes)
    keys = ["joints[1].knid", "limits.jrek", "cameras[0].frozen_s", "state[0].max_age_s", "commands[1].names", "source"]
    for line, key in zip(lines, keys):
        assert key in line
    assert sorted(lines, key=lambda line: int(line.split(":")[1])) == lines


@pytest.mark.parametrize(
    ("lens", "message"),
    [
        ("{size: [640, 480]}", "cameras[0].rectify.k: missing: write fx, fy, cx, cy"),
        ("{size: [640, 480], k: [1, 1, 0, 0], d: [0]}", "rectify.d: it has 1 numbers, plumb_bob has 4 or 5"),
        ("{size: [640, 0.5], k: [1, 1, 0, 0], d: [0, 0, 0, 0]}", "rectify.size[1]: 0.5 is no whole number"),
        ("{size: [640, 480], k: [1, 0, 0, 0, 1, 0, 0, 0, 1], d: [0, 0, 0, 0]}", "rectify.k: expected fx, fy, cx, cy"),
    ],
)
def test_a_wrong_lens_is_named(lens: str, message: str) -> None:
    assert message in refusal(SMALL.replace("max_age_s: 0.2}", f"max_age_s: 0.2, rectify: {lens}}}", 1))


def test_two_mistakes_bring_up_no_third() -> None:
    """A mistake that is mended on the way to the next must not show what is none."""
    local = ["frozen", "missing unit", "unknown limit", "too many names", "action source", "a scale of nothing"]
    pairs = random.Random(0).sample(list(itertools.combinations(WRONG, 2)), 250)
    tried = 0
    for pair in [*pairs, *itertools.combinations(local, 2)]:
        alone = [sentences(spoilt(SMALL, WRONG[name])) for name in pair]
        text = spoilt(SMALL, WRONG[pair[0]])
        both = spoilt(text, WRONG[pair[1]]) if text else ""
        if not both or any("stands twice" in sentence for sentence in sentences(both)):
            continue
        if "joints" in str(WRONG[pair[0]][1:2]) + str(WRONG[pair[1]][1:2]) or "role" in str([WRONG[n] for n in pair]):
            continue  # together they may be another mistake
        tried += 1
        assert {*sentences(both)} <= {*alone[0], *alone[1]}, pair
        if {*pair} <= {*local}:
            assert {*sentences(both)} == {*alone[0], *alone[1]}, pair
    assert tried > 150


def test_whole_lists_that_are_missing_hide_no_other_mistake() -> None:
    """Whatever sections are missing or empty, all of them come at once, with what is wrong in the others."""
    document = yaml.safe_load(SMALL)
    keys = {"joints": "acceleration", "cameras": "slot", "state": "max_age_s", "commands": "type"}
    for count in range(1, len(keys) + 1):
        for gone in (("name", *lists, "action") for lists in itertools.combinations(keys, count)):
            left = {key: value for key, value in document.items() if key not in gone}
            empty = {key: None if key in gone else value for key, value in document.items()}
            assert [sentence.split(":")[0] for sentence in sentences(yaml.safe_dump(left))] == [*gone], gone
            assert {sentence.split(":")[0] for sentence in sentences(yaml.safe_dump(empty))} == {*gone}, gone
            spoilt_ones = [name for name in keys if name not in gone]
            text = yaml.safe_dump(left)
            for name in spoilt_ones:
                text = re.sub(rf"(?s)(\n{name}:.*?)\b{keys[name]}:", rf"\1{keys[name]}x:", f"\n{text}", count=1)
            found = sentences(text)
            assert len(found) == len(gone) + len(spoilt_ones), (gone, found)


@pytest.mark.parametrize("text", ["", "- a\n", "word", "null"])
def test_a_file_that_is_no_mapping_is_refused(text: str) -> None:
    assert refusal(text).startswith("small.yaml:1: ") and "stands where a mapping is needed" in refusal(text)


def test_sections_must_be_lists_with_entries() -> None:
    document = yaml.safe_load(SMALL)
    for key in ("joints", "cameras", "state", "commands"):
        for value in ([], None, {"a": 1}, "text"):
            if (key, value) == ("cameras", []):  # of a policy that sees the state alone
                continue
            message = refusal(yaml.safe_dump(document | {key: value}))
            entries = "" if key == "cameras" else " with at least one entry"
            assert f"{key}: " in message and f"a list{entries} is needed" in message


def test_a_robot_that_contains_itself_is_refused() -> None:
    text = SMALL.replace("action: {source: command, max_age_s: 0.3}", "action: &a {source: *a, max_age_s: 0.3}")
    assert "21: action.source: a mapping stands where text is needed" in refusal(text)
