"""One checkpoint format into another, tensor by tensor: never more in memory than one layer's weight.

What the target format has and the source has not is said in `docs/checkpoints.md`. Weights keep their bits unless
another dtype is asked for; statistics are said again in the target's terms.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pi0_ros.base.disk import expanded
from pi0_ros.checkpoints.describe import Sizes, open_checkpoint
from pi0_ros.checkpoints.description import Description
from pi0_ros.checkpoints.folders import new_folder, write_json
from pi0_ros.checkpoints.formats import FORMATS
from pi0_ros.checkpoints.lerobot_files import TOKENIZER as TOKENIZER_FOLDER
from pi0_ros.checkpoints.lerobot_files import tokenizer_files, write_lerobot_files
from pi0_ros.checkpoints.locate import locate
from pi0_ros.checkpoints.norm_stats import NormStats, save_norm_stats
from pi0_ros.checkpoints.openpi import ASSETS, default_settings
from pi0_ros.checkpoints.own import CONFIG, ROBOT, STATS, WEIGHTS, own_config
from pi0_ros.checkpoints.renormalize import renormalize
from pi0_ros.checkpoints.safetensors_files import CheckpointError, TensorInfo, dtype_name, write_safetensors
from pi0_ros.checkpoints.sources import EMBEDDING, TIED_HEAD, UNUSED_HEAD, Source, TorchSource, equals_embedding
from pi0_ros.model.config import DTYPES, ModelConfig
from pi0_ros.robot import Robot, robot_to_yaml
from pi0_ros.tokens.action_tokens import FOLDER as ACTION_TOKENS
from pi0_ros.tokens.subwords import TokenizerError, file_of

if TYPE_CHECKING:
    from torch import Tensor

Progress = Callable[[int, int], None]  # bytes written, bytes in all
_PIECE = 2**24  # elements


def convert_checkpoint(
    src: Path | str,
    dst: Path | str,
    to: str = "pi0_ros",
    *,
    config: Sizes = None,
    robot: Robot | None = None,
    asset_id: str | None = None,
    tokenizer: Path | None = None,
    base: Path | str | None = None,
    dtype: str | None = None,
    lerobot_release: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write the checkpoint `src`, of any format, as the new folder `dst` in the format `to`; returns the folder.

    `config`, `asset_id`, `base` and `lerobot_release` are those of `load_model`. `robot` and `tokenizer` go into the
    new folder where `src` has none or others. `dtype` None keeps every tensor as it is; bfloat16 spares the parts that
    stay float32.
    CheckpointError when `src` cannot be read, `to` cannot say what it is, or something is already at `dst`.
    """
    more: dict[str, Any] = {"robot": robot, "tokenizer": tokenizer, "base": base, "dtype": dtype}
    more["lerobot_release"] = lerobot_release
    return plan_conversion(src, to, config=config, asset_id=asset_id, **more).write(dst, progress)


def plan_conversion(
    src: Path | str,
    to: str = "pi0_ros",
    *,
    config: Sizes = None,
    robot: Robot | None = None,
    asset_id: str | None = None,
    tokenizer: Path | None = None,
    base: Path | str | None = None,
    dtype: str | None = None,
    lerobot_release: str | None = None,
) -> Conversion:
    """Prepare `convert_checkpoint`: everything is checked, no weight is read and nothing written."""
    if to not in TARGETS:
        raise CheckpointError(f"there is no format {to!r} to convert to; write one of {', '.join(TARGETS)}")
    description, source = open_checkpoint(
        src, config=config, asset_id=asset_id, base=base, lerobot_release=lerobot_release
    )
    if description.undecided:
        raise CheckpointError(description.undecided)
    if tokenizer is not None:
        description = replace(description, tokenizer_path=_tokenizer_file(tokenizer))
    description = replace(description, robot=robot or description.robot)
    weights = _Weights.of(description, source, to, dtype)
    if dtype is not None:
        description = replace(description, config=_with_dtype(description.config, dtype))
    return Conversion(description, to, asset_id, weights)


