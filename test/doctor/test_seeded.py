"""Misconfigurations that people really make, each seeded into a right set-up: one line names it, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from seen_arm import BASE, COMMAND, ROBOT, STATE, WRIST, Seed, listened, swapped_names, with_camera
from servoed_arm import SERVOED

from pi0_ros.base.findings import Finding, error, note, ok, warning
from pi0_ros.cli.doctor_page import write_doctor_page
from pi0_ros.control.limits import limits_of
from pi0_ros.doctor.checkpoint import Facts, check_horizon, check_latency, check_memory
from pi0_ros.doctor.examination import check_session
from pi0_ros.doctor.heard import Session
from pi0_ros.doctor.machine import BUSY, WAITING, Load, Memory, overloaded
from pi0_ros.doctor.rivals import leaping
from pi0_ros.doctor.speed_driver import check_driver
from pi0_ros.doctor.statistics import Range, check_widths
from pi0_ros.doctor.trajectory_controller import check_controller
from pi0_ros.robot import robot_from_yaml

SPAN = ROBOT.upper - ROBOT.lower
HOME = 0.5 * (ROBOT.lower + ROBOT.upper)
STATE_RANGE = Range(ROBOT.lower + 0.05 * SPAN, ROBOT.upper - 0.05 * SPAN)
ACTIONS = Range(-0.4 * SPAN, 0.4 * SPAN)
AWAY = Range(0.2 * SPAN, 0.5 * SPAN)  # what an arm does that is changed in one way only
NOTHING = Range(np.zeros(6), np.zeros(6))
STATE_AWAY = Range(0.15 * SPAN, 0.6 * SPAN)
GOOD = Facts(24, 20.0, STATE_RANGE, ACTIONS, 60_000_000)
DEGREES = np.where([joint.unit == "rad" for joint in ROBOT.joints], np.degrees(1.0), 1.0)
OUT = np.array([2.9, 0.0, 0.0, 0.0, 0.0, 0.0])
FLIPPED = np.array([1.0, -1.0, 1.0, 1.0, 1.0, 1.0])


def scaled(joint: int, factor: float):
    """A driver that says this many times what one joint's position is."""
    return lambda position: position * np.where(np.arange(len(SPAN)) == joint, factor, 1.0)


def _blurred(topic: str, pixels: np.ndarray, number: int) -> np.ndarray:
    """The base camera far out of focus."""
    side = len(pixels)
    smooth = Image.fromarray(pixels).resize((3, 3), Image.Resampling.BOX).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(smooth) if topic == BASE else pixels


def _frozen() -> Seed:
    kept: dict[str, np.ndarray] = {}
    return Seed(
        robot=with_camera(frozen_s=0.5),
        picture=lambda topic, pixels, number: kept.setdefault(topic, pixels) if topic == BASE else pixels,
    )


def _twins() -> Seed:
    """Both topics from one device."""
    last: list[np.ndarray] = []

    def picture(topic: str, pixels: np.ndarray, number: int) -> np.ndarray:
        if topic == BASE:
            last[:] = [pixels]
        return last[0] if last else pixels

    return Seed(picture=picture)


def _only(topic: str, node: str, **qos: object):
    return lambda end: replace(end, **qos) if end.node == node else end


