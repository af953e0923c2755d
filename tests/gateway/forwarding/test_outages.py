"""Trouble on the way to Orthanc: the queue holds, says so once, tries again less and less often, and fails nothing."""

from itertools import pairwise
from threading import Barrier
from typing import Any

import pytest

from tests.gateway.forwarding.conftest import DEADLINE_S, MakeForwarding, events, gaps
from tests.support.hostile_http import Answer, Fault, HostileHttp, Request, orthanc_error
from tests.support.processes import wait_until

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")

HELD = "Orthanc takes nothing; the queue waits"
FREE = "Orthanc takes instances again"


TROUBLE_ON_THE_WAY = {
    "moved": Answer(302),
    "unauthorized": Answer(401),
    "forbidden": Answer(403),
    "not found": Answer(404),
    "proxy wants a password": Answer(407),
    "too large": Answer(413, b"<html>nginx</html>"),
    "too many": Answer(429),
    "bad gateway": Answer(502),
    "unavailable": Answer(503),
    "refused by something else": Answer(400, b"no"),
    "unknown code": orthanc_error(400, 1234),
    "full storage": orthanc_error(500, 19),
    "disk trouble": orthanc_error(500, 14),
    "code of another status": orthanc_error(403, 15),
    "no JSON": Answer(200, b"<html>welcome</html>"),
    "empty": Answer(200),
    "another JSON": Answer(200, b'"Success"'),
    "bottomless JSON": Answer(200, b"[" * 200_000),
    "unknown status": Answer(200, b'{"Status": "Perhaps"}'),
    "closed before the answer": Fault.CLOSE_BEFORE_ANSWER,
    "closed within the answer": Fault.CLOSE_WITHIN_ANSWER,
}


@pytest.mark.parametrize("trouble", TROUBLE_ON_THE_WAY.values(), ids=TROUBLE_ON_THE_WAY)
def test_trouble_on_the_way_holds_the_queue_and_fails_nothing(
    make_forwarding: MakeForwarding, hostile: HostileHttp, log: list[Any], trouble: Answer | Fault
) -> None:
    hostile.rule = lambda _request: trouble
    forwarding = make_forwarding()
    deliveries = forwarding.receive(3)
    forwarding.start()
    wait_until(lambda: len(hostile.posts) >= 5, DEADLINE_S, "the queue does not try again")
    assert len(events(log, HELD)) == 1
    assert forwarding.outcomes == {}
    hostile.rule = hostile.as_orthanc
    forwarding.wait_until_delivered(deliveries)
    assert forwarding.spool.names(forwarding.spool.failed) == []
    assert len(events(log, HELD)) == 1
    assert len(events(log, FREE)) == 1
    assert [entry for entry in log if entry["log_level"] == "error"] == events(log, HELD)


def test_attempts_of_a_held_queue_back_off_and_send_one_post_each(
    make_forwarding: MakeForwarding, hostile: HostileHttp
) -> None:
    hostile.rule = lambda _request: Answer(503)
    forwarding = make_forwarding(senders=4, MaximumRetryDelay=0.2)
    forwarding.receive(40)
    forwarding.start()
    wait_until(lambda: len(hostile.posts) >= 16, DEADLINE_S, "the queue does not try again")
    # At first four senders may meet the trouble, each with a batch and then with one instance alone.
    for number, gap in enumerate(gaps(hostile.posts[8:])):
        assert gap >= 0.75 * min(0.2, 0.02 * 2 ** max(0, number - 1)), number


def test_trouble_that_several_senders_meet_at_once_counts_once(
    make_forwarding: MakeForwarding, hostile: HostileHttp
) -> None:
    together = Barrier(4)

    def rule(_request: Request) -> Answer:
        if len(hostile.posts) <= 4:
            together.wait(DEADLINE_S)
        return Answer(503)

    hostile.rule = rule
    forwarding = make_forwarding(senders=4, BatchSize=1, MinimumRetryDelay=1, MaximumRetryDelay=60)
    forwarding.receive(8)
    forwarding.start()
    wait_until(lambda: len(hostile.posts) == 5, DEADLINE_S, "the queue does not try again")
    # After four holds it would be six seconds and more.
    assert hostile.posts[4].at - hostile.posts[3].at < 5


