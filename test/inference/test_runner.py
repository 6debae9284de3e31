"""The policy's loop without ROS: what is published, what is not, and why."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from policy_fixtures import SECOND, tiny_robot

from pi0_ros.control.chunk import ActionChunk
from pi0_ros.control.latency import POLICY_STAGES
from pi0_ros.inference.metadata import BackendError, RobotMismatchError
from pi0_ros.inference.runner import Health, Runner, stages_ms
from pi0_ros.observation.streams import Observation, ObservationBuffer
from pi0_ros.robot import Robot

ROBOT = tiny_robot()
NOW = 100 * SECOND


class Backend:
    """Answers with the state, held; or raises what it is told to."""

    metadata = None
    timing = {"prepare_ms": 2.0, "model_ms": 3.0, "finish_ms": 1.0, "total_ms": 6.0, "round_trip_ms": 10.0}

    def __init__(self) -> None:
        self.seen: list[Observation] = []
        self.error: Exception | None = None
        self.gate: threading.Event | None = None

    def infer(self, observation: Observation, prefix: object = None) -> ActionChunk:
        self.seen.append(observation)
        if self.gate is not None:
            self.gate.wait(10)
        if self.error is not None:
            raise self.error
        return ActionChunk(observation.stamp_ns, 50_000_000, np.tile(observation.state, (5, 1)), ROBOT.joint_names)

    def close(self) -> None:
        pass


class Rig:
    """A runner with everything around it."""

    def __init__(self, prompt: str = "push", robot: Robot = ROBOT) -> None:
        self.now_ns = NOW
        self.buffer = ObservationBuffer(robot)
        self.backend = Backend()
        self.published: list[ActionChunk] = []
        self.changes: list[Health] = []
        self.runner = Runner(
            self.buffer, self.backend, lambda: self.now_ns, self.published.append, self.changes.append, prompt
        )

    def push(self, encoding: str = "rgb8", names: tuple[str, ...] = ROBOT.joint_names, late_ns: int = 0) -> None:
        """One message on every stream, stamped now; the images arrive `late_ns` later."""
        stamp = SimpleNamespace(sec=self.now_ns // SECOND, nanosec=self.now_ns % SECOND)
        header = SimpleNamespace(stamp=stamp)
        for camera in ROBOT.cameras:
            data = bytes(range(48))
            image = {
                "header": header,
                "height": 4,
                "width": 4,
                "step": 12,
                "is_bigendian": 0,
                "encoding": encoding,
                "data": data,
            }
            self.buffer.push_message(camera.topic, SimpleNamespace(**image), self.now_ns + late_ns)
        state = SimpleNamespace(header=header, name=list(names), position=[0.1] * len(names))
        self.buffer.push_message(ROBOT.state[0].topic, state, self.now_ns)


def test_a_chunk_for_what_was_seen() -> None:
    rig = Rig()
    rig.push()
    assert rig.runner.step()
    assert rig.backend.seen[0].prompt == "push" and rig.backend.seen[0].stamp_ns == NOW
    assert rig.published[0].stamp_ns == 100 * 10**9
    health = rig.runner.health
    assert (health.state, health.reason, health.chunks, health.stale_events) == ("running", "", 1, 0)
    assert health.latency_p99_ms >= health.latency_p50_ms > 0
    assert set(health.ages_s) == {stream.topic for stream in (*ROBOT.cameras, *ROBOT.state)}


def test_a_chunks_way_is_traced_stage_by_stage() -> None:
    rig = Rig()
    traces = []
    rig.runner = Runner(
        rig.buffer,
        rig.backend,
        lambda: rig.now_ns,
        rig.published.append,
        prompt="push",
        traced=lambda *a: traces.append(a),
    )
    rig.push(late_ns=30_000_000)
    rig.now_ns += 50_000_000
    infer = rig.backend.infer

    def slowly(*asked: Any) -> ActionChunk:
        for _ in range(30):  # for three seconds, in which pictures come that the chunk knows nothing of
            rig.now_ns += SECOND // 10
            rig.push()
        return infer(*asked)

    rig.backend.infer = slowly  # type: ignore[method-assign]
    assert rig.runner.step()
    (chunk, stages) = traces[0]
    assert chunk is rig.published[0] and tuple(stages) == POLICY_STAGES
    assert stages["receive"] == pytest.approx(30.0) and stages["wait"] == pytest.approx(20.0)
    assert stages["preprocess"] >= 2.0 and stages["link"] == pytest.approx(4.0) and stages["infer"] == 3.0


def test_the_stages_add_up() -> None:
    local = {"prepare_ms": 2.0, "model_ms": 30.0, "finish_ms": 1.0, "total_ms": 33.0}
    assert stages_ms(local, 5.0, 40.0) == {"preprocess": 7.0, "link": 0.0, "infer": 30.0, "publish": 3.0}
    remote = stages_ms(local | {"round_trip_ms": 45.0}, 5.0, 52.0)
    assert remote == {"preprocess": 7.0, "link": 12.0, "infer": 30.0, "publish": 3.0} and sum(remote.values()) == 52.0
    assert sum(stages_ms({}, 5.0, 40.0).values()) == 40.0


def test_starting() -> None:
    rig = Rig()
    assert rig.runner.health.state == "starting" and np.isnan(rig.runner.health.latency_p50_ms)
    rig.now_ns = 0
    assert not rig.runner.step()
    assert "/clock" in rig.runner.health.reason


def test_streams_that_are_missing_then_there_then_stale_then_there() -> None:
    rig = Rig()
    assert not rig.runner.step()
    assert "no image has arrived" in rig.runner.health.reason
    rig.push()
    assert rig.runner.step()
    rig.now_ns += 3 * SECOND
    assert not rig.runner.step() and not rig.runner.step()
    assert rig.runner.health.state == "stale" and "3.00 s old" in rig.runner.health.reason
    rig.push()
    assert rig.runner.step()
    assert [health.state for health in rig.changes] == ["stale", "running", "stale", "running"]
    assert rig.runner.health.stale_events == 2
    assert len(rig.published) == len(rig.backend.seen) == 2


def test_a_picture_that_never_changes_is_not_inferred_from() -> None:
    rig = Rig(robot=replace(ROBOT, cameras=(replace(ROBOT.cameras[0], frozen_s=1.0), *ROBOT.cameras[1:])))
    for _ in range(4):
        rig.push()
        rig.runner.step()
        rig.now_ns += SECOND // 2
    health = rig.runner.health
    assert health.state == "frozen" and f"camera '{ROBOT.cameras[0].name}'" in health.reason
    assert len(rig.published) == 3 and health.stale_events == 1


@pytest.mark.parametrize(
    ("push", "state", "words"),
    [
        ({"encoding": "rgb9"}, "unreadable", "rgb9"),
        ({"names": ROBOT.joint_names[1:]}, "stale", f"no message has joint {ROBOT.joint_names[0]!r}"),
    ],
)
def test_what_cannot_be_read_is_not_inferred_from(push: dict, state: str, words: str) -> None:
    rig = Rig()
    rig.push(**push)
    assert not rig.runner.step()
    assert rig.runner.health.state == state and words in rig.runner.health.reason
    assert rig.backend.seen == []
    rig.push()
    assert rig.runner.step()


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (BackendError("server gone"), "backend"),
        (RobotMismatchError("another robot"), "mismatch"),
        (ValueError("no image of camera"), "error"),
        (ZeroDivisionError("bug"), "error"),
    ],
)
def test_a_failing_backend_is_asked_again(error: Exception, state: str) -> None:
    rig = Rig()
    rig.push()
    rig.backend.error = error
    assert not rig.runner.step() and not rig.runner.step()
    assert (rig.runner.health.state, rig.runner.health.backend_errors) == (state, 2)
    assert str(error) in rig.runner.health.reason
    rig.backend.error = None
    assert rig.runner.step()
    assert len(rig.published) == 1


def test_without_prompt_nothing_moves() -> None:
    rig = Rig(prompt=" ")
    rig.push()
    assert not rig.runner.step()
    assert rig.runner.health.state == "prompt"
    rig.runner.prompt = "push"
    assert rig.runner.step()


def test_wakes_coalesce_and_stop_waits(wait_until) -> None:
    rig = Rig()
    rig.push()
    rig.backend.gate = threading.Event()
    rig.runner.start()
    rig.runner.wake()
    wait_until(lambda: len(rig.backend.seen) == 1)
    for _ in range(5):
        rig.runner.wake()
    rig.backend.gate.set()
    wait_until(lambda: len(rig.published) == 2)
    assert rig.runner.stop()
    assert len(rig.backend.seen) == 2


def test_nothing_is_published_once_stopped(wait_until) -> None:
    """Not even the chunk of the inference that was under way."""
    rig = Rig()
    rig.push()
    rig.backend.gate = threading.Event()
    rig.runner.start()
    rig.runner.wake()
    wait_until(lambda: len(rig.backend.seen) == 1)
    assert not rig.runner.stop(timeout_s=0.1)
    assert not rig.runner.start()  # never two loops on one backend
    rig.backend.gate.set()
    assert rig.runner.stop()
    assert rig.published == []


def test_it_can_be_started_again(wait_until) -> None:
    rig = Rig()
    rig.push()
    for count in (1, 2):
        rig.runner.start()
        rig.runner.wake()
        wait_until(lambda count=count: len(rig.published) == count)
        assert rig.runner.stop()
        assert rig.runner.health.chunks == count


def test_the_observation_is_what_was_pushed_and_nothing_else() -> None:
    """Two buffers that got the same messages give the policy equal observations."""
    rigs = [Rig(), Rig()]
    for rig in rigs:
        rig.push()
        rig.runner.step()
    first, second = (rig.backend.seen[0] for rig in rigs)
    np.testing.assert_array_equal(first.state, second.state)
    for name in first.images:
        np.testing.assert_array_equal(first.images[name], second.images[name])
    assert replace(first, images={}, state=np.zeros(0)).ages_s == second.ages_s


def test_no_chunk_is_made_of_joint_states_that_cannot_be_true():
    """Neither of one that was seen before the inference, nor of one that came meanwhile."""
    doubts = iter(["yaw is said to have moved by 1", "", "yaw is said to have moved by 2", "", ""])
    rig = Rig()
    rig.push()
    rig.runner._doubt = lambda since: next(doubts)
    assert not rig.runner.step() and rig.runner.health.state == "implausible"
    assert not rig.runner.step() and "moved by 2" in rig.runner.health.reason
    assert not rig.published and rig.runner.step() and len(rig.published) == 1