# what -> (seed, the check that names it, words of its line and remedy)
SEEDS: dict[str, tuple[Seed, str, tuple[str, ...]]] = {
    "joint order": (
        Seed(names=swapped_names(1, 3)),
        "order",
        ("shoulder does what wrist is told", "order of `joints`"),
    ),
    "degrees": (Seed(state=lambda position: position * DEGREES), "units", ("degrees", "scale: 57.29578")),
    "percent": (Seed(state=scaled(5, 100.0)), "units", ("percent", "scale: 100")),
    "wrong scale": (Seed(state=scaled(0, 0.2)), "scale", ("yaw", "scale: 0.2")),
    "gripper in metres": (Seed(state=scaled(5, 0.08)), "scale", ("gripper moves 0.0", "normalized")),
    "outside limits": (
        Seed(state=lambda position: position + OUT, command=lambda position: position + OUT),
        "limits",
        ("yaw is at", "[-1.9, 1.9]", "move it inside"),
    ),
    "wrong zero": (Seed(state=lambda position: position + OUT), "zero", ("yaw is 2.9 rad beside", "`offset: 2.9`")),
    "flipped sign": (Seed(state=lambda position: position * FLIPPED), "sign", ("shoulder moves against", "scale: -1")),
    "cameras exchanged": (Seed(swapped=True), "swapped", ("wrist and base", BASE, WRIST)),
    "one camera on both topics": (_twins(), "twins", ("base and wrist show the same", "wrong device")),
    "black": (
        Seed(picture=lambda topic, pixels, _: pixels * (topic != BASE)),
        "black",
        ("camera base is black", "cap"),
    ),
    "blurred": (Seed(picture=_blurred), "blurred", ("camera base is blurred", "focus")),
    "overexposed": (
        Seed(picture=lambda topic, pixels, _: np.maximum(pixels, 252) if topic == BASE else pixels),
        "exposure",
        ("camera base is overexposed", "exposure"),
    ),
    "frozen": (_frozen(), "frozen", ("camera base", "one and the same picture", "restart its driver")),
    "a driver asks for what is not offered": (
        Seed(ends=_only(COMMAND, "/driver", durability="transient_local")),
        "qos",
        ("/driver hears nothing of", "TRANSIENT_LOCAL"),
    ),
    "second publisher of commands": (
        Seed(more_publishers=((COMMAND, "/teleop"),)),
        "publishers",
        (f"{COMMAND} is also sent by /teleop", "end"),
    ),
    "a second controller": (
        Seed(more_publishers=((COMMAND, "/other/controller"),)),
        "publishers",
        ("is also sent by /other/controller", "end"),
    ),
    "two drivers of one camera": (Seed(more_publishers=((BASE, "/usb"),)), "publishers", ("2 publishers", "/usb")),
    "slow joint states": (Seed(rates=((STATE, 5.0),)), "rate", (STATE, "5.0 Hz", "raise its max_age_s")),
    "slow camera": (Seed(rates=((BASE, 10.0),)), "rate", (BASE, "10.0 Hz", "dataset_fps 20")),
    "clocks differ": (Seed(stamp_off_s=3.0), "clock", ("all 3 topics are 3.00 s in the past", "chrony")),
    "clock ahead": (Seed(stamp_off_s=-3.0), "clock", ("all 3 topics are 3.00 s in the future", "chrony")),
    "one late camera": (Seed(offs=((WRIST, 0.6),)), "age", (WRIST, "600 ms old", "stamp at capture")),
    "names that differ": (
        Seed(names=("waist", *ROBOT.joint_names[1:])),
        STATE,
        ("yaw", "they have waist", "names"),
    ),
}


def worst(session: Session, facts: Facts | None = None) -> list[Finding]:
    """Errors and warnings."""
    return [finding for finding in check_session(session, facts) if finding.severity in ("error", "warning")]


@pytest.mark.parametrize("what", SEEDS)
def test_each_seeded_fault_is_named_in_one_line_with_its_remedy(what: str) -> None:
    seed, check, words = SEEDS[what]
    found = worst(listened(seed))
    assert [finding.check for finding in found] == [check], found
    text = f"{found[0].what} -> {found[0].todo}"
    assert all(word in text for word in words), text
    assert found[0].todo


def test_a_right_set_up_gives_no_warning_in_twenty_runs() -> None:
    for number in range(20):
        found = list(check_session(listened(number=number), GOOD))
        assert not [f for f in found if f.severity in ("error", "warning")], (number, found)
        assert not [f for f in found if f.check == "motion"], "signs and order were judged"


def test_what_cannot_be_judged_is_said() -> None:
    found = list(check_session(listened(Seed(moves=False))))
    assert not [f for f in found if f.severity in ("error", "warning")], found
    (said,) = [f for f in found if f.check == "motion"]
    assert "not judged" in said.what and "--bag" in said.todo


