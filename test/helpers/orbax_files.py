"""Orbax checkpoints written by hand, in every layout that orbax has used: what JAX would leave on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore


def write_orbax(
    folder: Path,
    leaves: Mapping[str, np.ndarray],
    *,
    value: bool = True,
    ocdbt: bool = True,
    zarr3: bool = False,
    root: str = "params",
    chunks: Callable[[str, tuple[int, ...]], tuple[int, ...]] = lambda leaf, shape: shape,
) -> Path:
    """Write `leaves` (path -> array) as the orbax folder `folder`; `chunks` says how each array is cut."""
    folder.mkdir(parents=True)
    tree = {}
    for leaf, array in leaves.items():
        keys = [*([root] if root else []), *leaf.split("/"), *(["value"] if value else [])]
        tree[str(tuple(keys))] = {
            "key_metadata": [{"key": key, "key_type": 2} for key in keys],
            "value_metadata": {"value_type": "jax.Array", "skip_deserialize": False},
        }
        name = ".".join(keys)
        store = {"driver": "file", "path": f"{folder}/{name}/"}
        if ocdbt:
            store = {"driver": "ocdbt", "base": f"file://{folder.absolute()}/", "path": f"{name}/"}
        spec: dict[str, Any] = {"kvstore": store, "store_data_equal_to_fill_value": True}
        # orbax compresses with zstd; tensorstore's own choice cannot hold chunks of more than 2 GiB
        spec |= (
            {"driver": "zarr3"} if zarr3 else {"driver": "zarr", "metadata": {"compressor": {"id": "zstd", "level": 1}}}
        )
        layout = tensorstore.ChunkLayout(chunk_shape=chunks(leaf, array.shape))
        opened = tensorstore.open(spec, create=True, dtype=array.dtype, shape=array.shape, chunk_layout=layout)
        opened.result().write(array).result()
    metadata = {"tree_metadata": tree, "use_zarr3": zarr3, "store_array_data_equal_to_fill_value": True}
    (folder / "_METADATA").write_text(json.dumps(metadata))
    return folder


def read_orbax(folder: Path) -> dict[str, np.ndarray]:
    """Read all arrays of a reference checkpoint, path -> array, without the code under test."""
    tree = json.loads((folder / "_METADATA").read_text())["tree_metadata"]
    found = {}
    for entry in tree.values():
        keys = [part["key"] for part in entry["key_metadata"]]
        store = {"driver": "ocdbt", "base": f"file://{folder.absolute()}/", "path": ".".join(keys) + "/"}
        array = tensorstore.open({"driver": "zarr", "kvstore": store}, read=True).result().read().result()
        found["/".join(keys[1:-1])] = array
    return found
