"""An association as requestor: what is proposed, what is settled, and one exception for each way to fail."""

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing

import pytest

from scp import connection
from scp.association_errors import (
    AssociationAborted,
    AssociationError,
    AssociationRejected,
    AssociationTimedOut,
    ConnectionFailed,
    ConnectionLost,
    ContextNotAccepted,
    HostNotFound,
    NoContextAccepted,
    PeerBrokeProtocol,
)
from scp.requestor import MAXIMUM_PDU_BYTES, Destination, ProposedContext, RequestorAssociation
from scp.scu import c_echo
from tests.scp.outgoing import (
    ECHO_CONTEXT,
    OURS,
    SHORT_S,
    THEIRS,
    TIMEOUT_S,
    destination,
    open_association,
    store,
)
from tests.support import processes
from tests.support.data_sets import EXPLICIT, IMPLICIT, JPEG_BASELINE
from tests.support.ports import free_port
from tests.support.rawdicom import (
    A_ABORT,
    A_ASSOCIATE_AC,
    A_ASSOCIATE_RJ,
    A_RELEASE_RP,
    A_RELEASE_RQ,
    CT_IMAGE,
    MR_IMAGE,
    Gone,
    Pdu,
    p_data,
    pdu,
    pdv,
)
from tests.support.rawscp import Proposal, RawConnection, RawScp, associate_ac

COMMITMENT = "1.2.840.10008.1.20.1"


def fails(script: Callable[[RawConnection], None], *, timeout_s: float = TIMEOUT_S) -> AssociationError:
    """How an association to a peer with this script fails to open; nothing of it may be left behind."""
    with RawScp(script) as scp, pytest.raises(AssociationError) as caught:
        open_association(scp.port, timeout_s=timeout_s)
    return caught.value


def answering(data: bytes) -> Callable[[RawConnection], None]:
    """Answers the A-ASSOCIATE-RQ with these bytes, and reads until the end."""

    def script(peer: RawConnection) -> None:
        peer.proposal()
        peer.send(data)
        peer.ends()

    return script


def test_proposal_says_who_we_are_and_what_we_want() -> None:
    seen: list[Proposal] = []

    def script(peer: RawConnection) -> None:
        seen.append(peer.accept())
        peer.ends()

    contexts = [
        ProposedContext(CT_IMAGE, (EXPLICIT, IMPLICIT)),
        ProposedContext(CT_IMAGE, (JPEG_BASELINE,)),
        ProposedContext(COMMITMENT, (IMPLICIT,), scu=False, scp=True),
        ProposedContext(MR_IMAGE, (IMPLICIT,), scp=True),
    ]
    with RawScp(script) as scp:
        open_association(scp.port, *contexts).abort()
    assert seen == [
        Proposal(
            called=THEIRS,
            calling=OURS,
            contexts={
                1: (CT_IMAGE, (EXPLICIT, IMPLICIT)),
                3: (CT_IMAGE, (JPEG_BASELINE,)),
                5: (COMMITMENT, (IMPLICIT,)),
                7: (MR_IMAGE, (IMPLICIT,)),
            },
            roles={COMMITMENT: (0, 1), MR_IMAGE: (1, 1)},
            maximum_pdu_bytes=MAXIMUM_PDU_BYTES,
        )
    ]


def test_128_contexts_are_proposed_and_more_are_refused() -> None:
    contexts = [ProposedContext(f"1.2.{number}", (IMPLICIT,)) for number in range(129)]

    def script(peer: RawConnection) -> None:
        assert list(peer.accept().contexts) == list(range(1, 257, 2))
        peer.ends()

    with RawScp(script) as scp:
        association = open_association(scp.port, *contexts[:128])
        assert association.requests.context_id("1.2.127", IMPLICIT) == 255
        association.abort()
        with pytest.raises(ValueError, match="129 presentation contexts"):
            RequestorAssociation(destination(scp.port), contexts)
        with pytest.raises(ValueError, match="0 presentation contexts"):
            RequestorAssociation(destination(scp.port), [])


def test_contexts_are_found_by_syntaxes_and_role() -> None:
    def script(peer: RawConnection) -> None:
        peer.proposal()
        contexts = {1: (0, JPEG_BASELINE), 3: (0, EXPLICIT), 5: (3, IMPLICIT), 7: (0, IMPLICIT)}
        peer.send(associate_ac(contexts, roles={COMMITMENT: (0, 1)}))
        peer.ends()

    contexts = [
        ProposedContext(CT_IMAGE, (JPEG_BASELINE,)),
        ProposedContext(CT_IMAGE, (IMPLICIT, EXPLICIT)),
        ProposedContext(MR_IMAGE, (IMPLICIT,)),
        ProposedContext(COMMITMENT, (IMPLICIT,), scu=False, scp=True),
    ]
    with RawScp(script) as scp, closing(open_association(scp.port, *contexts)) as association:
        find = association.requests.context_id
        assert find(CT_IMAGE, EXPLICIT) == 3
        assert find(CT_IMAGE, JPEG_BASELINE) == 1
        assert find(CT_IMAGE, None) == 1
        assert find(COMMITMENT, IMPLICIT, "scp") == 7
        for missing in ((CT_IMAGE, IMPLICIT), (MR_IMAGE, IMPLICIT), (CT_IMAGE, EXPLICIT, "scp"), (COMMITMENT, None)):
            with pytest.raises(ContextNotAccepted, match=missing[0]):
                find(*missing)
        assert association.rejected_contexts[0].result == 3
        association.abort()


