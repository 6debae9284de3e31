"""Games in simulated time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import pi0_ros
from pi0_ros.control.controller import Controller
from pi0_ros.control.states import Command, Settings
from pi0_ros.inference.options import PolicyOptions
from pi0_ros.inference.prefix import RtcSettings
from pi0_ros.policy.policy import Policy, load_policy
from pi0_ros.sim.policy_driver import PolicyDriver
from pi0_ros.sim.trials import games, play
from pi0_ros.sim.world import World

CHECKPOINT = Path(pi0_ros.__file__).parent / "sim" / "checkpoint"


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy(PolicyOptions(checkpoint=str(CHECKPOINT), device="cpu", torch_threads=1))


@pytest.mark.parametrize("latency", [0.1, 0.43])
def test_pictures_that_nobody_would_see_are_not_rendered(policy: Policy, latency: float, monkeypatch) -> None:
    """The same commands as with every picture, for a fraction of the pictures."""
    (game,), world = games("one", 1000, 1, limit_s=1.6), World()
    rendered: list[str] = []
    render = world.render
    monkeypatch.setattr(world, "render", lambda camera: (rendered.append(camera), render(camera))[1])

    def commands() -> np.ndarray:
        found: list[np.ndarray] = []

        def watch(now: float, command: Command | None, controller: Controller) -> None:
            if command is not None:
                found.append(command.position)

        rendered.clear()
        play(world, PolicyDriver(policy, RtcSettings(), Settings(), lambda: latency), game, watch)
        return np.array(found)

    few, number = commands(), len(rendered)
    monkeypatch.setattr(PolicyDriver, "looks_before", lambda self, until: True)
    np.testing.assert_array_equal(few, commands())
    assert len(few) > 40 and number < 0.4 * len(rendered)
