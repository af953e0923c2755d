"""A DICOMweb server in trouble: its queue holds and fails nothing; no other queue notices."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.gateway.forwarding.conftest import DEADLINE_S, MakeStowing, events
from tests.gateway.forwarding.stowing import CLOUD
from tests.support.ports import free_port
from tests.support.processes import wait_until
from tests.support.stow_origin import StowOrigin, StowReply, StowRequest, stow_json

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")

HELD = "CLOUD takes nothing; the queue waits"
FREE = "CLOUD takes instances again"

TROUBLE = {
    "moved": StowReply(302),
    "unauthorized": StowReply(401),
    "forbidden": StowReply(403),
    "not found": StowReply(404),
    "not allowed": StowReply(405),
    "not acceptable": StowReply(406),
    "too many": StowReply(429),
    "unavailable": StowReply(503, b"<html>nginx</html>", (("Retry-After", "0"),)),
    "full": StowReply(507),
    "closed before the answer": StowReply(body=None),
    "closed within the answer": StowReply(200, b'{"00081198": {}, "00081199": {}}', cut=10),
    "answer without end": StowReply(200, bytes(20 * 1024 * 1024)),
}


@pytest.mark.parametrize("trouble", TROUBLE.values(), ids=TROUBLE)
def test_trouble_on_the_way_holds_the_queue_and_fails_nothing(
    make_stowing: MakeStowing, origin: StowOrigin, log: list[Any], trouble: StowReply
) -> None:
    origin.rule = lambda _request: trouble
    stowing = make_stowing()
    deliveries = stowing.receive(3)
    stowing.start()
    wait_until(lambda: len(origin.requests) >= 5, DEADLINE_S, "the queue does not try again")
    assert len(events(log, HELD)) == 1
    assert stowing.outcomes == {}
    origin.rule = lambda _request: None
    stowing.wait_until_delivered(deliveries)
    assert stowing.spool.names(stowing.spool.failed) == []
    assert len(events(log, FREE)) == 1


@pytest.mark.parametrize("status", [400, 415, 422, 500])
@pytest.mark.parametrize("body", [b"", b"<html>sorry</html>", b"[" * 100_000, b"<a>" * 10_000, b'{"00081198": 1}'])
def test_trouble_with_one_instance_delays_that_one_only(
    make_stowing: MakeStowing, origin: StowOrigin, status: int, body: bytes
) -> None:
    stowing = make_stowing()
    bad, *good = stowing.receive(4)
    origin.rule = lambda request: StowReply(status, body) if bad.sop_instance_uid in request.uids else None
    stowing.start()
    stowing.wait_until_delivered(good)
    wait_until(lambda: len(origin.posts_of(bad.sop_instance_uid)) >= 4, DEADLINE_S, "it is not tried again")
    assert bad.path.name not in stowing.outcomes
    origin.rule = lambda _request: None
    stowing.wait_until_delivered([bad])


def test_a_server_that_is_down_or_hangs_delays_no_other(make_stowing: MakeStowing, origin: StowOrigin) -> None:
    hanging = StowOrigin()

    def hang(_request: StowRequest) -> StowReply:
        hanging.over.wait()
        return StowReply(body=None)

    hanging.rule = hang
    servers = {
        "DOWN": {"Url": f"http://127.0.0.1:{free_port()}"},
        "HANGS": {"Url": hanging.url, "Timeout": 20.0},
    }
    stowing = make_stowing(servers=servers)
    waiting = [*stowing.receive(5, title="DOWN"), *stowing.receive(5, title="HANGS")]
    stowing.start()
    wait_until(lambda: hanging.requests, DEADLINE_S, "nothing hangs")
    begun = time.monotonic()
    stowing.wait_until_delivered(stowing.receive(20, title=CLOUD))
    assert time.monotonic() - begun < 5
    assert not stowing.outcomes.keys() & {delivery.path.name for delivery in waiting}
    hanging.close()


def test_an_answer_that_does_not_come_is_given_up(make_stowing: MakeStowing, origin: StowOrigin) -> None:
    stowing = make_stowing(entry={"Timeout": 0.3})
    deliveries = stowing.receive(2)

    def rule(_request: StowRequest) -> StowReply | None:
        if len(origin.requests) > 2:
            return None
        origin.over.wait()
        return StowReply(body=None)

    origin.rule = rule
    stowing.start()
    stowing.wait_until_delivered(deliveries)


def test_what_was_stored_although_the_answer_was_lost_is_sent_again_harmlessly(
    make_stowing: MakeStowing, origin: StowOrigin
) -> None:
    stowing = make_stowing()
    deliveries = stowing.receive(3)

    def rule(request: StowRequest) -> StowReply | None:
        if len(origin.requests) == 1:
            origin.keep(request)
            return StowReply(body=None)
        return StowReply(409, stow_json([], dict.fromkeys(request.uids, 0x0110)))

    origin.rule = rule
    stowing.start()
    stowing.wait_until_delivered(deliveries)


def test_the_server_says_how_long_to_wait(make_stowing: MakeStowing, origin: StowOrigin) -> None:
    stowing = make_stowing()
    deliveries = stowing.receive(1)

    def rule(_request: StowRequest) -> StowReply | None:
        return None if len(origin.requests) > 1 else StowReply(429, b"", (("Retry-After", "1"),))

    origin.rule = rule
    stowing.start()
    stowing.wait_until_delivered(deliveries)
    first, second = origin.requests
    assert 0.9 <= second.at - first.at < 10


def test_a_token_that_is_refused_is_renewed_and_the_body_sent_again(
    make_stowing: MakeStowing, origin: StowOrigin
) -> None:
    entry = {"OAuth2": {"TokenUrl": f"{origin.url}/token", "ClientId": "gateway", "ClientSecret": "secret"}}
    stowing = make_stowing(entry=entry)
    deliveries = stowing.receive(2, rows=512)
    origin.rule = lambda request: StowReply(401) if request.headers["Authorization"] == "Bearer token0" else None
    stowing.start()
    stowing.wait_until_delivered(deliveries)
    assert [request.headers["Authorization"] for request in origin.requests[:2]] == ["Bearer token0", "Bearer token1"]
    assert origin.requests[0].files == origin.requests[1].files


def test_what_is_given_up_is_kept_with_its_reason(make_stowing: MakeStowing, origin: StowOrigin) -> None:
    origin.rule = lambda _request: StowReply(500)
    stowing = make_stowing(GiveUpAfter=0.1)
    (delivery,) = stowing.receive(1)
    stowing.start()
    result, reason = stowing.wait_for_outcome(delivery)
    assert (result, reason) == ("refused", "given up after 0.1 s: the server answers HTTP 500")
    assert stowing.spool.note(delivery.path.name)["reason"] == reason