@pytest.mark.parametrize(
    ("state", "actions", "words"),
    [
        (Range(STATE_RANGE.low * 57.3, STATE_RANGE.high * 57.3), ACTIONS, ("state", "too wide", "52 times")),
        (STATE_RANGE, Range(ACTIONS.low * 57.3, ACTIONS.high * 57.3), ("actions", "too wide", "46 times")),
        (
            Range(STATE_RANGE.low * 57.3, STATE_RANGE.high * 57.3),
            Range(ACTIONS.low * 57.3, ACTIONS.high * 57.3),
            ("joints of the state", "joints of the actions", "too wide"),
        ),
        (
            Range(np.zeros(6), np.zeros(6)),
            Range(np.zeros(6), np.zeros(6)),
            ("state and the actions", "no width at all"),
        ),
        (ACTIONS, AWAY, ("exchanged", "shoulder", "pi0 stats")),
        (STATE_AWAY, AWAY, ("not those of changes", "shoulder", "pi0 stats --robot")),
        (NOTHING, ACTIONS, ("state", "no width at all", "pi0 stats")),
        (STATE_RANGE, NOTHING, ("actions", "no width at all", "pi0 stats")),
    ],
)
def test_statistics_that_no_motion_gives(state: Range, actions: Range, words: tuple[str, ...]) -> None:
    (finding,) = check_widths(ROBOT, state, actions)
    assert finding.severity == "error" and all(word in f"{finding.what} {finding.todo}" for word in words), finding


@pytest.mark.parametrize("beside", [(0.0044, 0.0056), (1e-4, 1e-4), (-0.021, -0.019)])
def test_a_joint_that_was_held_still_is_a_little_beside_its_command(beside: tuple[float, float]) -> None:
    """Sag, or an arm that is not used: no fault of statistics of changes."""
    for joint in range(len(ROBOT.joints)):
        low, high = ACTIONS.low.copy(), ACTIONS.high.copy()
        low[joint], high[joint] = beside
        assert check_widths(ROBOT, STATE_RANGE, Range(low, high)) == []


def test_what_is_sent_seldom_may_go_to_and_fro() -> None:
    """A gripper's commands on change, waypoints, states of two hertz; no motion leaps, two publishers do."""
    other, times = HOME + 0.2 * SPAN, np.arange(0.0, 4.0, 0.02)
    turns = np.array([HOME, other] * 100)
    hand = np.array([joint.kind == "gripper" for joint in ROBOT.joints])  # it is fast
    assert leaping(ROBOT.joints, turns, times) == [joint.name for joint in ROBOT.joints if joint.kind != "gripper"]
    assert leaping(ROBOT.joints, turns, times * 20) == []
    only_gripper = np.where(hand, np.array([ROBOT.lower, ROBOT.upper] * 100), HOME)
    assert leaping(ROBOT.joints, only_gripper, times) == ["gripper"]
    assert leaping(ROBOT.joints, only_gripper, times, commands=True) == []
    random = np.random.default_rng(0)
    for rate in (1.0, 2.0, 10.0, 100.0):
        times = np.arange(0.0, 6.0, 1.0 / rate)
        pace = np.minimum(ROBOT.velocity / (0.4 * SPAN), 12.0)
        swing = HOME + 0.4 * SPAN * np.sin(np.outer(times, pace) + random.uniform(0, 6, len(SPAN)))
        assert leaping(ROBOT.joints, swing + random.normal(0, 1e-3, swing.shape), times) == []


def test_statistics_of_another_pose_are_told_by_the_joint() -> None:
    """Of a robot whose elbow never was where this one's is."""
    high = STATE_RANGE.high.copy()
    high[2] = ROBOT.lower[2] + 0.06 * SPAN[2]
    found = worst(listened(), replace(GOOD, state=Range(STATE_RANGE.low, high)))
    assert [f.check for f in found] == ["statistics"] and "elbow" in found[0].what and "outside" in found[0].what
    drawn = [f for f in check_session(listened(), GOOD) if f.check == "statistics"]
    assert len(drawn) == 1 and drawn[0].what.count("\n") == 6 and "[" in drawn[0].what


def test_the_page_draws_every_joint_and_keeps_foreign_texts_as_texts(tmp_path: Path) -> None:
    high = STATE_RANGE.high.copy()
    high[2] = ROBOT.lower[2] + 0.06 * SPAN[2]
    found = list(check_session(listened(), replace(GOOD, state=Range(STATE_RANGE.low, high))))
    (drawn,) = [finding for finding in found if finding.spreads]
    assert drawn.to_dict()["spreads"][2]["outside"] > 0.5 and "spreads" not in found[0].to_dict()
    write_doctor_page(tmp_path / "doctor.html", "<script>x</script>", found, "1 must be mended first.")
    page = (tmp_path / "doctor.html").read_text()
    assert page.count('class="bar"') == len(ROBOT.joints) and page.count("median outside") == 1
    assert all(name in page for name in ROBOT.joint_names) and "<script>" not in page
    assert page.index('"error">error') < page.index('"note">note')


