"""The forwarder: what Orthanc answers decides which folder a file ends in, and whom trouble may delay."""

from typing import Any

import pytest

from gateway.forwarding.destination import DIFFERS, Backoff
from tests.gateway.forwarding.conftest import DEADLINE_S, MakeForwarding, events, gaps
from tests.support.hostile_http import Answer, HostileHttp, Request, orthanc_error
from tests.support.processes import wait_until

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")

HELD = "Orthanc takes nothing; the queue waits"


def test_delivered_instances_are_in_orthanc_and_in_delivered(
    make_forwarding: MakeForwarding, hostile: HostileHttp
) -> None:
    forwarding = make_forwarding(senders=3)
    deliveries = forwarding.receive(50)
    contents = {delivery.orthanc_id: delivery.path.read_bytes() for delivery in deliveries}
    forwarding.start()
    forwarding.wait_until_delivered(deliveries)
    assert hostile.stored == contents
    assert forwarding.spool.names(forwarding.spool.ready) == []
    assert forwarding.spool.names(forwarding.spool.delivered) == sorted(d.path.name for d in deliveries)
    assert max(len(request.instances) for request in hostile.posts) > 1
    assert len(forwarding.forwarder.queue) == 0


def test_instance_that_fails_once_comes_again_and_delays_no_other(
    make_forwarding: MakeForwarding, hostile: HostileHttp, log: list[Any]
) -> None:
    forwarding = make_forwarding(BatchSize=1)
    first, *others = forwarding.receive(4)

    def rule(request: Request) -> Answer:
        again = len(hostile.posts_of(first.sop_instance_uid)) > 1
        unlucky = request.uids == [first.sop_instance_uid] and not again
        return Answer(500) if unlucky else hostile.as_orthanc(request)

    hostile.rule = rule
    forwarding.start()
    forwarding.wait_until_delivered([first, *others])
    assert len(hostile.posts_of(first.sop_instance_uid)) == 2
    assert all(len(hostile.posts_of(other.sop_instance_uid)) == 1 for other in others)
    assert events(log, HELD) == []
    (line,) = [entry for entry in log if entry["log_level"] == "warning"]
    assert line["name"] == first.path.name
    assert "500" in line["reason"]


@pytest.mark.parametrize("refusal", [orthanc_error(400, 15), orthanc_error(404, 21)], ids=["bad file", "no UIDs"])
def test_refused_instance_goes_to_failed_with_a_note_and_blocks_no_other(
    make_forwarding: MakeForwarding, hostile: HostileHttp, refusal: Answer
) -> None:
    forwarding = make_forwarding()
    deliveries = forwarding.receive(6)
    poisoned = deliveries.pop(2)

    def rule(request: Request) -> Answer:
        if request.uids == [poisoned.sop_instance_uid]:
            return refusal
        return Answer(200, hostile.store_answer(request, leave_out=poisoned.sop_instance_uid))

    hostile.rule = rule
    forwarding.start()
    forwarding.wait_until_delivered(deliveries)
    result, reason = forwarding.wait_for_outcome(poisoned)
    assert result == "refused"
    assert forwarding.spool.names(forwarding.spool.failed) == [poisoned.path.name]
    note = forwarding.spool.note(poisoned.path.name)
    assert note["reason"] == reason
    assert note["attempts"] == 1
    assert "refuses it" in reason
    # Together with the others, and then alone: nothing else was sent twice.
    assert [len(request.instances) for request in hostile.posts] == [6, 1]


def test_zip_that_is_refused_as_a_whole_is_sent_one_by_one(
    make_forwarding: MakeForwarding, hostile: HostileHttp
) -> None:
    forwarding = make_forwarding()
    deliveries = forwarding.receive(4)

    def rule(request: Request) -> Answer:
        return Answer(413) if len(request.instances) > 1 else hostile.as_orthanc(request)

    hostile.rule = rule
    forwarding.start()
    forwarding.wait_until_delivered(deliveries)
    assert [len(request.instances) for request in hostile.posts] == [4, 1, 1, 1, 1]


