"""Instances in order and in advance: from a real Orthanc, and from a server that breaks every rule."""

from __future__ import annotations

import socket
import ssl
import threading
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from gateway.archive import read_ahead
from gateway.archive.http_connection import MAXIMUM_HEAD_BYTES
from gateway.archive.interface import (
    STUDY_INSTANCE_UID,
    ArchiveUnavailable,
    CannotTranscode,
    Fetched,
    InstanceReference,
    Level,
    Selection,
    Wanted,
)
from gateway.archive.orthanc import Options, OrthancArchive
from gateway.archive.rest import OrthancRest
from gateway.dicom.part10 import FileMeta
from gateway.forwarding.transports import Endpoint
from tests.conftest import MakeOrthanc
from tests.integration.gateways import data_set_of
from tests.support.certificates import Authority
from tests.support.data_sets import PIXEL_DATA, element
from tests.support.images import make_ct, make_cts
from tests.support.orthanc import Orthanc
from tests.support.processes import wait_until
from tests.support.scripted_http import ScriptedHttp, answer

EXPLICIT, IMPLICIT, JPEG_BASELINE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.4.50"
DEADLINE_S = 20


def archive_of(url: str, timeout_s: float = DEADLINE_S) -> OrthancArchive:
    return OrthancArchive(OrthancRest(Endpoint(url, timeout_s=timeout_s), 8), Options("ORTHANC"))


def listed(archive: OrthancArchive, orthanc: Orthanc) -> list[InstanceReference]:
    studies = tuple(study["MainDicomTags"]["StudyInstanceUID"] for study in orthanc.get("/studies?expand"))
    return archive.list_instances(Selection(Level.STUDY, {STUDY_INSTANCE_UID: studies})).instances


def content(fetched: Fetched) -> bytes:
    assert fetched.encoded is not None, fetched.error
    data = b"".join(fetched.encoded.chunks)
    assert fetched.encoded.size_bytes in (None, len(data))
    return data


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    orthanc = Orthanc(tmp_path_factory.mktemp("orthanc"), verbose=False)
    try:
        orthanc.start()
        for series, (rows, count) in enumerate([(8, 40), (128, 20), (512, 10)]):
            for path in make_cts(tmp_path_factory.mktemp("ct"), count, rows, rows, series):
                orthanc.post("/instances", path.read_bytes())
        yield orthanc
    finally:
        orthanc.close()


@pytest.fixture(params=[read_ahead.WHOLE_BYTES, 20_000], ids=["whole", "streamed"])
def whole_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_ahead, "WHOLE_BYTES", request.param)


@pytest.mark.usefixtures("whole_bytes")
def test_instances_come_in_their_order_as_stored_or_transcoded(full: Orthanc) -> None:
    archive = archive_of(full.url)
    instances = listed(archive, full)
    Random(1).shuffle(instances)
    wanted: list[Wanted] = [(one, IMPLICIT if number % 5 == 4 else None) for number, one in enumerate(instances)]
    with archive.read_ahead(iter(wanted)) as fetched:
        for (instance, transfer_syntax_uid), one in zip(wanted, fetched, strict=True):
            assert one.instance is instance
            data = content(one)
            if transfer_syntax_uid is None:
                assert data == data_set_of(full.file(instance.handle))
            else:
                assert one.encoded is not None
                assert one.encoded.transfer_syntax_uid == IMPLICIT
                assert instance.sop_instance_uid.encode() in data
        assert next(fetched, None) is None


@pytest.mark.usefixtures("whole_bytes")
def test_what_is_not_read_to_its_end_harms_nothing(full: Orthanc) -> None:
    archive = archive_of(full.url)
    instances = listed(archive, full)
    with archive.read_ahead([(one, None) for one in instances]) as fetched:
        for number, one in enumerate(fetched):
            assert one.encoded is not None
            if number % 2:
                next(one.encoded.chunks)
            else:
                assert content(one) == data_set_of(full.file(instances[number].handle))


def test_errors_belong_to_their_instance(full: Orthanc) -> None:
    archive = archive_of(full.url)
    good, other = listed(archive, full)[:2]
    gone = InstanceReference("00000000-" * 4 + "00000000", "1.2", "1.3", EXPLICIT, 1000)
    wanted: list[Wanted] = [(good, None), (gone, None), (other, JPEG_BASELINE), (other, "1.2.3"), (other, None)]
    with archive.read_ahead([*wanted * 3]) as fetched:
        kinds = [type(one.error) for one in fetched]
    assert kinds == [type(None), ArchiveUnavailable, CannotTranscode, CannotTranscode, type(None)] * 3


