"""The formats of checkpoints, one row each: what it is called, who reads its weights, and what lies around them.

`locate` tells a format by its files; everything else that differs from format to format when reading starts here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pi0_ros.checkpoints.description import Sidecar
from pi0_ros.checkpoints.jax_names import JaxSource
from pi0_ros.checkpoints.lerobot import read_lerobot
from pi0_ros.checkpoints.locate import Located, locate, open_files
from pi0_ros.checkpoints.openpi import read_openpi
from pi0_ros.checkpoints.orbax import OrbaxLeaves
from pi0_ros.checkpoints.own import read_own
from pi0_ros.checkpoints.peft import ADAPTER, AdapterSource, base_folder
from pi0_ros.checkpoints.safetensors_files import CheckpointError
from pi0_ros.checkpoints.sizes import model_of
from pi0_ros.checkpoints.sources import Source, TorchSource


@dataclass(frozen=True)
class Asked:
    """What the caller says about a checkpoint because its files may not."""

    asset_id: str | None = None  # which of several statistics
    base: Path | str | None = None  # the folder of the model that a PEFT adapter changes
    lerobot_release: str | None = None


@dataclass(frozen=True)
class Format:
    """How one format is read."""

    title: str  # as reports say it
    weights: Callable[[Located, Asked], Source]
    around: Callable[[Located, Source, Asked], Sidecar]
    released: bool = (
        False  # whether releases of its library read the same files otherwise: `lerobot_release` says which
    )


def _safetensors(located: Located, asked: Asked) -> Source:
    return TorchSource(located.weights, open_files(located.weights))


def _safetensors_or_adapter(located: Located, asked: Asked) -> Source:
    if located.weights.name != ADAPTER:
        return _safetensors(located, asked)
    return AdapterSource(located.path, open_source(locate(base_folder(located.path, asked.base)), Asked()))


def _orbax(located: Located, asked: Asked) -> Source:
    return JaxSource(OrbaxLeaves(located.weights))


def _around_own(located: Located, source: Source, asked: Asked) -> Sidecar:
    return read_own(located.path, asked.asset_id)


def _around_lerobot(located: Located, source: Source, asked: Asked) -> Sidecar:
    statistics = source.statistics if isinstance(source, TorchSource) else {}
    return read_lerobot(located.path, model_of(source), statistics, asked.lerobot_release)


def _around_openpi(located: Located, source: Source, asked: Asked) -> Sidecar:
    return read_openpi(located.path, model_of(source), asked.asset_id)


FORMATS: dict[str, Format] = {
    "pi0_ros": Format("a checkpoint of this package", _safetensors, _around_own),
    "lerobot": Format("LeRobot", _safetensors_or_adapter, _around_lerobot, released=True),
    "openpi_torch": Format("openpi PyTorch", _safetensors, _around_openpi),
    "openpi_jax": Format("openpi JAX", _orbax, _around_openpi),
}


def format_of(located: Located) -> Format:
    """The row of a checkpoint's format; CheckpointError for one that no row reads."""
    if located.format not in FORMATS:
        raise CheckpointError(
            f"{located.path}: checkpoints of the format {located.format!r} cannot be read; "
            f"known are {', '.join(FORMATS)}"
        )
    return FORMATS[located.format]


def open_source(located: Located, asked: Asked) -> Source:
    """The weights of a checkpoint, ready to be read."""
    return format_of(located).weights(located, asked)


def read_around(located: Located, source: Source, asked: Asked) -> Sidecar:
    """What lies around the weights in `located`, which for an adapter may be its base's folder."""
    form = format_of(located)
    if asked.lerobot_release is not None and not form.released:
        raise CheckpointError(f"{located.path}: it is no checkpoint of LeRobot, so no release of LeRobot trained it")
    return form.around(located, source, asked)
