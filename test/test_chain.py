"""The whole chain, small: record, convert, statistics, train, and the new policy moves the simulated arm over DDS."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import wait_until

CONFIG = """
model: demo
threads: 1
held_out: 0
validate_every: 20
model_overrides:
  vlm: {width: 32, depth: 2, mlp_dim: 64, num_heads: 2, num_kv_heads: 1, head_dim: 16}
  expert: {width: 32, depth: 2, mlp_dim: 64, num_heads: 2, num_kv_heads: 1, head_dim: 16}
  vision: {width: 32, depth: 1, mlp_dim: 64, num_heads: 2, patch_size: 24, image_size: 96}
stages:
  - {name: flow, steps: 20, batch: 16, draws: 2, lr: 2.0e-3, warmup: 5, ema: 0.5}
"""


def pi0(*words: str | Path) -> str:
    """Run a `pi0` command and return what it printed."""
    command = [sys.executable, "-m", "pi0_ros.cli.main", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"pi0 {words[0]}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


@pytest.mark.dds
def test_record_convert_train_and_drive(tmp_path, processes, ros_context) -> None:
    bags, dataset, out = tmp_path / "bags", tmp_path / "dataset", tmp_path / "run"
    pi0("record-demo", bags, "--episodes", "3", "--seed", "5")
    assert len(list(bags.glob("episode_*/*.mcap"))) == 3
    pi0("convert", bags, dataset, "--robot", "demo_arm")
    pi0("stats", dataset)
    config = tmp_path / "train.yaml"
    config.write_text(CONFIG)
    pi0("train", dataset, "--config", config, "--out", out)
    checkpoint = out / "checkpoint"
    assert {"model.safetensors", "config.json", "robot.yaml", "norm_stats.json", "tokenizer.model"} <= {
        path.name for path in checkpoint.iterdir()
    }
    drive(checkpoint, processes, ros_context)


def drive(checkpoint: Path, processes, ros_context) -> None:
    """Simulator, policy and controller as processes: the arm rests until armed, then follows the chunks."""
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.node import Node
    from sensor_msgs.msg import JointState
    from std_srvs.srv import SetBool
    from trajectory_msgs.msg import JointTrajectory

    measured: list[np.ndarray] = []
    chunks: list[JointTrajectory] = []
    node = Node("spectator", context=ros_context)
    executor = SingleThreadedExecutor(context=ros_context)
    executor.add_node(node)
    node.create_subscription(JointState, "/demo_arm/joint_states", lambda m: measured.append(np.array(m.position)), 10)
    node.create_subscription(JointTrajectory, "/pi0/chunk", chunks.append, 10)
    arm = node.create_client(SetBool, "/controller/arm")

    def spin_until(condition, what: str) -> None:
        def step() -> bool:
            executor.spin_once(timeout_sec=0.05)
            return bool(condition())

        wait_until(step, 180.0, lambda: f"{what}\n" + "\n".join(processes.tail(name) for name in processes.names()))

    try:
        processes.node("sim_node", seed=3)
        processes.node("controller_node", robot="demo_arm")
        processes.node("policy_node", robot="demo_arm", checkpoint=str(checkpoint), torch_threads=1)
        spin_until(lambda: len(chunks) >= 2 and len(measured) > 20, "chunks and joint states")
        before = measured[-1]
        assert np.abs(before - measured[0]).max() < 0.01  # chunks alone move nothing

        future = arm.call_async(SetBool.Request(data=True))
        spin_until(future.done, "an answer to ~/arm")
        assert future.result().success, future.result().message
        spin_until(lambda: np.abs(measured[-1] - before).max() > 0.05, "the arm to move")
    finally:
        executor.shutdown()
        node.destroy_node()
