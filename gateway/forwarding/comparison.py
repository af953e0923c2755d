"""Is what Orthanc already has the instance that we hold? Asked when it answers `AlreadyStored`.

The data sets are compared byte by byte as they stream by (Orthanc keeps a posted file bit for bit). If the bytes
differ, because Orthanc's copy came by another way that encoded it anew, the decoded data sets are compared.
"""

import os
import tempfile
from pathlib import Path
from typing import Any, Final

import pydicom
import requests
from pydicom.errors import InvalidDicomError
from urllib3.exceptions import HTTPError

from gateway.forwarding.transports import HttpTransport, Unreachable
from gateway.part10 import Part10Error, read_meta

_CHUNK_BYTES: Final = 1024 * 1024
# Decoding holds both copies in memory; what is larger must agree byte by byte.
MAXIMUM_DECODED_BYTES: Final = 128 * 1024 * 1024

_DATA_SET_TRAILING_PADDING: Final = 0xFFFCFFFC


def is_same_instance(transport: HttpTransport, orthanc_id: str, path: Path) -> bool:
    """Whether Orthanc's instance `orthanc_id` has the same data set as the file `path`.

    Raises Unreachable when Orthanc's copy cannot be read, OSError when ours cannot.
    """
    with tempfile.TemporaryFile() as copy:
        _download(transport, orthanc_id, copy)
        with path.open("rb") as ours:
            if _same_bytes(ours, copy):
                return True
            if max(os.fstat(ours.fileno()).st_size, os.fstat(copy.fileno()).st_size) > MAXIMUM_DECODED_BYTES:
                return False
            return _same_elements(ours, copy)


def _download(transport: HttpTransport, orthanc_id: str, target: Any) -> None:
    with transport.download(f"/instances/{orthanc_id}/file") as response:
        if response.status_code != 200:
            raise Unreachable(f"GET /instances/.../file answers HTTP {response.status_code}")
        try:
            for chunk in response.iter_content(_CHUNK_BYTES):
                target.write(chunk)
        except (requests.RequestException, HTTPError, OSError) as error:
            raise Unreachable(str(error)) from error
    target.flush()


def _same_bytes(ours: Any, theirs: Any) -> bool:
    try:
        our_meta, our_offset = read_meta(ours.fileno())
        their_meta, their_offset = read_meta(theirs.fileno())
    except Part10Error:
        return False
    if our_meta.transfer_syntax_uid != their_meta.transfer_syntax_uid:
        return False
    ours.seek(our_offset)
    theirs.seek(their_offset)
    while True:
        piece = ours.read(_CHUNK_BYTES)
        if piece != theirs.read(_CHUNK_BYTES):
            return False
        if not piece:
            return True


def _same_elements(ours: Any, theirs: Any) -> bool:
    ours.seek(0)
    theirs.seek(0)
    try:
        first, second = pydicom.dcmread(ours), pydicom.dcmread(theirs)
        if first.file_meta.TransferSyntaxUID.is_compressed != second.file_meta.TransferSyntaxUID.is_compressed:
            return False
        if first.file_meta.TransferSyntaxUID.is_compressed and (
            first.file_meta.TransferSyntaxUID != second.file_meta.TransferSyntaxUID
        ):
            return False
        _strip(first)
        _strip(second)
        return bool(first == second)
    except (InvalidDicomError, ValueError, KeyError, AttributeError, NotImplementedError, TypeError):
        return False  # what cannot be compared is not called the same


def _strip(data_set: pydicom.Dataset) -> None:
    """Remove what an encoder adds or drops at will: group lengths (PS3.5 7.2), trailing padding (PS3.10 7.2)."""
    for tag in [tag for tag in data_set.keys() if tag.element == 0 or tag == _DATA_SET_TRAILING_PADDING]:  # noqa: SIM118
        del data_set[tag]
