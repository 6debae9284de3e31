"""What the files of a released checkpoint do not say, and the robot file therefore does: the key `policy`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pi0_ros.base.strict_yaml import Section
from pi0_ros.robot.openpi_names import OpenpiNames, read_openpi_names, write_openpi_names

MODELS = ("pi0", "pi05", "pi0_fast")
COUNTS = ("action_horizon", "action_dim", "max_token_len")


@dataclass(frozen=True)
class Release:
    """How the released checkpoints of one kind of model were made; None: as always for that kind."""

    model: str  # pi0 | pi05 | pi0_fast
    action_horizon: int | None = None  # actions per chunk
    action_dim: int | None = None  # width of the model's actions
    max_token_len: int | None = None  # tokens of the prompt
    discrete_state_input: bool | None = None  # pi0.5: the state stands in the prompt

    def sizes(self) -> dict[str, Any]:
        """What is given, by the keys of a model config."""
        return {key: value for key, value in vars(self).items() if key != "model" and value is not None}


@dataclass(frozen=True)
class Released:
    """The key `policy` of a robot file."""

    asset_id: str = ""  # which of a checkpoint's statistics; empty: the only ones
    models: tuple[Release, ...] = ()
    openpi: OpenpiNames = field(default_factory=OpenpiNames)

    def sizes(self, model: str) -> dict[str, Any]:
        """Keys of a model config that hold for released checkpoints of this kind."""
        return next((release.sizes() for release in self.models if release.model == model), {})


NOTHING = Released()


def read_released(file: Section, joints: int, cameras: Sequence[str]) -> Released:
    """The key `policy` of the robot file; `joints` are those of the state."""
    if "policy" not in file:
        return NOTHING
    policy = Section(file.value["policy"], ("policy",), (), ("asset_id", *MODELS, "openpi"))
    releases = []
    for model in (model for model in MODELS if model in policy):
        item = Section(policy.value[model], ("policy", model), (), (*COUNTS, "discrete_state_input"))
        counts = {key: item.count(key) for key in COUNTS if key in item}
        discrete = item.flag("discrete_state_input") if "discrete_state_input" in item else None
        releases.append(Release(model, **counts, discrete_state_input=discrete))
    return Released(policy.text("asset_id", ""), tuple(releases), read_openpi_names(policy, joints, cameras))


def write_released(released: Released) -> dict[str, Any]:
    """The key `policy`, where there is something to say; reads back as equal."""
    content = {"asset_id": released.asset_id} if released.asset_id else {}
    entries: dict[str, Any] = {**content, **{release.model: release.sizes() for release in released.models}}
    entries |= write_openpi_names(released.openpi)
    return {"policy": entries} if entries else {}
