"""A worklist item from a `.wl` file: a small DICOM file, as DCMTK's wlmscpfs and Orthanc's plugin read them."""

import os
import stat
from pathlib import Path
from typing import Final

from gateway.dicom.character_sets import CharacterSet
from gateway.dicom.part10 import MAXIMUM_META_BYTES, PREAMBLE, Part10Error, read_meta
from gateway.matching.attributes import Attributes
from gateway.matching.identifier import (
    EXPLICIT_VR_BIG_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    MAXIMUM_IDENTIFIER_BYTES,
    read_attributes,
)
from gateway.matching.keys import InvalidQuery
from worklist.items import SCHEDULED_PROCEDURE_STEP_SEQUENCE

EXTENSION: Final = ".wl"
MAXIMUM_FILE_BYTES: Final = MAXIMUM_IDENTIFIER_BYTES + MAXIMUM_META_BYTES

EXPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1"
_TRANSFER_SYNTAXES: Final = (IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN)

# SOP Class UID and SOP Instance UID: of the file, if of anything, but not of a worklist item.
_OF_THE_FILE: Final = (0x0008_0016, 0x0008_0018)


class FileError(Exception):
    """The file holds no worklist item. The text is one line for a person."""


def read_file(path: Path, default: CharacterSet) -> Attributes:
    """The item in the file `path`; text is in `default` if the file does not say in what. Raises FileError."""
    try:
        # A pipe of that name must not keep us waiting for somebody who writes into it.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            return _read(fd, default)
        finally:
            os.close(fd)
    except OSError as error:
        raise FileError(error.strerror or str(error)) from error
    except Part10Error as error:
        raise FileError(str(error)) from error


def _read(fd: int, default: CharacterSet) -> Attributes:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise FileError("no regular file")
    if status.st_size > MAXIMUM_FILE_BYTES:
        raise FileError(f"{status.st_size} bytes: more than the {MAXIMUM_FILE_BYTES} that are read")
    data = os.pread(fd, MAXIMUM_FILE_BYTES, 0)
    if data[128:132] == PREAMBLE[128:]:
        meta, offset = read_meta(fd)
        transfer_syntax, data = meta.transfer_syntax_uid, data[offset:]
    else:
        transfer_syntax = _guess(data)
    if transfer_syntax not in _TRANSFER_SYNTAXES:
        raise FileError(f"transfer syntax {transfer_syntax or 'not said'}")
    try:
        attributes = read_attributes(data, transfer_syntax, default)
    except InvalidQuery as error:
        raise FileError(f"cut off, or no DICOM: {error}") from error
    for tag in _OF_THE_FILE:
        attributes.pop(tag, None)
    steps = attributes.get(SCHEDULED_PROCEDURE_STEP_SEQUENCE)
    if steps is None or isinstance(steps.value, str) or len(steps.value) != 1:
        raise FileError("(0040,0100): not exactly one item in Scheduled Procedure Step Sequence")
    return attributes


def _guess(data: bytes) -> str:
    """A data set without file meta information: DCMTK writes and reads such files too."""
    if not data:
        raise FileError("empty")
    explicit = data[4:6].isalpha() and data[4:6].isupper()
    return EXPLICIT_VR_LITTLE_ENDIAN if explicit else IMPLICIT_VR_LITTLE_ENDIAN
