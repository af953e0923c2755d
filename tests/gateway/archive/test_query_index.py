"""Queries answered from the query index are as right as Orthanc's own, whatever was done to Orthanc a moment before."""

from __future__ import annotations

import random
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from zlib import crc32

import pytest

from gateway.archive.index.changes import Changes
from gateway.archive.index.file import FILE_NAME, IndexFile, discard
from gateway.archive.index.narrowing import narrow
from gateway.archive.index.query_index import CHANGES_AT_ONCE, QueryIndex
from gateway.archive.interface import Level, Query
from gateway.archive.orthanc import Options, OrthancArchive
from gateway.archive.orthanc_candidates import FIRST_PAGE
from gateway.archive.rest import OrthancRest
from gateway.dicom.character_sets import CharacterSet
from gateway.forwarding.transports import Endpoint
from gateway.matching.attributes import Attributes
from gateway.matching.identifier import read_keys
from gateway.matching.keys import InvalidQuery
from tests.gateway.archive.test_orthanc_archive import find, keys
from tests.integration.test_find_built_in import SEED, instance, instances, query
from tests.support.data_sets import EXPLICIT, encode
from tests.support.orthanc import Orthanc
from tests.support.processes import wait_until
from tests.support.recording_http import RecordingProxy

pytestmark = pytest.mark.integration

FILL_TIMEOUT_S: Final = 20
QUERIES: Final = 200
RECYCLED_AT: Final = 20
ALL: Final = Query(Level.STUDY, keys(StudyInstanceUID=""))


class Archives:
    """An Orthanc with one archive that has a query index and one that has none."""

    def __init__(self, orthanc: Orthanc, directory: Path, *, ends_with_orthanc: bool = False) -> None:
        self.orthanc = orthanc
        self.proxy = RecordingProxy(orthanc.http_port).__enter__()
        rest = OrthancRest(Endpoint(self.proxy.url, timeout_s=20), 4)
        self.index = QueryIndex(rest, directory, ends_with_orthanc=ends_with_orthanc)
        self.indexed = OrthancArchive(rest, Options("ORTHANC"), None, self.index)
        self.plain = OrthancArchive(OrthancRest(Endpoint(orthanc.url, timeout_s=20), 4), Options("ORTHANC"))
        self.index.start()

    def wait(self) -> None:
        """Until queries are answered from the index."""
        wait_until(lambda: self.index.candidates(ALL) is not None, FILL_TIMEOUT_S, "the index is not used")

    def agree(self, wanted: Query) -> list[Attributes]:
        answers = list(self.indexed.find(wanted))
        assert in_order(answers) == in_order(self.plain.find(wanted)), wanted
        return answers

    def find(self, level: Level = Level.STUDY, *, indexed: bool = True, **values: str) -> list[Attributes]:
        """The answers, on which both agree; asserts whether they came from the index."""
        self.proxy.requests.clear()
        answers = self.agree(Query(level, keys(**values)))
        assert ("POST /tools/find" not in self.proxy.requests) == indexed, self.proxy.requests
        return answers

    def count(self, *, indexed: bool = True, **values: str) -> int:
        return len(self.find(indexed=indexed, **values))

    def close(self) -> None:
        self.proxy.__exit__()


def in_order(answers: Any) -> list[str]:
    return sorted(repr(sorted(answer.items())) for answer in answers)


def image(study: str, *, series: str = "1", number: str = "1", **values: str) -> bytes:
    required = {"PatientID": f"P-{study}", "PatientName": "Doe^John", "StudyDate": "20240101", "Modality": "CT"}
    uid = f"1.9.{crc32(study.encode())}"
    uids = {"StudyInstanceUID": uid, "SeriesInstanceUID": f"{uid}.{series}"}
    return instance(f"{uid}.{series}.{number}", **{**required, **uids, **values})


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """Overwrites, and recycles patients."""
    options = {"OverwriteInstances": True, "MaximumPatientCount": RECYCLED_AT}
    orthanc = Orthanc(tmp_path_factory.mktemp("orthanc"), verbose=False, **options)
    try:
        orthanc.start()
        for file in instances(random.Random(SEED)):
            orthanc.post("/instances", file)
        yield orthanc
    finally:
        orthanc.close()


