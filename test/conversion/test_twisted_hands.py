"""A hand that is told by twists, in recordings: its speeds are the actions, its arm the state; as far as a policy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bagmaker import START_NS, Recipe, array_message, joint_message, make_bag, twist_message
from first_policy import command, first_policy
from servoed_arm import SERVOED

from pi0_ros.bags.reader import Bag
from pi0_ros.conversion.align import rows, scan, ticks_of
from pi0_ros.conversion.bag_check import check_bag
from pi0_ros.datasets.dataset import Dataset
from pi0_ros.robot import robot_from_yaml

ROBOT = robot_from_yaml(SERVOED, "servoed.yaml")
KIND, TOPIC = ROBOT.commands[0].type, ROBOT.commands[0].topic
SECONDS, TOLD_S = 3.0, (0.5, 2.0)  # a stick is held from and to


def told_at(t_s: float) -> np.ndarray:
    """The twist that is told, [6]."""
    return np.array([0.2, 0.1, -0.1, 0.5, -0.4, 0.3]) * np.sin(2.0 * t_s + 0.3)


def recorded(path: Path, frame: str = "base_link") -> Path:
    extra = []
    for number in range(round(SECONDS * 50) + 1):
        t_s = number * 0.02
        ns = START_NS + number * 20_000_000
        place = [0.4 * np.sin(t_s), 0.2 * np.cos(t_s), 0.5]
        extra.append((t_s, "/joint_states", ROBOT.state[0].type, joint_message(ns, ROBOT.state[0].joints, place)))
        extra.append((t_s, ROBOT.commands[1].topic, ROBOT.commands[1].type, array_message([float(t_s > 1.0)])))
        if TOLD_S[0] <= t_s <= TOLD_S[1]:
            extra.append((t_s, TOPIC, KIND, twist_message(ns, *told_at(t_s).reshape(2, 3), frame)))
    return make_bag(path, replace(ROBOT.moved, commands=()), Recipe(seconds=SECONDS, extra=extra))


def test_its_actions_are_the_twists_and_zero_where_nobody_tells_one(tmp_path: Path) -> None:
    with Bag(recorded(tmp_path / "bag")) as bag:
        found = scan(bag, ROBOT)
        ticks = ticks_of(found, ROBOT)
        table = list(rows(bag, ROBOT, found, ticks, lambda tick: "go"))
    times = (ticks - START_NS) * 1e-9
    actions = np.array([row.action for row in table])
    state = np.array([row.observation.state for row in table if row.observation is not None])
    assert actions.shape[1] == 7 and state.shape == (len(times), 3)
    ages = ROBOT.action_max_age_s
    newest = np.floor(np.minimum(times, TOLD_S[1]) / 0.02 + 1e-6) * 0.02
    told = np.array([told_at(t) for t in newest])
    speaks = (times >= TOLD_S[0]) & (times <= TOLD_S[1] + ages + 1e-6)
    np.testing.assert_allclose(actions[:, :6], np.where(speaks[:, None], told, 0.0), atol=1e-9)
    assert times[0] < 0.1 < SECONDS - 0.2 < times[-1], "the silence of the stick shortens no episode"


def test_a_twist_in_another_frame_is_refused_by_topic_and_frame(tmp_path: Path) -> None:
    said = " ".join(finding.what for finding in check_bag(recorded(tmp_path / "bag", "tool0"), ROBOT).findings)
    assert f"{TOPIC}: the twist comes in the frame 'tool0', the robot file says 'base_link'" in said


@pytest.mark.slow
def test_from_recordings_to_a_policy_of_twists(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from pi0_ros.inference.options import PolicyOptions
    from pi0_ros.observation.streams import Observation
    from pi0_ros.policy.backends import make_backend

    recorded(tmp_path / "bags" / "episode_000000")
    file, dataset, checkpoint = first_policy(tmp_path, SERVOED, 9)
    command("robot", "check", file)
    command("dataset", "check", dataset)
    command("doctor", "--robot", file, "--checkpoint", checkpoint)
    (episode,) = Dataset(dataset).episodes
    assert episode.state.shape[1] == 3 and episode.action.shape[1] == 7 and np.ptp(episode.action[:, 0]) > 0.1
    backend = make_backend(PolicyOptions(checkpoint=str(checkpoint), torch_threads=1), robot=ROBOT)
    chunk = backend.infer(Observation(0, {}, np.array([0.1, 0.2, 0.5]), "go", {}))
    backend.close()
    assert chunk.names == ROBOT.action_names and np.isfinite(chunk.actions).all()
