"""DicomWebArchive before servers that break the rules."""

from __future__ import annotations

import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from gateway.archive.dicomweb import DicomWebArchive
from gateway.archive.interface import (
    AccessDenied,
    ArchiveUnavailable,
    CannotTranscode,
    InstanceReference,
    Level,
    Query,
    QueryRefused,
    Selection,
    TooBroad,
)
from gateway.dicomweb import client as client_module
from gateway.dicomweb.client import DicomWebClient
from gateway.matching.attributes import vr_of
from gateway.matching.keys import InvalidQuery, Key
from gateway.options.dicomweb import DicomWebServerSection
from tests.support.hostile_dicomweb import (
    BOUNDARY,
    EXPLICIT,
    JPEG,
    MULTIPART,
    STUDY,
    HostileDicomWeb,
    drip,
    send_chunked,
)
from tests.support.scripted_http import answer

SERIES: Final = f"{STUDY}.1"
WHOLE_STUDY: Final = Selection(Level.STUDY, {0x0020000D: (STUDY,)})
SERIES_PATH: Final = f"/studies/{STUDY}/series/{SERIES}"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delays that are right for production are not waited for."""
    monkeypatch.setattr(client_module, "FIRST_RETRY_DELAY_S", 0.01)


def archive(server: HostileDicomWeb, **options: Any) -> DicomWebArchive:
    section = DicomWebServerSection.model_validate({"Url": server.url, "Timeout": 2, "Attempts": 3, **options})
    return DicomWebArchive(DicomWebClient("SERVER", section, Path))


def query(level: Level, **keys: str) -> Query:
    tags = {"PatientID": 0x00100020, "PatientName": 0x00100010, "Study": 0x0020000D, "Series": 0x0020000E}
    tags |= {"Instance": 0x00080018, "Number": 0x00200013}
    return Query(level, tuple(Key(tags[name], vr_of(tags[name]), value) for name, value in keys.items()))


def found(ours: DicomWebArchive, asked: Query, tag: int) -> list[Any]:
    return [attributes[tag].value for attributes in ours.find(asked)]


def images(ours: DicomWebArchive, **keys: str) -> list[Any]:
    return found(ours, query(Level.IMAGE, Study=STUDY, Series=SERIES, Instance="", **keys), 0x00080018)


def retrieved(ours: DicomWebArchive, instances: list[InstanceReference]) -> dict[str, Any]:
    """By UID: the data set, or the error."""
    outcome: dict[str, Any] = {}
    with ours.read_ahead([(instance, None) for instance in instances]) as reading:
        for fetched in reading:
            uid = fetched.instance.sop_instance_uid
            assert uid not in outcome
            try:
                outcome[uid] = fetched.error or b"".join(fetched.encoded.chunks)  # type: ignore[union-attr]
            except ArchiveUnavailable as error:
                outcome[uid] = error
    return outcome


def test_lists_of_studies_and_series_are_not_paired_by_the_million() -> None:
    uids = "\\".join(f"1.2.{number}" for number in range(1000))
    with HostileDicomWeb() as server:
        with pytest.raises(TooBroad, match="pairs of study and series"):
            list(archive(server).find(query(Level.IMAGE, Study=uids, Series=uids)))
        assert server.count(".*") == 0


def all_of(server: HostileDicomWeb, **options: Any) -> dict[str, Any]:
    ours = archive(server, **options)
    return retrieved(ours, ours.list_instances(WHOLE_STUDY).instances)


def expected(server: HostileDicomWeb) -> dict[str, bytes]:
    return {uid: server.data_set(uid) for uid in server.uids()}


# --- queries ---


@pytest.mark.parametrize(
    "habits",
    [{}, {"cap": 7}, {"ignores_limit": True}, {"ignores_offset": True}, {"ignores_offset": True, "cap": 60}],
    ids=["well", "caps", "ignores the limit", "ignores the offset", "ignores the offset and caps"],
)
def test_all_is_found_once_whatever_a_server_makes_of_pages(habits: dict[str, Any]) -> None:
    with HostileDicomWeb(instances=50, **habits) as server:
        assert images(archive(server, QidoPageSize=10)) == server.uids()


def test_a_server_that_says_that_there_is_more_and_never_tells_it() -> None:
    with HostileDicomWeb(instances=50, ignores_offset=True, cap=10, warns=True) as server:
        with pytest.raises(TooBroad):
            images(archive(server, QidoPageSize=10))
        with pytest.raises(TooBroad):
            archive(server, QidoPageSize=10).list_instances(WHOLE_STUDY)


def test_a_server_that_goes_round_in_a_circle() -> None:
    def circle(server: HostileDicomWeb, connection: socket.socket, path: str, number: int) -> bool | None:
        connection.sendall(server._qido(path.partition("?")[0], {"limit": "10", "offset": str(number % 2 * 10)}))
        return True

    with HostileDicomWeb(instances=50, hook=circle) as server, pytest.raises(TooBroad):
        images(archive(server, QidoPageSize=10))


def test_what_a_server_did_not_compare_is_compared_here() -> None:
    with HostileDicomWeb(ignores_keys=True) as server:
        ours = archive(server)
        assert found(ours, query(Level.STUDY, PatientName="roe*", Study=""), 0x0020000D) == []
        assert found(ours, query(Level.STUDY, PatientName="doe^j?ne", Study=""), 0x0020000D) == [STUDY]
        assert images(ours, Number="3") == [f"{SERIES}.3"]
        listed = query(Level.IMAGE, Study=STUDY, Series=SERIES, Instance=f"{SERIES}.2\\{SERIES}.4\\1.9")
        assert found(ours, listed, 0x00080018) == [f"{SERIES}.2", f"{SERIES}.4"]


def test_lists_of_uids_are_asked_for_one_by_one_or_at_once() -> None:
    uids = [f"{SERIES}.2", f"{SERIES}.4"]
    asked = query(Level.IMAGE, Study=STUDY, Series=SERIES, Instance="\\".join(uids))
    with HostileDicomWeb() as server:
        assert found(archive(server), asked, 0x00080018) == uids
        assert sum(f"SOPInstanceUID={uid}&" in path for path in server.paths for uid in uids) >= 2
        server.paths.clear()
        list(archive(server, QidoUidLists=True).find(asked))
        assert f"SOPInstanceUID={uids[0]},{uids[1]}" in server.paths[0]


def test_series_and_instances_of_a_server_that_searches_within_studies_only() -> None:
    lacks = frozenset({"/series", "/instances", f"/studies/{STUDY}/instances"})
    with HostileDicomWeb(series=3, lacks=lacks) as server:
        ours = archive(server)
        wanted = [f"{STUDY}.{number}" for number in (1, 2, 3)]
        assert found(ours, query(Level.SERIES, PatientID="P1", Series=""), 0x0020000E) == wanted
        assert found(ours, query(Level.SERIES, PatientID="P2", Series=""), 0x0020000E) == []
        assert len(ours.list_instances(WHOLE_STUDY).instances) == 30
        assert len(ours.list_instances(Selection(Level.IMAGE, {0x00080018: (f"{SERIES}.2",)})).instances) == 1


def test_what_is_not_there_is_no_error() -> None:
    with HostileDicomWeb(lacks=frozenset({"/studies/9.9/series"})) as server:
        assert found(archive(server), query(Level.SERIES, Study="9.9", Series=""), 0x0020000E) == []
        unsafe = query(Level.SERIES, Study="../..", Series="")
        assert found(archive(server), unsafe, 0x0020000E) == []
        assert not any(".." in path for path in server.paths)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("401 Unauthorized", AccessDenied),
        ("403 Forbidden", AccessDenied),
        ("400 Bad Request", QueryRefused),
        ("413 Request Entity Too Large", TooBroad),
        ("500 Internal Server Error", ArchiveUnavailable),
        ("404 Not Found", ArchiveUnavailable),
        ("302 Found", ArchiveUnavailable),
    ],
)
def test_refusals_keep_their_meaning(status: str, error: type[Exception]) -> None:
    def refuse(server: HostileDicomWeb, connection: socket.socket, path: str, number: int) -> bool | None:
        connection.sendall(
            answer(b"because\nof this", status, "Location: http://127.0.0.1:1/", "Content-Type: text/plain")
        )
        return True

    with HostileDicomWeb(hook=refuse) as server:
        with pytest.raises(error, match=f"SERVER: HTTP {status} to GET /studies: because of this") as caught:
            list(archive(server).find(query(Level.STUDY, PatientName="Secret*")))
        assert type(caught.value) is error
        assert "Secret" not in str(caught.value)
        assert len(server.paths) == 1


@pytest.mark.parametrize("body", [b"<html></html>", b'[{"0020000D": {"vr": "UI", "Val'])
def test_what_is_no_json_is_no_empty_answer(body: bytes) -> None:
    def page(server: HostileDicomWeb, connection: socket.socket, path: str, number: int) -> bool | None:
        connection.sendall(answer(body))
        return True

    with HostileDicomWeb(hook=page) as server, pytest.raises(ArchiveUnavailable, match="JSON"):
        list(archive(server).find(query(Level.STUDY, Study="")))


def test_an_answer_that_is_cut_off_in_its_head_is_no_empty_answer() -> None:
    def cut(server: HostileDicomWeb, connection: socket.socket, path: str, number: int) -> bool | None:
        connection.sendall(answer(b"[]")[:20])
        return False

    with HostileDicomWeb(hook=cut) as server, pytest.raises(ArchiveUnavailable, match="no body"):
        list(archive(server).find(query(Level.STUDY, Study="")))


def test_a_page_that_breaks_off_is_asked_for_again() -> None:
    def break_first(server: HostileDicomWeb, connection: socket.socket, path: str, number: int) -> bool | None:
        if number != 1:
            return None
        whole = server._qido(path.partition("?")[0], {"limit": "10", "offset": "10"})
        connection.sendall(whole[:-700])
        return False

    with HostileDicomWeb(instances=30, hook=break_first) as server:
        assert images(archive(server, QidoPageSize=10)) == server.uids()


def test_wildcards_are_not_for_uids() -> None:
    with HostileDicomWeb() as server, pytest.raises(InvalidQuery):
        archive(server).find(query(Level.STUDY, Study="1.2.*"))


# --- retrievals ---


def test_a_series_comes_in_one_answer() -> None:
    with HostileDicomWeb(series=2) as server:
        assert all_of(server) == expected(server)
        assert server.count(f"/studies/{STUDY}/series/[^/]+") == 2
        assert server.count(".*/instances/.+") == 0


def test_single_instances_are_not_fetched_with_their_series() -> None:
    with HostileDicomWeb() as server:
        ours = archive(server)
        listing = ours.list_instances(Selection(Level.IMAGE, {0x0020000D: (STUDY,), 0x00080018: (f"{SERIES}.2",)}))
        assert retrieved(ours, listing.instances) == {f"{SERIES}.2": server.data_set(f"{SERIES}.2")}
        assert server.count(SERIES_PATH) == 0


def test_what_an_answer_lacks_is_asked_for_alone_and_fails_alone() -> None:
    missing = frozenset({f"{SERIES}.3", f"{SERIES}.7"})

    def gone(server: HostileDicomWeb, connection: socket.socket, path: str, number: int) -> bool | None:
        if path.endswith("/instances/" + f"{SERIES}.7"):
            connection.sendall(answer(b"", "404 Not Found"))
            return True
        if path.endswith("/instances/" + f"{SERIES}.3"):
            connection.sendall(answer(server.file(f"{SERIES}.3"), "200 OK", "Content-Type: application/dicom"))
            return True
        return None

    with HostileDicomWeb(leaves_out=missing, hook=gone) as server:
        outcome = all_of(server)
        assert isinstance(outcome.pop(f"{SERIES}.7"), ArchiveUnavailable)
        assert outcome == {uid: data for uid, data in expected(server).items() if uid != f"{SERIES}.7"}


@pytest.mark.parametrize("is_for_all", [False, True])
def test_partial_content_is_never_a_success(is_for_all: bool) -> None:
    def partial(server: HostileDicomWeb, connection: socket.socket, path: str, number: int) -> bool | None:
        uids = server.uids_of(path)
        if "?" in path or not (is_for_all or path == SERIES_PATH):
            return None
        body = b"".join(server.parts(uids[:1]))
        connection.sendall(answer(body, "206 Partial Content", f"Content-Type: {MULTIPART}"))
        return True

    with HostileDicomWeb(instances=3, hook=partial) as server:
        outcome = all_of(server)
        if is_for_all:
            assert all(isinstance(one, ArchiveUnavailable) for one in outcome.values())
        else:
            assert outcome == expected(server)


def test_an_answer_that_breaks_off_within_a_part_is_continued() -> None:
    def cut(server: HostileDicomWeb, connection: socket.socket, path: str, number: int) -> bool | None:
        if path != SERIES_PATH or server.paths.count(SERIES_PATH) > 2:
            return None
        uids = server.uids()[:: 2 if server.paths.count(SERIES_PATH) == 1 else 3]
        body = b"".join(server.parts(uids))
        connection.sendall(answer(body, "200 OK", f"Content-Type: {MULTIPART}")[: -len(server.file(uids[0])) // 2 - 40])
        return False

    with HostileDicomWeb(instances=60, hook=cut) as server:
        assert all_of(server) == expected(server)
        assert server.count(SERIES_PATH) == 3


def test_a_large_instance_that_breaks_off_says_so_and_the_others_follow() -> None:
    size = 5_000_000

    def cut(server: HostileDicomWeb, connection: socket.socket, path: str, number: int) -> bool | None:
        if path != SERIES_PATH:
            return None
        body = b"".join(server.parts(server.uids()))
        connection.sendall(answer(body, "200 OK", f"Content-Type: {MULTIPART}")[: size * 3 // 2])
        return False

    with HostileDicomWeb(instances=3, pixel_bytes=size, hook=cut) as server:
        outcome = all_of(server)
        broken = [uid for uid, one in outcome.items() if isinstance(one, ArchiveUnavailable)]
        assert broken == [f"{SERIES}.2"]
        assert {uid: one for uid, one in outcome.items() if uid not in broken} == {
            uid: data for uid, data in expected(server).items() if uid not in broken
        }


@pytest.mark.parametrize(
    "content_type", ['multipart/related; type="application/dicom"', "", "application/octet-stream"]
)
def test_an_answer_without_a_boundary(content_type: str) -> None:
    def without(server: HostileDicomWeb, connection: socket.socket, path: str, number: int) -> bool | None:
        if path != SERIES_PATH:
            return None
        send_chunked(connection, content_type, server.parts(server.uids(), b"\r\n"))
        return True

    with HostileDicomWeb(hook=without) as server:
        assert all_of(server) == expected(server)
        assert server.count(".*/instances/.+") == 0


def test_what_is_asked_for_and_by_whom_it_is_not_understood() -> None:
    """The standard's way first; then the way of servers that do not know it."""

    def old(server: HostileDicomWeb, connection: socket.socket, path: str, number: int) -> bool | None:
        if b"transfer-syntax=*" not in server.http.requests[number]:
            return None
        connection.sendall(answer(b"", "406 Not Acceptable"))
        return True

    with HostileDicomWeb(hook=old) as server:
        assert all_of(server) == expected(server)
        asked = [request for request in server.http.requests if b" " + SERIES_PATH.encode() + b" " in request]
        assert [b'application/dicom"; transfer-syntax=*' in request for request in asked] == [True, False]
    with HostileDicomWeb(hook=old) as server:
        assert all_of(server, WadoAnyTransferSyntax=False) == expected(server)
        assert not any(b"transfer-syntax" in request for request in server.http.requests)