@pytest.fixture(scope="module")
def shared(orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archives]:
    archives = Archives(orthanc, tmp_path_factory.mktemp("state"), ends_with_orthanc=True)
    yield archives
    archives.close()


@pytest.fixture
def archives(shared: Archives) -> Archives:
    """Whose index is filled and used."""
    shared.wait()
    return shared


def test_random_queries_are_answered_as_without_the_index(archives: Archives) -> None:
    chance = random.Random(SEED + 1)
    matched = 0
    archives.proxy.requests.clear()
    for _ in range(QUERIES):
        level, identifier = query(chance)
        decoded = read_keys(encode(identifier, EXPLICIT), EXPLICIT, CharacterSet(("ISO_IR 192",)))
        matched += len(archives.agree(Query(Level[level], decoded)))
    assert matched > QUERIES
    asked = archives.proxy.requests.count("POST /tools/find")
    assert asked < QUERIES / 2, "most are to be answered from the index"


@pytest.mark.parametrize(
    ("level", "values"),
    [
        (Level.STUDY, {"PatientID": "ID-1"}),
        (Level.STUDY, {"PatientID": " ID-1 \\ID-2"}),
        (Level.STUDY, {"PatientID": "ID-*"}),
        (Level.STUDY, {"PatientID": "id-1"}),
        (Level.STUDY, {"PatientName": "müller*"}),
        (Level.STUDY, {"PatientName": "Yamada^Tarou"}),
        (Level.STUDY, {"PatientName": "山田^太郎"}),
        (Level.STUDY, {"PatientName": "=山田*"}),
        (Level.STUDY, {"PatientName": "="}),
        (Level.STUDY, {"PatientName": "Doe^John^^"}),
        (Level.STUDY, {"StudyDate": "202401"}),
        (Level.STUDY, {"StudyDate": "20240102-", "StudyDescription": "HEAD"}),
        (Level.STUDY, {"StudyInstanceUID": "1.2.1.0\\1.2.2.1\\1"}),
        (Level.STUDY, {"ModalitiesInStudy": "CT\\P*"}),
        (Level.PATIENT, {"PatientName": "Doe*", "NumberOfPatientRelatedStudies": "2"}),
        (Level.SERIES, {"StudyInstanceUID": "1.2.1.0", "Modality": "CT"}),
        (Level.SERIES, {"StudyInstanceUID": "1.2.1.0", "NumberOfSeriesRelatedInstances": ""}),
        (Level.IMAGE, {"SeriesInstanceUID": "1.2.1.0.0", "SOPInstanceUID": "", "Rows": "11"}),
        (Level.IMAGE, {"StudyInstanceUID": "1.2.1.0", "SOPInstanceUID": "1.2.1.0.0.1\\1.2.1.0.1.0\\1.2.1.1.0.0"}),
        (Level.IMAGE, {"StudyInstanceUID": "1.2.1.0", "SOPInstanceUID": "*", "InstanceNumber": "1"}),
    ],
)
def test_queries_of_every_kind(archives: Archives, level: Level, values: dict[str, str]) -> None:
    archives.agree(Query(level, keys(**values)))


def test_a_query_costs_two_requests_and_one_more_a_page(archives: Archives) -> None:
    assert archives.count(PatientID="ID-1") == 2
    assert archives.proxy.requests == ["GET /changes?last", "POST /tools/bulk-content"]
    assert archives.count(PatientID="nobody") == 0
    assert archives.proxy.requests == ["GET /changes?last"]


def test_what_is_stored_is_found_at_once(archives: Archives) -> None:
    archives.orthanc.post("/instances", image("new"))
    assert archives.count(PatientID="P-new") == 1
    archives.orthanc.post("/instances", image("new", series="2", Modality="MR"))
    assert archives.count(PatientID="P-new", ModalitiesInStudy="MR") == 1
    archives.orthanc.post("/instances", image("new", series="2", number="2", Modality="MR"))
    assert archives.count(PatientID="P-new", NumberOfStudyRelatedInstances="3") == 1


