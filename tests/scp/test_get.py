"""C-GET as SCP: sub-operations on the association of the request, in the roles that were negotiated."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from gateway.archive.interface import STUDY_INSTANCE_UID, Archives, Level, Selection
from scp.contexts import VERIFICATION
from tests.scp.serving import Serving, serving, until
from tests.support.data_sets import EXPLICIT, IMPLICIT, JPEG_BASELINE
from tests.support.instances import MemoryArchive, encoded, instance
from tests.support.querying import keys
from tests.support.rawdicom import (
    A_ABORT,
    A_RELEASE_RP,
    A_RELEASE_RQ,
    CT_IMAGE,
    MR_IMAGE,
    Context,
    RawPeer,
    image,
    pdu,
    store_rq,
)
from tests.support.rawscp import Message
from tests.support.retrieving import GET, PENDING, Retriever, Told

CT: Final = Context(3, CT_IMAGE, [EXPLICIT])
STUDY: Final = keys("STUDY", StudyInstanceUID="1.2")


@pytest.fixture(scope="module")
def archive() -> MemoryArchive:
    return MemoryArchive()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, archive: MemoryArchive) -> Iterator[Serving]:
    directory = tmp_path_factory.mktemp("gateway")
    with serving(directory, archives=Archives(archive, {}), DicomScpTimeout=20) as one:
        yield one


@pytest.fixture
def peer(gateway: Serving, archive: MemoryArchive) -> Iterator[Retriever]:
    archive.__init__(map(instance, range(3)))  # type: ignore[misc]
    with Retriever(gateway.port) as one:
        yield one
    archive.gate.set()
    until(lambda: not any(each.is_alive() for each in gateway.associations), "an association goes on")
    gateway.associations.clear()


def test_instances_come_on_the_association_of_the_request(peer: Retriever, archive: MemoryArchive) -> None:
    taken: list[Message] = []
    peer.open(GET, [CT]).ask(STUDY)
    assert peer.responses(lambda message: taken.append(message) or 0)[-1] == Told(0x0000, None, 3, 0, 0)
    assert [message.data_set for message in taken] == [next(encoded(instance(n)).chunks) for n in range(3)]
    assert {message.context_id for message in taken} == {CT.id}
    assert archive.selections == [Selection(Level.STUDY, {STUDY_INSTANCE_UID: ("1.2",)})]
    peer.release()


def test_counters_and_failed_list_follow_the_answers(peer: Retriever, archive: MemoryArchive) -> None:
    archive.instances = [instance(number) for number in range(4)]
    archive.broken.add("2.25.0")
    archive.missing.append("2.25.9")
    statuses = iter((0xA700, 0xB000, 0x0000))
    peer.open(GET, [CT]).ask(STUDY)
    last = peer.responses(lambda message: next(statuses))[-1]
    assert last == Told(0xB000, None, 1, 3, 1, "cannot be transcoded: no", None, ("2.25.0", "2.25.1", "2.25.9"))


def test_all_failed_and_nothing_matched(peer: Retriever, archive: MemoryArchive) -> None:
    peer.open(GET, [CT]).ask(STUDY)
    last = peer.responses(lambda message: 0xC000)[-1]
    assert (last.status, last.counters, len(last.failed_uids)) == (0xA702, (None, 0, 3, 0), 3)
    archive.instances = []
    peer.ask(STUDY)
    assert peer.responses() == [Told(0x0000, None, 0, 0, 0)]


@pytest.mark.parametrize(
    ("contexts", "stored", "sent"),
    [
        ([Context(3, CT_IMAGE, [JPEG_BASELINE])], JPEG_BASELINE, JPEG_BASELINE),
        ([Context(3, CT_IMAGE, [EXPLICIT]), Context(5, CT_IMAGE, [JPEG_BASELINE])], JPEG_BASELINE, JPEG_BASELINE),
        ([Context(3, CT_IMAGE, [IMPLICIT]), Context(5, CT_IMAGE, [EXPLICIT])], JPEG_BASELINE, EXPLICIT),
        ([Context(3, CT_IMAGE, [IMPLICIT])], JPEG_BASELINE, IMPLICIT),
        ([Context(3, CT_IMAGE, [IMPLICIT])], EXPLICIT, IMPLICIT),
        ([Context(3, CT_IMAGE, [JPEG_BASELINE])], EXPLICIT, None),
        ([Context(3, MR_IMAGE, [EXPLICIT])], EXPLICIT, None),
    ],
)
def test_transfer_syntax_is_the_stored_one_if_possible(
    peer: Retriever, archive: MemoryArchive, contexts: list[Context], stored: str, sent: str | None
) -> None:
    archive.instances = [instance(1, CT_IMAGE, stored)]
    taken: list[Message] = []
    peer.open(GET, contexts).ask(STUDY)
    last = peer.responses(lambda message: taken.append(message) or 0)[-1]
    if sent is None:
        assert (last.status, last.failed_uids, taken) == (0xA702, ("2.25.1",), [])
    else:
        (message,) = taken
        assert last.status == 0
        assert peer.transfer_syntaxes[message.context_id] == sent
        assert message.data_set == next(encoded(instance(1, CT_IMAGE, stored), sent).chunks)


def test_requester_without_roles_gets_instances_too(peer: Retriever) -> None:
    """Ginkgo CADx proposes none; Orthanc's server sends all the same."""
    peer.open(GET, [CT], roles=False).ask(STUDY)
    assert peer.responses()[-1].status == 0