def test_transfer_syntaxes_that_the_listing_lacks_are_looked_up() -> None:
    with HostileDicomWeb(series=2, told_syntax="", syntax=JPEG) as server:
        listing = archive(server).list_instances(WHOLE_STUDY)
        assert {instance.transfer_syntax_uid for instance in listing.instances} == {JPEG}
        assert server.count(".*/instances/.+") == 2


def test_a_transfer_syntax_that_the_server_does_not_make() -> None:
    with HostileDicomWeb(syntax=JPEG, told_syntax=JPEG) as server:
        ours = archive(server)
        instance = ours.list_instances(WHOLE_STUDY).instances[0]
        with pytest.raises(CannotTranscode, match=JPEG), ours.open(instance, EXPLICIT):
            pass


def test_files_of_others_are_not_sent() -> None:
    """A server that answers for one instance with another one."""

    def other(server: HostileDicomWeb, connection: socket.socket, path: str, number: int) -> bool | None:
        if "?" in path:
            return None
        send_chunked(connection, MULTIPART, server.parts(["9.9.9"]))
        return True

    with HostileDicomWeb(instances=2, hook=other) as server:
        assert all(isinstance(one, ArchiveUnavailable) for one in all_of(server).values())


def test_a_server_that_is_gone_is_not_asked_for_each_instance() -> None:
    def gone(server: HostileDicomWeb, connection: socket.socket, path: str, number: int) -> bool | None:
        return None if "?" in path else False

    with HostileDicomWeb(instances=1000, hook=gone) as server:
        outcome = all_of(server)
        assert len(outcome) == 1000
        assert all(isinstance(one, ArchiveUnavailable) for one in outcome.values())
        assert len(server.paths) < 20


