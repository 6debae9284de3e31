"""Faults of each kind with the joint, the topic and the amount drawn at random: one line names what was drawn."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from bagmaker import START_NS, joint_message, trajectory_message
from seen_arm import BASE, COMMAND, ROBOT, STATE, WRIST, Seed, listened

from pi0_ros.base.findings import Finding
from pi0_ros.doctor.examination import check_session
from pi0_ros.doctor.heard import Endpoint, Session
from pi0_ros.doctor.joints import check_places
from pi0_ros.doctor.names import meant
from pi0_ros.doctor.remedies import Numbers
from pi0_ros.doctor.statistics import Range, check_shown, check_widths
from pi0_ros.doctor.trajectory_controller import check_controller
from pi0_ros.robot import Robot, StateTopic

NAMES = ROBOT.joint_names
SIZE, TURNING = len(NAMES), len(NAMES) - 1  # the last is the gripper
DRAWS = 6
TOPICS = (STATE, BASE, WRIST)


@dataclass(frozen=True)
class Drawn:
    """A fault: how it is seeded, the check that must name it, and words that its line must have."""

    seed: Seed
    check: str
    words: tuple[str, ...]


def on(joint: int, change: Callable[[float], float]) -> Callable[[np.ndarray], np.ndarray]:
    """A driver that changes one joint."""

    def changed(position: np.ndarray) -> np.ndarray:
        found = np.array(position)
        found[joint] = change(found[joint])
        return found

    return changed


def exchanged(random: np.random.Generator) -> Drawn:
    """Names right, values of two joints exchanged: by who says the states, or by who takes the commands."""
    first, second = random.choice(SIZE, 2, replace=False)
    order = np.arange(SIZE)
    order[[first, second]] = second, first
    side = "state" if random.integers(2) else "command"
    return Drawn(
        Seed(**{side: lambda position: position[order]}), "order", (f"{NAMES[first]} does what {NAMES[second]}",)
    )


def reversed_order(random: np.random.Generator) -> Drawn:
    side = "state" if random.integers(2) else "command"
    return Drawn(Seed(**{side: lambda position: position[::-1]}), "order", (f"{NAMES[0]} does what {NAMES[-1]}",))


def one_in_degrees(random: np.random.Generator) -> Drawn:
    joint = int(random.integers(TURNING))
    return Drawn(Seed(state=on(joint, math.degrees)), "units", (NAMES[joint], "degrees", "scale: 57.29578"))


def commands_in_degrees(random: np.random.Generator) -> Drawn:
    """All turning joints: one line."""
    degrees = np.where(np.arange(SIZE) < TURNING, math.degrees(1.0), 1.0)
    return Drawn(
        Seed(command=lambda position: position * degrees), "units", (*NAMES[:TURNING], "command is in degrees")
    )


def doubled(random: np.random.Generator) -> Drawn:
    joint, factor = int(random.integers(TURNING)), float(random.choice([0.25, 0.5, 2.0, 3.0]))
    side = "state" if random.integers(2) else "command"
    return Drawn(Seed(**{side: on(joint, lambda value: value * factor)}), "scale", (f"{NAMES[joint]} moves",))


def flipped(random: np.random.Generator) -> Drawn:
    joint = int(random.integers(TURNING))
    side = "state" if random.integers(2) else "command"
    return Drawn(Seed(**{side: on(joint, lambda value: -value)}), "sign", (f"{NAMES[joint]} moves against",))


def opens_to_close(random: np.random.Generator) -> Drawn:
    side = "state" if random.integers(2) else "command"
    return Drawn(Seed(**{side: on(TURNING, lambda value: 1 - value)}), "sign", ("gripper", "`scale: -1`, `offset: 1`"))


def turned_on(random: np.random.Generator) -> Drawn:
    """A wrong zero: a quarter of a turn or a whole one."""
    joint = int(random.integers(TURNING))
    off = float(random.choice([math.pi / 2, math.pi, 2 * math.pi]) * random.choice([-1, 1]))
    return Drawn(Seed(state=on(joint, lambda value: value + off)), "zero", (NAMES[joint], f"`offset: {off:.2f}"[:12]))


def two_say_states(random: np.random.Generator) -> Drawn:
    """By the graph: each says all joints."""
    return Drawn(Seed(more_publishers=((STATE, "/rival"),)), "publishers", (STATE, "/rival"))


def no_stamps(random: np.random.Generator) -> Drawn:
    topic = TOPICS[random.integers(3)]
    return Drawn(Seed(offs=((topic, START_NS / 1e9),)), "clock", (topic,))


KINDS = [
    exchanged,
    reversed_order,
    one_in_degrees,
    commands_in_degrees,
    doubled,
    flipped,
    opens_to_close,
    turned_on,
    two_say_states,
    no_stamps,
]


def worst(session: Session) -> list[Finding]:
    return [finding for finding in check_session(session) if finding.severity in ("error", "warning")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_drawn_at_random_is_one_line_or_is_said_not_to_be_judged(kind: Callable) -> None:
    named = 0
    for number in range(DRAWS):
        drawn = kind(np.random.default_rng(number))
        session = listened(drawn.seed, number, seconds=5.0)
        found = worst(session)
        if drawn.check not in [finding.check for finding in found]:  # a motion may be too short to tell; that is said
            assert any(f.check in ("motion", "limits") for f in check_session(session)), number
            continue
        (line,) = found
        assert line.check == drawn.check, (number, line)
        assert all(word in f"{line.what} {line.todo}" for word in drawn.words), (number, line)
        assert line.todo
        named += 1
    assert named >= DRAWS - 1


def entry(index: int, scale: float, offset: float) -> dict[str, tuple[float, ...]]:
    """A scale and an offset for one joint of an entry of the robot file."""
    return {
        "scale": tuple(scale if n == index else 1.0 for n in range(SIZE)),
        "offset": tuple(offset if n == index else 0.0 for n in range(SIZE)),
    }


DEGREES = 57.29578
# joint, what the file has for its state and its command, what its drivers say and take; the check, words of the remedy
HAS = {
    "flipped, in degrees": (
        (1, (DEGREES, 0.0), (1.0, 0.0), (-DEGREES, 0.0), (1.0, 0.0)),
        ("sign", "`scale: -57.29578` for it in the robot file's state topic", "`scale: -1` in its command's"),
    ),
    "both in degrees, flipped": (
        (1, (DEGREES, 0.0), (DEGREES, 0.0), (-DEGREES, 0.0), (DEGREES, 0.0)),
        ("sign", "`scale: -57.29578` for it in the robot file's state topic, or in its command's"),
    ),
    "flipped back": ((1, (-1.0, 0.0), (1.0, 0.0), (1.0, 0.0), (1.0, 0.0)), ("sign", "remove `scale` for it")),
    "gripper in metres, the other way round": (
        (TURNING, (0.08, 0.0), (1.0, 0.0), (-0.08, 0.08), (1.0, 0.0)),
        ("sign", "`scale: -0.08`, `offset: 0.08` for it", "`scale: -1`, `offset: 1` in its command's"),
    ),
    "gripper already turned round": (
        (TURNING, (-0.08, 0.08), (1.0, 0.0), (0.08, 0.0), (1.0, 0.0)),
        ("sign", "`scale: 0.08`, remove `offset` for it"),
    ),
    "another zero, in degrees": (
        (2, (DEGREES, 30.0), (1.0, 0.0), (DEGREES, 120.0), (1.0, 0.0)),
        ("zero", "`offset: 120` for it in the robot file's state topic"),
    ),
    "in radians after all": (
        (3, (DEGREES, 0.0), (1.0, 0.0), (1.0, 0.0), (1.0, 0.0)),
        ("units", "takes its state for degrees", "remove `scale` for it in the state topic if", "really went"),
    ),
    "commanded in degrees": (
        (3, (1.0, 0.0), (1.0, 0.0), (1.0, 0.0), (DEGREES, 0.0)),
        ("units", "command is in degrees", "`scale: 57.29578` for it in the command", "really went", "state topic"),
    ),
    "another gear": (
        (0, (2.0, 0.0), (4.0, 0.0), (0.5, 0.0), (4.0, 0.0)),
        ("scale", "`scale: 0.5` for it in the state topic", "(`scale: 16` for it if the command's is wrong)"),
    ),
    "radians for degrees": (
        (0, (1.0 / DEGREES, 0.0), (1.0, 0.0), (1.0, 0.0), (1.0, 0.0)),
        ("units", "by its scale in the robot file", "remove `scale` for it"),
    ),
}


@pytest.mark.parametrize("what", HAS)
def test_remedies_are_for_the_numbers_that_the_file_has(what: str) -> None:
    (joint, state, command, said, taken), (check, *words) = HAS[what]
    robot = replace(
        ROBOT,
        state=(replace(ROBOT.state[0], **entry(joint, *state)),),
        commands=(replace(ROBOT.commands[0], **entry(joint, *command)),),
    )
    seed = Seed(
        robot, on(joint, lambda value: said[0] * value + said[1]), on(joint, lambda value: taken[0] * value + taken[1])
    )
    (line,) = worst(listened(seed, 2, seconds=5.0))
    assert line.check == check, line
    for word in words:
        assert word in f"{line.what} {line.todo}", line


def scaled_all(random: np.random.Generator) -> tuple[Robot, Seed]:
    """A right robot whose file has numbers of its own for each joint's state and command."""
    drawn = [(random.choice([-1, 1], SIZE) * random.uniform(0.05, 60, SIZE), random.uniform(-9, 9, SIZE)) for _ in "ab"]
    entries = [{"scale": tuple(scale), "offset": tuple(offset)} for scale, offset in drawn]
    robot = replace(
        ROBOT, state=(replace(ROBOT.state[0], **entries[0]),), commands=(replace(ROBOT.commands[0], **entries[1]),)
    )
    says = [lambda position, numbers=numbers: numbers[0] * position + numbers[1] for numbers in drawn]
    return robot, Seed(robot, *says)