@pytest.mark.parametrize(("roles", "accepted"), [(True, True), (False, False)])
def test_who_may_only_retrieve_may_not_store(
    tmp_path: Path, archive: MemoryArchive, roles: bool, accepted: bool
) -> None:
    """Storage contexts are then for those who take the role of SCP."""
    archive.__init__([instance(1)])  # type: ignore[misc]
    with (
        serving(tmp_path, archives=Archives(archive, {}), DicomAlwaysAllowStore=False) as one,
        Retriever(one.port) as peer,
    ):
        peer.open(GET, [CT], roles=roles)
        assert (peer.results[CT.id] == 0) is accepted
        peer.ask(STUDY)
        assert peer.responses()[-1].status == (0 if accepted else 0xA702)
        if accepted:
            assert peer.store("2.25.7", context_id=CT.id).status == 0x0124


def test_who_may_not_retrieve_gets_default_roles(tmp_path: Path) -> None:
    with serving(tmp_path, DicomAlwaysAllowGet=False) as one, RawPeer(one.port) as peer:
        role = b"\x54\x00\x00\x1d\x00\x19" + CT_IMAGE.encode() + b"\x00\x01"
        answer = peer.associate([Context(1, GET, [EXPLICIT]), CT], user_information=role)
        assert answer.results == {1: 1, CT.id: 0}
        assert peer.store("2.25.7", context_id=CT.id).status == 0


def test_pending_responses_go_on_while_the_requester_thinks(peer: Retriever) -> None:
    peer.open(GET, [CT]).ask(STUDY)
    requests = [message for message in (peer.next(), peer.next()) if isinstance(message, Message)]
    while not requests:
        message = peer.next()
        if isinstance(message, Message):
            requests.append(message)
    begun, told = time.monotonic(), []
    for _ in range(3):
        message = peer.next()
        assert isinstance(message, Told)
        told.append(message)
    assert time.monotonic() - begun < 3
    assert {one.status for one in told} == {PENDING}
    assert {one.counters for one in told} == {(3, 0, 0, 0)}
    peer.answer(requests[0])
    assert peer.responses()[-1].counters == (None, 3, 0, 0)


def test_pending_responses_go_on_while_the_archive_thinks(peer: Retriever, archive: MemoryArchive) -> None:
    archive.gate.clear()
    peer.open(GET, [CT]).ask(STUDY)
    told = [peer.told() for _ in range(3)]
    assert {(one.status, one.counters) for one in told} == {(PENDING, (3, 0, 0, 0))}
    archive.gate.set()
    assert peer.responses()[-1].counters == (None, 3, 0, 0)


