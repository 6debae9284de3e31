"""The lag between pictures and joints is found where a recording tells it, and not claimed where it does not."""

from __future__ import annotations

import numpy as np
import pytest

from pi0_ros.conversion.lag import LagMeter, LagReport
from pi0_ros.observation.stream_buffer import SECOND
from pi0_ros.observation.streams import Observation
from pi0_ros.robot import load_robot

ROBOT = load_robot("demo_arm")
BASE, WRIST = (camera.topic for camera in ROBOT.cameras)
STATES = ROBOT.state[0].topic


def position(t_s: np.ndarray | float) -> np.ndarray:
    """Moves that start and stop, of about 2 s each, rad."""
    t_s = np.asarray(t_s)
    return 0.8 * np.sin(t_s) + 0.3 * np.sin(2.7 * t_s + 1.0)


def picture(place: float, noise: np.random.Generator) -> np.ndarray:
    """A bright bar on a noisy ground: uint8 [60,80,3]; `place` from -1.1 to 1.1."""
    columns = np.arange(80)[None, :, None]
    bar = 150 * np.exp(-(((columns - 40 - 30 * place) / 4) ** 2))
    return np.clip(60 + bar + noise.normal(0, 3, (60, 80, 3)), 0, 255).astype(np.uint8)


def measured(lag_s: float, seconds: float = 20.0, fps: float = 30.0, moving: bool = True) -> dict[str, LagReport]:
    """A camera whose pictures show what was `lag_s` before their stamps, and one that sees nothing."""
    meter = LagMeter(ROBOT)
    noise = np.random.default_rng(0)
    for number in range(int(seconds * fps)):
        tick = number / fps
        shown, felt = tick - 0.011, tick - 0.003  # stamps of what an observation at the tick holds
        state = np.zeros(len(ROBOT.state_names))
        state[0] = position(felt) if moving else 0.0
        images = {
            "base": picture(float(position(shown - lag_s)) if moving else 0.0, noise),
            "wrist": picture(0.0, noise),
        }
        ages = {BASE: tick - shown, WRIST: tick - shown, STATES: tick - felt}
        meter.add(Observation(round(tick * SECOND), images, state, "", ages))
    meter.gap()
    return {report.camera: report for report in meter.reports()}


@pytest.mark.parametrize("lag_s", [-0.05, 0.0, 0.04, 0.12])
def test_a_known_lag_is_found(lag_s: float) -> None:
    found = measured(lag_s)["base"]
    assert found.lag_s == pytest.approx(lag_s, abs=0.01)
    assert found.correlation > 0.8 and 0 < (found.plus_minus_s or 0) < 0.1


def test_nothing_is_claimed_without_motion_or_sight() -> None:
    assert measured(0.04)["wrist"].lag_s is None
    assert measured(0.04, moving=False)["base"].lag_s is None
    assert measured(0.04, seconds=2.0) == {}


def test_pieces_between_gaps_count_together() -> None:
    meter = LagMeter(ROBOT)
    assert meter.reports() == ()
    meter.gap()
    assert meter.reports() == ()
