"""Observations and actions as openpi's clients and servers write them: maps of numpy arrays in msgpack, no pickle.

A robot file says what the keys are called and how numbers are counted (`policy.openpi`); both directions are here, so
`openpi_server` and `openpi_client` only carry bytes. The wire format is openpi-client 0.1.2's (`msgpack_numpy.py`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from pi0_ros.base.errors import InputError
from pi0_ros.base.foreign import MAX_IMAGE_SIDE, MAX_JOINTS, MAX_POINTS, check_prompt, shortened
from pi0_ros.control.chunk import ActionChunk
from pi0_ros.inference.metadata import BackendError, Metadata
from pi0_ros.observation.streams import Observation
from pi0_ros.robot import Robot, units

KINDS = "biuf"  # of numpy's dtypes: what numbers and pictures are made of
PLAIN_DTYPE = re.compile(r"[<>=|]?[A-Za-z]{1,8}[0-9]{0,3}")  # `<f4`, `|u1`, `float32`
STAMP = "stamp_ns"  # an observation may carry its capture time; openpi's own clients send none


class OpenpiError(InputError):
    """Bytes or a map that are no observation or answer of openpi."""


# ---- bytes


def pack(value: Any) -> bytes:
    """A map of plain data and numpy arrays -> msgpack, as openpi-client packs it."""
    packed: bytes = msgpack.packb(value, default=_plain)
    return packed


def unpack(data: bytes) -> Any:
    """The inverse of `pack`; OpenpiError for anything else, arrays of objects included."""
    try:
        return msgpack.unpackb(data, object_hook=_arrays)
    except OpenpiError:
        raise
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        raise OpenpiError(f"not openpi's msgpack: {shortened(str(error), 200)}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind in KINDS:
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    if isinstance(value, np.generic) and value.dtype.kind in KINDS:
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"{type(value).__name__} cannot be sent")


def _arrays(content: dict[Any, Any]) -> Any:
    if b"__ndarray__" not in content and b"__npgeneric__" not in content:
        return content
    try:
        text = str(content[b"dtype"])
        if not PLAIN_DTYPE.fullmatch(text):  # numpy reads whole Python expressions there
            raise OpenpiError(f"an array of {shortened(text, 80)} is refused: numbers and pictures only")
        dtype = np.dtype(text)
        if dtype.kind not in KINDS:
            raise OpenpiError(f"an array of {dtype} is refused: numbers and pictures only")
        if b"__npgeneric__" in content:
            return dtype.type(content[b"data"])
        data, shape = content[b"data"], tuple(content[b"shape"])
        if not isinstance(data, bytes) or not all(isinstance(side, int) and side >= 0 for side in shape):
            raise TypeError("data and shape")
        if math.prod(shape) * dtype.itemsize != len(data):
            raise OpenpiError(f"an array {dtype} {list(shape)} came with {len(data)} bytes")
        return np.frombuffer(data, dtype).reshape(shape)
    except OpenpiError:
        raise
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise OpenpiError(f"an array cannot be read: {shortened(repr(error), 200)}") from None


def flattened(content: Mapping[Any, Any]) -> dict[str, Any]:
    """Nested maps as one: {"images": {"cam_high": x}} -> {"images/cam_high": x}. OpenpiError where too deep."""
    found: dict[str, Any] = {}
    waiting: list[tuple[str, Mapping[Any, Any], int]] = [("", content, 0)]
    while waiting:
        path, entries, depth = waiting.pop()
        if depth > 4:
            raise OpenpiError(f"'{path[:80]}' lies too deep")
        for key, value in entries.items():
            name = f"{path}{key if isinstance(key, str) else repr(key)}"
            if isinstance(value, Mapping):
                waiting.append((f"{name}/", value, depth + 1))
            else:
                found[name] = value
    return found


def read_token(path: Path) -> str:
    """The token in a file: its text without white space around it."""
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"token file {path}: {getattr(error, 'strerror', None) or error}") from None
    if len(token) < 16 or not token.isprintable() or not token.isascii() or " " in token:
        make = f"python3 -c 'import secrets; print(secrets.token_urlsafe(32))' > {path}"
        raise InputError(f"token file {path}: expected one word of at least 16 characters; make one: {make}")
    return token


# ---- what a server does


def describe(metadata: Metadata) -> dict[str, Any]:
    """The first message of a server: what it is, which keys an observation needs, what comes back."""
    robot, names = metadata.robot, metadata.robot.released.openpi
    return {
        "server": "pi0_ros",
        "checkpoint": metadata.checkpoint,
        "model": metadata.model,
        "robot": robot.name,
        "units": names.units,
        "state": [list(entry) for entry in names.state_keys(len(robot.state_names))],
        "state_names": list(robot.state_names),
        "images": {camera.name: names.image_key(camera.name) for camera in robot.cameras},
        "action_names": list(robot.action_names),
        "action_horizon": metadata.horizon,
        "fps": metadata.fps,
    }


def read_observation(content: Any, robot: Robot, now_ns: int) -> Observation:
    """What a client sent -> an observation in robot units; OpenpiError names the key that is missing or wrong."""
    if not isinstance(content, Mapping):
        raise OpenpiError(f"{type(content).__name__} came, expected a map of an observation")
    given, names = flattened(content), robot.released.openpi
    state = np.concatenate([_numbers(given, key, count) for key, count in names.state_keys(len(robot.state_names))])
    if names.units == "model":
        state = units.state_from_model(robot, state)
    prompt = given.get("prompt", robot.prompt)
    if not isinstance(prompt, (str, np.str_)):
        raise OpenpiError(f"'prompt' is {type(prompt).__name__}, expected text")
    stamp = given.get(STAMP, now_ns)
    if isinstance(stamp, bool) or not isinstance(stamp, (int, np.integer)) or not 0 <= stamp < 2**63:
        raise OpenpiError(f"'{STAMP}' is {stamp!r:.80}, expected nanoseconds, a whole number")
    return Observation(
        stamp_ns=int(stamp),
        images={camera.name: _picture(given, names.image_key(camera.name)) for camera in robot.cameras},
        state=state,
        prompt=check_prompt(str(prompt)),
        ages_s={},
    )


def write_answer(chunk: ActionChunk, robot: Robot, state: np.ndarray, timing_ms: Mapping[str, float]) -> dict[str, Any]:
    """A chunk -> openpi's answer: `actions` float64 [H, A], counted as `policy.openpi.units` says."""
    actions = chunk.actions
    if robot.released.openpi.units == "model":
        actions = units.counted_actions(robot, actions, state)
    return {"actions": actions, "policy_timing": {"infer_ms": float(timing_ms.get("total_ms", math.nan))}}