def test_cancel_ends_after_the_sub_operation_under_way(peer: Retriever, archive: MemoryArchive) -> None:
    archive.instances = [instance(number) for number in range(10)]
    peer.open(GET, [CT]).ask(STUDY)
    taken: list[Message] = []

    def take(message: Message) -> int:
        taken.append(message)
        if len(taken) == 2:
            peer.cancel()
        return 0xA700

    last = peer.responses(take)[-1]
    assert (last.status, last.counters, last.failed_uids) == (0xFE00, (8, 0, 2, 0), ("2.25.0", "2.25.1"))
    peer.ask(STUDY)
    assert peer.responses()[-1].status == 0
    peer.release()


def test_cancel_of_another_message_changes_nothing(peer: Retriever) -> None:
    peer.open(GET, [CT]).ask(STUDY)
    peer.cancel(message_id=9)
    assert peer.responses()[-1].status == 0


def test_requests_of_the_requester_are_served_meanwhile(peer: Retriever) -> None:
    """Its own C-STORE and C-ECHO in the middle of a sub-operation."""
    storing, echoing = Context(5, MR_IMAGE, [EXPLICIT]), Context(7, VERIFICATION, [IMPLICIT])
    peer.open(GET, [CT, storing, echoing], roles=False).ask(STUDY)
    answered: list[int] = []
    first: Message | None = None
    while first is None:
        message = peer.next()
        first = message if isinstance(message, Message) else None
    data_set = image("2.25.77", sop_class_uid=MR_IMAGE)
    peer.message(storing.id, store_rq("2.25.77", sop_class_uid=MR_IMAGE, message_id=50), data_set)
    while not answered:
        message = peer._message()
        if message.number(0x0100) == 0x8001:
            answered.append(message.number(0x0900))
    peer.answer(first)
    assert answered == [0]
    assert peer.responses()[-1].counters == (None, 3, 0, 0)


@pytest.mark.parametrize("end", ["abort", "release", "vanish"])
@pytest.mark.parametrize("where", ["archive", "requester"])
def test_end_of_the_association_ends_the_retrieval(
    peer: Retriever, archive: MemoryArchive, end: str, where: str
) -> None:
    if where == "archive":
        archive.gate.clear()
    peer.open(GET, [CT]).ask(STUDY)
    peer.next()
    if end == "vanish":
        peer.vanish()
    else:
        peer.send(pdu(A_ABORT if end == "abort" else A_RELEASE_RQ, bytes(4)))
        assert [each.type for each in peer.ends()][-1:] != [A_RELEASE_RP] or end == "release"


@pytest.mark.parametrize(
    ("identifier", "status"),
    [
        (keys("", StudyInstanceUID="1.2"), 0xA900),
        (keys("STUDY", PatientID="X"), 0xA900),
        (keys("PATIENT", PatientID="X"), 0xA900),
        (None, 0xA900),
        (b"\x08\x00\x52\x00CS\xff\xffSTUDY ", 0xC000),
    ],
)
def test_requests_that_cannot_be_served(peer: Retriever, identifier: object, status: int) -> None:
    peer.open(GET, [CT]).ask(identifier)  # type: ignore[arg-type]
    (told,) = peer.responses()
    assert told.status == status
    assert told.comment
    peer.release()


def test_archive_that_does_not_answer(tmp_path: Path) -> None:
    with serving(tmp_path) as one, Retriever(one.port) as peer:
        peer.open(GET, [CT]).ask(STUDY)
        (told,) = peer.responses()
    assert told.status == 0xA701
    assert told.comment


def test_silent_requester_is_aborted(tmp_path: Path, archive: MemoryArchive) -> None:
    archive.__init__([instance(1)])  # type: ignore[misc]
    with serving(tmp_path, archives=Archives(archive, {}), DicomScpTimeout=1) as one, Retriever(one.port) as peer:
        peer.open(GET, [CT]).ask(STUDY)
        assert peer.ends()[-1].type == A_ABORT
