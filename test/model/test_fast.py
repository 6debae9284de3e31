"""pi0-FAST: action tokens, loss and decoding, against an independent Gemma and the definition of its tokenizer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import hugging_face
import numpy as np
import pytest
import reference
import torch
import torch.nn.functional as F
from gemma_oracle import Oracle, small_input
from test_generation import CONFIG as PI05

from pi0_ros.checkpoints.weights import named_weights
from pi0_ros.model.config import ConfigError, ModelConfig
from pi0_ros.model.fast import Pi0Fast, build_model
from pi0_ros.model.pi0 import Pi0
from pi0_ros.tokens.action_tokens import ActionCodec, ActionTokens, NoActionsError, cosine_basis
from pi0_ros.tokens.subwords import TokenizerError
from pi0_ros.tokens.tokenizer import Tokenizer

MODEL = reference.ROOT / "tokenizer" / "tiny.model"
CONFIG = replace(PI05, model="pi0_fast", expert=None, max_token_len=14, cameras=("base_0_rgb", "base_1_rgb"))


def random_model(seed: int) -> Pi0Fast:
    torch.manual_seed(seed)
    model = Pi0Fast(CONFIG).eval()
    for parameter in model.vlm.parameters():
        parameter.data += torch.randn_like(parameter) * 0.2
    return model


@pytest.fixture(scope="module")
def action_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hugging_face.fit_action_tokenizer(tmp_path_factory.mktemp("fast"), smooth_chunks(200))


def smooth_chunks(count: int, horizon: int = 8, dim: int = 3) -> np.ndarray:
    random = np.random.default_rng(0)
    steps = random.normal(size=(count, horizon, dim)) * 0.15
    return np.clip(random.uniform(-0.5, 0.5, (count, 1, dim)) + steps.cumsum(1), -1, 1)


# --- network ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_written_tokens_are_those_of_an_independent_gemma(seed):
    """The question is read in both directions, and written tokens stand one position too far, as in openpi."""
    model, inputs = random_model(seed), small_input(CONFIG, 3, seed, masked=False)
    tokens = model.sample_tokens(inputs, 8)
    oracle = Oracle(model)
    for row in range(3):
        end = (tokens[row].tolist() + [1]).index(1)
        wanted = oracle.logits(inputs, tokens[row, :end], row, first_causal=CONFIG.max_token_len, gap=1)
        assert torch.equal(tokens[row, :end], wanted[-end - 1 : -1].argmax(-1))


def test_loss_is_that_of_an_independent_gemma():
    model, inputs = random_model(2), small_input(CONFIG, 3, 2)
    lengths = inputs.prompt_mask.sum(1)
    answer = inputs.prompt_mask & (torch.arange(CONFIG.max_token_len) >= (lengths // 2).clamp(min=1)[:, None])
    answer[2] = False  # a question without an answer costs nothing
    loss, oracle = model.loss(inputs, answer), Oracle(model)
    logits = model.answer_logits(inputs, answer).split(answer.sum(1).tolist())
    for row in range(3):
        if not answer[row].any():
            assert loss[row] == 0
            continue
        first = int(answer[row].int().argmax())
        given = inputs.prompt_tokens[row, answer[row]]
        wanted = oracle.logits(inputs, given[:0], row, first, all_positions=True)
        wanted = wanted[-CONFIG.max_token_len :][first - 1 : first - 1 + len(given)]
        assert (logits[row] - wanted).abs().max().item() <= 1e-4
        assert loss[row].item() == pytest.approx(F.cross_entropy(wanted, given).item(), abs=1e-5)
    assert model.loss(inputs, answer, "mean").item() == pytest.approx(loss.mean().item())


def test_the_loss_reaches_every_parameter():
    model, inputs = random_model(3), small_input(CONFIG, 2, 3)
    model.loss(inputs, inputs.prompt_mask & (torch.arange(CONFIG.max_token_len) > 0), "mean").backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_parameters_are_the_language_part_of_pi0():
    fast, pi0 = named_weights(build_model(CONFIG)), named_weights(build_model(PI05))
    assert {name: p.shape for name, p in fast.items()}.items() <= {name: p.shape for name, p in pi0.items()}.items()
    assert all(".paligemma." in name for name in fast)


def test_a_config_builds_its_own_kind_of_model():
    assert type(build_model(CONFIG)) is Pi0Fast
    assert type(build_model(PI05)) is Pi0
    with pytest.raises(ConfigError, match="Pi0Fast cannot be a pi05 model"):
        Pi0Fast(PI05)
    with pytest.raises(ConfigError, match="a pi0_fast model has no action expert"):
        Pi0(CONFIG)


def test_full_size():
    with torch.device("meta"):
        model = Pi0Fast(ModelConfig.preset("pi0_fast"))
    assert sum(parameter.numel() for parameter in model.parameters()) == 2_923_335_408


# --- actions ----------------------------------------------------------------------------------------------------------


def test_the_model_writes_actions(action_folder, monkeypatch):
    """From what was written to a chunk: other rows' ends and rows without actions do not disturb it."""
    config = replace(CONFIG, vocab_size=512, max_token_len=60, action_horizon=8, action_dim=3)
    codec = ActionCodec(Tokenizer.load(MODEL), ActionTokens.load(action_folder))
    model = Pi0Fast(config, codec)
    chunk = np.zeros((8, 3))
    tokens, _, answer = codec.words.encode_action_answer(config, "fold it", [0.1], codec.actions.encode(chunk))
    written = torch.zeros(2, 20, dtype=torch.int64)
    written[0, : answer.sum()] = torch.from_numpy(tokens[answer])
    monkeypatch.setattr(model, "sample_tokens", lambda inputs: written)
    actions = model.sample_actions(small_input(config, 2, 0), noise=torch.zeros(2, 8, 3), num_steps=3)
    assert actions.dtype == torch.float32
    assert actions.shape == (2, 8, 3)
    np.testing.assert_array_equal(actions[1], 0)
    codec_tokens = codec.words.decode_action_answer(written[0].tolist())
    np.testing.assert_array_equal(actions[0], codec.actions.decode(codec_tokens, 8, 3))


