"""What a checkpoint's files say, without its weights and without torch: sizes, statistics, robot, tokenizer.

Names, shapes and dtypes of the weights are compared with the model all the same. Numbers are read of two tables of
pi0-FAST alone, see `check_head`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pi0_ros.checkpoints.description import Description
from pi0_ros.checkpoints.formats import Asked, open_source, read_around
from pi0_ros.checkpoints.lerobot import RELEASES
from pi0_ros.checkpoints.locate import CONFIG, Located, locate
from pi0_ros.checkpoints.peft import ADAPTER, AdapterSource, base_folder
from pi0_ros.checkpoints.safetensors_files import CheckpointError
from pi0_ros.checkpoints.sizes import infer_config
from pi0_ros.checkpoints.sources import TIED_HEAD, Source, TorchSource, equals_embedding
from pi0_ros.checkpoints.spec import PolicySpec, policy_spec
from pi0_ros.model.config import ModelConfig
from pi0_ros.robot import Robot

Sizes = ModelConfig | Mapping[str, Any] | None


def describe(
    folder: Path | str,
    robot: Robot | None = None,
    config: Mapping[str, Any] | None = None,
    *,
    asset_id: str | None = None,
    base: Path | str | None = None,
    lerobot_release: str | None = None,
) -> Description:
    """Sizes that nothing in a foreign checkpoint tells are those that the robot file knows of released ones."""
    more: dict[str, Any] = {"asset_id": asset_id, "base": base, "lerobot_release": lerobot_release}
    description = describe_checkpoint(folder, config=config, **more)
    if description.robot is None and robot is not None:
        known = robot.released.sizes(description.config.model)
        sizes = {key: value for key, value in known.items() if key in description.assumed}
        if sizes:
            return describe_checkpoint(folder, config={**(config or {}), **sizes}, **more)
    return description


def load_spec(
    folder: Path | str,
    *,
    robot: Robot | None = None,
    tokenizer: Path | str = "",
    config: Mapping[str, Any] | None = None,
) -> PolicySpec:
    """Everything of a checkpoint but the weights, as `load_checkpoint` reads it; cheap."""
    return policy_spec(describe(folder, robot, config), robot, tokenizer)


def describe_checkpoint(
    path: Path | str,
    *,
    config: Sizes = None,
    asset_id: str | None = None,
    base: Path | str | None = None,
    lerobot_release: str | None = None,
) -> Description:
    """Return everything but the weights, whose names, shapes and dtypes are checked all the same; cheap.

    Of pi0-FAST alone two tables are read, see `check_head`.
    """
    return open_checkpoint(path, config=config, asset_id=asset_id, base=base, lerobot_release=lerobot_release)[0]


def open_checkpoint(
    path: Path | str,
    *,
    config: Sizes = None,
    asset_id: str | None = None,
    base: Path | str | None = None,
    lerobot_release: str | None = None,
) -> tuple[Description, Source]:
    """Return the description of a checkpoint and its weights, ready to be read."""
    if lerobot_release not in (None, *RELEASES):
        raise CheckpointError(f"lerobot_release is {lerobot_release!r}, expected one of {', '.join(RELEASES)}")
    located = locate(path)
    asked = Asked(asset_id, base, lerobot_release)
    source = open_source(located, asked)
    around = read_around(_sidecar_of(located, base), source, asked)
    model_config, assumed = infer_config(source, around.stated, config)
    check_head(model_config, source)
    description = Description(
        path=located.path,
        format=located.format,
        config=model_config,
        settings=around.settings,
        norm_stats=around.norm_stats,
        assets=around.assets,
        robot=around.robot,
        tokenizer_path=around.tokenizer_path,
        state_dim=around.state_dim,
        action_dim=around.action_dim,
        training=around.training,
        tensors=source.tensors,
        leftovers=source.leftovers,
        merged=source.merged,
        assumed=assumed,
        undecided=around.undecided,
    )
    return description, source


def check_head(config: ModelConfig, source: Source) -> None:
    """Refuse a pi0-FAST whose output head went its own way: this package's writes through the embedding table.

    For the other models the head says nothing about actions.
    """
    while isinstance(source, AdapterSource):
        source = source.base
    if not config.is_fast or not isinstance(source, TorchSource) or TIED_HEAD not in source.unused():
        return
    if not equals_embedding(source, TIED_HEAD):
        raise CheckpointError(
            f"{source.path}: its output head {TIED_HEAD} is not the embedding table (LeRobot trains them apart); "
            "pi0-FAST models whose head is a weight of its own cannot be run"
        )


def _sidecar_of(located: Located, base: Path | str | None) -> Located:
    """Where the other files are: an adapter that was saved without them has those of its base."""
    if located.weights.name == ADAPTER and not (located.path / CONFIG).is_file():
        return locate(base_folder(located.path, base))
    return located
