"""openpi's maps and bytes: what our robots become, what is read back, and what is refused."""

from __future__ import annotations

import contextlib
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_fixtures import observation, tiny_robot

from pi0_ros.control.chunk import ActionChunk
from pi0_ros.inference.openpi import (
    OpenpiError,
    flattened,
    pack,
    read_answer,
    read_observation,
    read_token,
    unpack,
    write_answer,
    write_observation,
)
from pi0_ros.robot import load_robot, robot_from_yaml, robot_to_yaml

ROBOTS = ("demo_arm", "franka_droid", "franka_droid_position", "aloha_act", "aloha_sim", "libero")


def within(robot: Any, seed: int = 0) -> np.ndarray:
    """A state inside every joint's limits, [S]."""
    random = np.random.default_rng(seed)
    return np.array([random.uniform(joint.lower, joint.upper) for joint in robot.state_joints])


def seen(robot: Any, seed: int = 0) -> Any:
    from dataclasses import replace

    return replace(observation(robot, seed), state=within(robot, seed))


@pytest.mark.parametrize("name", ROBOTS)
def test_an_observation_comes_back_as_it_went(name: str) -> None:
    robot = load_robot(name)
    went = seen(robot)
    came = read_observation(unpack(pack(write_observation(went, robot))), robot, now_ns=7)
    np.testing.assert_allclose(came.state, went.state, atol=1e-9)
    assert came.prompt == went.prompt and came.stamp_ns == 7 and came.images.keys() == went.images.keys()
    for camera, image in went.images.items():
        np.testing.assert_array_equal(came.images[camera], image)


@pytest.mark.parametrize("name", ROBOTS)
def test_actions_come_back_as_they_went(name: str) -> None:
    robot, random = load_robot(name), np.random.default_rng(1)
    state = within(robot)
    start = [state[robot.state_names.index(n)] if n in robot.state_names else 0.0 for n in robot.action_names]
    actions = start + np.cumsum(random.uniform(-1e-3, 1e-3, (5, len(robot.action_names))), axis=0)
    for index, joint in enumerate(robot.action_joints):  # a threshold leaves two places
        if joint.action_scale.threshold is not None:
            actions[:, index] = np.where(random.random(5) > 0.5, joint.upper, joint.lower)
    chunk = ActionChunk(0, 50_000_000, actions, robot.action_names)
    answer = unpack(pack(write_answer(chunk, robot, state, {"total_ms": 3.0})))
    found = read_answer(answer, robot, state)
    np.testing.assert_allclose(found.actions, chunk.actions, atol=1e-6)
    assert found.infer_ms == 3.0


def test_droid_is_called_and_counted_as_openpi_does() -> None:
    robot = load_robot("franka_droid")
    went = write_observation(seen(robot), robot)
    assert set(went) == {
        "prompt",
        "observation/joint_position",
        "observation/gripper_position",
        "observation/exterior_image_1_left",
        "observation/wrist_image_left",
    }
    assert went["observation/joint_position"].shape == (7,) and went["observation/gripper_position"].shape == (1,)
    assert went["observation/gripper_position"] == pytest.approx(seen(robot).state[7:] / 0.8)


def test_aloha_has_nested_images_with_the_channels_first() -> None:
    robot = load_robot("aloha_act")
    went = write_observation(seen(robot), robot)
    assert set(went) == {"prompt", "state", "images"}
    assert went["images"]["cam_left_wrist"].shape[0] == 3


