"""Run whole policies of one release of LeRobot, 0.3.3 to today, and save checkpoints, inputs and actions.

Needs that release's source, prepared by `lerobot_source.py`, on PYTHONPATH, the transformers that it wants (for 0.4.x
4.53.2 with openpi's replacement files), and a small SentencePiece model. Then compare with ours:

    python lerobot_releases.py --release 0.4.4 --out cases/0.4.4 --tokenizer tiny.model --seeds 0 1 2
    python compare_policies.py cases/0.4.4 --tokenizer tiny.model

Folders are written by the release's own `save_pretrained` and trainer config (`trained`), or without the trainer's
(`untold`). Cameras are not square and called as people call them; statistics, modes, dimensions, relative actions are
drawn. `mutated` changes one thing in the processors of 0.6: order, flags, absent, repeated and unknown steps.
"""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from common import draw_sizes, draw_stats, new_case, parser, save_case
from lerobot.configs.types import FeatureType, NormalizationMode, PolicyFeature
from torch_weights import draw_parameters, shrink
from transformers import GemmaTokenizer

PACKAGES = ("torch", "transformers", "numpy")
TASKS = ("Pick_up the\nred block ", "fold the towel", "Öffne die Tür, 開けて\n", "open the drawer")
MODES = ("MEAN_STD", "QUANTILES", "QUANTILE10", "MIN_MAX", "IDENTITY")
OLD_MODES = ("MEAN_STD", "MIN_MAX", "IDENTITY")
CAMERAS = ("images.top", "images.cam_high", "images.rgb.head", "images.cam-high", "images.2cam", "image", "left.cam")
ROWS, STATE, ACTION = 2, "observation.state", "action"
PRE, POST = "policy_preprocessor.json", "policy_postprocessor.json"
Steps = list[dict[str, Any]]


def is_old(release: str) -> bool:
    """0.3: no processors, pi0 alone, another way to build networks."""
    return release.startswith("0.3")


def module_of(name: str) -> Any:
    return importlib.import_module(f"lerobot.policies.{name}.modeling_{name}")


def policy_of(name: str) -> Any:
    return getattr(module_of(name), f"{name.upper()}Policy")


@contextlib.contextmanager
def small(release: str, sizes: dict[str, Any]) -> Iterator[None]:
    """Make LeRobot build the network of `sizes`: its own are written into functions."""
    module = module_of(sizes["model"])

    def gemma_config(variant: str) -> Any:
        return module.GemmaConfig(**sizes["expert" if "300m" in variant else "vlm"])

    def shrunk(build: type) -> Any:
        def construct(config: Any) -> Any:
            shrink(config, sizes)
            return build(config=config)

        return construct

    def shrunk_old(build: type) -> Any:
        def construct(config: Any) -> Any:
            shrink(config.paligemma_config, sizes)
            for part, where in (("vlm", config.paligemma_config.text_config), ("expert", config.gemma_expert_config)):
                wanted = sizes[part]
                where.hidden_size, where.intermediate_size = wanted["width"], wanted["mlp_dim"]
                where.num_hidden_layers, where.num_attention_heads = wanted["depth"], wanted["num_heads"]
                where.num_key_value_heads, where.head_dim = wanted["num_kv_heads"], wanted["head_dim"]
                where.vocab_size = sizes["vocab_size"]
            return build(config)

        return construct

    with contextlib.ExitStack() as stack:
        if is_old(release):
            real = module.PaliGemmaWithExpertModel
            stack.enter_context(mock.patch.object(module, "PaliGemmaWithExpertModel", shrunk_old(real)))
        else:
            stack.enter_context(mock.patch.object(module, "get_gemma_config", gemma_config))
            kinds = ("PaliGemmaForConditionalGeneration", "GemmaForCausalLM")
            kinds += ("PaliGemmaForConditionalGenerationWithPiGemma", "PiGemmaForCausalLM")
            for kind in kinds:
                if hasattr(module, kind):
                    stack.enter_context(mock.patch.object(module, kind, shrunk(getattr(module, kind))))
        yield


