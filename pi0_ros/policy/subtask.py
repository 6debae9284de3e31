"""The high-level step of pi0.5: the model writes its next subtask. `inference.subtask` calls it beside the chunks.

Source of prompt and decoding: the public fork `BrunoFANG1/openpi_subtask_generation`. That pi05_base can do this
without further training is a finding of the community; when to ask again is open.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from pi0_ros.checkpoints.spec import PolicySpec
from pi0_ros.model.paligemma import PaliGemma
from pi0_ros.observation.streams import Observation
from pi0_ros.policy.transforms import make_inputs

MAX_NEW_TOKENS = 32


def write_subtask(
    spec: PolicySpec, model: PaliGemma, observation: Observation, device: torch.device | str = "cpu"
) -> str:
    """Return what the model would do next for the observation's prompt; "" when it has nothing to say."""
    images = {name: image[None] for name, image in observation.images.items()}
    inputs = make_inputs(spec, images, observation.state[None], [observation.prompt], device)
    tokens, mask = spec.tokenizer.encode_subtask_prompt(spec.config, observation.prompt)
    asked = replace(
        inputs,
        prompt_tokens=torch.from_numpy(tokens)[None].to(device),
        prompt_mask=torch.from_numpy(mask)[None].to(device),
    )
    with torch.inference_mode():
        written = model.generate_text(asked, MAX_NEW_TOKENS, eos=spec.tokenizer.eos)
    words = spec.tokenizer.decode(written[0].tolist()).split()
    return "".join(character for character in " ".join(words) if character.isprintable())
