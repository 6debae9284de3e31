"""From a URDF and running topics to a policy that drives the robot, its recording, a dataset and a training run.

Nobody writes a line of a robot file: `pi0 robot new` does, for five robots that differ in everything. It takes a
quiet machine, so it runs where it is asked for: PI0_ROBOT_SECONDS=30 drives each for so long and prints what was seen.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import wait_until

pytest.importorskip("rclpy")
from living_robots import ROBOTS, Driver, Living, living
from policy_fixtures import TOKENIZER, tiny_config
from rclpy.context import Context
from rclpy.node import Node
from spinning import spinning
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from pi0_ros.checkpoints.norm_stats import NormStats, Stats
from pi0_ros.cli.main import main
from pi0_ros.datasets.dataset import Dataset
from pi0_ros.nodes.messages import LATCHED
from pi0_ros.robot import Robot, load_robot, robot_to_yaml

SECONDS = os.environ.get("PI0_ROBOT_SECONDS", "")
TRIES, RATE_HZ = 6, 20.0
AGE_S = 2.0  # of cameras and states, while it drives: a busy machine is no failure
PROMPT = "put the cup on the tray"
CONFIG = """
model: demo
threads: 1
held_out: 0
validate_every: 20
model_overrides:
  action_dim: {dims}
  cameras: {cameras}
  vlm: {{width: 32, depth: 2, mlp_dim: 64, num_heads: 2, num_kv_heads: 1, head_dim: 16}}
  expert: {{width: 32, depth: 2, mlp_dim: 64, num_heads: 2, num_kv_heads: 1, head_dim: 16}}
  vision: {{width: 32, depth: 1, mlp_dim: 64, num_heads: 2, patch_size: 24, image_size: 96}}
stages:
  - {{name: flow, steps: 20, batch: 16, draws: 2, lr: 2.0e-3, warmup: 5, ema: 0.5}}
"""


class Person(Node):
    """Arms the controller, records, and hears what is sent."""

    def __init__(self, context: Context) -> None:
        super().__init__("person", context=context)
        self.state, self.states, self.chunks, self.sent = "", [], 0, []
        self.create_subscription(String, "pi0/state", self._on_state, LATCHED)
        self.create_subscription(JointTrajectory, "pi0/chunk", self._on_chunk, 10)
        self.create_subscription(JointTrajectory, "pi0/command", self.sent.append, 500)

    def _on_state(self, message: String) -> None:
        self.state = message.data
        self.states.append(message.data)

    def _on_chunk(self, message: JointTrajectory) -> None:
        self.chunks += 1

    def ask(self, name: str, on: bool | None = None) -> tuple[bool, str]:
        """(whether it was done, what was answered)."""
        kind, request = (Trigger, Trigger.Request()) if on is None else (SetBool, SetBool.Request(data=on))
        client = self.create_client(kind, name)
        assert client.wait_for_service(timeout_sec=60.0), name
        answer = client.call_async(request)
        wait_until(answer.done, 60.0, f"an answer of {name}")
        self.destroy_client(client)
        return bool(answer.result().success), str(answer.result().message)


def pi0(*commands: Sequence[str | Path]) -> str:
    """Run `pi0` commands one after the other, in one process of their own, and return what the last printed."""
    program = "import json, sys; from pi0_ros.cli.main import main"
    program += (
        "\nfor words in json.loads(sys.argv[1]):\n    print('==>'); status = main(words); status and sys.exit(status)"
    )
    words = json.dumps([list(map(str, command)) for command in commands])
    done = subprocess.run([sys.executable, "-c", program, words], capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, f"{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout.rpartition("==>")[2]


def dimensions(robot: Robot) -> int:
    """How many numbers its states and actions have: a servoed hand's differ."""
    return max(len(robot.state_joints), len(robot.action_joints))


def checkpoint_of(folder: Path, robot: Robot) -> Path:
    """A tiny policy with random weights: small ways about where the robot is, and any gripper."""
    import torch

    from pi0_ros.checkpoints.checkpoint import save_checkpoint
    from pi0_ros.checkpoints.settings import PolicySettings
    from pi0_ros.model.pi0 import Pi0

    torch.manual_seed(0)
    cameras = tuple(camera.slot for camera in robot.cameras) or ("base_0_rgb",)  # a model has a place for one
    config = replace(tiny_config(horizon=32), action_dim=dimensions(robot), cameras=cameras)
    middle = np.array([0.0 if joint.continuous else (joint.lower + joint.upper) / 2 for joint in robot.state_joints])
    seen = np.array([min(joint.span, 2.0) for joint in robot.state_joints])
    spans = np.array([min(joint.span, 2.0) for joint in robot.action_joints])
    mean, std = np.zeros(len(spans)), 0.03 * spans
    for n, joint in enumerate(robot.action_joints):
        if joint.kind == "gripper":
            mean[n], std[n] = (joint.lower + joint.upper) / 2, 0.1 * spans[n]
        elif joint.speed:
            std[n] = 0.3 * joint.upper
        elif joint.pose is not None:
            mean[n], std[n] = joint.pose.identity[joint.pose.entries.index(joint.name)], 0.03
    state, actions = (Stats(m, s, m - 2 * s, m + 2 * s) for m, s in ((middle, 0.3 * seen), (mean, std)))
    settings = PolicySettings("mean_std", "mean_std", fps=robot.dataset_fps, num_steps=4)
    return save_checkpoint(folder, Pi0(config), config, settings, robot, NormStats(state, actions), TOKENIZER)


