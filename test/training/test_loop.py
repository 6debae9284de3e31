"""Training: it learns, it goes on exactly after a kill, and its optimiser is the reference's."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from synthetic import ROBOT, TINY, make_data, make_source

from pi0_ros.base.errors import InputError
from pi0_ros.checkpoints.checkpoint import load_checkpoint
from pi0_ros.checkpoints.sources import disk_name
from pi0_ros.checkpoints.weights import load_model
from pi0_ros.model.config import ModelConfig
from pi0_ros.model.paligemma import ModelInput
from pi0_ros.model.pi0 import Pi0
from pi0_ros.sim.grounding import Grounding, GroundingHead, grasp_error, grasp_targets, grounding_errors
from pi0_ros.training import loop
from pi0_ros.training.frame_weights import frame_weights, mixed_weights
from pi0_ros.training.loop import loss_terms, train_on
from pi0_ros.training.objective import Batch, Learner, draw_delays, draw_noise_and_time
from pi0_ros.training.optimizer import Average, clip_gradients, learning_rate
from pi0_ros.training.progress_file import read_progress
from pi0_ros.training.recipe import Recipe, RecipeError, Stage, load_recipe, recipe_from_dict
from pi0_ros.training.run import prepare

REFERENCE = Path(__file__).parents[1] / "fixtures" / "reference"
STAGES = [
    {
        "name": "ground", "steps": 8, "batch": 16, "lr": 3e-3, "warmup": 2, "ema": 0.5,
        "flow": 0, "auxiliary": {"grounding": 1},
    },
    {
        "name": "flow", "steps": 12, "batch": 8, "draws": 3, "lr": 3e-3, "warmup": 2, "ema": 0.5,
        "auxiliary": {"grounding": 0.1}, "state_noise": 0.05, "brightness": 0.1, "shift": 1, "event_weight": 2,
    },
]  # fmt: skip


def recipe(stages: list[dict[str, Any]] = STAGES, **changes: Any) -> Recipe:
    common = {"precision": "float32", "threads": 1, "held_out": 0.2, "validation_frames": 16, "model_overrides": TINY}
    every = {"log_every": 2, "validate_every": 5, "save_every": 3}
    return recipe_from_dict({**common, **every, **changes, "stages": stages}, "test.yaml")


def run_training(out: Path, wanted: Recipe, resume: bool = False) -> Path:
    return train_on([make_source(make_data(9, length=15))], wanted, out, resume, auxiliary={"grounding": Grounding})


@pytest.mark.parametrize("loss", ["flow", "grounding"])
def test_twenty_steps_reduce_the_loss(tmp_path: Path, loss: str) -> None:
    weights = {"flow": float(loss == "flow"), "auxiliary": {"grounding": float(loss == "grounding")}}
    stage = {"name": "one", "steps": 20, "batch": 32, "lr": 5e-3, "warmup": 2, **weights}
    run_training(tmp_path, recipe([stage]))
    rows = [row[loss] for row in read_progress(tmp_path / "progress.csv")]
    assert rows[-1] < 0.8 * rows[0]


def test_the_finished_folder_is_a_whole_policy_with_its_history(tmp_path: Path) -> None:
    folder = run_training(tmp_path, recipe())
    checkpoint = load_checkpoint(folder)
    notes = checkpoint.training
    assert notes["finished"] and notes["stage"] == "flow" and notes["episodes"] == 9
    assert len(notes["held_out_episodes"]) == 2  # 30 of 135 frames
    assert not (folder / "train_state").exists()
    actions = checkpoint.model.sample_actions(
        ModelInput(
            {slot: torch.zeros(1, 24, 24, 3) for slot in checkpoint.spec.config.cameras},
            {slot: torch.ones(1, dtype=torch.bool) for slot in checkpoint.spec.config.cameras},
            torch.zeros(1, 16, dtype=torch.int64),
            torch.ones(1, 16, dtype=torch.bool),
            torch.zeros(1, 8),
        )
    )
    assert torch.isfinite(actions).all()
    rows = read_progress(tmp_path / "progress.csv")
    assert rows[-1]["step"] == 20 and rows[-1]["val_flow"] > 0 and rows[-1]["val_grounding"] > 0
    assert (tmp_path / "curve.png").stat().st_size > 5000
    with pytest.raises(RecipeError, match="exists"):
        run_training(tmp_path, recipe())
    assert run_training(tmp_path, recipe(), resume=True) == folder  # nothing left to do


@pytest.mark.parametrize("broken_at", [4, 8, 16])
def test_a_resumed_run_equals_an_unbroken_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken_at: int) -> None:
    whole = run_training(tmp_path / "whole", recipe())
    steps = 0
    plain = loop.train_step

    def failing(*args: Any) -> dict[str, torch.Tensor]:
        nonlocal steps
        steps += 1
        if steps > broken_at:
            raise KeyboardInterrupt
        return plain(*args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "train_step", failing)
        run_training(tmp_path / "broken", recipe())
    resumed = run_training(tmp_path / "broken", recipe(), resume=True)
    expected, found = (load_file(folder / "model.safetensors") for folder in (whole, resumed))
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name
    histories = [read_progress(tmp_path / name / "progress.csv") for name in ("whole", "broken")]
    keys = ("step", "loss", "val_flow")
    assert [[row[key] for key in keys] for row in histories[0] if row["step"] % 6 == 0] == [
        [row[key] for key in keys] for row in histories[1] if row["step"] % 6 == 0
    ]


def test_a_killed_process_leaves_a_checkpoint_from_which_the_same_weights_come(tmp_path: Path) -> None:
    """`test/helpers/killed_training.py` kills at many random moments."""
    code = "import sys; from pathlib import Path; import test_loop as t; t.run_training(Path(sys.argv[1]), t.recipe())"
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    out = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", code, str(out)], env={**os.environ, "PYTHONPATH": path})
    try:
        deadline = time.monotonic() + 300
        while len(read_progress(out / "progress.csv")) < 4:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    folder, whole = run_training(out, recipe(), resume=True), run_training(tmp_path / "whole", recipe())
    assert json.loads((folder / "config.json").read_text())["training"]["finished"]
    found, wanted = (load_file(f / "model.safetensors") for f in (folder, whole))
    assert found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_resume_with_another_recipe_is_refused(tmp_path: Path) -> None:
    run_training(tmp_path, recipe(STAGES[:1]))
    with pytest.raises(RecipeError, match="other seed"):
        run_training(tmp_path, recipe(STAGES[:1], seed=1), resume=True)
    run_training(tmp_path, recipe(STAGES[:1], log_every=1), resume=True)  # how it is watched may change


def test_a_new_run_starts_from_a_checkpoint_and_leaves_frozen_parts_alone(tmp_path: Path) -> None:
    first = run_training(tmp_path / "first", recipe(STAGES[:1]))
    stage = {"name": "tune", "steps": 3, "batch": 4, "lr": 1e-3, "warmup": 1, "freeze": ["vision", "vlm"]}
    second = run_training(tmp_path / "second", recipe([stage], init=str(first), model_overrides={}))
    before, after = (load_file(folder / "model.safetensors") for folder in (first, second))
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    frozen = {name for name in before if ".language_model.layers" in name or "vision_tower" in name}
    assert "action_out_proj.weight" in changed and not changed & frozen
    with pytest.raises(RecipeError, match="config say action_dim 9, its tensors"):
        run_training(tmp_path / "third", recipe([stage], init=str(first), model_overrides={"action_dim": 9}))
    with pytest.raises(RecipeError, match="must name a checkpoint folder"):
        run_training(tmp_path / "third", recipe([stage], init=str(tmp_path / "nowhere"), model_overrides={}))


def test_a_run_starts_from_a_checkpoint_of_another_project(tmp_path: Path) -> None:
    """Its weights and its tokenizer; robot file and statistics are those of the data, chunks as long as asked for."""
    init = REFERENCE / "lerobot" / "pi05"
    stage = {"name": "tune", "steps": 1, "batch": 2, "lr": 1e-3, "warmup": 1}
    sizes = {"vision": {"num_heads": 4}, "action_horizon": 4}  # no file tells the heads of so small a model
    wanted = recipe([stage], init=str(init), model_overrides=sizes, normalization="quantile", validation_frames=2)
    checkpoint = load_checkpoint(run_training(tmp_path, wanted))
    assert checkpoint.spec.config.action_horizon == 4 and checkpoint.spec.robot == ROBOT
    assert (checkpoint.folder / "tokenizer.model").read_bytes() == (init / "tokenizer/tokenizer.model").read_bytes()
    before, after = (load_file(folder / "model.safetensors") for folder in (init, checkpoint.folder))
    name = "action_in_proj.weight"
    assert 0 < (before[f"model.{name}"] - after[name]).abs().max() < 0.01


def test_a_run_whose_loss_blows_up_stops(tmp_path: Path) -> None:
    stage = {"name": "wild", "steps": 10, "batch": 4, "lr": 1e12, "warmup": 0}
    with pytest.raises(ValueError, match="not finite"):
        run_training(tmp_path, recipe([stage]))


def test_the_learning_rate_is_the_references() -> None:
    rates = [learning_rate(step, 1000, 30000, 2.5e-5, 2.5e-6) for step in (0, 1, 1000, 15000, 30000, 40000)]
    np.testing.assert_allclose(rates, [2.4975e-8, 4.995e-8, 2.5e-5, 1.4359e-5, 2.5e-6, 2.5e-6], rtol=2e-4)


@pytest.mark.parametrize("name", ["pi0", "pi05"])
def test_four_optimiser_steps_equal_the_reference(name: str) -> None:
    folder = REFERENCE / name
    config = ModelConfig.from_dict(json.loads((folder / "sizes.json").read_text()))
    model = load_model(config, folder / "model.safetensors")
    batch, train = np.load(folder / "expected.npz"), np.load(folder / "train.npz")
    settings = json.loads(str(train["meta_json"]))
    schedule, values = settings["lr_schedule"], settings["optimizer"]
    inputs = ModelInput(
        {c: torch.from_numpy(batch[f"image_{c}"]).float() / 255 * 2 - 1 for c in config.cameras},
        {c: torch.from_numpy(batch[f"image_mask_{c}"]) for c in config.cameras},
        torch.from_numpy(batch["tokens"]).long(),
        torch.from_numpy(batch["token_mask"]),
        torch.from_numpy(batch["state"]),
    )
    parameters = list(model.parameters())
    average = Average(dict(model.named_parameters()))
    optimizer = torch.optim.AdamW(
        parameters, betas=(values["b1"], values["b2"]), eps=values["eps"], weight_decay=values["weight_decay"]
    )
    actions = torch.from_numpy(batch["actions"])
    for step in range(settings["steps"]):
        rate = learning_rate(
            step, schedule["warmup_steps"], schedule["decay_steps"], schedule["peak_lr"], schedule["decay_lr"]
        )
        assert rate == pytest.approx(float(train["lr"][step]), rel=1e-4)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        noise, moment = torch.from_numpy(train["noise"][step]), torch.from_numpy(train["time"][step])
        loss = model.loss(inputs, actions, noise, moment, reduction="mean")
        loss.backward()
        assert loss.item() == pytest.approx(float(train["loss"][step]), rel=2e-3)
        norm = clip_gradients(parameters, values["clip_gradient_norm"])
        assert norm.item() == pytest.approx(float(train["grad_norm"][step]), rel=2e-3)
        optimizer.step()
        average.update(settings["ema_decay"])
    start = load_file(folder / "model.safetensors")
    for own, parameter in model.named_parameters():
        for kind, found in (("final", parameter.detach()), ("ema", average.tensors[own])):
            if f"{kind}/{disk_name(own)}" in train:
                wanted = torch.from_numpy(train[f"{kind}/{disk_name(own)}"]) - start[disk_name(own)]
                moved = found - start[disk_name(own)]
                assert (moved - wanted).norm() < 0.02 * wanted.norm(), own


def test_gradients_are_cut_to_the_limit_only_above_it() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(1))]
    for gradient, wanted in (([3.0, 0.0, 4.0], 1.0), ([0.3, 0.0, 0.4], 0.5)):
        parameters[0].grad, parameters[1].grad = torch.tensor(gradient[:2]), torch.tensor(gradient[2:])
        norm = clip_gradients(parameters, 1.0)
        assert norm.item() == pytest.approx(np.linalg.norm(gradient))
        after = torch.cat([p.grad for p in parameters if p.grad is not None]).norm().item()
        assert after == pytest.approx(wanted)


def test_flow_times_follow_the_distribution_of_pi0() -> None:
    _, moments = draw_noise_and_time(np.random.default_rng(0), 5000, 4, (1, 1))
    assert moments.min() >= 0.001 and moments.max() <= 1.0
    assert moments.mean() == pytest.approx(0.6 * 0.999 + 0.001, abs=2e-3)  # Beta(1.5, 1) has the mean 0.6
    parts = moments.reshape(4, 5000)
    assert (np.diff(parts.mean(1)) > 0.1).all()  # one draw from each quarter


def test_delays_are_drawn_evenly_and_only_the_predicted_actions_count() -> None:
    time = np.full(6000, 0.5, np.float32)
    times = draw_delays(np.random.default_rng(0), time, 3, 6)
    assert times.dtype == np.float32 and set(np.unique(times)) == {0.0, 0.5}
    given = (times == 0).sum(1)
    assert (np.sort(times, axis=1) == times).all()  # the given actions come first
    assert np.bincount(given).tolist() == pytest.approx([1500] * 4, abs=150)

    config = ModelConfig.from_dict({**ModelConfig.preset("demo").to_dict(), **TINY})
    learner, random = Learner(Pi0(config), {}), torch.Generator().manual_seed(0)
    inputs = ModelInput({}, {}, torch.zeros(2, 16, dtype=torch.int64), torch.ones(2, 16) > 0, torch.zeros(2, 8))
    actions, noise = torch.randn(2, 2, 6, 8, generator=random)
    moment = torch.tensor([[0, 0, 0.5, 0.5, 0.5, 0.5], [0.25] * 6])
    with torch.no_grad():
        batch = Batch(np.arange(2), inputs, actions, noise, moment, {})
        sums = learner(batch)
        each = learner.model.loss(inputs, actions, noise, moment)
    wanted = torch.cat([each[0, 2:], each[1]]).mean(0)
    torch.testing.assert_close(sums.flow / batch.counts.flow, wanted)


def test_training_with_delays_is_written_into_the_checkpoint(tmp_path: Path) -> None:
    stage = {"name": "one", "steps": 3, "batch": 8, "lr": 1e-3}
    folder = run_training(tmp_path / "run", recipe([stage], rtc_max_delay=3))
    assert load_checkpoint(folder).spec.settings.rtc_trained_max_delay == 3
    with pytest.raises(RecipeError, match="rtc_max_delay is 6, the chunk has 6 actions"):
        run_training(tmp_path / "other", recipe([stage], rtc_max_delay=6))


def test_hindsight_labels_point_to_the_next_gripper_event() -> None:
    data = make_data(6, length=30)
    targets = grasp_targets(data, ROBOT)
    closing = 15
    for start, _ in data.spans:
        where = data.state[start + closing, :5]
        label = targets.joints[start] * targets.scale + targets.mean[0]
        np.testing.assert_allclose(label, where, atol=1e-5)
    assert targets.event[:16].tolist() == [0] * 16 and targets.event[16:26].tolist() == [1] * 10
    assert targets.valid[:30].tolist() == [True] * 26 + [False] * 4
    guess = np.zeros((data.length, 2, 5), np.float32)
    rows = np.arange(data.length)
    assert grasp_error(guess, rows, targets) == pytest.approx(1.0, abs=1e-3)  # the mean is what 1 means
    exact = np.stack([targets.joints, targets.joints], axis=1)
    assert grasp_error(exact, rows, targets) == 0.0


def test_the_grounding_loss_reads_the_next_event_and_its_head_the_prompt_only() -> None:
    predicted, joints = torch.zeros(2, 2, 4), torch.ones(2, 4)
    predicted[1, 1] = 3.0
    assert grounding_errors(predicted, joints, torch.tensor([0, 1])).tolist() == [1.0, 4.0]
    head, mask = GroundingHead(8, 4), torch.tensor([[True, True, False]])
    hidden = torch.randn(1, 7, 8)
    other = hidden.clone()
    other[:, :4] += 1  # images
    other[:, 6] += 1  # padding
    assert torch.equal(head(hidden, mask), head(other, mask))


def test_idle_frames_start_no_sample_and_labels_are_in_the_vocabulary(tmp_path: Path) -> None:
    plain = make_data(6, length=15)
    label = np.where(np.arange(plain.length) % 3 == 0, 0, -1)
    idle = np.arange(plain.length) % 5 == 0
    data = dataclasses.replace(plain, idle=idle, label=label, labels=("grasp",))
    every, active = (
        prepare([make_source(data)], recipe(skip_idle=skip), tmp_path, {}, {"grounding": Grounding})
        for skip in (False, True)
    )
    assert np.array_equal(active.train_rows, every.train_rows[~idle[every.train_rows]])
    assert 0 < len(active.train_rows) < len(every.train_rows)
    assert np.array_equal(active.held_out_rows, every.held_out_rows)
    tokens, mask = active.spec.tokenizer.encode_prompt(active.spec.config, "grasp")
    assert mask.sum() == 1 + 1 + 1  # begin, one piece, newline


def test_noise_on_a_state_that_stands_in_the_prompt_is_refused(tmp_path: Path) -> None:
    wanted = recipe([{"name": "flow", "state_noise": 0.1}], model="pi05", model_overrides={**TINY, "vocab_size": 512})
    with pytest.raises(RecipeError, match="state_noise"):
        prepare([make_source(make_data(2, length=5))], wanted, tmp_path, {}, {})


def test_frames_around_gripper_events_weigh_more() -> None:
    data = make_data(1, length=30)
    stage = Stage("s", event_weight=3.0, event_window_s=0.1, after_weight=0.5)
    weights = frame_weights(data, ROBOT, stage)
    assert weights[:16].tolist() == [1.0] * 13 + [3.0] * 3
    assert weights[16:].tolist() == [1.5] * 2 + [0.5] * 5 + [1.5] * 5 + [0.5] * 2


def test_takeovers_weigh_more_where_the_dataset_says_which_frames_are_some(tmp_path: Path) -> None:
    data, stage = make_data(1, length=10), Stage("s", takeover_weight=4.0)
    led = np.arange(10) >= 6
    weights = frame_weights(dataclasses.replace(data, takeover=led), ROBOT, stage)
    assert weights.tolist() == [1.0] * 6 + [4.0] * 4
    run = prepare([make_source(make_data(6, length=15))], recipe(), tmp_path, {}, {"grounding": Grounding})
    with pytest.raises(InputError, match="--corrections"):
        mixed_weights(run.mixture, run.train_rows, stage)


def test_the_parts_of_a_batch_add_up_to_the_whole(tmp_path: Path) -> None:
    """Losses and gradients, whatever counts in which part: given actions, rows without a label, several draws."""
    data, wanted = make_data(6, length=15), recipe(rtc_max_delay=3)
    run = prepare([make_source(data)], wanted, tmp_path, {}, {"grounding": Grounding})
    stage, learner = wanted.stages[1], loop.new_learner(run)
    rows = np.arange(3, 3 + 7 * 13, 13)
    batch, counts = loop.draw_batch(run, stage, rows, loop.Augmentation(), np.random.default_rng(0))
    assert 0 < batch.labels["grounding"][-1].sum() < len(rows) and (batch.time == 0).any()
    found = []
    for size in (7, 3, 1):
        learner.zero_grad()
        losses = []
        for part in batch.parts(size):
            losses.append(loop.total_loss(stage, loss_terms(run, stage, loop.forward(run, learner, part), counts)))
            losses[-1].backward()
        gradients = {name: p.grad.clone() for name, p in learner.named_parameters() if p.grad is not None}
        found.append((torch.stack(losses).sum().item(), gradients))
    for loss, gradients in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-5)
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, found[0][1][name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sed": 1}, "sed: unknown key.*did you mean 'seed'"),
        ({"seed": "one"}, "seed: 'one' stands where a whole number is needed"),
        ({"seed": True}, "seed: True stands where a whole number"),
        ({"precision": "half"}, "precision: 'half' is not known"),
        ({"prompts": "labels"}, "prompts: 'labels' is not known.*; write task or subtask"),
        ({"stages": []}, "stages: a list without entries"),
        ({"stages": [{"steps": 3}]}, r"stages\[0\].name: missing"),
        ({"stages": [{"name": "a", "flow": 0}]}, r"stages\[0\].flow: is 0.* nothing to learn"),
        ({"stages": [{"name": "a", "lr": "fast"}]}, r"stages\[0\].lr: 'fast' stands where a number"),
        ({"stages": [{"name": "a", "lr": "1e-4"}]}, r"stages\[0\].lr: YAML reads '1e-4' as text: write 0.0001"),
        ({"stages": [{"name": "a"}, {"name": "a"}]}, r"stages\[1\].name: 'a' stands twice"),
        ({"stages": [{"name": "a", "grounding": 0.1}]}, r"stages\[0\].grounding: is written `auxiliary: {grounding"),
        ({"held_out": 1.5}, "held_out: must be"),
        ({"steps": 0}, r"steps: must be at least 1"),
    ],
)
def test_a_wrong_recipe_names_file_line_and_key(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as error:
        recipe_from_dict({"stages": [{"name": "a"}], **change}, "my.yaml")
    assert str(error.value).startswith("my.yaml:")


def test_a_recipe_without_stages_has_one_and_shared_keys_are_defaults_of_all() -> None:
    assert recipe_from_dict({"steps": 7, "lr": 1}, "a.yaml").stages == (Stage(steps=7, lr=1.0),)
    two = recipe_from_dict({"batch": 4, "stages": [{"name": "a"}, {"name": "b", "batch": 5}]}, "a.yaml")
    assert [stage.batch for stage in two.stages] == [4, 5]


def test_keys_are_changed_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("seed: 1\nstages:\n  - {name: act, steps: 5}\n  - {name: all}\n")
    changed = load_recipe(path, ["seed=2", "stages.act.steps=9", "lr=1e-4", "model_overrides.action_horizon=16"])
    assert changed.seed == 2 and [stage.steps for stage in changed.stages] == [9, 30000]
    assert {stage.lr for stage in changed.stages} == {1e-4}
    assert changed.model_overrides == {"action_horizon": 16}
    for wrong, message in {
        "steps=3": "the stages give it themselves: set stages.act.steps instead",
        "stages.begin.steps=3": "there is no stage 'begin'; stages are act, all",
        "sed=1": "unknown key",
        "seed": "expected key=value",
    }.items():
        with pytest.raises(RecipeError, match=message):
            load_recipe(path, [wrong])
    with pytest.raises(RecipeError, match="no such config.*did you mean 'from_scratch'"):
        load_recipe("from_scrach")


def test_the_shipped_recipes_are_valid() -> None:
    configs = sorted((Path(__file__).parents[2] / "config" / "train").glob("*.yaml"))
    assert configs
    for path in configs:
        assert load_recipe(path).stages
