"""check_structure: what Orthanc can parse passes, with the right identifiers, and costs little."""

from __future__ import annotations

import os
import time
import timeit
import tracemalloc
from pathlib import Path

import pydicom
import pydicom.data
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_partial
from pydicom.filewriter import write_dataset

from gateway.dicom.structure import StructureError, check_structure
from tests.support.data_sets import (
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    ITEM_DELIMITATION,
    JPEG_BASELINE,
    PATIENT_ID,
    PIXEL_DATA,
    REFERENCED_IMAGE_SEQUENCE,
    SEQUENCE_DELIMITATION,
    SYNTAXES,
    UNDEFINED,
    check,
    data_sets,
    element,
    encode,
    file_with,
    item,
    sequence,
)

quiet = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])


def _bundled_files() -> list[Path]:
    root = Path(pydicom.data.__file__).parent
    files = [*(root / "test_files").rglob("*"), *(root / "charset_files").glob("*")]
    return sorted(f for f in files if f.is_file() and _is_part10(f))


def _is_part10(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


# Cut short, or without the transfer syntax in the file meta information; Orthanc stores none of them.
BROKEN = {
    "MR_truncated.dcm",
    "SC_rgb_jpeg.dcm",
    "rtplan_truncated.dcm",
    "DICOMDIR-nooffset",
    "meta_missing_tsyntax.dcm",
}


@pytest.mark.parametrize("file", _bundled_files(), ids=lambda file: file.name)
@pytest.mark.filterwarnings("ignore")
def test_bundled_file_of_pydicom_passes_with_the_identifiers_that_pydicom_sees(file: Path) -> None:
    with file.open("rb") as stream:
        meta = read_partial(stream, stop_when=lambda tag, vr, length: tag > 0x0002FFFF).file_meta
        start = 128 + 4 + 12 + meta.get("FileMetaInformationGroupLength", 0)
        if "FileMetaInformationGroupLength" not in meta:
            with DicomBytesIO() as written:
                written.is_little_endian, written.is_implicit_VR = True, False
                write_dataset(written, meta)
                start = 128 + 4 + len(written.getvalue())
        arguments = (stream.fileno(), start, file.stat().st_size - start, meta.get("TransferSyntaxUID", ""))
        if file.name in BROKEN:
            with pytest.raises(StructureError):
                check_structure(*arguments)
            return
        header = check_structure(*arguments)
    seen = pydicom.dcmread(file, force=True, stop_before_pixels=True)
    keywords = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "AccessionNumber")
    assert (
        header.sop_class_uid,
        header.sop_instance_uid,
        header.study_instance_uid,
        header.series_instance_uid,
        header.accession_number,
    ) == tuple(str(seen.get(keyword) or "").rstrip() for keyword in keywords)


@quiet
@given(data_sets(), st.sampled_from([*SYNTAXES, DEFLATED, JPEG_BASELINE]))
def test_whatever_pydicom_writes_passes(data_set: Dataset, syntax: str) -> None:
    encoded = encode(data_set, syntax)
    if not encoded:
        return
    header = check(encoded, syntax)
    assert header.patient_id == data_set.get("PatientID", "")
    assert header.accession_number == data_set.get("AccessionNumber", "")


