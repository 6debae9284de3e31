"""The wire format: round trips, caps, and nonsense that is named instead of believed."""

from __future__ import annotations

from dataclasses import replace

import msgpack
import numpy as np
import pytest
from chunks import chunk_of
from hypothesis import given
from hypothesis import strategies as st
from policy_fixtures import observation, tiny_robot

from pi0_ros.inference import protocol
from pi0_ros.inference.metadata import Metadata
from pi0_ros.inference.prefix import ActionPrefix, RtcSettings
from pi0_ros.inference.protocol import Message, ProtocolError, VersionError, decode, encode


def over_the_wire(message: Message) -> Message:
    return decode([bytes(frame) for frame in encode(message)])


def test_observation_round_trip() -> None:
    seen = replace(observation(tiny_robot()), ages_s={"/demo_arm/joint_states": 0.01}, prompt="hebe den Würfel")
    message = over_the_wire(protocol.infer_message(seen, "session", "me", 7))
    assert (message.type, message.id, message.body["session"], message.body["client"]) == ("infer", 7, "session", "me")
    read = protocol.parse_observation(message)
    assert (read.stamp_ns, read.prompt, read.ages_s) == (seen.stamp_ns, seen.prompt, seen.ages_s)
    np.testing.assert_array_equal(read.state, seen.state)
    assert read.images.keys() == seen.images.keys()
    for name, image in seen.images.items():
        np.testing.assert_array_equal(read.images[name], image)


def test_prefix_round_trip() -> None:
    actions = np.full((3, 6), 0.5)
    actions[1] = np.nan  # unknown
    prefix = ActionPrefix(actions, 0.05, 2, RtcSettings("trained", "linear", 10.0, 7))
    read = protocol.parse_prefix(over_the_wire(protocol.infer_message(observation(tiny_robot()), "s", "me", 7, prefix)))
    assert read is not None and (read.dt, read.delay, read.settings) == (0.05, 2, prefix.settings)
    np.testing.assert_array_equal(read.actions, actions)
    plain = over_the_wire(protocol.infer_message(observation(tiny_robot()), "s", "me", 7))
    assert protocol.parse_prefix(plain) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dt": 0.0}, "expected dt"),
        ({"delay": -1}, "expected dt"),
        ({"mode": "magic"}, "rtc.mode is 'magic', expected one of auto, off, exact"),
        ({"mask_end": "far"}, "rtc: "),
        ({"mask_end": 10**12}, "expected 0 .. 1000"),
        ({"strength": 3}, "unexpected keyword"),
    ],
)
def test_a_wrong_prefix_is_named(change: dict[str, object], message: str) -> None:
    sent = protocol.infer_message(
        observation(tiny_robot()), "s", "me", 7, ActionPrefix(np.zeros((3, 6)), 0.05, 2, RtcSettings())
    )
    with pytest.raises(ProtocolError, match=message):
        protocol.parse_prefix(replace(sent, body={**sent.body, "rtc": {**sent.body["rtc"], **change}}))
    with pytest.raises(ProtocolError, match="array 'prefix'"):
        protocol.parse_prefix(replace(sent, arrays={}))


def test_chunk_round_trip() -> None:
    chunk = chunk_of(12.5, 0.05, np.random.default_rng(0).normal(size=(5, 6)), tuple("abcdef"))
    read, timing = protocol.parse_chunk(over_the_wire(protocol.chunk_message(chunk, {"model_ms": 3.0}, 1)))
    assert (read.stamp_ns, read.dt_ns, read.names, timing) == (
        12_500_000_000,
        50_000_000,
        chunk.names,
        {"model_ms": 3.0},
    )
    np.testing.assert_array_equal(read.actions, chunk.actions)


def test_metadata_round_trip() -> None:
    metadata = Metadata("best", "pi05", tiny_robot(), 50, 15.0, 224, 6)
    assert protocol.parse_metadata(over_the_wire(protocol.metadata_message(metadata, "s", 1))) == (metadata, "s")


def test_non_contiguous_images_travel_whole() -> None:
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)[::-1, ::2]
    read = over_the_wire(Message("infer", 1, {}, {"image/base": image}))
    np.testing.assert_array_equal(read.arrays["image/base"], image)


@given(st.lists(st.binary(max_size=64), max_size=5))
def test_any_bytes_are_refused_politely(frames: list[bytes]) -> None:
    with pytest.raises(ProtocolError):
        decode(frames)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["type", "id", "arrays", "stamp_ns", "prompt", "ages_s", "session"]), values))
def test_any_header_is_refused_or_read(header: dict) -> None:
    """Never another error than ProtocolError."""
    try:
        message = decode([msgpack.packb({**header, "pi0": protocol.VERSION})])
        protocol.parse_observation(message)
    except ProtocolError:
        pass


def test_another_version_says_so() -> None:
    with pytest.raises(VersionError, match="version 2, this side 3: install the same pi0_ros on both machines"):
        decode([msgpack.packb({"pi0": 2, "type": "hello"})])