def test_an_answer_that_drips_comes_to_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def slow(server: HostileDicomWeb, connection: socket.socket, path: str, number: int) -> bool | None:
        if "?" in path:
            return None
        body = b"".join(server.parts(server.uids()))
        connection.sendall(answer(body, "200 OK", f"Content-Type: {MULTIPART}")[: -len(body)])
        while not over.is_set():
            drip(connection, body[:20], 0.01)
        return False

    with HostileDicomWeb(instances=2, hook=slow) as server:
        begun = time.monotonic()
        outcome = all_of(server, Timeout=0.5, Attempts=1)
        over.set()
        assert all(isinstance(one, ArchiveUnavailable) for one in outcome.values())
        assert time.monotonic() - begun < 15


def test_closing_ends_what_waits_for_the_server() -> None:
    over = threading.Event()

    def silent(server: HostileDicomWeb, connection: socket.socket, path: str, number: int) -> bool | None:
        if "?" in path:
            return None
        connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Type: {MULTIPART}\r\n\r\n".encode())
        over.wait(30)
        return False

    with HostileDicomWeb(hook=silent) as server:
        ours = archive(server, Timeout=30)
        reading = ours.read_ahead([(one, None) for one in ours.list_instances(WHOLE_STUDY).instances])
        assert not reading.wait(0.1)
        threading.Timer(0.2, reading.close).start()
        begun = time.monotonic()
        assert list(reading) == [] or time.monotonic() - begun < 10
        over.set()


