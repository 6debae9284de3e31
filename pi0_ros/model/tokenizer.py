"""Prompts to tokens, byte for byte as the reference formats them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import sentencepiece

from pi0_ros.model.config import ModelConfig

logger = logging.getLogger(__name__)

_BIN_EDGES = np.linspace(-1, 1, 257)[:-1]  # left edges of 256 bins; what lies below the first is printed as -1


class TokenizerError(ValueError):
    """A tokenizer file or prompt that cannot be used."""


class Tokenizer:
    """A SentencePiece model that writes prompts the way pi0 and pi0.5 were trained on them."""

    def __init__(self, processor: sentencepiece.SentencePieceProcessor) -> None:
        self._processor = processor

    @staticmethod
    def load(path: str | Path) -> Tokenizer:
        """Read a SentencePiece `.model` file."""
        path = Path(path)
        if not path.is_file():
            raise TokenizerError(f"{path}: there is no such tokenizer file")
        try:
            return Tokenizer(sentencepiece.SentencePieceProcessor(model_file=str(path)))
        except (RuntimeError, OSError) as error:
            raise TokenizerError(f"{path}: not a SentencePiece model ({error})") from error

    @property
    def vocab_size(self) -> int:
        """Number of pieces; the model's `vocab_size` must be at least this."""
        return self._processor.vocab_size()

    def encode_prompt(
        self, config: ModelConfig, prompt: str, state: Sequence[float] | np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return tokens int64 [L] padded with zeros, and their mask bool [L], L = `config.max_token_len`.

        `state` is the normalised state without padding; it is read only where `config.discrete_state_input` is set,
        and needed there. A prompt that is too long loses its end, with a warning.
        """
        text = prompt.strip().replace("_", " ").replace("\n", " ")
        if config.is_pi05 and config.discrete_state_input:
            if state is None:
                raise TokenizerError("this model reads the robot state from its prompt, but no state was given")
            text = f"Task: {text}, State: {' '.join(map(str, state_bins(state)))};\nAction: "
            tokens = self._processor.encode(text, add_bos=True)
        else:
            tokens = self._processor.encode(text, add_bos=True) + self._processor.encode("\n")
        if max(tokens) >= config.vocab_size:
            raise TokenizerError(
                f"token {max(tokens)} is outside the model's vocabulary of {config.vocab_size}: "
                f"this tokenizer of {self.vocab_size} pieces belongs to another model"
            )
        length = config.max_token_len
        if len(tokens) > length:
            logger.warning("prompt of %d tokens cut to max_token_len %d: %r", len(tokens), length, prompt)
            tokens = tokens[:length]
        padded = np.zeros(length, dtype=np.int64)
        padded[: len(tokens)] = tokens
        return padded, np.arange(length) < len(tokens)


def state_bins(state: Sequence[float] | np.ndarray) -> list[int]:
    """Return the bin 0..255 over [-1, 1] of each value of a normalised state; -1 below and 255 above the range."""
    return [int(index) for index in np.digitize(np.asarray(state, dtype=np.float64), _BIN_EDGES) - 1]
