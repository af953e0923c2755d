"""Whole series of a DICOMweb server, sent before their instances are listed; and what becomes of the rest."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from gateway.archive.dicomweb import DicomWebArchive
from gateway.archive.interface import EncodedInstance, InstanceReference, Level, Listing, Selection, WholeSeries
from gateway.dicomweb import client as client_module
from gateway.dicomweb.client import DicomWebClient
from gateway.moves.interface import Acceptance, Outcome, SubOperation
from gateway.moves.series_driver import SeriesDriver
from gateway.options.dicomweb import DicomWebServerSection
from tests.support.data_sets import PIXEL_DATA, element
from tests.support.hostile_dicomweb import (
    CT,
    JPEG,
    MULTIPART,
    STUDY,
    HostileDicomWeb,
    part10,
    send_chunked,
)
from tests.support.rawdicom import image
from tests.support.scripted_http import answer

SERIES: Final = f"{STUDY}.1"
SERIES_PATH: Final = f"/studies/{STUDY}/series/{SERIES}"
WHOLE_STUDY: Final = Selection(Level.STUDY, {0x0020000D: (STUDY,)})
DEADLINE_S: Final = 20

Hooked = Callable[[HostileDicomWeb, socket.socket, str, int], bool | None]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delays that are right for production are not waited for."""
    monkeypatch.setattr(client_module, "FIRST_RETRY_DELAY_S", 0.01)


class Taker:
    """A Target that takes all but the SOP classes `refused`."""

    def __init__(self, refused: str = "") -> None:
        self.refused = refused
        self.stored: dict[str, bytes] = {}

    def begin(self, instances: Sequence[InstanceReference]) -> list[Acceptance]:
        return [Acceptance(refusal="no" if one.sop_class_uid == self.refused else "") for one in instances]

    def store(
        self, one: InstanceReference, encoded: EncodedInstance, on_sent: Callable[[], None] | None = None
    ) -> SubOperation:
        data = b"".join(encoded.chunks)
        assert one.sop_instance_uid not in self.stored
        self.stored[one.sop_instance_uid] = data
        if on_sent is not None:
            on_sent()
        return SubOperation(Outcome.COMPLETED, one.sop_instance_uid)

    def waiting(self) -> None:
        """Nobody waits."""


def archive(server: HostileDicomWeb, **options: Any) -> DicomWebArchive:
    section = DicomWebServerSection.model_validate({"Url": server.url, "Timeout": 2, "Attempts": 2, **options})
    return DicomWebArchive(DicomWebClient("SERVER", section, Path))


def counted(ours: DicomWebArchive) -> WholeSeries:
    whole = ours.select(WHOLE_STUDY)
    assert isinstance(whole, WholeSeries)
    return whole


def moved(server: HostileDicomWeb, refused: str = "") -> tuple[Taker, list[SubOperation], int]:
    """What the target has, the sub-operations, and how many were announced."""
    ours, target = archive(server), Taker(refused)
    driver = SeriesDriver(ours, WHOLE_STUDY, counted(ours), target)
    try:
        announced = total = driver.size()
        done: list[SubOperation] = []
        while len(done) < total:
            done.append(driver.apply())
            total += done[-1].more
        return target, done, announced
    finally:
        driver.free()


def expected(server: HostileDicomWeb) -> dict[str, bytes]:
    return {uid: server.data_set(uid) for uid in server.uids()}


def failures(done: Sequence[SubOperation]) -> dict[str, str]:
    return {one.sop_instance_uid: one.reason for one in done if one.outcome is not Outcome.COMPLETED}


def lists(server: HostileDicomWeb) -> int:
    """How many searches wanted more than a sample."""
    return sum(1 for path in server.paths if "/instances?" in path and "limit=1&" not in f"{path}&")


def series_answered_with(files: Callable[[HostileDicomWeb], list[bytes]]) -> Hooked:
    """A server that answers for the series with these files, and otherwise behaves."""

    def hook(server: HostileDicomWeb, connection: socket.socket, path: str, number: int) -> bool | None:
        if path != SERIES_PATH:
            return None
        head = b"\r\n--" + MULTIPART.rpartition('boundary="')[2][:-1].encode()
        parts = [head + b"\r\n\r\n" + file for file in files(server)]
        send_chunked(connection, MULTIPART, iter([*parts, head + b"--"]))
        return True

    return hook


