"""OrthancArchive against a real Orthanc, its requests counted by a proxy in between."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EncapsulatedPDFStorage, ExplicitVRLittleEndian

from gateway.archive import orthanc_files, orthanc_instances
from gateway.archive.interface import STUDY_INSTANCE_UID, ArchiveUnavailable, Level, Query, Selection
from gateway.archive.orthanc import Options, OrthancArchive
from gateway.archive.orthanc_tags import MAIN_TAGS
from gateway.archive.rest import OrthancRest
from gateway.forwarding.transports import Endpoint
from gateway.matching.attributes import Attributes, vr_of
from gateway.matching.keys import Key
from tests.support.orthanc import Orthanc
from tests.support.ports import free_port
from tests.support.recording_http import RecordingProxy

PATIENTS, STUDIES, SERIES, IMAGES = 3, 2, 2, 6


def make(patient: int, study: int = 0, series: int = 0, image: int = 0, **values: Any) -> bytes:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data_set = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    data_set.SpecificCharacterSet = "ISO_IR 192"
    data_set.SOPClassUID = EncapsulatedPDFStorage if series else CTImageStorage
    data_set.PatientID, data_set.PatientName = f"P{patient}", f"Müller^{patient}"
    data_set.StudyInstanceUID = f"1.2.{patient}.{study}"
    data_set.SeriesInstanceUID = f"1.2.{patient}.{study}.{series}"
    data_set.SOPInstanceUID = f"1.2.{patient}.{study}.{series}.{image}"
    data_set.StudyDate, data_set.StudyTime = f"2024010{study + 1}", "101112"
    data_set.Modality = "OT" if series else "CT"
    data_set.InstanceNumber = str(image)
    data_set.PatientAge = f"{(30 + patient) % 1000:03}Y"
    data_set.Rows = 100 + image
    data_set.private_block(0x0009, "OTHER", create=True)
    data_set.private_block(0x0009, "ACME", create=True).add_new(1, "LO", f"private {patient}")
    for name, value in values.items():
        setattr(data_set, name, value)
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = data_set.SOPClassUID, data_set.SOPInstanceUID
    file = BytesIO()
    data_set.save_as(file, enforce_file_format=True)
    return file.getvalue()


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    orthanc = Orthanc(tmp_path_factory.mktemp("orthanc"), verbose=False)
    try:
        orthanc.start()
        for patient in range(PATIENTS):
            for study in range(STUDIES):
                for series in range(SERIES):
                    for image in range(IMAGES):
                        orthanc.post("/instances", make(patient, study, series, image))
        yield orthanc
    finally:
        orthanc.close()


@pytest.fixture(scope="module")
def proxy(full: Orthanc) -> Iterator[RecordingProxy]:
    with RecordingProxy(full.http_port) as proxy:
        yield proxy


@pytest.fixture
def archive(proxy: RecordingProxy) -> OrthancArchive:
    proxy.requests.clear()
    return OrthancArchive(OrthancRest(Endpoint(proxy.url, timeout_s=20), 4), Options("ORTHANC"))


def keys(**values: str) -> tuple[Key, ...]:
    tags = {int(tag_for_keyword(name) or 0): value for name, value in values.items()}
    return tuple(Key(tag, vr_of(tag), value) for tag, value in tags.items())


def find(archive: OrthancArchive, level: Level, *more: Key, **values: str) -> list[Attributes]:
    return list(archive.find(Query(level, (*keys(**values), *more))))


def column(answers: list[Attributes], keyword: str) -> list[str]:
    (key,) = keys(**{keyword: ""})
    values = [answer[key.tag].value if key.tag in answer else "" for answer in answers]
    return sorted(value for value in values if isinstance(value, str))


def test_each_level_is_found_with_one_request(archive: OrthancArchive, proxy: RecordingProxy) -> None:
    assert column(find(archive, Level.PATIENT, PatientID="", PatientName="m*"), "PatientName") == [
        f"Müller^{patient}" for patient in range(PATIENTS)
    ]
    assert column(find(archive, Level.STUDY, StudyDate="20240101", PatientID=""), "PatientID") == ["P0", "P1", "P2"]
    assert len(find(archive, Level.SERIES, Modality="CT")) == PATIENTS * STUDIES
    assert len(find(archive, Level.IMAGE, InstanceNumber="1", SOPInstanceUID="")) == PATIENTS * STUDIES * SERIES
    assert proxy.requests == ["POST /tools/find"] * 4


def test_what_stands_above_costs_one_request_a_level(archive: OrthancArchive, proxy: RecordingProxy) -> None:
    answers = find(archive, Level.IMAGE, StudyInstanceUID="1.2.1.1", PatientName="", StudyDate="", Modality="")
    assert len(answers) == SERIES * IMAGES
    assert set(column(answers, "PatientName")) == {"Müller^1"}
    assert set(column(answers, "Modality")) == {"CT", "OT"}
    assert proxy.requests == ["POST /tools/find", "POST /tools/bulk-content", "POST /tools/bulk-content"]


def test_counts_modalities_and_classes_cost_one_request_a_level(archive: OrthancArchive, proxy: RecordingProxy) -> None:
    related = {
        "NumberOfStudyRelatedSeries": str(SERIES),
        "NumberOfStudyRelatedInstances": str(SERIES * IMAGES),
        "ModalitiesInStudy": "CT\\OT",
        "SOPClassesInStudy": "1.2.840.10008.5.1.4.1.1.104.1\\1.2.840.10008.5.1.4.1.1.2",
    }
    answers = find(archive, Level.STUDY, StudyInstanceUID="", **dict.fromkeys(related, ""))
    assert {name: set(column(answers, name)) for name in related} == {name: {value} for name, value in related.items()}
    assert proxy.requests == ["POST /tools/find"] + ["POST /tools/bulk-content"] * 2
    (patient,) = find(
        archive,
        Level.PATIENT,
        PatientID="P1",
        NumberOfPatientRelatedStudies="",
        NumberOfPatientRelatedSeries="",
        NumberOfPatientRelatedInstances="",
    )
    assert [patient[tag].value for tag in (0x00201200, 0x00201202, 0x00201204)] == ["2", "4", "24"]
    (series,) = find(archive, Level.SERIES, SeriesInstanceUID="1.2.1.1.0", NumberOfSeriesRelatedInstances="")
    assert series[0x00201209].value == str(IMAGES)


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ({"ModalitiesInStudy": "CT"}, 6),
        ({"ModalitiesInStudy": "ot\\MR"}, 0),
        ({"ModalitiesInStudy": "OT\\MR"}, 6),
        ({"ModalitiesInStudy": "MR"}, 0),
        ({"ModalitiesInStudy": "C*"}, 6),
        ({"SOPClassesInStudy": CTImageStorage}, 6),
        ({"NumberOfStudyRelatedInstances": "12"}, 6),
        ({"NumberOfStudyRelatedInstances": "11"}, 0),
        ({"InstanceAvailability": "ONLINE"}, 6),
        ({"InstanceAvailability": "OFFLINE"}, 0),
        ({"PatientID": "p1"}, 0),
        ({"PatientID": "P1\\P2"}, 4),
        ({"PatientName": "MÜLLER^1"}, 2),
        ({"PatientName": "m?ller^1"}, 2),
        ({"PatientAge": "031Y"}, 2),
        ({"StudyTime": "1011-1012", "StudyDate": "-20240101"}, 3),
        # each on its own, since nothing else was negotiated (PS3.4 C.2.2.2.5)
        ({"StudyTime": "0900-1000", "StudyDate": "20231231-20240103"}, 0),
        ({"StudyTime": "1000-1100", "StudyDate": "20231231-20240103"}, 6),
        ({"TimezoneOffsetFromUTC": "+0100"}, 6),
    ],
)
def test_keys_of_every_source_are_compared(archive: OrthancArchive, values: dict[str, str], count: int) -> None:
    assert len(find(archive, Level.STUDY, **values)) == count


def test_attributes_of_many_images_are_read_by_series(archive: OrthancArchive, proxy: RecordingProxy) -> None:
    answers = find(archive, Level.IMAGE, SeriesInstanceUID="1.2.1.1.0", Rows="", SOPClassUID="")
    assert column(answers, "Rows") == [str(100 + image) for image in range(IMAGES)]
    assert set(column(answers, "SOPClassUID")) == {CTImageStorage}
    assert [request.split("/")[-1].split("?")[0] for request in proxy.requests] == [
        "find",
        "bulk-content",
        "bulk-content",
        "instances-tags",
    ]


def test_attributes_that_no_index_has_are_read_once_for_each_study(
    archive: OrthancArchive, proxy: RecordingProxy
) -> None:
    answers = find(archive, Level.STUDY, StudyInstanceUID="", PatientAge="")
    assert column(answers, "PatientAge") == ["030Y"] * 2 + ["031Y"] * 2 + ["032Y"] * 2
    tags = [request for request in proxy.requests if "/tags" in request]
    assert len(tags) == len(answers)
    assert len(proxy.requests) == len(tags) + 2


def test_private_attributes_are_found_by_their_creator(archive: OrthancArchive) -> None:
    answers = find(archive, Level.STUDY, Key(0x00091001, "LO", "private 2", (), "ACME"))
    assert [answer[0x00091001].value for answer in answers] == ["private 2"] * STUDIES
    assert answers[0][0x00090010].value == "ACME"
    assert not find(archive, Level.STUDY, Key(0x00091001, "LO", "private 2", (), "OTHER"))


def test_instances_are_listed_opened_and_stored(archive: OrthancArchive, full: Orthanc) -> None:
    listed = archive.list_instances(Selection(Level.STUDY, {STUDY_INSTANCE_UID: ("1.2.0.0", "1.2.1.0", "1.2.9.9")}))
    listed = listed.instances
    assert len(listed) == 2 * SERIES * IMAGES
    chosen = next(one for one in listed if one.sop_instance_uid == "1.2.1.0.1.3")
    assert (chosen.sop_class_uid, chosen.transfer_syntax_uid) == (EncapsulatedPDFStorage, ExplicitVRLittleEndian)
    stored = make(1, 0, 1, 3)
    assert chosen.size_bytes == len(stored)
    with archive.open(chosen) as opened:
        assert opened.transfer_syntax_uid == ExplicitVRLittleEndian
        data = b"".join(opened.chunks)
        assert opened.size_bytes == len(data)
        assert stored.endswith(data)
    archive.store(BytesIO(stored), len(stored))
    with pytest.raises(ArchiveUnavailable):
        archive.store(BytesIO(b"no DICOM"), 8)


def test_binary_values_are_read_apart(
    archive: OrthancArchive, full: Orthanc, proxy: RecordingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = Key(0x00091102, "UN", "", (), "ACME")  # in another block than in the instance
    document = b"%PDF " * 20_000
    data_set = dcmread(BytesIO(make(8, RedPaletteColorLookupTableData=bytes(4), EncapsulatedDocument=document)))
    data_set.private_block(0x0009, "ACME").add_new(2, "UN", b"\x00\xff")
    data_set.PixelData = bytes(4)
    data_set["PixelData"].VR = "OW"
    file = BytesIO()
    data_set.save_as(file, enforce_file_format=True)
    identifier = full.post("/instances", file.getvalue())["ID"]
    try:
        asked = {"RedPaletteColorLookupTableData": "", "EncapsulatedDocument": "", "PixelData": ""}
        (answer,) = find(archive, Level.IMAGE, private, SOPInstanceUID="1.2.8.0.0.0", **asked)
        assert answer[private.tag].value == "\x00\xff"
        # words are empty, bytes when they are too many
        assert [answer[tag].value for tag in (0x00281201, 0x00420011, 0x7FE00010)] == ["", "", ""]
        assert len(proxy.requests) == 2 + 2
        monkeypatch.setattr(orthanc_files, "MAXIMUM_BINARY_BYTES", len(document))
        (answer,) = find(archive, Level.STUDY, StudyInstanceUID="1.2.8.0", **asked)
        assert answer[0x00420011].value == document.decode("latin-1")
    finally:
        full.delete(f"/instances/{identifier}")


def selected(archive: OrthancArchive, level: Level, **identifiers: str) -> list[str]:
    """UIDs of the instances of a selection, without those of the fixture."""
    tags = {int(tag_for_keyword(name) or 0): tuple(value.split("\\")) for name, value in identifiers.items()}
    return sorted(one.sop_instance_uid for one in archive.list_instances(Selection(level, tags)).instances)


def test_all_tags_of_a_selection_must_hold(archive: OrthancArchive) -> None:
    series = [f"1.2.1.0.1.{image}" for image in range(IMAGES)]
    study = sorted([*series, *(f"1.2.1.0.0.{image}" for image in range(IMAGES))])
    assert selected(archive, Level.SERIES, SeriesInstanceUID="1.2.1.0.1") == series
    assert selected(archive, Level.SERIES, StudyInstanceUID="1.2.1.0", SeriesInstanceUID="1.2.1.0.1\\1.9") == series
    assert selected(archive, Level.SERIES, StudyInstanceUID="1.2.1.1", SeriesInstanceUID="1.2.1.0.1") == []
    assert selected(archive, Level.STUDY, PatientID="P1", StudyInstanceUID="1.2.1.0") == study
    assert selected(archive, Level.STUDY, PatientID="P2", StudyInstanceUID="1.2.1.0\\1.2.0.0") == []
    assert len(selected(archive, Level.STUDY, StudyInstanceUID="1.2.1.0\\1.2.0.0")) == 2 * SERIES * IMAGES
    assert len(selected(archive, Level.PATIENT, PatientID="P1\\P2")) == 2 * STUDIES * SERIES * IMAGES
    images = "1.2.1.0.1.3\\1.2.1.0.1.4\\1.2.1.0.1.3\\1.2.9"
    assert selected(archive, Level.IMAGE, SOPInstanceUID=images) == ["1.2.1.0.1.3", "1.2.1.0.1.4"]
    assert selected(archive, Level.IMAGE, PatientID="P1", SOPInstanceUID=images) == ["1.2.1.0.1.3", "1.2.1.0.1.4"]
    assert selected(archive, Level.IMAGE, PatientID="P2", SOPInstanceUID=images) == []
    assert selected(archive, Level.IMAGE, SeriesInstanceUID="1.2.1.0.1") == series


def test_values_of_a_selection_are_literal(archive: OrthancArchive, full: Orthanc) -> None:
    patients = {"P*": "1.2.90", "p1": "1.2.91", "Ä?": "1.2.92", "O'Neill ": "1.2.93"}
    identifiers = [
        full.post(
            "/instances",
            make(9, PatientID=patient, StudyInstanceUID="1.2.9.9", SOPInstanceUID=uid, AccessionNumber=f"A{uid[-1]}"),
        )["ID"]
        for patient, uid in patients.items()
    ]
    try:
        for patient, uid in patients.items():
            assert selected(archive, Level.PATIENT, PatientID=patient) == [uid]
        # a study that, by its UID, is of several patients
        assert selected(archive, Level.STUDY, StudyInstanceUID="1.2.9.9") == sorted(patients.values())
        assert selected(archive, Level.STUDY, StudyInstanceUID="1.2.9.9", PatientID="p1") == ["1.2.91"]
        assert selected(archive, Level.STUDY, AccessionNumber="A1") == ["1.2.91"]
        assert selected(archive, Level.STUDY, AccessionNumber="A1", StudyInstanceUID="1.2.0.0") == []
        assert selected(archive, Level.PATIENT, PatientID="*") == []
    finally:
        for identifier in identifiers:
            full.delete(f"/instances/{identifier}")


def test_listing_costs_requests_by_pages_not_by_instances(
    archive: OrthancArchive, proxy: RecordingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    find, bulk = "POST /tools/find", "POST /tools/bulk-content"
    assert len(selected(archive, Level.PATIENT, PatientID="P1")) == 24
    assert proxy.requests == [find, bulk, bulk]  # patients, their series, all instances
    proxy.requests.clear()
    monkeypatch.setattr(orthanc_instances, "INSTANCES_AT_ONCE", 10)
    assert len(selected(archive, Level.PATIENT, PatientID="P1")) == 24
    assert proxy.requests == [find, bulk, bulk, bulk, bulk]
    proxy.requests.clear()
    uids = "\\".join(f"1.2.{patient}.0.0.{image}" for patient in range(PATIENTS) for image in range(IMAGES))
    assert len(selected(archive, Level.IMAGE, SOPInstanceUID=uids)) == PATIENTS * IMAGES
    assert proxy.requests == [find, bulk, bulk]
    proxy.requests.clear()
    monkeypatch.setattr(orthanc_instances, "VALUES_AT_ONCE", 10)
    assert len(selected(archive, Level.IMAGE, SOPInstanceUID=uids)) == PATIENTS * IMAGES
    assert proxy.requests == [find, find, bulk, bulk]


def test_an_orthanc_that_is_away_is_named_as_such() -> None:
    away = OrthancArchive(OrthancRest(Endpoint(f"http://127.0.0.1:{free_port()}"), 2), Options("ORTHANC"))
    with pytest.raises(ArchiveUnavailable):
        find(away, Level.STUDY)


def test_main_tags_are_those_of_orthanc(tmp_path: Path) -> None:
    """Every attribute of the tables, in one instance: Orthanc's index holds these and no others."""
    orthanc = Orthanc(tmp_path / "orthanc", verbose=False)
    try:
        orthanc.start()
        data_set = dcmread(BytesIO(make(7)))
        for element in list(data_set):
            if element.tag.is_private:
                del data_set[element.tag]
        for tag in {tag for tags in MAIN_TAGS.values() for tag in tags} | {0x00080016, 0x00081050, 0x00280010}:
            if tag not in data_set:
                vr = vr_of(tag)
                value: Any = {"DA": "20240101", "TM": "1011", "IS": "1", "DS": "1", "US": 1}.get(vr, "X")
                data_set.add_new(tag, vr, [1, 0, 0, 0, 1, 0] if tag == 0x00200037 else value)
        file = BytesIO()
        data_set.save_as(file, enforce_file_format=True)
        orthanc.post("/instances", file.getvalue())
        for level, route in zip(Level, ("patients", "studies", "series", "instances"), strict=True):
            (resource,) = orthanc.get(f"/{route}?expand&short")
            found = {int(name[:4], 16) << 16 | int(name[5:], 16) for name in resource["MainDicomTags"]}
            assert found == MAIN_TAGS[level], level
    finally:
        orthanc.close()


