"""A small SentencePiece vocabulary from a dataset's prompts, for policies trained from scratch.

Every word of the prompts is one piece; other words are spelled in letters, and what is no ASCII in bytes, so any
instruction can be written. Special ids are those of the PaliGemma tokenizer (pad 0, eos 1, bos 2, unknown 3), the
newline is one piece and there is no dummy prefix.
"""

from __future__ import annotations

import io
import string
from collections.abc import Iterable
from pathlib import Path

from pi0_ros.base.errors import InputError

SPACE = "\u2581"  # how SentencePiece writes a space
PRINTABLE = string.ascii_letters + string.digits + string.punctuation
SMALLEST = 256 + 4 + 1 + 1 + len(PRINTABLE)  # bytes, special pieces, newline, space, characters


def make_tokenizer(prompts: Iterable[str], path: Path, size: int) -> Path:
    """Write a SentencePiece model of at most `size` pieces to `path`; ValueError where the words do not fit in."""
    import sentencepiece

    texts = sorted(set(prompts))
    words = sorted({SPACE * (i > 0) + word for text in texts for i, word in enumerate(text.split())})
    if size < SMALLEST + len(words):
        raise InputError(
            f"vocab_size {size} is too small for the prompts' {len(words)} words: use {SMALLEST + len(words)} or more, "
            "or give `tokenizer`"
        )
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*texts, " ".join(PRINTABLE)]),
        model_writer=model,
        model_type="char",
        vocab_size=size,
        hard_vocab_limit=False,
        byte_fallback=True,
        character_coverage=1.0,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        split_digits=True,
        user_defined_symbols=["\n", *words],
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        minloglevel=2,
        num_threads=1,
    )
    path.write_bytes(model.getvalue())
    return path
