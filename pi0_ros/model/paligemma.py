"""What pi0, pi0.5 and pi0-FAST share: the vision tower and the language model that reads images and a prompt.

Tensors in, tensors out. B batch, P prefix tokens, L prompt tokens, A action dimensions, D width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pi0_ros.model.config import ModelConfig
from pi0_ros.model.generation import EOS, causal_bias, prefix_positions, write
from pi0_ros.model.layers import Rotary
from pi0_ros.model.transformer import Transformer
from pi0_ros.model.vision import VisionTower

_CAST = ("vision", "projector", "embedding", "vlm", "expert")
_FLOAT32_PARTS = ("patch_embedding", "position_embedding", "input_layernorm", "post_attention_layernorm", "norm")


@dataclass(frozen=True)
class ModelInput:
    """One batch of observations in model space. A slot that is absent from `images` costs nothing."""

    images: dict[str, Tensor]  # slot -> float32 [B, S, S, 3] in [-1, 1]
    image_masks: dict[str, Tensor]  # slot -> bool [B]; False: the camera is missing and has no influence
    prompt_tokens: Tensor  # int64 [B, L]
    prompt_mask: Tensor  # bool [B, L]
    state: Tensor  # float32 [B, A]

    def to(self, device: torch.device | str) -> ModelInput:
        """Return the same batch on another device."""
        return ModelInput(
            images={slot: image.to(device) for slot, image in self.images.items()},
            image_masks={slot: mask.to(device) for slot, mask in self.image_masks.items()},
            prompt_tokens=self.prompt_tokens.to(device),
            prompt_mask=self.prompt_mask.to(device),
            state=self.state.to(device),
        )


@dataclass(frozen=True)
class Pictures:
    """What the vision tower made of the images that are there: tokens [B, T, D] of each camera, and their mask."""

    tokens: list[Tensor]
    masks: list[Tensor]


class PaliGemma(nn.Module):
    """SigLIP, a linear projector and Gemma, whose output head is its embedding table."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.vision = VisionTower(config.vision)
        self.projector = nn.Linear(config.vision.width, config.vlm.width)
        self.embedding = nn.Embedding(config.vocab_size, config.vlm.width)
        self.vlm = Transformer(config.vlm)

    def set_dtype(self, dtype: torch.dtype) -> None:
        """Cast the transformers, keeping in float32 what the reference keeps there.

        Those are the norms of the Gemma layers, the patch and position embeddings, and the projections of state,
        action and time.
        """
        for name, parameter in self.named_parameters():
            parameter.data = parameter.data.to(stored_dtype(name, dtype))

    def embed_tokens(self, tokens: Tensor) -> Tensor:
        """Return the embeddings [B, S, D] of `tokens` [B, S], scaled by sqrt(D) as Gemma reads them."""
        return (self.embedding(tokens) * math.sqrt(self.config.vlm.width)).to(self.vlm.dtype)

    def embed_prefix(self, inputs: ModelInput, pictures: Pictures | None = None) -> tuple[Tensor, Tensor]:
        """Return the token embeddings [B, P, D], images first, and their mask bool [B, P].

        `pictures` are those of `embed_images`, where it has been asked already.
        """
        pictures = self.embed_images(inputs) if pictures is None else pictures
        return self._behind_pictures(pictures, inputs.prompt_tokens, inputs.prompt_mask)

    def _behind_pictures(self, pictures: Pictures, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        embedded = self.embed_tokens(tokens)
        if not pictures.tokens:
            return embedded, mask
        return torch.cat([*pictures.tokens, embedded], dim=1), torch.cat([*pictures.masks, mask], dim=1)

    def embed_images(self, inputs: ModelInput) -> Pictures:
        """Return the image tokens of every camera that is there."""
        slots = self._slots(inputs)
        if not slots:
            return Pictures([], [])
        present = torch.stack([inputs.image_masks[slot] for slot in slots])  # [cameras, B]
        images = torch.stack([inputs.images[slot] for slot in slots])
        images = images.masked_fill(~present[..., None, None, None], 0.0).flatten(0, 1)
        tokens = self.projector(self.vision(images)).unflatten(0, present.shape)  # [cameras, B, T, D]
        mask = present.T.repeat_interleave(tokens.shape[2], dim=1)
        return Pictures([*tokens], [mask])

    def _slots(self, inputs: ModelInput) -> list[str]:
        """Return the slots that have an image, in the order of their token blocks, after checking the images."""
        unknown = sorted(set(inputs.images) - set(self.config.cameras))
        if unknown:
            raise ValueError(f"no camera slot {', '.join(unknown)}; the model has {', '.join(self.config.cameras)}")
        size = self.config.vision.image_size
        wanted = (len(inputs.prompt_tokens), size, size, 3)
        for slot, image in inputs.images.items():
            if tuple(image.shape) != wanted:
                raise ValueError(f"image of {slot} is {list(image.shape)}, the model needs {list(wanted)}")
            if slot not in inputs.image_masks:
                raise ValueError(f"image of {slot} has no entry in image_masks")
        return [slot for slot in self.config.cameras if slot in inputs.images]

    def logits(self, hidden: Tensor) -> Tensor:
        """Return float32 [..., vocabulary] of the language model's normed output [..., D]: the head is tied."""
        return F.linear(hidden.to(self.embedding.weight.dtype), self.embedding.weight).float()

    def read_text(self, tokens: Tensor, mask: Tensor, pictures: Pictures) -> Tensor:
        """Return the hidden states [B, L-1, D] that predict each of `tokens` [B, L] but the first, as it would write.

        `mask` [B, L] is False for padding behind them. Attention and positions are those of `generate_text`.
        """
        embedded, seen = self._behind_pictures(pictures, tokens, mask)
        bias = causal_bias(seen, _behind(seen, mask), embedded.dtype, self.config.vlm)
        hidden, _ = self.vlm.read(embedded, Rotary.at(prefix_positions(seen), self.config.vlm.head_dim), bias)
        return hidden[:, seen.shape[1] - mask.shape[1] : -1]

    def text_errors(self, tokens: Tensor, mask: Tensor, answer: Tensor, pictures: Pictures) -> Tensor:
        """Return the mean cross-entropy [B] per token of each `answer` bool [B, L] within a text, see `read_text`."""
        return self.answer_errors(self.read_text(tokens, mask, pictures), tokens, answer)

    def answer_errors(self, hidden: Tensor, tokens: Tensor, answer: Tensor) -> Tensor:
        """Return the mean cross-entropy [B] per token of `answer` [B, L], which `hidden` [B, L-1, D] predicts."""
        scored = answer[:, 1:]  # each token is predicted by the one before it
        errors = F.cross_entropy(self.logits(hidden[scored]), tokens[:, 1:][scored], reduction="none")
        rows = scored.nonzero()[:, 0]
        return errors.new_zeros(len(answer)).index_add(0, rows, errors) / scored.sum(1).clamp(min=1)

    @torch.no_grad()
    def generate_text(
        self,
        inputs: ModelInput,
        max_new_tokens: int = 32,
        temperature: float = 0.0,
        generator: torch.Generator | None = None,
        eos: int = EOS,
    ) -> Tensor:
        """Return what the language model writes after images and prompt: tokens int64 [B, T], zeros behind the end.

        For subtasks the prompt is `Tokenizer.encode_subtask_prompt`. Images see each other, each token of the prompt
        sees all images and the tokens before it. Temperature 0 takes the most likely token, else one is drawn.
        """
        embedded, mask = self.embed_prefix(inputs)
        bias = causal_bias(mask, _behind(mask, inputs.prompt_mask), embedded.dtype, self.config.vlm)
        return write(self, embedded, mask, bias, max_new_tokens, temperature, generator, eos)


def stored_dtype(name: str, dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of the parameter `name` in a model of `dtype`: float32 for what the reference keeps there."""
    part, *pieces = name.split(".")
    exact = part not in _CAST or any(piece in _FLOAT32_PARTS for piece in pieces)
    return torch.float32 if exact else dtype


def _behind(mask: Tensor, prompt_mask: Tensor) -> Tensor:
    """Return bool [B, P], True for the whole prompt and False for the images before it."""
    return (torch.arange(mask.shape[1], device=mask.device) >= mask.shape[1] - prompt_mask.shape[1]).expand_as(mask)
