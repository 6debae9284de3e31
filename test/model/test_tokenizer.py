"""Prompt tokens, byte for byte as the reference makes them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import reference

from pi0_ros.model import Tokenizer, TokenizerError
from pi0_ros.model.tokenizer import state_bins

MODEL = reference.ROOT / "tokenizer" / "tiny.model"
FORMATS = {"pi0": ("pi0", False), "pi05": ("pi05", True), "pi05_no_state": ("pi05", False)}
CASES = [
    case
    for case in json.loads((reference.ROOT / "tokenizer" / "expected.json").read_text())
    if case["format"] in FORMATS
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['format']}: {case['prompt'][:30]!r}")
def test_tokens(case):
    model, discrete = FORMATS[case["format"]]
    config = replace(reference.config(model), max_token_len=case["max_len"], discrete_state_input=discrete)
    tokens, mask = Tokenizer.load(MODEL).encode_prompt(config, case["prompt"], case.get("state"))
    assert tokens.tolist() == case["tokens"]
    assert mask.tolist() == case["mask"]
    assert tokens.dtype == np.int64
    assert mask.dtype == bool
    if "bins" in case:
        assert state_bins(case["state"]) == [int(b) for b in np.asarray(case["bins"]).ravel()]


def test_state_bins_at_the_edges():
    edges = [-1 + i / 128 for i in range(256)]
    assert state_bins(edges) == list(range(256))
    assert state_bins(np.nextafter(edges, -2)) == list(range(-1, 255))
    assert state_bins([-3.0, 0.0, 1.0, 7.0]) == [-1, 128, 255, 255]


def test_a_cut_prompt_is_reported(caplog):
    config = replace(reference.config("pi0"), max_token_len=4)
    Tokenizer.load(MODEL).encode_prompt(config, "pick up the red block")
    assert "cut to max_token_len 4" in caplog.text


def test_state_in_the_prompt_is_needed():
    with pytest.raises(TokenizerError, match="no state was given"):
        Tokenizer.load(MODEL).encode_prompt(reference.config("pi05"), "fold the towel")


def test_not_a_tokenizer(tmp_path):
    path = tmp_path / "tokenizer.model"
    with pytest.raises(TokenizerError, match="there is no such tokenizer file"):
        Tokenizer.load(path)
    path.write_bytes(b"not a model")
    with pytest.raises(TokenizerError, match=r"tokenizer\.model: not a SentencePiece model"):
        Tokenizer.load(path)


def test_tokenizer_of_another_model():
    config = replace(reference.config("pi0"), vocab_size=300)
    with pytest.raises(TokenizerError, match="this tokenizer of 512 pieces belongs to another model"):
        Tokenizer.load(MODEL).encode_prompt(config, "pick up the red block")
