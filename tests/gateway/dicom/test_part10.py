"""File meta information: other implementations read what we write, and nothing that is read does harm."""

import hashlib
import struct
import subprocess
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydicom.filereader import read_file_meta_info

from gateway import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from gateway.dicom.part10 import MAXIMUM_META_BYTES, PREAMBLE, FileMeta, Part10Error, orthanc_id, read_meta
from gateway.dicom.structure import check_structure
from tests.support.data_sets import element, file_with
from tests.support.images import SAMPLES, make_ct
from tests.support.orthanc import Orthanc
from tests.support.spooled import META

UIDS = st.from_regex(r"2\.25(\.(0|[1-9][0-9]{0,13})){1,4}", fullmatch=True)
AE_TITLES = st.text(
    st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="\\"), min_size=1, max_size=16
).filter(lambda title: title == title.strip())
ADDRESSES = st.builds("dicom://{}:{}".format, st.ip_addresses(), st.integers(1, 65535))
METAS = st.builds(FileMeta, UIDS, UIDS, UIDS, AE_TITLES, AE_TITLES, ADDRESSES, ADDRESSES)


@given(METAS)
def test_what_is_encoded_is_read_again(meta: FileMeta) -> None:
    encoded = meta.encode()
    with file_with(encoded + b"data set") as fd:
        assert read_meta(fd) == (meta, len(encoded))


@given(METAS)
def test_pydicom_reads_every_element(meta: FileMeta) -> None:
    encoded = meta.encode()
    assert encoded[:132] == bytes(128) + b"DICM"
    assert len(encoded) % 2 == 0
    read = pydicom.dcmread(BytesIO(encoded), force=False).file_meta
    assert read.FileMetaInformationGroupLength == len(encoded) - 144
    assert read.FileMetaInformationVersion == b"\x00\x01"
    assert read.MediaStorageSOPClassUID == meta.sop_class_uid
    assert read.MediaStorageSOPInstanceUID == meta.sop_instance_uid
    assert read.TransferSyntaxUID == meta.transfer_syntax_uid
    assert read.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert read.ImplementationVersionName == IMPLEMENTATION_VERSION_NAME
    assert read.SourceApplicationEntityTitle == meta.sending_ae_title
    assert read.SendingApplicationEntityTitle == meta.sending_ae_title
    assert read.ReceivingApplicationEntityTitle == meta.receiving_ae_title
    assert read.SourcePresentationAddress == meta.sending_address
    assert read.SendingPresentationAddress == meta.sending_address
    assert read.ReceivingPresentationAddress == meta.receiving_address
    assert len(read) == 13


def test_implementation_is_named_as_the_standard_allows() -> None:
    assert pydicom.uid.UID(IMPLEMENTATION_CLASS_UID).is_valid
    assert 1 <= len(IMPLEMENTATION_VERSION_NAME) <= 16


