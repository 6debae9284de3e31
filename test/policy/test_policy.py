"""One inference: deterministic, timed, absolute robot units, and no nonsense passed on."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from policy_fixtures import SECOND, observation, tiny_checkpoint, tiny_robot

from pi0_ros.checkpoints.checkpoint import load_checkpoint
from pi0_ros.inference.backend import Backend
from pi0_ros.inference.failover import Failover
from pi0_ros.inference.metadata import BackendError, Metadata, RobotMismatchError, check_robot
from pi0_ros.inference.options import PolicyOptions
from pi0_ros.inference.prefix import ActionPrefix, RtcSettings
from pi0_ros.policy.backends import make_backend
from pi0_ros.policy.policy import Policy, load_policy
from pi0_ros.robot import Robot
from pi0_ros.robot.units import Scale


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture
def policy(folder: Path) -> Policy:
    return Policy(load_checkpoint(folder), seed=4)


def test_chunk(policy: Policy) -> None:
    seen = observation(tiny_robot(), stamp_ns=5 * SECOND)
    chunk = policy.infer(seen)
    assert chunk.stamp_ns == 5_000_000_000
    assert chunk.dt == pytest.approx(1 / 20)
    assert chunk.names == tuple(tiny_robot().joint_names)
    assert chunk.actions.shape == (5, 6) and chunk.actions.dtype == np.float64


def test_equal_observations_give_equal_chunks_in_any_order(folder: Path) -> None:
    first, second = (Policy(load_checkpoint(folder), seed=4) for _ in range(2))
    second.warm_up()
    seen = [observation(tiny_robot(), seed, (seed + 1) * SECOND) for seed in range(3)]
    chunks = [first.infer(one).actions for one in seen]
    for one, actions in reversed(list(zip(seen, chunks))):
        np.testing.assert_array_equal(second.infer(one).actions, actions)


def test_seed_and_stamp_choose_the_noise(folder: Path) -> None:
    loaded = load_checkpoint(folder)
    seen = observation(tiny_robot())
    first = Policy(loaded, seed=1).infer(seen).actions
    assert not np.allclose(first, Policy(loaded, seed=2).infer(seen).actions)
    assert not np.allclose(first, Policy(loaded, seed=1).infer(replace(seen, stamp_ns=6 * SECOND)).actions)


def test_what_the_robot_sees_feels_and_is_told_matters(policy: Policy) -> None:
    seen = observation(tiny_robot())
    actions = policy.infer(seen).actions
    black = {**seen.images, "wrist": np.zeros_like(seen.images["wrist"])}
    for other in (
        replace(seen, images=black),
        replace(seen, state=seen.state + 0.1),
        replace(seen, prompt="put the blue cube into the tray"),
    ):
        assert not np.array_equal(policy.infer(other).actions, actions)


def test_timing(policy: Policy) -> None:
    assert policy.timing == {}
    policy.infer(observation(tiny_robot()))
    parts = [policy.timing[f"{stage}_ms"] for stage in ("prepare", "model", "finish")]
    assert min(parts) > 0
    assert policy.timing["total_ms"] == pytest.approx(sum(parts), rel=0.01)


def test_warm_up_takes_time_but_leaves_no_timing(policy: Policy) -> None:
    assert policy.warm_up() > 0
    assert policy.timing == {}


def test_number_of_flow_steps(folder: Path) -> None:
    loaded, seen = load_checkpoint(folder), observation(tiny_robot())
    four = Policy(loaded).infer(seen).actions  # the checkpoint's
    np.testing.assert_array_equal(Policy(loaded, num_steps=4).infer(seen).actions, four)
    assert not np.allclose(Policy(loaded, num_steps=1).infer(seen).actions, four)


def test_a_checkpoint_says_how_much_noise_its_chunks_grow_from(folder: Path) -> None:
    """With none, the noise's seed means nothing any more; with the whole it is as without the key."""
    loaded, seen = load_checkpoint(folder), observation(tiny_robot())
    whole = Policy(loaded, seed=1).infer(seen).actions

    def chunk(scale: float, seed: int) -> np.ndarray:
        settings = replace(loaded.spec.settings, noise_scale=scale)
        return Policy(replace(loaded, spec=replace(loaded.spec, settings=settings)), seed=seed).infer(seen).actions

    np.testing.assert_array_equal(chunk(1.0, 1), whole)
    np.testing.assert_array_equal(chunk(0.0, 1), chunk(0.0, 2))
    assert not np.allclose(chunk(0.0, 1), whole)
    assert not np.allclose(chunk(0.5, 1), chunk(0.5, 2))


