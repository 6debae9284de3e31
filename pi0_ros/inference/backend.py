"""Where the policy runs: in this process or on a server. Both answer the same two questions.

torch is imported only by the local backend, so a robot that uses a server needs none.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pi0_ros.control.chunk import ActionChunk
from pi0_ros.inference.client import Client
from pi0_ros.inference.metadata import Metadata, check_robot
from pi0_ros.inference.prefix import ActionPrefix
from pi0_ros.observation.streams import Observation
from pi0_ros.robot import Robot

if TYPE_CHECKING:
    from pi0_ros.policy.policy import Policy

BACKENDS = ("local", "zmq")


class Backend(Protocol):
    """A policy, wherever it runs."""

    @property
    def metadata(self) -> Metadata | None:
        """What the policy says about itself; None as long as a server has not been reached."""

    @property
    def timing(self) -> Mapping[str, float]:
        """Milliseconds of the last inference: `policy.Timing`, and `round_trip_ms` where a server made it."""

    def infer(self, observation: Observation, prefix: ActionPrefix | None = None) -> ActionChunk:
        """Predict, continuing `prefix`.

        BackendError when that is impossible now, RobotMismatchError when it never will be possible.
        """

    def close(self) -> None:
        """Free memory and sockets."""


class LocalBackend:
    """Loads a checkpoint into this process and warms it up."""

    def __init__(
        self,
        robot: Robot,
        checkpoint: Path | str,
        device: str = "auto",
        seed: int = 0,
        torch_threads: int = 0,
        num_steps: int = 0,
        tokenizer: Path | str = "",
        dtype: str = "auto",
    ) -> None:
        policy = load_policy(checkpoint, device, seed, torch_threads, num_steps, robot, tokenizer, dtype)
        self._policy: Policy | None = policy
        self._metadata = policy.metadata

    @property
    def metadata(self) -> Metadata:
        return self._metadata

    @property
    def timing(self) -> Mapping[str, float]:
        return vars(self._policy.timing) if self._policy is not None and self._policy.timing is not None else {}

    def infer(self, observation: Observation, prefix: ActionPrefix | None = None) -> ActionChunk:
        assert self._policy is not None, "the backend is closed"
        return self._policy.infer(observation, prefix)

    def write_subtask(self, observation: Observation) -> str:
        """See `Policy.write_subtask`."""
        assert self._policy is not None, "the backend is closed"
        return self._policy.write_subtask(observation)

    def close(self) -> None:
        self._policy = None


class ZmqBackend:
    """Asks a `pi0 serve` over ZeroMQ. Constructing it reaches for nothing: a server may come, go and come back."""

    def __init__(self, robot: Robot, server: str, timeout_s: float = 2.0) -> None:
        self._client = Client(server, timeout_s=timeout_s, robot=robot)

    @property
    def metadata(self) -> Metadata | None:
        return self._client.metadata

    @property
    def timing(self) -> Mapping[str, float]:
        return self._client.timing

    def infer(self, observation: Observation, prefix: ActionPrefix | None = None) -> ActionChunk:
        return self._client.infer(observation, prefix)

    def close(self) -> None:
        self._client.close()


def make_backend(
    kind: str,
    robot: Robot,
    checkpoint: Path | str = "",
    server: str = "",
    device: str = "auto",
    seed: int = 0,
    torch_threads: int = 0,
    num_steps: int = 0,
    timeout_s: float = 2.0,
    tokenizer: Path | str = "",
    dtype: str = "auto",
) -> Backend:
    """The backend called `kind`: "local" needs `checkpoint`, "zmq" needs `server`."""
    if kind == "local":
        if not str(checkpoint):
            raise ValueError("backend 'local' needs a checkpoint folder: set the parameter `checkpoint`")
        return LocalBackend(robot, checkpoint, device, seed, torch_threads, num_steps, tokenizer, dtype)
    if kind == "zmq":
        if not server:
            raise ValueError("backend 'zmq' needs an address: set the parameter `server`, e.g. tcp://127.0.0.1:5555")
        return ZmqBackend(robot, server, timeout_s)
    raise ValueError(f"backend is '{kind}', expected one of {', '.join(BACKENDS)}")


def load_policy(
    checkpoint: Path | str,
    device: str = "auto",
    seed: int = 0,
    torch_threads: int = 0,
    num_steps: int = 0,
    robot: Robot | None = None,
    tokenizer: Path | str = "",
    dtype: str = "auto",
) -> Policy:
    """Load a checkpoint of any format and warm up; `torch_threads` and `num_steps` 0 mean torch's and the checkpoint's.

    A checkpoint of LeRobot or openpi carries no robot file: `robot` is the one that it drives. Where it has no
    tokenizer either, `tokenizer` is the file or folder of one. `dtype` auto means that of the weights.
    CheckpointError for a bad folder, RobotMismatchError when `robot` is given and the checkpoint is for another one.
    """
    import torch

    from pi0_ros.checkpoints.checkpoint import load_checkpoint
    from pi0_ros.policy.policy import Policy

    if torch_threads > 0:
        torch.set_num_threads(torch_threads)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    loaded = load_checkpoint(checkpoint, device, robot=robot, tokenizer=tokenizer, dtype=dtype)
    policy = Policy(loaded, seed, num_steps or None)
    if robot is not None:
        check_robot(robot, policy.metadata)
    policy.warm_up()
    return policy
