"""The same C-MOVE to Orthanc's own server and to the gateway, on the same instances: where they agree, and where not.

What differs is in docs/migration.md and docs/conformance.md, "Retrieval".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import pytest
from pydicom.dataset import Dataset

from tests.integration.built_in import built_in_and_gateway, instance
from tests.support.orthanc import Orthanc
from tests.support.rawdicom import Gone
from tests.support.rawscp import RawConnection, RawScp
from tests.support.retrieving import GET, MOVE, PATIENT_MOVE, Retriever

pytestmark = pytest.mark.integration

# Two studies of PAT of two instances each, in two series; one study that two patients have.
STUDY, OTHER, SHARED = "1.2.1", "1.2.2", "1.2.3"
PENDING: Final = 0xFF00


class Outcome(NamedTuple):
    """Status and sub-operations of the last response: completed, failed, with a warning; what the receiver got."""

    status: int
    completed: int | None
    failed: int | None
    warning: int | None
    received: int


def done(count: int) -> Outcome:
    return Outcome(0, count, 0, 0, count)


# A refusal: Orthanc's server has counters in it, the gateway none.
UNABLE, NOTHING = Outcome(0xC000, 0, 0, 0, 0), done(0)


def refused(status: int) -> Outcome:
    return Outcome(status, None, None, None, 0)


@dataclass
class Site:
    """Both servers, and what was received by whom: the receiver DEST answers with `status`."""

    built_in: Orthanc
    gateway: Orthanc
    received: list[str] = field(default_factory=list)
    status: int = 0

    def move(self, level: str | None, destination: str = "DEST", model: str = MOVE, **values: str) -> list[Outcome]:
        """What both answer to the same request."""
        return [self._move(server, level, destination, model, values) for server in (self.built_in, self.gateway)]

    def _move(
        self, server: Orthanc, level: str | None, destination: str, model: str, values: dict[str, str]
    ) -> Outcome:
        identifier = Dataset()
        if level is not None:
            identifier.QueryRetrieveLevel = level
        for keyword, value in values.items():
            setattr(identifier, keyword, value)
        self.received.clear()
        with Retriever(server.dicom_port) as peer:
            peer.open(model)
            peer.ask(identifier, destination)
            last = peer.responses()[-1]
            peer.release()
        return Outcome(last.status, last.completed, last.failed, last.warning, len(self.received))

    def receive(self, connection: RawConnection) -> None:
        connection.accept()
        while True:
            try:
                request = connection.request()
            except Gone:
                return
            self.received.append(request.values[0x1000].decode().rstrip("\0"))
            connection.answer(request, self.status)


def files() -> Iterator[bytes]:
    for study, patient, accession in (
        (STUDY, "PAT", "A1"),
        (OTHER, "PAT", "A2"),
        (SHARED, "P1", ""),
        (SHARED, "P2", ""),
    ):
        for series in ("1", "2"):
            yield instance(
                f"{study}.{series}.{patient == 'P2':d}",
                PatientID=patient,
                StudyInstanceUID=study,
                SeriesInstanceUID=f"{study}.{series}",
                AccessionNumber=accession,
                Modality="CT",
            )


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    sites: list[Site] = []
    with ExitStack() as stack:
        receiver = stack.enter_context(RawScp(lambda connection: sites[0].receive(connection)))
        options: dict[str, Any] = {
            "DicomAlwaysAllowGet": True,
            "DicomAlwaysAllowMove": True,
            "DicomModalities": {
                "dest": ["DEST", "127.0.0.1", receiver.port],
                "no-store": {"AET": "NOSTORE", "Host": "127.0.0.1", "Port": receiver.port, "AllowStore": False},
                "dead": ["DEAD", "127.0.0.1", 1],
            },
        }
        folder = tmp_path_factory.mktemp("retrieve")
        sites.append(Site(*stack.enter_context(built_in_and_gateway(folder, files(), **options))))
        yield sites[0]


@pytest.fixture
def site(everything: Site) -> Site:
    everything.status = 0
    return everything


@pytest.mark.parametrize(
    ("level", "values", "count"),
    [
        ("STUDY", {"StudyInstanceUID": STUDY}, 2),
        ("studies", {"StudyInstanceUID": f"{STUDY}\\{OTHER}"}, 4),
        ("STUDY", {"StudyInstanceUID": f"{STUDY}\\1.9"}, 2),
        ("STUDY", {"StudyInstanceUID": f"{STUDY} "}, 2),
        ("STUDY", {"StudyInstanceUID": SHARED}, 4),
        ("STUDY", {"StudyInstanceUID": STUDY, "PatientName": "X", "SeriesInstanceUID": "1.9"}, 2),
        ("STUDY", {"AccessionNumber": "A1"}, 2),
        ("STUDY", {"AccessionNumber": "A1\\A2"}, 4),
        ("STUDY", {"AccessionNumber": "", "StudyInstanceUID": STUDY}, 2),
        ("SERIES", {"SeriesInstanceUID": f"{STUDY}.1", "StudyInstanceUID": STUDY}, 1),
        ("INSTANCE", {"SOPInstanceUID": f"{STUDY}.1.0"}, 1),
        ("IMAGE", {"SOPInstanceUID": f"{STUDY}.1.0\\{STUDY}.2.0"}, 2),
        (None, {"StudyInstanceUID": STUDY}, 2),
        (None, {"StudyInstanceUID": STUDY, "SeriesInstanceUID": f"{STUDY}.1"}, 1),
        (None, {"AccessionNumber": "A1"}, 2),
    ],
)
def test_both_send_the_same(site: Site, level: str | None, values: dict[str, str], count: int) -> None:
    assert site.move(level, **values) == [done(count)] * 2


@pytest.mark.parametrize("destination", ["dest", "DEST ", " DEST", "NOSTORE"])
def test_both_find_the_destination(site: Site, destination: str) -> None:
    assert site.move("STUDY", destination, StudyInstanceUID=STUDY) == [done(2)] * 2


def test_both_send_all_of_a_patient(site: Site) -> None:
    assert site.move("PATIENT", model=PATIENT_MOVE, PatientID="PAT") == [done(4)] * 2
    assert site.move("PATIENT", model=PATIENT_MOVE, PatientID="P1\\P2") == [done(4)] * 2


@pytest.mark.parametrize(
    ("level", "values", "theirs", "ours"),
    [
        # PS3.4 C.4.2.3.1: keys of the levels above count
        ("SERIES", {"SeriesInstanceUID": f"{STUDY}.1", "StudyInstanceUID": OTHER}, done(1), NOTHING),
        ("STUDY", {"StudyInstanceUID": STUDY, "PatientID": "X"}, done(2), NOTHING),
        ("STUDY", {"StudyInstanceUID": SHARED, "PatientID": "P1"}, done(4), done(2)),
        ("STUDY", {"StudyInstanceUID": STUDY, "AccessionNumber": "A2"}, done(2), NOTHING),
        # PS3.4 C.2.2.2.1: letters are what they are
        ("STUDY", {"AccessionNumber": "a1"}, done(2), NOTHING),
        # an instance is sent once
        ("IMAGE", {"SOPInstanceUID": f"{STUDY}.1.0\\{STUDY}.1.0"}, done(2), done(1)),
        # PS3.4 C.4.2.3.1: nothing that matches is no failure
        ("STUDY", {"StudyInstanceUID": "1.9"}, UNABLE, NOTHING),
        (None, {"StudyInstanceUID": STUDY, "SeriesInstanceUID": ""}, UNABLE, done(2)),
        ("", {"StudyInstanceUID": STUDY}, UNABLE, done(2)),
        # PS3.4 C.4.2.1.5: the identifier does not match the SOP class
        ("SERIES", {"StudyInstanceUID": STUDY}, UNABLE, refused(0xA900)),
        ("VOLUME", {"StudyInstanceUID": STUDY}, UNABLE, refused(0xA900)),
        # PS3.4 C.6.2.1: Study Root begins with the study
        ("PATIENT", {"PatientID": "PAT"}, done(4), refused(0xA900)),
    ],
)
def test_what_is_sent_differs(
    site: Site, level: str | None, values: dict[str, str], theirs: Outcome, ours: Outcome
) -> None:
    assert site.move(level, **values) == [theirs, ours]


@pytest.mark.parametrize(
    ("status", "theirs", "ours"),
    [
        (0xB000, done(2), Outcome(0xB000, 0, 0, 2, 2)),
        (0xA700, UNABLE._replace(received=1), Outcome(0xA702, 0, 2, 0, 2)),
    ],
)
def test_answers_of_the_receiver_are_told(site: Site, status: int, theirs: Outcome, ours: Outcome) -> None:
    site.status = status
    assert site.move("STUDY", StudyInstanceUID=STUDY) == [theirs, ours]


def test_destinations_that_cannot_be_had(site: Site) -> None:
    assert site.move("STUDY", "DEAD", StudyInstanceUID=STUDY) == [UNABLE, Outcome(0xA702, 0, 2, 0, 0)]
    assert site.move("STUDY", "NOWHERE", StudyInstanceUID=STUDY) == [UNABLE, refused(0xA801)]


def test_c_get_of_a_study_by_both_keys(site: Site) -> None:
    """Orthanc's server looks for an Accession Number as soon as the key is there."""
    statuses = []
    for server in (site.built_in, site.gateway):
        identifier = Dataset()
        identifier.QueryRetrieveLevel, identifier.AccessionNumber, identifier.StudyInstanceUID = "STUDY", "", "1.9"
        with Retriever(server.dicom_port) as peer:
            peer.open(GET)
            peer.ask(identifier)
            statuses.append(peer.responses()[-1].status)
            peer.release()
    assert statuses == [0xC000, 0]