def test_ten_thousand_instances_in_constant_memory() -> None:
    with HostileDicomWeb(instances=10_000, pixel_bytes=10_000) as server:
        ours = archive(server, QidoPageSize=1000)
        instances = ours.list_instances(WHOLE_STUDY).instances
        assert len(instances) == 10_000
        tracemalloc.start()
        try:
            with ours.read_ahead([(instance, None) for instance in instances]) as reading:
                count = sum(1 for fetched in reading if sum(map(len, fetched.encoded.chunks)) > 10_000)  # type: ignore[union-attr]
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert count == 10_000
        assert peak < 40_000_000  # of 100 MB


def test_instances_of_any_size_in_constant_memory() -> None:
    piece, count = bytes(1_000_000), 300

    def huge(server: HostileDicomWeb, connection: socket.socket, path: str, number: int) -> bool | None:
        if "?" in path:
            return None

        def pieces() -> Iterator[bytes]:
            yield b"--" + BOUNDARY + b"\r\n\r\n" + server.file(f"{SERIES}.1")
            for _ in range(count):
                yield piece
            yield b"\r\n--" + BOUNDARY + b"--"

        send_chunked(connection, MULTIPART, pieces())
        return True

    with HostileDicomWeb(instances=1, hook=huge) as server:
        ours = archive(server)
        (instance,) = ours.list_instances(WHOLE_STUDY).instances
        tracemalloc.start()
        try:
            with ours.open(instance) as encoded:
                size = sum(map(len, encoded.chunks))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert size == count * len(piece) + len(server.data_set(f"{SERIES}.1"))
        assert peak < 30_000_000