def test_what_is_deleted_is_not_found_any_more(archives: Archives) -> None:
    stored = archives.orthanc.post("/instances", image("gone"))
    other = archives.orthanc.post("/instances", image("gone", series="2", Modality="MR"))
    assert archives.count(PatientID="P-gone", ModalitiesInStudy="MR") == 1
    archives.orthanc.delete(f"/series/{other['ParentSeries']}")
    assert archives.count(PatientID="P-gone", ModalitiesInStudy="MR") == 0
    assert archives.count(PatientID="P-gone", NumberOfStudyRelatedSeries="1") == 1
    archives.orthanc.delete(f"/studies/{stored['ParentStudy']}")
    assert archives.count(PatientID="P-gone") == 0


def test_what_is_stored_again_is_found_by_its_new_attributes(archives: Archives) -> None:
    for accession, name in (("A1", "First^Name"), ("A2", "Second^Name"), ("A1", "First^Name")):
        stored = archives.orthanc.post("/instances", image("again", AccessionNumber=accession, PatientName=name))
        assert archives.count(AccessionNumber=accession, PatientName=f"{name}*") == 1
        archives.orthanc.delete(f"/patients/{stored['ParentPatient']}")
    assert archives.count(PatientID="P-again") == 0


def test_what_is_overwritten_is_found_by_its_new_attributes(archives: Archives) -> None:
    archives.orthanc.post("/instances", image("over", AccessionNumber="O1"))
    assert archives.count(AccessionNumber="O1") == 1
    archives.orthanc.post("/instances", image("over", AccessionNumber="O2"))
    assert archives.count(AccessionNumber="O1") == 0
    assert archives.count(AccessionNumber="O2") == 1


@pytest.mark.parametrize("keep_source", [True, False])
def test_a_modified_study_is_found(archives: Archives, keep_source: bool) -> None:
    patient = f"P-modify-{keep_source}"
    stored = archives.orthanc.post("/instances", image(f"modify.{keep_source:d}", PatientID=patient))
    assert archives.count(PatientID=patient) == 1
    order = {"Replace": {"AccessionNumber": patient}, "KeepSource": keep_source}
    archives.orthanc.post(f"/studies/{stored['ParentStudy']}/modify", json=order)
    assert archives.count(AccessionNumber=patient) == 1
    assert archives.count(PatientID=patient) == 1 + keep_source


def test_metadata_and_attachments_are_no_matter(archives: Archives) -> None:
    stored = archives.orthanc.post("/instances", image("meta"))
    study = stored["ParentStudy"]
    archives.orthanc.put(f"/studies/{study}/metadata/1024", json="x")
    archives.orthanc.put(f"/studies/{study}/attachments/1025", json="y")
    assert archives.count(PatientID="P-meta") == 1


def test_a_recycled_patient_is_not_found_any_more(archives: Archives) -> None:
    archives.orthanc.post("/instances", image("recycled"))
    assert archives.count(PatientID="P-recycled") == 1
    for number in range(RECYCLED_AT):
        archives.orthanc.post("/instances", image(f"recycling.{number}"))
        assert archives.count(PatientID=f"P-recycling.{number}") == 1
    assert archives.count(PatientID="P-recycled") == 0


def test_an_emptied_log_puts_the_index_in_doubt_until_it_is_filled_again(archives: Archives) -> None:
    archives.orthanc.delete("/changes")
    assert archives.count(PatientID="P-cleared", indexed=False) == 0
    archives.orthanc.post("/instances", image("cleared"))
    archives.orthanc.delete("/changes")
    archives.orthanc.post("/instances", image("cleared.2"))
    assert archives.count(PatientID="P-cleared", indexed=False) == 1
    archives.wait()
    assert archives.count(PatientID="P-cleared") == 1
    assert archives.count(PatientID="P-cleared.2") == 1


