"""Is what Orthanc already has the instance that we hold? Asked when it answers `AlreadyStored`.

The data sets are compared byte by byte as they stream by (Orthanc keeps a posted file bit for bit). If the bytes
differ, because Orthanc's copy came by another way that encoded it anew, the decoded data sets are compared.
"""

import json
import os
import tempfile
from pathlib import Path
from typing import Any, Final

import pydicom
import requests
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID
from urllib3.exceptions import HTTPError

from gateway.forwarding.transports import HttpTransport, Unreachable
from gateway.part10 import Part10Error, read_meta

_CHUNK_BYTES: Final = 1024 * 1024
# Decoding holds both copies in memory; what is larger must agree byte by byte.
MAXIMUM_DECODED_BYTES: Final = 128 * 1024 * 1024

_DATA_SET_TRAILING_PADDING: Final = 0xFFFCFFFC
# Derivation Description, in which DCMTK's encoders say that they were there.
_ADDED_BY_ENCODERS: Final = frozenset({0x00082111})

# POST /instances/{id}/modify: all identifiers stay, nothing but the transfer syntax changes.
_TRANSCODE_ONLY: Final = {"Keep": ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"], "Force": True}


def is_same_instance(transport: HttpTransport, orthanc_id: str, path: Path) -> bool:
    """Whether Orthanc's instance `orthanc_id` has the same data set as the file `path`.

    What Orthanc transcoded on arrival (IngestTranscoding) it is asked to transcode back, without storing
    anything. Raises Unreachable when Orthanc's copy cannot be read, OSError when ours cannot.
    """
    with path.open("rb") as ours, tempfile.TemporaryFile() as copy:
        if not _download(transport, f"/instances/{orthanc_id}/file", None, copy):
            raise Unreachable("Orthanc does not give out the instance that it calls already stored")
        if _same_bytes(ours, copy):
            return True
        if max(os.fstat(ours.fileno()).st_size, os.fstat(copy.fileno()).st_size) > MAXIMUM_DECODED_BYTES:
            return False
        our_syntax, their_syntax = _transfer_syntax(ours), _transfer_syntax(copy)
        if our_syntax == their_syntax:
            return _same_elements(ours, copy)
        if our_syntax.is_compressed:
            return False
        with tempfile.TemporaryFile() as transcoded:
            order = json.dumps({**_TRANSCODE_ONLY, "Transcode": str(our_syntax)}).encode()
            if not _download(transport, f"/instances/{orthanc_id}/modify", order, transcoded):
                return False
            return _same_elements(ours, transcoded, _ADDED_BY_ENCODERS)


def _download(transport: HttpTransport, uri: str, order: bytes | None, target: Any) -> bool:
    """Write what Orthanc answers to a GET, or to a POST of `order`, into `target`; False when it is an error."""
    with transport.download(uri, order) as response:
        if response.status_code != 200:
            return False
        try:
            for chunk in response.iter_content(_CHUNK_BYTES):
                target.write(chunk)
        except (requests.RequestException, HTTPError, OSError) as error:
            raise Unreachable(str(error)) from error
    target.flush()
    return True


def _transfer_syntax(file: Any) -> UID:
    try:
        return UID(read_meta(file.fileno())[0].transfer_syntax_uid)
    except Part10Error:
        return UID("")


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
    try:
        first, second = pydicom.dcmread(ours), pydicom.dcmread(theirs)
        _strip(first, but)
        _strip(second, but)
        return bool(first == second)
    except (InvalidDicomError, ValueError, KeyError, AttributeError, NotImplementedError, TypeError):
        return False  # what cannot be compared is not called the same


def _strip(data_set: pydicom.Dataset, but: frozenset[int]) -> None:
    """Remove `but` and what an encoder adds or drops at will: group lengths (PS3.5 7.2), trailing padding (PS3.10 7.2)."""
    for tag in list(data_set.keys()):
        if tag.element == 0 or tag == _DATA_SET_TRAILING_PADDING or tag in but:
            del data_set[tag]
