"""Peers that stall, break off or send noise in TLS: what holds for plain connections holds for them."""

import contextlib
import random
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from scp.tls_connection import HANDSHAKE_TIMEOUT_S
from tests.scp.conftest import (
    DEADLINE_S,
    Log,
    StartGateway,
    half_received,
    resources,
    wait_for_resources,
    wait_until_quiet,
    workers,
)
from tests.support.certificates import Authority, tls_options
from tests.support.dcmtk import echoscu
from tests.support.processes import kill, wait_until
from tests.support.rawdicom import (
    A_ABORT,
    A_RELEASE_RP,
    A_RELEASE_RQ,
    COMMAND,
    DATA_SET,
    LAST,
    Context,
    Pdu,
    RawPeer,
    associate_rq,
    image,
    p_data,
    pdu,
    pdv,
    store_rq,
)
from tests.support.standalone import Gateway

IDLE_TIMEOUT_S: Final = 1
TRICKLE_INTERVAL_S: Final = 0.5
SILENT_PEERS: Final = 30
STORE = pdv(1, COMMAND | LAST, store_rq("1.2.3"))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def context(authority: Authority) -> ssl.SSLContext:
    """What a modality with the right certificate connects with."""
    return authority.client_context(authority.issue("modality"))


@pytest.fixture(scope="module")
def gateway(start_gateway: StartGateway, authority: Authority, context: ssl.SSLContext) -> Gateway:
    """A gateway with TLS whose associations may be idle for a second."""
    options = tls_options(authority, authority.issue("gateway"), DicomScpTimeout=IDLE_TIMEOUT_S)
    running = start_gateway(**options)
    _store(running, context)
    wait_until_quiet(running)
    return running


@pytest.fixture
def intact(gateway: Gateway, context: ssl.SSLContext) -> Iterator[Gateway]:
    """The gateway, which must have as many threads and descriptors after the test as before, and serve on."""
    before = resources(gateway)
    start_of_log = len(gateway.log_text())
    yield gateway
    _store(gateway, context)
    wait_for_resources(gateway, before)
    assert half_received(gateway) == []
    assert "ended by an error of the gateway" not in gateway.log_text()[start_of_log:]


def _store(gateway: Gateway, context: ssl.SSLContext) -> None:
    with RawPeer(gateway.dicom_port, context=context) as peer:
        peer.associate()
        assert peer.store("2.25.100").status == 0
        peer.release()
        assert peer.ends() == []


def client_hello(context: ssl.SSLContext) -> bytes:
    """The first flight of a TLS client."""
    sent = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), sent)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return sent.read()


def test_silent_and_trickling_clients_hold_nobody_up_and_are_gone_after_the_deadline(
    intact: Gateway, context: ssl.SSLContext
) -> None:
    log = Log(intact)
    hello = client_hello(context)
    with contextlib.ExitStack() as stack:
        opened = time.monotonic()
        silent = [stack.enter_context(RawPeer(intact.dicom_port)) for _ in range(SILENT_PEERS)]
        for peer in silent[::2]:
            peer.send(hello[:-1])
        trickling = stack.enter_context(RawPeer(intact.dicom_port))
        started = time.monotonic()
        _store(intact, context)
        assert time.monotonic() - started < 1
        with contextlib.suppress(OSError):
            for byte in hello:
                trickling.socket.sendall(bytes([byte]))
                trickling.socket.settimeout(TRICKLE_INTERVAL_S)
                with contextlib.suppress(TimeoutError):
                    assert trickling.socket.recv(1) == b""
                    break
        assert HANDSHAKE_TIMEOUT_S - 1 < time.monotonic() - opened < HANDSHAKE_TIMEOUT_S + DEADLINE_S / 2
        for peer in silent:
            assert peer.ends() == []
    log.expect("WARNING", "TLS handshake failed", "peer=127.0.0.1", "no TLS handshake within 10 s")