@pytest.mark.parametrize("syntax", [*SYNTAXES, DEFLATED])
@pytest.mark.parametrize("edge", [8 << 10, 24 << 10, 64 << 10])
def test_value_is_found_wherever_a_window_ends(syntax: str, edge: int) -> None:
    uid = b"1.2.840.99999.7.7\0"
    for before in range(edge - 90, edge + 10, 2):
        values = element(0x00080018, "UI", uid, syntax) + element(0x00100020, "LO", b"A  ", syntax)
        filling = b"".join(element(0x00090010 + i, "LO", b"1234", syntax) for i in range(edge // 12 - 10))
        rest = before - len(filling) - 12
        header = check(filling + element(0x00091010, "OB", bytes(rest), syntax) + values, syntax)
        assert (header.sop_instance_uid, header.patient_id) == ("1.2.840.99999.7.7", "A")


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_identifiers_come_from_the_top_level_and_the_first_of_two_counts(syntax: str) -> None:
    inner = item(element(0x00100020, "LO", b"INNER ", syntax), syntax)
    first, second = (element(0x00100020, "LO", value, syntax) for value in (b"FIRST\0", b"SECOND"))
    data_set = sequence(REFERENCED_IMAGE_SEQUENCE, inner, syntax) + first + second
    assert check(data_set, syntax).patient_id == "FIRST"
    assert check(element(0x00100020, "LO", b"A" * 1025, syntax), syntax).patient_id == ""


IMPLICIT_ITEM = item(element(0x00080050, "SH", b"AB", IMPLICIT), IMPLICIT)
FRAGMENTS = item() + item(b"ABCD") + element(SEQUENCE_DELIMITATION, "")


@pytest.mark.parametrize(
    "bent",
    [
        pytest.param(element(0x00100040, "CS", b"M"), id="odd length"),
        pytest.param(element(0xFFFCFFFC, "OB", bytes(10)), id="data set trailing padding"),
        pytest.param(element(0x00020010, "UI", b"1.2\0"), id="group 0002"),
        pytest.param(element(0xFFFE0001, "LO", b"ABCD"), id="group FFFE, no delimiter"),
        pytest.param(element(0x00291010, "XX", b"AB"), id="VR yet to come"),
        pytest.param(element(0x00291010, "Xx", b"AB"), id="no VR"),
        pytest.param(sequence(0x00291010, IMPLICIT_ITEM, undefined=True, vr="UN"), id="UN of undefined length"),
        pytest.param(sequence(0x00291010, IMPLICIT_ITEM, undefined=True, vr="XX"), id="XX of undefined length"),
        pytest.param(element(0x00291010, "UN", IMPLICIT_ITEM), id="UN holding items"),
        pytest.param(element(0x00291010, "UN", item(b"JFIF....")), id="UN that begins like an item"),
        pytest.param(element(0x00291010, "UN", item(item(b"\0\0\0\0"), IMPLICIT)), id="UN that begins like items"),
        pytest.param(
            element(0x00291010, "UN", IMPLICIT_ITEM + element(SEQUENCE_DELIMITATION, "") + b"\xff" * 9),
            id="UN that begins like a delimited sequence",
        ),
        pytest.param(element(PIXEL_DATA, "OB", FRAGMENTS, length=UNDEFINED), id="pixel data"),
        pytest.param(element(PIXEL_DATA, "OX", FRAGMENTS, length=UNDEFINED), id="pixel data with VR OX"),
        pytest.param(
            sequence(REFERENCED_IMAGE_SEQUENCE, item(element(ITEM_DELIMITATION, ""))),
            id="delimited item of defined length",
        ),
        pytest.param(
            sequence(REFERENCED_IMAGE_SEQUENCE, item() + element(SEQUENCE_DELIMITATION, "")),
            id="delimited sequence of defined length",
        ),
        pytest.param(
            element(
                REFERENCED_IMAGE_SEQUENCE,
                "SQ",
                element(SEQUENCE_DELIMITATION, "", length=4),
                length=UNDEFINED,
            ),
            id="delimiter with a length",
        ),
    ],
)
def test_what_senders_bend_and_dcmtk_reads_passes(bent: bytes) -> None:
    assert check(bent + PATIENT_ID).patient_id == "PID1"


def test_item_delimiter_at_the_top_level_ends_the_data_set_as_for_dcmtk() -> None:
    assert check(PATIENT_ID + element(ITEM_DELIMITATION, "") + b"\xff" * 5).patient_id == "PID1"


def test_two_gigabytes_of_pixel_data_are_not_read(tmp_path: Path) -> None:
    size = (2 << 30) - 2
    head = PATIENT_ID + element(PIXEL_DATA, "OW", length=size)
    file = tmp_path / "sparse"
    file.write_bytes(head)
    os.truncate(file, len(head) + size)
    with file.open("rb") as stream:
        begin, before = time.perf_counter(), _bytes_read()
        assert check_structure(stream.fileno(), 0, len(head) + size, EXPLICIT).patient_id == "PID1"
        assert _bytes_read() - before < 64 << 10
        assert time.perf_counter() - begin < 0.5


def _bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


def test_memory_does_not_grow_with_the_data_set() -> None:
    items = item(element(0x00080050, "SH", b"AB"), undefined=True) * 50_000
    data_set = sequence(REFERENCED_IMAGE_SEQUENCE, items, undefined=True)
    with file_with(data_set) as fd:
        tracemalloc.start()
        try:
            check_structure(fd, 0, len(data_set), EXPLICIT)
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
        finally:
            tracemalloc.stop()


def test_ct_header_takes_less_than_a_third_of_a_millisecond() -> None:
    ct = pydicom.dcmread(Path(pydicom.data.__file__).parent / "test_files" / "CT_small.dcm")
    data_set = encode(ct, EXPLICIT)
    with file_with(data_set) as fd:
        seconds = timeit.repeat(lambda: check_structure(fd, 0, len(data_set), EXPLICIT), number=20, repeat=15)
    assert min(seconds) / 20 < 300e-6