def test_failure_in_the_body_is_tried_again_with_growing_delays(
    make_forwarding: MakeForwarding, hostile: HostileHttp, log: list[Any]
) -> None:
    forwarding = make_forwarding()
    failing, *others = forwarding.receive(4)

    def rule(request: Request) -> Answer:
        if request.uids == [failing.sop_instance_uid]:
            return Answer(200, b'{"Status": "Failure"}')
        return Answer(200, hostile.store_answer(request, leave_out=failing.sop_instance_uid))

    hostile.rule = rule
    forwarding.start()
    forwarding.wait_until_delivered(others)
    alone = wait_until(
        lambda: [r for r in hostile.posts if len(r.instances) == 1][5:], DEADLINE_S, "it is not tried again"
    )
    assert alone
    attempts = [request for request in hostile.posts if len(request.instances) == 1]
    for number, gap in enumerate(gaps(attempts)):
        assert gap >= 0.75 * min(0.5, 0.02 * 2**number), number
    assert failing.path.exists()
    assert events(log, HELD) == []
    assert len([entry for entry in log if entry["log_level"] == "warning"]) == 1


def test_filtered_out_counts_as_delivered(make_forwarding: MakeForwarding, hostile: HostileHttp) -> None:
    hostile.rule = lambda request: Answer(200, hostile.store_answer(request, "FilteredOut"))
    forwarding = make_forwarding()
    deliveries = forwarding.receive(3)
    forwarding.start()
    forwarding.wait_until_delivered(deliveries)


def test_given_up_instance_is_in_failed(make_forwarding: MakeForwarding, hostile: HostileHttp) -> None:
    hostile.rule = lambda _request: Answer(500)
    forwarding = make_forwarding(GiveUpAfter=0.3)
    (delivery,) = forwarding.receive()
    forwarding.start()
    assert forwarding.wait_for_outcome(delivery)[0] == "refused"
    note = forwarding.spool.note(delivery.path.name)
    assert note["reason"].startswith("given up after 0.3 s: ")
    assert "500" in note["reason"]
    assert note["attempts"] >= 2
    assert len(hostile.posts) >= 2


def test_instance_taken_out_by_hand_is_forgotten(make_forwarding: MakeForwarding, hostile: HostileHttp) -> None:
    forwarding = make_forwarding()
    deliveries = forwarding.receive(3)
    taken = deliveries.pop(1)
    taken.path.unlink()
    forwarding.start()
    forwarding.wait_until_delivered(deliveries)
    assert forwarding.wait_for_outcome(taken)[0] == "withdrawn"
    assert len(hostile.stored) == 2


def test_file_that_cannot_be_read_blocks_no_other(make_forwarding: MakeForwarding, log: list[Any]) -> None:
    forwarding = make_forwarding(MaximumRetryDelay=0.1)
    unreadable = forwarding.receiver.ready(forwarding.image())
    unreadable.path.unlink()
    unreadable.path.mkdir()
    forwarding.routes.rescan()
    assert len(events(log, "the spool cannot be read or written")) == 1
    assert unreadable.path not in forwarding.forwarder.queue
    forwarding.forwarder.queue.add(unreadable)
    forwarding.start()
    deliveries = forwarding.receive(5)
    forwarding.wait_until_delivered(deliveries)
    unreadable.path.rmdir()
    assert forwarding.wait_for_outcome(unreadable)[0] == "withdrawn"


def test_file_that_is_no_instance_goes_to_failed_when_it_is_found(make_forwarding: MakeForwarding) -> None:
    forwarding = make_forwarding()
    good = forwarding.receiver.ready(forwarding.image())
    cut = forwarding.receiver.ready(forwarding.image())
    cut.path.write_bytes(cut.path.read_bytes()[:-100])
    garbage = forwarding.spool.ready / "00000000000000000001-1-000000.dcm"
    garbage.write_bytes(b"no DICOM")
    forwarding.routes.rescan()
    forwarding.start()
    forwarding.wait_until_delivered([good])
    assert forwarding.spool.names(forwarding.spool.failed) == sorted([garbage.name, cut.path.name])
    for name in (garbage.name, cut.path.name):
        assert forwarding.spool.note(name)["reason"].startswith("no instance that can be delivered: ")


def test_rescan_finds_what_nobody_told_of_and_nothing_twice(
    make_forwarding: MakeForwarding, hostile: HostileHttp
) -> None:
    forwarding = make_forwarding()
    told = forwarding.receive(2)
    untold = [forwarding.receiver.ready(forwarding.image()) for _ in range(3)]
    forwarding.routes.rescan()
    forwarding.routes.rescan()
    assert len(forwarding.forwarder.queue) == 5
    forwarding.start()
    forwarding.wait_until_delivered([*told, *untold])
    assert len(hostile.posts_of(untold[0].sop_instance_uid)) == 1
    assert {delivery.orthanc_id for delivery in [*told, *untold]} == hostile.stored.keys()


