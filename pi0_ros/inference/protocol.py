"""Messages between robot and policy server: a msgpack header and raw arrays behind it. No pickle, sizes capped.

One message is a ZeroMQ multipart message: frame 0 is a msgpack map, every further frame is the memory of one array, in
the order of the header's `arrays` list.

    {"pi0": 3, "type": "infer", "id": 7, ..., "arrays": [["state", "float64", [6]], ["image/base", "uint8", [9, 9, 3]]]}

    client -> server        server -> client
    hello                   metadata    robot file, horizon, fps, image size, statistics, session
    infer                   chunk       actions float64 [H, J], stamp_ns, dt_ns, names, timing
      with `rtc` and the array `prefix` float64 [n, J] where the chunk is to continue another one
    status                  status      numbers for people and programs that watch
                            error       code, message

`session` names one start of the server: an `infer` that carries another one is answered by error "session", so a client
always knows what it talks to. `id` (from 1) returns in the answer; answers that nobody waits for any more are dropped.
Every answer says when its question came and when it left (`clocks.py`); an unchanged picture is named instead of sent
(`parts.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any

import msgpack
import numpy as np

from pi0_ros.base.choices import IMAGE_RESIZES
from pi0_ros.base.errors import InputError
from pi0_ros.base.foreign import (
    MAX_IMAGE_SIDE,
    MAX_JOINTS,
    MAX_LINE_CHARS,
    MAX_POINTS,
    MAX_PROMPT_CHARS,
    MAX_RATE_HZ,
    shortened,
)
from pi0_ros.control.chunk import ActionChunk
from pi0_ros.inference.metadata import Metadata
from pi0_ros.inference.prefix import ActionPrefix, RtcSettings
from pi0_ros.observation.jpeg import decode_jpeg
from pi0_ros.observation.streams import Observation
from pi0_ros.robot import robot_from_yaml, robot_to_yaml

VERSION = 3  # 2 had stamps in float seconds, 1 no prefix
DEFAULT_ADDRESS = "tcp://127.0.0.1:5555"
UNREADABLE = 0  # the id of the answer to a question whose own id could not be read
MAX_FRAMES = 33  # header and 32 arrays
MAX_HEADER_BYTES = 1 << 20
MAX_BYTES = 64 << 20  # of a whole message
MAX_ROBOT_CHARS = 64 << 10  # of a robot file: reading one of 20 000 joints takes minutes
DTYPES = ("uint8", "bool", "int64", "float32", "float64")
TYPES = ("hello", "metadata", "infer", "chunk", "status", "error")
CODED = ("image/", "jpeg/")  # how the names of arrays begin that are pictures: pixels, or a JPEG file


class ProtocolError(InputError):
    """Frames that are not a message of this protocol."""


class VersionError(ProtocolError):
    """The other side speaks another version of the protocol."""


class PartsError(ProtocolError):
    """A question names a picture that the server does not hold: it must be sent again."""


@dataclass(frozen=True)
class Message:
    """A decoded message; `body` is plain msgpack data, `arrays` the raw parts by name."""

    type: str
    id: int
    body: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


def encode(message: Message) -> list[Any]:
    """The frames of a message (bytes and memoryviews); ProtocolError when it exceeds the caps."""
    arrays = {name: np.ascontiguousarray(array) for name, array in message.arrays.items()}
    header = msgpack.packb(
        {
            **message.body,
            "pi0": VERSION,
            "type": message.type,
            "id": message.id,
            "arrays": [[name, array.dtype.name, list(array.shape)] for name, array in arrays.items()],
        }
    )
    frames = [header, *(array.reshape(-1).view(np.uint8).data for array in arrays.values())]
    _check_caps(frames)
    return frames


def decode(frames: Sequence[Any]) -> Message:
    """Frames -> message; its arrays are views of the frames. ProtocolError for anything unexpected."""
    _check_caps(frames)
    try:
        header = msgpack.unpackb(frames[0])
    except (ValueError, msgpack.UnpackException) as error:
        raise ProtocolError(f"header is not msgpack ({error})") from None
    if not isinstance(header, dict) or "pi0" not in header:
        raise ProtocolError("header is not a pi0_ros message")
    if header["pi0"] != VERSION:
        theirs = shortened(repr(header["pi0"]), MAX_LINE_CHARS)
        versions = f"the other side speaks protocol version {theirs}, this side {VERSION}"
        raise VersionError(f"{versions}: install the same pi0_ros on both machines")
    kind, number, listed = header.get("type"), header.get("id"), header.get("arrays")
    if kind not in TYPES or not isinstance(number, int) or not isinstance(listed, list):
        raise ProtocolError(f"header of type {kind!r}, id {number!r}: expected {', '.join(TYPES)}, and an integer")
    if len(listed) != len(frames) - 1:
        raise ProtocolError(f"header lists {len(listed)} arrays, {len(frames) - 1} came")
    arrays = dict(_array(entry, frame) for entry, frame in zip(listed, frames[1:], strict=True))
    body = {key: value for key, value in header.items() if key not in ("pi0", "type", "id", "arrays")}
    return Message(kind, number, body, arrays)


def _array(entry: Any, frame: Any) -> tuple[str, np.ndarray]:
    match entry:
        case [str(name), str(dtype), list(shape)] if dtype in DTYPES and all(_is_int(n) and n >= 0 for n in shape):
            wanted, given = math.prod(shape) * np.dtype(dtype).itemsize, memoryview(frame).nbytes
            if given != wanted:
                raise ProtocolError(f"array '{name}' {dtype} {shape} needs {wanted} bytes, {given} came")
            try:
                return name, np.frombuffer(frame, np.dtype(dtype)).reshape(shape)
            except (ValueError, OverflowError) as error:  # too many dimensions, or one too long for an empty array
                raise ProtocolError(f"array '{name:.80}': {error}") from None
    raise ProtocolError(
        f"array entry {entry!r:.200}: expected [name, dtype, shape] with a dtype of {', '.join(DTYPES)}"
    )


def _check_caps(frames: Sequence[Any]) -> None:
    sizes = [memoryview(frame).nbytes for frame in frames]
    if not 1 <= len(sizes) <= MAX_FRAMES or sizes[0] > MAX_HEADER_BYTES or sum(sizes) > MAX_BYTES:
        raise ProtocolError(
            f"message of {len(sizes)} frames and {sum(sizes)} bytes (header {sizes[0] if sizes else 0}); "
            f"at most {MAX_FRAMES} frames, {MAX_BYTES} bytes and a header of {MAX_HEADER_BYTES} are allowed"
        )


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# --- what the messages mean -------------------------------------------------------------------------------------------


def metadata_message(metadata: Metadata, session: str, number: int) -> Message:
    content = {**asdict(metadata), "robot": robot_to_yaml(metadata.robot)}
    return Message("metadata", number, {"session": session, "metadata": content})


def parse_metadata(message: Message) -> tuple[Metadata, str]:
    """(metadata, session) of a `metadata` message."""
    content, session = message.body.get("metadata"), message.body.get("session")
    try:
        if not isinstance(session, str) or not isinstance(content, dict):
            raise TypeError("expected a session (string) and metadata (map)")
        within = {"horizon": (1, MAX_POINTS), "image_size": (1, MAX_IMAGE_SIDE), "fps": (1e-3, MAX_RATE_HZ)}
        for key, (least, most) in (within | {"rtc_trained_max_delay": (0, MAX_POINTS)}).items():
            if not least <= content[key] <= most:
                raise ValueError(f"{key} {content[key]!r:.80} is not within {least:g} .. {most:g}")
        if not isinstance(content["robot"], str):
            raise TypeError(f"robot is a {type(content['robot']).__name__}, expected the text of a robot file")
        if len(content["robot"]) > MAX_ROBOT_CHARS:
            raise ValueError(f"robot file of {len(content['robot'])} characters, at most {MAX_ROBOT_CHARS} are read")
        return (
            Metadata(
                checkpoint=shortened(str(content["checkpoint"]), MAX_LINE_CHARS),
                model=shortened(str(content["model"]), MAX_LINE_CHARS),
                robot=robot_from_yaml(content["robot"], "the server's robot.yaml"),
                horizon=int(content["horizon"]),
                fps=float(content["fps"]),
                image_size=int(content["image_size"]),
                image_resize=_choice(content, "image_resize", IMAGE_RESIZES),
                rtc_trained_max_delay=int(content["rtc_trained_max_delay"]),
                statistics=shortened(str(content["statistics"]), MAX_LINE_CHARS),
            ),
            session,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ProtocolError(f"metadata cannot be read: {shortened(repr(error))}") from error


def _choice(content: Mapping[str, Any], key: str, choices: Sequence[str]) -> str:
    if content[key] not in choices:
        raise ValueError(f"{key} {content[key]!r:.80} is none of {', '.join(choices)}")
    return str(content[key])


def infer_message(
    observation: Observation,
    session: str,
    client: str,
    number: int,
    prefix: ActionPrefix | None = None,
    jpegs: Mapping[str, bytes] = MappingProxyType({}),
    same: Mapping[str, int] = MappingProxyType({}),
) -> Message:
    """The question for a chunk. `jpegs` are pictures beside those of the observation, as files; `same` names others.

    `same`: camera -> number of the question that carried its picture, which has not changed.
    """
    body: dict[str, Any] = {
        "session": session,
        "client": client,
        "stamp_ns": int(observation.stamp_ns),
        "prompt": observation.prompt,
        "ages_s": {topic: float(age) for topic, age in observation.ages_s.items()},
    }
    arrays = {"state": np.asarray(observation.state, np.float64)}
    arrays |= {f"image/{name}": image for name, image in observation.images.items()}
    arrays |= {f"jpeg/{name}": np.frombuffer(data, np.uint8) for name, data in jpegs.items()}
    if same:
        body["same"] = dict(same)
    if prefix is not None:
        body["rtc"] = {"dt": float(prefix.dt), "delay": int(prefix.delay), **asdict(prefix.settings)}
        arrays["prefix"] = np.asarray(prefix.actions, np.float64)
    return Message("infer", number, body, arrays)


def parse_prefix(message: Message) -> ActionPrefix | None:
    """What the chunk of an `infer` message is to continue, if anything."""
    content, actions = message.body.get("rtc"), message.arrays.get("prefix")
    if content is None:
        return None
    match content:
        case {"dt": float(dt), "delay": int(delay), **settings} if (
            actions is not None and actions.dtype == np.float64 and actions.ndim == 2 and dt > 0 and delay >= 0
        ):
            try:
                named: dict[str, Any] = {str(key): value for key, value in settings.items()}
                return ActionPrefix(actions, dt, delay, RtcSettings(**named))
            except (ValueError, TypeError) as error:
                raise ProtocolError(f"infer: rtc: {error}") from error
    raise ProtocolError("infer: rtc: expected dt, delay, settings and an array 'prefix' float64 [n, J]")


def parse_observation(message: Message) -> Observation:
    """The observation of an `infer` message; which cameras and joints it must have is the policy's to say."""
    match message.body:
        case {"stamp_ns": int(stamp_ns), "prompt": str(prompt), "ages_s": dict(ages_s)}:
            pass
        case _:
            raise ProtocolError("infer: expected stamp_ns (int), prompt (string) and ages_s (map)")
    if stamp_ns < 0 or len(prompt) > MAX_PROMPT_CHARS:
        raise ProtocolError(f"infer: stamp_ns must not be negative, the prompt {MAX_PROMPT_CHARS} characters at most")
    if not all(isinstance(topic, str) and isinstance(age, float) for topic, age in ages_s.items()):
        raise ProtocolError("infer: ages_s must map topics to seconds")
    state = message.arrays.get("state")
    if state is None or state.dtype != np.float64 or state.ndim != 1:
        raise ProtocolError("infer: expected an array 'state' float64 [J]")
    images = {name[6:]: array for name, array in message.arrays.items() if name.startswith("image/")}
    for name, image in images.items():
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ProtocolError(f"infer: image '{name}' is {image.dtype} {list(image.shape)}, expected uint8 [h, w, 3]")
    for name, data in message.arrays.items():
        if name.startswith("jpeg/"):
            try:
                images[name[5:]] = decode_jpeg(data.tobytes())
            except InputError as error:
                raise ProtocolError(f"infer: image '{name[5:]}': {error}") from None
    return Observation(stamp_ns=stamp_ns, images=images, state=state, prompt=prompt, ages_s=ages_s)


