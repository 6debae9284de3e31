"""Run openpi's released policies end to end, raw observation to robot action, on random small weights and statistics.

Needs what `openpi_jax.py` needs, a SentencePiece model of at most 512 pieces instead of PaliGemma's and, for
`--prompts` of pi0-FAST, the folder of an action tokenizer:

    python openpi_policies.py --out cases --tokenizer tiny.model --seeds 0 1 2
    python openpi_policies.py --out cases --tokenizer tiny.model --fast fast_folder --prompts 300

Configs come from openpi's registry, policies from its `create_trained_policy`, once as it is (bfloat16) and once with
float32 parameters. UR5 is not in the registry: its transforms are those of `examples/ur5/README.md`.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jax.numpy as jnp
import numpy as np
from common import draw_sizes, draw_text, new_case, save_case
from openpi import transforms
from openpi.models import tokenizer
from openpi.models.pi0_config import Pi0Config
from openpi.policies import policy_config
from openpi.shared import array_typing
from openpi.training import config as registry
from openpi_jax import PACKAGES, draw_params, norm_stats, small, write_released

CONFIGS = (
    "pi0_aloha",
    "pi05_aloha",
    "pi0_aloha_sim",
    "pi0_droid",
    "pi05_droid",
    "pi05_full_droid_finetune",
    "pi0_libero",
    "pi05_libero",
    "pi0_ur5",
    "pi05_ur5",
)
DIMS = {"aloha": (14, 14), "droid": (8, 8), "libero": (8, 7), "ur5": (7, 7)}  # state, actions


@dataclasses.dataclass(frozen=True)
class UR5Inputs(transforms.DataTransformFn):
    """The two cameras and seven numbers of openpi's UR5 example."""

    def __call__(self, data: dict) -> dict:
        empty = np.zeros_like(data["base_rgb"])
        return {
            "state": np.concatenate([data["joints"], data["gripper"]]),
            "image": {
                "base_0_rgb": data["base_rgb"],
                "left_wrist_0_rgb": data["wrist_rgb"],
                "right_wrist_0_rgb": empty,
            },
            "image_mask": {"base_0_rgb": np.True_, "left_wrist_0_rgb": np.True_, "right_wrist_0_rgb": np.False_},
            "prompt": data["prompt"],
        }


@dataclasses.dataclass(frozen=True)
class UR5Outputs(transforms.DataTransformFn):
    """Seven numbers out of the model's action."""

    def __call__(self, data: dict) -> dict:
        return {"actions": np.asarray(data["actions"][:, :7])}


def train_config(name: str) -> registry.TrainConfig:
    """Return openpi's config of the name."""
    if not name.endswith("_ur5"):
        return registry.get_config(name)
    mask = transforms.make_bool_mask(6, -1)
    group = transforms.Group(inputs=[UR5Inputs()], outputs=[UR5Outputs()]).push(
        inputs=[transforms.DeltaActions(mask)], outputs=[transforms.AbsoluteActions(mask)]
    )
    data = registry.SimpleDataConfig(assets=registry.AssetsConfig(asset_id="ur5e"), data_transforms=lambda model: group)
    return registry.TrainConfig(name=name, model=Pi0Config(pi05=name.startswith("pi05")), data=data, exp_name="none")


@contextlib.contextmanager
def tokenizer_file(path: Path) -> Iterator[None]:
    """Give openpi `path` when it asks for PaliGemma's tokenizer, and no other file of the network."""
    original = tokenizer.download.maybe_download

    def find(url: str, **options: Any) -> Path:
        if url.endswith("paligemma_tokenizer.model"):
            return path
        if "://" in url:
            raise FileNotFoundError(url)
        return original(url, **options)

    with mock.patch.object(tokenizer.download, "maybe_download", find):
        yield