def test_more_changes_than_one_query_reads_are_caught_up_with(archives: Archives) -> None:
    archives.orthanc.post("/instances", image("many"))
    for number in range(CHANGES_AT_ONCE // 2 + 10):
        archives.orthanc.put(f"/patients/{archives.orthanc.get('/patients')[0]}/metadata/1024", json=str(number))
        archives.orthanc.put(f"/patients/{archives.orthanc.get('/patients')[0]}/metadata/1025", json=str(number))
    assert archives.count(PatientID="P-many", indexed=False) == 1
    archives.wait()
    assert archives.count(PatientID="P-many") == 1


def test_the_answers_are_those_of_now_after_reconstruction(archives: Archives) -> None:
    """Orthanc tells nobody of it: by a changed attribute a study is found once the index has been filled anew."""
    first = archives.orthanc.post("/instances", image("rebuilt", number="1", AccessionNumber="R1"))
    second = archives.orthanc.post("/instances", image("rebuilt", number="2", AccessionNumber="R2"))
    study = first["ParentStudy"]
    assert archives.count(AccessionNumber="R1") == 1
    for stored in (second, first, second):
        archives.orthanc.post(f"/instances/{stored['ID']}/reconstruct")
    assert archives.orthanc.get(f"/studies/{study}")["MainDicomTags"]["AccessionNumber"] == "R2"
    assert archives.count(AccessionNumber="R1") == 0
    assert archives.find(PatientID="P-rebuilt", AccessionNumber="")[0][0x00080050].value == "R2"


def test_two_processes_share_the_file(archives: Archives, orthanc: Orthanc, tmp_path: Path) -> None:
    """One that is a step behind does not take the other's progress for an older database."""
    pair = [Archives(orthanc, tmp_path) for _ in range(2)]
    for each in pair:
        each.wait()
    for number in range(20):
        orthanc.post("/instances", image(f"shared.{number}"))
        threads = [threading.Thread(target=each.find, kwargs={"PatientID": f"P-shared.{number}"}) for each in pair]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(each.count(PatientID=f"P-shared.{number}") == 1 for each in pair)
    for each in pair:
        each.close()


def test_a_process_that_asked_before_another_made_progress_has_no_doubt(orthanc: Orthanc, tmp_path: Path) -> None:
    slow, fast = (Archives(orthanc, tmp_path) for _ in range(2))
    for each in (slow, fast):
        each.wait()
    before = Changes(OrthancRest(Endpoint(orthanc.url), 1)).last()
    orthanc.post("/instances", image("progress"))
    assert fast.count(PatientID="P-progress") == 1
    narrowing = narrow(Query(Level.STUDY, keys(PatientID="P-progress")))
    assert before is not None
    assert narrowing is not None
    assert len(slow.index._find(narrowing, before) or []) == 1
    for each in (slow, fast):
        each.close()


def test_without_a_usable_file_orthanc_is_asked(orthanc: Orthanc, tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"no database" * 1000)
    archives = Archives(orthanc, tmp_path)
    orthanc.post("/instances", image("nofile"))
    assert archives.count(PatientID="P-nofile", indexed=False) == 1
    discard(tmp_path)
    archives.wait()
    assert archives.count(PatientID="P-nofile") == 1
    archives.close()


def test_a_file_that_is_half_filled_is_not_used(orthanc: Orthanc, tmp_path: Path) -> None:
    """As after kill -9 while it was being filled."""
    archives = Archives(orthanc, tmp_path)
    archives.wait()
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        connection.execute("DELETE FROM filled")
        connection.execute("DELETE FROM study")
    orthanc.post("/instances", image("half"))
    assert archives.count(PatientID="P-half", indexed=False) == 1
    archives.wait()
    assert archives.count(PatientID="P-half") == 1
    archives.close()


class Restarted:
    """An Orthanc of one's own that is stopped, changed and started again."""

    def __init__(self, directory: Path) -> None:
        self.orthanc = Orthanc(directory / "orthanc", verbose=False)
        self.folder = self.orthanc.directory / "orthanc"
        self.backup = directory / "backup"
        self.orthanc.start()
        self.orthanc.post("/instances", image("old"))
        stored = self.orthanc.post("/instances", image("old.2", AccessionNumber="before"))
        self.study = stored["ParentStudy"]
        (directory / "state").mkdir()
        self.archives = Archives(self.orthanc, directory / "state")
        self.archives.wait()

    def save(self) -> None:
        self.orthanc.stop()
        shutil.copytree(self.folder, self.backup)
        self.orthanc.start()

    def restore(self) -> None:
        self.orthanc.stop()
        shutil.rmtree(self.folder)
        if self.backup.exists():
            shutil.copytree(self.backup, self.folder)
        self.orthanc.start()


@pytest.fixture
def restarted(tmp_path: Path) -> Iterator[Restarted]:
    restarted = Restarted(tmp_path)
    yield restarted
    restarted.archives.close()
    restarted.orthanc.close()


@pytest.mark.parametrize("more", [0, 6])
def test_a_restored_database(restarted: Restarted, more: int) -> None:
    """What was deleted since the backup is there again, with its old attributes; what was stored since is not."""
    restarted.save()
    orthanc, archives = restarted.orthanc, restarted.archives
    orthanc.delete(f"/studies/{restarted.study}")
    orthanc.post("/instances", image("old.2", AccessionNumber="after"))
    orthanc.post("/instances", image("lost"))
    assert archives.count(AccessionNumber="after") == 1
    restarted.restore()
    for number in range(more):  # with six its log is longer than the other ever was
        orthanc.post("/instances", image(f"restored.{number}"))
    assert archives.count(AccessionNumber="before", indexed=False) == 1
    assert archives.agree(Query(Level.STUDY, keys(AccessionNumber="after"))) == []
    for number in range(more):
        assert len(archives.agree(Query(Level.STUDY, keys(PatientID=f"P-restored.{number}")))) == 1
    archives.wait()
    assert archives.count(AccessionNumber="before") == 1
    assert archives.count(PatientID="P-lost") == 0


def test_another_database(restarted: Restarted) -> None:
    orthanc, archives = restarted.orthanc, restarted.archives
    restarted.restore()  # there is no backup: it is empty
    assert archives.count(PatientID="P-old", indexed=False) == 0
    for number in range(8):
        orthanc.post("/instances", image(f"other.{number}"))
    assert archives.count(PatientID="P-other.0", indexed=False) == 1
    archives.wait()
    assert archives.count(PatientID="P-other.7") == 1


def test_an_orthanc_that_only_restarts_is_trusted(restarted: Restarted) -> None:
    restarted.orthanc.stop()
    restarted.orthanc.start()
    assert restarted.archives.count(AccessionNumber="before") == 1
    restarted.orthanc.post("/instances", image("later"))
    assert restarted.archives.count(PatientID="P-later") == 1


def test_the_newest_deleted_is_doubt_where_orthanc_may_have_another_database(restarted: Restarted) -> None:
    restarted.orthanc.delete(f"/studies/{restarted.study}")
    assert restarted.archives.count(AccessionNumber="before", indexed=False) == 0
    restarted.archives.wait()
    assert restarted.archives.count(PatientID="P-old") == 1


def test_only_one_process_fills_the_index(orthanc: Orthanc, tmp_path: Path) -> None:
    both = [Archives(orthanc, tmp_path) for _ in range(2)]
    for each in both:
        each.wait()
    assert sum(each.proxy.requests.count("GET /studies") for each in both) <= 2
    file = IndexFile(tmp_path / FILE_NAME)
    assert file.counts()["studies"] == orthanc.statistics()["CountStudies"]
    file.close()
    for each in both:
        each.close()


def test_an_invalid_query_is_refused_as_without_the_index(archives: Archives) -> None:
    with pytest.raises(InvalidQuery):
        find(archives.indexed, Level.STUDY, StudyInstanceUID="1.2*")


def test_candidates_that_are_gone_hide_none_of_the_pages_after_them(orthanc: Orthanc, tmp_path: Path) -> None:
    archives = Archives(orthanc, tmp_path, ends_with_orthanc=True)
    stored = [orthanc.post("/instances", image("pages", series=str(number))) for number in range(3 * FIRST_PAGE)]
    archives.wait()
    for one in stored[::2]:
        orthanc.delete(f"/series/{one['ParentSeries']}")
    found = archives.find(Level.SERIES, PatientID="P-pages", SeriesInstanceUID="")
    assert len(found) == len(stored) // 2
    assert archives.proxy.requests.count("POST /tools/bulk-content") == 3  # pages of 50 and 100, the study
    archives.close()
