"""Trials against a stand-in of LIBERO: openpi's protocol to the letter, and what a wrong client would lose."""

from __future__ import annotations

import io
import math
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from libero_standin import Expert, install

from pi0_ros.base.errors import InputError
from pi0_ros.benchmark import seat as seats
from pi0_ros.benchmark.benchmark import Plan, Progress, play_all
from pi0_ros.benchmark.film import Films
from pi0_ros.benchmark.journal import Line, held
from pi0_ros.benchmark.libero import open_libero
from pi0_ros.benchmark.rules import Rules
from pi0_ros.benchmark.seat import Seat, axis_angle
from pi0_ros.benchmark.simulator import SimulatorError
from pi0_ros.benchmark.trials import Key, Player
from pi0_ros.control.chunk import ActionChunk
from pi0_ros.datasets.video import read_frames
from pi0_ros.inference.metadata import BackendError
from pi0_ros.robot import load_robot
from pi0_ros.tokens.action_tokens import NoActionsError

WAIT = ("step", (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0))


@pytest.fixture
def envs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of the stand-in's environments."""
    return install(tmp_path, monkeypatch)


def played(
    folder: Path, policy: object = None, tasks: tuple[int, ...] = (0, 1, 2), trials: int = 4, **more: object
) -> list[Line]:
    """The lines of a benchmark in `folder`."""
    policy = policy or Expert()
    retry = bool(more.pop("retry_errors", False))
    films = Films(folder, int(more.pop("videos", 0)))  # type: ignore[call-overload]
    player = Player(policy, Seat(load_robot("libero")), **more)  # type: ignore[arg-type]
    with held(folder, {}) as journal:
        play_all(open_libero(), player, Plan(("libero_spatial",), tasks, trials), journal, films, Progress(), retry)
        return list(journal.lines.values())


def won(lines: list[Line]) -> float:
    return sum(line.success for line in lines) / len(lines)


def test_a_policy_that_knows_the_tasks_wins_all(envs: ModuleType, tmp_path: Path) -> None:
    lines = played(tmp_path / "out")
    assert won(lines) == 1.0 and len(lines) == 12
    assert not any(line.error for line in lines)


def test_the_protocol_is_openpis(envs: ModuleType, tmp_path: Path) -> None:
    """Per task one environment of 256 px and its seed; per trial reset, initial state k, ten waits, then actions."""
    expert = Expert()
    lines = played(tmp_path / "out", expert, tasks=(3,), trials=3)
    states = open_libero().suite("libero_spatial").get_task_init_states(3)
    log = list(envs.LOG)
    assert log[:2] == [("new", "libero_spatial", 3, (256, 256)), ("seed", 7)]
    assert log[-1] == ("close",)
    at, asked = 2, 0
    for line in lines:
        assert log[at][0] == "reset"
        assert log[at + 1] == ("init", tuple(np.round(states[line.trial], 6)))
        assert log[at + 2 : at + 12] == [WAIT] * 10
        actions = log[at + 12 : at + 12 + line.steps]
        assert all(name == "step" for name, _ in actions) and actions[0] != WAIT
        asked += math.ceil(line.steps / 5)
        at += 12 + line.steps
    assert at == len(log) - 1
    assert len(expert.seen) == asked
    assert {seen.prompt for seen in expert.seen} == {"close the gripper on the red cube"}


@pytest.mark.parametrize("replan", [1, 3, 10])
def test_so_many_actions_of_each_chunk_are_executed(envs: ModuleType, tmp_path: Path, replan: int) -> None:
    expert = Expert(horizon=12)
    lines = played(tmp_path / "out", expert, tasks=(0,), trials=2, rules=Rules(replan=replan))
    assert len(expert.seen) == sum(math.ceil(line.steps / replan) for line in lines)