def test_pages_hold_together_when_there_are_many(tmp_path: Path) -> None:
    orthanc = Orthanc(tmp_path / "orthanc", verbose=False)
    try:
        orthanc.start()
        for number in range(230):
            orthanc.post("/instances", make(number, PatientName=f"N^{number}"))
        with RecordingProxy(orthanc.http_port) as proxy:
            archive = OrthancArchive(OrthancRest(Endpoint(proxy.url, timeout_s=20), 4), Options("ORTHANC"))
            answers = find(archive, Level.STUDY, PatientID="", NumberOfStudyRelatedInstances="")
            assert sorted(column(answers, "PatientID")) == sorted(f"P{number}" for number in range(230))
            assert proxy.requests == [
                "POST /tools/find",
                "POST /tools/bulk-content",  # counts of the first page
                "POST /tools/find",
                "POST /tools/bulk-content",
                "POST /tools/bulk-content",
            ]
            proxy.requests.clear()
            stream = archive.find(Query(Level.STUDY, keys(PatientID="")))
            next(stream)
            assert proxy.requests == ["POST /tools/find"]
            for study in orthanc.get("/studies")[:50]:
                orthanc.delete(f"/studies/{study}")
            assert 130 <= len(list(stream)) + 1 <= 230
    finally:
        orthanc.close()