def test_a_right_robot_with_scales_in_its_file_gets_no_finding_and_a_wrong_one_its_own_numbers() -> None:
    for number in range(DRAWS):
        robot, seed = scaled_all(np.random.default_rng(number))
        assert worst(listened(seed, number, seconds=5.0)) == [], number
        joint = number % TURNING
        flipped = replace(seed, state=lambda position, seed=seed, joint=joint: seed.state(on(joint, _minus)(position)))
        (line,) = worst(listened(flipped, number, seconds=5.0))
        scale = robot.state[0].scale[joint]
        assert line.check == "sign" and f"`scale: {-scale:.7g}` for it in the robot file's state topic" in line.todo


def _minus(value: float) -> float:
    return -value


def test_a_joint_that_turns_without_end_and_a_gripper_told_once_get_no_finding() -> None:
    """The driver counts it from -pi to pi, the commands go on and on; its file has degrees."""
    turning = replace(ROBOT.joints[0], kind="continuous", lower=-math.inf, upper=math.inf)
    robot = replace(
        ROBOT,
        joints=(turning, *ROBOT.joints[1:]),
        state=(replace(ROBOT.state[0], **entry(0, DEGREES, 0.0)),),
    )
    for number in range(DRAWS):
        seed = Seed(
            robot,
            on(0, lambda value: math.degrees(math.remainder(3 * value + 3, 2 * math.pi))),
            on(0, lambda value: 3 * value + 3 + 4 * math.pi),
        )
        session = listened(seed, number, seconds=5.0)
        for index, position in enumerate(session.topics[COMMAND].values):
            position[TURNING] = position[TURNING] if index in (30, 150) else math.nan
        assert worst(session) == [], number


