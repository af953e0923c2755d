"""C-FIND in an archive of many studies."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.archives import (
    LARGE_SERIES_IMAGES,
    SERIES_PER_STUDY,
    QueryArchive,
    accession_number,
    family_name,
    patient_id,
    series_uid,
    study_uid,
)
from bench.case import Case, Material, Run
from bench.client import STUDY_ROOT_FIND
from bench.encoding import encode
from bench.figures import Figures
from bench.find_client import Asking, Question, ask, ask_and_measure
from bench.peers import VARIANTS, OrthancPeer, Setting
from bench.processes import wait_until_quiet

DIFFERENT_QUESTIONS = 50
QUIET_TIMEOUT_S = 120.0
# What a workstation shows of a study, a series, an image; empty in a query, so that the answer has them.
# fmt: off
STUDY_COLUMNS = (
    "StudyDate", "StudyTime", "AccessionNumber", "PatientName", "PatientID", "PatientBirthDate", "PatientSex",
    "ReferringPhysicianName", "StudyDescription", "StudyInstanceUID", "StudyID",
)
COUNTED_COLUMNS = (*STUDY_COLUMNS, "ModalitiesInStudy", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances")
SERIES_COLUMNS = (
    "Modality", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "SeriesDate", "BodyPartExamined",
)
# fmt: on
IMAGE_COLUMNS = ("SOPClassUID", "SOPInstanceUID", "InstanceNumber")

Ask = Callable[[QueryArchive, int], Question]


def _question(level: str, columns: Sequence[str], keys: Mapping[str, str], matches: int) -> Question:
    return Question(encode({**dict.fromkeys(columns, ""), **keys, "QueryRetrieveLevel": level}), matches)


def _patient(archive: QueryArchive, number: int) -> Question:
    return _question("STUDY", STUDY_COLUMNS, {"PatientID": patient_id(number)}, 1)


def _accession(archive: QueryArchive, number: int) -> Question:
    return _question("STUDY", STUDY_COLUMNS, {"AccessionNumber": accession_number(number)}, 1)


def _day(archive: QueryArchive, number: int) -> Question:
    day = archive.day(number)
    return _question("STUDY", STUDY_COLUMNS, {"StudyDate": day}, archive.studies_by_day[day])


def _counts(archive: QueryArchive, number: int) -> Question:
    day = archive.day(number)
    return _question("STUDY", COUNTED_COLUMNS, {"StudyDate": day}, archive.studies_by_day[day])


def _name(archive: QueryArchive, number: int) -> Question:
    family = family_name(number)
    keys = {"PatientName": f"{family[:3]}*"}
    return _question("STUDY", STUDY_COLUMNS, keys, archive.studies_by_family_name[family])


def _series(archive: QueryArchive, number: int) -> Question:
    matches = SERIES_PER_STUDY + (number == 0)
    return _question("SERIES", SERIES_COLUMNS, {"StudyInstanceUID": study_uid(number)}, matches)


def _images(archive: QueryArchive, number: int) -> Question:
    keys = {"StudyInstanceUID": study_uid(0), "SeriesInstanceUID": series_uid(0, SERIES_PER_STUDY)}
    return _question("IMAGE", IMAGE_COLUMNS, keys, LARGE_SERIES_IMAGES)


def _all(archive: QueryArchive, number: int) -> Question:
    return _question("STUDY", STUDY_COLUMNS, {}, archive.studies)


QUERIES: dict[str, tuple[Ask, ...]] = {
    "patient": (_patient,),
    "accession": (_accession,),
    "day": (_day,),
    "counts": (_counts,),
    "name": (_name,),
    "series": (_series,),
    "images": (_images,),
    "all": (_all,),
    "mix": (_patient, _accession, _series, _day),
}


@dataclass(frozen=True)
class FindCase:
    """Clients that ask one kind of query, each on one association, about patients in no order.

    `changing`: while Orthanc's content changes.
    """

    query: str
    clients: int = 1
    nagle: bool = False
    changing: bool = False
    optional: bool = False
    group: str = field(default="find", init=False)
    stage: str = field(default="find", init=False)
    title: str = field(default="C-FIND", init=False)
    reference: str = field(default="orthanc-nd", init=False)

    @property
    def name(self) -> str:
        return f"find-{self.query}-{self.clients}{'-nagle' if self.nagle else ''}{'-changing' if self.changing else ''}"

    @property
    def peers(self) -> tuple[str, ...]:
        if self.nagle:
            return ("orthanc-nd", "gateway", *VARIANTS, "orthanc")
        return ("orthanc-nd", "gateway", *VARIANTS, "orthanc-nd-again")

    def setting(self, folder: Path, material: Material) -> Setting:
        return Setting(orthanc=material.query_archive.options(folder))

    def warm_up(self, run: Run) -> None:
        """One query of each kind, and what a server prepares for later ones at its own pace."""
        archive = run.material.query_archive
        questions = [query(archive, 1) for queries in QUERIES.values() for query in queries]
        ask([Asking(run.peer.dicom_port, STUDY_ROOT_FIND, questions, len(questions), run.material.sizes.samples_s)])
        wait_until_quiet(run.peer.pid, QUIET_TIMEOUT_S)

    def run(self, run: Run) -> Figures:
        sizes = run.material.sizes
        clients = [
            Asking(
                run.peer.dicom_port,
                STUDY_ROOT_FIND,
                self._questions(run.material.query_archive, client),
                max(1, sizes.queries // self.clients),
                sizes.samples_s,
                self.nagle,
            )
            for client in range(self.clients)
        ]
        if not (self.changing and isinstance(run.peer, OrthancPeer)):
            return ask_and_measure(run.peer, clients)
        with run.peer.changing():
            return ask_and_measure(run.peer, clients)

    def _questions(self, archive: QueryArchive, client: int) -> list[Question]:
        chosen = random.Random(client)  # the same for every peer
        count = min(DIFFERENT_QUESTIONS, archive.studies)
        kinds = QUERIES[self.query]
        return [kinds[i % len(kinds)](archive, chosen.randrange(archive.studies)) for i in range(count)]


LISTS = ("day", "counts")
ONE_AND_FOUR_CLIENTS = ("patient", "day", "counts", "mix")

FIND_CASES: tuple[Case, ...] = (
    *(FindCase(query) for query in QUERIES),
    *(FindCase(query, clients=4, optional=query not in ONE_AND_FOUR_CLIENTS) for query in QUERIES),
    *(FindCase(query, clients=clients, changing=True) for query in LISTS for clients in (1, 4)),
    *(FindCase(query, nagle=True, optional=query != "patient") for query in QUERIES),
)
