"""Run LeRobot's pi0 and pi0.5 on random small weights and save checkpoints, inputs and outputs for `compare.py`.

Needs LeRobot (its `pi` and `peft` extras) and a small SentencePiece model, from which LeRobot's tokenizer is made:

    python lerobot_policies.py --out cases --tokenizer tiny.model --seeds 0 1 2

Folders are written by LeRobot's own `save_pretrained`, processors with random statistics, normalisations, relative
actions and cameras included. Raw observations go through the saved processors and the reloaded policy to actions.
`--check CASES CONVERTED` is the other direction: load what `convert_cases.py` wrote and run the inputs through it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from common import draw_sizes, draw_stats, draw_text, new_case, parser, save_case
from lerobot.configs.types import FeatureType, NormalizationMode, PolicyFeature
from lerobot.lerobot_types import TransitionKey
from lerobot.policies.pi0 import modeling_pi0
from lerobot.policies.pi0.configuration_pi0 import PI0Config
from lerobot.policies.pi0.processor_pi0 import Pi0NewLineProcessor, make_pi0_pre_post_processors
from lerobot.policies.pi05 import modeling_pi05
from lerobot.policies.pi05.configuration_pi05 import PI05Config
from lerobot.policies.pi05.processor_pi05 import (
    Pi05PrepareStateTokenizerProcessorStep,
    make_pi05_pre_post_processors,
)
from lerobot.processor import PolicyProcessorPipeline, TokenizerProcessorStep, tokenizer_processor
from lerobot.processor.converters import create_transition, policy_action_to_transition, transition_to_policy_action
from peft import LoraConfig, PeftModel
from torch_weights import cast_parameters, draw_parameters, shrink
from transformers import GemmaTokenizer

PACKAGES = ("lerobot", "torch", "transformers", "peft", "numpy")
MODELS = {
    "pi0": (modeling_pi0, modeling_pi0.PI0Policy, PI0Config, make_pi0_pre_post_processors),
    "pi05": (modeling_pi05, modeling_pi05.PI05Policy, PI05Config, make_pi05_pre_post_processors),
}
TASKS = ("  Pick_up the\nred block ", "fold the towel", "Öffne die Tür, 開けて\n", "")
MODES = ("MEAN_STD", "QUANTILES", "QUANTILE10", "MIN_MAX", "IDENTITY")
ROWS = 2


@contextlib.contextmanager
def small(sizes: dict[str, Any]) -> Iterator[None]:
    """Make LeRobot build the network of `sizes`: its own are written into functions."""
    module = MODELS[sizes["model"]][0]

    def gemma_config(variant: str) -> Any:
        return module.GemmaConfig(**sizes["expert" if "300m" in variant else "vlm"])

    def shrunk(build: type) -> Any:
        def construct(config: Any) -> Any:
            shrink(config, sizes)
            return build(config=config)

        return construct

    names = ("PaliGemmaForConditionalGenerationWithPiGemma", "PiGemmaForCausalLM")
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(module, "get_gemma_config", gemma_config))
        for name in names:
            stack.enter_context(mock.patch.object(module, name, shrunk(getattr(module, name))))
        yield


def draw_config(rng: np.random.Generator, sizes: dict[str, Any], plain: bool) -> Any:
    """Draw what LeRobot's config says: cameras of any name and size, dimensions, normalisations, relative actions."""
    state_dim, action_dim = (int(rng.integers(5, sizes["action_dim"] + 1)) for _ in range(2))
    relative = not plain and bool(rng.random() < 0.5)
    if relative:
        action_dim = state_dim
    names = ["top", "wrist", "cam_high", "image2"]
    cameras = [f"observation.images.{name}" for name in rng.permutation(names)[: int(rng.integers(1, 4))]]
    sides = [(int(rng.integers(60, 300)), int(rng.integers(60, 300))) for _ in cameras]
    inputs = {
        name: PolicyFeature(FeatureType.VISUAL, (3, *side)) for name, side in zip(cameras, sides, strict=True)
    } | {"observation.state": PolicyFeature(FeatureType.STATE, (state_dim,))}
    extra: dict[str, Any] = {}
    if relative:
        joints = [f"{'gripper' if rng.random() < 0.3 else 'joint'}_{i}.pos" for i in range(action_dim)]
        extra = {"use_relative_actions": True, "relative_exclude_joints": ["Gripper"]}
        extra["action_feature_names"] = joints if rng.random() < 0.7 else None
    if not plain:
        modes = {"VISUAL": "IDENTITY", "STATE": str(rng.choice(MODES)), "ACTION": str(rng.choice(MODES))}
        extra["normalization_mapping"] = {key: NormalizationMode(value) for key, value in modes.items()}
        extra["num_inference_steps"] = int(rng.choice([5, 10]))
    return MODELS[sizes["model"]][2](
        input_features=inputs,
        output_features={"action": PolicyFeature(FeatureType.ACTION, (action_dim,))},
        device="cpu",
        dtype="float32",
        chunk_size=sizes["action_horizon"],
        n_action_steps=sizes["action_horizon"],
        max_state_dim=sizes["action_dim"],
        max_action_dim=sizes["action_dim"],
        tokenizer_max_length=sizes["max_token_len"],
        empty_cameras=int(rng.integers(0, 2)),
        **extra,
    )