def test_transfer_syntax_that_was_not_proposed_is_not_used() -> None:
    def script(peer: RawConnection) -> None:
        peer.proposal()
        peer.send(associate_ac({1: (0, IMPLICIT), 3: (0, IMPLICIT), 99: (0, IMPLICIT)}))
        peer.ends()

    with RawScp(script) as scp, closing(open_association(scp.port)) as association:
        assert list(association.accepted_context_ids) == [1]
        association.abort()


@pytest.mark.parametrize(("advertised", "expected"), [(0, 0), (4096, 4096), (16383, 16383), (None, 16384)])
def test_maximum_length_of_the_peer_is_known(advertised: int | None, expected: int) -> None:
    def script(peer: RawConnection) -> None:
        peer.proposal()
        peer.send(associate_ac({1: (0, IMPLICIT), 3: (0, EXPLICIT)}, maximum_pdu_bytes=advertised))
        peer.ends()

    with RawScp(script) as scp, closing(open_association(scp.port)) as association:
        assert association.peer_maximum_pdu_bytes == expected
        association.abort()


def test_name_without_address() -> None:
    with pytest.raises(HostNotFound, match=r"no-such-host\.invalid"):
        RequestorAssociation(Destination("no-such-host.invalid", 104, THEIRS, OURS), [ECHO_CONTEXT]).open()


def test_port_where_nobody_listens() -> None:
    with pytest.raises(ConnectionFailed, match="Connection refused"):
        open_association(free_port())


