"""Commands that come when something happens: a gripper told twice, a planner's trajectories, goals now and then.

What they mean for the action of a row is one rule for live streams and recordings (`ObservationBuffer`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bagmaker import (
    START_NS,
    TYPES,
    Recipe,
    image_at,
    image_message,
    joint_message,
    make_bag,
    plan_message,
    state_at,
    trajectory_message,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from pi0_ros.bags.reader import Bag
from pi0_ros.conversion.align import rows, scan, ticks_of
from pi0_ros.conversion.bag_check import check_bag
from pi0_ros.conversion.convert import convert
from pi0_ros.conversion.report import BagReport
from pi0_ros.datasets.dataset import Dataset
from pi0_ros.observation.joint_messages import MessageError, decode_trajectory
from pi0_ros.observation.stream_buffer import SECOND
from pi0_ros.observation.streams import ObservationBuffer, StaleError
from pi0_ros.observation.trajectories import Trajectory
from pi0_ros.robot import CommandGroup, Robot, load_robot, robot_from_yaml, robot_to_yaml
from pi0_ros.robot.types import Server

ARM = load_robot("demo_arm")
NAMES, GRIPPER = ARM.joint_names, ARM.joint_names[5:]
COMMAND, TOLD = ARM.commands[0].topic, "/gripper/command"
ARRAY, TRAJECTORY = "std_msgs/msg/Float64MultiArray", "trajectory_msgs/msg/JointTrajectory"
Extra = Sequence[tuple[float, str, str, Any]]


def with_commands(*groups: CommandGroup, **changes: Any) -> Robot:
    return dataclasses.replace(ARM, commands=groups, **changes)


def gripper(**changes: Any) -> Robot:
    """The arm by trajectories at a rate, its gripper by an array on a topic of its own."""
    arm = dataclasses.replace(ARM.commands[0], joints=NAMES[:5])
    return with_commands(arm, CommandGroup("gripper", TOLD, ARRAY, GRIPPER, **changes))


def told(t_s: float, value: float) -> tuple[float, str, str, Any]:
    layout = TYPES["std_msgs/msg/MultiArrayLayout"](dim=[], data_offset=0)
    return t_s, TOLD, ARRAY, TYPES[ARRAY](layout=layout, data=np.array([value], float))


def converted(tmp_path: Path, robot: Robot, extra: Extra, seconds: float = 6.0, rated: bool = True) -> BagReport:
    """What becomes of a recording with the commands `extra`; check and convert agree on it. `rated`: the arm's
    commands come at 50 Hz besides."""
    commands = [group for group in robot.commands if group.topic == COMMAND and rated]
    recipe = Recipe(seconds=seconds, size=(32, 32), extra=extra)
    path = make_bag(tmp_path / "bag", dataclasses.replace(robot, commands=tuple(commands)), recipe)
    whole = robot_from_yaml(robot_to_yaml(robot), "again")
    report = convert([path], tmp_path / "out", whole, dry_run=True).bags[0]
    checked = check_bag(path, whole)
    assert (checked.verdict == "unusable") == (report.status == "rejected"), (checked.findings, report)
    assert sum(checked.episode_rows) == report.frames
    if report.status == "converted":
        return convert([path], tmp_path / "out", whole).bags[0]
    return report


def actions(tmp_path: Path, report: BagReport) -> tuple[np.ndarray, np.ndarray]:
    """Seconds [T] and actions [T, J] of the only episode."""
    (episode,) = Dataset(tmp_path / "out").episodes
    return (report.episodes[0].start_ns - START_NS) * 1e-9 + np.arange(episode.length) / 20, episode.action


# ---- hold


def test_a_gripper_told_twice(tmp_path: Path) -> None:
    report = converted(tmp_path, gripper(hold=True), [told(0.01, 0.0), told(3.0, 1.0)])
    seconds, found = actions(tmp_path, report)
    assert report.frames > 110 and not report.gaps
    assert np.array_equal(found[:, 5], (seconds >= 3.0).astype(float))
    assert np.abs(found[:, :5] - np.array([state_at(t + 0.1, 6)[:5] for t in seconds])).max() < 0.3 / 50 + 1e-6


def test_a_gripper_whose_goals_were_told_on_a_topic(tmp_path: Path) -> None:
    """Of an action server, in its own units; a recording in which none was sent has its measured positions."""
    server = Server("/gripper", "control_msgs/action/GripperCommand", "command.position")
    kind = "sensor_msgs/msg/JointState"
    arm = dataclasses.replace(ARM.commands[0], joints=NAMES[:5])
    group = CommandGroup("gripper", TOLD, kind, GRIPPER, scale=(0.08,), hold=True, server=server)
    goals = [
        (t, TOLD, kind, joint_message(START_NS + round(t * SECOND), GRIPPER, np.array([m])))
        for t, m in ((0.01, 0.0), (3.0, 0.08))
    ]
    report = converted(tmp_path, with_commands(arm, group), goals)
    seconds, found = actions(tmp_path, report)
    assert report.frames > 110 and not report.gaps
    np.testing.assert_allclose(found[:, 5], seconds >= 3.0, atol=1e-6)


def test_without_hold_it_is_rejected_and_told_how_to_go_on(tmp_path: Path) -> None:
    report = converted(tmp_path, gripper(), [told(0.01, 0.0), told(3.0, 1.0)])
    assert report.status == "rejected"
    assert f"{TOLD}: its commands come every 2.99 s, valid for 0.25 s each: write `hold: true`" in report.reason


def test_before_the_first_command_it_stays_where_it_is(tmp_path: Path) -> None:
    report = converted(tmp_path, gripper(hold=True), [told(2.0, 1.0)])
    seconds, found = actions(tmp_path, report)
    before = seconds < 2.0
    assert before.sum() > 30 and (found[~before, 5] == 1.0).all()
    assert np.abs(found[before, 5] - [state_at(t, 6)[5] for t in seconds[before]]).max() < 0.3 / 50 + 1e-6
    (note,) = (note for note in report.notes if TOLD in note)
    assert "before its first command" in note and "its measured position is taken" in note


def test_what_is_not_measured_cannot_stay_where_it_is(tmp_path: Path) -> None:
    joints = (*ARM.joints[:5], dataclasses.replace(ARM.joints[5], role="action"))
    state = dataclasses.replace(ARM.state[0], joints=NAMES[:5])
    robot = dataclasses.replace(gripper(hold=True), joints=joints, state=(state,))
    report = converted(tmp_path, robot, [told(2.0, 1.0)])
    assert report.status == "rejected" and f"{TOLD} begins only" in report.reason


@pytest.mark.parametrize(("age_s", "status"), [(None, "rejected"), (0.5, "rejected"), (0.7, "converted")])
def test_an_age_of_its_own(tmp_path: Path, age_s: float | None, status: str) -> None:
    commands = [told(0.6 * n, n % 2) for n in range(11)]
    report = converted(tmp_path, gripper(max_age_s=age_s), commands)
    assert report.status == status
    if status == "converted":
        seconds, found = actions(tmp_path, report)
        assert np.array_equal(found[:, 5], np.floor(seconds / 0.6 + 1e-9) % 2)
    else:
        assert "write `hold: true`" in report.reason


# ---- plans


def plans(length_s: float, step_s: float, moving: bool, seconds: float = 6.0) -> Extra:
    """The arm's motion as one plan every `length_s`, of points `step_s` apart."""
    found = []
    for start in np.arange(0, seconds, length_s):
        times = np.arange(0, length_s + 1e-9, step_s)
        speeds = 0.3 * np.cos(start + times[:, None] + np.arange(6)) if moving else None
        positions = np.array([state_at(start + t, 6) for t in times])
        message = plan_message(START_NS + round(start * 1e9), NAMES, times, positions, speeds)
        found.append((float(start), COMMAND, TRAJECTORY, message))
    return found