def test_a_gripper_that_holds_nothing_is_no_fault() -> None:
    """Demonstrations held a large box, so the hand never closed; between scenes it does."""
    low, high = STATE_RANGE.low.copy(), STATE_RANGE.high.copy()
    low[5], high[5] = 0.0, 0.05
    ends = iter(np.resize([1.0, 1.0, 0.99, 1.04, 1.0], 1000))  # its fingers meet, and overshoot
    closed = Seed(state=lambda position: np.append(position[:5], next(ends)), moves=False)
    found = list(check_session(listened(closed), replace(GOOD, state=Range(low, high))))
    assert not [f for f in found if f.severity in ("error", "warning") and f.check == "statistics"], found
    (drawn,) = [f for f in found if f.check == "statistics"]
    assert "gripper" in drawn.what and "100% outside" in drawn.what.splitlines()[-1]


def test_horizon_latency_and_memory() -> None:
    (short,) = check_horizon(ROBOT, replace(GOOD, horizon=6), "tiny")
    assert (short.severity, short.check) == ("error", "horizon") and "policy_rate_hz" in short.todo
    assert [f.severity for limit in (0.3, 0.8, 2.0) for f in check_latency(GOOD, limit)] == ["ok", "warning", "error"]
    assert check_latency(GOOD, float("nan")) == []
    large = replace(GOOD, weights_bytes=14 << 30)
    for total, free, severity in ((8, 8, "error"), (24, 10, "warning"), (24, 23, "note")):
        (told,) = check_memory(large, Memory("a GPU", total << 30, free << 30))
        assert told.severity == severity, told


def test_nobody_there_is_one_line() -> None:
    alone = list(check_session(Session(ROBOT, domain="7")))
    assert [f.check for f in alone] == ["domain"] and "ROS_DOMAIN_ID 7" in alone[0].what
    others = list(check_session(Session(ROBOT, other_nodes=("/talker",))))
    assert [f.check for f in others] == ["domain"] and "/talker" in others[0].what


FITS = {"joints": list(ROBOT.joint_names), "allow_nonzero_velocity_at_trajectory_end": True}


@pytest.mark.parametrize(
    ("group", "settings", "words"),
    [
        ({}, FITS, ("ok", "its parameters fit")),
        ({}, {"joints": FITS["joints"]}, ("ok",)),  # of a release without the others
        ({}, {}, ()),  # a driver of its own
        ({}, {**FITS, "allow_nonzero_velocity_at_trajectory_end": False}, ("error", "every command that moves")),
        ({"points": "trajectory"}, {**FITS, "allow_nonzero_velocity_at_trajectory_end": False}, ("ok",)),
        ({"points": "trajectory"}, {**FITS, "interpolate_from_desired_state": False}, ("warning", "measured")),
        ({}, {**FITS, "joints": ["waist", *ROBOT.joint_names[1:]]}, ("error", "has no joint yaw")),
        ({}, {**FITS, "joints": [*ROBOT.joint_names, "lift"]}, ("error", "also moves lift")),
        ({}, {**FITS, "joints": [*ROBOT.joint_names, "lift"], "allow_partial_joints_goal": True}, ("ok",)),
    ],
)
def test_a_trajectory_controller_that_would_refuse(group: dict, settings: dict, words: tuple[str, ...]) -> None:
    command = replace(ROBOT.commands[0], **group)
    found = list(check_controller(command, "/arm_controller", settings))
    assert [finding.severity for finding in found] == list(words[:1])
    assert all(word in found[0].what and (words[0] == "ok" or found[0].todo) for word in words[1:])


SERVO, BASE_STOPS = "moveit_servo.incoming_command_timeout", "cmd_vel_timeout"