def draw_observations(rng: np.random.Generator, config: Any, stats: dict[str, Any]) -> dict[str, np.ndarray]:
    """Draw raw observations: pictures uint8 [rows, H, W, 3] and states in the range of the statistics."""
    arrays = {}
    for name, feature in config.image_features.items():
        if "empty_camera" not in name:
            arrays[f"obs|{name}"] = rng.integers(0, 256, (ROWS, *feature.shape[1:], 3), dtype=np.uint8)
    if len(arrays) > 1 and rng.random() < 0.4:
        del arrays[sorted(arrays)[0]]  # a camera that the config lists and the robot lacks
    spread = stats["observation.state"]
    shape = (ROWS, len(spread["mean"]))
    arrays["obs|observation.state"] = (spread["mean"] + spread["std"] * rng.standard_normal(shape)).astype(np.float32)
    return arrays


def run(policy: Any, folder: Path, arrays: dict[str, np.ndarray], tasks: list[str]) -> dict[str, np.ndarray]:
    """Run raw observations through the processors saved in `folder` and the policy, as LeRobot's rollout does."""
    before = PolicyProcessorPipeline.from_pretrained(folder, config_filename="policy_preprocessor.json")
    after = PolicyProcessorPipeline.from_pretrained(
        folder,
        config_filename="policy_postprocessor.json",
        to_transition=policy_action_to_transition,
        to_output=transition_to_policy_action,
    )
    for step in after.steps:
        if hasattr(step, "relative_step"):
            step.relative_step = next(one for one in before.steps if hasattr(one, "get_cached_state"))
    observation: dict[str, Any] = {"task": tasks}
    for key, value in arrays.items():
        if key.startswith("obs|"):
            tensor = torch.from_numpy(value)
            observation[key[4:]] = tensor.permute(0, 3, 1, 2).float() / 255 if tensor.dtype == torch.uint8 else tensor
    batch = before(observation)
    inner = getattr(policy, "base_model", policy)
    inner = getattr(inner, "model", inner) if isinstance(policy, PeftModel) else policy
    seen: dict[str, Any] = {}
    sample = inner.model.sample_actions

    def spy(images: Any, masks: Any, tokens: Any, token_mask: Any, *rest: Any, **options: Any) -> torch.Tensor:
        seen.update(images=torch.stack(images, 1), masks=torch.stack(masks, 1), tokens=tokens, token_mask=token_mask)
        seen["state"] = rest[0] if rest else None
        seen["actions_model"] = sample(images, masks, tokens, token_mask, *rest, **options)
        return seen["actions_model"]

    noise = torch.from_numpy(arrays["noise_sample"])
    with mock.patch.object(inner.model, "sample_actions", spy):
        chunk = inner.predict_action_chunk(batch, noise=noise)
    seen["actions_out"] = after(chunk)
    return {key: value.numpy() for key, value in seen.items() if value is not None}


