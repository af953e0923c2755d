"""Orthanc's changes: where to begin, how far they were read, and answers that Orthanc should not give."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.archive.interface import ArchiveUnavailable
from gateway.archive.rest import OrthancRest
from gateway.database import Database
from gateway.forwarding.transports import Endpoint
from tests.support.scripted_http import ScriptedHttp, answer
from tests.worklist.performed.conftest import Department
from worklist.items import Status
from worklist.performed import stable_studies
from worklist.performed.stable_studies import StableStudies


class ScriptedOrthanc:
    """An Orthanc with the changes and studies that a test chooses."""

    def __init__(self) -> None:
        self.changes: list[tuple[int, str, str]] = []
        self.studies: dict[str, Any] = {}
        self.asked: list[str] = []

    def add_stable(self, number: int, study: int, **changed: Any) -> None:
        self.changes.append((number, "StableStudy", f"id{study}"))
        self.studies[f"id{study}"] = {
            "MainDicomTags": {"StudyInstanceUID": f"2.25.{1000 + study}"},
            "PatientMainDicomTags": {"PatientID": f"P{study}"},
            **changed,
        }

    def answer(self, connection: socket.socket, path: str, _number: int) -> bool:
        self.asked.append(path)
        content = self._content(path)
        status = "404 Not Found" if content is None else "200 OK"
        connection.sendall(answer(json.dumps(content).encode(), status))
        return True

    def _content(self, path: str) -> Any:
        if path == "/changes?last":
            return self._page(self.changes[-1:], True)
        if path.startswith("/changes?since="):
            since, limit = (int(part.partition("=")[2]) for part in path.partition("?")[2].split("&"))
            new = [change for change in self.changes if change[0] > since]
            return self._page(new[:limit], len(new) <= limit)
        study = self.studies.get(path.split("/")[2])
        return study if study is None or not path.endswith("/series") else [{"MainDicomTags": {"Modality": "CT"}}]

    @staticmethod
    def _page(changes: list[tuple[int, str, str]], done: bool) -> dict[str, Any]:
        entries = [{"Seq": n, "ChangeType": kind, "ID": name, "Date": "20240102T030405"} for n, kind, name in changes]
        return {"Changes": entries, "Done": done, "Last": changes[-1][0] if changes else 0}


@pytest.fixture
def orthanc() -> ScriptedOrthanc:
    return ScriptedOrthanc()


@pytest.fixture
def url(orthanc: ScriptedOrthanc) -> Iterator[str]:
    with ScriptedHttp(orthanc.answer) as server:
        yield server.url


def studies_of(database: Database, url: str) -> StableStudies:
    """As a process has them that has just been started."""
    rest = OrthancRest(Endpoint(url=url, timeout_s=30), connections=1)
    return StableStudies(database, rest, "gateway", starts=True, completes=True)


def test_what_was_before_the_first_look_says_nothing_and_nothing_later_is_missed(
    department: Department, database: Database, orthanc: ScriptedOrthanc, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stable_studies, "PAGE_CHANGES", 2)
    items = [department.item(number) for number in range(1, 6)]
    orthanc.add_stable(7, 1)
    studies_of(database, url).look()
    orthanc.changes.append((8, "NewStudy", "id2"))
    for study in (2, 3, 4):
        orthanc.add_stable(7 + study, study)
    del orthanc.studies["id3"]
    studies_of(database, url).look()
    expected = [Status.SCHEDULED, Status.COMPLETED, Status.SCHEDULED, Status.COMPLETED, Status.SCHEDULED]
    assert department.statuses(*items) == expected
    orthanc.asked.clear()
    studies_of(database, url).look()
    assert orthanc.asked == ["/changes?last", "/changes?since=11&limit=2"]


def test_another_database_of_orthancs_is_read_from_its_end(
    department: Department, database: Database, orthanc: ScriptedOrthanc, url: str
) -> None:
    item, later = department.item(1), department.item(2)
    orthanc.changes.append((1000, "NewStudy", "id9"))
    studies_of(database, url).look()
    orthanc.changes.clear()
    orthanc.add_stable(5, 1)
    studies_of(database, url).look()
    orthanc.add_stable(6, 2)
    studies_of(database, url).look()
    assert department.statuses(item, later) == [Status.SCHEDULED, Status.COMPLETED]


@pytest.mark.parametrize(
    "wrong",
    [{"MainDicomTags": None}, {"MainDicomTags": []}, {"PatientMainDicomTags": 5}],
    ids=["null", "list", "number"],
)
def test_what_cannot_be_read_is_read_again(
    department: Department, database: Database, orthanc: ScriptedOrthanc, url: str, wrong: dict[str, Any]
) -> None:
    item = department.item(1)
    studies_of(database, url).look()
    orthanc.add_stable(1, 1, **wrong)
    with pytest.raises(ArchiveUnavailable, match="id1"):
        studies_of(database, url).look()
    assert department.statuses(item) == [Status.SCHEDULED]
    orthanc.changes.clear()
    orthanc.add_stable(1, 1)
    studies_of(database, url).look()
    assert department.statuses(item) == [Status.COMPLETED]
