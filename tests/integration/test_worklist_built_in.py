"""The same queries to Orthanc's own server with its worklist plugin and to the gateway, on the same files.

What differs is in docs/conformance.md, "Modality Worklist", with the paragraph that decides.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Final

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.integration.test_worklist_wlmscpfs import ITEMS, SEED, Peers, assert_same, item, query
from tests.scp.conftest import StartGateway, start_gateway
from tests.scp.test_built_in_scp import WORKLIST_PLUGIN
from tests.support.orthanc import Orthanc
from tests.support.processes import wait_until
from tests.support.worklist_queries import WorklistQuerier, nested, write_file

pytestmark = pytest.mark.integration

__all__ = ["start_gateway"]

QUERIES: Final = 60


@pytest.fixture(scope="module")
def both(start_gateway: StartGateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peers]:
    """An association with Orthanc, and one with the gateway: of the same configuration."""
    folder, chance = tmp_path_factory.mktemp("worklists"), random.Random(SEED)
    for number in range(ITEMS):
        write_file(folder / f"{number}.wl", item(number, chance))
    options: dict[str, Any] = {
        "Worklists": {"Enable": True, "Database": str(folder)},
        "DicomAlwaysAllowFindWorklist": True,
    }
    directory = tmp_path_factory.mktemp("orthanc")
    orthanc = Orthanc(directory, dicom_server=True, Plugins=[WORKLIST_PLUGIN], **options)
    try:
        orthanc.start()
        gateway = start_gateway(**options)
        with WorklistQuerier(orthanc.dicom_port) as theirs, WorklistQuerier(gateway.dicom_port) as ours:
            theirs.open()
            ours.open()
            wait_until(lambda: len(ours.names()) == ITEMS, 30, "the files are not read")
            yield theirs, ours
    finally:
        orthanc.close()


def test_random_queries_find_the_same_and_get_the_same(both: Peers) -> None:
    theirs, ours = both
    chance = random.Random(SEED)
    for _ in range(QUERIES):
        keys = query(chance)
        times = [keys.get(f"ScheduledProcedureStepStart{one}", "") for one in ("Date", "Time")]
        # test_what_differs has what is compared otherwise
        if keys.get("ScheduledStationAETitle") in ("CT1", "US1") or all("-" in one for one in times):
            continue
        expected, found = theirs.find(nested(**keys)), ours.find(nested(**keys))
        for answer in expected.answers:
            for keyword in keys:
                if keyword not in answer and "ScheduledProcedureStepSequence" in answer:
                    step = answer.ScheduledProcedureStepSequence[0]
                    holder = step if keyword == "Modality" or keyword.startswith("Scheduled") else answer
                    if keyword not in holder:  # it leaves out what an item does not have
                        setattr(holder, keyword, "")
        assert_same(expected, found)


# Keys, and the number of answers of Orthanc 1.10.1 and ours; a status if it is none.
DIFFERENCES: Final = [
    ({"ScheduledStationAETitle": "US1"}, 0, "some"),
    ({"PatientName": "Doe^John^^"}, 0, "some"),
    ({"Modality": "ct"}, 0, "some"),
    ({"PatientWeight": "70"}, 0, ITEMS),
    ({"ScheduledProcedureStepStartDate": "2024"}, 0, "some"),
    ({"ScheduledProcedureStepStartDate": "2024.01.02"}, 0, "some"),
    ({"ScheduledProcedureStepStartDate": "*"}, 0xC000, ITEMS),
    ({"ScheduledProcedureStepStartTime": "10:15"}, 0, "some"),
    ({"ScheduledProcedureStepStartTime": "220000-060000"}, 0, "some"),
    ({"PatientBirthDate": "tomorrow"}, 0, 0xA900),
    ({"PatientBirthDate": "1950*"}, 0xC000, 0xA900),
    ({"ReferencedStudySequence": Sequence([Dataset(), Dataset()])}, 0xC000, 0xA900),
    ({"RequestedProcedureCodeSequence": Sequence([nested(CodeValue="C1")])}, 40, 10),
    (
        {
            "ScheduledProcedureStepStartDate": "20240101-20240103",
            "ScheduledProcedureStepStartTime": "080000-120000",
        },
        "some",
        "some",
    ),
]
# a range of another form: here too each is compared on its own
ALIKE: Final = {
    "ScheduledProcedureStepStartDate": "20240101-20240103",
    "ScheduledProcedureStepStartTime": "080000-",
}


@pytest.mark.parametrize(("keys", "theirs", "ours"), DIFFERENCES, ids=lambda value: str(value)[:60])
def test_what_differs(both: Peers, keys: dict[str, Any], theirs: Any, ours: Any) -> None:
    counts = []
    for peer, expected in zip(both, (theirs, ours), strict=True):
        found = peer.find(nested(PatientID="", **keys))
        counts.append((found.status, len(found.answers)))
        if expected == "some":
            assert found.status == 0 and 0 < len(found.answers) < ITEMS
        else:
            assert counts[-1] == ((0, expected) if expected <= ITEMS else (expected, 0))
    assert counts[0] != counts[1]


def test_open_times_in_closed_dates_are_of_each_day(both: Peers) -> None:
    theirs, ours = (peer.find(nested(PatientID="", **ALIKE)) for peer in both)
    assert sorted(theirs.values("PatientID")) == sorted(ours.values("PatientID"))
    assert 0 < len(ours.answers) < ITEMS