@contextlib.contextmanager
def tokenizing(release: str, tokenizer: Any) -> Iterator[None]:
    """Give LeRobot `tokenizer` where it would fetch PaliGemma's."""
    where = module_of("pi0") if is_old(release) else importlib.import_module("lerobot.processor.tokenizer_processor")
    with mock.patch.object(where, "AutoTokenizer") as library:
        library.from_pretrained.return_value = tokenizer
        yield


def draw_config(rng: np.random.Generator, release: str, sizes: dict[str, Any]) -> Any:
    """Draw what the release's config says."""
    name = sizes["model"]
    state_width = int(rng.choice([sizes["action_dim"], 32]))
    if name == "pi05" and release.startswith("0.4"):
        state_width = int(rng.choice([32, 32, 32, 20]))
    state_dim = int(rng.integers(5, state_width + 1))
    if name == "pi05" and not release.startswith("0.4") and rng.random() < 0.3:
        state_dim = sizes["action_dim"] + 3  # more than the actions are wide: it is text
    action_dim = int(rng.integers(5, sizes["action_dim"] + 1))
    config_class = getattr(
        importlib.import_module(f"lerobot.policies.{name}.configuration_{name}"), f"{name.upper()}Config"
    )
    extra: dict[str, Any] = {}
    if hasattr(config_class, "use_relative_actions") and rng.random() < 0.5:
        action_dim = state_dim = min(state_dim, action_dim)
        joints = [f"{'gripper' if rng.random() < 0.3 else 'joint'}_{i}.pos" for i in range(action_dim)]
        extra = {"use_relative_actions": True, "relative_exclude_joints": ["Gripper"]}
        extra["action_feature_names"] = joints if rng.random() < 0.7 else None
    cameras = [f"observation.{camera}" for camera in rng.permutation(CAMERAS)[: int(rng.integers(1, 4))]]
    sides = [(int(rng.integers(60, 200)), int(rng.integers(201, 320))) for _ in cameras]
    sides = [side if rng.random() < 0.5 else side[::-1] for side in sides]
    inputs = {one: PolicyFeature(FeatureType.VISUAL, (3, *side)) for one, side in zip(cameras, sides, strict=True)}
    inputs[STATE] = PolicyFeature(FeatureType.STATE, (state_dim,))
    modes = OLD_MODES if is_old(release) else MODES
    chosen = {"VISUAL": "IDENTITY", "STATE": str(rng.choice(modes)), "ACTION": str(rng.choice(modes))}
    steps = int(rng.choice([5, 10]))
    extra["normalization_mapping"] = {key: NormalizationMode(value) for key, value in chosen.items()}
    if is_old(release):
        extra |= {"num_steps": steps, "proj_width": sizes["expert"]["width"]}
    else:
        extra |= {"num_inference_steps": steps, "dtype": "float32"}
    return config_class(
        input_features=inputs,
        output_features={ACTION: PolicyFeature(FeatureType.ACTION, (action_dim,))},
        device="cpu",
        chunk_size=sizes["action_horizon"],
        n_action_steps=sizes["action_horizon"],
        max_state_dim=state_width,
        max_action_dim=sizes["action_dim"],
        tokenizer_max_length=sizes["max_token_len"],
        **extra,
    )


def run(release: str, policy: Any, folder: Path, arrays: dict[str, np.ndarray], tasks: list[str]) -> dict[str, Any]:
    """Run raw observations through the policy (and its saved processors), as the release's rollout does."""
    observation: dict[str, Any] = {"task": tasks}
    for key, value in arrays.items():
        if key.startswith("obs|"):
            tensor = torch.from_numpy(value)
            observation[key[4:]] = tensor.permute(0, 3, 1, 2).float() / 255 if tensor.dtype == torch.uint8 else tensor
    noise, seen = torch.from_numpy(arrays["noise_sample"]), {}  # 0.3 changes its noise in place
    sample = policy.model.sample_actions

    def spy(images: Any, masks: Any, tokens: Any, token_mask: Any, *rest: Any, **options: Any) -> torch.Tensor:
        seen.update(images=torch.stack(images, 1), masks=torch.stack(masks, 1), tokens=tokens, token_mask=token_mask)
        seen["state"] = rest[0] if rest else None
        seen["actions_model"] = sample(images, masks, tokens, token_mask, *rest, **{**options, "noise": noise.clone()})
        return seen["actions_model"]

    with mock.patch.object(policy.model, "sample_actions", spy):
        if is_old(release):
            first = policy.select_action(dict(observation), noise=noise)
            seen["actions_out"] = torch.stack([first, *policy._action_queue], dim=1)
            return {key: value.float().numpy() for key, value in seen.items() if value is not None}
        from lerobot.processor import PolicyProcessorPipeline
        from lerobot.processor.converters import policy_action_to_transition, transition_to_policy_action

        before = PolicyProcessorPipeline.from_pretrained(folder, config_filename=PRE)
        after = PolicyProcessorPipeline.from_pretrained(
            folder,
            config_filename=POST,
            to_transition=policy_action_to_transition,
            to_output=transition_to_policy_action,
        )
        for step in after.steps:  # as LeRobot's factory does
            if hasattr(step, "relative_step"):
                step.relative_step = next((one for one in before.steps if hasattr(one, "_last_state")), None)
        seen["actions_out"] = after(policy.predict_action_chunk(before(observation)))
    return {key: value.numpy() for key, value in seen.items() if value is not None}