def test_already_stored_counts_only_with_the_same_data_set(
    make_forwarding: MakeForwarding, hostile: HostileHttp
) -> None:
    forwarding = make_forwarding()
    same, other = forwarding.receive(2)
    hostile.stored[same.orthanc_id] = same.path.read_bytes()
    hostile.stored[other.orthanc_id] = other.path.read_bytes()[:-2] + b"\x07\x07"

    def rule(request: Request) -> Answer:
        if request.method == "GET":
            return hostile.as_orthanc(request)
        stored = dict(hostile.stored)
        answer = Answer(200, hostile.store_answer(request, "AlreadyStored"))
        hostile.stored = stored
        return answer

    hostile.rule = rule
    forwarding.start()
    assert forwarding.wait_for_outcome(same)[0] == "delivered"
    assert forwarding.wait_for_outcome(other) == ("refused", DIFFERS)
    assert forwarding.spool.names(forwarding.spool.failed) == [other.path.name]


def test_already_stored_that_orthanc_cannot_show_blocks_no_other(
    make_forwarding: MakeForwarding, hostile: HostileHttp, log: list[Any]
) -> None:
    forwarding = make_forwarding()
    lost, *others = forwarding.receive(4)

    def rule(request: Request) -> Answer:
        if request.method == "GET":
            return orthanc_error(404, 9)
        status = "AlreadyStored" if request.uids == [lost.sop_instance_uid] else "Success"
        return Answer(200, hostile.store_answer(request, status))

    hostile.rule = lambda request: (
        Answer(200, hostile.store_answer(request, leave_out=lost.sop_instance_uid))
        if len(request.instances) > 1
        else rule(request)
    )
    forwarding.start()
    forwarding.wait_until_delivered(others)
    wait_until(lambda: len(hostile.posts_of(lost.sop_instance_uid)) > 3, DEADLINE_S, "it is not tried again")
    assert lost.path.exists()
    assert events(log, HELD) == []


def test_large_instances_go_alone_and_the_largest_by_another_way(
    make_forwarding: MakeForwarding, hostile: HostileHttp
) -> None:
    second = HostileHttp()
    try:
        forwarding = make_forwarding(http_url=second.url, PluginMaximumBytes=4 * 1024 * 1024)
        sizes = {16: 2, 1200: 1, 1500: 1}  # 2.9 MB and 4.5 MB
        deliveries = [one for rows, count in sizes.items() for one in forwarding.receive(count, rows)]
        contents = {delivery.orthanc_id: delivery.path.read_bytes() for delivery in deliveries}
        forwarding.start()
        forwarding.wait_until_delivered(deliveries)
        assert [len(request.instances) for request in hostile.posts] == [2, 1]
        assert [request.uids for request in second.posts] == [[deliveries[3].sop_instance_uid]]
        assert hostile.stored | second.stored == contents
    finally:
        second.close()


def test_what_nobody_waits_for_any_more_is_not_sent_again(
    make_forwarding: MakeForwarding, hostile: HostileHttp, log: list[Any]
) -> None:
    hostile.rule = lambda _request: Answer(500)
    forwarding = make_forwarding(MinimumRetryDelay=60, MaximumRetryDelay=60)
    delivery = forwarding.receiver.incoming(forwarding.image())
    forwarding.forwarder.queue.add(delivery, urgent=True)
    forwarding.start()
    wait_until(lambda: [entry for entry in log if entry["log_level"] == "warning"], DEADLINE_S, "no attempt")
    wait_until(
        lambda: forwarding.forwarder.do_not_retry(delivery.path) or forwarding.outcomes, DEADLINE_S, "not withdrawn"
    )
    assert forwarding.outcomes[delivery.path.name][0] == "withdrawn"
    assert delivery.path not in forwarding.forwarder.queue
    assert len(hostile.posts) == 1
    assert delivery.path.exists()


def test_refused_instance_that_was_not_acknowledged_is_left_to_its_receiver(
    make_forwarding: MakeForwarding, hostile: HostileHttp
) -> None:
    hostile.rule = lambda _request: orthanc_error(400, 15)
    forwarding = make_forwarding()
    delivery = forwarding.receiver.incoming(forwarding.image())
    forwarding.forwarder.queue.add(delivery, urgent=True)
    forwarding.start()
    assert forwarding.wait_for_outcome(delivery)[0] == "refused"
    assert delivery.path.exists()
    assert list(forwarding.spool.failed.iterdir()) == []


def test_backoff_doubles_within_its_bounds() -> None:
    backoff = Backoff(1, 60)
    for attempt, expected in [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (10_000, 60)]:
        delays = [backoff.delay_s(attempt) for _ in range(50)]
        assert all(0.75 * expected <= delay <= 1.25 * expected for delay in delays)
        assert len(set(delays)) > 1