def test_host_that_drops_what_is_sent_to_it() -> None:
    """A full backlog, to which Linux does not answer."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S):
            started = time.monotonic()
            with pytest.raises(AssociationTimedOut, match="no connection"):
                open_association(port, timeout_s=SHORT_S)
            assert time.monotonic() - started < SHORT_S + 5


def test_second_address_of_a_host_is_tried() -> None:
    with RawScp(lambda peer: None) as scp:
        addresses = [(socket.AF_INET, ("127.0.0.1", free_port())), (socket.AF_INET, ("127.0.0.1", scp.port))]
        connection.connect(addresses, TIMEOUT_S).close()


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (bytes([0, 1, 1, 7]), "rejected permanently by the service user: called AE title not recognized"),
        (bytes([0, 2, 3, 2]), "rejected for now by the service provider, presentation: local limit exceeded"),
        (bytes([0, 2, 3, 1]), "rejected for now by the service provider, presentation: temporary congestion"),
    ],
)
def test_rejection_names_its_source_and_reason(body: bytes, text: str) -> None:
    error = fails(answering(pdu(A_ASSOCIATE_RJ, body)))
    assert isinstance(error, AssociationRejected)
    assert str(error) == text
    assert (error.result, error.source, error.reason) == tuple(body[1:])


def test_peer_that_accepts_nothing_is_aborted() -> None:
    heard: list[Pdu] = []

    def script(peer: RawConnection) -> None:
        peer.proposal()
        peer.send(associate_ac({1: (3, IMPLICIT), 3: (4, IMPLICIT)}))
        heard.extend(peer.ends())

    error = fails(script)
    assert isinstance(error, NoContextAccepted)
    assert str(error) == "none of 2 presentation contexts was accepted"
    assert [each.type for each in heard] == [A_ABORT]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (bytes([0, 0, 0, 0]), "aborted by the peer (service user)"),
        (bytes([0, 0, 2, 6]), "aborted by the peer (service provider: invalid PDU parameter value)"),
    ],
)
def test_abort_in_the_place_of_an_answer(body: bytes, text: str) -> None:
    error = fails(answering(pdu(A_ABORT, body)))
    assert isinstance(error, AssociationAborted)
    assert str(error) == text


def test_peer_that_closes_without_a_word() -> None:
    error = fails(lambda peer: peer.vanish())
    assert isinstance(error, ConnectionLost)


def test_silent_peer_is_aborted() -> None:
    heard: list[Pdu] = []

    def script(peer: RawConnection) -> None:
        peer.proposal()
        heard.extend(peer.ends())

    started = time.monotonic()
    error = fails(script, timeout_s=SHORT_S)
    assert isinstance(error, AssociationTimedOut)
    assert time.monotonic() - started < 2 * SHORT_S + 5
    assert [each.type for each in heard] == [A_ABORT]


ACCEPTANCE = associate_ac({1: (0, IMPLICIT), 3: (0, EXPLICIT)})


@pytest.mark.parametrize(
    "answer",
    [
        pdu(A_ASSOCIATE_AC, length=0x7FFFFFFF),
        pdu(A_ASSOCIATE_AC, b"short"),
        pdu(A_ASSOCIATE_AC, ACCEPTANCE[6:-3]),
        pdu(A_ASSOCIATE_RJ, bytes([0, 9, 9, 9])),
        pdu(A_RELEASE_RQ, bytes(4)),
        pdu(0x42, bytes(4)),
        p_data(pdv(1, 3, b"response")),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ],
    ids=["huge", "short", "cut off", "odd rejection", "release", "unknown PDU", "data", "HTTP"],
)
def test_answer_that_is_none(answer: bytes) -> None:
    assert isinstance(fails(answering(answer)), PeerBrokeProtocol)


def dribble(peer: RawConnection, pause_s: float) -> None:
    peer.proposal()
    for start in range(len(ACCEPTANCE)):
        peer.send(ACCEPTANCE[start : start + 1])
        time.sleep(pause_s)
    peer.ends()


def test_acceptance_byte_by_byte_is_one() -> None:
    with RawScp(lambda peer: dribble(peer, 0)) as scp, closing(open_association(scp.port)) as association:
        association.abort()


def test_acceptance_byte_by_byte_has_a_deadline() -> None:
    """Each byte comes in time, the whole does not."""
    assert isinstance(fails(lambda peer: dribble(peer, 0.05), timeout_s=SHORT_S), AssociationTimedOut)


def test_release_is_in_order() -> None:
    heard: list[Pdu] = []

    def script(peer: RawConnection) -> None:
        peer.accept()
        heard.append(peer.read_pdu())
        peer.send(pdu(A_RELEASE_RP, bytes(4)))
        heard.extend(peer.ends())

    with RawScp(script) as scp:
        with open_association(scp.port) as association:
            pass
        assert association.is_released
    assert heard == [Pdu(A_RELEASE_RQ, bytes(4))]


def test_release_from_both_sides_at_once() -> None:
    """PS3.8 7.2.2.7: the requestor answers first."""
    heard: list[int] = []

    def script(peer: RawConnection) -> None:
        peer.accept()
        heard.append(peer.read_pdu().type)
        peer.send(pdu(A_RELEASE_RQ, bytes(4)))
        heard.append(peer.read_pdu().type)
        peer.send(pdu(A_RELEASE_RP, bytes(4)))
        peer.ends()

    with RawScp(script) as scp:
        association = open_association(scp.port)
        association.release()
        assert association.is_released
    assert heard == [A_RELEASE_RQ, A_RELEASE_RP]


def test_release_that_the_peer_asked_for_is_answered() -> None:
    heard: list[int] = []

    def script(peer: RawConnection) -> None:
        peer.accept()
        peer.send(pdu(A_RELEASE_RQ, bytes(4)))
        heard.append(peer.read_pdu().type)
        peer.ends()

    with RawScp(script) as scp:
        association = open_association(scp.port)
        processes.wait_until(lambda: association.upper_layer.has_input, TIMEOUT_S, "nothing came")
        with pytest.raises(ConnectionLost, match="released by the peer"):
            c_echo(association.requests, timeout_s=TIMEOUT_S)
        association.release()
    assert heard == [A_RELEASE_RP]


@pytest.mark.parametrize("last_word", [b"", pdu(A_ABORT, bytes(4)), p_data(pdv(1, 3, b"x")), b"?" * 100])
def test_release_without_answer_is_no_error(last_word: bytes) -> None:
    def script(peer: RawConnection) -> None:
        peer.accept()
        peer.read_pdu()
        peer.send(last_word)
        peer.ends()

    with RawScp(script) as scp:
        association = open_association(scp.port, timeout_s=SHORT_S)
        association.release()
        assert not association.is_released


def test_exception_in_the_block_aborts() -> None:
    heard: list[Pdu] = []

    def script(peer: RawConnection) -> None:
        peer.accept()
        heard.extend(peer.ends())

    with RawScp(script) as scp, pytest.raises(ZeroDivisionError), open_association(scp.port):
        raise ZeroDivisionError
    assert heard == [Pdu(A_ABORT, bytes(4))]


def test_nothing_is_left_behind() -> None:
    def script(peer: RawConnection) -> None:
        with pytest.raises(Gone):
            peer.accept()
            while True:
                peer.answer(peer.request())

    pid = os.getpid()
    with RawScp(script) as scp:
        before = len(processes.open_fds(pid))
        threads = threading.active_count()
        for _ in range(20):
            with open_association(scp.port) as association:
                store(association, "2.25.1")
        for failing in (answering(pdu(A_ASSOCIATE_RJ, bytes([0, 1, 1, 1]))), lambda peer: peer.vanish()):
            fails(failing)
        processes.wait_until(
            lambda: (len(processes.open_fds(pid)), threading.active_count()) <= (before, threads),
            TIMEOUT_S,
            lambda: f"{processes.open_fds(pid)}",
        )