def write_trainer_config(folder: Path, config: Any) -> None:
    """Write train_config.json with the release's own class."""
    from lerobot.configs.default import DatasetConfig
    from lerobot.configs.train import TrainPipelineConfig

    TrainPipelineConfig(dataset=DatasetConfig(repo_id="someone/demo"), policy=config).save_pretrained(folder)


def make_case(out: Path, release: str, seed: int, name: str, kind: str, tokenizer: Any, mutation: str = "") -> None:
    """Draw one policy, write its folder, load it again and run it."""
    rng = np.random.default_rng([seed, sum(map(ord, name)), 7])
    sizes = draw_sizes(rng, name, num_heads=8)
    sizes["max_token_len"] = int(rng.choice([48, 64] if name == "pi0" else [64, 200]))
    config = draw_config(rng, release, sizes)
    folder = new_case(out, f"lerobot-{kind}-{mutation or release}-{name}-{seed}")
    checkpoint = folder / "checkpoint"
    dims = {STATE: config.input_features[STATE].shape[0], ACTION: config.output_features[ACTION].shape[0]}
    stats = {key: draw_stats(rng, dim) for key, dim in dims.items()}
    cameras = [key for key, feature in config.input_features.items() if feature.type == FeatureType.VISUAL]
    tensors = {key: {k: torch.from_numpy(v).float() for k, v in one.items()} for key, one in stats.items()}
    for camera in cameras:  # as a dataset has them; with VISUAL: IDENTITY they do nothing
        mean = torch.from_numpy(rng.uniform(0.3, 0.6, (3, 1, 1))).float()
        tensors[camera] = {"mean": mean, "std": mean / 2, "min": mean * 0, "max": mean * 0 + 1}
    with small(release, sizes), tokenizing(release, tokenizer):
        policy = policy_of(name)(config, dataset_stats=tensors) if is_old(release) else policy_of(name)(config)
        buffers = {key: value.clone() for key, value in policy.named_parameters() if "buffer_" in key}
        draw_parameters(rng, policy)
        with torch.no_grad():
            for key, value in policy.named_parameters():
                if key in buffers:
                    value.copy_(buffers[key])
        policy.save_pretrained(checkpoint)
        policy = policy_of(name).from_pretrained(checkpoint)
        policy.eval()
        if not is_old(release):
            processors = importlib.import_module(f"lerobot.policies.{name}.processor_{name}")
            before, after = getattr(processors, f"make_{name}_pre_post_processors")(config, tensors)
            before.save_pretrained(checkpoint, config_filename=PRE)
            after.save_pretrained(checkpoint, config_filename=POST)
        if kind != "untold":
            write_trainer_config(checkpoint, config)
        arrays: dict[str, np.ndarray] = {}
        for camera in cameras:
            side = config.input_features[camera].shape[1:]
            arrays[f"obs|{camera}"] = rng.integers(0, 256, (ROWS, *side, 3), dtype=np.uint8)
        spread = stats[STATE]
        drawn = spread["mean"] + spread["std"] * rng.standard_normal((ROWS, dims[STATE]))
        arrays[f"obs|{STATE}"] = drawn.astype(np.float32)
        chunk = (ROWS, sizes["action_horizon"], sizes["action_dim"])
        arrays["noise_sample"] = rng.standard_normal(chunk).astype(np.float32)
        tasks = [str(task) for task in rng.choice(TASKS, ROWS)]
        if mutation:
            mutate(checkpoint, MUTATIONS[mutation])
        refused = ""
        try:
            arrays |= run(release, policy, checkpoint, arrays, tasks)
        except Exception as error:  # a mutation that LeRobot does not run either
            if not mutation:
                raise
            refused = f"{type(error).__name__}: {str(error)[:200]}"
    sizes["cameras"] = cameras
    steps = getattr(config, "num_inference_steps", None) or config.num_steps
    case = {"reference": "lerobot", "kind": kind, "model": name, "seed": seed, "sizes": sizes, "tasks": tasks}
    case |= {"release": release, "num_steps": steps, "mutation": mutation, "lerobot_refuses": refused}
    save_case(folder, case, PACKAGES, arrays)