def test_large_instances_take_little_memory(full: Orthanc, tmp_path: Path) -> None:
    path = tmp_path / "large"
    make_ct(path, 6000, 6000, 0, series=77)
    identifier = full.post("/instances", path.read_bytes())["ID"]
    archive = archive_of(full.url)
    large = InstanceReference(identifier, "", "", EXPLICIT, path.stat().st_size)
    small = listed(archive, full)[0]
    tracemalloc.start()
    try:
        with archive.read_ahead([(small, None), (large, None), (large, None), (small, None)]) as fetched:
            sizes = []
            for one in fetched:
                assert one.encoded is not None, one.error
                sizes.append(sum(map(len, one.encoded.chunks)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        full.delete(f"/instances/{identifier}")
    assert sizes[1] == sizes[2] > 72_000_000
    assert peak < 4 * read_ahead.WHOLE_BYTES


def test_an_orthanc_that_is_restarted_is_waited_for(make_orthanc: MakeOrthanc, tmp_path: Path) -> None:
    orthanc = make_orthanc(verbose=False)
    orthanc.start()
    for path in make_cts(tmp_path / "ct", 20):
        orthanc.post("/instances", path.read_bytes())
    archive = archive_of(orthanc.url)
    instances = listed(archive, orthanc)
    with archive.read_ahead([(one, None) for one in instances]) as fetched:
        for _number in range(10):
            assert content(next(fetched))
        orthanc.kill()
        orthanc.launch()
        assert all(content(one) for one in fetched)


# From here on the server is scripted.

DATA_SET = element(0x00080005, "CS", b"ISO_IR 100") + element(PIXEL_DATA, "OW", bytes(2000))
FILE = FileMeta("1.2", "1.3", EXPLICIT, "A", "B", "", "").encode() + DATA_SET
INSTANCES = [InstanceReference(str(number), "1.2", "1.3", EXPLICIT, len(FILE)) for number in range(6)]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_ahead, "RECONNECT_DELAY_S", 0.01)


def fetch_all(url: str, timeout_s: float = DEADLINE_S) -> list[Fetched]:
    with archive_of(url, timeout_s).read_ahead([(one, None) for one in INSTANCES]) as fetched:
        all_fetched = []
        for one in fetched:
            assert one.error is not None or content(one) == DATA_SET
            all_fetched.append(one)
        return all_fetched


def errors(fetched: list[Fetched]) -> list[str]:
    return [str(one.error) for one in fetched if one.error is not None]


@pytest.mark.parametrize(
    "well_formed",
    [
        answer(FILE),
        answer(FILE, "200 OK", "Connection: close"),
        answer(FILE).replace(b"Content-Length", b"CONTENT-length"),
        # left to urllib3
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(FILE), FILE),
        b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(FILE), FILE),
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + FILE,
    ],
    ids=["length", "close", "capitals", "chunked", "1.0", "no length"],
)
def test_whatever_http_allows_is_read(well_formed: bytes) -> None:
    is_kept = b"close" not in well_formed and b"1.0" not in well_formed

    def script(connection: socket.socket, _path: str, _number: int) -> bool:
        for start in range(0, len(well_formed), 100):
            connection.sendall(well_formed[start : start + 100])
        return is_kept

    with ScriptedHttp(script) as server:
        assert errors(fetch_all(server.url)) == []
        # connections overtake each other
        assert set(server.paths) == {f"/instances/{number}/file" for number in range(len(INSTANCES))}


@pytest.mark.parametrize("cut", [b"", b"HTTP/1.1 200", answer(FILE)[:-1]], ids=["nothing", "head", "body"])
def test_an_answer_that_is_cut_off_is_asked_for_again(cut: bytes) -> None:
    def script(connection: socket.socket, path: str, number: int) -> bool:
        is_first = server.paths.index(path) == number
        connection.sendall(cut if is_first else answer(FILE))
        return not is_first

    with ScriptedHttp(script) as server:
        assert errors(fetch_all(server.url)) == []
        assert len(server.paths) == 2 * len(INSTANCES)


@pytest.mark.parametrize(
    ("malformed", "reason"),
    [
        (answer(b"no DICOM"), None),
        (answer(FILE[:132] + element(0x00020001, "OB", FILE, length=10**9)), "file meta information"),
        (answer(b"", "500 Internal Server Error"), "HTTP 500"),
        (answer(b"x" * 100_000, "503 Service Unavailable"), "HTTP 503"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * MAXIMUM_HEAD_BYTES, ""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 12345678901234567890123\r\n\r\n", ""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", ""),
        (b"\x00" * 100_000, ""),
    ],
    ids=["no DICOM", "meta", "500", "503", "endless head", "huge length", "negative length", "zeros"],
)
def test_a_wrong_answer_is_an_error_or_a_data_set_without_meta(malformed: bytes, reason: str | None) -> None:
    def script(connection: socket.socket, _path: str, _number: int) -> bool:
        connection.sendall(malformed)
        return malformed.startswith(b"HTTP/1.1 200 OK\r\nContent-Length: ") or b"503" in malformed

    with ScriptedHttp(script) as server, archive_of(server.url, 1).read_ahead([(INSTANCES[0], None)]) as fetched:
        (one,) = fetched
        if reason is None:  # Orthanc knows what is a data set
            assert one.encoded is not None
            assert one.encoded.transfer_syntax_uid == EXPLICIT
        else:
            assert isinstance(one.error, ArchiveUnavailable)
            assert reason in str(one.error)


