"""TLS on associations of ours, and requests of ours on associations over TLS: what is long, and peers that stall."""

import os
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from scp.association_errors import AssociationTimedOut, TlsFailed
from scp.data_set_sources import Chunks
from scp.scu import c_echo
from tests.scp.outgoing import SHORT_S, TIMEOUT_S, ct, open_association, store
from tests.support.certificates import Authority
from tests.support.storescp import StoreScp

pytestmark = pytest.mark.integration

LARGE_BYTES: Final = 20_000_000


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def storescp(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[StoreScp]:
    """DCMTK's storescp with TLS, which wants a certificate of its peers."""
    options = [*authority.issue("storescp").dcmtk, *authority.dcmtk]
    server = StoreScp(tmp_path_factory.mktemp("storescp"), *options)
    server.start()
    yield server
    server.close()


@pytest.fixture(scope="module")
def context(authority: Authority) -> ssl.SSLContext:
    return authority.client_context(authority.issue("gateway"))


def test_storescp_receives_over_tls_the_bytes_that_were_sent(storescp: StoreScp, context: ssl.SSLContext) -> None:
    data = ct("2.25.8", LARGE_BYTES // 4, os.urandom(4))
    with open_association(storescp.port, ssl_context=context) as association:
        assert c_echo(association.requests, timeout_s=TIMEOUT_S).status == 0
        assert store(association, "2.25.8", Chunks([data])).status == 0
    assert association.is_released
    assert storescp.data_set("2.25.8") == data


def test_peer_whose_certificate_is_not_trusted_is_refused(
    storescp: StoreScp, authority: Authority, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other")
    with pytest.raises(TlsFailed, match="the peer's certificate is refused: "):
        open_association(storescp.port, ssl_context=other.client_context())


def test_plain_peer_is_no_tls(authority: Authority, tmp_path: Path, context: ssl.SSLContext) -> None:
    plain = StoreScp(tmp_path / "plain")
    plain.start()
    try:
        with pytest.raises(TlsFailed, match="TLS handshake failed"):
            open_association(plain.port, ssl_context=context)
    finally:
        plain.close()


def test_silent_peer_times_out_in_the_handshake(context: ssl.SSLContext) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(AssociationTimedOut, match="no TLS handshake within"):
            open_association(silent.getsockname()[1], ssl_context=context, timeout_s=SHORT_S)
        assert time.monotonic() - started < TIMEOUT_S / 2
