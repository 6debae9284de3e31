"""The action tokens of pi0-FAST: a cosine transform over time, rounding, and byte-pair encoding.

The algorithm is that of the public tokenizer `physical-intelligence/fast`, whose folder is read as it is.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ros.base.disk import expanded
from pi0_ros.base.errors import InputError
from pi0_ros.tokens.subwords import TokenizerError, hub_cache
from pi0_ros.tokens.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

VARIABLE = "PI0_ACTION_TOKENIZER"  # environment variable that names the folder
FOLDER = "action_tokenizer"  # inside a checkpoint
PIECES, SETTINGS = "tokenizer.json", "processor_config.json"
_HOW_TO = f"""pi0-FAST needs the folder of an action tokenizer. The public one:
  hf download physical-intelligence/fast --local-dir {FOLDER}
Put it into the checkpoint folder as {FOLDER}/, or name it: {VARIABLE}=/path/to/{FOLDER}"""


class NoActionsError(InputError):
    """An answer of pi0-FAST that holds no chunk of actions."""


def cosine_basis(length: int) -> np.ndarray:
    """Return the orthonormal DCT-II as a matrix [length, length]: `basis @ x` transforms, `basis.T @ c` goes back."""
    time, frequency = np.arange(length), np.arange(length)[:, None]
    basis = np.sqrt(2 / length) * np.cos(np.pi / length * (time + 0.5) * frequency)
    basis[0] /= np.sqrt(2)
    return basis


class ActionTokens:
    """Chunks of normalised actions to tokens and back."""

    def __init__(self, tokenizer: Any, scale: float, min_token: int, folder: Path | None = None) -> None:
        self._tokenizer = tokenizer
        self.folder = folder  # where it was read from
        self.scale = scale  # steps per unit of a cosine coefficient
        self.min_token = min_token  # the smallest rounded coefficient: it is written as character 0

    @staticmethod
    def load(folder: str | Path) -> ActionTokens:
        """Read tokenizer.json and processor_config.json; TokenizerError names what is missing or wrong."""
        folder = Path(folder)
        for name in (PIECES, SETTINGS):
            if not (folder / name).is_file():
                raise TokenizerError(f"{folder}: no {name} is in it. {_HOW_TO}")
        try:
            import tokenizers
        except ImportError as error:
            raise TokenizerError(f"{folder}: reading it needs `pip install tokenizers`") from error
        try:
            settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
            scale, min_token = float(settings["scale"]), int(settings["min_token"])
        except (ValueError, KeyError, TypeError) as error:
            raise TokenizerError(f"{folder / SETTINGS}: needs the numbers scale and min_token ({error!r})") from error
        try:
            return ActionTokens(tokenizers.Tokenizer.from_file(str(folder / PIECES)), scale, min_token, folder)
        except Exception as error:  # the library raises Exception itself
            raise TokenizerError(f"{folder / PIECES}: not a tokenizer ({error})") from error

    @staticmethod
    def find(checkpoint: str | Path) -> ActionTokens:
        """Read the one that `locate` finds."""
        return ActionTokens.load(ActionTokens.locate(checkpoint))

    @staticmethod
    def locate(checkpoint: str | Path) -> Path:
        """The folder inside a checkpoint, else the one that PI0_ACTION_TOKENIZER names, else Hugging Face's cache's."""
        if (inside := Path(checkpoint) / FOLDER).is_dir():
            return inside
        if named := os.environ.get(VARIABLE):
            return expanded(named)
        snapshots = hub_cache().glob("models--physical-intelligence--fast/snapshots/*")
        if (cached := next(iter(sorted(snapshots)), None)) is None:
            raise TokenizerError(f"{checkpoint}: no {FOLDER}/ is in it, and none on this machine. {_HOW_TO}")
        return cached

    def encode(self, actions: np.ndarray) -> list[int]:
        """Return the tokens of a chunk [H, A] in model units; coefficients below the smallest are cut to it."""
        actions = np.asarray(actions)
        coefficients = np.around(cosine_basis(len(actions)) @ actions * self.scale)
        characters = np.maximum(coefficients.flatten() - self.min_token, 0).astype(int)
        return list(self._tokenizer.encode("".join(map(chr, characters))).ids)

    def decode(self, tokens: Sequence[int], horizon: int, dim: int) -> np.ndarray:
        """Return the chunk float32 [H, A]; NoActionsError when the tokens do not spell H x A coefficients."""
        text = self._tokenizer.decode(list(tokens), skip_special_tokens=False) if min(tokens, default=0) >= 0 else ""
        if len(text) != horizon * dim:
            raise NoActionsError(f"{len(tokens)} action tokens spell {len(text)} numbers, not {horizon} x {dim}")
        coefficients = (np.array([ord(character) for character in text]) + self.min_token).reshape(horizon, dim)
        return (cosine_basis(horizon).T @ (coefficients / self.scale)).astype(np.float32)


@dataclass(frozen=True)
class ActionCodec:
    """Both tokenizers of pi0-FAST: the words around the actions, and the actions themselves."""

    words: Tokenizer
    actions: ActionTokens
    strict: bool = False  # an answer without actions is an error, not zeros: zeros are the middle of a joint's range

    def decode(self, written: np.ndarray, horizon: int, dim: int) -> np.ndarray:
        """Return the chunk float32 [H, A] in what the model wrote, int64 [T].

        An answer without one gives zeros and a warning, as in openpi, or NoActionsError if `strict`.
        """
        try:
            tokens = self.words.decode_action_answer(written)
            if tokens is None:
                raise NoActionsError(f"the model wrote no actions but {self.words.decode(written)!r}")
            return self.actions.decode(tokens, horizon, dim)
        except NoActionsError as error:
            if self.strict:
                raise
            logger.warning("%s: zeros instead", error)
            return np.zeros((horizon, dim), np.float32)
