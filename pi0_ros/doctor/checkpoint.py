"""The checkpoint: whole, made for this robot, and what must be known of it to judge topics; no weights are read."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from pi0_ros.base.errors import InputError
from pi0_ros.base.findings import Finding, error, note, ok, warning
from pi0_ros.doctor.machine import Memory
from pi0_ros.doctor.statistics import Range, check_widths
from pi0_ros.robot import Robot

USUAL = 2.33  # standard deviations: 1 % lie below, 1 % above
ROOM = 1.15  # weights, and what inference needs beside them
LATE = 0.5  # of a chunk's length: answers that take longer leave little of it


@dataclass(frozen=True)
class Facts:
    """What the other checks need of a checkpoint."""

    horizon: int
    fps: float
    state: Range | None  # None also where it says nothing, as it is wrong
    actions: Range | None
    weights_bytes: int

    @property
    def chunk_s(self) -> float:
        return self.horizon / self.fps


def examine_checkpoint(robot: Robot, folder: Path, tokenizer: str = "") -> tuple[list[Finding], Facts | None]:
    """What is wrong with the checkpoint, and its facts where it can be read."""
    try:
        from pi0_ros.checkpoints.describe import load_spec
        from pi0_ros.inference.metadata import Metadata, check_robot
    except ImportError as problem:
        todo = "run this on the machine of the policy process"
        return [warning("checkpoint", f"not looked at: {problem}", todo)], None
    try:
        spec = load_spec(folder, robot=robot, tokenizer=tokenizer)
        config = spec.config
        about = Metadata(
            folder.name, config.model, spec.robot, config.action_horizon, spec.fps, config.vision.image_size
        )
        check_robot(robot, about)
    except (InputError, OSError) as problem:
        kind = "tokenizer" if "tokenizer" in str(problem).lower() else "checkpoint"
        return [error(kind, str(problem), "`pi0 checkpoint info` says what is in it")], None
    state, actions = _range(spec.state_stats), _range(spec.action_stats)
    facts = Facts(config.action_horizon, spec.fps, state, actions, weights_bytes(folder))
    found = check_horizon(robot, facts, f"{folder}: {about.model}")
    wrong = check_widths(robot, state, actions) if state is not None and actions is not None else []
    return [*found, *wrong], replace(facts, state=None) if wrong else facts


def check_horizon(robot: Robot, facts: Facts, name: str) -> list[Finding]:
    """Whether chunks last until the next comes."""
    text = f"{name}, {facts.horizon} actions of {1 / facts.fps:.3f} s"
    if facts.chunk_s * robot.policy_rate_hz <= 1.0:
        what = f"{text}: a chunk lasts {facts.chunk_s:.2f} s, the next comes after {1 / robot.policy_rate_hz:.2f} s"
        return [error("horizon", what, f"raise policy_rate_hz of the robot file above {1 / facts.chunk_s:.1f}")]
    return [ok("checkpoint", text)]


def check_latency(facts: Facts, latency_p99_s: float) -> list[Finding]:
    """Whether the running policy answers in time for its chunks."""
    if math.isnan(latency_p99_s):
        return []
    text = f"chunks last {facts.chunk_s:.2f} s and come {latency_p99_s:.2f} s after their observation (p99)"
    if latency_p99_s >= facts.chunk_s:
        return [
            error(
                "latency",
                f"{text}: nothing of them is left",
                "a faster machine, `pi0 serve` on a GPU, or a longer horizon",
            )
        ]
    if latency_p99_s > LATE * facts.chunk_s:
        return [warning("latency", f"{text}: little of them is left", "`pi0 latency` says where the time goes")]
    return [ok("latency", text)]


def check_memory(facts: Facts, memory: Memory) -> list[Finding]:
    """Whether the weights fit where they will be loaded."""
    need = ROOM * facts.weights_bytes
    if not facts.weights_bytes or not memory.free_bytes:
        return []
    free = f"{memory.free_bytes / 2**30:.1f} GiB are free on {memory.where}"
    text = f"weights of {facts.weights_bytes / 2**30:.1f} GiB, {free}"
    if need > memory.total_bytes:
        return [
            error(
                "memory",
                f"{text} of {memory.total_bytes / 2**30:.1f}",
                "dtype:=bfloat16, a larger GPU, or `pi0 serve` elsewhere",
            )
        ]
    if need > memory.free_bytes:
        return [warning("memory", text, "end what else uses it (nvidia-smi), or dtype:=bfloat16")]
    return [note("memory", text)]


def weights_bytes(path: Path) -> int:
    """The size of the weights' files in or below a folder, or of the file itself."""
    if path.is_file():
        return path.stat().st_size
    folders = [path, path / "params", path / "pretrained_model"]
    found = [file for folder in folders for file in folder.glob("*.safetensors")]
    return sum(file.stat().st_size for file in found)


def _range(stats: object) -> Range | None:
    """The usual ends of one vector: quantiles where there are some."""
    present = stats.present()  # type: ignore[attr-defined]
    for low, high in (("q01", "q99"), ("min", "max"), ("q10", "q90")):
        if low in present and high in present:
            return Range(present[low], present[high])
    if "mean" in present and "std" in present:
        return Range(present["mean"] - USUAL * present["std"], present["mean"] + USUAL * present["std"])
    return None
