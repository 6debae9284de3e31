"""Co-training of subtasks: the loss is that of the answer as inference would write it, and inference then writes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from synthetic import LABELS as TEXTS
from synthetic import OTHER, TINY, make_data, make_source, other_data
from synthetic import make_labelled as labelled
from test_loop import recipe

from pi0_ros.checkpoints.checkpoint import load_checkpoint
from pi0_ros.model.generation import causal_bias, prefix_positions
from pi0_ros.model.layers import Rotary
from pi0_ros.model.pi0 import Pi0
from pi0_ros.observation.streams import Observation
from pi0_ros.policy.subtask import write_subtask
from pi0_ros.training import loop
from pi0_ros.training.loader import Augmentation, TrainingData
from pi0_ros.training.mixture import Source
from pi0_ros.training.plan import PeakMemory, measure, typical
from pi0_ros.training.progress_file import read_progress
from pi0_ros.training.recipe import Recipe, RecipeError
from pi0_ros.training.run import Run, prepare
from pi0_ros.training.subtask import SubtaskLoss
from pi0_ros.training.weights import ever_learning, read_depth

SIZES = {**TINY, "model": "pi05", "discrete_state_input": True, "max_token_len": 64}
STAGE = {"name": "both", "steps": 60, "batch": 16, "lr": 1e-2, "warmup": 5, "ema": 0.5, "auxiliary": {"subtask": 0.5}}


def wanted(stage: dict[str, Any] = STAGE, sizes: dict[str, Any] = SIZES, **changes: Any) -> Recipe:
    return recipe([stage], **{"model_overrides": sizes, "prompts": "subtask", **changes})


def made(tmp_path: Path, of: Recipe, data: TrainingData | None = None) -> Run:
    return prepare([make_source(labelled() if data is None else data)], of, tmp_path, {}, {})


@torch.no_grad()
def written_error(run: Run, model: Pi0, inputs: Any, row: int, text: str) -> float:
    """Mean cross entropy of a text, each token from a reading of images, question and all tokens before it."""
    data, tokenizer, config = run.mixture.parts[0].data, run.spec.tokenizer, run.spec.config
    asked, mask = tokenizer.encode_subtask_prompt(config, data.prompts[data.episode[row]])
    tokens, errors = asked[mask].tolist(), []
    for token in [*tokenizer._pieces.encode(text), tokenizer.eos]:
        prompt = torch.tensor([tokens])
        seen = replace(inputs, prompt_tokens=prompt, prompt_mask=torch.ones_like(prompt, dtype=torch.bool))
        embedded, valid = model.embed_prefix(seen)
        causal = F.pad(seen.prompt_mask, (valid.shape[1] - len(tokens), 0))
        bias = causal_bias(valid, causal, embedded.dtype, config.vlm)
        hidden, _ = model.vlm.read(embedded, Rotary.at(prefix_positions(valid), config.vlm.head_dim), bias)
        errors.append(-float(model.logits(hidden[0, -1]).log_softmax(-1)[token]))
        tokens.append(token)
    return float(np.mean(errors))


def test_the_loss_is_what_inference_would_be_surprised_by(tmp_path: Path) -> None:
    run = made(tmp_path, wanted())
    stage, rows = run.recipe.stages[0], np.array([0, 3, 7, 30, 41])
    batch, counts = loop.draw_batch(run, stage, rows, Augmentation(), np.random.default_rng(0))
    learner = loop.new_learner(run)
    assert isinstance(learner.model, Pi0)
    expected = []
    for place, row in enumerate(rows):
        (one,) = list(batch.parts(1))[place : place + 1]
        label = run.mixture.parts[0].data.label[row]  # type: ignore[index]
        if label >= 0:
            expected.append(written_error(run, learner.model, one.inputs, row, TEXTS[label]))
    assert len(expected) == counts.labels["subtask"] == 3  # rows 0 and 30 begin episodes
    sums = learner(batch)
    terms = loop.loss_terms(run, stage, sums, counts)
    assert terms["subtask"].item() == pytest.approx(np.mean(expected), rel=1e-4)
    flow_alone = learner(replace(batch, labels={}))
    assert torch.equal(flow_alone.flow, sums.flow)
    assert torch.allclose(loop.total_loss(stage, terms), terms["flow"] + 0.5 * terms["subtask"])
    parts = [learner(part) for part in batch.parts(2)]
    assert torch.allclose(sum(part.auxiliary["subtask"] for part in parts), sums.auxiliary["subtask"], rtol=1e-5)


@pytest.mark.parametrize("trainable", ["full", "lora"])
def test_the_subtask_is_learned_and_written_by_the_policy(tmp_path: Path, trainable: str) -> None:
    stage = {**STAGE, "trainable": trainable, "lr": 2e-2 if trainable == "lora" else 1e-2}
    of = wanted(stage, lora={"vlm_rank": 8, "expert_rank": 4}) if trainable == "lora" else wanted(stage)
    folder = loop.train_on([make_source(labelled())], of, tmp_path / "run")
    rows = read_progress(tmp_path / "run" / "progress.csv")
    assert rows[-1]["subtask"] < 0.3 * rows[0]["subtask"] and np.isfinite(rows[-1]["val_subtask"])
    checkpoint, data = load_checkpoint(folder), labelled()
    right = []
    for row in range(1, 30, 4):
        images = {name: np.asarray(frames[row]) for name, frames in data.frames.items()}
        seen = Observation(1, images, data.state[row].astype(np.float64), data.prompts[data.episode[row]], {})
        label = data.label[row]  # type: ignore[index]
        right.append(write_subtask(checkpoint.spec, checkpoint.model, seen) == ("" if label < 0 else TEXTS[label]))
    assert np.mean(right) > 0.8, right


def test_all_of_the_language_model_learns(tmp_path: Path) -> None:
    depth = SIZES["vlm"]["depth"]  # type: ignore[index]
    last = f"model.vlm.layers.{depth - 1}.mlp.down_proj"
    for of, name in (
        (wanted(), f"{last}.weight"),
        (wanted({**STAGE, "trainable": "lora"}, lora={"vlm_rank": 2}), f"{last}.lora_a"),
    ):
        run = made(tmp_path, of)
        learner = loop.new_learner(run)
        optimizer = loop.new_optimizer(learner, of.stages[0], of, read_depth(of, run.spec.config))
        learning = ever_learning(learner, of, read_depth(of, run.spec.config))
        average = loop.Average(learning, enabled=False)
        before = learning[name].detach().clone()
        sampler = loop.stage_sampler(run, 0)
        loop.train_step(run, of.stages[0], 1, sampler, learner, optimizer, average, tmp_path)
        assert not torch.equal(learning[name], before)


def test_actions_are_told_the_task_or_the_subtask(tmp_path: Path) -> None:
    rows = np.array([0, 7])
    assert made(tmp_path, wanted()).mixture.parts[0].data.prompts_of(rows) == [labelled().prompts[0], "grasp it"]
    told = made(tmp_path, wanted(prompts="task")).mixture.parts[0].data.prompts_of(rows)
    assert told == [labelled().prompts[0]] * 2


def test_of_a_mixture_the_labelled_part_is_learned(tmp_path: Path) -> None:
    from policy_fixtures import tiny_stats

    sources = [make_source(labelled()), Source("other", other_data(2), OTHER, tiny_stats(7))]
    run = prepare(sources, wanted({**STAGE, "steps": 1}), tmp_path, {}, {})
    loss = run.auxiliary["subtask"]
    assert isinstance(loss, SubtaskLoss) and 0 < loss.share(run.train_rows) < 1
    tokens, mask, answer, counts = loss.labels(np.array([5, 95]))
    assert counts.tolist() == [1, 0] and answer.any(1).tolist() == [True, False] and mask.any(1).all()
    assert loss.score(np.array([2.0, 0.0]), np.array([5, 95])) == 2.0
    loop.train_on(sources, wanted({**STAGE, "steps": 1}), tmp_path / "run")


def test_the_plan_knows_the_text(tmp_path: Path) -> None:
    run = made(tmp_path, wanted({**STAGE, "micro_batch": 8}))
    stage, of = run.recipe.stages[0], run.recipe
    with PeakMemory() as memory:
        learner = loop.new_learner(run)
        depth = read_depth(of, run.spec.config)
        average = loop.Average(ever_learning(learner, of, depth))
        optimizer = loop.new_optimizer(learner, stage, of, depth)
        sampler = loop.stage_sampler(run, 0)
        for step in range(2):
            loop.train_step(run, stage, step, sampler, learner, optimizer, average, tmp_path)
    assert measure(of, run.spec.config, typical(run), run.autocast).total == pytest.approx(memory.peak, rel=0.1)


@pytest.mark.parametrize(
    ("changes", "data", "error"),
    [
        ({"sizes": {**TINY, "max_token_len": 64}}, labelled(), "a pi0 writes no subtasks"),
        ({}, make_data(6, length=15), r"no frame of dataset has a label .* convert again"),
        ({"stage": {**STAGE, "trainable": "expert_only"}}, labelled(), "nothing of the language model learns"),
        ({"sizes": {**SIZES, "max_token_len": 12}}, labelled(), "max_token_len: 24"),
    ],
)
def test_what_cannot_be_learned_is_refused(
    tmp_path: Path, changes: dict[str, Any], data: TrainingData, error: str
) -> None:
    with pytest.raises(RecipeError, match=error):
        made(tmp_path, wanted(**changes), data)