@dataclass(frozen=True)
class Conversion:
    """A checkpoint about to be written in the format `to`."""

    description: Description  # of the source, with the robot, the tokenizer and the dtype of the target
    to: str
    asset_id: str | None
    weights: _Weights

    def write_files(self, folder: Path) -> None:
        """Write all small files, which is everything but the weights, into an existing folder."""
        description = self.description
        TARGETS[self.to].write_files(description, folder, self.asset_id)
        if self.to != "openpi" and description.robot is not None:
            (folder / ROBOT).write_text(robot_to_yaml(description.robot))
        if (description.path / ACTION_TOKENS).is_dir():
            shutil.copytree(description.path / ACTION_TOKENS, folder / ACTION_TOKENS)

    def check_target(self, dst: Path | str, overwrite: bool = False) -> Path:
        """Return `dst` as an absolute path; CheckpointError when it is taken or its disk too full.

        `overwrite` allows another checkpoint there, never anything else.
        """
        dst = expanded(dst).absolute()
        if dst.exists():
            if not overwrite:
                raise CheckpointError(f"{dst}: something is there already; name a new folder, or overwrite it")
            if locate(dst).path != dst or dst.resolve() == self.description.path.resolve():
                raise CheckpointError(f"{dst}: only another checkpoint's own folder can be overwritten; name a new one")
        disk = next(folder for folder in dst.parents if folder.exists())
        if (free := shutil.disk_usage(disk).free) < self.weights.nbytes:
            raise CheckpointError(
                f"{dst}: the disk has {free / 2**30:.1f} GiB left, the weights need {self.weights.nbytes / 2**30:.1f}; "
                "make room, choose another disk, or write bfloat16"
            )
        return dst

    def write(self, dst: Path | str, progress: Progress | None = None, overwrite: bool = False) -> Path:
        """Write the folder `dst`, which appears when it is whole; returns it."""
        dst = self.check_target(dst, overwrite)
        with new_folder(dst) as folder:
            self.write_files(folder)
            self.weights.write(folder / WEIGHTS, progress)
            open_checkpoint(folder, config=self.description.config)  # what cannot be read again is not left behind
        return dst


@dataclass(frozen=True)
class _Weights:
    """The tensors of the target file and where each comes from."""

    tensors: Mapping[str, TensorInfo]
    pieces: Callable[[str], Iterable[Tensor]]
    metadata: Mapping[str, str]

    @staticmethod
    def of(description: Description, source: Source, to: str, dtype: str | None) -> _Weights:
        """Plan the file. The heads, which no model reads, come as the target's own files have them:

        ours     as the source has them, but a head that equals the embedding table is left out
        LeRobot  both; the embedding table and zeros stand in for what the source does not have
        openpi   the embedding table stands under the head's name; the expert's head as for LeRobot
        """
        config = description.config
        if to == "openpi" and config.is_fast:
            raise CheckpointError(f"{source.path}: openpi has no pi0-FAST in PyTorch to convert to")
        kept = source.unused() if isinstance(source, TorchSource) else {}
        if TIED_HEAD in kept and (to == "openpi" or equals_embedding(source, TIED_HEAD)):
            del kept[TIED_HEAD]
        origins: dict[str, tuple[str, TensorInfo]] = {}
        for name, info in source.tensors.items():
            origins[TIED_HEAD if to == "openpi" and name == EMBEDDING else name] = name, info
            if name == EMBEDDING and to == "lerobot" and TIED_HEAD not in kept:
                origins[TIED_HEAD] = name, info  # right behind the table, while that is at hand
        origins |= {name: (name, info) for name, info in kept.items()}
        if to != "pi0_ros" and not config.is_fast and UNUSED_HEAD not in origins:
            table = source.tensors[EMBEDDING].dtype
            origins[UNUSED_HEAD] = "", TensorInfo((config.vocab_size, config.flow_expert.width), table)
        dtypes = _dtypes(config, dtype)
        prefix = "model." if to == "lerobot" else ""
        tensors = {
            prefix + name: replace(info, dtype=dtypes.get(name, dtype or info.dtype))
            for name, (_, info) in origins.items()
        }

        def pieces(name: str) -> Iterable[Tensor]:
            origin, info = origins[name.removeprefix(prefix)]
            return source.pieces(origin) if origin else _zeros(info)

        return _Weights(tensors, pieces, {EMBEDDING: TIED_HEAD} if to == "openpi" else {})

    @property
    def nbytes(self) -> int:
        """The size of the file, but for its header."""
        return sum(info.nbytes for info in self.tensors.values())

    def write(self, path: Path, progress: Progress | None) -> None:
        """Write the file; `progress` hears of every piece."""
        total, done = self.nbytes, 0

        def counted(name: str) -> Iterable[Tensor]:
            nonlocal done
            for piece in self.pieces(name):
                yield piece
                done += piece.numel() * self.tensors[name].item_bytes
                if progress is not None:
                    progress(done, total)

        write_safetensors(path, self.tensors, counted, self.metadata)