def test_a_joint_that_goes_much_further_than_commanded_is_said_to_be_unjudged() -> None:
    """Its command has a scale of degrees, and its driver takes radians: it is hardly commanded to move."""
    robot = replace(ROBOT, commands=(replace(ROBOT.commands[0], **entry(3, DEGREES, 0.0)),))
    session = listened(Seed(robot), 2, seconds=5.0)
    assert worst(session) == []
    (line,) = [finding for finding in check_session(session) if finding.check == "motion"]
    assert "zero of wrist were not judged" in line.what


def test_what_is_written_makes_state_and_command_one() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        scale, slope = random.uniform(0.1, 60.0, 2) * random.choice([-1, 1], 2)
        offset, zero, place = random.uniform(-3, 3, 3)
        old = Numbers(scale, offset)
        state, command = old.of_state(slope, zero), old.of_command(slope, zero)
        message = scale * (slope * place + zero) + offset  # of a state that is read as slope * truth + zero
        assert (message - state.offset) / state.scale == pytest.approx(place)
        heard = (command.scale * place + command.offset - offset) / scale  # of the command by the old numbers
        assert slope * heard + zero == pytest.approx(place)


def states(change: Callable[[int, float, np.ndarray], np.ndarray], moves: bool = True) -> Session:
    """The right set-up, whose states are changed one by one: (number, t, position)."""
    session, right = Session(ROBOT, live=False), listened(Seed(moves=moves), 1, live=False)
    commands = right.topics[COMMAND]
    session.topics[COMMAND] = commands
    session.topics[BASE], session.topics[WRIST] = right.topics[BASE], right.topics[WRIST]
    heard = right.topics[STATE]
    for number, (t, at, position) in enumerate(zip(heard.times, heard.arrivals, heard.values)):
        ns = round(t * 1e9)
        said = joint_message(ns, NAMES, change(number, t - heard.times[0], position))
        session.take(STATE, said, ns + 4_000_000, at)
    return session


