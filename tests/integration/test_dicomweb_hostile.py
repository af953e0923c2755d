"""C-MOVE and C-GET through a gateway from a DICOMweb server that breaks the rules."""

from __future__ import annotations

import itertools
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.hostile_dicomweb import JPEG, MULTIPART, STUDY, HostileDicomWeb, send_chunked
from tests.support.processes import wait_until
from tests.support.querying import keys
from tests.support.retrieving import Retriever
from tests.support.scripted_http import answer
from tests.support.standalone import Gateway
from tests.support.storescp import StoreScp

pytestmark = pytest.mark.integration

SERIES: Final = f"{STUDY}.1"
SERIES_PATH: Final = f"/studies/{STUDY}/series/{SERIES}"
WAIT_S: Final = 20


@pytest.fixture(scope="module")
def server() -> Iterator[HostileDicomWeb]:
    with HostileDicomWeb() as hostile:
        yield hostile


@pytest.fixture(scope="module")
def storescp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreScp]:
    receiver = StoreScp(tmp_path_factory.mktemp("storescp"), "+xa")
    try:
        receiver.start()
        yield receiver
    finally:
        receiver.close()


@pytest.fixture(scope="module")
def dropping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreScp]:
    """It keeps nothing."""
    receiver = StoreScp(tmp_path_factory.mktemp("dropping"), "--ignore")
    try:
        receiver.start()
        yield receiver
    finally:
        receiver.close()


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, server: HostileDicomWeb, storescp: StoreScp, dropping: StoreScp
) -> Iterator[Gateway]:
    ours = Gateway(
        tmp_path_factory.mktemp("gateway"),
        DicomModalities={
            "storescp": ["STORESCP", "127.0.0.1", storescp.port],
            "dropping": ["DROPPING", "127.0.0.1", dropping.port],
        },
        DicomGateway={
            "Workers": 1,
            "DicomWebServers": {
                "SERVER": {
                    "Url": server.url,
                    "Timeout": 2,
                    "Attempts": 2,
                    "AlwaysAllowMove": True,
                    "QidoPageSize": 1000,
                }
            },
        },
    )
    try:
        ours.start()
        yield ours
    finally:
        ours.close()


@pytest.fixture(autouse=True, params=[False, True], ids=["lists", "counts"])
def afresh(server: HostileDicomWeb, storescp: StoreScp, request: pytest.FixtureRequest) -> None:
    fresh = HostileDicomWeb(counts=request.param)
    for name in ("series", "instances", "pixel_bytes", "syntax", "told_syntax", "counts", "leaves_out", "hook"):
        setattr(server, name, getattr(fresh, name))
    server.paths.clear()
    for path in storescp.received.iterdir():
        path.unlink()


@pytest.fixture
def peer(gateway: Gateway) -> Iterator[Retriever]:
    with Retriever(gateway.dicom_port) as retriever:
        yield retriever.open(called="SERVER")


def received(storescp: StoreScp) -> int:
    return len(list(storescp.received.iterdir()))


def test_counters_are_true_from_the_first_response_on(
    server: HostileDicomWeb, storescp: StoreScp, peer: Retriever
) -> None:
    server.series, server.instances, server.pixel_bytes = 4, 500, 200
    peer.ask(keys("STUDY", StudyInstanceUID=STUDY), "STORESCP")
    told = peer.responses()
    for one in told[:-1]:
        assert one.remaining is not None and one.completed is not None
        assert one.remaining + one.completed == 2000
    assert (told[-1].status, told[-1].counters) == (0, (None, 2000, 0, 0))
    assert received(storescp) == 2000


def test_each_failure_is_that_of_an_instance(server: HostileDicomWeb, storescp: StoreScp, peer: Retriever) -> None:
    gone = f"{SERIES}.4"

    def lack(server: HostileDicomWeb, connection: socket.socket, path: str, number: int) -> bool | None:
        if not path.endswith(f"/instances/{gone}"):
            return None
        connection.sendall(answer(b"", "500 Internal Server Error"))
        return True

    server.leaves_out, server.hook = frozenset({gone}), lack
    told = peer.move("STORESCP", "STUDY", StudyInstanceUID=STUDY)
    assert (told.status, told.counters, told.failed_uids) == (0xB000, (None, 9, 1, 0), (gone,))
    assert told.comment.startswith("SERVER: HTTP 500 Internal Server Error")
    assert received(storescp) == 9


