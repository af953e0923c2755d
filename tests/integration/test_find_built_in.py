"""The same queries to Orthanc's own server and to the gateway, on the same instances: where they agree, and where not.

What differs is in docs/conformance.md, "Queries", with what decides.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Final

import pytest
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset

from tests.integration.built_in import built_in_and_gateway, instance
from tests.support.orthanc import Orthanc
from tests.support.querying import PATIENT_ROOT, Found, Querier, keys

pytestmark = pytest.mark.integration

SEED: Final = 20240102
QUERIES: Final = 250
UNIQUE: Final = {
    "PATIENT": "PatientID",
    "STUDY": "StudyInstanceUID",
    "SERIES": "SeriesInstanceUID",
    "IMAGE": "SOPInstanceUID",
}
NAMES: Final = [
    "Doe^John",
    "DOE^JANE",
    "Müller^Jörg",
    "Muller^Jorg",
    "Smith^A^^Dr",
    "Yamada^Tarou=山田^太郎=やまだ^たろう",
]
DATES: Final = ["20231231", "20240101", "20240102", "20240131", "20250101"]
TIMES: Final = ["000000", "101112", "101259.5", "235959.999999"]


def instances(chance: random.Random) -> Iterator[bytes]:
    for patient in range(8):
        name, sex = NAMES[patient % len(NAMES)], chance.choice(["M", "F", None])
        for study in range(2):
            date, time = chance.choice(DATES), chance.choice(TIMES)
            description = chance.choice(["Head CT", "HEAD", "Thorax * 2", None, ""])
            for series in range(2):
                modality = chance.choice(["CT", "MR", "PR"])
                for image in range(2):
                    yield instance(
                        f"1.2.{patient}.{study}.{series}.{image}",
                        SpecificCharacterSet="ISO_IR 192",
                        PatientID=f"ID-{patient}",
                        PatientName=name,
                        PatientSex=sex,
                        PatientBirthDate=f"19{50 + patient}0101",
                        StudyInstanceUID=f"1.2.{patient}.{study}",
                        SeriesInstanceUID=f"1.2.{patient}.{study}.{series}",
                        StudyDate=date,
                        StudyTime=time,
                        StudyDescription=description,
                        AccessionNumber=f"A{patient}{study}",
                        SeriesDate="",
                        Modality=modality,
                        SeriesNumber=str(series),
                        InstanceNumber=str(image),
                        PatientAge=f"03{patient}Y",
                        Rows=10 + patient,
                        ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
                    )


class Pair:
    """The built-in server and the gateway."""

    def __init__(self, built_in: Orthanc, gateway: Orthanc) -> None:
        self._servers = built_in, gateway

    def find(self, identifier: Dataset) -> tuple[Found, Found]:
        found = []
        for server in self._servers:
            with Querier(server.dicom_port) as peer:
                found.append(peer.open(PATIENT_ROOT).find(identifier))
                peer.release()
        return found[0], found[1]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    files = instances(random.Random(SEED))
    options: dict[str, Any] = {"DicomAlwaysAllowFind": True, "DefaultEncoding": "Utf8"}
    with built_in_and_gateway(tmp_path_factory.mktemp("find"), files, **options) as servers:
        yield Pair(*servers)


# Keys on whose meaning both agree, and attributes that may be asked for.
AGREED: Final[dict[str, list[str]]] = {
    "PatientID": ["ID-1", "ID-*", "ID-?", "id-1", "ID-1\\ID-2", "X"],
    "PatientName": ["Doe*", "doe^john", "D?E^*", "*m*", "Muller*", "müller*", "MÜLLER^JÖRG", "Smith^A^^Dr"],
    "StudyDate": [
        "20240102",
        "20240101-20240131",
        "20240102-",
        "-20240101",
        "20240101\\20240102",
        "20240101-20240231",
        "-",
    ],
    "StudyTime": ["101112", "000000-101300", "101112-", "-101112", "000000-240000", "-"],
    "StudyDescription": ["HEAD", "Head*", "*CT", "head", "H*"],
    "AccessionNumber": ["A11", "A1*", "A11\\A20", "B"],
    "PatientBirthDate": ["19510101", "19500101-19540101"],
    "ModalitiesInStudy": ["CT", "MR\\PR", "US"],
    "Modality": ["CT", "MR", "CT\\MR"],
    "PatientAge": ["031Y"],
    "Rows": ["12"],
}
ASKED: Final = [
    *AGREED,
    "PatientSex",
    "SeriesNumber",
    "InstanceNumber",
    "ImageType",
    "StudyInstanceUID",
    "NumberOfPatientRelatedStudies",
    "NumberOfPatientRelatedSeries",
    "NumberOfPatientRelatedInstances",
    "NumberOfStudyRelatedSeries",
    "NumberOfStudyRelatedInstances",
    "NumberOfSeriesRelatedInstances",
    "SOPClassesInStudy",
    "ContentDate",
]
# Of levels below Orthanc's server answers nothing; the gateway what one instance has.
OF_BELOW: Final = {
    "PATIENT": {"Modality", "InstanceNumber", "SeriesNumber"},
    "STUDY": {"Modality", "InstanceNumber", "SeriesNumber"},
    "SERIES": {"InstanceNumber"},
}


def query(chance: random.Random) -> tuple[str, Dataset]:
    level = chance.choice(list(UNIQUE))
    values = dict.fromkeys(chance.sample(ASKED, chance.randint(1, 6)), "")
    for keyword in chance.sample(list(AGREED), chance.randint(0, 2)):
        values[keyword] = chance.choice(AGREED[keyword])
    if level != "STUDY":
        values.pop("ModalitiesInStudy", None)
    values = {k: v for k, v in values.items() if k not in OF_BELOW.get(level, ())}
    if level == "PATIENT":
        # of studies that one patient has several of: Orthanc's server looks into one
        values = {k: v for k, v in values.items() if not k.startswith("Study") and k != "AccessionNumber"}
    identifier = keys(level, **{UNIQUE[level]: "", **values})
    identifier.SpecificCharacterSet = "ISO_IR 192"
    return level, identifier


def shown(found: Found, level: str) -> dict[str, dict[str, str]]:
    answers = {}
    for answer in found.answers:
        answer.decode()
        values = {element.keyword: str(element.value or "") for element in answer}
        answers[str(answer[UNIQUE[level]].value)] = values
    return answers


def test_both_answer_alike(pair: Pair) -> None:
    chance = random.Random(SEED)
    matched = 0
    for number in range(QUERIES):
        level, identifier = query(chance)
        theirs, ours = pair.find(identifier)
        assert ours.status == theirs.status, (number, identifier)
        assert shown(ours, level) == shown(theirs, level), (number, identifier)
        matched += len(ours.answers)
    assert matched > QUERIES


ALL: Final = 16


@pytest.mark.parametrize(
    ("level", "values", "theirs", "ours"),
    [
        # PS3.4 C.2.2.2.4: * alone matches anything, also what is not there
        ("STUDY", {"PatientSex": "*"}, (0, 4), (0, ALL)),
        ("STUDY", {"StudyDate": "*"}, (0xC000, 0), (0, ALL)),
        # PS3.4 C.2.2.2.1, C.2.2.2.5: times by their meaning
        ("STUDY", {"StudyTime": "1011"}, (0, 0), (0, 5)),
        ("STUDY", {"StudyTime": "10:11:12"}, (0, 0), (0, 5)),
        ("STUDY", {"StudyDate": "tomorrow"}, (0, 0), (0xC000, 0)),
        # PS3.5 6.2.1: component groups, empty components at the end
        ("PATIENT", {"PatientName": "Yamada^Tarou"}, (0, 0), (0, 1)),
        ("PATIENT", {"PatientName": "山田^太郎"}, (0, 0), (0, 1)),
        ("PATIENT", {"PatientName": "Doe^John^^"}, (0, 0), (0, 2)),
        # PS3.4 C.2.2.2.5: what has no date is in no range
        ("SERIES", {"SeriesDate": "-20240101"}, (0, 2 * ALL), (0, 0)),
        # PS3.4 C.2.2.2.1: numbers by their value, and one of several values is enough
        ("SERIES", {"SeriesNumber": "01"}, (0, 0), (0, ALL)),
        ("IMAGE", {"ImageType": "PRIMARY"}, (0, 0), (0, 4 * ALL)),
        ("PATIENT", {"PatientName": "Doe*\\Smith*"}, (0, 0), (0, 5)),
        # PS3.4 C.4.1.1.3.2: what is returned may be asked for
        ("STUDY", {"RetrieveAETitle": "ORTHANC"}, (0, 0), (0, ALL)),
        # PS3.4 C.2.2.2.6: sequences are compared
        ("STUDY", {"RequestAttributesSequence": "X"}, (0, ALL), (0, 0)),
        # PS3.4 C.3.4: computed attributes are attributes
        ("STUDY", {"NumberOfStudyRelatedInstances": "4"}, (0, 0), (0, ALL)),
        # PS3.4 C.4.1.1.3.1: the level is needed
        ("VOLUME", {}, (0xC000, 0), (0xA900, 0)),
    ],
)
def test_what_differs(
    pair: Pair, level: str, values: dict[str, str], theirs: tuple[int, int], ours: tuple[int, int]
) -> None:
    identifier = keys(level, **{UNIQUE.get(level, "PatientID"): ""})
    for keyword, value in values.items():
        if keyword.endswith("Sequence"):
            inner = Dataset()
            inner.ScheduledProcedureStepID = value
            setattr(identifier, keyword, [inner])
        else:
            setattr(identifier, keyword, value)
    identifier.SpecificCharacterSet = "ISO_IR 192"
    assert tuple((found.status, len(found.answers)) for found in pair.find(identifier)) == (theirs, ours)


@pytest.mark.parametrize(
    ("tag", "vr", "value", "matches"),
    [(0x00080020, "LO", "20230101-20240131", 12), (0x00100010, "CS", "doe*", 8), (0x00080020, "UN", b"20240101", 3)],
)
def test_keys_with_another_vr_are_compared_as_what_their_attribute_is(
    pair: Pair, tag: int, vr: str, value: object, matches: int
) -> None:
    identifier = keys("STUDY", StudyInstanceUID="")
    identifier.add_new(tag, vr, value)
    for found in pair.find(identifier):
        assert (found.status, [answer[tag].VR for answer in found.answers]) == (0, [dictionary_VR(tag)] * matches)


def test_a_private_creator_that_is_asked_for_is_answered(pair: Pair) -> None:
    identifier = keys("IMAGE", SOPInstanceUID="1.2.0.0.0.0")
    identifier.add_new(0x00090010, "LO", "")
    identifier.add_new(0x00091001, "LO", "")
    theirs, ours = (found.answers[0] for found in pair.find(identifier))
    assert theirs[0x00090010].value == ours[0x00090010].value == "ACME"
    assert (theirs[0x00091001].value, ours[0x00091001].value) == (b"private\0", "private")


def test_of_a_sequence_orthancs_server_returns_all_and_the_gateway_what_was_asked_for(pair: Pair) -> None:
    identifier = keys("IMAGE", SOPInstanceUID="1.2.0.0.0.0")
    for keyword in ("RequestAttributesSequence", "PerformedProtocolCodeSequence"):
        asked = Dataset()
        asked.RequestedProcedureID = ""
        setattr(identifier, keyword, [asked])
    theirs, ours = (found.answers[0] for found in pair.find(identifier))
    assert [e.keyword for e in theirs.RequestAttributesSequence[0]] == ["ScheduledProcedureStepID"]
    assert [e.keyword for e in ours.RequestAttributesSequence[0]] == ["RequestedProcedureID"]
    # the instance has no such sequence
    assert "PerformedProtocolCodeSequence" not in theirs
    assert len(ours.PerformedProtocolCodeSequence) == 0


def test_the_level_is_echoed_as_it_was_sent_or_as_the_standard_spells_it(pair: Pair) -> None:
    theirs, ours = (found.answers[0] for found in pair.find(keys("Images", SOPInstanceUID="1.2.0.0.0.0")))
    assert (theirs.QueryRetrieveLevel, ours.QueryRetrieveLevel) == ("Images", "IMAGE")
