"""Sizes of a pi0, pi0.5 or pi0-FAST network: what they are, which ones fit together, and the named presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from pi0_ros.base.errors import InputError

MODELS = ("pi0", "pi05", "pi0_fast")
DTYPES = ("float32", "bfloat16")


class ConfigError(InputError):
    """A model description that cannot be built; the message names the key and what to write instead."""


@dataclass(frozen=True)
class Expert:
    """Sizes of one Gemma transformer: the vision-language model or the action expert."""

    width: int
    depth: int
    mlp_dim: int
    num_heads: int
    num_kv_heads: int
    head_dim: int


@dataclass(frozen=True)
class Vision:
    """Sizes of the SigLIP vision tower."""

    width: int
    depth: int
    mlp_dim: int
    num_heads: int
    patch_size: int
    image_size: int

    @property
    def num_positions(self) -> int:
        """Image tokens per camera: the table of learned positions has one row for each."""
        return (self.image_size // self.patch_size) ** 2


@dataclass(frozen=True)
class ModelConfig:
    """Everything that shapes the network. The keys of `to_dict` are those of a checkpoint's `config.json`."""

    model: str
    vocab_size: int
    vlm: Expert
    expert: Expert | None  # the action expert; None for pi0-FAST, whose actions are text
    vision: Vision
    action_dim: int
    action_horizon: int
    max_token_len: int
    cameras: tuple[str, ...]  # image slots in the order of their token blocks
    discrete_state_input: bool  # pi0.5: write the state into the prompt (pi0-FAST always does)
    dtype: str = "float32"
    state_dim: int = 0  # width of the padded state, where it is not that of the actions; 0: `action_dim`

    def __post_init__(self) -> None:
        _check(self)

    @property
    def state_width(self) -> int:
        """Numbers of the padded state."""
        return self.state_dim or self.action_dim

    @property
    def is_pi05(self) -> bool:
        """True for pi0.5: adaptive norms in the expert, and no state projection."""
        return self.model == "pi05"

    @property
    def is_fast(self) -> bool:
        """True for pi0-FAST: no action expert, the vision-language model writes the actions as tokens."""
        return self.model == "pi0_fast"

    @property
    def cached_depth(self) -> int | None:
        """The number of VLM layers whose keys and values are all that an expert reads; None without an expert."""
        return None if self.is_fast else self.vlm.depth

    @property
    def flow_expert(self) -> Expert:
        """The action expert's sizes; ConfigError for pi0-FAST, which has none."""
        if self.expert is None:
            raise ConfigError(f"a {self.model} model has no action expert")
        return self.expert

    @staticmethod
    def preset(name: str) -> ModelConfig:
        """Return the named preset: `pi0`, `pi05`, `pi0_fast` (real sizes) or `demo` (small, for one CPU core)."""
        if name not in PRESETS:
            raise ConfigError(f"there is no model preset {name!r}; choose one of {', '.join(PRESETS)}")
        return PRESETS[name]

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> ModelConfig:
        """Build a config from the mapping that `to_dict` writes. Unknown and missing keys are errors."""
        values = dict(values)
        vision = dict(_section(values, "vision"))
        stated = vision.pop("num_positions", None)
        without = values.get("model") == "pi0_fast" and values.get("expert") is None
        config = _build(
            ModelConfig,
            "model config",
            values
            | {
                "vlm": _build(Expert, "vlm", _section(values, "vlm")),
                "expert": None if without else _build(Expert, "expert", _section(values, "expert")),
                "vision": _build(Vision, "vision", vision),
                "cameras": tuple(values.get("cameras", ())),
            },
        )
        if stated is not None and stated != config.vision.num_positions:
            raise ConfigError(
                f"vision.num_positions is {stated}, but image_size {config.vision.image_size} and patch_size "
                f"{config.vision.patch_size} give {config.vision.num_positions}; correct one of them"
            )
        return config

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; `from_dict` reads them back."""
        values = asdict(self)
        values["cameras"] = list(self.cameras)
        if not self.state_dim:
            del values["state_dim"]
        values["vision"]["num_positions"] = self.vision.num_positions
        return values


def _section(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    section = values.get(key)
    if not isinstance(section, Mapping):
        raise ConfigError(f"model config: {key} must be a mapping of sizes, not {section!r}")
    return section


def _build(cls: type, where: str, values: Mapping[str, Any]) -> Any:
    known = [field.name for field in fields(cls)]
    required = [name for name in known if name not in ("dtype", "state_dim")]
    unknown = sorted(set(values) - set(known))
    missing = [name for name in required if name not in values]
    if unknown or missing:
        raise ConfigError(f"{where}: unknown keys {unknown}, missing keys {missing}; the keys are {', '.join(known)}")
    return cls(**values)


def _check(config: ModelConfig) -> None:
    def require(holds: bool, message: str) -> None:
        if not holds:
            raise ConfigError(f"model config: {message}")

    require(config.model in MODELS, f"model is {config.model!r}; write one of {', '.join(MODELS)}")
    require(config.dtype in DTYPES, f"dtype is {config.dtype!r}; write one of {', '.join(DTYPES)}")
    require((config.expert is None) == config.is_fast, f"expert must be {'absent' if config.is_fast else 'given'}")
    sections = ("vlm", "vision") if config.is_fast else ("vlm", "expert", "vision")
    sizes = {
        f"{section}.{key}": value for section in sections for key, value in asdict(getattr(config, section)).items()
    }
    sizes |= {key: getattr(config, key) for key in ("vocab_size", "action_dim", "action_horizon", "max_token_len")}
    for key, value in sizes.items():
        require(type(value) is int and value > 0, f"{key} must be a positive integer, not {value!r}")
    vlm, expert, vision = config.vlm, config.expert, config.vision
    if expert is not None:
        for key in ("depth", "num_heads", "num_kv_heads", "head_dim"):
            same = getattr(vlm, key) == getattr(expert, key)
            require(same, f"vlm.{key} and expert.{key} must be equal: both experts share every attention")
        require(expert.width % 2 == 0, "expert.width must be even, the time embedding is half sine and half cosine")
    require(vlm.num_heads % vlm.num_kv_heads == 0, "num_heads must be a multiple of num_kv_heads")
    require(vlm.head_dim % 2 == 0, "head_dim must be even, rotary positions turn pairs")
    require(vision.width % vision.num_heads == 0, "vision.width must be a multiple of vision.num_heads")
    require(vision.image_size % vision.patch_size == 0, "vision.image_size must be a multiple of vision.patch_size")
    cameras = config.cameras
    require(all(isinstance(c, str) and c for c in cameras) and len(cameras) > 0, "cameras must list image slots")
    require(len(set(cameras)) == len(cameras), f"cameras lists a slot twice: {list(cameras)}")


_OPENPI_CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
_GEMMA_2B = Expert(width=2048, depth=18, mlp_dim=16384, num_heads=8, num_kv_heads=1, head_dim=256)
_GEMMA_300M = Expert(width=1024, depth=18, mlp_dim=4096, num_heads=8, num_kv_heads=1, head_dim=256)
_SIGLIP_SO400M = Vision(width=1152, depth=27, mlp_dim=4304, num_heads=16, patch_size=14, image_size=224)

_PI0 = ModelConfig(
    model="pi0",
    vocab_size=257152,
    vlm=_GEMMA_2B,
    expert=_GEMMA_300M,
    vision=_SIGLIP_SO400M,
    action_dim=32,
    action_horizon=50,
    max_token_len=48,
    cameras=_OPENPI_CAMERAS,
    discrete_state_input=False,
    dtype="bfloat16",
)

PRESETS = {
    "pi0": _PI0,
    "pi05": replace(_PI0, model="pi05", max_token_len=200, discrete_state_input=True),
    "pi0_fast": replace(
        _PI0,
        model="pi0_fast",
        expert=None,
        action_horizon=32,
        max_token_len=250,
        cameras=("base_0_rgb", "base_1_rgb", "wrist_0_rgb"),
        discrete_state_input=True,
    ),
    "demo": ModelConfig(
        model="pi0",
        vocab_size=512,
        vlm=Expert(width=96, depth=4, mlp_dim=256, num_heads=4, num_kv_heads=1, head_dim=32),
        expert=Expert(width=96, depth=4, mlp_dim=256, num_heads=4, num_kv_heads=1, head_dim=32),
        vision=Vision(width=96, depth=2, mlp_dim=256, num_heads=3, patch_size=12, image_size=96),
        action_dim=8,
        action_horizon=24,
        max_token_len=16,
        cameras=("base_0_rgb", "left_wrist_0_rgb"),
        discrete_state_input=False,
    ),
}
