"""Prompt tokens, token for token as the references make them, by both kinds of tokenizer file."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import hugging_face
import numpy as np
import pytest
import reference
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pi0_ros.model.config import ModelConfig
from pi0_ros.tokens.prompts import state_bins, subtask_text
from pi0_ros.tokens.subwords import TokenizerError
from pi0_ros.tokens.tokenizer import Tokenizer

MODEL = reference.ROOT / "tokenizer" / "tiny.model"
CASES = json.loads((reference.ROOT / "tokenizer" / "expected.json").read_text())
MODELS = {"pi0": "pi0", "pi05": "pi05", "pi05_no_state": "pi05", "lerobot_pi0": "pi0", "pi0_fast": "pi0_fast"}
BACKENDS = ("sentencepiece", "hugging_face")


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    folder = hugging_face.convert(MODEL, tmp_path_factory.mktemp("tokenizer"))
    return {"sentencepiece": Tokenizer.load(MODEL), "hugging_face": Tokenizer.load(folder)}


def config_of(case: dict) -> ModelConfig:
    name = case["format"]
    config = replace(reference.config("pi05"), max_token_len=case["max_len"], discrete_state_input=name == "pi05")
    return replace(config, model=MODELS[name], expert=None if name == "pi0_fast" else config.expert)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['format']}: {case['prompt'][:30]!r}")
def test_tokens(case, backend, tokenizers):
    tokenizer, config = tokenizers[backend], config_of(case)
    if case["format"] == "pi0_fast":
        tokens, mask, answer = tokenizer.encode_action_answer(
            config, case["prompt"], case["state"], case["fast_tokens"]
        )
        assert answer.tolist() == case["loss_mask"]
        assert answer.astype(int).tolist() == case["ar_mask"]
    else:
        prompt_format = "lerobot" if case["format"] == "lerobot_pi0" else "openpi"
        tokens, mask = tokenizer.encode_prompt(config, case["prompt"], case.get("state"), prompt_format=prompt_format)
    assert tokens.tolist() == case["tokens"]
    assert mask.tolist() == case["mask"]
    assert tokens.dtype == np.int64
    assert mask.dtype == bool
    if "bins" in case:
        assert state_bins(case["state"]) == [int(b) for b in np.asarray(case["bins"]).ravel()]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", [c for c in CASES if c["format"] == "pi0_fast"], ids=lambda c: c["prompt"][:10])
def test_the_question_of_pi0_fast_is_its_prompt_without_the_answer(case, backend, tokenizers):
    config, answer = config_of(case), np.array(case["loss_mask"])
    tokens, mask = tokenizers[backend].encode_prompt(config, case["prompt"], case["state"])
    assert tokens[mask].tolist() == np.array(case["tokens"])[np.array(case["mask"]) & ~answer].tolist()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("actions", "same"),
    [
        ([37, 38, 370, 30], True),
        ([], True),
        ([3, 0], False),  # reads as other tokens than were written: openpi's detour by text
    ],
)
def test_the_answer_of_pi0_fast_read_back(actions, same, backend, tokenizers):
    config = config_of({"format": "pi0_fast", "max_len": 80})
    tokens, _, answer = tokenizers[backend].encode_action_answer(config, "fold the towel", [0.5], actions)
    written = [*tokens[answer].tolist(), 0, 0]
    processor = sentencepiece.SentencePieceProcessor(model_file=str(MODEL))
    text = processor.decode(written).split("Action: ")[1].split("|")[0].strip()
    found = tokenizers[backend].decode_action_answer(written)
    assert found == [512 - 1 - 128 - i for i in processor.encode(text)]
    assert (found == actions) is same


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_answer_without_actions(backend, tokenizers):
    assert tokenizers[backend].decode_action_answer([344, 345, 1, 0, 0, 10**9]) is None


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
@example("two  spaces\n\nand lines")
@example("<unk> naïve ☕")
def test_both_kinds_of_file_agree_on_any_text(tokenizers, text):
    pieces = [tokenizer._pieces for tokenizer in tokenizers.values()]
    ids = [one.encode(text) for one in pieces]
    assert ids[0] == ids[1] or any(name in text for name in ("<pad>", "<eos>", "<bos>", "<unk>", "▁", "\x00"))
    assert pieces[0].decode(ids[0]) == pieces[1].decode(ids[0])


def test_the_hugging_face_library_gives_the_same_tokens(tokenizers, tmp_path):
    """LeRobot calls `AutoTokenizer` once, with its beginning mark and right padding."""
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(hugging_face.convert(MODEL, tmp_path))
    for case in (case for case in CASES if case["format"] == "lerobot_pi0"):
        text = case["prompt"] if case["prompt"].endswith("\n") else case["prompt"] + "\n"
        given = theirs(text, max_length=case["max_len"], truncation=True, padding="max_length", padding_side="right")
        assert given["input_ids"] == case["tokens"]
        assert [bool(m) for m in given["attention_mask"]] == case["mask"]


def test_a_tokenizer_that_was_saved_after_use_neither_cuts_nor_pads(tokenizers, tmp_path):
    """LeRobot's trainer saves it so: with the truncation and the padding of its last call in tokenizer.json."""
    transformers = pytest.importorskip("transformers")
    used = transformers.AutoTokenizer.from_pretrained(hugging_face.convert(MODEL, tmp_path))
    for length in (4, 40):
        used("fold the towel", max_length=length, truncation=True, padding="max_length", padding_side="right")
        used.save_pretrained(tmp_path / "saved")
        assert json.loads((tmp_path / "saved" / "tokenizer.json").read_text())["padding"] is not None
        for text in ("fold the towel", ""):
            saved = Tokenizer.load(tmp_path / "saved")._pieces.encode(text)
            assert saved == tokenizers["sentencepiece"]._pieces.encode(text)


