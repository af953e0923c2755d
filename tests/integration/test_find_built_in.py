"""The same queries to Orthanc's own server and to the gateway, on the same instances: where they agree, and where not.

What differs is in docs/conformance.md, "Queries", with what decides.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from io import BytesIO
from typing import Any, Final

import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

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
                        Modality=modality,
                        SeriesNumber=str(series),
                        InstanceNumber=str(image),
                        PatientAge=f"03{patient}Y",
                        Rows=10 + patient,
                        ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
                    )


def instance(uid: str, **values: Any) -> bytes:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data_set = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    data_set.SOPClassUID = MRImageStorage if values["Modality"] == "MR" else CTImageStorage
    data_set.SOPInstanceUID = uid
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = data_set.SOPClassUID, uid
    for name, value in values.items():
        if value is not None:
            setattr(data_set, name, value)
    if uid.endswith(".0.0"):
        step = Dataset()
        step.ScheduledProcedureStepID = "STEP"
        data_set.RequestAttributesSequence = [step]
    data_set.private_block(0x0009, "ACME", create=True).add_new(1, "LO", "private")
    file = BytesIO()
    data_set.save_as(file, enforce_file_format=True)
    return file.getvalue()


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
    options: dict[str, Any] = {"DicomAlwaysAllowFind": True, "DefaultEncoding": "Utf8", "verbose": False}
    built_in = Orthanc(tmp_path_factory.mktemp("built_in"), dicom_server=True, **options)
    gateway = Orthanc(tmp_path_factory.mktemp("gateway"), gateway=True, **options)
    try:
        for server in (built_in, gateway):
            server.start()
            for file in instances(random.Random(SEED)):
                server.post("/instances", file)
        yield Pair(built_in, gateway)
    finally:
        built_in.close()
        gateway.close()


# Keys on whose meaning both agree, and attributes that may be asked for.
AGREED: Final[dict[str, list[str]]] = {
    "PatientID": ["ID-1", "ID-*", "ID-?", "id-1", "ID-1\\ID-2", "X"],
    "PatientName": ["Doe*", "doe^john", "D?E^*", "*m*", "Muller*", "müller*", "MÜLLER^JÖRG", "Smith^A^^Dr"],
    "StudyDate": ["20240102", "20240101-20240131", "20240102-", "-20240101", "20240101\\20240102"],
    "StudyTime": ["101112", "000000-101300", "101112-", "-101112"],
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
