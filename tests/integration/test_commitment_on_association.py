"""Reports on the association of their request: when the peer keeps it open, and whatever it does meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from tests.integration.commitments import COMMIT, STAYS, STORE, TITLES, Site, site
from tests.integration.gateways import WORKER, ct, process_of
from tests.support.commitments import Report, action_rq, ask, ct_of, encoded, information, report_of
from tests.support.data_sets import EXPLICIT
from tests.support.orthanc import Orthanc
from tests.support.processes import open_fds, wait_until
from tests.support.rawdicom import (
    A_ABORT,
    A_RELEASE_RP,
    A_RELEASE_RQ,
    COMMAND,
    DATA_SET,
    LAST,
    P_DATA_TF,
    Pdu,
    RawPeer,
    p_data,
    pdu,
    pdv,
    store_rq,
)
from tests.support.rawscp import Message, RawConnection

pytestmark = pytest.mark.integration

DEADLINE_S: Final = 30


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    from tests import conftest as root

    orthanc = Orthanc(tmp_path_factory.mktemp("orthanc"))
    root._servers.append(orthanc)
    try:
        orthanc.start()
        with site(tmp_path_factory.mktemp("gateway"), orthanc) as made:
            yield made
    finally:
        root._closing([orthanc])


def as_scp(peer: RawPeer) -> RawConnection:
    """The same connection, for the requests that come to it."""
    return RawConnection(peer.socket)


def take(peer: RawPeer, status: int = 0) -> Report:
    """Reads a report on this association and answers it."""
    connection = as_scp(peer)
    message = connection.request()
    connection.answer(message, status)
    return _report(message)


def _report(message: Message) -> Report:
    assert message.context_id == COMMIT
    return report_of(message, EXPLICIT)


def request(uid: str, *instances: str) -> bytes:
    return encoded(information(uid, ct_of(*instances)))


def test_requester_that_stays_gets_its_report_there(here: Site) -> None:
    with here.associated(STAYS[0]) as peer:
        assert peer.store("1.3.1.1", context_id=STORE).status == 0
        assert ask(peer, "1.3.90.1", ct_of("1.3.1.1"), context_id=COMMIT).status == 0
        assert take(peer).committed == ct_of("1.3.1.1")
        assert peer.store("1.3.1.2", context_id=STORE).status == 0
        assert ask(peer, "1.3.90.2", ct_of("1.3.1.2"), context_id=COMMIT).status == 0
        assert take(peer).transaction_uid == "1.3.90.2"
        peer.release()
    wait_until(lambda: here.command("list").count("on the association of the request") == 2, DEADLINE_S, "not marked")


def test_who_is_not_named_gets_it_on_a_new_association(here: Site) -> None:
    with here.requester(TITLES[0]) as requester, here.associated(TITLES[0]) as peer:
        assert ask(peer, "1.3.90.3", ct_of("1.3.2.1"), context_id=COMMIT).status == 0
        assert requester.next().proposal is not None
        peer.release()


def test_two_requests_in_one_association_get_both_reports(here: Site) -> None:
    with here.associated(STAYS[1]) as peer:
        asked = [request("1.3.90.4", "1.3.3.1"), request("1.3.90.5", "1.3.3.2")]
        responses, reports = 0, set()
        for number, data_set in enumerate(asked):
            peer.message(COMMIT, action_rq(message_id=number + 1), data_set)
            message = as_scp(peer).request()
            while message.number(0x0100) != 0x8130:  # the first report may be faster than the second response
                reports.add(_report(message).transaction_uid)
                as_scp(peer).answer(message)
                message = as_scp(peer).request()
            responses += message.number(0x0900) == 0
        while len(reports) < 2:
            reports.add(take(peer).transaction_uid)
        assert responses == 2
        assert reports == {"1.3.90.4", "1.3.90.5"}
        peer.release()


def test_requester_that_leaves_at_once_gets_it_on_a_new_association(here: Site) -> None:
    with here.requester(STAYS[2]) as requester:
        with here.associated(STAYS[2]) as peer:
            with peer.in_one_segment():
                peer.message(COMMIT, action_rq(), request("1.3.90.6", "1.3.4.1"))
                peer.send(pdu(A_RELEASE_RQ, bytes(4)))
            assert peer.response().status == 0
            assert peer.ends()[-1] == Pdu(A_RELEASE_RP, bytes(4))
        assert requester.next().transaction_uid == "1.3.90.6"


def test_requester_that_vanishes_gets_it_on_a_new_association(here: Site) -> None:
    with here.requester(STAYS[3]) as requester:
        with here.associated(STAYS[3]) as peer:
            assert ask(peer, "1.3.90.7", ct_of("1.3.5.1"), context_id=COMMIT).status == 0
            peer.vanish()
        assert requester.next().transaction_uid == "1.3.90.7"


def test_report_waits_for_the_end_of_an_instance_that_is_being_sent(here: Site) -> None:
    data_set = ct("1.3.6.1")
    with here.associated(STAYS[4]) as peer:
        with peer.in_one_segment():
            peer.message(COMMIT, action_rq(), request("1.3.90.8", "1.3.6.2"))
            peer.send(p_data(pdv(STORE, COMMAND | LAST, store_rq("1.3.6.1"))))
            peer.send(p_data(pdv(STORE, DATA_SET, data_set[:1000])))
        assert peer.response().status == 0
        number = here.row(STAYS[4])[0]
        wait_until(lambda: "verified:" in here.command("show", number), DEADLINE_S, "was not verified")
        peer.send_data_set(STORE, [data_set[1000:]])
        assert peer.response().status == 0
        assert take(peer).transaction_uid == "1.3.90.8"
        peer.release()


def test_peer_that_sends_an_instance_before_it_answers_the_report_has_it_stored(here: Site) -> None:
    with here.associated(STAYS[5]) as peer:
        assert ask(peer, "1.3.90.9", ct_of("1.3.7.1"), context_id=COMMIT).status == 0
        message = as_scp(peer).request()
        peer.message(STORE, store_rq("1.3.7.1", message_id=7), ct("1.3.7.1"))
        stored = peer.response()
        assert (stored.status, stored.message_id) == (0, 7)
        as_scp(peer).answer(message)
        peer.release()
    assert _report(message).failed == {"1.3.7.1": 0x0112}


@pytest.mark.parametrize(("title", "number", "answer"), [(STAYS[6], 10, "refuse"), (STAYS[6], 11, "abort")])
def test_peer_that_does_not_take_it_there_gets_it_on_a_new_association(
    here: Site, title: str, number: int, answer: str
) -> None:
    uid = f"1.3.90.{number}"
    with here.requester(title) as requester, here.associated(title) as peer:
        assert ask(peer, uid, ct_of("1.3.8.1"), context_id=COMMIT).status == 0
        if answer == "refuse":
            assert take(peer, status=0x0110).transaction_uid == uid
        else:
            assert as_scp(peer).read_pdu().type == P_DATA_TF
            peer.send(pdu(A_ABORT, bytes(4)))
        assert requester.next().transaction_uid == uid


def test_peer_that_answers_nothing_is_aborted_and_gets_it_on_a_new_association(here: Site) -> None:
    with here.requester(STAYS[7]) as requester, here.associated(STAYS[7]) as peer:
        assert ask(peer, "1.3.90.12", ct_of("1.3.9.1"), context_id=COMMIT).status == 0
        assert requester.next().transaction_uid == "1.3.90.12"
        assert peer.ends()[-1].type == A_ABORT


def test_associations_leave_no_descriptor_behind(here: Site) -> None:
    worker = process_of(here.gateway, WORKER)

    def eventfds() -> int:
        return sum("eventfd" in target for target in open_fds(worker).values())

    before = eventfds()
    with here.associated(STAYS[0]) as peer:
        assert ask(peer, "1.3.90.13", ct_of("1.3.10.1"), context_id=COMMIT).status == 0
        take(peer)
        assert eventfds() == before + 1
        peer.release()
    wait_until(lambda: eventfds() == before, DEADLINE_S, "an eventfd is left")