def test_state_bins_at_the_edges():
    edges = [-1 + i / 128 for i in range(256)]
    assert state_bins(edges) == list(range(256))
    assert state_bins(np.nextafter(edges, -2)) == list(range(-1, 255))
    assert state_bins([-3.0, 0.0, 1.0, 7.0]) == [-1, 128, 255, 255]


def test_old_lerobot_wrote_the_padded_state(tokenizers):
    config = replace(reference.config("pi05"), max_token_len=200)
    encode = tokenizers["sentencepiece"].encode_prompt
    padded = encode(config, "fold the towel", [0.5, -0.5], pad_state_text=True)
    zeros = encode(config, "fold the towel", [0.5, -0.5] + [0.0] * (config.action_dim - 2))
    np.testing.assert_array_equal(padded, zeros)
    assert padded[1].sum() > encode(config, "fold the towel", [0.5, -0.5])[1].sum()


@pytest.mark.parametrize(
    ("task", "text"),
    [
        ("Fold_the Towel", "Task: fold the towel. Subtask: "),
        (" clean the kitchen!\n", "Task: clean the kitchen. Subtask: "),
        ("really?!", "Task: really?. Subtask: "),
        ("", "Task: . Subtask: "),
    ],
)
def test_the_question_for_a_subtask(task, text, tokenizers):
    assert subtask_text(task) == text
    for tokenizer in tokenizers.values():
        tokens, mask = tokenizer.encode_subtask_prompt(replace(reference.config("pi05"), max_token_len=40), task)
        assert tokens[0] == 2
        assert tokenizer.decode(tokens[mask]) == text


def test_a_cut_prompt_is_reported(caplog):
    config = replace(reference.config("pi0"), max_token_len=4)
    Tokenizer.load(MODEL).encode_prompt(config, "pick up the red block")
    assert "cut to max_token_len 4" in caplog.text


@pytest.mark.parametrize("model", ["pi05", "pi0_fast"])
def test_state_in_the_prompt_is_needed(model):
    config = config_of({"format": model, "max_len": 40})
    with pytest.raises(TokenizerError, match="no state was given"):
        Tokenizer.load(MODEL).encode_prompt(config, "fold the towel")