def chunk_message(chunk: ActionChunk, timing: Mapping[str, float], number: int) -> Message:
    body = {"stamp_ns": chunk.stamp_ns, "dt_ns": chunk.dt_ns, "names": list(chunk.names), "timing": dict(timing)}
    return Message("chunk", number, body, {"actions": np.asarray(chunk.actions, np.float64)})


def parse_chunk(message: Message) -> tuple[ActionChunk, dict[str, float]]:
    """(chunk, server timing in ms) of a `chunk` message."""
    actions = message.arrays.get("actions")
    match message.body:
        case {"stamp_ns": stamp_ns, "dt_ns": dt_ns, "names": list(names), "timing": dict(timing)} if (
            _is_int(stamp_ns) and _is_int(dt_ns) and actions is not None
        ) and (actions.dtype == np.float64 and actions.ndim == 2):
            if len(timing) > MAX_JOINTS or not all(isinstance(ms, float) for ms in timing.values()):
                raise ProtocolError("chunk: timing must map stages to milliseconds")
            if len(actions) > MAX_POINTS or len(names) > MAX_JOINTS:
                limit = f"at most {MAX_POINTS} and {MAX_JOINTS} are read"
                raise ProtocolError(f"chunk: {len(actions)} actions of {len(names)} joints, {limit}")
            try:
                return ActionChunk(stamp_ns, dt_ns, actions.copy(), tuple(names)), timing
            except (ValueError, TypeError) as error:
                raise ProtocolError(f"chunk: {error}") from error
    raise ProtocolError("chunk: expected stamp_ns, dt_ns, names, timing and an array 'actions' float64 [H, J]")


def stamped(message: Message, received_ns: int, sent_ns: int) -> Message:
    """An answer that says when its question came and when it left, ns of the server's clock of the day."""
    return replace(message, body={**message.body, "received_ns": received_ns, "sent_ns": sent_ns})


def stamps_of(message: Message) -> tuple[int, int] | None:
    """(received_ns, sent_ns) of an answer; None where it carries none, or nonsense."""
    match message.body:
        case {"received_ns": int(received_ns), "sent_ns": int(sent_ns)} if 0 < received_ns <= sent_ns < 2**63:
            return received_ns, sent_ns
    return None


def error_message(code: str, text: str, number: int) -> Message:
    return Message("error", number, {"code": code, "message": shortened(text)})