@pytest.mark.parametrize(
    "begun",
    [b"", p_data(STORE)[:3], p_data(STORE), p_data(STORE) + p_data(pdv(1, DATA_SET, bytes(60_000)))[:30_000]],
    ids=["idle", "in a PDU header", "before the data set", "in a data set"],
)
def test_peer_that_stalls_is_told_so_in_tls(intact: Gateway, context: ssl.SSLContext, begun: bytes) -> None:
    log = Log(intact)
    with RawPeer(intact.dicom_port, context=context) as peer:
        peer.associate()
        peer.send(begun)
        # The end is one of TLS: without close_notify it would be an SSLEOFError here.
        assert [answer.type for answer in peer.ends()] == [A_ABORT]
    log.expect("ended without release", "certificate=modality", "sent nothing for too long")


def test_peer_that_stalls_in_a_record_is_aborted(intact: Gateway, context: ssl.SSLContext) -> None:
    log = Log(intact)
    with RawPeer(intact.dicom_port, context=context) as peer:
        peer.associate()
        raw = socket.socket(fileno=peer.socket.detach())
        with raw:
            raw.settimeout(DEADLINE_S)
            raw.sendall(b"\x17\x03\x03\x10\x00half a record")
            while raw.recv(4096):
                pass
    log.expect("ended without release", "sent nothing for too long")


def test_peer_that_is_slow_but_never_silent_is_served(intact: Gateway, context: ssl.SSLContext) -> None:
    message = p_data(STORE, pdv(1, DATA_SET | LAST, image("1.2.3")))
    with RawPeer(intact.dicom_port, context=context) as peer:
        peer.associate()
        started = time.monotonic()
        for start in range(0, len(message), 50):
            peer.send(message[start : start + 50])
            # The pace is the subject: in sum longer than the timeout, no pause as long as it.
            time.sleep(IDLE_TIMEOUT_S / 4)
        assert peer.response().status == 0
        assert time.monotonic() - started > IDLE_TIMEOUT_S


def test_each_byte_in_a_record_of_its_own_is_understood(intact: Gateway, context: ssl.SSLContext) -> None:
    message = p_data(STORE, pdv(1, DATA_SET | LAST, image("1.2.3")))
    with RawPeer(intact.dicom_port, context=context) as peer:
        for byte in associate_rq([Context(1)]) + message + pdu(A_RELEASE_RQ, bytes(4)):
            peer.send(bytes([byte]))
        peer.read_pdu()
        assert peer.response().status == 0
        assert peer.ends() == [Pdu(A_RELEASE_RP, bytes(4))]


def test_broken_protocol_is_answered_with_an_abort_in_tls(intact: Gateway, context: ssl.SSLContext) -> None:
    log = Log(intact)
    with RawPeer(intact.dicom_port, context=context) as peer:
        peer.associate()
        peer.send(pdu(9))
        assert [answer.type for answer in peer.ends()] == [A_ABORT]
    log.expect("WARNING", "certificate=modality", "PDU of unknown type 0x09")


@pytest.mark.parametrize("orderly", [True, False], ids=["close_notify", "reset"])
def test_peer_that_leaves_in_an_instance_leaves_nothing(
    intact: Gateway, context: ssl.SSLContext, orderly: bool
) -> None:
    log = Log(intact)
    with RawPeer(intact.dicom_port, context=context) as peer:
        peer.associate()
        peer.send(p_data(STORE, pdv(1, DATA_SET, image("1.2.3"))))
        if orderly:
            tls = peer.socket
            assert isinstance(tls, ssl.SSLSocket)
            with contextlib.suppress(OSError):
                tls.unwrap()
        else:
            peer.vanish()
        log.expect("WARNING", "left in the middle of an instance")


