"""What the next chunk must continue, how long it will take, and what the model makes of it."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from chunks import chunk_of
from policy_fixtures import observation, tiny_checkpoint, tiny_robot

from pi0_ros.checkpoints.checkpoint import load_checkpoint
from pi0_ros.checkpoints.spec import PolicySpec
from pi0_ros.control.chunk import ActionChunk
from pi0_ros.inference.prefix import ActionPrefix, Continuation, DelayEstimate, RtcSettings
from pi0_ros.model.rtc import CleanPrefix, SoftPrefix, soft_mask
from pi0_ros.policy.guidance import make_guidance
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


def following(until: float, chunk: ActionChunk, published: float, commands_from: float = START) -> Continuation:
    """A controller that was told `path` every tick, and heard of `chunk`."""
    one = Continuation(RtcSettings(), GRIPPER)
    for k in range(round((until - commands_from) / TICK) + 1):
        t = commands_from + k * TICK
        if t >= published and one._chunk is None:
            one.published(chunk, ns(published))
        one.sent(ns(t), path(t)[0])
    return one


def test_the_prefix_is_what_was_sent_then_what_will_be_then_the_plan() -> None:
    old = chunk_at(START + 0.1, offset=0.3)  # the commands are elsewhere: told apart by 0.3
    one = following(START + 0.5, old, published=START + 0.19)
    stamp = START + 0.40  # the observation is as old as it takes to hear of commands
    prefix = one.prefix(ns(stamp))
    assert prefix is not None and prefix.dt == DT
    assert prefix.delay == 2  # the old chunk was first followed 0.1 s after its observation
    times = stamp + DT * np.arange(len(prefix.actions))
    past, faded = times <= START + 0.5, times >= START + 0.7
    np.testing.assert_allclose(prefix.actions[past], path(times[past]), atol=1e-5)
    np.testing.assert_allclose(prefix.actions[faded], path(times[faded]) + [0.3, 0.0], atol=1e-5)
    between = (prefix.actions - path(times))[~past & ~faded, 0]
    assert (np.diff(between) > 0).all() and 0 < between[0] < between[-1] < 0.3  # the controller's transition
    assert past.sum() == 3 and len(between) == 3
    assert times[-1] == pytest.approx(old.end, abs=1e-5)  # nothing behind the plan, and no zeros


def test_the_plan_is_resampled_and_grippers_are_never_half_closed() -> None:
    old = chunk_at(START)
    prefix = following(START + 0.1, old, START + 0.08).prefix(ns(START + 0.11))
    assert prefix is not None
    times = START + 0.11 + DT * np.arange(len(prefix.actions))
    np.testing.assert_allclose(prefix.actions[:, 0], times - START, atol=1e-5)
    assert set(prefix.actions[:, 1]) == {0.0, 1.0}
    closes = times[prefix.actions[:, 1] == 1.0][0]
    assert START + 0.55 <= closes < START + 0.6 + 1e-6  # old action at 0.55 is the first that closes


def test_delay_is_counted_in_executed_steps() -> None:
    """From the observation to the first command after the chunk: 0.12 s are the steps at 0, 0.05 and 0.1 s."""
    one = Continuation(RtcSettings(), GRIPPER)
    one.sent(ns(START), path(START)[0])
    one.published(chunk_at(START), ns(START + 0.09))
    guess = one.prefix(ns(START + 0.09))
    assert guess is not None and guess.delay == 2  # until a command follows: when it went out
    one.sent(ns(START + 0.02), path(START)[0])  # on its way before the chunk was
    one.sent(ns(START + 0.12), path(START)[0])
    one.sent(ns(START + 0.14), path(START)[0])
    measured = one.prefix(ns(START + 0.15))
    assert measured is not None and measured.delay == 3


def test_a_chunk_that_came_too_late_was_never_executed() -> None:
    one = following(START + 0.3, chunk_at(START), START + 0.1)
    assert one.delays.longest == 100_000_000
    one.published(chunk_at(START + 0.2, steps=4), ns(START + 5.0))
    one.sent(ns(START + 5.0), path(START)[0])
    assert one.delays.longest == 100_000_000


def test_without_a_controller_there_is_nothing_to_continue() -> None:
    one = Continuation(RtcSettings(), GRIPPER)
    assert one.prefix(ns(START)) is None
    one.published(chunk_at(START), ns(START + 0.1))
    assert one.prefix(ns(START + 0.2)) is None  # no command
    quiet = following(START + 0.3, chunk_at(START), START + 0.1)
    assert quiet.prefix(ns(START + 0.4)) is not None
    assert quiet.prefix(ns(START + 0.7)) is None  # none any more


def test_after_arming_the_old_plan_is_not_followed() -> None:
    """Commands that begin after the chunk went out hold still: so it is until the new chunk takes over, then free."""
    old = chunk_at(START, offset=0.5)
    one = following(START + 0.3, old, START + 0.1)
    for k in range(10):
        one.sent(ns(START + 0.8 + k * TICK), np.array([7.0, 1.0]))
    prefix = one.prefix(ns(START + 0.9))
    assert prefix is not None
    assert prefix.actions.tolist() == [[7.0, 1.0]] * max(prefix.delay, 2)
    early = one.prefix(ns(START + 0.75))  # an observation of before the first command
    assert early is not None
    assert np.isnan(early.actions[0]).all() and early.actions[1:].tolist() == [[7.0, 1.0]] * 4


def test_a_chunk_that_a_hold_has_dropped_is_not_followed() -> None:
    """The arm stands where it was held until the new chunk takes over, then free."""
    one = following(START + 0.3, chunk_at(START), START + 0.1)
    held = path(START + 0.32)[0]
    for k in range(1, 4):
        one.sent(ns(START + 0.3 + k * TICK), held, follows=False)
    prefix = one.prefix(ns(START + 0.36))
    assert prefix is not None and prefix.actions.tolist() == [held.tolist()] * prefix.delay
    one.published(chunk_at(START + 0.36, offset=0.1), ns(START + 0.37))
    taken_up = one.prefix(ns(START + 0.38))
    assert taken_up is not None and len(taken_up.actions) > 10, "the chunk on its way will be followed"


def test_behind_its_end_a_chunk_stands_still_until_the_next_takes_over() -> None:
    old = chunk_at(START, steps=7)
    one = following(START + 0.28, old, START + 0.21)
    prefix = one.prefix(ns(START + 0.28))
    assert prefix is not None and prefix.delay == 5
    times = START + 0.28 + DT * np.arange(5)
    np.testing.assert_allclose(prefix.actions[0], path(times[0])[0], atol=1e-5)
    assert len(prefix.actions) == 5 and (prefix.actions[1:] == prefix.actions[1]).all()


def test_a_clock_that_goes_back_ends_the_record() -> None:
    one = following(START + 0.5, chunk_at(START), START + 0.1)
    one.sent(ns(START - 50.0), np.zeros(2))
    assert one.prefix(ns(START - 50.0)) is None


def test_the_report_compares_the_chunk_with_what_was_executed() -> None:
    one = following(START + 0.3, chunk_at(START), START + 0.1)
    assert one.report() == {
        "rtc_mode": "auto",
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
    with caplog.at_level(logging.WARNING):
        guidance = make_guidance(trained(spec, 2), prefix_of(4, 3, "trained"), STATE)
    assert isinstance(guidance, CleanPrefix) and guidance.actions.shape[1] == 2
    assert "3 actions pass before a chunk takes over, the checkpoint was trained for 2 at most" in caplog.text


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