def simulated(seed: Seed, commands_too: bool) -> Session:
    """A recording whose stamps are a simulation's, and zero before its clock is known: then arrivals count."""
    session, right = Session(ROBOT, live=False), listened(seed, 3, seconds=5.0, live=False)
    session.topics[BASE], session.topics[WRIST] = right.topics[BASE], right.topics[WRIST]
    for topic, make in ((STATE, joint_message), (COMMAND, trajectory_message)):
        heard = right.topics[topic]
        for number, (t, at, position) in enumerate(zip(heard.times, heard.arrivals, heard.values)):
            stamp = 0.0 if not number else t - START_NS / 1e9 + 12.0
            stamp = stamp if topic == STATE or commands_too else 0.0
            session.take(topic, make(round(stamp * 1e9), NAMES, position), round(t * 1e9), at)
    return session


def test_a_first_stamp_of_zero_hides_no_fault() -> None:
    found = check_session(simulated(Seed(state=on(1, lambda value: -value)), commands_too=True))
    assert "sign" in [finding.check for finding in found]


def test_states_of_a_simulation_beside_commands_without_stamps_are_said_to_be_unjudged() -> None:
    (line,) = [f for f in check_session(simulated(Seed(), commands_too=False)) if f.check == "motion"]
    assert all(name in line.what for name in NAMES) and "other times" in line.what and "one clock" in line.todo


def test_a_gripper_that_is_commanded_once_hides_no_fault_and_is_named() -> None:
    session = listened(Seed(state=on(1, lambda value: -value)), 3, seconds=5.0)
    commands = session.topics[COMMAND].values
    for number, position in enumerate(commands):
        if number not in (40, 200):
            position[TURNING] = math.nan
    assert [finding.check for finding in worst(session)] == ["sign"]
    (line,) = [finding for finding in check_session(session) if finding.check == "motion"]
    assert "gripper were not judged" in line.what and "too few commands" in line.what


