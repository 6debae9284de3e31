"""One trained policy in this process: Observation in, ActionChunk out."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import torch

from pi0_ros.base.errors import InputError
from pi0_ros.checkpoints.checkpoint import Checkpoint, load_checkpoint
from pi0_ros.control.chunk import ActionChunk
from pi0_ros.engine.engine import Engine
from pi0_ros.inference.backend import Request
from pi0_ros.inference.metadata import BackendError, Metadata, check_robot
from pi0_ros.inference.options import PolicyOptions
from pi0_ros.inference.prefix import ActionPrefix, RtcSettings, check_trained
from pi0_ros.model.pi0 import Pi0
from pi0_ros.model.rtc import Guidance
from pi0_ros.observation.streams import Observation
from pi0_ros.policy.batch import joined_inputs, kind_of, stacked
from pi0_ros.policy.guidance import make_guidance
from pi0_ros.policy.subtask import write_subtask
from pi0_ros.policy.transforms import actions_from_model, make_inputs
from pi0_ros.robot import Joint, Robot
from pi0_ros.tokens.action_tokens import NoActionsError

SMALL_MODEL = 50_000_000  # parameters


class Policy:
    """Runs a checkpoint in this process. Equal observations and seeds give equal chunks, in any order, in any process.

    The noise that a chunk is grown from depends on nothing but the seed and the observation's stamp, so a repeated
    request or a second client of a server changes nothing. Callers in several threads take turns.
    """

    def __init__(self, checkpoint: Checkpoint, *, seed: int = 0, num_steps: int = 0) -> None:
        """`num_steps` 0: the checkpoint's."""
        self._checkpoint: Checkpoint | None = checkpoint
        self.spec = checkpoint.spec
        self.num_steps = num_steps or checkpoint.spec.settings.num_steps
        self.timing: dict[str, float] = {}  # ms of the last `infer`; model_ms holds all flow steps
        self._seed = seed
        self._turn = threading.Lock()
        self._device = next(checkpoint.model.parameters()).device
        checkpoint.model.requires_grad_(False)  # guidance differentiates the actions alone
        self._engine: Engine | None = None  # pi0-FAST writes its actions token by token: the plain model does
        if isinstance(checkpoint.model, Pi0):
            self._engine = Engine(checkpoint.model, resize=checkpoint.spec.settings.image_resize)
        config, settings = self.spec.config, self.spec.settings
        self.metadata = Metadata(
            checkpoint=checkpoint.folder.name,
            model=config.model,
            robot=self.spec.robot,
            horizon=config.action_horizon,
            fps=self.spec.fps,
            image_size=config.vision.image_size,
            image_resize=settings.image_resize,
            statistics=self.spec.norm_stats.digest(),
            rtc_trained_max_delay=settings.rtc_trained_max_delay,
        )

    @property
    def checkpoint(self) -> Checkpoint:
        """What it runs; BackendError after `close`."""
        if self._checkpoint is None:
            raise BackendError("the policy is closed")
        return self._checkpoint

    def warm_up(self) -> float:
        """Run on a black observation, so that the first real chunk is as fast as the next; returns seconds.

        Twice as it is, and once with real-time chunking, whose way back through the expert is code of its own.
        """
        start = time.perf_counter()
        size = self.spec.config.vision.image_size
        black = np.zeros((size, size, 3), np.uint8)
        robot = self.spec.robot
        observation = Observation(
            stamp_ns=0,
            images={camera.name: black for camera in robot.cameras},
            state=_nearest_to_zero(robot.state_joints),
            prompt=robot.prompt or "warm up",
            ages_s={},
        )
        still = ActionPrefix(_nearest_to_zero(robot.action_joints)[None], 1.0 / self.spec.fps, 1, RtcSettings("exact"))
        for prefix in (None, None, still):
            with suppress(NoActionsError):  # pi0-FAST may have nothing to say about black pictures
                self.infer(observation, prefix)
        self.timing = {}
        return time.perf_counter() - start

    def infer(self, observation: Observation, prefix: ActionPrefix | None = None) -> ActionChunk:
        """Predict the chunk that starts at the observation's stamp: absolute positions, robot units and joint order.

        With `prefix` the chunk continues what is being executed (real-time chunking). ValueError for an observation
        that lacks a camera or has a wrong shape, and for a prefix of another robot; BackendError when state or actions
        are not finite.
        """
        with self._turn:
            return self._infer(observation, prefix)

    def _infer(self, observation: Observation, prefix: ActionPrefix | None) -> ActionChunk:
        start = time.perf_counter()
        self._check(observation, prefix)
        state, model = observation.state[None], self.checkpoint.model
        images = {name: image[None] for name, image in observation.images.items()}
        engine = self._engine
        device = self._device if engine is None else torch.device("cpu")  # the engine copies what it needs
        inputs = make_inputs(self.spec, images, state, [observation.prompt], device, raw=engine is not None)
        noise = torch.from_numpy(self._noise(observation.stamp_ns)).to(device)
        guidance = make_guidance(self.spec, prefix, observation.state, device)
        prepared = time.perf_counter()

        with torch.inference_mode():
            sampler = engine or model
            sampled = sampler.sample_actions(inputs, noise=noise, num_steps=self.num_steps, guidance=guidance).cpu()
        sampled_at = time.perf_counter()

        (chunk,) = self._chunks(sampled, [observation])
        self.timing = _stages(start, prepared, sampled_at)
        return chunk

    def _check(self, observation: Observation, prefix: ActionPrefix | None) -> None:
        if not np.isfinite(observation.state).all():
            raise BackendError(f"the state is not finite: {observation.state}")
        if prefix is not None:
            check_trained(prefix.settings, self.metadata)

    def _chunks(self, sampled: torch.Tensor, observations: Sequence[Observation]) -> list[ActionChunk]:
        """What the network gave for the observations, float32 [B, H, W], in the robot's units."""
        states = np.stack([observation.state for observation in observations])
        actions = actions_from_model(self.spec, sampled, states)
        if not np.isfinite(actions).all():
            raise BackendError("the model's actions are not finite: check the checkpoint's weights and norm_stats.json")
        dt_ns, names = round(1e9 / self.spec.fps), self.spec.robot.action_names
        return [ActionChunk(seen.stamp_ns, dt_ns, rows, names) for seen, rows in zip(observations, actions)]

    def infer_many(self, requests: Sequence[Request]) -> list[ActionChunk]:
        """Predict for several observations in one pass of the network; `batch.apart` says how near to `infer`.

        What continues another chunk in another way goes in a pass of its own.
        """
        with self._turn:
            guided: dict[tuple[object, ...], list[tuple[int, Observation, Guidance | None]]] = {}
            for index, (observation, prefix) in enumerate(requests):
                self._check(observation, prefix)
                guidance = make_guidance(self.spec, prefix, observation.state, self._device)
                guided.setdefault(kind_of(guidance), []).append((index, observation, guidance))
            chunks: dict[int, ActionChunk] = {}
            for group in guided.values():
                indices, observations, guidances = zip(*group, strict=True)
                chunks |= zip(indices, self._infer_together(observations, stacked(guidances)), strict=True)
            return [chunks[index] for index in range(len(requests))]

    def _infer_together(self, observations: Sequence[Observation], guidance: Guidance | None) -> list[ActionChunk]:
        start = time.perf_counter()
        model = self.checkpoint.model
        if not isinstance(model, Pi0):
            raise InputError("pi0-FAST writes its actions for one observation at a time")
        inputs = joined_inputs(self.spec, observations, self._device)
        noise = torch.from_numpy(np.concatenate([self._noise(one.stamp_ns) for one in observations])).to(self._device)
        prepared = time.perf_counter()
        sampled = model.sample_actions(inputs, noise, self.num_steps, None, guidance).cpu()
        sampled_at = time.perf_counter()
        chunks = self._chunks(sampled, observations)
        self.timing = _stages(start, prepared, sampled_at)
        return chunks

    def write_subtask(self, observation: Observation) -> str:
        """What the model would do next for the observation's prompt; safe beside `infer` in another thread."""
        return write_subtask(self.spec, self.checkpoint.model, observation, self._device)

    def close(self) -> None:
        """Let go of the network, whose memory is free as soon as no inference uses it any more."""
        self._checkpoint = self._engine = None

    def _noise(self, stamp_ns: int) -> np.ndarray:
        """float32 [1, H, A], a function of seed and stamp."""
        config = self.spec.config
        generator = np.random.default_rng([self._seed, stamp_ns])
        noise = generator.standard_normal((1, config.action_horizon, config.action_dim), dtype=np.float32)
        return noise * np.float32(self.spec.settings.noise_scale)


