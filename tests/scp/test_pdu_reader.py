"""PduReader: however a peer cuts its bytes, the messages are the same; whatever it sends, only its own faults come."""

import itertools
import os
import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scp.pdu_reader import P_DATA_TF, ConnectionEnded, InvalidPdu, PduReader
from tests.support.rawdicom import A_RELEASE_RQ, COMMAND, DATA_SET, LAST, p_data, pdu, pdv

MAXIMUM_PDU_BYTES = 65536

quick = settings(deadline=None, max_examples=200)

# (context ID, message control header, value) of one PDV.
Pdv = tuple[int, int, bytes]

contexts = st.integers(0, 255)
controls = st.sampled_from([COMMAND, COMMAND | LAST, DATA_SET, DATA_SET | LAST])
values = st.one_of(st.binary(max_size=40), st.integers(0, 20_000).map(lambda size: os.urandom(size)))
pdvs = st.tuples(contexts, controls, values)


@contextmanager
def connected(maximum_pdu_bytes: int = MAXIMUM_PDU_BYTES) -> Iterator[tuple[socket.socket, PduReader]]:
    """A peer's socket and the reader at its other end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    with peer, ours:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = PduReader(ours, maximum_pdu_bytes)
        reader.set_timeout(30)
        yield peer, reader


def send_all(peer: socket.socket, pieces: Sequence[bytes]) -> threading.Thread:
    """Sends the pieces one by one from another thread, then closes."""

    def run() -> None:
        for piece in pieces:
            peer.sendall(piece)
        peer.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def read_pdvs(reader: PduReader) -> list[list[Pdv]]:
    """All P-DATA-TF PDUs up to the end of the connection, with the pieces of each PDV joined."""
    read: list[list[Pdv]] = []
    with pytest.raises(ConnectionEnded) as end:
        while True:
            pdu_type, length = reader.header()
            assert pdu_type == P_DATA_TF
            read.append([])
            value = b""
            for context_id, control, piece, complete in reader.pdvs(length):
                value += bytes(piece)
                if complete:
                    read[-1].append((context_id, control, value))
                    value = b""
            assert not value
    assert (end.value.reason, end.value.silent) == ("", False)
    return read


def cut(stream: bytes, cuts: Sequence[int]) -> list[bytes]:
    """The stream in pieces that end at `cuts` (modulo its length)."""
    edges = sorted({0, len(stream), *(each % (len(stream) + 1) for each in cuts)})
    return [stream[start:end] for start, end in itertools.pairwise(edges)]


@quick
@given(
    st.lists(st.lists(pdvs, max_size=5), max_size=6).filter(lambda pdus: all(_size(each) < 60_000 for each in pdus)),
    st.lists(st.integers(0, 1 << 20), max_size=12),
)
def test_messages_are_the_same_however_the_stream_is_cut(pdus: list[list[Pdv]], cuts: list[int]) -> None:
    stream = b"".join(p_data(*(pdv(*each) for each in one)) for one in pdus)
    with connected() as (peer, reader):
        sender = send_all(peer, cut(stream, cuts))
        assert read_pdvs(reader) == pdus
        sender.join()


def _size(one: list[Pdv]) -> int:
    return sum(len(value) + 6 for _, _, value in one)


@pytest.mark.parametrize("step", [1, 2, 5, 6, 7, 11, 12])
def test_stream_in_steps_of_few_bytes_is_read_as_one(step: int) -> None:
    sent: list[Pdv] = [(1, COMMAND | LAST, b"command"), (1, DATA_SET, b""), (3, DATA_SET | LAST, bytes(range(256)))]
    stream = p_data(*(pdv(*each) for each in sent)) * 2
    with connected() as (peer, reader):
        sender = send_all(peer, [stream[n : n + step] for n in range(0, len(stream), step)])
        assert read_pdvs(reader) == [sent, sent]
        sender.join()


@given(
    st.lists(st.tuples(st.booleans(), st.binary(max_size=300)), min_size=1, max_size=20),
    st.lists(st.integers(0, 1 << 14), max_size=8),
)
@settings(deadline=None, max_examples=100)
def test_other_pdus_between_data_are_read_whole(kinds: list[tuple[bool, bytes]], cuts: list[int]) -> None:
    """A reader that has handed out data in place must not lose what follows in its buffer."""
    stream = b"".join(p_data(pdv(1, LAST, body)) if data else pdu(1, body) for data, body in kinds)
    read = []
    with connected() as (peer, reader):
        sender = send_all(peer, cut(stream, cuts))
        for _ in kinds:
            pdu_type, length = reader.header()
            if pdu_type == P_DATA_TF:
                read.append((True, b"".join(bytes(piece) for _, _, piece, _ in reader.pdvs(length))))
            else:
                read.append((False, reader.body(length)))
        sender.join()
    assert read == kinds


@quick
@given(st.binary(max_size=2000), st.booleans())
def test_random_bytes_are_an_invalid_pdu_or_the_end_of_the_connection(noise: bytes, as_data: bool) -> None:
    stream = pdu(P_DATA_TF, noise) if as_data else noise
    with connected() as (peer, reader):
        sender = send_all(peer, [stream])
        with pytest.raises((InvalidPdu, ConnectionEnded)):
            while True:
                pdu_type, length = reader.header()
                if pdu_type == P_DATA_TF:
                    for _context, _control, piece, _complete in reader.pdvs(length):
                        assert len(piece) <= length
                else:
                    reader.body(length)
        sender.join()


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (pdu(0), "unknown type 0x00"),
        (pdu(8), "unknown type 0x08"),
        (pdu(255), "unknown type 0xFF"),
        (pdu(P_DATA_TF, length=MAXIMUM_PDU_BYTES + 65), "announces 65601 bytes, 65600 are allowed"),
        (pdu(P_DATA_TF, length=0xFFFFFFFF), "announces 4294967295 bytes"),
        (pdu(1, length=(1 << 20) + 1), "announces 1048577 bytes"),
        (pdu(A_RELEASE_RQ, length=65), "announces 65 bytes"),
    ],
)
def test_length_or_type_beyond_the_standard_is_refused_before_anything_is_read(sent: bytes, reason: str) -> None:
    with connected() as (peer, reader):
        peer.sendall(sent)
        with pytest.raises(InvalidPdu, match=reason):
            reader.header()


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_announced_length_within_the_limit_is_allocated_once(kind: int) -> None:
    with connected() as (peer, reader):
        peer.sendall(pdu(kind, b"abc", length=1 << 20))
        peer.shutdown(socket.SHUT_WR)
        tracemalloc.start()
        try:
            _, length = reader.header()
            with pytest.raises(ConnectionEnded):
                reader.body(length)
            assert tracemalloc.get_traced_memory()[1] < 1.2 * (1 << 20)
        finally:
            tracemalloc.stop()


def test_peer_that_counts_the_pdu_header_into_its_maximum_is_read() -> None:
    value = bytes(MAXIMUM_PDU_BYTES)
    with connected() as (peer, reader):
        sender = send_all(peer, [p_data(pdv(1, LAST, value))])
        assert read_pdvs(reader) == [[(1, LAST, value)]]
        sender.join()


def test_memory_does_not_grow_with_what_is_read() -> None:
    sent = p_data(pdv(1, DATA_SET, bytes(60_000)))
    with connected() as (peer, reader):
        sender = send_all(peer, [sent] * 500)
        _, length = reader.header()
        for _ in reader.pdvs(length):
            pass
        tracemalloc.start()
        try:
            for _ in range(499):
                _, length = reader.header()
                for _ in reader.pdvs(length):
                    pass
            assert tracemalloc.get_traced_memory()[1] < 100_000
        finally:
            tracemalloc.stop()
        sender.join()


@pytest.mark.parametrize(
    "begun", [b"", b"\4\0\0", pdu(P_DATA_TF, b"\0\0", length=100), p_data(pdv(1, 0, b"a" * 99))[:50]]
)
def test_silence_beyond_the_timeout_ends_the_connection_as_silent(begun: bytes) -> None:
    with connected() as (peer, reader):
        reader.set_timeout(0.1)
        peer.sendall(begun)
        with pytest.raises(ConnectionEnded) as end:
            _, length = reader.header()
            for _ in reader.pdvs(length):
                pass
    assert end.value.silent
    assert end.value.reason == "sent nothing for too long"


def test_deadline_holds_for_a_peer_that_trickles() -> None:
    with connected() as (peer, reader):
        stop = threading.Event()

        def trickle() -> None:
            peer.sendall(pdu(1, length=1000))
            while not stop.wait(0.01):
                peer.sendall(b"x")

        sender = threading.Thread(target=trickle)
        sender.start()
        try:
            started = time.monotonic()
            with pytest.raises(ConnectionEnded, match="too slow") as end:
                _, length = reader.header(started + 0.3)
                reader.body(length, started + 0.3)
            assert 0.3 <= time.monotonic() - started < 5
            assert end.value.silent
        finally:
            stop.set()
            sender.join()


def test_reset_is_the_end_of_the_connection_with_a_reason() -> None:
    with connected() as (peer, reader):
        peer.sendall(b"\4\0\0")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
        with pytest.raises(ConnectionEnded, match="reset") as end:
            reader.header()
    assert not end.value.silent


def test_what_still_comes_is_discarded_until_the_peer_closes() -> None:
    with connected() as (peer, reader):
        sender = send_all(peer, [b"x" * 300_000])
        reader.discard_until_end(time.monotonic() + 30)
        sender.join()
        with pytest.raises(ConnectionEnded):
            reader.header()


def test_discarding_ends_with_its_deadline() -> None:
    with connected() as (_peer, reader):
        reader.set_timeout(0.1)
        started = time.monotonic()
        reader.discard_until_end(started + 0.2)
        assert time.monotonic() - started < 5
