"""Run pi0_ros policies and prompts on the case folders of the reference scripts and print the differences.

    python compare_policies.py cases --tokenizer tiny.model [--fast fast_folder] [--only PART]

`openpi_policy-*` and `lerobot-*`: the raw observation goes through our transforms, network and the robot file (a
shipped one; for LeRobot one made from the case) to robot actions. `prompts-*.json`: token for token.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from compare import LIMIT, largest, unsaid

from pi0_ros.checkpoints.checkpoint import load_checkpoint
from pi0_ros.checkpoints.lerobot import slot_of
from pi0_ros.checkpoints.safetensors_files import CheckpointError
from pi0_ros.model.config import ModelConfig
from pi0_ros.policy.transforms import actions_from_model, make_inputs
from pi0_ros.robot import Robot, load_robot, robot_from_yaml
from pi0_ros.tokens.action_tokens import ActionCodec, ActionTokens
from pi0_ros.tokens.tokenizer import Tokenizer

ROBOTS = {
    "pi0_aloha": "aloha",
    "pi05_aloha": "aloha",
    "pi0_aloha_sim": "aloha_sim",
    "pi0_droid": "franka_droid",
    "pi05_droid": "franka_droid",
    "pi05_full_droid_finetune": "franka_droid_position",
    "pi0_libero": "libero_pi0",
    "pi05_libero": "libero",
    "pi0_ur5": "ur5e",
    "pi05_ur5": "ur5e",
}
PICTURES = {  # key of openpi's client -> camera of the robot file
    "images|cam_high": "high",
    "images|cam_left_wrist": "left_wrist",
    "images|cam_right_wrist": "right_wrist",
    "observation/exterior_image_1_left": "exterior",
    "observation/wrist_image_left": "wrist",
    "observation/image": "image",
    "observation/wrist_image": "wrist_image",
    "base_rgb": "exterior",
    "wrist_rgb": "wrist",
}
STATES = (
    "state",
    "observation/state",
    "observation/joint_position",
    "observation/gripper_position",
    "joints",
    "gripper",
)
FINGER = (0.01844, 0.05800)  # places of ALOHA's finger, m, that its clients call 0 and 1
CLOSED = 0.8  # rad of the Robotiq knuckle that clients call 1


def openpi_observation(name: str, arrays: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return pictures by camera and the state, in the units of the robot file."""
    raw = {key[4:]: value for key, value in arrays.items() if key.startswith("obs|")}
    images = {camera: raw[key] for key, camera in PICTURES.items() if key in raw}
    if name == "pi0_aloha_sim":
        images = {"top": images["high"]}
    images = {key: x.transpose(1, 2, 0) if x.shape[0] == 3 else x for key, x in images.items()}
    state = np.concatenate([raw[key] for key in STATES if key in raw])
    if ROBOTS[name] == "aloha":
        state[[6, 13]] = FINGER[0] + state[[6, 13]] * (FINGER[1] - FINGER[0])
    elif "droid" in name or "ur5" in name:
        state[-1] *= CLOSED
    return images, state