def _tokenizer_file(path: Path) -> Path:
    try:
        return file_of(path)
    except TokenizerError as error:
        raise CheckpointError(str(error)) from None


def _check_asset(name: str) -> None:
    """The id of statistics names a folder inside the checkpoint."""
    if {"", ".", ".."} & {*name.split("/")}:
        raise CheckpointError(f"{name!r} cannot be the id of statistics: write a name, such as trossen")


def _with_dtype(config: ModelConfig, dtype: str) -> ModelConfig:
    if dtype not in DTYPES:
        raise CheckpointError(f"dtype is {dtype}; checkpoints are written in {' or '.join(DTYPES)}, or as they are")
    return replace(config, dtype=dtype)


def _dtypes(config: ModelConfig, dtype: str | None) -> Mapping[str, str]:
    """The dtype of every tensor a model of `dtype` has; empty: as they are."""
    if dtype is None:
        return {}
    from pi0_ros.checkpoints.weights import meta_model, named_weights

    weights = named_weights(meta_model(_with_dtype(config, dtype)))
    return {name: dtype_name(weight.dtype) for name, weight in weights.items()}


def _zeros(info: TensorInfo) -> Iterable[Tensor]:
    import torch

    left, dtype = info.nbytes // info.item_bytes, getattr(torch, info.dtype)
    while left > 0:
        yield torch.zeros(min(left, _PIECE), dtype=dtype)
        left -= _PIECE


def _write_own_files(description: Description, folder: Path, asset_id: str | None) -> None:
    write_json(folder / CONFIG, own_config(description.config, description.settings, description.training))
    if description.norm_stats is not None:
        save_norm_stats(description.norm_stats, folder / STATS)
    _write_assets(description.assets, folder)
    copies = tokenizer_files(description.tokenizer_path) if description.tokenizer_path is not None else {}
    place = folder / TOKENIZER_FOLDER if len(copies) > 1 else folder
    place.mkdir(exist_ok=True)
    for name, file in copies.items():
        shutil.copyfile(file, place / name)


def _write_openpi_files(description: Description, folder: Path, asset_id: str | None) -> None:
    """Write config.json, as openpi's converter does, and the statistics in the kind that openpi uses for the model."""
    config, settings = description.config, description.settings
    if config.state_dim:
        raise CheckpointError(
            f"{description.path}: its state is {config.state_dim} wide and its actions {config.action_dim}; "
            "openpi has one width for both"
        )
    content: dict[str, Any] = {
        "action_dim": config.action_dim,
        "action_horizon": config.action_horizon,
        "paligemma_variant": "gemma_2b",
        "action_expert_variant": "gemma_300m",
        "precision": config.dtype,
    }
    write_json(folder / CONFIG, content)
    assets = dict(description.assets)
    if description.norm_stats is not None and all(stats is not description.norm_stats for stats in assets.values()):
        assets[asset_id or (description.robot.name if description.robot is not None else "robot")] = (
            description.norm_stats
        )
    theirs = default_settings(config.model)
    _write_assets(
        {
            key: NormStats(
                renormalize(stats.state, settings.state_normalization, theirs.state_normalization, config.action_dim),
                renormalize(
                    stats.actions, settings.action_normalization, theirs.action_normalization, config.action_dim
                ),
            )
            for key, stats in assets.items()
        },
        folder,
    )


def _write_lerobot_files(description: Description, folder: Path, asset_id: str | None) -> None:
    write_lerobot_files(description, folder)


def _write_assets(assets: Mapping[str, NormStats], folder: Path) -> None:
    for key, stats in assets.items():
        _check_asset(key)
        (folder / ASSETS / key).mkdir(parents=True)
        save_norm_stats(stats, folder / ASSETS / key / STATS)


@dataclass(frozen=True)
class Target:
    """A format that can be written."""

    title: str  # as reports say it
    write_files: Callable[[Description, Path, str | None], None]  # all but weights and robot file; None: no asset asked


TARGETS: dict[str, Target] = {
    "pi0_ros": Target(FORMATS["pi0_ros"].title, _write_own_files),
    "lerobot": Target(FORMATS["lerobot"].title, _write_lerobot_files),
    "openpi": Target(FORMATS["openpi_torch"].title, _write_openpi_files),
}
