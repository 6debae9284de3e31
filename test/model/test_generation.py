"""Text from the language model: logits of an independent Gemma, the rules of the references, and when it ends."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from gemma_oracle import Oracle, small_input

from pi0_ros.model.config import Expert, ModelConfig, Vision
from pi0_ros.model.generation import EOS
from pi0_ros.model.paligemma import PaliGemma
from pi0_ros.model.pi0 import Pi0

SIZES = {"depth": 3, "num_heads": 4, "num_kv_heads": 1, "head_dim": 8}
CONFIG = ModelConfig(
    model="pi05",
    vocab_size=64,
    vlm=Expert(width=24, mlp_dim=40, **SIZES),
    expert=Expert(width=16, mlp_dim=24, **SIZES),
    vision=Vision(width=16, depth=1, mlp_dim=24, num_heads=2, patch_size=8, image_size=16),
    action_dim=4,
    action_horizon=3,
    max_token_len=9,
    cameras=("base_0_rgb", "left_wrist_0_rgb"),
    discrete_state_input=True,
)


def random_model(seed: int, config: ModelConfig = CONFIG) -> Pi0:
    torch.manual_seed(seed)
    model = Pi0(config).eval()
    for parameter in model.vlm.parameters():  # norms too
        parameter.data += torch.randn_like(parameter) * 0.2
    return model


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The logits of every token that is written."""
    seen: list[torch.Tensor] = []
    plain = PaliGemma.logits

    def record(self: PaliGemma, hidden: torch.Tensor) -> torch.Tensor:
        seen.append(plain(self, hidden))
        return seen[-1]

    monkeypatch.setattr(PaliGemma, "logits", record)
    return seen


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_logits_and_tokens_of_an_independent_gemma(seed, temperature, recorded):
    """Cached, batched and with padding inside, against one row at a time, recomputed in full at every token."""
    model = random_model(seed)
    inputs = small_input(CONFIG, 3, seed)
    generator = torch.Generator().manual_seed(seed)
    tokens = model.generate_text(inputs, 8, temperature, generator, eos=-1)
    assert tokens.shape == (3, 8)
    assert len({*tokens.flatten().tolist()}) > 3
    oracle = Oracle(model)
    for row in range(3):
        wanted = oracle.logits(inputs, tokens[row, :-1], row, first_causal=0)[-8:]
        actual = torch.stack([step[row] for step in recorded])
        assert (actual - wanted).abs().max().item() <= 1e-4
        if temperature == 0:
            assert torch.equal(tokens[row], wanted.argmax(-1))


def test_each_row_ends_by_itself():
    model, inputs = random_model(2), small_input(CONFIG, 4, 2)
    plain = model.generate_text(inputs, 12, eos=-1)
    eos = int(plain[0, 1])
    tokens = model.generate_text(inputs, 12, eos=eos)
    ends = [row.tolist().index(eos) + 1 if eos in row else 12 for row in plain]
    assert min(ends) <= 2
    assert tokens.shape[1] == max(ends)
    for row, end in enumerate(ends):
        assert torch.equal(tokens[row, :end], plain[row, :end])
        assert not tokens[row, end:].any()


def test_it_stops_when_all_have_ended(recorded):
    model, inputs = random_model(3), small_input(CONFIG, 1, 3)
    model.embedding.weight.data[EOS] = model.embedding.weight.data.sum(0) * 0
    first = int(model.generate_text(inputs, 1)[0, 0])
    recorded.clear()
    assert model.generate_text(inputs, 50, eos=first).tolist() == [[first]]
    assert len(recorded) == 1


def test_equal_generators_draw_equal_texts():
    model, inputs = random_model(4), small_input(CONFIG, 2, 4)
    one, two, other = (
        model.generate_text(inputs, 10, 1.0, torch.Generator().manual_seed(seed), eos=-1) for seed in (5, 5, 6)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_a_missing_camera_and_padding_have_no_influence():
    model, inputs = random_model(5), small_input(CONFIG, 2, 5)
    slot = CONFIG.cameras[1]
    spoiled = inputs.images[slot].clone()
    spoiled[0] = float("nan")
    padding = torch.where(inputs.prompt_mask, inputs.prompt_tokens, 7)
    other = replace(inputs, images=inputs.images | {slot: spoiled}, prompt_tokens=padding)
    assert torch.equal(model.generate_text(inputs, 6, eos=-1), model.generate_text(other, 6, eos=-1))


def test_bfloat16_writes_too():
    model, inputs = random_model(6, replace(CONFIG, dtype="bfloat16")), small_input(CONFIG, 2, 6)
    assert model.generate_text(inputs, 4, eos=-1).shape == (2, 4)


def test_at_least_one_token():
    with pytest.raises(ValueError, match="max_new_tokens must be at least 1"):
        random_model(0).generate_text(small_input(CONFIG, 1, 0), 0)
