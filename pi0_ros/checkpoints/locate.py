"""Which checkpoint lies at a path, and where exactly: told by the files that are there, never by the path's words."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from pi0_ros.base.disk import expanded
from pi0_ros.checkpoints import own
from pi0_ros.checkpoints.folders import existing, leftovers, read_json
from pi0_ros.checkpoints.orbax import METADATA as ORBAX
from pi0_ros.checkpoints.peft import ADAPTER
from pi0_ros.checkpoints.peft import CONFIG as ADAPTER_CONFIG
from pi0_ros.checkpoints.safetensors_files import CheckpointError, SafetensorsFile, WeightsError

WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
PARAMS = "params"
_BELOW = ("pretrained_model", "last/pretrained_model", "checkpoints/last/pretrained_model")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_PICKLED = (
    "pickled files are never read, since they are programs: load it with the code that wrote it and save its tensors "
    "by safetensors.torch.save_file"
)
_HUB_CACHE = re.compile(r"(models|datasets)--([^/]+?)--([^/]+)")
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
    asked, path = str(path), existing(expanded(path).absolute())
    if path.is_file():
        return _file(path)
    if not path.is_dir():
        left = "".join(f"; {partial} is what a conversion that was killed left of it" for partial in leftovers(path))
        raise CheckpointError(f"{path}: there is no such checkpoint{_how_to_get(asked)}{left}")
    for folder in (path, *(path / below for below in _BELOW)):
        if found := _folder(folder):
            return found
    raise CheckpointError(f"{path}: no checkpoint here{what_is_there(path)}")


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
        pickled = _PICKLED if path.name.endswith(_PICKLES) else ""
        raise CheckpointError(f"{path}: not a checkpoint; {pickled or _EXPECTED}")
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
        pickled = [name for name in _names(folder) if name.endswith(_PICKLES)]
        lack = f", but {pickled[0]}: {_PICKLED}" if pickled else "; copy or download the weights too"
        raise CheckpointError(f"{folder}: {CONFIG} is there but no {WEIGHTS}{lack}")
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
    if address := re.match(r"https?:/+(?:www\.)?([^/]+)/(.*)", asked):
        name = "/".join(address[2].split("/")[:2])
        if address[1] in ("huggingface.co", "hf.co") and "/" in name:
            return f"; nothing is downloaded here, do that first: hf download {shlex.quote(name)} --local-dir FOLDER"
        return "; nothing is downloaded here: download its whole folder first and name that"
    if re.fullmatch(r"[\w-]+/[\w.-]+", asked):
        return f"; if it is a name on the Hugging Face hub, download it first: hf download {asked} --local-dir FOLDER"
    return ""


def _names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []


def what_is_there(path: Path) -> str:
    """What a folder is that people take for a checkpoint, and which one to name; else what was expected."""
    for below in (path, path / "checkpoints"):  # openpi's run, LeRobot's without its link `last`
        if steps := sorted((name for name in _names(below) if name.isdigit()), key=int):
            named = shlex.quote(str(below / steps[-1]))
            return f", but steps of a training run ({', '.join(steps[-3:])}): name one of them, such as {named}"
    if hub := _HUB_CACHE.fullmatch(path.name):
        return _in_hub_cache(path, f"{hub[2]}/{hub[3]}")
    names = _names(path)
    if cached := [name for name in names if name.startswith("models--")]:
        known = [name for name in cached if re.search(r"pi-?0", name.lower())] or cached
        return (
            f", but the cache of the Hugging Face hub ({len(cached)} models): name one of its snapshots, below "
            f"{shlex.quote(str(path / known[0] / 'snapshots'))}"
        )
    if pickled := [name for name in names if name.endswith(_PICKLES)]:
        return f", but {pickled[0]}: {_PICKLED}"
    there = f" (only {', '.join(names[:5])})" if names else ", the folder is empty"
    return f"{there}; {_EXPECTED}"


def _in_hub_cache(path: Path, name: str) -> str:
    """The hub keeps a model's files below `snapshots/REVISION`; `refs/main` names the one downloaded last."""
    what = f", but the Hugging Face hub's cache of {name}"
    main = path / "refs" / "main"
    revision = main.read_text().strip() if main.is_file() else ""
    revisions = _names(path / "snapshots")
    if revision not in revisions:
        revision = revisions[-1] if revisions else ""
    if not revision:
        return f"{what}, without a snapshot: download it with hf download {shlex.quote(name)} --local-dir FOLDER"
    return f"{what}: name the snapshot in it, {shlex.quote(str(path / 'snapshots' / revision))}"
