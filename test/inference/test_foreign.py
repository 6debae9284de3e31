"""Foreign texts and numbers are capped in one place, whoever sends them."""

from __future__ import annotations

import pytest
from policy_fixtures import tiny_robot

from pi0_ros.base.foreign import MAX_TEXT_CHARS, check_prompt, shortened
from pi0_ros.inference.metadata import Metadata
from pi0_ros.inference.protocol import ProtocolError, error_message, metadata_message, parse_metadata


def test_long_texts_are_shortened_and_say_by_how_much():
    assert shortened("short") == "short"
    text = shortened("x" * 900_000)
    assert len(text) < MAX_TEXT_CHARS + 40 and text.endswith("(898000 more characters)")
    assert len(error_message("error", "x" * 900_000, 1).body["message"]) < MAX_TEXT_CHARS + 40


def test_a_prompt_that_is_too_long_is_refused_not_cut():
    assert check_prompt("x" * 4096)
    with pytest.raises(ValueError, match="10000000 characters is refused, at most 4096"):
        check_prompt("x" * 10_000_000)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image_size", 10**9),
        ("image_size", 0),
        ("horizon", 10**7),
        ("fps", float("nan")),
        ("fps", 1e9),
        ("horizon", -1),
    ],
)
def test_a_servers_numbers_are_within_reason(key, value):
    message = metadata_message(Metadata("c", "pi05", tiny_robot(), 10, 20.0, 224), "s", 1)
    assert parse_metadata(message)[0].horizon == 10
    message.body["metadata"][key] = value
    with pytest.raises(ProtocolError, match=f"{key} .* is not within"):
        parse_metadata(message)
