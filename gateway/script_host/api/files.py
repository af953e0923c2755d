"""DICOM files that scripts hold as bytes: parsed by pydicom, everything in them as it is encoded."""

from __future__ import annotations

import io
import mmap
import struct
from array import array
from dataclasses import dataclass
from typing import Any, Final

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from gateway import IMPLEMENTATION_CLASS_UID
from gateway.dicom.part10 import Part10Error, find_data_set
from gateway.script_host.api.errors import BAD_FILE_FORMAT, OrthancException

PIXEL_DATA: Final = 0x7FE0_0010


@dataclass(frozen=True)
class DicomFile:
    """A file, parsed as far as somebody asks."""

    data_set: Dataset
    transfer_syntax_uid: str
    content: Any

    @property
    def has_pixel_data(self) -> bool:
        """Whether it has Pixel Data (7FE0,0010)."""
        return PIXEL_DATA in self.data_set

    @property
    def order(self) -> str:
        """The byte order, for struct."""
        return ">" if self.transfer_syntax_uid == "1.2.840.10008.1.2.2" else "<"


def little_endian(value: bytes, vr: str, order: str) -> bytes:
    """Words as Orthanc has them in memory."""
    if order == "<" or vr != "OW":
        return value
    words = array("H", value[: len(value) // 2 * 2])
    words.byteswap()
    return words.tobytes()


def read_file(content: Any) -> DicomFile:
    """Parse a file with or without file meta information. Raises OrthancException for what is none."""
    try:
        data_set = pydicom.dcmread(_opened(content), force=True)
        transfer_syntax = str(getattr(data_set.file_meta, "TransferSyntaxUID", "") or "")
    except (
        InvalidDicomError, EOFError, OSError, ValueError, KeyError, AttributeError, NotImplementedError, struct.error
    ) as error:  # fmt: skip
        raise OrthancException(*BAD_FILE_FORMAT) from error
    if not data_set and not data_set.file_meta:
        raise OrthancException(*BAD_FILE_FORMAT)
    if not transfer_syntax:
        encoding = data_set.original_encoding
        transfer_syntax = "1.2.840.10008.1.2" if encoding[0] else "1.2.840.10008.1.2.1"
    return DicomFile(data_set, str(UID(transfer_syntax)), content)


def encoded_data_set(dicom: bytes) -> tuple[bytes, str]:
    """The data set of a small file, and its transfer syntax UID. Raises OrthancException.

    Without file meta information, as pydicom writes a Dataset, DCMTK takes it for Explicit VR if it begins so.
    """
    if not dicom:
        raise OrthancException(*BAD_FILE_FORMAT)
    try:
        meta, offset = find_data_set(memoryview(dicom))
    except Part10Error as error:
        raise OrthancException(BAD_FILE_FORMAT[0], f"{BAD_FILE_FORMAT[1]}: {error}") from error
    data_set = dicom[offset:]
    has_vr = data_set[4:6].isalpha() and data_set[4:6].isupper()
    return data_set, meta.get(0x0010) or ("1.2.840.10008.1.2.1" if has_vr else "1.2.840.10008.1.2")


def _opened(content: Any) -> Any:
    """A file to read from, of Python's own: pydicom reads some hundred times. A mapped file is not copied."""
    if isinstance(content, mmap.mmap):
        content.seek(0)
        return content
    return io.BytesIO(content)


def part10(data_set: bytes, transfer_syntax_uid: str) -> bytes:
    """A DICOM file around an encoded data set that is no instance: a query."""
    meta = _meta_element(0x0010, transfer_syntax_uid) + _meta_element(0x0012, IMPLEMENTATION_CLASS_UID)
    version = struct.pack("<HH2sHL", 0x0002, 0x0001, b"OB", 0, 2) + b"\0\1"
    length = struct.pack("<HH2sHL", 0x0002, 0x0000, b"UL", 4, len(version + meta))
    return bytes(128) + b"DICM" + length + version + meta + data_set


def _meta_element(element: int, uid: str) -> bytes:
    value = uid.encode("ascii") + b"\0" * (len(uid) % 2)
    return struct.pack("<HH2sH", 0x0002, element, b"UI", len(value)) + value