def test_lerobots_pi0_fast_is_another_one():
    config = config_of({"format": "pi0_fast", "max_len": 40})
    with pytest.raises(TokenizerError, match="LeRobot's pi0_fast"):
        Tokenizer.load(MODEL).encode_prompt(config, "fold the towel", [0.0], prompt_format="lerobot")


def test_tokenizer_of_another_model():
    config = replace(reference.config("pi0"), vocab_size=300)
    with pytest.raises(TokenizerError, match="this tokenizer of 512 pieces belongs to another model"):
        Tokenizer.load(MODEL).encode_prompt(config, "pick up the red block")


# --- files ------------------------------------------------------------------------------------------------------------


def test_not_a_tokenizer(tmp_path):
    path = tmp_path / "tokenizer.model"
    with pytest.raises(TokenizerError, match="there is no such tokenizer file"):
        Tokenizer.load(path)
    path.write_bytes(b"not a model")
    with pytest.raises(TokenizerError, match=r"tokenizer\.model: not a SentencePiece model, but text .*'not a model'"):
        Tokenizer.load(path)
    path.write_bytes(b"\x00\xff\xfe")
    with pytest.raises(TokenizerError, match=r"tokenizer\.model: not a SentencePiece model \("):
        Tokenizer.load(path)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:8986bb\nsize 4264023\n")
    with pytest.raises(TokenizerError, match="a git-lfs pointer.*git lfs pull"):
        Tokenizer.load(tmp_path)


def test_not_a_hugging_face_tokenizer(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(TokenizerError, match=r"tokenizer\.json: not a tokenizer of the Hugging Face kind"):
        Tokenizer.load(tmp_path)
    hugging_face.convert(MODEL, tmp_path)
    path.write_text(path.read_text().replace("<bos>", "<s>"))
    with pytest.raises(TokenizerError, match="no token <bos>, so it is not PaliGemma's tokenizer"):
        Tokenizer.load(path)


@pytest.mark.parametrize("place", [".", "tokenizer"])
def test_a_checkpoint_that_ships_one(place, tmp_path):
    assert Tokenizer.shipped(tmp_path) is None
    (tmp_path / place).mkdir(exist_ok=True)
    shutil.copy(MODEL, tmp_path / place / "tokenizer.model")
    shipped = Tokenizer.shipped(tmp_path)
    assert shipped is not None
    assert shipped.vocab_size == 512


@pytest.mark.parametrize(
    ("variable", "path"),
    [
        ("PI0_TOKENIZER", "any.model"),
        ("OPENPI_DATA_HOME", "big_vision/paligemma_tokenizer.model"),
        ("HF_HOME", "hub/models--google--paligemma-3b-pt-224/snapshots/1f2/tokenizer.model"),
        ("HF_HUB_CACHE", "models--google--paligemma-3b-mix-224/snapshots/1f2/tokenizer.model"),
        ("HOME", ".cache/openpi/big_vision/paligemma_tokenizer.model"),
    ],
)
def test_one_that_lies_on_this_machine(variable, path, tmp_path, monkeypatch):
    for name in ("PI0_TOKENIZER", "OPENPI_DATA_HOME", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "empty"))
    for words in (
        "paligemma_tokenizer.model",
        "google/paligemma-3b-pt-224",
        "hf auth login",
        "PI0_TOKENIZER=",
        "--tokenizer",
    ):
        with pytest.raises(TokenizerError, match=words):
            Tokenizer.installed()
    file = tmp_path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(MODEL, file)
    monkeypatch.setenv(variable, str(file if variable == "PI0_TOKENIZER" else tmp_path))
    assert Tokenizer.installed().vocab_size == 512


def test_a_named_one_that_is_not_there(monkeypatch):
    monkeypatch.setenv("PI0_TOKENIZER", "/no/such.model")
    with pytest.raises(TokenizerError, match=r"^/no/such\.model: there is no such tokenizer file"):
        Tokenizer.installed()
