"""Text to token ids and back, by a SentencePiece model or by a Hugging Face tokenizer.json; and where to find one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import sentencepiece

from pi0_ros.base.disk import expanded
from pi0_ros.base.errors import InputError

VARIABLE = "PI0_TOKENIZER"  # environment variable that names a tokenizer for checkpoints that carry none
SENTENCEPIECE, HUGGING_FACE = "tokenizer.model", "tokenizer.json"
_LFS = b"version https://git-lfs"
TOKENIZER_URL = "https://storage.googleapis.com/big_vision/paligemma_tokenizer.model"
_HOW_TO = f"""pi0 and pi0.5 read PaliGemma's tokenizer, which many checkpoints leave out. Get it in one of two ways:
  1. curl -O {TOKENIZER_URL}
     (the public file gs://big_vision/paligemma_tokenizer.model, 4 MB)
  2. accept the licence on https://huggingface.co/google/paligemma-3b-pt-224 (a gated repository), then
     `hf auth login` and `hf download google/paligemma-3b-pt-224 {SENTENCEPIECE}`, which is found without more ado
Put the file into the checkpoint folder as {SENTENCEPIECE}, or name it: `tokenizer:=/path/to/the.model` (policy node),
`--tokenizer` (pi0 serve, pi0 doctor), or for all of them {VARIABLE}=/path/to/the.model in the environment"""


class TokenizerError(InputError):
    """A tokenizer file or prompt that cannot be used."""


class Pieces(Protocol):
    """What either kind of tokenizer can do."""

    vocab_size: int  # ids are below it, apart from tokens that a Hugging Face folder adds behind it
    bos: int
    eos: int
    silent: frozenset[int]  # ids without text: padding, beginning, end

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, without beginning and end marks."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of ids below `vocab_size` that are not `silent`."""


class SentencePieces:
    """PaliGemma's own format."""

    def __init__(self, processor: sentencepiece.SentencePieceProcessor) -> None:
        self._processor = processor
        self.vocab_size = int(processor.vocab_size())
        self.bos, self.eos = int(processor.bos_id()), int(processor.eos_id())
        self.silent = frozenset({self.bos, self.eos, int(processor.pad_id())})

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`."""
        return list(self._processor.encode(text))

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of `tokens`."""
        return str(self._processor.decode(list(tokens)))


class HuggingFacePieces:
    """A tokenizer.json as the Hugging Face libraries write it; their library `tokenizers` reads it."""

    def __init__(self, tokenizer: Any, path: Path) -> None:
        # A tokenizer that was saved after use, as LeRobot's trainer does it, would still cut and pad.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self.vocab_size = int(tokenizer.get_vocab_size(with_added_tokens=False))
        ids = {name: tokenizer.token_to_id(name) for name in ("<bos>", "<eos>", "<pad>")}
        if missing := [name for name, token in ids.items() if token is None]:
            raise TokenizerError(f"{path}: no token {', '.join(missing)}, so it is not PaliGemma's tokenizer")
        self.bos, self.eos = ids["<bos>"], ids["<eos>"]
        self.silent = frozenset(ids.values())

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of `tokens`; a token that is marked special keeps its text."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=False))


def load_pieces(path: Path) -> Pieces:
    """Read a SentencePiece model, a tokenizer.json, or the folder that holds either (the SentencePiece model first).

    TokenizerError names the file and what is wrong with it; where there is none, how to get it.
    """
    path = file_of(path)
    with path.open("rb") as file:
        head = file.read(len(_LFS))
    if head == _LFS:
        raise TokenizerError(f"{path}: a git-lfs pointer, not the tokenizer itself; fetch it with `git lfs pull`")
    return _hugging_face(path) if path.suffix == ".json" else _sentence_piece(path)


def file_of(path: Path) -> Path:
    """Return the tokenizer's file: `path` itself, or the one in it; TokenizerError where there is none."""
    found = file_in(path) if path.is_dir() else path
    if found is None:
        raise TokenizerError(f"{path}: neither {SENTENCEPIECE} nor {HUGGING_FACE} is in it. {_HOW_TO}")
    if not found.is_file():
        raise TokenizerError(f"{path}: there is no such tokenizer file. {_HOW_TO}")
    return found


def file_in(folder: Path) -> Path | None:
    """Return the tokenizer that `folder`, or its folder `tokenizer` (LeRobot), carries."""
    candidates = [inside / name for inside in (folder, folder / "tokenizer") for name in (SENTENCEPIECE, HUGGING_FACE)]
    return next((path for path in candidates if path.is_file()), None)


def file_on_this_machine() -> Path:
    """Return PaliGemma's tokenizer from where people have it: PI0_TOKENIZER, openpi's cache, Hugging Face's cache.

    TokenizerError says how to get it when it is in none of them. Nothing is downloaded.
    """
    if named := os.environ.get(VARIABLE):
        return expanded(named)
    openpi = expanded(os.environ.get("OPENPI_DATA_HOME") or "~/.cache/openpi")
    candidates = [openpi / "big_vision" / "paligemma_tokenizer.model"]
    for name in (SENTENCEPIECE, HUGGING_FACE):
        candidates += sorted(hub_cache().glob(f"models--google--paligemma-3b-*/snapshots/*/{name}"))
    if (found := next((path for path in candidates if path.is_file()), None)) is None:
        raise TokenizerError(f"no tokenizer in the checkpoint, and none on this machine. {_HOW_TO}")
    return found


def hub_cache() -> Path:
    """Return the folder in which the Hugging Face libraries keep what they downloaded."""
    home = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    return expanded(os.environ.get("HF_HUB_CACHE") or f"{home}/hub")


def _sentence_piece(path: Path) -> Pieces:
    try:
        return SentencePieces(sentencepiece.SentencePieceProcessor(model_file=str(path)))
    except (RuntimeError, OSError) as error:
        with path.open("rb") as file:
            head = file.read(60)
        text = f", but text that begins with {head.decode()!r}" if head.isascii() and head.split() else f" ({error})"
        raise TokenizerError(f"{path}: not a SentencePiece model{text}") from error


def _hugging_face(path: Path) -> Pieces:
    try:
        import tokenizers
    except ImportError as error:
        raise TokenizerError(f"{path}: reading it needs `pip install tokenizers`") from error
    try:
        return HuggingFacePieces(tokenizers.Tokenizer.from_file(str(path)), path)
    except TokenizerError:
        raise
    except Exception as error:  # the library raises Exception itself
        raise TokenizerError(f"{path}: not a tokenizer of the Hugging Face kind ({error})") from error