# ---- what a client does


def write_observation(observation: Observation, robot: Robot) -> dict[str, Any]:
    """An observation -> the nested map that an openpi server of this robot expects."""
    names, state = robot.released.openpi, observation.state
    if names.units == "model":
        state = units.state_to_model(robot, state)
    content: dict[str, Any] = {"prompt": observation.prompt}
    begin = 0
    for key, count in names.state_keys(len(robot.state_names)):
        _put(content, key, state[begin : begin + count])
        begin += count
    for camera in robot.cameras:
        picture = observation.images[camera.name]
        _put(content, names.image_key(camera.name), picture if names.axes == "hwc" else picture.transpose(2, 0, 1))
    return content


@dataclass(frozen=True)
class Answer:
    """What a server answered."""

    actions: np.ndarray  # float64 [H, A], robot units
    infer_ms: float  # as the server measured it; NaN where it does not say


def read_answer(content: Any, robot: Robot, state: np.ndarray) -> Answer:
    """openpi's answer -> actions in robot units; OpenpiError, or BackendError where they are not finite."""
    given = flattened(content) if isinstance(content, Mapping) else {}
    actions, wanted = given.get("actions"), len(robot.action_names)
    if not isinstance(actions, np.ndarray) or actions.ndim != 2 or actions.shape[1] != wanted or len(actions) == 0:
        found = list(actions.shape) if isinstance(actions, np.ndarray) else type(actions).__name__
        raise OpenpiError(f"'actions' is {found}, expected [steps, {wanted}]: is this server's policy for this robot?")
    if len(actions) > MAX_POINTS or wanted > MAX_JOINTS:
        raise OpenpiError(f"{len(actions)} actions came, at most {MAX_POINTS} are read")
    actions = actions.astype(np.float64)
    if not np.isfinite(actions).all():
        raise BackendError("the server's actions are not finite")
    if robot.released.openpi.units == "model":
        actions = units.actions_from_counted(robot, actions, state)
    timing = given.get("server_timing/infer_ms", given.get("policy_timing/infer_ms", math.nan))
    return Answer(actions, float(timing) if isinstance(timing, (int, float, np.number)) else math.nan)


def _put(content: dict[str, Any], key: str, value: np.ndarray) -> None:
    """Flat for "observation/x", as openpi's robots write it, nested for the rest: {"images": {"cam_high": ...}}."""
    first, slash, rest = key.partition("/")
    if slash and first != "observation":
        content.setdefault(first, {})[rest] = value
    else:
        content[key] = value


def _missing(given: Mapping[str, Any], key: str) -> OpenpiError:
    return OpenpiError(f"no '{key}' in the observation; it has {shortened(', '.join(sorted(given)) or 'nothing', 300)}")


def _numbers(given: Mapping[str, Any], key: str, count: int) -> np.ndarray:
    if key not in given:
        raise _missing(given, key)
    value = np.atleast_1d(given[key]) if isinstance(given[key], (np.ndarray, np.number, int, float)) else None
    if value is None or value.dtype.kind not in KINDS or value.shape != (count,):
        found = type(given[key]).__name__ if value is None else f"{value.dtype} {list(value.shape)}"
        raise OpenpiError(f"'{key}' is {found}, expected {count} numbers")
    if not np.isfinite(value).all():
        raise OpenpiError(f"'{key}' is not finite")
    return value.astype(np.float64)


def _picture(given: Mapping[str, Any], key: str) -> np.ndarray:
    """uint8 [h, w, 3], from channels first or last; floats of 0 .. 1 as openpi takes them."""
    if key not in given:
        raise _missing(given, key)
    picture = given[key]
    if isinstance(picture, np.ndarray) and picture.ndim == 3 and picture.shape[2] != 3 and picture.shape[0] == 3:
        picture = picture.transpose(1, 2, 0)
    if not isinstance(picture, np.ndarray) or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        found = f"{picture.dtype} {list(picture.shape)}" if isinstance(picture, np.ndarray) else type(picture).__name__
        raise OpenpiError(f"'{key}' is {found}, expected a picture uint8 [h, w, 3] or [3, h, w]")
    if max(picture.shape) > MAX_IMAGE_SIDE:
        raise OpenpiError(f"'{key}' is {list(picture.shape)}, at most {MAX_IMAGE_SIDE} pixels a side are read")
    if picture.dtype.kind == "f":
        if not (np.isfinite(picture).all() and picture.min() >= 0 and picture.max() <= 1):
            raise OpenpiError(f"'{key}' has floats beyond 0 .. 1: send uint8")
        picture = (255 * picture).astype(np.uint8)  # cut, not rounded, as openpi does
    if picture.dtype != np.uint8:
        raise OpenpiError(f"'{key}' is {picture.dtype}, expected uint8")
    return np.ascontiguousarray(picture)