@pytest.mark.parametrize(
    ("entry", "frame", "message"),
    [
        (["state", "float64", [2]], b"\0" * 15, "needs 16 bytes, 15 came"),
        (["state", "object", [1]], b"\0" * 8, "expected .name, dtype, shape."),
        (["state", "float64", [-1]], b"\0" * 8, "expected .name, dtype, shape."),
        (["state", "float64", "2"], b"\0" * 16, "expected .name, dtype, shape."),
        (["state", "float64", [2**40, 2**40]], b"\0" * 8, "needs"),
        (["state", "uint8", [0, 2**63]], b"", "dimension"),
        (["state", "uint8", [0, 2**26, 2**26, 2**26]], b"", "too big"),
        (["state", "uint8", [1] * 100], b"\0", "dimension"),
        ("state", b"", "expected .name, dtype, shape."),
    ],
)
def test_wrong_arrays(entry: object, frame: bytes, message: str) -> None:
    header = msgpack.packb({"pi0": protocol.VERSION, "type": "infer", "id": 1, "arrays": [entry]})
    with pytest.raises(ProtocolError, match=message):
        decode([header, frame])


def test_caps_hold_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MAX_BYTES", 1000)
    with pytest.raises(ProtocolError, match="at most"):
        encode(Message("infer", 1, {}, {"state": np.zeros(200)}))
    with pytest.raises(ProtocolError, match="at most"):
        decode([b"\0", b"\0" * 1000])
    with pytest.raises(ProtocolError, match="at most"):
        decode([b"\0"] * 34)
    with pytest.raises(ProtocolError, match="at most"):
        decode([])


@pytest.mark.parametrize(
    ("body", "arrays", "message"),
    [
        ({"stamp_ns": -1, "prompt": "", "ages_s": {}}, {"state": np.zeros(2)}, "negative"),
        ({"stamp_ns": 1, "prompt": "x" * 5000, "ages_s": {}}, {"state": np.zeros(2)}, "4096 characters"),
        ({"stamp_ns": 1.5, "prompt": "", "ages_s": {}}, {"state": np.zeros(2)}, "stamp_ns"),
        ({"stamp_ns": 1, "prompt": "", "ages_s": {"a": "b"}}, {"state": np.zeros(2)}, "ages_s"),
        ({"stamp_ns": 1, "prompt": "", "ages_s": {}}, {}, "'state'"),
        ({"stamp_ns": 1, "prompt": "", "ages_s": {}}, {"state": np.zeros(2, np.float32)}, "'state'"),
        (
            {"stamp_ns": 1, "prompt": "", "ages_s": {}},
            {"state": np.zeros(2), "image/base": np.zeros((4, 4), np.uint8)},
            "image 'base' is uint8 .4, 4.",
        ),
    ],
)
def test_wrong_observations(body: dict, arrays: dict, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        protocol.parse_observation(over_the_wire(Message("infer", 1, body, arrays)))


@pytest.mark.parametrize(
    ("actions", "changes", "why"),
    [
        (np.full((2, 1), np.nan), {}, "NaN or infinity for a"),
        (np.zeros((0, 1)), {}, "shape .0, 1."),
        (np.zeros((2, 3)), {}, "shape .2, 3."),
        (np.zeros(2), {}, "expected stamp_ns, dt_ns"),
        (np.zeros((2, 1)), {"stamp_ns": 1.7e9}, "expected stamp_ns, dt_ns"),
        (np.zeros((2, 1)), {"dt_ns": 0.05}, "expected stamp_ns, dt_ns"),
        (np.zeros((2, 1)), {"dt_ns": 0}, "dt_ns 0 must be"),
        (np.zeros((2, 1)), {"stamp_ns": 2**63}, "must be a ROS time"),
    ],
)
def test_chunks_that_must_not_be_executed(actions: np.ndarray, changes: dict, why: str) -> None:
    body = {"stamp_ns": 1, "dt_ns": 50_000_000, "names": ["a"], "timing": {}} | changes
    with pytest.raises(ProtocolError, match=f"chunk: .*{why}"):
        protocol.parse_chunk(over_the_wire(Message("chunk", 1, body, {"actions": actions})))


def test_metadata_that_cannot_be_read() -> None:
    whole = protocol.metadata_message(Metadata("best", "pi05", tiny_robot(), 50, 15.0, 224, 6), "s", 1).body["metadata"]
    for body in (
        {},
        {"session": "s", "metadata": {}},
        {"session": "s", "metadata": {"checkpoint": "a", "robot": "x: ["}},
        *(
            {"session": "s", "metadata": {**whole, "robot": robot}}
            for robot in (1e308, b"name: a", None, ["a"], {}, "- {name: j}\n" * 20_000)
        ),
    ):
        with pytest.raises(ProtocolError, match="metadata cannot be read"):
            protocol.parse_metadata(over_the_wire(Message("metadata", 1, body)))
