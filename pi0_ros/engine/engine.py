"""Chunks at the speed of the machine: `Engine.sample_actions` gives what `Pi0.sample_actions` gives, sooner.

What cannot change an action is not computed: cameras that are absent, padding of the prompt, the output of the last
prefix layer, anything that depends on the flow time alone. On a CUDA device a whole chunk is one captured graph per
shape. Whatever the engine does not know goes to the plain model, and the log says why.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import torch
from torch import Tensor

from pi0_ros.engine.pictures import Eye, Letterbox
from pi0_ros.engine.plain import PlainNetwork
from pi0_ros.engine.program import Observed, Program, Shape, UnsuitedError, guidance_key
from pi0_ros.engine.schedule import Schedule, make_schedule
from pi0_ros.engine.weights import Weights, prepare
from pi0_ros.model.paligemma import ModelInput
from pi0_ros.model.pi0 import Pi0
from pi0_ros.model.rtc import Guidance

log = logging.getLogger("pi0 engine")

PROGRAMS = 24  # kept per engine; the one unused for longest goes first
EYES = 8  # sets of frame sizes remembered
DISAGREE = 0.03  # relative; bfloat16 alone makes up to 0.01
TYPICAL = 544  # prefix tokens of two cameras and a prompt, for tuning
BUCKET = 16  # prompt tokens: graphs are made for multiples of it
MIN_CAPABILITY = (8, 0)  # bfloat16 and flash attention


class Engine:
    """Prepared weights, schedules and programs of one model, which it shares its memory with."""

    def __init__(
        self, model: Pi0, graphs: bool | None = None, kernels: bool | None = None, resize: str = "pillow"
    ) -> None:
        """`graphs` None: captured where the device can; `kernels` None: Triton's where they can serve.

        `resize` is how raw frames (uint8) among the images are fitted, see `pictures.py`.
        """
        self.model, self.resize = model, resize
        weights = prepare(model)
        able = _can_capture(weights.embedding.device)
        self.graphs = able if graphs is None else graphs
        self.network = _network(model, weights, able if kernels is None else kernels)
        self.plain = PlainNetwork(model.config, weights)
        self._eyes: dict[tuple[tuple[int, int, bool], ...], Eye] = {}
        self._schedules: dict[int, Schedule] = {}
        self._programs: dict[tuple[int, Shape], Program] = {}
        self._told: set[str] = set()

    def sample_actions(
        self,
        inputs: ModelInput,
        noise: Tensor | None = None,
        num_steps: int = 10,
        generator: torch.Generator | None = None,
        guidance: Guidance | None = None,
    ) -> Tensor:
        """Return actions float32 [B, H, A], as `Pi0.sample_actions` does.

        Inputs may lie in host memory: which cameras and tokens are valid is then known without asking the device.
        """
        config, device = self.model.config, self.network.device
        if num_steps < 1:
            raise ValueError(f"num_steps must be at least 1, not {num_steps}")
        if noise is None:
            shape = (inputs.state.shape[0], config.action_horizon, config.action_dim)
            where = generator.device if generator is not None else device
            noise = torch.randn(shape, generator=generator, device=where)
        try:
            key = guidance_key(guidance)
            observed = self.observe(inputs, noise)
        except UnsuitedError as reason:
            self._tell(str(reason))
            inputs = pictures(inputs.to(device), config.vision.image_size, self.resize)
            return self.model.sample_actions(inputs, noise.to(device), num_steps, None, guidance)
        with torch.inference_mode(False), torch.no_grad():  # guidance may differentiate, and buffers outlive the call
            return self._program(observed, num_steps, key, guidance)(observed, noise, guidance)

    @torch.inference_mode(False)  # buffers outlive the call
    @torch.no_grad()
    def observe(self, inputs: ModelInput, noise: Tensor) -> Observed:
        """Keep what is valid of one observation; `UnsuitedError` for what the engine does not do."""
        config = self.model.config
        if len(inputs.prompt_tokens) != 1:
            raise UnsuitedError(f"a batch of {len(inputs.prompt_tokens)} observations, the engine takes one")
        unknown = sorted(set(inputs.images) - set(config.cameras))
        if unknown:
            raise ValueError(f"no camera slot {', '.join(unknown)}; the model has {', '.join(config.cameras)}")
        size = config.vision.image_size
        for slot, image in inputs.images.items():
            raw = image.dtype == torch.uint8
            if (
                image.ndim != 4
                or image.shape[3] != 3
                or len(image) != 1
                or (not raw and image.shape[1:3] != (size, size))
            ):
                raise ValueError(f"image of {slot} is {list(image.shape)}, the model needs {[1, size, size, 3]}")
            if slot not in inputs.image_masks:
                raise ValueError(f"image of {slot} has no entry in image_masks")
        present = [slot for slot in config.cameras if slot in inputs.images]
        slots = [slot for slot in present if bool(inputs.image_masks[slot].item())]
        tokens = inputs.prompt_tokens[0][inputs.prompt_mask[0]]
        if not slots or not len(tokens):
            raise UnsuitedError("no camera" if not slots else "an empty prompt")
        if tuple(noise.shape) != (1, config.action_horizon, config.action_dim):
            raise UnsuitedError(
                f"noise {list(noise.shape)} for another horizon than the model's {config.action_horizon}"
            )
        if tuple(inputs.state.shape) != (1, config.action_dim):
            raise UnsuitedError(f"a state {list(inputs.state.shape)} instead of {[1, config.action_dim]}")
        images = [inputs.images[slot][0] for slot in slots]
        kinds = tuple((*image.shape[:2], image.dtype == torch.uint8) for image in images)
        if kinds not in self._eyes:
            self._eyes = dict(list(self._eyes.items())[1 - EYES :])
            self._eyes[kinds] = Eye(kinds, size, self.resize, self.network.device)
        eye = self._eyes[kinds]
        return Observed(images, tokens, inputs.state[0].float(), lambda out: eye.look(images, out))

    def _program(
        self, observed: Observed, num_steps: int, key: tuple[object, ...], guidance: Guidance | None
    ) -> Program:
        count = len(observed.tokens)
        room = -(-count // BUCKET) * BUCKET if self.graphs else count
        found = num_steps, Shape(len(observed.images), room, room != count or self.graphs, key)
        program = self._programs.pop(found, None)
        if program is None:
            program = Program(self.network, self.plain, self._schedule(num_steps), found[1], guidance)
            if self.graphs:
                program.load(observed, program.noise.there, guidance)
                program.capture()
            while len(self._programs) >= PROGRAMS:
                del self._programs[next(iter(self._programs))]
        self._programs[found] = program
        return program

    def _schedule(self, num_steps: int) -> Schedule:
        if num_steps not in self._schedules:
            self._schedules[num_steps] = make_schedule(self.model, num_steps)
        return self._schedules[num_steps]

    def _tell(self, reason: str) -> None:
        if reason not in self._told:
            self._told.add(reason)
            log.info("the plain model answers: %s", reason)


def pictures(inputs: ModelInput, size: int, resize: str) -> ModelInput:
    """The same inputs with raw frames turned into what the plain model takes."""
    images = dict(inputs.images)
    for slot, image in images.items():
        if image.dtype == torch.uint8:
            rows, columns = image.shape[1:3]
            images[slot] = Letterbox(rows, columns, size, resize, image.device)(image)
    return replace(inputs, images=images)


def _can_capture(device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    capability = torch.cuda.get_device_capability(device)
    if capability < MIN_CAPABILITY:
        log.info("no CUDA graphs on a device of compute capability %d.%d: chunks run step by step", *capability)
    return capability >= MIN_CAPABILITY


def _network(model: Pi0, weights: Weights, kernels: bool) -> PlainNetwork:
    """The network whose kernels serve the model, or the plain one with the reason in the log."""
    if not kernels:
        return PlainNetwork(model.config, weights)
    try:
        from pi0_ros.engine.fused import FusedNetwork, why_not
        from pi0_ros.engine.tuning import disagreement, tuned
    except ImportError as error:
        log.info("no Triton kernels: %s", error)
        return PlainNetwork(model.config, weights)
    if reason := why_not(model.config):
        log.info("no Triton kernels: %s", reason)
        return PlainNetwork(model.config, weights)
    try:
        schedule = make_schedule(model, 10)
        found = tuned(model.config, weights, schedule, TYPICAL)
        for tuning in (found, replace(found, pdl=0)):
            apart = disagreement(model.config, weights, schedule, TYPICAL, tuning)
            if apart <= DISAGREE:  # NaN is not
                return FusedNetwork(model.config, weights, tuning)
            log.warning("Triton kernels with %s differ from plain torch by %.2g: not used", tuning, apart)
    except Exception as error:  # whatever Triton or the driver has against this device
        log.warning("no Triton kernels: %s: %s", type(error).__name__, str(error).splitlines()[0][:200])
    return PlainNetwork(model.config, weights)
