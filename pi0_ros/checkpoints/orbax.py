"""Arrays of an orbax checkpoint without JAX: tensorstore opens what `_METADATA` lists.

A JAX leaf holds one weight of all layers and may be one chunk of several gigabytes. `OrbaxLeaves.read` returns slices
and keeps the decoded chunks of the leaf it read last, so that nothing is decoded twice or kept longer than needed.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ros.checkpoints.folders import read_json
from pi0_ros.checkpoints.safetensors_files import DTYPES, TensorInfo, WeightsError

_CACHE_SPARE = 2**26  # bytes; a cache of exactly the chunk's size keeps nothing
METADATA, MANIFEST = "_METADATA", "manifest.ocdbt"


class OrbaxLeaves:
    """The leaves below `params` by their path, such as `PaliGemma/llm/final_norm/scale`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._metadata = read_json(path / METADATA)
        self._arrays = _array_names(path, self._metadata)
        self._open: tuple[str, Any] = "", None
        self.leaves = {leaf: _info(path, leaf, self._store(leaf)) for leaf in self._arrays}
        self._open = "", None

    def read(self, leaf: str, *index: int | slice) -> np.ndarray:
        """Return `leaf[index]` in memory of its own, bfloat16 as `ml_dtypes` has it.

        Ask for the slices of one leaf one after the other.
        """
        if self._open[0] != leaf:
            self._open = "", None  # give back the chunks of the leaf before
            self._open = leaf, self._store(leaf, cached=len(index))
        try:
            array: np.ndarray = self._open[1][index or ...].read().result()
        except ValueError as error:
            raise WeightsError(
                f"{self.path}: {leaf} cannot be read, is the folder complete? ({_reason(error)}); copy it again"
            ) from error
        return array

    def _store(self, leaf: str, cached: int = 0) -> Any:
        """Open a leaf's array; chunks that overlap a slice along the first `cached` axes stay decoded."""
        try:
            import tensorstore
        except ImportError as error:
            raise WeightsError(f"{self.path}: openpi's JAX format needs `pip install tensorstore ml_dtypes`") from error
        store = self._opened(tensorstore, leaf, 0)
        if not cached:
            return store
        chunk, shape = store.chunk_layout.read_chunk.shape, store.shape
        padded = [math.ceil(size / part) * part for size, part in zip(shape, chunk, strict=True)]
        needed = math.prod(chunk[:cached]) * math.prod(padded[cached:]) * store.dtype.numpy_dtype.itemsize
        return self._opened(tensorstore, leaf, needed + _CACHE_SPARE)

    def _opened(self, tensorstore: Any, leaf: str, cache_bytes: int) -> Any:
        name, base = self._arrays[leaf], self.path.resolve()
        zarr = "zarr3" if self._metadata.get("use_zarr3") else "zarr"
        if (base / MANIFEST).is_file():
            kvstore: dict[str, Any] = {"driver": "ocdbt", "base": base.as_uri() + "/", "path": f"{name}/"}
        else:
            kvstore = {"driver": "file", "path": f"{base / name}/"}
        spec = {
            "driver": zarr,
            "kvstore": kvstore,
            "recheck_cached_data": "open",
            "recheck_cached_metadata": "open",
            # Writers that store chunks of zeros too leave no other meaning to a chunk that is not there: it is lost.
            "fill_missing_data_reads": not self._metadata.get("store_array_data_equal_to_fill_value", False),
        }
        context = tensorstore.Context({"cache_pool": {"total_bytes_limit": cache_bytes}})
        try:
            return tensorstore.open(spec, read=True, context=context).result()
        except ValueError as error:
            raise WeightsError(
                f"{self.path}: {leaf} cannot be opened, is the folder complete? ({_reason(error)}); copy it again"
            ) from error


def _array_names(path: Path, metadata: dict[str, Any]) -> dict[str, str]:
    """Leaf -> name of its array. Drops the leading `params`, and the trailing `value` of training runs."""
    tree = metadata.get("tree_metadata")
    try:
        keys = [
            tuple(str(part["key"]) for part in entry["key_metadata"])
            for entry in tree.values()  # type: ignore[union-attr]
            if str(entry.get("value_metadata", {}).get("value_type", "")) not in ("None", "Dict", "List")
        ]
    except (AttributeError, KeyError, TypeError):
        raise WeightsError(f"{path / METADATA}: 'tree_metadata' does not list arrays; copy the folder again") from None
    if not keys or any(len(key) < 2 or key[0] != "params" for key in keys):
        raise WeightsError(f"{path}: not the weights of a model (the item is called params/, beside train_state/)")
    last = -1 if all(key[-1] == "value" for key in keys) else None
    return {"/".join(key[1:last]): ".".join(key) for key in keys}


def _info(path: Path, leaf: str, store: Any) -> TensorInfo:
    name = store.dtype.name
    if name not in DTYPES.values():
        raise WeightsError(f"{path}: {leaf} has dtype {name}, weights must be one of {', '.join(DTYPES.values())}")
    return TensorInfo(tuple(store.shape), name)


def _reason(error: Exception) -> str:
    return str(error).split(" [")[0][:300]