def test_noise_after_the_handshake_ends_only_its_own_connection(intact: Gateway, context: ssl.SSLContext) -> None:
    noise = random.Random(11)
    log = Log(intact)
    with RawPeer(intact.dicom_port, context=context) as bystander:
        bystander.associate()
        for _ in range(30):
            with RawPeer(intact.dicom_port, context=context) as peer:
                peer.associate()
                with socket.socket(fileno=peer.socket.detach()) as raw:
                    raw.settimeout(DEADLINE_S)
                    with contextlib.suppress(OSError):
                        raw.sendall(b"\x17\x03\x03\x00\x40" + noise.randbytes(64))
                        while raw.recv(4096):
                            pass
        assert bystander.store("2.25.5").status == 0
    log.expect("ended without release", "certificate=modality", "record")


def test_noise_in_the_handshake_ends_only_its_own_connection(intact: Gateway, context: ssl.SSLContext) -> None:
    noise = random.Random(12)
    hello = client_hello(context)
    log = Log(intact)
    for start in (b"", b"\x16", b"\x16\x03\x01", hello[:40], hello[:-20], hello, hello + hello):
        for _ in range(4):
            with RawPeer(intact.dicom_port) as peer, contextlib.suppress(OSError):
                peer.socket.sendall(start + noise.randbytes(noise.randrange(1, 300)))
                peer.socket.shutdown(socket.SHUT_WR)
                while peer.socket.recv(4096):
                    pass
    log.expect("WARNING", "TLS handshake failed", "the peer speaks no TLS, and DicomTlsEnabled is true")
    log.expect("WARNING", "TLS handshake failed", "the peer left in the middle of the TLS handshake")
    assert echoscu(intact.dicom_port).returncode != 0


def test_peers_that_reset_in_the_handshake_leave_nothing(intact: Gateway, context: ssl.SSLContext) -> None:
    hello = client_hello(context)
    for length in range(0, len(hello), len(hello) // 20):
        peer = RawPeer(intact.dicom_port)
        peer.send(hello[:length])
        peer.vanish()


def test_drain_lets_finish_what_runs_and_aborts_the_rest_in_tls(
    start_gateway: StartGateway, authority: Authority, context: ssl.SSLContext
) -> None:
    gateway = start_gateway(
        **tls_options(authority, authority.issue("gateway")), DicomGateway={"ShutdownTimeout": 2, "Workers": 1}
    )
    _store(gateway, context)
    with (
        RawPeer(gateway.dicom_port, context=context) as busy,
        RawPeer(gateway.dicom_port, context=context) as idle,
        RawPeer(gateway.dicom_port) as half_open,
    ):
        busy.associate()
        idle.associate()
        half_open.send(client_hello(context)[:50])
        log = Log(gateway)
        assert gateway.process is not None
        gateway.process.terminate()
        log.expect("stopping: no new associations")
        assert busy.store("1.2.3").status == 0
        busy.release()
        started = time.monotonic()
        assert [answer.type for answer in idle.ends()] == [A_ABORT]
        assert half_open.ends() == []
        assert gateway.wait() == 0
        assert time.monotonic() - started < HANDSHAKE_TIMEOUT_S


def test_worker_that_starts_on_broken_files_serves_once_they_are_mended(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "authority")
    server = authority.issue("gateway")
    context = authority.client_context(authority.issue("modality"))
    gateway = start_gateway(**tls_options(authority, server))
    _store(gateway, context)
    sound = server.certificate.read_bytes()
    server.certificate.write_text("broken")
    log = Log(gateway)
    (worker,) = workers(gateway)
    kill(worker)
    log.expect("ERROR", "TLS certificates cannot be used reason", str(server.certificate))
    with RawPeer(gateway.dicom_port) as peer:
        assert peer.ends() == []
    log.expect("WARNING", "TLS handshake failed", str(server.certificate))
    server.certificate.write_bytes(sound)

    def serves() -> bool:
        with contextlib.suppress(OSError):
            _store(gateway, context)
            return True
        return False

    wait_until(serves, DEADLINE_S, "the mended certificate is not used")
