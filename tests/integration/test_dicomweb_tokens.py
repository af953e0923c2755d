"""A DICOMweb server that refuses tokens in the middle of the work: each kind of request, and each series of a
retrieval, goes on with a new one, and peers notice nothing."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.hostile_dicomweb import STUDY, HostileDicomWeb
from tests.support.processes import wait_until
from tests.support.querying import findscu
from tests.support.rawdicom import RawPeer, image
from tests.support.retrieving import Retriever
from tests.support.scripted_http import answer
from tests.support.standalone import Gateway
from tests.support.storescp import StoreScp
from tests.support.stow_origin import stow_json

pytestmark = pytest.mark.integration

TIMEOUT_S: Final = 30
SERIES: Final = 4


class TokenServer:
    """Issues tokens, and refuses the one that it gets whenever it is asked for something for the first time."""

    def __init__(self) -> None:
        self.issued: list[str] = []
        self.refused: set[str] = set()
        self.asked: list[str] = []
        self.taken: list[str] = []

    def __call__(self, server: HostileDicomWeb, connection: socket.socket, path: str, number: int) -> bool | None:
        request = server.http.requests[number]
        if path == "/token":
            token = f"Bearer t{len(self.issued)}"
            body = json.dumps({"access_token": token.split()[1], "expires_in": 3600})
            self.issued.append(token)
            connection.sendall(answer(body.encode()))
            return True
        head = request.partition(b"\r\n\r\n")[0].decode("latin-1")
        token = next(line.partition(": ")[2] for line in head.split("\r\n") if line.startswith("Authorization: "))
        what = f"{request.split(b' ')[0].decode()} {path.partition('?')[0]}"
        if what not in self.asked:
            self.asked.append(what)
            self.refused.add(token)
        if token in self.refused or token not in self.issued:
            connection.sendall(answer(b"", "401 Unauthorized"))
            return True
        if not what.startswith("POST"):
            return None
        self.taken.append(what)
        connection.sendall(answer(stow_json(["1.9.1"]), "200 OK", "Content-Type: application/dicom+json"))
        return True


@pytest.fixture(scope="module")
def tokens() -> TokenServer:
    return TokenServer()


@pytest.fixture(scope="module")
def storescp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreScp]:
    receiver = StoreScp(tmp_path_factory.mktemp("storescp"))
    try:
        receiver.start()
        yield receiver
    finally:
        receiver.close()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, tokens: TokenServer, storescp: StoreScp) -> Iterator[Gateway]:
    directory: Path = tmp_path_factory.mktemp("gateway")
    with HostileDicomWeb(series=SERIES, instances=3, hook=tokens) as server:
        access = {"TokenUrl": f"{server.url}/token", "ClientId": "us", "ClientSecret": "secret"}
        ours = Gateway(
            directory,
            DicomModalities={"storescp": ["STORESCP", "127.0.0.1", storescp.port]},
            DicomGateway={"Workers": 1, "DicomWebServers": {"SERVER": {"Url": server.url, "OAuth2": access}}},
        )
        try:
            ours.start()
            yield ours
        finally:
            ours.close()


def test_a_query_goes_on_with_a_new_token(gateway: Gateway, tokens: TokenServer) -> None:
    keys = ("QueryRetrieveLevel=SERIES", f"StudyInstanceUID={STUDY}", "SeriesInstanceUID")
    found = findscu(gateway.dicom_port, *keys, calling="STORESCP", called="SERVER")
    assert (found.status, len(found.answers)) == (0, SERIES)
    assert f"GET /studies/{STUDY}/series" in tokens.asked


def test_a_retrieval_goes_on_with_a_new_token_for_each_series(
    gateway: Gateway, tokens: TokenServer, storescp: StoreScp
) -> None:
    before = len(tokens.refused)
    with Retriever(gateway.dicom_port) as peer:
        peer.open(calling="STORESCP", called="SERVER")
        told = peer.move("STORESCP", "STUDY", StudyInstanceUID=STUDY)
    assert (told.status, told.counters) == (0, (None, 3 * SERIES, 0, 0))
    assert len(list(storescp.received.iterdir())) == 3 * SERIES
    assert {f"GET /studies/{STUDY}/series/{STUDY}.{n}" for n in range(1, SERIES + 1)} <= set(tokens.asked)
    # The list, and the series.
    assert len(tokens.refused) - before >= SERIES


def test_an_instance_is_delivered_with_a_new_token(gateway: Gateway, tokens: TokenServer) -> None:
    with RawPeer(gateway.dicom_port) as peer:
        peer.associate(calling="STORESCP", called="SERVER")
        assert peer.store("1.9.1", image("1.9.1")).status == 0
        peer.release()
    wait_until(lambda: tokens.taken, TIMEOUT_S, "the instance is not delivered")
    assert tokens.taken == ["POST /studies"]
    assert "takes nothing" not in gateway.log_text()