def test_a_state_that_is_not_finite_is_refused(policy: Policy) -> None:
    with pytest.raises(BackendError, match="state is not finite"):
        policy.infer(replace(observation(tiny_robot()), state=np.full(6, np.nan)))


def test_actions_that_are_not_finite_are_refused(folder: Path) -> None:
    loaded = load_checkpoint(folder)
    with torch.no_grad():
        loaded.model.action_out_proj.weight[:] = torch.nan
    with pytest.raises(BackendError, match="actions are not finite"):
        Policy(loaded).infer(observation(tiny_robot()))


def test_missing_camera_is_named(policy: Policy) -> None:
    seen = observation(tiny_robot())
    with pytest.raises(ValueError, match="no image of camera 'wrist'"):
        policy.infer(replace(seen, images={"base": seen.images["base"]}))


# --- does the checkpoint fit the robot? -------------------------------------------------------------------------------


def other(**changes) -> Robot:
    return replace(tiny_robot(), **changes)


def joints(index: int, **changes) -> tuple:
    listed = list(tiny_robot().joints)
    listed[index] = replace(listed[index], **changes)
    return tuple(listed)


@pytest.mark.parametrize(
    ("robot", "message"),
    [
        (other(joints=joints(0, name="base_yaw")), "joints are .*'base_yaw'"),
        (other(joints=tuple(reversed(tiny_robot().joints))), "joints are"),
        (other(joints=joints(1, action="absolute")), "joint 'shoulder': action is 'absolute' here and 'relative'"),
        (other(joints=joints(1, action="velocity", step=0.2)), "action is 'velocity' here.*step is '0.2' here"),
        (other(joints=joints(5, action_scale=Scale(0.0, 0.8))), "action_scale is 'Scale.zero=0.0, one=0.8"),
        (other(joints=joints(1, unit="m", kind="prismatic")), "joint 'shoulder': unit is 'm'.*kind is 'prismatic'"),
        (other(cameras=tiny_robot().cameras[:1]), "cameras"),
        (other(cameras=tuple(replace(c, slot="right_wrist_0_rgb") for c in tiny_robot().cameras)), "right_wrist_0_rgb"),
    ],
)
def test_another_robot_is_refused(robot: Robot, message: str, folder: Path) -> None:
    with pytest.raises(RobotMismatchError, match=message):
        load_policy(local(folder), robot=robot)


def test_topics_rates_and_limits_may_differ() -> None:
    cameras = tuple(replace(camera, topic=f"/lab{camera.topic}", max_age_s=1.0) for camera in tiny_robot().cameras)
    robot = other(cameras=cameras, joints=joints(0, velocity=0.1), policy_rate_hz=1.0, name="demo_arm_2")
    check_robot(robot, Metadata("tiny", "pi0", tiny_robot(), 5, 20.0, 24))


# --- backends ---------------------------------------------------------------------------------------------------------


def local(folder: Path, **more: Any) -> PolicyOptions:
    return PolicyOptions(checkpoint=str(folder), device="cpu", **more)


def test_local_backend(folder: Path) -> None:
    backend: Backend = make_backend(local(folder, seed=4), robot=tiny_robot())
    assert isinstance(backend, Policy)
    assert backend.metadata == Policy(load_checkpoint(folder)).metadata
    assert backend.metadata.horizon == 5 and backend.metadata.checkpoint == "tiny"
    seen = observation(tiny_robot())
    expected = Policy(load_checkpoint(folder), seed=4).infer(seen).actions
    np.testing.assert_array_equal(backend.infer(seen).actions, expected)
    backend.close()
    with pytest.raises(BackendError, match="closed"):
        backend.infer(seen)