def test_plans_that_are_sent_twice_a_second_are_judged() -> None:
    right, wrong = (Seed(state=change, rates=((COMMAND, 2.0),)) for change in (on(0, float), on(0, lambda v: 0.3 * v)))
    for number in range(DRAWS):
        assert "scale" not in [finding.check for finding in worst(listened(right, number, seconds=12.0))]
    lines = [worst(listened(wrong, number, seconds=12.0)) for number in range(DRAWS)]
    assert sum(any(line.check == "scale" and "yaw" in line.what for line in found) for found in lines) == DRAWS, lines


def test_two_who_say_other_places_in_turns_are_told_without_a_graph() -> None:
    (line,) = worst(states(lambda number, t, position: position if number % 2 else ROBOT.lower + 0.1))
    assert line.check == "publishers" and STATE in line.what and "end one of them" in line.todo


def test_speeds_in_the_place_of_positions_are_one_line() -> None:
    right = listened(Seed(), 1, live=False).topics[STATE]
    times, values = np.array(right.times), np.array(right.values)
    smooth = np.column_stack([np.convolve(column, np.ones(9) / 9, "same") for column in values.T])
    speeds = np.gradient(smooth, times, axis=0)
    speeds[:5], speeds[-5:] = speeds[5], speeds[-6]
    (line,) = worst(states(lambda number, t, position: speeds[number]))
    assert line.check == "velocities" and "yaw" in line.what and "field: position" in line.todo


def test_states_that_never_change_while_the_arm_is_commanded() -> None:
    (line,) = [f for f in worst(states(lambda number, t, position: ROBOT.lower + 0.3)) if f.check != "order"]
    assert line.check == "frozen" and "no joint state changes" in line.what


STAMPS: dict[str, tuple[Callable[[int, float], float], str]] = {  # (message, t) -> the stamp is older by, s
    "leaps": (lambda number, t: 1.5 * (number % 5 == 0), "leap back"),
    "set back": (lambda number, t: 0.8 * (t > 1.5), "leap back"),
    "stands": (lambda number, t: t, "stand still"),
    "slow": (lambda number, t: 0.15 * t, "fall behind by 0.15 s"),
    "fast": (lambda number, t: -0.2 * t, "run ahead by 0.20 s"),
}


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize("what", STAMPS)
def test_how_stamps_move(what: str, topic: str) -> None:
    older, words = STAMPS[what]
    session = listened(Seed(), 3)
    heard = session.topics[topic]
    begun = heard.received[0]
    heard.ages = [
        age + older(number, received - begun) for number, (age, received) in enumerate(zip(heard.ages, heard.received))
    ]
    (line,) = [finding for finding in worst(session) if finding.check in ("clock", "age")]
    assert topic in line.what and words in line.what and line.todo


def test_a_topic_of_another_namespace_is_proposed() -> None:
    session = listened(Seed(), 2, silent=lambda topic, t: topic == STATE)
    session.topics[STATE].publishers = []
    session.there = {f"/robot{STATE}": ROBOT.state[0].type, "/other": "std_msgs/msg/String"}
    (line,) = [finding for finding in worst(session) if finding.check == STATE]
    assert f"/robot{STATE} is there: is it meant?" in line.todo


def test_a_name_that_ends_alike_is_nearer_than_one_with_more_words() -> None:
    kind = "sensor_msgs/msg/JointState"
    there = {"/robot/joint_states": kind, "/joint_states_raw": kind, "/robot/camera": "sensor_msgs/msg/Image"}
    assert meant("/joint_states", kind, there) == ["/robot/joint_states"]
    assert meant("/nothing", "std_msgs/msg/String", there) == []


def test_a_recording_of_another_namespace_is_one_line() -> None:
    session = Session(ROBOT, live=False)
    session.there = {topic.replace("/demo_arm", "/left"): item.item.type for topic, item in session.topics.items()}
    (line,) = worst(session)
    assert line.check == "domain" and "/left/" in line.todo


