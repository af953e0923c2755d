"""Data sets to the byte, well formed or not, for what reads them."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import strategies as st
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from gateway.dicom.structure import DEFAULT_LIMITS, Header, Limits, check_structure

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
SYNTAXES = (IMPLICIT, EXPLICIT, BIG_ENDIAN)

UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_DELIMITATION, SEQUENCE_DELIMITATION = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
PIXEL_DATA = 0x7FE00010
REFERENCED_IMAGE_SEQUENCE = 0x00081140
LONG_VRS = frozenset(["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV", "XX", "OX"])


def element(tag: int, vr: str, value: bytes = b"", syntax: str = EXPLICIT, *, length: int | None = None) -> bytes:
    order = ">" if syntax == BIG_ENDIAN else "<"
    announced = len(value) if length is None else length
    start = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    if syntax == IMPLICIT or tag in (ITEM, ITEM_DELIMITATION, SEQUENCE_DELIMITATION):
        return start + struct.pack(order + "I", announced) + value
    if vr in LONG_VRS:
        return start + vr.encode() + bytes(2) + struct.pack(order + "I", announced) + value
    return start + vr.encode() + struct.pack(order + "H", announced) + value


def item(content: bytes = b"", syntax: str = EXPLICIT, *, undefined: bool = False) -> bytes:
    if undefined:
        return element(ITEM, "", content, syntax, length=UNDEFINED) + element(ITEM_DELIMITATION, "", syntax=syntax)
    return element(ITEM, "", content, syntax)


def sequence(tag: int, content: bytes, syntax: str = EXPLICIT, *, undefined: bool = False, vr: str = "SQ") -> bytes:
    if undefined:
        end = element(SEQUENCE_DELIMITATION, "", syntax=syntax)
        return element(tag, vr, content, syntax, length=UNDEFINED) + end
    return element(tag, vr, content, syntax)


def deflate(data_set: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data_set) + compressor.flush()


@contextmanager
def file_with(data: bytes) -> Iterator[int]:
    fd = os.memfd_create("data set")
    try:
        os.write(fd, data)
        yield fd
    finally:
        os.close(fd)


def check(data_set: bytes, syntax: str = EXPLICIT, limits: Limits = DEFAULT_LIMITS) -> Header:
    """What stands before and after the data set in the file must not matter."""
    stored = deflate(data_set) if syntax == DEFLATED else data_set
    with file_with(b"\xff" * 13 + stored + b"\xff" * 64) as fd:
        return check_structure(fd, 13, len(stored), syntax, limits)


PATIENT_ID = element(0x00100020, "LO", b"PID1")

PLAIN_ELEMENTS = st.sampled_from(
    [
        (0x00080005, "CS", "ISO_IR 100"),
        (0x00080050, "SH", "A1"),
        (0x00100020, "LO", "PID 1"),
        (0x00081190, "UR", "http://localhost/1"),
        (0x00089215, "SQ", []),
        (0x00280010, "US", 512),
        (0x00291001, "UN", b"SV10\4\3\2\1"),
        (0x00420011, "OB", b"%PDF-1.4"),
        (PIXEL_DATA, "OW", bytes(300)),
    ]
)


@st.composite
def data_sets(draw: st.DrawFn, depth: int = 0) -> Dataset:
    data_set = Dataset()
    for tag, vr, value in draw(st.lists(PLAIN_ELEMENTS, max_size=6)):
        data_set[tag] = DataElement(tag, vr, list(value) if vr == "SQ" else value)
    tags = st.sampled_from([REFERENCED_IMAGE_SEQUENCE, 0x0040A730, 0x00291010, 0x52009230])
    for tag in draw(st.lists(tags, max_size=2 if depth < 4 else 0)):
        items = draw(st.lists(data_sets(depth=depth + 1), max_size=3))
        for each in items:
            each.is_undefined_length_sequence_item = draw(st.booleans())
        data_set[tag] = DataElement(tag, "SQ", Sequence(items))
        data_set[tag].is_undefined_length = draw(st.booleans())
    return data_set


def encode(data_set: Dataset, syntax: str) -> bytes:
    written = DicomBytesIO()
    written.is_little_endian, written.is_implicit_VR = syntax != BIG_ENDIAN, syntax == IMPLICIT
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_dataset(written, data_set)
    return bytes(written.getvalue())