def test_actions_need_an_action_tokenizer():
    with pytest.raises(ConfigError, match="no action tokenizer"):
        random_model(0).sample_actions(small_input(CONFIG, 1, 0))


def test_the_cosine_transform_is_scipys():
    fft = pytest.importorskip("scipy.fft")
    for length in (1, 2, 7, 32, 50):
        x = np.random.default_rng(length).normal(size=(length, 5))
        np.testing.assert_allclose(cosine_basis(length) @ x, fft.dct(x, axis=0, norm="ortho"), atol=1e-12)
        np.testing.assert_allclose(cosine_basis(length).T @ x, fft.idct(x, axis=0, norm="ortho"), atol=1e-12)


def test_actions_survive_their_tokens_up_to_rounding(action_folder):
    tokens = ActionTokens.load(action_folder)
    for chunk in smooth_chunks(20):
        encoded = tokens.encode(chunk)
        decoded = tokens.decode(encoded, 8, 3)
        assert len(encoded) < chunk.size
        assert decoded.dtype == np.float32
        # half a step of each of the 8 coefficients of a dimension, turned by an orthonormal basis
        assert np.linalg.norm(decoded - chunk, axis=0).max() <= 0.5 / tokens.scale * np.sqrt(8) + 1e-6


def test_the_tokens_are_those_of_the_definition(action_folder):
    """Frequencies one after the other, all dimensions of each, as characters from the smallest coefficient on."""
    tokenizers = pytest.importorskip("tokenizers")
    fft = pytest.importorskip("scipy.fft")
    library = tokenizers.Tokenizer.from_file(str(action_folder / "tokenizer.json"))
    settings = json.loads((action_folder / "processor_config.json").read_text())
    for chunk in smooth_chunks(5):
        numbers = np.around(fft.dct(chunk, axis=0, norm="ortho") * settings["scale"]).flatten() - settings["min_token"]
        text = "".join(chr(int(number)) for number in numbers)
        assert ActionTokens.load(action_folder).encode(chunk) == library.encode(text).ids


@pytest.mark.parametrize("tokens", [[], [0], [5] * 300, [-1, 3], [10**6]])
def test_tokens_of_the_wrong_length_are_zeros(tokens, action_folder, caplog, monkeypatch):
    """As in openpi; a robot is told instead."""
    codec = ActionCodec(Tokenizer.load(MODEL), ActionTokens.load(action_folder))
    monkeypatch.setattr(Tokenizer, "decode_action_answer", lambda self, written: tokens)
    decoded = codec.decode(np.zeros(5, np.int64), 8, 3)
    assert decoded.shape == (8, 3)
    assert not decoded.any()
    assert "not 8 x 3: zeros instead" in caplog.text
    with pytest.raises(NoActionsError, match="not 8 x 3"):
        replace(codec, strict=True).decode(np.zeros(5, np.int64), 8, 3)


def test_an_answer_without_actions_can_be_an_error(action_folder):
    codec = ActionCodec(Tokenizer.load(MODEL), ActionTokens.load(action_folder), strict=True)
    with pytest.raises(NoActionsError, match="the model wrote no actions but ' red block'"):
        codec.decode(np.array([344, 345, 1, 0]), 8, 3)


def test_coefficients_below_the_smallest_are_cut(action_folder):
    tokens = ActionTokens.load(action_folder)
    low = np.full((8, 3), -100.0)
    assert tokens.decode(tokens.encode(low), 8, 3).min() == pytest.approx(
        tokens.min_token / tokens.scale / np.sqrt(8), rel=1e-5
    )


# --- files ------------------------------------------------------------------------------------------------------------


def test_where_the_action_tokenizer_lies(action_folder, tmp_path, monkeypatch):
    for name in ("PI0_ACTION_TOKENIZER", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(TokenizerError, match="hf download physical-intelligence/fast"):
        ActionTokens.find(tmp_path)
    snapshots = tmp_path / "hub" / "models--physical-intelligence--fast" / "snapshots"
    snapshots.mkdir(parents=True)
    (snapshots / "1f2").symlink_to(action_folder)
    assert ActionTokens.find(tmp_path).scale == 10
    monkeypatch.setenv("PI0_ACTION_TOKENIZER", "/no/such/folder")
    with pytest.raises(TokenizerError, match=r"/no/such/folder: no tokenizer\.json"):
        ActionTokens.find(tmp_path)
    (tmp_path / "action_tokenizer").symlink_to(action_folder)
    assert ActionTokens.find(tmp_path).scale == 10


def test_a_broken_action_tokenizer(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(TokenizerError, match=r"no processor_config\.json is in it"):
        ActionTokens.load(tmp_path)
    (tmp_path / "processor_config.json").write_text('{"scale": 10}')
    with pytest.raises(TokenizerError, match=r"processor_config\.json: needs the numbers scale and min_token"):
        ActionTokens.load(tmp_path)
    (tmp_path / "processor_config.json").write_text('{"scale": 10, "min_token": -3}')
    with pytest.raises(TokenizerError, match=r"tokenizer\.json: not a tokenizer"):
        ActionTokens.load(tmp_path)