def test_names_of_openpi_come_back_from_a_file() -> None:
    for name in ROBOTS:
        robot = load_robot(name)
        assert robot_from_yaml(robot_to_yaml(robot), "again").released == robot.released


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"observation/state": None}, "no 'observation/state' in the observation; it has observation/base"),
        ({"observation/state": np.zeros(5)}, "expected 6 numbers"),
        ({"observation/state": np.full(6, np.nan)}, "'observation/state' is not finite"),
        ({"observation/state": "here"}, "'observation/state' is str"),
        ({"observation/base": None}, "no 'observation/base'"),
        ({"observation/base": np.zeros((24, 24), np.uint8)}, "expected a picture uint8"),
        ({"observation/base": np.zeros((24, 24, 3), np.uint16)}, "'observation/base' is uint16"),
        ({"observation/base": np.full((24, 24, 3), 255.0)}, "has floats beyond 0 .. 1"),
        ({"observation/base": np.zeros((1, 5000, 3), np.uint8)}, "pixels a side"),
        ({"prompt": 3}, "'prompt' is int"),
        ({"prompt": "x" * 5000}, "a prompt of 5000 characters"),
        ({"stamp_ns": -1}, "'stamp_ns' is -1"),
        ({"stamp_ns": 1.5}, "'stamp_ns' is 1.5"),
        ({"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}}, "lies too deep"),
    ],
)
def test_what_cannot_be_read_is_named(change: dict[str, Any], message: str) -> None:
    robot = tiny_robot()
    content = {**write_observation(seen(robot), robot), **change}
    content = {key: value for key, value in content.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        read_observation(content, robot, 0)


@pytest.mark.parametrize(
    ("actions", "message"),
    [(None, "NoneType"), (np.zeros((5, 7)), r"is \[5, 7\]"), (np.zeros((0, 6)), r"\[0, 6\]"), ([[0.0]], "list")],
)
def test_answers_of_another_robot_are_refused(actions: Any, message: str) -> None:
    with pytest.raises(OpenpiError, match=message):
        read_answer({"actions": actions}, tiny_robot(), np.zeros(6))


def test_actions_that_are_not_finite_are_refused() -> None:
    with pytest.raises(RuntimeError, match="not finite"):
        read_answer({"actions": np.full((5, 6), np.inf)}, tiny_robot(), np.zeros(6))


def array(dtype: str, shape: Any, data: Any) -> bytes:
    return msgpack.packb({b"__ndarray__": True, b"data": data, b"dtype": dtype, b"shape": shape})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        array("|O", [1], b"12345678"),
        array("<f8", [2], b"12345678"),
        array("<f8", [-1], b"12345678"),
        array("<f8", [2**40, 2**40], b""),
        array("<f8", "ab", b""),
        array("nonsense", [1], b""),
        array("f4,(2", [1], b"1234"),
        array("<U4", [1], b"0123456789abcdef"),
        msgpack.packb({b"__ndarray__": True}),
        msgpack.packb({b"__npgeneric__": True, b"dtype": "<i4", b"data": "x"}),
        b"\x91" * 5000,
    ],
)
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    with pytest.raises(OpenpiError):
        unpack(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        content = unpack(data)
    except OpenpiError:
        return
    robot = tiny_robot()
    for read in (lambda: read_observation(content, robot, 0), lambda: read_answer(content, robot, np.zeros(6))):
        with pytest.raises(OpenpiError):
            read()


DTYPES = st.text() | st.text("<>=|(){}[],:'\"0123456789fiubOVUSMm ", max_size=12)


@given(DTYPES, st.sampled_from([b"__ndarray__", b"__npgeneric__"]), st.lists(st.integers(), max_size=3), st.binary())
def test_any_dtype_is_read_or_refused(dtype: str, kind: bytes, shape: list[int], data: bytes) -> None:
    """numpy reads whole Python expressions out of a dtype's text."""
    content = {
        kind: True,
        b"dtype": dtype,
        b"shape": [max(-(2**62), min(side, 2**62)) for side in shape],
        b"data": data,
    }
    with contextlib.suppress(OpenpiError):
        assert np.asarray(unpack(msgpack.packb(content))).dtype.kind in "biuf"


def test_numpy_scalars_and_nested_maps_come_back() -> None:
    content = {"a": {"b": np.float32(1.5), "c": [1, "x"]}, "d": np.arange(6).reshape(2, 3)}
    back = flattened(unpack(pack(content)))
    assert back["a/b"] == np.float32(1.5) and back["a/b"].dtype == np.float32 and back["a/c"] == [1, "x"]
    np.testing.assert_array_equal(back["d"], content["d"])
    with pytest.raises(TypeError):
        pack({"a": np.array([object()])})


@pytest.mark.parametrize("text", ["short", "two words of some length", "über-lang-und-geheim", ""])
def test_a_token_is_one_long_word(text: str, tmp_path: Any) -> None:
    path = tmp_path / "token"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="at least 16 characters"):
        read_token(path)


@pytest.mark.parametrize(
    ("openpi", "message"),
    [
        ("{units: degrees}", "units"),
        ("{state: {a: 3}}", "holds 3 joints, the state has 6"),
        ("{state: 5}", "mapping"),
        ("{images: {nose: observation/nose}}", "unknown key"),
        ("{images: {base: x, wrist: x}}", "two cameras have one key"),
        ("{axes: cwh}", "axes"),
    ],
)
def test_a_wrong_key_of_the_robot_file_is_named(openpi: str, message: str) -> None:
    text = robot_to_yaml(tiny_robot()) + f"policy:\n  openpi: {openpi}\n"
    with pytest.raises(ValueError, match=message):
        robot_from_yaml(text, "mine.yaml")
