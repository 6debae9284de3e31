"""pi0-FAST learns to write its actions, and what a training config says about a flow is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import hugging_face
import numpy as np
import pytest
import reference
import torch
from synthetic import make_data, make_source
from test_loop import recipe

from pi0_ros.checkpoints.checkpoint import load_checkpoint
from pi0_ros.model.fast import Pi0Fast
from pi0_ros.policy.transforms import actions_to_model
from pi0_ros.tokens.action_tokens import VARIABLE
from pi0_ros.tokens.tokenizer import Tokenizer
from pi0_ros.training import loop
from pi0_ros.training.loader import Augmentation, chunk_rows
from pi0_ros.training.plan import PeakMemory, measure, typical
from pi0_ros.training.progress_file import read_progress
from pi0_ros.training.recipe import Recipe, RecipeError
from pi0_ros.training.run import Run, prepare
from pi0_ros.training.weights import ever_learning

MODEL = reference.ROOT / "tokenizer" / "tiny.model"
STAGE = {"name": "write", "steps": 30, "batch": 16, "lr": 1e-2, "warmup": 2, "ema": 0.5}
SIZES = {
    "vocab_size": 512,
    "vlm": {"width": 32, "depth": 2, "mlp_dim": 48, "num_heads": 2, "num_kv_heads": 1, "head_dim": 16},
    "vision": {"width": 32, "depth": 1, "mlp_dim": 48, "num_heads": 2, "patch_size": 8, "image_size": 24},
    "action_dim": 6,
    "action_horizon": 6,
    "max_token_len": 140,
    "cameras": ["base_0_rgb", "left_wrist_0_rgb"],
}


@pytest.fixture(autouse=True)
def action_tokenizer(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    chunks = np.clip(np.random.default_rng(0).normal(size=(200, 1, 6)) * 0.5 + np.zeros((200, 6, 6)), -1, 1)
    folder = hugging_face.fit_action_tokenizer(tmp_path_factory.mktemp("fast"), chunks, scale=4)
    monkeypatch.setenv(VARIABLE, str(folder))


def fast(stage: dict[str, Any] = STAGE, **changes: Any) -> Recipe:
    sizes = {**SIZES, **changes.pop("sizes", {})}
    return recipe([stage], **{"model": "pi0_fast", "tokenizer": str(MODEL), "model_overrides": sizes, **changes})


def made(tmp_path: Path, wanted: Recipe) -> Run:
    return prepare([make_source(make_data(6, length=15))], wanted, tmp_path, {}, {})


def test_the_answer_is_the_chunk_and_the_loss_is_the_model_s(tmp_path: Path) -> None:
    run = made(tmp_path, fast())
    rows = np.array([0, 20, 33, 46])
    batch, counts = loop.draw_batch(run, run.recipe.stages[0], rows, Augmentation(), np.random.default_rng(0))
    part, tokens = run.mixture.parts[0], run.mixture.tokens
    assert batch.actions is None and batch.answer is not None and tokens is not None and counts.flow == 4
    state = part.data.state[rows].astype(np.float64)
    chunks = actions_to_model(part.spec, part.data.action[chunk_rows(part.data, rows, 6)], state).numpy()
    for place, row in enumerate(rows):
        prompt = part.data.prompts_of(np.array([row]))[0]
        asked, _ = part.spec.tokenizer.encode_prompt(part.spec.config, prompt, batch.inputs.state[place, :6].numpy())
        question = int((~batch.answer[place] & batch.inputs.prompt_mask[place]).sum())
        assert batch.inputs.prompt_tokens[place][:question].tolist() == asked[:question].tolist()
        written = batch.inputs.prompt_tokens[place][batch.answer[place]].tolist()
        actions = tokens.encode(chunks[place])
        mirrored = [part.spec.tokenizer.vocab_size - 1 - 128 - token for token in actions]
        assert str(mirrored)[1:-1] in str(written) and len(written) > len(mirrored)
    learner = loop.new_learner(run)
    assert isinstance(learner.model, Pi0Fast)
    whole = learner(batch)
    terms = loop.loss_terms(run, run.recipe.stages[0], whole, counts)
    assert torch.allclose(terms["tokens"], learner.model.loss(batch.inputs, batch.answer, "mean"))
    assert torch.allclose(loop.total_loss(run.recipe.stages[0], terms), terms["tokens"])
    parts = sum(learner(part).flow for part in batch.parts(3))
    assert torch.allclose(parts, whole.flow, rtol=1e-5)


def test_the_plan_is_within_a_tenth_of_what_a_real_step_holds(tmp_path: Path) -> None:
    run = made(tmp_path, fast({**STAGE, "micro_batch": 8}, sizes={"vocab_size": 4096}))
    stage, lengths = run.recipe.stages[0], typical(run)
    sampler = loop.stage_sampler(run, 0)
    with PeakMemory() as memory:
        learner = loop.new_learner(run)
        learning = ever_learning(learner, run.recipe, run.spec.config.cached_depth)
        average = loop.Average(learning)
        optimizer = loop.new_optimizer(learner, stage, run.recipe, run.spec.config.cached_depth)
        for step in range(2):
            loop.train_step(run, stage, step, sampler, learner, optimizer, average, tmp_path)
    assert measure(run.recipe, run.spec.config, lengths, run.autocast).total == pytest.approx(memory.peak, rel=0.1)
    batch, _ = loop.training_batch(run, stage, sampler, 0, slice(None))
    assert batch.answer is not None
    assert lengths.text == pytest.approx(batch.inputs.prompt_tokens.shape[1], abs=8)
    assert lengths.answer == pytest.approx(batch.answer.sum(1).float().mean(), abs=4)


def test_a_prompt_is_tokenised_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, asked = made(tmp_path, fast()), []

    def counted(self: Tokenizer, config: Any, prompt: str, *more: Any, **options: Any) -> Any:
        asked.append(prompt)
        return plain[len(more) > 1](self, config, prompt, *more, **options)

    plain = (Tokenizer.encode_prompt, Tokenizer.encode_action_answer)
    monkeypatch.setattr(Tokenizer, "encode_prompt", counted)
    monkeypatch.setattr(Tokenizer, "encode_action_answer", counted)
    loop.draw_batch(run, run.recipe.stages[0], np.arange(5), Augmentation(), np.random.default_rng(0))
    assert len(asked) == 5


def test_it_learns_to_write_and_is_deployed_with_its_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_source(make_data(6, length=15))
    folder = loop.train_on([source], fast(), tmp_path / "run")
    rows = read_progress(tmp_path / "run" / "progress.csv")
    assert rows[-1]["tokens"] < 0.5 * rows[0]["tokens"] and np.isfinite(rows[-1]["val_tokens"])
    monkeypatch.delenv(VARIABLE)
    checkpoint = load_checkpoint(folder)
    assert isinstance(checkpoint.model, Pi0Fast) and checkpoint.model.codec is not None
    again = loop.train_on(
        [source], replace(fast({**STAGE, "steps": 2}), init=str(folder), model_overrides={}, tokenizer=None),
        tmp_path / "on",
    )  # fmt: skip
    assert load_checkpoint(again).spec.config == checkpoint.spec.config


@pytest.mark.parametrize("trainable", ["frozen_vision", "lora"])
def test_what_is_frozen_stays(tmp_path: Path, trainable: str) -> None:
    run = made(tmp_path, fast({**STAGE, "trainable": trainable, "steps": 2}))
    learner = loop.new_learner(run)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    optimizer = loop.new_optimizer(learner, run.recipe.stages[0], run.recipe, run.spec.config.cached_depth)
    average = loop.Average(loop.ever_learning(learner, run.recipe, run.spec.config.cached_depth), enabled=False)
    sampler = loop.stage_sampler(run, 0)
    loop.train_step(run, run.recipe.stages[0], 1, sampler, learner, optimizer, average, tmp_path)
    changed = {name for name, value in learner.state_dict().items() if not torch.equal(value, before[name])}
    frozen = ("model.vision.",) if trainable == "frozen_vision" else ("model.embedding.",)
    assert changed and not any(name.startswith(frozen) for name in changed)
    last = f"model.vlm.layers.{run.spec.config.vlm.depth - 1}.mlp."
    assert any(name.startswith(last) for name in changed)  # beside an expert nobody would read it


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"rtc_max_delay": 2}, "rtc_max_delay"),
        ({"noise_scale": 0.0}, "noise_scale"),
        ({"loss_dims": "robot"}, "loss_dims"),
        ({"tokenizer": None}, "tokenizer"),
        ({"sizes": {"action_dim": 8}}, "action_dim: 6"),
        ({"sizes": {"max_token_len": 30}}, "max_token_len: 60"),
        ({"stage": {**STAGE, "draws": 2}}, "draws"),
        ({"stage": {**STAGE, "gripper": 2.0}}, "gripper"),
        ({"stage": {**STAGE, "state_noise": 0.1}}, "state_noise"),
        ({"stage": {**STAGE, "trainable": "expert_only"}}, "no action expert"),
        ({"stage": {**STAGE, "flow": 0, "auxiliary": {"grounding": 1}}}, "auxiliary"),
    ],
)
def test_what_means_nothing_to_it_is_refused(tmp_path: Path, changes: dict[str, Any], key: str) -> None:
    with pytest.raises(RecipeError, match=key):
        made(tmp_path, fast(**changes))