def written(folder: Path, robot: Living, capsys: Any) -> Path:
    """What `pi0 robot new` writes for the robot while it moves; the doctor has nothing against it."""
    file, shape = folder / "robot.yaml", folder / "robot.urdf"
    shape.write_text(robot.urdf)
    words = ["--urdf", str(shape), "--prompt", PROMPT, "--out", str(file)]
    assert main(["robot", "new", *words, "--seconds", "5"]) == 0, capsys.readouterr().err
    assert main(["robot", "check", str(file)]) == 0, capsys.readouterr()
    reports: list[str] = []
    capsys.readouterr()
    while len(reports) < TRIES and main(["doctor", "--robot", str(file), "--live", "--seconds", "3"]) != 0:
        reports.append(capsys.readouterr().out)  # a busy machine lets a picture be late now and then
    assert len(reports) < TRIES, reports[-1] + file.read_text()
    return file


def patient(file: Path) -> Robot:
    """Its robot, with ages and a rate for a busy machine, written into the file."""
    robot = load_robot(file)
    cameras = tuple(replace(camera, max_age_s=AGE_S, frozen_s=None) for camera in robot.cameras)
    state = tuple(replace(item, max_age_s=AGE_S) for item in robot.state)
    robot = replace(robot, cameras=cameras, state=state, control_rate_hz=RATE_HZ, action_max_age_s=AGE_S)
    file.write_text(robot_to_yaml(robot))
    return robot


def drive(person: Person, driver: Driver, processes: Any, seconds: float) -> dict[str, object]:
    """The policy drives the robot for so long, and the recorder records it; what was seen."""
    words = lambda: "\n".join(f"{name}: {processes.tail(name)}" for name in processes.names())  # noqa: E731
    wait_until(lambda: person.chunks > 0, 120.0, words)
    answers: list[str] = []

    def armed() -> bool:
        done, said = person.ask("controller/arm", True)
        answers.append(said)
        return done

    wait_until(armed, 60.0, lambda: f"{answers[-1]}\n{words()}")
    wait_until(lambda: person.state == "RUNNING", 120.0, words)
    done, said = person.ask("recorder/start")
    assert done, said
    chunks, began, places = person.chunks, time.monotonic(), []
    person.states.clear()
    first = len(person.sent)
    while time.monotonic() < began + seconds:
        places.append(driver.where())
        time.sleep(0.05)
    took = time.monotonic() - began
    done, said = person.ask("recorder/success")
    assert done, said
    holds = sum(state != "RUNNING" for state in person.states)
    seen = {"seconds": round(took, 1), "chunks": person.chunks - chunks, "holds": holds}
    seen |= {"commands": len(person.sent) - first, "heard": dict(driver.heard), "goals": len(driver.goals)}
    seen["moved"] = np.ptp(np.array(places), axis=0)
    assert person.ask("controller/arm", False)[0]
    return seen


@pytest.mark.slow
@pytest.mark.dds
@pytest.mark.parametrize("name", ROBOTS)
def test_a_robot_that_nobody_described_is_driven_recorded_and_learnt(
    name: str, tmp_path, ros_context, ros_domain, processes, control_msgs, monkeypatch, capsys
) -> None:
    if not SECONDS:
        pytest.skip("PI0_ROBOT_SECONDS=30 runs it")
    monkeypatch.setenv("ROS_DOMAIN_ID", str(ros_domain))
    person = Person(ros_context)
    with living(ros_context, ROBOTS[name]) as driver, spinning(ros_context, person):
        file = written(tmp_path, ROBOTS[name], capsys)
        robot = patient(file)
        checkpoint = checkpoint_of(tmp_path / "checkpoint", robot)
        driver.rest()
        processes.node("controller_node", robot=str(file), rearm_after_s=60.0)
        processes.node("policy_node", robot=str(file), checkpoint=str(checkpoint), torch_threads=1)
        processes.node("recorder_node", robot=str(file), out_dir=str(tmp_path / "bags"))
        seen = drive(person, driver, processes, float(SECONDS))
    for node in ("policy_node", "controller_node", "recorder_node"):
        processes.stop(node)
    assert seen["chunks"] >= 2 and seen["commands"] > 20 and all(seen["heard"].values()), seen
    assert bool(seen["goals"]) == bool(ROBOTS[name].servers), seen
    moved = seen.pop("moved")
    expected = len(ROBOTS[name].positions) - (2 if name == "mobile_bimanual" else 7 if name == "posed_arm" else 0)
    assert (moved[: len(ROBOTS[name].positions)] > 1e-4).sum() >= expected, (seen, moved)
    assert name != "mobile_bimanual" or (moved[-9:-7] > 0.005).all(), "the base drives and turns"
    assert name != "posed_arm" or (moved[-7:-4] > 1e-4).all() and moved[-4:].max() > 1e-3, "the hand goes and turns"

    dataset = tmp_path / "dataset"
    config = tmp_path / "train.yaml"
    slots = [camera.slot for camera in robot.cameras]
    config.write_text(CONFIG.format(dims=dimensions(robot), cameras=slots))
    convert = ("convert", tmp_path / "bags", dataset, "--robot", file)
    train = ("train", dataset, "--config", config, "--out", tmp_path / "run")
    trained = pi0(convert, ("stats", dataset), train)
    assert (tmp_path / "run" / "checkpoint" / "model.safetensors").is_file()
    episodes = list(Dataset(dataset).episodes)  # a hold of a busy machine is a gap between two
    actions = np.concatenate([episode.action for episode in episodes])
    assert len(actions) > 4 * float(SECONDS) and np.isfinite(actions).all()
    varied = int((np.ptp(actions, axis=0) > 1e-5).sum())
    assert varied >= len(robot.action_joints) - 1, np.ptp(actions, axis=0)
    with capsys.disabled():
        if SECONDS:
            last = trained.strip().splitlines()[-1]
            rows = f"{len(actions)} rows in {len(episodes)} episodes"
            print(f"\n{name}: {dimensions(robot)} dimensions, {seen}, {rows}; {last}")
