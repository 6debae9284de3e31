"""PEFT adapters of LeRobot fine-tunes: low-rank changes and replaced modules, merged into the base model they name."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pi0_ros.base.disk import expanded
from pi0_ros.checkpoints.folders import read_json
from pi0_ros.checkpoints.safetensors_files import SafetensorsFile, TensorInfo, WeightsError
from pi0_ros.checkpoints.sources import Source, canonical_name, whole

if TYPE_CHECKING:
    from torch import Tensor

ADAPTER, CONFIG = "adapter_model.safetensors", "adapter_config.json"
_FACTOR = re.compile(r"(.+)\.lora_(A|B)(?:\.default)?\.weight")
# First weights that PEFT takes out of the base model, which then is another one than the files of the base hold.
_FROM_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
_WRAPPERS = (".modules_to_save.default", ".modules_to_save", ".base_layer")


def base_folder(adapter: Path, base: Path | str | None) -> Path:
    """Return the folder of the model that an adapter changes: `base`, or the one its config names."""
    if base is not None:
        return expanded(base).absolute()
    named = read_json(adapter / CONFIG).get("base_model_name_or_path")
    for folder in (adapter / str(named), expanded(str(named)).absolute()):
        if named and folder.is_dir():
            return folder
    raise WeightsError(
        f"{adapter / CONFIG}: the adapter changes the model {named!r}, which is no folder here; download that model "
        "and say where it is: base=... (of commands: --base), or its folder as base_model_name_or_path"
    )


class AdapterSource:
    """The weights of `base` with the adapter in `folder` merged into them, in float32 where it changes any."""

    def __init__(self, folder: Path, base: Source) -> None:
        self.path = folder / ADAPTER
        self.base, self._file = base, SafetensorsFile(self.path)
        self.sizes, self.leftovers = base.sizes, base.leftovers
        config = read_json(folder / CONFIG)
        if config.get("peft_type", "LORA") != "LORA" or config.get("use_dora"):
            kind = "DoRA" if config.get("use_dora") else config["peft_type"]
            raise WeightsError(f"{folder / CONFIG}: an adapter of kind {kind}, only LORA can be merged")
        if str(start := config.get("init_lora_weights")).startswith(_FROM_BASE):
            raise WeightsError(
                f"{folder / CONFIG}: 'init_lora_weights' is {start!r}, which changes the base model too; save the "
                "adapter with PEFT's `path_initial_model_for_weight_conversion`, which makes it a plain one"
            )
        alphas, root = _alphas(folder / CONFIG, config), bool(config.get("use_rslora"))
        self._factors: dict[str, dict[str, str]] = {}  # tensor -> {"A": name in the file, "B": ...}
        self._replaced: dict[str, str] = {}
        self._scales: dict[str, float] = {}
        for stored in self._file.tensors:
            module = stored.removeprefix("base_model.model.")
            if factor := _FACTOR.fullmatch(module):
                name = f"{canonical_name(factor[1])}.weight"
                self._factors.setdefault(name, {})[factor[2]] = stored
                self._scales[name] = _scale(alphas, root, factor[1], self._file.tensors[stored].shape, factor[2])
            else:
                for wrapper in _WRAPPERS:
                    module = module.replace(wrapper, "")
                self._replaced[canonical_name(module)] = stored
        self.merged = base.merged + len(self._factors)
        self.tensors: dict[str, TensorInfo] = dict(base.tensors)
        self._check()
        for name in self._factors:
            self.tensors[name] = TensorInfo(self.tensors[name].shape, "float32")
        for name, stored in self._replaced.items():
            self.tensors[name] = self._file.tensors[stored]

    def pieces(self, name: str) -> Iterable[Tensor]:
        """Yield the tensor as the adapted model has it."""
        if stored := self._replaced.get(name):
            return self._file.pieces(stored)
        if name not in self._factors:
            return self.base.pieces(name)
        weight = whole(self.base, name).float()
        a, b = (self._factor(name, side) for side in "AB")
        return [weight.addmm(b, a, alpha=self._scales[name])]

    def _factor(self, name: str, side: str) -> Tensor:
        stored = self._factors[name][side]
        return self._file.tensor(stored).float()

    def _check(self) -> None:
        """Every tensor of the adapter must belong to one of the base, and low-rank factors must come in pairs."""
        wrong = [f"{name} is not in the base model" for name in self._replaced if name not in self.tensors]
        wrong += [f"{name} is both replaced and changed" for name in self._replaced if name in self._factors]
        for name, pair in self._factors.items():
            shapes = {side: self._file.tensors[stored].shape for side, stored in pair.items()}
            weight = self.tensors[name].shape if name in self.tensors else ()
            a, b = shapes.get("A", ()), shapes.get("B", ())
            if not (len(a) == len(b) == 2 and a[0] == b[1] and (b[0], a[1]) == weight):
                wrong.append(f"lora_A {list(a)} and lora_B {list(b)} do not belong to {name} {list(weight)}")
        if wrong:
            more = f" (and {len(wrong) - 5} more)" if len(wrong) > 5 else ""
            raise WeightsError(f"{self.path}: not an adapter of {self.base.path}: {'; '.join(wrong[:5])}{more}")


def _alphas(path: Path, config: Mapping[str, Any]) -> Mapping[re.Pattern[str], float]:
    """Alpha by patterns of module names; the first one that fits counts, the last one fits every module."""
    try:
        given = {**(config.get("alpha_pattern") or {}), ".*": config.get("lora_alpha", 8)}
        return {re.compile(rf"(.*\.)?({pattern})$"): float(alpha) for pattern, alpha in given.items()}
    except (TypeError, ValueError, re.error) as error:
        raise WeightsError(f"{path}: 'lora_alpha' or 'alpha_pattern' cannot be read: {error}") from None


def _scale(
    alphas: Mapping[re.Pattern[str], float], root: bool, module: str, shape: tuple[int, ...], side: str
) -> float:
    """alpha / rank, or with `root` (rank-stabilised) alpha / sqrt(rank)."""
    rank = shape[0 if side == "A" else 1] if len(shape) == 2 else 1
    alpha = next(alpha for pattern, alpha in alphas.items() if pattern.match(module))
    return alpha / (math.sqrt(rank) if root else rank)
