"""Which checkpoint lies at a path, and where exactly: told by the files that are there, never by the path's words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pi0_ros.checkpoints import own
from pi0_ros.checkpoints.folders import existing, read_json
from pi0_ros.checkpoints.orbax import METADATA as ORBAX
from pi0_ros.checkpoints.peft import ADAPTER
from pi0_ros.checkpoints.peft import CONFIG as ADAPTER_CONFIG
from pi0_ros.checkpoints.safetensors_files import CheckpointError, SafetensorsFile, WeightsError

WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
PARAMS = "params"
_BELOW = ("pretrained_model", "last/pretrained_model", "checkpoints/last/pretrained_model")
_SHARD = re.compile(r"model-(\d+)-of-(\d+)\.safetensors")
_EXPECTED = (
    f"expected one of: a folder of this package or of LeRobot ({CONFIG} and {WEIGHTS}), an openpi PyTorch folder "
    f"({WEIGHTS}), an openpi JAX folder ({PARAMS}/ with {ORBAX}), or a .safetensors file"
)


@dataclass(frozen=True)
class Located:
    """A checkpoint's format and the places of its parts."""

    format: str
    path: Path  # the folder, or the file where it was asked for itself
    weights: Path  # a .safetensors file, a folder of shards, or an orbax folder


def locate(path: Path | str) -> Located:
    """Find the checkpoint at `path`; CheckpointError says what is there and what was expected."""
    asked, path = str(path), existing(Path(path).expanduser().absolute())
    if path.is_file():
        return _file(path)
    if not path.is_dir():
        raise CheckpointError(f"{path}: there is no such checkpoint{_how_to_get(asked)}")
    for folder in (path, *(path / below for below in _BELOW)):
        if found := _folder(folder):
            return found
    raise CheckpointError(f"{path}: no checkpoint here{_what_is_there(path)}; {_EXPECTED}")


def open_files(weights: Path) -> list[SafetensorsFile]:
    """Open the safetensors file or all shards of a folder, checked to be complete."""
    if weights.is_file():
        return [SafetensorsFile(weights)]
    index = weights / INDEX
    if not index.is_file():
        shards = sorted(file for file in weights.iterdir() if _SHARD.fullmatch(file.name))
        total = {int(_SHARD.fullmatch(file.name)[2]) for file in shards}  # type: ignore[index]
        if total != {len(shards)}:
            raise WeightsError(f"{weights}: {len(shards)} of {max(total)} shards are there; copy the others too")
        return [SafetensorsFile(file) for file in shards]
    where = read_json(index).get("weight_map")
    if not isinstance(where, dict) or not all(isinstance(name, str) for name in where.values()):
        raise WeightsError(f"{index}: 'weight_map' must say for each tensor which file it is in")
    if away := [name for name in where.values() if Path(name).name != name]:
        raise WeightsError(f"{index}: names {away[0]:.80}, which is no file beside it: copy it there")
    files = {name: SafetensorsFile(weights / name) for name in sorted(set(where.values()))}
    if missing := [tensor for tensor, name in where.items() if tensor not in files[name].tensors]:
        raise WeightsError(f"{index}: {missing[0]} is not in {where[missing[0]]} ({len(missing)} such tensors)")
    return list(files.values())


def _file(path: Path) -> Located:
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path}: not a checkpoint; {_EXPECTED} (pickled files are never read)")
    wrapped = any(name.startswith("model.") for name in SafetensorsFile(path).tensors)
    return Located("lerobot" if wrapped else "openpi_torch", path, path)


def _folder(folder: Path) -> Located | None:
    """Return the checkpoint that this folder itself is, if it is one."""
    if (folder / ORBAX).is_file():
        return Located("openpi_jax", folder.parent if folder.name == PARAMS else folder, folder)
    config = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    if config.get("format") == own.FORMAT and (folder / WEIGHTS).is_file():
        return Located("pi0_ros", folder, folder / WEIGHTS)
    if (folder / ADAPTER_CONFIG).is_file() and (config.get("use_peft") or not (folder / WEIGHTS).is_file()):
        return Located("lerobot", folder, folder / ADAPTER)
    whole = (folder / WEIGHTS).is_file()
    if whole or (folder / INDEX).is_file() or any(map(_SHARD.fullmatch, _names(folder))):
        weights = folder / WEIGHTS if whole else folder
        wrapped = any(name.startswith("model.") for file in open_files(weights) for name in file.tensors)
        return Located("lerobot" if "type" in config or wrapped else "openpi_torch", folder, weights)
    if "type" in config or config.get("format") == own.FORMAT:
        raise CheckpointError(f"{folder}: {CONFIG} is there but no {WEIGHTS}; copy or download the weights too")
    if (folder / PARAMS / ORBAX).is_file():
        return Located("openpi_jax", folder, folder / PARAMS)
    if (folder / PARAMS).is_dir():
        raise CheckpointError(f"{folder / PARAMS}: no {ORBAX}, so it is no whole orbax checkpoint; copy it again")
    return None


def _how_to_get(asked: str) -> str:
    """A hint for names of checkpoints that lie elsewhere."""
    if asked.startswith("gs:/"):  # one slash is left of two in a Path
        bucket = asked.removeprefix("gs:").lstrip("/")
        return f"; download it first: gsutil -m cp -r gs://{bucket} FOLDER"
    if re.fullmatch(r"[\w-]+/[\w.-]+", asked):
        return f"; if it is a name on the Hugging Face hub, download it first: hf download {asked} --local-dir FOLDER"
    return ""


def _names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []


def _what_is_there(path: Path) -> str:
    """Hints for folders that people take for checkpoints."""
    names = _names(path)
    if steps := [name for name in names if name.isdigit()]:
        return f", but steps of a training run ({', '.join(steps[-3:])}): name one of them"
    if pickled := [name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt"))]:
        return f", but {pickled[0]}, a pickled file, which is never read: convert it to safetensors"
    return f" (only {', '.join(names[:5])})" if names else ", the folder is empty"