def test_a_trial_is_lost_after_the_suites_steps(envs: ModuleType, tmp_path: Path) -> None:
    class Idle(Expert):
        def infer(self, observation, prefix=None):  # type: ignore[no-untyped-def]
            return ActionChunk(observation.stamp_ns, 1, np.zeros((10, 7)), self.robot.action_names)

    (line,) = played(tmp_path / "out", Idle(), tasks=(0,), trials=1)
    assert (line.success, line.steps, line.error) == (False, 220, "")
    assert sum(name == "step" for name, *_ in envs.LOG) == 230


def swapped_state(raw: dict) -> np.ndarray:
    return np.roll(RIGHT_STATE(raw), 2)


def quaternion_state(raw: dict) -> np.ndarray:
    return np.concatenate([raw["robot0_eef_pos"], raw["robot0_eef_quat"][:3], raw["robot0_gripper_qpos"]])


RIGHT_STATE = seats.state_of
WRONG_CLIENTS: dict[str, tuple[str, object]] = {
    "pictures as they come": ("upright", lambda raw, key: np.array(raw[key])),
    "pictures upside down only": ("upright", lambda raw, key: np.array(raw[key][::-1])),
    "pictures mirrored only": ("upright", lambda raw, key: np.array(raw[key][:, ::-1])),
    "cameras exchanged": ("KEYS", dict(zip(seats.KEYS, reversed(list(seats.KEYS.values()))))),
    "fingers before the place": ("state_of", swapped_state),
    "hand's turn from the front": ("state_of", lambda raw: RIGHT_STATE(raw)[[0, 1, 2, 5, 4, 3, 6, 7]]),
}


