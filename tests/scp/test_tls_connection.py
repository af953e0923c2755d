"""TlsConnection below PduReader: deadlines and ends are those of a plain socket, however a peer cuts its records."""

import contextlib
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.tls.context import TlsFiles, make_context
from gateway.tls.policy import policy
from scp.pdu_reader import P_DATA_TF, ConnectionEnded, PduReader
from scp.tls_connection import HandshakeFailed, TlsConnection
from tests.support.certificates import Authority
from tests.support.processes import wait_until
from tests.support.rawdicom import COMMAND, LAST, p_data, pdv

TIMEOUT_S = 30
MAXIMUM_PDU_BYTES = 131072

# Both ends of what is made once for all tests: key generation is slow.
Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> Contexts:
    """The server's context and the peer's."""
    authority = Authority(tmp_path_factory.mktemp("authority"))
    server, peer = authority.issue("gateway"), authority.issue("modality")
    files = TlsFiles(server.certificate, server.private_key, authority.certificate)
    return make_context(files, policy(0, [])), authority.client_context(peer)


@contextmanager
def tcp() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The peer's end and ours."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname(), timeout=TIMEOUT_S)
        ours, _ = listener.accept()
    with peer, ours:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield peer, ours


@contextmanager
def connected(contexts: Contexts) -> Iterator[tuple[ssl.SSLSocket, TlsConnection, PduReader]]:
    """A peer, and our end of its connection after the handshake."""
    with tcp() as (raw_peer, raw):
        ours = TlsConnection(raw, contexts[0])
        thread = threading.Thread(target=ours.handshake, args=[TIMEOUT_S])
        thread.start()
        peer = contexts[1].wrap_socket(raw_peer, suppress_ragged_eofs=False)
        thread.join()
        with peer:
            reader = PduReader(ours, MAXIMUM_PDU_BYTES)
            reader.set_timeout(TIMEOUT_S)
            yield peer, ours, reader


def send_all(peer: ssl.SSLSocket, pieces: Sequence[bytes]) -> threading.Thread:
    """Sends the pieces, one record each, from another thread."""

    def run() -> None:
        for piece in pieces:
            peer.sendall(piece)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@settings(deadline=None, max_examples=25)
@given(sizes=st.lists(st.integers(0, 100_000), min_size=1, max_size=4), cut=st.integers(1, 50_000))
def test_data_arrive_whole_however_they_are_cut(contexts: Contexts, sizes: list[int], cut: int) -> None:
    values = [os.urandom(size) for size in sizes]
    sent = b"".join(p_data(pdv(1, COMMAND | LAST, value)) for value in values)
    with connected(contexts) as (peer, _ours, reader):
        thread = send_all(peer, [sent[start : start + cut] for start in range(0, len(sent), cut)])
        for value in values:
            pdu_type, length = reader.header()
            assert pdu_type == P_DATA_TF
            assert b"".join(bytes(piece) for _, _, piece, _ in reader.pdvs(length)) == value
        thread.join()


def test_deadline_holds_for_a_peer_that_trickles_a_record(contexts: Contexts) -> None:
    with connected(contexts) as (peer, _ours, reader), socket.socket(fileno=peer.detach()) as raw:
        stop = threading.Event()

        def trickle() -> None:
            raw.sendall(b"\x17\x03\x03\x40\x00")
            while not stop.wait(0.05):
                raw.sendall(b"x")

        thread = threading.Thread(target=trickle)
        thread.start()
        started = time.monotonic()
        with pytest.raises(ConnectionEnded, match="too slow"):
            reader.header(deadline=time.monotonic() + 0.5)
        assert time.monotonic() - started < TIMEOUT_S / 2
        stop.set()
        thread.join()


def test_silence_is_an_end_after_the_timeout(contexts: Contexts) -> None:
    with connected(contexts) as (_peer, _ours, reader):
        reader.set_timeout(0.2)
        with pytest.raises(ConnectionEnded, match="sent nothing for too long") as end:
            reader.header()
        assert end.value.silent


def test_peers_orderly_end_and_its_sudden_one_are_the_end(contexts: Contexts) -> None:
    for orderly in (True, False):
        with connected(contexts) as (peer, ours, reader):
            if orderly:
                closing = threading.Thread(target=peer.unwrap)
                closing.start()
            else:
                socket.socket(fileno=peer.detach()).close()
            with pytest.raises(ConnectionEnded) as end:
                reader.header()
            assert not end.value.silent
            with contextlib.suppress(OSError):
                ours.shutdown(socket.SHUT_WR)
            if orderly:
                closing.join()


def test_our_orderly_end_is_close_notify(contexts: Contexts) -> None:
    with connected(contexts) as (peer, ours, _reader):
        ours.sendall(b"last words")
        ours.shutdown(socket.SHUT_WR)
        assert peer.recv(100) == b"last words"
        assert peer.recv(100) == b""  # an SSLEOFError without close_notify


def test_end_is_said_even_to_a_peer_that_reads_nothing(contexts: Contexts) -> None:
    with connected(contexts) as (_peer, ours, _reader):
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, b"\0" * 8 + (200_000).to_bytes(8, "little"))
        with pytest.raises(OSError):
            while True:
                ours.sendall(bytes(1_000_000))
        started = time.monotonic()
        ours.shutdown(socket.SHUT_WR)
        assert time.monotonic() - started < TIMEOUT_S / 2


def test_what_the_socket_does_not_take_at_once_is_offered_again_and_arrives_once(contexts: Contexts) -> None:
    """As PeerWriter does it: MSG_DONTWAIT, and after a BlockingIOError the same again."""
    sent = os.urandom(5_000_000)
    with connected(contexts) as (peer, ours, reader):
        received = bytearray()

        def receive() -> None:
            while len(received) < len(sent):
                received.extend(peer.recv(65536))

        thread = threading.Thread(target=receive)
        rest, refusals = memoryview(sent), 0
        while rest:
            try:
                rest = rest[ours.send(rest, socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                refusals += 1
                if not thread.is_alive():
                    thread.start()
                select.select([], [ours], [], TIMEOUT_S)
        thread.join()
        assert refusals
        assert received == sent
        assert not reader.has_buffered


def test_what_was_read_from_the_socket_already_is_seen(contexts: Contexts) -> None:
    with connected(contexts) as (peer, ours, reader):
        for value in (b"a" * 3000, b"b" * 3000):
            peer.sendall(p_data(pdv(1, LAST, value)))
        wait_until(lambda: peek(ours) > 6000, TIMEOUT_S, "the records do not arrive")
        reader.header()
        reader.body(3006)
        assert reader.has_buffered
        reader.header()
        reader.body(3006)
        assert not reader.has_buffered


def peek(connection: TlsConnection) -> int:
    """How many encrypted bytes wait in the socket."""
    with socket.socket(fileno=os.dup(connection.fileno())) as raw:
        return len(raw.recv(65536, socket.MSG_PEEK))


def test_shutdown_by_another_thread_ends_a_read(contexts: Contexts) -> None:
    with tcp() as (raw_peer, raw):
        ours = TlsConnection(raw, contexts[0])
        timer = threading.Timer(0.2, lambda: raw.shutdown(socket.SHUT_RD))
        timer.start()
        with pytest.raises(HandshakeFailed):
            ours.handshake(TIMEOUT_S)
        assert raw_peer.fileno() >= 0
        timer.join()


def test_nothing_is_resumed(contexts: Contexts) -> None:
    with connected(contexts) as (peer, ours, _reader):
        ours.sendall(b"x")
        assert peer.recv(1) == b"x"
        assert peer.session is None or not peer.session.has_ticket
