"""Several servers in order of preference, over real sockets; the rest of the link: fingerprint, pictures, refusals."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import numpy as np
import policy_fixtures
import pytest
import zmq
from conftest import wait_until
from policy_fixtures import SECOND, HeldPolicy, observation, serving, tiny_robot

from pi0_ros.base.errors import InputError
from pi0_ros.inference import parts as parts_module
from pi0_ros.inference import protocol
from pi0_ros.inference.link import ANSWERS
from pi0_ros.inference.metadata import FINGERPRINT, BackendError, RobotMismatchError, check_same
from pi0_ros.inference.parts import HeldParts, SentParts
from pi0_ros.inference.protocol import Message, PartsError, decode, encode
from pi0_ros.inference.refusals import LINES, Bugs, Refusals
from pi0_ros.inference.server import Server
from pi0_ros.observation.streams import Observation

NOBODY = "tcp://127.0.0.1:9"
GENEROUS_S = 20.0
asking = partial(policy_fixtures.asking, timeout_s=GENEROUS_S)


class Recording(HeldPolicy):
    """Remembers what it was asked, and may be another policy than the other one."""

    def __init__(self, **changes) -> None:
        super().__init__()
        self.seen: list[Observation] = []
        self.metadata = replace(HeldPolicy.metadata, **changes)

    def infer(self, observation: Observation, prefix: object = None):
        self.seen.append(observation)
        return super().infer(observation)


# ---- fail-over


def test_the_first_that_answers_within_one_time_limit() -> None:
    """Nobody at the first address: half of the time is left for the second, which answers at once."""
    with serving(HeldPolicy()) as server, asking(NOBODY, server.address, timeout_s=6.0) as one:
        assert one.infer(observation(tiny_robot())).stamp_ns == 5 * SECOND
        assert one.link.server == server.address and "not reachable within 3 s" in one.link.trouble
        asked = one._places[0].failures
        one.infer(observation(tiny_robot()))
        assert one._places[0].failures == asked and one.link.failovers == 0  # nobody is not waited for again


def test_a_server_that_hangs_is_left_and_the_preferred_one_taken_back_when_it_is_there_again() -> None:
    first, second = Recording(), Recording()
    with serving(second) as spare, ExitStack() as until_cut:
        preferred = until_cut.enter_context(serving(first))
        with asking(preferred.address, spare.address, timeout_s=6.0) as one:
            one.infer(observation(tiny_robot(), 0, SECOND))
            assert one.link.server == preferred.address and not one.link.trouble
            until_cut.close()
            one.infer(observation(tiny_robot(), 1, 2 * SECOND))
            assert one.link.server == spare.address and one.link.failovers == 1
            assert preferred.address in one.link.trouble and one.link.servers[spare.address] == ANSWERS
            with serving(first, preferred.address):

                def back() -> bool:
                    one.infer(observation(tiny_robot(), 2, 3 * SECOND))
                    return one.link.server == preferred.address

                wait_until(back, 60.0, "the preferred server")
                assert one.link.failovers == 2 and not one.link.trouble


def test_both_gone_is_said_of_both_within_the_time_limit() -> None:
    with asking(NOBODY, "tcp://127.0.0.1:10", timeout_s=1.0) as one:
        begin = time.monotonic()
        with pytest.raises(BackendError, match="no server answered: .*127.0.0.1:9: not reach.*; .*127.0.0.1:10: not"):
            one.infer(observation(tiny_robot()))
        assert time.monotonic() - begin < 20.0 and one.metadata is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "pi05"}, "model is 'pi05' now and 'pi0' before"),
        ({"horizon": 6}, "horizon is 6 now and 5 before"),
        ({"fps": 10.0}, "fps is 10.0 now and 20.0 before"),
        ({"statistics": "abc"}, "statistics is 'abc' now and '' before"),
        ({"image_resize": "torch"}, "image_resize is 'torch' now and 'pillow' before"),
        ({"robot": replace(tiny_robot(), cameras=tiny_robot().cameras[:1])}, r"cameras \(name: slot\) are .* now"),
    ],
)
def test_a_server_in_anothers_place_must_serve_the_same_policy(changes: dict, said: str) -> None:
    """At the same address after a restart, and as the second of the list."""
    with ExitStack() as until_cut, serving(Recording(**changes)) as spare:
        preferred = until_cut.enter_context(serving(HeldPolicy()))
        with asking(preferred.address, spare.address, timeout_s=4.0) as one, asking(preferred.address) as alone:
            one.infer(observation(tiny_robot()))
            alone.infer(observation(tiny_robot()))
            until_cut.close()
            with pytest.raises(BackendError, match=said):
                one.infer(observation(tiny_robot()))
            with serving(Recording(**changes), preferred.address), pytest.raises(RobotMismatchError, match=said):
                alone.infer(observation(tiny_robot()))


def test_every_field_of_the_fingerprint_is_one_of_the_metadata() -> None:
    known = HeldPolicy.metadata
    check_same(known, replace(known, checkpoint="a later save"))
    for key in FINGERPRINT:
        with pytest.raises(RobotMismatchError, match=f"{key} is 77 now"):
            check_same(known, replace(known, **{key: 77}))


def test_an_error_of_the_model_does_not_make_a_server_the_second_choice() -> None:
    class Broken(HeldPolicy):
        def infer(self, observation: Observation, prefix: object = None):
            raise RuntimeError("CUDA out of memory")

    with serving(Broken()) as first, serving(Broken()) as spare, asking(first.address, spare.address) as one:
        for _ in range(2):
            with pytest.raises(BackendError, match="CUDA out of memory.*CUDA out of memory"):
                one.infer(observation(tiny_robot()))
        assert first.refused == spare.refused == 2


def test_a_stopping_server_answers_what_it_took_and_sends_others_on() -> None:
    policy = HeldPolicy(seconds=0.6)
    stop: list[bool] = []
    with serving(HeldPolicy()) as spare:
        import threading

        server = Server(policy, "tcp://127.0.0.1:*")
        thread = threading.Thread(target=server.run, args=(lambda: bool(stop),))
        thread.start()
        try:
            with asking(server.address, spare.address) as one, asking(server.address) as other:
                other.infer(observation(tiny_robot(), 0, SECOND))
                one.infer(observation(tiny_robot(), 0, SECOND))
                found: list[int] = []
                asker = threading.Thread(
                    target=lambda: found.append(other.infer(observation(tiny_robot(), 0, 2 * SECOND)).stamp_ns)
                )
                asker.start()
                wait_until(lambda: not server._waiting.idle, GENEROUS_S)
                stop.append(True)
                wait_until(lambda: server.look()["state"] == "draining", GENEROUS_S)
                assert one.infer(observation(tiny_robot(), 0, 3 * SECOND)).stamp_ns == 3 * SECOND
                assert one.link.server == spare.address and "this server stops" in one.link.trouble
                asker.join()
                assert found == [2 * SECOND]
        finally:
            stop.append(True)
            thread.join()
            server.close()


def test_addresses_are_given_once_each() -> None:
    from pi0_ros.inference.options import PolicyOptions

    options = PolicyOptions(backend="zmq", server="[tcp://a:1, tcp://b:2]")
    assert options.servers == ("tcp://a:1", "tcp://b:2")
    with pytest.raises(InputError, match="names an address twice"):
        PolicyOptions(backend="zmq", server="tcp://a:1,tcp://a:1")
    with pytest.raises(InputError, match="backend 'openpi' takes one server"):
        PolicyOptions(backend="openpi", server="ws://a:1,ws://b:1")
    with pytest.raises(InputError, match="image_coding is 'png', expected one of raw, jpeg, whole"):
        PolicyOptions(backend="zmq", image_coding="png")
    with pytest.raises(InputError, match="image_coding is for backend 'zmq'"):
        PolicyOptions(checkpoint="x", image_coding="jpeg")


# ---- clocks


def test_the_delays_of_a_link_are_measured() -> None:
    with serving(HeldPolicy(seconds=0.05)) as server, asking(server.address) as one:
        for number in range(3):
            one.infer(observation(tiny_robot(), number, (number + 1) * SECOND))
        link = one.link
        assert abs(link.offset_ms) <= link.offset_error_ms + 0.001  # one clock on both sides
        assert 0 < link.offset_error_ms < 5000
        assert link.up_ms > 0 and link.down_ms > 0
        assert link.round_trip_p50_ms >= 50 and link.round_trip_p99_ms >= link.round_trip_p50_ms


# ---- pictures


@pytest.mark.parametrize("coding", ["raw", "jpeg", "whole"])
def test_an_unchanged_picture_travels_once(coding: str) -> None:
    policy, robot = Recording(), tiny_robot()
    with serving(policy) as server, asking(server.address, image_coding=coding) as one:
        first = observation(robot, 1, SECOND)
        one.infer(first)
        whole = one.link.sent_bytes
        later = replace(observation(robot, 2, 2 * SECOND), images={k: v.copy() for k, v in first.images.items()})
        one.infer(later)
        assert one.link.sent_bytes < 1000 < whole
        moved = replace(later, images={**later.images, "wrist": 255 - later.images["wrist"]})
        one.infer(moved)
        assert 1000 < one.link.sent_bytes < 0.75 * whole
        one.infer(first)
    for name in first.images:
        np.testing.assert_array_equal(policy.seen[0].images[name], policy.seen[1].images[name])
        np.testing.assert_array_equal(policy.seen[0].images[name], policy.seen[3].images[name])
    np.testing.assert_array_equal(policy.seen[2].images["base"], policy.seen[0].images["base"])
    assert not np.array_equal(policy.seen[2].images["wrist"], policy.seen[0].images["wrist"])


def test_a_server_that_holds_no_pictures_any_more_gets_them_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts_module, "MAX_CLIENTS", 1)
    policy = Recording()
    with serving(policy) as server, asking(server.address) as one, asking(server.address) as other:
        for _ in range(3):
            for asker in (one, other):
                asker.infer(observation(tiny_robot()))
        assert server.refusals.by_code == {"parts": 4}
    assert len(policy.seen) == 6 and {len(seen.images) for seen in policy.seen} == {2}


def test_pictures_held_are_bounded_and_never_another_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    held = HeldParts()
    picture = np.zeros((10, 10, 3), np.uint8)
    held.complete("a", Message("infer", 1, {}, {"image/base": picture, "state": np.zeros(3)}))
    same = Message("infer", 2, {"same": {"base": 1}})
    assert held.complete("a", same).arrays["image/base"] is picture
    for client, named in (("b", {"base": 1}), ("a", {"base": 2}), ("a", {"wrist": 1}), ("a", [1])):
        with pytest.raises(PartsError):
            held.complete(client, Message("infer", 3, {"same": named}))
    monkeypatch.setattr(parts_module, "MAX_BYTES", 700)
    for number in range(20):
        held.complete(f"client {number}", Message("infer", 1, {}, {"image/base": picture}))
    assert len(held._clients) == 2 and held._bytes == 600


def test_what_was_never_answered_is_sent_again() -> None:
    sent, picture = SentParts(), np.zeros((4, 4, 3), np.uint8)
    assert sent.same({"base": picture}) == {}
    sent.answered({"base": picture}, {}, 3)
    assert sent.same({"base": picture.copy()}) == {"base": 3}
    assert sent.same({"base": picture + 1}) == {} and sent.same({"base": picture[:2]}) == {}
    sent.answered({"base": picture}, {"base": 3}, 4)
    assert sent.same({"base": picture}) == {"base": 3}
    sent.forget()
    assert sent.same({"base": picture}) == {}


# ---- refusals


def test_a_refusal_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    context = zmq.Context()
    with caplog.at_level(logging.WARNING, "pi0 serve"), serving(HeldPolicy()) as server:
        socket = context.socket(zmq.DEALER)
        socket.connect(server.address)
        for number in range(1, 51):
            socket.send_multipart(encode(protocol.infer_message(observation(tiny_robot()), "stale", "me", number)))
            assert socket.poll(GENEROUS_S * 1e3)
            assert decode(socket.recv_multipart()).body["code"] == "session"
        assert server.refusals.by_code == {"session": 50}
        context.destroy(linger=0)
    assert [record.getMessage() for record in caplog.records] == ["refused: the server was restarted: say hello first"]


def test_a_bug_is_shown_once(caplog: pytest.LogCaptureFixture) -> None:
    bugs = Bugs(logging.getLogger("pi0 serve"))
    with caplog.at_level(logging.ERROR, "pi0 serve"):
        for text in ("a", "b", "b"):
            try:
                int(text)
            except ValueError as error:
                bugs.say("inference failed", error)
        try:
            [][1]
        except IndexError as error:
            bugs.say("inference failed", error)
    assert len(caplog.records) == 2 and all(record.exc_info for record in caplog.records)


def test_different_refusals_do_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    refusals = Refusals(logging.getLogger("pi0 serve"))
    with caplog.at_level(logging.WARNING, "pi0 serve"):
        for number in range(1000):
            refusals.say("bad_request", f"nonsense {number}")
    assert refusals.count == 1000 and len(caplog.records) == LINES
