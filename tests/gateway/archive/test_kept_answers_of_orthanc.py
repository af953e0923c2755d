"""Answers that are kept are those that Orthanc would give now, whatever was done to it a moment before."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from gateway.archive.interface import Level, Query
from gateway.archive.kept_answers import KeptAnswers
from gateway.archive.orthanc import Options, OrthancArchive
from gateway.archive.rest import OrthancRest
from gateway.archive.unchanged import Files, database_files
from gateway.dicom.character_sets import CharacterSet
from gateway.forwarding.transports import Endpoint
from gateway.matching.answers import AnswerEncoder
from tests.gateway.archive.test_orthanc_archive import keys
from tests.gateway.archive.test_query_index import image
from tests.support.data_sets import EXPLICIT
from tests.support.orthanc import Orthanc
from tests.support.processes import wait_until
from tests.support.recording_http import RecordingProxy

pytestmark = pytest.mark.integration

SEED: Final = 20261121
STEPS: Final = 40
TIMEOUT_S: Final = 20
COUNTS: Final = {"NumberOfStudyRelatedSeries": "", "NumberOfStudyRelatedInstances": "", "ModalitiesInStudy": ""}
QUERIES: Final = (
    Query(Level.PATIENT, keys(PatientID="", PatientName="", NumberOfPatientRelatedInstances="")),
    Query(Level.STUDY, keys(PatientID="", AccessionNumber="", StudyInstanceUID="", **COUNTS)),
    Query(Level.STUDY, keys(StudyDate="20240101", AccessionNumber="A*", StudyDescription="", SOPClassesInStudy="")),
    Query(Level.SERIES, keys(PatientID="", SeriesInstanceUID="", Modality="", NumberOfSeriesRelatedInstances="")),
    Query(Level.IMAGE, keys(PatientID="P-1", SOPInstanceUID="", AccessionNumber="", InstanceNumber="", Rows="")),
)


class Pair:
    """An archive that keeps answers, and one that does not, of one Orthanc."""

    def __init__(self, orthanc: Orthanc) -> None:
        self.orthanc = orthanc
        self.proxy = RecordingProxy(orthanc.http_port).__enter__()
        kept = KeptAnswers(Files(database_files(orthanc.pid)).state)
        rest = OrthancRest(Endpoint(self.proxy.url, timeout_s=20), 4)
        self._keeping = OrthancArchive(rest, Options("ORTHANC"), kept=kept)
        self._plain = OrthancArchive(OrthancRest(Endpoint(orthanc.url, timeout_s=20), 4), Options("ORTHANC"))

    def ask(self, query: Query) -> list[bytes]:
        return _answers(self._keeping, query)

    def agree(self, query: Query) -> None:
        assert self.ask(query) == _answers(self._plain, query)

    def is_kept(self, query: Query) -> bool:
        self.proxy.requests.clear()
        self.agree(query)
        return not self.proxy.requests

    def wait_until_kept(self, query: Query) -> None:
        wait_until(lambda: self.is_kept(query), TIMEOUT_S, "the answers are not kept")


def _answers(archive: OrthancArchive, query: Query) -> list[bytes]:
    encoder = AnswerEncoder(query.keys, EXPLICIT, CharacterSet(("ISO_IR 192",)))
    return sorted(archive.answers(query, encoder))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    orthanc = Orthanc(tmp_path_factory.mktemp("orthanc"), verbose=False, OverwriteInstances=True)
    try:
        orthanc.start()
        pair = Pair(orthanc)
        yield pair
        pair.proxy.__exit__()
    finally:
        orthanc.close()


def store(pair: Pair, chance: random.Random) -> None:
    """A new instance, of what is there or not; or an old one with other attributes."""
    study = str(chance.randrange(3))
    number = {"series": str(chance.randrange(3)), "number": str(chance.randrange(3))}
    values = {"AccessionNumber": f"A{chance.randrange(4)}", "Modality": chance.choice(["CT", "MR"])}
    pair.orthanc.post("/instances", image(study, **number, Rows=chance.randrange(4), **values))


def delete(pair: Pair, chance: random.Random) -> None:
    some = any_resource(pair, chance, "patients", "studies", "series", "instances", "instances", "instances")
    if some is not None:
        pair.orthanc.delete(some)


def modify(pair: Pair, chance: random.Random) -> None:
    some = any_resource(pair, chance, "studies", "studies", "series")
    order: dict[str, Any] = {"Replace": {"AccessionNumber": f"A{chance.randrange(4)}"}, "Force": True}
    if some is not None and "studies" in some:
        pair.orthanc.post(f"{some}/modify", json=order | {"KeepSource": chance.random() < 0.5})
    elif some is not None:
        pair.orthanc.post(f"{some}/modify", json={"Replace": {"SeriesDescription": "x"}})


def anonymize(pair: Pair, chance: random.Random) -> None:
    some = any_resource(pair, chance, "patients", "studies", "series")
    if some is not None:
        pair.orthanc.post(f"{some}/anonymize", json={"KeepSource": chance.random() < 0.5})


def reconstruct(pair: Pair, chance: random.Random) -> None:
    """Of one instance: the study then has that one's attributes."""
    some = any_resource(pair, chance, "instances", "instances", "studies")
    if some is not None:
        pair.orthanc.post(f"{some}/reconstruct")


