"""Peers that take an instance and do what they like: each ends in an exception of its own, soon, and with nothing
left behind."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from scp.association_errors import (
    AssociationAborted,
    AssociationError,
    AssociationTimedOut,
    ConnectionLost,
    DataSetUnavailable,
    PeerBrokeProtocol,
)
from scp.data_set_sources import Chunks
from scp.scu import c_echo
from tests.scp.outgoing import SHORT_S, TIMEOUT_S, ct, open_association, store
from tests.support.data_sets import PIXEL_DATA, element
from tests.support.processes import wait_until
from tests.support.rawdicom import (
    A_ABORT,
    A_RELEASE_RQ,
    C_ECHO_RQ,
    C_STORE_RQ,
    COMMAND,
    LAST,
    Pdu,
    echo_rq,
    image,
    p_data,
    pdu,
    pdv,
)
from tests.support.rawscp import RawConnection, RawScp, response

LARGE_BYTES: Final = 50_000_000
CHUNK: Final = bytes(1 << 20)
# Much less than a large instance needs for being sent, and than the deadline of the write.
SOON_S: Final = 5.0

Script = Callable[[RawConnection], None]


class Large:
    """A data set of 50 MB, made while it is sent."""

    def __init__(self) -> None:
        self.chunks_taken = 0

    def __iter__(self) -> Iterator[bytes]:
        yield image("2.25.50", rest=element(PIXEL_DATA, "OW", length=LARGE_BYTES))
        for _ in range(LARGE_BYTES // len(CHUNK)):
            self.chunks_taken += 1
            yield CHUNK


def fails(script: Script, *, large: bool = False, timeout_s: float = TIMEOUT_S) -> AssociationError:
    """How a C-STORE on an association with this peer fails."""
    with RawScp(script) as scp:
        association = open_association(scp.port, timeout_s=timeout_s)
        with pytest.raises(AssociationError) as caught:
            store(association, "2.25.50", Chunks(Large()) if large else None, timeout_s=timeout_s)
        assert association.upper_layer.is_closed
        with pytest.raises(AssociationError):
            c_echo(association.requests, timeout_s=timeout_s)
        association.release()
        association.close()
    return caught.value


def test_peer_that_never_answers_is_aborted() -> None:
    heard: list[Pdu] = []

    def script(peer: RawConnection) -> None:
        peer.accept()
        peer.request()
        heard.extend(peer.ends())

    started = time.monotonic()
    assert isinstance(fails(script, timeout_s=SHORT_S), AssociationTimedOut)
    assert time.monotonic() - started < SOON_S
    assert heard == [Pdu(A_ABORT, bytes(4))]


def test_response_byte_by_byte_has_a_deadline() -> None:
    def script(peer: RawConnection) -> None:
        peer.accept()
        request = peer.request()
        for byte in response(3, C_STORE_RQ, request.message_id, 0):
            peer.send(bytes([byte]))
            time.sleep(0.02)

    assert isinstance(fails(script, timeout_s=SHORT_S), AssociationTimedOut)


@pytest.mark.parametrize("large", [False, True])
def test_peer_that_closes(large: bool) -> None:
    def script(peer: RawConnection) -> None:
        peer.accept()
        peer.read_pdu()

    assert isinstance(fails(script, large=large), ConnectionLost)


@pytest.mark.parametrize("large", [False, True])
def test_peer_that_resets_the_connection(large: bool) -> None:
    def script(peer: RawConnection) -> None:
        peer.accept()
        peer.read_pdu()
        peer.vanish()

    assert isinstance(fails(script, large=large), ConnectionLost)


@pytest.mark.parametrize(
    "answer",
    [
        response(3, C_STORE_RQ, 2, 0),
        response(3, C_ECHO_RQ, 1, 0),
        p_data(pdv(3, COMMAND | LAST, b"no command set")),
        p_data(pdv(3, COMMAND | LAST, response(3, C_STORE_RQ, 1, 0)[12:-10])),
        response(99, C_STORE_RQ, 1, 0),
        pdu(4, length=0x7FFFFFFF),
        pdu(9, b"1234"),
        pdu(2, bytes(68)),
        p_data(pdv(3, 0, b"data set")),
        p_data(pdv(3, COMMAND, bytes(70_000), length=70_002)),
    ],
    ids=[
        "other message",
        "other command",
        "no command",
        "no status",
        "other context",
        "huge PDU",
        "unknown PDU",
        "A-ASSOCIATE-AC",
        "data set",
        "endless command",
    ],
)
def test_peer_that_breaks_the_protocol_is_aborted(answer: bytes) -> None:
    heard: list[int] = []

    def script(peer: RawConnection) -> None:
        peer.accept()
        peer.request()
        peer.send(answer)
        heard.extend(each.type for each in peer.ends())

    assert isinstance(fails(script), PeerBrokeProtocol)
    assert heard == [A_ABORT]


def test_response_before_the_request_is_none() -> None:
    sent = threading.Event()

    def script(peer: RawConnection) -> None:
        peer.accept()
        peer.send(response(3, C_STORE_RQ, 1, 0))
        sent.set()
        peer.ends()

    with RawScp(script) as scp:
        association = open_association(scp.port)
        assert sent.wait(TIMEOUT_S)
        with pytest.raises(PeerBrokeProtocol, match="never sent"):
            store(association, "2.25.1")
        association.release()


def test_success_in_the_middle_of_the_data_set_is_not_believed() -> None:
    def script(peer: RawConnection) -> None:
        peer.accept()
        peer.read_pdu()
        peer.send(response(3, C_STORE_RQ, 1, 0))
        while peer.read_pdu().type != A_ABORT:
            pass

    error = fails(script, large=True)
    assert isinstance(error, PeerBrokeProtocol)
    assert "before the request was complete" in str(error)


def test_refusal_in_the_middle_of_the_data_set_counts() -> None:
    def script(peer: RawConnection) -> None:
        peer.accept()
        peer.read_pdu()
        peer.send(response(3, C_STORE_RQ, 1, 0xA700))
        peer.request_rest()
        peer.answer(peer.request())
        peer.ends()

    with RawScp(script) as scp:
        association = open_association(scp.port)
        assert store(association, "2.25.50", Chunks(Large())).status == 0xA700
        assert c_echo(association.requests, timeout_s=TIMEOUT_S).status == 0
        association.abort()


@pytest.mark.parametrize("reads_on", [False, True])
def test_abort_in_the_middle_of_a_large_instance_is_noticed_at_once(reads_on: bool) -> None:
    """Whether or not the peer empties its socket before it closes, or ever."""
    done = threading.Event()

    def script(peer: RawConnection) -> None:
        peer.accept()
        for _ in range(20):
            peer.read_pdu()
        peer.send(pdu(A_ABORT, bytes([0, 0, 2, 1])))
        if reads_on:
            peer.ends()
        done.wait(TIMEOUT_S)

    large = Large()
    with RawScp(script) as scp:
        association = open_association(scp.port)
        started = time.monotonic()
        with pytest.raises(AssociationAborted, match="unrecognized PDU"):
            store(association, "2.25.50", Chunks(large))
        assert time.monotonic() - started < SOON_S
        assert reads_on or large.chunks_taken < LARGE_BYTES // len(CHUNK)
        done.set()
        association.release()


def test_abort_of_a_peer_that_has_stopped_reading_is_noticed_while_we_wait_to_write() -> None:
    large, done = Large(), threading.Event()
    readings: list[int] = []

    def is_stuck() -> bool:
        readings.append(large.chunks_taken)
        return len(readings) > 10 and readings[-1] == readings[-10] > 0

    def script(peer: RawConnection) -> None:
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        peer.accept()
        peer.read_pdu()
        wait_until(is_stuck, TIMEOUT_S, "we never have to wait")
        peer.send(pdu(A_ABORT, bytes([0, 0, 2, 1])))
        done.wait(TIMEOUT_S)

    with RawScp(script) as scp:
        association = open_association(scp.port)
        started = time.monotonic()
        with pytest.raises(AssociationAborted, match="unrecognized PDU"):
            store(association, "2.25.50", Chunks(large))
        assert time.monotonic() - started < SOON_S
        done.set()
        association.release()


def test_peer_that_stops_reading_runs_into_the_deadline() -> None:
    done = threading.Event()

    def script(peer: RawConnection) -> None:
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        peer.accept()
        peer.read_pdu()
        done.wait(TIMEOUT_S)

    with RawScp(script) as scp:
        association = open_association(scp.port, timeout_s=SHORT_S)
        started = time.monotonic()
        with pytest.raises(AssociationTimedOut, match="has read nothing for"):
            store(association, "2.25.50", Chunks(Large()))
        assert time.monotonic() - started < SOON_S
        done.set()
        association.release()


def test_peer_that_reads_slowly_is_waited_for() -> None:
    """Longer in all than the deadline, which is for reading nothing at all."""
    pauses = 8

    def script(peer: RawConnection) -> None:
        peer.accept(maximum_pdu_bytes=0)
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        for _ in range(pauses):
            time.sleep(SHORT_S / 3)
            for _ in range(LARGE_BYTES // pauses // 131072):
                peer.read_pdu()
        peer.request_rest()
        peer.send(response(3, C_STORE_RQ, 1, 0))
        peer.ends()

    with RawScp(script) as scp:
        association = open_association(scp.port, timeout_s=SHORT_S)
        assert store(association, "2.25.50", Chunks(Large())).status == 0
        association.abort()


def test_release_in_the_middle_ends_the_association() -> None:
    def script(peer: RawConnection) -> None:
        peer.accept()
        peer.read_pdu()
        peer.send(pdu(A_RELEASE_RQ, bytes(4)))
        peer.ends()

    with RawScp(script) as scp:
        association = open_association(scp.port)
        with pytest.raises(ConnectionLost, match="released by the peer"):
            store(association, "2.25.50", Chunks(Large()))
        association.release()


@pytest.mark.parametrize("large", [False, True])
def test_peer_that_sends_requests_is_aborted(large: bool) -> None:
    def script(peer: RawConnection) -> None:
        peer.accept()
        peer.read_pdu()
        while True:
            peer.send(p_data(pdv(1, COMMAND | LAST, echo_rq())) * 100)

    error = fails(script, large=large)
    assert isinstance(error, PeerBrokeProtocol)
    assert "request 0x0030 on an association of ours" in str(error)


class Broken(Exception):
    """What an HTTP client may raise in the middle of a body."""


def broken(good: list[bytes]) -> Iterator[bytes]:
    yield from good
    raise Broken


def test_source_that_fails_before_the_first_byte_costs_nothing() -> None:
    def script(peer: RawConnection) -> None:
        peer.accept()
        peer.answer(peer.request())
        peer.ends()

    with RawScp(script) as scp:
        association = open_association(scp.port)
        with pytest.raises(Broken):
            store(association, "2.25.1", Chunks(broken([b"12"])))
        with pytest.raises(DataSetUnavailable):
            store(association, "2.25.1", Chunks([b"1234"], 6))
        assert store(association, "2.25.1").status == 0
        association.abort()


@pytest.mark.parametrize("error", [Broken, DataSetUnavailable])
def test_source_that_fails_in_the_middle_aborts_the_association(error: type[Exception]) -> None:
    heard: list[Pdu] = []

    def script(peer: RawConnection) -> None:
        peer.accept()
        heard.extend(peer.ends())

    with RawScp(script) as scp:
        association = open_association(scp.port)
        start = [ct("2.25.1", 3_000_000)]
        chunks = Chunks(broken(start)) if error is Broken else Chunks(start, 4_000_000)
        with pytest.raises(error):
            store(association, "2.25.1", chunks)
        assert association.upper_layer.is_closed
        association.release()
    assert heard[-1] == Pdu(A_ABORT, bytes(4))
