"""Tokenizer files of the Hugging Face kind, built the way Gemma's own and that of pi0-FAST's actions were."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import sentencepiece
from tokenizers import (
    AddedToken,
    ByteLevelBPETokenizer,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from pi0_ros.tokens.action_tokens import cosine_basis


def convert(sentencepiece_model: Path, folder: Path) -> Path:
    """Write a SentencePiece model as tokenizer.json and tokenizer_config.json into `folder` and return it."""
    processor = sentencepiece.SentencePieceProcessor(model_file=str(sentencepiece_model))
    pieces = [processor.id_to_piece(i) for i in range(processor.vocab_size())]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    merges = [
        (piece[:cut], piece[cut:])
        for piece in sorted(pieces, key=lambda piece: -processor.get_score(vocab[piece]))
        if not (processor.is_control(vocab[piece]) or processor.is_byte(vocab[piece]))
        for cut in range(1, len(piece))
        if piece[:cut] in vocab and piece[cut:] in vocab
    ]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(["<pad>", "<eos>", "<bos>", "<unk>"])
    tokenizer.add_tokens([AddedToken("\n", normalized=False)])
    tokenizer.post_processor = processors.TemplateProcessing("<bos> $A", special_tokens=[("<bos>", vocab["<bos>"])])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {f"{name}_token": f"<{name}>" for name in ("pad", "eos", "bos", "unk")}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def fit_action_tokenizer(folder: Path, chunks: np.ndarray, scale: float = 10, vocab_size: int = 400) -> Path:
    """Fit an action tokenizer to `chunks` [N, H, A] the way the public one was, and write its folder."""
    frequencies = np.around(np.stack([cosine_basis(chunks.shape[1]) @ chunk for chunk in chunks]) * scale).astype(int)
    low, high = int(frequencies.min()), int(frequencies.max())
    tokenizer = ByteLevelBPETokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        show_progress=False,
        special_tokens=[],
        initial_alphabet=[chr(i) for i in range(high - low + 1)],
        max_token_length=10000,
    )
    texts = ["".join(chr(int(c) - low) for c in chunk.flatten()) for chunk in frequencies]
    tokenizer._tokenizer.train_from_iterator(texts, trainer=trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer._tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"scale": scale, "min_token": low, "vocab_size": vocab_size, "action_dim": None, "time_horizon": None}
    (folder / "processor_config.json").write_text(json.dumps(settings))
    return folder