@pytest.mark.parametrize(
    ("key", "settings", "words"),
    [
        ("max_age_s: 0.25,", {SERVO: 0.25}, ("ok", "stops 0.25 s after a command")),
        ("", {SERVO: 0.2}, ("warning", "by the robot file it stops after 0.3 s in recordings", "max_age_s: 0.2 at")),
        ("", {SERVO: 0.3}, ("warning", "by the robot file it stops after 0.2 s behind a stall", "max_age_s: 0.3 at")),
        ("", {SERVO: 0.0}, ("warning", "for ever", "behind a stall of the controller and it stops after 0.3 s")),
        ("max_age_s: 0.25,", {BASE_STOPS: 0.5}, ("warning", "stops after 0.25 s", "max_age_s: 0.5 at")),
        ("max_age_s: 0.25,", {SERVO: 0.0}, ("warning", "for ever", "hold: true in the place of max_age_s")),
        ("hold: true,", {SERVO: 0.0}, ("ok", "for ever")),
        ("hold: true,", {SERVO: 0.25}, ("warning", "keeps one for ever", "max_age_s: 0.25 at")),
        ("max_age_s: 0.1,", {SERVO: 0.1}, ("warning", "may stop in between", "control_rate_hz")),
        ("max_age_s: 0.04,", {SERVO: 0.04}, ("error", "stops in between")),
        ("max_age_s: 0.25,", {BASE_STOPS: 250.0}, ()),  # in ms
        ("max_age_s: 0.25,", {BASE_STOPS: 0.0}, ()),
        ("max_age_s: 0.25,", {}, ()),
    ],
)
def test_how_long_a_driver_of_speeds_waits_is_compared_with_the_file(key: str, settings: dict, words: tuple) -> None:
    robot = robot_from_yaml(SERVOED.replace("{name: hand,", f"{{name: hand, {key}"), "servoed.yaml")
    found = list(check_driver(robot, robot.commands[0], "/servo_node", settings))
    assert [finding.severity for finding in found] == list(words[:1])
    assert all(word in f"{found[0].what} {found[0].todo}" for word in words[1:])


MEASURED = SERVOED.replace("kind: speed, role: action,", "kind: speed,").replace(
    "commands:\n",
    "  - {topic: /hand, type: geometry_msgs/msg/TwistStamped, max_age_s: 1.0, joints: [vx, vy, vz, wx, wy, wz],\n"
    "     names: [linear.x, linear.y, linear.z, angular.x, angular.y, angular.z]}\ncommands:\n",
)


@pytest.mark.parametrize("stops_s", [0.15, 0.2, 0.3, 0.5, 1.0, 0.0])
@pytest.mark.parametrize("key", ["", "hold: true,", "max_age_s: 0.15,", "max_age_s: 0.3,", "max_age_s: 1.0,"])
@pytest.mark.parametrize("text", [SERVOED, MEASURED], ids=["told", "measured, too"])
def test_what_the_doctor_says_of_a_stall_is_what_the_controller_does(text: str, key: str, stops_s: float) -> None:
    """Its driver has stopped where the controller takes it for stopped; of what is measured it may ask earlier."""
    robot = robot_from_yaml(text.replace("{name: hand,", f"{{name: hand, {key}"), "servoed.yaml")
    limits, ends_s = limits_of(robot), stops_s or np.inf
    wrong = False
    for gap_s in (0.05, 0.1, 0.16, 0.19, 0.25, 0.35, 0.7, 2.0, 20.0):
        stopped, taken_for_stopped = gap_s > ends_s, bool(gap_s > limits.driver_waits[0])
        wrong |= stopped != taken_for_stopped and not (limits.measured[0] and taken_for_stopped)
    said = " ".join(f.what for f in check_driver(robot, robot.commands[0], "/servo_node", {SERVO: stops_s}))
    assert ("behind a stall" in said) == wrong, said


def test_a_picture_that_stays_while_the_arm_rests_is_not_frozen() -> None:
    """It rests, and a new scene puts it elsewhere just before the end; or it moves all the while."""
    for rests in (True, False):
        kept: dict[str, np.ndarray] = {}
        still = 0.2 * SPAN
        said = iter(range(10**6))

        def state(
            position: np.ndarray, rests: bool = rests, said: Iterator[int] = said, still: np.ndarray = still
        ) -> np.ndarray:
            return still if rests and next(said) < 130 else position + still

        def picture(topic: str, pixels: np.ndarray, number: int, kept: dict = kept) -> np.ndarray:
            return kept.setdefault(topic, pixels) if topic == BASE and number < 52 else pixels

        found = check_session(listened(Seed(state=state, picture=picture)), GOOD)
        assert [f.check for f in found if f.check == "frozen"] == ([] if rests else ["frozen"])