def load_policy(options: PolicyOptions, *, robot: Robot | None = None) -> Policy:
    """Load the checkpoint of `options` into this process and warm it up.

    A checkpoint of LeRobot or openpi carries no robot file: `robot` is the one that it drives. CheckpointError for a
    bad folder, RobotMismatchError when `robot` is given and the checkpoint is for another one.
    """
    loaded = load_checkpoint(
        options.checkpoint,
        device=pick_device(options.device),
        robot=robot,
        tokenizer=options.tokenizer,
        dtype=options.dtype,
    )
    if options.torch_threads or pick_device(options.device) == "cpu":
        torch.set_num_threads(options.torch_threads or threads_for(loaded.model))
    policy = Policy(loaded, seed=options.seed, num_steps=options.num_steps)
    if robot is not None:
        check_robot(robot, policy.metadata)
    policy.warm_up()
    return policy


def _stages(start: float, prepared: float, sampled: float) -> dict[str, float]:
    """Milliseconds by stage, from times of perf_counter."""
    end = time.perf_counter()
    return {
        "prepare_ms": (prepared - start) * 1e3,
        "model_ms": (sampled - prepared) * 1e3,
        "finish_ms": (end - sampled) * 1e3,
        "total_ms": (end - start) * 1e3,
    }


def threads_for(model: torch.nn.Module) -> int:
    """How many threads leave the controller its core.

    The products of a small model are too short to share, and workers that wait for the next one spin: with two threads
    beside simulator and controller on two cores a chunk took 400 ms, with one 55.
    """
    if sum(parameter.numel() for parameter in model.parameters()) < SMALL_MODEL:
        return 1
    return max(1, (os.cpu_count() or 1) - 1)


def pick_device(name: str) -> str:
    """`auto` is the GPU where torch sees one."""
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def _nearest_to_zero(joints: Sequence[Joint]) -> np.ndarray:
    """A place for each joint within its limits."""
    return np.array([joint.neutral for joint in joints])