def test_whole_series_are_sent_without_a_list() -> None:
    with HostileDicomWeb(series=3, counts=True) as server:
        target, done, announced = moved(server)
        assert target.stored == expected(server)
        assert (announced, len(done), failures(done)) == (30, 30, {})
        assert lists(server) == 0
        assert server.count(f"/studies/{STUDY}/series/[^/]+") == 3


@pytest.mark.parametrize(
    "habits",
    [{}, {"counts": True, "miscounts": -10}, {"counts": True, "lacks": frozenset({f"/studies/{STUDY}/series"})}],
    ids=["tells no count", "counts none", "has no such search"],
)
def test_what_is_not_counted_is_listed(habits: dict[str, Any]) -> None:
    with HostileDicomWeb(**habits) as server:
        selected = archive(server).select(WHOLE_STUDY)
        assert isinstance(selected, Listing)
        assert len(selected.instances) == 10


def test_single_instances_are_listed() -> None:
    with HostileDicomWeb(counts=True) as server:
        one = Selection(Level.IMAGE, {0x0020000D: (STUDY,), 0x00080018: (f"{SERIES}.2",)})
        selected = archive(server).select(one)
        assert isinstance(selected, Listing)
        assert [each.sop_instance_uid for each in selected.instances] == [f"{SERIES}.2"]


def test_a_transfer_syntax_that_is_not_told_is_looked_up() -> None:
    with HostileDicomWeb(series=2, counts=True, told_syntax="", syntax=JPEG) as server:
        samples = [series.sample for series in counted(archive(server)).series]
        assert [(one.sop_class_uid, one.transfer_syntax_uid) for one in samples] == [(CT, JPEG)] * 2
        assert moved(server)[0].stored == expected(server)
        assert lists(server) == 0


def test_what_comes_beyond_an_old_count_is_sent_too() -> None:
    with HostileDicomWeb(counts=True, miscounts=-3) as server:
        target, done, announced = moved(server)
        assert target.stored == expected(server)
        assert (announced, sum(one.more for one in done), failures(done)) == (7, 3, {})


def test_what_is_beyond_an_old_count_and_has_to_be_listed_is_sent_too() -> None:
    gone = frozenset({f"{SERIES}.9", f"{SERIES}.10"})
    with HostileDicomWeb(counts=True, miscounts=-1, leaves_out=gone) as server:
        hook = series_answered_with(lambda s: [s.file(uid) for uid in s.uids() if uid not in gone])
        server.leaves_out, server.hook = frozenset(), hook
        target, done, announced = moved(server)
        assert target.stored == expected(server)
        assert (announced, sum(one.more for one in done), failures(done)) == (9, 1, {})


def test_what_is_counted_and_not_there_has_failed() -> None:
    with HostileDicomWeb(counts=True, miscounts=2) as server:
        target, done, announced = moved(server)
        assert target.stored == expected(server)
        assert (announced, len(done)) == (12, 12)
        assert failures(done) == {"": "the archive counts 12 instances, and lists 10"}


def test_when_the_list_fails_so_does_what_is_missing() -> None:
    def no_list(server: HostileDicomWeb, connection: socket.socket, path: str, number: int) -> bool | None:
        if "/instances?" not in path or "limit=1" in path.split("&"):
            return None
        connection.sendall(answer(b"", "500 Internal Server Error"))
        return True

    with HostileDicomWeb(counts=True, leaves_out=frozenset({f"{SERIES}.4"}), hook=no_list) as server:
        target, done, _announced = moved(server)
        assert (len(target.stored), len(done)) == (9, 10)
        (reason,) = failures(done).values()
        assert reason.startswith("SERVER: HTTP 500")