@pytest.mark.parametrize("what", WRONG_CLIENTS)
def test_the_standin_tells_a_wrong_client(
    envs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(seats, *WRONG_CLIENTS[what])
    assert won(played(tmp_path / "out", trials=2)) < 0.2


def test_the_standin_tells_a_wrong_gripper_sign(envs: ModuleType, tmp_path: Path) -> None:
    class Inverted(Expert):
        def infer(self, observation, prefix=None):  # type: ignore[no-untyped-def]
            chunk = super().infer(observation, prefix)
            return replace(chunk, actions=chunk.actions * [1, 1, 1, 1, 1, 1, -1])

    assert won(played(tmp_path / "out", Inverted(), trials=2)) == 0.0


def test_another_seed_moves_what_stands_fast(envs: ModuleType, tmp_path: Path) -> None:
    resets = {}
    for seed in (7, 7, 8):
        envs.LOG.clear()
        played(tmp_path / f"out{len(resets)}{seed}", tasks=(0,), trials=3, rules=Rules(seed=seed))
        found = [entry for entry in envs.LOG if entry[0] == "reset"]
        assert resets.setdefault(seed, found) == found
    assert resets[7] != resets[8]


def test_an_interrupted_benchmark_goes_on_as_if_it_had_not_been(envs: ModuleType, tmp_path: Path) -> None:
    """The same scenes and, as the policy's noise is drawn by the stamp, the same questions."""
    whole, first, rest = Expert(), Expert(), Expert()
    lines = played(tmp_path / "whole", whole, tasks=(0, 1), trials=4)
    scenes = [entry for entry in envs.LOG if entry[0] == "reset"]

    class Weary(Expert):
        def infer(self, observation, prefix=None):  # type: ignore[no-untyped-def]
            if len(first.seen) == 5:
                raise KeyboardInterrupt
            return first.infer(observation, prefix)

    with pytest.raises(KeyboardInterrupt):
        played(tmp_path / "broken", Weary(), tasks=(0, 1), trials=4)
    with held(tmp_path / "broken", {}) as journal:
        done = len(journal.lines)
    assert 0 < done < 4  # within a task
    envs.LOG.clear()
    again = played(tmp_path / "broken", rest, tasks=(0, 1), trials=4)
    assert [replace(line, seconds=0) for line in again] == [replace(line, seconds=0) for line in lines]
    assert [entry for entry in envs.LOG if entry[0] == "reset"] == scenes
    begun = {seen.stamp_ns for seen in rest.seen}
    left = [seen for seen in whole.seen if seen.stamp_ns in begun]
    assert len(left) == len(rest.seen)
    for one, other in zip(left, rest.seen, strict=True):
        np.testing.assert_array_equal(one.state, other.state)
        np.testing.assert_array_equal(one.images["image"], other.images["image"])


def test_no_two_questions_share_a_stamp(envs: ModuleType, tmp_path: Path) -> None:
    """The noise of a policy in this process depends on it."""
    expert = Expert()
    played(tmp_path / "out", expert)
    assert len({seen.stamp_ns for seen in expert.seen}) == len(expert.seen)
    stamps = [Key(suite, task, 9999).stamp_ns for suite in ("libero_spatial", "libero_90") for task in (0, 89)]
    assert len(set(stamps)) == 4 and max(stamps) < 2**31 * 10**9


def test_an_error_of_the_environment_is_a_failure_and_told(
    envs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_FAULT", "1:2:13")
    lines = played(tmp_path / "out")
    (bad,) = [line for line in lines if not line.success]
    assert (bad.task, bad.trial, bad.steps) == (1, 2, 3)
    assert bad.error.startswith("RuntimeError: Nan, Inf or huge value in QACC")
    monkeypatch.delenv("STANDIN_FAULT")
    envs.LOG.clear()
    assert won(played(tmp_path / "out", retry_errors=True)) == 1.0
    assert [name for name, *_ in envs.LOG].count("reset") == 3  # two are passed over, the third is played


def test_ctrl_c_is_heard_though_reset_swallows_it(
    envs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LIBERO's reset goes on, whatever is raised in it."""
    presses = iter([True])
    monkeypatch.setattr(envs.time, "sleep", lambda s: next(presses, False) and os.kill(os.getpid(), signal.SIGINT))
    monkeypatch.setattr(envs.OffScreenRenderEnv, "step", lambda *_: pytest.fail("it went on"))
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        played(tmp_path / "out")
    assert signal.getsignal(signal.SIGINT) is before


class Failing(Expert):
    """Answers with an error."""

    error: Exception

    def infer(self, observation, prefix=None):  # type: ignore[no-untyped-def]
        raise self.error


def test_a_policy_without_an_answer_ends_the_benchmark(envs: ModuleType, tmp_path: Path) -> None:
    policy = Failing()
    policy.error = BackendError("server tcp://gpu-box:5555: no answer within 2 s")
    with pytest.raises(BackendError, match="no answer"):
        played(tmp_path / "out", policy, failures=(NoActionsError,))
    with held(tmp_path / "out", {}) as journal:
        assert not journal.lines
    policy.error = NoActionsError("no actions in it")
    (line,) = played(tmp_path / "out", policy, tasks=(0,), trials=1, failures=(NoActionsError,))
    assert (line.success, line.steps, line.error) == (False, 0, "NoActionsError: no actions in it")


def test_failures_are_filmed_as_the_policy_saw_them(
    envs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_FAULT", "0:1:14")
    expert = Expert()
    played(tmp_path / "out", expert, tasks=(0,), trials=3, videos=2)
    (film,) = (tmp_path / "out" / "failures").iterdir()
    assert film.name == "libero_spatial_task_00_trial_0001.mp4"
    frames = read_frames(film, 0, 5, 20)  # of steps 10 to 14
    assert frames.shape == (5, 256, 512, 3)
    stamp = Key("libero_spatial", 0, 1).stamp_ns
    (seen,) = [seen for seen in expert.seen if seen.stamp_ns == stamp]
    wanted = np.concatenate([seen.images["image"], seen.images["wrist_image"]], axis=1)
    assert np.abs(frames[0].astype(int) - wanted).mean() < 3
    monkeypatch.delenv("STANDIN_FAULT")
    played(tmp_path / "out", tasks=(0,), trials=3, videos=2, retry_errors=True)
    assert not list((tmp_path / "out" / "failures").iterdir())  # it succeeded


def test_no_more_films_than_asked_for(envs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seats, "KEYS", WRONG_CLIENTS["cameras exchanged"][1])
    played(tmp_path / "out", tasks=(0, 1), trials=2, videos=1)
    names = sorted(path.name[:22] for path in (tmp_path / "out" / "failures").iterdir())
    assert names == ["libero_spatial_task_00", "libero_spatial_task_01"]


@pytest.mark.parametrize(
    ("quaternion", "expected"),
    [
        ((0, 0, 0, 1), (0, 0, 0)),
        ((0, 0, 0, -1), (0, 0, 0)),
        ((1, 0, 0, 0), (math.pi, 0, 0)),
        ((0, 0, math.sin(0.2), math.cos(0.2)), (0, 0, 0.4)),
        ((0, -math.sin(0.2), 0, -math.cos(0.2)), (0, 0.4 - 2 * math.pi, 0)),  # not the short way round
        ((0.5, 0.5, 0.5, 1.0000001), (0, 0, 0)),
    ],
)
def test_axis_angle_is_robosuites(quaternion: tuple[float, ...], expected: tuple[float, ...]) -> None:
    np.testing.assert_allclose(axis_angle(np.array(quaternion, float)), expected, atol=1e-12)


def broken(key: str, value: object) -> Callable[[dict], dict]:
    return lambda raw: {name: given for name, given in {**raw, key: value}.items() if given is not None}


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("agentview_image", None, "does not show agentview_image"),
        ("robot0_eef_quat", None, "does not show robot0_eef_quat"),
        (
            "robot0_eye_in_hand_image",
            np.zeros((128, 128, 3), np.uint8),
            r"robot0_eye_in_hand_image is uint8 \[128, 128",
        ),
        ("robot0_gripper_qpos", np.zeros(6), "make 12 numbers, expected 8"),
    ],
)
def test_another_interface_is_refused_by_name(
    envs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: object, says: str
) -> None:
    """Such a benchmark would give a number that means nothing."""
    right = envs.OffScreenRenderEnv._observations
    monkeypatch.setattr(envs.OffScreenRenderEnv, "_observations", lambda self: broken(key, value)(right(self)))
    with pytest.raises(SimulatorError, match=says):
        played(tmp_path / "out", tasks=(0,), trials=1)


def test_other_robots_are_refused() -> None:
    with pytest.raises(InputError, match="'demo_arm' is not LIBERO's: its state has 6 numbers, LIBERO's 8"):
        Seat(load_robot("demo_arm"))
    robot = load_robot("libero")
    joints = (*robot.joints[:-1], replace(robot.joints[-1], lower=0.0))
    with pytest.raises(InputError, match=r"last action gripper goes from 0 to 1, LIBERO's gripper from -1 \(open\)"):
        Seat(replace(robot, joints=joints))
    cameras = (robot.cameras[0], replace(robot.cameras[1], slot="right_wrist_0_rgb"))
    with pytest.raises(InputError, match=r"no camera for wrist_image \(right_wrist_0_rgb\)"):
        Seat(replace(robot, cameras=cameras))
    Seat(load_robot("libero_pi0"))


def test_more_trials_than_initial_states_are_refused(envs: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="task 0 has 50 initial states"):
        played(tmp_path / "out", tasks=(0,), trials=51)


def test_an_environment_that_cannot_be_made_ends_it(
    envs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without OpenGL nothing was tried: that is no failure of the policy."""

    def no_screen(self: object, **options: object) -> None:
        raise AttributeError("'NoneType' object has no attribute 'eglQueryString'")

    monkeypatch.setattr(envs.OffScreenRenderEnv, "__init__", no_screen)
    with pytest.raises(SimulatorError, match="eglQueryString.*MUJOCO_GL=egl"):
        played(tmp_path / "out")


def test_what_libero_prints_is_no_result(envs: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    played(tmp_path / "out", tasks=(0,), trials=1)
    captured = capsys.readouterr()
    assert "using task orders" in captured.err and not captured.out


def test_the_question_of_a_first_import_is_told(
    envs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "libero"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setenv("LIBERO_CONFIG_PATH", str(tmp_path / "nowhere"))
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(SimulatorError, match=r"echo N \| python3 -c 'import libero.libero'"):
        open_libero()
