"""Pictures that did not change between two questions travel once: the client names the question that carried them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from pi0_ros.inference.protocol import CODED, Message, PartsError

MAX_CLIENTS = 64  # whose pictures are kept ...
MAX_BYTES = 256 << 20  # ... and what they may weigh together


class SentParts:
    """A client's side: which pictures the server has, and in which question it got them."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[int, np.ndarray]] = {}  # camera -> number of the question, picture

    def same(self, images: Mapping[str, np.ndarray]) -> dict[str, int]:
        """Camera -> the question that carried this very picture, of those that need not be sent again."""
        return {
            name: self._held[name][0]
            for name, image in images.items()
            if name in self._held and _equal(self._held[name][1], image)
        }

    def answered(self, images: Mapping[str, np.ndarray], same: Mapping[str, int], number: int) -> None:
        """Question `number` with `images` was answered: the server has them all."""
        self._held = {name: (same.get(name, number), image) for name, image in images.items()}

    def forget(self) -> None:
        """Another server, or the same one anew: it has nothing."""
        self._held = {}


class HeldParts:
    """A server's side: the pictures of each client's last question; those unused for longest go first."""

    def __init__(self) -> None:
        self._clients: OrderedDict[str, dict[str, tuple[int, np.ndarray]]] = OrderedDict()
        self._bytes = 0

    def complete(self, client: str, message: Message) -> Message:
        """The question with the pictures that it only names; PartsError where one is not held any more."""
        held = self._clients.get(client, {})
        arrays = dict(message.arrays)
        kept = {name: (message.id, array) for name, array in arrays.items() if name.startswith(CODED)}
        named = message.body.get("same", {})
        if not isinstance(named, dict):
            raise PartsError("same: expected a map of cameras to question numbers")
        for camera, number in named.items():
            for name in (f"{kind}{camera}" for kind in CODED):
                if name in held and held[name][0] == number:
                    arrays[name], kept[name] = held[name][1], held[name]
                    break
            else:
                raise PartsError(f"the picture of '{camera!s:.80}' of question {number!r:.20} is not held here")
        self._keep(client, kept)
        return replace(message, arrays=arrays)

    def _keep(self, client: str, parts: dict[str, tuple[int, np.ndarray]]) -> None:
        self._bytes -= _weight(self._clients.pop(client, {}))
        self._clients[client] = parts
        self._bytes += _weight(parts)
        while self._clients and (len(self._clients) > MAX_CLIENTS or self._bytes > MAX_BYTES):
            self._bytes -= _weight(self._clients.popitem(last=False)[1])


def _weight(parts: Mapping[str, tuple[int, np.ndarray]]) -> int:
    return sum(array.nbytes for _, array in parts.values())


def _equal(first: np.ndarray, second: np.ndarray) -> bool:
    return first is second or (first.shape == second.shape and bool(np.array_equal(first, second)))