def test_an_answer_that_breaks_off_is_continued() -> None:
    cuts = iter([True])

    def cut(server: HostileDicomWeb, connection: socket.socket, path: str, number: int) -> bool | None:
        if path != SERIES_PATH or not next(cuts, False):
            return None
        body = b"".join(server.parts(server.uids()[:5]))
        connection.sendall(answer(body, "200 OK", f"Content-Type: {MULTIPART}")[:-700])
        return False

    with HostileDicomWeb(series=2, counts=True, hook=cut) as server:
        target, done, _announced = moved(server)
        assert target.stored == expected(server)
        assert failures(done) == {}


@pytest.mark.parametrize(
    "files",
    [
        lambda server: [part10("9.9.9", image("9.9.9", study="9", series="9.1"))],
        lambda server: [server.file(server.uids()[0])] * 2,
        lambda server: [b"no file at all" * 100],
        lambda server: [server.file("../../1")],
        lambda server: [],
    ],
    ids=["of another study", "twice", "no files", "no UID", "nothing"],
)
def test_what_is_not_of_the_series_is_not_sent(files: Callable[[HostileDicomWeb], list[bytes]]) -> None:
    def hook(server: HostileDicomWeb, connection: socket.socket, path: str, number: int) -> bool | None:
        if server.count(SERIES_PATH) > 1:
            return None
        return series_answered_with(files)(server, connection, path, number)

    with HostileDicomWeb(counts=True, hook=hook) as server:
        target, done, _announced = moved(server)
        assert target.stored == expected(server)
        assert (len(done), failures(done)) == (10, {})


def test_instances_of_other_kinds_wait_for_the_list() -> None:
    """What the association was opened for is that of the sample."""
    with HostileDicomWeb(counts=True) as server:
        odd = server.uids()[3]
        other = part10(odd, server.data_set(odd), JPEG)
        server.hook = series_answered_with(lambda s: [other if uid == odd else s.file(uid) for uid in s.uids()])
        target, done, _announced = moved(server)
        assert target.stored == expected(server)
        assert list(target.stored)[-1] == odd
        assert (len(done), failures(done)) == (10, {})


def test_what_the_target_does_not_take_fails_by_name() -> None:
    with HostileDicomWeb(counts=True) as server:
        target, done, announced = moved(server, refused=CT)
        assert (target.stored, announced) == ({}, 10)
        assert failures(done) == dict.fromkeys(server.uids(), "no")
        assert server.count(SERIES_PATH) == 0


def test_a_series_is_found_in_any_encoding_or_listed() -> None:
    """Far behind a long element, too; big endian is left to the list."""
    far = element(0x00200011, "IS", b"1 ")

    def file(uid: str) -> bytes:
        long = element(0x00091001, "UN", bytes(20_000))
        start, _mark, end = image(uid, study=STUDY, series=SERIES).partition(b"\x20\x00\x0d\x00")
        return part10(uid, start + long + b"\x20\x00\x0d\x00" + end + far + element(PIXEL_DATA, "OW", b"12"))

    with HostileDicomWeb(counts=True, hook=series_answered_with(lambda s: [file(uid) for uid in s.uids()])) as server:
        target, done, _announced = moved(server)
        assert set(target.stored) == set(server.uids())
        assert failures(done) == {}
        assert lists(server) == 0


def test_a_server_that_is_gone_is_not_asked_for_each_series() -> None:
    def gone(server: HostileDicomWeb, connection: socket.socket, path: str, number: int) -> bool | None:
        return None if "?" in path else False

    with HostileDicomWeb(series=50, instances=20, counts=True, hook=gone) as server:
        target, done, _announced = moved(server)
        assert (target.stored, len(failures(done))) == ({}, 1000)
        assert server.count(f"/studies/{STUDY}/series/[^/]+") < 10


def test_closing_ends_what_waits_for_the_server() -> None:
    over = threading.Event()

    def silent(server: HostileDicomWeb, connection: socket.socket, path: str, number: int) -> bool | None:
        if "?" in path:
            return None
        connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Type: {MULTIPART}\r\n\r\n".encode())
        over.wait(DEADLINE_S)
        return False

    with HostileDicomWeb(counts=True, hook=silent) as server:
        whole = counted(archive(server, Timeout=DEADLINE_S))
        reading = whole.read(whole.series)
        assert not reading.wait(0.1)
        threading.Timer(0.2, reading.close).start()
        assert list(reading) == []
        over.set()