@pytest.mark.integration
def test_dcmtk_reads_every_element(tmp_path: Path) -> None:
    path = tmp_path / "file.dcm"
    path.write_bytes(META.encode() + element(0x00100020, "LO", b"PID1"))
    dump = subprocess.run(
        ["/usr/bin/dcmdump", "--print-all", "--no-uid-names", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert dump.returncode == 0, dump.stderr
    assert dump.stderr == ""
    values = dict(line.split(" ", 1) for line in dump.stdout.splitlines() if line.startswith("("))
    expected = {
        "(0002,0001)": "OB 00\\01",
        "(0002,0002)": f"UI [{META.sop_class_uid}]",
        "(0002,0003)": f"UI [{META.sop_instance_uid}]",
        "(0002,0010)": f"UI [{META.transfer_syntax_uid}]",
        "(0002,0012)": f"UI [{IMPLEMENTATION_CLASS_UID}]",
        "(0002,0013)": f"SH [{IMPLEMENTATION_VERSION_NAME}]",
        "(0002,0016)": f"AE [{META.sending_ae_title}]",
        "(0002,0017)": f"AE [{META.sending_ae_title}]",
        "(0002,0018)": f"AE [{META.receiving_ae_title}]",
        "(0002,0026)": f"UR [{META.sending_address}]",
        "(0002,0027)": f"UR [{META.sending_address}]",
        "(0002,0028)": f"UR [{META.receiving_address}]",
        "(0010,0020)": "LO [PID1]",
    }
    assert values["(0002,0000)"].startswith("UL ")
    for tag, text in expected.items():
        value, _, comment = values[tag].partition("#")
        assert value.strip().replace(" ]", "]") == text, tag
        assert int(comment.split(",")[0]) % 2 == 0, tag


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_files_of_others_are_read(sample: object) -> None:
    path: Path = sample.path  # type: ignore[attr-defined]
    theirs = read_file_meta_info(path)
    with path.open("rb") as file:
        meta, offset = read_meta(file.fileno())
    assert meta.sop_class_uid == theirs.MediaStorageSOPClassUID
    assert meta.sop_instance_uid == theirs.MediaStorageSOPInstanceUID
    assert meta.transfer_syntax_uid == theirs.TransferSyntaxUID
    assert offset == 144 + theirs.FileMetaInformationGroupLength


HEAD = PREAMBLE + struct.pack("<HH2sH", 2, 0, b"UL", 4)


@given(
    st.binary(max_size=300)
    | st.binary(max_size=100).map(lambda rest: PREAMBLE + rest)
    | st.binary(max_size=200).map(lambda rest: HEAD + struct.pack("<L", len(rest)) + rest)
    | st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=3)).map(
        lambda change: META.encode()[: change[0]] + change[1] + META.encode()[change[0] + len(change[1]) :]
    )
    | st.integers(0, 500).map(lambda length: META.encode()[:length])
)
@example(HEAD + struct.pack("<L", 0))
@example(HEAD + struct.pack("<L", MAXIMUM_META_BYTES + 1) + bytes(MAXIMUM_META_BYTES + 1))
@example(HEAD + b"\xff\xff\xff\xff")
@example(HEAD + struct.pack("<L", 8) + struct.pack("<HH2sH", 2, 2, b"OB", 0))
def test_anything_is_read_or_refused(content: bytes) -> None:
    with file_with(content) as fd:
        try:
            meta, offset = read_meta(fd)
        except Part10Error as error:
            assert str(error)
        else:
            assert 144 <= offset <= len(content)
            assert isinstance(meta, FileMeta)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no DICM prefix"),
        (META.encode()[:140], "no DICM prefix"),
        (META.encode().replace(b"DICM", b"DICN"), "no DICM prefix"),
        (META.encode().replace(b"UL", b"US", 1), "no File Meta Information Group Length"),
        (HEAD + struct.pack("<L", MAXIMUM_META_BYTES + 2), f"of {MAXIMUM_META_BYTES + 2} bytes"),
        (META.encode()[:-1], "cut off"),
        # A value that ends behind its group, one of another group, and half a header.
        (HEAD + struct.pack("<L", 10) + struct.pack("<HH2sH", 2, 0x10, b"UI", 4) + b"1.2.", "malformed"),
        (HEAD + struct.pack("<L", 10) + struct.pack("<HH2sH", 8, 0x18, b"UI", 2) + b"1.", "malformed"),
        (HEAD + struct.pack("<L", 4) + b"\x02\0\x10\0", "malformed"),
        (HEAD + struct.pack("<L", 8) + struct.pack("<HH2sH", 2, 1, b"OB", 0), "malformed"),
    ],
)
def test_what_is_no_file_meta_information_is_refused(content: bytes, message: str) -> None:
    with file_with(content) as fd, pytest.raises(Part10Error, match=message):
        read_meta(fd)


def test_reading_does_not_move_the_file() -> None:
    with file_with(META.encode()) as fd:
        read_meta(fd)
        with open(fd, "rb", closefd=False) as file:
            assert file.tell() == len(META.encode())


def test_orthanc_id_is_the_hash_of_the_four_identifiers() -> None:
    digest = hashlib.sha1(b"PID|1.2|3.4|5.6").hexdigest()
    assert orthanc_id("PID", "1.2", "3.4", "5.6").replace("-", "") == digest
    assert [len(group) for group in orthanc_id("", "1", "2", "3").split("-")] == [8] * 5


@pytest.mark.integration
@pytest.mark.parametrize(
    "patient_id", ["PID", "", " leading", "trailing ", "lower case", "A^B", "1234567890" * 6, None]
)
def test_orthanc_id_is_the_one_that_orthanc_gives(orthanc: Orthanc, tmp_path: Path, patient_id: str | None) -> None:
    path = tmp_path / "ct.dcm"
    make_ct(path, 16, 16, seed=1)
    data_set = pydicom.dcmread(path)
    del data_set.PatientID
    if patient_id is not None:
        data_set.PatientID = patient_id
    data_set.save_as(path)
    with path.open("rb") as file:
        meta, offset = read_meta(file.fileno())
        length = path.stat().st_size - offset
        header = check_structure(file.fileno(), offset, length, meta.transfer_syntax_uid)
    uids = (header.study_instance_uid, header.series_instance_uid, header.sop_instance_uid)
    assert orthanc.post("/instances", path.read_bytes())["ID"] == orthanc_id(header.patient_id, *uids)