def test_a_checkpoint_without_robot_file_drives_the_robot_at_hand(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "foreign")
    (folder / "robot.yaml").unlink()
    robot = other(name="another", cameras=tiny_robot().cameras[:1])
    backend = make_backend(local(folder, dtype="bfloat16"), robot=robot)
    assert backend.metadata.robot == robot
    assert backend.infer(observation(robot)).actions.shape == (5, 6)
    with pytest.raises(ValueError, match="no robot file in it: say which robot"):
        load_policy(local(folder))
    with pytest.raises(ValueError, match="dtype is 'half', expected one of auto, float32, bfloat16"):
        load_policy(local(folder, dtype="half"), robot=robot)


def test_torch_threads(folder: Path) -> None:
    before = torch.get_num_threads()
    try:
        load_policy(local(folder, torch_threads=1))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_zmq_backend_reaches_for_nothing_when_made() -> None:
    backend = make_backend(PolicyOptions(backend="zmq", server="tcp://127.0.0.1:9"), robot=tiny_robot())
    assert isinstance(backend, Failover) and backend.metadata is None
    backend.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "local"}, "needs a checkpoint"),
        ({"backend": "zmq", "server": ""}, "needs an address"),
        ({"backend": "grpc"}, "'grpc', expected one of local, zmq"),
        ({"checkpoint": "x", "dtype": "half"}, "dtype is 'half', expected one of auto, float32, bfloat16"),
        ({"checkpoint": "x", "seed": -1}, "seed is -1, expected 0"),
        ({"backend": "zmq", "timeout_s": 0.0}, "timeout_s is 0.0, expected 0.01 .. 60"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PolicyOptions(**options)


def test_nothing_is_loaded_by_position(folder: Path) -> None:
    """`seed` and `torch_threads` are both numbers: only their names tell them apart."""
    with pytest.raises(TypeError):
        PolicyOptions(str(folder))
    with pytest.raises(TypeError):
        Policy(load_checkpoint(folder), 1)
    with pytest.raises(TypeError):
        load_checkpoint(folder, "cpu")


def test_a_robot_with_a_server_needs_no_torch() -> None:
    """The zmq backend, and all it imports, runs where torch, safetensors and sentencepiece are absent."""
    code = (
        "import sys; from pi0_ros.inference.options import PolicyOptions; from pi0_ros.robot import load_robot; "
        "from pi0_ros.policy.backends import make_backend; "
        "options = PolicyOptions(backend='zmq', server='tcp://127.0.0.1:9'); "
        "make_backend(options, robot=load_robot('demo_arm')).close(); "
        "print([name for name in ('torch', 'safetensors', 'sentencepiece', 'rclpy') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_batch_answers_as_single_questions_do(policy: Policy) -> None:
    """Plain, continuing others in several ways, and mixed; the order stays."""
    from pi0_ros.policy.batch import MOST_APART, apart

    assert apart(policy, 3) <= MOST_APART
    seen = [observation(tiny_robot(), seed, (seed + 1) * SECOND, size=40 + 30 * seed) for seed in range(5)]
    still = [np.tile(one.state + 0.2, (3, 1)) for one in seen]
    prefixes = [
        None,
        ActionPrefix(still[1], 0.05, 1, RtcSettings("exact")),
        ActionPrefix(still[2], 0.05, 2, RtcSettings("lerobot")),
        None,
        ActionPrefix(still[4], 0.05, 2, RtcSettings("exact")),
    ]
    requests = list(zip(seen, prefixes))
    for request, chunk in zip(requests, policy.infer_many(requests), strict=True):
        single = policy.infer(*request)
        np.testing.assert_allclose(chunk.actions, single.actions, atol=MOST_APART)
        assert (chunk.stamp_ns, chunk.dt_ns, chunk.names) == (single.stamp_ns, single.dt_ns, single.names)
