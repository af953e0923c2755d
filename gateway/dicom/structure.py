"""One pass over the structure of a received data set, before its C-STORE is answered.

Orthanc parses what it is given by recursion, in threads with a stack of 100 KiB: a data set nested too
deeply ends its process. For a value it allocates what the length announces before it looks how much there
is. What is broken it refuses only after the modality was told that all is well. So the gateway looks
first: headers only, no recursion, no value read but those of `Header`, constant memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.dicom.data_set_encoding import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from gateway.dicom.data_set_window import FileWindow, InflatedWindow, StructureError, Window
from gateway.dicom.element_reader import ElementReader

__all__ = ["DEFAULT_LIMITS", "Header", "Limits", "StructureError", "check_structure"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a data set may ask of those who read it."""

    # Debian's Orthanc 1.10.1 overflows the stack of an HTTP thread at 48 nested sequences, at 46 if the
    # innermost holds a VR to warn of, at 44 by way of STOW-RS. No IOD comes near to 32.
    maximum_depth: int = 32
    maximum_elements: int = 20_000_000
    maximum_inflated_bytes: int = 1 << 30


DEFAULT_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class Header:
    """Attributes of the data set's top level, without padding; "" if missing or longer than 1024 bytes.

    Of an attribute that occurs twice the first counts, as for DCMTK. The bytes are decoded as Latin-1,
    whatever the data set's character set.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    patient_id: str
    accession_number: str


_HEADER_TAGS: Final = (0x0008_0016, 0x0008_0018, 0x0020_000D, 0x0020_000E, 0x0010_0020, 0x0008_0050)

_DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1.99"
_CODECS: Final = {
    "1.2.840.10008.1.2": IMPLICIT_VR_LITTLE_ENDIAN,
    "1.2.840.10008.1.2.2": EXPLICIT_VR_BIG_ENDIAN,
}


def check_structure(
    fd: int, offset: int, length: int, transfer_syntax_uid: str, limits: Limits = DEFAULT_LIMITS
) -> Header:
    """Checks that the data set in bytes [offset, offset + length) of an open file can be parsed safely.

    Every transfer syntax but Implicit VR Little Endian and Explicit VR Big Endian is in Explicit VR Little
    Endian (PS3.5 A.4). The file's position is neither used nor moved. Which attributes are missing is for
    the caller to judge. Raises StructureError if an element, item or sequence does not lie within what
    holds it, if a delimiter is missing or misplaced, or if a limit is exceeded; OSError if reading fails.
    """
    source: Window
    if length <= 0:
        raise StructureError("empty data set")
    if transfer_syntax_uid == _DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        source = InflatedWindow(fd, offset, length, limits.maximum_inflated_bytes)
    else:
        source = FileWindow(fd, offset, length)
    codec = _CODECS.get(transfer_syntax_uid, EXPLICIT_VR_LITTLE_ENDIAN)
    reader = ElementReader(source, codec, _HEADER_TAGS, limits.maximum_depth, limits.maximum_elements)
    values = reader.run()
    return Header(*(values.get(tag, b"").decode("latin-1").rstrip("\0 ") for tag in _HEADER_TAGS))