def test_a_plan_that_is_jumped_through_is_refused() -> None:
    group = ROBOT.commands[0]
    settings: dict[str, object] = {"joints": list(NAMES), "interpolation_method": "none"}
    (line,) = check_controller(group, "/jtc", settings)
    assert line.severity == "error" and "splines" in line.todo
    settings["interpolation_method"] = "splines"
    (line,) = check_controller(group, "/jtc", settings)
    assert line.severity == "ok"


ODD: dict[str, Callable[[], Seed]] = {
    "still": lambda: Seed(moves=False),
    "dark": lambda: Seed(picture=lambda topic, pixels, number: (pixels * 0.3).astype(np.uint8)),
    "15 Hz cameras": lambda: Seed(rates=((BASE, 15.5), (WRIST, 15.5))),
    "states at 500 Hz": lambda: Seed(rates=((STATE, 500.0),)),
    "cameras at 40 Hz": lambda: Seed(rates=((BASE, 40.0),)),
    "best effort": lambda: Seed(ends=lambda end: replace(end, reliability="best_effort")),
}


@pytest.mark.parametrize("what", ODD)
def test_a_right_set_up_that_looks_odd_gets_no_warning(what: str) -> None:
    for number in range(5):
        assert worst(listened(ODD[what](), number)) == []


def test_a_gripper_driver_beside_an_arm_driver_is_no_rival() -> None:
    """Each says joints of its own on one topic."""
    session, right = Session(ROBOT), listened(Seed(moves=False), 4)
    for topic, heard in right.topics.items():
        if topic != STATE:
            session.topics[topic] = heard
    heard = right.topics[STATE]
    for t, at, position in zip(heard.times, heard.arrivals, heard.values):
        ns = round(t * 1e9)
        session.take(STATE, joint_message(ns, NAMES[:TURNING], position[:TURNING]), ns + 4_000_000, at)
        session.take(STATE, joint_message(ns, NAMES[TURNING:], position[TURNING:]), ns + 5_000_000, at + 1e-3)
    kind = ROBOT.state[0].type
    session.topics[STATE].publishers = [Endpoint("/arm", kind), Endpoint("/gripper", kind)]
    assert worst(session) == []


def test_pictures_of_two_sizes_on_one_topic() -> None:
    def picture(topic: str, pixels: np.ndarray, number: int) -> np.ndarray:
        return pixels[:36, :36] if topic == WRIST and number // 10 % 2 else pixels

    (line,) = worst(listened(Seed(picture=picture), 5))
    assert line.check == "publishers" and "wrist sends pictures of different sizes" in line.what


def test_statistics_of_nothing_are_one_line_however_many_joints() -> None:
    nothing, some = Range(np.zeros(SIZE), np.zeros(SIZE)), Range(-np.ones(SIZE), np.ones(SIZE))
    (line,) = check_widths(ROBOT, nothing, some)
    assert "no width" in line.what
    assert check_shown(ROBOT, nothing, listened(Seed(), 1).joints(StateTopic)) == []


@pytest.mark.parametrize("speed", [0.9, -0.4])
def test_a_base_driven_faster_than_the_policy_may_is_a_warning(speed: float) -> None:
    base = replace(ROBOT.joints[0], kind="speed", unit="m/s", lower=-0.25, upper=0.25)
    robot = replace(ROBOT, joints=(base, *ROBOT.joints[1:]))
    (line,) = check_places(robot, {base.name: (np.arange(2.0), np.array([0.1, speed]))})
    assert line.severity == "warning" and f"{speed} m/s" in line.what and "faster than the policy may" in line.todo
    assert "by hand" not in line.todo and "calibrate" not in line.todo
    assert not check_places(robot, {base.name: (np.arange(2.0), np.array([0.1, 0.26]))})