# --- mutations of the processors: each changes the steps of the pre- and the post-processor in place ---


def at(steps: Steps, name: str) -> int:
    """The place of the first step called `name`, or whose name contains it."""
    names = [step.get("registry_name", "") for step in steps]
    return names.index(name) if name in names else next(i for i, found in enumerate(names) if name in found)


def drop(steps: Steps, name: str) -> None:
    del steps[at(steps, name)]


def move(steps: Steps, name: str, place: int) -> None:
    steps.insert(place if place >= 0 else len(steps), steps.pop(at(steps, name)))


def config_of(steps: Steps, name: str) -> dict[str, Any]:
    return steps[at(steps, name)].setdefault("config", {})


TEXT, TOKENIZER = "state_tokenizer", "tokenizer_processor"
Mutation = Callable[[Steps, Steps], object]


def on_config(side: int, name: str, **values: Any) -> Mutation:
    """Set keys of the config of a step; side 0 is the pre-processor."""
    return lambda *sides: config_of(sides[side], name).update(values)


def on_map(side: int, name: str, **values: Any) -> Mutation:
    """Set entries of `norm_map`; None takes one out."""

    def change(*sides: Steps) -> None:
        modes = config_of(sides[side], name)["norm_map"]
        modes.update(values)
        for key in [key for key, value in values.items() if value is None]:
            del modes[key]

    return change


def all_of(*changes: Mutation) -> Mutation:
    return lambda before, after: [change(before, after) for change in changes]


def of_state(change: Callable[[dict[str, Any]], object]) -> Mutation:
    """Change the features of the normaliser."""
    return lambda before, after: change(config_of(before, "normalizer")["features"])