def edit_metadata(pair: Pair, chance: random.Random) -> None:
    some = any_resource(pair, chance, "patients", "studies", "series", "instances")
    if some is not None:
        pair.orthanc.put(f"{some}/metadata/{1024 + chance.randrange(2)}", json="x")


def any_resource(pair: Pair, chance: random.Random, *levels: str) -> str | None:
    level = chance.choice(levels)
    found = sorted(pair.orthanc.get(f"/{level}"))
    return f"/{level}/{chance.choice(found)}" if found else None


CHANGES: Final[tuple[Callable[[Pair, random.Random], None], ...]] = (
    *(store, store, store, delete, delete),
    *(modify, anonymize, reconstruct, reconstruct, edit_metadata),
)


def test_no_answer_is_older_than_the_last_change(pair: Pair) -> None:
    """Each change comes when all answers are kept, or one of several that follow at once."""
    chance = random.Random(SEED)
    for study in "012":
        for number in "012":
            pair.orthanc.post("/instances", image(study, number=number, AccessionNumber=f"A{number}"))
    for _ in range(STEPS):
        if chance.random() < 0.7:
            for query in QUERIES:
                pair.wait_until_kept(query)
        chance.choice(CHANGES)(pair, chance)
        for query in chance.sample(QUERIES, 2):
            pair.agree(query)


@pytest.mark.parametrize("change", list(dict.fromkeys(CHANGES)))
def test_each_change_ends_what_is_kept(pair: Pair, change: Callable[[Pair, random.Random], None]) -> None:
    chance = random.Random(SEED)
    pair.orthanc.post("/instances", image("0"))
    for query in QUERIES:
        pair.wait_until_kept(query)
    change(pair, chance)
    assert not any(pair.is_kept(query) for query in QUERIES)


def test_what_others_only_read_ends_nothing(pair: Pair) -> None:
    stored = pair.orthanc.post("/instances", image("0"))
    query = QUERIES[1]

    def outlasts_reading() -> bool:
        pair.wait_until_kept(query)
        for path in ("/statistics", "/changes", f"/studies/{stored['ParentStudy']}", f"/instances/{stored['ID']}/tags"):
            pair.orthanc.get(path)
        pair.orthanc.file(stored["ID"])
        return pair.is_kept(query)

    # Orthanc itself writes now and then
    wait_until(outlasts_reading, TIMEOUT_S, "reading ends what is kept")


def test_an_emptied_orthanc_has_nothing(pair: Pair) -> None:
    pair.orthanc.post("/instances", image("0"))
    for query in QUERIES:
        pair.wait_until_kept(query)
    for patient in pair.orthanc.get("/patients"):
        pair.orthanc.delete(f"/patients/{patient}")
    assert all(pair.ask(query) == [] for query in QUERIES)
