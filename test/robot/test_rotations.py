"""Rotations: every way to write one gives it back, by the nearest name, and means what the field means by it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi0_ros.robot import rotations
from pi0_ros.robot.rotations import WRITINGS

scipy_rotation = pytest.importorskip("scipy.spatial.transform").Rotation
seeds = st.integers(0, 10_000)
kinds = st.sampled_from(sorted(WRITINGS))


def some(seed: int, count: int = 20) -> np.ndarray:
    """Random unit quaternions, with exact half and quarter turns and nearly none among them."""
    rng = np.random.default_rng(seed)
    special = np.array(
        [[0, 0, 0, 1.0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 0], [0.5, 0.5, 0.5, -0.5], [1e-9, 0, 0, 1]]
    )
    return rotations.normalized(np.vstack([special, rng.normal(size=(count, 4))]))


def apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(rotations.between(one, other), axis=-1).max())


@settings(max_examples=60, deadline=None)
@given(seeds, kinds)
def test_a_rotation_is_read_as_it_was_written(seed: int, kind: str) -> None:
    q, writing = some(seed), WRITINGS[kind]
    numbers = writing.encode(q)
    assert numbers.shape == (len(q), len(writing.names)) and (np.abs(numbers) <= writing.reach + 1e-12).all()
    assert apart(writing.decode(numbers), q) < 2e-7  # Euler's angles beside a quarter turn
    if writing.nearest is not None:
        other = writing.encode(some(seed + 1)) + np.random.default_rng(seed).uniform(-9, 9, numbers.shape) * (
            writing.unit == "rad"
        )
        named = writing.nearest(numbers, other)
        assert apart(writing.decode(named), q) < 2e-7
        nearer = np.linalg.norm(named - other, axis=1) - np.linalg.norm(numbers - other, axis=1)
        assert (nearer < 1e-9).all()


@settings(max_examples=30, deadline=None)
@given(seeds, st.floats(0.0, 0.3))
def test_nearly_a_rotation_becomes_the_nearest_whole_one(seed: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    q = some(seed)
    for kind in ("rot6d", "rot6d_rows", "quaternion"):
        numbers = WRITINGS[kind].encode(q)
        found = WRITINGS[kind].decode(numbers + noise * rng.uniform(-1, 1, numbers.shape))
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0)
        assert apart(found, q) <= 4.0 * noise + 1e-9
    assert np.isnan(WRITINGS["rot6d"].decode(np.zeros(6))).all()
    assert np.isnan(WRITINGS["rot6d"].decode(np.array([1.0, 0, 0, 2.0, 0, 0]))).all()


def test_every_way_means_what_it_means_elsewhere() -> None:
    q = some(3, 200)
    theirs = scipy_rotation.from_quat(q)
    np.testing.assert_allclose(rotations.matrix(q), theirs.as_matrix(), atol=1e-12)
    np.testing.assert_allclose(rotations.rotated(q, np.array([1.0, 2, 3])), theirs.apply([1.0, 2, 3]), atol=1e-12)
    np.testing.assert_allclose(
        WRITINGS["rot6d"].encode(q), theirs.as_matrix()[:, :, :2].transpose(0, 2, 1).reshape(-1, 6), atol=1e-12
    )
    np.testing.assert_allclose(WRITINGS["rot6d_rows"].encode(q), theirs.as_matrix()[:, :2].reshape(-1, 6), atol=1e-12)
    turned = np.where(
        np.abs(q[:, 3:]) > 1e-9, theirs.as_rotvec(), WRITINGS["axis_angle"].encode(q)
    )  # half turns: either
    np.testing.assert_allclose(WRITINGS["axis_angle"].encode(q), turned, atol=1e-12)
    away = some(5, 300)[6:]
    for kind in (kind for kind in WRITINGS if kind.startswith("euler_")):
        expected = scipy_rotation.from_quat(away).as_euler(kind.removeprefix("euler_"))
        np.testing.assert_allclose(WRITINGS[kind].encode(away), expected, atol=1e-9)
    roll_pitch_yaw = WRITINGS["euler_xyz"].decode(np.array([0.0, 0.0, np.pi / 2]))
    np.testing.assert_allclose(rotations.rotated(roll_pitch_yaw, np.array([1.0, 0, 0])), [0, 1, 0], atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_slerp_keeps_its_speed(seed: int) -> None:
    start, end = some(seed)[-2:]
    parts = np.linspace(0.0, 1.0, 33)
    way = rotations.slerp(start, end, parts)
    speeds = np.linalg.norm(rotations.between(way[:-1], way[1:]), axis=1) * 32
    np.testing.assert_allclose(speeds, np.linalg.norm(rotations.between(start, end)), atol=1e-9)
    assert apart(way[0], start) < 1e-12 and apart(way[-1], end) < 1e-12
    turn, change = np.random.default_rng(seed).normal(size=(2, 3)) * 1.5
    told = rotations.speed_of(turn, change)
    eps = 1e-6
    seen = rotations.between(rotations.exp(turn - eps * change), rotations.exp(turn + eps * change)) / (2 * eps)
    np.testing.assert_allclose(told, seen, atol=1e-7)
    np.testing.assert_allclose(rotations.change_of(turn, told), change, atol=1e-9)
    assert np.linalg.norm(told) <= np.linalg.norm(change) + 1e-12
