"""Is what Orthanc already has the instance that we hold? Asked when it answers `AlreadyStored`.

The data sets are compared byte by byte as they stream by (Orthanc keeps a posted file bit for bit). If the bytes
differ, because Orthanc's copy came by another way that encoded it anew, the decoded data sets are compared.
"""

import json
import os
import struct
import tempfile
import warnings
import zlib
from pathlib import Path
from typing import Any, Final

import pydicom
from pydicom.errors import InvalidDicomError

from gateway.dicom.part10 import Part10Error, read_meta
from gateway.dicom.transfer_syntaxes import DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, UNCOMPRESSED
from gateway.forwarding.transports import HttpTransport, Unreachable

_CHUNK_BYTES: Final = 1024 * 1024
# Decoding holds both copies in memory; what is larger must agree byte by byte.
MAXIMUM_DECODED_BYTES: Final = 128 * 1024 * 1024

_DATA_SET_TRAILING_PADDING: Final = 0xFFFCFFFC
# Derivation Description, in which DCMTK's encoders say that they were there.
_ADDED_BY_ENCODERS: Final = frozenset({0x00082111})

# POST /instances/{id}/modify: all identifiers stay, nothing but the transfer syntax changes.
_TRANSCODE_ONLY: Final = {"Keep": ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"], "Force": True}

# What Orthanc can transcode into without loss.
_TRANSCODABLE: Final = frozenset({*UNCOMPRESSED, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN})

# Orthanc itself cannot do it with this instance; any other answer speaks of the path.
_CANNOT: Final = frozenset({400, 404, 500})

# What pydicom raises when it cannot decode a value.
_DECODER_ERRORS: Final = (
    InvalidDicomError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


class CopyError(Exception):
    """Orthanc's index has the instance, but Orthanc cannot give it out."""


def is_same_instance(transport: HttpTransport, orthanc_id: str, path: Path) -> bool:
    """Whether Orthanc's instance `orthanc_id` has the same data set as the file `path`.

    What Orthanc transcoded on arrival (IngestTranscoding) it is asked to transcode back, without storing
    anything. Raises CopyError when Orthanc cannot read its own copy, Unreachable when it cannot be asked, OSError
    when ours cannot be read.
    """
    with path.open("rb") as ours, tempfile.TemporaryFile() as copy:
        if not _download(transport, f"/instances/{orthanc_id}/file", None, copy):
            raise CopyError("Orthanc does not give out the instance that it calls already stored")
        if _same_bytes(ours, copy):
            return True
        if _is_too_large(ours, copy):
            return False
        our_syntax, their_syntax = _transfer_syntax(ours), _transfer_syntax(copy)
        if our_syntax == their_syntax:
            return _same_elements(ours, copy)
        if our_syntax not in _TRANSCODABLE:
            return False
        with tempfile.TemporaryFile() as transcoded:
            order = json.dumps({**_TRANSCODE_ONLY, "Transcode": our_syntax}).encode()
            if not _download(transport, f"/instances/{orthanc_id}/modify", order, transcoded):
                return False
            return _same_elements(ours, transcoded, _ADDED_BY_ENCODERS)


def compare_files(ours: Any, copy: Any) -> bool | None:
    """Whether two open Part 10 files have the same data set; None: their transfer syntaxes cannot be compared.

    Raises OSError.
    """
    if _same_bytes(ours, copy):
        return True
    our_syntax, their_syntax = _transfer_syntax(ours), _transfer_syntax(copy)
    if our_syntax != their_syntax and not _TRANSCODABLE.issuperset((our_syntax, their_syntax)):
        return None
    if _is_too_large(ours, copy):
        return False
    return _same_elements(ours, copy)


def _is_too_large(*files: Any) -> bool:
    return max(os.fstat(file.fileno()).st_size for file in files) > MAXIMUM_DECODED_BYTES


def _download(transport: HttpTransport, uri: str, order: bytes | None, target: Any) -> bool:
    """Write what Orthanc answers to a GET, or to a POST of `order`, into `target`; False when it cannot do it."""
    with transport.download(uri, order) as response:
        if response.status in _CANNOT:
            return False
        if response.status != 200:
            raise Unreachable(f"Orthanc answers HTTP {response.status}")
        for chunk in response.stream(_CHUNK_BYTES, decode_content=True):
            target.write(chunk)
    target.flush()
    return True


def _transfer_syntax(file: Any) -> str:
    try:
        return read_meta(file.fileno())[0].transfer_syntax_uid
    except Part10Error:
        return ""


def _same_bytes(ours: Any, theirs: Any) -> bool:
    if _transfer_syntax(ours) != _transfer_syntax(theirs):
        return False
    for file in (ours, theirs):
        file.seek(read_meta(file.fileno())[1])
    while True:
        piece = ours.read(_CHUNK_BYTES)
        if piece != theirs.read(_CHUNK_BYTES):
            return False
        if not piece:
            return True


def _same_elements(ours: Any, theirs: Any, but: frozenset[int] = frozenset()) -> bool:
    ours.seek(0)
    theirs.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ugly values; they would go to standard error
        try:
            first, second = pydicom.dcmread(ours), pydicom.dcmread(theirs)
            _strip(first, but)
            _strip(second, but)
            return bool(first == second)
        except _DECODER_ERRORS:
            return False  # what cannot be compared is not called the same


def _strip(data_set: pydicom.Dataset, but: frozenset[int]) -> None:
    """Remove `but`, and what encoders add or drop at will (PS3.5 7.2, PS3.10 7.2)."""
    for tag in list(data_set.keys()):
        if tag.element == 0 or tag == _DATA_SET_TRAILING_PADDING or tag in but:
            del data_set[tag]