def test_a_large_instance_that_breaks_off_is_sent_again(
    server: HostileDicomWeb, storescp: StoreScp, peer: Retriever
) -> None:
    server.instances, server.pixel_bytes = 2, 6_000_000
    cuts = iter([True])

    def cut(server: HostileDicomWeb, connection: socket.socket, path: str, number: int) -> bool | None:
        if path != SERIES_PATH or not next(cuts, False):
            return None
        body = b"".join(server.parts(server.uids()))
        connection.sendall(answer(body, "200 OK", f"Content-Type: {MULTIPART}")[:4_000_000])
        return False

    server.hook = cut
    told = peer.move("STORESCP", "STUDY", StudyInstanceUID=STUDY)
    assert (told.status, told.counters) == (0, (None, 2, 0, 0)), told
    for uid in server.uids():
        assert storescp.data_set(uid) == server.data_set(uid)


def test_a_server_that_is_wrong_about_transfer_syntaxes(
    server: HostileDicomWeb, storescp: StoreScp, peer: Retriever
) -> None:
    server.syntax = JPEG
    told = peer.move("STORESCP", "STUDY", StudyInstanceUID=STUDY)
    assert (told.status, told.counters) == (0, (None, 10, 0, 0)), told
    assert received(storescp) == 10


@pytest.mark.parametrize("trouble", ["429 Too Many Requests", "503 Service Unavailable", "401 Unauthorized"])
def test_trouble_at_the_listing(server: HostileDicomWeb, peer: Retriever, trouble: str) -> None:
    troubles = iter([True])

    def refuse(server: HostileDicomWeb, connection: socket.socket, path: str, number: int) -> bool | None:
        if not next(troubles, False):
            return None
        connection.sendall(answer(b"", trouble, "Retry-After: 0"))
        return True

    server.hook = refuse
    told = peer.move("STORESCP", "STUDY", StudyInstanceUID=STUDY)
    assert told.status == (0x0124 if trouble.startswith("401") else 0)


def test_a_move_is_cancelled_while_the_server_is_slow(
    server: HostileDicomWeb, storescp: StoreScp, peer: Retriever
) -> None:
    over = threading.Event()

    def slow(server: HostileDicomWeb, connection: socket.socket, path: str, number: int) -> bool | None:
        if path != SERIES_PATH:
            return None

        def pieces() -> Iterator[bytes]:
            for part in server.parts(server.uids()):
                yield part
                over.wait(0.2)

        send_chunked(connection, MULTIPART, pieces())
        return True

    server.instances, server.hook = 100, slow
    peer.ask(keys("STUDY", StudyInstanceUID=STUDY), "STORESCP")
    wait_until(lambda: received(storescp) > 1, WAIT_S, "nothing arrives")
    begun = time.monotonic()
    peer.cancel()
    told = peer.responses()[-1]
    over.set()
    assert told.status == 0xFE00
    assert told.completed is not None and told.remaining is not None
    assert told.completed + told.remaining == 100
    assert time.monotonic() - begun < 10


def test_an_instance_of_any_size_in_constant_memory(
    server: HostileDicomWeb, gateway: Gateway, dropping: StoreScp, peer: Retriever
) -> None:
    piece, count = bytes(1_000_000), 400

    def huge(server: HostileDicomWeb, connection: socket.socket, path: str, number: int) -> bool | None:
        if "?" in path:
            return None
        (start, end) = server.parts(server.uids())
        pixels = struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, count * len(piece))
        start = start[: start.index(pixels[:6])] + pixels
        send_chunked(connection, MULTIPART, itertools.chain([start], itertools.repeat(piece, count), [end]))
        return True

    server.instances, server.hook = 1, huge
    told = peer.move("DROPPING", "STUDY", StudyInstanceUID=STUDY)
    assert (told.status, told.counters) == (0, (None, 1, 0, 0)), told
    assert peak_mib(gateway) < 150


def test_ten_thousand_instances_in_constant_memory(
    server: HostileDicomWeb, gateway: Gateway, dropping: StoreScp, peer: Retriever
) -> None:
    server.series, server.instances, server.pixel_bytes = 4, 2500, 40_000
    told = peer.move("DROPPING", "STUDY", StudyInstanceUID=STUDY)
    assert (told.status, told.counters) == (0, (None, 10_000, 0, 0)), told
    assert peak_mib(gateway) < 150


def peak_mib(gateway: Gateway) -> float:
    """Of its largest process, ever."""
    statuses = [Path(f"/proc/{pid}/status").read_text() for pid in gateway.family()]
    return max(int(status.partition("VmHWM:")[2].split()[0]) / 1024 for status in statuses)