def test_silence_ends_at_its_deadline_and_after_two_nothing_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedHttp(lambda _connection, _path, _number: True) as server:
        said = errors(fetch_all(server.url, timeout_s=0.3))
    assert ["no answer within 0.3 s" in one for one in said] == [True, True, *[False] * 4]
    assert all("not answered any more" in one for one in said[2:])


def test_drops_of_an_answer_do_not_prolong_its_deadline() -> None:
    def script(connection: socket.socket, _path: str, _number: int) -> bool:
        connection.sendall(answer(FILE)[:100])
        while not over.wait(0.05):
            connection.sendall(b"\0")
        return False

    over = threading.Event()
    with ScriptedHttp(script) as server:
        with archive_of(server.url, 0.5).read_ahead([(replace(INSTANCES[0], size_bytes=10**6), None)]) as fetched:
            assert "no answer within" in str(next(fetched).error)
        over.set()


def test_a_file_that_breaks_off_while_it_is_handed_out_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_ahead, "WHOLE_BYTES", 1000)

    def script(connection: socket.socket, _path: str, number: int) -> bool:
        connection.sendall(answer(FILE + bytes(10**6))[: -(10**5) if number == 0 else None])
        return bool(number)

    with ScriptedHttp(script) as server, archive_of(server.url).read_ahead([(INSTANCES[0], None)] * 2) as fetched:
        broken = next(fetched)
        with pytest.raises(ArchiveUnavailable, match="breaks off"):
            content(broken)
        assert len(content(next(fetched))) == len(DATA_SET) + 10**6


@pytest.mark.parametrize("whole", [True, False])
def test_close_ends_a_wait_at_once(whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not whole:
        monkeypatch.setattr(read_ahead, "WHOLE_BYTES", 1000)

    def script(connection: socket.socket, _path: str, number: int) -> bool:
        connection.sendall(answer(FILE + bytes(10**6))[:-1] if not whole else b"")
        return True

    with ScriptedHttp(script) as server:
        fetched = archive_of(server.url).read_ahead([(one, None) for one in INSTANCES])
        first = None if whole else next(fetched)
        failed: list[Exception] = []

        def wait() -> None:
            try:
                content(first) if first is not None else failed.append(next(fetched).error or AssertionError())
            except ArchiveUnavailable as error:
                failed.append(error)

        waiting = threading.Thread(target=wait)
        waiting.start()
        wait_until(lambda: server.paths, DEADLINE_S, "nothing was asked for")
        fetched.close()
        waiting.join(DEADLINE_S / 4)
        assert not waiting.is_alive()
        assert isinstance(failed[0], ArchiveUnavailable)
        assert list(fetched) == []


def test_connections_are_limited_for_all_together() -> None:
    with ScriptedHttp(lambda connection, _path, _number: connection.sendall(answer(FILE)) is None) as server:
        archive = archive_of(server.url)
        archive._slots = read_ahead.Slots(3)
        many = [archive.read_ahead([(one, None) for one in INSTANCES]) for _number in range(4)]
        for one in many:
            content(next(one))
        for one in many:
            content(next(one))
        assert server.connections == 4 + 3
        for one in many:
            one.close()
        with archive.read_ahead([(one, None) for one in INSTANCES]) as fetched:
            assert all(content(one) for one in fetched)
        assert server.connections == 4 + 3 + read_ahead.CONNECTIONS


def test_a_certificate_is_checked_and_credentials_are_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path / "authority")
    server_certificate = authority.issue("orthanc", "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server_certificate.certificate, server_certificate.private_key)
    monkeypatch.setattr(read_ahead, "RECONNECT_TIMEOUT_S", 0.1)

    def fetch(url: str, ca_file: Path | None, *, check_hostname: bool = True) -> list[Fetched]:
        endpoint = Endpoint(url, "Bearer 42", None, str(ca_file) if ca_file else None, check_hostname)
        archive = OrthancArchive(OrthancRest(endpoint, 2), Options("ORTHANC"))
        with archive.read_ahead([(one, None) for one in INSTANCES]) as fetched:
            return [one for one in fetched if one.error is not None or content(one) == DATA_SET]

    def script(connection: socket.socket, _path: str, _number: int) -> bool:
        connection.sendall(answer(FILE))
        return True

    with ScriptedHttp(script, context) as server:
        assert errors(fetch(server.url, authority.certificate)) == []
        assert all(b"\r\nAuthorization: Bearer 42\r\n" in request for request in server.requests)
        assert len(server.requests) == len(INSTANCES)
        other_name = server.url.replace("localhost", "127.0.0.1")
        assert errors(fetch(other_name, authority.certificate, check_hostname=False)) == []
        for refused in (fetch(server.url, None), fetch(other_name, authority.certificate)):
            assert "CERTIFICATE_VERIFY_FAILED" in errors(refused)[0]
        assert len(server.requests) == 2 * len(INSTANCES)
