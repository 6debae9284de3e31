"""What the next chunk must continue, how long it will take, and what the model makes of it."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from arms import Bench, arm_limits, path_chunk
from chunks import chunk_of
from policy_fixtures import observation, tiny_checkpoint, tiny_robot

from pi0_ros.checkpoints.checkpoint import load_checkpoint
from pi0_ros.checkpoints.spec import PolicySpec
from pi0_ros.control.chunk import ActionChunk
from pi0_ros.control.plan import Plan, plan_behind
from pi0_ros.control.states import Settings, State
from pi0_ros.inference.prefix import ActionPrefix, Continuation, RtcSettings
from pi0_ros.inference.slowing import DelayEstimate
from pi0_ros.model.rtc import CleanPrefix, SoftPrefix, soft_mask
from pi0_ros.policy.guidance import _say_late, make_guidance
from pi0_ros.policy.policy import Policy
from pi0_ros.policy.transforms import actions_from_model, actions_to_model

ROBOT = tiny_robot()
DT, TICK, START = 0.05, 0.02, 1.7e9
GRIPPER = np.array([False, True])


def ns(t: float) -> int:
    """Seconds in whole nanoseconds."""
    return round(t * 1e9)


# --- delays -----------------------------------------------------------------------------------------------------------


def test_the_longest_of_the_last_delays_counts() -> None:
    delays = DelayEstimate(length=3)
    assert delays.longest is None
    for delay, longest in ((0.2, 0.2), (0.1, 0.1), (0.3, 0.3), (0.1, 0.3), (0.1, 0.3), (0.1, 0.1)):
        delays.add(delay)
        assert delays.longest == longest
    delays.correct(0.4)
    assert delays.longest == 0.4


def test_the_first_delay_is_loading_and_connecting() -> None:
    delays = DelayEstimate()
    delays.add(30.0)
    assert delays.longest == 30.0
    delays.add(0.1)
    delays.add(0.2)
    assert delays.longest == 0.2


# --- the prefix -------------------------------------------------------------------------------------------------------


def path(t: np.ndarray | float) -> np.ndarray:
    """[n, 2]: a joint in even motion, and a gripper that closes at 0.52 s."""
    t = np.atleast_1d(t) - START
    return np.stack([t, (t >= 0.52).astype(float)], axis=1)


def chunk_at(stamp: float, steps: int = 20, offset: float = 0.0) -> ActionChunk:
    return chunk_of(stamp, DT, path(stamp + DT * np.arange(steps)) + [offset, 0.0], ("a", "g"))


def plan_at(begins: float, ends: float, speed: float = 1.0) -> Plan:
    """What a controller would say at `begins`: on along `path`, but at `speed`, and at rest from `ends` on."""
    times = TICK * np.arange(round((ends - begins) / TICK) + 1)
    positions = path(begins + times)
    positions[:, 0] = positions[0, 0] + speed * times
    velocities = np.tile([speed, 0.0], (len(times), 1))
    velocities[-1] = 0.0
    return Plan(times, positions, velocities)


def unheard_of() -> Continuation:
    return Continuation(RtcSettings(), GRIPPER, np.array([2.0, 5.0]))


def following(
    until: float,
    chunk: ActionChunk,
    published: float,
    commands_from: float = START,
    speed: float = 1.0,
    behind: float = 0.1,
) -> Continuation:
    """A controller that sent `path` every tick, was told of `chunk`, and says how it goes on, `behind` its end too."""
    one = unheard_of()
    one.state(armed=True, follows=True)
    for k in range(round((until - commands_from) / TICK) + 1):
        t = commands_from + k * TICK
        if t >= published and one._chunk is None:
            one.published(chunk, ns(published))
        one.sent(ns(t), path(t)[0])
    one.planned(ns(t), plan_at(t, chunk.end + behind, speed))
    return one


def test_the_prefix_is_what_was_sent_then_what_the_controller_will_send() -> None:
    old = chunk_at(START + 0.1, offset=0.3)  # the controller does not follow it to the letter, and says so
    one = following(START + 0.5, old, published=START + 0.19, speed=0.5)
    stamp = START + 0.40  # the observation is as old as it takes to hear of commands
    prefix = one.prefix(ns(stamp))
    assert prefix is not None and prefix.dt == DT
    assert prefix.delay == 2  # the old chunk was first followed 0.1 s after its observation
    times = stamp + DT * np.arange(len(prefix.actions))
    past = times <= START + 0.5 + 1e-6
    assert past.sum() == 3
    np.testing.assert_allclose(prefix.actions[past], path(times[past]), atol=1e-6)
    np.testing.assert_allclose(prefix.actions[~past, 0], 0.5 + 0.5 * (times[~past] - START - 0.5), atol=1e-6)
    assert times[-1] == pytest.approx(old.end, abs=1e-6)  # nothing behind the plan, and no zeros


def test_while_a_person_leads_chunks_begin_anew() -> None:
    """Nobody knows where they will go; and a plan that they did not keep to is no trouble to speak of."""
    one = following(START + 0.5, chunk_at(START + 0.1), published=START + 0.19)
    assert one.prefix(ns(START + 0.4)) is not None
    one.state(armed=True, follows=False, led=True)
    one.sent(ns(START + 0.52), path(START + 0.52)[0] + [0.5, 0.0])
    assert one.prefix(ns(START + 0.45)) is None and not one.problem
    began = time.monotonic()
    one.wait_for_plan(30.0)
    assert time.monotonic() - began < 20.0, "there is nothing to wait for"


def test_the_plan_is_read_between_its_points() -> None:
    one = following(START + 0.1, chunk_at(START), START + 0.08)
    prefix = one.prefix(ns(START + 0.111))
    assert prefix is not None
    times = START + 0.111 + DT * np.arange(len(prefix.actions))
    np.testing.assert_allclose(prefix.actions[:, 0], times - START, atol=1e-6)
    closing = prefix.actions[:, 1]
    assert (np.diff(closing) >= 0).all() and closing[0] == 0.0 and closing[-1] == 1.0, "grippers never overshoot"


def test_delay_is_counted_in_executed_steps() -> None:
    """From the observation to the first command after the chunk: 0.12 s are the steps at 0, 0.05 and 0.1 s."""
    one = unheard_of()
    one.sent(ns(START), path(START)[0])
    one.published(chunk_at(START), ns(START + 0.09))
    one.planned(ns(START), plan_at(START, START + 0.9))
    guess = one.prefix(ns(START + 0.09))
    assert guess is not None and guess.delay == 2  # until a command follows: when it went out
    one.sent(ns(START + 0.02), path(START + 0.02)[0])  # on its way before the chunk was
    one.sent(ns(START + 0.10), path(START + 0.10)[0])
    one.sent(ns(START + 0.12), path(START + 0.12)[0])
    measured = one.prefix(ns(START + 0.15))
    assert measured is not None and measured.delay == 2, "two whole steps, to the nanosecond"
    later = unheard_of()
    later.planned(ns(START), plan_at(START, START + 0.9))
    later.published(chunk_at(START), ns(START + 0.09))
    later.sent(ns(START + 0.10) + 1, path(START + 0.10)[0])
    measured = later.prefix(ns(START + 0.15))
    assert measured is not None and measured.delay == 3


def test_a_chunk_that_came_too_late_was_never_executed() -> None:
    one = following(START + 0.3, chunk_at(START), START + 0.1)
    assert one.delays.longest == 100_000_000
    one.published(chunk_at(START + 0.2, steps=4), ns(START + 5.0))
    one.sent(ns(START + 5.0), path(START)[0])
    assert one.delays.longest == 100_000_000


def test_without_a_controller_there_is_nothing_to_continue() -> None:
    one = unheard_of()
    assert one.prefix(ns(START)) is None
    one.published(chunk_at(START), ns(START + 0.1))
    assert one.prefix(ns(START + 0.2)) is None  # no command
    quiet = following(START + 0.3, chunk_at(START), START + 0.1)
    assert quiet.prefix(ns(START + 0.4)) is not None
    assert quiet.prefix(ns(START + 0.7)) is None  # none any more
    assert (one.problem, quiet.problem) == ("", ""), "which is nobody's fault"


def test_without_a_plan_there_is_no_prefix_and_a_word_why() -> None:
    one = unheard_of()
    one.published(chunk_at(START), ns(START + 0.1))
    for k in range(10):
        t = START + 0.1 + k * TICK
        one.sent(ns(t), path(t)[0])
        assert one.prefix(ns(t)) is None
        assert bool(one.problem) == (k >= 2), "not for the first moments"
    assert one.problem.startswith("no plan is heard on pi0/plan") and one.report()["rtc_problem"] == one.problem
    one.planned(ns(t), plan_at(t, START + 0.9))
    assert one.prefix(ns(t)) is not None and one.problem == ""
    one.planned(ns(t), None)
    assert one.prefix(ns(t)) is None and one.problem == "", "it says that it sends nothing any more"


def test_a_plan_that_is_not_what_is_sent_is_not_believed() -> None:
    """Say, because the newer one was lost on its way."""
    one = following(START + 0.3, chunk_at(START), START + 0.1)
    for k in range(1, 15):
        t = START + 0.3 + k * TICK
        one.sent(ns(t), path(t)[0] - [0.12, 0.0])
        prefix = one.prefix(ns(t))
        assert prefix is None, "a joint goes 0.1 in 50 ms at its velocity limit"
    assert "not what is sent on pi0/command" in one.problem


def test_while_no_chunk_is_followed_only_what_is_executed_meanwhile_is_known() -> None:
    """The arm stands where it was held until the new chunk takes over, then it is free."""
    for armed in (True, False):
        one = following(START + 0.3, chunk_at(START), START + 0.1)
        one.state(armed, follows=False)
        held = path(START + 0.30)[0]
        one.planned(ns(START + 0.30), Plan(np.zeros(1), held[None], np.zeros((1, 2))))
        for k in range(1, 4):
            one.sent(ns(START + 0.3 + k * TICK), held)
        prefix = one.prefix(ns(START + 0.36))
        assert prefix is not None and prefix.actions.tolist() == [held.tolist()] * prefix.delay


def test_behind_its_end_a_chunk_wants_nothing_but_the_stop_is_known() -> None:
    old = chunk_at(START, steps=7)
    one = following(START + 0.28, old, START + 0.21, behind=0.0)
    prefix = one.prefix(ns(START + 0.28))
    assert prefix is not None and prefix.delay == 5
    times = START + 0.28 + DT * np.arange(5)
    np.testing.assert_allclose(prefix.actions[:, 0], np.minimum(times, old.end) - START, atol=1e-6)
    assert len(prefix.actions) == 5


def test_before_the_first_command_nothing_is_known() -> None:
    one = following(START + 0.9, chunk_at(START + 0.7), START + 0.78, commands_from=START + 0.78)
    early = one.prefix(ns(START + 0.75))
    assert early is not None and np.isnan(early.actions[0]).all() and np.isfinite(early.actions[1:]).all()


def test_a_clock_that_goes_back_ends_the_record() -> None:
    one = following(START + 0.5, chunk_at(START), START + 0.1)
    one.sent(ns(START - 50.0), np.zeros(2))
    assert one.prefix(ns(START - 50.0)) is None


def resting(follows: bool = False, speed: float = 0.0, led: bool = False) -> Continuation:
    """One that heard commands for 0.3 s, the last at START."""
    one = Continuation(RtcSettings(), GRIPPER, np.full(2, 2.0))
    for t in np.arange(-0.3, 0.01, TICK):
        one.sent(ns(START + t), np.array([speed * t, 0.0]))
    one.state(armed=True, follows=follows, led=led)
    return one


def test_a_chunk_that_finds_the_robot_at_rest_begins_when_it_goes_out() -> None:
    one = resting()
    assert one.prefix(ns(START)) is None
    made = chunk_at(START)
    for late in (0.0, 0.02, 0.05, 0.21, 0.3):
        begun = one.begun(made, ns(START + late))
        steps = round(np.ceil(round(late / DT, 6)))
        assert (begun.stamp_ns, begun.dt_ns, len(begun.actions)) == (made.stamp_ns, made.dt_ns, len(made.actions))
        np.testing.assert_array_equal(begun.actions[:steps], np.repeat(made.actions[:1], steps, axis=0))
        np.testing.assert_array_equal(begun.actions[steps:], made.actions[: len(made.actions) - steps])
    too_late = ns(made.stamp + 100.0)
    assert one.begun(made, too_late) is made  # over: not for the controller to follow


@pytest.mark.parametrize("change", ["follows", "moves", "led", "follows by now", "unheard"])
def test_a_chunk_that_finds_the_robot_in_motion_keeps_its_times(change: str) -> None:
    one = resting(follows=change == "follows", speed=0.2 if change == "moves" else 0.0, led=change == "led")
    if change == "unheard":
        one = Continuation(RtcSettings(), GRIPPER, np.full(2, 2.0))
    one.prefix(ns(START))
    if change == "follows by now":
        one.state(armed=True, follows=True)
    made = chunk_at(START)
    assert one.begun(made, ns(START + 0.21)) is made


def test_the_plan_of_a_chunk_that_went_out_is_waited_for() -> None:
    one = following(START + 0.3, chunk_at(START), START + 0.1)
    one.wait_for_plan(timeout_s=60.0)  # the last chunk is in the plan
    one.published(chunk_at(START + 0.2), ns(START + 0.31))
    heard = threading.Timer(0.2, lambda: one.planned(ns(START + 0.32), plan_at(START + 0.32, START + 1.1)))
    heard.start()
    one.wait_for_plan(timeout_s=60.0)
    assert one._begins_ns == ns(START + 0.32)
    one.published(chunk_at(START + 0.3), ns(START + 0.4))
    one.wait_for_plan(timeout_s=0.01)  # refused: no plan comes
    one.state(armed=False, follows=False)
    one.wait_for_plan(timeout_s=60.0)  # nobody takes it up


def test_the_report_compares_the_chunk_with_what_was_executed() -> None:
    one = following(START + 0.3, chunk_at(START), START + 0.1)
    assert one.report() == {
        "execution_speed": 1.0,
        "execution_slowed": "",
        "rtc_mode": "auto",
        "rtc_problem": "",
        "rtc_known": 0,
        "rtc_executed": 0,
        "rtc_difference": pytest.approx(np.nan, nan_ok=True),
    }
    given = one.prefix(ns(START + 0.3))
    assert given is not None
    one.published(chunk_at(START + 0.3, offset=0.04), ns(START + 0.42))
    report = one.report()
    assert (report["rtc_known"], report["rtc_executed"]) == (14, given.delay)
    assert report["rtc_difference"] == pytest.approx(0.04, abs=1e-4)


@pytest.mark.parametrize("interpolation", ["linear", "cubic", "quintic"])
@pytest.mark.parametrize("transition", ["replace", "blend", "rtc", "ensemble"])
@pytest.mark.parametrize("period", [0.02, 0.004])
def test_the_prefix_is_what_the_controller_then_sends(transition: str, interpolation: str, period: float) -> None:
    """Whatever its settings are, and where limits keep it from the chunk: nobody guesses."""
    settings = Settings(interpolation=interpolation, transition=transition, blend_s=0.3)
    bench = Bench(replace(arm_limits(), jerk=np.array([300.0, 300.0, np.inf])), settings, period)
    one = Continuation(RtcSettings(), bench.limits.gripper, bench.limits.velocity)
    said, compared, given = -1, 0, None
    bench.arm()
    random = np.random.default_rng(4)
    for tick in range(round(4.0 / period)):
        if tick % round(0.4 / period) == 0:
            chunk = path_chunk(bench.now - 0.1, steps=20, offset=random.uniform(-0.3, 0.3))
            one.published(chunk, ns(bench.now))
            assert bench.controller.accept(chunk, bench.now)
        bench.step()
        command = bench.sent[-1]
        assert command is not None
        one.sent(ns(bench.now), command.position)
        if bench.controller.revision != said:
            said = bench.controller.revision
            one.planned(ns(bench.now), plan_behind(bench.controller.fork(), command, bench.now))
            one.state(armed=True, follows=bench.controller.state is State.RUNNING)
        if tick % round(0.4 / period) == round(0.16 / period):  # between a chunk and the next: the plan stays as it is
            given, since = one.prefix(ns(bench.now)), tick
            assert given is not None
        if given is not None and (tick - since) * period == pytest.approx(0.2):
            went = np.array([c.position for c in bench.sent[since - tick - 1 :] if c is not None])
            there = np.stack([np.interp(np.arange(5) * 0.05, period * np.arange(len(went)), x) for x in went.T], 1)
            between_ticks = 16.0 * period**2 / 8.0  # what a line between two commands makes of an acceleration
            np.testing.assert_allclose(given.actions[:5, :2], there[:, :2], atol=between_ticks + 1e-4)
            assert np.abs(given.actions[:5, 2] - there[:, 2]).max() < 0.06, "a gripper's corners are cut by a point"
            compared += 1
    assert compared >= 8


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mode": "guided"}, "rtc.mode is 'guided', expected one of auto, off, exact, lerobot, trained"),
        ({"schedule": "cosine"}, "rtc.schedule is 'cosine', expected one of exp"),
        ({"max_guidance_weight": 0.0}, "rtc.max_guidance_weight is 0.0"),
        ({"mask_end": -1}, "rtc.mask_end is -1"),
    ],
)
def test_settings(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RtcSettings(**values)


# --- the model's guidance ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture
def spec(folder: Path) -> PolicySpec:
    return load_checkpoint(folder).spec


def trained(spec: PolicySpec, max_delay: int) -> PolicySpec:
    return replace(spec, settings=replace(spec.settings, rtc_trained_max_delay=max_delay))


def prefix_of(steps: int, delay: int, mode: str = "exact", unknown: tuple[int, ...] = (), **more) -> ActionPrefix:
    actions = np.random.default_rng(5).normal(size=(steps, 6)) * 0.3
    actions[list(unknown)] = np.nan
    return ActionPrefix(actions, DT, delay, RtcSettings(mode, **more))


STATE = np.linspace(-0.5, 0.5, 6)


@pytest.mark.parametrize("mode", ["exact", "lerobot"])
def test_guidance_is_in_model_units_and_masks_what_is_unknown(spec: PolicySpec, mode: str) -> None:
    prefix = prefix_of(4, 2, mode, unknown=(1,), max_guidance_weight=3.0)
    guidance = make_guidance(spec, prefix, STATE)
    assert isinstance(guidance, SoftPrefix)
    assert (guidance.jacobian, guidance.max_weight) == (mode == "exact", 3.0)
    mask = soft_mask("exp", 2, 4, 5)
    mask[1] = 0.0
    weights = torch.cat([mask[:, None].expand(5, 6), torch.zeros(5, 2)], dim=1)
    weights[2:, 5] = 0.0  # the gripper: what is executed counts, its plan does not
    assert ROBOT.gripper_mask.tolist() == [False] * 5 + [True]
    assert torch.equal(guidance.weights, weights)
    back = actions_from_model(spec, guidance.actions, STATE[None])[0]
    np.testing.assert_allclose(back[[0, 2, 3]], prefix.actions[[0, 2, 3]], atol=1e-5)


def test_the_prefix_is_anchored_to_the_present_state(spec: PolicySpec) -> None:
    """Relative joints: the same absolute position is another number for the model once the arm has moved."""
    prefix = prefix_of(3, 2)
    here, there = (make_guidance(spec, prefix, state) for state in (STATE, STATE + 0.1))
    assert isinstance(here, SoftPrefix) and isinstance(there, SoftPrefix)
    moved = (there.actions - here.actions)[0, :3, :6]
    wanted = np.where(ROBOT.relative_mask, -0.1, 0.0) / (spec.norm_stats.actions.std + 1e-6)
    np.testing.assert_allclose(moved, np.tile(wanted, (3, 1)), atol=1e-5)


def test_the_mask_ends_where_it_is_told_to(spec: PolicySpec) -> None:
    guidance = make_guidance(spec, prefix_of(5, 1, schedule="ones", mask_end=3), STATE)
    assert isinstance(guidance, SoftPrefix) and guidance.weights[:, 0].tolist() == [1, 1, 1, 0, 0]


def test_nothing_to_continue(spec: PolicySpec) -> None:
    nothing = [
        None,
        prefix_of(3, 1, "off"),
        prefix_of(3, 1, unknown=(0, 1, 2)),
        replace(prefix_of(3, 1), dt=0.1),  # steps of the policy before this one
        replace(prefix_of(3, 1), actions=np.zeros((0, 6))),
    ]
    assert [make_guidance(spec, prefix, STATE) for prefix in nothing] == [None] * len(nothing)


def test_a_longer_prefix_is_cut(spec: PolicySpec) -> None:
    guidance = make_guidance(spec, prefix_of(9, 2), STATE)
    assert isinstance(guidance, SoftPrefix) and guidance.actions.shape == (1, 5, 8)


@pytest.mark.parametrize(
    ("steps", "delay", "unknown", "given"), [(4, 2, (), 2), (4, 3, (2,), 2), (9, 8, (), 4), (3, 1, (0,), None)]
)
def test_a_clean_prefix(spec: PolicySpec, steps: int, delay: int, unknown: tuple[int, ...], given: int | None) -> None:
    prefix = prefix_of(steps, delay, "trained", unknown)
    guidance = make_guidance(trained(spec, 9), prefix, STATE)
    if given is None:
        assert guidance is None
        return
    assert isinstance(guidance, CleanPrefix)
    assert torch.equal(guidance.actions, actions_to_model(spec, prefix.actions[None, :given], STATE[None]))
    assert guidance.actions[..., 6:].abs().max() == 0  # as in training


def test_a_delay_that_was_not_trained_for_is_limited(spec: PolicySpec, caplog: pytest.LogCaptureFixture) -> None:
    _say_late.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            guidance = make_guidance(trained(spec, 2), prefix_of(4, 3, "trained"), STATE)
    assert isinstance(guidance, CleanPrefix) and guidance.actions.shape[1] == 2
    words = "3 actions pass before a chunk takes over, the checkpoint was trained for 2 at most"
    assert [record.getMessage() for record in caplog.records] == [words]  # said once, not with every chunk


def test_a_checkpoint_that_was_not_trained_for_it_says_so(folder: Path) -> None:
    policy = Policy(load_checkpoint(folder))
    with pytest.raises(ValueError, match="'tiny' was not trained to continue a prefix.*use auto or exact"):
        policy.infer(observation(ROBOT), prefix_of(4, 3, "trained"))


def test_auto_takes_what_the_checkpoint_can(spec: PolicySpec) -> None:
    prefix = prefix_of(4, 2, "auto")
    guided, clean = make_guidance(spec, prefix, STATE), make_guidance(trained(spec, 3), prefix, STATE)
    assert isinstance(guided, SoftPrefix) and guided.jacobian and isinstance(clean, CleanPrefix)


def test_a_prefix_of_another_robot_is_refused(spec: PolicySpec) -> None:
    with pytest.raises(ValueError, match=r"shape \[3, 7\], the robot has 6 joints"):
        make_guidance(spec, replace(prefix_of(3, 1), actions=np.zeros((3, 7))), STATE)


def test_a_trained_prefix_comes_out_as_it_was_sent(folder: Path) -> None:
    loaded = load_checkpoint(folder)
    policy = Policy(replace(loaded, spec=trained(loaded.spec, 3)), seed=1)
    assert policy.metadata.rtc_trained_max_delay == 3
    prefix = prefix_of(4, 3, "trained")
    chunk = policy.infer(observation(ROBOT), prefix)
    np.testing.assert_allclose(chunk.actions[:3], prefix.actions[:3], atol=1e-5)
    assert not np.allclose(chunk.actions[3], prefix.actions[3], atol=1e-2)