def draw_observation(rng: np.random.Generator, robot: str) -> dict[str, np.ndarray]:
    """Draw what a client of openpi's policy server sends; nested keys are joined by |."""

    def picture(channels_first: bool = False) -> np.ndarray:
        shape = (int(rng.integers(60, 400)), int(rng.integers(60, 400)), 3)
        pixels = rng.integers(0, 256, shape, dtype=np.uint8)
        return pixels.transpose(2, 0, 1) if channels_first else pixels

    joints = rng.normal(0, 0.7, 14)
    if robot == "aloha":
        joints[[6, 13]] = rng.random(2)
        names = ["cam_high", "cam_left_wrist", "cam_right_wrist"]
        return {"state": joints} | {f"images|{name}": picture(channels_first=True) for name in names}
    if robot == "aloha_sim":
        joints[[6, 13]] = rng.random(2)
        return {"state": joints, "images|cam_high": picture(channels_first=True)}
    if robot == "droid":
        return {
            "observation/exterior_image_1_left": picture(),
            "observation/wrist_image_left": picture(),
            "observation/joint_position": joints[:7],
            "observation/gripper_position": rng.random(1),
        }
    if robot == "libero":
        pictures = {"observation/image": picture(), "observation/wrist_image": picture()}
        return {"observation/state": joints[:8], **pictures}
    return {"joints": joints[:6], "gripper": rng.random(1), "base_rgb": picture(), "wrist_rgb": picture()}


def nested(arrays: dict[str, Any]) -> dict[str, Any]:
    """Return {"images|cam_high": x} as {"images": {"cam_high": x}}."""
    found: dict[str, Any] = {}
    for key, value in arrays.items():
        head, _, tail = key.partition("|")
        if tail:
            found.setdefault(head, {})[tail] = value
        else:
            found[head] = value
    return found


def make_case(out: Path, seed: int, name: str, tokenizer_path: Path) -> None:
    """Draw weights and statistics for one config, write its checkpoint, run the policy on a drawn observation."""
    rng = np.random.default_rng([seed, sum(map(ord, name)), 3])
    config = train_config(name)
    robot = next(key for key in DIMS if key in name)
    is_pi05 = config.model.pi05
    sizes = draw_sizes(rng, "pi05" if is_pi05 else "pi0")
    sizes |= {key: getattr(config.model, key) for key in ("action_dim", "action_horizon", "max_token_len")}
    sizes["discrete_state_input"] = config.model.discrete_state_input and is_pi05
    exact = dataclasses.replace(config, model=dataclasses.replace(config.model, dtype="float32"))
    with tokenizer_file(tokenizer_path), small(sizes), array_typing.disable_typechecking():
        asset_id = config.data.create(config.assets_dirs, config.model).asset_id
        folder = new_case(out, f"openpi_policy-{name}-{seed}")
        stats = norm_stats(rng, *DIMS[robot])
        write_released(folder, draw_params(rng, exact.model), stats, asset_id)
        observed = draw_observation(rng, "aloha_sim" if name == "pi0_aloha_sim" else robot)
        prompt = draw_text(rng)
        noise = rng.standard_normal((config.model.action_horizon, config.model.action_dim)).astype(np.float32)
        restore = policy_config._model.restore_params
        keep = mock.patch.object(
            policy_config._model, "restore_params", lambda path, dtype=None: restore(path, dtype=jnp.float32)
        )
        with keep:
            policy = policy_config.create_trained_policy(exact, folder / "checkpoint")
        seen: dict[str, np.ndarray] = {}
        sample = policy._sample_actions

        def spy(rng_key: Any, model_input: Any, **options: Any) -> Any:
            for camera in sizes["cameras"]:
                seen[f"model_image_{camera}"] = np.asarray(model_input.images[camera])
                seen[f"model_image_mask_{camera}"] = np.asarray(model_input.image_masks[camera])
            seen["model_state"] = np.asarray(model_input.state)
            seen["model_tokens"] = np.asarray(model_input.tokenized_prompt)
            seen["model_token_mask"] = np.asarray(model_input.tokenized_prompt_mask)
            actions = sample(rng_key, model_input, **options)
            seen["model_actions"] = np.asarray(actions)
            return actions

        policy._sample_actions = spy
        asked: dict[str, Any] = {**observed, "prompt": prompt}
        outputs = policy.infer(nested(asked), noise=noise)
        low = policy_config.create_trained_policy(config, folder / "checkpoint")
        rough = low.infer(nested(asked), noise=noise)
    arrays: dict[str, Any] = {f"obs|{key}": value for key, value in observed.items()} | seen | {"noise": noise}
    arrays |= {"out_actions": np.asarray(outputs["actions"]), "out_actions_bf16": np.asarray(rough["actions"])}
    case = {"reference": "openpi_policy", "kind": name, "model": sizes["model"], "seed": seed, "sizes": sizes}
    case |= {"robot": robot, "prompt": prompt, "asset_id": asset_id}
    save_case(folder, case, (*PACKAGES, "pillow"), arrays)


