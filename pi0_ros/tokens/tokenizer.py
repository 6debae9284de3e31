"""Prompts to tokens, token for token as the references make them, and tokens back to text."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from pi0_ros.base.disk import expanded
from pi0_ros.model.config import ModelConfig
from pi0_ros.tokens.prompts import clean, fast_text, lerobot_pi0_text, pi05_text, subtask_text
from pi0_ros.tokens.subwords import Pieces, TokenizerError, file_in, file_on_this_machine, load_pieces

logger = logging.getLogger(__name__)

ACTION_TOKENS_SKIP = 128  # the last ids of the vocabulary stay free; pi0-FAST counts its actions down from there
State = Sequence[float] | np.ndarray


class Tokenizer:
    """Writes prompts the way pi0, pi0.5 and pi0-FAST were trained on them.

    All prompts are tokens int64 [L] padded with zeros and their mask bool [L], L = `config.max_token_len`. What is too
    long loses its end, with a warning.
    """

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces

    @staticmethod
    def load(path: str | Path) -> Tokenizer:
        """Read a SentencePiece `.model`, a Hugging Face tokenizer.json, or a folder that holds one of them."""
        return Tokenizer(load_pieces(expanded(path)))

    @staticmethod
    def shipped(checkpoint: str | Path) -> Tokenizer | None:
        """Read the tokenizer that a checkpoint folder carries; None where it carries none."""
        path = file_in(Path(checkpoint))
        return None if path is None else Tokenizer.load(path)

    @staticmethod
    def installed() -> Tokenizer:
        """Read PaliGemma's tokenizer from this machine, for a checkpoint without; the error says how to get it."""
        return Tokenizer.load(file_on_this_machine())

    @property
    def vocab_size(self) -> int:
        """Number of pieces; the model's `vocab_size` must be at least this."""
        return self._pieces.vocab_size

    @property
    def eos(self) -> int:
        """The token that ends a text."""
        return self._pieces.eos

    def encode_prompt(
        self,
        config: ModelConfig,
        prompt: str,
        state: State | None = None,
        *,
        prompt_format: str = "openpi",
        pad_state_text: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the prompt that the action head reads: tokens [L] and mask [L].

        `state` is the normalised state without padding; it is read, and needed, by pi0-FAST and where pi0.5 has
        `config.discrete_state_input`. `prompt_format` and `pad_state_text` are those of `PolicySettings`: LeRobot's
        pi0 takes the text as it is, and its old pi0.5 wrote the state padded to `config.state_width`.
        """
        if config.is_fast and prompt_format != "openpi":
            raise TokenizerError("LeRobot's pi0_fast writes prompt and actions otherwise: use an openpi checkpoint")
        if config.is_fast or (config.is_pi05 and config.discrete_state_input):
            text = self._state_prompt(config, prompt, state, pad_state_text)
            return self._fit(config, [self._pieces.bos, *self._pieces.encode(text)], prompt)
        if prompt_format == "lerobot" and not config.is_pi05:
            return self._fit(config, [self._pieces.bos, *self._pieces.encode(lerobot_pi0_text(prompt))], prompt)
        tokens = [self._pieces.bos, *self._pieces.encode(clean(prompt)), *self._pieces.encode("\n")]
        return self._fit(config, tokens, prompt)

    def encode_subtask_prompt(self, config: ModelConfig, task: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the question for the next subtask of `task`: tokens [L] and mask [L]; see `Pi0.generate_text`."""
        return self._fit(config, [self._pieces.bos, *self._pieces.encode(subtask_text(task))], task)

    def encode_subtask_answer(
        self, config: ModelConfig, task: str, subtask: str
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return that question and its answer: tokens [L], mask [L], and bool [L] where the answer with its end is.

        The answer is what is trained on; "" has none.
        """
        question = [self._pieces.bos, *self._pieces.encode(subtask_text(task))]
        answer = [*self._pieces.encode(clean(subtask)), self._pieces.eos] if subtask else []
        tokens, mask = self._fit(config, question + answer, task)
        return tokens, mask, mask & (np.arange(len(mask)) >= len(question))

    def encode_action_answer(
        self, config: ModelConfig, prompt: str, state: State, action_tokens: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return a prompt of pi0-FAST followed by its answer: tokens [L], mask [L], and bool [L] where the answer is.

        The answer is what is trained on: `Action: `, the tokens of the action tokenizer, `|`, the end.
        """
        pieces = self._pieces
        question = [pieces.bos, *pieces.encode(fast_text(prompt, state))]
        answer = [*pieces.encode("Action: "), *self._mirrored(action_tokens), *pieces.encode("|"), pieces.eos]
        tokens, mask = self._fit(config, question + answer, prompt)
        return tokens, mask, mask & (np.arange(len(mask)) >= len(question))

    def decode_action_answer(self, tokens: Iterable[int]) -> list[int] | None:
        """Return the action tokens between `Action: ` and `|` of what pi0-FAST wrote; None where there is no such text.

        As in openpi the text is written out and read again, so ids that text cannot hold apart do not survive.
        """
        _, found, text = self.decode(tokens).partition("Action: ")
        if not found:
            return None
        text = text.split("Action: ")[0].split("|")[0].strip()
        return self._mirrored(self._pieces.encode(text))

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of `tokens`; padding, beginning and end are left out."""
        pieces = self._pieces
        return pieces.decode([int(t) for t in tokens if 0 <= t < pieces.vocab_size and t not in pieces.silent])

    def _state_prompt(self, config: ModelConfig, prompt: str, state: State | None, pad: bool) -> str:
        if state is None:
            raise TokenizerError("this model reads the robot state from its prompt, but no state was given")
        if pad:
            state = np.pad(np.asarray(state, np.float64), (0, max(0, config.state_width - len(state))))
        return fast_text(prompt, state) if config.is_fast else pi05_text(prompt, state)

    def _mirrored(self, tokens: Iterable[int]) -> list[int]:
        """Action tokens to vocabulary ids, and back: the same subtraction."""
        return [self.vocab_size - 1 - ACTION_TOKENS_SKIP - int(token) for token in tokens]

    def _fit(self, config: ModelConfig, tokens: list[int], prompt: str) -> tuple[np.ndarray, np.ndarray]:
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
