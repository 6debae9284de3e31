"""pi0-FAST as a policy: a checkpoint with its action tokenizer, an answer in words, a chunk in robot units."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import hugging_face
import numpy as np
import pytest
import torch
from policy_fixtures import TOKENIZER, observation, tiny_config, tiny_robot, tiny_stats

from pi0_ros.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from pi0_ros.checkpoints.settings import PolicySettings
from pi0_ros.model.fast import Pi0Fast
from pi0_ros.policy.policy import Policy
from pi0_ros.policy.transforms import actions_from_model
from pi0_ros.tokens.action_tokens import NoActionsError

ROBOT = tiny_robot()
JOINTS, HORIZON = len(ROBOT.joint_names), 5


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    config = replace(
        tiny_config(), model="pi0_fast", expert=None, action_dim=JOINTS, action_horizon=HORIZON,
        max_token_len=120, discrete_state_input=True,
    )  # fmt: skip
    chunks = np.random.default_rng(0).normal(size=(100, HORIZON, JOINTS)) * 0.3
    hugging_face.fit_action_tokenizer(tmp_path / "fitted", chunks, vocab_size=300)
    torch.manual_seed(0)
    folder = save_checkpoint(
        tmp_path / "fast", Pi0Fast(config), config, PolicySettings("quantile", "quantile", fps=20.0), ROBOT,
        tiny_stats(JOINTS), TOKENIZER,
        write_more=lambda partial: shutil.copytree(tmp_path / "fitted", partial / "action_tokenizer"),
    )  # fmt: skip
    return Policy(load_checkpoint(folder))


def test_an_answer_becomes_a_chunk(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = policy.checkpoint.model, observation(ROBOT)
    assert isinstance(model, Pi0Fast)
    assert model.codec is not None
    words, actions = model.codec.words, model.codec.actions
    kept = next(  # words whose tokens survive being read again
        chunk
        for chunk in np.random.default_rng(1).normal(size=(2000, HORIZON, JOINTS)) * 0.3
        if (tokens := actions.encode(chunk)) and words.decode_action_answer(_answer(policy, tokens)) == tokens
    )
    written = torch.from_numpy(_answer(policy, actions.encode(kept)))[None]
    monkeypatch.setattr(model, "sample_tokens", lambda inputs: written)
    chunk = policy.infer(seen)
    decoded = torch.from_numpy(actions.decode(actions.encode(kept), HORIZON, JOINTS))[None]
    np.testing.assert_allclose(chunk.actions, actions_from_model(policy.spec, decoded, seen.state[None])[0])
    assert np.abs(decoded[0].numpy() - kept).max() < 0.15  # half a step of each coefficient


def _answer(policy: Policy, tokens: list[int]) -> np.ndarray:
    assert isinstance(policy.checkpoint.model, Pi0Fast) and policy.checkpoint.model.codec is not None
    config = replace(policy.spec.config, max_token_len=200)
    words = policy.checkpoint.model.codec.words
    encoded, _, answer = words.encode_action_answer(config, "x", [0.0], tokens)
    return encoded[answer]


def test_nonsense_is_no_chunk(policy: Policy) -> None:
    """Zeros would send every joint to the middle of its range."""
    policy.warm_up()
    with pytest.raises(NoActionsError, match="the model wrote no actions"):
        policy.infer(observation(ROBOT))
