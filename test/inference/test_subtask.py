"""Subtasks: what the model is asked, what it writes, and how the chunks follow it."""

from __future__ import annotations

import threading
from typing import cast

import numpy as np
import pytest
import torch
from policy_fixtures import observation, tiny_checkpoint, tiny_robot

from pi0_ros.checkpoints.checkpoint import load_checkpoint
from pi0_ros.inference.client import Client
from pi0_ros.inference.subtask import SubtaskWriter, make_subtask_writer
from pi0_ros.observation.streams import Observation, ObservationBuffer, StaleError
from pi0_ros.policy.policy import Policy
from pi0_ros.policy.subtask import MAX_NEW_TOKENS
from pi0_ros.policy.transforms import make_inputs

ROBOT = tiny_robot()


class Buffer:
    """An observation at any time, or what hinders it."""

    error: Exception | None = None
    delay_ns = 0

    def observe(self, t_ns: int, prompt: str) -> Observation:
        if self.error is not None:
            raise self.error
        return Observation(t_ns, {}, np.zeros(1), prompt, {})


class Rig:
    """A loop whose model answers what `answers` says."""

    def __init__(self, rate_hz: float = 1000.0) -> None:
        self.buffer = Buffer()
        self.asked: list[str] = []
        self.answers: dict[str, str] = {}
        self.published: list[str] = []
        buffer = cast(ObservationBuffer, self.buffer)
        self.loop = SubtaskWriter(buffer, self.write, lambda: 7, self.published.append, rate_hz)

    def write(self, asked: Observation) -> str:
        assert asked.stamp_ns == 7
        self.asked.append(asked.prompt)
        return self.answers.get(asked.prompt, "")


def test_chunks_follow_the_subtask_once_it_is_written():
    rig = Rig()
    rig.loop.step()
    assert rig.asked == []  # no task yet
    assert rig.loop.instruction("clean up") == "clean up"
    rig.loop.step()
    assert rig.loop.instruction("clean up") == "clean up"  # the model had nothing to say
    rig.answers = {"clean up": "pick up the cup"}
    rig.loop.step()
    rig.loop.step()
    assert rig.loop.instruction("clean up") == "pick up the cup"
    assert rig.asked == ["clean up"] * 3
    assert rig.published == ["pick up the cup"]


def test_a_new_task_ends_the_old_subtask():
    rig = Rig()
    rig.answers = {"clean up": "pick up the cup", "stop it": "open the hand"}
    rig.loop.instruction("clean up")
    rig.loop.step()
    assert rig.loop.instruction("stop it") == "stop it"
    rig.loop.step()
    assert rig.loop.instruction("stop it") == "open the hand"
    assert rig.published == ["pick up the cup", "open the hand"]


def test_a_subtask_of_the_task_before_is_dropped():
    """The task changed while the model was writing."""
    rig = Rig()
    rig.answers = {"clean up": "pick up the cup"}

    def slow(asked: Observation) -> str:
        rig.loop.instruction("stop it")
        return rig.write(asked)

    rig.loop._write = slow
    rig.loop.instruction("clean up")
    rig.loop.step()
    assert rig.loop.instruction("stop it") == "stop it"
    assert rig.published == []


@pytest.mark.parametrize("error", [StaleError(["/camera: 3 s old"]), RuntimeError("out of memory")])
def test_trouble_keeps_the_subtask_and_is_said_once(error, caplog):
    rig = Rig()
    rig.answers = {"clean up": "pick up the cup"}
    rig.loop.instruction("clean up")
    rig.loop.step()
    rig.buffer.error = error
    rig.loop.step()
    rig.loop.step()
    assert rig.loop.instruction("clean up") == "pick up the cup"
    assert caplog.text.count("no subtask: ") == 1


def test_it_runs_beside_the_chunks_and_stops():
    rig = Rig(rate_hz=0.001)
    gate, writing = threading.Event(), threading.Event()

    def slow(asked: Observation) -> str:
        writing.set()
        assert gate.wait(30)
        return "pick up the cup"

    rig.loop._write = slow
    rig.loop.start()
    assert rig.loop.instruction("clean up") == "clean up"
    assert writing.wait(30)  # at once, not after the period
    assert rig.loop.instruction("clean up") == "clean up"  # nobody waits for it
    assert not rig.loop.stop(timeout_s=0.05)
    gate.set()
    assert rig.loop.stop(timeout_s=30)
    assert rig.published == []  # a stopped node may have no publisher left
    assert rig.loop.instruction("clean up") == "pick up the cup"


def test_the_model_is_asked_with_the_images_and_the_task(tmp_path):
    policy = Policy(load_checkpoint(tiny_checkpoint(tmp_path / "pi05", ROBOT, seed=1, kind="pi05")))
    seen = observation(ROBOT)
    text = policy.write_subtask(seen)
    spec = policy.spec
    asked = make_inputs(spec, {n: i[None] for n, i in seen.images.items()}, seen.state[None], [seen.prompt])
    tokens, mask = spec.tokenizer.encode_subtask_prompt(spec.config, seen.prompt)
    object.__setattr__(asked, "prompt_tokens", torch.from_numpy(tokens)[None])
    object.__setattr__(asked, "prompt_mask", torch.from_numpy(mask)[None])
    wanted = spec.tokenizer.decode(policy.checkpoint.model.generate_text(asked, MAX_NEW_TOKENS)[0].tolist())
    assert text
    assert text.isprintable()
    assert text.split() == "".join(c for c in " ".join(wanted.split()) if c.isprintable()).split()


def test_only_pi05_in_this_process_can_do_it(tmp_path):
    buffer = ObservationBuffer(ROBOT)
    pi0 = Policy(load_checkpoint(tiny_checkpoint(tmp_path / "pi0", ROBOT)))
    pi05 = Policy(load_checkpoint(tiny_checkpoint(tmp_path / "pi05", ROBOT, kind="pi05")))
    remote = Client("tcp://127.0.0.1:1", robot=ROBOT)
    assert make_subtask_writer(0.0, pi0, buffer, lambda: 0, print) is None
    assert make_subtask_writer(0.5, pi05, buffer, lambda: 0, print) is not None
    with pytest.raises(ValueError, match="checkpoint 'pi0' is a pi0 and only pi05 writes subtasks"):
        make_subtask_writer(0.5, pi0, buffer, lambda: 0, print)
    with pytest.raises(ValueError, match="set `backend` to local"):
        make_subtask_writer(0.5, remote, buffer, lambda: 0, print)
    remote.close()


def test_it_starts_again_while_a_subtask_is_still_being_written():
    rig, hanging, written = Rig(), threading.Event(), threading.Event()
    rig.answers = {"clean up": "pick up the cup"}
    answer = rig.write

    def write(asked: Observation) -> str:
        if not hanging.is_set():
            hanging.set()
            written.wait(10)
        return answer(asked)

    rig.loop._write = write
    rig.loop.instruction("clean up")
    rig.loop.start()
    assert hanging.wait(10) and not rig.loop.stop(timeout_s=0.01)
    rig.loop.start()
    deadline = threading.Event()
    while not rig.published and not deadline.wait(0.01):
        assert len(rig.asked) < 10_000
    assert rig.loop.stop()
    written.set()
    assert rig.loop.instruction("clean up") == "pick up the cup"