def test_each_outage_has_a_line_of_its_own_and_starts_with_short_delays(
    make_forwarding: MakeForwarding, hostile: HostileHttp, log: list[Any]
) -> None:
    forwarding = make_forwarding()
    forwarding.start()
    for outage in range(1, 4):
        hostile.rule = lambda _request: Answer(503)
        posts = len(hostile.posts)
        deliveries = forwarding.receive(1)
        wait_until(lambda: len(hostile.posts) >= posts + 3, DEADLINE_S, "the queue does not try again")  # noqa: B023
        hostile.rule = hostile.as_orthanc
        forwarding.wait_until_delivered(deliveries)
        assert len(events(log, HELD)) == len(events(log, FREE)) == outage


def test_orthanc_that_is_down_is_waited_for(
    make_forwarding: MakeForwarding, hostile: HostileHttp, log: list[Any]
) -> None:
    hostile.stop()
    forwarding = make_forwarding(senders=2)
    deliveries = forwarding.receive(5)
    forwarding.start()
    wait_until(lambda: events(log, HELD), DEADLINE_S, "no line says that Orthanc is down")
    hostile.start()
    forwarding.wait_until_delivered(deliveries)
    assert len(events(log, HELD)) == 1
    assert "refused" in events(log, HELD)[0]["reason"]


def test_orthanc_that_never_answers_is_asked_again(
    make_forwarding: MakeForwarding, hostile: HostileHttp, log: list[Any]
) -> None:
    def rule(request: Request) -> Answer | Fault:
        return Fault.SILENCE if len(hostile.posts) == 1 else hostile.as_orthanc(request)

    hostile.rule = rule
    forwarding = make_forwarding(timeout_s=0.3)
    deliveries = forwarding.receive(3)
    forwarding.start()
    forwarding.wait_until_delivered(deliveries)
    assert len(events(log, HELD)) == 1
    assert "timed out" in events(log, HELD)[0]["reason"]


def test_one_instance_that_only_meets_trouble_on_the_way_holds_the_others_less_and_less(
    make_forwarding: MakeForwarding, hostile: HostileHttp
) -> None:
    forwarding = make_forwarding(BatchSize=1)
    (poisoned,) = forwarding.receive(1)

    def rule(request: Request) -> Answer:
        return Answer(413) if request.uids == [poisoned.sop_instance_uid] else hostile.as_orthanc(request)

    hostile.rule = rule
    forwarding.start()
    for count in range(1, 6):
        wait_until(
            lambda: len(hostile.posts_of(poisoned.sop_instance_uid)) >= count,  # noqa: B023
            DEADLINE_S,
            "it is not tried again",
        )
        forwarding.wait_until_delivered(forwarding.receive(2))
    # What counts against it is that the way was free before it.
    uid = poisoned.sop_instance_uid
    posts = [None, *hostile.posts]
    culprits = [
        now for before, now in pairwise(posts) if now and uid in now.uids and (not before or uid not in before.uids)
    ]
    assert len(culprits) >= 4
    for number, culprit in enumerate(culprits[:-1]):
        following = next(request for request in hostile.posts_of(uid) if request.at > culprit.at)
        assert following.at - culprit.at >= 0.75 * min(0.5, 0.02 * 2**number), number
    assert forwarding.spool.names(forwarding.spool.failed) == []


def test_held_queue_goes_on_when_what_it_tried_is_gone(
    make_forwarding: MakeForwarding, hostile: HostileHttp, log: list[Any]
) -> None:
    hostile.stop()
    forwarding = make_forwarding()
    gone = forwarding.receive(1)
    forwarding.start()
    wait_until(lambda: events(log, HELD), DEADLINE_S, "the queue is not held")
    gone[0].path.unlink()
    assert forwarding.wait_for_outcome(gone[0])[0] == "withdrawn"
    hostile.start()
    forwarding.wait_until_delivered(forwarding.receive(2))