@pytest.mark.parametrize(("moving", "error"), [(False, 0.3 * 0.5**2 / 8 * 1.01), (True, 0.3 * 0.5**4 / 384 * 1.01)])
def test_whole_trajectories_are_sampled_along_their_time(tmp_path: Path, moving: bool, error: float) -> None:
    report = converted(tmp_path, ARM, plans(2.0, 0.5, moving), rated=False)
    seconds, found = actions(tmp_path, report)
    assert report.frames > 110 and not report.gaps
    off = np.abs(found - np.array([state_at(t, 6) for t in seconds])).max()
    assert off < error + 1e-6  # single precision


def test_one_plan_for_everything(tmp_path: Path) -> None:
    report = converted(tmp_path, ARM, plans(6.0, 0.1, True), rated=False)
    assert report.frames > 110 and not [note for note in report.notes if COMMAND in note]


def test_a_plan_that_ends_is_a_gap_from_there_on(tmp_path: Path) -> None:
    extra = [plans(2.0, 0.5, True)[0], plans(2.0, 0.5, True)[2]]  # nothing from 2.25 s to 4 s
    report = converted(tmp_path, ARM, extra, rated=False)
    (gap,) = report.gaps
    assert "has a plan that ended; it is 0.2" in gap.why
    assert gap.length_s == pytest.approx(1.75, abs=0.1)


def test_a_newer_plan_takes_over(tmp_path: Path) -> None:
    times = np.arange(0, 6.1, 0.5)
    low, high = (np.full((len(times), 6), value) for value in (0.2, 0.6))
    extra = [
        (at, COMMAND, TRAJECTORY, plan_message(START_NS + round(at * 1e9), NAMES, times, positions))
        for at, positions in ((0.0, low), (2.5, high))
    ]
    seconds, found = actions(tmp_path, converted(tmp_path, ARM, extra, rated=False))
    assert np.allclose(found, np.where(seconds >= 2.5, 0.6, 0.2)[:, None])