@torch.no_grad()
def loss_of(policy: Any, seen: dict[str, np.ndarray], arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Return the squared error per element of the network for the inputs that it saw when sampling."""
    tensors = {key: torch.from_numpy(value) for key, value in (seen | arrays).items() if not key.startswith("obs|")}
    images, masks = list(tensors["images"].unbind(1)), list(tensors["masks"].unbind(1))
    rest = [tensors["state"]] if "state" in tensors else []
    chunk = [tensors[name] for name in ("actions", "noise_train", "time_train")]
    return policy.model.forward(images, masks, tensors["tokens"], tensors["token_mask"], *rest, *chunk).numpy()


def tokenizer_from(path: Path) -> Any:
    """Return the tokenizer that LeRobot would take from google/paligemma-3b-pt-224, with other pieces."""
    return GemmaTokenizer.from_pretrained(path.parent, vocab_file=str(path), add_bos_token=True)


def save_processors(config: Any, stats: dict[str, Any], tokenizer: Any, folder: Path) -> None:
    """Write both processors with LeRobot's own writers."""
    make = next(entry[3] for entry in MODELS.values() if isinstance(config, entry[2]))
    tensors = {key: {k: torch.from_numpy(v).float() for k, v in one.items()} for key, one in stats.items()}
    with mock.patch.object(tokenizer_processor, "AutoTokenizer") as library:
        library.from_pretrained.return_value = tokenizer
        before, after = make(config, tensors)
    before.save_pretrained(folder, config_filename="policy_preprocessor.json")
    after.save_pretrained(folder, config_filename="policy_postprocessor.json")


def make_case(out: Path, seed: int, name: str, kind: str, tokenizer: Any) -> None:
    """Draw one policy, write its folder, load it again and run it."""
    rng = np.random.default_rng([seed, sum(map(ord, name + kind)), 2])
    sizes = draw_sizes(rng, name, num_heads=8)
    sizes["max_token_len"] = int(rng.choice([12, 24, 48] if name == "pi0" else [30, 64, 200]))
    config = draw_config(rng, sizes, plain=kind == "peft")
    policy_class = MODELS[name][1]
    folder = new_case(out, f"lerobot-{kind}-{name}-{seed}")
    checkpoint = base = folder / "checkpoint"
    if kind == "peft":
        base = folder / "base"
    with small(sizes):
        policy = policy_class(config)
        draw_parameters(rng, policy)
        policy.save_pretrained(base)
        policy = policy_class.from_pretrained(base)
    stats = {
        "observation.state": draw_stats(rng, config.input_features["observation.state"].shape[0]),
        "action": draw_stats(rng, config.output_features["action"].shape[0]),
    }
    if kind == "peft":
        policy.config.pretrained_path = str(base)
        rank = int(rng.choice([2, 4]))
        overrides = {"r": rank, "lora_alpha": int(rng.choice([rank, 3, 16])), "use_rslora": bool(seed % 2)}
        defaults = policy._get_default_peft_targets()
        policy = policy.wrap_with_peft(LoraConfig(**defaults, **overrides))
        draw_parameters(rng, policy, only="lora_")
        policy.save_pretrained(checkpoint)
        policy.config.save_pretrained(checkpoint)
    save_processors(config, stats, tokenizer, checkpoint)
    if kind == "bfloat16":
        cast_parameters(policy, torch.bfloat16)
        policy.save_pretrained(checkpoint)
        cast_parameters(policy, torch.float32)
    arrays = draw_observations(rng, config, stats)
    chunk = (ROWS, sizes["action_horizon"], sizes["action_dim"])
    for key in ("noise_sample", "actions", "noise_train"):
        arrays[key] = rng.standard_normal(chunk).astype(np.float32)
    arrays["time_train"] = (rng.random(ROWS) * 0.999 + 0.001).astype(np.float32)
    tasks = [str(task) for task in rng.choice(TASKS, ROWS)]
    outputs = run(policy, checkpoint, arrays, tasks)
    network = policy.base_model.model if isinstance(policy, PeftModel) else policy
    outputs["loss_per_element"] = loss_of(network, outputs, arrays)
    present = [name for name in config.image_features if f"obs|{name}" in arrays]
    order = present + [name for name in config.image_features if name not in present]
    sizes["cameras"] = [camera.removeprefix("observation.images.") for camera in order]
    case = {"reference": "lerobot", "kind": kind, "model": name, "seed": seed, "sizes": sizes, "tasks": tasks}
    case |= {"order": order, "num_steps": config.num_inference_steps}
    save_case(folder, case, PACKAGES, arrays | outputs)


def make_prompts(out: Path, count: int, tokenizer: Any) -> None:
    """Run drawn instructions and states through LeRobot's prompt steps; the tokenizer is saved beside the result."""
    rng = np.random.default_rng(count)
    entries = []
    for _ in range(count):
        entry: dict[str, Any] = {"prompt": draw_text(rng), "max_len": int(rng.choice([5, 12, 48, 100, 200]))}
        state = rng.normal(0, 0.7, int(rng.integers(1, 15))).astype(np.float32)
        state[rng.random(len(state)) < 0.2] = rng.choice([-1, 1, 0, 127 / 128, -1 + 1 / 128])
        entry["state"] = state.tolist()
        steps = {"lerobot_pi0": Pi0NewLineProcessor(), "lerobot_pi05": Pi05PrepareStateTokenizerProcessorStep()}
        for name, step in steps.items():
            words = TokenizerProcessorStep(tokenizer=tokenizer, max_length=entry["max_len"])
            observation = {"observation.state": torch.from_numpy(state)[None]}
            transition = create_transition(observation=observation, complementary_data={"task": [entry["prompt"]]})
            seen = words(step(transition))[TransitionKey.OBSERVATION]
            tokens, mask = (seen[f"observation.language.{part}"][0] for part in ("tokens", "attention_mask"))
            entry[name] = {"tokens": tokens.tolist(), "mask": mask.tolist()}
        entries.append(entry)
    tokenizer.save_pretrained(out / "tokenizer")
    (out / "prompts-lerobot.json").write_text(json.dumps(entries))


@torch.no_grad()
def check(folder: Path, converted: Path) -> None:
    """Load `converted` with LeRobot, run the case's inputs through it and print the difference from the case."""
    case = json.loads((folder / "case.json").read_text())
    arrays = dict(np.load(folder / "expected.npz"))
    with small(case["sizes"]):
        policy = MODELS[case["model"]][1].from_pretrained(converted)
    if case["reference"] == "lerobot":
        difference = np.abs(run(policy, converted, arrays, case["tasks"])["actions_out"] - arrays["actions_out"]).max()
    else:
        for name in ("policy_preprocessor.json", "policy_postprocessor.json"):
            PolicyProcessorPipeline.from_pretrained(converted, config_filename=name)
        tensors = {key: torch.from_numpy(value) for key, value in arrays.items()}
        cameras = [f"image_{key.rpartition('.')[2]}" for key in policy.config.image_features]
        images = [tensors[name].permute(0, 3, 1, 2).float() / 255 * 2 - 1 for name in cameras]
        masks = [tensors[name.replace("image_", "image_mask_", 1)] for name in cameras]
        rest = [tensors["state"]] if case["model"] == "pi0" else []
        actions = policy.model.sample_actions(
            images, masks, tensors["tokens"], tensors["token_mask"], *rest, noise=tensors["noise_sample"], num_steps=10
        )
        difference = np.abs(actions.numpy() - arrays["actions_10"]).max()
    print(f"{folder.name}: actions of LeRobot differ by {difference:.1e}", flush=True)


if __name__ == "__main__":
    command = parser(__doc__.splitlines()[0])
    command.add_argument("--kinds", nargs="+", default=["plain", "drawn", "peft", "bfloat16"])
    command.add_argument("--tokenizer", type=Path, help="a SentencePiece model of at most 512 pieces")
    command.add_argument("--prompts", type=int, default=0, help="write prompts-lerobot.json instead of policies")
    command.add_argument("--check", type=Path, nargs=2, metavar=("CASES", "CONVERTED"))
    options = command.parse_args()
    if options.check:
        cases, converted_cases = options.check
        for one_case in sorted(converted_cases.iterdir()):
            if (one_case / "lerobot").is_dir():
                check(cases / one_case.name, one_case / "lerobot")
        raise SystemExit
    made = tokenizer_from(options.tokenizer)
    if options.prompts:
        make_prompts(options.out.absolute(), options.prompts, made)
        raise SystemExit
    for one_kind in options.kinds:
        for one_model in options.models:
            for one_seed in options.seeds:
                make_case(options.out.absolute(), one_seed, one_model, one_kind, made)