def openpi_actions(name: str, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Return what openpi's policy and its client command, in the units of the robot file."""
    actions = np.array(actions, np.float64)
    if ROBOTS[name] == "aloha":  # scaled angle of the crank -> place of the finger
        angle = np.clip(actions[:, [6, 13]] * (1.4910 + 0.6213) - 0.6213, -np.pi / 2, np.pi / 2)
        actions[:, [6, 13]] = 0.022 * np.sin(angle) + np.sqrt(0.036**2 - (0.022 * np.cos(angle)) ** 2)
    if ROBOTS[name] == "franka_droid":  # velocities: up to 0.2 rad per step
        actions[:, :7] = state[:7] + np.cumsum(np.clip(actions[:, :7], -1, 1) * 0.2, axis=0)
    if "droid" in name:
        actions[:, 7] = (actions[:, 7] > 0.5) * CLOSED
    if "ur5" in name:
        actions[:, 6] *= CLOSED
    return actions


def openpi_row(case: dict[str, Any], folder: Path, arrays: dict[str, np.ndarray], tokenizer: Path) -> dict[str, float]:
    """Compare one observation through a policy of openpi."""
    name = case["kind"]
    images, state = openpi_observation(name, arrays)
    sizes = {key: value for key, value in unsaid(case).items() if key in ("vision", "vlm", "expert")}
    checkpoint = load_checkpoint(
        folder / "checkpoint", robot=load_robot(ROBOTS[name]), tokenizer=tokenizer, config=sizes
    )
    spec = checkpoint.spec
    stated = {key: case["sizes"][key] for key in ("action_horizon", "max_token_len", "discrete_state_input")}
    wrong = {key: value for key, value in stated.items() if getattr(spec.config, key) != value}
    if wrong:
        raise ValueError(f"the released sizes are {wrong}, ours are not")
    inputs = make_inputs(spec, {key: x[None] for key, x in images.items()}, state[None], [case["prompt"]])
    row = {"tokens": float((inputs.prompt_tokens.numpy() != arrays["model_tokens"]).sum())}
    row["state"] = largest(inputs.state.numpy(), arrays["model_state"])
    for slot, mask in inputs.image_masks.items():
        row["masks"] = row.get("masks", 0.0) + float(mask.item() != arrays[f"model_image_mask_{slot}"].item())
        row["pixels"] = max(row.get("pixels", 0.0), largest(inputs.images[slot].numpy(), arrays[f"model_image_{slot}"]))
    sampled = checkpoint.model.sample_actions(inputs, torch.from_numpy(arrays["noise"])[None])
    row["model actions"] = largest(sampled.numpy(), arrays["model_actions"])
    actions = actions_from_model(spec, sampled, state[None])[0]
    row["actions"] = largest(actions, openpi_actions(name, arrays["out_actions"], state))
    row["bf16 ref-fp32"] = largest(arrays["out_actions_bf16"], arrays["out_actions"])
    return row


def lerobot_robot(case: dict[str, Any], arrays: dict[str, np.ndarray], relative: Any) -> Robot:
    """Return a robot with the case's numbers of states and actions and its cameras."""
    states, actions = arrays["obs|observation.state"].shape[1], arrays["actions_out"].shape[2]
    limits = {"position": [-9, 9], "velocity": 1, "acceleration": 1}
    joint = {"unit": "rad", "kind": "revolute", "limits": limits}
    if relative and any(relative):
        joints = [{"name": f"j{i}", **joint, "action": "relative" if r else "absolute"} for i, r in enumerate(relative)]
        joints += [{"name": f"j{i}", **joint, "role": "state"} for i in range(len(relative), states)]
    else:
        joints = [{"name": f"s{i}", **joint, "role": "state"} for i in range(states)]
        joints += [{"name": f"a{i}", **joint, "action": "absolute", "role": "action"} for i in range(actions)]
    slots = [slot_of(Path(), name) for name in cameras_of(arrays)]
    image = {"type": "sensor_msgs/msg/Image", "max_age_s": 1}
    content = {
        "name": "drawn",
        "control_rate_hz": 50,
        "policy_rate_hz": 2,
        "dataset_fps": 50,
        "prompt": "x",
        "joints": joints,
        "cameras": [{"name": f"c{i}", "topic": f"/c{i}", "slot": slot, **image} for i, slot in enumerate(slots)],
        "state": [{"topic": "/s", "type": "sensor_msgs/msg/JointState", "max_age_s": 1}],
        "commands": [{"name": "c", "topic": "/c", "type": "std_msgs/msg/Float64MultiArray"}],
        "action": {"source": "command", "max_age_s": 1},
    }
    return robot_from_yaml(json.dumps(content), str(case["seed"]))


def cameras_of(arrays: dict[str, np.ndarray]) -> list[str]:
    """The names by which LeRobot knows the cameras of a case."""
    return [key[4:] for key in arrays if key.startswith("obs|") and key != "obs|observation.state"]


def lerobot_row(case: dict[str, Any], folder: Path, arrays: dict[str, np.ndarray], words: Path) -> dict[str, float]:
    """Compare a batch of observations through a policy of LeRobot and its processors."""
    from pi0_ros.checkpoints.describe import describe_checkpoint

    description = describe_checkpoint(folder / "checkpoint", config=unsaid(case))
    robot = lerobot_robot(case, arrays, description.settings.relative_actions)
    shipped = description.tokenizer_path is not None
    checkpoint = load_checkpoint(
        folder / "checkpoint",
        robot=robot,
        config=unsaid(case),
        dtype="float32",
        tokenizer="" if shipped else words,
    )
    spec = checkpoint.spec
    images = {f"c{i}": arrays[f"obs|{name}"] for i, name in enumerate(cameras_of(arrays))}
    state = arrays["obs|observation.state"]
    inputs = make_inputs(spec, images, state, case["tasks"])
    row = {"tokens": float((inputs.prompt_tokens.numpy() != arrays["tokens"]).sum())}
    row["masks"] = 0.0
    for index, camera in enumerate(case["sizes"]["cameras"]):
        slot = slot_of(Path(), camera) if camera.startswith("observation.") else camera
        row["masks"] += float((inputs.image_masks[slot].numpy() != arrays["masks"][:, index]).sum())
        theirs = arrays["images"][:, index].transpose(0, 2, 3, 1)
        row["pixels"] = max(row.get("pixels", 0.0), largest(inputs.images[slot].numpy(), theirs))
    if "state" in arrays:
        row["state"] = largest(inputs.state.numpy(), arrays["state"])
    noise = torch.from_numpy(arrays["noise_sample"])
    sampled = checkpoint.model.sample_actions(inputs, noise, spec.settings.num_steps)
    row["model actions"] = largest(sampled.numpy(), arrays["actions_model"])
    row["actions"] = largest(actions_from_model(spec, sampled, state), arrays["actions_out"])
    return row


def prompts(entries: list[dict[str, Any]], tokenizer: Tokenizer, fast: Path | None) -> dict[str, int]:
    """Count prompts, and those whose tokens or masks differ, by format."""
    found: dict[str, int] = {}
    for entry in entries:
        state = np.asarray(entry["state"])
        for name in ("pi0", "pi05", "lerobot_pi0", "lerobot_pi05", "fast"):
            if name not in entry:
                continue
            wanted = entry[name]
            model = {"lerobot_pi0": "pi0", "lerobot_pi05": "pi05", "fast": "pi0_fast"}.get(name, name)
            preset = ModelConfig.preset(model)
            config = replace(preset, vocab_size=tokenizer.vocab_size, max_token_len=entry["max_len"])
            written = "lerobot" if name.startswith("lerobot") else "openpi"
            tokens, mask = tokenizer.encode_prompt(config, entry["prompt"], state, prompt_format=written)
            wanted = wanted["question"] if name == "fast" else wanted
            same = tokens.tolist() == wanted["tokens"] and mask.astype(int).tolist() == list(map(int, wanted["mask"]))
            found[name] = found.get(name, 0) + 1
            found[f"{name} differ"] = found.get(f"{name} differ", 0) + (not same)
            if name == "fast" and fast is not None:
                fast_prompt(entry, tokenizer, fast, config, found)
    return found


def fast_prompt(
    entry: dict[str, Any], words: Tokenizer, fast: Path, config: ModelConfig, found: dict[str, int]
) -> None:
    """Compare the trained sequence of pi0-FAST, and the actions in drawn answers."""
    codec = ActionCodec(words, ActionTokens.load(fast))
    spelled = codec.actions.encode(np.asarray(entry["actions"]))
    tokens, mask, answer = words.encode_action_answer(config, entry["prompt"], entry["state"], spelled)
    expected = [entry["fast"]["answer"][part] for part in ("tokens", "mask", "loss")]
    same = [tokens.tolist(), mask.astype(int).tolist(), answer.astype(int).tolist()]
    found["answers"] = found.get("answers", 0) + 1
    found["answers differ"] = found.get("answers differ", 0) + (same != expected)
    for written, decoded in zip(entry["fast"]["written"], entry["fast"]["decoded"], strict=True):
        kind = "error of theirs" if isinstance(decoded, str) else "decoded"
        found[kind] = found.get(kind, 0) + 1
        ours = codec.decode(np.asarray(written), 10, 7)
        if not isinstance(decoded, str):
            differs = np.abs(ours - np.asarray(decoded)).max() > 1e-6
            found["decoded differ"] = found.get("decoded differ", 0) + int(differs)
            found["not zero"] = found.get("not zero", 0) + int(np.any(decoded))


if __name__ == "__main__":
    command = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    command.add_argument("cases", type=Path)
    command.add_argument("--tokenizer", type=Path, required=True)
    command.add_argument("--fast", type=Path, help="folder of the action tokenizer that the prompts were made with")
    command.add_argument("--only", default="", help="part of the names of the cases to compare")
    options = command.parse_args()
    torch.set_num_threads(1)
    counts: Counter[str] = Counter()
    largest_of_all = 0.0
    for path in sorted(options.cases.iterdir()):
        if options.only not in path.name:
            continue
        if path.suffix == ".json":
            print(path.name, prompts(json.loads(path.read_text()), Tokenizer.load(options.tokenizer), options.fast))
        elif path.name.startswith(("openpi_policy", "lerobot")) and (path / "case.json").is_file():
            case = json.loads((path / "case.json").read_text())
            arrays = dict(np.load(path / "expected.npz"))
            if case.get("lerobot_refuses"):
                print(f"{path.name:42s} LeRobot does not run it: {case['lerobot_refuses']}", flush=True)
                counts["not run by LeRobot"] += 1
                continue
            try:
                if case["reference"] == "lerobot":
                    row = lerobot_row(case, path, arrays, options.tokenizer)
                else:
                    row = openpi_row(case, path, arrays, options.tokenizer)
            except CheckpointError as error:
                counts["refused"] += 1
                print(f"{path.name:42s} refused: {str(error).replace(str(path), '')}", flush=True)
                continue
            except ValueError as error:
                counts["failed"] += 1
                print(f"{path.name:42s} FAILED {error}", flush=True)
                continue
            worst = max(v for k, v in row.items() if "bf16" not in k)
            largest_of_all = max(largest_of_all, worst if worst <= LIMIT else 0)
            counts["equal" if worst <= LIMIT else "DIFFERENT"] += 1
            mark = "" if worst <= LIMIT else "  <-- above the limit"
            print(f"{path.name:42s} " + " ".join(f"{k} {v:.1e}" for k, v in row.items()) + mark, flush=True)
    print(f"{dict(counts)}, the largest difference of the equal ones {largest_of_all:.1e}")