@pytest.mark.parametrize("live", [True, False])
def test_a_moment_in_which_everything_paused_is_one_line(live: bool) -> None:
    """A machine that stalls stops every stream at once; a camera whose cable is loose stops alone."""
    began, ended = 1.2, 1.6
    session = listened(number=1, live=live, silent=lambda topic, t: began < t < ended)
    (told,) = worst(session)
    assert told.check == "machine" and "all 3 topics paused" in told.what and "0.4" in told.what
    assert ("this machine" if live else "the machine that recorded") in told.todo
    alone = listened(number=1, live=live, silent=lambda topic, t: topic == BASE and began < t < ended)
    (told,) = worst(alone)
    assert told.check == "rate" and f"{BASE}: a pause of 0.4" in told.what and "cable" in told.todo
    cameras = listened(number=1, live=live, silent=lambda topic, t: topic != STATE and began < t < ended)
    assert [f.check for f in worst(cameras)] == ["rate", "rate"], "the joints spoke all the while"


@pytest.mark.parametrize(
    ("pauses", "severity"),
    [
        (((1.0, 1.3),), "note"),  # a fifth beyond what is allowed, once
        (((1.0, 1.3), (2.0, 2.3)), "warning"),  # again and again
        (((1.0, 1.5),), "warning"),
    ],
)
@pytest.mark.parametrize("topics", [(BASE,), (BASE, WRIST, STATE)])
def test_one_short_pause_is_worth_a_word_and_no_warning(pauses: tuple, severity: str, topics: tuple) -> None:
    def silent(topic: str, t: float) -> bool:
        share = 0.6 if topic == STATE else 1.0  # its limit is so much shorter
        return topic in topics and any(began < t < began + share * (ended - began) for began, ended in pauses)

    told = [f for f in check_session(listened(number=1, silent=silent), GOOD) if f.check in ("rate", "machine")]
    assert {f.severity for f in told} == {severity}
    assert len(told) == 1 and "pause" in told[0].what
    assert bool(told[0].todo) == (severity == "warning")


def test_what_paused_while_the_doctor_got_no_time_is_no_pause() -> None:
    """Nobody listened: that is said in a note. What paused longer than that did pause."""
    session = listened(number=1, silent=lambda topic, t: 1.2 < t < 1.8)
    session.deaf.append((1.22, 1.77))
    told = [f for f in check_session(session, GOOD) if f.check in ("rate", "machine")]
    assert [f.severity for f in told] == ["note"] and "no time for 0.55 s" in told[0].what
    session.deaf[:] = [(1.22, 1.5)]
    told = [f for f in check_session(session, GOOD) if f.check in ("rate", "machine")]
    assert [f.severity for f in told] == ["warning", "note"] and "all 3 topics paused" in told[0].what


def test_a_busy_machine_is_one_cause_and_one_line() -> None:
    slow = [
        warning("rate", f"/camera_{n}: 6 Hz, the policy was trained at dataset_fps 20", "raise it") for n in range(2)
    ]
    late = warning("latency", "chunks come 1.1 s after their observation: little of them is left")
    kept = [
        ok("robot file", "fine"), error("image transport", "no such file"), warning("blurred", "/camera_0"),
        error("clock", "the stamps of all 3 topics are 3.00 s in the past"), note("motion", "not judged"),
    ]  # fmt: skip
    found = [*kept[:2], warning("image transport", "not set"), kept[2], *slow, late, *kept[3:]]
    assert overloaded(found, Load(0.9 * BUSY, 0.9 * WAITING)) == found
    assert overloaded(kept, Load(10 * BUSY)) == kept, "load alone is nothing to warn of"
    (momentary,) = [f for f in overloaded(found, Load(0.5, 0.6)) if f not in found]
    assert momentary.check == "machine" and "in 60 % of the time something waits for a core" in momentary.what
    told = overloaded(found, Load(12.0))
    (cause,) = [finding for finding in told if finding not in found]
    assert [finding for finding in told if finding is not cause] == kept
    assert (cause.severity, cause.check) == ("warning", "machine") and "12 processes want each core" in cause.what
    assert all(finding.what in cause.what for finding in (*slow, late)) and "end what else runs" in cause.todo
    fatal = [error("age", "/joints: 300 ms old"), error("latency", "nothing is left"), error("observation", "old")]
    told = overloaded([*kept, *fatal, *slow], Load(12.0))
    (cause,) = [finding for finding in told if finding not in kept]
    assert cause.severity == "error", "nothing can run like this"
    assert all(finding.what in cause.what for finding in (*fatal, *slow))
