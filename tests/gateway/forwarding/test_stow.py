"""Delivering by STOW-RS: what is sent, and what each answer means for each instance."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from pydicom import dcmread

from gateway.dicom.part10 import find_data_set
from tests.gateway.forwarding.conftest import DEADLINE_S, MakeStowing, events
from tests.gateway.forwarding.stowing import CLOUD, Stowing
from tests.integration.gateways import data_set_of
from tests.support.processes import wait_until
from tests.support.stow_origin import StowOrigin, StowReply, StowRequest, stow_json, stow_xml

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")

PROCESSING_FAILURE = 0x0110
OUT_OF_RESOURCES = 0xA700
CANNOT_UNDERSTAND = 0xC000
DUPLICATE = 0x0111
AZURE_ALREADY_STORED = 0xB00E


def uids(deliveries: list[Any]) -> list[str]:
    return [delivery.sop_instance_uid for delivery in deliveries]


def failed(stowing: Stowing) -> dict[str, str]:
    """The reasons in `failed`, by name."""
    return {name: stowing.spool.note(name)["reason"] for name in stowing.spool.names(stowing.spool.failed)}


def test_data_sets_arrive_as_they_were_received(make_stowing: MakeStowing, origin: StowOrigin) -> None:
    stowing = make_stowing()
    deliveries = [*stowing.receive(3), *stowing.receive(1, rows=512)]
    sent = {delivery.sop_instance_uid: data_set_of(delivery.path.read_bytes()) for delivery in deliveries}
    stowing.start()
    stowing.wait_until_delivered(deliveries)
    for uid, data_set in sent.items():
        meta, offset = find_data_set(memoryview(origin.stored[uid]))
        assert origin.stored[uid][offset:] == data_set
        assert meta[0x0016] == meta[0x0017] == "MODALITY"
        assert meta[0x0018] == CLOUD
        assert "192.0.2" not in repr(meta)
    assert stowing.spool.names(stowing.spool.ready) == []
    assert len(stowing.spool.names(stowing.spool.delivered)) == 4


def test_batches_are_of_one_study_and_bounded(make_stowing: MakeStowing, origin: StowOrigin) -> None:
    stowing = make_stowing(BatchSize=4)
    deliveries = []
    for _ in range(6):
        deliveries += [*stowing.receive(study=1), *stowing.receive(study=2)]
    stowing.start()
    stowing.wait_until_delivered(deliveries)
    assert [len(request.uids) for request in origin.requests] == [4, 4, 2, 2]
    assert all(len(request.studies) == 1 for request in origin.requests)


@pytest.mark.parametrize("status", [200, 202, 409])
@pytest.mark.parametrize("body", [stow_json, stow_xml])
def test_each_instance_has_its_own_outcome(
    make_stowing: MakeStowing, origin: StowOrigin, body: Any, status: int
) -> None:
    stowing = make_stowing()
    good, bad, later = stowing.receive(3)

    def rule(request: StowRequest) -> StowReply | None:
        if len(request.uids) < 3:
            return None
        origin.stored[good.sop_instance_uid] = request.files[good.sop_instance_uid]
        outcomes = {bad.sop_instance_uid: CANNOT_UNDERSTAND, later.sop_instance_uid: OUT_OF_RESOURCES}
        return StowReply(status, body([good.sop_instance_uid], outcomes))

    origin.rule = rule
    stowing.start()
    stowing.wait_until_delivered([good, later])
    assert stowing.wait_for_outcome(bad) == ("refused", "the server's Failure Reason is Cannot understand (0xC000)")
    assert failed(stowing) == {bad.path.name: "the server's Failure Reason is Cannot understand (0xC000)"}
    assert [request.uids for request in origin.requests[1:]] == [[later.sop_instance_uid]]


def test_what_an_answer_does_not_name_is_sent_alone(make_stowing: MakeStowing, origin: StowOrigin) -> None:
    stowing = make_stowing()
    deliveries = stowing.receive(3)
    first = deliveries[0].sop_instance_uid

    def rule(request: StowRequest) -> StowReply | None:
        return StowReply(200, stow_json([first])) if len(request.uids) > 1 else None

    origin.rule = rule
    stowing.start()
    stowing.wait_until_delivered(deliveries)
    assert [request.uids for request in origin.requests] == [uids(deliveries), *([uid] for uid in uids(deliveries[1:]))]


@pytest.mark.parametrize("status", [200, 202, 204])
def test_success_without_a_word_counts_when_the_server_has_the_instance(
    make_stowing: MakeStowing, origin: StowOrigin, status: int
) -> None:
    stowing = make_stowing()
    kept, lost = stowing.receive(2)

    def rule(request: StowRequest) -> StowReply | None:
        if len(origin.posts_of(lost.sop_instance_uid)) > 3 or lost.sop_instance_uid not in request.uids:
            origin.keep(request)
        return StowReply(status)

    origin.rule = rule
    stowing.start()
    stowing.wait_until_delivered([kept, lost])
    assert len(origin.posts_of(lost.sop_instance_uid)) == 4


def test_success_without_a_word_counts_when_the_server_cannot_be_asked(
    make_stowing: MakeStowing, origin: StowOrigin
) -> None:
    origin.rule = lambda _request: StowReply(200)
    origin.get_status = 404
    stowing = make_stowing()
    deliveries = stowing.receive(1)
    stowing.start()
    stowing.wait_until_delivered(deliveries)


def test_conflict_without_a_word_fails_what_the_server_does_not_have(
    make_stowing: MakeStowing, origin: StowOrigin
) -> None:
    stowing = make_stowing()
    there, absent = stowing.receive(2)
    origin.stored[there.sop_instance_uid] = there.path.read_bytes()
    origin.rule = lambda _request: StowReply(409)
    stowing.start()
    stowing.wait_until_delivered([there])
    assert stowing.wait_for_outcome(absent) == ("refused", "the server answers HTTP 409")


@pytest.mark.parametrize("reason", [DUPLICATE, AZURE_ALREADY_STORED, PROCESSING_FAILURE, CANNOT_UNDERSTAND, None])
def test_duplicate_is_harmless_whatever_the_server_calls_it(
    make_stowing: MakeStowing, origin: StowOrigin, reason: int | None
) -> None:
    stowing = make_stowing()
    (delivery,) = stowing.receive()
    origin.stored[delivery.sop_instance_uid] = delivery.path.read_bytes()
    origin.rule = lambda request: StowReply(409, stow_json([], dict.fromkeys(request.uids, reason)))
    stowing.start()
    result, text = stowing.wait_for_outcome(delivery)
    assert (result, text[:14]) == ("delivered", "already stored")


@pytest.mark.parametrize("reason", [DUPLICATE, AZURE_ALREADY_STORED, PROCESSING_FAILURE, CANNOT_UNDERSTAND, None])
def test_another_instance_under_the_same_name_is_no_duplicate(
    make_stowing: MakeStowing, origin: StowOrigin, reason: int | None
) -> None:
    stowing = make_stowing()
    (delivery,) = stowing.receive()
    other = dcmread(BytesIO(delivery.path.read_bytes()))
    other.PatientName = "Somebody^Else"
    file = BytesIO()
    other.save_as(file)
    origin.stored[delivery.sop_instance_uid] = file.getvalue()
    origin.rule = lambda request: StowReply(409, stow_json([], dict.fromkeys(request.uids, reason)))
    stowing.start()
    result, text = stowing.wait_for_outcome(delivery)
    assert result == "refused"
    assert text.startswith("differs from the stored instance (")
    assert failed(stowing).keys() == {delivery.path.name}


def test_a_server_that_says_already_there_and_shows_nothing_is_believed(
    make_stowing: MakeStowing, origin: StowOrigin
) -> None:
    origin.rule = lambda request: StowReply(409, stow_json([], dict.fromkeys(request.uids, DUPLICATE)))
    origin.get_status = 404
    stowing = make_stowing()
    deliveries = stowing.receive(2)
    stowing.start()
    stowing.wait_until_delivered(deliveries)


def test_a_passing_failure_is_tried_again_less_and_less_often(make_stowing: MakeStowing, origin: StowOrigin) -> None:
    stowing = make_stowing()
    (delivery,) = stowing.receive()

    def rule(request: StowRequest) -> StowReply | None:
        if len(origin.requests) < 5:
            return StowReply(202, stow_json([], dict.fromkeys(request.uids, PROCESSING_FAILURE)))
        return None

    origin.rule = rule
    stowing.start()
    stowing.wait_until_delivered([delivery])
    times = [request.at for request in origin.requests]
    assert times[4] - times[3] > times[1] - times[0]


def test_too_large_a_batch_makes_later_ones_smaller(
    make_stowing: MakeStowing, origin: StowOrigin, log: list[Any]
) -> None:
    limit = 700_000
    origin.rule = lambda request: StowReply(413, b"<html>nginx</html>") if request.size > limit else None
    stowing = make_stowing()
    deliveries = stowing.receive(40, rows=256)
    stowing.start()
    stowing.wait_until_delivered(deliveries)
    assert failed(stowing) == {}
    assert events(log, "CLOUD takes no bodies of this size")
    assert [request for request in origin.requests[-3:] if request.size > limit] == []
    assert any(len(request.uids) > 1 for request in origin.requests if request.size <= limit)


def test_an_instance_that_is_too_large_fails_and_the_others_go_on(
    make_stowing: MakeStowing, origin: StowOrigin
) -> None:
    origin.rule = lambda request: StowReply(413) if request.size > 400_000 else None
    stowing = make_stowing()
    (large,), small = stowing.receive(1, rows=512), stowing.receive(3)
    stowing.start()
    stowing.wait_until_delivered(small)
    assert stowing.wait_for_outcome(large) == ("refused", "the server answers HTTP 413")


def test_a_server_that_has_answers_in_xml_only_is_asked_for_them(make_stowing: MakeStowing, origin: StowOrigin) -> None:
    def rule(request: StowRequest) -> StowReply | None:
        if request.headers["Accept"] != "application/dicom+xml":
            return StowReply(406)
        origin.keep(request)
        return StowReply(200, stow_xml(request.uids))

    origin.rule = rule
    stowing = make_stowing()
    stowing.start()
    stowing.wait_until_delivered(stowing.receive(2))
    count = len(origin.requests)
    stowing.wait_until_delivered(stowing.receive(1))
    assert len(origin.requests) == count + 1


def test_a_file_that_is_taken_out_by_hand_does_not_stop_its_batch(
    make_stowing: MakeStowing, origin: StowOrigin
) -> None:
    stowing = make_stowing()
    deliveries = stowing.receive(3)
    deliveries[1].path.unlink()
    stowing.start()
    stowing.wait_until_delivered([deliveries[0], deliveries[2]])
    assert stowing.wait_for_outcome(deliveries[1])[0] == "withdrawn"


def test_what_was_for_a_server_that_is_gone_is_kept_and_goes_nowhere_else(
    make_stowing: MakeStowing, origin: StowOrigin, log: list[Any]
) -> None:
    stowing = make_stowing()
    lost = stowing.receiver.ready(stowing.image(), "GONE")
    other = stowing.receiver.ready(stowing.image(), "cloud")
    stowing.routes.rescan()
    stowing.start()
    stowing.wait_until_delivered([other])
    assert failed(stowing) == {lost.path.name: "the configuration has no DICOMweb server GONE any more"}
    assert len(events(log, "an instance cannot be delivered; it is kept in failed")) == 1
    assert uids([other]) == [uid for request in origin.requests for uid in request.uids]


def test_what_was_delivered_before_a_crash_is_looked_for_at_the_start(
    make_stowing: MakeStowing, origin: StowOrigin
) -> None:
    stowing = make_stowing()
    there, lost = (stowing.receiver.ready(stowing.image(), CLOUD) for _ in range(2))
    origin.stored[there.sop_instance_uid] = there.path.read_bytes()
    for delivery in (there, lost):
        delivery.path.rename(stowing.spool.delivered / delivery.path.name)
    stowing.start()
    stowing.servers[CLOUD].check_delivered(stowing.routes.delivered()[CLOUD])
    wait_until(lambda: lost.sop_instance_uid in origin.stored, DEADLINE_S, "it is not delivered again")
    assert origin.posts_of(there.sop_instance_uid) == []
