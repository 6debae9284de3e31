"""What lies around the weights of an openpi checkpoint: statistics by asset id, and the converter's config.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pi0_ros.base.errors import InputError
from pi0_ros.base.search import Search
from pi0_ros.checkpoints.description import Sidecar
from pi0_ros.checkpoints.folders import read_json
from pi0_ros.checkpoints.norm_stats import NormStats, load_norm_stats
from pi0_ros.checkpoints.safetensors_files import CheckpointError
from pi0_ros.checkpoints.settings import PolicySettings
from pi0_ros.tokens.subwords import file_in

ASSETS, STATS, CONFIG = "assets", "norm_stats.json", "config.json"


def default_settings(model: str) -> PolicySettings:
    """openpi's rules where no file says any: z-scores for pi0, quantiles for every other model."""
    kind = "mean_std" if model == "pi0" else "quantile"
    return PolicySettings(kind, kind)


def read_openpi(folder: Path, model: str, asset_id: str | None = None) -> Sidecar:
    """Read assets and config.json of a torch or JAX checkpoint folder; both may be absent."""
    assets = read_assets(folder)
    chosen = choose(assets, asset_id, folder)
    stated: dict[str, Any] = {}
    if (folder / CONFIG).is_file():
        content = read_json(folder / CONFIG)
        stated = {key: content[key] for key in ("action_dim", "action_horizon") if key in content}
    return Sidecar(
        settings=default_settings(model),
        stated=stated,
        norm_stats=chosen,
        assets=assets,
        tokenizer_path=file_in(folder),
        state_dim=chosen.state.dim if chosen else None,
        action_dim=chosen.actions.dim if chosen else None,
    )


def read_assets(folder: Path) -> Mapping[str, NormStats]:
    """Return the statistics of every `assets/<id>/norm_stats.json`; an id may contain slashes."""
    root, search = folder / ASSETS, Search()
    if not root.is_dir():
        return {}
    try:
        files = search.find(root, lambda path: path.name == STATS and path.is_file())
        if search.left_out:
            raise CheckpointError(f"{search.left_out[0]}: not looked at for {STATS}")
        return {path.parent.relative_to(root).as_posix(): load_norm_stats(path) for path in files}
    except (InputError, OSError) as error:  # names the file
        raise CheckpointError(str(error)) from error


def choose(assets: Mapping[str, NormStats], asset_id: str | None, folder: Path) -> NormStats | None:
    """Return the statistics of `asset_id`, or the only ones; None where it takes a choice and nobody made it."""
    if asset_id is None:
        return next(iter(assets.values())) if len(assets) == 1 else None
    if asset_id not in assets:
        known = ", ".join(assets) or "none"
        raise CheckpointError(f"{folder / ASSETS}: no statistics of {asset_id!r}; there are those of {known}")
    return assets[asset_id]
