"""safetensors files: read through a memory map piece by piece, and written tensor by tensor.

Layout: eight bytes (length of the header, little endian), the header (JSON: name -> dtype, shape, data_offsets), the
data. Reading goes through pieces of bounded size whose pages are given back at once, so that loading a model holds the
model and nothing else: a plain mapping would count every page of the file a second time.

What a file says of its tensors is read without torch, which only those need who want the tensors themselves.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pi0_ros.base.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

DTYPES = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}
_COUNTS = {"I64": "int64"}  # of buffers that older files carry, never of weights
_WRITTEN = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
_ITEM_BYTES = {"float64": 8, "int64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
_PIECE = 16 * 2**20  # bytes, a multiple of every dtype's size
_MAX_HEADER = 100 * 2**20  # bytes; the format's own limit


class CheckpointError(InputError):
    """A checkpoint that cannot be used; the message names the file, the key or tensor, and what to do."""


class WeightsError(CheckpointError):
    """A weights file that cannot be used; the message names the file and the tensors."""


@dataclass(frozen=True)
class TensorInfo:
    """What a file says of a tensor before it is read."""

    shape: tuple[int, ...]
    dtype: str  # as torch names it, such as "bfloat16"

    @property
    def item_bytes(self) -> int:
        """The size of one number."""
        return _ITEM_BYTES[self.dtype]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.item_bytes

    @staticmethod
    def of(tensor: Tensor, dtype: object = None) -> TensorInfo:
        """What a file says of `tensor` when it is written as `dtype`, a torch dtype (None: its own)."""
        return TensorInfo(tuple(tensor.shape), dtype_name(dtype or tensor.dtype))


def dtype_name(dtype: object) -> str:
    """torch.bfloat16 -> "bfloat16"."""
    return str(dtype).removeprefix("torch.")


class SafetensorsFile:
    """One safetensors file, checked to be whole before anything is read. Names and shapes are as the file has them."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise WeightsError(f"{self.path}: there is no such weights file")
        with self.path.open("rb") as file:
            header, self._start = _read_header(self.path, file.read(8), file)
            size = file.seek(0, os.SEEK_END)
            # A private mapping is writable for torch's sake; nobody writes.
            protection = mmap.PROT_READ | mmap.PROT_WRITE
            self._map = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=protection)
        self.metadata: Mapping[str, str] = header.pop("__metadata__", None) or {}
        self.tensors: dict[str, TensorInfo] = {}
        self._offsets: dict[str, int] = {}
        end = 0
        for name, entry in header.items():
            info, span = _parse_entry(self.path, name, entry)
            self.tensors[name], self._offsets[name] = info, self._start + span[0]
            end = max(end, span[1])
        if self._start + end != size:
            raise _not_whole(self.path, f"it has {size} bytes, its header promises {self._start + end}")

    def raw(self, name: str) -> Iterator[np.ndarray]:
        """Yield the bytes (uint8) in pieces of at most 16 MiB: views of the mapping; pages go back after use."""
        offset = self._offsets[name]
        end = offset + self.tensors[name].nbytes
        while offset < end:
            done = min(offset + _PIECE, end)
            yield np.frombuffer(self._map, np.uint8, done - offset, offset)
            first = offset - offset % mmap.PAGESIZE
            self._map.madvise(mmap.MADV_DONTNEED, first, done - first)
            offset = done

    def pieces(self, name: str) -> Iterator[Tensor]:
        """Yield the flattened tensor in the pieces of `raw`."""
        import torch

        dtype = getattr(torch, self.tensors[name].dtype)
        for piece in self.raw(name):
            yield torch.frombuffer(piece, dtype=dtype)

    def tensor(self, name: str) -> Tensor:
        """A copy of the whole tensor, in its shape and dtype; KeyError where the file has none of this name."""
        import torch

        info = self.tensors[name]
        whole = torch.empty(info.shape, dtype=getattr(torch, info.dtype))
        flat, at = whole.view(-1), 0
        for piece in self.pieces(name):
            flat[at : at + len(piece)] = piece
            at += len(piece)
        return whole

    def numbers(self, name: str) -> np.ndarray:
        """A small tensor's values, float64 and flat; KeyError where the file has none of this name."""
        info, offset = self.tensors[name], self._offsets[name]
        stored = "<u2" if info.dtype == "bfloat16" else info.dtype
        found = np.frombuffer(self._map, stored, info.nbytes // info.item_bytes, offset)
        if info.dtype == "bfloat16":  # the upper half of a float32
            found = (found.astype(np.uint32) << 16).view(np.float32)
        return found.astype(np.float64)


def _read_header(path: Path, start: bytes, file: Any) -> tuple[dict[str, Any], int]:
    """Return the header and where the data begin."""
    if start.startswith(b"version "):
        raise WeightsError(
            f"{path}: a git-lfs pointer, not the weights; fetch them with `git lfs pull`, or download the file"
        )
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if not 2 <= length <= _MAX_HEADER:
        raise _not_whole(path, "no safetensors header at its start")
    encoded = file.read(length)
    if len(encoded) < length:
        raise _not_whole(path, "it ends within its header")
    try:
        header = json.loads(encoded)
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise _not_whole(path, "its header is not JSON")
    return header, 8 + length


def _parse_entry(path: Path, name: str, entry: Any) -> tuple[TensorInfo, tuple[int, int]]:
    try:
        kind, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        whole = all(type(number) is int and number >= 0 for number in (*shape, start, end))
    except (KeyError, TypeError, ValueError):
        raise _not_whole(path, f"its header is broken at {name}") from None
    known = DTYPES | _COUNTS if name.endswith("position_ids") else DTYPES
    if kind not in known:
        raise WeightsError(
            f"{path}: {name} has dtype {kind}, weights must be one of {', '.join(DTYPES)}; is this a quantised model?"
        )
    info = TensorInfo(shape, known[kind])
    if not whole or end - start != info.nbytes:
        raise _not_whole(path, f"its header is broken at {name}")
    return info, (start, end)


def _not_whole(path: Path, reason: str) -> WeightsError:
    return WeightsError(f"{path}: not a whole safetensors file ({reason}); copy or download it again")


def write_safetensors(
    path: Path | str,
    tensors: Mapping[str, TensorInfo],
    pieces: Callable[[str], Iterable[Tensor]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write `tensors` to `path`, asking `pieces(name)` for one after the other in the order given.

    Pieces are the tensor's parts in order, in any shape and float dtype. An existing file is replaced only once the
    new one is whole.
    """
    import torch

    path = Path(path)
    if other := {info.dtype for info in tensors.values() if info.dtype not in _WRITTEN}:
        raise WeightsError(f"{path}: cannot write weights as {', '.join(sorted(other))}; cast them to float32")
    layout = sorted(tensors, key=lambda name: (-tensors[name].item_bytes, name))  # widest first keeps all aligned
    header: dict[str, object] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    offsets, end = {}, 0
    for name in layout:
        info = tensors[name]
        offsets[name], end = end, end + info.nbytes
        header[name] = {
            "dtype": _WRITTEN[info.dtype],
            "shape": list(info.shape),
            "data_offsets": [offsets[name], end],
        }
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            file.write(struct.pack("<Q", len(encoded)) + encoded)
            for name, info in tensors.items():
                file.seek(8 + len(encoded) + offsets[name])
                dtype = getattr(torch, info.dtype)
                for piece in pieces(name):
                    data = piece.detach().to("cpu", dtype).contiguous().reshape(-1).view(torch.uint8)
                    file.write(data.numpy().data)
                if file.tell() != 8 + len(encoded) + offsets[name] + info.nbytes:
                    raise WeightsError(f"{path}: the parts of {name} are not a tensor of shape {list(info.shape)}")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
