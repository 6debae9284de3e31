"""Normalisation against the reference's numbers, and the statistics file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_fixtures import FIXTURES, tiny_stats

from pi0_ros.checkpoints.norm_stats import (
    FIELDS,
    NormStats,
    Stats,
    load_norm_stats,
    normalize,
    save_norm_stats,
    unnormalize,
)

KINDS = {"zscore": "mean_std", "quantile": "quantile"}
LEROBOT = {
    "MEAN_STD": "lerobot_mean_std",
    "QUANTILES": "lerobot_quantile",
    "QUANTILE10": "lerobot_quantile10",
    "MIN_MAX": "lerobot_min_max",
    "IDENTITY": "identity",
}


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    return dict(np.load(FIXTURES / "reference" / "transforms.npz"))


@pytest.fixture(scope="module")
def stats(reference: dict[str, np.ndarray]) -> Stats:
    return Stats(*(reference[f"norm_stats_{field}"] for field in ("mean", "std", "q01", "q99")))


@pytest.mark.parametrize("kind", KINDS)
def test_normalize_equals_the_reference(kind: str, reference: dict[str, np.ndarray], stats: Stats) -> None:
    x = reference["norm_in"]
    np.testing.assert_allclose(normalize(x, stats, KINDS[kind]), reference[f"norm_{kind}"], rtol=1e-6, atol=1e-7)
    short = normalize(x[..., :2], stats, KINDS[kind])
    np.testing.assert_allclose(short, reference[f"norm_{kind}_short"], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_unnormalize_equals_the_reference(kind: str, reference: dict[str, np.ndarray], stats: Stats) -> None:
    """Also beyond the statistics: 32 dimensions, 3 of them known."""
    found = unnormalize(reference[f"unnorm_{kind}_in"], stats, KINDS[kind])
    np.testing.assert_allclose(found, reference[f"unnorm_{kind}"], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("mode", LEROBOT)
def test_lerobot_modes_equal_the_reference(mode: str) -> None:
    """Its statistics hold a dimension that never moved."""
    reference = dict(np.load(FIXTURES / "reference" / "lerobot_transforms.npz"))
    stats = Stats(**{field: reference[f"lrnorm_stats_{field}"] for field in FIELDS})
    x = reference["lrnorm_in"]
    normalized = reference[f"lrnorm_{mode}"]
    np.testing.assert_allclose(normalize(x, stats, LEROBOT[mode]), normalized, rtol=1e-6, atol=1e-6)
    back = reference[f"lrunnorm_{mode}"]
    np.testing.assert_allclose(unnormalize(x, stats, LEROBOT[mode]), back, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("normalization", ["mean_std", "quantile", "lerobot_quantile", "identity"])
@given(values=st.lists(st.floats(-1e3, 1e3), min_size=4, max_size=4))
def test_unnormalize_undoes_normalize(normalization: str, values: list[float]) -> None:
    stats = tiny_stats(4).state
    there = normalize(np.array(values), stats, normalization)
    np.testing.assert_allclose(unnormalize(there, stats, normalization), values, rtol=1e-9, atol=1e-9)


def test_a_joint_that_never_moved_stays_finite() -> None:
    still = Stats(np.ones(2), np.zeros(2), np.ones(2), np.ones(2))
    for normalization in KINDS.values():
        assert np.isfinite(normalize(np.array([1.0, 2.0]), still, normalization)).all()


def test_more_data_than_statistics_is_an_error() -> None:
    with pytest.raises(ValueError, match="pi0 stats"):
        normalize(np.zeros(5), tiny_stats(4).state, "mean_std")


def test_unknown_normalization_is_an_error() -> None:
    with pytest.raises(ValueError, match="'minmax', expected one of mean_std, quantile, lerobot_mean_std"):
        normalize(np.zeros(4), tiny_stats(4).state, "minmax")


def test_an_absent_field_is_an_error_only_where_it_is_needed(tmp_path: Path) -> None:
    """openpi's files for pi0 may lack the quantiles: null, or not there."""
    entry = {"mean": [0.5], "std": [2.0], "q01": None}
    path = tmp_path / "norm_stats.json"
    path.write_text(json.dumps({"norm_stats": {"state": entry, "actions": entry}}))
    stats = load_norm_stats(path)
    assert normalize(np.array([2.5]), stats.state, "mean_std") == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(ValueError, match="no 'q01' \\(but mean, std\\).*pi0 stats"):
        normalize(np.array([2.5]), stats.state, "quantile")
    assert stats.to_dict()["norm_stats"]["state"] == {"mean": [0.5], "std": [2.0]}


def test_without_statistics_only_identity_works() -> None:
    np.testing.assert_array_equal(normalize(np.array([3.0, 4.0]), Stats(), "identity"), [3.0, 4.0])
    with pytest.raises(ValueError, match="no 'mean' \\(but nothing\\)"):
        normalize(np.array([3.0]), Stats(), "mean_std")


def test_file_round_trip(tmp_path: Path) -> None:
    stats = tiny_stats(6)
    save_norm_stats(stats, tmp_path / "norm_stats.json")
    read = load_norm_stats(tmp_path / "norm_stats.json")
    assert read.to_dict() == stats.to_dict()


def test_reads_a_file_of_openpi() -> None:
    stats = load_norm_stats(FIXTURES / "reference" / "pi05" / "checkpoint" / "assets" / "droid" / "norm_stats.json")
    assert stats.state.dim == stats.actions.dim == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["norm_stats"].pop("actions"), "norm_stats.actions"),
        (
            lambda content: content["norm_stats"]["state"]["q99"].__setitem__(0, -9.0),
            "norm_stats.state: 'q99' must not",
        ),
        (lambda content: content["norm_stats"]["state"]["std"].pop(), "norm_stats.state: 'std'"),
        (
            lambda content: content["norm_stats"]["state"]["std"].__setitem__(0, -1.0),
            "norm_stats.state: 'std' must not",
        ),
        (
            lambda content: content["norm_stats"]["state"]["mean"].__setitem__(0, float("nan")),
            "norm_stats.state: 'mean'",
        ),
        (lambda content: content["norm_stats"]["state"].__setitem__("q99", "high"), "norm_stats.state"),
    ],
)
def test_broken_statistics_name_file_and_key(change, message: str, tmp_path: Path) -> None:
    content = tiny_stats(3).to_dict()
    change(content)
    path = tmp_path / "norm_stats.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message) as caught:
        load_norm_stats(path)
    assert str(path) in str(caught.value)


def test_not_json(tmp_path: Path) -> None:
    path = tmp_path / "norm_stats.json"
    path.write_text("{")
    with pytest.raises(ValueError, match=r"norm_stats\.json: not JSON"):
        load_norm_stats(path)


def test_stats_are_float64() -> None:
    stats = NormStats.from_dict({"norm_stats": {k: {f: [1, 2] for f in ("mean", "std", "q01", "q99")} for k in
                                                ("state", "actions")}}, "here")  # fmt: skip
    assert stats.state.mean.dtype == np.float64