def make_prompts(out: Path, count: int, tokenizer_path: Path, fast: str) -> None:
    """Tokenise drawn instructions and states with openpi's tokenizers, and decode drawn answers of pi0-FAST."""
    rng = np.random.default_rng(count)
    entries: list[dict[str, Any]] = []
    with tokenizer_file(tokenizer_path):
        for _ in range(count):
            prompt, length = draw_text(rng), int(rng.choice([5, 12, 48, 100, 200]))
            state = rng.normal(0, 0.7, int(rng.integers(1, 15))).astype(rng.choice(["float32", "float64"]))
            state[rng.random(len(state)) < 0.2] = rng.choice([-1, 1, 0, 127 / 128, -1 + 1 / 128])
            entry: dict[str, Any] = {"prompt": prompt, "max_len": length, "state": state.tolist()}
            plain = tokenizer.PaligemmaTokenizer(length)
            for key, arguments in (("pi0", (prompt,)), ("pi05", (prompt, state))):
                tokens, mask = plain.tokenize(*arguments)
                entry[key] = {"tokens": np.asarray(tokens, int).tolist(), "mask": np.asarray(mask, bool).tolist()}
            if fast:
                actions = np.cumsum(rng.normal(0, 0.3, (10, 7)), 0).clip(-1.5, 1.5)
                entry["actions"] = actions.tolist()
                entry["fast"] = _fast_entry(tokenizer.FASTTokenizer(length, fast), prompt, state, actions, rng)
            entries.append(entry)
    (out / "prompts-openpi.json").write_text(json.dumps(entries))


def _fast_entry(
    codec: tokenizer.FASTTokenizer, prompt: str, state: np.ndarray, actions: np.ndarray, rng: np.random.Generator
) -> dict[str, Any]:
    entry: dict[str, Any] = {}
    for key, given in (("question", None), ("answer", actions)):
        parts = codec.tokenize(prompt, state, given)
        entry[key] = {
            n: np.asarray(p, int).tolist() for n, p in zip(("tokens", "mask", "ar", "loss"), parts, strict=True)
        }
    words = codec._paligemma_tokenizer
    spelled = codec._act_tokens_to_paligemma_tokens(codec._fast_tokenizer(actions[None])[0]).tolist()
    answer = words.encode("Action: ") + spelled + words.encode("|", add_eos=True)
    variants = [answer, answer[: len(answer) // 2], rng.integers(2, 500, 30).tolist(), words.encode("Action: |")]
    variants.append(words.encode("Action: ") + rng.integers(90, 380, 40).tolist() + words.encode("| and Action: more"))
    entry["written"] = variants
    entry["decoded"] = []
    for written in variants:
        try:
            entry["decoded"].append(codec.extract_actions(np.asarray(written), 10, 7).tolist())
        except Exception as error:
            entry["decoded"].append(f"{type(error).__name__}: {error}")
    return entry


if __name__ == "__main__":
    command = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    command.add_argument("--out", type=Path, required=True)
    command.add_argument("--tokenizer", type=Path, required=True)
    command.add_argument("--fast", default="", help="folder of an action tokenizer, for --prompts")
    command.add_argument("--seeds", type=int, nargs="+", default=[0])
    command.add_argument("--configs", nargs="+", default=list(CONFIGS))
    command.add_argument("--prompts", type=int, default=0, help="write prompts-openpi.json instead of policies")
    options = command.parse_args()
    out_folder, pieces = options.out.absolute(), options.tokenizer.absolute()
    if options.prompts:
        make_prompts(out_folder, options.prompts, pieces, options.fast)
        raise SystemExit
    for one_config in options.configs:
        for one_seed in options.seeds:
            make_case(out_folder, one_seed, one_config, pieces)
