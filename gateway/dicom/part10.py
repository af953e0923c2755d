"""DICOM Part 10 files as the spool keeps them: preamble, file meta information, data set as received.

Source: PS3.10 section 7.1. Only the file meta information is ever encoded or decoded here.
"""

import hashlib
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

PREAMBLE: Final = bytes(128) + b"DICM"

# Ours stays under 1 KiB; what somebody else put into the spool may be larger, but not without end.
MAXIMUM_META_BYTES: Final = 64 * 1024

# Elements of group 0002.
MEDIA_STORAGE_SOP_CLASS_UID: Final = 0x0002
MEDIA_STORAGE_SOP_INSTANCE_UID: Final = 0x0003
TRANSFER_SYNTAX_UID: Final = 0x0010

_LONG_VRS: Final = frozenset((b"OB", b"OW", b"UN", b"SQ", b"UT", b"UC", b"UR"))


class Part10Error(Exception):
    """The file has no file meta information that can be read."""


@dataclass(frozen=True, slots=True)
class FileMeta:
    """File meta information (PS3.10 table 7.1-1): what the data set is, and who sent it to whom, from where.

    AE titles as negotiated; addresses as URIs, `dicom://host:port`; "" for what is not known or not told.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    sending_ae_title: str
    receiving_ae_title: str
    sending_address: str
    receiving_address: str

    def encode(self) -> bytes:
        """Return preamble and group 0002, Explicit VR Little Endian."""
        elements = b"".join(
            (
                struct.pack("<HH2sHL", 0x0002, 0x0001, b"OB", 0, 2) + b"\x00\x01",
                _uid(0x0002, self.sop_class_uid),
                _uid(0x0003, self.sop_instance_uid),
                _uid(0x0010, self.transfer_syntax_uid),
                _uid(0x0012, IMPLEMENTATION_CLASS_UID),
                _text(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
                *_if_any(_text, 0x0016, b"AE", self.sending_ae_title),
                *_if_any(_text, 0x0017, b"AE", self.sending_ae_title),
                *_if_any(_text, 0x0018, b"AE", self.receiving_ae_title),
                *_if_any(_long_text, 0x0026, b"UR", self.sending_address),
                *_if_any(_long_text, 0x0027, b"UR", self.sending_address),
                *_if_any(_long_text, 0x0028, b"UR", self.receiving_address),
            )
        )
        return PREAMBLE + struct.pack("<HH2sHL", 0x0002, 0x0000, b"UL", 4, len(elements)) + elements


def _uid(element: int, value: str) -> bytes:
    data = value.encode("ascii")
    data += b"\0" * (len(data) % 2)
    return struct.pack("<HH2sH", 0x0002, element, b"UI", len(data)) + data


def _padded(value: str) -> bytes:
    data = value.encode("ascii", "replace")
    return data + b" " * (len(data) % 2)


def _text(element: int, vr: bytes, value: str) -> bytes:
    data = _padded(value)
    return struct.pack("<HH2sH", 0x0002, element, vr, len(data)) + data


def _long_text(element: int, vr: bytes, value: str) -> bytes:
    data = _padded(value)
    return struct.pack("<HH2sHL", 0x0002, element, vr, 0, len(data)) + data


def _if_any(encode: Callable[[int, bytes, str], bytes], element: int, vr: bytes, value: str) -> list[bytes]:
    return [encode(element, vr, value)] if value else []


def read_meta(fd: int) -> tuple[FileMeta, int]:
    """Return the file meta information of the open file `fd` and the offset of its data set.

    Raises Part10Error when it is not a Part 10 file.
    """
    head = os.pread(fd, len(PREAMBLE) + 12, 0)
    if len(head) < len(PREAMBLE) + 12 or head[128:132] != b"DICM":
        raise Part10Error("no DICM prefix")
    group, element, vr, length = struct.unpack_from("<HH2sH", head, 132)
    if (group, element, vr, length) != (0x0002, 0x0000, b"UL", 4):
        raise Part10Error("no File Meta Information Group Length")
    size = int.from_bytes(head[140:144], "little")
    if size > MAXIMUM_META_BYTES:
        raise Part10Error(f"file meta information of {size} bytes")
    values = _decode(os.pread(fd, size, 144), size)
    return (
        FileMeta(
            sop_class_uid=values.get(0x0002, ""),
            sop_instance_uid=values.get(0x0003, ""),
            transfer_syntax_uid=values.get(0x0010, ""),
            sending_ae_title=values.get(0x0017, ""),
            receiving_ae_title=values.get(0x0018, ""),
            sending_address=values.get(0x0027, ""),
            receiving_address=values.get(0x0028, ""),
        ),
        144 + size,
    )


def find_data_set(file: memoryview) -> tuple[dict[int, str], int]:
    """Return the file meta information at the start of a file, by element, and where the data set begins.

    Files that others wrote may lack the group's length, the preamble, or all of it. Raises Part10Error.
    """
    begin = len(PREAMBLE) if bytes(file[128 : len(PREAMBLE)]) == b"DICM" else 0
    (group,) = struct.unpack_from("<H", file, begin) if len(file) > begin + 8 else (0,)
    if group != 0x0002:
        return {}, begin
    head = bytes(file[begin : begin + MAXIMUM_META_BYTES])
    end = 0
    while end < len(head) and head[end : end + 2] == b"\x02\x00":
        end = _element_end(head, end)
    if end >= len(head) < len(file) - begin:
        raise Part10Error(f"file meta information of more than {MAXIMUM_META_BYTES} bytes")
    return _decode(head[:end], end), begin + end


def _element_end(data: bytes, position: int) -> int:
    if data[position + 4 : position + 6] in _LONG_VRS:
        return position + 12 + int.from_bytes(data[position + 8 : position + 12], "little")
    return position + 8 + int.from_bytes(data[position + 6 : position + 8], "little")


def _decode(data: bytes, size: int) -> dict[int, str]:
    if len(data) < size:
        raise Part10Error("file meta information is cut off")
    values: dict[int, str] = {}
    position = 0
    try:
        while position < size:
            group, element, vr, length = struct.unpack_from("<HH2sH", data, position)
            position += 8
            if vr in _LONG_VRS:
                (length,) = struct.unpack_from("<L", data, position)
                position += 4
            if group != 0x0002 or position + length > size:
                raise Part10Error("file meta information is malformed")
            values[element] = data[position : position + length].decode("latin-1").rstrip("\0 ")
            position += length
    except struct.error as error:
        raise Part10Error("file meta information is malformed") from error
    return values


def orthanc_id(patient_id: str, *uids: str) -> str:
    """Return Orthanc's public identifier (`DicomInstanceHasher`) of an instance, from Study, Series and SOP Instance
    UID, or of what is above it, from fewer of them: SHA-1 in five groups."""
    digest = hashlib.sha1("|".join((patient_id, *uids)).encode("utf-8")).hexdigest()
    return "-".join(digest[i : i + 8] for i in range(0, 40, 8))
