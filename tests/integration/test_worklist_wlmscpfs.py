"""The same queries to DCMTK's wlmscpfs and to the gateway, on the same files: where they agree, and where not.

What differs is in docs/conformance.md, "Modality Worklist", with the paragraph that decides.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Final

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.scp.conftest import StartGateway, start_gateway
from tests.support.processes import wait_until
from tests.support.worklist_queries import Wlmscpfs, Worklist, WorklistQuerier, an_item, nested, write_file

pytestmark = pytest.mark.integration

__all__ = ["start_gateway"]

SEED: Final = 20240102
ITEMS: Final = 60
QUERIES: Final = 300
NAMES: Final = ["Doe^John", "Doe^Jane", "Smith^Anna", "Smithers^Bob", "O'Neil^Kim", "Lee^Kim^M"]
DATES: Final = ["20231231", "20240101", "20240102", "20240103", "20240131"]
TIMES: Final = ["000000", "073000", "080000", "1015", "120000", "173059", "235959"]

Peers = tuple[WorklistQuerier, WorklistQuerier]


def item(number: int, chance: random.Random) -> Dataset:
    code = nested(CodeValue=f"C{number % 3}", CodingSchemeDesignator="99X", CodeMeaning="Meaning")
    return an_item(
        number,
        SpecificCharacterSet="ISO_IR 100",
        PatientName=chance.choice(NAMES),
        PatientSex=chance.choice(["M", "F", "O"]),
        PatientBirthDate=chance.choice(["19500101", "19700615", "20011231"]),
        IssuerOfPatientID=chance.choice(["HOSP", "CLINIC"]),
        ReferringPhysicianName=chance.choice(["House^G", "Grey^M", ""]),
        RequestingPhysician=chance.choice(["House^G", "Kildare^J"]),
        AdmissionID=f"V{number % 4}",
        RequestedProcedurePriority=chance.choice(["STAT", "ROUTINE"]),
        RequestedProcedureCodeSequence=Sequence([code]) if number % 2 else None,
        Modality=chance.choice(["CT", "MR", "US"]),
        ScheduledStationAETitle=chance.choice(["CT1", "CT2", "MR1", ["CT1", "US1"]]),
        ScheduledPerformingPhysicianName=chance.choice(["Welby^M", "House^G", ""]),
        ScheduledProcedureStepStartDate=chance.choice(DATES),
        ScheduledProcedureStepStartTime=chance.choice(TIMES),
        ScheduledProcedureStepLocation="Room 1",
        ScheduledProtocolCodeSequence=Sequence([code]) if number % 3 else None,
    )


@pytest.fixture(scope="module")
def both(start_gateway: StartGateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peers]:
    """An association with wlmscpfs, and one with the gateway."""
    other = Wlmscpfs(tmp_path_factory.mktemp("wlmscpfs"))
    chance = random.Random(SEED)
    for number in range(ITEMS):
        write_file(other.files / f"{number}.wl", item(number, chance))
    try:
        other.start()
        gateway = start_gateway(
            DicomGateway={"Worklist": {"Folders": [str(other.files)]}}, DicomAlwaysAllowFindWorklist=True
        )
        with WorklistQuerier(other.port) as theirs, WorklistQuerier(gateway.dicom_port) as ours:
            theirs.open()
            ours.open()
            wait_until(lambda: len(ours.names()) == ITEMS, 30, "the files are not read")
            yield theirs, ours
    finally:
        other.close()


def pattern(chance: random.Random, value: str) -> str:
    kind = chance.randrange(5)
    if kind == 0 and len(value) > 1:
        return value[: chance.randrange(1, len(value))] + "*"
    if kind == 1 and len(value) > 1:
        at = chance.randrange(len(value))
        return value[:at] + "?" + value[at + 1 :]
    if kind == 2:
        return "*" + value[chance.randrange(len(value)) :]
    return value


def span(chance: random.Random, values: list[str]) -> str:
    one, two = sorted(chance.choices(values, k=2))
    return chance.choice([one, f"{one}-{two}", f"{one}-", f"-{two}"])


def query(chance: random.Random) -> dict[str, Any]:
    keys: dict[str, Any] = {
        "PatientName": lambda: pattern(chance, chance.choice(NAMES)),
        "PatientID": lambda: f"P{chance.randrange(ITEMS)}",
        "IssuerOfPatientID": lambda: pattern(chance, "HOSP"),
        "AccessionNumber": lambda: pattern(chance, f"A{chance.randrange(ITEMS)}"),
        "RequestedProcedureID": lambda: pattern(chance, f"RP{chance.randrange(ITEMS)}"),
        "PatientSex": lambda: chance.choice("MFO"),
        "PatientBirthDate": lambda: span(chance, ["19500101", "19700615", "20011231"]),
        "ReferringPhysicianName": lambda: pattern(chance, "House^G"),
        "RequestingPhysician": lambda: pattern(chance, "Kildare^J"),
        "AdmissionID": lambda: pattern(chance, "V2"),
        "RequestedProcedurePriority": lambda: pattern(chance, "STAT"),
        "Modality": lambda: chance.choice(["CT", "MR", "US", "XX"]),
        "ScheduledStationAETitle": lambda: chance.choice(["CT1", "CT2", "US1", "MR1", "CT"]),
        "ScheduledPerformingPhysicianName": lambda: pattern(chance, "House^G"),
        "ScheduledProcedureStepStartDate": lambda: span(chance, DATES),
        "ScheduledProcedureStepStartTime": lambda: span(chance, TIMES),
    }
    asked = {"PatientID": "", "PatientName": "", "Modality": ""}
    for keyword in chance.sample(list(keys), chance.choice([0, 1, 1, 2, 2, 3])):
        asked[keyword] = keys[keyword]()
    day, time = (asked.get(f"ScheduledProcedureStepStart{one}", "") for one in ("Date", "Time"))
    if "-" in day.strip("-") and time.strip("-") != time:
        del asked["ScheduledProcedureStepStartTime"]  # test_open_times_in_closed_dates_are_of_each_day
    for keyword in chance.sample(
        [
            "StudyInstanceUID",
            "RequestedProcedureDescription",
            "ScheduledProcedureStepDescription",
            "ScheduledProcedureStepID",
            "ScheduledProcedureStepLocation",
            "CurrentPatientLocation",
            "PatientWeight",
        ],
        2,
    ):
        asked.setdefault(keyword, "")
    return asked


def plain(data_set: Dataset) -> dict[str, Any]:
    """The attributes of an answer by keyword: what is missing is empty."""
    return {
        element.keyword: [plain(one) for one in element.value] if element.VR == "SQ" else str(element.value or "")
        for element in data_set
        if element.keyword != "SpecificCharacterSet"
    }


def assert_same(theirs: Worklist, ours: Worklist) -> None:
    """wlmscpfs leaves an empty description or code sequence out (1C); here it is empty."""
    assert theirs.status == ours.status
    assert sorted(theirs.values("PatientID")) == sorted(ours.values("PatientID"))
    by_id = {answer.PatientID: plain(answer) for answer in ours.answers}
    for answer in theirs.answers:
        mine, other = by_id[answer.PatientID], plain(answer)
        assert {**other, **{key: value for key, value in mine.items() if not value}} == mine


def test_random_queries_find_the_same_and_get_the_same(both: Peers) -> None:
    theirs, ours = both
    chance = random.Random(SEED)
    sizes = []
    for _ in range(QUERIES):
        keys = query(chance)
        expected, found = theirs.find(nested(**keys)), ours.find(nested(**keys))
        assert_same(expected, found)
        sizes.append(len(found.answers))
    assert sum(0 < size < ITEMS for size in sizes) > QUERIES / 3


@pytest.mark.parametrize("number", [1, 2, 3])
def test_sequences_without_items_are_expanded_to_the_same(both: Peers, number: int) -> None:
    keys = nested(PatientID=f"P{number}", RequestedProcedureDescription="")
    keys.RequestedProcedureCodeSequence = keys.ReferencedStudySequence = Sequence()
    keys.ReferencedPatientSequence = keys.ScheduledProcedureStepSequence = Sequence([Dataset()])
    other, mine = (plain(peer.find(keys).answers[0]) for peer in both)
    step, other_step = mine.pop("ScheduledProcedureStepSequence")[0], other.pop("ScheduledProcedureStepSequence")[0]
    assert {**other, **{key: value for key, value in mine.items() if not value}} == mine
    # what wlmscpfs does not know stays
    assert other_step.items() <= {**step, "ScheduledProcedureStepStatus": ""}.items()
    assert step["ScheduledProcedureStepStatus"] == "SCHEDULED"


# Keys, the status and the number of answers of wlmscpfs, and ours. docs/conformance.md says what decides.
DIFFERENCES: Final = [
    ({"PatientName": "doe*"}, (0, 0), (0, "some")),
    ({"PatientName": "Doe^John^^"}, (0, 0), (0, "some")),
    ({"PatientID": "P1*"}, (0, 0), (0, 11)),
    ({"ScheduledStationAETitle": "CT*"}, (0, 0), (0, "some")),
    ({"Modality": "ct"}, (0xA900, 0), (0, "some")),
    ({"Modality": "CT\\MR"}, (0xA900, 0), (0, "some")),
    ({"StudyInstanceUID": "2.25.1001\\2.25.1002"}, (0, ITEMS), (0, 2)),
    ({"ScheduledProcedureStepID": "S1"}, (0, ITEMS), (0, 1)),
    ({"ScheduledProcedureStepStatus": "COMPLETED"}, (0, ITEMS), (0, 0)),
    ({"ScheduledProcedureStepStartDate": "2024"}, (0xA900, 0), (0, "some")),
    ({"ScheduledProcedureStepStartDate": "2024.01.02"}, (0xA900, 0), (0, "some")),
    ({"ScheduledProcedureStepStartDate": "*"}, (0xA900, 0), (0, ITEMS)),
    ({"ScheduledProcedureStepStartTime": "10:15"}, (0xA900, 0), (0, "some")),
    ({"ScheduledProcedureStepStartTime": "220000-060000"}, (0, 0), (0, "some")),
    ({"RequestedProcedureCodeSequence": Sequence([nested(CodeValue="C1")])}, (0, ITEMS), (0, 10)),
]


@pytest.mark.parametrize(("keys", "theirs", "ours"), DIFFERENCES, ids=lambda value: str(value)[:60])
def test_what_differs(both: Peers, keys: dict[str, str], theirs: tuple[int, Any], ours: tuple[int, Any]) -> None:
    for peer, (status, count) in zip(both, (theirs, ours), strict=True):
        found = peer.find(nested(PatientID="", **keys) if "PatientID" not in keys else nested(**keys))
        assert found.status == status
        assert 0 < len(found.answers) < ITEMS if count == "some" else len(found.answers) == count


def test_open_times_in_closed_dates_are_of_each_day(both: Peers) -> None:
    """PS3.4 C.2.2.2.5.4: one interval only if both ranges have the same form. wlmscpfs makes one, up to midnight."""
    keys = {
        "PatientID": "",
        "ScheduledProcedureStepStartDate": "20240101-20240103",
        "ScheduledProcedureStepStartTime": "080000-",
    }
    theirs, ours = (peer.find(nested(**keys)) for peer in both)
    assert min(ours.values("ScheduledProcedureStepStartTime")) >= "08"
    assert min(theirs.values("ScheduledProcedureStepStartTime")) < "08"
    assert len(theirs.answers) != len(ours.answers)


def test_unsupported_keys(both: Peers) -> None:
    """A key without value that wlmscpfs does not know: it warns and leaves it out; here it is asked for, and empty."""
    theirs, ours = (peer.find(nested(PatientID="P1", DeviceSerialNumber="")) for peer in both)
    assert (theirs.pendings, ours.pendings) == ([0xFF01], [0xFF00])
    assert "DeviceSerialNumber" not in theirs.answers[0]
    assert ours.answers[0].DeviceSerialNumber == ""
    theirs, ours = (peer.find(nested(PatientID="P1", PatientWeight="70")) for peer in both)
    assert (theirs.pendings, ours.pendings) == ([0xFF00], [0xFF01])


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientBirthDate", "tomorrow"),
        ("PatientBirthDate", "1950*"),
        ("ScheduledProcedureStepStartTime", "noon"),
        ("ReferencedStudySequence", Sequence([Dataset(), Dataset()])),
    ],
)
def test_both_refuse_what_is_no_value(both: Peers, keyword: str, value: Any) -> None:
    theirs, ours = (peer.find(nested(PatientID="", **{keyword: value})) for peer in both)
    assert theirs.status == ours.status == 0xA900
    assert theirs.offending_element == ours.offending_element
    assert ours.comment