def test_goals_now_and_then_are_for_next_state(tmp_path: Path) -> None:
    goals = [
        (t, COMMAND, TRAJECTORY, trajectory_message(START_NS + round(t * 1e9), NAMES, state_at(t + 2, 6)))
        for t in (0.01, 2.0, 4.0)
    ]
    report = converted(tmp_path, ARM, goals, rated=False)
    assert report.status == "rejected" and "write `action: {source: next_state}`" in report.reason
    following = dataclasses.replace(ARM, action_source="next_state")
    assert convert([tmp_path / "bag"], tmp_path / "next", following).bags[0].frames > 110


def test_a_plan_whose_times_stand_still_is_refused() -> None:
    message = plan_message(START_NS, NAMES, [0.0, 0.0], np.zeros((2, 6)))
    with pytest.raises(MessageError, match="the times of the trajectory's points do not rise"):
        decode_trajectory(ARM.commands[0], message)


def test_units_of_plans() -> None:
    group = dataclasses.replace(ARM.commands[0], scale=(100.0,) * 6, offset=(5.0,) * 6)
    message = plan_message(START_NS, NAMES, [0.0, 1.0], np.array([[5.0] * 6, [105.0] * 6]), np.full((2, 6), 100.0))
    plan = decode_trajectory(group, message)
    assert isinstance(plan, Trajectory) and plan.at(0.25) == pytest.approx([0.25] * 6)


# ---- live and offline: the same buffer, fed in another way


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_live_streams_and_recordings_give_the_same_actions(data: st.DataObject, tmp_path_factory) -> None:
    """Commands of all kinds at drawn times; live a buffer keeps little and never sees what comes later."""
    held = data.draw(st.booleans())
    robot = gripper(hold=held, max_age_s=None if held else 1.5)
    starts = sorted(data.draw(st.lists(st.floats(0.0, 2.5), min_size=1, max_size=4)))
    extra = [told(t, n) for n, t in enumerate(sorted(data.draw(st.lists(st.floats(0, 3), min_size=1, max_size=4))))]
    for number, start in enumerate(starts):
        count = data.draw(st.integers(1, 4))
        times = 0.3 * np.arange(count)
        message = plan_message(
            START_NS + round(start * 1e9), NAMES, times, np.full((count, 6), number) + times[:, None]
        )
        extra.append((start, COMMAND, TRAJECTORY, message))
    recipe = Recipe(seconds=3.0, size=(8, 8), extra=extra, joint_hz=20)
    path = make_bag(tmp_path_factory.mktemp("bag") / "x", dataclasses.replace(robot, commands=()), recipe)
    live = ObservationBuffer(robot, keep=8)
    with Bag(path) as bag:
        found = scan(bag, robot)
        ticks = ticks_of(found, robot)
        made = list(rows(bag, robot, found, ticks, lambda tick: "x"))
        messages = [(topic, ns, bag.decode(topic, raw)) for topic, ns, raw in bag.raw({*robot.topics})]
    at = 0
    order = np.argsort(found.stamps, kind="stable")
    for row in made:
        while at < len(order) and found.stamps[order[at]] <= row.stamp_ns:
            topic, ns, message = messages[order[at]]
            live.push_message(topic, message, ns, int(found.stamps[order[at]]))
            at += 1
        try:
            action = live.action_at(row.stamp_ns)
        except StaleError as error:
            assert row.action is None and row.problem, error
        else:
            if row.action is None:
                with pytest.raises(StaleError):
                    live.observe(row.stamp_ns, "x")
            else:
                np.testing.assert_array_equal(action, row.action)


def test_a_live_buffer_forgets_a_held_command_when_the_clock_restarts() -> None:
    robot = gripper(hold=True)
    buffer = ObservationBuffer(robot, keep=4)
    for t_s, value in ((100.0, 1.0), (1.0, 0.0)):
        buffer.push_message(TOLD, told(t_s, value)[3], round(t_s * SECOND))
    buffer.push_message(ARM.state[0].topic, joint_message(SECOND, NAMES, state_at(1.0, 6)), SECOND)
    buffer.push_message(COMMAND, trajectory_message(SECOND, NAMES, state_at(1.1, 6)), SECOND)
    for camera in ARM.cameras:
        buffer.push_message(camera.topic, image_message(SECOND, image_at(0, 8, 8)), SECOND)
    assert buffer.counts[TOLD].restarts == 1
    assert buffer.action_at(SECOND)[5] == 0.0
    with pytest.raises(StaleError):
        buffer.action_at(2 * SECOND)  # the arm's command is too old, the gripper's holds