EXTRA_LINE = {"registry_name": "smolvla_new_line_processor", "config": {}}
UNKNOWN = {"registry_name": "observation_processor", "config": {}}
MUTATIONS: dict[str, Mutation] = {
    "without-rename": lambda b, a: drop(b, "rename"),
    "without-batch": lambda b, a: drop(b, "to_batch"),
    "without-device": lambda b, a: (drop(b, "device"), drop(a, "device")),
    "without-newline": lambda b, a: drop(b, "new_line"),
    "without-text": lambda b, a: drop(b, TEXT),
    "without-tokenizer": lambda b, a: drop(b, TOKENIZER),
    "without-relative": lambda b, a: drop(b, "relative"),
    "without-absolute": lambda b, a: drop(a, "absolute"),
    "without-both": lambda b, a: (drop(b, "relative"), drop(a, "absolute")),
    "without-normalizer": lambda b, a: drop(b, "normalizer"),
    "without-unnormalizer": lambda b, a: drop(a, "unnormalizer"),
    "normalizer-first": lambda b, a: move(b, "normalizer", 0),
    "normalizer-last": lambda b, a: move(b, "normalizer", -1),
    "relative-last": lambda b, a: move(b, "relative", -1),
    "relative-first": lambda b, a: move(b, "relative", 0),
    "tokenizer-first": lambda b, a: move(b, TOKENIZER, 0),
    "tokenizer-last": lambda b, a: move(b, TOKENIZER, -1),
    "rename-last": lambda b, a: move(b, "rename", -1),
    "absolute-first": lambda b, a: move(a, "absolute", 0),
    "relative-on": on_config(0, "relative", enabled=True),
    "relative-off": on_config(0, "relative", enabled=False),
    "absolute-on": on_config(1, "absolute", enabled=True),
    "absolute-off": on_config(1, "absolute", enabled=False),
    "both-on": all_of(on_config(0, "relative", enabled=True), on_config(1, "absolute", enabled=True)),
    "both-off": all_of(on_config(0, "relative", enabled=False), on_config(1, "absolute", enabled=False)),
    "keys-none": on_config(0, "normalizer", normalize_observation_keys=[]),
    "keys-state": on_config(0, "normalizer", normalize_observation_keys=[STATE]),
    "features-no-state": of_state(lambda features: features.pop(STATE)),
    "features-none": on_config(0, "normalizer", features={}),
    "features-env": of_state(lambda features: features[STATE].update(type="ENV")),
    "after-features-none": on_config(1, "unnormalizer", features={}),
    "visual-mean-std": on_map(0, "normalizer", VISUAL="MEAN_STD"),
    "visual-state-only": all_of(
        on_map(0, "normalizer", VISUAL="MEAN_STD"), on_config(0, "normalizer", normalize_observation_keys=[STATE])
    ),
    "state-min-max": on_map(0, "normalizer", STATE="MIN_MAX"),
    "map-no-state": on_map(0, "normalizer", STATE=None),
    "map-no-action": on_map(1, "unnormalizer", ACTION=None),
    "action-quantiles": on_map(1, "unnormalizer", ACTION="QUANTILES"),
    "epsilon": on_config(0, "normalizer", eps=0.1),
    "short-prompt": on_config(0, TOKENIZER, max_length=24),
    "padding-left": on_config(0, TOKENIZER, padding_side="left"),
    "no-state-in-prompt": on_config(0, TEXT, include_state_in_prompt=False),
    "twice-normalizer": lambda b, a: b.append(dict(b[at(b, "normalizer")])),
    "exclude-joint": on_config(0, "relative", exclude_joints=["joint"]),
    "newline-last": lambda b, a: b.append(EXTRA_LINE),
    "newline-first": lambda b, a: b.insert(0, EXTRA_LINE),
    "extra-unnormalizer": lambda b, a: b.append(dict(a[at(a, "unnormalizer")])),
    "unknown-step": lambda b, a: b.insert(1, UNKNOWN),
    "bfloat16": on_config(1, "device", float_dtype="bfloat16"),
}


def mutate(folder: Path, change: Mutation) -> None:
    """Change the processors' files; statistics keep the names of their files."""
    contents = [json.loads((folder / file).read_text()) for file in (PRE, POST)]
    change(contents[0]["steps"], contents[1]["steps"])
    for file, content in zip((PRE, POST), contents, strict=True):
        (folder / file).write_text(json.dumps(content, indent=1))


def tokenizer_from(path: Path) -> Any:
    """Return the tokenizer that LeRobot would take from google/paligemma-3b-pt-224, with other pieces."""
    try:
        return GemmaTokenizer.from_pretrained(path.parent, vocab_file=str(path), add_bos_token=True)
    except (OSError, ValueError, TypeError):
        return GemmaTokenizer(vocab_file=str(path), add_bos_token=True)


if __name__ == "__main__":
    command = parser(__doc__.splitlines()[0])
    command.add_argument("--release", required=True, help="such as 0.4.4: the release that is on PYTHONPATH")
    command.add_argument("--tokenizer", type=Path, required=True, help="a SentencePiece model of at most 512 pieces")
    command.add_argument("--kinds", nargs="+", default=["trained"], choices=["trained", "untold", "mutated"])
    options = command.parse_args()
    torch.set_num_threads(1)
    made = tokenizer_from(options.tokenizer)
    for one_kind in options.kinds:
        for one_model in ["pi0"] if is_old(options.release) else options.models:
            for one_seed in options.seeds:
                for one_mutation in MUTATIONS if one_kind == "mutated" else [""]:
                    try:
                        make_case(
                            options.out.absolute(), options.release, one_seed, one_model, one_kind, made, one_mutation
                        )
                    except StopIteration:
                        print(f"{one_mutation}: no such step in {one_model}", flush=True)
